//! How a job ends that its agent has never begun: the one event that the controller writes itself.

use gantry_proto::{
    Body, Failure, JobOutcome, JobResult, Plan, UndoState, order,
    result::{DeployCloudtower, ErrorRecord},
    v1,
};

/// A cancel came before the start was sent.
pub(super) fn cancelled(by: &str, reason: &str, plan: Option<&v1::PlanDocument>) -> Body {
    let why = if reason.is_empty() { String::new() } else { format!(" ({reason})") };
    let failure = Failure {
        code: "cancelled".to_owned(),
        message: format!("{by} cancelled the job before the agent had begun{why}"),
        ..Failure::default()
    };
    end(JobOutcome::Cancelled, failure, plan)
}

/// The start was refused: by the agent, or here because it was past its time before it could leave.
pub(super) fn refused(code: &str, message: &str, plan: Option<&v1::PlanDocument>) -> Body {
    let late = code == order::EXPIRED;
    let who = if late { "the job was not begun in time" } else { "the agent refused to begin the job" };
    let failure = Failure {
        code: if code.is_empty() { "start_refused".to_owned() } else { code.chars().take(80).collect() },
        message: format!("{who}: {}", message.chars().take(2000).collect::<String>()),
        remedy: order::remedy(code).unwrap_or("remove the cause, then submit the workbook again").to_owned(),
        ..Failure::default()
    };
    end(JobOutcome::Failed, failure, plan)
}

fn end(outcome: JobOutcome, failure: Failure, plan: Option<&v1::PlanDocument>) -> Body {
    let ip = plan.and_then(|document| Plan::from_document(document).ok()).map(|plan| plan.cloudtower.ip.to_string());
    let ip = ip.unwrap_or_default();
    let error = ErrorRecord {
        step: String::new(),
        code: failure.code.clone(),
        message: failure.message.clone(),
        detail: failure.clone(),
    };
    let base_url = if ip.is_empty() { String::new() } else { format!("https://{ip}") };
    let stage = DeployCloudtower { error: Some(error), ip, base_url, ..DeployCloudtower::default() };
    let result =
        serde_json::to_value(JobResult { deploy_cloudtower: stage, ..JobResult::default() }).unwrap_or_default();
    let failure = (outcome == JobOutcome::Failed).then_some(failure);
    Body::JobFinished { outcome, undo: UndoState::Nothing, failure, leftovers: Vec::new(), result }
}
