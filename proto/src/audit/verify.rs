//! Checks a chain record by record, in the order in which they come.

use super::{BEGIN, Hash, Head, Record};

/// The longest line of an export, bytes. A record whose texts are at their bounds is far below.
pub const LINE_MAX: usize = 64 << 10;
/// Faults that are kept; more are only counted.
const FAULTS_MAX: usize = 100;

/// What is wrong at one place.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// No record.
    #[error("line {line} is no audit record: {why}")]
    Unreadable {
        /// The line, from 1.
        line: u64,
        /// What is wrong.
        why: String,
    },
    /// A record, but not as it was exported.
    #[error("line {line} (record {number}) is not as it was exported: it was written anew or edited")]
    Rewritten {
        /// The line, from 1.
        line: u64,
        /// The record.
        number: u64,
    },
    /// The hash does not fit the record.
    #[error("record {number} was altered: its hash does not fit its content")]
    Altered {
        /// The record.
        number: u64,
    },
    /// Another number than the next one.
    #[error("record {found} stands where record {expected} belongs: {}", displaced(*expected, *found))]
    Displaced {
        /// The number that belongs there.
        expected: u64,
        /// The number that stands there.
        found: u64,
    },
    /// The record names another one before it than the one that is there.
    #[error("record {number} does not follow on the record before it: one of the two was replaced")]
    Unchained {
        /// The record.
        number: u64,
    },
    /// The first record does not begin a chain.
    #[error("the first record does not begin an audit log: the true beginning was removed or replaced")]
    NoBeginning,
    /// Nothing at all.
    #[error("there is no record in it")]
    Empty,
    /// The known head lies behind the end.
    #[error("it ends with record {last}, and record {known} is known: {} missing at the end", records(known - last))]
    CutShort {
        /// The last record.
        last: u64,
        /// The number of the known head.
        known: u64,
    },
    /// The known head has another hash.
    #[error("record {number} is not the one that is known: the log was written anew, or it is of another controller")]
    OtherHead {
        /// The record.
        number: u64,
    },
}

/// What a whole chain comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// Records that were read.
    pub records: u64,
    /// The last one.
    pub head: Head,
    /// What is wrong, in the order in which it was met; the first hundred.
    pub faults: Vec<Fault>,
    /// Faults beyond those.
    pub more: u64,
}

/// Takes records in one by one.
#[derive(Debug)]
pub struct Verifier {
    known: Option<Head>,
    lines: u64,
    before: Head,
    /// The hash of the known number, once it was met.
    met: Option<Hash>,
    verified: Verified,
}

impl Verifier {
    /// Before the first record. `known`: a head that was noted before; that record has to be there.
    pub fn new(known: Option<Head>) -> Self {
        let verified = Verified { records: 0, head: Head::NONE, faults: Vec::new(), more: 0 };
        Self { known, lines: 0, before: Head::NONE, met: None, verified }
    }

    /// The next line of an export, without its line end.
    pub fn line(&mut self, line: &str) {
        self.lines += 1;
        match serde_json::from_str::<Record>(line) {
            Ok(record) => {
                if record.line() != line {
                    self.fault(Fault::Rewritten { line: self.lines, number: record.number });
                }
                self.record(&record);
            }
            Err(error) => self.unreadable(error.to_string()),
        }
    }

    /// The next line cannot even be read.
    pub fn unreadable_line(&mut self, why: impl Into<String>) {
        self.lines += 1;
        self.unreadable(why.into());
    }

    /// The next record.
    pub fn record(&mut self, record: &Record) {
        if !record.is_intact() {
            self.fault(Fault::Altered { number: record.number });
        }
        let expected = self.before.number.saturating_add(1);
        if record.number != expected {
            self.fault(Fault::Displaced { expected, found: record.number });
        } else if record.previous != self.before.hash {
            let first = record.number == 1;
            self.fault(if first { Fault::NoBeginning } else { Fault::Unchained { number: record.number } });
        } else if record.number == 1 && record.entry.act != BEGIN {
            self.fault(Fault::NoBeginning);
        }
        if self.known.is_some_and(|known| known.number == record.number) {
            self.met = Some(record.hash);
        }
        self.verified.records += 1;
        self.before = record.head();
        if record.number >= self.verified.head.number {
            self.verified.head = record.head();
        }
    }

    /// After the last one.
    pub fn end(mut self) -> Verified {
        if self.verified.records == 0 && self.verified.faults.is_empty() {
            self.fault(Fault::Empty);
        }
        let last = self.verified.head.number;
        match self.known {
            Some(known) if known.number > last => self.fault(Fault::CutShort { last, known: known.number }),
            Some(known) if known.number > 0 && self.met != Some(known.hash) => {
                self.fault(Fault::OtherHead { number: known.number });
            }
            _ => {}
        }
        self.verified
    }

    fn unreadable(&mut self, why: String) {
        let why = why.chars().take(200).collect();
        self.fault(Fault::Unreadable { line: self.lines, why });
    }

    fn fault(&mut self, fault: Fault) {
        if self.verified.faults.len() < FAULTS_MAX {
            self.verified.faults.push(fault);
        } else {
            self.verified.more += 1;
        }
    }
}

impl Verified {
    /// Nothing is wrong.
    pub fn is_sound(&self) -> bool {
        self.faults.is_empty()
    }
}

fn displaced(expected: u64, found: u64) -> String {
    if found > expected {
        format!("{} missing, or the order was changed", records(found - expected))
    } else {
        "it is there twice, or the order was changed".to_owned()
    }
}

fn records(count: u64) -> String {
    if count == 1 { "one record is".to_owned() } else { format!("{count} records are") }
}
