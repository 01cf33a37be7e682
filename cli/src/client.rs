//! The operator API as `ctl` calls it: one channel with mutual TLS, a deadline on every call, and a lost answer asked
//! for again. Knows no command and prints nothing.

mod access;
mod diff;
mod trace;

use std::{error::Error as _, future::Future, time::Duration};

use gantry_proto::{
    Code,
    v1::{
        self, access_service_client::AccessServiceClient, audit_service_client::AuditServiceClient,
        fleet_service_client::FleetServiceClient, job_service_client::JobServiceClient,
    },
};
use tokio_retry::strategy::{ExponentialBackoff, jitter};
use tonic::{
    Request, Response, Status, Streaming,
    service::{Interceptor, interceptor::InterceptedService},
    transport::{Certificate, Channel, ClientTlsConfig, Identity},
};

use crate::{exit::Failure, language::Said, probe::Probe, profile::Endpoint, refusal};

/// The largest answer that is accepted, bytes: a page of a thousand jobs is far below.
const ANSWER_MAX_BYTES: usize = 16 << 20;
/// How long one attempt to connect may take, name look-up and TLS each.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// HTTP/2 PING after this silence, and how long its answer may take: so a frozen line is noticed.
const KEEP_ALIVE: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(10));
/// How often a call is sent in all when its answer is lost. Every call of the API may be repeated.
const ATTEMPTS: usize = 3;
/// The same for a submit: the workbook has crossed the line already, and the answer decides what an operator does next.
const SUBMIT_ATTEMPTS: usize = 6;
/// The longest pause between two attempts.
const LONGEST_PAUSE: Duration = Duration::from_secs(15);

/// Names one wish: a call that is repeated because its answer was lost is no second one.
fn request_id() -> String {
    gantry_proto::JobId::new().to_string()
}

type Service = InterceptedService<Channel, Propagate>;

/// A connection to a controller.
#[derive(Clone)]
pub(crate) struct Client {
    jobs: JobServiceClient<Service>,
    fleet: FleetServiceClient<Service>,
    audit: AuditServiceClient<Service>,
    access: AccessServiceClient<Service>,
    url: String,
    timeout: Duration,
    probe: Option<Probe>,
}

/// Puts the trace context of the current span into each call.
#[derive(Clone)]
pub(crate) struct Propagate;

impl Interceptor for Propagate {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        gantry_telemetry::inject_metadata(request.metadata_mut());
        Ok(request)
    }
}

impl Client {
    /// Connects: what is wrong with address, line or certificates is told at once.
    pub(crate) async fn connect(endpoint: &Endpoint, timeout: Duration) -> Result<Self, Failure> {
        let url = endpoint.url.clone();
        let tls = ClientTlsConfig::new()
            .domain_name(&endpoint.server_name)
            .ca_certificate(Certificate::from_pem(&endpoint.ca))
            .identity(Identity::from_pem(&endpoint.cert, endpoint.key.expose()))
            .timeout(CONNECT_TIMEOUT);
        let dialled = Channel::from_shared(url.clone())
            .map_err(|error| {
                Failure::usage(said!("\"{url}\" is not an address", "“{url}”不是有效地址")).because(error.to_string())
            })?
            .tls_config(tls)
            .map_err(|error| refusal::unusable_identity(&error))?
            .connect_timeout(CONNECT_TIMEOUT)
            .http2_keep_alive_interval(KEEP_ALIVE.0)
            .keep_alive_timeout(KEEP_ALIVE.1)
            .keep_alive_while_idle(true)
            .http2_adaptive_window(true);
        let channel = match tokio::time::timeout(timeout, dialled.connect()).await {
            Ok(connected) => connected.map_err(|error| refusal::no_connection(&url, &error))?,
            Err(_) => return Err(refusal::silent(&url, &said!("connecting", "建立连接"), timeout)),
        };
        let jobs =
            JobServiceClient::with_interceptor(channel.clone(), Propagate).max_decoding_message_size(ANSWER_MAX_BYTES);
        let audit = AuditServiceClient::with_interceptor(channel.clone(), Propagate)
            .max_decoding_message_size(ANSWER_MAX_BYTES);
        let access = AccessServiceClient::with_interceptor(channel.clone(), Propagate)
            .max_decoding_message_size(ANSWER_MAX_BYTES);
        let fleet =
            FleetServiceClient::with_interceptor(channel, Propagate).max_decoding_message_size(ANSWER_MAX_BYTES);
        Ok(Self { jobs, fleet, audit, access, url, timeout, probe: Probe::new(endpoint) })
    }

