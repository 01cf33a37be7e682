//! A job that moves to another agent, as an operator sees it.

use gantry_proto::{
    Body, Code, TakenOver,
    v1::{self, JobState},
};
use serde_json::json;

use crate::{fake::Fake, log, run::ctl};

/// A running job and a workbook.
async fn ready() -> (Fake, String) {
    let fake = Fake::with(log::success()[..5].to_vec(), JobState::Running).await;
    let file = fake.home().join("planning.xlsx");
    std::fs::write(&file, "bytes").unwrap();
    let file = file.to_str().unwrap().to_owned();
    (fake, file)
}

#[tokio::test]
async fn the_agent_that_has_the_job_is_to_let_go_first() {
    let (fake, file) = ready().await;
    fake.state.lock().unwrap().job.moving_to = "bj-2".into();
    let args = ["move", "1b0c", "--agent", "bj-2", "--plan", &file, "--set", "organization=A"];
    let ran = ctl(fake.home(), &args).await;
    assert!(ran.code == 0 && ran.out.contains("agent bj-1 is asked to let go of job"), "{ran:?}");
    assert!(ran.out.contains("it is in contact, and stops at its next safe point"), "{ran:?}");
    fake.state.lock().unwrap().job.agent_in_contact = false;
    let ran = ctl(fake.home(), &args).await;
    assert!(ran.out.contains("if it is off for good, give the same command with --old-agent-is-off"), "{ran:?}");
    let ran = ctl(fake.home(), &["move", "1b0c", "--agent", "bj-2", "--plan", &file, "-o", "json"]).await;
    let document = ran.json();
    assert_eq!((&document["moved"], &document["job"]["moving_to"]), (&json!(false), &json!("bj-2")));
    assert_eq!(fake.state.lock().unwrap().orders[0], "move to bj-2 with 5 bytes");

    let ran = ctl(fake.home(), &["show", log::JOB]).await;
    assert!(ran.out.contains("agent bj-2, as soon as agent bj-1 has let go of the job"), "{ran:?}");
    {
        let mut state = fake.state.lock().unwrap();
        state.jobs = vec![state.job.clone()];
    }
    assert!(ctl(fake.home(), &["jobs"]).await.out.contains("bj-1 (no contact) → bj-2"));
    let refusal = "the job ended before agent bj-1 let go of it";
    (fake.state.lock().unwrap().job.moving_to, fake.state.lock().unwrap().job.refusal) =
        (String::new(), refusal.into());
    let ran = ctl(fake.home(), &args).await;
    assert!(ran.out.contains(refusal), "the answer was lost, and this is what became of it: {ran:?}");
    assert!(ctl(fake.home(), &["show", log::JOB]).await.out.contains(refusal));
}

#[tokio::test]
async fn a_job_that_is_moved_is_followed_and_its_page_says_from_where() {
    let (fake, file) = ready().await;
    let mut events = log::success();
    let Body::JobStarted { taken_over, .. } = &mut events[0].body else { unreachable!() };
    *taken_over = Some(TakenOver { from: "bj-0".parse().unwrap(), by: "ops".into(), confirmed: false });
    {
        let mut state = fake.state.lock().unwrap();
        state.job.last_seq = 0;
        (state.events, state.move_answer) = (events, Some(v1::MoveJobResponse { moved: true, ..Default::default() }));
    }
    let ran = ctl(fake.home(), &["move", "1b0c", "--agent", "bj-1", "--plan", &file]).await;
    assert!(ran.code == 0 && ran.out.contains("is moved, its epoch is 1; agent bj-1 gets it now"), "{ran:?}");
    let ran = ctl(fake.home(), &["move", "1b0c", "--agent", "bj-1", "--plan", &file, "--watch"]).await;
    assert!(ran.code == 0 && ran.out.contains("CloudTower is ready"), "{ran:?}");
    assert!(ran.err.contains("moved here by ops from agent bj-0, which ops says is off"), "{ran:?}");
    let ran = ctl(fake.home(), &["show", log::JOB]).await;
    assert!(ran.out.contains("from agent bj-0, which ops said was off, by ops"), "{ran:?}");
}

#[tokio::test]
async fn nobody_vouches_by_mistake() {
    let (fake, file) = ready().await;
    let args = ["move", "1b0c", "--agent", "bj-2", "--plan", &file, "--old-agent-is-off"];
    let ran = ctl(fake.home(), &args).await;
    assert!(ran.code == 2 && ran.err.contains("needs --yes where nobody can be asked"), "{ran:?}");
    assert!(ran.err.contains("you vouch that agent bj-1 is off") && ran.err.contains("two agents"), "{ran:?}");
    assert!(ran.err.contains("agent bj-1 is in contact right now: it is not off"), "{ran:?}");
    assert!(fake.state.lock().unwrap().orders.is_empty());
    let ran = ctl(fake.home(), &[&args[..], &["--yes"]].concat()).await;
    assert!(ran.code == 0 && ran.err.contains("you vouch"), "{ran:?}");
    assert_eq!(fake.state.lock().unwrap().orders, ["move to bj-2 with 5 bytes, the old one is off"]);
    assert_eq!(ctl(fake.home(), &[&args[..6], &["--yes"]].concat()).await.code, 2, "--yes to what?");
    fake.state.lock().unwrap().job.state = JobState::Failed.into();
    let ran = ctl(fake.home(), &args).await;
    assert!(ran.code == 0 && !ran.err.contains("vouch"), "a job that has ended is in nobody's hands: {ran:?}");
}

#[tokio::test]
async fn a_file_that_is_not_the_workbook_moves_nothing() {
    let (fake, file) = ready().await;
    let ran = ctl(fake.home(), &["move", "1b0c", "--agent", "bj-2", "--plan", "no-such.xlsx"]).await;
    assert!(ran.code == 3 && fake.state.lock().unwrap().orders.is_empty(), "{ran:?}");
    let rejected = v1::PlanRejected { verdict: v1::PlanVerdict::Unreadable.into(), problems: Vec::new() };
    let answer = v1::MoveJobResponse { rejected: Some(rejected), ..Default::default() };
    fake.state.lock().unwrap().move_answer = Some(answer);
    let args = ["move", log::JOB, "--agent", "bj-2", "--plan", &file];
    assert_eq!(ctl(fake.home(), &args).await.code, 3);
    let refusal = Code::BadRequest.status("planning.xlsx is not the workbook that was planned");
    fake.state.lock().unwrap().refuse = Some(refusal);
    let ran = ctl(fake.home(), &args).await;
    assert!(ran.code == 2 && ran.err.contains("not the workbook that was planned"), "{ran:?}");
}
