//! The link: one live session with one agent. Hello and Welcome, orders down, events up and acknowledged after the
//! commit. It moves things and decides nothing about jobs.

mod hello;

use std::{collections::HashMap, net::SocketAddr, sync::Arc, time::Duration};

use gantry_proto::{AgentId, Code, JobId, PROTOCOL, trace::admit, v1};
use jiff::Timestamp;
use tokio::{
    sync::mpsc,
    time::{Instant, MissedTickBehavior, interval_at, sleep_until, timeout},
};
use tokio_stream::{Stream, StreamExt as _, wrappers::ReceiverStream};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::{Request, Response, Status};
use tracing::Instrument as _;
use uuid::Uuid;
use v1::{open_request::Item as In, open_response::Item as Out};

use hello::{CAPABILITIES, check_hello};

use crate::{
    access::Access,
    agents::{Agents, Ask, Session},
    config::{Link, ms},
    jobs::Jobs,
    metrics::metrics,
    peer::{AdmittedAgent, AgentPeer},
    refusal::Refusal,
    store::{AgentRow, Appended, Position, Store, StoreError},
    telemetry::AgentTelemetry,
};

/// Jobs of a Hello that are looked up at once.
const POSITIONS: usize = 1000;
/// Orders that are read at once.
const ORDERS: u32 = 16;
/// ISO files that an agent may offer.
const ISOS_MAX: usize = 1000;
/// Capabilities of an agent that are kept.
const CAPABILITIES_MAX: usize = 32;
/// How often it is stored that the agent was heard.
const TOUCH_EVERY: Duration = Duration::from_secs(60);

/// The service that agents dial.
#[derive(Clone)]
pub struct Gateway {
    /// The jobs.
    pub jobs: Arc<Jobs>,
    /// The agents.
    pub agents: Arc<Agents>,
    /// Whose certificates count.
    pub access: Arc<Access>,
    /// Where agents are remembered.
    pub store: Arc<dyn Store>,
    /// Takes their telemetry in.
    pub telemetry: AgentTelemetry,
    /// Times and bounds.
    pub settings: Link,
    /// Owner of the sessions.
    pub tasks: TaskTracker,
    /// Ends every session with a Goodbye.
    pub stop: CancellationToken,
}

#[tonic::async_trait]
impl v1::agent_link_server::AgentLink for Gateway {
    type OpenStream = ReceiverStream<Result<v1::OpenResponse, Status>>;

    async fn open(
        &self,
        request: Request<tonic::Streaming<v1::OpenRequest>>,
    ) -> Result<Response<Self::OpenStream>, Status> {
        let admitted = request.extensions().get::<AdmittedAgent>().cloned();
        let admitted = admitted.ok_or_else(no_certificate)?;
        let peer = &admitted.peer;
        let remote = request.remote_addr();
        let (out, answers) = mpsc::channel(self.settings.outgoing);
        let gateway = self.clone();
        let span = tracing::info_span!("session", agent = %peer.id, site = %peer.site, id = tracing::field::Empty);
        let inbound = request.into_inner();
        self.tasks.spawn(async move { gateway.serve(admitted, remote, inbound, out).await }.instrument(span));
        Ok(Response::new(ReceiverStream::new(answers)))
    }

    async fn send_telemetry(
        &self,
        request: Request<v1::SendTelemetryRequest>,
    ) -> Result<Response<v1::SendTelemetryResponse>, Status> {
        let admitted = request.extensions().get::<AdmittedAgent>().cloned();
        let AdmittedAgent { peer, .. } = admitted.ok_or_else(no_certificate)?;
        let request = request.into_inner();
        let (signal, lost) = (request.signal(), request.lost.unwrap_or_default());
        self.telemetry.take(&peer, signal, request.otlp).await?;
        self.agents.told_telemetry(&peer.id, lost, request.waiting_bytes);
        Ok(Response::new(v1::SendTelemetryResponse {}))
    }
}

fn no_certificate() -> Status {
    Code::NotAllowed.status("this call needs an agent's certificate")
}

