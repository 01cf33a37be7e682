//! One SSH connection (russh): host key, login, commands. Ends with its socket, however it is dropped.

use std::{
    fmt, io,
    net::{Shutdown, SocketAddr},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use gantry_proto::{Redactor, Secret};
use russh::{
    Channel, ChannelMsg, Disconnect, MethodKind, MethodSet,
    client::{self, AuthResult, DisconnectReason, KeyboardInteractiveAuthResponse as Interactive},
    keys::{HashAlg, PublicKeyOrCertificate},
};
use tokio::{
    net::TcpStream,
    sync::OnceCell,
    time::{Instant, timeout},
};
use zeroize::Zeroizing;

use super::{Captured, Command, Error, scripts};

/// Keep-alives without an answer after which the connection is given up.
const KEEPALIVES_LOST: usize = 3;
/// Rounds of questions in one keyboard-interactive login.
const MAX_QUESTIONS: usize = 4;
/// How long an orderly end may take.
const CLOSE_LIMIT: Duration = Duration::from_secs(1);
/// Part of the message of `sudo` that is told.
const SUDO_WORDS: usize = 200;

/// How a command ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Exit {
    /// By itself.
    Code(u32),
    /// By a signal.
    Signal(String),
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "{code}"),
            Self::Signal(name) => write!(f, "signal {name}"),
        }
    }
}

/// What a command left.
#[derive(Clone, Debug)]
pub struct Output {
    /// How it ended.
    pub exit: Exit,
    /// Standard output as it came.
    pub stdout: Captured,
    /// Standard error, redacted, without the noise of login shells.
    pub stderr: String,
    raw_stderr: Captured,
}

impl Output {
    /// Whether it ended with 0. What it said on standard error is no sign of failure (`cloudtower.md` 1.3).
    pub fn success(&self) -> bool {
        self.exit == Exit::Code(0)
    }

    pub(super) fn scrub(&mut self, redactor: &Redactor) {
        let text = redactor.bytes(&self.raw_stderr.bytes());
        self.stderr = text.lines().filter(|line| !is_noise(line)).collect::<Vec<_>>().join("\n");
        self.raw_stderr = Captured::default();
    }
}

/// The known noise of login shells.
fn is_noise(line: &str) -> bool {
    line.starts_with("/etc/profile.d/system-info.sh: line ") && line.trim_end().ends_with(": bc: command not found")
}

/// A connection.
pub(super) struct Session {
    address: SocketAddr,
    host_key: String,
    user: String,
    handle: client::Handle<HostKey>,
    refused: Arc<AtomicBool>,
    sudo: OnceCell<Sudo>,
    // The last field: its drop ends the library's task, which lives on the socket.
    _socket: Socket,
}

/// What the server said to a login.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Login {
    Accepted,
    Refused,
    /// Refused without another method left, or the connection is gone: the library tells both alike.
    RefusedOrLost,
}

impl Login {
    fn without(remaining: &MethodSet) -> Self {
        if remaining.is_empty() { Self::RefusedOrLost } else { Self::Refused }
    }
}

/// How root is had.
#[derive(Clone, Copy, Debug)]
enum Sudo {
    Free,
    WithPassword,
}

/// A second handle on the connection's socket: shuts it down when dropped.
struct Socket(std::net::TcpStream);

impl Drop for Socket {
    fn drop(&mut self) {
        // It may be closed already.
        let _ = self.0.shutdown(Shutdown::Both);
    }
}

/// Compares the host key with the recorded one and remembers it; tells a refused login from a lost connection.
struct HostKey {
    recorded: Option<String>,
    seen: Arc<Mutex<Option<String>>>,
    refused: Arc<AtomicBool>,
}

impl client::Handler for HostKey {
    type Error = russh::Error;

    async fn check_server_key(&mut self, key: &PublicKeyOrCertificate) -> Result<bool, Self::Error> {
        let PublicKeyOrCertificate::PublicKey { key, .. } = key else { return Ok(false) };
        let seen = key.fingerprint(HashAlg::Sha256).to_string();
        let accepted = self.recorded.as_ref().is_none_or(|recorded| *recorded == seen);
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(seen);
        Ok(accepted)
    }

    /// A server that refuses and has no other method to offer: the library gives the connection up.
    async fn disconnected(&mut self, reason: DisconnectReason<Self::Error>) -> Result<(), Self::Error> {
        if matches!(reason, DisconnectReason::Error(russh::Error::NoAuthMethod)) {
            self.refused.store(true, Ordering::Release);
        }
        Ok(())
    }
}

