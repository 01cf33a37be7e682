//! One ISO, one cluster, and nothing else: a job of two steps with a journal of its own, so that an upload by hand is
//! the upload of a deployment, and goes on after a kill. Knows no controller and no terminal.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    fs::{DirBuilder, File, OpenOptions, TryLockError},
    io,
    net::Ipv4Addr,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use async_trait::async_trait;
use gantry_proto::{
    AgentId, Failure, JobId, JobOutcome, Plan, Redactor, Secret, Secrets, StepInfo,
    plan::{
        CloudTower, Cluster, DefaultNetwork, Deployment, IsoChoice, Network, OtherComponents, RollbackPolicy, Stage,
        TowerConfig, UploadParams, VmShape,
    },
};
use jiff::Timestamp;
use sha2::{Digest as _, Sha256};
use tokio_util::sync::CancellationToken;
use uuid::{Builder, Variant, Version};

use crate::{
    cloudtower,
    config::Settings,
    diff::Diff,
    executor::{self, Ended, Job},
    facts::{Facts, ImageState, IsoFact},
    fisheye, guest,
    iso::{self, Digests, Found, HashError, Identity, Inventory},
    joblog::{JobLog, Wake},
    journal::{Journal, JournalError, OsDisk, SealedText, StartRecord, hex},
    outside::Outside,
    pipeline::Pipeline,
    step::{Step, StepCx, StepError},
    steps::{
        iso_hash,
        story::{blocking, permanent, story_of},
        upload_iso::UploadIso,
    },
};

/// Where the journals are, in the state directory.
const PUSHES: &str = "iso-pushes";
/// Held while one is at work.
const LOCK: &str = "lock";
/// What is done.
const STEPS: Pipeline = &[&TakeIso, &UploadIso];

/// An upload that is ready to begin, or to go on.
pub struct Push {
    job: Job,
    log: Arc<JobLog>,
    found: Found,
    _lock: File,
}

/// What is asked for.
pub struct Wish {
    /// Host name or address.
    pub host: String,
    pub user: String,
    pub password: Secret,
    /// The file.
    pub iso: Found,
    /// Query parameters of the image calls.
    pub upload: UploadParams,
}

