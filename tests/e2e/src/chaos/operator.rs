//! The operator's side: asks as `ctl` does, the same request any number of times until there is an answer.

use anyhow::{Context as _, bail};
use gantry_proto::{Code, JobId, v1};
use tonic::{
    Status,
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity},
};
use v1::job_service_client::JobServiceClient;

use super::{
    Scenario,
    site::{SECOND, Site},
};
use crate::lab::AGENT;

/// No call takes longer.
const CALL: std::time::Duration = std::time::Duration::from_secs(5);

/// Asks for one job.
pub(super) struct Operator {
    client: JobServiceClient<Channel>,
    /// Without a limit in time, for streams.
    watcher: JobServiceClient<Channel>,
    job: JobId,
    /// Makes each wish's name.
    wishes: u32,
}

/// What became of a wish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// It was taken, or refused by right: nothing more is to be asked.
    Answered,
    /// No answer: to be asked again.
    Lost,
}

impl Operator {
    pub(super) fn new(site: &Site, job: JobId) -> anyhow::Result<Self> {
        let data = &site.config.data;
        let read = |name: &str| std::fs::read(data.join(name)).with_context(|| format!("reading {name}"));
        let tls = ClientTlsConfig::new()
            .domain_name(site.config.listen.ip().to_string())
            .ca_certificate(Certificate::from_pem(read("ca/ca.pem")?))
            .identity(Identity::from_pem(read("operators/admin/cert.pem")?, read("operators/admin/key.pem")?));
        let endpoint = Endpoint::from_shared(format!("https://{}", site.config.listen))?.tls_config(tls)?;
        // Connects anew whenever it is needed: a controller that was killed is found again.
        let client = JobServiceClient::new(endpoint.clone().timeout(CALL).connect_lazy());
        Ok(Self { client, watcher: JobServiceClient::new(endpoint.connect_lazy()), job, wishes: 0 })
    }

    pub(super) fn watcher(&self) -> JobServiceClient<Channel> {
        self.watcher.clone()
    }

    /// A name for the next wish; one that is asked again keeps its name.
    pub(super) fn wish(&mut self) -> String {
        self.wishes += 1;
        format!("chaos-{}", self.wishes)
    }

    /// Lost: no answer, or no agent yet.
    pub(super) async fn submit(&mut self, site: &Site, scenario: &Scenario) -> anyhow::Result<Asked> {
        let on_failure = if scenario.retried { v1::OnFailure::Keep } else { v1::OnFailure::Undo };
        let request = v1::SubmitJobRequest {
            job_id: self.job.to_string(),
            workbook: site.workbook.clone(),
            file_name: "plan.xlsx".to_owned(),
            overrides: scenario.overrides.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
            on_failure: on_failure.into(),
            agent_id: AGENT.to_owned(),
            ..Default::default()
        };
        match self.client.submit_job(request).await {
            Ok(answer) => match answer.into_inner().outcome {
                Some(v1::submit_job_response::Outcome::Accepted(_)) => Ok(Asked::Answered),
                other => bail!("the workbook is not taken: {other:?}"),
            },
            Err(_) => Ok(Asked::Lost),
        }
    }

    pub(super) async fn cancel(&mut self, wish: &str) -> anyhow::Result<Asked> {
        let request = v1::CancelJobRequest {
            job_id: self.job.to_string(),
            reason: "chaos".to_owned(),
            request_id: wish.to_owned(),
        };
        asked(self.client.cancel_job(request).await)
    }

    pub(super) async fn pause(&mut self, wish: &str) -> anyhow::Result<Asked> {
        let request = v1::PauseJobRequest {
            job_id: self.job.to_string(),
            reason: "chaos".to_owned(),
            request_id: wish.to_owned(),
        };
        asked(self.client.pause_job(request).await)
    }

    pub(super) async fn resume(&mut self, wish: &str) -> anyhow::Result<Asked> {
        let request = v1::ResumeJobRequest { job_id: self.job.to_string(), request_id: wish.to_owned() };
        asked(self.client.resume_job(request).await)
    }

    pub(super) async fn retry(&mut self, wish: &str) -> anyhow::Result<Asked> {
        let request =
            v1::RetryJobRequest { job_id: self.job.to_string(), request_id: wish.to_owned(), ..Default::default() };
        let answer = self.client.retry_job(request).await;
        if let Ok(answer) = &answer
            && !answer.get_ref().accepted
        {
            bail!("the retry is not taken: {:?}", answer.get_ref());
        }
        asked(answer)
    }

    pub(super) async fn decide(&mut self, wish: &str, question: u64, choice: &str) -> anyhow::Result<Asked> {
        let request = v1::DecideJobRequest {
            job_id: self.job.to_string(),
            choice: choice.to_owned(),
            question,
            reason: "chaos".to_owned(),
            request_id: wish.to_owned(),
        };
        asked(self.client.decide_job(request).await)
    }

    pub(super) async fn hand_over(&mut self, wish: &str, site: &Site, off: bool) -> anyhow::Result<Asked> {
        let request = v1::MoveJobRequest {
            job_id: self.job.to_string(),
            agent_id: SECOND.to_owned(),
            workbook: site.workbook.clone(),
            file_name: "plan.xlsx".to_owned(),
            old_agent_is_off: off,
            request_id: wish.to_owned(),
            ..Default::default()
        };
        asked(self.client.move_job(request).await)
    }

    /// The job as it is now; `None`: no answer.
    pub(super) async fn job(&mut self) -> anyhow::Result<Option<v1::Job>> {
        match self.client.get_job(v1::GetJobRequest { job_id: self.job.to_string() }).await {
            Ok(answer) => Ok(Some(answer.into_inner().job.context("no job in the answer")?)),
            Err(_) => Ok(None),
        }
    }
}

fn asked<T>(answer: Result<T, Status>) -> anyhow::Result<Asked> {
    match answer {
        Ok(_) => Ok(Asked::Answered),
        Err(status) => match Code::of(&status) {
            // The job has moved on meanwhile.
            Some(Code::JobFinished | Code::JobState) => Ok(Asked::Answered),
            // The second agent may not have been in contact yet.
            Some(Code::Busy | Code::Internal | Code::AgentUnknown | Code::NoAgent) | None => Ok(Asked::Lost),
            Some(_) => Err(status).context("a wish was refused"),
        },
    }
}
