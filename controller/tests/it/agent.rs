//! An agent played by a test: it says Hello over a real link and then what the test tells it to say.

use gantry_proto::{
    AgentId, Body, Event, JobId, JobOutcome, JoinFile, PROTOCOL, StepInfo, UndoState,
    sealed::SealingKey,
    v1::{self, agent_link_client::AgentLinkClient, open_request::Item as Up, open_response::Item as Down},
};
use jiff::Timestamp;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming, transport::Identity};

use crate::lab::{Lab, soon};

pub(crate) struct FakeAgent {
    pub(crate) id: AgentId,
    pub(crate) welcome: v1::Welcome,
    last_job: String,
    up: mpsc::Sender<v1::OpenRequest>,
    down: Streaming<v1::OpenResponse>,
}

/// A Hello that is as it should be.
pub(crate) fn hello(key: &SealingKey) -> v1::Hello {
    v1::Hello {
        protocol: PROTOCOL,
        version: "0.1.0".into(),
        boot_id: JobId::new().to_string(),
        sealing_key: key.public_bytes().to_vec(),
        ..Default::default()
    }
}

/// Opens a link and says `first`.
pub(crate) async fn open(
    lab: &Lab,
    join: &JoinFile,
    first: Up,
) -> Result<(mpsc::Sender<v1::OpenRequest>, Streaming<v1::OpenResponse>), Status> {
    let identity = Identity::from_pem(&join.cert_pem, join.key_pem.expose());
    let mut client = AgentLinkClient::new(lab.channel(Some(identity)).await);
    let (up, stream) = mpsc::channel(64);
    up.send(v1::OpenRequest { item: Some(first), ..Default::default() }).await.unwrap();
    let down = soon("open", client.open(ReceiverStream::new(stream))).await?.into_inner();
    Ok((up, down))
}

impl FakeAgent {
    pub(crate) async fn dial(lab: &Lab, join: &JoinFile, hello: v1::Hello) -> Result<Self, Status> {
        let (up, mut down) = open(lab, join, Up::Hello(hello)).await?;
        match soon("welcome", down.message()).await?.unwrap().item.unwrap() {
            Down::Welcome(welcome) => {
                Ok(Self { id: join.agent.parse().unwrap(), welcome, last_job: String::new(), up, down })
            }
            other => panic!("no welcome but {other:?}"),
        }
    }

    pub(crate) async fn say(&self, item: Up) {
        self.up.send(v1::OpenRequest { item: Some(item), ..Default::default() }).await.unwrap();
    }

    /// The next thing that is no heartbeat; `None` at the end.
    pub(crate) async fn hear(&mut self) -> Result<Option<Down>, Status> {
        loop {
            match soon("link", self.down.message()).await?.map(|response| response.item.unwrap()) {
                Some(Down::Heartbeat(_)) => {}
                other => return Ok(other),
            }
        }
    }

    pub(crate) async fn order(&mut self) -> v1::Order {
        match self.hear().await.unwrap() {
            Some(Down::Order(order)) => {
                self.last_job.clone_from(&order.job_id);
                order
            }
            other => panic!("no order but {other:?}"),
        }
    }

    pub(crate) async fn report(&self, number: u64, stage: v1::OrderStage) {
        let update = v1::OrderUpdate { number, stage: stage.into(), ..Default::default() };
        self.say(Up::OrderUpdate(update)).await;
    }

    /// Refuses an order, and waits until something said after it has come through.
    pub(crate) async fn refuse(&mut self, number: u64, code: &str, message: &str) {
        let stage = v1::OrderStage::Refused.into();
        let update = v1::OrderUpdate { number, stage, code: code.to_owned(), message: message.to_owned() };
        self.say(Up::OrderUpdate(update)).await;
        // Nothing of it is stored, but it is answered in order.
        let nothing = v1::EventBatch { job_id: self.last_job.clone(), events: Vec::new() };
        self.say(Up::Events(nothing)).await;
        assert!(matches!(self.hear().await.unwrap(), Some(Down::Ack(_))));
    }

    /// Tells events of any epoch and waits for their acknowledgement.
    pub(crate) async fn tell_events(&mut self, job: JobId, events: Vec<v1::Event>) {
        self.say(Up::Events(v1::EventBatch { job_id: job.to_string(), events })).await;
        assert!(matches!(self.hear().await.unwrap(), Some(Down::Ack(_))));
    }

    /// Tells events from `first` on and waits for their acknowledgement.
    pub(crate) async fn tell(&mut self, job: JobId, first: u64, bodies: Vec<Body>) -> u64 {
        self.say(Up::Events(batch(job, first, bodies))).await;
        match self.hear().await.unwrap() {
            Some(Down::Ack(ack)) => {
                assert_eq!(ack.job_id, job.to_string());
                ack.seq
            }
            other => panic!("no acknowledgement but {other:?}"),
        }
    }
}

pub(crate) fn batch(job: JobId, first: u64, bodies: Vec<Body>) -> v1::EventBatch {
    v1::EventBatch { job_id: job.to_string(), events: wire(first, 1, bodies) }
}

pub(crate) fn wire(first: u64, epoch: u32, bodies: Vec<Body>) -> Vec<v1::Event> {
    let event = |(seq, body)| v1::Event::from(&Event { seq, epoch, at: Timestamp::now(), body });
    (first..).zip(bodies).map(event).collect()
}

pub(crate) fn started() -> Body {
    let info = |id: &str, weight| StepInfo { id: id.into(), title: id.into(), weight, attempts: 1 };
    Body::JobStarted {
        agent: "a1".parse().unwrap(),
        agent_version: "0.1.0".into(),
        steps: vec![info("preflight", 10), info("upload-iso", 30)],
        kept: Vec::new(),
        taken_over: None,
    }
}

pub(crate) fn step(step: &str) -> Body {
    Body::StepStarted { step: step.into(), attempt: 1 }
}

pub(crate) fn done(step: &str) -> Body {
    Body::StepSucceeded { step: step.into(), elapsed_ms: 1 }
}

pub(crate) fn finished(outcome: JobOutcome) -> Body {
    let undo = if outcome == JobOutcome::Cancelled { UndoState::RolledBack } else { UndoState::Nothing };
    let result = serde_json::json!({ "deploy_cloudtower": { "ip": "127.30.40.20" } });
    Body::JobFinished { outcome, undo, failure: None, leftovers: Vec::new(), result }
}

pub(crate) fn cancel_accepted() -> Body {
    Body::CancelAccepted { by: "admin".into(), reason: String::new() }
}
