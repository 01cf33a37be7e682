//! The lab: a simulated site, a controller, an agent and `ctl`, all as an operator would start them, in one temporary
//! directory that goes when the lab goes.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::{Output, Stdio},
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};
use gantry_sim::{iso::Iso, workbook::Workbook};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{process::Command, time::timeout};

use crate::{
    binaries::Binaries,
    control::Control,
    process::{Process, command},
    proxy::Proxy,
    terminal::Terminal,
};

/// Name of the lab's agent and its site.
pub const AGENT: &str = "bastion-1";
/// Its second agent, where there is one.
pub const SECOND_AGENT: &str = "bastion-2";
/// The site of the lab's agent.
pub const SITE: &str = "rehearsal";
/// Name of the lab's ISO file.
pub const ISO_NAME: &str = "cloudtower-v4.7.1.oe2003.x86_64.iso";
/// Nothing that `ctl` does in a lab takes longer.
const CTL_LIMIT: Duration = Duration::from_secs(240);

/// How a lab is made. The default is a complete plan in 127.30.40.0/24 with a 64 MiB ISO, sixty times as fast as real.
#[derive(Clone, Debug)]
pub struct LabOptions {
    /// The workbook; its addresses must be the scenario's.
    pub workbook: Vec<u8>,
    /// Address of the cluster's VIP.
    pub vip: Ipv4Addr,
    /// Management and storage addresses of the hosts.
    pub nodes: Vec<(Ipv4Addr, Ipv4Addr)>,
    /// Fisheye's password, as the workbook says it.
    pub fisheye_password: String,
    /// Merged into the simulator's scenario, key by key.
    pub scenario: Value,
    /// Merged into the agent's settings, key by key.
    pub agent: Value,
    /// Merged into the controller's settings, key by key.
    pub controller: Value,
    /// Size of the ISO file, bytes; 0: no ISO at all.
    pub iso_bytes: u64,
    /// How much faster than real the outside world runs.
    pub time_scale: f64,
    /// Where all processes send their spans.
    pub otlp: Option<String>,
    /// Whether the agent's link goes through a fault proxy.
    pub proxied: bool,
    /// The program that runs as the agent, once it has joined.
    pub agent_program: &'static str,
}

impl Default for LabOptions {
    fn default() -> Self {
        let address = |last| Ipv4Addr::new(127, 30, 40, last);
        let nodes: Vec<_> = (11..=13).map(|last| (address(last), Ipv4Addr::new(127, 30, 41, last))).collect();
        let management: Vec<_> = nodes.iter().map(|node| node.0).collect();
        let workbook = Workbook::valid().addresses(address(10), &management, address(20), address(1), "127.30.40.0/24");
        Self {
            fisheye_password: cell_text(&workbook, "主机规划!M19"),
            workbook: workbook.bytes(),
            vip: address(10),
            nodes,
            scenario: json!({}),
            agent: json!({}),
            controller: json!({}),
            iso_bytes: 64 << 20,
            time_scale: 60.0,
            otlp: None,
            proxied: false,
            agent_program: "agent",
        }
    }
}

/// A running lab.
#[derive(Debug)]
pub struct Lab {
    dir: TempDir,
    binaries: Binaries,
    simulator: Option<Process>,
    controller: Option<Process>,
    agent: Option<Process>,
    /// A second agent of the same site, where a test has started one.
    second: Option<Process>,
    proxy: Option<Proxy>,
    addresses: Value,
    controller_url: String,
    options: LabOptions,
}

impl Lab {
    /// Builds the binaries and starts everything; returns when the agent is in contact with the controller.
    pub async fn start(options: LabOptions) -> anyhow::Result<Self> {
        let binaries = tokio::task::spawn_blocking(Binaries::build).await??;
        Self::start_with(binaries, options).await
    }

