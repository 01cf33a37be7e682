//! What a retry does with each step of a job that has ended. Pure: controller and tests read the same answer.

use serde_json::Value;

use crate::{
    JobView, StepId,
    view::{StepState, StepView},
};

/// What becomes of one step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is done and stays so.
    Kept,
    /// It is walked (again). Every step looks before it makes anything.
    Redone,
    /// It is in the way; why.
    Blocked(String),
}

/// Values of the plan that a step writes into the outside world, by JSON pointer. A step that was carried out with one
/// value cannot go on with another.
const WRITES: &[(&str, &[&str])] = &[
    ("upload-iso", &["/cluster/vip", "/deployment/iso", "/deployment/upload"]),
    (
        "create-vm",
        &[
            "/cluster/vip",
            "/cloudtower/vm_name",
            "/deployment/vm",
            "/deployment/vm_description",
            "/deployment/storage_policy",
            "/deployment/target_host",
            "/management_network/vds",
            "/management_network/network",
            "/management_network/vlan_id",
        ],
    ),
    (
        "configure-network",
        &["/cloudtower/ip", "/management_network/subnet", "/management_network/netmask", "/management_network/gateway"],
    ),
    ("install", &["/dns_servers"]),
    ("initial-setup", &["/organization"]),
    ("configure-services", &["/ntp_servers"]),
    ("attach-cluster", &["/datacenter"]),
];

/// Judges every step. `from`: begin with this step instead of the first one that is not done. `old` and `new`: the plan
/// documents, when the plan is to change.
///
/// # Errors
/// When the job has no step of that name.
pub fn assess(
    view: &JobView,
    from: Option<&StepId>,
    plans: Option<(&Value, &Value)>,
) -> Result<Vec<(StepId, Fate)>, String> {
    let first_open = view.steps.iter().position(|step| step.state != StepState::Done).unwrap_or(view.steps.len());
    let begin = match from {
        None => first_open.min(spoilt(view)),
        Some(id) => view.steps.iter().position(|step| step.info.id == *id).ok_or_else(|| {
            let names: Vec<&str> = view.steps.iter().map(|step| step.info.id.as_str()).collect();
            format!("the job has no step \"{id}\"; its steps are {}", names.join(", "))
        })?,
    };
    let fate = |(index, step): (usize, &StepView)| {
        let fate = if let Some(changed) = plans.and_then(|(old, new)| changed(step, old, new)) {
            Fate::Blocked(format!(
                "it was carried out with another value of {changed}; remove what the job made first (ctl sweep), or \
                 deploy the new plan as a new job"
            ))
        } else if index < begin.min(first_open) {
            Fate::Kept
        } else if index < begin {
            Fate::Blocked("it is not done, and a later step needs it".to_owned())
        } else {
            Fate::Redone
        };
        (step.info.id.clone(), fate)
    };
    Ok(view.steps.iter().enumerate().map(fate).collect())
}

/// The step from which on things have to be made anew, whatever is done: a VM in which the installer has failed half-way is
/// not used again (`cloudtower.md` 2.4). An operator who knows better says where to begin.
fn spoilt(view: &JobView) -> usize {
    let failed = view.facts.get("installer").and_then(|installer| installer.get("failed")) == Some(&Value::Bool(true));
    let vm = view.steps.iter().position(|step| failed && step.info.id.as_str() == "create-vm");
    vm.unwrap_or(usize::MAX)
}

