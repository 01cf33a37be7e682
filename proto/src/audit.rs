//! The audit log: who did what, when, from where, to which job. Records are chained by their hashes, so that whoever
//! holds an export finds what was altered, removed or reordered in it. Pure.
//!
//! A record's hash is SHA-256 over `gantry.v1 audit record`, a zero byte, and then, in the order of the fields of
//! [`Record`] and [`Entry`] as they are written here: numbers as eight bytes (big endian; the time in microseconds since
//! 1970), texts as their length in bytes (eight bytes, big endian) and their UTF-8, hashes as their 32 bytes. The last
//! field that goes in is `previous`, the hash of the record before; for the first record it is all zeros. The first
//! record is a [`BEGIN`], which names the controller's CA and the chain.

mod verify;
mod wire;

use std::{fmt, str::FromStr};

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use sha2::{Digest as _, Sha256};

pub use verify::{Fault, LINE_MAX, Verified, Verifier};

/// The act of the first record of every chain.
pub const BEGIN: &str = "audit.begin";

/// What every hash begins with, so that no hash of anything else is one of a record.
const DOMAIN: &[u8] = b"gantry.v1 audit record\0";

/// Names in a record have at most so many characters.
pub const NAME_MAX: usize = 128;
/// A message or a detail has at most so many characters.
pub const TEXT_MAX: usize = 500;

/// SHA-256; hexadecimal in text.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Hash(pub [u8; 32]);

/// How an act stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// About to be carried out. Without a later record that names this one, it is not known what became of it.
    #[default]
    Asked,
    /// Carried out.
    Done,
    /// Not carried out; code and message say why.
    Refused,
    /// The caller went away, or the call took too long: it may have been carried out.
    CutOff,
}

/// What one record tells, before it has its place in the chain. What does not apply is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// What was done: a stable word such as `job.cancel`.
    pub act: String,
    /// How it stands.
    pub outcome: Outcome,
    /// The number of the record with [`Outcome::Asked`] that this one settles; 0: none.
    pub asked: u64,
    /// Why it was refused, for programs.
    pub code: String,
    /// Why it was refused, for people.
    pub message: String,
    /// Who, by the certificate; empty: the controller itself, or nobody that is known.
    pub operator: String,
    /// In which role.
    pub role: String,
    /// From which address.
    pub remote: String,
    /// To which job.
    pub job: String,
    /// At which site.
    pub site: String,
    /// With which agent.
    pub agent: String,
    /// To what else: an operator, a certificate, a token.
    pub subject: String,
    /// SHA-256 of the plan, hexadecimal.
    pub plan_sha256: String,
    /// Chosen by who asked: the same one twice is one wish.
    pub request_id: String,
    /// Anything else worth knowing.
    pub detail: String,
}

/// One record in its place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Its number, from 1 without gaps.
    pub number: u64,
    /// When it was written; whole microseconds.
    pub at: Timestamp,
    /// What it tells.
    #[serde(flatten)]
    pub entry: Entry,
    /// Hash of the record before.
    pub previous: Hash,
    /// Its own hash.
    pub hash: Hash,
}

/// The last record of a chain: who knows it finds that records were removed at the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Its number; 0: there is none yet.
    pub number: u64,
    /// Its hash.
    pub hash: Hash,
}

impl Record {
    /// The record that follows on `head`.
    pub fn after(head: Head, at: Timestamp, entry: Entry) -> Self {
        let at = Timestamp::from_microsecond(at.as_microsecond()).unwrap_or(at);
        let mut record =
            Self { number: head.number.saturating_add(1), at, entry, previous: head.hash, hash: Hash::ZERO };
        record.hash = record.digest();
        record
    }

    /// What its hash has to be.
    pub fn digest(&self) -> Hash {
        let Self { number, at, entry, previous, hash: _ } = self;
        let Entry { act, outcome, asked, code, message, operator, role, remote, .. } = entry;
        let Entry { job, site, agent, subject, plan_sha256, request_id, detail, .. } = entry;
        let mut sum = Sha256::new_with_prefix(DOMAIN);
        sum.update(number.to_be_bytes());
        sum.update(at.as_microsecond().to_be_bytes());
        text(&mut sum, act);
        text(&mut sum, outcome.word());
        sum.update(asked.to_be_bytes());
        for field in [code, message, operator, role, remote, job, site, agent, subject, plan_sha256, request_id, detail]
        {
            text(&mut sum, field);
        }
        sum.update(previous.0);
        Hash(sum.finalize().into())
    }

