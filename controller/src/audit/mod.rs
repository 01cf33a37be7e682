//! Who did what: every act is written down before it happens and once it is settled, and nothing happens that could
//! not be written down. It decides nothing; who may do what has been decided before.
//!
//! A call that changes something takes an [`Act`] from [`Audit::act`]. The name under which jobs are changed comes out
//! of [`Act::asked`] only, behind the commit of the record.

mod api;
mod calls;
mod refused;

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use gantry_proto::{
    Code, Redactor,
    audit::{BEGIN, Entry, Hash, Head, Outcome},
    error::causes,
    v1,
};
use rustls_pki_types::{CertificateDer, pem::PemObject as _};
use tokio::sync::Semaphore;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::{Request, Response, Status};
use uuid::Uuid;

pub use api::AuditApi;
pub use calls::{CALLS, Call, act};

use self::refused::Refusals;
use crate::{
    access::Caller,
    config,
    refusal::Refusal,
    store::{Store, StoreError},
};

/// The audit log as the controller writes it.
pub struct Audit {
    store: Arc<dyn Store>,
    redactor: Redactor,
    settings: config::Audit,
    /// What is to be written is written, whoever has gone meanwhile.
    tasks: TaskTracker,
    stop: CancellationToken,
    refusals: Mutex<Refusals>,
    readers: Arc<Semaphore>,
}

/// Who does something.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Who {
    /// By the certificate; empty: nobody that is known.
    pub name: String,
    /// In which role.
    pub role: String,
    /// From where.
    pub remote: Option<SocketAddr>,
}

/// One act of an operator, from the wish to what became of it.
#[must_use = "what became of an act is recorded by `end`"]
pub struct Act {
    audit: Arc<Audit>,
    entry: Entry,
    caller: Caller,
    /// Number of the record that says it is about to be carried out.
    asked: Option<u64>,
    /// Not carried out, although the call has an answer.
    rejected: bool,
    settled: bool,
}

/// Begins the log of a new controller, and records a start. The beginning names the CA, so that the log of another
/// controller is not taken for this one's, and a random chain, so that two logs under one CA can be told apart.
///
/// # Errors
/// When the store fails.
pub async fn started(store: &dyn Store, ca_pem: &str) -> Result<(), StoreError> {
    let ca = CertificateDer::from_pem_slice(ca_pem.as_bytes());
    let ca = ca.map_or(Hash::ZERO, |der| Hash::of(&der));
    let entry = Entry { outcome: Outcome::Done, subject: format!("ca sha256 {ca}"), ..Entry::default() };
    if store.audit_head().await? == Head::NONE {
        let detail = format!("chain {}", Uuid::now_v7());
        store.append_audit(Entry { act: BEGIN.to_owned(), detail, ..entry.clone() }).await?;
    }
    let detail = format!("version {}", env!("CARGO_PKG_VERSION"));
    store.append_audit(Entry { act: act::START.to_owned(), detail, ..entry }).await?;
    Ok(())
}

impl Audit {
    /// The log in a store. Writing goes on in `tasks`; reading ends with `stop`.
    pub fn new(
        store: Arc<dyn Store>,
        redactor: Redactor,
        settings: config::Audit,
        tasks: TaskTracker,
        stop: CancellationToken,
    ) -> Self {
        let readers = Arc::new(Semaphore::new(settings.readers));
        Self { store, redactor, settings, tasks, stop, refusals: Mutex::default(), readers }
    }

    /// An operator wants something. Nothing is written yet.
    ///
    /// # Errors
    /// [`Code::NotAllowed`] when it is not known who asks.
    pub fn act<T>(self: &Arc<Self>, request: Request<T>, act: &str) -> Result<(Act, T), Status> {
        let who = Who::of(&request)?;
        let caller = caller(&request)?;
        let entry = Entry { act: act.to_owned(), ..who.entry() };
        let act = Act { audit: self.clone(), entry, caller, asked: None, rejected: false, settled: false };
        Ok((act, request.into_inner()))
    }

    /// Writes a record of something that no operator's call is: a certificate that was issued, an agent that has joined.
    /// Returns its number after the commit.
    ///
    /// # Errors
    /// When the store fails; what was to be recorded must not happen then.
    pub async fn record(&self, entry: Entry) -> Result<u64, Refusal> {
        Ok(self.append(entry).await?)
    }

    async fn append(&self, entry: Entry) -> Result<u64, StoreError> {
        let entry = entry.bounded(|text| {
            // What is far too long is not worth the redactor's time; the bound is far below.
            let text: String = text.chars().take(LOOKED_AT).collect();
            self.redactor.text(&text).into_owned()
        });
        Ok(self.store.append_audit(entry).await?.number)
    }

