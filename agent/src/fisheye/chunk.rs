//! Chunks on their way: the request of each, a connection for them, and what an answer means (`fisheye.md` 6). The bytes
//! are for the caller to send, on a thread of its own.

use std::{fmt::Write as _, sync::Arc, time::Duration};

use percent_encoding::utf8_percent_encode;
use tokio::{net::TcpStream, time::timeout};
use tracing::Span;
use uuid::Uuid;
use zeroize::Zeroizing;

use super::{
    call::Call,
    client::{Client, failed},
    envelope,
    error::{Error, ErrorKind},
    session::Token,
    types::ChunkAck,
    wire::{Line, WireError},
};
use crate::http::{self as outgoing, Answer};

/// Which chunk of which volume.
#[derive(Clone, Copy, Debug)]
pub struct ChunkAddress<'a> {
    pub zbs_volume_id: &'a str,
    pub image_uuid: &'a str,
    pub chunk_num: u64,
}

/// What goes before a chunk's bytes, and after them.
pub struct ChunkRequest {
    /// Request line, headers and the beginning of the form. Holds the session's token.
    pub head: Zeroizing<Vec<u8>>,
    /// The end of the form.
    pub tail: Vec<u8>,
    token: Token,
}

/// The token that a chunk was refused with.
pub struct Stale(Token);

/// What became of one sending.
pub enum ChunkOutcome {
    /// The server has the chunk.
    Acknowledged(ChunkAck),
    /// The session is over: the chunk can be sent again with another one.
    LoggedOut(Stale),
    /// It failed.
    Failed(Error),
}

impl Client {
    /// F5, first: a connection to the endpoint in use, or to the next one as long as none takes it.
    pub async fn chunk_line(&self) -> Result<Line, Error> {
        let mut reasons = Vec::new();
        for _ in 0..self.endpoints().len() {
            let (index, endpoint) = self.current();
            match self.connect(&endpoint).await {
                Ok(line) => return Ok(line),
                Err(reason) => {
                    reasons.push(format!("{endpoint}: {reason}"));
                    self.go_on_from(index);
                }
            }
        }
        Err(self.error(Call::UPLOAD_CHUNK, ErrorKind::Unreachable(reasons)))
    }

    async fn connect(&self, endpoint: &str) -> Result<Line, String> {
        let limit = Duration::from_millis(self.settings.connect_timeout_ms);
        let tcp = match timeout(limit, TcpStream::connect((endpoint, self.settings.port))).await {
            Ok(connected) => connected.and_then(TcpStream::into_std).map_err(|error| error.to_string())?,
            Err(_) => return Err(format!("no connection within {:.1} s", limit.as_secs_f64())),
        };
        let tls = if self.settings.scheme == "https" {
            let name = endpoint.to_owned().try_into().map_err(|_| "no valid address".to_owned())?;
            Some((self.chunk_tls(), name))
        } else {
            None
        };
        Ok(Line { tcp, endpoint: endpoint.to_owned(), tls })
    }

    /// F5: the request for `len` bytes of a chunk, to be sent to `endpoint`. Logs in when there is no session, or only the stale one.
    pub async fn chunk_request(
        &self,
        endpoint: &str,
        at: ChunkAddress<'_>,
        (len, file_name): (u64, &str),
        stale: Option<&Stale>,
    ) -> Result<ChunkRequest, Error> {
        if let Some(error) = self.not_sent(Call::UPLOAD_CHUNK) {
            return Err(error);
        }
        let token = self.token(stale.map(|stale| &stale.0)).await?;
        let boundary = format!("gantry-{}", Uuid::now_v7().simple());
        let file_name = quoted(file_name);
        let form = format!(
            "--{boundary}\r\nContent-Disposition: form-data; name=\"file\"; filename=\"{file_name}\"\r\n\
             Content-Type: application/octet-stream\r\n\r\n"
        );
        let tail = format!("\r\n--{boundary}--\r\n");
        let length = (form.len() as u64).saturating_add(len).saturating_add(tail.len() as u64);
        let (text, host) = (token.text.expose(), self.host_of(endpoint));
        if !text.bytes().all(|byte| (0x20..0x7f).contains(&byte)) {
            let kind = ErrorKind::Shape("the token cannot be sent in a header".to_owned());
            return Err(self.error(Call::UPLOAD_CHUNK, kind));
        }
        let mut head = Zeroizing::new(String::with_capacity(1024 + 2 * text.len()));
        // Writing to a string cannot fail.
        let _ = write!(
            head,
            "POST {}?zbs_volume_id={}&image_uuid={}&chunk_num={} HTTP/1.1\r\nhost: {host}\r\naccept: */*\r\n\
             x-smartx-token: {text}\r\ngrpc-metadata-token: {text}\r\n\
             content-type: multipart/form-data; boundary={boundary}\r\ncontent-length: {length}\r\n\r\n{form}",
            Call::UPLOAD_CHUNK.route,
            utf8_percent_encode(at.zbs_volume_id, outgoing::UNRESERVED),
            utf8_percent_encode(at.image_uuid, outgoing::UNRESERVED),
            at.chunk_num,
        );
        Ok(ChunkRequest { head: Zeroizing::new(head.as_bytes().to_vec()), tail: tail.into_bytes(), token })
    }

