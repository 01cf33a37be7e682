//! The agent dies at a write of its journal, in every real step and in every undo, and is taken up again from what the
//! disk holds: one VM, one image, one installer, and nothing is done twice that was known to be done.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write as _},
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures_util::{StreamExt as _, stream};
use gantry_agent::{
    executor::Ended,
    facts::ImageState,
    iso::Identity,
    journal::{Disk, FILE_NAME, Journal, JournalError, Record, Sink, decode},
    pipeline::Pipeline,
    steps::{
        configure_services::ConfigureServices, create_vm::CreateVm, finish::Finish, initial_setup::InitialSetup,
        install::Install, preflight::Preflight, upload_iso::UploadIso, verify_https::VerifyHttps,
    },
};
use gantry_proto::{Body, JobOutcome, UndoState};
use gantry_sim::{
    fault::{Action, ChunkMatch, JobFault, Match, When},
    guest::Stage,
    iso::Iso,
};
use serde_json::json;

use crate::{
    attach, configure,
    site::{CHUNK, CHUNKS, CLUSTER, CREATE, Ran, Refuses, Site, UPLOAD, fault},
};

/// How much of the last line the disk takes.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Last {
    Nothing,
    Half,
    Whole,
}

/// Which writes count.
#[derive(Clone, Copy, Debug)]
enum During {
    /// Those of this step, acknowledged chunks included.
    Step(&'static str),
    /// Only acknowledged chunks.
    Chunks,
    /// Everything from the first undo on.
    Undo,
    All,
}

/// A disk that fails at the chosen write, and at every one after it. Remembers the writes that counted.
pub(crate) struct Dying {
    during: During,
    at: usize,
    last: Last,
    /// The power goes with it: what was not flushed is lost, too.
    power_cut: bool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    counted: Vec<Record>,
    undoing: bool,
    dead: bool,
}

struct DyingFile {
    disk: Arc<Dying>,
    file: File,
    flushed: u64,
}

impl Dying {
    fn at(during: During, at: usize, last: Last) -> Arc<Self> {
        Arc::new(Self { during, at, last, power_cut: false, state: Mutex::default() })
    }

    fn never(during: During) -> Arc<Self> {
        Self::at(during, usize::MAX, Last::Nothing)
    }

    fn power_cut(during: During, at: usize) -> Arc<Self> {
        Arc::new(Self { during, at, last: Last::Nothing, power_cut: true, state: Mutex::default() })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_dead(&self) -> bool {
        self.state().dead
    }
}

/// The disk as the journal takes it.
struct On(Arc<Dying>);

impl Disk for On {
    fn open(&self, path: &Path) -> io::Result<Box<dyn Sink>> {
        let file = OpenOptions::new().append(true).open(path)?;
        let flushed = file.metadata()?.len();
        Ok(Box::new(DyingFile { disk: self.0.clone(), file, flushed }))
    }
}

fn dead() -> io::Error {
    io::Error::other("the agent is dead")
}

impl Sink for DyingFile {
    fn append(&mut self, line: &[u8]) -> io::Result<()> {
        let disk = self.disk.clone();
        let mut state = disk.state();
        if state.dead {
            return Err(dead());
        }
        let record = decode(line).unwrap();
        state.undoing |= matches!(&record, Record::Event(event) if matches!(event.body, Body::UndoStarted { .. }));
        let counts = match (disk.during, &record) {
            (During::Step(id), Record::Event(event)) => event.body.step().is_some_and(|step| step.as_str() == id),
            (During::Step("upload-iso") | During::Chunks, Record::Chunk(_)) => true,
            (During::Undo, _) => state.undoing,
            (During::All, _) => true,
            _ => false,
        };
        if !counts {
            return self.file.write_all(line);
        }
        state.counted.push(record);
        if state.counted.len() <= disk.at {
            return self.file.write_all(line);
        }
        state.dead = true;
        let part = match disk.last {
            Last::Nothing => 0,
            Last::Half => line.len() / 2,
            Last::Whole => line.len(),
        };
        self.file.write_all(&line[..part])?;
        if disk.power_cut {
            self.file.set_len(self.flushed)?;
        }
        Err(dead())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.disk.is_dead() {
            return Err(dead());
        }
        self.flushed = self.file.metadata()?.len();
        Ok(())
    }

