//! A simulated cluster, an ISO on the agent's disk, and a job against them: what the tests of Fisheye's client and of
//! the cluster's steps share.

use std::{
    net::Ipv4Addr,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
};

use gantry_agent::{
    config::Settings,
    diff::Diff,
    executor::{self, Ended, Job},
    facts::Facts,
    joblog::{JobLog, Wake},
    journal::{Disk, Journal, OsDisk},
    outside::Outside,
    pipeline::Pipeline,
    step::{Step, StepCx, StepError},
    steps::{
        configure_network::ConfigureNetwork, create_vm::CreateVm, preflight::Preflight, upload_iso::UploadIso,
        wait_guest_agent::WaitGuestAgent,
    },
};
use gantry_proto::{
    AgentId, Body, Event, Failure, JobId, JobOutcome, JobView, Plan, Redactor, Secret, Secrets, StepInfo,
};
use gantry_sim::{
    Core, Sim, SimOptions,
    cloudtower::Tower,
    fault::{Action, Fault, Match, When},
    guest::GuestRecord,
    iso::Iso,
    options::Storage,
    transcript::Entry,
    world::GuestEvent,
};
use sha2::{Digest as _, Sha256};
use tokio_util::sync::CancellationToken;

use crate::{
    bench,
    inside::{self, MAC, VM},
};

/// Bytes of a chunk in the tests.
pub(crate) const CHUNK: u64 = 64 << 10;
/// Chunks of the tests' ISO; the last one has a single byte.
pub(crate) const CHUNKS: u64 = 5;
/// Virtual seconds in one real second, for the cluster and for the agent's waits.
pub(crate) const SCALE: f64 = 1000.0;
pub(crate) const ISO_NAME: &str = "cloudtower-v4.6.2.oe2003.x86_64.iso";

/// Only the upload.
pub(crate) const UPLOAD: Pipeline = &[&Preflight, &UploadIso];
/// Up to the VM.
pub(crate) const CREATE: Pipeline = &[&Preflight, &UploadIso, &CreateVm];
/// Everything that the cluster does.
pub(crate) const CLUSTER: Pipeline = &[&Preflight, &UploadIso, &CreateVm, &WaitGuestAgent, &ConfigureNetwork];

/// The step after which everything is to be undone.
pub(crate) struct Refuses;

#[async_trait::async_trait]
impl Step for Refuses {
    fn info(&self) -> StepInfo {
        StepInfo { id: "refuses".into(), title: "Refuses".to_owned(), weight: 1, attempts: 1 }
    }

    async fn run(&self, _cx: &StepCx, _facts: &mut Facts) -> Result<(), StepError> {
        Err(StepError::Permanent(bench::failure("refused")))
    }

    async fn survey(&self, _cx: &StepCx, _facts: &mut Facts, _diff: &mut Diff) -> Result<(), StepError> {
        Ok(())
    }
}

/// A cluster and an agent's directory.
pub(crate) struct Site {
    pub(crate) sim: Sim,
    _dir: tempfile::TempDir,
    pub(crate) plan: Plan,
    pub(crate) settings: Settings,
    pub(crate) id: JobId,
    pub(crate) keep: bool,
    pub(crate) password: String,
    /// The operator has given the encoded default password, which P3 needs.
    pub(crate) encoded: bool,
}

/// What a run has left.
pub(crate) struct Ran {
    pub(crate) ended: Ended,
    pub(crate) events: Vec<Event>,
    pub(crate) view: JobView,
    pub(crate) facts: Facts,
}

/// Handles on a job at work.
pub(crate) struct Strings {
    pub(crate) cancel: CancellationToken,
    pub(crate) stop: CancellationToken,
    pub(crate) log: Arc<JobLog>,
}

impl Site {
    pub(crate) async fn new() -> Self {
        Self::with(|_| {}).await
    }

    /// A cluster with changed options; an ISO with guest tools of four chunks and one byte.
    pub(crate) async fn with(change: impl FnOnce(&mut SimOptions)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut options = SimOptions { time_scale: SCALE, chunk_size: CHUNK, ..SimOptions::default() };
        options.storage = Storage::Spool { directory: dir.path().join("spool") };
        options.latencies.factor = 0.1;
        let times = &mut options.guest_times;
        (times.installing_os_s, times.first_boot_s, times.tools_install_s) = (60, 30, 30);
        change(&mut options);
        let sim = Sim::start(options).await.unwrap();
        let mut settings = bench::settings(&dir.path().join("agent"));
        settings.timing.time_scale = SCALE;
        settings.iso.min_bytes = 1;
        settings.iso.piece_bytes = 10_000;
        // One by one, so that it can be foreseen which chunk comes when; `wide.rs` has the others.
        settings.upload.in_flight = 1;
        settings.fisheye.port = sim.fisheye_port();
        settings.fisheye.stall_timeout_ms = 300;
        settings.fisheye.request_timeout_ms = 1_500;
        settings.fisheye.max_response_bytes = 16 << 20;
        settings.guest.ssh_port = sim.ssh_port();
        settings.cloudtower.port = sim.tower_port();
        settings.precheck.host_ports = vec![sim.fisheye_port()];
        settings.precheck.ping = false;
        std::fs::create_dir_all(&settings.iso_dir).unwrap();
        let site = Self {
            plan: plan(sim.core()),
            password: sim.core().options.fisheye.password.clone(),
            sim,
            _dir: dir,
            settings,
            id: JobId::new(),
            keep: false,
            encoded: false,
        };
        Iso::new((CHUNKS - 1) * CHUNK + 1).seed(7).write(&site.iso()).unwrap();
        site
    }

