//! The agent dies after any line of its journal: the job goes on from there, ends once, and in the same way.

use std::fs;

use gantry_agent::journal::FILE_NAME;
use gantry_proto::{Body, JobOutcome, UndoState};

use crate::bench::{Act, Bench, Table, Undo};

/// Runs a job to its end, then once more from every beginning of its journal.
async fn crash_everywhere(table: &Table, keep: bool, outcome: JobOutcome, undo: UndoState) {
    let mut bench = Bench::new();
    bench.keep = keep;
    bench.run(table.pipeline).await;
    let whole = fs::read(bench.job_dir().join(FILE_NAME)).unwrap();
    let lines: Vec<&[u8]> = whole.split_inclusive(|byte| *byte == b'\n').collect();
    assert!(lines.len() > 8);
    for kept in 1..lines.len() {
        let mut again = Bench::new();
        (again.keep, again.id) = (keep, bench.id);
        fs::create_dir_all(again.job_dir()).unwrap();
        fs::write(again.job_dir().join(FILE_NAME), lines[..kept].concat()).unwrap();
        again.run(table.pipeline).await;
        let events = again.events().await;
        assert!(events.iter().zip(1..).all(|(event, seq)| event.seq == seq), "cut after line {kept}");
        let count = |what: fn(&Body) -> bool| events.iter().filter(|event| what(&event.body)).count();
        assert_eq!(count(|body| matches!(body, Body::JobStarted { .. })), 1, "cut after line {kept}");
        assert_eq!(count(|body| matches!(body, Body::JobFinished { .. })), 1, "cut after line {kept}");
        let view = again.view().await;
        assert_eq!((view.outcome, view.undo), (Some(outcome), Some(undo)), "cut after line {kept}");
        assert!(view.steps.iter().all(|step| step.attempt <= 2), "cut after line {kept}");
    }
}

#[tokio::test]
async fn on_the_happy_path() {
    crash_everywhere(&Table::new(), false, JobOutcome::Succeeded, UndoState::Nothing).await;
}

#[tokio::test]
async fn in_a_failure_and_its_undo() {
    let table = Table::new();
    table.acts(2, &[Act::Permanent]);
    crash_everywhere(&table, false, JobOutcome::Failed, UndoState::RolledBack).await;
}

#[tokio::test]
async fn in_a_retry() {
    let table = Table::new();
    table.acts(1, &[Act::Again]);
    crash_everywhere(&table, false, JobOutcome::Failed, UndoState::RolledBack).await;
}

#[tokio::test]
async fn in_an_undo_that_fails() {
    let table = Table::new();
    table.acts(1, &[Act::Again]);
    table.undo(1, Undo::Fails);
    crash_everywhere(&table, false, JobOutcome::Failed, UndoState::RollbackIncomplete).await;
}

#[tokio::test]
async fn where_nothing_may_be_removed() {
    let table = Table::new();
    for act in [Act::HandsOff, Act::HandsOffWith(100_000)] {
        table.acts(2, &[act]);
        crash_everywhere(&table, false, JobOutcome::Failed, UndoState::Nothing).await;
        assert!(table.diary().iter().all(|line| line.starts_with("run")), "{act:?}");
    }
}
