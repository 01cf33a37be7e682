//! Which call changes something. One table: a test holds it to the contract, and calls every act to see its record.

/// The words for acts. Stable: they are in every log.
pub mod act {
    /// `JobService.SubmitJob`.
    pub const SUBMIT: &str = "job.submit";
    /// `JobService.DiffPlan`.
    pub const DIFF: &str = "plan.diff";
    /// `JobService.CancelJob`.
    pub const CANCEL: &str = "job.cancel";
    /// `JobService.PauseJob`.
    pub const PAUSE: &str = "job.pause";
    /// `JobService.ResumeJob`.
    pub const RESUME: &str = "job.resume";
    /// `JobService.TuneUpload`.
    pub const TUNE: &str = "job.tune_upload";
    /// `JobService.RetryJob`.
    pub const RETRY: &str = "job.retry";
    /// `JobService.SweepJob`.
    pub const SWEEP: &str = "job.sweep";
    /// `JobService.DecideJob`.
    pub const DECIDE: &str = "job.decide";
    /// `JobService.MoveJob`.
    pub const MOVE: &str = "job.move";
    /// `AccessService.AddSite`.
    pub const SITE_ADD: &str = "site.add";
    /// `AccessService.AddOperator`.
    pub const OPERATOR_ADD: &str = "operator.add";
    /// `AccessService.SetOperator`.
    pub const OPERATOR_SET: &str = "operator.set";
    /// `AccessService.RevokeOperator`.
    pub const OPERATOR_REVOKE: &str = "operator.revoke";
    /// An operator was let in on the controller's host.
    pub const OPERATOR_RESCUE: &str = "operator.rescue";
    /// `AccessService.MakeToken`.
    pub const AGENT_TOKEN: &str = "agent.token";
    /// `AccessService.ApproveAgent`.
    pub const AGENT_APPROVE: &str = "agent.approve";
    /// `AccessService.RevokeAgent`.
    pub const AGENT_REVOKE: &str = "agent.revoke";
    /// An agent has joined.
    pub const AGENT_JOIN: &str = "agent.join";
    /// An agent's certificate was renewed.
    pub const AGENT_RENEW: &str = "agent.renew";
    /// An agent with an expired certificate asks to come back.
    pub const AGENT_ASK: &str = "agent.ask_return";
    /// It was given a new certificate.
    pub const AGENT_RETURN: &str = "agent.return";
    /// `FleetService.MakeWebLink`.
    pub const WEB_LINK: &str = "web.link";
    /// The web pages were opened by such a link.
    pub const WEB_ENTER: &str = "web.enter";
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
    /// No operator's call: what came of it is recorded with this word.
    Records(&'static str),
    /// An agent's session: what it tells is in the logs of its jobs; only its refusal is recorded.
    Link,
}

/// Paths of all calls.
pub const CALLS: &[(&str, Call)] = &[
    ("/gantry.v1.JobService/CheckPlan", Call::Reads),
    ("/gantry.v1.JobService/SubmitJob", Call::Acts(act::SUBMIT)),
    // Nothing is changed, but an agent logs in at the site with the customer's passwords.
    ("/gantry.v1.JobService/DiffPlan", Call::Acts(act::DIFF)),
    ("/gantry.v1.JobService/ListJobs", Call::Reads),
    ("/gantry.v1.JobService/GetJob", Call::Reads),
    ("/gantry.v1.JobService/WatchJob", Call::Reads),
    ("/gantry.v1.JobService/CancelJob", Call::Acts(act::CANCEL)),
    ("/gantry.v1.JobService/PauseJob", Call::Acts(act::PAUSE)),
    ("/gantry.v1.JobService/ResumeJob", Call::Acts(act::RESUME)),
    ("/gantry.v1.JobService/TuneUpload", Call::Acts(act::TUNE)),
    ("/gantry.v1.JobService/RetryJob", Call::Acts(act::RETRY)),
    ("/gantry.v1.JobService/SweepJob", Call::Acts(act::SWEEP)),
    ("/gantry.v1.JobService/DecideJob", Call::Acts(act::DECIDE)),
    ("/gantry.v1.JobService/MoveJob", Call::Acts(act::MOVE)),
    ("/gantry.v1.JobService/GetJobResult", Call::Reads),
    ("/gantry.v1.JobService/GetJobTrace", Call::Reads),
    ("/gantry.v1.FleetService/ListAgents", Call::Reads),
    ("/gantry.v1.FleetService/GetVersion", Call::Reads),
    ("/gantry.v1.FleetService/MakeWebLink", Call::Acts(act::WEB_LINK)),
    ("/gantry.v1.AuditService/ListAudit", Call::Reads),
    ("/gantry.v1.AccessService/AddSite", Call::Acts(act::SITE_ADD)),
    ("/gantry.v1.AccessService/ListSites", Call::Reads),
    ("/gantry.v1.AccessService/AddOperator", Call::Acts(act::OPERATOR_ADD)),
    ("/gantry.v1.AccessService/SetOperator", Call::Acts(act::OPERATOR_SET)),
    ("/gantry.v1.AccessService/ListOperators", Call::Reads),
    ("/gantry.v1.AccessService/RevokeOperator", Call::Acts(act::OPERATOR_REVOKE)),
    ("/gantry.v1.AccessService/MakeToken", Call::Acts(act::AGENT_TOKEN)),
    ("/gantry.v1.AccessService/ApproveAgent", Call::Acts(act::AGENT_APPROVE)),
    ("/gantry.v1.AccessService/RevokeAgent", Call::Acts(act::AGENT_REVOKE)),
    ("/gantry.v1.EnrollmentService/Join", Call::Records(act::AGENT_JOIN)),
    ("/gantry.v1.EnrollmentService/Return", Call::Records(act::AGENT_RETURN)),
    ("/gantry.v1.AgentLink/Open", Call::Link),
    ("/gantry.v1.AgentLink/SendTelemetry", Call::Link),
];

impl Call {
    /// The word under which a refused call is recorded.
    pub(super) fn word(path: &str) -> &'static str {
        match CALLS.iter().find(|(own, _)| *own == path) {
            Some((_, Self::Acts(word) | Self::Records(word))) => word,
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
