//! Who did what: shown, written into a file, and checked without a controller.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use gantry_proto::{
    Code,
    audit::{BEGIN, Entry, Head, Outcome, Record},
};
use jiff::Timestamp;

use crate::{
    fake::{Fake, State},
    log,
    run::{Ran, ctl},
};

/// A log of four records.
fn records() -> Vec<Record> {
    let who = Entry {
        operator: "li".into(),
        role: "operator".into(),
        remote: "192.0.2.9:4711".into(),
        job: log::JOB.into(),
        site: "beijing".into(),
        agent: "bj-1".into(),
        plan_sha256: "ab".repeat(32),
        ..Entry::default()
    };
    let begin = Entry { act: BEGIN.into(), outcome: Outcome::Done, subject: "ca sha256 12".into(), ..Entry::default() };
    let asked = Entry { act: "job.cancel".into(), detail: "wrong night".into(), ..who.clone() };
    let done = Entry { outcome: Outcome::Done, asked: 2, ..asked.clone() };
    let refused = Entry {
        act: "job.pause".into(),
        outcome: Outcome::Refused,
        code: "job_finished".into(),
        message: "the job has\u{1b}[2J ended".into(),
        ..who
    };
    let mut head = Head::NONE;
    let chain = [begin, asked, done, refused].into_iter().zip(1_900_000_000..).map(|(entry, second)| {
        let record = Record::after(head, Timestamp::from_second(second).unwrap(), entry);
        head = record.head();
        record
    });
    chain.collect()
}

async fn fake() -> Fake {
    Fake::start(State { records: records(), jobs: vec![log::job(3.try_into().unwrap(), 1)], ..State::default() }).await
}

/// An export, as `ctl` makes it.
async fn exported(fake: &Fake) -> PathBuf {
    let file = fake.home().join("audit.jsonl");
    let ran = ctl(fake.home(), &["audit", "export", file.to_str().unwrap()]).await;
    assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{ran:?}");
    let head = records()[3].head().to_string();
    assert!(ran.out.contains(&head) && ran.out.contains("4 records"), "{ran:?}");
    file
}

/// `ctl audit verify` where there is no controller.
async fn verify(file: &Path, args: &[&str]) -> Ran {
    let nowhere = tempfile::tempdir().unwrap();
    ctl(nowhere.path(), &[&["audit", "verify", file.to_str().unwrap()], args].concat()).await
}

#[tokio::test]
async fn acts_as_a_table_as_json_and_as_lines() {
    let fake = fake().await;
    insta::assert_snapshot!("audit", ctl(fake.home(), &["audit"]).await.all());
    let document = ctl(fake.home(), &["audit", "-o", "json"]).await.json();
    assert_eq!(document["records"][2]["outcome"], "done");
    assert_eq!(document["head"]["hash"], records()[3].hash.to_string());
    let lines = ctl(fake.home(), &["audit", "-o", "ndjson"]).await.out;
    assert_eq!(lines.lines().collect::<Vec<_>>(), records().iter().map(Record::line).collect::<Vec<_>>());

    let by = ["audit", "--job", log::JOB, "--by", "li", "--since", "2026-11-01", "--limit", "7"];
    assert_eq!(ctl(fake.home(), &by).await.code, 0);
    let asked = fake.state.lock().unwrap().audited.pop().unwrap();
    assert_eq!((asked.job_id.as_str(), asked.operator.as_str()), (log::JOB, "li"));
    assert_eq!((asked.limit, asked.newest, asked.since_micros), (7, true, 1_793_491_200_000_000));

    fake.state.lock().unwrap().records.clear();
    assert!(ctl(fake.home(), &["audit"]).await.out.starts_with("no records\nhead: 0:0000"));
    fake.state.lock().unwrap().refuse = Some(Code::NotAllowed.status("admins only"));
    assert_eq!(ctl(fake.home(), &["audit"]).await.code, 7);
}

#[tokio::test]
async fn an_export_is_whole_private_and_overwrites_nothing() {
    let fake = fake().await;
    let file = exported(&fake).await;
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let text = fs::read_to_string(&file).unwrap();
    assert_eq!(text.lines().collect::<Vec<_>>(), records().iter().map(Record::line).collect::<Vec<_>>());
    let again = ctl(fake.home(), &["audit", "export", file.to_str().unwrap()]).await;
    assert!(again.code == 2 && again.err.contains("is there already"), "{again:?}");

    let nowhere = fake.home().join("nowhere/audit.jsonl");
    let ran = ctl(fake.home(), &["audit", "export", nowhere.to_str().unwrap()]).await;
    assert!(ran.code == 2 && ran.err.contains("cannot write"), "{ran:?}");
    fake.state.lock().unwrap().break_audit_after = Some(2);
    let half = fake.home().join("half.jsonl");
    let ran = ctl(fake.home(), &["audit", "export", half.to_str().unwrap()]).await;
    assert!(ran.code == 6 && ran.err.contains("while reading the audit log"), "{ran:?}");
    assert!(!half.exists() && !fake.home().join("half.jsonl.part").exists());
}

