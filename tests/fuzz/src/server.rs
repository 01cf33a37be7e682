//! A server that gives the answers of an input, whatever it is asked, and lets the caller go on when there are no more.
//! Just enough HTTP/1.1 for our own clients.

use std::{collections::VecDeque, future::pending};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpListener,
};
use tokio_rustls::TlsAcceptor;

use super::input::parts;

/// The longest request.
const REQUEST_MAX: usize = 64 << 10;

/// Statuses; the first byte of an answer chooses.
const STATUSES: [u16; 16] = [200, 200, 201, 202, 204, 302, 400, 401, 403, 404, 409, 423, 429, 500, 502, 503];

/// One answer.
#[derive(Clone)]
struct Answer {
    status: u16,
    /// A header line of its own; only the date is outside text that a client reads.
    date: String,
    body: Vec<u8>,
}

/// What a server says: the answer to every login, when that is not what is looked at, and the others in their order. The
/// last one stands for all that follow.
pub(crate) struct Script {
    login: Option<(&'static str, Answer)>,
    answers: VecDeque<Answer>,
}

impl Script {
    /// The answers of an input. `login`: the path whose answer is always this.
    pub(crate) fn new(input: &[u8], login: Option<(&'static str, &str)>) -> Self {
        let answer = |body: &str| Answer { status: 200, date: String::new(), body: body.as_bytes().to_vec() };
        let login = login.map(|(path, body)| (path, answer(body)));
        Self { login, answers: parts(input).map(Answer::read).collect() }
    }

    fn next(&mut self, head: &str) -> Answer {
        let path = head.split(' ').nth(1).unwrap_or_default();
        if let Some((_, answer)) = self.login.as_ref().filter(|(login, _)| *login == path) {
            return answer.clone();
        }
        let answer = self.answers.front().cloned().unwrap_or(Answer { status: 500, date: String::new(), body: vec![] });
        if self.answers.len() > 1 {
            self.answers.pop_front();
        }
        answer
    }
}

impl Answer {
    /// Status, and body; before that a line `@date`, when there is one.
    fn read(part: &[u8]) -> Self {
        let (status, rest) = part.split_first().map_or((0, part), |(first, rest)| (usize::from(*first), rest));
        let (date, body) = match rest.strip_prefix(b"@") {
            Some(rest) => rest.split_at(rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len())),
            None => (&b""[..], rest),
        };
        let date = date.iter().map(|byte| char::from(*byte)).filter(|c| c.is_ascii_graphic() || *c == ' ').collect();
        Self { status: STATUSES[status % STATUSES.len()], date, body: body.to_vec() }
    }

    fn wire(&self) -> Vec<u8> {
        // A client waits for no body behind these.
        let body = if self.status == 204 { &[][..] } else { &self.body };
        let date = if self.date.is_empty() { String::new() } else { format!("date: {}\r\n", self.date) };
        let head = format!(
            "HTTP/1.1 {} x\r\ncontent-type: application/json\r\nconnection: close\r\n{date}content-length: {}\r\n\r\n",
            self.status,
            body.len()
        );
        [head.as_bytes(), body].concat()
    }
}

/// Plays the script while `call` is at work: one request a connection, one connection at a time.
pub(crate) async fn during<T>(
    listener: &TcpListener,
    tls: Option<&TlsAcceptor>,
    mut script: Script,
    call: impl Future<Output = T>,
) -> T {
    let serve = async {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            match tls {
                Some(tls) => {
                    if let Ok(stream) = tls.accept(stream).await {
                        answer(stream, &mut script).await;
                    }
                }
                None => answer(stream, &mut script).await,
            }
        }
    };
    tokio::select! {
        biased;
        done = call => done,
        () = serve => pending().await,
    }
}

/// Reads a request and gives the next answer, as far as the client is still there.
async fn answer(mut stream: impl AsyncRead + AsyncWrite + Unpin, script: &mut Script) {
    let mut held = Vec::new();
    let end = |held: &[u8]| held.windows(4).position(|window| window == b"\r\n\r\n").map(|at| at + 4);
    let Some(end) = fill(&mut stream, &mut held, end).await else { return };
    let head = String::from_utf8_lossy(&held[..end]).to_ascii_lowercase();
    let length = |line: &str| line.strip_prefix("content-length:")?.trim().parse::<usize>().ok();
    let length = head.lines().find_map(length).unwrap_or_default();
    let whole = |held: &[u8]| (held.len() >= end + length).then_some(end + length);
    if fill(&mut stream, &mut held, whole).await.is_some() {
        let _gone = stream.write_all(&script.next(&head).wire()).await;
        let _gone = stream.shutdown().await;
    }
}

/// Reads until `found` finds something; `None` when the client is gone.
async fn fill(
    stream: &mut (impl AsyncRead + Unpin),
    held: &mut Vec<u8>,
    found: impl Fn(&[u8]) -> Option<usize>,
) -> Option<usize> {
    loop {
        if let Some(found) = found(held) {
            return Some(found);
        }
        if held.len() > REQUEST_MAX || stream.read_buf(held).await.ok()? == 0 {
            return None;
        }
    }
}
