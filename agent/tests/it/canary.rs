//! Canaries: whatever becomes of a job, its secrets are in no message to the controller and in no file but sealed, in no
//! encoding that the redactor knows.

use std::path::Path;

use gantry_proto::{JobId, REDACTED, Redactor, v1};
use prost::Message as _;
use v1::open_request::Item as In;

use crate::{
    bench::{Act, Table, Undo, secrets},
    controller::{Agent, Controller, Session, joined, start_order},
};

/// Finds the secrets of the tests.
struct Finder(Redactor);

impl Finder {
    fn new() -> Self {
        let redactor = Redactor::new();
        redactor.register_all(&secrets());
        Self(redactor)
    }

    fn absent(&self, place: &str, bytes: &[u8]) {
        let text = String::from_utf8_lossy(bytes).replace(REDACTED, "");
        assert!(!self.0.text(&text).contains(REDACTED), "a secret is in {place}");
    }

    /// How many files were searched.
    fn absent_below(&self, dir: &Path) -> usize {
        let mut files = 0;
        for entry in std::fs::read_dir(dir).unwrap().flatten() {
            if entry.file_type().unwrap().is_dir() {
                files += self.absent_below(&entry.path());
            } else {
                self.absent(&entry.path().display().to_string(), &std::fs::read(entry.path()).unwrap());
                files += 1;
            }
        }
        files
    }

    /// Hears everything up to the job's end; how many messages.
    async fn until_the_end(&self, session: &mut Session, job: JobId) -> usize {
        let mut messages = 0;
        loop {
            let item = session.hear().await.expect("the session ends too early");
            messages += 1;
            let finished = match &item {
                In::Events(batch) => {
                    session.ack(job, batch.events.last().unwrap().seq).await;
                    let ends = |event: &v1::Event| matches!(event.body, Some(v1::event::Body::JobFinished(_)));
                    batch.events.iter().any(ends)
                }
                _ => false,
            };
            self.absent("a message", &v1::OpenRequest { item: Some(item), ..Default::default() }.encode_to_vec());
            if finished {
                return messages;
            }
        }
    }
}

#[test]
fn the_finder_finds() {
    let finder = Finder::new();
    for text in ["x canary-root-password y", "canary%2Dssh%2Dpassword", "Y2FuYXJ5LWZpc2hleWUtcGFzc3dvcmQ="] {
        assert!(std::panic::catch_unwind(|| finder.absent("here", text.as_bytes())).is_err(), "{text}");
    }
}

#[tokio::test]
async fn no_secret_leaves_the_agent_whatever_becomes_of_the_job() {
    let ways: [(&str, Act, Undo); 5] = [
        ("success", Act::Succeed, Undo::Removes),
        ("failure", Act::Permanent, Undo::Removes),
        ("an undo that fails", Act::Permanent, Undo::Fails),
        ("a panic", Act::Panic, Undo::Removes),
        ("a panic in the undo", Act::Panic, Undo::Panics),
    ];
    for (what, act, undo) in ways {
        let (dir, table, mut controller) = (tempfile::tempdir().unwrap(), Table::new(), Controller::start().await);
        table.acts(1, &[act]);
        table.undo(1, undo);
        let mut settings = joined(dir.path(), &controller);
        settings.link.batch_events = 3;
        let agent = Agent::start(&settings, table.pipeline).await;
        let mut session = controller.welcomed(0).await;
        let (finder, job, key) = (Finder::new(), JobId::new(), session.hello.sealing_key.clone());
        session.order(start_order(1, job, &key, "192.0.2.20")).await;
        let messages = finder.until_the_end(&mut session, job).await;
        let said = format!("{:?}", agent.told(job).await);
        let words = said.contains(&format!("{REDACTED} in a panic"));
        assert_eq!(words, act == Act::Panic, "{what}: the panic's words are told, without the secret");
        assert!(agent.stop().await);
        let files = finder.absent_below(dir.path());
        assert!(messages >= 3 && files >= 5, "{what}: {messages} messages, {files} files");
    }
}
