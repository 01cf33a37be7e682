//! What a fault does. Answers and transport actions are applied to a request by `net`; world actions change the
//! simulated world; job faults decide how a job ends.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The action of a fault. Durations are virtual.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Answers this instead (before), or after the effect happened (after).
    Answer(Answer),
    /// Changes values of the JSON answer. Always after.
    Edit(Edit),
    /// The answer's body is cut to this many bytes, decently (`content-length` fits).
    Truncate {
        /// Bytes kept.
        bytes: u64,
    },
    /// The answer's body becomes binary rubbish of this length, invalid as UTF-8.
    Garble {
        /// Bytes.
        bytes: u64,
    },
    /// The answer's body becomes this many spaces and never more than a window of it is in memory; absent = endless.
    Flood {
        /// Bytes; absent = endless.
        bytes: Option<u64>,
    },
    /// This many extra headers in the answer.
    HeaderBomb {
        /// How many.
        count: u32,
        /// Bytes of each value.
        size: u32,
    },
    /// The connection is closed: at once (before), after the effect (after), or at a byte of a body (during).
    Close(Cut),
    /// The connection is reset (RST), like `close`.
    Reset(Cut),
    /// Nothing happens any more until the client gives up.
    Hang,
    /// The request waits.
    Delay {
        /// Virtual milliseconds.
        ms: u64,
    },
    /// The request's body is taken at this speed.
    Throttle {
        /// Bytes per virtual second.
        bytes_per_s: u64,
    },
    /// The request's body is taken up to this byte, then no further (the client stalls).
    Stall {
        /// Bytes taken.
        request_bytes: u64,
    },
    /// The simulated world changes; the call itself goes on.
    World(WorldAction),
    /// How a job ends; only for faults that match jobs.
    Job(JobFault),
    /// A hint to the code of the face, by name.
    Mark {
        /// What, such as `corrupt_chunk`.
        name: String,
        /// With what.
        #[serde(default)]
        value: Value,
    },
}

/// A whole HTTP answer.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// Extra headers.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// A string is sent as it is, anything else as JSON.
    #[serde(default)]
    pub body: Value,
}

/// Changes to a JSON answer by JSON pointer.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Edit {
    /// Pointer to new value; a missing last key is added.
    pub set: BTreeMap<String, Value>,
    /// Pointers to remove.
    pub remove: Vec<String>,
    /// Another status.
    pub status: Option<u16>,
}

/// Where a connection is cut; of the request when one of its fields is given, else of the response.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Cut {
    /// After this many bytes of the request's body.
    pub request_bytes: Option<u64>,
    /// After this part (0..=1) of the request's body.
    pub request_part: Option<f64>,
    /// After this many bytes of the response's body.
    pub response_bytes: Option<u64>,
}

/// Named changes of the world, for faults and for `POST /world {"action": ...}`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WorldAction {
    /// The VIP's connections are reset, it refuses for a while, then another node answers for it.
    VipMove {
        /// Virtual seconds of refusal.
        down_s: u64,
        /// Sessions are lost.
        #[serde(default)]
        lose_tokens: bool,
        /// Unfinished uploads are lost.
        #[serde(default)]
        lose_uploads: bool,
    },
    /// An address stops answering.
    Down {
        /// A node's management address, or the VIP.
        address: IpAddr,
    },
    /// An address answers again.
    Up {
        /// A node's management address, or the VIP.
        address: IpAddr,
    },
    /// Every token becomes invalid.
    RevokeTokens,
    /// The Fisheye certificate is replaced; open connections stay.
    RotateCertificate,
    /// All images go, finished ones too when `all`.
    DropImages {
        /// Finished ones too.
        #[serde(default)]
        all: bool,
    },
    /// Free space becomes this.
    FreeBytes {
        /// Bytes.
        bytes: u64,
    },
    /// Pending jobs are lost, finished effects stay, sessions stay.
    ClusterRestart,
    /// VMs of this name lose power.
    PowerOff {
        /// VM name.
        vm: String,
    },
    /// Somebody makes VMs of their own; from now on they must not change.
    PlantVm(crate::options::PlantedVm),
    /// VMs of this name vanish (their volumes too).
    DeleteVm {
        /// VM name.
        vm: String,
    },
    /// VMs of this name restart.
    Reboot {
        /// VM name.
        vm: String,
    },
    /// The guest agent of VMs of this name stops or runs.
    Agent {
        /// VM name.
        vm: String,
        /// Running.
        running: bool,
    },
    /// The cached guest data of VMs of this name is stale, or fresh again.
    GuestExpired {
        /// VM name.
        vm: String,
        /// Stale.
        expired: bool,
    },
}

/// How a job ends.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobFault {
    /// It fails and has no effect.
    Fail {
        /// Primary error code.
        code: String,
        /// Its message.
        #[serde(default)]
        message: String,
        /// `JOB_FOLLOWER_FAILED_DUE_TO_DEPENDENCY` stands first in the task list (else the code is in the job itself).
        #[serde(default)]
        follower_first: bool,
    },
    /// It stays in this state for ever, without effect.
    Stuck {
        /// `pending` or `processing`.
        state: String,
    },
    /// It takes this much longer.
    Slow {
        /// Virtual seconds.
        seconds: u64,
    },
    /// It has its effect, but its id is unknown afterwards.
    Forgotten,
    /// It reports success without any effect.
    NoEffect,
}

impl Action {
    /// A plain status with an empty body.
    #[must_use]
    pub fn status(status: u16) -> Self {
        Self::Answer(Answer { status, ..Answer::default() })
    }

    /// An answer with a JSON body.
    #[must_use]
    pub fn json(status: u16, body: Value) -> Self {
        Self::Answer(Answer { status, body, ..Answer::default() })
    }

    /// A reset at once (or after the effect).
    #[must_use]
    pub fn reset() -> Self {
        Self::Reset(Cut::default())
    }

    /// A mark without value.
    #[must_use]
    pub fn mark(name: &str) -> Self {
        Self::Mark { name: name.into(), value: Value::Null }
    }
}

impl Edit {
    /// Applies the changes; pointers that lead nowhere change nothing.
    pub fn apply(&self, body: &mut Value) {
        for pointer in &self.remove {
            if let Some((parent, key)) = split(body, pointer)
                && let Value::Object(map) = parent
            {
                map.shift_remove(&key);
            }
        }
        for (pointer, value) in &self.set {
            if let Some(slot) = body.pointer_mut(pointer) {
                *slot = value.clone();
            } else if let Some((Value::Object(map), key)) = split(body, pointer) {
                map.insert(key, value.clone());
            }
        }
    }
}

fn split<'a>(body: &'a mut Value, pointer: &str) -> Option<(&'a mut Value, String)> {
    let (parent, key) = pointer.rsplit_once('/')?;
    Some((body.pointer_mut(parent)?, key.replace("~1", "/").replace("~0", "~")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn edits_set_add_and_remove() {
        let mut body = json!({"data": {"chunk_num": 3, "to_upload": [4]}});
        let edit = Edit {
            set: BTreeMap::from([("/data/chunk_num".into(), json!(9)), ("/data/new".into(), json!(true))]),
            remove: vec!["/data/to_upload".into(), "/nowhere/at/all".into()],
            status: None,
        };
        edit.apply(&mut body);
        assert_eq!(body, json!({"data": {"chunk_num": 9, "new": true}}));
    }
}
