//! An agent like the real one, but for one step that panics with all of the job's secrets in its words: what becomes of
//! them is searched for by a test.

use std::path::PathBuf;

use async_trait::async_trait;
use clap::Parser;
use gantry_agent::{
    Settings,
    diff::Diff,
    facts::Facts,
    open_spool,
    pipeline::Pipeline,
    run_steps,
    step::{Step, StepCx, StepError},
    steps::{create_vm::CreateVm, preflight::Preflight, upload_iso::UploadIso},
};
use gantry_proto::{Redactor, Secrets, StepInfo};
use gantry_telemetry::Telling;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Started like the agent.
#[derive(Parser)]
enum Arguments {
    Run {
        #[arg(long)]
        config: PathBuf,
    },
}

/// Panics with whatever must not be seen.
struct Panics;

#[async_trait]
impl Step for Panics {
    fn info(&self) -> StepInfo {
        StepInfo { id: "panics".into(), title: "Panic with every secret".to_owned(), weight: 1, attempts: 1 }
    }

    #[expect(clippy::panic, reason = "it is what this program is for")]
    async fn run(&self, cx: &StepCx, _facts: &mut Facts) -> Result<(), StepError> {
        let Secrets { root_password, fisheye_password, ssh_password, .. } = &*cx.secrets;
        let words = [root_password, fisheye_password, ssh_password].map(|secret| secret.expose());
        panic!("the job's secrets, in full: {}", words.join(" and "));
    }

    async fn survey(&self, _cx: &StepCx, _facts: &mut Facts, _diff: &mut Diff) -> Result<(), StepError> {
        Ok(())
    }
}

const STEPS: Pipeline = &[&Preflight, &UploadIso, &CreateVm, &Panics];

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let Arguments::Run { config } = Arguments::parse();
    let settings = Settings::load(Some(&config), None, None)?;
    let redactor = Redactor::new();
    let spool = open_spool(&settings)?;
    let telemetry = gantry_telemetry::init(Telling {
        service: "gantry-agent",
        version: "1",
        settings: &settings.telemetry,
        redactor: &redactor,
        intake: Some(spool.clone()),
    })?;
    let (shutdown, mut term) = (CancellationToken::new(), signal(SignalKind::terminate())?);
    let mut running = Box::pin(run_steps(settings, redactor, None, shutdown.clone(), Some(spool), STEPS));
    let ended = tokio::select! {
        ended = &mut running => ended,
        _ = term.recv() => {
            shutdown.cancel();
            running.await
        }
    };
    telemetry.shutdown().await;
    Ok(ended?)
}
