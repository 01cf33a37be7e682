//! How the agent gets its identity: a token is used up, and the key never leaves this host. Calls the controller without a
//! certificate, whom it knows by the fingerprint in the token.

use std::{path::PathBuf, time::Duration};

use gantry_proto::{
    AgentId, Code, JoinFile, JoinToken, Secret,
    id::{IdError, check_name},
    token::sha256_hex,
    v1::{self, enrollment_service_client::EnrollmentServiceClient},
};
use tokio::{task::spawn_blocking, time::timeout};
use tonic::Status;

use crate::{
    config::Settings,
    credentials::{self, CredentialError, check, der, kept_key, prepared, write_join},
    dialer::{DialError, Dialer},
    identity::{IdentityError, join_path, lock_data},
};

/// The key of an agent that joins, in the identity's directory.
const JOIN_KEY: &str = "identity/join.key";
/// The largest answer that is read, bytes.
const ANSWER_MAX: usize = 16 << 10;

/// An agent that has joined.
#[derive(Debug)]
pub struct Joined {
    /// Its identity.
    pub join: JoinFile,
    /// Where that is.
    pub file: PathBuf,
}

/// Why the agent has not joined.
#[derive(Debug, thiserror::Error)]
pub enum EnrollError {
    /// It has an identity.
    #[error("this agent has joined already: its identity is {0}; add --again to have it replaced")]
    Already(String),
    /// The directory is in use.
    #[error(transparent)]
    Place(#[from] IdentityError),
    /// The controller is not reached, or does not prove to be the one of the token. Nothing was told to it.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// No answer.
    #[error(
        "the controller did not answer within {0:?}: run the same command again, for the token can be used again with \
         the key that is kept here"
    )]
    Late(Duration),
    /// It says no.
    #[error("the controller does not let this agent in: {0}")]
    Refused(String),
    /// The line broke.
    #[error("the answer of the controller was lost: run the same command again")]
    Lost(#[source] Box<Status>),
    /// The answer makes no sense.
    #[error("the controller's answer is not usable: {0}")]
    Answer(&'static str),
    /// A name in the answer.
    #[error("the controller's answer holds an unusable name")]
    Name(#[from] IdError),
    /// A key or a file.
    #[error(transparent)]
    Credentials(#[from] CredentialError),
}

/// Joins with a token. The agent would like to be called `wish`; a token that names it wins. With `again` an identity that
/// is there is replaced. Twice with the same token is the same as once.
///
/// # Errors
/// See [`EnrollError`].
pub async fn join(settings: &Settings, token: &JoinToken, wish: &str, again: bool) -> Result<Joined, EnrollError> {
    let own = settings.clone();
    let (file, key_file, _lock) = blocking(move || {
        let file = join_path(&own);
        if !again && file.exists() {
            return Err(EnrollError::Already(file.display().to_string()));
        }
        let lock = lock_data(&own.data_dir)?;
        Ok((file, own.data_dir.join(JOIN_KEY), lock))
    })
    .await?;
    let (path, own) = (key_file.clone(), file.clone());
    // On disk before it is used: when the answer gets lost, the same key asks again. Not the key of an identity that is there.
    let key = blocking(move || Ok(kept_key(&path, &own)?)).await?;
    let request = prepared(&key)?;
    let channel = Dialer::by_fingerprint(token, &settings.link)?.dial().await?;
    let mut client = EnrollmentServiceClient::new(channel).max_decoding_message_size(ANSWER_MAX);
    let wish = v1::JoinRequest {
        secret: token.secret.to_vec(),
        agent_id: wish.to_owned(),
        request_der: request.request_der,
        version: env!("CARGO_PKG_VERSION").to_owned(),
    };
    let limit = Duration::from_millis(settings.link.hello_timeout_ms);
    let answer = timeout(limit, client.join(wish)).await.map_err(|_| EnrollError::Late(limit))?;
    let answer = answer.map_err(refused)?.into_inner();
    let join = JoinFile {
        controller: token.controller.clone(),
        server_name: token.server_name.clone(),
        ca_pem: answer.ca_pem,
        cert_pem: answer.cert_pem,
        key_pem: Secret::new(key.serialize_pem()),
        agent: answer.agent_id.parse::<AgentId>()?.to_string(),
        site: answer.site,
    };
    check_name(&join.site)?;
    if der(&join.ca_pem).is_none_or(|ca| sha256_hex(&ca) != token.ca_sha256) {
        return Err(EnrollError::Answer("its CA is not the one of the token"));
    }
    check(&join.cert_pem, &key, &join)?;
    blocking(move || {
        write_join(&file, &join)?;
        // What stays of them is never used again: the one is the key of this identity, and the other of the one before.
        let _ = std::fs::remove_file(&key_file);
        let _ = std::fs::remove_file(key_file.with_file_name(credentials::NEXT_KEY));
        Ok(Joined { join, file })
    })
    .await
}

/// The name that an agent would like to have: the host's, made usable.
pub fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    usable(&name)
}

fn usable(host: &str) -> String {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_.".contains(c);
    let name: String = host.trim().to_lowercase().chars().map(|c| if fits(c) { c } else { '-' }).take(63).collect();
    let name = name.trim_start_matches(['-', '_', '.']);
    if name.is_empty() { "agent".to_owned() } else { name.to_owned() }
}

fn refused(status: Status) -> EnrollError {
    match Code::of(&status) {
        Some(_) => EnrollError::Refused(status.message().chars().take(500).collect()),
        None if status.code() == tonic::Code::Unimplemented => EnrollError::Refused(
            "that port lets no agents join: compare the versions of controller and agent".to_owned(),
        ),
        None => EnrollError::Lost(Box::new(status)),
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, EnrollError> + Send + 'static,
) -> Result<T, EnrollError> {
    match spawn_blocking(work).await {
        Ok(done) => done,
        Err(_) => Err(EnrollError::Answer("a thread of this agent broke off")),
    }
}

/// One word with the controller to come back after the certificate has expired. `None`: not approved yet, with when to ask
/// again and the key that waits.
pub(crate) async fn come_back(
    credentials: &std::sync::Arc<credentials::Credentials>,
    settings: &Settings,
) -> Result<Back, BackError> {
    let own = credentials.clone();
    let request = spawn_blocking(move || {
        let prepared = own.prepare()?;
        Ok::<_, CredentialError>((own.return_request(&prepared)?, prepared.key_sha256))
    });
    let (request, key_sha256) = request.await.map_err(|_| CredentialError::Answer("a thread broke off"))??;
    let channel = Dialer::nameless(&credentials.current(), &settings.link)?.dial().await?;
    let mut client = EnrollmentServiceClient::new(channel).max_decoding_message_size(ANSWER_MAX);
    let limit = Duration::from_millis(settings.link.hello_timeout_ms);
    let answer = timeout(limit, client.r#return(request)).await.map_err(|_| BackError::Late(limit))?;
    let answer = answer.map_err(|status| BackError::Status(Box::new(status)))?.into_inner();
    if answer.cert_pem.is_empty() {
        return Ok(Back::NotYet { ask_again: Duration::from_millis(answer.ask_again_ms.into()), key_sha256 });
    }
    let own = credentials.clone();
    let committed = spawn_blocking(move || own.commit(&answer.cert_pem)).await;
    committed.map_err(|_| CredentialError::Answer("a thread broke off"))??;
    Ok(Back::Here)
}

/// What the controller says to an agent that wants to come back.
pub(crate) enum Back {
    /// The new certificate is in its place.
    Here,
    /// An operator has to approve it.
    NotYet {
        /// When to ask again.
        ask_again: Duration,
        /// SHA-256 of the key that waits, hexadecimal.
        key_sha256: String,
    },
}

/// Why it says nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BackError {
    #[error(transparent)]
    Dial(#[from] DialError),
    #[error(transparent)]
    Credentials(#[from] CredentialError),
    #[error("the controller did not answer within {0:?}")]
    Late(Duration),
    #[error("the controller does not let this agent come back")]
    Status(#[source] Box<Status>),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_host_name_becomes_a_usable_one() {
        for (host, name) in [
            ("Bastion-1\n", "bastion-1"),
            ("跳板机", "agent"),
            ("", "agent"),
            ("b astion.Example.com", "b-astion.example.com"),
        ] {
            assert_eq!(usable(host), name);
        }
        assert!(usable(&"x".repeat(300)).parse::<AgentId>().is_ok());
    }
}
