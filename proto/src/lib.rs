//! The wire contract `gantry.v1` and the words everyone shares. Pure: no async, no I/O.
//!
//! * **plan** — everything a deployment needs, complete and valid, without secrets: [`Plan`].
//! * **secrets** — what the plan must not hold; in memory as [`Secrets`], everywhere else [sealed](sealed).
//! * **job** — one carrying out of one plan by one agent, named by a [`JobId`] that the operator's side chooses.
//! * **step, attempt, undo** — a job walks a table of steps ([`StepInfo`]); a step may be tried again, and undone.
//! * **event** — what a job tells, numbered from 1 without gaps: [`Event`]. What is merely nice to see is a [`Sample`].
//! * **view** — what events add up to: [`JobView`], the one fold used by controller, `ctl` and tests.
//! * **result** — the JSON that later stages read: [`JobResult`].
//! * **epoch** — rises when a job is retried or moved; an older one is refused.

pub mod audit;
pub mod ended;
pub mod error;
pub mod eta;
pub mod event;
pub mod id;
pub mod join;
pub mod ledger;
pub mod order;
pub mod plan;
pub mod problem;
pub mod reason;
pub mod redact;
pub mod result;
pub mod retry;
mod role;
pub mod sealed;
pub mod secret;
pub mod token;
pub mod told;
pub mod trace;
pub mod view;
mod wire;
pub mod words;

/// The generated messages, clients and servers of package `gantry.v1`.
#[allow(clippy::all, reason = "generated code")]
pub mod v1 {
    tonic::include_proto!("gantry.v1");
}

/// Paths of all calls of the contract, such as `/gantry.v1.JobService/ListJobs`: a table over them can be held to be whole.
pub const METHODS: &[&str] = include!(concat!(env!("OUT_DIR"), "/methods.rs"));

/// Those of [`METHODS`] whose answer is a stream, which may stay open for long.
pub const STREAMS: &[&str] = include!(concat!(env!("OUT_DIR"), "/streams.rs"));

/// Version of the protocol that Hello and Welcome carry.
pub const PROTOCOL: u32 = 1;

/// The capability of an agent that looks what a deployment would do (`SurveyRequest`).
pub const SURVEY: &str = "survey";

/// The capability of a controller that takes an agent's telemetry (`AgentLink.SendTelemetry`).
pub const TELEMETRY: &str = "telemetry";

pub use error::Code;
pub use event::{Body, Choice, Event, Failure, JobOutcome, Leftover, Level, Sample, StepInfo, TakenOver, UndoState};
pub use id::{AgentId, JobId, StepId};
pub use join::{JoinFile, OperatorProfile};
pub use plan::{Plan, Secrets};
pub use problem::{Problem, Severity, Verdict};
pub use redact::Redactor;
pub use result::JobResult;
pub use secret::{REDACTED, Secret};
pub use token::JoinToken;
pub use view::JobView;
