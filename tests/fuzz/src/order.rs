//! Orders as they come down the link: taken apart, refused or written down. Whatever came, the journals can be read
//! again, every job comes to a safe point when the agent stops, and goes on at its next start.
//!
//! An order without site or end gets ours and a far one, one whose plan has no hash gets the right one, and one whose
//! secrets are empty gets some that open: what only a controller can make shall not be in the fuzzer's way.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, sync::Arc, sync::LazyLock, time::Duration};

use async_trait::async_trait;
use gantry_agent::{
    config::Settings,
    diff::Diff,
    facts::Facts,
    identity::Identity,
    journal::OsDisk,
    pipeline::Pipeline,
    runner::Runner,
    step::{Step, StepCx, StepError},
};
use gantry_proto::{
    Failure, JobId, Redactor, StepInfo,
    sealed::seal,
    v1::{self, open_response::Item, order::Kind},
};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

use super::{
    input::messages,
    stage::{dir, fresh, secrets, wait},
};

/// Longer than a job takes to come to a safe point.
const LIMIT: Duration = Duration::from_secs(20);
/// What a heartbeat waits for is there at once, or never comes.
const PATIENCE: Duration = Duration::from_millis(20);
/// Until when an order holds that does not say so: the year 2999, microseconds since 1970.
const FAR: i64 = 32_472_144_000_000_000;

static STAGE: LazyLock<(TempDir, Arc<Identity>)> = LazyLock::new(|| {
    let stage = dir();
    let join = stage.path().join("join.json");
    let text = serde_json::json!({
        "controller": "https://127.0.0.1:1", "server_name": "c", "ca_pem": "", "cert_pem": "", "key_pem": "",
        "agent": "a1", "site": "s1",
    });
    fs::write(&join, text.to_string()).unwrap();
    fs::set_permissions(&join, fs::Permissions::from_mode(0o600)).unwrap();
    let identity = Identity::load(&settings(stage.path())).unwrap();
    (stage, Arc::new(identity))
});

/// One step that is done at once, and one that asks an operator until it is stopped.
const STEPS: Pipeline = &[&Made, &Asks];

struct Made;
struct Asks;

pub(crate) fn run(input: &[u8]) {
    carried_out(input);
}

/// The same; how many orders were not refused.
pub(crate) fn carried_out(input: &[u8]) -> usize {
    let orders = messages::<v1::OpenResponse>(input);
    if orders.iter().all(|response| response.item.is_none()) {
        return 0;
    }
    let data = fresh(&STAGE.0);
    fs::create_dir(&data).unwrap();
    let mut taken = 0;
    wait(async {
        let runner = start(&data).await;
        runner.in_contact();
        for response in orders {
            taken += usize::from(receive(&runner, response).await);
        }
        stop(&runner).await;
        let runner = start(&data).await;
        runner.in_contact();
        stop(&runner).await;
    });
    fs::remove_dir_all(&data).unwrap();
    taken
}

/// What the link does with a message. Whether it was an order that was not refused.
async fn receive(runner: &Arc<Runner>, response: v1::OpenResponse) -> bool {
    match response.item {
        Some(Item::Welcome(welcome)) => {
            for place in welcome.replay {
                if let (Ok(job), true) = (place.job_id.parse(), place.moved) {
                    runner.moved(job).await.unwrap();
                }
            }
        }
        Some(Item::Ack(ack)) => {
            if let Ok(job) = ack.job_id.parse() {
                runner.acked(job, ack.seq).await.unwrap();
            }
        }
        Some(Item::Survey(request)) => runner.survey(request),
        Some(Item::SurveyCancel(cancel)) => runner.end_survey(&cancel.survey_id),
        Some(Item::Order(mut order)) => {
            complete(&mut order);
            let number = order.number;
            let update = runner.order(order).await.expect("the agent is not stopping");
            assert_eq!(update.number, number);
            if update.stage() == v1::OrderStage::Refused {
                assert!(!update.code.is_empty() && !update.message.is_empty());
            }
            return update.stage() != v1::OrderStage::Refused;
        }
        Some(Item::Heartbeat(beat)) => told(runner, beat.number).await,
        Some(Item::Renewed(_) | Item::Goodbye(_)) | None => {}
    }
    false
}

