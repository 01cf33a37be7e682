//! One picture of a job at work, as lines of at most the terminal's width. Pure: the screen only draws it.

use std::time::Duration;

use gantry_proto::{
    Sample,
    eta::Eta,
    v1::{CancelStage, JobState},
    view::{Phase, StepState, StepView},
};
use jiff::Timestamp;
use serde_json::Value;

use super::{jobs, paint::Paint, question, text, units, words};
use crate::follow::Known;

/// Wider lines are harder to read, not easier.
const WIDEST: usize = 110;
/// Cells of a bar.
const BAR: usize = 14;
/// Lines of the installer's log below its step.
const TAIL: usize = 4;

/// What a picture is made of.
pub(crate) struct Scene<'a> {
    /// What is known.
    pub(crate) known: &'a Known,
    /// How long until the broken line to the controller is tried again.
    pub(crate) broken: Option<Duration>,
    /// Now, by our clock.
    pub(crate) now: Timestamp,
    /// Columns and rows of the terminal.
    pub(crate) size: (usize, usize),
    /// Colour.
    pub(crate) paint: Paint,
}

/// A part at the right of a line. Those with the highest rank are left out first; rank 0 stays.
struct Part(u8, String);

impl Scene<'_> {
    /// The lines, from the top.
    pub(crate) fn lines(&self) -> Vec<String> {
        let around = [self.head(), self.overall()].len() + self.states().len();
        let mut lines = vec![self.head()];
        lines.extend(self.steps(self.size.1.saturating_sub(around + 1)));
        lines.extend(self.states());
        lines.push(self.overall());
        lines
    }

    fn width(&self) -> usize {
        self.size.0.clamp(20, WIDEST)
    }

    fn head(&self) -> String {
        let Some(job) = &self.known.job else { return self.paint.head(word!("job", "作业")) };
        let short = jobs::short(&job.job_id);
        let (vm, ip, cluster) = (&job.vm_name, &job.cloudtower_ip, &job.cluster);
        let mut line = say!("job {short}  {vm}  {ip}", "作业 {short}  {vm}  {ip}");
        if !cluster.is_empty() {
            line.push_str(&say!("  on {cluster}", "  集群 {cluster}"));
        }
        self.paint.head(&text::cut(&text::clean(&line), self.width()))
    }

    /// The steps within so many rows: what is done and what waits is counted instead of listed when it is too much.
    fn steps(&self, rows: usize) -> Vec<String> {
        let steps = &self.known.view.steps;
        let blocks: Vec<_> = steps.iter().map(|step| (step.state, self.step(step))).collect();
        let lines = |blocks: &[(StepState, Vec<String>)]| blocks.iter().map(|(_, lines)| lines.len()).sum::<usize>();
        let (mut from, mut to) = (0, blocks.len());
        let fits = |from: usize, to: usize| {
            lines(&blocks[from..to]) + usize::from(from > 0) + usize::from(to < blocks.len()) <= rows.max(3)
        };
        while !fits(from, to) && from < to && blocks[from].0 == StepState::Done {
            from += 1;
        }
        while !fits(from, to) && from < to && blocks[to - 1].0 == StepState::Waiting {
            to -= 1;
        }
        let mut all = Vec::new();
        if from > 0 {
            let s = words::s(from);
            all.push(self.paint.good(&say!("✓ {from} step{s} done", "✓ 已完成 {from} 步")));
        }
        all.extend(blocks[from..to].iter().flat_map(|(_, lines)| lines.iter().cloned()));
        if to < blocks.len() {
            let (left, s) = (blocks.len() - to, words::s(blocks.len() - to));
            all.push(self.paint.dim(&say!("· {left} step{s} more to come", "· 还有 {left} 步")));
        }
        all
    }

    /// One step: its line, and below it what is going on.
    fn step(&self, step: &StepView) -> Vec<String> {
        let paint = self.paint;
        let sign = match step.state {
            StepState::Waiting => paint.dim("·"),
            StepState::Running => paint.busy("▸"),
            StepState::Retrying => paint.warn("↻"),
            StepState::Done => paint.good("✓"),
            StepState::Failed => paint.bad("✗"),
            StepState::Undoing => paint.busy("◂"),
            StepState::Undone => paint.warn("↶"),
            StepState::UndoFailed => paint.bad("!"),
        };
        let title = text::clean(words::step_title(&step.info)).into_owned();
        let title = if step.state == StepState::Waiting { paint.dim(&title) } else { title };
        let mut lines = vec![self.compose(&format!("{sign} {title}"), self.parts(step))];
        if matches!(step.state, StepState::Running | StepState::Undoing)
            && let Some(sample) = &step.sample
        {
            let said = said(sample);
            lines.extend(
                said.iter().map(|said| paint.dim(&text::cut(&format!("    {}", text::clean(said)), self.width()))),
            );
        }
        lines
    }

    fn parts(&self, step: &StepView) -> Vec<Part> {
        let spent = step.started.map(|from| units::between(from, step.finished.unwrap_or(self.now)));
        let spent = spent.map(units::duration).unwrap_or_default();
        let word = || words::step_state(step.state).to_owned();
        let mut parts = match step.state {
            StepState::Waiting => Vec::new(),
            StepState::Running => match &step.sample {
                Some(sample) => measured(sample, spent),
                None => {
                    let learned = self.known.expected.get(&step.info.id).map(|time| time.seconds);
                    let usual = learned.unwrap_or_else(|| f64::from(step.info.weight));
                    let usual = units::duration(usual);
                    vec![Part(3, say!("usually {usual}", "通常 {usual}")), Part(0, spent)]
                }
            },
            StepState::Done => vec![Part(0, spent)],
            StepState::Retrying => vec![Part(0, self.paint.warn(&word()))],
            StepState::Failed | StepState::UndoFailed => vec![Part(0, self.paint.bad(&word()))],
            StepState::Undoing | StepState::Undone => vec![Part(0, word())],
        };
        if step.attempt > 1 {
            let (attempt, of) = (step.attempt, step.info.attempts.max(step.attempt));
            parts.insert(0, Part(1, self.paint.warn(&say!("attempt {attempt} of {of}", "第 {attempt}/{of} 次尝试"))));
        }
        parts
    }

    /// What stands between the job and its work, and is no failure.
    fn states(&self) -> Vec<String> {
        let mut all = Vec::new();
        if let Some(left) = self.broken {
            let left = left.as_secs_f64().ceil();
            all.push(say!(
                "no line to the controller, trying again in {left} s; the job goes on",
                "与控制器的连接中断，{left} 秒后重试；作业仍在继续"
            ));
        }
        if let Some(job) = &self.known.job {
            all.extend(contact(job, self.now).filter(|_| self.known.view.phase != Phase::Finished));
            all.extend(words::cancel_sentence(job.cancel()).map(|words| say!("cancel: {words}", "取消：{words}")));
            match job.state() {
                JobState::Queued if job.agent_in_contact => {
                    all.push(say!("queued: waiting for the agent to begin", "排队中：等待代理开始执行"));
                }
                JobState::Paused => all.push(say!("paused", "已暂停")),
                JobState::NeedsOperator => all.extend(self.question(&job.job_id)),
                _ => {}
            }
            all.extend(words::moving_sentence(job).map(|words| say!("on its way to {words}", "正在移交：{words}")));
            if !job.refusal.is_empty() {
                let why = &job.refusal;
                all.push(say!("refused: {why}", "已拒绝：{why}"));
            }
            if job.cancel() == CancelStage::Unspecified && self.known.view.cancelled_by.is_some() {
                all.push(say!(
                    "cancel: the agent has it; the job stops at its next safe point",
                    "取消：代理已收到，作业将在下一个安全点停止"
                ));
            }
        }
        all.iter().flat_map(|line| text::wrap(&text::clean(line), self.width())).map(|l| self.paint.warn(&l)).collect()
    }

    /// What an operator has to decide, and how.
    fn question(&self, job_id: &str) -> Vec<String> {
        let Some(asked) = self.known.question() else {
            return vec![say!("waiting for an operator", "等待操作员")];
        };
        let why = asked.failure.as_ref().map(|failure| format!("{}{}", word!(": ", "："), question::why(failure)));
        let why = why.unwrap_or_default();
        let mut all = vec![say!("waiting for an operator{why}", "等待操作员{why}")];
        all.extend(asked.choices.iter().map(question::choice));
        let answer = question::command(jobs::short(job_id).as_str(), word!("CHOICE", "选项"));
        all.push(say!("answer: {answer}", "答复：{answer}"));
        all
    }

    fn overall(&self) -> String {
        let view = &self.known.view;
        let mut parts = vec![Part(3, bar(view.percent() / 100.0)), Part(0, percent(view.percent()))];
        if let (Some(eta), None) = (self.known.eta(self.now), self.broken) {
            let left = units::about(eta.seconds);
            parts.push(Part(1, say!("about {left} left", "约剩 {left}")));
            parts.extend(range(eta).map(|range| Part(4, range)));
        }
        if view.phase == Phase::Undoing {
            parts.push(Part(0, self.paint.warn(word!("undoing", "回滚中"))));
        }
        if let Some(from) = view.started {
            let so_far = units::duration(units::between(from, view.finished.unwrap_or(self.now)));
            parts.push(Part(2, say!("{so_far} so far", "已用 {so_far}")));
        }
        self.compose(word!("overall", "总进度"), parts)
    }

    /// Left text, then the parts at the right edge; what does not fit is left out by rank, then the left text is cut.
    fn compose(&self, left: &str, mut parts: Vec<Part>) -> String {
        let width = self.width();
        let room = text::width(left).min(width * 2 / 5);
        let taken = |parts: &[Part]| parts.iter().map(|part| text::width(&part.1) + 2).sum::<usize>();
        while taken(&parts) + room > width {
            let Some(worst) = (0..parts.len()).filter(|i| parts[*i].0 > 0).max_by_key(|i| parts[*i].0) else { break };
            parts.remove(worst);
        }
        let left = text::column(left, width.saturating_sub(taken(&parts)));
        let right: String = parts.iter().map(|part| format!("  {}", part.1)).collect();
        text::cut(format!("{left}{right}").trim_end(), width).into_owned()
    }
}

