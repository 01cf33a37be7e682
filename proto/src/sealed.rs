//! Sealing a job's secrets to one agent: HPKE base mode, X25519, HKDF-SHA256, ChaCha20-Poly1305 (RFC 9180).
//!
//! The sealed form is bound to job and agent, so that a blob copied elsewhere does not open. Who sealed it is not
//! said: the link's certificates say that.

use hpke::{
    Deserializable, Kem as _, OpModeR, OpModeS, Serializable, aead::ChaCha20Poly1305, kdf::HkdfSha256,
    kem::X25519HkdfSha256,
};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::{AgentId, JobId, Secret, Secrets, v1};

const INFO: &[u8] = b"gantry/1 job secrets";
/// The largest sealed document that is accepted, bytes.
pub const SEALED_MAX_BYTES: usize = 64 << 10;

/// Sealing or opening did not work. Says nothing about the content.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// Not 32 bytes of X25519.
    #[error("the sealing key is not a valid X25519 key")]
    Key,
    /// Sealed for somebody else.
    #[error("the secrets are sealed for agent {0}, not for this one")]
    OtherAgent(String),
    /// Sealed with a key that this agent does not have.
    #[error("the secrets are sealed to a key that this agent does not hold: submit the workbook again")]
    OtherKey,
    /// Altered, of another job, or of another agent.
    #[error("the sealed secrets do not open: they are damaged or belong to another job or agent")]
    Open,
    /// Larger than [`SEALED_MAX_BYTES`] or of another form.
    #[error("the sealed secrets have a form that this version does not read")]
    Form,
    /// The library refused to seal.
    #[error("sealing the secrets failed")]
    Seal,
}

/// An agent's key pair for sealed secrets. The private half never leaves the agent.
pub struct SealingKey {
    private: Zeroizing<[u8; 32]>,
    public: [u8; 32],
}

impl SealingKey {
    /// A new pair from the system's random source.
    pub fn generate() -> Self {
        let (private, public) = X25519HkdfSha256::gen_keypair();
        Self { private: Zeroizing::new(private.to_bytes().into()), public: public.to_bytes().into() }
    }

    /// Takes a stored private key up again.
    pub fn from_private(bytes: &[u8]) -> Result<Self, SealError> {
        let private = <X25519HkdfSha256 as hpke::Kem>::PrivateKey::from_bytes(bytes).map_err(|_| SealError::Key)?;
        let public = X25519HkdfSha256::sk_to_pk(&private);
        Ok(Self { private: Zeroizing::new(private.to_bytes().into()), public: public.to_bytes().into() })
    }

    /// The private key, for a file that only the agent can read.
    pub fn private_bytes(&self) -> &[u8; 32] {
        &self.private
    }

    /// The public key, for Hello.
    pub fn public_bytes(&self) -> &[u8; 32] {
        &self.public
    }

    /// Opens what was sealed to this key for this job and agent.
    pub fn open(&self, job: JobId, agent: &AgentId, sealed: &v1::SealedSecrets) -> Result<Secrets, SealError> {
        if sealed.agent_id != agent.as_str() {
            return Err(SealError::OtherAgent(sealed.agent_id.chars().take(63).collect()));
        }
        if sealed.ciphertext.len() > SEALED_MAX_BYTES {
            return Err(SealError::Form);
        }
        if sealed.key_id[..] != key_id(&self.public)[..] {
            return Err(SealError::OtherKey);
        }
        let private = <X25519HkdfSha256 as hpke::Kem>::PrivateKey::from_bytes(&self.private[..]);
        let enc = <X25519HkdfSha256 as hpke::Kem>::EncappedKey::from_bytes(&sealed.enc);
        let (Ok(private), Ok(enc)) = (private, enc) else { return Err(SealError::Form) };
        let clear = hpke::single_shot_open::<ChaCha20Poly1305, HkdfSha256, X25519HkdfSha256>(
            &OpModeR::Base,
            &private,
            &enc,
            INFO,
            &sealed.ciphertext,
            &place(job, agent),
        )
        .map_err(|_| SealError::Open)?;
        let clear = Zeroizing::new(clear);
        let document: Document = serde_json::from_slice(&clear).map_err(|_| SealError::Form)?;
        Ok(document.into_secrets())
    }
}

