//! One connection that carries chunks: HTTP/1.1 over TLS or plain TCP, blocking, for a thread of its own. Pieces go from
//! the caller's buffer into the connection; nothing holds a whole chunk (`performance.md` 4). Knows no endpoint of the
//! interface.

use std::{
    io::{self, ErrorKind as Io, Read as _, Write as _},
    net::TcpStream,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use rustix::net::{RecvFlags, recv, sockopt::set_tcp_user_timeout};
use rustls::{ClientConfig, ClientConnection, pki_types::ServerName};
use tokio_util::sync::CancellationToken;

use crate::http::Answer;

/// Header lines of an answer, at most (N14).
const MOST_HEADERS: usize = 100;
/// Bytes of an answer's head, or of the line before a piece of its body, at most.
const MOST_HEAD: usize = 64 << 10;
/// Bytes read at once of an answer.
const READ: usize = 16 << 10;
/// How soon a blocked thread looks whether it is to stop.
const TICK: Duration = Duration::from_millis(100);
/// What a server that broke off in the middle may have said shall be there within so long.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// Where a connection leads.
pub struct Line {
    /// The open connection, blocking.
    pub tcp: TcpStream,
    /// The address that was reached.
    pub endpoint: String,
    /// How to shake hands; `None`: plain.
    pub tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
}

/// How long a blocked connection is borne. Lives for one sending.
#[derive(Debug)]
pub struct Patience {
    stop: CancellationToken,
    /// No more than `floor` bytes a second for so long is a stall.
    limit: Duration,
    /// Bytes a second.
    floor: u64,
    since: Instant,
    moved: u64,
}

/// Why an exchange did not come about.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// The thread is to stop.
    #[error("stopped")]
    Stopped,
    /// The connection was closed before anything was sent: another one may take it.
    #[error("the connection was closed while it was idle")]
    Stale,
    /// Nothing moved, or next to nothing.
    #[error("no byte was accepted for {:.1} s", .0.as_secs_f64())]
    Stalled(Duration),
    /// TLS says no.
    #[error("no TLS")]
    Tls(#[source] rustls::Error),
    /// The connection broke.
    #[error("the connection broke")]
    Broken(#[source] io::Error),
    /// More bytes than allowed.
    #[error("the answer is larger than {0} bytes")]
    TooLarge(usize),
    /// Not HTTP.
    #[error("the answer is not HTTP: {0}")]
    Shape(String),
}

/// The connection.
pub struct Wire {
    tcp: TcpStream,
    tls: Option<Box<ClientConnection>>,
    endpoint: String,
    /// What has come and was not used yet.
    input: Vec<u8>,
    ended: bool,
}

impl Patience {
    /// Gives up after `limit` without `floor` bytes a second, or once `stop` is cancelled.
    pub fn new(stop: CancellationToken, limit: Duration, floor: u64) -> Self {
        Self { stop, limit, floor, since: Instant::now(), moved: 0 }
    }

    /// From now on another limit counts, from the beginning.
    pub fn anew(&mut self, limit: Duration) {
        self.limit = limit;
        self.touch();
    }

    /// Whoever waited did so by his own will: it starts over.
    pub fn touch(&mut self) {
        (self.since, self.moved) = (Instant::now(), 0);
    }

    fn moved(&mut self, bytes: usize) {
        self.moved = self.moved.saturating_add(bytes as u64);
        let fair = self.limit.as_secs_f64() * self.floor as f64;
        if self.moved as f64 > fair {
            self.touch();
        }
    }

    fn check(&self) -> Result<(), WireError> {
        if self.stop.is_cancelled() {
            return Err(WireError::Stopped);
        }
        if self.since.elapsed() >= self.limit { Err(WireError::Stalled(self.limit)) } else { Ok(()) }
    }

    /// How long a blocking call may take before it has to look at this again.
    fn tick(&self) -> Duration {
        TICK.min(self.limit / 4).max(Duration::from_millis(1))
    }
}

impl Wire {
    /// Takes a connection over and shakes hands. The kernel gives it up when sent bytes stay unacknowledged for
    /// `unacknowledged`.
    pub fn open(line: Line, unacknowledged: Duration, patience: &mut Patience) -> Result<Self, WireError> {
        let Line { tcp, endpoint, tls } = line;
        let prepare = || -> io::Result<()> {
            tcp.set_nonblocking(false)?;
            tcp.set_nodelay(true)?;
            tcp.set_write_timeout(Some(patience.tick()))?;
            tcp.set_read_timeout(Some(patience.tick()))?;
            let ms = u32::try_from(unacknowledged.as_millis()).unwrap_or(u32::MAX);
            Ok(set_tcp_user_timeout(&tcp, ms)?)
        };
        prepare().map_err(WireError::Broken)?;
        let tls = match tls {
            Some((config, name)) => Some(Box::new(ClientConnection::new(config, name).map_err(WireError::Tls)?)),
            None => None,
        };
        let mut wire = Self { tcp, tls, endpoint, input: Vec::new(), ended: false };
        wire.shake_hands(patience)?;
        Ok(wire)
    }

    /// The address at the other end.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Whether something has come, or the connection has ended, while it should be silent. Does not wait.
    pub fn has_news(&mut self) -> bool {
        if !self.is_readable() {
            return false;
        }
        // Of TLS there may be something that is no answer, like a session ticket.
        if self.tls.is_some() { self.take_in().is_err() || self.ended || !self.input.is_empty() } else { true }
    }

    /// Sends all of it.
    pub fn send(&mut self, mut bytes: &[u8], patience: &mut Patience) -> Result<(), WireError> {
        while !bytes.is_empty() {
            match &mut self.tls {
                None => match self.tcp.write(bytes) {
                    Ok(0) => return Err(WireError::Broken(Io::WriteZero.into())),
                    Ok(count) => {
                        patience.moved(count);
                        bytes = &bytes[count.min(bytes.len())..];
                    }
                    Err(error) => wait(error, patience)?,
                },
                Some(tls) => {
                    let count = tls.writer().write(bytes).map_err(WireError::Broken)?;
                    bytes = &bytes[count.min(bytes.len())..];
                    self.flush(patience)?;
                }
            }
        }
        Ok(())
    }

    /// Waits for the answer and reads it to its end, at most `most` bytes of body. Whether the connection can be used
    /// again.
    pub fn answer(&mut self, most: usize, patience: &mut Patience) -> Result<(Answer, bool), WireError> {
        loop {
            let head = self.head(patience)?;
            if head.status.is_informational() {
                continue;
            }
            let (body, framed) = self.body(&head, most, patience)?;
            let keep = framed && head.keep && !self.ended && self.input.is_empty();
            return Ok((Answer { status: head.status, headers: head.headers, body }, keep));
        }
    }

    /// What the server said before it broke off, if it was a whole answer.
    pub fn last_words(&mut self, most: usize, stop: &CancellationToken) -> Option<Answer> {
        let mut patience = Patience::new(stop.clone(), LAST_WORDS, 0);
        self.answer(most, &mut patience).ok().map(|(answer, _)| answer)
    }

    fn shake_hands(&mut self, patience: &mut Patience) -> Result<(), WireError> {
        while self.tls.as_ref().is_some_and(|tls| tls.is_handshaking()) {
            self.flush(patience)?;
            let tls = self.tls.as_mut().filter(|tls| tls.is_handshaking());
            let Some(tls) = tls else { break };
            match tls.read_tls(&mut self.tcp) {
                Ok(0) => return Err(WireError::Broken(Io::UnexpectedEof.into())),
                Ok(count) => {
                    patience.moved(count);
                    if let Err(error) = tls.process_new_packets() {
                        // The other side is told why, as far as it still listens.
                        let _ = tls.write_tls(&mut self.tcp);
                        return Err(WireError::Tls(error));
                    }
                }
                Err(error) => wait(error, patience)?,
            }
        }
        self.flush(patience)
    }

    fn flush(&mut self, patience: &mut Patience) -> Result<(), WireError> {
        let Some(tls) = &mut self.tls else { return Ok(()) };
        while tls.wants_write() {
            match tls.write_tls(&mut self.tcp) {
                Ok(0) => return Err(WireError::Broken(Io::WriteZero.into())),
                Ok(count) => patience.moved(count),
                Err(error) => wait(error, patience)?,
            }
        }
        Ok(())
    }

    fn is_readable(&self) -> bool {
        let mut one = [0; 1];
        let outcome = recv(&self.tcp, &mut one, RecvFlags::PEEK | RecvFlags::DONTWAIT);
        !matches!(outcome, Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR))
    }

    /// Takes in what has come; how many bytes there were for us. Waits for a tick at most.
    fn take_in(&mut self) -> Result<usize, io::Error> {
        let before = self.input.len();
        let mut piece = [0; READ];
        let Some(tls) = &mut self.tls else {
            let count = self.tcp.read(&mut piece)?;
            self.ended = count == 0;
            self.input.extend_from_slice(&piece[..count]);
            return Ok(count);
        };
        let count = tls.read_tls(&mut self.tcp)?;
        let state = tls.process_new_packets().map_err(|error| io::Error::new(Io::InvalidData, error))?;
        let closed = state.peer_has_closed() || count == 0;
        let mut left = state.plaintext_bytes_to_read();
        while left > 0 {
            let count = tls.reader().read(&mut piece)?;
            if count == 0 {
                break;
            }
            self.input.extend_from_slice(&piece[..count]);
            left = left.saturating_sub(count);
        }
        self.ended = closed;
        Ok(self.input.len() - before)
    }

    /// More of the answer; an error when there is none to come.
    fn more(&mut self, patience: &mut Patience) -> Result<(), WireError> {
        if self.ended {
            return Err(WireError::Broken(Io::UnexpectedEof.into()));
        }
        patience.check()?;
        match self.take_in() {
            // Each byte of an answer counts, however slow: its size is bounded, and so is the patience with nothing.
            Ok(count) if count > 0 => patience.touch(),
            Ok(_) => {}
            Err(error) => wait(error, patience)?,
        }
        Ok(())
    }

    fn head(&mut self, patience: &mut Patience) -> Result<Head, WireError> {
        loop {
            if let Some((head, length)) = parse(&self.input)? {
                self.input.drain(..length);
                return Ok(head);
            }
            if self.input.len() > MOST_HEAD {
                return Err(WireError::Shape(format!("its head has more than {MOST_HEAD} bytes")));
            }
            self.more(patience)?;
        }
    }

    /// The body, and whether its end was told other than by the connection's.
    fn body(&mut self, head: &Head, most: usize, patience: &mut Patience) -> Result<(Bytes, bool), WireError> {
        if matches!(head.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED) {
            return Ok((Bytes::new(), true));
        }
        match head.length {
            Length::Bytes(length) if length > most as u64 => Err(WireError::TooLarge(most)),
            Length::Bytes(length) => {
                // At most `most`, which is a usize.
                let length = usize::try_from(length).unwrap_or(most);
                Ok((self.take(length, patience)?, true))
            }
            Length::Chunked => Ok((self.chunked(most, patience)?, true)),
            Length::ToTheEnd => {
                while !self.ended {
                    if self.input.len() > most {
                        return Err(WireError::TooLarge(most));
                    }
                    self.more(patience)?;
                }
                if self.input.len() > most {
                    return Err(WireError::TooLarge(most));
                }
                Ok((std::mem::take(&mut self.input).into(), false))
            }
        }
    }

    fn take(&mut self, length: usize, patience: &mut Patience) -> Result<Bytes, WireError> {
        while self.input.len() < length {
            self.more(patience)?;
        }
        let rest = self.input.split_off(length);
        Ok(std::mem::replace(&mut self.input, rest).into())
    }

    fn chunked(&mut self, most: usize, patience: &mut Patience) -> Result<Bytes, WireError> {
        let odd = || WireError::Shape("its pieces have no valid sizes".to_owned());
        let mut body = Vec::new();
        loop {
            let (at, size) = loop {
                match httparse::parse_chunk_size(&self.input) {
                    Ok(httparse::Status::Complete(found)) => break found,
                    Ok(httparse::Status::Partial) if self.input.len() <= MOST_HEAD => self.more(patience)?,
                    _ => return Err(odd()),
                }
            };
            self.input.drain(..at);
            if size > (most - body.len().min(most)) as u64 {
                return Err(WireError::TooLarge(most));
            }
            if size == 0 {
                self.trailers(patience)?;
                return Ok(body.into());
            }
            let size = usize::try_from(size).map_err(|_| odd())?;
            body.extend_from_slice(&self.take(size, patience)?);
            if self.take(2, patience)?.as_ref() != b"\r\n" {
                return Err(odd());
            }
        }
    }

    /// Lines after a body in pieces, up to the empty one.
    fn trailers(&mut self, patience: &mut Patience) -> Result<(), WireError> {
        loop {
            while let Some(end) = self.input.windows(2).position(|pair| pair == b"\r\n") {
                self.input.drain(..end + 2);
                if end == 0 {
                    return Ok(());
                }
            }
            if self.input.len() > MOST_HEAD {
                return Err(WireError::Shape("its trailers have no end".to_owned()));
            }
            self.more(patience)?;
        }
    }
}

struct Head {
    status: StatusCode,
    headers: HeaderMap,
    length: Length,
    keep: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Length {
    Bytes(u64),
    Chunked,
    ToTheEnd,
}

/// The head of an answer and its length; `None`: it is not there in full yet.
fn parse(input: &[u8]) -> Result<Option<(Head, usize)>, WireError> {
    let shape = |error: &dyn std::fmt::Display| WireError::Shape(error.to_string());
    let mut lines = [httparse::EMPTY_HEADER; MOST_HEADERS];
    let mut response = httparse::Response::new(&mut lines);
    let httparse::Status::Complete(at) = response.parse(input).map_err(|error| shape(&error))? else { return Ok(None) };
    let status = StatusCode::from_u16(response.code.unwrap_or_default()).map_err(|error| shape(&error))?;
    let mut headers = HeaderMap::new();
    for line in response.headers.iter() {
        let name = HeaderName::from_bytes(line.name.as_bytes()).map_err(|error| shape(&error))?;
        let value = HeaderValue::from_bytes(line.value).map_err(|error| shape(&error))?;
        headers.append(name, value);
    }
    let says = |name: HeaderName, word: &str| {
        let lists = headers.get_all(name);
        lists
            .iter()
            .filter_map(|list| list.to_str().ok())
            .any(|list| list.split(',').any(|one| one.trim().eq_ignore_ascii_case(word)))
    };
    let mut lengths = headers.get_all(header::CONTENT_LENGTH).iter().map(|length| length.to_str().ok()?.parse().ok());
    let length = match (says(header::TRANSFER_ENCODING, "chunked"), lengths.next()) {
        (true, _) => Length::Chunked,
        (false, Some(Some(first))) if lengths.all(|other| other == Some(first)) => Length::Bytes(first),
        (false, Some(_)) => return Err(shape(&"its length is not one number")),
        (false, None) => Length::ToTheEnd,
    };
    let keep = response.version == Some(1) && !says(header::CONNECTION, "close");
    Ok(Some((Head { status, headers, length, keep }, at)))
}

/// What a failed read or write means: only "not yet" is borne, as long as the patience lasts.
fn wait(error: io::Error, patience: &Patience) -> Result<(), WireError> {
    match error.kind() {
        Io::WouldBlock | Io::TimedOut | Io::Interrupted => patience.check(),
        _ => Err(WireError::Broken(error)),
    }
}
