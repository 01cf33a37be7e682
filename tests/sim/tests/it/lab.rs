//! A simulation with one machine in it, an SSH client and an HTTPS client.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use gantry_sim::guest::GuestRecord;
use gantry_sim::world::GuestEvent;
use gantry_sim::{Core, Sim, SimOptions};
use russh::ChannelMsg;
use russh::client::{self, AuthResult, Msg};
use russh::keys::{HashAlg, PublicKeyOrCertificate};
use serde_json::{Value, json};

pub(crate) const VM: &str = "0f0e0d0c-1111-4222-8333-000000000001";
pub(crate) const MAC: &str = "52:54:00:aa:bb:cc";
pub(crate) const PASSWORD: &str = "HC!r0cks";
/// Wall time in which everything that a test waits for must happen.
const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) struct Lab {
    pub(crate) sim: Sim,
    pub(crate) ip: IpAddr,
}

/// What a command did.
#[derive(Debug, Default)]
pub(crate) struct Output {
    pub(crate) status: Option<u32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Lab {
    /// A simulation at `scale` virtual seconds a second, changed by `change`, with a powered machine on an address of its own.
    pub(crate) async fn start(scale: f64, change: impl FnOnce(&mut SimOptions)) -> Self {
        let lab = Self::dark(scale, change).await;
        lab.network_up(VM);
        lab
    }

    /// The same without any machine.
    pub(crate) async fn dark(scale: f64, change: impl FnOnce(&mut SimOptions)) -> Self {
        let mut options = SimOptions { time_scale: scale, ..SimOptions::default() };
        options.latencies.factor = 0.0;
        change(&mut options);
        let sim = Sim::start(options).await.expect("the simulation starts");
        // Every test is a process of its own under nextest: its number makes the address its own.
        let [.., a, b, c] = std::process::id().to_be_bytes();
        let ip = IpAddr::V4(Ipv4Addr::new(127, 64 + a % 64, b, c.clamp(1, 254)));
        Lab { sim, ip }
    }

    pub(crate) fn core(&self) -> &Core {
        self.sim.core()
    }

    pub(crate) fn tell(&self, event: GuestEvent) {
        self.core().world().tell_guest(event);
    }

    pub(crate) fn network_up(&self, vm: &str) {
        self.network_up_with(vm, 8, 19 << 30);
    }

    pub(crate) fn network_up_with(&self, vm: &str, vcpu: u32, memory: u64) {
        let (mac, disk) = (MAC.to_owned(), 400 << 30);
        let ssh_opens_at = self.core().clock.elapsed();
        self.tell(GuestEvent::AddressUp { vm_uuid: vm.to_owned(), ip: self.ip, mac, vcpu, memory, disk, ssh_opens_at });
    }

    pub(crate) fn guest(&self) -> GuestRecord {
        self.core().world().guests.get(VM).cloned().unwrap_or_default()
    }

    /// Waits until a condition holds.
    pub(crate) async fn until(&self, what: &str, mut holds: impl FnMut() -> bool) {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while !holds() {
            assert!(tokio::time::Instant::now() < deadline, "waited in vain until {what}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Logs in as soon as the port opens.
    pub(crate) async fn ssh(&self) -> Ssh {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            match self.try_ssh("cloudtower", PASSWORD).await {
                Ok(Some(ssh)) => return ssh,
                Ok(None) => panic!("the password was refused"),
                Err(error) => assert!(tokio::time::Instant::now() < deadline, "SSH does not open: {error}"),
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// One try to log in; `None` when the password was refused.
    pub(crate) async fn try_ssh(&self, user: &str, password: &str) -> Result<Option<Ssh>, russh::Error> {
        let key = Arc::new(Mutex::new(String::new()));
        let config = client::Config { inactivity_timeout: None, nodelay: true, ..Default::default() };
        let at = (self.ip, self.sim.ssh_port());
        let mut handle = client::connect(Arc::new(config), at, Keys(key.clone())).await?;
        match handle.authenticate_password(user, password).await? {
            AuthResult::Success => {
                let key = key.lock().unwrap().clone();
                Ok(Some(Ssh { handle, key }))
            }
            AuthResult::Failure { .. } => Ok(None),
        }
    }

    pub(crate) async fn run(&self, command: &str) -> Output {
        self.ssh().await.run(command).await
    }

    pub(crate) fn tower_url(&self, path: &str) -> String {
        format!("https://{}:{}{path}", self.ip, self.sim.tower_port())
    }

    pub(crate) async fn graphql(&self, token: Option<&str>, query: &str, variables: Value) -> (u16, Value) {
        let body = json!({ "query": query, "variables": variables });
        self.post("/api", token, body).await.expect("an answer")
    }

    pub(crate) async fn rest(&self, token: Option<&str>, name: &str, body: Value) -> (u16, Value) {
        self.post(&format!("/v2/api/{name}"), token, body).await.expect("an answer")
    }

    pub(crate) async fn post(
        &self,
        path: &str,
        token: Option<&str>,
        body: Value,
    ) -> Result<(u16, Value), reqwest::Error> {
        let mut request = https().post(self.tower_url(path)).json(&body);
        if let Some(token) = token {
            request = request.header("authorization", token);
        }
        let response = request.send().await?;
        let status = response.status().as_u16();
        let text = response.text().await?;
        Ok((status, serde_json::from_str(&text).unwrap_or(Value::String(text))))
    }

    /// Lets somebody else's guest be installed, and waits until its CloudTower is ready.
    pub(crate) async fn ready_tower(change: impl FnOnce(&mut SimOptions)) -> Self {
        let lab = Self::start(1000.0, |options| {
            options.external_guest = true;
            options.tower.change_ms = [0, 0];
            options.tower.read_ms = [0, 0];
            change(options);
        })
        .await;
        lab.tell(GuestEvent::Installed { vm_uuid: VM.to_owned() });
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while !matches!(lab.post("/v2/api/login", None, json!({})).await, Ok((400, _))) {
            assert!(tokio::time::Instant::now() < deadline, "CloudTower does not become ready");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        lab
    }
}

/// A client that takes any certificate.
pub(crate) fn https() -> reqwest::Client {
    // The second caller finds it installed, which is all that is wanted.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let builder = reqwest::Client::builder().tls_danger_accept_invalid_certs(true).tls_info(true).no_proxy();
    builder.redirect(reqwest::redirect::Policy::none()).build().expect("a client")
}

struct Keys(Arc<Mutex<String>>);

impl client::Handler for Keys {
    type Error = russh::Error;

    async fn check_server_key(&mut self, key: &PublicKeyOrCertificate) -> Result<bool, Self::Error> {
        if let PublicKeyOrCertificate::PublicKey { key, .. } = key {
            *self.0.lock().unwrap() = key.fingerprint(HashAlg::Sha256).to_string();
        }
        Ok(true)
    }
}

/// A logged-in connection.
pub(crate) struct Ssh {
    handle: client::Handle<Keys>,
    pub(crate) key: String,
}

impl Ssh {
    pub(crate) async fn run(&self, command: &str) -> Output {
        self.run_with(command, "", false).await
    }

    pub(crate) async fn run_with(&self, command: &str, input: &str, pty: bool) -> Output {
        let mut channel = self.begin(command, pty).await;
        if !input.is_empty() {
            channel.data(input.as_bytes()).await.expect("input");
        }
        channel.eof().await.expect("eof");
        collect(&mut channel).await
    }

    /// Starts a command and leaves its channel open.
    pub(crate) async fn begin(&self, command: &str, pty: bool) -> russh::Channel<Msg> {
        let channel = self.handle.channel_open_session().await.expect("a channel");
        if pty {
            channel.request_pty(true, "dumb", 80, 24, 0, 0, &[]).await.expect("a terminal");
        }
        channel.exec(true, command).await.expect("exec");
        channel
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.handle.is_closed()
    }
}

pub(crate) async fn collect(channel: &mut russh::Channel<Msg>) -> Output {
    let mut output = Output::default();
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    while let Some(message) = channel.wait().await {
        match message {
            ChannelMsg::Data { data } => stdout.extend_from_slice(&data),
            ChannelMsg::ExtendedData { data, ext: 1 } => stderr.extend_from_slice(&data),
            ChannelMsg::ExitStatus { exit_status } => output.status = Some(exit_status),
            _ => {}
        }
    }
    output.stdout = String::from_utf8_lossy(&stdout).into_owned();
    output.stderr = String::from_utf8_lossy(&stderr).into_owned();
    output
}
