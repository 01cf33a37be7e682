//! A simulated VM with its CloudTower, and a job that works on it: what the tests of guest, CloudTower and their steps
//! share.

use std::{net::Ipv4Addr, path::PathBuf, sync::Arc, time::Duration};

use gantry_agent::{
    config::Settings,
    facts::{Facts, VmFact},
    joblog::JobLog,
    outside::Outside,
    step::{Step, StepCx, StepError},
    steps::{
        configure_services::ConfigureServices, finish::Finish, initial_setup::InitialSetup, install::Install,
        verify_https::VerifyHttps,
    },
};
use gantry_proto::{Failure, JobId, Plan, Redactor, Secret, Secrets};
use gantry_sim::{Core, Sim, SimOptions, cloudtower::Tower, guest::GuestRecord, world::GuestEvent};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

pub(crate) const VM: &str = "0f0e0d0c-1111-4222-8333-000000000001";
pub(crate) const MAC: &str = "52:54:00:aa:bb:cc";
pub(crate) const SSH_PASSWORD: &str = "canary-Ssh-passw0rd!";
pub(crate) const ROOT_PASSWORD: &str = "canary-Root-passw0rd!";
/// The invented encoded form that the simulator takes for the published default (`cloudtower.md` 4.1).
pub(crate) const ENCODED: &str = "MDAxMTIyMzM0NDU1NjY3Nzg4OTlhYWJiY2NkZGVlZmY6WlhoaGJYQnNaUzFqYVhCb1pYSXhOZz09";
/// Virtual seconds per second.
pub(crate) const SCALE: f64 = 200.0;
/// Real time in which everything that a test waits for must happen.
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) struct Inside {
    pub(crate) sim: Sim,
    pub(crate) ip: Ipv4Addr,
    pub(crate) dir: TempDir,
    pub(crate) cx: StepCx,
    pub(crate) facts: Facts,
}

impl Inside {
    /// A powered VM whose installer takes a second.
    pub(crate) async fn start(change: impl FnOnce(&mut SimOptions)) -> Self {
        Self::with(change, |_, _, _| {}).await
    }

    /// The same with changes to what the job has to work with.
    pub(crate) async fn with(
        change: impl FnOnce(&mut SimOptions),
        ours: impl FnOnce(&mut Plan, &mut Settings, &mut Secrets),
    ) -> Self {
        let mut options = SimOptions { time_scale: SCALE, ..SimOptions::default() };
        options.latencies.factor = 0.0;
        options.guest.accounts[0].password = SSH_PASSWORD.to_owned();
        options.guest.preinstall_s = 4;
        options.guest.installer_s = 200;
        options.guest.first_line_s = Some(5);
        options.guest.log_lines = 300;
        options.guest.lines_after_success = Some(40);
        options.tower.opens_after_success_s = 2;
        options.tower.bad_gateway_s = 4;
        options.tower.unavailable_s = 2;
        change(&mut options);
        let sim = Sim::start(options).await.unwrap();
        // Under nextest every test is a process: its number makes the address its own.
        let [.., a, b, c] = std::process::id().to_be_bytes();
        let ip = Ipv4Addr::new(127, 64 + a % 64, b, c.clamp(1, 254));
        let dir = tempfile::tempdir().unwrap();
        let (mut plan, mut settings, mut secrets) = (plan(ip), settings(&dir, &sim), secrets());
        ours(&mut plan, &mut settings, &mut secrets);
        let facts = Facts {
            vm: Some(VmFact { uuid: Some(VM.to_owned()), mac: Some(MAC.to_owned()), ..VmFact::default() }),
            ..Facts::default()
        };
        let cx = step_cx(JobId::new(), plan, settings, secrets);
        let inside = Self { sim, ip, dir, cx, facts };
        inside.network_up();
        inside
    }

    /// A CloudTower that is installed already and about to serve.
    pub(crate) async fn tower(
        change: impl FnOnce(&mut SimOptions),
        ours: impl FnOnce(&mut Plan, &mut Settings, &mut Secrets),
    ) -> Self {
        let inside = Self::with(
            |options| {
                options.external_guest = true;
                options.tower.change_ms = [0, 0];
                options.tower.read_ms = [0, 0];
                change(options);
            },
            |plan, settings, secrets| {
                plan.dns_servers.clear();
                // There is no VM behind it that could be asked.
                settings.cloudtower.confirm_over_ssh = false;
                ours(plan, settings, secrets);
            },
        )
        .await;
        inside.tell(GuestEvent::Installed { vm_uuid: VM.to_owned() });
        inside
    }