#[tokio::test]
async fn a_controller_whose_log_was_altered_is_found_at_the_export() {
    let fake = fake().await;
    fake.state.lock().unwrap().records[1].entry.operator = "wang".into();
    let file = fake.home().join("audit.jsonl");
    let ran = ctl(fake.home(), &["audit", "export", file.to_str().unwrap()]).await;
    assert!(ran.code == 3 && ran.out.contains("record 2 was altered"), "{ran:?}");
    assert!(file.exists(), "it is what there is to be looked at");
}

#[tokio::test]
async fn a_file_is_checked_without_a_controller() {
    let fake = fake().await;
    let file = exported(&fake).await;
    let ran = verify(&file, &[]).await;
    assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{ran:?}");
    assert!(ran.out.contains("cannot be seen in the file"), "{}", ran.out);
    let ran = verify(&file, &["--head", &records()[2].head().to_string()]).await;
    assert!(ran.code == 0 && ran.out.contains("nothing was altered, removed or reordered\n"), "{ran:?}");

    let text = fs::read_to_string(&file).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let write = |lines: &[&str]| fs::write(&file, lines.join("\n") + "\n").unwrap();
    let long = "x".repeat(200_000);
    for (altered, words) in [
        (vec![lines[0], &lines[1].replace("wrong", "right"), lines[2], lines[3]], "record 2 was altered"),
        (vec![lines[0], lines[1], lines[3]], "record 4 stands where record 3 belongs"),
        (vec![lines[0], lines[2], lines[1], lines[3]], "record 3 stands where record 2 belongs"),
        (vec![lines[1], lines[2], lines[3]], "record 2 stands where record 1 belongs"),
        (vec![lines[0], lines[0], lines[1], lines[2], lines[3]], "record 1 stands where record 2 belongs"),
        (vec![lines[0], &long, lines[1], lines[2], lines[3]], "line 2 is no audit record: it is too long"),
        (vec![lines[0], "", lines[1], lines[2], lines[3]], "line 2 is no audit record"),
    ] {
        write(&altered);
        let ran = verify(&file, &[]).await;
        assert!(ran.code == 3 && ran.out.contains(words) && ran.err.is_empty(), "{words}: {ran:?}");
    }
    write(&lines[..3]);
    let ran = verify(&file, &["--head", &records()[3].head().to_string(), "-o", "json"]).await;
    let document = ran.json();
    assert_eq!((ran.code, &document["sound"], &document["records"]), (3, &false.into(), &3.into()));
    assert!(document["faults"][0].as_str().unwrap().contains("one record is missing at the end"), "{document}");
}

#[tokio::test]
async fn a_file_is_checked_against_the_head_of_the_controller() {
    let fake = fake().await;
    let file = exported(&fake).await;
    let args = ["audit", "verify", file.to_str().unwrap(), "--head-from-controller"];
    assert_eq!(ctl(fake.home(), &args).await.code, 0);

    let next = Record::after(records()[3].head(), Timestamp::UNIX_EPOCH, Entry::default());
    fake.state.lock().unwrap().records.push(next);
    let ran = ctl(fake.home(), &args).await;
    assert!(ran.code == 3 && ran.out.contains("one record is missing at the end"), "{ran:?}");
    fake.state.lock().unwrap().records.truncate(3);
    let ran = ctl(fake.home(), &args).await;
    assert!(ran.code == 3 && ran.out.contains("record 4 is not the one that is known"), "{ran:?}");
    let ran = verify(&file, &["--head-from-controller"]).await;
    assert!(ran.code == 2 && ran.err.contains("no controller is configured"), "{ran:?}");
}

#[tokio::test]
async fn what_is_no_file_is_told() {
    let home = tempfile::tempdir().unwrap();
    for (name, words) in [("missing", "there is no such file"), ("", "not a regular file")] {
        let ran = verify(&home.path().join(name), &[]).await;
        assert!(ran.code == 3 && ran.err.contains(words) && ran.err.contains("to do:"), "{ran:?}");
    }
    fs::write(home.path().join("empty"), "").unwrap();
    let ran = verify(&home.path().join("empty"), &[]).await;
    assert!(ran.code == 3 && ran.out.contains("there is no record in it"), "{ran:?}");
}