/// A heartbeat of an input lets the jobs go on, until one of them has told so much or has ended.
async fn told(runner: &Runner, seq: u64) {
    let mut news = runner.news();
    let far = |position: &v1::JobPosition| position.finished || position.last_seq >= seq;
    let wait = async { while !runner.positions().iter().any(far) && news.changed().await.is_ok() {} };
    let _not_that_far = tokio::time::timeout(PATIENCE, wait).await;
}

/// Gives an order what only a controller can make.
fn complete(order: &mut v1::Order) {
    if order.site.is_empty() {
        order.site.clone_from(&STAGE.1.site);
    }
    if order.expires_micros == 0 {
        order.expires_micros = FAR;
    }
    let job: Option<JobId> = order.job_id.parse().ok();
    let (plan, sealed) = match &mut order.kind {
        Some(Kind::Start(start)) => (&mut start.plan, &mut start.secrets),
        Some(Kind::Retry(retry)) => (&mut retry.plan, &mut retry.secrets),
        Some(Kind::TakeOver(take_over)) => (&mut take_over.plan, &mut take_over.secrets),
        _ => return,
    };
    if let Some(plan) = plan.as_mut().filter(|plan| plan.sha256.is_empty()) {
        plan.sha256 = Sha256::digest(&plan.json).to_vec();
    }
    if let (Some(sealed), Some(job)) = (sealed.as_mut().filter(|sealed| sealed.ciphertext.is_empty()), job) {
        let identity = &STAGE.1;
        *sealed = seal(&secrets(), job, &identity.agent, identity.sealing.public_bytes()).unwrap();
    }
}

async fn start(data: &Path) -> Arc<Runner> {
    let settings = Arc::new(settings(data));
    let disk = Arc::new(OsDisk);
    Runner::start(settings, STAGE.1.clone(), Redactor::new(), STEPS, disk).await.unwrap()
}

async fn stop(runner: &Runner) {
    runner.samples();
    runner.take_updates();
    assert!(runner.shutdown(LIMIT).await, "not every job came to a safe point");
    let told = runner.positions();
    for (job, journal) in runner.journals() {
        let tail = journal.tail();
        assert!(tail.acked <= tail.last_seq && tail.before <= tail.last_seq);
        assert!(told.iter().any(|position| position.job_id == job.to_string()));
        assert!(journal.folded().is_ok_and(|folded| folded.start.is_some()), "{job}: {:?}", journal.folded().err());
        let mut events = journal.events_after(0);
        let mut expected = tail.before;
        while events.has_more() {
            let page = events.page(100, 1 << 20).await.unwrap();
            assert!(!page.is_empty(), "an event is missing");
            for event in page {
                expected += 1;
                assert_eq!(event.seq, expected);
            }
        }
    }
}

fn settings(data: &Path) -> Settings {
    let mut settings = Settings { data_dir: data.to_owned(), iso_dir: data.join("iso"), ..Settings::default() };
    settings.timing.time_scale = 1_000_000.0;
    settings.allow = vec!["127.0.0.0/8".parse().unwrap()];
    settings
}

fn info(id: &str) -> StepInfo {
    StepInfo { id: id.into(), title: id.to_owned(), weight: 1, attempts: 2 }
}

#[async_trait]
impl Step for Made {
    fn info(&self) -> StepInfo {
        info("made")
    }

    async fn run(&self, cx: &StepCx, facts: &mut Facts) -> Result<(), StepError> {
        cx.save(facts).await
    }

    async fn survey(&self, _cx: &StepCx, _facts: &mut Facts, _diff: &mut Diff) -> Result<(), StepError> {
        Ok(())
    }

    async fn undo(&self, _cx: &StepCx, _facts: &mut Facts) -> Result<Vec<String>, StepError> {
        Ok(vec!["something was removed".to_owned()])
    }
}

#[async_trait]
impl Step for Asks {
    fn info(&self) -> StepInfo {
        info("asks")
    }

    async fn run(&self, cx: &StepCx, _facts: &mut Facts) -> Result<(), StepError> {
        cx.safe_point().await?;
        Err(StepError::Undecided(Box::new(Failure { code: "unclear".to_owned(), ..Failure::default() })))
    }

    async fn survey(&self, _cx: &StepCx, _facts: &mut Facts, _diff: &mut Diff) -> Result<(), StepError> {
        Ok(())
    }
}