/// Why it cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum PushError {
    /// Another process does the same.
    #[error("it is at work already")]
    Busy(PathBuf),
    /// The journal of an earlier time.
    #[error("its journal cannot be used")]
    Journal(PathBuf, #[source] JournalError),
    /// The disk says no.
    #[error("the state directory cannot be used")]
    Disk(#[from] io::Error),
}

/// How it ended.
#[derive(Debug)]
pub enum PushEnd {
    /// The image is there.
    Done(Box<Facts>),
    /// It is not.
    Failed(Box<Failure>),
    /// Nothing is undone: the next time goes on.
    Stopped,
}

impl Push {
    /// Takes the upload up where its journal says, or begins it (blocking). `settings.data_dir` is the state directory.
    ///
    /// # Errors
    /// See [`PushError`].
    pub fn prepare(
        wish: Wish,
        settings: Settings,
        redactor: Redactor,
        stop: CancellationToken,
    ) -> Result<Self, PushError> {
        let Wish { host, user, password, iso, upload } = wish;
        let found = Found { path: std::path::absolute(&iso.path)?, ..iso };
        let iso = &found.path;
        let id = id(&format!("{}://{host}:{}", settings.fisheye.scheme, settings.fisheye.port), iso)?;
        let dir = settings.data_dir.join(PUSHES).join(id.to_string());
        DirBuilder::new().recursive(true).mode(0o700).create(&dir)?;
        let lock = lock(&dir)?;
        let (journal, mut folded) =
            Journal::open_on(&dir, Arc::new(OsDisk)).map_err(|error| PushError::Journal(dir.clone(), error))?;
        let plan = plan(&user, iso, upload);
        if folded.start.is_none() || folded.finished() {
            let epoch = folded.start.as_ref().map_or(1, |start| start.epoch.saturating_add(1));
            journal.start(start(epoch, &plan)?)?;
            folded = journal.folded().map_err(|error| PushError::Journal(dir.clone(), error))?;
        }
        redactor.register(&password);
        let nothing = || Secret::new(String::new());
        let secrets = Secrets {
            root_password: nothing(),
            fisheye_password: password.clone(),
            ssh_password: nothing(),
            root_password_encoded: None,
        };
        let settings = Arc::new(settings);
        let log = JobLog::in_dir(&dir, &settings, id, &redactor, journal, &folded, Wake::default(), stop.clone());
        let log = Arc::new(log);
        let upload = plan.deployment.upload.clone();
        let outside = Outside {
            fisheye: fisheye::Client::of(vec![host], (&user, password), upload, &settings, &redactor),
            guest: guest::Guest::new(&plan, &secrets, &settings, &redactor),
            tower: cloudtower::Client::new(&plan, &secrets, &settings, &redactor),
        };
        #[expect(clippy::expect_used, reason = "a constant that follows the rules of ids")]
        let agent = "by-hand".parse::<AgentId>().expect("an agent's id");
        let job = Job {
            id,
            agent,
            plan: Arc::new(plan),
            secrets: Arc::new(secrets),
            settings,
            redactor,
            outside: Arc::new(outside),
            log: log.clone(),
            // What is there of a volume is for the next time.
            keep_on_failure: true,
            kept: Vec::new(),
            undo_only: false,
            taken_over: None,
            trace: Default::default(),
            cancel: stop.child_token(),
            stop,
            view: folded.view,
        };
        Ok(Self { job, log, found, _lock: lock })
    }

    /// The log: progress and what is worth telling.
    pub fn log(&self) -> Arc<JobLog> {
        self.log.clone()
    }

    /// Does it.
    ///
    /// # Errors
    /// When the journal cannot be read or written.
    pub async fn run(self) -> io::Result<PushEnd> {
        let Self { job, log, found, _lock } = self;
        let (outside, inventory) = (job.outside.clone(), Inventory::new(&job.settings));
        let ended = tokio::select! {
            ended = executor::execute(job, STEPS) => ended,
            never = read_beside(&inventory, &found) => match never {},
        };
        if let Err(error) = outside.fisheye.logout().await {
            tracing::debug!(%error, "the session is not ended");
        }
        log.finish().await?;
        let outcome = match ended {
            Ended::Stopped => return Ok(PushEnd::Stopped),
            Ended::Broken(error) => return Err(error),
            Ended::Finished(outcome) => outcome,
        };
        let folded = log.journal().on_disk(|journal| journal.folded().map_err(io::Error::other)).await?;
        if outcome != JobOutcome::Succeeded {
            return Ok(PushEnd::Failed(Box::new(folded.view.failure.unwrap_or_default())));
        }
        let facts = serde_json::Value::Object(folded.view.facts.into_iter().collect());
        Ok(PushEnd::Done(Box::new(serde_json::from_value(facts)?)))
    }
}

/// Reads the file for its hashes while it is sent, with the time that nobody else wants. Who needs them takes the read
/// over where it is.
async fn read_beside(inventory: &Inventory, found: &Found) -> Infallible {
    if let Err(error) = inventory.fill_ahead(found, Default::default(), &CancellationToken::new()).await {
        tracing::debug!(%error, "the ISO is not read beside its upload");
    }
    std::future::pending().await
}

/// The file that was named, as the upload wants to know it: with its hashes, where they are known.
struct TakeIso;

#[async_trait]
impl Step for TakeIso {
    fn info(&self) -> StepInfo {
        StepInfo { id: "take-iso".into(), title: "Look at the ISO file".to_owned(), weight: 30, attempts: 1 }
    }

    async fn run(&self, cx: &StepCx, facts: &mut Facts) -> Result<(), StepError> {
        let path = PathBuf::from(cx.plan.deployment.iso.file_name.clone().unwrap_or_default());
        let unreadable = |error: &(dyn std::error::Error + 'static)| {
            permanent(story_of("iso_unreadable", &format!("looking at {}", path.display()), error, "check the file"))
        };
        let at = path.clone();
        let found = blocking(move || iso::find(&at)).await.map_err(StepError::Journal)?;
        let found = found.map_err(|error| unreadable(&error))?;
        let begun = facts.asked_volume.is_some()
            || facts.image.as_ref().is_some_and(|image| image.state == ImageState::Uploading);
        let before = facts.iso.take().unwrap_or_default();
        let is_same = Identity::from(&before) == found.identity;
        let digests = match self::known(cx, &found).await? {
            Some(digests) => Some(digests),
            // It goes on, or begins anew; that depends on what the file is now.
            None if begun && !is_same => match iso_hash::hash(cx, &found).await {
                Ok(digests) => Some(digests),
                Err(HashError::Cancelled) => return Err(cx.log.why_stopped()),
                Err(error) => return Err(unreadable(&error)),
            },
            None => None,
        };
        let iso = match digests {
            None if is_same => before.clone(),
            digests => IsoFact::of(&found, digests, None),
        };
        if !is_same && (iso.sha256.is_empty() || before.sha256 != iso.sha256) {
            if begun {
                // What was begun is of another file with this name.
                UploadIso.undo(cx, facts).await?;
            }
            facts.image = None;
        }
        facts.upload = None;
        facts.iso = Some(iso);
        cx.save(facts).await
    }

    /// An upload by hand is not surveyed.
    async fn survey(&self, _cx: &StepCx, _facts: &mut Facts, _diff: &mut Diff) -> Result<(), StepError> {
        Ok(())
    }
}

/// The hashes that the inventory has.
async fn known(cx: &StepCx, found: &Found) -> Result<Option<Digests>, StepError> {
    let (inventory, found) = (Inventory::new(&cx.settings), found.clone());
    blocking(move || inventory.known(&found)).await.map_err(StepError::Journal)
}

fn lock(dir: &Path) -> Result<File, PushError> {
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(dir.join(LOCK))
        .map_err(PushError::Disk)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(PushError::Busy(dir.to_owned())),
        Err(TryLockError::Error(error)) => Err(PushError::Disk(error)),
    }
}

