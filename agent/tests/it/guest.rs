//! The guest's client against a real OpenSSH server, and what the simulator offers of bad lines.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::{Child, Command as Process, Stdio},
    time::Duration,
};

use gantry_agent::{
    config::{self, Settings},
    guest::{Command, Error, Exit, Guest, Status, scripts},
};
use gantry_proto::{Redactor, Secret};
use tempfile::TempDir;

use crate::inside::{self, SSH_PASSWORD};

const SSHD: &str = "/usr/sbin/sshd";
const LIMIT: Duration = Duration::from_secs(20);

/// A real OpenSSH server on a free port of loopback, with a configuration and an account of its own.
struct Sshd {
    dir: TempDir,
    child: Child,
    port: u16,
    user: String,
}

impl Sshd {
    /// `None`, with the reason on stderr, where there is no server to be had.
    fn start(extra: &str) -> Option<Self> {
        if !Path::new(SSHD).exists() {
            skip("there is no sshd on this machine");
            return None;
        }
        let root = Process::new("id").arg("-u").output().is_ok_and(|output| output.stdout == b"0\n");
        if !root {
            skip("only root can make an account with a password");
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        // The server reads its files as root, the account's shell starts in here.
        std::fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let user = format!("gantry{}", std::process::id());
        let home = dir.path().join("home");
        assert!(run("useradd", &["-m", "-d", home.to_str().unwrap(), "-s", "/bin/sh", &user]));
        let mut chpasswd = Process::new("chpasswd").stdin(Stdio::piped()).spawn().unwrap();
        std::io::Write::write_all(chpasswd.stdin.as_mut().unwrap(), format!("{user}:{SSH_PASSWORD}\n").as_bytes())
            .unwrap();
        assert!(chpasswd.wait().unwrap().success());
        let mut server = Self { dir, child: Process::new("true").spawn().unwrap(), port: 0, user };
        server.new_key();
        server.port = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
        server.configure(extra);
        server.serve();
        Some(server)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn new_key(&self) {
        let key = self.path("key");
        let _ = std::fs::remove_file(&key);
        assert!(run("ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-f", key.to_str().unwrap()]));
    }

    fn configure(&self, extra: &str) {
        let text = format!(
            "ListenAddress 127.0.0.1\nPort {}\nHostKey {}\nPidFile none\nUsePAM yes\nStrictModes no\n\
             LogLevel ERROR\n{extra}\n",
            self.port,
            self.path("key").display()
        );
        std::fs::write(self.path("config"), text).unwrap();
    }

    fn serve(&mut self) {
        let _ = std::fs::create_dir_all("/run/sshd");
        let config = self.path("config");
        self.child = Process::new(SSHD)
            .args(["-D", "-e", "-f", config.to_str().unwrap()])
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
    }

    fn stop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    fn guest(&self) -> Guest {
        let mut plan = inside::plan(Ipv4Addr::LOCALHOST);
        plan.cloudtower.ssh_user = self.user.clone();
        let mut settings = Settings::default();
        settings.guest = self.settings();
        let redactor = Redactor::new();
        redactor.register_all(&inside::secrets());
        Guest::new(&plan, &inside::secrets(), &settings, &redactor)
    }

    fn settings(&self) -> config::Guest {
        let path = |name: &str| self.path(&format!("home/{name}")).display().to_string();
        config::Guest {
            ssh_port: self.port,
            work_dir: path("work"),
            installer_dir: path("inst"),
            resolv_conf: path("resolv.conf"),
            preinstall: path("pre.sh"),
            ..config::Guest::default()
        }
    }

    /// Connects as soon as the server listens.
    async fn connected(&self) -> Guest {
        let guest = self.guest();
        let deadline = tokio::time::Instant::now() + LIMIT;
        let greeting = loop {
            match guest.greet(None, LIMIT).await {
                Ok(greeting) => break greeting,
                Err(error) => assert!(tokio::time::Instant::now() < deadline, "{error:?}"),
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        guest.login(greeting, &self.user).await.unwrap();
        guest
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        self.stop();
        run("pkill", &["-KILL", "-U", &self.user]);
        run("userdel", &["-f", &self.user]);
    }
}

#[expect(clippy::print_stderr, reason = "why a test did nothing")]
fn skip(reason: &str) {
    eprintln!("skipped: {reason}");
}

fn run(program: &str, args: &[&str]) -> bool {
    let status = Process::new(program).args(args).stdout(Stdio::null()).stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}

#[tokio::test]
async fn a_real_server_runs_commands_with_status_output_and_signals() {
    let Some(sshd) = Sshd::start("") else { return };
    let guest = sshd.connected().await;
    let output = guest.run(&Command::new("both", "echo out; echo err >&2; exit 3")).await.unwrap();
    assert_eq!(
        (output.exit.clone(), output.stdout.text(), output.stderr.as_str()),
        (Exit::Code(3), "out\n".into(), "err")
    );
    let output = guest.run(&Command::new("kill", "kill -TERM $$")).await.unwrap();
    assert!(matches!(output.exit, Exit::Signal(_) | Exit::Code(143)), "{:?}", output.exit);
    let odd = ["a b", "it's", "$(id)", "`id`", "\\", "中文", "-n", "*", "a\nb", ""];
    let output = guest.run(&Command::new("args", "printf '%s|' \"$@\"").args(odd)).await.unwrap();
    assert_eq!(output.stdout.text(), odd.map(|word| format!("{word}|")).concat());
    let big = Command::new("big", "head -c 20000000 /dev/zero | tr '\\0' x; printf end").keep(1000);
    let output = guest.run(&big).await.unwrap();
    assert_eq!(output.stdout.total(), 20_000_003);
    assert!(output.stdout.text().ends_with("xend") && output.stdout.bytes().len() < 1100);
    assert_eq!(guest.run(&Command::new("stdin", "cat")).await.unwrap().stdout.total(), 0, "input is at its end");
    guest.close().await;
    assert!(matches!(guest.run(&Command::new("closed", ":")).await, Err(Error::NotConnected)));
}

#[tokio::test]
async fn a_real_server_keeps_what_is_detached_and_starts_it_once() {
    let Some(sshd) = Sshd::start("") else { return };
    let guest = sshd.connected().await;
    let mut settings = sshd.settings();
    settings.installer = "sh".to_owned();
    settings.installer_args = vec!["-c".to_owned(), "echo run >>../runs; sleep 1; echo done".to_owned()];
    std::fs::create_dir_all(&settings.installer_dir).unwrap();
    assert!(run("chown", &["-R", &sshd.user, sshd.path("home").to_str().unwrap()]));
    let start = |token: &str| scripts::start_installer(&settings, token).unprivileged();
    assert!(guest.run(&start("start.1")).await.unwrap().success());
    guest.close().await;
    // The connection is gone; the installer is not.
    let guest = sshd.connected().await;
    assert!(guest.run(&start("start.1")).await.unwrap().success());
    assert!(guest.run(&start("start.2")).await.unwrap().success());
    let deadline = tokio::time::Instant::now() + LIMIT;
    let status = loop {
        let output = guest.run(&scripts::installer_status(&settings).unprivileged()).await.unwrap();
        let status = Status::parse(&output.stdout.bytes());
        if status.has_ended() && status.rc.is_some() {
            break status;
        }
        assert!(tokio::time::Instant::now() < deadline, "{status:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    assert_eq!(status.rc, Some(0));
    let log = format!("{}/installer.out", settings.work_dir);
    let read = guest.run(&scripts::read_log(&log, 0, 100).unprivileged()).await.unwrap();
    assert_eq!(read.stdout.text(), "done\n");
    assert_eq!(std::fs::read_to_string(sshd.path("home/runs")).unwrap(), "run\n");
}

#[tokio::test]
async fn a_real_server_that_only_asks_questions_is_answered() {
    let Some(sshd) = Sshd::start("PasswordAuthentication no\nKbdInteractiveAuthentication yes") else { return };
    let guest = sshd.connected().await;
    assert!(guest.run(&Command::new("id", "id -un")).await.unwrap().stdout.text().starts_with(&sshd.user));
}

#[tokio::test]
async fn a_real_server_refuses_a_wrong_password_once() {
    let Some(sshd) = Sshd::start("") else { return };
    drop(sshd.connected().await);
    let guest = sshd.guest();
    let greeting = guest.greet(None, LIMIT).await.unwrap();
    let refused = guest.login(greeting, "nobody-of-that-name").await;
    assert!(matches!(refused, Err(Error::AuthRefused { .. })), "{refused:?}");
    assert!(!guest.is_connected());
    guest.wipe().await;
    let greeting = guest.greet(None, LIMIT).await.unwrap();
    assert!(matches!(guest.login(greeting, &sshd.user).await, Err(Error::Wiped)));
}

#[tokio::test]
async fn a_real_server_with_another_key_is_refused() {
    let Some(mut sshd) = Sshd::start("") else { return };
    let guest = sshd.connected().await;
    let key = guest.greet(None, LIMIT).await.unwrap().host_key().to_owned();
    let shown = Process::new("ssh-keygen").args(["-lf", sshd.path("key.pub").to_str().unwrap()]).output().unwrap();
    assert!(String::from_utf8_lossy(&shown.stdout).contains(&key), "as ssh-keygen prints it");
    assert!(guest.greet(Some(&key), LIMIT).await.is_ok());
    sshd.stop();
    sshd.new_key();
    sshd.serve();
    let deadline = tokio::time::Instant::now() + LIMIT;
    loop {
        match guest.greet(Some(&key), LIMIT).await {
            Err(Error::HostKeyChanged { recorded, seen, .. }) => {
                assert!(recorded == key && seen != key);
                break;
            }
            Err(error) if error.is_lost() => assert!(tokio::time::Instant::now() < deadline, "{error:?}"),
            other => panic!("{:?}", other.map(|greeting| greeting.host_key().to_owned())),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_server_that_dies_in_a_command_is_a_lost_connection() {
    let Some(mut sshd) = Sshd::start("") else { return };
    let guest = sshd.connected().await;
    let long = Command::new("long", "echo begun; sleep 100");
    let kill = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        let user = sshd.user.clone();
        tokio::task::spawn_blocking(move || run("pkill", &["-KILL", "-U", &user])).await.unwrap();
        sshd.stop();
    };
    let (result, ()) = tokio::join!(guest.run(&long), kill);
    match result {
        Err(error) => assert!(error.is_lost(), "{error:?}"),
        Ok(output) => assert!(!output.success(), "never success: {output:?}"),
    }
    let slow = guest.run(&Command::new("slow", "sleep 100").limit(Duration::from_millis(100))).await;
    assert!(slow.is_err_and(|error| error.is_lost()));
}

#[tokio::test]
async fn sudo_of_a_real_machine_works_with_and_without_a_password() {
    let Some(sshd) = Sshd::start("") else { return };
    if !Path::new("/usr/bin/sudo").exists() {
        return skip("there is no sudo on this machine");
    }
    let rule = PathBuf::from(format!("/etc/sudoers.d/{}", sshd.user));
    let allow = |how: &str| {
        std::fs::write(&rule, format!("{} ALL=(ALL) {how} ALL\n", sshd.user)).unwrap();
        std::fs::set_permissions(&rule, std::os::unix::fs::PermissionsExt::from_mode(0o440)).unwrap();
    };
    let who = Command::new("who", "id -un; cat").root();
    let refused = sshd.connected().await.run(&who).await;
    allow("NOPASSWD:");
    let free = sshd.connected().await.run(&who).await;
    allow("");
    let asked = sshd.connected().await.run(&who).await;
    std::fs::remove_file(&rule).unwrap();
    assert!(matches!(&refused, Err(Error::SudoRefused { said, .. }) if !said.contains(SSH_PASSWORD)), "{refused:?}");
    for output in [free.unwrap(), asked.unwrap()] {
        assert_eq!((output.exit, output.stdout.text().lines().next()), (Exit::Code(0), Some("root")));
    }
}

#[tokio::test]
async fn a_closed_port_and_a_silent_one_are_told_in_time() {
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let settings =
        Settings { guest: config::Guest { ssh_port: port, ..config::Guest::default() }, ..Settings::default() };
    let mut secrets = inside::secrets();
    secrets.ssh_password = Secret::new("x");
    let guest = Guest::new(&inside::plan(Ipv4Addr::LOCALHOST), &secrets, &settings, &Redactor::new());
    assert_eq!(guest.address(), SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    let silent = guest.greet(None, Duration::from_millis(200)).await.map(drop);
    assert!(matches!(silent, Err(Error::TimedOut { phase: "key exchange", .. })), "{silent:?}");
    drop(listener);
    let closed = guest.greet(None, LIMIT).await.map(drop);
    assert!(matches!(closed, Err(Error::Connect { .. })), "{closed:?}");
}
