//! The SSH server of a guest: its port, its host key, its accounts. What a command does is the shell's business.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use russh::keys::ssh_key::private::Ed25519Keypair;
use russh::keys::{HashAlg, PrivateKey};
use russh::server::{Auth, ChannelOpenHandle, Config, Handler, Msg, Session};
use russh::{Channel, ChannelId, MethodKind, MethodSet, Pty};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::line::Line;
use super::machine::Machine;
use super::shell::{self, Command, Terminal};
use super::{Banner, HostKey};
use crate::fault::{Action, Call, Cut, Face, Fired};
use crate::transcript::Entry;

/// Tries to log in on one connection (`simulator-behaviours.md` 2.7).
const MAX_TRIES: usize = 6;
/// Virtual time before a wrong password is refused.
const REFUSAL: Duration = Duration::from_secs(3);
/// Virtual time a late banner takes (G3).
const LATE_BANNER: Duration = Duration::from_secs(25);
/// Connections of one guest at a time; more are dropped at once.
const MAX_CONNECTIONS: usize = 64;
/// Wall time between tries to open a port that is still taken.
const REBIND_PAUSE: Duration = Duration::from_millis(50);
/// Connections that fill the queue of a filtered port.
const QUEUE_FILLERS: usize = 8;
const BANNER: &[u8] = b"SSH-2.0-OpenSSH_8.2\r\n";

/// Serves SSH on an address until `cancel`.
pub(super) async fn serve(machine: Arc<Machine>, address: IpAddr, cancel: CancellationToken) {
    let at = SocketAddr::new(address, machine.core.options.ports.ssh);
    if machine.core.modes().guest.ssh_filtered {
        return filtered(at, cancel).await;
    }
    let mut switch = machine.core.switchboard.watch(address);
    let mut connections = JoinSet::new();
    let mut listener = listen(at, &cancel).await;
    let mut up = CancellationToken::new();
    loop {
        tokio::select! {
            () = cancel.cancelled() => break,
            changed = switch.changed() => {
                if changed.is_err() { break }
                if *switch.borrow_and_update() {
                    up = CancellationToken::new();
                    listener = listen(at, &cancel).await;
                } else {
                    listener = None;
                    up.cancel();
                }
            }
            accepted = accept(listener.as_ref()) => {
                let Ok((tcp, peer)) = accepted else { continue };
                if connections.len() < MAX_CONNECTIONS {
                    connections.spawn(connection(machine.clone(), tcp, Line::new(at, peer), up.clone()));
                }
            }
            Some(_) = connections.join_next() => {}
        }
    }
    connections.shutdown().await;
}

/// The fingerprint of the guest's host key, as `ssh-keygen -lf` prints it.
pub(super) fn fingerprint(key: &PrivateKey) -> String {
    key.public_key().fingerprint(HashAlg::Sha256).to_string()
}

/// A host key made from 32 bytes.
pub(super) fn host_key(seed: &[u8; 32]) -> PrivateKey {
    PrivateKey::from(Ed25519Keypair::from_seed(seed))
}

async fn listen(at: SocketAddr, cancel: &CancellationToken) -> Option<TcpListener> {
    while !cancel.is_cancelled() {
        match TcpListener::bind(at).await {
            Ok(listener) => return Some(listener),
            Err(error) => tracing::warn!(%at, %error, "the guest cannot open its SSH port yet"),
        }
        tokio::time::sleep(REBIND_PAUSE).await;
    }
    None
}

async fn accept(listener: Option<&TcpListener>) -> std::io::Result<(TcpStream, SocketAddr)> {
    match listener {
        Some(listener) => listener.accept().await,
        None => std::future::pending().await,
    }
}

/// A port that answers nothing: its queue is full, so the kernel drops every further SYN (G2).
async fn filtered(at: SocketAddr, cancel: CancellationToken) {
    let Ok(socket) = (if at.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }) else { return };
    let _ = socket.set_reuseaddr(true);
    let listener = match socket.bind(at).and_then(|()| socket.listen(1)) {
        Ok(listener) => listener,
        Err(error) => return tracing::warn!(%at, %error, "the guest cannot filter its SSH port"),
    };
    let mut fillers = Vec::new();
    for _ in 0..QUEUE_FILLERS {
        match tokio::time::timeout(Duration::from_millis(100), TcpStream::connect(at)).await {
            Ok(Ok(filler)) => fillers.push(filler),
            _ => break,
        }
    }
    cancel.cancelled().await;
    drop((listener, fillers));
}

