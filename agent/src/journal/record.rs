//! One line of the journal: eight hexadecimal digits of CRC-32, a blank, JSON, a line end.

use std::collections::BTreeMap;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use gantry_proto::{Event, StepId, TakenOver, trace::TraceContext, v1};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Carried, Chunk, SurrenderRecord};
use crate::upload::Tuning;

/// The longest line, bytes. A plan (256 KiB) and its sealed secrets (64 KiB) fit with room to spare.
pub const LINE_MAX: usize = 1 << 20;

/// The deepest nesting of arrays and objects in a line. A reader of JSON stops at 128, and the job with it; what a job
/// tells needs a handful.
const NEST_MAX: usize = 100;

/// What a line holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Record {
    /// The job was accepted. The first line, and again for each epoch.
    Start(Box<StartRecord>),
    /// A numbered event.
    Event(Box<Event>),
    /// The controller has stored everything up to this number.
    Acked(u64),
    /// The server has acknowledged a chunk (R38).
    Chunk(ChunkRecord),
    /// An operator wants the job stopped.
    Cancel(CancelRecord),
    /// An operator wants the job held, or let go on.
    Hold(HoldRecord),
    /// An operator wants the upload to go otherwise.
    Tune(TuneRecord),
    /// An operator has answered the job's question.
    Decide(DecideRecord),
    /// An operator moves the job to another agent.
    Surrender(SurrenderRecord),
    /// Another agent has the job; the epoch in which this one had it.
    Moved(u32),
}

/// The accepted order: everything that is needed to take the job up again without the controller. Secrets stay sealed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StartRecord {
    /// The order's number.
    pub order: u64,
    /// The job's epoch.
    pub epoch: u32,
    /// When it was accepted.
    pub at: Timestamp,
    /// Form of the plan.
    pub schema: String,
    /// The plan, the very text that was hashed.
    pub plan: String,
    /// SHA-256 of the plan, hexadecimal.
    pub sha256: String,
    /// The secrets, sealed to this agent.
    pub sealed: SealedText,
    /// Keep what was made when the job fails.
    pub keep_on_failure: bool,
    /// Who submitted the job.
    pub submitted_by: String,
    /// The job's spans continue it.
    pub trace: TraceContext,
    /// Steps that an earlier epoch has done and that are not done again.
    #[serde(default)]
    pub kept: Vec<StepId>,
    /// No step is walked: what the job has made is removed.
    #[serde(default)]
    pub undo_only: bool,
    /// The job comes from another agent. Only in the first line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub carried: Option<Box<Carried>>,
}

/// [`v1::SealedSecrets`] in a form for JSON: base64 throughout.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SealedText {
    agent: String,
    key_id: String,
    enc: String,
    ciphertext: String,
}

/// One acknowledged chunk of one upload volume.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChunkRecord {
    /// The volume, by the uuid of its image.
    pub image_uuid: String,
    /// The chunk.
    pub chunk: Chunk,
}

/// A cancel order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CancelRecord {
    /// The order's number.
    pub order: u64,
    /// The epoch for which it holds.
    pub epoch: u32,
    /// Who asked.
    pub by: String,
    /// Why; may be empty.
    pub reason: String,
}

/// A pause or a resume. The newest one holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HoldRecord {
    /// The order's number.
    pub order: u64,
    /// The epoch for which it holds.
    pub epoch: u32,
    /// True: the job is to be held; false: it is to go on.
    pub hold: bool,
    /// Who asked.
    pub by: String,
    /// Why; may be empty.
    pub reason: String,
}

/// Wishes about the upload. The newest ones hold, over all epochs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TuneRecord {
    /// The order's number.
    pub order: u64,
    /// The epoch in which they were given.
    pub epoch: u32,
    /// All of them.
    pub tuning: Tuning,
}

/// The answer to a job's question.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DecideRecord {
    /// The order's number.
    pub order: u64,
    /// The epoch for which it holds.
    pub epoch: u32,
    /// Number of the event that asked.
    pub question: u64,
    /// Id of the choice.
    pub choice: String,
    /// Who decided.
    pub by: String,
    /// Why; may be empty.
    pub reason: String,
}

/// What is wrong with a line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// Cut off or altered: a crash in the middle of a write looks like this.
    #[error("it is cut off or altered")]
    Torn,
    /// Whole, but of a form that this version does not know.
    #[error("it has a form that this version does not know ({0})")]
    Unknown(String),
}

/// Why a record has no line: it could not be read again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unwritable {
    /// It cannot be told as JSON.
    #[error("a journal record cannot be written as JSON ({0})")]
    Form(String),
    /// Its line would be so many bytes long.
    #[error("a journal record of {0} bytes is longer than the limit of {LINE_MAX}")]
    Long(usize),
    /// Values in it hold values that hold values, and so on.
    #[error("a journal record nests deeper than the limit of {NEST_MAX} levels")]
    Deep,
}

/// The line of a record.
pub(super) fn encode(record: &Record) -> Result<Vec<u8>, Unwritable> {
    let json = serde_json::to_vec(record).map_err(|error| Unwritable::Form(error.to_string()))?;
    if depth(&json) > NEST_MAX {
        return Err(Unwritable::Deep);
    }
    let mut line = format!("{:08x} ", crc32fast::hash(&json)).into_bytes();
    line.extend_from_slice(&json);
    line.push(b'\n');
    if line.len() > LINE_MAX { Err(Unwritable::Long(line.len())) } else { Ok(line) }
}