    /// Whether its hash fits its content.
    pub fn is_intact(&self) -> bool {
        // Only whole microseconds go into the hash, so there must be nothing below them.
        Timestamp::from_microsecond(self.at.as_microsecond()).is_ok_and(|at| at == self.at)
            && self.digest() == self.hash
    }

    /// Its place.
    pub fn head(&self) -> Head {
        Head { number: self.number, hash: self.hash }
    }

    /// Its line in an export: JSON, in exactly one form.
    pub fn line(&self) -> String {
        // Texts, numbers and hashes only: there is nothing that JSON could not hold.
        serde_json::to_string(self).unwrap_or_default()
    }
}

impl Entry {
    /// With every text passed through `clean` and then cut to its bound.
    pub fn bounded(mut self, clean: impl Fn(&str) -> String) -> Self {
        let Self { act, outcome: _, asked: _, code, message, operator, role, remote, .. } = &mut self;
        let names = [act, code, operator, role, remote];
        names.into_iter().for_each(|name| *name = bound(name, NAME_MAX, &clean));
        *message = bound(message, TEXT_MAX, &clean);
        let Self { job, site, agent, subject, plan_sha256, request_id, detail, .. } = &mut self;
        let names = [job, site, agent, subject, plan_sha256, request_id];
        names.into_iter().for_each(|name| *name = bound(name, NAME_MAX, &clean));
        *detail = bound(detail, TEXT_MAX, &clean);
        self
    }
}

impl Outcome {
    const ALL: [Self; 4] = [Self::Asked, Self::Done, Self::Refused, Self::CutOff];

    /// The stable word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Asked => "asked",
            Self::Done => "done",
            Self::Refused => "refused",
            Self::CutOff => "cut_off",
        }
    }

    /// The outcome of a word.
    pub fn of(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|outcome| outcome.word() == word)
    }
}

impl Hash {
    /// What the first record follows on.
    pub const ZERO: Self = Self([0; 32]);

    /// The hash of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }
}

impl Head {
    /// Before the first record.
    pub const NONE: Self = Self { number: 0, hash: Hash::ZERO };
}

/// Not a hash, or not a head.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeadError {
    /// Not hexadecimal, or too short or too long.
    #[error("expected 64 hexadecimal digits")]
    Hash,
    /// Not two parts.
    #[error("expected NUMBER:HASH, as `ctl audit` prints it")]
    Form,
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Hash {
    type Err = HeadError;

    fn from_str(text: &str) -> Result<Self, HeadError> {
        let mut hash = [0; 32];
        if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(HeadError::Hash);
        }
        for (byte, at) in hash.iter_mut().zip((0..).step_by(2)) {
            let digits = text.get(at..at + 2).ok_or(HeadError::Hash)?;
            *byte = u8::from_str_radix(digits, 16).map_err(|_| HeadError::Hash)?;
        }
        Ok(Self(hash))
    }
}

impl fmt::Display for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.number, self.hash)
    }
}

impl FromStr for Head {
    type Err = HeadError;

    fn from_str(text: &str) -> Result<Self, HeadError> {
        let (number, hash) = text.trim().split_once(':').ok_or(HeadError::Form)?;
        Ok(Self { number: number.parse().map_err(|_| HeadError::Form)?, hash: hash.parse()? })
    }
}

impl Serialize for Hash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Hash {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

fn text(sum: &mut Sha256, text: &str) {
    sum.update((text.len() as u64).to_be_bytes());
    sum.update(text.as_bytes());
}

/// Cleaned first: a secret that is cut in two would not be found.
fn bound(text: &str, most: usize, clean: impl Fn(&str) -> String) -> String {
    if text.is_empty() {
        return String::new();
    }
    clean(text).chars().take(most).collect()
}

#[cfg(test)]
mod tests;
