//! The link: Hello and Welcome, replay, orders, silence, one session at a time, and a Goodbye.

use gantry_proto::{
    Code, JobId, JobOutcome,
    sealed::SealingKey,
    v1::{self, fleet_service_client::FleetServiceClient, open_request::Item as Up, open_response::Item as Down},
};
use tonic::transport::Channel;

use crate::{
    agent::{FakeAgent, batch, done, finished, hello, open, started, step},
    lab::{Lab, get, soon, submission, submit},
};

fn position(job: JobId, epoch: u32, last_seq: u64) -> v1::JobPosition {
    v1::JobPosition { job_id: job.to_string(), epoch, last_seq, acked_seq: 0, finished: false }
}

#[tokio::test]
async fn a_hello_that_cannot_work_is_refused_with_a_remedy() {
    let mut lab = Lab::start().await;
    let (join, key) = (lab.join("a1", "s1").await, SealingKey::generate());
    let good = hello(&key);
    let cases = [
        (v1::Hello { protocol: 9, ..good.clone() }, Code::Incompatible, "protocol 9"),
        (
            v1::Hello { required_capabilities: vec!["time-travel".into()], ..good.clone() },
            Code::Incompatible,
            "time-travel",
        ),
        (v1::Hello { sealing_key: vec![1; 31], ..good.clone() }, Code::BadRequest, "sealing key"),
    ];
    for (hello, code, word) in cases {
        let refused = FakeAgent::dial(&lab, &join, hello).await.err().unwrap();
        assert_eq!(Code::of(&refused), Some(code));
        assert!(refused.message().contains(word), "{refused:?}");
    }
    let (_up, mut down) = open(&lab, &join, Up::Heartbeat(v1::Heartbeat { number: 1 })).await.unwrap();
    let refused = soon("refusal", down.message()).await.unwrap_err();
    assert_eq!(Code::of(&refused), Some(Code::BadRequest));
    let agent = FakeAgent::dial(&lab, &join, good).await.unwrap();
    assert_eq!((agent.welcome.heartbeat_ms, agent.welcome.silence_ms), (10_000, 15_000));
    lab.stop().await;
}

#[tokio::test]
async fn the_certificate_says_who_the_agent_is_and_the_fleet_shows_it() {
    let mut lab = Lab::start().await;
    let key = SealingKey::generate();
    let iso = v1::IsoFile { name: "cloudtower-v4.6.2.oe2003.x86_64.iso".into(), size: 7, ..Default::default() };
    let said = v1::Hello { isos: vec![iso], ..hello(&key) };
    let agent = FakeAgent::dial(&lab, &lab.join("a1", "s1").await, said).await.unwrap();
    let _other = FakeAgent::dial(&lab, &lab.join("b1", "s2").await, hello(&key)).await.unwrap();
    let mut fleet = lab.fleet().await;
    let all = fleet.list_agents(v1::ListAgentsRequest::default()).await.unwrap().into_inner().agents;
    assert_eq!(all.iter().map(|agent| agent.agent_id.as_str()).collect::<Vec<_>>(), ["a1", "b1"]);
    assert!(all[0].in_contact && all[0].seen_micros > 0 && all[0].remote_address.starts_with("127.0.0.1:"));
    assert_eq!((all[0].site.as_str(), all[0].isos.len()), ("s1", 1));
    let of_site = v1::ListAgentsRequest { site: "s2".into() };
    assert_eq!(fleet.list_agents(of_site).await.unwrap().into_inner().agents.len(), 1);

    agent.say(Up::Isos(v1::IsoList { isos: Vec::new() })).await;
    until_first(&mut fleet, |first| first.isos.is_empty() && first.in_contact).await;
    drop(agent);
    until_first(&mut fleet, |first| !first.in_contact).await;
    lab.stop().await;
}

