//! `AuditService`: the log, page by page. Who may read it has been decided before.

use std::{pin::Pin, sync::Arc};

use futures_util::{Stream, StreamExt as _, stream};
use gantry_proto::{Code, audit::Head, v1};
use tokio::sync::OwnedSemaphorePermit;
use tonic::{Request, Response, Status};

use super::Audit;
use crate::{refusal::Refusal, store::AuditFilter};

/// Records in one message.
const PAGE: u32 = 128;
/// Records of a list of the newest ones.
const NEWEST_MAX: u32 = 10_000;

type Answers = Pin<Box<dyn Stream<Item = Result<v1::ListAuditResponse, Status>> + Send>>;

/// The operators' service.
#[derive(Clone)]
pub struct AuditApi {
    /// The log.
    pub audit: Arc<Audit>,
}

/// One reader. It reads when it is ready for more.
struct Reading {
    audit: Arc<Audit>,
    filter: AuditFilter,
    /// How many may follow.
    left: u32,
    _place: OwnedSemaphorePermit,
}

#[tonic::async_trait]
impl v1::audit_service_server::AuditService for AuditApi {
    type ListAuditStream = Answers;

    async fn list_audit(&self, request: Request<v1::ListAuditRequest>) -> Result<Response<Answers>, Status> {
        let (head, reading) = Reading::begin(&self.audit, request.into_inner()).await?;
        let first = v1::ListAuditResponse { records: Vec::new(), head: Some(head.into()) };
        let pages = stream::try_unfold(reading, |reading| async { Ok(reading.next().await?) });
        Ok(Response::new(Box::pin(stream::iter([Ok(first)]).chain(pages))))
    }
}

impl Reading {
    async fn begin(audit: &Arc<Audit>, wish: v1::ListAuditRequest) -> Result<(Head, Self), Refusal> {
        let Ok(place) = audit.readers.clone().try_acquire_owned() else {
            let message = format!("{} calls read the audit log already: try again later", audit.settings.readers);
            return Err(Refusal::new(Code::Busy, message));
        };
        let head = audit.store.audit_head().await?;
        let v1::ListAuditRequest { after_number, limit, newest, job_id, operator, since_micros } = wish;
        let left = if limit == 0 { u32::MAX } else { limit };
        let mut filter = AuditFilter {
            after: after_number,
            upto: head.number,
            limit: left.min(NEWEST_MAX),
            newest,
            job: job_id,
            operator,
            since_micros,
        };
        if newest {
            // Where they begin; from there on it is read forwards like any other list.
            let newest = audit.store.audit(filter.clone()).await?;
            filter.after = newest.first().map_or(head.number, |record| record.number - 1);
        }
        filter.newest = false;
        Ok((head, Self { audit: audit.clone(), filter, left, _place: place }))
    }

    async fn next(mut self) -> Result<Option<(v1::ListAuditResponse, Self)>, Refusal> {
        if self.audit.stop.is_cancelled() {
            return Err(Refusal::new(Code::Busy, "the controller is shutting down: try again in a moment"));
        }
        self.filter.limit = self.left.min(PAGE);
        let records = self.audit.store.audit(self.filter.clone()).await?;
        let Some(last) = records.last() else { return Ok(None) };
        self.filter.after = last.number;
        self.left -= u32::try_from(records.len()).unwrap_or(PAGE).min(self.left);
        let records = records.iter().map(Into::into).collect();
        Ok(Some((v1::ListAuditResponse { records, head: None }, self)))
    }
}
