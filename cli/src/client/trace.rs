//! The trace of a job: a stream that ends by itself.

use gantry_proto::v1;

use super::Client;
use crate::{exit::Failure, language::Said, refusal};

impl Client {
    /// All parts of it, and the log records that belong to it where they are wanted. The controller bounds a job's trace.
    pub(crate) async fn trace(&self, job_id: &str, with_logs: bool) -> Result<Vec<v1::GetJobTraceResponse>, Failure> {
        let request = v1::GetJobTraceRequest { job_id: job_id.to_owned(), with_logs };
        let answer = self.call(what(), 1, || {
            let (mut jobs, request) = (self.jobs.clone(), request.clone());
            async move { jobs.get_job_trace(request).await }
        });
        let (mut answers, mut parts) = (answer.await?, Vec::new());
        loop {
            match answers.message().await {
                Ok(Some(part)) => parts.push(part),
                Ok(None) => return Ok(parts),
                Err(status) if refusal::is_lost(&status) => {
                    return Err(refusal::lost(&self.url, &what(), &status)
                        .remedy(said!("then give the command again", "然后再次执行该命令")));
                }
                Err(status) => return Err(refusal::refused(&self.url, &what(), &status)),
            }
        }
    }
}

/// What is done, in messages.
fn what() -> Said {
    said!("asking for the trace", "查询追踪")
}
