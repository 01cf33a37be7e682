//! What the controller says of jobs when the agent comes into contact: which of them another agent has by now. After a
//! start, the jobs on disk wait for that, but not for ever.

use std::{io, sync::Arc};

use gantry_proto::JobId;

use super::{Runner, entry::Entry};

/// Whether a job may go on without a word of the controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Contact {
    /// The job has just come from there.
    Here,
    /// It was found on disk: another agent may have it.
    AskFirst,
}

impl Runner {
    /// Another agent has this job: it stops before its next call, and nothing more is told of it. Twice is the same as
    /// once.
    pub async fn moved(self: &Arc<Self>, job: JobId) -> io::Result<()> {
        let _one_at_a_time = self.accepting.lock().await;
        let Some(entry) = self.entry(job) else { return Ok(()) };
        // At once: what the disk takes is no reason to make one more call.
        entry.stop.cancel();
        if !entry.journal.tail().moved {
            entry.journal.on_disk(|journal| journal.moved()).await?;
            tracing::warn!(job = %job, "another agent has this job: it is over here, and nothing of it is removed");
        }
        self.forget_oldest().await;
        Ok(())
    }

    /// The controller has said of every job whether another agent has it: the others go on.
    pub fn in_contact(&self) {
        self.asked.send_replace(true);
    }

    /// Waits for that word, but no longer than `jobs.ask_first_s`. A job that is to stop does not wait.
    pub(super) async fn ask_first(&self, id: JobId, entry: &Entry) {
        let limit = self.settings.timing.scaled(self.settings.jobs.ask_first_s);
        let mut asked = self.asked.subscribe();
        tokio::select! {
            biased;
            () = entry.stop.cancelled() => {}
            // The sender lives as long as `self`.
            _ = asked.wait_for(|asked| *asked) => {}
            () = tokio::time::sleep(limit) => {
                tracing::warn!(job = %id, "the controller could not be asked whether another agent has the job: it goes on");
            }
        }
    }
}
