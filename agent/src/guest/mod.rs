//! The new VM over SSH: one connection, commands without a terminal, `sudo`. Knows what a command is, not what a step
//! is; writes nothing down.
//!
//! * The host key is known before anything secret is sent: [`Guest::greet`], then [`Guest::login`].
//! * A command's text is one of ours; values reach it as quoted arguments only ([`Command`]).
//! * The password goes into the SSH login and, where `sudo -n` is refused, into standard input; never into a command
//!   line or an environment (C43).

mod capture;
mod command;
mod error;
pub mod installer;
mod probe;
pub mod resolv;
pub mod scripts;
mod session;

use std::{
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use gantry_proto::{Plan, Redactor, Secret, Secrets};
use tracing::Instrument as _;

pub use capture::Captured;
pub use command::{Command, quote};
pub use error::Error;
pub use probe::{LogFile, Status};
pub use session::{Exit, Output};

use crate::config::Settings;
use session::Session;

/// Names of the installer's logs in the working directory: ours, and that of an installation started by hand (C7).
pub const INSTALLER_LOGS: [&str; 2] = ["installer.out", "nohup.out"];

/// The VM as it answers on its SSH port. Dropping it closes the connection.
pub struct Guest {
    address: SocketAddr,
    accounts: Vec<String>,
    redactor: Redactor,
    limits: Limits,
    password: Mutex<Option<Secret>>,
    session: Mutex<Option<Arc<Session>>>,
}

/// Real time and memory that a connection may use.
#[derive(Clone, Copy, Debug)]
struct Limits {
    connect: Duration,
    keepalive: Duration,
}

/// A server that has shown its host key and waits for a login.
pub struct Greeting(Session);

impl Greeting {
    /// SHA-256 fingerprint of the host key, as `ssh-keygen -lf` prints it.
    pub fn host_key(&self) -> &str {
        self.0.host_key()
    }
}

impl Guest {
    /// Makes the client; opens no connection.
    pub fn new(plan: &Plan, secrets: &Secrets, settings: &Settings, redactor: &Redactor) -> Self {
        let guest = &settings.guest;
        Self {
            address: SocketAddr::new(IpAddr::V4(plan.cloudtower.ip), guest.ssh_port),
            accounts: accounts(&plan.cloudtower.ssh_user, guest.fallback_user.as_deref()),
            redactor: redactor.clone(),
            limits: Limits {
                connect: Duration::from_millis(guest.connect_timeout_ms),
                keepalive: Duration::from_millis(guest.keepalive_ms.max(1)),
            },
            password: Mutex::new(Some(secrets.ssh_password.clone())),
            session: Mutex::new(None),
        }
    }

    /// Where the VM is expected.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The accounts to try, each once, in this order (C32).
    pub fn accounts(&self) -> &[String] {
        &self.accounts
    }

    /// Whether a logged-in connection seems to be there.
    pub fn is_connected(&self) -> bool {
        self.current().is_ok_and(|session| !session.is_closed())
    }

    /// Opens a connection up to the host key; nothing secret has been sent then. At most `limit` and the settings'
    /// connect time-out.
    ///
    /// # Errors
    /// [`Error::HostKeyChanged`] when the key is not `recorded` (C37); else a transient one.
    pub async fn greet(&self, recorded: Option<&str>, limit: Duration) -> Result<Greeting, Error> {
        let limit = limit.min(self.limits.connect);
        let span = tracing::info_span!("ssh connect", server.address = %self.address);
        Session::open(self.address, recorded, limit, self.limits.keepalive).instrument(span).await.map(Greeting)
    }

    /// Logs in once, by password or keyboard-interactive, and keeps the connection.
    ///
    /// # Errors
    /// [`Error::AuthRefused`] when the server refuses; it is then done with this connection.
    pub async fn login(&self, greeting: Greeting, user: &str) -> Result<(), Error> {
        let password = self.password().ok_or(Error::Wiped)?;
        let span = tracing::info_span!("ssh login", server.address = %self.address);
        let session = greeting.0.login(user, &password, self.limits.connect).instrument(span).await?;
        *self.session.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(session));
        Ok(())
    }

    /// Runs a command to its end.
    ///
    /// # Errors
    /// [`Error::is_lost`]: the command may run on; reconnect and look. Others are final.
    pub async fn run(&self, command: &Command) -> Result<Output, Error> {
        let span = tracing::info_span!(
            "ssh exec",
            otel.name = format!("ssh {}", command.name()),
            command = command.name(),
            otel.kind = "client",
            exit = tracing::field::Empty,
            error = tracing::field::Empty,
            error.type = tracing::field::Empty,
            otel.status_code = tracing::field::Empty
        );
        let result = self.run_unseen(command).instrument(span.clone()).await;
        match &result {
            Ok(output) => span.record("exit", tracing::field::display(&output.exit)),
            Err(error) => span
                .record("otel.status_code", "ERROR")
                .record("error.type", error.word())
                .record("error", tracing::field::display(error)),
        };
        if matches!(&result, Err(Error::TooSlow { .. })) {
            self.drop_session();
        }
        result
    }

    async fn run_unseen(&self, command: &Command) -> Result<Output, Error> {
        let session = self.current()?;
        match session.run(command, self.password().as_ref()).await {
            Ok(mut output) => {
                output.scrub(&self.redactor);
                Ok(output)
            }
            Err(Error::SudoRefused { user, said }) => {
                Err(Error::SudoRefused { user, said: self.redactor.text(&said).into_owned() })
            }
            Err(error) => Err(error),
        }
    }

    /// Ends the connection in order. Safe to call at any time.
    pub async fn close(&self) {
        let session = self.session.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(session) = session.and_then(Arc::into_inner) {
            session.close().await;
        }
    }

    /// Ends the connection and wipes the password: nothing can log in afterwards (R73).
    pub async fn wipe(&self) {
        self.close().await;
        self.password.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    fn drop_session(&self) {
        self.session.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    fn current(&self) -> Result<Arc<Session>, Error> {
        self.session.lock().unwrap_or_else(PoisonError::into_inner).clone().ok_or(Error::NotConnected)
    }

    fn password(&self) -> Option<Secret> {
        self.password.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The plan's account, then the settings' one, else `cloudtower`; no account twice.
fn accounts(planned: &str, fallback: Option<&str>) -> Vec<String> {
    let mut accounts = Vec::new();
    for name in [planned, fallback.unwrap_or(DEFAULT_USER), DEFAULT_USER] {
        if !name.is_empty() && !accounts.iter().any(|known| known == name) {
            accounts.push(name.to_owned());
        }
    }
    accounts.truncate(MAX_ACCOUNTS);
    accounts
}

/// The account of CloudTower 4.x (`cloudtower.md` 1.2).
const DEFAULT_USER: &str = "cloudtower";
/// The configured account and one fallback, no more: each refusal may count towards a lock-out.
const MAX_ACCOUNTS: usize = 2;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_account_is_the_settings_or_the_default_and_never_the_first_again() {
        assert_eq!(accounts("cloudtower", Some("smartx")), ["cloudtower", "smartx"]);
        assert_eq!(accounts("smartx", Some("smartx")), ["smartx", "cloudtower"]);
        assert_eq!(accounts("smartx", None), ["smartx", "cloudtower"]);
        assert_eq!(accounts("cloudtower", None), ["cloudtower"]);
        assert_eq!(accounts("admin", Some("smartx")), ["admin", "smartx"]);
    }
}
