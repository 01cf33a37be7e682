//! How a job ended: the summary of a success, the story of a failure, and the exit code of both.

use std::fmt::Write as _;

use gantry_proto::{Failure, JobOutcome, Leftover, Level, UndoState, ended::Ended, view::StepView};
pub(crate) use gantry_report::rows::plain;
use serde_json::Value;

use super::{lines, paint::Paint, reason, text, units, words};
use crate::{exit::Exit, follow::Known};

/// Columns of a row's name and the blank behind it.
const NAME: usize = 11;

/// The end of a job.
pub(crate) struct Ending<'a> {
    known: &'a Known,
    /// How it ended.
    pub(crate) outcome: JobOutcome,
    /// What became of what the job had made.
    pub(crate) undo: Option<UndoState>,
    /// Why it failed.
    pub(crate) failure: Option<Failure>,
    leftovers: &'a [Leftover],
}

/// What stands around the text already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Detail {
    /// Nothing: the times of the steps belong to it.
    WithSteps,
    /// The steps with their times.
    WithoutSteps,
    /// The whole page of the job.
    OnPage,
}

impl<'a> Ending<'a> {
    /// The end, if it has come. A job that was cancelled before it began has no last event, only a state.
    pub(crate) fn of(known: &'a Known) -> Option<Self> {
        let Ended { outcome, undo, failure } = Ended::of(&known.view, known.job.as_ref())?;
        Some(Self { known, outcome, undo, failure, leftovers: &known.view.leftovers })
    }

    /// Whether something is there that nobody wants.
    pub(crate) fn is_left_over(&self) -> bool {
        self.undo == Some(UndoState::RollbackIncomplete)
            || (!self.leftovers.is_empty() && self.undo != Some(UndoState::Kept))
    }

    /// The exit code of who followed the job.
    pub(crate) fn exit(&self) -> Exit {
        match self.outcome {
            JobOutcome::Succeeded => Exit::Done,
            _ if self.is_left_over() => Exit::Leftovers,
            JobOutcome::Failed => Exit::Failed,
            JobOutcome::Cancelled => Exit::Cancelled,
        }
    }

    /// Everything that an operator needs to know now.
    pub(crate) fn text(&self, paint: Paint, columns: usize, detail: Detail) -> String {
        let mut out = match self.outcome {
            JobOutcome::Succeeded => self.success(paint),
            JobOutcome::Failed | JobOutcome::Cancelled => self.story(paint, columns),
        };
        if detail == Detail::WithSteps {
            out.push_str(&times(self.known));
        }
        out.push_str(&self.warnings(paint, columns));
        if self.outcome != JobOutcome::Succeeded
            && detail != Detail::OnPage
            && let Some(job) = &self.known.job
        {
            let _ = writeln!(out, "  {}ctl show {}", text::fill(word!("more", "更多"), NAME), job.job_id);
        }
        if self.outcome == JobOutcome::Failed
            && let Some(command) = self.failure.as_ref().and_then(|failure| reason::command(&failure.code))
        {
            let _ = writeln!(out, "  {}{command}", text::fill(word!("more", "更多"), NAME));
        }
        out
    }

    fn success(&self, paint: Paint) -> String {
        let result = self.known.view.result.as_ref().and_then(|result| result.get("deploy_cloudtower"));
        let get = |pointer: &str| result.and_then(|result| result.pointer(pointer)).and_then(plain);
        let url = get("/base_url").unwrap_or_default();
        let attached = self.known.view.result.as_ref().and_then(|result| result.get("attach_cluster"));
        let head = match (get("/status"), attached) {
            (Some(_), _) => word!("CloudTower is ready:", "CloudTower 已就绪："),
            (None, Some(_)) => word!("attached to CloudTower:", "已接入 CloudTower："),
            // Only the stage of the pre-checks was chosen.
            (None, None) => word!(
                "checked, and nothing made; CloudTower would be:",
                "仅检查，未创建任何对象；CloudTower 地址将是："
            ),
        };
        let mut out = format!("{} {}\n", paint.good(head), text::clean(&url));
        let mut row = |name: &str, value: Option<String>| {
            if let Some(value) = value.filter(|value| !value.is_empty()) {
                let _ = writeln!(out, "  {}{}", text::fill(name, NAME), text::clean(&value));
            }
        };
        row(
            word!("login", "登录用户"),
            get("/cloudtower/session/username")
                .map(|user| say!("{user}, with the password of the workbook", "{user}，口令见规划表")),
        );
        row(word!("vm", "虚拟机"), both(get("/vm/name"), get("/vm/uuid")));
        row(word!("cluster", "集群"), self.known.job.as_ref().map(|job| job.cluster.clone()));
        row(word!("address", "IP 地址"), get("/network/ip").or_else(|| get("/ip")));
        let skipped = result.and_then(|r| r.pointer("/iso/skipped")).and_then(Value::as_bool) == Some(true);
        let how = if skipped { word!("was there already", "原已存在") } else { word!("uploaded", "已上传") };
        row(word!("image", "ISO 镜像"), get("/iso/file_name").map(|name| say!("{name}, {how}", "{name}，{how}")));
        for cluster in attached.and_then(|stage| stage.get("clusters")).and_then(Value::as_array).into_iter().flatten()
        {
            let get = |key: &str| cluster.get(key).and_then(plain);
            row(word!("attached", "已接入"), both(get("name").or_else(|| get("ip")), get("id")));
        }
        row(word!("licence", "许可证"), both(get("/cloudtower/license/type"), get("/cloudtower/license/expire_date")));
        row(
            word!("time", "总耗时"),
            self.known.view.started.zip(self.known.view.finished).map(|(a, b)| units::duration(units::between(a, b))),
        );
        row(word!("job", "作业"), self.known.job.as_ref().map(|job| job.job_id.clone()));
        out
    }

