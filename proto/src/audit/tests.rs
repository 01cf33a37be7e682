//! A chain, and everything that can be done to it behind its back.

use proptest::{collection::vec, prelude::*};
use serde_json::{Value, json};

use super::*;
use crate::{Redactor, Secret, v1};

/// A record in which no field is empty.
fn full() -> Entry {
    Entry {
        act: "job.move".into(),
        outcome: Outcome::Refused,
        asked: 2,
        code: "job_state".into(),
        message: "it has ended".into(),
        operator: "li".into(),
        role: "operator".into(),
        remote: "192.0.2.1:5".into(),
        job: "01976f2e-0000-7000-8000-000000000001".into(),
        site: "beijing".into(),
        agent: "bj-1".into(),
        subject: "bj-2".into(),
        plan_sha256: "ab".repeat(32),
        request_id: "r1".into(),
        detail: "the old one is off".into(),
    }
}

fn chain(entries: impl IntoIterator<Item = Entry>) -> Vec<Record> {
    let begin = Entry { act: BEGIN.into(), subject: "the CA".into(), ..Entry::default() };
    let mut head = Head::NONE;
    let times = (0..).map(|second| Timestamp::from_microsecond(1_900_000_000_000_001 + second * 1_000_000).unwrap());
    let entries = std::iter::once(begin).chain(entries);
    let records = times.zip(entries).map(|(at, entry)| {
        let record = Record::after(head, at, entry);
        head = record.head();
        record
    });
    records.collect()
}

fn five() -> Vec<Record> {
    chain((0..4).map(|_| full()))
}

fn lines(records: &[Record]) -> Vec<String> {
    records.iter().map(Record::line).collect()
}

fn verify(lines: &[String], known: Option<Head>) -> Vec<Fault> {
    let mut verifier = Verifier::new(known);
    lines.iter().for_each(|line| verifier.line(line));
    verifier.end().faults
}

#[test]
fn a_chain_as_it_was_exported_is_sound() {
    let records = five();
    let mut verifier = Verifier::new(Some(records[2].head()));
    lines(&records).iter().for_each(|line| verifier.line(line));
    let verified = verifier.end();
    assert_eq!((verified.is_sound(), verified.records, verified.head), (true, 5, records[4].head()));
}

#[test]
fn the_encoding_stays_as_it_is() {
    // Exports outlive versions: a change here makes all of them worthless.
    let record = &five()[1];
    assert_eq!(record.hash.to_string(), "79c3efcc0bd7867e6ec298a379ddc48ee54207f46fe31a9818fe97e70d548980");
    let again: Record = serde_json::from_str(&record.line()).unwrap();
    assert_eq!(&again, record);
}

#[test]
fn an_altered_field_is_found_whichever_it_is() {
    let records = five();
    let Value::Object(fields) = serde_json::to_value(&records[2]).unwrap() else { panic!("no object") };
    assert_eq!(fields.len(), 19);
    for (name, value) in &fields {
        let other = match (name.as_str(), value) {
            ("at", _) => json!("2030-03-17T17:46:42.000002Z"),
            ("outcome", _) => json!("done"),
            ("previous" | "hash", _) => json!("cd".repeat(32)),
            (_, Value::Number(number)) => json!(number.as_u64().unwrap() + 1),
            (_, Value::String(text)) => json!(format!("{text}x")),
            _ => panic!("{name}: {value}"),
        };
        let mut altered = fields.clone();
        altered[name] = other;
        let mut lines = lines(&records);
        lines[2] = serde_json::to_string(&altered).unwrap();
        let faults = verify(&lines, None);
        assert!(faults.contains(&Fault::Altered { number: altered["number"].as_u64().unwrap() }), "{name}: {faults:?}");
    }
}

#[test]
fn a_field_cannot_give_a_part_of_itself_to_the_next_one() {
    let mut records = five();
    records[2].entry.code = "job_stat".into();
    records[2].entry.message = "eit has ended".into();
    assert_eq!(verify(&lines(&records), None), [Fault::Altered { number: 3 }]);
}

#[test]
fn a_record_that_is_altered_with_its_hash_breaks_the_next_one() {
    let mut records = five();
    records[2].entry.operator = "wang".into();
    records[2].hash = records[2].digest();
    assert_eq!(verify(&lines(&records), None), [Fault::Unchained { number: 4 }]);
    let known = Some(five()[2].head());
    assert!(verify(&lines(&records), known).contains(&Fault::OtherHead { number: 3 }));
}

#[test]
fn removed_reordered_doubled_and_inserted_records_are_found() {
    let whole = lines(&five());
    let removed = [&whole[..2], &whole[3..]].concat();
    assert_eq!(verify(&removed, None), [Fault::Displaced { expected: 3, found: 4 }]);
    assert!(verify(&removed, None)[0].to_string().contains("one record is missing"));
    let mut swapped = whole.clone();
    swapped.swap(2, 3);
    assert_eq!(verify(&swapped, None)[0], Fault::Displaced { expected: 3, found: 4 });
    let doubled = [&whole[..3], &whole[2..]].concat();
    assert_eq!(verify(&doubled, None)[0], Fault::Displaced { expected: 4, found: 3 });
    let alien = Record::after(five()[1].head(), Timestamp::UNIX_EPOCH, Entry::default()).line();
    let inserted = [&whole[..2], &[alien], &whole[2..]].concat();
    assert_eq!(verify(&inserted, None)[0], Fault::Displaced { expected: 4, found: 3 });
}

