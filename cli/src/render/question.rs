//! What a job cannot decide: the question, its answers, and the command for each.

use gantry_proto::{StepId, v1};

use super::{ending::block, lines, reason};
use crate::{
    exit::{Exit, Failure},
    follow::Known,
};

/// The question as rows.
pub(crate) fn text(job_id: &str, asked: &v1::OperatorQuestion, known: &Known, columns: usize) -> String {
    let mut out = String::new();
    let mut row = |name: &str, value: &str| block(&mut out, name, value, columns);
    row("question", &asked.seq.to_string());
    if !asked.step.is_empty() {
        row("step", &lines::step_name(known, &StepId::from(asked.step.as_str())));
    }
    if let Some(failure) = &asked.failure {
        row("what", &failure.message);
        failure.causes.iter().filter(|cause| **cause != failure.message).for_each(|cause| row("because", cause));
        if !failure.remedy.is_empty() {
            row("to do", &failure.remedy);
        }
        if let Some(command) = reason::command(&failure.code) {
            row("more", &command);
        }
    }
    for choice in &asked.choices {
        row("choice", &format!("{}: {}", choice.id, choice.text));
        row("", &command(job_id, &choice.id));
    }
    out
}

/// That a job waits, for whoever followed it.
pub(crate) fn failure(job_id: &str, asked: Option<&v1::OperatorQuestion>) -> Failure {
    let mut failure = Failure::new(Exit::NeedsOperator, format!("job {job_id} waits for an operator"));
    let Some(asked) = asked else {
        return failure
            .remedy(format!("see what it needs: ctl show {job_id}"))
            .remedy(format!("or stop it: ctl cancel {job_id}"));
    };
    if let Some(why) = &asked.failure {
        failure = failure.because(&why.message);
        for cause in why.causes.iter().filter(|cause| **cause != why.message) {
            failure = failure.because(cause);
        }
        failure = failure.explained(&why.code);
    }
    for choice in &asked.choices {
        failure = failure.remedy(format!("{} ({}): {}", choice.id, choice.text, command(job_id, &choice.id)));
    }
    failure.remedy(format!("or stop it: ctl cancel {job_id}"))
}

/// The command that gives an answer.
pub(crate) fn command(job_id: &str, choice: &str) -> String {
    format!("ctl decide {job_id} {choice}")
}
