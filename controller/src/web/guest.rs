//! Who is at the browser: a certificate, if the connection has shown one, else a session. What they may do is decided
//! where it is decided for every call.

use std::{net::SocketAddr, time::Instant};

use axum::{
    body::{Body, to_bytes},
    http::{HeaderMap, Uri, header, request::Parts},
};
use tokio_util::sync::CancellationToken;
use tonic::Request;
use zeroize::Zeroizing;

use super::{Web, answer::Refused, session::Session};
use crate::{
    access::{Admitted, Caller, Connected, Issued, Shows},
    server::Known,
};

/// The cookie of a session. Its prefix binds it to this host, to TLS and to all paths.
pub(super) const COOKIE: &str = "__Host-gantry";
/// The largest body that is no workbook, bytes.
pub(super) const SMALL_BODY: usize = 16 << 10;
/// A header that no other site's page can send without asking first, and nobody answers such a question here.
const OWN_HEADER: &str = "x-gantry-web";

/// Somebody who may make a call.
pub(super) struct Guest {
    /// Who.
    pub(super) caller: Caller,
    issued: Issued,
    connected: Option<Connected>,
    lease: CancellationToken,
    session: Option<Session>,
}

impl Web {
    /// Lets a call through that stands for a call of the contract.
    pub(super) async fn admit(&self, parts: &Parts, path: &str) -> Result<Guest, Refused> {
        let connected = parts.extensions.get::<Connected>().cloned();
        let leaf = connected.as_ref().and_then(Connected::peer_certs);
        let leaf = leaf.as_ref().and_then(|chain| chain.first()).map(|leaf| leaf.to_vec());
        let session = match &leaf {
            Some(_) => None,
            None => cookie(&parts.headers).and_then(|cookie| self.operators.sessions.find(&cookie)),
        };
        let shows = match &session {
            Some(Session { held, .. }) => Shows::Session { operator: &held.operator, issued: held.issued },
            None => Shows::Certificate(leaf.as_deref()),
        };
        let admitted = self.access.admit(path, shows, remote(parts)).await;
        if leaf.is_none() && session.is_none() {
            return Err(Refused::nobody());
        }
        let Admitted { caller, issued, lease } = admitted?;
        if let Some(known) = parts.extensions.get::<Known>() {
            known.set();
        }
        Ok(Guest { caller, issued, connected, lease, session })
    }

    /// As [`Web::admit`], for a call that changes something or carries much.
    pub(super) async fn admit_act(&self, parts: &Parts, path: &str) -> Result<Guest, Refused> {
        from_here(&parts.headers, &parts.uri)?;
        self.admit(parts, path).await
    }
}

impl Guest {
    /// A message as it comes to the service by gRPC.
    pub(super) fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.extensions_mut().insert(self.caller.clone());
        request.extensions_mut().insert(self.issued);
        if let Some(connected) = &self.connected {
            request.extensions_mut().insert(connected.clone());
        }
        request
    }

    /// Seconds until the session ends by itself; `None` with a certificate.
    pub(super) fn left_s(&self) -> Option<u64> {
        self.session.as_ref().map(|session| session.until.saturating_duration_since(Instant::now()).as_secs())
    }

    /// Ends when whoever follows may do so no longer.
    pub(super) async fn shut_out(self) {
        let Some(Session { until, ended, .. }) = self.session else { return self.lease.cancelled().await };
        tokio::select! {
            () = self.lease.cancelled() => {}
            () = ended.cancelled() => {}
            () = tokio::time::sleep_until(until.into()) => {}
        }
    }
}

/// Where a call comes from.
pub(super) fn remote(parts: &Parts) -> Option<SocketAddr> {
    parts.extensions.get::<Connected>().and_then(|connected| connected.get_ref().remote_addr())
}

/// The session's cookie.
pub(super) fn cookie(headers: &HeaderMap) -> Option<Zeroizing<String>> {
    let all = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut pairs = all.flat_map(|value| value.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(name, _)| *name == COOKIE).map(|(_, value)| Zeroizing::new(value.to_owned()))
}

/// Refuses what another site's page may have sent.
pub(super) fn from_here(headers: &HeaderMap, uri: &Uri) -> Result<(), Refused> {
    let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
    // HTTP/2 names the host in the address, HTTP/1.1 in a header.
    let host = uri.authority().map(|host| host.as_str()).or_else(|| text("host"));
    let own = |origin: &str| host.is_some_and(|host| origin.strip_prefix("https://") == Some(host));
    let origin = text("origin").is_none_or(own);
    let fetched = text("sec-fetch-site").is_none_or(|site| site == "same-origin");
    if text(OWN_HEADER) == Some("1") && origin && fetched { Ok(()) } else { Err(Refused::foreign()) }
}

/// The whole body, within a limit.
pub(super) async fn body(body: Body, limit: usize) -> Result<Vec<u8>, Refused> {
    Ok(to_bytes(body, limit).await.map_err(|_| Refused::too_large(limit))?.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    #[test]
    fn only_these_pages_may_act() {
        let uri = Uri::from_static("/web/api/submit");
        let check = |pairs: &[(&'static str, &str)]| from_here(&headers(pairs), &uri).is_ok();
        let own = ("x-gantry-web", "1");
        assert!(check(&[("host", "c:7443"), own]));
        assert!(check(&[("host", "c:7443"), own, ("origin", "https://c:7443"), ("sec-fetch-site", "same-origin")]));
        for foreign in [
            &[("host", "c:7443")][..],
            &[("host", "c:7443"), own, ("origin", "https://evil.example")],
            &[("host", "c:7443"), own, ("origin", "http://c:7443")],
            &[("host", "c:7443"), own, ("origin", "null")],
            &[("host", "c:7443"), own, ("sec-fetch-site", "same-site")],
            &[own, ("origin", "https://c:7443")],
        ] {
            assert!(!check(foreign), "{foreign:?}");
        }
        let h2 = Uri::from_static("https://c:7443/web/api/submit");
        assert!(from_here(&headers(&[own, ("origin", "https://c:7443")]), &h2).is_ok());
    }

    #[test]
    fn the_cookie_is_found_among_others() {
        let found = |value| cookie(&headers(&[("cookie", value)])).map(|text| text.to_string());
        assert_eq!(found("a=b; __Host-gantry=xyz; c=d").as_deref(), Some("xyz"));
        assert_eq!(found("gantry=xyz; x__Host-gantry=1"), None);
    }
}