async fn connection(machine: Arc<Machine>, tcp: TcpStream, line: Line, down: CancellationToken) {
    let drop_after = machine.core.modes().guest.drop_every_s;
    let dropped = async {
        match drop_after {
            0 => std::future::pending().await,
            seconds => machine.core.clock.sleep(Duration::from_secs(seconds)).await,
        }
    };
    // The session of the SSH library is a task of its own: it ends when its line is cut, which dropping this guard does.
    let _guard = CutOnDrop(line.clone());
    tokio::select! {
        () = talk(machine.clone(), tcp, line.clone()) => {}
        () = line.ended() => {}
        () = dropped => line.reset(),
        () = down.cancelled() => line.reset(),
    }
}

struct CutOnDrop(Line);

impl Drop for CutOnDrop {
    fn drop(&mut self) {
        self.0.close();
    }
}

async fn talk(machine: Arc<Machine>, mut tcp: TcpStream, line: Line) {
    // Small packets must not wait for an acknowledgement; without it they merely come late.
    let _ = tcp.set_nodelay(true);
    phase(&machine, &line, "connect").await;
    machine.core.clock.latency(machine.core.drawn("guest.handshake", machine.core.options.guest.handshake_ms)).await;
    match machine.core.modes().guest.banner {
        Banner::Normal => {}
        Banner::Late => machine.core.clock.sleep(LATE_BANNER).await,
        Banner::None => return swallow(&mut tcp).await,
        Banner::CloseAfter => {
            let _ = tcp.write_all(BANNER).await;
            return line.close();
        }
    }
    phase(&machine, &line, "banner").await;
    let config = Arc::new(config(&machine));
    let stream = line.stream(tcp);
    let session = Guest {
        machine,
        line: line.clone(),
        account: None,
        tries: 0,
        channels: HashMap::new(),
        commands: JoinSet::new(),
    };
    match russh::server::run_stream(config, stream, session).await {
        Ok(running) => {
            if let Err(error) = running.await {
                tracing::debug!(%error, "an SSH session ended early");
            }
        }
        Err(error) => tracing::debug!(%error, "an SSH connection did not become a session"),
    }
}

/// Reads until the client gives up.
async fn swallow(tcp: &mut TcpStream) {
    let mut buffer = [0; 1024];
    while let Ok(1..) = tcp.read(&mut buffer).await {}
}

fn config(machine: &Machine) -> Config {
    let key = match machine.core.modes().guest.host_key {
        HostKey::Stable => machine.host_key.clone(),
        HostKey::ChangesEachTime => host_key(&machine.core.chance.bytes("guest.key.other")),
    };
    Config {
        server_id: russh::SshId::Standard("SSH-2.0-OpenSSH_8.2".into()),
        methods: MethodSet::from([MethodKind::Password].as_slice()),
        auth_rejection_time: Duration::ZERO,
        auth_rejection_time_initial: Some(Duration::ZERO),
        keys: vec![key],
        max_auth_attempts: MAX_TRIES,
        inactivity_timeout: None,
        nodelay: true,
        ..Config::default()
    }
}

/// A phase of a connection in which faults may strike; returns what did.
async fn phase(machine: &Machine, line: &Line, name: &str) -> Vec<Fired> {
    let mut call = Call::ssh(name);
    call.address = Some(line.local.ip());
    let fired = machine.core.faults.strike(&call);
    if !fired.is_empty() {
        let mut entry = entry(machine, line, name);
        entry.faults = fired.iter().map(|fault| fault.id.clone()).collect();
        machine.core.transcript.record(entry);
    }
    for fault in &fired {
        strike(machine, line, &fault.action).await;
    }
    fired
}