/// Why a session ends.
enum End {
    /// The peer has closed, or the connection is gone.
    Gone(String),
    /// Nothing was heard, or nothing could be said, for too long.
    Silent,
    /// A newer session of the same agent has taken over.
    Replaced,
    /// A job was moved away from the agent: the next Welcome says so.
    Recalled,
    /// The controller shuts down.
    Draining,
    /// The peer did something that cannot stand.
    Refused(Status),
}

impl End {
    /// The word in metrics.
    fn word(&self) -> &'static str {
        match self {
            Self::Gone(_) => "gone",
            Self::Silent => "silent",
            Self::Replaced => "replaced",
            Self::Recalled => "recalled",
            Self::Draining => "draining",
            Self::Refused(_) => "refused",
        }
    }
}

impl From<Refusal> for End {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal.into())
    }
}

impl From<StoreError> for End {
    fn from(error: StoreError) -> Self {
        Refusal::from(error).into()
    }
}

impl Gateway {
    async fn serve(
        &self,
        admitted: AdmittedAgent,
        remote: Option<SocketAddr>,
        mut inbound: impl Stream<Item = Result<v1::OpenRequest, Status>> + Unpin,
        out: mpsc::Sender<Result<v1::OpenResponse, Status>>,
    ) {
        let peer = &admitted.peer;
        let mut opened = false;
        let end = match self.greet(peer, remote, &mut inbound, &out).await {
            Ok((session, row)) => {
                opened = true;
                let number = session.number;
                let (out, heard) = (out.clone(), Instant::now());
                let admitted = &admitted;
                let mut link = LinkSession { gateway: self, admitted, row, session, out, sent: 0, beats: 0, heard };
                let end = link.run(&mut inbound).await;
                let seen = self.agents.disconnect(&peer.id, number);
                if let Some(seen) = seen
                    && let Err(error) = self.store.touch_agent(peer.id.clone(), seen).await
                {
                    tracing::debug!(%error, "the time of the last contact was not stored");
                }
                end
            }
            Err(end) => end,
        };
        if opened {
            metrics().link_ended(end.word());
        }
        self.part(end, &out).await;
    }

    /// Hello and Welcome.
    async fn greet(
        &self,
        peer: &AgentPeer,
        remote: Option<SocketAddr>,
        inbound: &mut (impl Stream<Item = Result<v1::OpenRequest, Status>> + Unpin),
        out: &mpsc::Sender<Result<v1::OpenResponse, Status>>,
    ) -> Result<(Session, AgentRow), End> {
        let first = tokio::select! {
            first = timeout(ms(self.settings.hello_ms), inbound.next()) => first.map_err(|_| End::Silent)?,
            () = self.stop.cancelled() => return Err(End::Draining),
        };
        let hello = match first {
            Some(Ok(v1::OpenRequest { item: Some(In::Hello(hello)), .. })) => hello,
            Some(Ok(_)) => return Err(bad_request("the first message of a session must be Hello")),
            Some(Err(status)) => return Err(End::Refused(status)),
            None => return Err(End::Gone("closed before Hello".to_owned())),
        };
        check_hello(&hello)?;
        let capabilities: Vec<String> =
            hello.capabilities.iter().take(CAPABILITIES_MAX).map(|word| shortened(word)).collect();
        let row = AgentRow {
            id: peer.id.clone(),
            site: peer.site.clone(),
            version: shortened(&hello.version),
            boot_id: shortened(&hello.boot_id),
            sealing_key: hello.sealing_key,
            isos: hello.isos.into_iter().take(ISOS_MAX).collect(),
            remote_address: remote.map(|address| address.to_string()).unwrap_or_default(),
            seen: Timestamp::now(),
        };
        self.store.put_agent(row.clone()).await?;
        if hello.last_order > 0 {
            self.store.number_above(peer.id.clone(), hello.last_order).await?;
        }
        // Registered before it is looked which jobs are still the agent's: a move after that look ends this session.
        let session = self.agents.connect(&peer.id, &capabilities);
        match self.welcome(peer, &hello.jobs, out).await {
            Ok(()) => {
                let (version, remote) = (&row.version, &row.remote_address);
                tracing::info!(%version, %remote, isos = row.isos.len(), "agent in contact");
                metrics().link_opened();
                Ok((session, row))
            }
            Err(end) => {
                self.agents.disconnect(&peer.id, session.number);
                Err(end)
            }
        }
    }