/// Seals `secrets` to the public key of `agent`, bound to `job`.
pub fn seal(secrets: &Secrets, job: JobId, agent: &AgentId, public: &[u8]) -> Result<v1::SealedSecrets, SealError> {
    let key = <X25519HkdfSha256 as hpke::Kem>::PublicKey::from_bytes(public).map_err(|_| SealError::Key)?;
    let clear = Zeroizing::new(serde_json::to_vec(&Document::of(secrets)).map_err(|_| SealError::Form)?);
    let (enc, ciphertext) = hpke::single_shot_seal::<ChaCha20Poly1305, HkdfSha256, X25519HkdfSha256>(
        &OpModeS::Base,
        &key,
        INFO,
        &clear,
        &place(job, agent),
    )
    .map_err(|_| SealError::Seal)?;
    Ok(v1::SealedSecrets {
        agent_id: agent.to_string(),
        key_id: key_id(public).to_vec(),
        enc: enc.to_bytes().to_vec(),
        ciphertext,
    })
}

/// Where the sealed form belongs: the authenticated, unencrypted part.
fn place(job: JobId, agent: &AgentId) -> Vec<u8> {
    format!("{job}\n{agent}").into_bytes()
}

fn key_id(public: &[u8]) -> [u8; 32] {
    Sha256::digest(public).into()
}

/// What is inside the seal. The only place where a secret is written in clear, and only into the sealed bytes.
#[derive(Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
struct Document {
    root_password: String,
    fisheye_password: String,
    ssh_password: String,
    root_password_encoded: Option<String>,
}

impl Document {
    fn of(secrets: &Secrets) -> Self {
        Self {
            root_password: secrets.root_password.expose().to_owned(),
            fisheye_password: secrets.fisheye_password.expose().to_owned(),
            ssh_password: secrets.ssh_password.expose().to_owned(),
            root_password_encoded: secrets.root_password_encoded.as_ref().map(|s| s.expose().to_owned()),
        }
    }

    fn into_secrets(mut self) -> Secrets {
        Secrets {
            root_password: Secret::new(std::mem::take(&mut self.root_password)),
            fisheye_password: Secret::new(std::mem::take(&mut self.fisheye_password)),
            ssh_password: Secret::new(std::mem::take(&mut self.ssh_password)),
            root_password_encoded: self.root_password_encoded.take().map(Secret::new),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secrets() -> Secrets {
        Secrets {
            root_password: Secret::new("R00t\"pass\\1"),
            fisheye_password: Secret::new("密码 with spaces"),
            ssh_password: Secret::new("s"),
            root_password_encoded: None,
        }
    }

    #[test]
    fn opens_for_its_job_and_agent_only() {
        let (key, job, agent) = (SealingKey::generate(), JobId::new(), "a1".parse().unwrap());
        let sealed = seal(&secrets(), job, &agent, key.public_bytes()).unwrap();

        let opened = key.open(job, &agent, &sealed).unwrap();
        assert_eq!(opened.root_password, secrets().root_password);
        assert_eq!(opened.fisheye_password, secrets().fisheye_password);

        assert!(matches!(key.open(JobId::new(), &agent, &sealed), Err(SealError::Open)));
        let other: AgentId = "a2".parse().unwrap();
        assert!(matches!(key.open(job, &other, &sealed), Err(SealError::OtherAgent(_))));
        let renamed = v1::SealedSecrets { agent_id: "a2".into(), ..sealed.clone() };
        assert!(matches!(key.open(job, &other, &renamed), Err(SealError::Open)));
        assert!(matches!(SealingKey::generate().open(job, &agent, &sealed), Err(SealError::OtherKey)));
    }

    #[test]
    fn a_stored_key_opens_what_was_sealed_before() {
        let (key, job, agent) = (SealingKey::generate(), JobId::new(), "a1".parse().unwrap());
        let sealed = seal(&secrets(), job, &agent, key.public_bytes()).unwrap();
        let again = SealingKey::from_private(key.private_bytes()).unwrap();
        assert!(again.open(job, &agent, &sealed).is_ok());
    }

    #[test]
    fn every_flipped_byte_is_noticed() {
        let (key, job, agent) = (SealingKey::generate(), JobId::new(), "a1".parse().unwrap());
        let sealed = seal(&secrets(), job, &agent, key.public_bytes()).unwrap();
        for at in 0..sealed.ciphertext.len() {
            let mut bad = sealed.clone();
            bad.ciphertext[at] ^= 1;
            assert!(key.open(job, &agent, &bad).is_err());
        }
        for enc in [vec![], vec![0; 31], vec![0; 32], vec![0; 4096]] {
            assert!(key.open(job, &agent, &v1::SealedSecrets { enc, ..sealed.clone() }).is_err());
        }
    }

    #[test]
    fn a_bad_public_key_is_refused() {
        let agent = "a1".parse().unwrap();
        assert!(matches!(seal(&secrets(), JobId::new(), &agent, &[1; 31]), Err(SealError::Key)));
    }
}
