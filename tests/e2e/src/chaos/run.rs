//! One run: starts everything, submits a job, lets our processes die as planned and come back, waits for the end, checks.

use std::time::Duration;

use anyhow::{Context as _, bail};
use gantry_proto::{JobId, v1};
use tokio::time::{Instant, sleep};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use v1::job_service_client::JobServiceClient;

use super::{Crashes, End, Scenario, check, fuse::Fuse, parts, site::Site};

/// A run that takes longer hangs.
const LIMIT: Duration = Duration::from_secs(60);
/// Between two looks at the job.
const LOOK: Duration = Duration::from_millis(5);

/// What a run has shown.
#[derive(Clone, Debug)]
pub struct Ran {
    /// How the job ended.
    pub end: End,
    /// Writes of the journal in the agent's last life.
    pub agent_writes: u64,
    /// Changes of the store in the controller's last life.
    pub controller_changes: u64,
    /// How often our processes died.
    pub crashes: u32,
    /// Real time.
    pub took: Duration,
}

/// Carries one run out.
///
/// # Errors
/// Whatever the product has not kept: told with what was seen.
pub async fn run(scenario: &Scenario, crashes: &Crashes) -> anyhow::Result<Ran> {
    let what = || format!("{} (seed {}), {crashes:?}", scenario.name, scenario.seed);
    let began = Instant::now();
    let ran = tokio::time::timeout(LIMIT, Box::pin(carry_out(scenario, crashes))).await;
    let mut ran = ran.with_context(|| format!("not done after {LIMIT:?}: {}", what()))?.with_context(what)?;
    ran.took = began.elapsed();
    Ok(ran)
}

async fn carry_out(scenario: &Scenario, crashes: &Crashes) -> anyhow::Result<Ran> {
    let mut site = Site::start(scenario).await?;
    let (mut agents, mut controllers) = (crashes.agent.iter().copied(), crashes.controller.iter().copied());
    let mut deaths = 0;
    let mut controller = parts::controller(&mut site.config, Fuse::new(controllers.next())).await?;
    site.join()?;
    let mut agent = parts::agent(&site.settings, Fuse::new(agents.next())).await?;
    let mut client = client(&site)?;
    let job = JobId::new();
    let mut submitted = false;
    let mut cancelled = scenario.cancel_after.is_none();
    let row = loop {
        if agent.fuse.is_blown() {
            agent.end().await?;
            deaths += 1;
            agent = parts::agent(&site.settings, Fuse::new(agents.next())).await?;
        }
        if controller.fuse.is_blown() {
            controller.end().await?;
            deaths += 1;
            controller = parts::controller(&mut site.config, Fuse::new(controllers.next())).await?;
        }
        if !submitted {
            // As `ctl` does it: the same id any number of times, until there is an answer.
            submitted = submit(&mut client, &site, job).await?;
        } else if let Ok(answer) = client.get_job(v1::GetJobRequest { job_id: job.to_string() }).await {
            let row = answer.into_inner().job.context("no job in the answer")?;
            if matches!(row.state(), v1::JobState::Succeeded | v1::JobState::Failed | v1::JobState::Cancelled) {
                break row;
            }
            if !cancelled && scenario.cancel_after.is_some_and(|after| row.last_seq >= after) {
                let request = v1::CancelJobRequest {
                    job_id: job.to_string(),
                    reason: "chaos".to_owned(),
                    request_id: "chaos".to_owned(),
                };
                cancelled = client.cancel_job(request).await.is_ok();
            }
        }
        tokio::select! {
            () = agent.fuse.blown() => {}
            () = controller.fuse.blown() => {}
            () = sleep(LOOK) => {}
        }
    };
    // A process that dies of the job's last words comes back once more.
    if controller.fuse.is_blown() {
        controller.end().await?;
        controller = parts::controller(&mut site.config, Fuse::new(None)).await?;
    }
    let log = log(&mut client, job).await?;
    let (agent_writes, controller_changes) = (agent.fuse.seen(), controller.fuse.seen());
    agent.end().await?;
    controller.end().await?;
    let end = check::check(&site, scenario, job, &row, &log).await?;
    site.sim.stop().await;
    Ok(Ran { end, agent_writes, controller_changes, crashes: deaths, took: Duration::ZERO })
}

fn client(site: &Site) -> anyhow::Result<JobServiceClient<Channel>> {
    let data = &site.config.data;
    let read = |name: &str| std::fs::read(data.join(name)).with_context(|| format!("reading {name}"));
    let tls = ClientTlsConfig::new()
        .domain_name("127.0.0.1")
        .ca_certificate(Certificate::from_pem(read("ca/ca.pem")?))
        .identity(Identity::from_pem(read("operators/admin/cert.pem")?, read("operators/admin/key.pem")?));
    let endpoint = Endpoint::from_shared(format!("https://{}", site.config.listen))?.tls_config(tls)?;
    // Connects anew whenever it is needed: a controller that was killed is found again.
    Ok(JobServiceClient::new(endpoint.timeout(Duration::from_secs(5)).connect_lazy()))
}

/// True: stored. False: no answer, or no agent yet; to be asked again.
async fn submit(client: &mut JobServiceClient<Channel>, site: &Site, job: JobId) -> anyhow::Result<bool> {
    let request = v1::SubmitJobRequest {
        job_id: job.to_string(),
        workbook: site.workbook.clone(),
        file_name: "plan.xlsx".to_owned(),
        ..Default::default()
    };
    match client.submit_job(request).await {
        Ok(answer) => match answer.into_inner().outcome {
            Some(v1::submit_job_response::Outcome::Accepted(_)) => Ok(true),
            other => bail!("the workbook is not taken: {other:?}"),
        },
        Err(_) => Ok(false),
    }
}

/// The controller's whole log.
async fn log(client: &mut JobServiceClient<Channel>, job: JobId) -> anyhow::Result<Vec<v1::Event>> {
    let request = v1::WatchJobRequest { job_id: job.to_string(), after_seq: 0, no_follow: true };
    let mut stream = client.watch_job(request).await.context("reading the log")?.into_inner();
    let mut all = Vec::new();
    while let Some(answer) = stream.message().await.context("reading the log")? {
        if let Some(v1::watch_job_response::Item::Event(event)) = answer.item {
            all.push(event);
        }
    }
    Ok(all)
}
