//! What a deployment would do to a site, found out by looking alone: the steps that would be walked say it, line by line.
//! Knows no step by name. Nothing here can change anything: the clients send reads and logins only, and there is no
//! journal that would take an intent.

use std::{collections::BTreeMap, sync::Arc};

use gantry_proto::{Failure, JobId, Plan, Redactor, Secrets, StepId, error::causes, v1};
use tokio_util::sync::CancellationToken;
use v1::{DiffKind, DiffLine, SiteDiff};

use crate::{
    config::Settings,
    facts::Facts,
    joblog::JobLog,
    outside::Outside,
    pipeline::{self, Pipeline},
    step::{StepCx, StepError},
};

/// The longest text of a line, characters.
const TEXT_MAX: usize = 1_000;
/// What a line takes beside its texts, bytes.
const LINE_BYTES: usize = 32;

/// A look at a site.
pub struct Survey {
    /// In the place of a job's id.
    pub id: JobId,
    /// What would be deployed.
    pub plan: Arc<Plan>,
    /// The plan's secrets.
    pub secrets: Arc<Secrets>,
    /// The agent's settings.
    pub settings: Arc<Settings>,
    /// Knows the secrets.
    pub redactor: Redactor,
    /// Clients that only look: see [`Outside::only_looking`].
    pub outside: Arc<Outside>,
    /// Cancelled when nobody wants to know any more.
    pub cancel: CancellationToken,
}

/// A part of the outside world that is logged in to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// The cluster's Fisheye.
    Cluster,
    /// A CloudTower that is there before the deployment.
    Tower,
}

/// The lines so far.
pub struct Diff {
    step: StepId,
    lines: Vec<DiffLine>,
    left_out: u32,
    /// Bytes that lines may still take.
    room: usize,
    redactor: Redactor,
    /// Which part let us in. One that did not is not asked again: one more wrong password could lock the account.
    doors: BTreeMap<Part, bool>,
}

/// Why there is no diff.
#[derive(Debug, thiserror::Error)]
pub enum Unfinished {
    /// Nobody wants to know any more.
    #[error("the survey was cancelled")]
    Cancelled,
    /// The agent's own disk.
    #[error("the agent's disk cannot be used: {0}")]
    Disk(String),
}

/// Walks the steps that the plan chooses. `before`: why the job would not even begin. A step that would fail does not
/// keep the later ones from being looked at.
pub async fn look(survey: Survey, pipeline: Pipeline, before: Option<Failure>) -> Result<SiteDiff, Unfinished> {
    let Survey { id, plan, secrets, settings, redactor, outside, cancel } = survey;
    let log = Arc::new(JobLog::looking(&settings, id, &redactor, cancel.clone()));
    let steps = pipeline::chosen(pipeline, &plan);
    let mut diff = Diff {
        step: steps.first().map_or_else(|| "".into(), |step| step.info().id),
        lines: Vec::new(),
        left_out: 0,
        room: settings.survey.report_bytes,
        redactor: redactor.clone(),
        doors: BTreeMap::new(),
    };
    if let Some(failure) = before {
        diff.refuse("", &failure);
    }
    let mut facts = Facts::default();
    for step in &steps {
        diff.step = step.info().id;
        let cx = StepCx {
            job: id,
            step: diff.step.clone(),
            plan: plan.clone(),
            secrets: secrets.clone(),
            settings: settings.clone(),
            redactor: redactor.clone(),
            outside: outside.clone(),
            log: log.clone(),
            cancel: cancel.clone(),
        };
        match step.survey(&cx, &mut facts, &mut diff).await {
            Ok(()) => {}
            Err(StepError::Cancelled | StepError::Stopping) => return Err(Unfinished::Cancelled),
            Err(StepError::Journal(error)) => return Err(Unfinished::Disk(causes(&error).join(": "))),
            Err(error) => error.failure().into_iter().for_each(|failure| diff.refuse("", failure)),
        }
    }
    let steps = steps.iter().map(|step| (&step.info()).into()).collect();
    Ok(SiteDiff { steps, lines: diff.lines, left_out: diff.left_out })
}

impl Diff {
    /// Something is made, by this call.
    pub fn create(&mut self, call: &str, subject: &str, message: impl Into<String>) {
        self.line(DiffKind::Create, call, subject, message.into(), None);
    }

    /// Something is changed; without a call of its own the call is empty.
    pub fn change(&mut self, call: &str, subject: &str, message: impl Into<String>) {
        self.line(DiffKind::Change, call, subject, message.into(), None);
    }

    /// Something is there and is used as it is.
    pub fn keep(&mut self, subject: &str, message: impl Into<String>) {
        self.line(DiffKind::Keep, "", subject, message.into(), None);
    }

    /// What happens cannot be told before. `call`: the one that may be made.
    pub fn unknown(&mut self, call: &str, subject: &str, message: impl Into<String>) {
        self.line(DiffKind::Unknown, call, subject, message.into(), None);
    }

    /// Worth knowing.
    pub fn notice(&mut self, subject: &str, message: impl Into<String>) {
        self.line(DiffKind::Notice, "", subject, message.into(), None);
    }

    /// The deployment would fail. What was told before is not told again.
    pub fn refuse(&mut self, subject: &str, failure: &Failure) {
        self.line(DiffKind::Refuse, "", subject, failure.message.clone(), Some(failure));
    }

    /// Whether this part let us in, where that was tried.
    pub fn door(&self, part: Part) -> Option<bool> {
        self.doors.get(&part).copied()
    }

    /// Notes whether this part lets us in.
    pub fn set_door(&mut self, part: Part, open: bool) {
        self.doors.insert(part, open);
    }

    fn line(&mut self, kind: DiffKind, call: &str, subject: &str, message: String, failure: Option<&Failure>) {
        let text = |text: &str| {
            let text: String = text.chars().take(TEXT_MAX).collect();
            self.redactor.text(&text).into_owned()
        };
        let (message, subject) = (text(&message), text(subject));
        let remedy = failure.map(|failure| text(&failure.remedy)).unwrap_or_default();
        let code = failure.map(|failure| failure.code.clone()).unwrap_or_default();
        if self.lines.iter().any(|line| line.kind() == kind && line.message == message && line.subject == subject)
            || failure.is_some() && self.lines.iter().any(|line| line.code == code && line.message == message)
        {
            return;
        }
        let step = self.step.to_string();
        let line = DiffLine { step, kind: kind.into(), call: call.to_owned(), subject, message, remedy, code };
        let texts = [&line.step, &line.call, &line.subject, &line.message, &line.remedy, &line.code];
        let bytes = LINE_BYTES + texts.iter().map(|text| text.len()).sum::<usize>();
        match self.room.checked_sub(bytes) {
            Some(room) => {
                self.room = room;
                self.lines.push(line);
            }
            None => self.left_out += 1,
        }
    }
}
