//! A bad line between agent and controller: the job goes on, both sides notice, and afterwards everything has arrived
//! once and in order. Real processes, with a fault proxy between them.

use std::{
    fs, io,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use gantry_agent::journal::{Disk, Journal, OsDisk, Sink};
use gantry_e2e::{Lab, LabOptions, Mode, logs};
use gantry_proto::{Body, Level};
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::{
    cancel::when_step_starts,
    support::{SCALE, quick, vms},
};

/// What the defaults promise.
const PROMISED: Duration = Duration::from_secs(15);
/// Silence that counts as dead in a quick line: a tenth of the default.
const SILENCE: Duration = Duration::from_millis(1_500);
/// What a busy machine may add: a `ctl` has to start before it tells.
const BUSY: Duration = Duration::from_secs(3);
/// Longer than any job of a quick lab.
const JOB_LIMIT: Duration = Duration::from_secs(150);
/// Events that are waiting when the controller stalls, and the length of each.
const BACKLOG: usize = 12_000;
const NOTE: usize = 2_000;
/// How much the agent may grow while they wait; far less than what waits.
const GROWTH: u64 = 12 << 20;
const _: () = assert!((BACKLOG * NOTE) as u64 > GROWTH * 3 / 2);

/// A quick lab behind the proxy, whose line is ten times as nervous as the default.
fn lined() -> LabOptions {
    LabOptions {
        proxied: true,
        controller: json!({"link": {"heartbeat_ms": 1_000, "silence_ms": 1_500}}),
        agent: json!({"link": {"connect_timeout_ms": 2_000, "hello_timeout_ms": 2_000, "retry_first_ms": 50,
            "retry_cap_ms": 1_000}}),
        ..quick()
    }
}

async fn until(limit: Duration, what: &str, lab: &Lab, mut holds: impl AsyncFnMut() -> bool) -> anyhow::Result<()> {
    let began = Instant::now();
    while !holds().await {
        ensure!(began.elapsed() < limit, "{what}: not within {limit:?}\n{}", lab.logs());
        sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

async fn in_contact(lab: &Lab) -> bool {
    let agents = lab.ctl_json(&["-o", "json", "agents"]).await.unwrap();
    agents["agents"].as_array().or_else(|| agents.as_array()).unwrap().iter().any(|agent| agent["in_contact"] == true)
}

/// Makes the line bad and waits until both sides say so; how long the agent and the controller took.
async fn noticed(lab: &Lab, mode: Mode, limit: Duration) -> anyhow::Result<(Duration, Duration)> {
    let said = lab.agent_log().len();
    let began = Instant::now();
    lab.line()?.set(mode);
    let agent = async {
        until(limit, "the agent notices", lab, async || lab.agent_log()[said..].contains("out of contact")).await?;
        anyhow::Ok(began.elapsed())
    };
    let controller = async {
        until(limit, "the controller notices", lab, async || !in_contact(lab).await).await?;
        anyhow::Ok(began.elapsed())
    };
    tokio::try_join!(agent, controller)
}

/// The line is good again: the job has this exit code, and its log is whole.
async fn all_arrives(lab: &Lab, job: &str, code: i32) -> anyhow::Result<()> {
    lab.line()?.set(Mode::PASS);
    lab.agent_in_contact().await?;
    assert_eq!(lab.watch(job).await?, code, "{}", lab.logs());
    logs::same(lab, job).await?;
    lab.control()?.check_invariants().await
}

async fn shown(lab: &Lab, job: &str) -> anyhow::Result<Value> {
    Ok(lab.ctl_json(&["-o", "json", "show", job]).await?["job"].clone())
}

#[tokio::test]
async fn with_the_default_settings_both_sides_notice_a_black_hole_within_15_seconds() -> anyhow::Result<()> {
    let lab = Lab::start(LabOptions { proxied: true, ..quick() }).await?;
    let (agent, controller) = noticed(&lab, Mode::black_hole(), PROMISED + BUSY).await?;
    // What is over is the time of a look.
    let look = Duration::from_secs(1);
    assert!(agent < PROMISED + look && controller < PROMISED + look, "agent {agent:?}, controller {controller:?}");
    // Not a word of the other side was needed to notice.
    assert!(agent > Duration::from_secs(1) && controller > Duration::from_secs(1), "{agent:?}, {controller:?}");
    lab.line()?.set(Mode::PASS);
    lab.agent_in_contact().await?;
    lab.stop().await
}

#[tokio::test]
async fn a_job_goes_on_to_its_end_behind_a_cut_line_and_everything_arrives_later() -> anyhow::Result<()> {
    let lab = Lab::start(lined()).await?;
    let job = lab.deploy(&[]).await?;
    when_step_starts(&lab, &job, "upload-iso").await?;
    noticed(&lab, Mode::refuse(), SILENCE + BUSY).await?;
    let before = lab.line()?.seen().connections;
    until(JOB_LIMIT, "the job ends at the agent", &lab, async || logs::has_ended(&lab, &job)).await?;
    assert!(lab.line()?.seen().connections > before + 2, "the agent has not tried to come back");
    let away = shown(&lab, &job).await?;
    assert_eq!((&away["state"], &away["agent_in_contact"]), (&json!("running"), &json!(false)), "{away}");
    all_arrives(&lab, &job, 0).await?;
    assert_eq!(vms(&lab).await?.len(), 1);
    lab.stop().await
}

#[tokio::test]
async fn a_cancel_that_a_black_hole_held_back_until_the_job_had_ended_is_too_late() -> anyhow::Result<()> {
    let lab = Lab::start(lined()).await?;
    let job = lab.deploy(&[]).await?;
    when_step_starts(&lab, &job, "create-vm").await?;
    noticed(&lab, Mode::black_hole(), SILENCE + BUSY).await?;
    let asked = lab.ctl_json(&["-o", "json", "cancel", &job]).await?;
    assert_eq!((&asked["job"]["state"], &asked["job"]["cancel"]), (&json!("running"), &json!("requested")), "{asked}");
    until(JOB_LIMIT, "the job ends at the agent", &lab, async || logs::has_ended(&lab, &job)).await?;
    all_arrives(&lab, &job, 0).await?;
    until(BUSY, "the cancel is answered", &lab, async || {
        shown(&lab, &job).await.is_ok_and(|job| job["cancel"] == "too_late")
    })
    .await?;
    assert_eq!(lab.ctl(&["cancel", &job]).await?.status.code(), Some(7), "and so is another one");
    let cancelled = |event: &gantry_proto::Event| matches!(event.body, Body::CancelAccepted { .. });
    assert!(!logs::same(&lab, &job).await?.iter().any(cancelled));
    assert_eq!(vms(&lab).await?.len(), 1, "what was made stays");
    lab.stop().await
}

#[tokio::test]
async fn a_cancel_that_was_ordered_while_the_agent_was_away_is_delivered_when_it_is_back() -> anyhow::Result<()> {
    let lab = Lab::start(lined()).await?;
    let job = lab.deploy(&[]).await?;
    when_step_starts(&lab, &job, "install").await?;
    // The installer takes its time until the cancel is there.
    let control = lab.control()?;
    control.post("/clock", &json!({"time_scale": 1.0})).await?;
    noticed(&lab, Mode::refuse(), SILENCE + BUSY).await?;
    let asked = lab.ctl_json(&["-o", "json", "cancel", &job, "--reason", "wrong night"]).await?;
    assert_eq!(asked["job"]["cancel"], "requested", "{asked}");
    let has_it = || {
        let accepted = |event: &gantry_proto::Event| matches!(event.body, Body::CancelAccepted { .. });
        logs::journal(&lab, &job).is_ok_and(|events| events.iter().any(accepted))
    };
    assert!(!has_it() && !logs::has_ended(&lab, &job), "{}", lab.logs());
    lab.line()?.set(Mode::PASS);
    until(Duration::from_secs(10), "the cancel is delivered", &lab, async || has_it()).await?;
    control.post("/clock", &json!({"time_scale": SCALE})).await?;
    all_arrives(&lab, &job, 130).await?;
    assert_eq!(vms(&lab).await?, Vec::<Value>::new());
    lab.stop().await
}

#[tokio::test]
async fn a_line_open_on_one_side_only_is_noticed_on_both_and_a_job_given_meanwhile_is_delivered() -> anyhow::Result<()>
{
    let lab = Lab::start(lined()).await?;
    noticed(&lab, Mode::deaf(), SILENCE + BUSY).await?;
    let job = lab.deploy(&[]).await?;
    assert_eq!(shown(&lab, &job).await?["state"], "queued");
    lab.line()?.set(Mode::PASS);
    when_step_starts(&lab, &job, "upload-iso").await?;
    noticed(&lab, Mode::mute(), SILENCE + BUSY).await?;
    all_arrives(&lab, &job, 0).await?;
    lab.stop().await
}

/// Everything a fifth of the default, and of 30 seconds.
#[tokio::test]
async fn heartbeats_keep_a_proxy_that_cuts_idle_streams_content() -> anyhow::Result<()> {
    let mut options = lined();
    options.controller = json!({"link": {"heartbeat_ms": 2_000, "silence_ms": 3_000}});
    let lab = Lab::start(options).await?;
    let before = lab.line()?.seen();
    lab.line()?.set(Mode::impatient(Duration::from_secs(6)));
    // Time itself is the subject: twice the patience, without a job that would say anything.
    sleep(Duration::from_secs(13)).await;
    assert_eq!(lab.line()?.seen().connections, before.connections, "{}", lab.logs());
    assert!(in_contact(&lab).await);
    // The proxy does cut: with less patience than the heartbeat it shows.
    lab.line()?.set(Mode::impatient(Duration::from_millis(700)));
    until(BUSY * 2, "an idle stream is cut", &lab, async || lab.line().unwrap().seen().idle_cuts > 0).await?;
    lab.line()?.set(Mode::PASS);
    lab.agent_in_contact().await?;
    lab.stop().await
}

#[tokio::test]
async fn a_late_and_narrow_line_carries_a_job_in_one_session() -> anyhow::Result<()> {
    let lab = Lab::start(LabOptions { proxied: true, ..quick() }).await?;
    let before = lab.line()?.seen();
    // 300 ms there and back, 1 Mbit/s.
    lab.line()?.set(Mode::slow(Duration::from_millis(150), Some(125_000)));
    let job = lab.deploy(&[]).await?;
    assert_eq!(lab.watch(&job).await?, 0, "{}", lab.logs());
    assert_eq!(lab.line()?.seen().connections, before.connections, "the session has held: {}", lab.logs());
    logs::same(&lab, &job).await?;
    lab.control()?.check_invariants().await?;
    lab.stop().await
}

/// Far more is waiting to be told than may be on the line, and the controller stops to listen.
#[tokio::test]
async fn a_stalled_controller_makes_the_agent_wait_and_not_grow() -> anyhow::Result<()> {
    let mut lab = Lab::start(LabOptions { proxied: true, ..quick() }).await?;
    let job = lab.deploy(&[]).await?;
    when_step_starts(&lab, &job, "wait-guest-agent").await?;
    lab.kill_agent().await?;
    much_to_tell(&lab, &job)?;
    let before = lab.line()?.seen().up;
    lab.start_agent().await?;
    // It has begun to tell.
    until(BUSY * 10, "the agent tells", &lab, async || lab.line().unwrap().seen().up > before + (256 << 10)).await?;
    lab.freeze_controller().await?;
    let (told, grown) = (lab.line()?.seen().up, resident(&lab)?);
    until(PROMISED + BUSY, "the agent gives up", &lab, async || {
        lab.agent_log().rsplit("in contact").next().is_some_and(|last| last.contains("the jobs go on"))
    })
    .await?;
    until(JOB_LIMIT, "the job ends at the agent", &lab, async || logs::has_ended(&lab, &job)).await?;

    let more = usize::try_from(lab.line()?.seen().up - told)?;
    // A window of 1000 events, what frames them, and the hands that were offered in vain.
    assert!(more < 1_000 * (NOTE + 300) + (256 << 10), "{more} bytes were sent to nobody");
    let (from, to) = (grown, resident(&lab)?);
    assert!(to < from + GROWTH, "the agent grew from {from} to {to} bytes");

    lab.thaw_controller().await?;
    all_arrives(&lab, &job, 0).await?;
    lab.stop().await
}

/// Writes notes into the journal of an agent that does not run.
fn much_to_tell(lab: &Lab, job: &str) -> anyhow::Result<()> {
    /// Nobody loses power here.
    struct Careless;
    struct Unflushed(Box<dyn Sink>);
    impl Disk for Careless {
        fn open(&self, path: &Path) -> io::Result<Box<dyn Sink>> {
            Ok(Box::new(Unflushed(OsDisk.open(path)?)))
        }
    }
    impl Sink for Unflushed {
        fn append(&mut self, line: &[u8]) -> io::Result<()> {
            self.0.append(line)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
        fn cut(&mut self, len: u64) -> io::Result<()> {
            self.0.cut(len)
        }
    }
    let (journal, _) = Journal::open_on(&lab.agent_data().join("jobs").join(job), Arc::new(Careless))?;
    for number in 0..BACKLOG {
        let (code, message) = ("backlog".to_owned(), format!("{number} {}", "x".repeat(NOTE)));
        journal.event(Body::Note { step: None, level: Level::Info, code, message, extra: Default::default() })?;
    }
    Ok(())
}

/// Bytes of memory that the agent's process holds.
fn resident(lab: &Lab) -> anyhow::Result<u64> {
    let pid = lab.agent_pid().context("no agent runs")?;
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    let kib: u64 = line.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kib << 10)
}

#[tokio::test]
async fn rounds_of_kills_and_a_bad_line_end_well() {
    assert_eq!(gantry_e2e::rounds::run(2, 7).await, (2, 0));
}
