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
use gantry_proto::{Code, STREAMS};
use http_body::{Frame, SizeHint};
use http_body_util::Limited;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::transport::server::{TcpConnectInfo, TlsConnectInfo};

use super::{Access, Caller, Right, rights::RIGHTS};
use crate::{
    audit::Who,
    peer::{AdmittedAgent, OperatorName, Peer, Shown},
    refusal::Refusal,
};

/// The largest body of a call without a certificate, bytes: one message, and the five bytes in front of it.
pub const ANYBODY_BODY: usize = (16 << 10) + 5;

/// What a connection tells of its peer.
type Connected = TlsConnectInfo<TcpConnectInfo>;

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
        Right::Role(role) => match access.operator(leaf.as_deref()).await {
            Ok((caller, lease)) => match caller.may(*role) {
                Ok(()) => {
                    request.extensions_mut().insert(caller);
                    Ok(Some(lease))
                }
                Err(refusal) => Err(Refused { caller: Some(caller), refusal }),
            },
            Err(refused) => Err(refused),
        },
    };
    let lease = match passed {
        Ok(lease) => lease,
        Err(Refused { caller, refusal }) => {
            tracing::warn!(reason = %refusal, call = %path, remote = remote.map(tracing::field::display), "refused a peer");
            let role = caller.as_ref().map(|caller| caller.role.word().to_owned()).unwrap_or_default();
            let name = caller.map(|caller| caller.name).unwrap_or_default();
            access.audit.refused(&Who { name, role, remote }, &path, &refusal).await;
            return tonic::Status::from(refusal).into_http();
        }
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
    /// The operator of a certificate, if it still counts, and what ends their streams.
    async fn operator(&self, leaf: Option<&[u8]>) -> Result<(Caller, CancellationToken), Refused> {
        let Shown { peer, issued } = shown(leaf, "an operator's", "a profile made by `ctl operator add`")?;
        let name = match peer {
            Peer::Operator(OperatorName(name)) => name,
            Peer::Agent(agent) => {
                return Err(not_allowed(format!(
                    "this call is for operators; the certificate shown belongs to agent \"{}\": use an operator's \
                     profile, made by `ctl operator add`",
                    agent.id
                ))
                .into());
            }
        };
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
