//! What every order says of itself: for which site it is, until when it holds, and a number that no other order ever had.

use gantry_proto::{
    Code, JobId,
    order::NUMBER_MAX,
    sealed::SealingKey,
    v1::{self, order::Kind},
};
use gantry_sim::workbook::Workbook;
use jiff::{SignedDuration, Timestamp};
use prost::Message as _;
use sqlx::{ConnectOptions as _, Connection as _, Row as _};

use crate::{
    agent::{FakeAgent, finished, hello, started, step},
    lab::{Lab, get, submission, submit, until, watch},
};

/// The agent that has carried out so many orders dials.
async fn dial(lab: &Lab, key: &SealingKey, last_order: u64) -> FakeAgent {
    FakeAgent::dial(lab, &lab.join("a1", "s1").await, v1::Hello { last_order, ..hello(key) }).await.unwrap()
}

/// Puts the time until which every order holds into the past, behind the back of a controller that is stopped.
async fn expire_all(lab: &Lab) {
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(lab.config.data.join("gantry.db"));
    let mut store = options.connect().await.unwrap();
    for row in sqlx::query("SELECT number, body FROM orders").fetch_all(&mut store).await.unwrap() {
        let order = v1::Order::decode(row.get::<&[u8], _>("body")).unwrap();
        let body = v1::Order { expires_micros: 1_000_000, ..order }.encode_to_vec();
        let update = sqlx::query("UPDATE orders SET body = ?2 WHERE number = ?1");
        update.bind(row.get::<i64, _>("number")).bind(body).execute(&mut store).await.unwrap();
    }
    store.close().await.unwrap();
}

#[tokio::test]
async fn an_order_says_its_site_and_until_when_it_holds() {
    let mut lab = Lab::with(|config| config.link.order_life_h = 5).await;
    let mut agent = dial(&lab, &SealingKey::generate(), 0).await;
    let (mut client, job) = (lab.jobs().await, JobId::new());
    let before = Timestamp::now();
    submit(&mut client, submission(job)).await.unwrap();
    let life = SignedDuration::from_hours(5);
    let start = agent.order().await;
    agent.report(start.number, v1::OrderStage::Applied).await;
    agent.tell(job, 1, vec![started(), step("preflight")]).await;
    client.pause_job(v1::PauseJobRequest { job_id: job.to_string(), ..Default::default() }).await.unwrap();
    let pause = agent.order().await;
    client.cancel_job(v1::CancelJobRequest { job_id: job.to_string(), ..Default::default() }).await.unwrap();
    let cancel = agent.order().await;
    for order in [start, pause, cancel] {
        let until = Timestamp::from_microsecond(order.expires_micros).unwrap();
        assert_eq!(order.site, "s1", "{:?}", order.kind);
        assert!((before + life..=Timestamp::now() + life).contains(&until), "{until}");
    }
    lab.stop().await;
}

#[tokio::test]
async fn a_controller_whose_store_is_a_copy_goes_on_above_what_its_agent_has_carried_out() {
    let (mut lab, key) = (Lab::start().await, SealingKey::generate());
    drop(dial(&lab, &key, 0).await);
    lab.first_agent_is_gone().await;
    let (mut client, job) = (lab.jobs().await, JobId::new());
    // Two orders that were given before the agent could say where it stands.
    submit(&mut client, submission(job)).await.unwrap();
    client.pause_job(v1::PauseJobRequest { job_id: job.to_string(), ..Default::default() }).await.unwrap();
    let mut agent = dial(&lab, &key, 20).await;
    let (start, pause) = (agent.order().await, agent.order().await);
    assert!(matches!((&start.kind, &pause.kind), (Some(Kind::Start(_)), Some(Kind::Pause(_)))));
    assert_eq!((start.number, pause.number), (21, 22));
    drop(agent);

    // What was sent keeps its number, and an agent that lags behind changes nothing.
    let mut agent = dial(&lab, &key, 20).await;
    assert_eq!((agent.order().await.number, agent.order().await.number), (21, 22));
    agent.report(21, v1::OrderStage::Applied).await;
    agent.tell(job, 1, vec![started(), step("preflight")]).await;
    client.cancel_job(v1::CancelJobRequest { job_id: job.to_string(), ..Default::default() }).await.unwrap();
    assert_eq!(agent.order().await.number, 23);

    let absurd = v1::Hello { last_order: NUMBER_MAX, ..hello(&key) };
    let refused = FakeAgent::dial(&lab, &lab.join("a1", "s1").await, absurd).await.err().unwrap();
    assert_eq!(Code::of(&refused), Some(Code::BadRequest), "{refused:?}");
    lab.stop().await;
}