    /// Starts everything from binaries that were built before.
    pub async fn start_with(binaries: Binaries, options: LabOptions) -> anyhow::Result<Self> {
        let dir = tempfile::Builder::new().prefix("gantry-lab-").tempdir()?;
        let mut lab = Self {
            dir,
            binaries,
            simulator: None,
            controller: None,
            agent: None,
            second: None,
            proxy: None,
            addresses: Value::Null,
            controller_url: String::new(),
            options,
        };
        lab.start_simulator().await.context("starting the simulator")?;
        lab.start_controller().await.context("starting the controller")?;
        lab.let_in().await.context("letting operator and agent in")?;
        lab.start_agent().await.context("starting the agent")?;
        lab.in_contact(AGENT).await?;
        Ok(lab)
    }

    /// One of our programs.
    pub fn binary(&self, name: &str) -> PathBuf {
        self.binaries.path(name)
    }

    /// The lab's directory.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The workbook's file.
    pub fn workbook(&self) -> PathBuf {
        self.dir().join("plan.xlsx")
    }

    /// The ISO's file.
    pub fn iso(&self) -> PathBuf {
        self.dir().join("iso").join(ISO_NAME)
    }

    /// The agent's data directory.
    pub fn agent_data(&self) -> PathBuf {
        self.dir().join("agent")
    }

    /// The controller's data directory.
    pub fn controller_data(&self) -> PathBuf {
        self.dir().join("controller")
    }

    /// Where the binaries lie.
    pub fn binaries_dir(&self) -> &Path {
        self.binaries.dir()
    }

    /// What the simulator printed: its addresses and ports.
    pub fn addresses(&self) -> &Value {
        &self.addresses
    }

    /// The simulator's control port.
    pub fn control(&self) -> anyhow::Result<Control> {
        Control::new(self.addresses["control_url"].as_str().context("the simulator told no control URL")?)
    }

