//! The hand-over report of a job: what was planned, what was made, what was seen, by whom, and how long it took. Pure:
//! from what the operator API tells to values, and from these to JSON (serde) or a page (`html`).
//!
//! States come from the one fold, [`JobView`]; events are listed here, never added up.

mod html;
mod markup;
pub mod rows;
mod stylesheet;
pub mod terms;
pub mod text;
pub mod units;

use std::collections::BTreeMap;

use gantry_proto::{
    Body, Event, Failure, JobOutcome, JobView, Leftover, Level, Plan, Redactor, StepId, UndoState,
    audit::Record,
    ended::Ended,
    ledger::{Resource, ledger},
    plan::Source,
    told, v1,
    view::{StepState, StepView},
};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Map, Value, json};

use self::rows::{Row, rows};

pub use self::html::page;

/// Form of the JSON.
const FORM: &str = "gantry.report/1";
/// Entries of each list that grows with a job's log; older ones are left out, and counted.
const ENTRIES_MAX: usize = 500;
/// How long the whole flow is meant to take (R80), seconds.
const GOAL_S: f64 = 45.0 * 60.0;
/// The stage of the result that has parts of its own in the report.
const OWN_STAGE: &str = "deploy_cloudtower";
/// The stage of the result that tells how healthy the cluster is.
const HEALTH_STAGE: &str = "check_cluster_healthy";

/// Language of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lang {
    /// Chinese.
    Zh,
    /// English.
    En,
}

/// What there is to report from.
#[derive(Debug)]
pub struct Material {
    /// The whole log.
    pub events: Vec<Event>,
    /// What the events add up to.
    pub view: JobView,
    /// The job as the controller knows it.
    pub job: Option<v1::Job>,
    /// What was planned.
    pub plan: Option<v1::PlanDocument>,
    /// What the audit log has about the job, or why it is not here.
    pub audit: Result<Vec<Record>, String>,
    /// Version of the controller.
    pub controller: String,
    /// Version of the `ctl` that makes the report, if one does.
    pub ctl: Option<&'static str>,
    /// Now.
    pub made: Timestamp,
}

/// The report.
#[derive(Debug, Serialize)]
pub struct Report {
    form: &'static str,
    made: Timestamp,
    /// As `ctl show -o json` has it.
    job: Value,
    #[serde(skip)]
    told: v1::Job,
    /// [`None`] before the end, as the two that follow.
    outcome: Option<JobOutcome>,
    undo: Option<UndoState>,
    failure: Option<Failure>,
    leftovers: Vec<Leftover>,
    versions: Versions,
    /// Every value of the plan and where it comes from (R54); `None` when the plan is of another form.
    plan: Option<Vec<Planned>>,
    steps: Vec<Step>,
    timings: Timings,
    attempts: Entries<Attempt>,
    warnings: Entries<Warning>,
    objects: Vec<Resource>,
    acts: Entries<Act>,
    audit: Audit,
    licence: Option<Value>,
    /// What the job found about the cluster's health; `None` when it did not look.
    health: Option<Value>,
    /// The other stages, by key.
    stages: Map<String, Value>,
    /// The whole result.
    result: Option<Value>,
}

/// Who has worked with which version.
#[derive(Debug, Serialize)]
struct Versions {
    /// `None`: the controller has made the report.
    ctl: Option<&'static str>,
    controller: String,
    /// One for each epoch that has begun.
    agents: Vec<Agent>,
}

#[derive(Debug, Serialize)]
struct Agent {
    epoch: u32,
    at: Timestamp,
    agent_id: String,
    version: String,
}

#[derive(Debug, Serialize)]
struct Planned {
    key: String,
    value: String,
    /// A list may come from several places.
    from: Vec<Source>,
}

#[derive(Debug, Serialize)]
struct Step {
    id: StepId,
    title: String,
    state: StepState,
    /// All of them, over all epochs.
    attempts: u32,
    started: Option<Timestamp>,
    finished: Option<Timestamp>,
    /// All attempts together; `None` when none has ended.
    seconds: Option<f64>,
}

/// Seconds.
#[derive(Debug, Serialize)]
struct Timings {
    /// By phase, as the result has them.
    phases: BTreeMap<String, f64>,
    total_s: Option<f64>,
    goal_s: f64,
    within_goal: Option<bool>,
}