/// The same for the same file and cluster: so it is found again.
fn id(cluster: &str, iso: &Path) -> io::Result<JobId> {
    let mut hash = Sha256::new();
    hash.update(cluster.as_bytes());
    hash.update([0]);
    hash.update(iso.as_os_str().as_encoded_bytes());
    let digest: [u8; 32] = hash.finalize().into();
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest[..16]);
    let id = Builder::from_bytes(bytes).with_version(Version::SortRand).with_variant(Variant::RFC4122).into_uuid();
    id.to_string().parse().map_err(io::Error::other)
}

fn start(epoch: u32, plan: &Plan) -> io::Result<StartRecord> {
    let document = plan.to_document().map_err(io::Error::other)?;
    Ok(StartRecord {
        order: u64::from(epoch),
        epoch,
        at: Timestamp::now(),
        schema: document.schema,
        plan: String::from_utf8(document.json).map_err(io::Error::other)?,
        sha256: hex(&document.sha256),
        sealed: SealedText::default(),
        keep_on_failure: true,
        submitted_by: "by hand".to_owned(),
        trace: Default::default(),
        kept: Vec::new(),
        undo_only: false,
        carried: None,
    })
}

/// A plan of which only the cluster's user, the ISO and the upload count.
fn plan(user: &str, iso: &Path, upload: UploadParams) -> Plan {
    let nowhere = Ipv4Addr::UNSPECIFIED;
    Plan {
        cloudtower: CloudTower {
            ip: nowhere,
            vm_name: String::new(),
            version: None,
            web_user: String::new(),
            ssh_user: String::new(),
            serial: None,
            sizing_text: None,
        },
        organization: String::new(),
        datacenter: String::new(),
        ntp_servers: Vec::new(),
        dns_servers: Vec::new(),
        management_network: Network {
            row: 0,
            vds: String::new(),
            network: String::new(),
            vlan_id: 0,
            vlan_type: String::new(),
            subnet: String::new(),
            netmask: nowhere,
            gateway: nowhere,
        },
        default_management_network: DefaultNetwork {
            row: 0,
            network: String::new(),
            vlan_id: 0,
            subnet: String::new(),
            gateway: None,
        },
        storage_subnet: None,
        cluster: Cluster {
            name: None,
            vip: None,
            admin_user: user.to_owned(),
            serial: None,
            function: None,
            storage_architecture: None,
            network_architecture: None,
            software_version_text: None,
        },
        hosts: Vec::new(),
        other_components: OtherComponents::default(),
        temporary_range: None,
        deployment: Deployment {
            vm: VmShape { vcpu: 0, memory_bytes: 0, disk_bytes: 0 },
            storage_policy: String::new(),
            target_host: None,
            iso: IsoChoice { file_name: Some(iso.display().to_string()), sha256: None, md5: None },
            upload,
            vm_description: String::new(),
            require_guest_tools_in_iso: false,
            ntp_failure_is_warning: true,
            rollback_policy: RollbackPolicy::Keep,
            stages: Stage::usual(),
            further_clusters: Vec::new(),
            tower_config: TowerConfig::default(),
        },
        sources: BTreeMap::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_file_and_cluster_are_found_again() {
        let iso = Path::new("/isos/cloudtower-v1.a.b.iso");
        let id = |cluster, iso| id(cluster, iso).unwrap();
        assert_eq!(id("https://a:443", iso), id("https://a:443", iso));
        assert_ne!(id("https://a:443", iso), id("https://b:443", iso));
        assert_ne!(id("https://a:443", iso), id("https://a:443", Path::new("/isos/cloudtower-v2.a.b.iso")));
    }
}