impl Session {
    /// Connects and exchanges keys.
    pub(super) async fn open(
        address: SocketAddr,
        recorded: Option<&str>,
        limit: Duration,
        keepalive: Duration,
    ) -> Result<Self, Error> {
        let deadline = Instant::now() + limit;
        let (stream, socket) = match timeout(limit, dial(address)).await {
            Ok(dialled) => dialled.map_err(|source| Error::Connect { address, source })?,
            Err(_) => return Err(Error::TimedOut { address, phase: "connection", limit }),
        };
        let config = client::Config {
            keepalive_interval: Some(keepalive),
            keepalive_max: KEEPALIVES_LOST,
            inactivity_timeout: None,
            nodelay: true,
            ..client::Config::default()
        };
        let seen = Arc::new(Mutex::new(None));
        let refused = Arc::new(AtomicBool::new(false));
        let handler = HostKey { recorded: recorded.map(str::to_owned), seen: seen.clone(), refused: refused.clone() };
        let exchange = client::connect_stream(Arc::new(config), stream, handler);
        let exchanged = tokio::time::timeout_at(deadline, exchange).await;
        let seen = seen.lock().unwrap_or_else(PoisonError::into_inner).take();
        match (exchanged, seen) {
            (Ok(Ok(handle)), Some(host_key)) => Ok(Self {
                address,
                host_key,
                user: String::new(),
                handle,
                refused,
                sudo: OnceCell::new(),
                _socket: socket,
            }),
            (Ok(Err(_)), Some(seen)) if recorded.is_some_and(|recorded| recorded != seen) => {
                Err(Error::HostKeyChanged { address, recorded: recorded.unwrap_or_default().to_owned(), seen })
            }
            (Ok(Ok(_)), None) => Err(Error::Handshake { address, source: russh::Error::UnknownKey }),
            (Ok(Err(source)), _) => Err(Error::Handshake { address, source }),
            (Err(_), _) => Err(Error::TimedOut { address, phase: "key exchange", limit }),
        }
    }

    pub(super) fn host_key(&self) -> &str {
        &self.host_key
    }

    pub(super) fn is_closed(&self) -> bool {
        self.handle.is_closed()
    }

    /// Logs in, once.
    pub(super) async fn login(mut self, user: &str, password: &Secret, limit: Duration) -> Result<Self, Error> {
        self.user = user.to_owned();
        let address = self.address;
        match timeout(limit, self.authenticate(password)).await {
            Ok(Ok(Login::Accepted)) => Ok(self),
            Ok(Ok(Login::RefusedOrLost)) if self.was_lost().await => {
                Err(Error::Handshake { address, source: russh::Error::Disconnect })
            }
            Ok(Ok(_)) => Err(Error::AuthRefused { address, user: user.to_owned() }),
            Ok(Err(source)) => Err(Error::Handshake { address, source }),
            Err(_) => Err(Error::TimedOut { address, phase: "login", limit }),
        }
    }

    /// After [`Login::RefusedOrLost`]: waits for the end of the connection, which tells.
    async fn was_lost(&mut self) -> bool {
        let ended = timeout(CLOSE_LIMIT, &mut self.handle).await.is_ok();
        ended && !self.refused.load(Ordering::Acquire)
    }

    async fn authenticate(&mut self, password: &Secret) -> Result<Login, russh::Error> {
        match self.handle.authenticate_password(self.user.clone(), password.expose()).await? {
            AuthResult::Success => Ok(Login::Accepted),
            // A server that does not offer passwords has not looked at ours: it may still ask for it as a question.
            AuthResult::Failure { remaining_methods, .. }
                if !remaining_methods.contains(&MethodKind::Password)
                    && remaining_methods.contains(&MethodKind::KeyboardInteractive) =>
            {
                self.answer_questions(password).await
            }
            AuthResult::Failure { remaining_methods, .. } => Ok(Login::without(&remaining_methods)),
        }
    }

    async fn answer_questions(&mut self, password: &Secret) -> Result<Login, russh::Error> {
        let mut asked = self.handle.authenticate_keyboard_interactive_start(self.user.clone(), None).await?;
        for _ in 0..MAX_QUESTIONS {
            match asked {
                Interactive::Success => return Ok(Login::Accepted),
                Interactive::Failure { remaining_methods, .. } => return Ok(Login::without(&remaining_methods)),
                Interactive::InfoRequest { prompts, .. } => {
                    let hidden = |echo: bool| if echo { String::new() } else { password.expose().to_owned() };
                    let answers = prompts.iter().map(|prompt| hidden(prompt.echo)).collect();
                    asked = self.handle.authenticate_keyboard_interactive_respond(answers).await?;
                }
            }
        }
        Ok(if matches!(asked, Interactive::Success) { Login::Accepted } else { Login::Refused })
    }

