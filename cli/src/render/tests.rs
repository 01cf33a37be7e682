//! What people see in Chinese, word for word, and that columns stay columns: a Chinese character takes two.

use gantry_proto::{
    Body, Event, Level, Problem, Severity, Verdict,
    audit::{Fault, Hash, Head, Verified},
    v1,
};
use jiff::Timestamp;

use super::{agents, audit, diff, findings, jobs, lines::Teller, paint::Paint, plan, question, text};
use crate::{
    args::Lang,
    follow::{Heard, Known},
    language::{Said, within},
};

fn shows(name: &str, shown: impl Fn() -> String) {
    let shown = within(Lang::Zh, shown);
    assert!(shown.lines().all(|line| text::width(line) <= 120), "{shown}");
    insta::with_settings!({ snapshot_path => "../../tests/it/snapshots", prepend_module_to_snapshot => false }, {
        insta::assert_snapshot!(name, shown);
    });
}

fn now() -> Timestamp {
    Timestamp::from_second(1_924_999_445).unwrap()
}

fn job(state: v1::JobState, in_contact: bool) -> v1::Job {
    v1::Job {
        job_id: "01976f2e-8c1a-7e11-9d55-0a1b3f2a1b0c".into(),
        state: state.into(),
        agent_id: "bj-1".into(),
        agent_in_contact: in_contact,
        agent_seen_micros: now().as_microsecond() - 90_000_000,
        created_micros: now().as_microsecond() - 1_900_000_000,
        current_step: "upload-iso".into(),
        vm_name: "cloudtower-上海".into(),
        cloudtower_ip: "192.0.2.20".into(),
        percent: 42.5,
        ..v1::Job::default()
    }
}

#[test]
fn the_table_of_jobs() {
    let states = [v1::JobState::Running, v1::JobState::NeedsOperator, v1::JobState::Cancelled, v1::JobState::Paused];
    let all = states.map(|state| job(state, state != v1::JobState::Paused));
    shows("jobs_zh", || jobs::text(&all, now(), 120));
    within(Lang::Zh, || assert_eq!(jobs::text(&[], now(), 80), "没有作业\n"));
    assert_eq!(jobs::text(&[], now(), 80), "no jobs\n");
}

#[test]
fn the_findings_of_a_workbook() {
    let problem = |severity, code: &str, cell: &str| Problem {
        severity,
        code: code.into(),
        rule: "V-07".into(),
        sheet: Some("集群管理信息".into()),
        cell: Some(cell.into()),
        related: vec!["集群管理信息!E4".into()],
        label: "Cloudtower IP".into(),
        value: Some("192.0.3.20".into()),
        message: "192.0.3.20 is not in 192.0.2.0/24".into(),
        remedy: "correct the address or the mask".into(),
    };
    let problems =
        [problem(Severity::Error, "not_in_subnet", "E3"), problem(Severity::Warning, "of_a_newer_planner", "E12")];
    shows("findings_zh", || findings::text("规划表.xlsx", Verdict::Invalid, &problems, Paint::PLAIN, 80));
}

#[test]
fn agents_and_their_notes() {
    let agent = |id: &str, end: i64| v1::Agent {
        agent_id: id.into(),
        site: "beijing".into(),
        in_contact: end > 0,
        seen_micros: now().as_microsecond() - 90_000_000,
        expires_micros: now().as_microsecond() + end * 1_000_000,
        version: "0.1.0".into(),
        ..v1::Agent::default()
    };
    shows("agents_zh", || agents::text(&[agent("bj-1", 86_400), agent("bj-2", -60)], now(), 120));
}

#[test]
fn a_look_at_a_site() {
    let line = |kind: v1::DiffKind, code: &str| v1::DiffLine {
        step: "create-vm".into(),
        kind: kind.into(),
        subject: "cloudtower".into(),
        message: "the VM is there already".into(),
        code: code.into(),
        ..v1::DiffLine::default()
    };
    let diff = v1::SiteDiff {
        lines: vec![line(v1::DiffKind::Create, ""), line(v1::DiffKind::Refuse, "vm_name_taken")],
        ..v1::SiteDiff::default()
    };
    let seen = diff::Seen { file: "规划表.xlsx", site: "beijing", agent: "bj-1", problems: &[], diff: &diff };
    shows("diff_zh", || diff::text(&seen, Paint::PLAIN, 80));
    let english = diff::document(&seen);
    within(Lang::Zh, || assert_eq!(diff::document(&seen), english));
}

#[test]
fn every_fault_of_an_audit_log() {
    let faults = vec![
        Fault::Unreadable { line: 3, why: "it is not text".into() },
        Fault::Rewritten { line: 4, number: 4 },
        Fault::Altered { number: 5 },
        Fault::Displaced { expected: 6, found: 8 },
        Fault::Displaced { expected: 9, found: 8 },
        Fault::Unchained { number: 9 },
        Fault::NoBeginning,
        Fault::Empty,
        Fault::CutShort { last: 9, known: 12 },
        Fault::OtherHead { number: 9 },
    ];
    let verified = Verified { records: 9, head: Head { number: 9, hash: Hash::of(b"") }, faults, more: 2 };
    shows("audit_faults_zh", || audit::verdict("audit.jsonl", &verified, true));
}

#[test]
fn fields_and_an_empty_log() {
    let head = Head { number: 0, hash: Hash::of(b"") };
    within(Lang::Zh, || {
        assert!(audit::text(&[], head, 80).starts_with("没有记录\n链头："));
        let fields = plan::fields(gantry_plan::FIELDS, 200);
        assert!(fields.starts_with("键") && fields.contains("留空时") && fields.contains("报错"), "{fields}");
    });
}

#[test]
fn a_job_that_waits_tells_programs_the_same() {
    let choices = vec![v1::Choice { id: "undo".into(), text: "what was made is removed".into() }];
    let failure = v1::Failure { code: "vm_gone".into(), message: "the VM is gone".into(), ..Default::default() };
    let asked = v1::OperatorQuestion { failure: Some(failure), choices, ..Default::default() };
    let failure = question::failure("3f2a1b0c", Some(&asked));
    let said: &Said = &failure.sentence();
    assert_eq!(said.english(), "job 3f2a1b0c waits for an operator: the VM is gone");
    shows("waits_zh", || failure.text(Paint::PLAIN));
}

/// The cluster's jobs have a note of a word that the controller has for an error.
#[test]
fn a_note_that_is_no_trouble_is_not_told_as_an_error_of_the_same_word() {
    let said = |level| {
        let (message, extra) = ("the cluster's job is done".to_owned(), Default::default());
        let body = Body::Note { step: None, level, code: "job_state".into(), message, extra };
        let heard = Heard::Event(Event { seq: 1, epoch: 1, at: now(), body }.into());
        within(Lang::Zh, || Teller::default().tell(&heard, &Known::default(), now()).unwrap().text)
    };
    assert_eq!(said(Level::Info), "the cluster's job is done");
    assert_eq!(said(Level::Warning), "作业当前状态不允许该操作（the cluster's job is done）");
}
