//! The journal on a real disk: torn tails, damage, pages, and what comes back.

use std::{fs, path::Path};

use gantry_agent::journal::{CancelRecord, Carried, Chunk, ChunkRecord, FILE_NAME, Journal, JournalError, StartRecord};
use gantry_proto::{Body, Level, TakenOver};
use proptest::prelude::*;

use crate::bench::start_record;

fn note(text: &str) -> Body {
    Body::Note { step: None, level: Level::Info, code: "n".into(), message: text.into(), extra: Default::default() }
}

fn chunk(num: u64) -> ChunkRecord {
    ChunkRecord { image_uuid: "i".into(), chunk: Chunk { chunk_num: num, sha256: "00".into(), size: 1 } }
}

/// A journal with a start and these notes; its bytes.
fn written(dir: &Path, notes: &[&str]) -> Vec<u8> {
    let (journal, _) = Journal::open(dir).unwrap();
    journal.start(start_record(1)).unwrap();
    for text in notes {
        journal.event(note(text)).unwrap();
    }
    fs::read(dir.join(FILE_NAME)).unwrap()
}

#[test]
fn everything_comes_back_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, folded) = Journal::open(dir.path()).unwrap();
    assert!(folded.start.is_none() && !folded.finished());
    journal.start(start_record(3)).unwrap();
    assert_eq!(journal.event(note("one")).unwrap().seq, 1);
    (0..40).for_each(|num| journal.chunk(chunk(num)).unwrap());
    let intent = |id| Body::Intent { step: "s".into(), id, call: "c".into(), detail: Default::default() };
    journal.event(intent(1)).unwrap();
    journal.event(intent(2)).unwrap();
    let result = gantry_proto::event::IntentResult::Done;
    journal.event(Body::IntentOutcome { step: "s".into(), intent: 1, result, detail: Default::default() }).unwrap();
    journal.event(Body::Fact { step: "s".into(), key: "vm".into(), value: Some(7.into()) }).unwrap();
    journal.acked(2).unwrap();
    journal.acked(1).unwrap();
    journal.acked(99).unwrap();
    let cancel = CancelRecord { order: 9, epoch: 3, by: "op".into(), reason: String::new() };
    journal.cancel(cancel.clone()).unwrap();
    let before = journal.tail();

    let (journal, folded) = Journal::open(dir.path()).unwrap();
    let after = journal.tail();
    assert_eq!((after.epoch, after.last_seq, after.acked, after.finished), (3, 5, 2, false));
    assert_eq!((before.last_seq, before.acked), (5, 2));
    assert_eq!(folded.start.unwrap().document(), start_record(3).document());
    assert_eq!((folded.last_intent, folded.open_intents.keys().copied().collect::<Vec<_>>()), (2, vec![2]));
    assert_eq!(folded.chunks["i"].len(), 40);
    assert_eq!(folded.view.facts["vm"], 7);
    assert_eq!(folded.cancels, [cancel]);
    assert_eq!(journal.event(note("six")).unwrap().seq, 6);
}

#[test]
fn nothing_follows_the_last_event_of_an_epoch() {
    let dir = tempfile::tempdir().unwrap();
    written(dir.path(), &["one"]);
    let last = Body::JobFinished {
        outcome: gantry_proto::JobOutcome::Succeeded,
        undo: gantry_proto::UndoState::Nothing,
        failure: None,
        leftovers: Vec::new(),
        result: serde_json::Value::Null,
    };
    let started = |journal: &Journal| {
        let agent = "a1".parse().unwrap();
        journal.event(Body::JobStarted {
            agent,
            agent_version: "0".into(),
            steps: Vec::new(),
            kept: Vec::new(),
            taken_over: None,
        })
    };
    {
        let (journal, _) = Journal::open(dir.path()).unwrap();
        started(&journal).unwrap();
        journal.event(last.clone()).unwrap();
        let late = Body::CancelAccepted { by: "op".into(), reason: String::new() };
        for body in [late, note("late"), last.clone()] {
            assert!(journal.event(body).unwrap_err().to_string().contains("has ended"));
        }
        assert_eq!(journal.tail().last_seq, 3);
    }
    let (journal, folded) = Journal::open(dir.path()).unwrap();
    assert!(folded.finished() && journal.tail().finished);
    assert!(journal.event(note("after a restart")).is_err());
    journal.start(start_record(4)).unwrap();
    assert_eq!(started(&journal).unwrap().seq, 4);
    assert_eq!(journal.event(last).unwrap().seq, 5);
    assert!(journal.event(note("late again")).is_err());
}