    fn cut(&mut self, _len: u64) -> io::Result<()> {
        Err(dead())
    }
}

/// Runs the job until it dies of the disk, then to its end. A run in which the chosen write never came has ended.
async fn die_and_go_on(site: &Site, pipeline: Pipeline, disk: Arc<Dying>) -> Ran {
    let ended = site.run_on(pipeline, Arc::new(On(disk.clone()))).await;
    match ended {
        Ended::Broken(_) => assert!(disk.is_dead(), "{ended:?}"),
        Ended::Finished(_) => {
            assert!(!disk.is_dead(), "{ended:?}");
            return Ran { ended, ..site.told().await };
        }
        Ended::Stopped => panic!("nobody has stopped it"),
    }
    site.run(pipeline).await
}

/// Rehearses a crash at every write of a kind: nothing or half of the line is there, and, where something follows it
/// outside of the journal, all of it.
async fn everywhere(
    pipeline: Pipeline,
    during: During,
    least: usize,
    site: impl AsyncFn() -> Site,
    check: impl Fn(&Site, &Ran, &str),
) {
    let (first, counted) = (site().await, Dying::never(during));
    let ran = die_and_go_on(&first, pipeline, counted.clone()).await;
    check(&first, &ran, "without a crash");
    let acted_upon = |record: &Record| match record {
        Record::Event(event) => matches!(event.body, Body::Intent { .. } | Body::Fact { .. }),
        _ => false,
    };
    let mut points = Vec::new();
    for (at, record) in counted.state().counted.iter().enumerate() {
        points.push((at, if at % 2 == 0 { Last::Nothing } else { Last::Half }));
        points.extend(acted_upon(record).then_some((at, Last::Whole)));
    }
    assert!(points.len() >= least, "{} writes are too few", points.len());
    let (site, check) = (&site, &check);
    let crashes = points.into_iter().map(async |(at, last)| {
        let site = site().await;
        let disk = Dying::at(during, at, last);
        let ran = die_and_go_on(&site, pipeline, disk.clone()).await;
        let record = disk.state().counted.last().cloned();
        check(&site, &ran, &format!("write {at}, {last:?}: {record:?}"));
        site.sim.stop().await;
    });
    stream::iter(crashes).buffer_unordered(3).collect::<Vec<()>>().await;
}

/// The job's log has no gap, one beginning and one end.
fn assert_one_job(ran: &Ran, what: &str) {
    assert!(ran.events.iter().zip(1..).all(|(event, seq)| event.seq == seq), "{what}");
    let count = |wanted: fn(&Body) -> bool| ran.events.iter().filter(|event| wanted(&event.body)).count();
    assert_eq!(count(|body| matches!(body, Body::JobFinished { .. })), 1, "{what}");
    assert_eq!(count(|body| matches!(body, Body::JobStarted { .. })), 1, "{what}");
}

fn assert_succeeded(ran: &Ran, what: &str) {
    let ended = matches!(ran.ended, Ended::Finished(JobOutcome::Succeeded));
    assert!(ended, "{what}: {:?} {:#?}", ran.ended, ran.view.failure);
    assert!(ran.facts.leftovers.is_empty(), "{what}: {:?}", ran.facts.leftovers);
    assert_one_job(ran, what);
}

/// No volume is on the agent's list of unfinished ones.
fn assert_none_unfinished(site: &Site, what: &str) {
    let list = std::fs::read_to_string(site.settings.data_dir.join("unfinished-volumes.json")).unwrap_or_default();
    assert!(list.is_empty() || list == "[]", "{what}: {list}");
}

// --- forward ---

#[tokio::test]
async fn in_the_pre_checks() {
    everywhere(&[&Preflight], During::Step("preflight"), 15, Site::new, |site, ran, what| {
        assert_succeeded(ran, what);
        assert!(ran.facts.iso.as_ref().is_some_and(|iso| iso.sha256.len() == 64), "{what}");
        assert_eq!((site.images().len(), site.vms()), (0, 0), "{what}");
    })
    .await;
}

#[tokio::test]
async fn in_the_upload() {
    everywhere(UPLOAD, During::Step("upload-iso"), 20, Site::new, |site, ran, what| {
        assert_succeeded(ran, what);
        site.assert_content();
        site.assert_invariants();
        assert_eq!(ran.facts.image.as_ref().map(|image| image.state), Some(ImageState::Uploaded), "{what}");
        assert_none_unfinished(site, what);
        let volumes = site.calls("POST", "/api/v2/images/upload/volume").len();
        // A second volume only where the first one's answer was lost, and then no chunk had been sent.
        assert!(volumes <= 2 && site.images().len() == 1, "{what}: {volumes}");
        let sent = site.chunk_calls().len();
        assert!(sent as u64 <= CHUNKS + 1, "{what}: {:?}", site.chunk_calls());
    })
    .await;
}

#[tokio::test]
async fn in_the_creation_of_the_vm() {
    everywhere(CREATE, During::Step("create-vm"), 15, Site::new, |site, ran, what| {
        assert_succeeded(ran, what);
        assert_eq!((site.vms(), site.images().len()), (1, 1), "{what}");
        assert_eq!(site.calls("POST", "/api/v2/vms").len(), 1, "{what}");
        assert_eq!(site.chunk_calls().len() as u64, CHUNKS, "{what}");
        site.assert_invariants();
    })
    .await;
}

#[tokio::test]
async fn in_the_wait_for_the_agent() {
    everywhere(CLUSTER, During::Step("wait-guest-agent"), 5, Site::new, assert_cluster_done).await;
}

#[tokio::test]
async fn in_the_start_of_a_vm_that_lost_its_power() {
    let off = async || {
        let site = Site::new().await;
        site.modes(json!({"power_off_during_install": 1}));
        site
    };
    everywhere(CLUSTER, During::Step("wait-guest-agent"), 8, off, assert_cluster_done).await;
}

#[tokio::test]
async fn in_the_configuration_of_the_network() {
    everywhere(CLUSTER, During::Step("configure-network"), 8, Site::new, assert_cluster_done).await;
}

fn assert_cluster_done(site: &Site, ran: &Ran, what: &str) {
    assert_succeeded(ran, what);
    assert_eq!((site.vms(), site.images().len()), (1, 1), "{what}");
    assert_eq!(site.calls("POST", "/api/v2/vms").len(), 1, "{what}");
    assert!(ran.facts.vm.as_ref().is_some_and(|vm| vm.network_done && vm.mac.is_some()), "{what}");
    site.assert_invariants();
}

#[tokio::test]
async fn in_the_installation() {
    const INSTALL: Pipeline = &[&Install];
    everywhere(
        INSTALL,
        During::Step("install"),
        20,
        async || Site::inside(INSTALL, false).await,
        |site, ran, what| {
            assert_succeeded(ran, what);
            let guest = site.guest();
            assert_eq!((guest.stage, guest.deploys, guest.refused_deploys), (Stage::Installed, 1, 0), "{what}");
            assert_eq!(guest.preinstalls, 1, "{what}");
            let installer = ran.facts.installer.clone().unwrap();
            assert!(installer.finished && installer.starts == 1 && installer.pid.is_some(), "{what}: {installer:?}");
            let log = site.job_dir().join("logs").join(installer.local_log.unwrap());
            let log = std::fs::read_to_string(log).unwrap();
            assert_eq!(log.matches(gantry_agent::guest::installer::SUCCESS).count(), 1, "{what}: {log}");
        },
    )
    .await;
}

#[tokio::test]
async fn in_the_wait_for_the_service() {
    crash_in_the_tower("verify-https", 3).await;
}

#[tokio::test]
async fn in_the_initial_setup() {
    crash_in_the_tower("initial-setup", 10).await;
}

#[tokio::test]
async fn in_the_configuration_of_the_services() {
    crash_in_the_tower("configure-services", 6).await;
}

#[tokio::test]
async fn in_the_end() {
    crash_in_the_tower("finish", 2).await;
}

async fn crash_in_the_tower(step: &'static str, least: usize) {
    const TOWER: Pipeline = &[&VerifyHttps, &InitialSetup, &ConfigureServices, &Finish];
    everywhere(
        TOWER,
        During::Step(step),
        least,
        async || Site::inside(TOWER, true).await,
        |site, ran, what| {
            assert_succeeded(ran, what);
            let tower = site.tower();
            let organizations: Vec<&str> = tower.organizations.iter().map(|found| found.name.as_str()).collect();
            assert_eq!((tower.users.len(), organizations), (1, vec!["Example Org"]), "{what}");
            assert_eq!(tower.ntp, ["192.0.2.2"], "{what}");
            assert!(ran.facts.ntp.as_ref().is_some_and(|ntp| ntp.applied), "{what}");
            assert!(ran.facts.license.is_some() && ran.facts.tower_pin.is_some(), "{what}");
        },
    )
    .await;
}

#[tokio::test]
async fn in_the_attaching() {
    let check = |site: &Site, ran: &Ran, what: &str| {
        assert_succeeded(ran, what);
        assert_eq!(attach::inside_tower(site), (vec![attach::vip(site)], 1), "{what}");
        site.assert_invariants();
    };
    everywhere(attach::ALL, During::Step("attach-cluster"), 8, attach::site, check).await;
}

#[tokio::test]
async fn in_the_undo_of_the_attaching() {
    let failing = async || {
        let mut site = attach::site().await;
        site.password = "wrong-password-1".to_owned();
        site
    };
    let check = |site: &Site, ran: &Ran, what: &str| {
        assert_eq!(
            (ran.code().as_str(), ran.view.undo),
            ("cluster_disconnected", Some(UndoState::RolledBack)),
            "{what}"
        );
        assert_eq!(attach::inside_tower(site), (Vec::new(), 0), "{what}");
        assert_eq!((site.tower().users.len(), site.tower().organizations.len()), (1, 1), "{what}");
    };
    everywhere(attach::ALL, During::Undo, 2, failing, check).await;
}

#[tokio::test]
async fn in_the_configuring() {
    let check = |site: &Site, ran: &Ran, _: &str| configure::assert_configured(site, ran);
    everywhere(configure::ALL, During::Step("cloudtower-config"), 8, configure::site, check).await;
}

#[tokio::test]
async fn in_the_undo_of_the_configuring() {
    let check = |site: &Site, ran: &Ran, _: &str| configure::assert_set_back(site, ran, JobOutcome::Failed);
    everywhere(configure::ALL, During::Undo, 2, configure::failing, check).await;
}

/// Dies again and again, a little later each time, until the job has ended. Says how it ended, and after how many lives.
async fn many_lives(site: &Site, pipeline: Pipeline) -> (Ran, usize) {
    for life in 1..100 {
        let last = [Last::Nothing, Last::Half, Last::Whole][life % 3];
        let ended = site.run_on(pipeline, Arc::new(On(Dying::at(During::All, 3 + life, last)))).await;
        match ended {
            Ended::Broken(_) => {}
            ended => return (Ran { ended, ..site.told().await }, life),
        }
    }
    panic!("it never came to its end");
}

#[tokio::test]
async fn again_and_again_on_the_way_and_on_the_way_back() {
    let site = Site::new().await;
    let (ran, lives) = many_lives(&site, CLUSTER).await;
    assert!(lives > 5, "{lives}");
    assert_cluster_done(&site, &ran, "");
    site.assert_content();
    let site = Site::new().await;
    let (ran, lives) = many_lives(&site, &[&Preflight, &UploadIso, &CreateVm, &Refuses]).await;
    assert!(lives > 5, "{lives}");
    assert_eq!((ran.code().as_str(), ran.view.undo), ("refused", Some(UndoState::RolledBack)));
    assert_one_job(&ran, "");
    assert_eq!((site.vms(), site.images().len(), ran.view.leftovers.len()), (0, 1, 0));
    site.assert_content();
    site.assert_invariants();
}

// --- undo ---

#[tokio::test]
async fn in_the_undo_of_the_vm() {
    const REFUSED: Pipeline = &[&Preflight, &UploadIso, &CreateVm, &Refuses];
    let neighbours = async || {
        Site::with(|options| {
            let vm = |name: &str| serde_json::from_value(json!({"name": name, "description": "ours"})).unwrap();
            options.vms = vec![vm("cloudtower-2"), vm("other")];
            options.images = vec![serde_json::from_value(json!({"name": "other.iso", "size": 5})).unwrap()];
        })
        .await
    };
    everywhere(REFUSED, During::Undo, 15, neighbours, |site, ran, what| {
        assert_eq!((ran.code().as_str(), ran.view.undo), ("refused", Some(UndoState::RolledBack)), "{what}");
        assert!(ran.view.leftovers.is_empty(), "{what}: {:?}", ran.view.leftovers);
        assert_one_job(ran, what);
        assert_eq!((site.vms(), site.images().len()), (0, 1), "{what}");
        site.assert_content();
        // Nothing foreign has changed.
        site.assert_invariants();
    })
    .await;
}

#[tokio::test]
async fn in_the_undo_of_an_upload() {
    let full = async || {
        let mut site = Site::new().await;
        site.settings.timing.chunk_retries = 1;
        site.arm(fault("chunk", Match::chunk(ChunkMatch::One(2)), When::Before, Action::status(500)));
        site
    };
    everywhere(UPLOAD, During::Undo, 15, full, |site, ran, what| {
        assert_eq!(ran.code(), "fisheye_unavailable", "{what}");
        assert_eq!(site.images(), [], "{what}");
        assert!(ran.view.leftovers.is_empty(), "{what}: {:?}", ran.view.leftovers);
        assert_one_job(ran, what);
        assert_none_unfinished(site, what);
        site.assert_invariants();
    })
    .await;
}

#[tokio::test]
async fn in_an_undo_that_cannot_remove_the_vm() {
    const REFUSED: Pipeline = &[&Preflight, &UploadIso, &CreateVm, &Refuses];
    let stubborn = async || {
        let mut site = Site::new().await;
        site.settings.timing.undo_attempts = 1;
        let fail = JobFault::Fail { code: "X".into(), message: String::new(), follower_first: false };
        site.arm(fault("job", Match::job("VM_DELETE"), When::Before, Action::Job(fail)));
        site
    };
    everywhere(REFUSED, During::Undo, 15, stubborn, |site, ran, what| {
        assert_eq!((ran.code().as_str(), ran.view.undo), ("refused", Some(UndoState::RollbackIncomplete)), "{what}");
        let [left] = ran.view.leftovers.as_slice() else { panic!("{what}: {:?}", ran.view.leftovers) };
        let vm = ran.facts.vm.clone().unwrap();
        assert_eq!((left.kind.as_str(), Some(&left.id)), ("vm", vm.uuid.as_ref()), "{what}");
        assert!(left.name == "cloudtower" && !left.remedy.is_empty(), "{what}: {left:?}");
        assert_eq!(site.vms(), 1, "{what}");
    })
    .await;
}

// --- bytes sent again ---

/// The readings of `to_upload` that an upload must come through (`fisheye.md` 6.2, R39).
const READINGS: [&str; 5] = ["remaining", "echo", "single_then_empty", "growing", "absent"];
/// Chunks of the larger ISO.
const MANY: u64 = 24;
/// Chunk records that the journal may hold back.
const UNFLUSHED: u64 = 16;

async fn large(mode: &str) -> Site {
    let site = Site::new().await;
    Iso::new((MANY - 1) * CHUNK + 1).seed(7).write(&site.iso()).unwrap();
    site.modes(json!({"to_upload": mode, "chunk_order": "ascending"}));
    site
}

fn sent(site: &Site) -> u64 {
    let size = std::fs::metadata(site.iso()).unwrap().len();
    let len = |chunk: u64| CHUNK.min(size - chunk * CHUNK);
    site.chunk_calls().into_iter().map(len).sum()
}

#[tokio::test]
async fn what_is_sent_again_after_a_crash_was_in_flight() {
    for mode in READINGS {
        let whole = large(mode).await;
        whole.run(UPLOAD).await.succeeded();
        let least = sent(&whole);
        for (disk, in_flight) in [
            (Dying::at(During::Chunks, 12, Last::Half), 1),
            (Dying::at(During::Chunks, 12, Last::Whole), 0),
            (Dying::at(During::Chunks, MANY as usize - 1, Last::Nothing), 1),
            (Dying::power_cut(During::Chunks, 15), UNFLUSHED),
        ] {
            let site = large(mode).await;
            let ran = die_and_go_on(&site, UPLOAD, disk.clone()).await;
            let what = format!("{mode}: chunk {}, {:?}, power cut: {}", disk.at, disk.last, disk.power_cut);
            assert!(disk.is_dead(), "{what}");
            ran.succeeded();
            site.assert_content();
            let again = sent(&site).saturating_sub(least);
            assert!(again <= in_flight * CHUNK, "{what}: {again} bytes, {:?}", site.chunk_calls());
            assert_eq!(site.calls("POST", "/api/v2/images/upload/volume").len(), 1, "{what}");
        }
    }
}

#[tokio::test]
async fn a_process_that_is_killed_within_a_chunk_sends_that_chunk_again() {
    let site = Site::new().await;
    site.arm(fault("hold", Match::chunk(ChunkMatch::One(3)), When::During, Action::Stall { request_bytes: 100 }));
    let disk = Dying::never(During::Chunks);
    {
        let run = site.run_on(UPLOAD, Arc::new(On(disk.clone())));
        tokio::pin!(run);
        // Nothing of it runs on once it is dropped, as with a process that is killed.
        loop {
            tokio::select! {
                ended = &mut run => panic!("{ended:?}"),
                () = tokio::time::sleep(std::time::Duration::from_millis(1)) => {}
            }
            if site.fired("hold") > 0 {
                break;
            }
        }
    }
    site.core().faults.clear_all();
    let ran = site.run(UPLOAD).await;
    ran.succeeded();
    site.assert_content();
    assert_eq!(site.chunk_calls(), [0, 1, 2, 3, 3, 4]);
}

// --- the file and the journal themselves ---

/// A job that has died in the middle of its upload.
async fn half_uploaded() -> Site {
    let site = Site::new().await;
    let disk = Dying::at(During::Chunks, 2, Last::Nothing);
    assert!(matches!(site.run_on(UPLOAD, Arc::new(On(disk))).await, Ended::Broken(_)));
    site
}

#[tokio::test]
async fn the_same_file_is_not_read_again_for_its_hash() {
    let site = half_uploaded().await;
    // Whoever hashes it now writes down that it did.
    let inventory = site.settings.data_dir.join("iso-inventory.json");
    std::fs::remove_file(&inventory).unwrap();
    let ran = site.run(UPLOAD).await;
    ran.succeeded();
    site.assert_content();
    assert!(!inventory.exists(), "the file was hashed again");
    assert_eq!(site.calls("POST", "/api/v2/images/upload/volume").len(), 1);
}

#[tokio::test]
async fn a_touched_file_is_hashed_again_and_taken() {
    let site = half_uploaded().await;
    let before = site.run_facts().await.iso.unwrap();
    let file = File::options().write(true).open(site.iso()).unwrap();
    file.set_modified(std::time::SystemTime::now() - std::time::Duration::from_secs(3_600)).unwrap();
    let ran = site.run(UPLOAD).await;
    ran.succeeded();
    site.assert_content();
    let after = ran.facts.iso.unwrap();
    assert_eq!((after.sha256, after.inode), (before.sha256, before.inode));
    assert!(after.mtime_ns < before.mtime_ns, "the facts follow");
    let inventory = std::fs::read_to_string(site.settings.data_dir.join("iso-inventory.json")).unwrap();
    assert!(inventory.contains(&after.mtime_ns.to_string()), "it was hashed again: {inventory}");
    assert_eq!(site.calls("POST", "/api/v2/images/upload/volume").len(), 1, "the upload goes on");
}

#[tokio::test]
async fn the_same_bytes_in_another_file_are_taken() {
    let site = half_uploaded().await;
    let copy = site.iso().with_extension("copy");
    std::fs::copy(site.iso(), &copy).unwrap();
    std::fs::rename(copy, site.iso()).unwrap();
    let ran = site.run(UPLOAD).await;
    ran.succeeded();
    site.assert_content();
    assert_eq!(ran.facts.iso.unwrap().inode, Identity::at(&site.iso()).unwrap().inode);
}

#[tokio::test]
async fn another_file_is_refused_and_the_volume_removed() {
    let site = half_uploaded().await;
    let other = site.iso().with_extension("other");
    Iso::new((CHUNKS - 1) * CHUNK + 1).seed(8).write(&other).unwrap();
    std::fs::rename(other, site.iso()).unwrap();
    let before = site.chunk_calls().len();
    let ran = site.run(UPLOAD).await;
    assert_eq!((ran.code().as_str(), ran.view.undo), ("iso_changed", Some(UndoState::RolledBack)));
    assert_eq!((site.images(), site.chunk_calls().len()), (vec![], before));
    assert!(ran.failure().message.contains("changed") && !ran.failure().remedy.is_empty());
}

#[tokio::test]
async fn a_damaged_line_in_the_middle_stops_the_job_and_loses_nothing() {
    let site = half_uploaded().await;
    let path = site.job_dir().join(FILE_NAME);
    let whole = std::fs::read(&path).unwrap();
    let mut damaged = whole.clone();
    damaged[whole.len() / 2] ^= 1;
    std::fs::write(&path, &damaged).unwrap();
    let Err(error) = Journal::open(&site.job_dir()) else { panic!("it was opened") };
    let JournalError::Damaged { line, .. } = &error else { panic!("{error}") };
    assert!(*line > 1 && error.to_string().contains("keep the file"), "{error}");
    assert_eq!(std::fs::read(&path).unwrap(), damaged, "the file is as it was");
    assert_eq!(site.images().len(), 1, "and so is the cluster");
    // From a copy the job goes on.
    std::fs::write(&path, whole).unwrap();
    let ran = site.run(UPLOAD).await;
    ran.succeeded();
    site.assert_content();
}
