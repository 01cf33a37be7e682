//! A caller that goes away while its call is carried out: what is being stored by then is begun all the same.

use std::{
    future::{Future as _, poll_fn},
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
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    lab::soon,
    store::{agent, open},
};

#[tokio::test]
async fn a_job_that_is_stored_wakes_its_agent_although_its_submitter_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let store: Arc<dyn Store> = Arc::new(open(dir.path()).await);
    let agents = Arc::new(Agents::open(store.clone()).await.unwrap());
    let session = agents.connect(&agent(), &[]);
    let (config, tasks, stop) = (Arc::new(Config::default()), TaskTracker::new(), CancellationToken::new());
    let jobs = Jobs::new(store.clone(), agents, config, Redactor::new(), tasks.clone(), stop);
    let job = JobId::new();
    let wish = Submission {
        job,
        workbook: Workbook::valid().bytes(),
        file_name: "planning.xlsx".to_owned(),
        overrides: Default::default(),
        agent: String::new(),
        site: "s1".to_owned(),
        keep_on_failure: None,
        sites: Vec::new(),
        by: "admin".to_owned(),
    };
    {
        let mut submitting = pin!(jobs.submit(wish));
        let storing = poll_fn(|cx| match submitting.as_mut().poll(cx) {
            Poll::Ready(ended) => panic!("it ended: {ended:?}"),
            Poll::Pending if tasks.is_empty() => Poll::Pending,
            Poll::Pending => Poll::Ready(()),
        });
        soon("the storing", storing).await;
    }
    // The submitter is gone; what it has begun goes on.
    tasks.close();
    soon("the store's change", tasks.wait()).await;
    assert!(store.job(job).await.unwrap().is_some(), "the job went with its submitter");
    assert!(session.orders.has_changed().unwrap(), "nobody looks for the order");
}