/// What is going on: the last lines of the installer's log, or else the one line of the sample.
fn said(sample: &Sample) -> Vec<&str> {
    let tail = sample.extra.get("tail").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
    let tail: Vec<&str> = tail.filter(|line| !line.is_empty()).collect();
    let tail = &tail[tail.len().saturating_sub(TAIL)..];
    if tail.is_empty() {
        Some(sample.text.as_str()).filter(|text| !text.is_empty()).into_iter().collect()
    } else {
        tail.to_vec()
    }
}

/// From when to when, unless that is the same to a reader.
fn range(eta: Eta) -> Option<String> {
    let (low, high) = (units::about(eta.low), units::about(eta.high));
    (low != high).then(|| say!("({low} to {high})", "（{low} 至 {high}）"))
}

/// That the agent is out of contact, which is a state and no failure.
pub(crate) fn contact(job: &gantry_proto::v1::Job, now: Timestamp) -> Option<String> {
    if job.agent_in_contact || job.agent_id.is_empty() || gantry_proto::ended::is_final(job.state()) {
        return None;
    }
    let agent = &job.agent_id;
    let goes_on = match job.state() {
        JobState::Queued => word!("the job begins when it is", "恢复联系后作业即开始"),
        _ => word!("the job goes on there, its events will follow", "作业仍在该处继续，事件随后补上"),
    };
    let Some(seen) = units::from_micros(job.agent_seen_micros) else {
        return Some(say!(
            "agent {agent} has not been in contact yet; {goes_on}",
            "代理 {agent} 尚未联系过；{goes_on}"
        ));
    };
    let since = units::duration(units::between(seen, now));
    Some(say!("agent {agent} is out of contact for {since}; {goes_on}", "代理 {agent} 已失联 {since}；{goes_on}"))
}

