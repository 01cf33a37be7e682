//! The controller's part in a campaign: many sites with an agent each, and a job for each that goes as the test says.

use std::collections::{BTreeMap, BTreeSet};

use gantry_proto::{
    Code, Event, JobOutcome,
    token::sha256_hex,
    v1::{self, JobState, watch_job_response::Item},
};
use tokio::sync::watch;
use tokio_stream::StreamExt as _;
use tonic::Status;

use crate::{fake::Events, log};

/// What a workbook of these bytes is: wrong.
pub(crate) const WRONG: &[u8] = b"wrong";

/// Many sites.
#[derive(Default)]
pub(crate) struct Many {
    /// Their names; each has one agent.
    pub(crate) sites: Vec<String>,
    /// How the job of a site goes; without an entry it succeeds.
    pub(crate) logs: BTreeMap<String, Vec<Event>>,
    /// Their jobs stop behind the first event until they are let go.
    pub(crate) held: BTreeSet<String>,
    /// Their jobs wait for an operator.
    pub(crate) asking: BTreeSet<String>,
    /// Their jobs are refused.
    pub(crate) refused: BTreeSet<String>,
    /// The jobs that are stored, in the order in which they came: id and site.
    pub(crate) jobs: Vec<(String, String)>,
    /// How often a workbook was checked.
    pub(crate) checked: usize,
    /// Lets go of what is held.
    pub(crate) go: watch::Sender<bool>,
}

impl Many {
    pub(crate) fn agents(&self) -> Vec<v1::Agent> {
        let agent = |site: &String| v1::Agent {
            agent_id: format!("{site}-agent"),
            site: site.clone(),
            in_contact: true,
            ..v1::Agent::default()
        };
        self.sites.iter().map(agent).collect()
    }

    pub(crate) fn check(&mut self, workbook: &[u8]) -> v1::CheckPlanResponse {
        self.checked += 1;
        if workbook == WRONG {
            let problem = v1::Problem {
                severity: v1::Severity::Error.into(),
                code: "missing".into(),
                rule: "W1".into(),
                sheet: "集群管理信息".into(),
                cell: "E3".into(),
                message: "there is no address".into(),
                ..v1::Problem::default()
            };
            let verdict = v1::PlanVerdict::Invalid.into();
            return v1::CheckPlanResponse { verdict, problems: vec![problem], plan: None };
        }
        let sha256 = sha256_hex(workbook).into_bytes();
        let plan = Some(v1::PlanDocument { sha256, ..v1::PlanDocument::default() });
        v1::CheckPlanResponse { verdict: v1::PlanVerdict::Ok.into(), problems: Vec::new(), plan }
    }

    pub(crate) fn submit(&mut self, request: &v1::SubmitJobRequest) -> Result<v1::JobAccepted, Status> {
        if self.refused.contains(&request.site) {
            return Err(Code::NoAgent.status(format!("no agent of site \"{}\"", request.site)));
        }
        let already_known = self.jobs.iter().any(|(id, _)| *id == request.job_id);
        if !already_known {
            self.jobs.push((request.job_id.clone(), request.site.clone()));
        }
        Ok(v1::JobAccepted { job: Some(self.row(&request.job_id)?), already_known, problems: Vec::new() })
    }

    /// A job as it is now.
    pub(crate) fn row(&self, id: &str) -> Result<v1::Job, Status> {
        let site = self.jobs.iter().find(|(job, _)| job == id).map(|(_, site)| site);
        let Some(site) = site else { return Err(Code::JobNotFound.status(format!("there is no job {id}"))) };
        let log = self.log(site);
        let state = match log.last().map(|event| &event.body) {
            _ if self.asking.contains(site) => JobState::NeedsOperator,
            _ if self.held.contains(site) && !*self.go.borrow() => JobState::Running,
            Some(gantry_proto::Body::JobFinished { outcome: JobOutcome::Succeeded, .. }) => JobState::Succeeded,
            Some(gantry_proto::Body::JobFinished { outcome: JobOutcome::Cancelled, .. }) => JobState::Cancelled,
            _ => JobState::Failed,
        };
        let last_seq = log.last().map_or(0, |event| event.seq);
        Ok(v1::Job { job_id: id.to_owned(), site: site.clone(), ..log::job(state, last_seq) })
    }

    /// Follows a job from behind an event.
    pub(crate) fn watch(&self, id: &str, after: u64) -> Result<Events, Status> {
        let row = self.row(id)?;
        let holds = self.held.contains(&row.site);
        let asks = self.asking.contains(&row.site);
        let events =
            self.log(&row.site).into_iter().filter(move |event| event.seq > after && (!asks || event.seq == 1));
        let items = events.map(|event| (holds && event.seq > 1, Item::Event((&event).into())));
        let items: Vec<_> = std::iter::once((false, Item::Job(row))).chain(items).collect();
        let go = self.go.subscribe();
        let told = tokio_stream::iter(items).then(move |(holds, item)| {
            let mut go = go.clone();
            async move {
                if holds {
                    let _ = go.wait_for(|go| *go).await;
                }
                Ok(v1::WatchJobResponse { item: Some(item) })
            }
        });
        Ok(if asks { Box::pin(told.chain(tokio_stream::pending())) } else { Box::pin(told) })
    }

    fn log(&self, site: &str) -> Vec<Event> {
        self.logs.get(site).cloned().unwrap_or_else(log::success)
    }
}
