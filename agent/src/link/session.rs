//! One session: Hello and Welcome, then one loop that never waits for the line while it could listen.

use std::{io, time::Duration};

use gantry_proto::{JobId, PROTOCOL, SURVEY, TELEMETRY, trace::admit, v1};
use tokio::{
    sync::mpsc,
    task::spawn_blocking,
    time::{Instant, sleep_until, timeout},
};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::Streaming;
use tracing::Instrument as _;
use v1::{OrderStage, agent_link_client::AgentLinkClient, open_request::Item as Out, open_response::Item as In};

use super::{
    Cut, Link, ms,
    outbox::{Outbox, message},
    renewal::Renewal,
};

/// Messages that wait for the line; more would only make the newest of them old.
const WAITING: usize = 2;
/// The largest message that is read, bytes: an order with its plan, secrets and facts fits, and one whose facts are too
/// many is read and refused, where a message that is not read would end every session.
const MESSAGE_MAX: usize = 4 << 20;
/// What this agent can do beyond the protocol's version.
const CAPABILITIES: &[&str] = &[SURVEY];
/// Bounds of what the controller may ask for in Welcome.
const HEARTBEAT: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(60));
const SILENCE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(300));

impl Link {
    /// One session, from dialling to its end. Sets `welcomed` when it is live.
    pub(super) async fn session(&self, stop: &CancellationToken, welcomed: &mut Option<Instant>) -> Cut {
        let session = async {
            let channel = self.dialer()?.dial().await?;
            let (sender, receiver) = mpsc::channel(WAITING);
            let isos = self.scan().await;
            // Before the call: the controller answers only when it has Hello.
            let hello = message(Out::Hello(self.hello(isos.clone())), None);
            sender.try_send(hello).map_err(|_| Cut::Closed)?;
            let mut client = AgentLinkClient::new(channel.clone()).max_decoding_message_size(MESSAGE_MAX);
            let limit = ms(self.settings.link.hello_timeout_ms);
            let opened = async {
                let mut inbound = client.open(ReceiverStream::new(receiver)).await.map_err(cut)?.into_inner();
                match inbound.message().await.map_err(cut)?.and_then(|response| response.item) {
                    Some(In::Welcome(welcome)) => Ok((inbound, welcome)),
                    Some(In::Goodbye(goodbye)) => Err(farewell(goodbye)),
                    Some(_) => Err(Cut::Protocol("the first answer is not Welcome".to_owned())),
                    None => Err(Cut::Closed),
                }
            };
            let (inbound, welcome) = timeout(limit, opened).await.map_err(|_| Cut::Silent(limit))??;
            *welcomed = Some(Instant::now());
            let told = welcome.capabilities.iter().any(|word| word == TELEMETRY);
            tokio::select! {
                ended = self.live(inbound, sender, welcome, isos) => ended,
                never = self.tell_on(channel), if told => match never {},
            }
        };
        let cut = tokio::select! {
            biased;
            () = stop.cancelled() => Cut::Stopping,
            ended = session => ended.map_or_else(|cut| cut, |never: std::convert::Infallible| match never {}),
        };
        self.runner.end_surveys();
        cut
    }

    /// After Welcome, until something cuts it.
    async fn live(
        &self,
        mut inbound: Streaming<v1::OpenResponse>,
        sender: mpsc::Sender<v1::OpenRequest>,
        welcome: v1::Welcome,
        mut isos: Vec<v1::IsoFile>,
    ) -> Result<std::convert::Infallible, Cut> {
        if welcome.protocol != PROTOCOL {
            let message = format!("it speaks version {} of it, this agent version {PROTOCOL}", welcome.protocol);
            return Err(Cut::Protocol(message));
        }
        let within = |value: u32, (low, high): (Duration, Duration)| ms(value.into()).clamp(low, high);
        let silence = within(welcome.silence_ms, SILENCE);
        let beat = within(welcome.heartbeat_ms, HEARTBEAT).min(silence / 2);
        tracing::info!(controller = %self.identity.credentials.current().controller, session = %welcome.session_id, version = %welcome.version, "in contact");
        let mut outbox = Outbox::new(self.runner.clone(), self.settings.link.clone(), beat);
        let mut renewal = Renewal::new(&self.identity.credentials, &self.settings.link);
        self.places(welcome.replay, &mut outbox).await.map_err(Cut::Disk)?;
        self.runner.in_contact();
        let mut news = self.runner.news();
        let scan_every = Duration::from_secs(self.settings.iso.scan_s.max(1));
        let (mut heard, mut next_scan) = (Instant::now(), Instant::now() + scan_every);
        loop {
            outbox.refresh();
            tokio::select! {
                biased;
                () = sleep_until(heard + silence) => return Err(Cut::Silent(silence)),
                received = inbound.message() => {
                    heard = Instant::now();
                    let response = received.map_err(cut)?.ok_or(Cut::Closed)?;
                    if let Some(In::Renewed(answer)) = response.item {
                        renewal.answered(answer).await;
                    } else {
                        self.receive(response, &mut outbox).await?;
                    }
                }
                permit = sender.reserve(), if outbox.is_due() => {
                    let permit = permit.map_err(|_| Cut::Closed)?;
                    if let Some(message) = outbox.next().await.map_err(Cut::Disk)? {
                        permit.send(message);
                    }
                }
                () = sleep_until(next_scan) => {
                    next_scan = Instant::now() + scan_every;
                    let found = self.scan().await;
                    if found != isos {
                        isos.clone_from(&found);
                        outbox.isos(found);
                    }
                }
                () = sleep_until(renewal.due()) => {
                    if let Some(request) = renewal.begin().await {
                        outbox.renew(request);
                    }
                }
                // Something new, or something due: look again.
                _ = news.changed() => {}
                () = sleep_until(outbox.next_look()), if !outbox.is_due() => {}
            }
        }
    }