    /// `ctl` with the lab's profile and these arguments, ready to be run; stdin is empty.
    pub fn ctl_command(&self, args: &[&str]) -> Command {
        let mut ctl = command(&self.binaries.path("ctl"), args);
        ctl.env("GANTRY_PROFILE", self.profile()).env("NO_COLOR", "1").stdin(Stdio::null()).kill_on_drop(true);
        if let Some(endpoint) = &self.options.otlp {
            ctl.env("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint);
        }
        ctl
    }

    /// `ctl` on a terminal of so many columns and rows.
    pub fn ctl_terminal(&self, args: &[&str], size: (u16, u16)) -> anyhow::Result<Terminal> {
        Terminal::start(self.ctl_command(args), size)
    }

    /// Runs `ctl` to its end.
    pub async fn ctl(&self, args: &[&str]) -> anyhow::Result<Output> {
        let output = timeout(CTL_LIMIT, self.ctl_command(args).output()).await;
        output
            .with_context(|| format!("ctl {args:?} did not end within {CTL_LIMIT:?}\n{}", self.logs()))?
            .context("ctl")
    }

    /// Runs `ctl`, demands exit code 0, gives its stdout as JSON.
    pub async fn ctl_json(&self, args: &[&str]) -> anyhow::Result<Value> {
        let output = self.ctl(args).await?;
        ensure!(output.status.success(), "ctl {args:?}: {}\n{}\n{}", output.status, text(&output), self.logs());
        serde_json::from_slice(&output.stdout)
            .with_context(|| format!("ctl {args:?} printed no JSON: {}", text(&output)))
    }

    /// Deploys the lab's workbook without watching; gives the job's id.
    pub async fn deploy(&self, more: &[&str]) -> anyhow::Result<String> {
        let workbook = self.workbook();
        let workbook = workbook.to_string_lossy();
        let mut args = vec!["-o", "json", "deploy", workbook.as_ref()];
        args.extend_from_slice(more);
        let answer = self.ctl_json(&args).await?;
        let id = answer.pointer("/job/job_id").or_else(|| answer.get("job_id")).and_then(Value::as_str);
        id.map(str::to_owned).with_context(|| format!("ctl deploy told no job id: {answer}"))
    }

    /// Watches a job to its end; gives `ctl`'s exit code.
    pub async fn watch(&self, job: &str) -> anyhow::Result<i32> {
        let output = self.ctl(&["watch", job]).await?;
        output.status.code().with_context(|| format!("ctl watch was killed: {}", text(&output)))
    }

    /// What all processes have logged, for the message of a failed test.
    pub fn logs(&self) -> String {
        let named = [
            ("simulator", &self.simulator),
            ("controller", &self.controller),
            ("agent", &self.agent),
            ("second agent", &self.second),
        ];
        let told = named.iter().filter_map(|(name, process)| Some((name, process.as_ref()?.log_text())));
        told.map(|(name, log)| format!("--- {name}\n{}\n", tail(&log, 60))).collect()
    }

    /// The agent's process id.
    pub fn agent_pid(&self) -> Option<u32> {
        self.agent.as_ref().and_then(Process::pid)
    }

    /// What the agent has logged.
    pub fn agent_log(&self) -> String {
        fs::read_to_string(self.dir().join("agent.log")).unwrap_or_default()
    }

    /// What the controller has logged.
    pub fn controller_log(&self) -> String {
        fs::read_to_string(self.dir().join("controller.log")).unwrap_or_default()
    }

    /// Where the controller listens.
    pub fn controller_address(&self) -> anyhow::Result<SocketAddr> {
        self.controller_url.trim_start_matches("https://").parse().context("the controller's port")
    }

    /// The line between agent and controller, of a lab that is `proxied`.
    pub fn line(&self) -> anyhow::Result<&Proxy> {
        self.proxy.as_ref().context("the lab's link does not go through a proxy")
    }

    /// `kill -9` for the agent; [`Lab::start_agent`] starts it over the same directory.
    pub async fn kill_agent(&mut self) -> anyhow::Result<()> {
        match self.agent.take() {
            Some(agent) => agent.kill().await,
            None => Ok(()),
        }
    }

    /// `kill -9` for the controller; [`Lab::start_controller`] starts it over the same directory, on the same port.
    pub async fn kill_controller(&mut self) -> anyhow::Result<()> {
        match self.controller.take() {
            Some(controller) => controller.kill().await,
            None => Ok(()),
        }
    }

    /// Stops the controller's clock (SIGSTOP): its connections stay, and it reads nothing.
    pub async fn freeze_controller(&self) -> anyhow::Result<()> {
        self.controller.as_ref().context("no controller runs")?.signal("STOP").await
    }

    /// Lets a frozen controller go on.
    pub async fn thaw_controller(&self) -> anyhow::Result<()> {
        self.controller.as_ref().context("no controller runs")?.signal("CONT").await
    }

    /// Ends the agent in good order.
    pub async fn stop_agent(&mut self) -> anyhow::Result<()> {
        if let Some(agent) = self.agent.take() {
            agent.stop().await?;
        }
        Ok(())
    }

    /// Ends the controller in good order.
    pub async fn stop_controller(&mut self) -> anyhow::Result<()> {
        if let Some(controller) = self.controller.take() {
            controller.stop().await?;
        }
        Ok(())
    }

    /// Ends everything in good order: agents, controller, simulator.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        self.stop_agent().await?;
        if let Some(second) = self.second.take() {
            second.stop().await?;
        }
        self.stop_controller().await?;
        if let Some(simulator) = self.simulator.take() {
            simulator.stop().await?;
        }
        Ok(())
    }

    async fn start_simulator(&mut self) -> anyhow::Result<()> {
        let node = |(management, storage): &(Ipv4Addr, Ipv4Addr)| json!({"management": management, "storage": storage});
        let mut scenario = json!({
            "time_scale": self.options.time_scale,
            "vip": IpAddr::V4(self.options.vip),
            "nodes": self.options.nodes.iter().map(node).collect::<Vec<_>>(),
            "fisheye": {"password": self.options.fisheye_password},
            "storage": {"mode": "spool", "directory": self.dir().join("spool")},
        });
        merge(&mut scenario, &self.options.scenario);
        let (file, ready) = (self.dir().join("scenario.json"), self.dir().join("simulator.ready"));
        fs::write(&file, scenario.to_string())?;
        let mut simulator = command(&self.binaries.path("simulator"), ["--scenario"]);
        // What it keeps in temporary files goes with the lab, even when it is killed.
        simulator.arg(&file).arg("--ready-file").arg(&ready).env("TMPDIR", self.dir());
        let mut process = Process::spawn("simulator", simulator, &self.dir().join("simulator.log"))?;
        self.addresses = serde_json::from_str(&process.ready(&ready).await?)?;
        self.simulator = Some(process);
        Ok(())
    }

