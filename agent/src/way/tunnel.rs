//! One CONNECT: what is asked of a proxy and what its answer means. The answer is somebody else's text: bounded, and
//! shown only where it is plain.

use std::pin::pin;

use futures_util::future::{Either, select};
use http::{
    HeaderMap, HeaderValue, Method, Request, Response, StatusCode,
    header::{HOST, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION},
};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

use super::{Proxy, WayError};

/// Header lines of an answer, at most (N14).
const MOST_HEADERS: usize = 100;
/// What is shown of a header that explains an answer, characters.
const SHOWN: usize = 80;

/// Asks for a tunnel to `target` (`host:port`); gives the connection back once it leads there. The caller limits the
/// time.
pub(super) async fn open<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    proxy: &Proxy,
    target: &str,
    authorization: Option<HeaderValue>,
    answer_bytes: usize,
) -> Result<S, WayError> {
    let broken = |error| broken(error, proxy, answer_bytes);
    let with_credentials = authorization.is_some();
    let request = request(target, authorization).map_err(|_| WayError::Target { target: target.to_owned() })?;
    let (mut sender, connection) = http1::Builder::new()
        .max_headers(MOST_HEADERS)
        .max_buf_size(answer_bytes)
        .max_header_size(answer_bytes)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(broken)?;
    // The connection is driven here and by nobody else: it ends when it has become a tunnel, or when it broke.
    let driven = pin!(connection.without_shutdown());
    let asked = pin!(sender.send_request(request));
    let (response, parts) = match select(asked, driven).await {
        Either::Left((response, driven)) => {
            let response = response.map_err(broken)?;
            if !response.status().is_success() {
                return Err(refusal(&response, proxy, target, with_credentials));
            }
            (response, driven.await.map_err(broken)?)
        }
        Either::Right((ended, asked)) => {
            // Whatever became of the connection, the answer says it better when there is one.
            let response = asked.await.map_err(broken)?;
            if !response.status().is_success() {
                return Err(refusal(&response, proxy, target, with_credentials));
            }
            (response, ended.map_err(broken)?)
        }
    };
    drop(response);
    // In TLS the client speaks first: what is here already does not come from the controller.
    if !parts.read_buf.is_empty() {
        return Err(WayError::NotAProxy { proxy: proxy.to_string(), source: None });
    }
    Ok(parts.io.into_inner())
}

fn request(target: &str, authorization: Option<HeaderValue>) -> Result<Request<String>, http::Error> {
    let mut request = Request::builder().method(Method::CONNECT).uri(target).header(HOST, target);
    if let Some(value) = authorization {
        request = request.header(PROXY_AUTHORIZATION, value);
    }
    request.body(String::new())
}

fn broken(error: hyper::Error, proxy: &Proxy, limit: usize) -> WayError {
    let proxy = proxy.to_string();
    if error.is_parse_too_large() {
        WayError::TooLong { proxy, limit }
    } else if error.is_parse() {
        WayError::NotAProxy { proxy, source: Some(error) }
    } else {
        WayError::Closed { proxy, source: error }
    }
}

fn refusal(response: &Response<Incoming>, proxy: &Proxy, target: &str, with_credentials: bool) -> WayError {
    let (proxy, target, status) = (proxy.to_string(), target.to_owned(), response.status());
    match status {
        StatusCode::PROXY_AUTHENTICATION_REQUIRED if !takes_basic(response.headers()) => WayError::Scheme { proxy },
        StatusCode::PROXY_AUTHENTICATION_REQUIRED => WayError::Credentials { proxy, given: with_credentials },
        StatusCode::FORBIDDEN => WayError::Forbidden { proxy, target, told: told(response) },
        StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT => {
            WayError::Unreachable { proxy, target, told: told(response) }
        }
        _ => WayError::Status { proxy, target, told: told(response) },
    }
}

/// Whether one of the ways to authenticate is Basic; a proxy that names none is taken to mean it.
fn takes_basic(headers: &HeaderMap) -> bool {
    let mut ways = headers.get_all(PROXY_AUTHENTICATE).iter().map(|value| value.as_bytes()).peekable();
    let is_basic = |way: &[u8]| way.to_ascii_lowercase().windows(5).any(|word| word == b"basic");
    ways.peek().is_none() || ways.any(is_basic)
}

/// The status, and squid's own word for it where there is one.
fn told(response: &Response<Incoming>) -> String {
    let word = response.headers().get("x-squid-error").and_then(|value| value.to_str().ok());
    let word: Option<String> = word.map(|word| word.chars().filter(|c| !c.is_control()).take(SHOWN).collect());
    let status = response.status();
    word.map_or_else(|| status.to_string(), |word| format!("{status}, {word}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn which_ways_to_authenticate_are_ours() {
        let takes = |ways: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for way in ways {
                headers.append(PROXY_AUTHENTICATE, HeaderValue::from_static(way));
            }
            takes_basic(&headers)
        };
        assert!(takes(&[]) && takes(&["Negotiate", "BASIC realm=\"x\""]) && takes(&["NTLM, Basic realm=\"x\""]));
        assert!(!takes(&["Negotiate", "NTLM"]));
    }
}
