//! A job that cannot decide, as an operator sees it.

use gantry_proto::{
    Body, Choice, Code,
    v1::{self, JobState},
};
use serde_json::json;

use crate::{
    fake::Fake,
    log,
    run::{Ran, ctl},
};

fn asked() -> Body {
    let choice = |id: &str, text: &str| Choice { id: id.into(), text: text.into() };
    let choices = vec![
        choice("look-again", "look once more, after somebody has removed the VM that is in the way"),
        choice("undo", "the job fails, and what it made is removed"),
    ];
    Body::OperatorNeeded { step: "create-vm".into(), failure: log::failure(), choices }
}

/// A job that waits since event 6.
async fn waiting() -> Fake {
    let mut bodies = vec![log::begun(), log::start("preflight", 1), log::done("preflight", 10)];
    bodies.extend([log::start("create-vm", 1), log::warning(None, "a VM is in the way"), asked()]);
    let fake = Fake::with(log::numbered(bodies), JobState::NeedsOperator).await;
    let Body::OperatorNeeded { failure, choices, .. } = asked() else { unreachable!() };
    let question = v1::OperatorQuestion {
        answered: false,
        seq: 6,
        step: "create-vm".into(),
        failure: Some((&failure).into()),
        choices: choices.into_iter().map(Into::into).collect(),
    };
    fake.state.lock().unwrap().job.question = Some(question);
    fake
}

fn names_both_answers(ran: &Ran, text: &str) {
    for choice in ["look-again", "undo"] {
        assert!(text.contains(&format!("ctl decide {} {choice}", log::JOB)), "{ran:?}");
    }
    assert!(text.contains("chunk 17 of the ISO could not be sent"), "{ran:?}");
}

#[tokio::test]
async fn without_a_choice_the_question_is_shown_with_a_command_for_each_answer() {
    let fake = waiting().await;
    let ran = ctl(fake.home(), &["decide", "1b0c"]).await;
    assert_eq!(ran.code, 8);
    insta::assert_snapshot!("decide_question", ran.all());
    let ran = ctl(fake.home(), &["decide", "1b0c", "-o", "json"]).await;
    let document = ran.json();
    assert_eq!((ran.code, &document["question"]["choices"][1]["id"]), (8, &json!("undo")));
    assert_eq!(document["job"]["question"]["seq"], 6);
    assert!(fake.state.lock().unwrap().orders.is_empty(), "nothing was decided");
    // An older controller does not tell the question: the log does.
    fake.state.lock().unwrap().job.question = None;
    let ran = ctl(fake.home(), &["decide", "1b0c"]).await;
    names_both_answers(&ran, &ran.out);
    fake.state.lock().unwrap().job.state = JobState::Running.into();
    let ran = ctl(fake.home(), &["decide", "1b0c"]).await;
    assert!(ran.code == 7 && ran.err.contains("does not wait for an operator"), "{ran:?}");
}

#[tokio::test]
async fn an_answer_is_handed_on_with_its_reason() {
    let fake = waiting().await;
    let ran = ctl(fake.home(), &["decide", "1b0c", "undo", "--reason", "not ours", "--question", "6"]).await;
    assert!(ran.code == 0 && ran.out.contains("the answer is \"undo\"; agent bj-1 gets it now"), "{ran:?}");
    let ran = ctl(fake.home(), &["decide", "1b0c", "look-again", "-o", "json"]).await;
    assert_eq!(ran.json()["job"]["state"], "needs_operator", "nothing is claimed");
    assert_eq!(fake.state.lock().unwrap().orders, ["decide undo for 6: not ours", "decide look-again for 0: "]);
    assert_eq!(ctl(fake.home(), &["decide", "1b0c", "--reason", "x"]).await.code, 2);
    let refusal = Code::JobState.status("\"x\" is no answer: choose one of look-again, undo");
    fake.state.lock().unwrap().refuse = Some(refusal);
    let ran = ctl(fake.home(), &["decide", log::JOB, "x"]).await;
    assert!(ran.code == 7 && ran.err.contains("choose one of look-again, undo"), "{ran:?}");
}

#[tokio::test]
async fn show_watch_and_jobs_tell_that_it_waits_and_how_to_answer() {
    let fake = waiting().await;
    let ran = ctl(fake.home(), &["show", log::JOB]).await;
    assert!(ran.code == 0 && ran.out.contains("what an operator has to decide"), "{ran:?}");
    names_both_answers(&ran, &ran.out);
    let ran = ctl(fake.home(), &["watch", log::JOB]).await;
    assert!(ran.code == 8 && ran.err.contains("waits for an operator"), "{ran:?}");
    names_both_answers(&ran, &ran.err);
    for form in ["json", "ndjson"] {
        let ran = ctl(fake.home(), &["watch", log::JOB, "-o", form]).await;
        assert!(ran.code == 8 && ran.out.contains("look-again"), "{ran:?}");
    }
    assert!(ctl(fake.home(), &["jobs"]).await.out.contains("needs operator"));
}
