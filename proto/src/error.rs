//! The words for what can go wrong between the parts, and their gRPC statuses.

use std::{error::Error, fmt};

use tonic::{Code as Grpc, Status};

/// Metadata key under which a status carries its [`Code`].
const CODE_KEY: &str = "gantry-code";

/// Why a call of the operator API or the link was refused. Stable words: scripts may depend on them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// The request itself is wrong.
    BadRequest,
    /// No such job.
    JobNotFound,
    /// More than one job begins so.
    JobAmbiguous,
    /// The job id is taken by another plan.
    JobConflict,
    /// The job has not ended.
    JobNotFinished,
    /// The job has ended: what was asked for no longer makes sense.
    JobFinished,
    /// The job is in a state in which this cannot be done.
    JobState,
    /// No agent fits.
    NoAgent,
    /// Several agents fit and none was chosen.
    AgentAmbiguous,
    /// The agent has never been in contact, so nothing can be sealed to it.
    AgentUnknown,
    /// Another job for the same CloudTower or cluster is at work (X3).
    TargetBusy,
    /// The certificate does not allow it.
    NotAllowed,
    /// The peer demands something that this version does not have.
    Incompatible,
    /// A bound was reached; later it may work.
    Busy,
    /// A defect.
    Internal,
    /// The token is unknown, used up or too old.
    TokenRefused,
    /// The name belongs to somebody else.
    NameTaken,
    /// No such site, operator or agent.
    Unknown,
    /// The agent is in a state in which this cannot be done.
    AgentState,
}

impl Code {
    const ALL: [(Self, &'static str, Grpc); 19] = [
        (Self::BadRequest, "bad_request", Grpc::InvalidArgument),
        (Self::JobNotFound, "job_not_found", Grpc::NotFound),
        (Self::JobAmbiguous, "job_ambiguous", Grpc::InvalidArgument),
        (Self::JobConflict, "job_conflict", Grpc::AlreadyExists),
        (Self::JobNotFinished, "job_not_finished", Grpc::FailedPrecondition),
        (Self::JobFinished, "job_finished", Grpc::FailedPrecondition),
        (Self::JobState, "job_state", Grpc::FailedPrecondition),
        (Self::NoAgent, "no_agent", Grpc::FailedPrecondition),
        (Self::AgentAmbiguous, "agent_ambiguous", Grpc::InvalidArgument),
        (Self::AgentUnknown, "agent_unknown", Grpc::FailedPrecondition),
        (Self::TargetBusy, "target_busy", Grpc::FailedPrecondition),
        (Self::NotAllowed, "not_allowed", Grpc::PermissionDenied),
        (Self::Incompatible, "incompatible", Grpc::FailedPrecondition),
        (Self::Busy, "busy", Grpc::ResourceExhausted),
        (Self::Internal, "internal", Grpc::Internal),
        (Self::TokenRefused, "token_refused", Grpc::PermissionDenied),
        (Self::NameTaken, "name_taken", Grpc::AlreadyExists),
        (Self::Unknown, "unknown", Grpc::NotFound),
        (Self::AgentState, "agent_state", Grpc::FailedPrecondition),
    ];

    /// The stable word.
    pub fn word(self) -> &'static str {
        Self::row(self).1
    }

    /// All of them.
    pub fn all() -> impl Iterator<Item = Self> {
        Self::ALL.iter().map(|row| row.0)
    }

    /// A status with this code and a message for people.
    pub fn status(self, message: impl Into<String>) -> Status {
        let mut status = Status::new(Self::row(self).2, message);
        if let Ok(word) = self.word().parse() {
            status.metadata_mut().insert(CODE_KEY, word);
        }
        status
    }

    /// The code that a status carries, if a Gantry peer made it.
    pub fn of(status: &Status) -> Option<Self> {
        let word = status.metadata().get(CODE_KEY)?.to_str().ok()?;
        Self::ALL.iter().find(|row| row.1 == word).map(|row| row.0)
    }

    fn row(self) -> &'static (Self, &'static str, Grpc) {
        // The table is in the order of the enum; a test holds it to that.
        &Self::ALL[self as usize]
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// The messages of an error and its sources, outermost first. Sources that only repeat the one before are left out.
pub fn causes(error: &(dyn Error + 'static)) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    let mut next = Some(error);
    while let Some(error) = next {
        let text = error.to_string();
        if all.last() != Some(&text) && !text.is_empty() {
            all.push(text);
        }
        next = error.source();
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_the_order_of_the_enum() {
        for (index, row) in Code::ALL.iter().enumerate() {
            assert_eq!(row.0 as usize, index);
            assert_eq!(Code::of(&row.0.status("x")), Some(row.0));
        }
        assert_eq!(Code::of(&Status::internal("from somebody else")), None);
    }
}