    /// The controller's address.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Submits a job; the same request any number of times is one job.
    pub(crate) async fn submit(&self, request: v1::SubmitJobRequest) -> Result<v1::SubmitJobResponse, Lost> {
        self.call(said!("submitting the job", "提交作业"), SUBMIT_ATTEMPTS, || {
            let (mut jobs, request) = (self.jobs.clone(), request.clone());
            async move { jobs.submit_job(request).await }
        })
        .await
    }

    /// What the controller's planner says of a workbook; nothing is stored.
    pub(crate) async fn check(&self, request: v1::CheckPlanRequest) -> Result<v1::CheckPlanResponse, Failure> {
        let answer = self.call(said!("checking the workbook", "校验规划表"), ATTEMPTS, || {
            let (mut jobs, request) = (self.jobs.clone(), request.clone());
            async move { jobs.check_plan(request).await }
        });
        Ok(answer.await?)
    }

    /// One page of jobs.
    pub(crate) async fn list(&self, request: v1::ListJobsRequest) -> Result<Vec<v1::Job>, Failure> {
        let answer = self.call(said!("listing the jobs", "查询作业列表"), ATTEMPTS, || {
            let (mut jobs, request) = (self.jobs.clone(), request.clone());
            async move { jobs.list_jobs(request).await }
        });
        Ok(answer.await?.jobs)
    }

    /// One job with its plan.
    pub(crate) async fn get(&self, job_id: &str) -> Result<v1::GetJobResponse, Failure> {
        let answer = self.call(said!("asking for the job", "查询作业"), ATTEMPTS, || {
            let (mut jobs, request) = (self.jobs.clone(), v1::GetJobRequest { job_id: job_id.to_owned() });
            async move { jobs.get_job(request).await }
        });
        Ok(answer.await?)
    }

    /// One job, if the controller has it.
    pub(crate) async fn find(&self, job_id: &str) -> Result<Option<v1::Job>, Failure> {
        let answer = self.call(said!("asking for the job", "查询作业"), ATTEMPTS, || {
            let (mut jobs, request) = (self.jobs.clone(), v1::GetJobRequest { job_id: job_id.to_owned() });
            async move {
                match jobs.get_job(request).await {
                    Err(status) if Code::of(&status) == Some(Code::JobNotFound) => {
                        Ok(Response::new(Default::default()))
                    }
                    answer => answer,
                }
            }
        });
        Ok(answer.await?.job)
    }

    /// Asks for a job to be stopped. True: it was being undone already, and its undo is not waited for any more.
    pub(crate) async fn cancel(&self, job_id: &str, reason: &str) -> Result<(v1::Job, bool), Failure> {
        let request_id = request_id();
        let request = v1::CancelJobRequest { job_id: job_id.to_owned(), reason: reason.to_owned(), request_id };
        let answer = self.call(said!("asking for the job to be cancelled", "请求取消作业"), ATTEMPTS, || {
            let (mut jobs, request) = (self.jobs.clone(), request.clone());
            async move { jobs.cancel_job(request).await }
        });
        let v1::CancelJobResponse { job, undo_cut_short } = answer.await?;
        Ok((job.ok_or_else(|| refusal::incomplete(&self.url, "job"))?, undo_cut_short))
    }

    /// Asks for a job to be held.
    pub(crate) async fn pause(&self, job_id: &str, reason: &str) -> Result<v1::Job, Failure> {
        let (job_id, reason) = (job_id.to_owned(), reason.to_owned());
        let request = v1::PauseJobRequest { job_id, reason, request_id: request_id() };
        let answer = self.call(said!("asking for the job to be held", "请求暂停作业"), ATTEMPTS, || {
            let (mut jobs, request) = (self.jobs.clone(), request.clone());
            async move { jobs.pause_job(request).await }
        });
        answer.await?.job.ok_or_else(|| refusal::incomplete(&self.url, "job"))
    }

    /// Lets a held job go on.
    pub(crate) async fn resume(&self, job_id: &str) -> Result<v1::Job, Failure> {
        let request = v1::ResumeJobRequest { job_id: job_id.to_owned(), request_id: request_id() };
        let answer = self.call(said!("asking for the job to go on", "请求恢复作业"), ATTEMPTS, || {
            let (mut jobs, request) = (self.jobs.clone(), request.clone());
            async move { jobs.resume_job(request).await }
        });
        answer.await?.job.ok_or_else(|| refusal::incomplete(&self.url, "job"))
    }

