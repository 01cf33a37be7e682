//! In front of every call: whose certificate is shown, whether it still counts, and whether its bearer may make the call.
//! What gets through carries a [`Caller`] or an [`AdmittedAgent`]; nothing behind the gate looks at a certificate again.

use std::{
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use axum::{
    body::Body,
    extract::{Request, State},
    http::HeaderMap,
    middleware::Next,
    response::Response,
};
use gantry_proto::{Code, STREAMS, v1::Role};
use http_body::{Frame, SizeHint};
use http_body_util::Limited;
use jiff::Timestamp;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::transport::server::{TcpConnectInfo, TlsConnectInfo};

use super::{
    Access, Caller, Right,
    rights::{PAGES, RIGHTS},
};
use crate::{
    audit::Who,
    peer::{AdmittedAgent, OperatorName, Peer, Shown},
    refusal::Refusal,
};

/// The largest body of a call without a certificate, bytes: one message, and the five bytes in front of it.
pub const ANYBODY_BODY: usize = (16 << 10) + 5;

/// What a connection tells of its peer.
pub(crate) type Connected = TlsConnectInfo<TcpConnectInfo>;

/// When the certificate was issued by which an operator was let through. In the extensions of every call of theirs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Issued(pub Timestamp);

/// By what an operator is known.
pub(crate) enum Shows<'a> {
    /// A certificate, or none.
    Certificate(Option<&'a [u8]>),
    /// A web session, begun with a certificate that was issued then.
    Session { operator: &'a str, issued: Timestamp },
}

/// An operator who may make a call.
pub(crate) struct Admitted {
    /// Who.
    pub(crate) caller: Caller,
    /// When their certificate was issued.
    pub(crate) issued: Issued,
    /// What ends their streams.
    pub(crate) lease: CancellationToken,
}

/// Lets a call through, or refuses it on both sides' logs.
pub(crate) async fn gate(State(access): State<Arc<Access>>, mut request: Request, next: Next) -> Response {
    let path = request.uri().path().to_owned();
    let Some((_, right)) = RIGHTS.iter().find(|(own, _)| *own == path) else {
        // The routes know no such call either, and say what to do.
        return next.run(request).await;
    };
    let connected = request.extensions().get::<Connected>();
    let remote = connected.and_then(|connected| connected.get_ref().remote_addr());
    let leaf = connected.and_then(|connected| connected.peer_certs());
    let leaf = leaf.as_ref().and_then(|chain| chain.first()).map(|leaf| leaf.to_vec());
    let passed = match right {
        Right::Anybody => access.admit_anybody(remote).map(|()| None),
        Right::Agent => match access.agent(leaf.as_deref()).await {
            Ok(admitted) => {
                request.extensions_mut().insert(admitted);
                Ok(None)
            }
            Err(refused) => Err(refused),
        },
        Right::Role(role) => match access.operator_with(Shows::Certificate(leaf.as_deref()), *role).await {
            Ok(Admitted { caller, issued, lease }) => {
                request.extensions_mut().insert(caller);
                request.extensions_mut().insert(issued);
                Ok(Some(lease))
            }
            Err(refused) => Err(refused),
        },
    };
    let lease = match passed {
        Ok(lease) => lease,
        Err(refused) => return tonic::Status::from(access.turn_away(refused, &path, remote).await).into_http(),
    };
    if *right == Right::Anybody {
        let (parts, body) = request.into_parts();
        request = Request::from_parts(parts, Body::new(Limited::new(body, ANYBODY_BODY)));
    }
    let response = next.run(request).await;
    // The answer to a single call is made: what becomes of its caller meanwhile is no reason to keep it back.
    match lease.filter(|_| STREAMS.contains(&path.as_str())) {
        Some(lease) => response.map(|body| Body::new(Leased::new(body, lease))),
        None => response,
    }
}

/// Who was refused, as far as that is known, and why.
struct Refused {
    caller: Option<Caller>,
    refusal: Refusal,
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        Self { caller: None, refusal }
    }
}

impl Access {
    /// Whether an operator may make a call, for ways in other than the gate. Refused on both logs, as the gate does.
    pub(crate) async fn admit(
        &self,
        path: &str,
        shows: Shows<'_>,
        remote: Option<SocketAddr>,
    ) -> Result<Admitted, Refusal> {
        let right = RIGHTS.iter().chain(PAGES).find(|(own, _)| *own == path).map(|(_, right)| *right);
        let admitted = match right {
            Some(Right::Role(role)) => self.operator_with(shows, role).await,
            Some(Right::Anybody | Right::Agent) | None => {
                Err(not_allowed("this is no call of operators".into()).into())
            }
        };
        match admitted {
            Ok(admitted) => Ok(admitted),
            Err(refused) => Err(self.turn_away(refused, path, remote).await),
        }
    }

    /// One more call from there by somebody who is not known yet, refused on both logs when there are too many.
    pub(crate) async fn admit_unknown(&self, path: &str, remote: Option<SocketAddr>) -> Result<(), Refusal> {
        match self.admit_anybody(remote) {
            Ok(()) => Ok(()),
            Err(refused) => Err(self.turn_away(refused, path, remote).await),
        }
    }

    /// Writes a refusal into both logs.
    async fn turn_away(&self, refused: Refused, path: &str, remote: Option<SocketAddr>) -> Refusal {
        let Refused { caller, refusal } = refused;
        tracing::warn!(reason = %refusal, call = %path, remote = remote.map(tracing::field::display), "refused a peer");
        let role = caller.as_ref().map(|caller| caller.role.word().to_owned()).unwrap_or_default();
        let name = caller.map(|caller| caller.name).unwrap_or_default();
        self.audit.refused(&Who { name, role, remote }, path, &refusal).await;
        refusal
    }

    /// The operator, if what they show still counts and their role reaches so far.
    async fn operator_with(&self, shows: Shows<'_>, role: Role) -> Result<Admitted, Refused> {
        let (name, issued) = match shows {
            Shows::Certificate(leaf) => operator_of(leaf)?,
            Shows::Session { operator, issued } => (operator.to_owned(), issued),
        };
        let (caller, lease) = self.operator(name, issued).await?;
        match caller.may(role) {
            Ok(()) => Ok(Admitted { caller, issued: Issued(issued), lease }),
            Err(refusal) => Err(Refused { caller: Some(caller), refusal }),
        }
    }

    /// An operator, if their certificate, issued then, still counts, and what ends their streams.
    async fn operator(&self, name: String, issued: Timestamp) -> Result<(Caller, CancellationToken), Refused> {
        // Before the look: a change that this look does not see ends the lease.
        let lease = self.lease(&name);
        let row = self.store.operator(&name).await.map_err(Refusal::from)?;
        let Some(row) = row else {
            return Err(not_allowed(format!(
                "operator \"{name}\" is not known to this controller: an admin can let them in with `ctl operator add \
                 {name}`; if no admin is left, run `controller operator-file` on the controller's host"
            ))
            .into());
        };
        let caller = Caller { name, role: row.role, sites: row.sites };
        if row.revoked || issued < row.valid_from {
            let why = if row.revoked { "was revoked" } else { "was replaced by a newer one" };
            let refusal = not_allowed(format!(
                "the certificate of operator \"{}\" {why}: an admin can make a new profile with `ctl operator add {}`",
                caller.name, caller.name
            ));
            return Err(Refused { caller: Some(caller), refusal });
        }
        Ok((caller, lease))
    }

    /// The agent of a certificate, if it still counts.
    async fn agent(&self, leaf: Option<&[u8]>) -> Result<AdmittedAgent, Refused> {
        let Shown { peer, issued } = shown(leaf, "an agent's", "an identity made by `agent join`")?;
        match peer {
            Peer::Agent(peer) => {
                self.still_counts(&peer, issued).await?;
                Ok(AdmittedAgent { peer, issued })
            }
            Peer::Operator(OperatorName(name)) => Err(not_allowed(format!(
                "this call is for agents; the certificate shown belongs to operator \"{name}\": use an agent's identity, \
                 made by `agent join`"
            ))
            .into()),
        }
    }

    /// One more call without a certificate from there.
    fn admit_anybody(&self, remote: Option<SocketAddr>) -> Result<(), Refused> {
        // The network that belongs to one customer line: an address alone is cheap in IPv6.
        let from = match remote.map(|remote| remote.ip().to_canonical()) {
            Some(IpAddr::V6(v6)) => IpAddr::V6((v6.to_bits() >> 64 << 64).into()),
            Some(v4) => v4,
            None => IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED),
        };
        if self.calm.check_key(&from).is_ok() {
            return Ok(());
        }
        let message = format!(
            "more than {} calls without a certificate came from this address within a minute: try again later",
            self.settings.calls_per_minute
        );
        Err(Refusal::new(Code::Busy, message).into())
    }
}