    fn story(&self, paint: Paint, columns: usize) -> String {
        let id = self.known.job.as_ref().map(|job| job.job_id.as_str()).unwrap_or_default();
        let head = match self.outcome {
            JobOutcome::Cancelled => paint.warn(&say!("job {id} was cancelled", "作业 {id} 已取消")),
            _ => paint.bad(&say!("job {id} failed", "作业 {id} 失败")),
        };
        let mut out = format!("{head}\n");
        let mut row = |name: &str, value: &str| block(&mut out, name, value, columns);
        if let Some(step) = self.failed_step() {
            let name = lines::step_name(self.known, &step.info.id);
            let (attempt, of) = (step.attempt, step.info.attempts.max(step.attempt));
            row(
                word!("step", "步骤"),
                &say!("{name} (attempt {attempt} of {of})", "{name}（第 {attempt}/{of} 次尝试）"),
            );
        }
        if let Some(by) = &self.known.view.cancelled_by {
            row(word!("by", "操作人"), by);
        }
        if let Some(failure) = self.failure.as_ref().filter(|failure| !failure.message.is_empty()) {
            reason::rows(failure, true, &mut row);
        }
        if let Some(undo) = self.undo {
            row(word!("undo", "回滚"), words::undo_sentence(undo));
        }
        self.known
            .view
            .steps
            .iter()
            .flat_map(|step| &step.removed)
            .for_each(|removed| row(word!("undone", "已清除"), removed));
        for left in self.leftovers {
            let kept = self.undo == Some(UndoState::Kept);
            let name = if kept { word!("kept", "已保留") } else { word!("left over", "残留") };
            row(name, &leftover(left));
            if !left.remedy.is_empty() {
                row("", &left.remedy);
            }
        }
        out
    }

    fn failed_step(&self) -> Option<&StepView> {
        self.known.view.steps.iter().find(|step| step.failure.is_some())
    }

    fn warnings(&self, paint: Paint, columns: usize) -> String {
        warnings(self.known, paint, columns)
    }
}

/// The warnings of a job, oldest first.
pub(crate) fn warnings(known: &Known, paint: Paint, columns: usize) -> String {
    let mut out = String::new();
    // Errors are part of the story of the failure already.
    for note in known.view.notes.iter().filter(|note| note.level == Level::Warning) {
        let place = note
            .step
            .as_ref()
            .map(|id| format!("{}{}", lines::step_name(known, id), word!(": ", "：")))
            .unwrap_or_default();
        let mut text = String::new();
        block(
            &mut text,
            word!("warning", "警告"),
            &format!("{} {place}{}", units::clock(note.at), reason::told(&note.code, &note.message)),
            columns,
        );
        out.push_str(&paint.warn(text.trim_end()));
        out.push('\n');
    }
    out
}

/// How long each step took.
pub(crate) fn times(known: &Known) -> String {
    let mut out = String::new();
    for step in &known.view.steps {
        let Some((from, to)) = step.started.zip(step.finished) else { continue };
        let took = units::duration(units::between(from, to));
        let (name, title) = (text::fill(word!("took", "耗时"), NAME), text::clean(words::step_title(&step.info)));
        let _ = writeln!(out, "  {name}{took:>8}  {title}");
    }
    out
}

/// `vm cloudtower (8d5b0f9e-…)`.
pub(crate) fn leftover(left: &Leftover) -> String {
    if left.id.is_empty() {
        return format!("{} {}", words::kind(&left.kind), left.name);
    }
    format!("{} {} ({})", words::kind(&left.kind), left.name, left.id)
}

/// One row with a name, its value wrapped beside it.
pub(crate) fn block(out: &mut String, name: &str, value: &str, columns: usize) {
    const INDENT: usize = 13;
    for (index, line) in text::wrap(&text::clean(value), columns.saturating_sub(INDENT).max(20)).iter().enumerate() {
        let name = if index == 0 { name } else { "" };
        // A name that fills its column is still told apart from its value.
        let _ = writeln!(out, "  {} {line}", text::fill(name, NAME - 1));
    }
}

fn both(one: Option<String>, two: Option<String>) -> Option<String> {
    match (one, two) {
        (Some(one), Some(two)) => Some(format!("{one} ({two})")),
        (one, two) => one.or(two),
    }
}
