//! A job in lines of text: for pipes and CI, and above the live screen. Only what people care about; progress at most
//! once for ten percent or half a minute.

use gantry_proto::{
    Body, Event, Level, Sample, StepId, TakenOver,
    v1::{self, JobState},
};
use jiff::Timestamp;

use super::{frame, question, reason, text, units, words};
use crate::follow::{Heard, Known};

/// Progress is told again after so many percent, or so many seconds.
const PERCENT_STEP: f64 = 10.0;
const SECONDS_STEP: f64 = 30.0;

/// A line to tell.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Line {
    /// When it happened.
    pub(crate) at: Timestamp,
    /// How loud.
    pub(crate) level: Level,
    /// What happened.
    pub(crate) text: String,
}

impl Line {
    /// With its time in front.
    pub(crate) fn stamped(&self) -> String {
        let loud = match self.level {
            Level::Warning => word!("warning: ", "警告："),
            Level::Error => word!("error: ", "错误："),
            Level::Debug | Level::Info => "",
        };
        format!("{} {loud}{}", units::time(self.at), self.text)
    }
}

/// Remembers what has been told.
#[derive(Debug, Default)]
pub(crate) struct Teller {
    progress: Option<Told>,
    contact: Option<bool>,
    state: Option<JobState>,
    cancel: Option<v1::CancelStage>,
    agent: Option<String>,
    moving_to: String,
    refusal: String,
    still_broken: u32,
}

#[derive(Debug)]
struct Told {
    step: StepId,
    percent: f64,
    at: Timestamp,
}

impl Teller {
    /// The line for what was heard, if people care. `known` has taken it in already.
    pub(crate) fn tell(&mut self, heard: &Heard, known: &Known, now: Timestamp) -> Option<Line> {
        let (at, level, text) = match heard {
            Heard::Event(event) => (event.at, event.body.level(), self.event(event, known)?),
            Heard::Sample(sample) => (sample.at, Level::Info, self.sample(sample, known)?),
            Heard::Job(job) => (now, Level::Info, self.job(job, now)?),
            Heard::Broken { why, tries, pause } => {
                (now, Level::Warning, self.broken(why.text(), *tries, pause.as_secs_f64())?)
            }
            Heard::Back(after) => {
                self.still_broken = 0;
                let back = say!(
                    "the line to the controller is back; going on after event {after}",
                    "与控制器的连接已恢复，从事件 {after} 之后继续"
                );
                (now, Level::Info, back)
            }
            Heard::End => return None,
        };
        Some(Line { at, level, text: text::clean(&text).into_owned() })
    }

