//! How the filling of a volume ends: with its figures, or with the reason why not.

use std::time::Duration;

use gantry_proto::Failure;

use super::times::Times;
use crate::step::StepError;

/// How a volume was filled.
#[derive(Clone, Debug, Default)]
pub struct Filled {
    /// How long it took.
    pub wall: Duration,
    /// Bytes of chunks that connections took, in all sendings.
    pub sent_bytes: u64,
    /// Those of them that were in vain: of failed sendings, or of chunks that the server asked for again.
    pub resent_bytes: u64,
    /// Chunks in flight at a time, at most.
    pub max_in_flight: usize,
    /// Where the time of each slot went. The sum of each is `wall`.
    pub slots: Vec<Times>,
}

impl Filled {
    /// Of all slots together.
    pub fn times(&self) -> Times {
        let mut all = Times::default();
        self.slots.iter().for_each(|slot| all += *slot);
        all
    }
}

/// Why a volume could not be filled.
#[derive(Debug)]
pub enum Broken {
    /// The step has to end.
    Step(StepError),
    /// The server does not know the volume any more.
    Gone(Box<Failure>),
    /// A chunk could not be brought over, with all its retries.
    Chunk(Box<Failure>),
    /// The local file has changed, or cannot be read.
    Source(Box<Failure>),
}

impl From<StepError> for Broken {
    fn from(error: StepError) -> Self {
        Self::Step(error)
    }
}