async fn until_first(fleet: &mut FleetServiceClient<Channel>, wanted: impl Fn(&v1::Agent) -> bool) {
    soon("the agent as wanted", async {
        loop {
            let all = fleet.list_agents(v1::ListAgentsRequest::default()).await.unwrap().into_inner().agents;
            if wanted(&all[0]) {
                return;
            }
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn after_a_reconnect_only_missing_events_are_asked_for() {
    let mut lab = Lab::start().await;
    let (join, key) = (lab.join("a1", "s1").await, SealingKey::generate());
    let mut agent = FakeAgent::dial(&lab, &join, hello(&key)).await.unwrap();
    let job = JobId::new();
    let mut client = lab.jobs().await;
    submit(&mut client, submission(job)).await.unwrap();
    agent.order().await;
    assert_eq!(agent.tell(job, 1, vec![started(), step("preflight"), done("preflight")]).await, 3);
    drop(agent);

    lab.restart().await;
    let stranger = JobId::new();
    let said =
        v1::Hello { jobs: vec![position(job, 1, 5), position(stranger, 1, 4), position(job, 0, 5)], ..hello(&key) };
    let mut agent = FakeAgent::dial(&lab, &join, said).await.unwrap();
    let replay: Vec<_> = agent.welcome.replay.iter().map(|r| (r.job_id.clone(), r.stored_seq, r.unknown)).collect();
    let (job_id, stranger) = (job.to_string(), stranger.to_string());
    assert_eq!(replay, [(job_id.clone(), 3, false), (stranger, 0, true), (job_id, 0, true)]);
    let order = agent.order().await;
    assert_eq!(order.number, 1, "the start was never confirmed, so it comes again");
    agent.report(order.number, v1::OrderStage::Applied).await;
    assert_eq!(agent.tell(job, 3, vec![done("preflight"), step("upload-iso")]).await, 4);
    drop(agent);

    let agent =
        FakeAgent::dial(&lab, &join, v1::Hello { jobs: vec![position(job, 1, 4)], ..hello(&key) }).await.unwrap();
    assert_eq!(agent.welcome.replay[0].stored_seq, 4);
    // Applied orders do not come again: the next thing that is heard is the answer to what is said now.
    let mut agent = agent;
    assert_eq!(agent.tell(job, 5, vec![finished(JobOutcome::Succeeded)]).await, 5);
    assert_eq!(get(&mut lab.jobs().await, job).await.state(), v1::JobState::Succeeded);
    lab.stop().await;
}

#[tokio::test]
async fn a_gap_ends_the_session_and_late_events_do_not() {
    let mut lab = Lab::start().await;
    let (join, key) = (lab.join("a1", "s1").await, SealingKey::generate());
    let mut agent = FakeAgent::dial(&lab, &join, hello(&key)).await.unwrap();
    let job = JobId::new();
    submit(&mut lab.jobs().await, submission(job)).await.unwrap();
    agent.order().await;
    agent.say(Up::Events(batch(JobId::new(), 1, vec![started()]))).await;
    let mut late = batch(job, 1, vec![started()]);
    late.events[0].epoch = 0;
    agent.say(Up::Events(late)).await;
    assert_eq!(agent.tell(job, 1, vec![started()]).await, 1, "neither was stored nor ended the session");
    agent.say(Up::Events(batch(job, 3, vec![step("preflight")]))).await;
    let refused = agent.hear().await.unwrap_err();
    assert_eq!(Code::of(&refused), Some(Code::BadRequest));
    assert!(refused.message().contains("gap"), "{refused:?}");
    lab.stop().await;
}

#[tokio::test]
async fn the_newer_session_takes_over() {
    let mut lab = Lab::start().await;
    let (join, key) = (lab.join("a1", "s1").await, SealingKey::generate());
    let mut older = FakeAgent::dial(&lab, &join, hello(&key)).await.unwrap();
    let mut newer = FakeAgent::dial(&lab, &join, hello(&key)).await.unwrap();
    assert!(matches!(older.hear().await.unwrap(), Some(Down::Goodbye(bye)) if bye.reason.contains("newer session")));
    assert!(older.hear().await.unwrap().is_none());
    submit(&mut lab.jobs().await, submission(JobId::new())).await.unwrap();
    assert_eq!(newer.order().await.number, 1);
    lab.stop().await;
}

#[tokio::test]
async fn a_silent_agent_is_let_go_and_a_talking_one_is_not() {
    let mut lab = Lab::with(|config| (config.link.heartbeat_ms, config.link.silence_ms) = (100, 1000)).await;
    let (join, key) = (lab.join("a1", "s1").await, SealingKey::generate());
    let mut silent = FakeAgent::dial(&lab, &join, hello(&key)).await.unwrap();
    assert!(matches!(silent.hear().await.unwrap(), Some(Down::Goodbye(_))));
    assert!(silent.hear().await.unwrap().is_none());

    let (up, mut down) = open(&lab, &join, Up::Hello(hello(&key))).await.unwrap();
    let mut beats = 0;
    while beats < 20 {
        let response = soon("heartbeat", down.message()).await.unwrap().unwrap();
        if let Some(Down::Heartbeat(beat)) = response.item {
            beats = beat.number;
            let item = Some(Up::Heartbeat(beat));
            up.send(v1::OpenRequest { item, ..Default::default() }).await.unwrap();
        }
    }
    lab.stop().await;
}

#[tokio::test]
async fn a_message_beyond_the_bound_is_refused_and_the_peer_hears_why() {
    let mut lab = Lab::start().await;
    let (join, key) = (lab.join("a1", "s1").await, SealingKey::generate());
    let mut agent = FakeAgent::dial(&lab, &join, hello(&key)).await.unwrap();
    let isos = vec![v1::IsoFile { name: "x".repeat(5 << 20), ..Default::default() }];
    agent.say(Up::Isos(v1::IsoList { isos })).await;
    let refused = agent.hear().await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::OutOfRange, "{refused:?}");
    lab.stop().await;
}

#[tokio::test]
async fn a_shutdown_says_goodbye_with_a_delay() {
    let mut lab = Lab::start().await;
    let mut agent = FakeAgent::dial(&lab, &lab.join("a1", "s1").await, hello(&SealingKey::generate())).await.unwrap();
    lab.shut();
    assert!(matches!(agent.hear().await.unwrap(), Some(Down::Goodbye(bye)) if bye.retry_after_ms == 1000));
    drop(agent);
    lab.stop().await;
}
