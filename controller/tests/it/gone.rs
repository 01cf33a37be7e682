//! A caller that goes away while its call is carried out: what is stored by then is begun all the same.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    sync::Arc,
    task::Poll,
};

use gantry_controller::{
    Config,
    agents::Agents,
    jobs::{Jobs, Submission},
    store::Store,
};
use gantry_proto::{JobId, Redactor};
use gantry_sim::workbook::Workbook;
use jiff::Timestamp;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    lab::soon,
    store::{agent, open},
};

/// Lets a future be polled so often, then drops it; true: it ended before that.
async fn polled<T>(future: impl Future<Output = T>, times: usize) -> bool {
    let (mut future, mut polls) = (pin!(future), 0);
    poll_fn(|cx| {
        if future.as_mut().poll(cx).is_ready() {
            return Poll::Ready(true);
        }
        polls += 1;
        if polls >= times { Poll::Ready(false) } else { Poll::Pending }
    })
    .await
}

#[tokio::test]
async fn a_job_that_is_stored_wakes_its_agent_although_its_submitter_is_gone() {
    let (mut stored, workbook) = (0, Workbook::valid().bytes());
    for times in 1.. {
        let dir = tempfile::tempdir().unwrap();
        let store: Arc<dyn Store> = Arc::new(open(dir.path()).await);
        let agents = Arc::new(Agents::open(store.clone()).await.unwrap());
        let mut session = agents.connect(&agent());
        let (config, tasks, stop) = (Arc::new(Config::default()), TaskTracker::new(), CancellationToken::new());
        let jobs = Jobs::new(store.clone(), agents, config, Redactor::new(), tasks, stop);
        let job = JobId::new();
        let wish = Submission {
            job,
            workbook: workbook.clone(),
            file_name: "planning.xlsx".to_owned(),
            overrides: Default::default(),
            agent: String::new(),
            site: "s1".to_owned(),
            keep_on_failure: None,
            sites: Vec::new(),
            by: "admin".to_owned(),
        };
        let ended = polled(jobs.submit(wish), times).await;
        // The store writes in order: what was handed to it before is written when this is.
        store.touch_agent(agent(), Timestamp::now()).await.unwrap();
        if store.job(job).await.unwrap().is_some() {
            stored += 1;
            soon("the agent's wake", session.orders.changed()).await.unwrap();
        }
        if ended {
            break;
        }
    }
    assert!(stored > 1, "what the store was asked for went with its submitter");
}