    /// Where to go on with each job; one that another agent has stops here. An error of one does not keep the others
    /// from that.
    async fn places(&self, places: Vec<v1::ReplayFrom>, outbox: &mut Outbox) -> io::Result<()> {
        let mut written = Ok(());
        for place in places {
            let Ok(job) = place.job_id.parse() else { continue };
            if place.moved {
                written = written.and(self.runner.moved(job).await);
            } else if !place.unknown {
                outbox.replay(job, place.stored_seq);
            }
        }
        written
    }

    async fn receive(&self, response: v1::OpenResponse, outbox: &mut Outbox) -> Result<(), Cut> {
        match response.item {
            Some(In::Ack(ack)) => {
                let job: JobId = ack.job_id.parse().map_err(|error| Cut::Protocol(format!("{error}")))?;
                outbox.acked(job, ack.seq).map_err(Cut::Protocol)?;
                self.runner.acked(job, ack.seq).await.map_err(Cut::Disk)
            }
            Some(In::Order(order)) => {
                let span = tracing::info_span!("order", job.id = %order.job_id.chars().take(40).collect::<String>(), order = order.number);
                let trace = if order.trace.is_empty() { response.trace } else { order.trace.clone() };
                gantry_telemetry::set_parent(&span, &admit(trace));
                self.order(order, outbox).instrument(span).await;
                Ok(())
            }
            Some(In::Survey(request)) => {
                self.runner.survey(request);
                Ok(())
            }
            Some(In::SurveyCancel(cancel)) => {
                self.runner.end_survey(&cancel.survey_id);
                Ok(())
            }
            Some(In::Goodbye(goodbye)) => Err(farewell(goodbye)),
            Some(In::Welcome(_)) => Err(Cut::Protocol("a second Welcome".to_owned())),
            // Something of a newer controller that is not required of us.
            // The answer to a renewal is taken before.
            Some(In::Heartbeat(_) | In::Renewed(_)) | None => Ok(()),
        }
    }

    async fn order(&self, order: v1::Order, outbox: &mut Outbox) {
        let (number, job) = (order.number, order.job_id.parse());
        outbox.update(v1::OrderUpdate { number, stage: OrderStage::Delivered.into(), ..Default::default() });
        let Some(update) = self.runner.order(order).await else { return };
        let refused = update.stage() == OrderStage::Refused;
        outbox.update(update);
        if let Ok(job) = job
            && !refused
            && !outbox.sends(job)
        {
            outbox.begin(job);
        }
    }

    fn hello(&self, isos: Vec<v1::IsoFile>) -> v1::Hello {
        v1::Hello {
            protocol: PROTOCOL,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            boot_id: self.identity.boot_id.clone(),
            capabilities: CAPABILITIES.iter().map(|word| (*word).to_owned()).collect(),
            required_capabilities: Vec::new(),
            sealing_key: self.identity.sealing.public_bytes().to_vec(),
            isos,
            jobs: self.runner.positions(),
            last_order: self.runner.last_order(),
        }
    }

    async fn scan(&self) -> Vec<v1::IsoFile> {
        let isos = self.isos.clone();
        spawn_blocking(move || isos()).await.unwrap_or_default()
    }
}

fn cut(status: tonic::Status) -> Cut {
    Cut::Status(Box::new(status))
}

fn farewell(goodbye: v1::Goodbye) -> Cut {
    let reason = goodbye.reason.chars().take(200).collect();
    Cut::Goodbye { reason, retry_after: ms(goodbye.retry_after_ms.into()) }
}
