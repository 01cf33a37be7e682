//! The words for states: those of JSON, and those for people.

use std::borrow::Cow;

pub(crate) use gantry_proto::words::{job_state, on_failure, outcome, undo};
use gantry_proto::{
    JobOutcome, StepInfo, UndoState,
    v1::{CancelStage, Job, JobState, OnFailure, Role},
    view::StepState,
};

use gantry_report::terms::Term;

use crate::{args::Lang, language::now};

/// What a cancel stage means, for people.
pub(crate) fn cancel_sentence(stage: CancelStage) -> Option<&'static str> {
    Some(match stage {
        CancelStage::Unspecified => return None,
        CancelStage::Requested => word!("asked for; the agent has not got it yet", "已请求，代理尚未收到"),
        CancelStage::Delivered => {
            word!("the agent has it; the job stops at its next safe point", "代理已收到，作业将在下一个安全点停止")
        }
        CancelStage::Stopped => word!("no step is running any more", "没有步骤在运行"),
        CancelStage::Undone => word!(
            "done; what the job had made is removed, or listed as left over",
            "已完成，已清除作业创建的对象，残留对象已列出"
        ),
        CancelStage::TooLate => word!("too late; the job had ended before", "过晚，作业此前已结束"),
    })
}

/// Where a job is on its way to, for people.
pub(crate) fn moving_sentence(job: &Job) -> Option<String> {
    let (from, to) = (&job.agent_id, &job.moving_to);
    (!to.is_empty()).then(|| {
        say!("agent {to}, as soon as agent {from} has let go of the job", "代理 {to}，待代理 {from} 交出作业后接手")
    })
}

/// What an undo state means, for people.
pub(crate) fn undo_sentence(undo: UndoState) -> &'static str {
    Term::from(undo).text(now().into())
}

/// The state of a job, for people.
pub(crate) fn state(state: JobState) -> Cow<'static, str> {
    match now() {
        Lang::En => job_state(state).replace('_', " ").into(),
        Lang::Zh => Term::from(state).text(Lang::Zh.into()).into(),
    }
}

/// How a job ended, for people.
pub(crate) fn ended(how: JobOutcome) -> &'static str {
    match now() {
        Lang::En => outcome(how),
        Lang::Zh => Term::from(how).text(Lang::Zh.into()),
    }
}

/// What happens to what a failed job has made, for people.
pub(crate) fn policy(policy: OnFailure) -> &'static str {
    match now() {
        Lang::En => on_failure(policy),
        Lang::Zh => Term::from(policy).text(Lang::Zh.into()),
    }
}

/// The state of a step, for people.
pub(crate) fn step_state(state: StepState) -> &'static str {
    match (now(), state) {
        (Lang::Zh, state) => Term::from(state).text(Lang::Zh.into()),
        (Lang::En, StepState::Waiting) => "waiting",
        (Lang::En, StepState::Running) => "running",
        (Lang::En, StepState::Retrying) => "will retry",
        (Lang::En, StepState::Done) => "done",
        (Lang::En, StepState::Failed) => "failed",
        (Lang::En, StepState::Undoing) => "undoing",
        (Lang::En, StepState::Undone) => "undone",
        (Lang::En, StepState::UndoFailed) => "undo failed",
    }
}

/// The title of a step: its agent's own, or what its id is called in Chinese.
pub(crate) fn step_title(step: &StepInfo) -> &str {
    titled(step.id.as_str(), &step.title)
}

/// The same, of a step with this id.
pub(crate) fn titled<'a>(id: &str, title: &'a str) -> &'a str {
    match now() {
        Lang::En => title,
        Lang::Zh => Term::of_step(id).map_or(title, |term| term.text(Lang::Zh.into())),
    }
}

/// A kind of object, for people; one of a newer agent keeps its word.
pub(crate) fn kind(kind: &str) -> &str {
    match (now(), kind) {
        (Lang::Zh, "vm") => "虚拟机",
        (Lang::Zh, "image") => "镜像",
        (Lang::Zh, "volume") => "上传卷",
        (Lang::Zh, "cluster") => "集群",
        (Lang::Zh, "organization") => "组织",
        (Lang::Zh, "datacenter") => "数据中心",
        (Lang::Zh, "view") => "视图",
        (Lang::Zh, "graph") => "图表",
        _ => kind,
    }
}

/// A role, for people.
pub(crate) fn role(role: Role) -> &'static str {
    match (now(), role) {
        (Lang::Zh, Role::Viewer) => "只读",
        (Lang::Zh, Role::Operator) => "操作员",
        (Lang::Zh, Role::Admin) => "管理员",
        _ => role.word(),
    }
}

/// A step of which only the id is known.
pub(crate) fn step_of_id(id: &str) -> &str {
    titled(id, id)
}

/// The end of an English noun that is counted: `{n} step{s}`.
pub(crate) fn s(number: usize) -> &'static str {
    if number == 1 { "" } else { "s" }
}