    /// Starts the controller, again too, on the port that it had before.
    pub async fn start_controller(&mut self) -> anyhow::Result<()> {
        let ready = self.dir().join("controller.ready");
        // A killed controller has left its own.
        let _ = fs::remove_file(&ready);
        let listen = match self.controller_url.strip_prefix("https://") {
            Some(address) => address.to_owned(),
            None => "127.0.0.1:0".to_owned(),
        };
        let mut settings = json!({
            "data": self.controller_data(), "listen": listen, "names": ["127.0.0.1"], "ready_file": ready,
        });
        if let Some(endpoint) = &self.options.otlp {
            merge(&mut settings, &json!({"telemetry": {"otlp_endpoint": endpoint}}));
        }
        merge(&mut settings, &self.options.controller);
        let file = self.write_toml("controller.toml", &settings)?;
        let mut controller = command(&self.binaries.path("controller"), ["run", "--config"]);
        controller.arg(file);
        let mut process = Process::spawn("controller", controller, &self.dir().join("controller.log"))?;
        let address = process.ready(&ready).await?;
        self.controller_url = format!("https://{}", address.trim());
        self.controller = Some(process);
        Ok(())
    }

    /// Lets in an operator, who adds the site and then the agent, as an administrator would.
    async fn let_in(&mut self) -> anyhow::Result<()> {
        let admin = self.controller_data().join("operators/admin").join(gantry_proto::join::OPERATOR_PROFILE_FILE);
        let (admin, operator) = (admin.to_string_lossy().into_owned(), self.dir().join("operator"));
        let operator = operator.to_string_lossy().into_owned();
        let add = ["operator", "add", "lab", "--role", "admin", "--out", &operator];
        // The port was not known when the first admin's profile was written.
        self.told(&[&["--profile", &admin, "--controller", &self.controller_url], &add[..]].concat()).await?;
        self.told(&["site", "add", SITE]).await?;
        if self.options.proxied {
            self.proxy = Some(Proxy::start(self.controller_address()?)?);
        }
        self.join(AGENT, "agent", "join.json").await
    }

    /// An agent joins with a token. Its link then leads through the proxy, where there is one.
    async fn join(&self, agent: &str, data: &str, file: &str) -> anyhow::Result<()> {
        let token = self.told(&["agent", "token", "--site", SITE, "--agent", agent]).await?;
        let (data, file) = (self.dir().join(data), self.dir().join(file));
        let mut join = command(&self.binaries.path("agent"), ["join", token.trim(), "--no-run", "--data"]);
        let output = join.arg(data).arg("--join").arg(&file).stdin(Stdio::null()).output().await?;
        ensure!(output.status.success(), "agent join: {}\n{}", output.status, text(&output));
        if let Some(proxy) = &self.proxy {
            let mut join: Value = serde_json::from_slice(&fs::read(&file)?)?;
            join["controller"] = format!("https://{}", proxy.address()).into();
            fs::write(&file, join.to_string())?;
        }
        Ok(())
    }

    /// What `ctl` prints; it must end well.
    pub async fn told(&self, args: &[&str]) -> anyhow::Result<String> {
        let output = self.ctl(args).await?;
        ensure!(output.status.success(), "ctl {args:?}: {}\n{}", output.status, text(&output));
        Ok(String::from_utf8(output.stdout)?)
    }

    /// Starts the agent, again too.
    pub async fn start_agent(&mut self) -> anyhow::Result<()> {
        self.write_inputs()?;
        self.agent = Some(self.spawn_agent("agent", "iso", "join.json")?);
        Ok(())
    }

