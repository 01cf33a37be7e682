//! What the tests share: a plan, secrets, an agent's directory, and steps that do as they are told.

use std::{
    path::Path,
    sync::{Arc, Mutex},
};

use gantry_agent::{
    config::Settings,
    diff::Diff,
    executor::{self, Ended, Job},
    facts::{Facts, ImageFact, ImageState, VmFact},
    joblog::{JobLog, Wake},
    journal::{CancelRecord, Journal, SealedText, StartRecord, hex},
    outside::Outside,
    pipeline::Pipeline,
    step::{Step, StepCx, StepError},
};
use gantry_proto::{
    AgentId, Body, Event, Failure, JobId, JobView, Plan, Redactor, Secret, Secrets, StepInfo, event::Leftover,
};
use jiff::Timestamp;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// A plan for the CloudTower of this address.
pub(crate) fn plan(ip: &str) -> Plan {
    let network = |row: u32| {
        serde_json::json!({
            "row": row, "vds": "VDS-1", "network": "default", "vlan_id": 0, "vlan_type": "Access",
            "subnet": "192.0.2.0/24", "netmask": "255.255.255.0", "gateway": "192.0.2.1",
        })
    };
    serde_json::from_value(serde_json::json!({
        "cloudtower": {
            "ip": ip, "vm_name": "cloudtower", "version": null, "web_user": "root", "ssh_user": "cloudtower",
            "serial": null, "sizing_text": null,
        },
        "organization": "Example Org", "datacenter": "DC-1", "ntp_servers": ["192.0.2.2"], "dns_servers": [],
        "management_network": network(5), "default_management_network": network(4), "storage_subnet": null,
        "cluster": {
            "name": "c", "vip": "192.0.2.10", "admin_user": "root", "serial": null, "function": null,
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

/// Secrets that must never be seen again.
pub(crate) fn secrets() -> Secrets {
    Secrets {
        root_password: Secret::new("canary-root-password"),
        fisheye_password: Secret::new("canary-fisheye-password"),
        ssh_password: Secret::new("canary-ssh-password"),
        root_password_encoded: None,
    }
}

/// Settings for an agent in this directory, with all waits a thousand times shorter.
pub(crate) fn settings(dir: &Path) -> Settings {
    let mut settings = Settings { data_dir: dir.to_owned(), iso_dir: dir.join("iso"), ..Settings::default() };
    // The addresses of the plans are those kept for documentation; the simulator's are loopback.
    settings.allow = ["192.0.2.0/24", "127.0.0.0/8"].map(|range| range.parse().unwrap()).to_vec();
    settings.timing.time_scale = 1_000.0;
    settings.timing.progress_every_s = 0.0;
    settings.link.retry_first_ms = 10;
    settings.link.retry_cap_ms = 50;
    settings.link.sample_every_ms = 10;
    settings.link.refused_again_ms = 10;
    settings
}

pub(crate) fn start_record(epoch: u32) -> StartRecord {
    let document = plan("192.0.2.20").to_document().unwrap();
    StartRecord {
        order: 1,
        epoch,
        at: Timestamp::now(),
        schema: document.schema,
        plan: String::from_utf8(document.json).unwrap(),
        sha256: hex(&document.sha256),
        sealed: SealedText::default(),
        keep_on_failure: false,
        submitted_by: "op".into(),
        trace: Default::default(),
        kept: Vec::new(),
        undo_only: false,
        carried: None,
    }
}

pub(crate) fn failure(code: &str) -> Box<Failure> {
    Box::new(Failure { code: code.into(), message: format!("it failed: {code}"), ..Failure::default() })
}

/// How an attempt of a made-up step ends.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Act {
    Succeed,
    Again,
    Permanent,
    HandsOff,
    /// It asks an operator.
    Asks,
    /// With details of this many bytes.
    HandsOffWith(usize),
    Panic,
    /// Waits until it is cancelled.
    Hang,
}

/// How the undo of a made-up step ends.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Undo {
    Removes,
    Nothing,
    Fails,
    Panics,
    /// Waits until its token is cancelled.
    Hangs,
    LeavesOver,
}

/// What the made-up steps of one table did, in order: `run a`, `undo a`.
pub(crate) type Diary = Arc<Mutex<Vec<String>>>;

/// A step that does as it is told.
pub(crate) struct Fake {
    pub(crate) id: &'static str,
    pub(crate) attempts: u32,
    /// One for each attempt; the last one repeats.
    pub(crate) acts: Mutex<Vec<Act>>,
    pub(crate) undo: Mutex<Undo>,
    pub(crate) diary: Diary,
    /// Told when a hanging attempt or undo has begun.
    pub(crate) hanging: Arc<Notify>,
}

#[async_trait::async_trait]
impl Step for Fake {
    fn info(&self) -> StepInfo {
        StepInfo { id: self.id.into(), title: self.id.to_uppercase(), weight: 1, attempts: self.attempts }
    }

    async fn run(&self, cx: &StepCx, facts: &mut Facts) -> Result<(), StepError> {
        self.diary.lock().unwrap().push(format!("run {}", self.id));
        cx.check()?;
        let intent = cx.intend("make", Default::default()).await?;
        facts.timings.insert(self.id.into(), 1.0);
        cx.save(facts).await?;
        cx.outcome(intent, gantry_proto::event::IntentResult::Done, Default::default()).await?;
        let act = {
            let mut acts = self.acts.lock().unwrap();
            if acts.len() > 1 { acts.remove(0) } else { acts[0] }
        };
        match act {
            Act::Succeed => Ok(()),
            Act::Again => Err(StepError::Again(failure("again"))),
            Act::Permanent => Err(StepError::Permanent(failure("permanent"))),
            Act::HandsOff => Err(StepError::HandsOff(failure("foreign"))),
            Act::Asks => Err(StepError::Undecided(failure("doubt"))),
            Act::HandsOffWith(bytes) => {
                let mut failure = failure("foreign");
                failure.detail.insert("seen".to_owned(), "x".repeat(bytes).into());
                Err(StepError::HandsOff(failure))
            }
            Act::Panic => panic!("canary-root-password in a panic"),
            Act::Hang => {
                self.hanging.notify_one();
                cx.cancel.cancelled().await;
                Err(cx.check().expect_err("the token is cancelled"))
            }
        }
    }

    async fn survey(&self, _cx: &StepCx, _facts: &mut Facts, _diff: &mut Diff) -> Result<(), StepError> {
        Ok(())
    }

    async fn undo(&self, cx: &StepCx, facts: &mut Facts) -> Result<Vec<String>, StepError> {
        self.diary.lock().unwrap().push(format!("undo {}", self.id));
        assert_eq!(
            cx.cancel.is_cancelled(),
            cx.log.no_waiting().is_cancelled(),
            "an undo does not see the first cancel"
        );
        let undo = *self.undo.lock().unwrap();
        match undo {
            Undo::Removes => {
                facts.timings.remove(self.id);
                Ok(vec![format!("{} is gone", self.id)])
            }
            Undo::Nothing => Ok(Vec::new()),
            Undo::Fails => Err(StepError::Permanent(failure("undo_failed"))),
            Undo::Panics => panic!("in the undo"),
            Undo::Hangs => {
                self.hanging.notify_one();
                cx.cancel.cancelled().await;
                Err(cx.check().expect_err("the token is cancelled"))
            }
            Undo::LeavesOver => {
                let left =
                    |kind: &str| Leftover { kind: kind.into(), id: "1".into(), name: "n".into(), remedy: "r".into() };
                facts.leftovers.push(left("volume"));
                Ok(Vec::new())
            }
        }
    }
}

/// Three steps `a`, `b`, `c` that succeed, and what they do.
pub(crate) struct Table {
    pub(crate) steps: Vec<&'static Fake>,
    pub(crate) pipeline: Pipeline,
    pub(crate) diary: Diary,
}

impl Table {
    pub(crate) fn new() -> Self {
        let diary = Diary::default();
        let fake = |id| -> &'static Fake {
            Box::leak(Box::new(Fake {
                id,
                attempts: 2,
                acts: Mutex::new(vec![Act::Succeed]),
                undo: Mutex::new(Undo::Removes),
                diary: diary.clone(),
                hanging: Arc::default(),
            }))
        };
        let steps: Vec<_> = ["a", "b", "c"].map(fake).to_vec();
        let table: Vec<&'static dyn Step> = steps.iter().map(|step| *step as &'static dyn Step).collect();
        Self { steps, pipeline: Box::leak(table.into_boxed_slice()), diary }
    }

    pub(crate) fn acts(&self, step: usize, acts: &[Act]) {
        *self.steps[step].acts.lock().unwrap() = acts.to_vec();
    }

    pub(crate) fn undo(&self, step: usize, undo: Undo) {
        *self.steps[step].undo.lock().unwrap() = undo;
    }

    pub(crate) fn diary(&self) -> Vec<String> {
        std::mem::take(&mut *self.diary.lock().unwrap())
    }
}

/// One job in a directory of its own, executed without runner and link.
pub(crate) struct Bench {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) id: JobId,
    pub(crate) redactor: Redactor,
    pub(crate) keep: bool,
    pub(crate) settings: Settings,
}