/// How many arrays and objects are open at most in a text that is JSON.
fn depth(json: &[u8]) -> usize {
    let (mut open, mut most, mut quoted, mut escaped) = (0_usize, 0, false, false);
    for byte in json {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = quoted,
            b'"' => quoted = !quoted,
            b'[' | b'{' if !quoted => {
                open += 1;
                most = most.max(open);
            }
            b']' | b'}' if !quoted => open = open.saturating_sub(1),
            _ => {}
        }
    }
    most
}

/// The record of a line, its line end included.
pub fn decode(line: &[u8]) -> Result<Record, Fault> {
    let body = line.strip_suffix(b"\n").ok_or(Fault::Torn)?;
    let (crc, json) = body.split_at_checked(9).ok_or(Fault::Torn)?;
    let crc = std::str::from_utf8(crc).ok().and_then(|text| text.strip_suffix(' ')).ok_or(Fault::Torn)?;
    if u32::from_str_radix(crc, 16) != Ok(crc32fast::hash(json)) {
        return Err(Fault::Torn);
    }
    serde_json::from_slice(json).map_err(|error| Fault::Unknown(error.to_string()))
}

impl StartRecord {
    /// From whom the job comes, when this epoch began with that.
    pub fn taken_over(&self) -> Option<TakenOver> {
        self.carried.as_ref().map(|carried| carried.from.clone())
    }

    /// The plan as it travelled.
    pub fn document(&self) -> v1::PlanDocument {
        v1::PlanDocument {
            schema: self.schema.clone(),
            json: self.plan.clone().into_bytes(),
            sha256: unhex(&self.sha256),
        }
    }
}

impl From<&v1::SealedSecrets> for SealedText {
    fn from(sealed: &v1::SealedSecrets) -> Self {
        Self {
            agent: sealed.agent_id.clone(),
            key_id: STANDARD.encode(&sealed.key_id),
            enc: STANDARD.encode(&sealed.enc),
            ciphertext: STANDARD.encode(&sealed.ciphertext),
        }
    }
}

impl From<&SealedText> for v1::SealedSecrets {
    /// What is not base64 becomes empty, which does not open.
    fn from(text: &SealedText) -> Self {
        let bytes = |text: &str| STANDARD.decode(text).unwrap_or_default();
        Self {
            agent_id: text.agent.clone(),
            key_id: bytes(&text.key_id),
            enc: bytes(&text.enc),
            ciphertext: bytes(&text.ciphertext),
        }
    }
}

/// Lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    text.as_bytes().chunks(2).filter_map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
}

/// Acknowledged chunks, by volume and number.
pub type Chunks = BTreeMap<String, BTreeMap<u64, Chunk>>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_comes_back_as_it_was_and_every_flipped_byte_is_noticed() {
        let chunk = Chunk { chunk_num: 7, sha256: "ab".into(), size: 8 };
        let record = Record::Chunk(ChunkRecord { image_uuid: "i".into(), chunk });
        let line = encode(&record).unwrap();
        assert_eq!(decode(&line), Ok(record));
        for at in 0..line.len() {
            let mut bad = line.clone();
            bad[at] ^= 1;
            assert!(decode(&bad).is_err(), "{at}");
        }
    }

    #[test]
    fn what_could_not_be_read_again_has_no_line() {
        let fact = |levels: usize| {
            let value = (0..levels).fold(serde_json::Value::from("[{\\\"["), |inner, _| vec![inner].into());
            let body = gantry_proto::Body::Fact { step: "s".into(), key: "k".into(), value: Some(value) };
            Record::Event(Box::new(Event { seq: 1, epoch: 1, at: Timestamp::UNIX_EPOCH, body }))
        };
        // The record and the event in it are the first two levels.
        let deepest = fact(NEST_MAX - 2);
        assert_eq!(decode(&encode(&deepest).unwrap()), Ok(deepest));
        assert_eq!(encode(&fact(NEST_MAX - 1)), Err(Unwritable::Deep));
        let long = Record::Cancel(CancelRecord { order: 1, epoch: 1, by: "x".repeat(LINE_MAX), reason: String::new() });
        assert!(matches!(encode(&long), Err(Unwritable::Long(len)) if len > LINE_MAX));
    }

    #[test]
    fn a_whole_line_of_a_newer_version_is_not_taken_for_a_torn_one() {
        let json = br#"{"telemetry":{}}"#;
        let line = [format!("{:08x} ", crc32fast::hash(json)).as_bytes(), json, b"\n"].concat();
        assert!(matches!(decode(&line), Err(Fault::Unknown(_))));
    }

    #[test]
    fn sealed_secrets_and_hashes_survive_the_text_form() {
        let sealed =
            v1::SealedSecrets { agent_id: "a".into(), key_id: vec![1; 32], enc: vec![2; 32], ciphertext: vec![255, 0] };
        assert_eq!(v1::SealedSecrets::from(&SealedText::from(&sealed)), sealed);
        assert_eq!(unhex(&hex(&[0, 15, 255])), [0, 15, 255]);
    }
}
