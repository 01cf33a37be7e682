//! The executor with made-up steps: every outcome at every place, undo, retries, cancel, stop, keep, panic.

use gantry_agent::executor::{self, Ended};
use gantry_proto::{Body, JobOutcome, REDACTED, UndoState};

use crate::bench::{Act, Bench, Table, Undo, words};

const IDS: [&str; 3] = ["a", "b", "c"];

fn done(upto: usize) -> Vec<String> {
    IDS[..upto].iter().flat_map(|id| [format!("{id} 1"), format!("{id} ok")]).collect()
}

fn undone(steps: &[&str]) -> Vec<String> {
    steps.iter().rev().flat_map(|id| [format!("undo {id}"), format!("undone {id}")]).collect()
}

fn log(parts: &[&[String]]) -> Vec<String> {
    parts.concat()
}

fn w(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

#[tokio::test]
async fn steps_are_walked_in_order_and_the_job_ends_once() {
    let (bench, table) = (Bench::new(), Table::new());
    assert!(matches!(bench.run(table.pipeline).await, Ended::Finished(JobOutcome::Succeeded)));
    let events = bench.events().await;
    assert_eq!(words(&events), log(&[&w(&["started"]), &done(3), &w(&["finished Succeeded Nothing"])]));
    let Body::JobFinished { failure, result, .. } = &events.last().unwrap().body else { panic!("not the last") };
    assert!(failure.is_none());
    let stage = &result["deploy_cloudtower"];
    assert_eq!((stage["status"].as_str(), stage.get("error")), (Some("SERVICE_READY"), None));
    assert_eq!(stage["base_url"], "https://192.0.2.20");
    assert_eq!(stage["cloudtower"]["session"]["token"], REDACTED);
    assert_eq!(stage["logs"]["stage"], "logs/stage_deploy_cloudtower.log");
    assert!(stage["timings"]["total_s"].as_f64().unwrap() > 0.0);
}

#[tokio::test]
async fn every_failure_at_every_step_is_undone_newest_first() {
    for at in 0..3 {
        for (act, code, attempts) in
            [(Act::Permanent, "permanent", 1), (Act::Panic, "internal", 1), (Act::Again, "again", 2)]
        {
            let (bench, table) = (Bench::new(), Table::new());
            table.acts(at, &[act]);
            assert!(matches!(bench.run(table.pipeline).await, Ended::Finished(JobOutcome::Failed)));
            let id = IDS[at];
            let mut expected = log(&[&w(&["started"]), &done(at)]);
            if attempts == 2 {
                expected.extend([format!("{id} 1"), format!("{id} {code} retry")]);
                expected.extend(undone(&[id]));
                expected.push(format!("{id} 2"));
            } else {
                expected.push(format!("{id} 1"));
            }
            expected.push(format!("{id} {code}"));
            expected.extend(undone(&IDS[..=at]));
            expected.push("finished Failed RolledBack".to_owned());
            let events = bench.events().await;
            assert_eq!(words(&events), expected, "{act:?} at {id}");
            let Body::JobFinished { failure, result, .. } = &events.last().unwrap().body else {
                panic!("not the last")
            };
            assert_eq!(failure.as_ref().unwrap().code, code);
            let stage = &result["deploy_cloudtower"];
            assert_eq!((stage.get("status"), stage["error"]["step"].as_str()), (None, Some(id)));
            assert_eq!(stage["error"]["code"], code);
        }
    }
}

#[tokio::test]
async fn an_attempt_that_failed_is_undone_and_tried_again() {
    let (bench, table) = (Bench::new(), Table::new());
    table.acts(1, &[Act::Again, Act::Succeed]);
    assert!(matches!(bench.run(table.pipeline).await, Ended::Finished(JobOutcome::Succeeded)));
    assert_eq!(table.diary(), ["run a", "run b", "undo b", "run b", "run c"]);
    let view = bench.view().await;
    assert_eq!((view.steps[1].attempt, view.failure), (2, None));
}

#[tokio::test]
async fn a_step_is_not_tried_again_over_what_its_undo_left() {
    let (bench, table) = (Bench::new(), Table::new());
    table.acts(1, &[Act::Again]);
    table.undo(1, Undo::Fails);
    assert!(matches!(bench.run(table.pipeline).await, Ended::Finished(JobOutcome::Failed)));
    assert_eq!(table.diary(), ["run a", "run b", "undo b", "undo b", "undo a"]);
    let view = bench.view().await;
    assert_eq!(view.undo, Some(UndoState::RollbackIncomplete));
    assert!(view.failure.unwrap().causes[0].contains("its undo failed"));
}

#[tokio::test]
async fn a_failed_undo_is_told_and_the_rest_go_on() {
    for broken in [Undo::Fails, Undo::Panics] {
        for at in 0..3 {
            let (bench, table) = (Bench::new(), Table::new());
            table.acts(2, &[Act::Permanent]);
            table.undo(at, broken);
            bench.run(table.pipeline).await;
            assert_eq!(table.diary()[3..], ["undo c", "undo b", "undo a"]);
            assert_eq!(bench.view().await.undo, Some(UndoState::RollbackIncomplete), "{broken:?} at {at}");
        }
    }
}

#[tokio::test]
async fn the_state_of_the_undo_says_what_is_so() {
    for (undo, state) in [
        (Undo::Removes, UndoState::RolledBack),
        (Undo::Nothing, UndoState::Nothing),
        (Undo::LeavesOver, UndoState::RollbackIncomplete),
    ] {
        let (bench, table) = (Bench::new(), Table::new());
        table.acts(0, &[Act::Permanent]);
        table.undo(0, undo);
        bench.run(table.pipeline).await;
        let view = bench.view().await;
        assert_eq!(view.undo, Some(state));
        assert_eq!(view.leftovers.len(), usize::from(undo == Undo::LeavesOver));
    }
}

#[tokio::test]
async fn a_leftover_of_one_step_does_not_hide_what_another_one_left() {
    let (bench, table) = (Bench::new(), Table::new());
    let (job, strings) = bench.take_up();
    let mut facts = gantry_agent::facts::Facts::default();
    crate::bench::made(&mut facts);
    strings.log.save(&"a".into(), &facts).await.unwrap();
    drop((job, strings));
    table.acts(2, &[Act::Permanent]);
    table.undo(2, Undo::LeavesOver);
    table.undo(1, Undo::Fails);
    bench.run(table.pipeline).await;
    let view = bench.view().await;
    let told: Vec<_> = view.leftovers.iter().map(|left| (left.kind.as_str(), left.id.as_str())).collect();
    assert_eq!((view.undo, told), (Some(UndoState::RollbackIncomplete), vec![("volume", "1"), ("vm", "vm-1")]));
}

#[tokio::test]
async fn an_undo_that_hangs_is_ended_at_its_deadline() {
    let (mut bench, table) = (Bench::new(), Table::new());
    bench.settings.timing.undo_limit_s = 10.0;
    table.acts(1, &[Act::Permanent]);
    table.undo(1, Undo::Hangs);
    assert!(matches!(bench.run(table.pipeline).await, Ended::Finished(JobOutcome::Failed)));
    assert!(words(&bench.events().await).contains(&"undo b undo_timeout".to_owned()));
    assert_eq!(table.diary().last().unwrap(), "undo a");
}

#[tokio::test]
async fn hands_off_keeps_everything_and_so_does_the_policy() {
    // Details of any length, also where the word itself is what makes them too long (11 bytes are around `seen`).
    let long =
        [100_000, (32 << 10) - 11, (32 << 10) - 12, (32 << 10) - 20].map(|bytes| (Act::HandsOffWith(bytes), false));
    for (act, keep) in long.into_iter().chain([(Act::HandsOff, false), (Act::Permanent, true)]) {
        let (mut bench, table) = (Bench::new(), Table::new());
        bench.keep = keep;
        table.acts(2, &[act]);
        assert!(matches!(bench.run(table.pipeline).await, Ended::Finished(JobOutcome::Failed)));
        assert_eq!(table.diary(), ["run a", "run b", "run c"]);
        // The made-up steps made nothing that the facts know of.
        let view = bench.view().await;
        assert_eq!(view.undo, Some(UndoState::Nothing));
        // In the journal too: a restart goes by it.
        assert_eq!(view.failure.unwrap().detail.get("hands_off").is_some(), act != Act::Permanent, "{act:?}");
    }
}

#[tokio::test]
async fn what_is_kept_is_said_to_be_kept() {
    let (mut bench, table) = (Bench::new(), Table::new());
    bench.keep = true;
    let (job, strings) = bench.take_up();
    let mut facts = gantry_agent::facts::Facts::default();
    crate::bench::made(&mut facts);
    strings.log.save(&"a".into(), &facts).await.unwrap();
    drop((job, strings));
    table.acts(0, &[Act::Permanent]);
    bench.run(table.pipeline).await;
    let view = bench.view().await;
    assert_eq!((view.undo, view.leftovers.len()), (Some(UndoState::Kept), 0));
    assert_eq!(view.result.unwrap()["deploy_cloudtower"]["vm"]["uuid"], "vm-1");
}

#[tokio::test]
async fn a_cancel_stops_every_step_at_its_safe_point_and_undoes() {
    for at in 0..3 {
        let (bench, table) = (Bench::new(), Table::new());
        table.acts(at, &[Act::Hang]);
        let (job, strings) = bench.take_up();
        let hanging = table.steps[at].hanging.clone();
        let both = async {
            hanging.notified().await;
            strings.cancel(7).await;
            strings.cancel(7).await;
        };
        let (ended, ()) = tokio::join!(executor::execute(job, table.pipeline), both);
        assert!(matches!(ended, Ended::Finished(JobOutcome::Cancelled)));
        let id = IDS[at];
        let expected = log(&[
            &w(&["started"]),
            &done(at),
            &[format!("{id} 1"), "cancel op".to_owned(), format!("{id} cancelled")],
            &undone(&IDS[..=at]),
            &w(&["finished Cancelled RolledBack"]),
        ]);
        let events = bench.events().await;
        assert_eq!(words(&events), expected);
        let Body::JobFinished { failure: Some(failure), .. } = &events.last().unwrap().body else {
            panic!("no failure")
        };
        assert_eq!(failure.message, "the job was cancelled by op: because");
    }
}

#[tokio::test]
async fn a_cancel_before_the_first_step_touches_nothing() {
    let (bench, table) = (Bench::new(), Table::new());
    let (job, strings) = bench.take_up();
    strings.cancel(7).await;
    assert!(matches!(executor::execute(job, table.pipeline).await, Ended::Finished(JobOutcome::Cancelled)));
    assert_eq!(words(&bench.events().await), ["started", "cancel op", "finished Cancelled Nothing"]);
    assert!(table.diary().is_empty());
}

#[tokio::test]
async fn a_cancel_during_the_undo_changes_nothing_but_the_record() {
    let (bench, table) = (Bench::new(), Table::new());
    table.acts(1, &[Act::Permanent]);
    table.undo(1, Undo::Hangs);
    let (mut job, strings) = bench.take_up();
    let mut settings = bench.settings.clone();
    settings.timing.undo_limit_s = 200.0;
    job.settings = settings.into();
    let hanging = table.steps[1].hanging.clone();
    let cancel = async {
        hanging.notified().await;
        strings.cancel(7).await;
        strings.cancel(7).await;
    };
    let (ended, ()) = tokio::join!(executor::execute(job, table.pipeline), cancel);
    assert!(matches!(ended, Ended::Finished(JobOutcome::Failed)));
    let words = words(&bench.events().await);
    assert_eq!(words.iter().filter(|word| *word == "cancel op").count(), 1);
    assert!(words.contains(&"undo b undo_timeout".to_owned()), "the waiting went on: {words:?}");
    assert_eq!(words[words.len() - 3..], ["undo a", "undone a", "finished Failed RollbackIncomplete"]);
}

#[tokio::test]
async fn a_second_cancel_ends_the_waiting_of_the_undo_but_not_the_record() {
    let (mut bench, table) = (Bench::new(), Table::new());
    table.acts(2, &[Act::Hang]);
    table.undo(1, Undo::Hangs);
    // An hour even at this scale: only the second cancel ends it.
    bench.settings.timing.undo_limit_s = 3_600_000.0;
    let mut facts = gantry_agent::facts::Facts::default();
    crate::bench::made(&mut facts);
    bench.take_up().1.log.save(&"b".into(), &facts).await.unwrap();
    let (job, strings) = bench.take_up();
    let (running, undoing) = (table.steps[2].hanging.clone(), table.steps[1].hanging.clone());
    let cancel = async {
        running.notified().await;
        strings.cancel(7).await;
        undoing.notified().await;
        strings.cancel(8).await;
        strings.cancel(8).await;
    };
    let (ended, ()) = tokio::join!(executor::execute(job, table.pipeline), cancel);
    assert!(matches!(ended, Ended::Finished(JobOutcome::Cancelled)));
    let words = words(&bench.events().await);
    let expected = [
        "undo c",
        "undone c",
        "undo b",
        "cancelled_again",
        "undo b undo_cut_short",
        "undo a",
        "undone a",
        "finished Cancelled RollbackIncomplete",
    ];
    assert_eq!(words[words.len() - expected.len()..], expected);
    let left = bench.view().await.leftovers;
    assert_eq!(left.iter().map(|left| left.id.as_str()).collect::<Vec<_>>(), ["vm-1"]);
}

#[tokio::test]
async fn a_second_cancel_holds_after_a_restart_too() {
    let (mut bench, table) = (Bench::new(), Table::new());
    table.acts(1, &[Act::Hang]);
    table.undo(1, Undo::Hangs);
    let (job, strings) = bench.take_up();
    let (running, undoing) = (table.steps[1].hanging.clone(), table.steps[1].hanging.clone());
    let stop = async {
        running.notified().await;
        strings.cancel(7).await;
        undoing.notified().await;
        strings.stop.cancel();
    };
    let (ended, ()) = tokio::join!(executor::execute(job, table.pipeline), stop);
    assert!(matches!(ended, Ended::Stopped));
    bench.take_up().1.cancel(8).await;
    // The agent dies before it acts on it: the record alone has to be enough.
    bench.settings.timing.undo_limit_s = 3_600_000.0;
    let ended = bench.run(table.pipeline).await;
    assert!(matches!(ended, Ended::Finished(JobOutcome::Cancelled)));
    let words = words(&bench.events().await);
    assert_eq!(words.iter().filter(|word| *word == "cancelled_again").count(), 1, "{words:?}");
    assert!(words.contains(&"undo b undo_cut_short".to_owned()), "{words:?}");
}

#[tokio::test]
async fn when_the_agent_stops_the_job_goes_on_at_its_next_start() {
    for at in 0..3 {
        let (bench, table) = (Bench::new(), Table::new());
        table.acts(at, &[Act::Hang, Act::Succeed]);
        let (job, strings) = bench.take_up();
        let hanging = table.steps[at].hanging.clone();
        let stop = async {
            hanging.notified().await;
            strings.stop.cancel();
        };
        let (ended, ()) = tokio::join!(executor::execute(job, table.pipeline), stop);
        assert!(matches!(ended, Ended::Stopped));
        assert!(bench.view().await.result.is_none());
        assert!(matches!(bench.run(table.pipeline).await, Ended::Finished(JobOutcome::Succeeded)));
        let mut expected = IDS[..=at].iter().map(|id| format!("run {id}")).collect::<Vec<_>>();
        expected.extend(IDS[at..].iter().map(|id| format!("run {id}")));
        assert_eq!(table.diary(), expected, "a step that is done is not done again");
        assert_eq!(bench.view().await.steps[at].attempt, 1, "a restart costs no attempt");
    }
}

#[tokio::test]
async fn when_the_agent_stops_in_an_undo_the_undo_goes_on() {
    let (bench, table) = (Bench::new(), Table::new());
    table.acts(2, &[Act::Permanent]);
    table.undo(1, Undo::Hangs);
    let (job, strings) = bench.take_up();
    let hanging = table.steps[1].hanging.clone();
    let stop = async {
        hanging.notified().await;
        strings.stop.cancel();
    };
    let (ended, ()) = tokio::join!(executor::execute(job, table.pipeline), stop);
    assert!(matches!(ended, Ended::Stopped));
    table.undo(1, Undo::Removes);
    table.diary();
    assert!(matches!(bench.run(table.pipeline).await, Ended::Finished(JobOutcome::Failed)));
    assert_eq!(table.diary(), ["undo b", "undo a"]);
    assert_eq!(bench.view().await.failure.unwrap().code, "permanent");
}

#[tokio::test]
async fn no_secret_gets_into_the_journal_or_a_log_file() {
    let (bench, table) = (Bench::new(), Table::new());
    table.acts(1, &[Act::Panic]);
    bench.run(table.pipeline).await;
    let logs = bench.job_dir().join("logs/stage_deploy_cloudtower.log");
    for file in [bench.job_dir().join("journal.log"), logs] {
        let text = std::fs::read_to_string(&file).unwrap();
        assert!(!text.contains("canary") && text.contains(REDACTED), "{}", file.display());
    }
}

#[tokio::test]
async fn the_stage_log_has_the_documented_envelope() {
    let (bench, table) = (Bench::new(), Table::new());
    table.acts(2, &[Act::Permanent]);
    bench.run(table.pipeline).await;
    let text = std::fs::read_to_string(bench.job_dir().join("logs/stage_deploy_cloudtower.log")).unwrap();
    let lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), bench.events().await.len());
    for (line, seq) in lines.iter().zip(1..) {
        assert_eq!((line["seq"].as_u64(), line["deployment_id"].as_str()), (Some(seq), Some(&*bench.id.to_string())));
        assert_eq!(line["stage"], "deploy_cloudtower");
        assert!(
            line["at"].as_str().unwrap().ends_with('Z') && line["extra"].is_object() && line["message"].is_string()
        );
    }
    let failed = lines.iter().find(|line| line["step"] == "c" && line["level"] == "error").unwrap();
    assert_eq!(failed["extra"]["error"]["code"], "permanent");
}

#[tokio::test]
async fn a_job_that_takes_too_long_is_told_and_succeeds() {
    let (mut bench, table) = (Bench::new(), Table::new());
    bench.settings.timing.total_warn_s = 0.0;
    bench.run(table.pipeline).await;
    let words = words(&bench.events().await);
    assert_eq!(words[words.len() - 2..], ["slow_deployment", "finished Succeeded Nothing"]);
}