/// Transport actions of a fault, the same for phases and commands.
pub(super) async fn strike(machine: &Machine, line: &Line, action: &Action) {
    match action {
        Action::Delay { ms } => machine.core.clock.sleep(Duration::from_millis(*ms)).await,
        Action::Hang => line.ended().await,
        Action::Close(Cut { response_bytes: None, .. }) => line.close(),
        Action::Reset(Cut { response_bytes: None, .. }) => line.reset(),
        Action::World(change) => {
            if let Err(error) = machine.core.change_world(change) {
                tracing::warn!(%error, "a fault could not change the world");
            }
        }
        _ => {}
    }
}

/// A transcript entry of this connection.
pub(super) fn entry(machine: &Machine, line: &Line, path: &str) -> Entry {
    let mut entry = Entry::new(Face::Ssh, machine.core.clock.now(), "SSH", path);
    entry.address = line.local.to_string();
    entry.peer = line.peer.to_string();
    entry
}

/// One connection as the SSH library sees it.
struct Guest {
    machine: Arc<Machine>,
    line: Line,
    account: Option<String>,
    tries: usize,
    channels: HashMap<ChannelId, (Channel<Msg>, Option<Terminal>)>,
    commands: JoinSet<()>,
}

impl Handler for Guest {
    type Error = russh::Error;

    async fn auth_password(&mut self, user: &str, password: &str) -> Result<Auth, Self::Error> {
        let fired = phase(&self.machine, &self.line, "auth").await;
        if self.line.is_ended() {
            return Err(russh::Error::Disconnect);
        }
        let refused = fired.iter().any(|fault| matches!(fault.action, Action::Answer(_)));
        self.tries += 1;
        let known = self.machine.accounts().iter().any(|(name, secret)| name == user && secret == password);
        let accepted = known && !refused && self.tries <= MAX_TRIES;
        let mut entry = entry(&self.machine, &self.line, &format!("auth {user}"));
        entry.status = Some(u32::from(!accepted));
        self.machine.core.transcript.record(entry);
        if accepted {
            self.account = Some(user.to_owned());
            self.machine.record(|guest| guest.logins += 1);
            return Ok(Auth::Accept);
        }
        self.machine.record(|guest| guest.refused_logins += 1);
        self.machine.core.clock.latency(REFUSAL).await;
        if self.tries >= MAX_TRIES {
            self.line.close();
        }
        Ok(Auth::reject())
    }

    async fn channel_open_session(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), Self::Error> {
        self.channels.insert(channel.id(), (channel, None));
        reply.accept().await;
        Ok(())
    }

    async fn pty_request(
        &mut self,
        channel: ChannelId,
        _term: &str,
        _col_width: u32,
        _row_height: u32,
        _pix_width: u32,
        _pix_height: u32,
        modes: &[(Pty, u32)],
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        let on = |wanted: Pty| !modes.iter().any(|(mode, value)| *mode == wanted && *value == 0);
        match self.channels.get_mut(&channel) {
            Some((_, terminal)) if shell::has_terminals() => {
                *terminal = Some(Terminal { echo: on(Pty::ECHO), post_processing: on(Pty::OPOST) });
                session.channel_success(channel)
            }
            _ => session.channel_failure(channel),
        }
    }

    async fn env_request(
        &mut self,
        channel: ChannelId,
        _name: &str,
        _value: &str,
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        session.channel_success(channel)
    }

    async fn exec_request(
        &mut self,
        channel: ChannelId,
        data: &[u8],
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        let (Some((open, terminal)), Some(account)) = (self.channels.remove(&channel), self.account.clone()) else {
            return session.channel_failure(channel);
        };
        session.channel_success(channel)?;
        let command = Command { text: String::from_utf8_lossy(data).into_owned(), account, terminal };
        while self.commands.try_join_next().is_some() {}
        self.commands.spawn(shell::run(self.machine.clone(), self.line.clone(), session.handle(), open, command));
        Ok(())
    }

    async fn shell_request(&mut self, channel: ChannelId, session: &mut Session) -> Result<(), Self::Error> {
        session.channel_failure(channel)
    }

    async fn subsystem_request(
        &mut self,
        channel: ChannelId,
        _name: &str,
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        session.channel_failure(channel)
    }
}