/// How far a step is, from its newest sample.
fn measured(sample: &Sample, spent: String) -> Vec<Part> {
    let mut parts = Vec::new();
    if sample.total > 0 {
        let share = (sample.done as f64 / sample.total as f64).clamp(0.0, 1.0);
        parts.push(Part(4, bar(share)));
        parts.push(Part(0, percent(share * 100.0)));
    }
    parts.extend(amount(sample).map(|amount| Part(5, amount)));
    if sample.unit == "bytes" && sample.per_second > 0.0 {
        parts.push(Part(2, units::speed(sample.per_second)));
    }
    match left(sample) {
        Some(left) => parts.push(Part(1, say!("{left} left", "剩余 {left}"; left = units::duration(left)))),
        None => parts.push(Part(u8::from(sample.total > 0), spent)),
    }
    parts
}

/// `3.1/7.4 GiB`, `120 lines`; nothing for seconds, which the time tells.
pub(crate) fn amount(sample: &Sample) -> Option<String> {
    match (sample.unit.as_str(), sample.total) {
        ("bytes", 0) => Some(units::bytes(sample.done)),
        ("bytes", total) => Some(units::part_of(sample.done, total)),
        ("lines", 0) => {
            let (n, s) = (sample.done, words::s(usize::try_from(sample.done).unwrap_or(usize::MAX)));
            Some(say!("{n} line{s}", "{n} 行"))
        }
        ("lines", total) => Some(say!("{n}/{total} lines", "{n}/{total} 行"; n = sample.done)),
        _ => None,
    }
}

/// Seconds left of a step, once its speed is measured.
pub(crate) fn left(sample: &Sample) -> Option<f64> {
    let known = sample.per_second > 0.0 && sample.total > sample.done;
    known.then(|| ((sample.total - sample.done) as f64 / sample.per_second).ceil())
}

/// ` 42 %`; 100 only when it is.
pub(crate) fn percent(percent: f64) -> String {
    format!("{:>3} %", percent.clamp(0.0, 100.0).floor())
}

fn bar(share: f64) -> String {
    let full = (share.clamp(0.0, 1.0) * BAR as f64).floor() as usize;
    "█".repeat(full) + &"░".repeat(BAR - full)
}

#[cfg(test)]
mod tests;
