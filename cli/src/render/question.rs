//! What a job cannot decide: the question, its answers, and the command for each.

use gantry_proto::{StepId, v1};

use super::{ending::block, lines, reason};
use crate::{
    args::Lang,
    exit::{Exit, Failure},
    follow::Known,
    language::{Said, now},
};

/// The question as rows.
pub(crate) fn text(job_id: &str, asked: &v1::OperatorQuestion, known: &Known, columns: usize) -> String {
    let mut out = String::new();
    let mut row = |name: &str, value: &str| block(&mut out, name, value, columns);
    row(word!("question", "问题编号"), &asked.seq.to_string());
    if !asked.step.is_empty() {
        row(word!("step", "步骤"), &lines::step_name(known, &StepId::from(asked.step.as_str())));
    }
    if let Some(failure) = &asked.failure {
        let failure = gantry_proto::Failure::from(failure.clone());
        reason::rows(&failure, false, &mut row);
        if let Some(command) = reason::command(&failure.code) {
            row(word!("more", "更多"), &command);
        }
    }
    for one in &asked.choices {
        row(word!("choice", "选项"), &choice(one));
        row("", &command(job_id, &one.id));
    }
    out
}

/// That a job waits, for whoever followed it.
pub(crate) fn failure(job_id: &str, asked: Option<&v1::OperatorQuestion>) -> Failure {
    let mut failure =
        Failure::new(Exit::NeedsOperator, said!("job {job_id} waits for an operator", "作业 {job_id} 等待操作员"));
    let stop = || said!("or stop it: ctl cancel {job_id}", "或取消作业：ctl cancel {job_id}");
    let Some(asked) = asked else {
        return failure
            .remedy(said!("see what it needs: ctl show {job_id}", "查看需要什么：ctl show {job_id}"))
            .remedy(stop());
    };
    if let Some(why) = &asked.failure {
        failure = failure.because(Said::of(|| self::why(why)));
        for cause in why.causes.iter().filter(|cause| **cause != why.message) {
            failure = failure.because(cause);
        }
        failure = failure.explained(&why.code);
    }
    for one in &asked.choices {
        let (id, command) = (&one.id, command(job_id, &one.id));
        failure = failure.remedy(said!(
            "{id} ({meaning}): {command}",
            "{id}（{meaning}）：{command}"; meaning = meaning(id, &one.text)
        ));
    }
    failure.remedy(stop())
}

/// Why it waits, in one line.
pub(crate) fn why(failure: &v1::Failure) -> String {
    reason::sentence(&failure.clone().into())
}

/// An answer and what follows from it.
pub(crate) fn choice(choice: &v1::Choice) -> String {
    answer(&choice.id, &choice.text)
}

/// The same, from its parts.
pub(crate) fn answer(id: &str, text: &str) -> String {
    let meaning = meaning(id, text);
    say!("{id}: {meaning}", "{id}：{meaning}")
}

/// What follows from an answer: the agent's own words, or what its word is called in Chinese.
fn meaning<'a>(id: &str, text: &'a str) -> &'a str {
    match (now(), id) {
        (Lang::Zh, "look-again") => "重新执行该步骤，创建前先查看已有对象",
        (Lang::Zh, "undo") => "作业失败，清除已知由其创建的对象",
        (Lang::Zh, "keep") => "作业失败，不清除任何对象，之后可重试或清除",
        _ => text,
    }
}

/// The command that gives an answer.
pub(crate) fn command(job_id: &str, choice: &str) -> String {
    format!("ctl decide {job_id} {choice}")
}