    pub(crate) fn core(&self) -> &Core {
        self.sim.core()
    }

    pub(crate) fn tell(&self, event: GuestEvent) {
        self.core().world().tell_guest(event);
    }

    pub(crate) fn network_up(&self) {
        let ssh_opens_at = self.core().clock.elapsed();
        self.tell(GuestEvent::AddressUp {
            vm_uuid: VM.to_owned(),
            ip: self.ip.into(),
            mac: MAC.to_owned(),
            vcpu: 8,
            memory: 19 << 30,
            disk: 400 << 30,
            ssh_opens_at,
        });
    }

    pub(crate) fn modes(&self, change: impl FnOnce(&mut gantry_sim::modes::Modes)) {
        let mut modes = (*self.core().modes()).clone();
        change(&mut modes);
        self.core().set_modes(modes);
    }

    pub(crate) fn guest(&self) -> GuestRecord {
        self.core().world().guests.get(VM).cloned().unwrap_or_default()
    }

    pub(crate) fn tower_state(&self) -> Tower {
        self.core().world().towers.get(VM).cloned().unwrap_or_default()
    }

    pub(crate) async fn run(&mut self, step: &dyn Step) -> Result<(), StepError> {
        self.cx.step = step.info().id;
        step.run(&self.cx, &mut self.facts).await
    }

    pub(crate) async fn run_all(&mut self) -> Result<(), StepError> {
        for step in [&Install as &dyn Step, &VerifyHttps, &InitialSetup, &ConfigureServices, &Finish] {
            self.run(step).await?;
        }
        Ok(())
    }

    /// Runs a step that must fail for good, and gives its failure.
    pub(crate) async fn fail(&mut self, step: &dyn Step) -> Failure {
        match self.run(step).await {
            Err(StepError::Permanent(failure)) => *failure,
            other => panic!("expected a permanent failure, got {other:?}"),
        }
    }

    /// The agent starts again: clients, token and connection are gone, facts and files stay.
    pub(crate) fn restart(&mut self) {
        let StepCx { job, plan, settings, secrets, .. } = self.cx.clone();
        self.cx = step_cx(job, (*plan).clone(), (*settings).clone(), (*secrets).clone());
    }

    /// Codes of all notes, in order.
    pub(crate) fn codes(&self) -> Vec<String> {
        let lines = self.stage_log();
        lines.iter().filter_map(|line| line.pointer("/extra/code")?.as_str().map(str::to_owned)).collect()
    }

    pub(crate) fn has(&self, code: &str) -> bool {
        self.codes().iter().any(|known| known == code)
    }

    pub(crate) fn stage_log(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.job_dir().join("logs/stage_deploy_cloudtower.log")).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Our own copy of the installer's log, complete.
    pub(crate) async fn local_log(&self) -> String {
        self.cx.log.finish().await.unwrap();
        let name = self.facts.installer.as_ref().unwrap().local_log.clone().unwrap();
        String::from_utf8(std::fs::read(self.job_dir().join("logs").join(name)).unwrap()).unwrap()
    }

    /// The log as it lies in the guest.
    pub(crate) async fn guest_log(&self) -> String {
        let known = self.guest().host_key;
        let guest =
            gantry_agent::guest::Guest::new(&self.cx.plan, &self.cx.secrets, &self.cx.settings, &Redactor::new());
        let greeting = guest.greet(known.as_deref(), PATIENCE).await.unwrap();
        guest.login(greeting, "cloudtower").await.unwrap();
        let command = gantry_agent::guest::scripts::read_log("/home/cloudtower/installer.out", 0, 64 << 20);
        guest.run(&command).await.unwrap().stdout.text()
    }

    pub(crate) fn job_dir(&self) -> PathBuf {
        self.dir.path().join("jobs").join(self.cx.job.to_string())
    }

    /// Everything that the agent has written.
    pub(crate) fn written(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let mut files = Vec::new();
        let mut todo = vec![self.dir.path().to_owned()];
        while let Some(dir) = todo.pop() {
            for entry in std::fs::read_dir(dir).unwrap().flatten() {
                match entry.file_type().unwrap().is_dir() {
                    true => todo.push(entry.path()),
                    false => files.push((entry.path(), std::fs::read(entry.path()).unwrap())),
                }
            }
        }
        files
    }

