//! pause, resume, retry, resources and sweep, as an operator sees them.

use gantry_proto::{
    Body, JobOutcome, Leftover, UndoState,
    v1::{self, JobState, StepFate},
};
use serde_json::json;

use crate::{fake::Fake, log, run::ctl};

/// The log of a job that failed, with a VM and an unfinished upload that it could not remove.
fn left_over() -> Vec<gantry_proto::Event> {
    let vm = json!({"name": "tower", "uuid": "vm-1"});
    let image = json!({"image_uuid": "im-1", "name": "a.iso", "state": "uploaded"});
    let remedy = "power the VM off and delete it".to_owned();
    let left = Leftover { kind: "vm".into(), id: "vm-1".into(), name: "tower".into(), remedy };
    log::numbered(vec![
        log::begun(),
        log::fact("upload-iso", "image", image),
        log::fact("create-vm", "vm", vm),
        Body::JobFinished {
            outcome: JobOutcome::Failed,
            undo: UndoState::RollbackIncomplete,
            failure: Some(log::failure()),
            leftovers: vec![left],
            result: json!({}),
        },
    ])
}

async fn fake(state: JobState) -> Fake {
    let fake = Fake::with(left_over(), state).await;
    let mut inside = fake.state.lock().unwrap();
    inside.job.undo = v1::UndoState::Incomplete.into();
    inside.jobs = vec![inside.job.clone()];
    drop(inside);
    fake
}

#[tokio::test]
async fn pause_claims_nothing_before_the_job_is_held() {
    let fake = fake(JobState::Running).await;
    let ran = ctl(fake.home(), &["pause", "1b0c", "--reason", "the line"]).await;
    assert!(ran.code == 0 && ran.out.contains("held at the next safe point"), "{ran:?}");
    let ran = ctl(fake.home(), &["resume", "1b0c", "-o", "json"]).await;
    assert_eq!(ran.json()["job"]["state"], "running");
    assert_eq!(fake.state.lock().unwrap().orders, ["pause the line", "resume"]);
    fake.state.lock().unwrap().job.state = JobState::Paused.into();
    assert!(ctl(fake.home(), &["pause", "1b0c"]).await.out.contains("it is held"));
}

#[tokio::test]
async fn an_upload_is_steered_by_what_is_wished_for_and_nothing_else() {
    let fake = fake(JobState::Running).await;
    for args in [&["--limit", "40MiB/s"][..], &["--in-flight", "auto", "--resume"], &["--pause", "--limit", "none"]] {
        let ran = ctl(fake.home(), &[&["upload", "1b0c"], args].concat()).await;
        assert!(ran.code == 0 && ran.out.contains("asked for"), "{ran:?}");
    }
    let orders = fake.state.lock().unwrap().orders.clone();
    assert_eq!(
        orders,
        ["upload Some(41943040) None None", "upload None Some(0) Some(false)", "upload Some(0) None Some(true)"]
    );
    for wrong in [&[][..], &["--limit", "fast"], &["--in-flight", "17"], &["--pause", "--resume"]] {
        let ran = ctl(fake.home(), &[&["upload", "1b0c"], wrong].concat()).await;
        assert_eq!(ran.code, 2, "{wrong:?} {ran:?}");
    }
    assert_eq!(fake.state.lock().unwrap().orders.len(), 3);
}

#[tokio::test]
async fn retry_names_what_is_kept_redone_and_blocked() {
    let fake = fake(JobState::Failed).await;
    let step = |step: &str, fate: StepFate, reason: &str| v1::StepVerdict {
        step: step.into(),
        fate: fate.into(),
        reason: reason.into(),
    };
    let mut answer = v1::RetryJobResponse {
        steps: vec![step("preflight", StepFate::Kept, ""), step("upload-iso", StepFate::Redone, "")],
        accepted: true,
        ..Default::default()
    };
    fake.state.lock().unwrap().retry_answer = Some(answer.clone());
    let ran = ctl(fake.home(), &["retry", "1b0c", "--from", "upload-iso"]).await;
    assert_eq!(ran.code, 0, "{ran:?}");
    let rows: Vec<Vec<&str>> = ran.out.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!((rows[1].as_slice(), rows[2].as_slice()), (&["preflight", "kept"][..], &["upload-iso", "redone"][..]));
    assert!(ran.out.contains("goes on in epoch"));
    assert_eq!(fake.state.lock().unwrap().orders, ["retry from upload-iso with 0 bytes"]);

    answer.steps[1] = step("upload-iso", StepFate::Blocked, "it was carried out with another value");
    answer.accepted = false;
    fake.state.lock().unwrap().retry_answer = Some(answer);
    let ran = ctl(fake.home(), &["retry", "1b0c"]).await;
    assert!(ran.code == 7 && ran.err.contains("upload-iso is in the way: it was carried out"), "{ran:?}");
    let ran = ctl(fake.home(), &["retry", "1b0c", "-o", "json"]).await;
    assert_eq!((ran.code, &ran.json()["steps"][1]["fate"]), (7, &json!("blocked")));
    let ran = ctl(fake.home(), &["retry", "1b0c", "--plan", "no-such.xlsx"]).await;
    assert_eq!(ran.code, 3, "{ran:?}");
    let ran = ctl(fake.home(), &["retry", "1b0c", "--set", "a=b"]).await;
    assert_eq!(ran.code, 2, "{ran:?}");
}

#[tokio::test]
async fn resources_are_the_ledger_of_the_log() {
    let fake = fake(JobState::Failed).await;
    let ran = ctl(fake.home(), &["resources", "1b0c"]).await;
    assert!(ran.code == 0 && ran.out.contains("left over") && ran.out.contains("by hand: power the VM off"), "{ran:?}");
    let ran = ctl(fake.home(), &["resources", "1b0c", "-o", "json"]).await;
    let told = ran.json();
    let states: Vec<_> = told["resources"].as_array().unwrap().iter().map(|one| one["state"].clone()).collect();
    assert_eq!(states, ["made", "left_over"]);
}

#[tokio::test]
async fn sweep_touches_nothing_without_yes_and_tells_what_stays() {
    let fake = fake(JobState::Failed).await;
    let ran = ctl(fake.home(), &["sweep", "--site", "shanghai-1"]).await;
    assert!(ran.code == 0 && ran.out.contains("vm-1") && ran.out.contains("nothing was touched"), "{ran:?}");
    assert!(!ran.out.contains("im-1"), "a complete image is kept on purpose");
    assert!(fake.state.lock().unwrap().orders.is_empty());
    let ran = ctl(fake.home(), &["sweep", "--job", "1b0c", "--yes"]).await;
    assert_eq!(ran.code, 5, "this log still ends with a leftover: {ran:?}");
    assert_eq!(fake.state.lock().unwrap().orders, [format!("sweep {}", log::JOB)]);
    assert_eq!(ctl(fake.home(), &["sweep"]).await.code, 2);
    fake.state.lock().unwrap().jobs.clear();
    let ran = ctl(fake.home(), &["sweep", "--site", "shanghai-1"]).await;
    assert!(ran.code == 0 && ran.out.contains("nothing is left behind"), "{ran:?}");
}