/// The value that a step has written into the world and that is to be another one now.
fn changed<'a>(step: &StepView, old: &Value, new: &Value) -> Option<&'a str> {
    let in_the_world = step.attempt > 0 && step.state != StepState::Undone;
    let (_, written) = WRITES.iter().find(|(id, _)| in_the_world && *id == step.info.id.as_str())?;
    let found = written.iter().find(|at| old.pointer(at) != new.pointer(at))?;
    Some(found.trim_start_matches('/'))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{Body, Event, Failure, StepInfo};

    fn view(bodies: Vec<Body>) -> JobView {
        let info = |id: &str| StepInfo { id: id.into(), title: id.into(), weight: 1, attempts: 1 };
        let steps = ["preflight", "upload-iso", "create-vm", "install"].map(info).to_vec();
        let agent = "a".parse().unwrap();
        let started = Body::JobStarted { agent, agent_version: "1".into(), steps, kept: Vec::new(), taken_over: None };
        let events = std::iter::once(started).chain(bodies).zip(1..);
        let at = jiff::Timestamp::UNIX_EPOCH;
        let events: Vec<Event> = events.map(|(body, seq)| Event { seq, epoch: 1, at, body }).collect();
        JobView::of(&events)
    }

    fn failed_at_create() -> Vec<Body> {
        let mut bodies = Vec::new();
        for id in ["preflight", "upload-iso"] {
            bodies.push(Body::StepStarted { step: id.into(), attempt: 1 });
            bodies.push(Body::StepSucceeded { step: id.into(), elapsed_ms: 1 });
        }
        bodies.push(Body::StepStarted { step: "create-vm".into(), attempt: 1 });
        let failure = Failure::default();
        bodies.push(Body::StepFailed { step: "create-vm".into(), attempt: 1, failure, will_retry: false });
        bodies
    }

    fn words(fates: Result<Vec<(StepId, Fate)>, String>) -> String {
        let word = |fate: &Fate| match fate {
            Fate::Kept => 'k',
            Fate::Redone => 'r',
            Fate::Blocked(_) => 'b',
        };
        fates.unwrap().iter().map(|(_, fate)| word(fate)).collect()
    }

    #[test]
    fn what_is_done_is_kept_and_nothing_is_skipped() {
        let kept = view(failed_at_create());
        assert_eq!(words(assess(&kept, None, None)), "kkrr");
        assert_eq!(words(assess(&kept, Some(&"upload-iso".into()), None)), "krrr");
        assert_eq!(words(assess(&kept, Some(&"install".into()), None)), "kkbr");
        assert!(assess(&kept, Some(&"nonsense".into()), None).unwrap_err().contains("preflight, upload-iso"));
    }

    #[test]
    fn a_vm_with_a_half_installation_is_made_anew_unless_told_otherwise() {
        let mut bodies = failed_at_create();
        bodies.pop();
        bodies.push(Body::StepSucceeded { step: "create-vm".into(), elapsed_ms: 1 });
        let installer = |failed: bool| Body::Fact {
            step: "install".into(),
            key: "installer".into(),
            value: Some(json!({"failed": failed})),
        };
        bodies.push(Body::StepStarted { step: "install".into(), attempt: 1 });
        bodies.push(installer(false));
        let failure = Failure::default();
        bodies.push(Body::StepFailed { step: "install".into(), attempt: 1, failure, will_retry: false });
        assert_eq!(words(assess(&view(bodies.clone()), None, None)), "kkkr", "a failed pre-check");
        bodies.push(installer(true));
        assert_eq!(words(assess(&view(bodies.clone()), None, None)), "kkrr");
        assert_eq!(words(assess(&view(bodies), Some(&"install".into()), None)), "kkkr");
    }

    #[test]
    fn what_was_undone_is_done_again() {
        let mut bodies = failed_at_create();
        for id in ["create-vm", "upload-iso", "preflight"] {
            bodies.push(Body::UndoStarted { step: id.into() });
            bodies.push(Body::UndoFinished { step: id.into(), failure: None, removed: Vec::new() });
        }
        assert_eq!(words(assess(&view(bodies), None, None)), "rrrr");
    }

    #[test]
    fn a_step_that_wrote_the_old_value_is_in_the_way_of_a_new_one() {
        let plan = |name: &str, dns: &str| json!({"cloudtower": {"vm_name": name}, "dns_servers": [dns]});
        let (old, new) = (plan("a", "192.0.2.1"), plan("b", "192.0.2.1"));
        let kept = view(failed_at_create());
        assert_eq!(words(assess(&kept, None, Some((&old, &new)))), "kkbr");
        assert_eq!(words(assess(&kept, None, Some((&old, &plan("a", "192.0.2.2"))))), "kkrr", "not carried out yet");
    }
}