    /// No secret in any file that the agent has written, and none on a command line of the guest.
    pub(crate) fn assert_no_secret(&self) {
        for secret in [SSH_PASSWORD, ROOT_PASSWORD, ENCODED, "canary-fisheye"] {
            for (path, bytes) in self.written() {
                assert!(!contains(&bytes, secret.as_bytes()), "{secret} in {}", path.display());
            }
            let commands = self.core().transcript.filter(|entry| entry.path.contains(secret));
            assert!(commands.is_empty(), "{secret} on a command line: {commands:?}");
        }
        let marked = self.core().transcript.commands(gantry_sim::transcript::REDACTED);
        assert!(marked.is_empty(), "a password on a command line: {marked:?}");
    }

    /// Waits until a condition holds.
    pub(crate) async fn until(&self, what: &str, mut holds: impl FnMut() -> bool) {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while !holds() {
            assert!(tokio::time::Instant::now() < deadline, "waited in vain until {what}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

pub(crate) fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

pub(crate) fn step_cx(job: JobId, plan: Plan, settings: Settings, secrets: Secrets) -> StepCx {
    let redactor = Redactor::new();
    redactor.register_all(&secrets);
    let log = JobLog::open(&settings, job, &redactor).unwrap();
    let outside = Outside::new(&plan, &secrets, &settings, &redactor);
    StepCx {
        job,
        step: "none".into(),
        plan: Arc::new(plan),
        secrets: Arc::new(secrets),
        settings: Arc::new(settings),
        redactor,
        outside: Arc::new(outside),
        log: Arc::new(log),
        cancel: CancellationToken::new(),
    }
}

pub(crate) fn secrets() -> Secrets {
    Secrets {
        root_password: Secret::new(ROOT_PASSWORD),
        fisheye_password: Secret::new("canary-fisheye"),
        ssh_password: Secret::new(SSH_PASSWORD),
        root_password_encoded: None,
    }
}

/// The simulator's time scale; limits are so long that only a test that shortens them meets one.
fn settings(dir: &TempDir, sim: &Sim) -> Settings {
    let mut settings = Settings { data_dir: dir.path().to_owned(), ..Settings::default() };
    settings.guest.ssh_port = sim.ssh_port();
    settings.cloudtower.port = sim.tower_port();
    let timing = &mut settings.timing;
    timing.time_scale = SCALE;
    timing.ssh_limit_s = 6_000.0;
    timing.ssh_reconnect_limit_s = 6_000.0;
    timing.preinstall_limit_s = 6_000.0;
    timing.installer_limit_s = 12_000.0;
    timing.installer_warn_s = 11_000.0;
    timing.ready_limit_s = 6_000.0;
    timing.poll_failures = 100;
    settings
}

pub(crate) fn plan(ip: Ipv4Addr) -> Plan {
    let network = |row: u32| {
        json!({
            "row": row, "vds": "VDS-1", "network": "default", "vlan_id": 0, "vlan_type": "Access",
            "subnet": "127.0.0.0/8", "netmask": "255.0.0.0", "gateway": "127.0.0.1",
        })
    };
    serde_json::from_value(json!({
        "cloudtower": {
            "ip": ip, "vm_name": "cloudtower", "version": null, "web_user": "root", "ssh_user": "cloudtower",
            "serial": null, "sizing_text": null,
        },
        "organization": "Example Org", "datacenter": "DC-1", "ntp_servers": ["192.0.2.2", "ntp.example.net"],
        "dns_servers": ["192.0.2.53", "192.0.2.54"],
        "management_network": network(5), "default_management_network": network(4), "storage_subnet": null,
        "cluster": {
            "name": "c", "vip": "127.0.0.1", "admin_user": "root", "serial": null, "function": null,
            "storage_architecture": null, "network_architecture": null, "software_version_text": null,
        },
        "hosts": [], "other_components": {"obs_ip": null, "backup_ip": null}, "temporary_range": null,
        "deployment": {
            "vm": {"vcpu": 8, "memory_bytes": 1, "disk_bytes": 1}, "storage_policy": "default", "target_host": null,
            "iso": {"file_name": null, "sha256": null, "md5": null},
            "upload": {
                "device": "nfs", "task_id": "2", "description": "", "chunk_size_fallback": 1,
                "extra_volume_params": {}, "extra_image_query_params": {},
            },
            "vm_description": "", "require_guest_tools_in_iso": true, "ntp_failure_is_warning": false,
            "rollback_policy": "auto",
        },
        "sources": {},
    }))
    .unwrap()
}