/// The operator whom a certificate names, and when it was issued.
fn operator_of(leaf: Option<&[u8]>) -> Result<(String, Timestamp), Refusal> {
    let Shown { peer, issued } = shown(leaf, "an operator's", "a profile made by `ctl operator add`")?;
    match peer {
        Peer::Operator(OperatorName(name)) => Ok((name, issued)),
        Peer::Agent(agent) => Err(not_allowed(format!(
            "this call is for operators; the certificate shown belongs to agent \"{}\": use an operator's profile, made \
             by `ctl operator add`",
            agent.id
        ))),
    }
}

fn shown(leaf: Option<&[u8]>, whose: &str, remedy: &str) -> Result<Shown, Refusal> {
    let leaf = leaf
        .ok_or_else(|| not_allowed(format!("this call needs {whose} certificate, and none was shown: use {remedy}")))?;
    Shown::of(leaf).map_err(|error| not_allowed(format!("this call needs {whose} certificate: {error}; use {remedy}")))
}

fn not_allowed(message: String) -> Refusal {
    Refusal::new(Code::NotAllowed, message)
}

/// An answer that ends when its caller is shut out or gets other rights.
struct Leased {
    body: Body,
    ended: Pin<Box<WaitForCancellationFutureOwned>>,
    over: bool,
}

impl Leased {
    fn new(body: Body, lease: CancellationToken) -> Self {
        Self { body, ended: Box::pin(lease.cancelled_owned()), over: false }
    }
}

impl http_body::Body for Leased {
    type Data = axum::body::Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        if self.over {
            return Poll::Ready(None);
        }
        if self.ended.as_mut().poll(cx).is_ready() {
            self.over = true;
            self.body = Body::empty();
            let status = Code::NotAllowed.status("what you may do has just been changed by an admin: call again");
            let mut trailers = HeaderMap::new();
            // A status of words only always fits into headers; without them the stream would just end.
            let _ = status.add_header(&mut trailers);
            return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
        }
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.over || self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
