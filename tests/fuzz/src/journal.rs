//! A journal as it lies on a disk that anything may have happened to. What can be opened can be written on, and opened
//! again.
//!
//! The first byte chooses: even, the rest is the file; odd, each line of the rest is the JSON of a record, and gets the
//! checksum that it needs.

use std::{fs, sync::LazyLock};

use gantry_agent::{
    facts::Facts,
    journal::{CancelRecord, FILE_NAME, Folded, Journal},
};
use gantry_proto::{Body, Level, Plan, v1};
use tempfile::TempDir;

use super::{
    input::choice,
    stage::{dir, fresh, wait},
};

static PLACE: LazyLock<TempDir> = LazyLock::new(dir);

pub(crate) fn run(input: &[u8]) {
    let (chosen, rest) = choice(input);
    let file = if chosen % 2 == 0 { rest.to_vec() } else { rest.split(|byte| *byte == b'\n').flat_map(line).collect() };
    let dir = fresh(&PLACE);
    fs::create_dir(&dir).unwrap();
    fs::write(dir.join(FILE_NAME), file).unwrap();
    if let Ok((journal, folded)) = Journal::open(&dir) {
        look(&folded);
        let mut reader = journal.events_after(0);
        let read = wait(async {
            let mut read = 0;
            while reader.has_more() {
                let page = reader.page(7, 1 << 12).await?;
                if page.is_empty() {
                    break;
                }
                read += page.len();
            }
            std::io::Result::Ok(read)
        });
        read.expect("what could be folded can be read");
        write(&journal);
        let last = journal.tail().last_seq;
        drop(journal);
        let (journal, folded) = Journal::open(&dir).expect("what we wrote ourselves can be opened");
        assert_eq!((journal.tail().last_seq, folded.view.last_seq), (last, last));
    }
    fs::remove_dir_all(&dir).unwrap();
}

fn line(json: &[u8]) -> Vec<u8> {
    let mut line = format!("{:08x} ", crc32fast::hash(json)).into_bytes();
    line.extend_from_slice(json);
    line.push(b'\n');
    line
}

/// What the agent makes of a journal when it takes a job up again.
fn look(folded: &Folded) {
    assert!(folded.acked <= folded.view.last_seq);
    folded.is_over();
    folded.view.percent();
    if let Some(start) = &folded.start {
        let _not_a_plan = Plan::from_document(&start.document());
        let _does_not_open = v1::SealedSecrets::from(&start.sealed);
        start.taken_over();
    }
    let facts = serde_json::Value::Object(folded.view.facts.clone().into_iter().collect());
    let _not_ours = serde_json::from_value::<Facts>(facts);
}

/// What an agent writes next.
fn write(journal: &Journal) {
    let cancel = CancelRecord { order: 9, epoch: journal.tail().epoch, by: "op".to_owned(), reason: String::new() };
    journal.cancel(cancel).unwrap();
    let note = Body::Note {
        step: None,
        level: Level::Info,
        code: "n".to_owned(),
        message: "a note".to_owned(),
        extra: Default::default(),
    };
    let _has_ended = journal.event(note);
    journal.acked(journal.tail().last_seq).unwrap();
    journal.close().unwrap();
}