/// Handles on a job at work.
#[derive(Clone)]
pub(crate) struct Strings {
    pub(crate) cancel: CancellationToken,
    pub(crate) stop: CancellationToken,
    pub(crate) log: Arc<JobLog>,
}

impl Strings {
    /// As the runner does it.
    pub(crate) async fn cancel(&self, order: u64) {
        let record = CancelRecord { order, epoch: 1, by: "op".into(), reason: "because".into() };
        let write = record.clone();
        self.log.journal().on_disk(move |journal| journal.cancel(write)).await.unwrap();
        self.log.request_cancel(record);
        if self.log.journal().tail().started {
            self.log.tell_cancel().await.unwrap();
        }
        self.cancel.cancel();
    }
}

impl Bench {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (redactor, settings) = (Redactor::new(), settings(dir.path()));
        redactor.register_all(&secrets());
        Self { dir, id: JobId::new(), redactor, keep: false, settings }
    }

    pub(crate) fn job_dir(&self) -> std::path::PathBuf {
        self.dir.path().join("jobs").join(self.id.to_string())
    }

    /// A job that is ready to go on, as after a start of the agent.
    pub(crate) fn take_up(&self) -> (Job, Strings) {
        let (journal, mut folded) = Journal::open(&self.job_dir()).unwrap();
        if folded.start.is_none() {
            journal.start(start_record(1)).unwrap();
            folded.start = Some(start_record(1));
        }
        let stop = CancellationToken::new();
        let cancel = stop.child_token();
        let settings = Arc::new(self.settings.clone());
        let log = JobLog::new(&settings, self.id, &self.redactor, journal, &folded, Wake::default(), stop.clone());
        let log = Arc::new(log);
        if !folded.cancels.is_empty() {
            cancel.cancel();
        }
        let plan = plan("192.0.2.20");
        let outside = Outside::new(&plan, &secrets(), &settings, &self.redactor);
        let job = Job {
            id: self.id,
            agent: "a1".parse::<AgentId>().unwrap(),
            plan: Arc::new(plan),
            secrets: Arc::new(secrets()),
            settings,
            redactor: self.redactor.clone(),
            outside: Arc::new(outside),
            log: log.clone(),
            keep_on_failure: self.keep,
            kept: folded.start.as_ref().map(|start| start.kept.clone()).unwrap_or_default(),
            undo_only: folded.start.as_ref().is_some_and(|start| start.undo_only),
            taken_over: folded.start.as_ref().and_then(StartRecord::taken_over),
            trace: Default::default(),
            cancel: cancel.clone(),
            stop: stop.clone(),
            view: folded.view,
        };
        (job, Strings { cancel, stop, log })
    }

    pub(crate) async fn run(&self, pipeline: Pipeline) -> Ended {
        let (job, strings) = self.take_up();
        let ended = executor::execute(job, pipeline).await;
        strings.log.finish().await.unwrap();
        ended
    }

    pub(crate) async fn events(&self) -> Vec<Event> {
        let (journal, _) = Journal::open(&self.job_dir()).unwrap();
        let mut reader = journal.events_after(0);
        let mut all = Vec::new();
        loop {
            let page = reader.page(3, 1 << 20).await.unwrap();
            if page.is_empty() {
                return all;
            }
            all.extend(page);
        }
    }

    pub(crate) async fn view(&self) -> JobView {
        JobView::of(&self.events().await)
    }
}