    /// Steers the upload of a job.
    pub(crate) async fn tune_upload(&self, request: v1::TuneUploadRequest) -> Result<v1::Job, Failure> {
        let request = v1::TuneUploadRequest { request_id: request_id(), ..request };
        let answer = self.call(said!("asking for the upload to go otherwise", "请求调整上传"), ATTEMPTS, || {
            let (mut jobs, request) = (self.jobs.clone(), request.clone());
            async move { jobs.tune_upload(request).await }
        });
        answer.await?.job.ok_or_else(|| refusal::incomplete(&self.url, "job"))
    }

    /// Takes a job up again.
    pub(crate) async fn retry(&self, request: v1::RetryJobRequest) -> Result<v1::RetryJobResponse, Failure> {
        let request = v1::RetryJobRequest { request_id: request_id(), ..request };
        let answer =
            self.call(said!("asking for the job to be taken up again", "请求重试作业"), SUBMIT_ATTEMPTS, || {
                let (mut jobs, request) = (self.jobs.clone(), request.clone());
                async move { jobs.retry_job(request).await }
            });
        Ok(answer.await?)
    }

    /// Answers the question of a job that waits for an operator.
    pub(crate) async fn decide(&self, request: v1::DecideJobRequest) -> Result<v1::Job, Failure> {
        let request = v1::DecideJobRequest { request_id: request_id(), ..request };
        let answer = self.call(said!("answering the job's question", "答复作业的问题"), ATTEMPTS, || {
            let (mut jobs, request) = (self.jobs.clone(), request.clone());
            async move { jobs.decide_job(request).await }
        });
        answer.await?.job.ok_or_else(|| refusal::incomplete(&self.url, "job"))
    }

    /// Moves a job to another agent.
    pub(crate) async fn relocate(&self, request: v1::MoveJobRequest) -> Result<v1::MoveJobResponse, Failure> {
        let request = v1::MoveJobRequest { request_id: request_id(), ..request };
        let answer = self.call(said!("asking for the job to be moved", "请求移交作业"), SUBMIT_ATTEMPTS, || {
            let (mut jobs, request) = (self.jobs.clone(), request.clone());
            async move { jobs.move_job(request).await }
        });
        Ok(answer.await?)
    }

    /// Lets a job's agent remove what the job has left.
    pub(crate) async fn sweep(&self, job_id: &str) -> Result<v1::Job, Failure> {
        let request = v1::SweepJobRequest { job_id: job_id.to_owned(), request_id: request_id() };
        let answer = self.call(
            said!("asking for the job's leftovers to be removed", "请求清除作业的残留对象"),
            ATTEMPTS,
            || {
                let (mut jobs, request) = (self.jobs.clone(), request.clone());
                async move { jobs.sweep_job(request).await }
            },
        );
        answer.await?.job.ok_or_else(|| refusal::incomplete(&self.url, "job"))
    }

    /// The result document of a job that has ended.
    pub(crate) async fn result(&self, job_id: &str) -> Result<v1::GetJobResultResponse, Failure> {
        let answer = self.call(said!("asking for the result", "查询结果"), ATTEMPTS, || {
            let (mut jobs, request) = (self.jobs.clone(), v1::GetJobResultRequest { job_id: job_id.to_owned() });
            async move { jobs.get_job_result(request).await }
        });
        Ok(answer.await?)
    }

    /// The agents.
    pub(crate) async fn agents(&self, site: &str) -> Result<Vec<v1::Agent>, Failure> {
        let answer = self.call(said!("listing the agents", "查询代理列表"), ATTEMPTS, || {
            let (mut fleet, request) = (self.fleet.clone(), v1::ListAgentsRequest { site: site.to_owned() });
            async move { fleet.list_agents(request).await }
        });
        Ok(answer.await?.agents)
    }

    /// The controller's version.
    pub(crate) async fn version(&self) -> Result<v1::GetVersionResponse, Failure> {
        let answer = self.call(said!("asking for the version", "查询版本"), 1, || {
            let mut fleet = self.fleet.clone();
            async move { fleet.get_version(v1::GetVersionRequest {}).await }
        });
        Ok(answer.await?)
    }