#[test]
fn a_beginning_that_is_cut_off_or_made_up_is_found() {
    let whole = lines(&five());
    assert_eq!(verify(&whole[1..], None), [Fault::Displaced { expected: 1, found: 2 }]);
    let made_up = Record::after(Head::NONE, Timestamp::UNIX_EPOCH, full());
    assert_eq!(verify(&[made_up.line()], None), [Fault::NoBeginning]);
    let head = Head { number: 0, hash: Hash::of(b"x") };
    let elsewhere = Record::after(head, Timestamp::UNIX_EPOCH, Entry { act: BEGIN.into(), ..Entry::default() });
    assert_eq!(verify(&[elsewhere.line()], None), [Fault::NoBeginning]);
    assert_eq!(verify(&[], None), [Fault::Empty]);
}

#[test]
fn an_end_that_is_cut_off_needs_a_known_head() {
    let records = five();
    let short = lines(&records[..3]);
    assert_eq!(verify(&short, None), []);
    let faults = verify(&short, Some(records[4].head()));
    assert_eq!(faults, [Fault::CutShort { last: 3, known: 5 }]);
    assert!(faults[0].to_string().contains("2 records are missing at the end"), "{}", faults[0]);
}

#[test]
fn a_line_that_was_written_anew_or_is_none_is_found() {
    let mut whole = lines(&five());
    whole[1] = whole[1].replace("\":", "\": ");
    assert_eq!(verify(&whole, None), [Fault::Rewritten { line: 2, number: 2 }]);
    let finer = lines(&five())[1].replace("000001Z", "000001001Z");
    whole[1] = finer;
    assert_eq!(verify(&whole, None), [Fault::Altered { number: 2 }]);
    whole[1] = "{}".to_owned();
    assert!(matches!(verify(&whole, None)[..], [Fault::Unreadable { line: 2, .. }, Fault::Displaced { .. }]));
    let last = whole.len() - 1;
    whole[last] = whole[last].replace("\"number\":5", "\"number\":18446744073709551615");
    assert!(!verify(&whole, None).is_empty());
}

#[test]
fn faults_are_bounded() {
    let mut verifier = Verifier::new(None);
    (0..250).for_each(|_| verifier.line("rubbish"));
    let verified = verifier.end();
    assert_eq!((verified.faults.len(), verified.more), (100, 150));
}

#[test]
fn the_message_holds_the_whole_record() {
    for record in five() {
        assert_eq!(Record::try_from(v1::AuditRecord::from(&record)).unwrap(), record);
    }
    let bad = v1::AuditRecord { hash: vec![1], ..v1::AuditRecord::from(&five()[0]) };
    assert_eq!(Record::try_from(bad).unwrap_err().to_string(), "an audit record has an unusable hash");
    let head = five()[4].head();
    assert_eq!(Head::try_from(v1::AuditHead::from(head)).unwrap(), head);
}

#[test]
fn heads_are_read_as_they_are_printed() {
    let head = five()[4].head();
    assert_eq!(head.to_string().parse(), Ok(head));
    for bad in ["", "5", "x:00", "5:zz", "5:é", &format!("5:{}", "é".repeat(32))] {
        assert!(bad.parse::<Head>().is_err(), "{bad}");
    }
}

#[test]
fn texts_are_cleaned_before_they_are_cut() {
    let redactor = Redactor::new();
    redactor.register(&Secret::new("correct-horse"));
    let detail = format!("{}correct-horse", "x".repeat(TEXT_MAX - 5));
    let entry = Entry { operator: "y".repeat(NAME_MAX + 9), detail, ..Entry::default() };
    let entry = entry.bounded(|text| redactor.text(text).into_owned());
    assert_eq!(entry.operator.len(), NAME_MAX);
    assert!(!entry.detail.contains("corr") && entry.detail.contains('机'), "{}", entry.detail);
}

fn some_entry() -> impl Strategy<Value = Entry> {
    (".{0,9}", ".{0,9}", 0..9_u64).prop_map(|(operator, detail, asked)| Entry {
        act: "job.cancel".into(),
        operator,
        detail,
        asked,
        ..Entry::default()
    })
}

proptest! {
    #[test]
    fn any_other_byte_any_lost_line_and_any_other_order_is_found(
        entries in vec(some_entry(), 2..8),
        at in any::<prop::sample::Index>(),
        byte in any::<prop::sample::Index>(),
        other in any::<prop::sample::Index>(),
    ) {
        let records = chain(entries);
        let whole = lines(&records);
        prop_assert_eq!(verify(&whole, records.last().map(Record::head)), []);

        let at = at.index(whole.len());
        let mut altered = whole.clone();
        let mut bytes = altered[at].clone().into_bytes();
        let byte = byte.index(bytes.len());
        bytes[byte] = if bytes[byte] == b'7' { b'8' } else { b'7' };
        if let Ok(line) = String::from_utf8(bytes) {
            altered[at] = line;
            prop_assert!(!verify(&altered, None).is_empty());
        }

        let mut lost = whole.clone();
        lost.remove(at);
        prop_assert!(!verify(&lost, records.last().map(Record::head)).is_empty());

        let mut moved = whole.clone();
        let line = moved.remove(at);
        moved.insert(other.index(whole.len()), line);
        prop_assert_eq!(verify(&moved, None).is_empty(), moved == whole);
    }
}