/// Words for events, to compare whole logs.
pub(crate) fn words(events: &[Event]) -> Vec<String> {
    let word = |event: &Event| {
        Some(match &event.body {
            Body::JobStarted { .. } => "started".to_owned(),
            Body::StepStarted { step, attempt } => format!("{step} {attempt}"),
            Body::StepSucceeded { step, .. } => format!("{step} ok"),
            Body::StepFailed { step, failure, will_retry, .. } => {
                format!("{step} {}{}", failure.code, if *will_retry { " retry" } else { "" })
            }
            Body::CancelAccepted { by, .. } => format!("cancel {by}"),
            Body::Paused { by, .. } => format!("paused {by}"),
            Body::Resumed { by } => format!("resumed {by}"),
            Body::OperatorNeeded { step, failure, .. } => format!("asks {step} {}", failure.code),
            Body::OperatorDecided { choice, .. } => format!("decided {choice}"),
            Body::Surrendered { to, .. } => format!("surrendered to {to}"),
            Body::UndoStarted { step } => format!("undo {step}"),
            Body::UndoFinished { step, failure: None, .. } => format!("undone {step}"),
            Body::UndoFinished { step, failure: Some(failure), .. } => format!("undo {step} {}", failure.code),
            Body::JobFinished { outcome, undo, .. } => format!("finished {outcome:?} {undo:?}"),
            Body::Note { code, .. } => code.clone(),
            Body::Intent { .. } | Body::IntentOutcome { .. } | Body::Fact { .. } | Body::Unknown => return None,
        })
    };
    events.iter().filter_map(word).collect()
}

/// Facts of a job that made a VM and a complete image.
pub(crate) fn made(facts: &mut Facts) {
    facts.vm = Some(VmFact { name: "cloudtower".into(), uuid: Some("vm-1".into()), ..VmFact::default() });
    facts.image = Some(ImageFact { state: ImageState::Uploaded, image_uuid: "i".into(), ..ImageFact::default() });
}
