//! `DiffPlan`: its answer is a stream, so that a caller knows which agent looks while it looks, and is noticed when it goes
//! away.

use gantry_proto::{
    Code,
    v1::{self, diff_plan_response::Item},
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Response, Status};

use super::{
    OperatorApi,
    acts::{not_planned, workbook},
    agent_id, rejected,
};
use crate::{
    audit::Act,
    jobs::{DiffWish, Diffed},
};

/// What the caller gets.
pub(super) type DiffStream = ReceiverStream<Result<v1::DiffPlanResponse, Status>>;

/// Both messages of a stream.
const WAITING: usize = 2;

impl OperatorApi {
    pub(super) async fn diff(
        &self,
        mut act: Act,
        request: v1::DiffPlanRequest,
    ) -> Result<Response<DiffStream>, Status> {
        let (out, stream) = mpsc::channel(WAITING);
        let looked = match self.begin(&mut act, request).await {
            Err(status) => return act.end(Err(status)).await,
            Ok(Diffed::Rejected(found)) => {
                not_planned(&mut act, found.problems.len());
                act.end(Ok(())).await?;
                // There is room for two.
                let _ = out.try_send(message(Item::Rejected(rejected(&found))));
                return Ok(Response::new(ReceiverStream::new(stream)));
            }
            Ok(Diffed::Looks(looked)) => looked,
        };
        let (agent_id, site) = (looked.agent.clone(), looked.site.clone());
        let problems = looked.problems.iter().map(Into::into).collect();
        let _ = out.try_send(message(Item::Begun(v1::DiffBegun { agent_id, site, problems })));
        self.jobs.beside(async move {
            let diff = tokio::select! {
                biased;
                // The agent is told to look no further, and the record says that it was cut off.
                () = out.closed() => return,
                diff = looked.diff() => diff.map_err(Status::from),
            };
            let told = diff.as_ref().map(drop).map_err(Status::clone);
            // What it says is what is sent below.
            let _ = act.end(told).await;
            let _ = out.send(diff.and_then(|diff| message(Item::Diff(diff)))).await;
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    async fn begin(&self, act: &mut Act, request: v1::DiffPlanRequest) -> Result<Diffed, Status> {
        let about = act.about();
        about.site.clone_from(&request.site);
        about.agent.clone_from(&request.agent_id);
        about.detail = workbook(&request.file_name, request.overrides.len());
        if request.workbook.is_empty() {
            return Err(Code::BadRequest.status("the request has no workbook"));
        }
        let agent = agent_id(request.agent_id)?;
        act.asked().await?;
        let wish = DiffWish {
            workbook: request.workbook,
            overrides: request.overrides.into_iter().collect(),
            agent,
            site: request.site,
            sites: act.caller().sites.clone(),
        };
        let diffed = self.jobs.diff(wish).await?;
        if let Diffed::Looks(looked) = &diffed {
            let about = act.about();
            (about.site, about.agent) = (looked.site.clone(), looked.agent.clone());
            about.plan_sha256.clone_from(&looked.plan_sha256);
        }
        Ok(diffed)
    }
}

#[expect(clippy::unnecessary_wraps, reason = "the stream's items are results")]
fn message(item: Item) -> Result<v1::DiffPlanResponse, Status> {
    Ok(v1::DiffPlanResponse { item: Some(item) })
}