    /// Starts a second agent of the same site, which has the ISO too; returns when it is in contact.
    pub async fn start_second_agent(&mut self) -> anyhow::Result<()> {
        let isos = self.dir().join("iso-2");
        fs::create_dir_all(&isos)?;
        fs::copy(self.iso(), isos.join(ISO_NAME))?;
        self.join(SECOND_AGENT, "agent-2", "join-2.json").await?;
        self.second = Some(self.spawn_agent("agent-2", "iso-2", "join-2.json")?);
        self.in_contact(SECOND_AGENT).await
    }

    fn spawn_agent(&self, name: &str, isos: &str, join: &str) -> anyhow::Result<Process> {
        let port = |name: &str| self.addresses[name].as_u64().with_context(|| format!("the simulator told no {name}"));
        let fisheye = port("fisheye_port")?;
        let mut settings = json!({
            "data_dir": self.dir().join(name),
            "iso_dir": self.dir().join(isos),
            "join_file": self.dir().join(join),
            "allow": ["127.0.0.0/8"],
            "iso": {"min_bytes": 1 << 16, "scan_s": 1},
            "fisheye": {"port": fisheye},
            "guest": {"ssh_port": port("ssh_port")?},
            "cloudtower": {"port": port("tower_port")?},
            "precheck": {"host_ports": [fisheye]},
            "timing": {"time_scale": self.options.time_scale, "progress_every_s": 0.5},
            "link": {"retry_cap_ms": 2000},
        });
        merge(&mut settings, &self.options.agent);
        let file = self.write_toml(&format!("{name}.toml"), &settings)?;
        let mut agent = command(&self.binaries.path(self.options.agent_program), ["run", "--config"]);
        agent.arg(file);
        Process::spawn("agent", agent, &self.dir().join(format!("{name}.log")))
    }

    fn write_inputs(&self) -> anyhow::Result<()> {
        fs::create_dir_all(self.dir().join("iso"))?;
        fs::write(self.workbook(), &self.options.workbook)?;
        if self.options.iso_bytes > 0 && !self.iso().exists() {
            Iso::new(self.options.iso_bytes).write(&self.iso())?;
        }
        Ok(())
    }

    /// Waits until the controller says that the agent is there.
    pub async fn agent_in_contact(&self) -> anyhow::Result<()> {
        self.in_contact(AGENT).await
    }

    async fn in_contact(&self, name: &str) -> anyhow::Result<()> {
        for _ in 0..600 {
            let agents = self.ctl_json(&["-o", "json", "agents"]).await?;
            let agents = agents.as_array().or_else(|| agents.get("agents").and_then(Value::as_array)).cloned();
            let there = |agent: &Value| agent["agent_id"] == name && agent["in_contact"] == true;
            if agents.is_some_and(|agents| agents.iter().any(there)) {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        bail!("agent {name} did not come into contact\n{}", self.logs())
    }

    /// The operator's profile, for `GANTRY_PROFILE`.
    pub fn profile(&self) -> PathBuf {
        self.dir().join("operator").join(gantry_proto::join::OPERATOR_PROFILE_FILE)
    }

    fn write_toml(&self, name: &str, settings: &Value) -> anyhow::Result<PathBuf> {
        let file = self.dir().join(name);
        fs::write(&file, toml::to_string(settings).context("writing settings as TOML")?)?;
        Ok(file)
    }
}

/// Puts `over` into `base`, object by object; everything else is replaced.
pub fn merge(base: &mut Value, over: &Value) {
    match (base, over) {
        (Value::Object(base), Value::Object(over)) => {
            for (key, value) in over {
                merge(base.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        (base, over) => *base = over.clone(),
    }
}

/// What a command printed, both streams.
pub fn text(output: &Output) -> String {
    format!("{}\n{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn tail(text: &str, lines: usize) -> String {
    let all: Vec<_> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

pub(crate) fn cell_text(workbook: &Workbook, address: &str) -> String {
    match workbook.cell(address) {
        Some(gantry_sim::workbook::Cell::Text(text)) => text.clone(),
        _ => String::new(),
    }
}
