//! Fisheye's jobs: which words end one, why it failed, and the look at it that is repeated until it ends
//! (`fisheye.md` 9).

use serde_json::Value;

use super::{
    Client, Error, ErrorKind,
    types::{Job, maybe_text, text},
};

/// The code of a secondary failure: another task's code is the reason.
const FOLLOWER: &str = "JOB_FOLLOWER_FAILED_DUE_TO_DEPENDENCY";

/// Codes after which another try cannot help (`fisheye.md` 2.4).
const PERMANENT: &[&str] = &[
    "HostAvailableMemoryFilter",
    "PlacementGroupFilter",
    "PlacementGroupMustFilter",
    "PlacementGroupPriorFilter",
    "REST_FORM_ERROR",
    "VM_CLOUD_INIT_CONFIG_ERROR",
];

/// How far a job is (9.2, C16).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum JobState {
    /// Queued, at work, or a word that nobody knows.
    #[default]
    Running,
    /// It had its effect.
    Done,
    /// It failed.
    Failed,
}

/// Why a job failed, in the order of 9.3.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JobFailure {
    /// Such as `HostAvailableMemoryFilter`; may be empty.
    pub code: String,
    /// The server's words; may be empty.
    pub message: String,
}

/// How a look at a job ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JobEnd {
    /// It goes on.
    Running,
    /// It is done.
    Done(Job),
    /// It failed.
    Failed(Job),
    /// The server does not know it (9.4): the resource tells.
    Unknown,
}

/// Repeated looks at one job.
#[derive(Debug)]
pub struct JobWatch {
    id: String,
    failures_borne: u32,
    failures: u32,
    word: Option<String>,
}

impl JobState {
    /// What a word of the server means, in any letter case.
    pub fn of(word: &str) -> Self {
        match word.trim().to_ascii_lowercase().as_str() {
            "done" | "success" | "succeed" | "succeeded" | "finished" => Self::Done,
            "failed" | "error" | "aborted" => Self::Failed,
            _ => Self::Running,
        }
    }
}

impl JobFailure {
    pub(super) fn read(job: &Value) -> Self {
        let of = |value: &Value| Self { code: text(value, "error_code"), message: text(value, "error_msg") };
        let own = of(job);
        if !own.code.is_empty() && own.code != FOLLOWER {
            return own;
        }
        let tasks = job.get("task_list").and_then(Value::as_array);
        let primary = tasks.into_iter().flatten().map(of).find(|task| !task.code.is_empty() && task.code != FOLLOWER);
        primary.unwrap_or_else(|| {
            let said = ["error", "message"].iter().find_map(|key| {
                maybe_text(job, key).or_else(|| job.get(*key).filter(|v| v.is_object()).map(|v| text(v, "msg")))
            });
            Self { code: own.code, message: Some(own.message).filter(|m| !m.is_empty()).or(said).unwrap_or_default() }
        })
    }

    /// Whether another try cannot help. Identifiers may stand in the message, too.
    pub fn is_permanent(&self) -> bool {
        PERMANENT.iter().any(|code| self.mentions(code))
    }

    /// Whether the identifier stands anywhere in it.
    pub fn mentions(&self, identifier: &str) -> bool {
        self.code.contains(identifier) || self.message.contains(identifier)
    }
}

impl std::fmt::Display for JobFailure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.code.as_str(), self.message.as_str()) {
            ("", "") => f.write_str("the server gave no reason"),
            (one, "") | ("", one) => f.write_str(one),
            (code, message) => write!(f, "{code}: {message}"),
        }
    }
}

impl JobWatch {
    /// Watches a job; so many failed looks in a row are borne.
    pub fn new(id: &str, failures_borne: u32) -> Self {
        Self { id: id.to_owned(), failures_borne, failures: 0, word: None }
    }

    /// The job.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The state's last spelling.
    pub fn word(&self) -> &str {
        self.word.as_deref().unwrap_or("unknown")
    }

    /// Looks once. Also tells whether the state's word has changed (R45).
    pub async fn look(&mut self, fisheye: &Client) -> Result<(JobEnd, bool), Error> {
        let job = match fisheye.job(&self.id).await {
            Ok(job) => job,
            Err(error) if matches!(&error.kind, ErrorKind::Refused(refusal) if refusal.had_an_answer()) => {
                return Ok((JobEnd::Unknown, false));
            }
            Err(error) if error.is_transient() && self.failures < self.failures_borne => {
                self.failures += 1;
                return Ok((JobEnd::Running, false));
            }
            Err(error) => return Err(error),
        };
        self.failures = 0;
        let changed = self.word.as_ref() != Some(&job.word);
        self.word = Some(job.word.clone());
        let end = match job.state {
            JobState::Running => JobEnd::Running,
            JobState::Done => JobEnd::Done(job),
            JobState::Failed => JobEnd::Failed(job),
        };
        Ok((end, changed))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_known_word_counts_in_any_case_and_an_unknown_one_means_running() {
        for word in ["done", "Success", "SUCCEED", "finished"] {
            assert_eq!(JobState::of(word), JobState::Done, "{word}");
        }
        for word in ["failed", "ERROR", "aborted"] {
            assert_eq!(JobState::of(word), JobState::Failed, "{word}");
        }
        for word in ["pending", "processing", "weird", ""] {
            assert_eq!(JobState::of(word), JobState::Running, "{word}");
        }
    }

    #[test]
    fn the_primary_code_wins_over_the_follower() {
        let failure = JobFailure::read(&json!({"error_code": null, "task_list": [
            {"error_code": "JOB_FOLLOWER_FAILED_DUE_TO_DEPENDENCY", "error_msg": ""},
            {"error_code": "HostAvailableMemoryFilter", "error_msg": "No host has enough memory"}]}));
        assert_eq!(failure.to_string(), "HostAvailableMemoryFilter: No host has enough memory");
        assert!(failure.is_permanent());
        let own = JobFailure::read(&json!({"error_code": "X", "error_msg": "y", "task_list": [{"error_code": "Z"}]}));
        assert_eq!((own.code.as_str(), own.is_permanent()), ("X", false));
        assert_eq!(JobFailure::read(&json!({"error": "boom"})).message, "boom");
        assert_eq!(JobFailure::read(&json!({"message": {"msg": "m"}})).message, "m");
        assert_eq!(JobFailure::read(&json!(null)).to_string(), "the server gave no reason");
    }
}
