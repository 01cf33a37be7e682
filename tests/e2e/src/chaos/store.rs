//! The controller's store with a fuse: its changes are counted, and from a chosen one on the store is dead.

use std::{future::Future, sync::Arc};

use async_trait::async_trait;
use gantry_controller::store::{
    Again, AgentRow, Appended, AuditFilter, Begun, Cancel, Cancelled, EnrolledRow, IdentityChange, IdentityChanged,
    Inserted, JobFilter, JobRow, NewJob, OperatorRow, OrderReport, OrderRow, Position, Relocate, Relocated, SiteRow,
    Store, StoreError, Wish, Wished,
};
use gantry_proto::{
    AgentId, JobId,
    audit::{Entry, Head, Record},
    v1,
};
use jiff::Timestamp;

use super::fuse::{Fuse, How, Word};

/// A store behind a fuse.
pub(super) struct FusedStore {
    /// The real one.
    pub(super) inner: Arc<dyn Store>,
    /// Counts changes.
    pub(super) fuse: Arc<Fuse>,
}

impl FusedStore {
    async fn change<T>(&self, act: impl Future<Output = Result<T, StoreError>> + Send) -> Result<T, StoreError> {
        match self.fuse.next() {
            Word::Go => act.await,
            Word::Dead => Err(StoreError::Closed),
            Word::Blow(how) => {
                let done = if how == How::After { act.await.map(drop) } else { Ok(()) };
                self.fuse.blow();
                done.and(Err(StoreError::Closed))
            }
        }
    }

    async fn look<T>(&self, act: impl Future<Output = Result<T, StoreError>> + Send) -> Result<T, StoreError> {
        if self.fuse.is_blown() { Err(StoreError::Closed) } else { act.await }
    }
}

#[async_trait]
impl Store for FusedStore {
    async fn check(&self) -> Result<(), StoreError> {
        self.look(self.inner.check()).await
    }

    async fn operator(&self, name: &str) -> Result<Option<OperatorRow>, StoreError> {
        self.look(self.inner.operator(name)).await
    }

    async fn operators(&self) -> Result<Vec<OperatorRow>, StoreError> {
        self.look(self.inner.operators()).await
    }

    async fn enrolled(&self, agent: &AgentId) -> Result<Option<EnrolledRow>, StoreError> {
        self.look(self.inner.enrolled(agent)).await
    }

    async fn enrollments(&self) -> Result<Vec<EnrolledRow>, StoreError> {
        self.look(self.inner.enrollments()).await
    }

    async fn step_times(&self, site: &str) -> Result<(Vec<(String, f64)>, Vec<(String, f64)>), StoreError> {
        self.look(self.inner.step_times(site)).await
    }

    async fn sites(&self) -> Result<Vec<SiteRow>, StoreError> {
        self.look(self.inner.sites()).await
    }

    async fn change_identity(&self, change: IdentityChange) -> Result<IdentityChanged, StoreError> {
        self.change(self.inner.change_identity(change)).await
    }

    async fn agents(&self) -> Result<Vec<(AgentRow, u32)>, StoreError> {
        self.look(self.inner.agents()).await
    }

    async fn job(&self, id: JobId) -> Result<Option<JobRow>, StoreError> {
        self.look(self.inner.job(id)).await
    }

    async fn plan(&self, id: JobId) -> Result<Option<v1::PlanDocument>, StoreError> {
        self.look(self.inner.plan(id)).await
    }

    async fn result(&self, id: JobId) -> Result<Option<Vec<u8>>, StoreError> {
        self.look(self.inner.result(id)).await
    }

    async fn jobs_beginning(&self, prefix: String) -> Result<Vec<JobId>, StoreError> {
        self.look(self.inner.jobs_beginning(prefix)).await
    }

    async fn list_jobs(&self, filter: JobFilter) -> Result<Vec<JobRow>, StoreError> {
        self.look(self.inner.list_jobs(filter)).await
    }

    async fn positions(&self, jobs: Vec<JobId>) -> Result<Vec<Position>, StoreError> {
        self.look(self.inner.positions(jobs)).await
    }

    async fn events(&self, job: JobId, after: u64, limit: u32) -> Result<Vec<v1::Event>, StoreError> {
        self.look(self.inner.events(job, after, limit)).await
    }

    async fn open_orders(&self, agent: AgentId, after: u64, limit: u32) -> Result<Vec<OrderRow>, StoreError> {
        self.look(self.inner.open_orders(agent, after, limit)).await
    }

    async fn order_job(&self, agent: AgentId, number: u64) -> Result<Option<JobId>, StoreError> {
        self.look(self.inner.order_job(agent, number)).await
    }

    async fn requested(&self, job: JobId, request: String) -> Result<bool, StoreError> {
        self.look(self.inner.requested(job, request)).await
    }

    async fn put_agent(&self, agent: AgentRow) -> Result<(), StoreError> {
        self.change(self.inner.put_agent(agent)).await
    }

    async fn number_above(&self, agent: AgentId, last: u64) -> Result<(), StoreError> {
        self.change(self.inner.number_above(agent, last)).await
    }

    async fn touch_agent(&self, agent: AgentId, seen: Timestamp) -> Result<(), StoreError> {
        self.change(self.inner.touch_agent(agent, seen)).await
    }

    async fn insert_job(&self, job: NewJob) -> Result<Inserted, StoreError> {
        self.change(self.inner.insert_job(job)).await
    }

    async fn append(&self, job: JobId, agent: AgentId, events: Vec<v1::Event>) -> Result<Appended, StoreError> {
        self.change(self.inner.append(job, agent, events)).await
    }

    async fn cancel(&self, cancel: Cancel) -> Result<Option<Cancelled>, StoreError> {
        self.change(self.inner.cancel(cancel)).await
    }

    async fn wish(&self, wish: Wish) -> Result<Option<Wished>, StoreError> {
        self.change(self.inner.wish(wish)).await
    }

    async fn relocate(&self, wish: Relocate) -> Result<Option<Relocated>, StoreError> {
        self.change(self.inner.relocate(wish)).await
    }

    async fn again(&self, again: Again) -> Result<Option<Begun>, StoreError> {
        self.change(self.inner.again(again)).await
    }

    async fn sending(&self, agent: AgentId, number: u64) -> Result<bool, StoreError> {
        self.change(self.inner.sending(agent, number)).await
    }

    async fn order_report(&self, agent: AgentId, report: OrderReport) -> Result<Option<JobRow>, StoreError> {
        self.change(self.inner.order_report(agent, report)).await
    }

    async fn append_audit(&self, entry: Entry) -> Result<Record, StoreError> {
        self.change(self.inner.append_audit(entry)).await
    }

    async fn audit(&self, filter: AuditFilter) -> Result<Vec<Record>, StoreError> {
        self.look(self.inner.audit(filter)).await
    }

    async fn audit_head(&self) -> Result<Head, StoreError> {
        self.look(self.inner.audit_head()).await
    }

    async fn close(&self) {
        self.inner.close().await;
    }
}