    fn event(&mut self, event: &Event, known: &Known) -> Option<String> {
        let step = |id: &StepId| step_name(known, id);
        Some(match &event.body {
            Body::JobStarted { agent, agent_version, steps, kept, taken_over } => {
                let kept = match kept.len() {
                    0 => String::new(),
                    n => say!(", {n} kept", "，保留 {n} 步"),
                };
                let (n, s) = (steps.len(), words::s(steps.len()));
                let begins = say!(
                    "agent {agent} (version {agent_version}) begins: {n} step{s}{kept}",
                    "由代理 {agent}（版本 {agent_version}）开始执行：共 {n} 步{kept}"
                );
                match taken_over {
                    None => begins,
                    Some(TakenOver { from, by, confirmed: true }) => {
                        say!(
                            "{begins}; moved here by {by} from agent {from}, which has let go of the job",
                            "{begins}；由 {by} 自代理 {from} 移交，原代理已交出作业"
                        )
                    }
                    Some(TakenOver { from, by, confirmed: false }) => {
                        say!(
                            "{begins}; moved here by {by} from agent {from}, which {by} says is off",
                            "{begins}；由 {by} 自代理 {from} 移交，{by} 担保原代理已关机"
                        )
                    }
                }
            }
            Body::StepStarted { step: id, attempt } => {
                self.progress = None;
                let (step, n) = (step(id), attempt);
                match n {
                    0 | 1 => say!("{step}: begun", "{step}：开始"),
                    _ => say!("{step}: begun, attempt {n}", "{step}：开始第 {n} 次尝试"),
                }
            }
            Body::StepSucceeded { step: id, elapsed_ms } => {
                let (step, took) = (step(id), units::duration(*elapsed_ms as f64 / 1000.0));
                say!("{step}: done in {took}", "{step}：完成，耗时 {took}")
            }
            Body::StepFailed { step: id, attempt, failure, will_retry } => {
                let next = if *will_retry { word!(", will be tried again", "，将重试") } else { "" };
                let attempt = match attempt {
                    n if *n > 1 || *will_retry => say!("attempt {n} ", "第 {n} 次尝试"),
                    _ => String::new(),
                };
                let (step, why) = (step(id), reason::sentence(failure));
                say!("{step}: {attempt}failed{next}: {why}", "{step}：{attempt}失败{next}：{why}")
            }
            Body::Note { level: Level::Debug, .. } | Body::Intent { .. } | Body::IntentOutcome { .. } => return None,
            Body::Fact { .. } | Body::Unknown => return None,
            Body::Note { step: id, level, code, message, .. } => {
                // The word of a note that is no trouble may be the code of an error elsewhere.
                let trouble = matches!(level, Level::Warning | Level::Error);
                let said = if trouble { reason::told(code, message) } else { message.clone() };
                match id.as_ref().map(step) {
                    Some(step) => say!("{step}: {said}", "{step}：{said}"),
                    None => said,
                }
            }
            Body::CancelAccepted { by, reason } if reason.is_empty() => say!("cancelled by {by}", "由 {by} 取消"),
            Body::CancelAccepted { by, reason } => say!("cancelled by {by}: {reason}", "由 {by} 取消：{reason}"),
            Body::Paused { by, reason } if reason.is_empty() => say!("held by {by}", "由 {by} 暂停"),
            Body::Paused { by, reason } => say!("held by {by}: {reason}", "由 {by} 暂停：{reason}"),
            Body::Resumed { by } => say!("{by} lets the job go on", "由 {by} 恢复"),
            Body::OperatorNeeded { step: id, failure, choices } => {
                let choices: Vec<_> = choices.iter().map(|one| question::answer(&one.id, &one.text)).collect();
                let (step, why, choices) = (step(id), reason::sentence(failure), choices.join(word!("; ", "；")));
                say!(
                    "{step}: an operator has to decide: {why}; choices: {choices}",
                    "{step}：需操作员决定：{why}；选项：{choices}"
                )
            }
            Body::OperatorDecided { choice, by, reason, .. } if reason.is_empty() => {
                say!("{by} decides: {choice}", "{by} 已决定：{choice}")
            }
            Body::OperatorDecided { choice, by, reason, .. } => {
                say!("{by} decides: {choice} ({reason})", "{by} 已决定：{choice}（{reason}）")
            }
            Body::Surrendered { by, to } => say!(
                "the agent has let go of the job, which {by} moves to agent {to}",
                "代理已交出作业，{by} 将其移交代理 {to}"
            ),
            Body::UndoStarted { step: id } => say!("{step}: undoing", "{step}：开始回滚"; step = step(id)),
            Body::UndoFinished { step: id, failure: Some(failure), .. } => {
                let (step, why) = (step(id), reason::sentence(failure));
                say!("{step}: undo failed: {why}", "{step}：回滚失败：{why}")
            }
            Body::UndoFinished { step: id, removed, .. } if removed.is_empty() => {
                say!("{step}: undone", "{step}：已回滚"; step = step(id))
            }
            Body::UndoFinished { step: id, removed, .. } => {
                let (step, removed) = (step(id), removed.join("; "));
                say!("{step}: undone: {removed}", "{step}：已回滚：{removed}")
            }
            Body::JobFinished { outcome, .. } => finished(*outcome).to_owned(),
        })
    }

    fn sample(&mut self, sample: &Sample, known: &Known) -> Option<String> {
        let percent = if sample.total > 0 { 100.0 * sample.done as f64 / sample.total as f64 } else { 0.0 };
        let due = match &self.progress {
            Some(told) if told.step == sample.step => {
                percent >= told.percent + PERCENT_STEP || units::between(told.at, sample.at) >= SECONDS_STEP
            }
            _ => true,
        };
        if !due {
            return None;
        }
        // Steps of ten are counted from a multiple of ten: 10, 20, 30, not 13, 24, 35.
        let floor = (percent / PERCENT_STEP).floor() * PERCENT_STEP;
        self.progress = Some(Told { step: sample.step.clone(), percent: floor, at: sample.at });
        let mut parts = Vec::new();
        if sample.total > 0 {
            parts.push(frame::percent(percent).trim_start().to_owned());
        }
        parts.extend(frame::amount(sample));
        if sample.unit == "bytes" && sample.per_second > 0.0 {
            parts.push(units::speed(sample.per_second));
        }
        parts.extend(frame::left(sample).map(|left| say!("{left} left", "剩余 {left}"; left = units::duration(left))));
        if !sample.text.is_empty() {
            parts.push(sample.text.clone());
        }
        let (step, parts) = (step_name(known, &sample.step), parts.join(word!(", ", "，")));
        (!parts.is_empty()).then(|| say!("{step}: {parts}", "{step}：{parts}"))
    }