    /// Writes what cannot be refused any more.
    async fn settle(&self, entry: Entry) {
        if let Err(error) = self.append(entry).await {
            tracing::error!(causes = ?causes(&error), "what became of an act could not be recorded");
        }
    }
}

/// Characters of a text that are looked at.
const LOOKED_AT: usize = 64 << 10;

impl Who {
    /// Who makes a call of the operators.
    ///
    /// # Errors
    /// [`Code::NotAllowed`] when nobody has looked at the certificate.
    pub fn of<T>(request: &Request<T>) -> Result<Self, Status> {
        let caller = caller(request)?;
        Ok(Self { name: caller.name, role: caller.role.word().to_owned(), remote: request.remote_addr() })
    }

    fn entry(&self) -> Entry {
        Entry {
            operator: self.name.clone(),
            role: self.role.clone(),
            remote: self.remote.map(|address| address.to_string()).unwrap_or_default(),
            ..Entry::default()
        }
    }
}

/// Who makes a call of the operators.
///
/// # Errors
/// [`Code::NotAllowed`] when the gate has not seen the call.
pub fn caller<T>(request: &Request<T>) -> Result<Caller, Status> {
    let caller = request.extensions().get::<Caller>().cloned();
    caller.ok_or_else(|| Code::NotAllowed.status("this call needs an operator's certificate"))
}

impl Act {
    /// Who does it.
    pub fn caller(&self) -> &Caller {
        &self.caller
    }

    /// What it is about, to be filled before it is asked for.
    pub fn about(&mut self) -> &mut Entry {
        &mut self.entry
    }

    /// It is about this job, as the job is now.
    pub fn on(&mut self, job: &v1::Job) {
        tracing::Span::current().record("job.id", &job.job_id);
        self.entry.job.clone_from(&job.job_id);
        self.entry.site.clone_from(&job.site);
        self.entry.agent.clone_from(&job.agent_id);
        self.entry.plan_sha256.clone_from(&job.plan_sha256);
    }

    /// Writes that it is about to happen. Returns the operator's name: whoever has it may go on.
    ///
    /// # Errors
    /// When the record cannot be written: then the act must not happen.
    pub async fn asked(&mut self) -> Result<String, Refusal> {
        let entry = Entry { outcome: Outcome::Asked, ..self.entry.clone() };
        let number = self.audit.append(entry).await.map_err(|error| {
            let refusal = Refusal::from(error);
            let message = format!("the call could not be recorded, so it was not carried out: {refusal}");
            Refusal::new(refusal.code, message)
        })?;
        self.asked = Some(number);
        Ok(self.entry.operator.clone())
    }

    /// It was not carried out, and the answer to the call says so.
    pub fn reject(&mut self, code: &str, message: impl Into<String>) {
        self.rejected = true;
        code.clone_into(&mut self.entry.code);
        self.entry.message = message.into();
    }

    /// Writes what became of it and hands the answer on.
    ///
    /// # Errors
    /// As the answer says.
    pub async fn end<T>(mut self, answer: Result<T, Status>) -> Result<Response<T>, Status> {
        self.settled = true;
        let entry = &mut self.entry;
        if let Err(status) = &answer {
            self.rejected = true;
            entry.code = Code::of(status).map_or_else(|| format!("{:?}", status.code()), |code| code.word().to_owned());
            status.message().clone_into(&mut entry.message);
        }
        entry.outcome = if self.rejected { Outcome::Refused } else { Outcome::Done };
        entry.asked = self.asked.unwrap_or(0);
        let (entry, audit, asked) = (std::mem::take(entry), self.audit.clone(), self.asked.is_some());
        let writing = async move {
            // What was refused at the first look has cost its caller nothing, so that is bounded.
            if asked || entry.outcome == Outcome::Done {
                audit.settle(entry).await;
            } else {
                audit.refuse(entry).await;
            }
        };
        // A task of its own: it is written whether or not the caller waits. It fails only with the runtime.
        let _ = self.audit.tasks.spawn(writing).await;
        answer.map(Response::new)
    }
}

impl Drop for Act {
    fn drop(&mut self) {
        let (Some(asked), false) = (self.asked, self.settled) else { return };
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let message = "the caller went away or the call took too long: see what the job says".to_owned();
        let entry = Entry { outcome: Outcome::CutOff, asked, message, ..std::mem::take(&mut self.entry) };
        let audit = self.audit.clone();
        self.audit.tasks.spawn_on(async move { audit.settle(entry).await }, &runtime);
    }
}
