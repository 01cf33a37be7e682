//! A look at a site for an operator, beside the jobs: one at a time, owned by the runner, ended with the session that asked
//! for it. It keeps nothing and changes nothing.

use std::{collections::VecDeque, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures_util::FutureExt as _;
use gantry_proto::{Code, Failure, JobId, Plan, error::causes, order, v1};
use tokio_util::sync::CancellationToken;

use super::{
    Runner,
    accept::{Refused, all_of, refused},
    gate::leads_nowhere_else,
    lock,
};
use crate::{
    diff::{self, Survey, Unfinished},
    outside::Outside,
};

/// Reports that wait for the link, at most: one survey is at work, and one or two more may have been refused.
const REPORTS_MAX: usize = 4;
/// Of an id that is repeated, characters.
const ID_MAX: usize = 64;

/// The survey at work, and what was found.
#[derive(Default)]
pub(super) struct Surveys {
    running: Option<(String, CancellationToken)>,
    reports: VecDeque<v1::SurveyReport>,
}

impl Runner {
    /// Begins a survey, unless one is at work. What comes of it is among [`Runner::take_survey_report`].
    pub fn survey(self: &Arc<Self>, request: v1::SurveyRequest) {
        if self.stop.is_cancelled() {
            return;
        }
        let id: String = request.survey_id.chars().take(ID_MAX).collect();
        let cancel = self.stop.child_token();
        {
            let mut surveys = lock(&self.surveys);
            if surveys.running.is_some() {
                drop(surveys);
                self.report(&id, Err(refused(Code::Busy, "another survey is at work at this agent: ask again later")));
                return;
            }
            surveys.running = Some((id.clone(), cancel.clone()));
        }
        let runner = self.clone();
        self.tasks.spawn(async move {
            let looked = AssertUnwindSafe(Box::pin(runner.look(request, &cancel))).catch_unwind().await;
            let looked =
                looked.unwrap_or_else(|_| Err(refused(Code::Internal, "the survey broke off: this is a defect")));
            lock(&runner.surveys).running.take_if(|(running, _)| *running == id);
            if !cancel.is_cancelled() {
                runner.report(&id, looked);
            }
        });
    }

    /// Nobody waits for this survey any more.
    pub fn end_survey(&self, id: &str) {
        if let Some((_, cancel)) = lock(&self.surveys).running.as_ref().filter(|(running, _)| running == id) {
            cancel.cancel();
        }
    }

    /// The session is over: whoever asked cannot be answered any more.
    pub fn end_surveys(&self) {
        let mut surveys = lock(&self.surveys);
        surveys.running.iter().for_each(|(_, cancel)| cancel.cancel());
        surveys.reports.clear();
    }

    /// The next report for the link.
    pub fn take_survey_report(&self) -> Option<v1::SurveyReport> {
        lock(&self.surveys).reports.pop_front()
    }

    async fn look(&self, request: v1::SurveyRequest, cancel: &CancellationToken) -> Result<v1::SiteDiff, Refused> {
        let id: JobId = request.survey_id.parse().map_err(|error| refused(Code::BadRequest, format!("{error}")))?;
        if request.site != self.identity.site {
            let message = format!("the survey is for another site, this agent is at \"{}\"", self.identity.site);
            return Err(Refused { code: order::OTHER_SITE, message });
        }
        let document = request.plan.ok_or_else(|| refused(Code::BadRequest, "the survey has no plan"))?;
        let sealed = request.secrets.ok_or_else(|| refused(Code::BadRequest, "the survey has no secrets"))?;
        let plan =
            Plan::from_document(&document).map_err(|error| refused(Code::BadRequest, causes(&error).join(": ")))?;
        leads_nowhere_else(&plan, &self.settings)?;
        let secrets = self.identity.sealing.open(id, &self.identity.agent, &sealed);
        let secrets = secrets.map_err(|error| refused(Code::BadRequest, error.to_string()))?;
        let _held = self.redactor.hold(all_of(&secrets));
        let before = self.room_for(&plan).err().map(|why| Failure {
            code: why.code.to_owned(),
            message: why.message,
            remedy: "wait until that job has ended, or cancel it".to_owned(),
            ..Failure::default()
        });
        tracing::info!(survey = %id, "looking what a deployment would do");
        let (settings, redactor) = (self.settings.clone(), self.redactor.clone());
        let outside = Arc::new(Outside::new(&plan, &secrets, &settings, &redactor).only_looking());
        let limit = Duration::from_millis(settings.survey.limit_ms);
        let survey = Survey {
            id,
            plan: Arc::new(plan),
            secrets: Arc::new(secrets),
            settings,
            redactor,
            outside: outside.clone(),
            cancel: cancel.clone(),
        };
        let looked = tokio::time::timeout(limit, diff::look(survey, self.pipeline, before)).await;
        outside.leave().await;
        match looked {
            Ok(Ok(diff)) => Ok(diff),
            Ok(Err(Unfinished::Cancelled)) => Err(refused(Code::Busy, "the survey was cancelled")),
            Ok(Err(error @ Unfinished::Disk(_))) => Err(refused(Code::Internal, error.to_string())),
            Err(_) => {
                let message = format!(
                    "the site could not be looked at within {} s (survey.limit_ms in the agent's settings): something \
                     there answers too slowly; `ctl deploy --stages prepare` tells what",
                    limit.as_secs()
                );
                Err(refused(Code::Busy, message))
            }
        }
    }

    fn report(&self, id: &str, looked: Result<v1::SiteDiff, Refused>) {
        let survey_id = id.to_owned();
        let report = match looked {
            Ok(diff) => v1::SurveyReport { survey_id, diff: Some(diff), ..Default::default() },
            Err(why) => {
                tracing::warn!(survey = %id, code = why.code, reason = %why.message, "no survey");
                let message = self.redactor.text(&why.message).into_owned();
                v1::SurveyReport { survey_id, diff: None, code: why.code.to_owned(), message }
            }
        };
        let mut surveys = lock(&self.surveys);
        surveys.reports.push_back(report);
        while surveys.reports.len() > REPORTS_MAX {
            surveys.reports.pop_front();
        }
        drop(surveys);
        self.wake.wake();
    }
}