    /// The span of one sending, for [`Client::chunk_outcome`].
    pub fn chunk_span(&self, endpoint: &str, attempt: usize) -> Span {
        self.call_span(Call::UPLOAD_CHUNK, endpoint, attempt)
    }

    /// What a sending has come to. `took`: from the first byte to the answer.
    pub fn chunk_outcome(
        &self,
        at: ChunkAddress<'_>,
        request: ChunkRequest,
        answer: Result<Answer, WireError>,
        (span, took): (&Span, Duration),
    ) -> ChunkOutcome {
        let told = match &answer {
            Ok(answer) => Ok(answer),
            Err(error) => Err(error as &(dyn std::error::Error + 'static)),
        };
        span.in_scope(|| self.tell_chunk(span, at.chunk_num, told, took));
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) => return ChunkOutcome::Failed(self.chunk_error(self.kind_of(error))),
        };
        self.note_date(&answer.headers);
        if answer.status == http::StatusCode::UNAUTHORIZED {
            return ChunkOutcome::LoggedOut(Stale(request.token));
        }
        let opened = envelope::open(&answer, false, &self.redactor).map(|data| ChunkAck::read(&data));
        // Acknowledged only by `EOK` and the same number (`fisheye.md` 6.2).
        match opened {
            Ok(ack) if ack.chunk_num == Some(at.chunk_num) => ChunkOutcome::Acknowledged(ack),
            Ok(ack) => {
                let why = format!("it acknowledges chunk {:?} instead of {}", ack.chunk_num, at.chunk_num);
                ChunkOutcome::Failed(self.chunk_error(ErrorKind::Shape(why)))
            }
            Err(kind) => ChunkOutcome::Failed(self.chunk_error(kind)),
        }
    }

    /// A chunk that failed for this reason.
    pub fn chunk_error(&self, kind: ErrorKind) -> Error {
        self.error(Call::UPLOAD_CHUNK, kind)
    }

    fn kind_of(&self, error: WireError) -> ErrorKind {
        if let Some(refused) = self.take_refusal() {
            return ErrorKind::Certificate(refused);
        }
        match error {
            WireError::Stalled(after) => ErrorKind::Stalled(after),
            WireError::TooLarge(most) => ErrorKind::TooLarge(most),
            WireError::Shape(why) => ErrorKind::Shape(why),
            error => ErrorKind::Broken(Box::new(error)),
        }
    }

    /// One debug line for each sending (R70), and the span's outcome.
    fn tell_chunk(
        &self,
        span: &Span,
        chunk_num: u64,
        outcome: Result<&Answer, &(dyn std::error::Error + 'static)>,
        took: Duration,
    ) {
        let ms = took.as_millis() as u64;
        match outcome {
            Ok(answer) => {
                let ec = if answer.body.len() > outgoing::SUMMARY_BYTES {
                    String::new()
                } else {
                    envelope::ec(&answer.body)
                };
                span.record("http.response.status_code", answer.status.as_u16());
                span.record("ec", ec.as_str());
                if !answer.status.is_success() {
                    failed(span, "refused");
                }
                if tracing::enabled!(tracing::Level::DEBUG) {
                    let got = outgoing::answer_summary(&self.redactor, &answer.body);
                    let (status, bytes) = (answer.status.as_u16(), answer.body.len());
                    tracing::debug!(chunk_num, status, ec, ms, bytes, got, "fisheye chunk");
                }
            }
            Err(error) => {
                failed(span, "broken");
                let error = gantry_proto::error::causes(error).join(": ");
                tracing::debug!(chunk_num, ms, error, "fisheye chunk failed");
            }
        }
    }
}

/// A file name within a form's header, as browsers write it.
fn quoted(name: &str) -> String {
    let odd = |c: char| c.is_control() || c == '"' || c == '\\';
    name.chars().map(|c| if odd(c) { format!("%{:02X}", u32::from(c)) } else { c.to_string() }).collect()
}

/// TLS for chunks: shared by all connections. AES-128 is offered before AES-256: fewer rounds for each byte of a whole
/// ISO, and no less out of reach.
pub(super) fn tls(pins: &Arc<crate::tls::Pins>) -> Arc<rustls::ClientConfig> {
    Arc::new(crate::tls::bulk_config(pins))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_name_stays_within_its_quotes() {
        assert_eq!(quoted("cloudtower-v4.iso"), "cloudtower-v4.iso");
        assert_eq!(quoted("a\"b\\c\r\nd"), "a%22b%5Cc%0D%0Ad");
    }
}
