//! A look at a site: a stream that begins with the agent that looks, and may be silent while it does.

use std::time::Duration;

use gantry_proto::v1::{self, diff_plan_response::Item};
use tonic::Streaming;

use super::Client;
use crate::{exit::Failure, language::Said, refusal};

/// The longest wait for what an agent finds: above what a controller allows by default. A dead line is noticed before.
const LOOK_MAX: Duration = Duration::from_secs(15 * 60);

/// What is done, in messages.
fn what() -> Said {
    said!("looking what a deployment would do", "查看部署将产生的变更")
}

impl Client {
    /// Has an agent look. One attempt: it may be repeated, but not without anybody wishing so.
    pub(crate) async fn diff(&self, request: v1::DiffPlanRequest) -> Result<Streaming<v1::DiffPlanResponse>, Failure> {
        let answer = self.call(what(), 1, || {
            let (mut jobs, request) = (self.jobs.clone(), request.clone());
            async move { jobs.diff_plan(request).await }
        });
        Ok(answer.await?)
    }

    /// What comes next of it; [`None`] at the end, and for something of a newer controller.
    pub(crate) async fn next_of_diff(
        &self,
        answers: &mut Streaming<v1::DiffPlanResponse>,
    ) -> Result<Option<Item>, Failure> {
        match tokio::time::timeout(LOOK_MAX, answers.message()).await {
            Ok(Ok(answer)) => Ok(answer.and_then(|answer| answer.item)),
            Ok(Err(status)) if refusal::is_lost(&status) => Err(refusal::lost(&self.url, &what(), &status)
                .remedy(said!("then give the command again", "然后重新执行该命令"))),
            Ok(Err(status)) => Err(refusal::refused(&self.url, &what(), &status)),
            Err(_) => Err(refusal::silent(&self.url, &what(), LOOK_MAX)),
        }
    }
}