#[test]
fn a_tail_torn_at_any_byte_is_cut_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let whole = written(dir.path(), &["one", "two"]);
    let last = whole[..whole.len() - 1].iter().rposition(|byte| *byte == b'\n').unwrap() + 1;
    for end in last..whole.len() {
        fs::write(dir.path().join(FILE_NAME), &whole[..end]).unwrap();
        let (journal, folded) = Journal::open(dir.path()).unwrap();
        assert_eq!((journal.tail().last_seq, folded.view.last_seq), (1, 1), "torn at {end}");
        assert_eq!(fs::read(dir.path().join(FILE_NAME)).unwrap(), whole[..last], "torn at {end}");
        assert_eq!(journal.event(note("two again")).unwrap().seq, 2);
    }
}

#[test]
fn a_last_line_that_was_altered_is_cut_too() {
    let dir = tempfile::tempdir().unwrap();
    let mut bytes = written(dir.path(), &["one", "two"]);
    let at = bytes.len() - 3;
    bytes[at] ^= 1;
    fs::write(dir.path().join(FILE_NAME), bytes).unwrap();
    assert_eq!(Journal::open(dir.path()).unwrap().0.tail().last_seq, 1);
}

#[test]
fn damage_in_the_middle_names_file_and_line_and_touches_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut bytes = written(dir.path(), &["one", "two", "three"]);
    let third = bytes.iter().enumerate().filter(|(_, byte)| **byte == b'\n').nth(1).unwrap().0 + 20;
    bytes[third] ^= 1;
    fs::write(dir.path().join(FILE_NAME), &bytes).unwrap();
    let Err(JournalError::Damaged { path, line, .. }) = Journal::open(dir.path()) else { panic!("not noticed") };
    assert_eq!((path, line), (dir.path().join(FILE_NAME).display().to_string(), 3));
    assert_eq!(fs::read(dir.path().join(FILE_NAME)).unwrap(), bytes);
}

#[test]
fn a_line_without_end_is_not_read_into_memory_for_ever() {
    let dir = tempfile::tempdir().unwrap();
    let mut bytes = written(dir.path(), &["one"]);
    bytes.extend(vec![b'x'; 3 << 20]);
    fs::write(dir.path().join(FILE_NAME), bytes).unwrap();
    assert!(matches!(Journal::open(dir.path()), Err(JournalError::Damaged { line: 3, .. })));
}

#[test]
fn a_missing_event_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let bytes = written(dir.path(), &["one", "two", "three"]);
    let lines: Vec<&[u8]> = bytes.split_inclusive(|byte| *byte == b'\n').collect();
    fs::write(dir.path().join(FILE_NAME), [lines[0], lines[1], lines[3]].concat()).unwrap();
    let Err(JournalError::Damaged { line: 3, what, .. }) = Journal::open(dir.path()) else { panic!("not noticed") };
    assert_eq!(what, "event 3 after event 1");
}

#[test]
fn a_second_beginning_of_an_epoch_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = Journal::open(dir.path()).unwrap();
    journal.start(start_record(1)).unwrap();
    journal.start(start_record(1)).unwrap();
    assert!(matches!(Journal::open(dir.path()), Err(JournalError::Damaged { line: 2, .. })));
}

#[test]
fn what_is_too_long_is_refused_and_the_journal_stays_whole() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = Journal::open(dir.path()).unwrap();
    journal.start(start_record(1)).unwrap();
    assert!(journal.event(note(&"x".repeat(2 << 20))).is_err());
    assert_eq!(journal.event(note("short")).unwrap().seq, 1);
    assert_eq!(Journal::open(dir.path()).unwrap().0.tail().last_seq, 1);
}

#[test]
fn a_journal_that_cannot_be_opened_says_which() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join(FILE_NAME)).unwrap();
    let Err(error) = Journal::open(dir.path()) else { panic!("a directory is no journal") };
    assert!(error.to_string().contains(FILE_NAME), "{error}");
}