    async fn welcome(
        &self,
        peer: &AgentPeer,
        jobs: &[v1::JobPosition],
        out: &mpsc::Sender<Result<v1::OpenResponse, Status>>,
    ) -> Result<(), End> {
        let replay = self.replay(&peer.id, jobs).await?;
        let id = Uuid::now_v7().to_string();
        tracing::Span::current().record("id", &id);
        let welcome = v1::Welcome {
            protocol: PROTOCOL,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            session_id: id,
            heartbeat_ms: self.settings.heartbeat_ms,
            silence_ms: self.settings.silence_ms,
            replay,
            capabilities: CAPABILITIES.iter().map(|word| (*word).to_owned()).collect(),
        };
        let sent = out.send_timeout(message(Out::Welcome(welcome)), ms(self.settings.silence_ms)).await;
        sent.map_err(|_| End::Silent)
    }

    /// From where the agent sends again. A job that is not here, not this agent's, or here in another epoch is not
    /// wanted now; nothing is deleted because of that. One that was moved since the agent's epoch is its no more.
    async fn replay(&self, agent: &AgentId, jobs: &[v1::JobPosition]) -> Result<Vec<v1::ReplayFrom>, End> {
        let mut replay = Vec::with_capacity(jobs.len());
        if jobs.is_empty() {
            self.jobs.positions(agent, Vec::new()).await?;
        }
        for chunk in jobs.chunks(POSITIONS) {
            let ids: Vec<JobId> = chunk.iter().filter_map(|job| job.job_id.parse().ok()).collect();
            let known: HashMap<String, _> = self
                .jobs
                .positions(agent, ids)
                .await?
                .into_iter()
                .map(|position| (position.job.to_string(), position))
                .collect();
            replay.extend(chunk.iter().map(|job| replay_from(agent, job, known.get(&job.job_id))));
        }
        Ok(replay)
    }

    /// Tells the peer why the session ends, as far as it still listens.
    async fn part(&self, end: End, out: &mpsc::Sender<Result<v1::OpenResponse, Status>>) {
        let goodbye = |reason: &str, retry_after_ms| {
            message(Out::Goodbye(v1::Goodbye { retry_after_ms, reason: reason.to_owned() }))
        };
        let last = match end {
            End::Gone(why) => {
                tracing::info!(%why, "the agent is out of contact");
                return;
            }
            End::Silent => {
                tracing::warn!("the agent is silent: the line counts as dead");
                goodbye("nothing was heard for too long", 0)
            }
            End::Replaced => goodbye("a newer session of this agent has taken over", self.settings.silence_ms),
            End::Recalled => goodbye("a job of this agent was moved to another one: say Hello again", 0),
            End::Draining => goodbye("the controller is shutting down", self.settings.retry_after_ms),
            End::Refused(status) => {
                tracing::warn!(code = ?status.code(), reason = status.message(), "the session was refused");
                Err(status)
            }
        };
        // One second: a peer that does not read is not owed a farewell.
        let _ = out.send_timeout(last, Duration::from_secs(1)).await;
    }
}

/// A session after its Welcome.
struct LinkSession<'a> {
    gateway: &'a Gateway,
    admitted: &'a AdmittedAgent,
    row: AgentRow,
    session: Session,
    out: mpsc::Sender<Result<v1::OpenResponse, Status>>,
    /// The highest order that was sent in this session.
    sent: u64,
    beats: u64,
    /// When the agent was last heard.
    heard: Instant,
}

