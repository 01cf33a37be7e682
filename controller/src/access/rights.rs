//! Who may call what. One table over all calls: a test holds it to the contract, and the gate refuses what is not in it.

use gantry_proto::{Code, v1::Role};

use crate::refusal::Refusal;

/// What a call demands of its caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Right {
    /// Nothing: no certificate is needed, so the call is short, small and rare.
    Anybody,
    /// An agent's certificate.
    Agent,
    /// An operator's certificate, and at least this role.
    Role(Role),
}

/// Paths of all calls.
pub const RIGHTS: &[(&str, Right)] = &[
    ("/gantry.v1.JobService/CheckPlan", Right::Role(Role::Viewer)),
    ("/gantry.v1.JobService/SubmitJob", Right::Role(Role::Operator)),
    ("/gantry.v1.JobService/DiffPlan", Right::Role(Role::Operator)),
    ("/gantry.v1.JobService/ListJobs", Right::Role(Role::Viewer)),
    ("/gantry.v1.JobService/GetJob", Right::Role(Role::Viewer)),
    ("/gantry.v1.JobService/WatchJob", Right::Role(Role::Viewer)),
    ("/gantry.v1.JobService/CancelJob", Right::Role(Role::Operator)),
    ("/gantry.v1.JobService/PauseJob", Right::Role(Role::Operator)),
    ("/gantry.v1.JobService/ResumeJob", Right::Role(Role::Operator)),
    ("/gantry.v1.JobService/TuneUpload", Right::Role(Role::Operator)),
    ("/gantry.v1.JobService/RetryJob", Right::Role(Role::Operator)),
    ("/gantry.v1.JobService/SweepJob", Right::Role(Role::Operator)),
    ("/gantry.v1.JobService/DecideJob", Right::Role(Role::Operator)),
    ("/gantry.v1.JobService/MoveJob", Right::Role(Role::Operator)),
    ("/gantry.v1.JobService/GetJobResult", Right::Role(Role::Viewer)),
    ("/gantry.v1.JobService/GetJobTrace", Right::Role(Role::Viewer)),
    ("/gantry.v1.FleetService/ListAgents", Right::Role(Role::Viewer)),
    ("/gantry.v1.FleetService/GetVersion", Right::Role(Role::Viewer)),
    ("/gantry.v1.FleetService/MakeWebLink", Right::Role(Role::Viewer)),
    ("/gantry.v1.AuditService/ListAudit", Right::Role(Role::Admin)),
    ("/gantry.v1.AccessService/AddSite", Right::Role(Role::Admin)),
    ("/gantry.v1.AccessService/ListSites", Right::Role(Role::Admin)),
    ("/gantry.v1.AccessService/AddOperator", Right::Role(Role::Admin)),
    ("/gantry.v1.AccessService/SetOperator", Right::Role(Role::Admin)),
    ("/gantry.v1.AccessService/ListOperators", Right::Role(Role::Admin)),
    ("/gantry.v1.AccessService/RevokeOperator", Right::Role(Role::Admin)),
    ("/gantry.v1.AccessService/MakeToken", Right::Role(Role::Admin)),
    ("/gantry.v1.AccessService/ApproveAgent", Right::Role(Role::Admin)),
    ("/gantry.v1.AccessService/RevokeAgent", Right::Role(Role::Admin)),
    ("/gantry.v1.EnrollmentService/Join", Right::Anybody),
    ("/gantry.v1.EnrollmentService/Return", Right::Anybody),
    ("/gantry.v1.AgentLink/Open", Right::Agent),
    ("/gantry.v1.AgentLink/SendTelemetry", Right::Agent),
];

/// Paths of pages that are no calls.
pub(super) const PAGES: &[(&str, Right)] = &[(METRICS, Right::Role(Role::Viewer))];

/// The metrics of the controller, for a Prometheus with an operator's certificate.
pub const METRICS: &str = "/metrics";

/// An operator whose certificate and role have been looked at. In the extensions of every call of the operators.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The name, as in the certificate.
    pub name: String,
    /// What they may do.
    pub role: Role,
    /// Only these sites; empty for all.
    pub sites: Vec<String>,
}

impl Caller {
    /// Whether something of this site is their business.
    ///
    /// # Errors
    /// [`Code::NotAllowed`].
    pub fn at(&self, site: &str) -> Result<(), Refusal> {
        if self.sites.is_empty() || self.sites.iter().any(|own| own == site) {
            return Ok(());
        }
        let site: String = site.chars().take(80).collect();
        let message = format!(
            "operator \"{}\" may work at {} only, and this belongs to site \"{site}\": an admin can change that with \
             `ctl operator set {} --site {site}`",
            self.name,
            self.sites.join(", "),
            self.name
        );
        Err(Refusal::new(Code::NotAllowed, message))
    }

    /// Whether the role reaches so far.
    ///
    /// # Errors
    /// [`Code::NotAllowed`].
    pub fn may(&self, needed: Role) -> Result<(), Refusal> {
        if self.role >= needed {
            return Ok(());
        }
        let message = format!(
            "this call needs the role {}, and operator \"{}\" has the role {}: an admin can change that with \
             `ctl operator set {} --role {}`",
            needed.word(),
            self.name,
            self.role.word(),
            self.name,
            needed.word()
        );
        Err(Refusal::new(Code::NotAllowed, message))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_call_of_the_contract_has_its_right_and_nothing_else_does() {
        let table: BTreeSet<&str> = RIGHTS.iter().map(|(path, _)| *path).collect();
        let contract: BTreeSet<&str> = gantry_proto::METHODS.iter().copied().collect();
        assert_eq!(table, contract);
        assert_eq!(table.len(), RIGHTS.len());
    }

    #[test]
    fn a_role_may_do_what_the_lesser_ones_may() {
        let caller = |role| Caller { name: "li".to_owned(), role, sites: vec!["s1".to_owned()] };
        assert!(caller(Role::Operator).may(Role::Viewer).is_ok() && caller(Role::Admin).may(Role::Operator).is_ok());
        let refused = caller(Role::Viewer).may(Role::Operator).unwrap_err();
        assert!(refused.message.contains("role operator") && refused.message.contains("role viewer"), "{refused}");
        assert!(caller(Role::Viewer).at("s1").is_ok());
        assert_eq!(caller(Role::Viewer).at("s2").unwrap_err().code, Code::NotAllowed);
    }
}
