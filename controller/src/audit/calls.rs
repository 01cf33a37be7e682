//! Which call changes something. One table: a test holds it to the contract, and calls every act to see its record.

/// The words for acts. Stable: they are in every log.
pub mod act {
    /// `JobService.SubmitJob`.
    pub const SUBMIT: &str = "job.submit";
    /// `JobService.CancelJob`.
    pub const CANCEL: &str = "job.cancel";
    /// `JobService.PauseJob`.
    pub const PAUSE: &str = "job.pause";
    /// `JobService.ResumeJob`.
    pub const RESUME: &str = "job.resume";
    /// `JobService.RetryJob`.
    pub const RETRY: &str = "job.retry";
    /// `JobService.SweepJob`.
    pub const SWEEP: &str = "job.sweep";
    /// `JobService.DecideJob`.
    pub const DECIDE: &str = "job.decide";
    /// `JobService.MoveJob`.
    pub const MOVE: &str = "job.move";
    /// The controller has started.
    pub const START: &str = "controller.start";
    /// A call that changes nothing was refused.
    pub const CALL: &str = "call";
    /// Refused calls that were counted instead of recorded one by one.
    pub const REFUSED_CALLS: &str = "audit.refused_calls";
}

/// What a call is to the audit log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// It changes nothing: only its refusal is recorded.
    Reads,
    /// It changes something: it takes an [`super::Act`] with this word.
    Acts(&'static str),
    /// An agent's session: what it tells is in the logs of its jobs; only its refusal is recorded.
    Link,
}

/// Paths of all calls.
pub const CALLS: &[(&str, Call)] = &[
    ("/gantry.v1.JobService/CheckPlan", Call::Reads),
    ("/gantry.v1.JobService/SubmitJob", Call::Acts(act::SUBMIT)),
    ("/gantry.v1.JobService/ListJobs", Call::Reads),
    ("/gantry.v1.JobService/GetJob", Call::Reads),
    ("/gantry.v1.JobService/WatchJob", Call::Reads),
    ("/gantry.v1.JobService/CancelJob", Call::Acts(act::CANCEL)),
    ("/gantry.v1.JobService/PauseJob", Call::Acts(act::PAUSE)),
    ("/gantry.v1.JobService/ResumeJob", Call::Acts(act::RESUME)),
    ("/gantry.v1.JobService/RetryJob", Call::Acts(act::RETRY)),
    ("/gantry.v1.JobService/SweepJob", Call::Acts(act::SWEEP)),
    ("/gantry.v1.JobService/DecideJob", Call::Acts(act::DECIDE)),
    ("/gantry.v1.JobService/MoveJob", Call::Acts(act::MOVE)),
    ("/gantry.v1.JobService/GetJobResult", Call::Reads),
    ("/gantry.v1.FleetService/ListAgents", Call::Reads),
    ("/gantry.v1.FleetService/GetVersion", Call::Reads),
    ("/gantry.v1.AuditService/ListAudit", Call::Reads),
    ("/gantry.v1.AgentLink/Open", Call::Link),
];

impl Call {
    /// The word under which a refused call is recorded.
    pub(super) fn word(path: &str) -> &'static str {
        match CALLS.iter().find(|(own, _)| *own == path) {
            Some((_, Self::Acts(word))) => word,
            _ => act::CALL,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_call_of_the_contract_is_in_the_table_once_and_nothing_else_is() {
        let table: BTreeSet<&str> = CALLS.iter().map(|(path, _)| *path).collect();
        let contract: BTreeSet<&str> = gantry_proto::METHODS.iter().copied().collect();
        assert_eq!(table, contract);
        assert_eq!(table.len(), CALLS.len());
    }
}
