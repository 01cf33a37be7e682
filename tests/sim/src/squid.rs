//! A real HTTP proxy, Debian's squid, on free ports and in a directory of its own. It ends, and its directory goes, when
//! the value is dropped.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use md5::{Digest as _, Md5};
use uuid::Uuid;

/// The program, and the one that knows users from a file. Both are of the package `squid-openssl`.
const PROGRAM: &str = "/usr/sbin/squid";
const USERS_PROGRAM: &str = "/usr/lib/squid/basic_ncsa_auth";
/// How long it may take to listen, on a busy machine.
const READY_LIMIT: Duration = Duration::from_secs(30);
/// Another process may take a port between its choice and its use.
const ATTEMPTS: usize = 3;

/// What kind of proxy it is. The default lets everybody connect to everything.
#[derive(Clone, Debug, Default)]
pub struct SquidOptions {
    /// Only this user, with this password.
    pub user: Option<(String, String)>,
    /// Certificate and key, PEM: it also listens for proxy clients in TLS.
    pub tls: Option<(String, String)>,
    /// CONNECT is allowed to these ports only.
    pub only_ports: Option<Vec<u16>>,
    /// A tunnel that is idle for so long is cut.
    pub idle: Option<Duration>,
}

/// A running squid.
#[derive(Debug)]
pub struct Squid {
    child: Child,
    dir: PathBuf,
    plain: u16,
    tls: u16,
}

impl Squid {
    /// Starts it and waits until it listens (blocking).
    pub fn start(options: &SquidOptions) -> anyhow::Result<Self> {
        anyhow::ensure!(Path::new(PROGRAM).exists(), "there is no {PROGRAM}: `tests/run` installs squid-openssl");
        let mut last = None;
        for _ in 0..ATTEMPTS {
            match Self::attempt(options) {
                Ok(squid) => return Ok(squid),
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| anyhow::anyhow!("squid was never started")))
    }

    fn attempt(options: &SquidOptions) -> anyhow::Result<Self> {
        let dir = std::env::temp_dir().join(format!("gantry-squid-{}", Uuid::now_v7()));
        fs::create_dir(&dir)?;
        // Started by root, it goes on as a user of its own, who has to read and write here.
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o777))?;
        let (plain, tls) = (free_port()?, free_port()?);
        write_files(&dir, options, plain, tls)?;
        let child = Command::new(PROGRAM)
            .args(["-N", "-f"])
            .arg(dir.join("squid.conf"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(dir.join("stderr"))?)
            .spawn()
            .context("starting squid")?;
        let mut squid = Self { child, dir, plain, tls };
        squid.wait(options.tls.is_some())?;
        Ok(squid)
    }

    /// Where proxy clients are served in clear.
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.plain).into()
    }

    /// Where proxy clients are served in TLS.
    pub fn tls_port(&self) -> u16 {
        self.tls
    }

    /// What it has logged of its clients; a tunnel stands there once it has ended.
    pub fn access_log(&self) -> String {
        fs::read_to_string(self.dir.join("access.log")).unwrap_or_default()
    }

    fn wait(&mut self, with_tls: bool) -> anyhow::Result<()> {
        let listens = |port| TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok();
        let began = Instant::now();
        while !(listens(self.plain) && (!with_tls || listens(self.tls))) {
            let ended = self.child.try_wait()?;
            if ended.is_some() || began.elapsed() > READY_LIMIT {
                let said = |name| fs::read_to_string(self.dir.join(name)).unwrap_or_default();
                bail!("squid does not listen ({ended:?})\n{}{}", said("stderr"), said("cache.log"));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }
}

impl Drop for Squid {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.dir);
    }
}

fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

fn write_files(dir: &Path, options: &SquidOptions, plain: u16, tls: u16) -> anyhow::Result<()> {
    let at = |name: &str| dir.join(name).display().to_string();
    let mut conf = format!(
        "http_port 127.0.0.1:{plain}\npid_filename none\ncache_log {}\naccess_log stdio:{}\ncoredump_dir {}\n\
         cache deny all\ncache_mem 1 MB\npinger_enable off\nshutdown_lifetime 0 seconds\nvisible_hostname squid.test\n",
        at("cache.log"),
        at("access.log"),
        dir.display()
    );
    if let Some((certificate, key)) = &options.tls {
        fs::write(at("cert.pem"), certificate)?;
        fs::write(at("key.pem"), key)?;
        conf += &format!("https_port 127.0.0.1:{tls} tls-cert={} tls-key={}\n", at("cert.pem"), at("key.pem"));
    }
    if let Some(idle) = options.idle {
        conf += &format!("read_timeout {} seconds\n", idle.as_secs().max(1));
    }
    if let Some(ports) = &options.only_ports {
        let ports: Vec<_> = ports.iter().map(u16::to_string).collect();
        conf += &format!("acl allowed port {}\nhttp_access deny CONNECT !allowed\n", ports.join(" "));
    }
    if let Some((user, password)) = &options.user {
        let hash: String = Md5::digest(password).iter().map(|byte| format!("{byte:02x}")).collect();
        fs::write(at("users"), format!("{user}:{hash}\n"))?;
        conf += &format!("auth_param basic program {USERS_PROGRAM} {}\n", at("users"));
        conf += "auth_param basic children 1\nacl known proxy_auth REQUIRED\nhttp_access allow CONNECT known\n";
    } else {
        conf += "http_access allow CONNECT\n";
    }
    fs::write(at("squid.conf"), conf + "http_access deny all\n")?;
    Ok(())
}