    /// A cluster whose VM installs itself quickly, and settings with limits that only a test that shortens them meets.
    pub(crate) async fn quick(change: impl FnOnce(&mut SimOptions)) -> Self {
        let mut site = Self::with(|options| {
            options.latencies.factor = 0.0;
            options.guest.accounts[0].password = inside::SSH_PASSWORD.to_owned();
            options.guest.preinstall_s = 2;
            options.guest.installer_s = 40;
            options.guest.first_line_s = Some(1);
            options.guest.log_lines = 60;
            options.guest.lines_after_success = Some(5);
            options.tower.opens_after_success_s = 2;
            (options.tower.bad_gateway_s, options.tower.unavailable_s) = (0, 0);
            (options.tower.change_ms, options.tower.read_ms) = ([0, 0], [0, 0]);
            change(options);
        })
        .await;
        let timing = &mut site.settings.timing;
        timing.ssh_limit_s = 60_000.0;
        timing.ssh_reconnect_limit_s = 60_000.0;
        timing.preinstall_limit_s = 60_000.0;
        timing.installer_limit_s = 60_000.0;
        timing.installer_warn_s = 59_000.0;
        timing.ready_limit_s = 60_000.0;
        timing.poll_failures = 100;
        site
    }

    /// A VM that has its address, without a cluster's word, and a job that has come so far; CloudTower is in it already
    /// when `installed`.
    pub(crate) async fn inside(pipeline: Pipeline, installed: bool) -> Self {
        Self::inside_of(pipeline, installed, |_| {}).await
    }

    /// The same in a world with changes.
    pub(crate) async fn inside_of(pipeline: Pipeline, installed: bool, change: impl FnOnce(&mut SimOptions)) -> Self {
        let mut site = Self::quick(|options| {
            options.external_guest = installed;
            change(options);
        })
        .await;
        // Where everything is installed there is no VM behind it that could be asked.
        site.settings.cloudtower.confirm_over_ssh = !installed;
        if !installed {
            site.plan.dns_servers = vec!["192.0.2.53".parse().unwrap()];
        }
        let ssh_opens_at = site.core().clock.elapsed();
        site.core().world().tell_guest(GuestEvent::AddressUp {
            vm_uuid: VM.to_owned(),
            ip: site.plan.cloudtower.ip.into(),
            mac: MAC.to_owned(),
            vcpu: 8,
            memory: 19 << 30,
            disk: 400 << 30,
            ssh_opens_at,
        });
        if installed {
            site.core().world().tell_guest(GuestEvent::Installed { vm_uuid: VM.to_owned() });
        }
        let (journal, _) = Journal::open(&site.job_dir()).unwrap();
        journal.start(bench::start_record(1)).unwrap();
        let steps = pipeline.iter().map(|step| step.info()).collect();
        let agent = "a1".parse().unwrap();
        journal
            .event(Body::JobStarted { agent, agent_version: "1".to_owned(), steps, kept: Vec::new(), taken_over: None })
            .unwrap();
        let vm = serde_json::json!({"name": "cloudtower", "uuid": VM, "mac": MAC, "network_done": true});
        journal.event(Body::Fact { step: "create-vm".into(), key: "vm".to_owned(), value: Some(vm) }).unwrap();
        site
    }

    /// The inside of the VM of [`Site::inside`].
    pub(crate) fn guest(&self) -> GuestRecord {
        self.core().world().guests.get(VM).cloned().unwrap_or_default()
    }

    /// Its CloudTower.
    pub(crate) fn tower(&self) -> Tower {
        self.core().world().towers.get(VM).cloned().unwrap_or_default()
    }

    pub(crate) fn core(&self) -> &Core {
        self.sim.core()
    }

    pub(crate) fn iso(&self) -> PathBuf {
        self.settings.iso_dir.join(ISO_NAME)
    }

    pub(crate) fn arm(&self, fault: Fault) {
        assert!(self.core().faults.arm(fault));
    }

