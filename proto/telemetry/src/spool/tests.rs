//! The spool: order, bounds, losses, damage.

use super::*;

fn record(signal: Signal, items: u32, bytes: usize, fill: u8) -> Record {
    Record { signal, items, otlp: vec![fill; bytes] }
}

/// Everything that waits, delivered.
fn drain(spool: &Spool) -> Vec<Record> {
    let mut all = Vec::new();
    while let Some(waiting) = spool.oldest().unwrap() {
        spool.settle(&waiting, 0).unwrap();
        all.push(waiting.record);
    }
    all
}

#[test]
fn what_goes_in_comes_out_in_order_and_once_and_after_a_restart() {
    let home = tempfile::tempdir().unwrap();
    let spool = Spool::open(home.path(), 0).unwrap();
    let records: Vec<Record> =
        (0..40_u8).map(|n| record(Signal::ALL[usize::from(n) % 3], u32::from(n) + 1, 70_000, n)).collect();
    records.iter().cloned().for_each(|record| spool.take(record));
    for expected in &records[..7] {
        let waiting = spool.oldest().unwrap().unwrap();
        assert_eq!(waiting.record, *expected);
        // Not settled: it is told again.
        assert_eq!(spool.oldest().unwrap().unwrap().record, *expected);
        spool.settle(&waiting, 0).unwrap();
    }
    drop(spool);
    let spool = Spool::open(home.path(), 0).unwrap();
    assert_eq!(drain(&spool), records[7..]);
    assert!(spool.loss().is_none() && spool.bytes() == 0, "{spool:?}");
    spool.take(records[0].clone());
    drop(spool);
    let spool = Spool::open(home.path(), 0).unwrap();
    assert_eq!(drain(&spool), records[..1]);
    let files = fs::read_dir(home.path()).unwrap().count();
    assert_eq!(files, 2, "one segment and the place");
}

#[test]
fn a_full_spool_loses_its_oldest_and_counts_exactly() {
    let home = tempfile::tempdir().unwrap();
    let spool = Spool::open(home.path(), 0).unwrap();
    let sent: Vec<Record> =
        (0..200_u32).map(|n| record(Signal::ALL[n as usize % 3], n + 1, 100_000, n as u8)).collect();
    sent.iter().cloned().for_each(|record| spool.take(record));
    assert!(spool.bytes() <= LEAST, "{}", spool.bytes());
    let lost = spool.loss();
    assert!(!lost.is_none());
    drop(spool);
    let spool = Spool::open(home.path(), 0).unwrap();
    assert_eq!(spool.loss(), lost, "it is remembered");
    let got = drain(&spool);
    assert_eq!(got, sent[sent.len() - got.len()..], "the newest are there, without a hole");
    for signal in Signal::ALL {
        let items = |records: &[Record]| -> u64 {
            records.iter().filter(|r| r.signal == signal).map(|r| u64::from(r.items)).sum()
        };
        assert_eq!(items(&sent) - items(&got), spool.loss().of(signal), "{signal:?}");
    }
}

#[test]
fn a_record_that_is_given_up_while_it_is_sent_counts_once() {
    let home = tempfile::tempdir().unwrap();
    let spool = Spool::open(home.path(), 0).unwrap();
    spool.take(record(Signal::Traces, 5, 900_000, 1));
    let waiting = spool.oldest().unwrap().unwrap();
    (0..12).for_each(|_| spool.take(record(Signal::Logs, 1, 900_000, 2)));
    spool.settle(&waiting, 0).unwrap();
    let got = drain(&spool);
    assert_eq!(spool.loss().spans, 5);
    assert_eq!(spool.loss().log_records + got.len() as u64, 12);
}

#[test]
fn a_record_that_nobody_takes_is_counted_as_lost() {
    let home = tempfile::tempdir().unwrap();
    let spool = Spool::open(home.path(), 0).unwrap();
    spool.take(record(Signal::Metrics, 3, 10, 1));
    spool.take(record(Signal::Metrics, 4, 10, 1));
    let waiting = spool.oldest().unwrap().unwrap();
    spool.settle(&waiting, waiting.record.items.into()).unwrap();
    assert_eq!(drain(&spool).len(), 1);
    assert_eq!(spool.loss(), Loss { data_points: 3, ..Loss::default() });
}

#[test]
fn a_torn_end_is_cut_and_a_damaged_record_loses_its_segment() {
    let home = tempfile::tempdir().unwrap();
    let spool = Spool::open(home.path(), 0).unwrap();
    (0..3_u8).for_each(|n| spool.take(record(Signal::Traces, 2, 100, n)));
    drop(spool);
    let path = segment_path(home.path(), 1);
    let whole = fs::read(&path).unwrap();
    // Torn at any byte of the last record.
    for length in [whole.len() - 1, whole.len() - 100, whole.len() - 100 - HEADER + 1] {
        fs::write(&path, &whole[..length]).unwrap();
        let spool = Spool::open(home.path(), 0).unwrap();
        assert_eq!(spool.oldest().unwrap().unwrap().record, record(Signal::Traces, 2, 100, 0));
        assert_eq!(spool.state().segments[0].unread.spans, 4, "{length}");
    }
    // Damaged in the second record's message.
    let mut damaged = whole.clone();
    damaged[HEADER + 100 + HEADER + 50] ^= 1;
    fs::write(&path, &damaged).unwrap();
    let spool = Spool::open(home.path(), 0).unwrap();
    assert_eq!(drain(&spool).len(), 1);
    assert_eq!(spool.loss().spans, 4, "the second and what comes behind it");
    spool.take(record(Signal::Traces, 2, 100, 9));
    assert_eq!(drain(&spool), [record(Signal::Traces, 2, 100, 9)], "and it goes on");
}

#[test]
fn a_damaged_place_begins_at_the_oldest() {
    let home = tempfile::tempdir().unwrap();
    let spool = Spool::open(home.path(), 0).unwrap();
    spool.take(record(Signal::Logs, 1, 10, 1));
    drain(&spool);
    drop(spool);
    fs::write(home.path().join(PLACE_FILE), [7; PLACE]).unwrap();
    assert_eq!(drain(&Spool::open(home.path(), 0).unwrap()).len(), 1, "twice is better than never");
}