    /// Lets whoever shows the token of this hash open the web pages.
    pub(crate) async fn web_link(&self, token_sha256: &str) -> Result<v1::MakeWebLinkResponse, Failure> {
        let answer = self.call(said!("asking for a link to the web pages", "申请网页链接"), ATTEMPTS, || {
            let (mut fleet, token_sha256) = (self.fleet.clone(), token_sha256.to_owned());
            async move { fleet.make_web_link(v1::MakeWebLinkRequest { token_sha256 }).await }
        });
        Ok(answer.await?)
    }

    /// Opens a list of records of the audit log.
    pub(crate) async fn audit(
        &self,
        request: v1::ListAuditRequest,
    ) -> Result<Streaming<v1::ListAuditResponse>, Failure> {
        let answer = self.call(said!("asking for the audit log", "查询审计日志"), ATTEMPTS, || {
            let (mut audit, request) = (self.audit.clone(), request.clone());
            async move { audit.list_audit(request).await }
        });
        Ok(answer.await?)
    }

    /// The next message of such a list.
    pub(crate) async fn next_page<T>(&self, stream: &mut Streaming<T>) -> Result<Option<T>, Failure> {
        let what = &said!("reading the audit log", "读取审计日志");
        match tokio::time::timeout(self.timeout, stream.message()).await {
            Ok(Ok(page)) => Ok(page),
            Ok(Err(status)) if refusal::is_lost(&status) => Err(refusal::lost(&self.url, what, &status)
                .remedy(said!("then give the command again", "然后重新执行该命令"))),
            Ok(Err(status)) => Err(refusal::refused(&self.url, what, &status)),
            Err(_) => Err(refusal::silent(&self.url, what, self.timeout)),
        }
    }

    /// Opens the stream of a job. One attempt: who follows decides what a failure means.
    pub(crate) async fn watch(&self, request: v1::WatchJobRequest) -> Result<Streaming<v1::WatchJobResponse>, Lost> {
        self.call(said!("opening the stream of events", "打开事件流"), 1, || {
            let (mut jobs, request) = (self.jobs.clone(), request.clone());
            async move { jobs.watch_job(request).await }
        })
        .await
    }

    /// A connection that dies may be one that the controller does not want.
    async fn not_refused(&self, status: &Status) -> Result<(), Lost> {
        if status.source().is_none() {
            return Ok(());
        }
        let Some(probe) = &self.probe else { return Ok(()) };
        match probe.error().await.and_then(|error| refusal::by_tls(&self.url, &error)) {
            Some(refusal) => Err(Lost::No(refusal)),
            None => Ok(()),
        }
    }

    /// One call: sent again while its answer is lost, `attempts` times in all.
    async fn call<T, F>(&self, what: Said, attempts: usize, mut send: impl FnMut() -> F) -> Result<T, Lost>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        let mut pauses = pauses().take(attempts.saturating_sub(1));
        loop {
            let lost = match tokio::time::timeout(self.timeout, send()).await {
                Ok(Ok(answer)) => return Ok(answer.into_inner()),
                Ok(Err(status)) if refusal::is_lost(&status) => {
                    self.not_refused(&status).await?;
                    refusal::lost(&self.url, &what, &status)
                }
                Ok(Err(status)) => return Err(Lost::No(refusal::refused(&self.url, &what, &status))),
                Err(_) => refusal::silent(&self.url, &what, self.timeout),
            };
            let Some(pause) = pauses.next() else { return Err(Lost::Maybe(lost)) };
            tracing::warn!(
                what = what.english(),
                pause_ms = pause.as_millis() as u64,
                "the answer is lost, asking again"
            );
            tokio::time::sleep(pause).await;
        }
    }
}

/// Why a call has no answer.
#[derive(Debug)]
pub(crate) enum Lost {
    /// It was refused: nothing happened, and asking again does not help.
    No(Failure),
    /// The line broke: it may have had its effect.
    Maybe(Failure),
}

impl From<Lost> for Failure {
    fn from(lost: Lost) -> Self {
        match lost {
            Lost::No(failure) | Lost::Maybe(failure) => failure,
        }
    }
}

/// Pauses between attempts, with full jitter, so that many clients do not come back at once.
pub(crate) fn pauses() -> impl Iterator<Item = Duration> {
    let floor = Duration::from_millis(100);
    ExponentialBackoff::from_millis(2).factor(250).max_delay(LONGEST_PAUSE).map(move |pause| floor + jitter(pause))
}