#[tokio::test]
async fn a_move_waits_for_the_order_under_its_new_number() {
    let (mut lab, keys) = (Lab::start().await, [SealingKey::generate(), SealingKey::generate()]);
    let mut agent = dial(&lab, &keys[0], 0).await;
    let mut next = FakeAgent::dial(&lab, &lab.join("b1", "s1").await, hello(&keys[1])).await.unwrap();
    let (mut client, job) = (lab.jobs().await, JobId::new());
    submit(&mut client, v1::SubmitJobRequest { agent_id: "a1".into(), ..submission(job) }).await.unwrap();
    let start = agent.order().await;
    agent.report(start.number, v1::OrderStage::Applied).await;
    agent.tell(job, 1, vec![started(), step("preflight")]).await;
    drop(agent);
    lab.first_agent_is_gone().await;
    let wish = v1::MoveJobRequest {
        job_id: job.to_string(),
        agent_id: "b1".into(),
        workbook: Workbook::valid().bytes(),
        ..Default::default()
    };
    assert!(!client.move_job(wish.clone()).await.unwrap().into_inner().moved);
    let mut agent = dial(&lab, &keys[0], 40).await;
    let order = agent.order().await;
    assert!(matches!(order.kind, Some(Kind::Surrender(_))) && order.number == 41, "{order:?}");
    // A refusal under that number drops the move; the next one is made.
    agent.refuse(41, "job_state", "not now").await;
    assert_eq!(get(&mut client, job).await.moving_to, "");
    assert!(!client.move_job(wish).await.unwrap().into_inner().moved);
    assert_eq!(agent.order().await.number, 42);
    let surrendered = gantry_proto::Body::Surrendered { by: "admin".into(), to: "b1".parse().unwrap() };
    agent.tell(job, 3, vec![surrendered]).await;
    let taken = next.order().await;
    assert!(matches!(taken.kind, Some(Kind::TakeOver(_))) && taken.number == 1 && taken.site == "s1");
    assert!(taken.expires_micros > Timestamp::now().as_microsecond());
    lab.stop().await;
}

#[tokio::test]
async fn an_order_that_never_left_in_its_time_is_refused_here_with_the_reason() {
    let (mut lab, key) = (Lab::start().await, SealingKey::generate());
    drop(dial(&lab, &key, 0).await);
    lab.first_agent_is_gone().await;
    let job = JobId::new();
    submit(&mut lab.jobs().await, submission(job)).await.unwrap();
    lab.stop().await;
    expire_all(&lab).await;
    lab.restart().await;

    let mut client = lab.jobs().await;
    let mut stream = watch(&mut client, job, 0).await;
    let mut agent = dial(&lab, &key, 0).await;
    let failed = until(&mut stream, |job| job.state() == v1::JobState::Failed).await;
    let failure = failed.failure.unwrap();
    assert_eq!(failure.code, "order_expired");
    assert!(failure.message.contains("not begun in time") && failure.message.contains("link.order_life_h"));
    assert!(failure.message.contains("1970-01-01T00:00:01Z") && failure.remedy.contains("ctl agents"), "{failure:?}");
    // The agent hears of the next job, and nothing of this one.
    let next = JobId::new();
    submit(&mut client, submission(next)).await.unwrap();
    assert_eq!(agent.order().await.job_id, next.to_string());
    lab.stop().await;
}

#[tokio::test]
async fn an_order_that_may_have_arrived_is_the_agents_to_refuse() {
    let (mut lab, key) = (Lab::start().await, SealingKey::generate());
    let mut agent = dial(&lab, &key, 0).await;
    let job = JobId::new();
    submit(&mut lab.jobs().await, submission(job)).await.unwrap();
    agent.order().await;
    drop(agent);
    lab.stop().await;
    expire_all(&lab).await;
    lab.restart().await;
    let mut agent = dial(&lab, &key, 1).await;
    let again = agent.order().await;
    assert_eq!((again.number, again.expires_micros), (1, 1_000_000));
    agent.report(1, v1::OrderStage::Applied).await;
    agent.tell(job, 1, vec![started(), finished(gantry_proto::JobOutcome::Succeeded)]).await;
    assert_eq!(get(&mut lab.jobs().await, job).await.state(), v1::JobState::Succeeded);
    lab.stop().await;
}