    /// Runs a command to its end.
    pub(super) async fn run(&self, command: &Command, password: Option<&Secret>) -> Result<Output, Error> {
        if !command.needs_root() {
            return self.exec(command, "", None).await;
        }
        match self.sudo.get_or_try_init(|| self.find_sudo(password)).await? {
            Sudo::Free => self.exec(command, "sudo -n ", None).await,
            Sudo::WithPassword => self.exec(command, "sudo -S -p '' ", password).await,
        }
    }

    /// Asks once for each connection how `sudo` wants to be used (C43).
    async fn find_sudo(&self, password: Option<&Secret>) -> Result<Sudo, Error> {
        let probe = scripts::nothing();
        if self.exec(&probe, "sudo -n ", None).await?.success() {
            return Ok(Sudo::Free);
        }
        let output = self.exec(&probe, "sudo -S -p '' ", password).await?;
        if output.success() {
            return Ok(Sudo::WithPassword);
        }
        let said = output.raw_stderr.text();
        let said: Vec<&str> = said.lines().filter(|line| !is_noise(line)).collect();
        Err(Error::SudoRefused { user: self.user.clone(), said: said.join("; ").chars().take(SUDO_WORDS).collect() })
    }

    async fn exec(&self, command: &Command, prefix: &str, password: Option<&Secret>) -> Result<Output, Error> {
        let limit = command.time_limit();
        let name = command.name();
        match timeout(limit, self.exec_unlimited(command, prefix, password)).await {
            Ok(result) => result,
            Err(_) => Err(Error::TooSlow { command: name, limit }),
        }
    }

    async fn exec_unlimited(
        &self,
        command: &Command,
        prefix: &str,
        password: Option<&Secret>,
    ) -> Result<Output, Error> {
        let name = command.name();
        let lost = |source| Error::Lost { command: name, source: Some(source) };
        let mut channel = self.handle.channel_open_session().await.map_err(lost)?;
        channel.exec(true, command.text(prefix)).await.map_err(lost)?;
        if let Some(password) = password {
            let line = Zeroizing::new(format!("{}\n", password.expose()));
            channel.data(line.as_bytes()).await.map_err(lost)?;
        }
        channel.eof().await.map_err(lost)?;
        collect(&mut channel, command).await
    }

    /// Says good-bye and closes the socket.
    pub(super) async fn close(self) {
        let Self { handle, _socket, .. } = self;
        let farewell = async {
            if handle.disconnect(Disconnect::ByApplication, "", "").await.is_ok() {
                // How the connection ends is of no interest any more.
                let _ = handle.await;
            }
        };
        let _ = timeout(CLOSE_LIMIT, farewell).await;
    }
}

/// Takes the output in until the channel closes: data may follow the exit status.
async fn collect(channel: &mut Channel<client::Msg>, command: &Command) -> Result<Output, Error> {
    let name = command.name();
    let mut stdout = Captured::new(command.kept());
    let mut stderr = Captured::new(command.kept().min(super::command::COMMAND_OUTPUT));
    let mut exit = None;
    while let Some(message) = channel.wait().await {
        match message {
            ChannelMsg::Data { data } => stdout.push(&data),
            ChannelMsg::ExtendedData { data, .. } => stderr.push(&data),
            ChannelMsg::ExitStatus { exit_status } => exit = Some(Exit::Code(exit_status)),
            ChannelMsg::ExitSignal { signal_name, .. } => exit = Some(Exit::Signal(format!("{signal_name:?}"))),
            ChannelMsg::Failure => return Err(Error::Refused { command: name }),
            _ => {}
        }
    }
    // No status and the channel closed: lost, never success.
    let exit = exit.ok_or(Error::Lost { command: name, source: None })?;
    Ok(Output { exit, stdout, stderr: String::new(), raw_stderr: stderr })
}

async fn dial(address: SocketAddr) -> io::Result<(TcpStream, Socket)> {
    let stream = TcpStream::connect(address).await?.into_std()?;
    let socket = Socket(stream.try_clone()?);
    stream.set_nodelay(true)?;
    Ok((TcpStream::from_std(stream)?, socket))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_known_noise_is_left_out() {
        let redactor = Redactor::new();
        redactor.register(&Secret::new("s3cret-word"));
        let mut raw_stderr = Captured::new(1000);
        raw_stderr.push(
            b"/etc/profile.d/system-info.sh: line 7: bc: command not found\nreal trouble with s3cret-word\n\
              /etc/profile.d/system-info.sh: line 7: awk: command not found\n",
        );
        let mut output = Output { exit: Exit::Code(0), stdout: Captured::new(10), stderr: String::new(), raw_stderr };
        output.scrub(&redactor);
        assert_eq!(
            output.stderr,
            "real trouble with 机密凭据\n/etc/profile.d/system-info.sh: line 7: awk: command not found"
        );
        assert!(output.success(), "words on standard error are no failure");
    }
}