impl LinkSession<'_> {
    async fn run(&mut self, inbound: &mut (impl Stream<Item = Result<v1::OpenRequest, Status>> + Unpin)) -> End {
        match self.turn(inbound).await {
            Ok(never) => match never {},
            Err(end) => end,
        }
    }

    async fn turn(
        &mut self,
        inbound: &mut (impl Stream<Item = Result<v1::OpenRequest, Status>> + Unpin),
    ) -> Result<std::convert::Infallible, End> {
        let settings = &self.gateway.settings;
        let (beat, silence) = (ms(settings.heartbeat_ms), ms(settings.silence_ms));
        let every = |period| {
            let mut ticks = interval_at(Instant::now() + period, period);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            ticks
        };
        let (mut beats, mut touches) = (every(beat), every(TOUCH_EVERY));
        let (stop, replaced) = (self.gateway.stop.clone(), self.session.replaced.clone());
        let (recalled, shut_out) = (self.session.recalled.clone(), self.session.shut_out.clone());
        // Once more, now that whoever shuts the agent out finds its session.
        self.still_counts().await?;
        self.send_orders().await?;
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return Err(End::Draining),
                () = replaced.cancelled() => return Err(End::Replaced),
                () = recalled.cancelled() => return Err(End::Recalled),
                () = shut_out.cancelled() => {
                    self.still_counts().await?;
                    return Err(End::Recalled);
                }
                changed = self.session.orders.changed() => {
                    changed.map_err(|_| End::Draining)?;
                    self.send_orders().await?;
                }
                ask = self.session.asks.recv() => {
                    self.send(match ask.ok_or(End::Replaced)? {
                        Ask::Look(request) => Out::Survey(*request),
                        Ask::Cancel(survey_id) => Out::SurveyCancel(v1::SurveyCancel { survey_id }),
                    })
                    .await?;
                }
                _ = beats.tick() => {
                    self.beats += 1;
                    self.send(Out::Heartbeat(v1::Heartbeat { number: self.beats })).await?;
                }
                _ = touches.tick() => {
                    self.gateway.store.touch_agent(self.row.id.clone(), Timestamp::now()).await?;
                }
                () = sleep_until(self.heard + silence) => return Err(End::Silent),
                next = inbound.next() => {
                    self.gateway.agents.heard(&self.row.id);
                    self.heard = Instant::now();
                    self.receive(next).await?;
                    // Again: how long the store took is not the agent's silence.
                    self.heard = Instant::now();
                }
            }
        }
    }

    async fn receive(&mut self, next: Option<Result<v1::OpenRequest, Status>>) -> Result<(), End> {
        let v1::OpenRequest { item, trace } = match next {
            Some(Ok(request)) => request,
            // A broken connection cannot be told apart from a broken message: both go back, if there is a way back.
            Some(Err(status)) => return Err(End::Refused(status)),
            None => return Err(End::Gone("the agent closed the session".to_owned())),
        };
        match item {
            Some(In::Events(batch)) => {
                let span = tracing::info_span!("agent_events", job.id = %shortened(&batch.job_id), events = batch.events.len());
                gantry_telemetry::set_parent(&span, &admit(trace));
                self.append(batch).instrument(span).await
            }
            Some(In::OrderUpdate(update)) => {
                let span =
                    tracing::info_span!("order_update", order = update.number, stage = update.stage().as_str_name());
                gantry_telemetry::set_parent(&span, &admit(trace));
                Ok(self.gateway.jobs.order_update(&self.row.id, update).instrument(span).await?)
            }
            Some(In::Sample(sample)) => {
                if let Ok(job) = sample.job_id.parse() {
                    self.gateway.jobs.sample(&self.row.id, job, sample);
                }
                Ok(())
            }
            Some(In::Isos(list)) => {
                self.row.isos = list.isos.into_iter().take(ISOS_MAX).collect();
                self.row.seen = Timestamp::now();
                Ok(self.gateway.store.put_agent(self.row.clone()).await?)
            }
            Some(In::Renew(wish)) => {
                let renewed = self.gateway.access.renew(&self.admitted.peer, &wish.request_der).await;
                let renewed = renewed.unwrap_or_else(|refusal| {
                    tracing::warn!(reason = %refusal, "a certificate was not renewed");
                    v1::RenewResponse { message: refusal.message, ..v1::RenewResponse::default() }
                });
                self.send(Out::Renewed(renewed)).await
            }
            Some(In::Survey(report)) => {
                self.gateway.agents.surveyed(&self.row.id, report);
                Ok(())
            }
            Some(In::Heartbeat(_)) => Ok(()),
            Some(In::Hello(_)) => Err(bad_request("Hello was said before in this session")),
            // From a newer agent: what must be understood is announced as a required capability.
            None => Ok(()),
        }
    }

    /// Whether the certificate of this session still counts.
    async fn still_counts(&self) -> Result<(), End> {
        Ok(self.gateway.access.still_counts(&self.admitted.peer, self.admitted.issued).await?)
    }

    async fn append(&mut self, batch: v1::EventBatch) -> Result<(), End> {
        let Ok(job) = batch.job_id.parse::<JobId>() else {
            return Err(bad_request("a batch of events names no job"));
        };
        // The log may go on behind what this agent has, when another one had the job meanwhile.
        let told = batch.events.last().map_or(u64::MAX, |event| event.seq);
        match self.gateway.jobs.append(&self.row.id, job, batch.events).await? {
            Appended::Stored { row, .. } => {
                let ack = v1::EventAck { job_id: job.to_string(), seq: row.progress.last_seq.min(told) };
                self.send(Out::Ack(ack)).await
            }
            Appended::Gap { stored, got } => Err(bad_request(&format!(
                "events of job {job} have a gap: {stored} is stored and {got} came; open a new session, whose Welcome says \
                 from where to send again"
            ))),
            // Late events of an older epoch or of a job that was moved away: not wanted, and no reason to part.
            refused @ (Appended::OtherEpoch { .. } | Appended::NotOwner | Appended::UnknownJob) => {
                tracing::warn!(%job, why = ?refused, "events were not taken");
                Ok(())
            }
        }
    }

    /// Sends what the agent has not confirmed and was not sent in this session, in the order of the numbers.
    async fn send_orders(&mut self) -> Result<(), End> {
        self.session.orders.borrow_and_update();
        loop {
            let id = self.row.id.clone();
            let orders = self.gateway.store.open_orders(id.clone(), self.sent, ORDERS).await?;
            let last = orders.len() < ORDERS as usize;
            for order in orders {
                self.sent = order.number;
                // Written down before it leaves: from now on only the agent can say what became of it.
                if !self.gateway.store.sending(id.clone(), order.number).await? {
                    continue;
                }
                // One that may have reached the agent is the agent's to refuse: it may have begun.
                if !order.sent && order.is_expired(Timestamp::now()) {
                    self.gateway.jobs.expired(&id, &order.order).await?;
                    continue;
                }
                tracing::info!(order = order.number, job = %order.job, kind = ?order.kind, "order sent");
                self.send(Out::Order(order.order)).await?;
            }
            if last {
                return Ok(());
            }
        }
    }

    /// Waits for room as long as the agent may be silent, counted from when it was last heard: a line that died with
    /// a full queue is noticed no later than one with an empty queue.
    async fn send(&self, item: Out) -> Result<(), End> {
        let limit = ms(self.gateway.settings.silence_ms).saturating_sub(self.heard.elapsed());
        self.out.send_timeout(message(item), limit).await.map_err(|_| End::Silent)
    }
}

/// Where an agent stands with a job that it speaks of.
fn replay_from(agent: &AgentId, job: &v1::JobPosition, here: Option<&Position>) -> v1::ReplayFrom {
    let own = here.filter(|here| here.agent == *agent && here.epoch == job.epoch);
    let moved = here.is_some_and(|here| job.epoch < here.moved);
    v1::ReplayFrom {
        job_id: job.job_id.clone(),
        stored_seq: own.map_or(0, |here| here.last_seq),
        unknown: own.is_none() && !moved,
        moved,
    }
}

fn bad_request(message: &str) -> End {
    End::Refused(Code::BadRequest.status(message))
}

#[expect(clippy::unnecessary_wraps, reason = "the stream's items are results")]
fn message(item: Out) -> Result<v1::OpenResponse, Status> {
    let trace = gantry_telemetry::inject().into_iter().collect();
    Ok(v1::OpenResponse { item: Some(item), trace })
}

/// Text of a peer that goes into logs and rows.
fn shortened(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(100).collect()
}