/// A list that keeps its newest entries.
#[derive(Debug, Serialize)]
struct Entries<T> {
    entries: Vec<T>,
    left_out: usize,
}

/// An attempt that failed, or a call that was repeated.
#[derive(Debug, Serialize)]
struct Attempt {
    at: Timestamp,
    epoch: u32,
    step: Option<StepId>,
    attempt: Option<u32>,
    will_retry: bool,
    code: String,
    message: String,
}

#[derive(Debug, Serialize)]
struct Warning {
    at: Timestamp,
    epoch: u32,
    step: Option<StepId>,
    level: Level,
    code: String,
    message: String,
}

/// What a person has done to the job, or an agent at a person's word.
#[derive(Debug, Serialize)]
struct Act {
    at: Option<Timestamp>,
    by: String,
    act: Deed,
    about: String,
}

/// What was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Deed {
    Submit,
    /// An agent has begun an epoch.
    Start,
    Cancel,
    Pause,
    Resume,
    Decide,
    Move,
    /// Moved on the word that the old agent was off.
    Vouch,
}

#[derive(Debug, Serialize)]
struct Audit {
    /// `None`: they are not to be had.
    records: Option<Vec<Record>>,
    /// Why not.
    reason: Option<String>,
}

impl Report {
    /// Puts it together.
    pub fn of(material: Material, redactor: &Redactor) -> Self {
        let Material { events, view, job, plan, audit, controller, ctl, made } = material;
        let ended = Ended::of(&view, job.as_ref());
        let told = job.unwrap_or_default();
        let result = view.result.clone().filter(|result| !result.is_null()).map(|mut result| {
            redactor.json(&mut result);
            result
        });
        let part = |pointer: &str| result.as_ref().and_then(|result| result.pointer(pointer)).filter(|v| !v.is_null());
        let stages: Map<String, Value> = match &result {
            Some(Value::Object(all)) => {
                all.iter().filter(|(key, _)| *key != OWN_STAGE).map(|(key, part)| (key.clone(), part.clone())).collect()
            }
            _ => Map::new(),
        };
        let (records, reason) = match audit {
            Ok(records) => (Some(records), None),
            Err(reason) => (None, Some(reason)),
        };
        Self {
            form: FORM,
            made,
            job: told::job(&told),
            outcome: ended.as_ref().map(|ended| ended.outcome),
            undo: ended.as_ref().and_then(|ended| ended.undo),
            failure: ended.and_then(|ended| ended.failure),
            leftovers: view.leftovers.clone(),
            versions: Versions { ctl, controller, agents: agents(&events) },
            plan: plan.and_then(|document| planned(&document, redactor)),
            steps: steps(&events),
            timings: timings(part("/deploy_cloudtower/timings")),
            attempts: Entries::newest(events.iter().filter_map(attempt)),
            warnings: Entries::newest(events.iter().filter_map(warning)),
            objects: ledger(&events),
            acts: acts(&told, &events),
            audit: Audit { records, reason },
            licence: part("/deploy_cloudtower/cloudtower/license").cloned(),
            health: stages.get(HEALTH_STAGE).cloned(),
            stages,
            result,
            told,
        }
    }
}

impl<T> Entries<T> {
    fn newest(all: impl Iterator<Item = T>) -> Self {
        let mut entries: Vec<T> = all.collect();
        let left_out = entries.len().saturating_sub(ENTRIES_MAX);
        entries.drain(..left_out);
        Self { entries, left_out }
    }
}

fn agents(events: &[Event]) -> Vec<Agent> {
    let begun = events.iter().filter_map(|event| match &event.body {
        Body::JobStarted { agent, agent_version, .. } => {
            let (agent_id, version) = (agent.to_string(), agent_version.clone());
            Some(Agent { epoch: event.epoch, at: event.at, agent_id, version })
        }
        _ => None,
    });
    begun.collect()
}

fn planned(document: &v1::PlanDocument, redactor: &Redactor) -> Option<Vec<Planned>> {
    let plan = Plan::from_document(document).ok()?;
    let sources: &BTreeMap<String, Source> = &plan.sources;
    let mut value = json!(plan);
    redactor.json(&mut value);
    Some(rows(&value, sources).into_iter().map(|Row { key, value, from }| Planned { key, value, from }).collect())
}

