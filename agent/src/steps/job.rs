//! Waits for a job of Fisheye, telling each change of its state (R45, `flow.md` 3.3). Knows no step.

use gantry_proto::Level;
use serde_json::json;
use tokio::time::Instant;

use super::story::{fields, permanent};
use crate::{
    fisheye::{Job, JobEnd, JobWatch},
    step::{StepCx, StepError},
};

/// How the wait ended.
#[derive(Debug)]
pub(super) enum Ended {
    /// The job is done.
    Done(Job),
    /// The job failed.
    Failed(Job),
    /// The server does not know the job (any more): what it works on has to tell (`fisheye.md` 9.4).
    Unknown,
    /// It did not end in time; its last state.
    Late(String),
}

/// Waits until the job ends. `attempted`: what the job is for, such as `creating the VM`.
pub(super) async fn wait(cx: &StepCx, id: &str, attempted: &str) -> Result<Ended, StepError> {
    let timing = &cx.settings.timing;
    let (begin, limit) = (Instant::now(), timing.scaled(timing.job_limit_s));
    let mut watch = JobWatch::new(id, timing.poll_failures);
    loop {
        let look = tokio::select! {
            biased;
            () = cx.cancel.cancelled() => return Err(cx.log.why_stopped()),
            look = watch.look(&cx.outside.fisheye) => look,
        };
        let (end, changed) =
            look.map_err(|error| permanent(error.failure(&format!("looking at the job for {attempted}"))))?;
        if changed {
            let elapsed = timing.told(begin.elapsed());
            let message = format!("{attempted}: the cluster's job is {}", watch.word());
            let extra = json!({"job_id": id, "state": watch.word(), "elapsed": elapsed});
            cx.note(Level::Info, "job_state", message, fields(extra)).await?;
        }
        match end {
            JobEnd::Running if begin.elapsed() >= limit => return Ok(Ended::Late(watch.word().to_owned())),
            JobEnd::Running => cx.sleep(timing.scaled(timing.job_poll_s)).await?,
            JobEnd::Done(job) => return Ok(Ended::Done(job)),
            JobEnd::Failed(job) => return Ok(Ended::Failed(job)),
            JobEnd::Unknown => {
                let message = format!("{attempted}: the cluster does not know the job {id}");
                cx.note(Level::Warning, "job_unknown", message, fields(json!({"job_id": id}))).await?;
                return Ok(Ended::Unknown);
            }
        }
    }
}
