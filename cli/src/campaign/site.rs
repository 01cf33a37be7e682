//! The job of one site, from the submit to its end, through bad lines. Decides nothing: it tells the campaign what it
//! hears.

use gantry_proto::{JobId, v1};
use tokio::sync::mpsc::Sender;

use crate::{
    client::{self, Client, Lost},
    exit::Failure,
    follow::{self, Follow, Heard},
    refusal, workbook,
};

/// What a site tells.
#[derive(Debug)]
pub(crate) enum Told {
    /// The controller has the job.
    Stored,
    /// The controller has refused the job; nothing is stored.
    Refused(String),
    /// Of its job, or of the line.
    Heard(Heard),
    /// It cannot be followed any more, and nor can the others: the controller refuses.
    Lost(Failure),
}

/// One site of the campaign.
pub(crate) struct Carried {
    /// Its place in the campaign.
    pub(crate) index: usize,
    /// Its job.
    pub(crate) job: JobId,
    /// The submit; `None` when that has been answered.
    pub(crate) wish: Option<v1::SubmitJobRequest>,
}

impl Carried {
    /// Carries it to its end. Nobody who listens any more is the end too.
    pub(crate) async fn run(mut self, client: Client, say: Sender<(usize, Told)>) {
        if let Some(wish) = self.wish.take() {
            let Some(told) = self.submit(&client, wish, &say).await else { return };
            let stored = matches!(told, Told::Stored);
            if say.send((self.index, told)).await.is_err() || !stored {
                return;
            }
        }
        let mut follow = Follow::later(&client, self.job, 0);
        loop {
            let told = follow.next().await.map_or_else(Told::Lost, Told::Heard);
            let over = matches!(told, Told::Lost(_) | Told::Heard(Heard::End));
            if say.send((self.index, told)).await.is_err() || over {
                return;
            }
        }
    }

    /// The same request until there is an answer: it is one job. `None`: nobody listens any more.
    async fn submit(&self, client: &Client, wish: v1::SubmitJobRequest, say: &Sender<(usize, Told)>) -> Option<Told> {
        for (pause, tries) in client::pauses().zip(0..) {
            let broken = match client.submit(wish.clone()).await {
                Ok(v1::SubmitJobResponse { outcome: Some(outcome) }) => return Some(answered(outcome)),
                Ok(_) => return Some(Told::Lost(refusal::incomplete(client.url(), "outcome"))),
                Err(Lost::No(failure)) => return Some(Told::Refused(failure.sentence().english().to_owned())),
                Err(Lost::Maybe(failure)) => Heard::Broken { why: follow::words(failure), tries, pause },
            };
            say.send((self.index, Told::Heard(broken))).await.ok()?;
            tokio::time::sleep(pause).await;
        }
        None
    }
}

fn answered(outcome: v1::submit_job_response::Outcome) -> Told {
    use v1::submit_job_response::Outcome;
    match outcome {
        Outcome::Accepted(_) => Told::Stored,
        // It was checked before, so it has changed since.
        Outcome::Rejected(rejected) => {
            let found = workbook::problems(rejected.problems);
            let why = found.first().map_or_else(String::new, |problem| format!(": {}", problem.message));
            Told::Refused(said!("the workbook is rejected{why}", "规划表未通过{why}").english().to_owned())
        }
    }
}
