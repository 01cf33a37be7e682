//! What can go wrong with the guest. Addresses and account names may be shown; passwords never get in here.

use std::{io, net::SocketAddr, time::Duration};

/// Why a call to the guest did not do its work.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No TCP connection.
    #[error("cannot connect to {address}")]
    Connect {
        /// The guest.
        address: SocketAddr,
        /// Refused, unreachable, …
        #[source]
        source: io::Error,
    },
    /// Connecting or logging in took too long: a filtered port, a server without a banner.
    #[error("{address} did not finish the {phase} within {} ms", .limit.as_millis())]
    TimedOut {
        /// The guest.
        address: SocketAddr,
        /// `connection`, `key exchange` or `login`.
        phase: &'static str,
        /// What it had.
        limit: Duration,
    },
    /// No SSH session came about.
    #[error("the SSH key exchange with {address} failed")]
    Handshake {
        /// The guest.
        address: SocketAddr,
        /// What the library says.
        #[source]
        source: russh::Error,
    },
    /// Not the server that this VM had before. Nothing was sent to it.
    #[error("the host key of {address} is {seen}, but this VM had {recorded}")]
    HostKeyChanged {
        /// The guest.
        address: SocketAddr,
        /// Recorded in the job.
        recorded: String,
        /// Shown now.
        seen: String,
    },
    /// Wrong password or no such account.
    #[error("{address} refused the account \"{user}\"")]
    AuthRefused {
        /// The guest.
        address: SocketAddr,
        /// The account.
        user: String,
    },
    /// Nobody is logged in.
    #[error("there is no SSH connection")]
    NotConnected,
    /// The password has been wiped: the job is over.
    #[error("the SSH password has been wiped")]
    Wiped,
    /// The connection ended before the command did. It may run on.
    #[error("the SSH connection was lost during \"{command}\"")]
    Lost {
        /// Its name.
        command: &'static str,
        /// What the library says, if anything.
        #[source]
        source: Option<russh::Error>,
    },
    /// The command did not end in time. It may run on.
    #[error("the command \"{command}\" did not end within {:.0} s", .limit.as_secs_f64())]
    TooSlow {
        /// Its name.
        command: &'static str,
        /// What it had.
        limit: Duration,
    },
    /// The server takes no commands.
    #[error("the SSH server refused to run \"{command}\"")]
    Refused {
        /// Its name.
        command: &'static str,
    },
    /// Neither without nor with the password.
    #[error("sudo is refused to the account \"{user}\": {said}")]
    SudoRefused {
        /// The account.
        user: String,
        /// Its last words, redacted.
        said: String,
    },
}

impl Error {
    /// The word on spans: a short list.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Connect { .. } => "unreachable",
            Self::TimedOut { .. } => "timed_out",
            Self::Handshake { .. } => "handshake",
            Self::HostKeyChanged { .. } => "host_key",
            Self::AuthRefused { .. } => "credentials",
            Self::NotConnected => "not_connected",
            Self::Wiped => "wiped",
            Self::Lost { .. } => "lost",
            Self::TooSlow { .. } => "too_slow",
            Self::Refused { .. } => "refused",
            Self::SudoRefused { .. } => "sudo_refused",
        }
    }

    /// Whether a new connection may do.
    pub fn is_lost(&self) -> bool {
        match self {
            Self::Connect { .. }
            | Self::TimedOut { .. }
            | Self::Handshake { .. }
            | Self::NotConnected
            | Self::Lost { .. }
            | Self::TooSlow { .. } => true,
            Self::HostKeyChanged { .. }
            | Self::AuthRefused { .. }
            | Self::Wiped
            | Self::Refused { .. }
            | Self::SudoRefused { .. } => false,
        }
    }
}
