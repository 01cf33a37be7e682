//! Which calls a fault strikes: a call described in plain values, and conditions on them.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// Where a call arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Face {
    /// The cluster's REST interface.
    Fisheye,
    /// The CloudTower service.
    Tower,
    /// The VM's SSH server.
    Ssh,
    /// Work of the cluster itself: a job begins.
    Job,
}

/// A call as the matcher sees it. Whatever does not apply stays `None`.
#[derive(Clone, Debug)]
pub struct Call {
    /// The face.
    pub face: Face,
    /// HTTP method.
    pub method: Option<String>,
    /// URL path.
    pub path: Option<String>,
    /// GraphQL operation name.
    pub operation: Option<String>,
    /// Chunk index of an upload call.
    pub chunk: Option<u64>,
    /// Whether that chunk is the last one of its image.
    pub last_chunk: bool,
    /// SSH command line, or phase such as `connect`, `banner`, `auth`.
    pub command: Option<String>,
    /// Job description, such as `VM_CREATE`.
    pub job: Option<String>,
    /// The address connected to.
    pub address: Option<IpAddr>,
    /// The connection has served a request before.
    pub reused: bool,
}

/// Conditions on a call; absent ones do not matter. A fault without any condition strikes every call.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Match {
    /// The face.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub face: Option<Face>,
    /// HTTP method, any letter case.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// Path pattern: `*` stands for anything within a segment, `**` for anything.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// GraphQL operation name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operation: Option<String>,
    /// Chunk index.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chunk: Option<ChunkMatch>,
    /// Substring of the SSH command.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// Job description.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub job: Option<String>,
    /// The address connected to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<IpAddr>,
    /// Only connections that have (`true`) or have not (`false`) served a request before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reused: Option<bool>,
}

/// A condition on the chunk index: `3`, `[3, 5]`, `"last"`, `{"from": 4}` or `{"every": 7}`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub enum ChunkMatch {
    /// This index.
    One(u64),
    /// One of these.
    Any(Vec<u64>),
    /// The last one of its image.
    Word(LastWord),
    /// This index and everything after it.
    From {
        /// The first index.
        from: u64,
    },
    /// Every n-th index: 0, n, 2n, ...
    Every {
        /// The step.
        every: u64,
    },
}

/// The word `last`.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LastWord {
    /// The last chunk.
    Last,
}

impl Call {
    /// A call of a face about which nothing else is known yet.
    #[must_use]
    pub fn new(face: Face) -> Self {
        Self {
            face,
            method: None,
            path: None,
            operation: None,
            chunk: None,
            last_chunk: false,
            command: None,
            job: None,
            address: None,
            reused: false,
        }
    }

    /// An SSH command or phase.
    #[must_use]
    pub fn ssh(command: &str) -> Self {
        Self { command: Some(command.into()), ..Self::new(Face::Ssh) }
    }

    /// A job of the cluster begins.
    #[must_use]
    pub fn job(description: &str) -> Self {
        Self { job: Some(description.into()), ..Self::new(Face::Job) }
    }
}

impl Match {
    /// Calls of a method on a path of the cluster.
    #[must_use]
    pub fn fisheye(method: &str, path: &str) -> Self {
        Self { face: Some(Face::Fisheye), method: Some(method.into()), path: Some(path.into()), ..Self::default() }
    }

    /// Upload calls of certain chunks.
    #[must_use]
    pub fn chunk(chunk: ChunkMatch) -> Self {
        Self { chunk: Some(chunk), ..Self::fisheye("POST", "/api/v2/images/upload") }
    }

    /// Jobs with a description.
    #[must_use]
    pub fn job(description: &str) -> Self {
        Self { face: Some(Face::Job), job: Some(description.into()), ..Self::default() }
    }

    /// Whether every given condition holds.
    #[must_use]
    pub fn holds(&self, call: &Call) -> bool {
        // A job is not a request: only a fault that names jobs may strike one.
        let face = match self.face {
            Some(face) => face == call.face,
            None => call.face != Face::Job || self.job.is_some(),
        };
        let same = |want: &Option<String>, have: &Option<String>| {
            want.as_ref().is_none_or(|want| have.as_ref().is_some_and(|have| have.eq_ignore_ascii_case(want)))
        };
        face && same(&self.method, &call.method)
            && self.path.as_ref().is_none_or(|want| call.path.as_ref().is_some_and(|have| glob(want, have)))
            && same(&self.operation, &call.operation)
            && self.chunk.as_ref().is_none_or(|want| call.chunk.is_some_and(|have| want.holds(have, call.last_chunk)))
            && self.command.as_ref().is_none_or(|want| call.command.as_ref().is_some_and(|have| have.contains(want)))
            && same(&self.job, &call.job)
            && self.address.is_none_or(|want| call.address == Some(want))
            && self.reused.is_none_or(|want| call.reused == want)
    }
}

impl ChunkMatch {
    fn holds(&self, chunk: u64, last: bool) -> bool {
        match self {
            Self::One(index) => *index == chunk,
            Self::Any(indices) => indices.contains(&chunk),
            Self::Word(LastWord::Last) => last,
            Self::From { from } => chunk >= *from,
            Self::Every { every } => chunk.checked_rem(*every) == Some(0),
        }
    }
}

/// `*` within a segment, `**` across segments.
fn glob(pattern: &str, path: &str) -> bool {
    let Some(star) = pattern.find('*') else { return pattern == path };
    let (head, rest) = pattern.split_at(star);
    let Some(tail) = path.strip_prefix(head) else { return false };
    let (across, rest) = match rest.strip_prefix("**") {
        Some(rest) => (true, rest),
        None => (false, &rest[1..]),
    };
    let reach = if across { tail.len() } else { tail.find('/').unwrap_or(tail.len()) };
    (0..=reach).filter(|&end| tail.is_char_boundary(end)).any(|end| glob(rest, &tail[end..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs() {
        assert!(glob("/api/v2/vms/*", "/api/v2/vms/abc"));
        assert!(!glob("/api/v2/vms/*", "/api/v2/vms/abc/stop"));
        assert!(glob("/api/v2/vms/**", "/api/v2/vms/abc/stop"));
        assert!(glob("/api/v2/vms/*/stop", "/api/v2/vms/abc/stop"));
        assert!(!glob("/api/v2/vms", "/api/v2/vms/abc"));
    }

    #[test]
    fn jobs_are_struck_only_on_purpose() {
        assert!(!Match::default().holds(&Call::job("VM_CREATE")));
        assert!(Match::job("VM_CREATE").holds(&Call::job("VM_CREATE")));
        assert!(Match::default().holds(&Call::ssh("ls")));
    }

    #[test]
    fn chunk_conditions() {
        let matches = |text: &str, chunk, last| {
            let want: ChunkMatch = serde_json::from_str(text).unwrap();
            want.holds(chunk, last)
        };
        assert!(matches("3", 3, false) && !matches("3", 4, false));
        assert!(matches("[1,2]", 2, false) && !matches("[1,2]", 0, false));
        assert!(matches("\"last\"", 9, true) && !matches("\"last\"", 9, false));
        assert!(matches("{\"from\":4}", 9, false) && !matches("{\"from\":4}", 3, false));
        assert!(matches("{\"every\":7}", 14, false) && !matches("{\"every\":7}", 13, false));
        assert!(!matches("{\"every\":0}", 0, false));
    }
}