/// The steps of the newest epoch, each with all of its attempts that have ended.
fn steps(events: &[Event]) -> Vec<Step> {
    let mut view = JobView::default();
    let mut spent: BTreeMap<StepId, (u32, f64, Option<Timestamp>)> = BTreeMap::new();
    for event in events {
        view.apply(event);
        let (Body::StepSucceeded { step, .. } | Body::StepFailed { step, .. }) = &event.body else { continue };
        let Some(StepView { started: Some(from), finished: Some(to), .. }) =
            view.steps.iter().find(|known| known.info.id == *step)
        else {
            continue;
        };
        let (attempts, seconds, first) = spent.entry(step.clone()).or_default();
        (*attempts, *seconds) = (*attempts + 1, *seconds + units::between(*from, *to));
        first.get_or_insert(*from);
    }
    let step = |known: &StepView| {
        let ended = spent.get(&known.info.id);
        let at_work = matches!(known.state, StepState::Running) as u32;
        Step {
            id: known.info.id.clone(),
            title: known.info.title.clone(),
            state: known.state,
            attempts: ended.map_or(0, |ended| ended.0) + at_work,
            started: ended.and_then(|ended| ended.2).or(known.started),
            finished: known.finished,
            seconds: ended.map(|ended| ended.1),
        }
    };
    view.steps.iter().map(step).collect()
}

fn timings(told: Option<&Value>) -> Timings {
    let all = told.and_then(Value::as_object).into_iter().flatten();
    let phases: BTreeMap<String, f64> =
        all.filter_map(|(phase, seconds)| Some((phase.clone(), seconds.as_f64()?))).collect();
    let total_s = phases.get("total_s").copied();
    Timings { phases, total_s, goal_s: GOAL_S, within_goal: total_s.map(|total| total <= GOAL_S) }
}

fn attempt(event: &Event) -> Option<Attempt> {
    let (step, attempt, will_retry, code, message) = match &event.body {
        Body::StepFailed { step, attempt, failure, will_retry } => {
            (Some(step), Some(*attempt), *will_retry, &failure.code, &failure.message)
        }
        Body::Note { step, level: Level::Warning, code, message, .. } if code.ends_with("_retry") => {
            (step.as_ref(), None, true, code, message)
        }
        _ => return None,
    };
    let (code, message) = (code.clone(), message.clone());
    Some(Attempt { at: event.at, epoch: event.epoch, step: step.cloned(), attempt, will_retry, code, message })
}

fn warning(event: &Event) -> Option<Warning> {
    match &event.body {
        Body::Note { step, level, code, message, .. } if *level >= Level::Warning && !code.ends_with("_retry") => {
            let (step, code, message) = (step.clone(), code.clone(), message.clone());
            Some(Warning { at: event.at, epoch: event.epoch, step, level: *level, code, message })
        }
        _ => None,
    }
}

fn acts(job: &v1::Job, events: &[Event]) -> Entries<Act> {
    let (at, by) = (units::from_micros(job.created_micros), job.submitted_by.clone());
    let submitted = Act { at, by, act: Deed::Submit, about: job.file_name.clone() };
    Entries::newest(std::iter::once(submitted).chain(events.iter().filter_map(act)))
}

fn act(event: &Event) -> Option<Act> {
    let (by, act, about) = match &event.body {
        Body::JobStarted { agent, taken_over: Some(from), .. } => {
            let act = if from.confirmed { Deed::Move } else { Deed::Vouch };
            (from.by.clone(), act, format!("{} → {agent}", from.from))
        }
        Body::JobStarted { agent, .. } => (agent.to_string(), Deed::Start, String::new()),
        Body::CancelAccepted { by, reason } => (by.clone(), Deed::Cancel, reason.clone()),
        Body::Paused { by, reason } => (by.clone(), Deed::Pause, reason.clone()),
        Body::Resumed { by } => (by.clone(), Deed::Resume, String::new()),
        Body::OperatorDecided { choice, by, reason, .. } if reason.is_empty() => {
            (by.clone(), Deed::Decide, choice.clone())
        }
        Body::OperatorDecided { choice, by, reason, .. } => (by.clone(), Deed::Decide, format!("{choice}: {reason}")),
        _ => return None,
    };
    Some(Act { at: Some(event.at), by, act, about })
}

#[cfg(test)]
mod tests;