#[tokio::test]
async fn events_are_read_in_pages_from_any_place() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = Journal::open(dir.path()).unwrap();
    journal.start(start_record(1)).unwrap();
    for number in 1..=10 {
        journal.event(note(&format!("{number}"))).unwrap();
        journal.chunk(chunk(number)).unwrap();
    }
    let mut reader = journal.events_after(4);
    let seqs = |page: Vec<gantry_proto::Event>| page.iter().map(|event| event.seq).collect::<Vec<_>>();
    assert_eq!(seqs(reader.page(4, 1 << 20).await.unwrap()), [5, 6, 7, 8]);
    assert_eq!(seqs(reader.page(4, 1 << 20).await.unwrap()), [9, 10]);
    assert!(!reader.has_more() && reader.page(4, 1 << 20).await.unwrap().is_empty());
    journal.event(note("11")).unwrap();
    assert!(reader.has_more());
    assert_eq!(seqs(reader.page(4, 1).await.unwrap()), [11]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// Any sequence of writes and restarts gives the same log as without restarts.
    #[test]
    fn append_and_reopen_in_any_order(moves in prop::collection::vec((0u8..6, "\\PC{0,40}"), 1..40)) {
        let dir = tempfile::tempdir().unwrap();
        let (mut journal, _) = Journal::open(dir.path()).unwrap();
        journal.start(start_record(1)).unwrap();
        let (mut told, mut chunks, mut acked) = (0, 0, 0);
        for (kind, text) in moves {
            match kind {
                0 | 1 => {
                    journal.event(note(&text)).unwrap();
                    told += 1;
                }
                2 => {
                    journal.chunk(chunk(chunks)).unwrap();
                    chunks += 1;
                }
                3 => {
                    journal.acked(told).unwrap();
                    acked = told;
                }
                4 => journal.close().unwrap(),
                _ => journal = Journal::open(dir.path()).unwrap().0,
            }
        }
        let (journal, folded) = Journal::open(dir.path()).unwrap();
        prop_assert_eq!((journal.tail().last_seq, journal.tail().acked), (told, acked));
        prop_assert_eq!(folded.chunks.get("i").map_or(0, |map| map.len() as u64), chunks);
    }

    /// Whatever is in the file, opening it does not panic.
    #[test]
    fn any_bytes_are_borne(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(FILE_NAME), bytes).unwrap();
        let _ = Journal::open(dir.path());
    }
}

#[test]
fn a_job_comes_from_another_agent_at_its_beginning_or_not_at_all() {
    let dir = tempfile::tempdir().unwrap();
    let carried = Carried {
        from: TakenOver { from: "a0".parse().unwrap(), by: "op".into(), confirmed: false },
        last_seq: 5,
        last_intent: 2,
        facts: [("ssh_user".to_owned(), "me".into())].into(),
        open_intents: Default::default(),
    };
    let record = |epoch| StartRecord { carried: Some(Box::new(carried.clone())), ..start_record(epoch) };
    {
        let (journal, _) = Journal::open(dir.path()).unwrap();
        journal.start(record(2)).unwrap();
        assert!(journal.start(record(3)).unwrap_err().to_string().contains("here already"));
        let event = journal.event(Body::Resumed { by: "op".into() }).unwrap();
        assert_eq!((event.seq, event.epoch), (6, 2));
    }
    let (journal, folded) = Journal::open(dir.path()).unwrap();
    let tail = journal.tail();
    assert_eq!((tail.before, tail.acked, tail.last_seq, tail.is_over()), (5, 5, 6, false));
    assert_eq!((folded.last_intent, folded.view.facts["ssh_user"].as_str()), (2, Some("me")));
    assert_eq!(folded.taken_over, Some(carried.from));
    journal.moved().unwrap();
    journal.event(Body::Resumed { by: "op".into() }).unwrap();
    drop(journal);
    let (journal, folded) = Journal::open(dir.path()).unwrap();
    assert!(journal.tail().is_over() && folded.is_over() && !folded.finished(), "and what was told stays readable");
}

#[test]
fn the_last_number_is_the_end_and_no_overflow() {
    let carried = Carried {
        from: TakenOver { from: "a0".parse().unwrap(), by: "op".into(), confirmed: true },
        last_seq: u64::MAX,
        last_intent: u64::MAX,
        facts: Default::default(),
        open_intents: Default::default(),
    };
    let record = StartRecord { carried: Some(Box::new(carried)), ..start_record(2) };
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = Journal::open(dir.path()).unwrap();
    journal.start(record).unwrap();
    assert!(journal.event(note("one more")).unwrap_err().to_string().contains("used up"));
    let mut file = fs::read_to_string(dir.path().join(FILE_NAME)).unwrap();
    assert_eq!(Journal::open(dir.path()).unwrap().0.tail().last_seq, u64::MAX);
    let other = tempfile::tempdir().unwrap();
    let last = written(other.path(), &["an event"]);
    file += std::str::from_utf8(&last).unwrap().lines().last().unwrap();
    fs::write(dir.path().join(FILE_NAME), file + "\n").unwrap();
    let Err(JournalError::Damaged { line: 2, what, .. }) = Journal::open(dir.path()).map(drop) else { panic!() };
    assert!(what.contains("event 1 after event 18446744073709551615"), "{what}");
}