    /// What has changed about the job that is no event.
    fn job(&mut self, job: &v1::Job, now: Timestamp) -> Option<String> {
        let mut told = Vec::new();
        if self.agent.replace(job.agent_id.clone()).is_some_and(|before| before != job.agent_id) {
            let agent = &job.agent_id;
            told.push(say!("agent {agent} has the job now", "作业现由代理 {agent} 执行"));
            told.extend(frame::contact(job, now));
            self.contact = Some(job.agent_in_contact);
        }
        if self.contact.replace(job.agent_in_contact) != Some(job.agent_in_contact) {
            match frame::contact(job, now) {
                Some(out) => told.push(out),
                None if self.state.is_some() => {
                    let agent = &job.agent_id;
                    told.push(say!("agent {agent} is in contact again", "代理 {agent} 已恢复联系"));
                }
                None => {}
            }
        }
        let cancel = job.cancel();
        if self.cancel.replace(cancel) != Some(cancel) {
            told.extend(words::cancel_sentence(cancel).map(|words| say!("cancel: {words}", "取消：{words}")));
        }
        let state = job.state();
        let before = self.state.replace(state);
        if before != Some(state) {
            match state {
                JobState::Queued => {
                    told.push(say!("the job is stored; waiting for the agent to begin", "作业已保存，等待代理开始执行"))
                }
                JobState::Paused => told.push(say!("the job is paused", "作业已暂停")),
                JobState::NeedsOperator => told.push(say!("the job waits for an operator", "作业等待操作员")),
                _ => {}
            }
        }
        if self.moving_to != job.moving_to {
            self.moving_to.clone_from(&job.moving_to);
            told.extend(words::moving_sentence(job).map(|words| say!("on its way to {words}", "正在移交：{words}")));
        }
        if self.refusal != job.refusal {
            self.refusal.clone_from(&job.refusal);
            if !job.refusal.is_empty() {
                let why = &job.refusal;
                told.push(say!("refused: {why}", "已拒绝：{why}"));
            }
        }
        (!told.is_empty()).then(|| told.join(word!("; ", "；")))
    }

    /// A broken line is told when it breaks, and then at growing distances.
    fn broken(&mut self, why: &str, tries: u32, pause: f64) -> Option<String> {
        if tries == 0 {
            self.still_broken = 0;
            let pause = units::duration(pause);
            return Some(say!(
                "the line to the controller broke ({why}); the job goes on, trying again in {pause}",
                "与控制器的连接中断（{why}）；作业仍在继续，{pause} 后重试"
            ));
        }
        self.still_broken += 1;
        let due = self.still_broken.is_power_of_two() && self.still_broken >= 4;
        let s = words::s(tries as usize);
        due.then(|| {
            say!(
                "still no line to the controller after {tries} attempt{s}: {why}",
                "已尝试 {tries} 次，仍无法连接控制器：{why}"
            )
        })
    }
}

/// `[2/9] Upload the ISO`, or the id of a step that is not in the table.
pub(crate) fn step_name(known: &Known, id: &StepId) -> String {
    let steps = &known.view.steps;
    match steps.iter().position(|step| step.info.id == *id) {
        Some(index) => format!("[{}/{}] {}", index + 1, steps.len(), words::step_title(&steps[index].info)),
        None => id.to_string(),
    }
}

fn finished(outcome: gantry_proto::JobOutcome) -> &'static str {
    match outcome {
        gantry_proto::JobOutcome::Succeeded => word!("the job has succeeded", "作业结束：成功"),
        gantry_proto::JobOutcome::Failed => word!("the job has failed", "作业结束：失败"),
        gantry_proto::JobOutcome::Cancelled => word!("the job has been cancelled", "作业结束：已取消"),
    }
}