    pub(crate) fn modes(&self, patch: serde_json::Value) {
        self.core().patch_modes(&patch).unwrap();
    }

    pub(crate) fn secrets(&self) -> Secrets {
        let root_password_encoded = self.encoded.then(|| Secret::new(inside::ENCODED));
        Secrets { fisheye_password: Secret::new(self.password.clone()), root_password_encoded, ..inside::secrets() }
    }

    pub(crate) fn client(&self) -> gantry_agent::fisheye::Client {
        gantry_agent::fisheye::Client::new(&self.plan, &self.secrets(), &self.settings, &Redactor::new())
    }

    pub(crate) fn job_dir(&self) -> PathBuf {
        self.settings.data_dir.join("jobs").join(self.id.to_string())
    }

    /// The job, ready to go on, as after a start of the agent.
    pub(crate) fn take_up(&self) -> (Job, Strings) {
        self.take_up_on(Arc::new(OsDisk))
    }

    fn take_up_on(&self, disk: Arc<dyn Disk>) -> (Job, Strings) {
        let (journal, mut folded) = Journal::open_on(&self.job_dir(), disk).unwrap();
        if folded.start.is_none() {
            journal.start(bench::start_record(1)).unwrap();
            folded.start = Some(bench::start_record(1));
        }
        let stop = CancellationToken::new();
        let cancel = stop.child_token();
        let settings = Arc::new(self.settings.clone());
        let redactor = Redactor::new();
        redactor.register_all(&self.secrets());
        let log = JobLog::new(&settings, self.id, &redactor, journal, &folded, Wake::default(), stop.clone());
        let log = Arc::new(log);
        let job = Job {
            id: self.id,
            agent: "a1".parse::<AgentId>().unwrap(),
            plan: Arc::new(self.plan.clone()),
            secrets: Arc::new(self.secrets()),
            outside: Arc::new(Outside::new(&self.plan, &self.secrets(), &settings, &redactor)),
            settings,
            redactor,
            log: log.clone(),
            keep_on_failure: self.keep,
            kept: Vec::new(),
            undo_only: folded.start.as_ref().is_some_and(|start| start.undo_only),
            taken_over: folded.start.as_ref().and_then(|start| start.taken_over()),
            trace: Default::default(),
            cancel: cancel.clone(),
            stop: stop.clone(),
            view: folded.view,
        };
        (job, Strings { cancel, stop, log })
    }

    pub(crate) async fn run(&self, pipeline: Pipeline) -> Ran {
        self.run_with(pipeline, |_| std::future::pending()).await
    }

    /// Runs the job, and beside it what the test does to it.
    pub(crate) async fn run_with<F: Future<Output = ()>>(
        &self,
        pipeline: Pipeline,
        beside: impl FnOnce(Strings) -> F,
    ) -> Ran {
        let (job, strings) = self.take_up();
        let log = strings.log.clone();
        let (run, beside) = (executor::execute(job, pipeline), beside(strings));
        tokio::pin!(run, beside);
        let ended = tokio::select! {
            ended = &mut run => ended,
            () = &mut beside => run.await,
        };
        log.finish().await.unwrap();
        drop(log);
        self.ran(ended).await
    }

    /// Runs the job with its journal on this disk, as an agent that may die of it.
    pub(crate) async fn run_on(&self, pipeline: Pipeline, disk: Arc<dyn Disk>) -> Ended {
        let (job, strings) = self.take_up_on(disk);
        let ended = executor::execute(job, pipeline).await;
        // On a dead disk this fails, too.
        let _ = strings.log.finish().await;
        ended
    }

    /// What the journal holds, whoever has written it.
    pub(crate) async fn told(&self) -> Ran {
        self.ran(Ended::Stopped).await
    }

    /// What the journal says that the job found or made.
    pub(crate) async fn run_facts(&self) -> Facts {
        self.ran(Ended::Stopped).await.facts
    }

    async fn ran(&self, ended: Ended) -> Ran {
        let (journal, _) = Journal::open(&self.job_dir()).unwrap();
        let mut reader = journal.events_after(0);
        let mut events = Vec::new();
        loop {
            let page = reader.page(500, 1 << 20).await.unwrap();
            if page.is_empty() {
                break;
            }
            events.extend(page);
        }
        let view = JobView::of(&events);
        let facts = serde_json::to_value(&view.facts).and_then(serde_json::from_value).unwrap();
        Ran { ended, events, view, facts }
    }

    /// Calls of a method on a path.
    pub(crate) fn calls(&self, method: &str, path: &str) -> Vec<Entry> {
        self.core().transcript.calls(method, path)
    }

    pub(crate) fn logins(&self) -> usize {
        self.calls("POST", "/api/v3/sessions").len()
    }

    pub(crate) fn chunk_calls(&self) -> Vec<u64> {
        self.calls("POST", "/api/v2/images/upload").iter().filter_map(|entry| entry.chunk).collect()
    }

