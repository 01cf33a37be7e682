//! The HTTP client that Fisheye's and CloudTower's clients are made of: HTTP/1.1, no proxy, no redirects, bounded
//! answers. Knows no endpoint and no secret.

use std::{sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use gantry_proto::Redactor;
use http::{HeaderMap, StatusCode};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC};
use serde_json::Value;

use crate::tls::{self, Pins};

/// Header lines of an answer, at most (N14).
const MOST_HEADERS: usize = 100;

/// What may stand in a path or a query as it is.
pub const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// The longest session token that is taken, bytes: the redactor has to know it in all its forms.
pub const TOKEN_MAX: usize = 4_096;
/// Longer answers are not summed up, bytes.
pub const SUMMARY_BYTES: usize = 64 << 10;
/// The longest summary of a body in the debug log, characters.
const SUMMARY_CHARS: usize = 600;

/// An answer, read to its end.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

/// An answer that could not be read to its end.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// More bytes than allowed.
    #[error("the answer is larger than {0} bytes")]
    TooLarge(usize),
    /// The connection broke, or the time was up.
    #[error("the answer broke off")]
    Broken(#[source] reqwest::Error),
}

/// How the connections are to be.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// TCP and TLS together.
    pub connect: Duration,
    /// The kernel gives a connection up whose sent bytes nobody takes for so long.
    pub unacknowledged: Option<Duration>,
}

/// A client that takes the certificates that `pins` take. Requests bring their own time-outs.
pub fn client(pins: &Arc<Pins>, limits: Limits) -> reqwest::Client {
    #[expect(
        clippy::expect_used,
        reason = "fails only for TLS settings of its own, and we bring ours; a test builds it"
    )]
    reqwest::Client::builder()
        .tls_backend_preconfigured(tls::client_config(pins))
        .http1_only()
        .http1_max_headers(MOST_HEADERS)
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(limits.connect)
        .tcp_user_timeout(limits.unacknowledged)
        .tcp_nodelay(true)
        .build()
        .expect("a client with a ready TLS configuration")
}

/// Reads the answer to its end, so that the connection can be used again, but no more than `most` bytes.
pub async fn read(mut response: reqwest::Response, most: usize) -> Result<Answer, ReadError> {
    let (status, headers) = (response.status(), std::mem::take(response.headers_mut()));
    let mut body = BytesMut::new();
    while let Some(piece) = response.chunk().await.map_err(ReadError::Broken)? {
        if body.len().saturating_add(piece.len()) > most {
            return Err(ReadError::TooLarge(most));
        }
        body.extend_from_slice(&piece);
    }
    Ok(Answer { status, headers, body: body.freeze() })
}

/// A body for the debug log (R70): redacted and shortened.
pub fn summary(redactor: &Redactor, mut value: Value) -> String {
    redactor.json(&mut value);
    value.to_string().chars().take(SUMMARY_CHARS).collect()
}

/// The same of an answer; of a long one or one that is not JSON only its length.
pub fn answer_summary(redactor: &Redactor, body: &[u8]) -> String {
    if body.len() > SUMMARY_BYTES {
        return format!("<{} bytes>", body.len());
    }
    let value = serde_json::from_slice(body);
    value.map_or_else(|_| format!("<{} bytes, not JSON>", body.len()), |value| summary(redactor, value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::CertificatePolicy;

    #[test]
    fn the_client_can_be_built() {
        let limits = Limits { connect: Duration::from_secs(1), unacknowledged: Some(Duration::from_secs(1)) };
        client(&Pins::new(CertificatePolicy::FirstSight, None), limits);
    }

    #[tokio::test]
    async fn an_endless_answer_is_cut_off() {
        let response: reqwest::Response = http::Response::new(vec![b'x'; 4096]).into();
        assert!(matches!(read(response, 100).await, Err(ReadError::TooLarge(100))));
        let response: reqwest::Response = http::Response::new(vec![b'x'; 100]).into();
        assert_eq!(read(response, 100).await.unwrap().body.len(), 100);
    }
}