    pub(crate) fn fired(&self, fault: &str) -> u64 {
        self.core().faults.fired(fault)
    }

    /// Images that this run has made, as (uuid, complete).
    pub(crate) fn images(&self) -> Vec<(String, bool)> {
        let world = self.core().world();
        world.images.values().filter(|image| !image.foreign).map(|i| (i.uuid.clone(), i.is_complete())).collect()
    }

    /// VMs that this run has made, as far as the cluster shows them.
    pub(crate) fn vms(&self) -> usize {
        let world = self.core().world();
        world.vms.values().filter(|vm| vm.visible && !world.baseline.vms.contains_key(&vm.uuid)).count()
    }

    /// What is on the cluster is byte for byte the ISO.
    pub(crate) fn assert_content(&self) {
        let sha256: String =
            Sha256::digest(std::fs::read(self.iso()).unwrap()).iter().map(|b| format!("{b:02x}")).collect();
        let world = self.core().world();
        let complete: Vec<_> = world.images.values().filter(|image| !image.foreign && image.is_complete()).collect();
        assert_eq!(complete.len(), 1);
        assert_eq!(complete[0].sha256.as_deref(), Some(sha256.as_str()));
    }

    /// The world is as the invariants want it.
    pub(crate) fn assert_invariants(&self) {
        let violations = gantry_sim::invariants::violations(self.core());
        assert!(violations.is_empty(), "{violations:#?}");
    }
}

impl Ran {
    pub(crate) fn succeeded(&self) {
        assert!(
            matches!(self.ended, Ended::Finished(JobOutcome::Succeeded)),
            "{:?} {:#?}",
            self.ended,
            self.view.failure
        );
    }

    /// The failure of a job that failed.
    pub(crate) fn failure(&self) -> Failure {
        assert!(matches!(self.ended, Ended::Finished(JobOutcome::Failed)), "{:?}", self.ended);
        self.view.failure.clone().unwrap()
    }

    pub(crate) fn code(&self) -> String {
        self.failure().code
    }

    /// Notes with this code.
    pub(crate) fn notes(&self, wanted: &str) -> Vec<String> {
        let note = |event: &Event| match &event.body {
            Body::Note { code, message, .. } if code == wanted => Some(message.clone()),
            _ => None,
        };
        self.events.iter().filter_map(note).collect()
    }

    /// The check's results, in order.
    pub(crate) fn checks(&self, wanted: &str) -> Vec<String> {
        let result = |event: &Event| match &event.body {
            Body::Note { code, extra, .. } if code == "check" && extra["check"] == wanted => {
                extra["result"].as_str().map(str::to_owned)
            }
            _ => None,
        };
        self.events.iter().filter_map(result).collect()
    }
}

/// A fault of the cluster.
pub(crate) fn fault(id: &str, matches: Match, when: When, action: Action) -> Fault {
    Fault { when, ..Fault::new(id, matches, action) }
}

/// A plan for this cluster and for a CloudTower address that no other test uses.
fn plan(core: &Core) -> Plan {
    // Every test is a process of its own under nextest: its number makes the address its own, and a count those of
    // several sites in one test.
    static SITES: AtomicU8 = AtomicU8::new(0);
    let [_, a, b, c] = std::process::id().to_be_bytes();
    let own = match SITES.fetch_add(1, Ordering::Relaxed) % 64 {
        0 => 128 + a % 64,
        more => 191 + more,
    };
    let mut plan = bench::plan(&Ipv4Addr::new(127, own, b, c.clamp(1, 254)).to_string());
    let v4 = |ip: std::net::IpAddr| ip.to_string().parse::<Ipv4Addr>().unwrap();
    plan.cluster.vip = Some(v4(core.options.vip));
    let host = |(row, node): (usize, &gantry_sim::options::Node)| {
        serde_json::from_value(serde_json::json!({
            "row": row + 3, "hostname": null, "mgmt_ip": node.management, "storage_ip": node.storage, "bmc_ip": null,
            "bmc_user": null, "ssh_user": null,
        }))
        .unwrap()
    };
    plan.hosts = core.options.nodes.iter().enumerate().map(host).collect();
    plan.management_network.vds = "vDS-MgMt-Network".to_owned();
    plan.management_network.subnet = "127.0.0.0/8".to_owned();
    plan.management_network.netmask = Ipv4Addr::new(255, 0, 0, 0);
    plan.management_network.gateway = Ipv4Addr::new(127, 0, 0, 1);
    plan.deployment.vm.memory_bytes = 19 << 30;
    plan.deployment.vm.disk_bytes = 400 << 30;
    plan.deployment.upload.chunk_size_fallback = CHUNK;
    plan.deployment.vm_description = "CloudTower VM".to_owned();
    plan
}
