//! The token with which an agent joins, and what a returning agent signs.

use std::fmt;

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::Secret;

/// What every token begins with, so that one is known when it turns up where it should not.
pub const PREFIX: &str = "gantry-join-1.";
/// Length of the secret in a token, bytes.
pub const SECRET_BYTES: usize = 32;
/// The longest token that is read, characters.
pub const TOKEN_MAX: usize = 2048;

/// What a token says: where the controller is, how it is known, and the secret that is used up. As text it is
/// [`PREFIX`] and the base64url of a JSON object.
pub struct JoinToken {
    /// Where the agent dials: `https://host:port`.
    pub controller: String,
    /// The name that the controller's certificate must bear, whatever address is dialled.
    pub server_name: String,
    /// SHA-256 of the controller's CA certificate, DER, hexadecimal. No other one is trusted.
    pub ca_sha256: String,
    /// The secret; the controller keeps only its hash.
    pub secret: Zeroizing<[u8; SECRET_BYTES]>,
}

/// Why a text is no token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Something else, or cut off.
    #[error(
        "this is not a whole join token: copy all of it, from \"{PREFIX}\" on, or make a new one with `ctl agent token`"
    )]
    Form,
    /// Far too long.
    #[error("this is not a join token: it is longer than {TOKEN_MAX} characters")]
    Long,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Inside {
    url: String,
    name: String,
    ca: String,
    #[serde(with = "crate::join::key_text")]
    key: Secret,
}

impl JoinToken {
    /// The token as text.
    pub fn to_text(&self) -> Secret {
        let inside = Inside {
            url: self.controller.clone(),
            name: self.server_name.clone(),
            ca: self.ca_sha256.clone(),
            key: Secret::new(BASE64_URL_SAFE_NO_PAD.encode(*self.secret)),
        };
        // Four texts: there is nothing in them that JSON could not carry.
        let json = Zeroizing::new(serde_json::to_vec(&inside).unwrap_or_default());
        Secret::new(format!("{PREFIX}{}", BASE64_URL_SAFE_NO_PAD.encode(&*json)))
    }

    /// Reads a token; blanks around it do not matter.
    ///
    /// # Errors
    /// When it is none, or not whole.
    pub fn parse(text: &str) -> Result<Self, TokenError> {
        if text.len() > TOKEN_MAX {
            return Err(TokenError::Long);
        }
        let inside = text.trim().strip_prefix(PREFIX).ok_or(TokenError::Form)?;
        let json = Zeroizing::new(BASE64_URL_SAFE_NO_PAD.decode(inside).map_err(|_| TokenError::Form)?);
        let inside: Inside = serde_json::from_slice(&json).map_err(|_| TokenError::Form)?;
        let key = Zeroizing::new(BASE64_URL_SAFE_NO_PAD.decode(inside.key.expose()).map_err(|_| TokenError::Form)?);
        let secret = <[u8; SECRET_BYTES]>::try_from(&key[..]).map_err(|_| TokenError::Form)?;
        let digest = inside.ca.len() == 64 && inside.ca.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !digest || !inside.url.starts_with("https://") || inside.name.is_empty() {
            return Err(TokenError::Form);
        }
        Ok(Self {
            controller: inside.url,
            server_name: inside.name,
            ca_sha256: inside.ca.to_ascii_lowercase(),
            secret: Zeroizing::new(secret),
        })
    }
}

impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinToken")
            .field("controller", &self.controller)
            .field("ca_sha256", &self.ca_sha256)
            .finish_non_exhaustive()
    }
}

/// What a returning agent signs with its old key: that it, and not somebody who has only seen its certificate, asks for
/// a certificate for the new key. `ca_sha256` is the hexadecimal SHA-256 of the CA's certificate, so that what was signed
/// for one controller is nothing to another.
pub fn return_text(ca_sha256: &str, certificate_der: &[u8], request_der: &[u8], signed_micros: i64) -> Vec<u8> {
    let (certificate, request) = (sha256_hex(certificate_der), sha256_hex(request_der));
    format!("gantry return 1\n{ca_sha256}\n{certificate}\n{request}\n{signed_micros}\n").into_bytes()
}

/// SHA-256, hexadecimal.
pub fn sha256_hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token() -> JoinToken {
        JoinToken {
            controller: "https://c.example:7443".to_owned(),
            server_name: "c.example".to_owned(),
            ca_sha256: sha256_hex(b"ca"),
            secret: Zeroizing::new([7; SECRET_BYTES]),
        }
    }

    #[test]
    fn a_token_reads_back_and_does_not_show_its_secret() {
        let text = token().to_text();
        let back = JoinToken::parse(&format!(" {}\n", text.expose())).unwrap();
        assert_eq!(
            (back.controller, back.server_name, *back.secret),
            (token().controller, token().server_name, [7; 32])
        );
        let shown = format!("{:?} {text:?}", token());
        assert!(!shown.contains("BwcH") && !shown.contains("7, 7"), "{shown}");
    }

    #[test]
    fn what_is_no_whole_token_is_refused() {
        let text = token().to_text();
        let text = text.expose();
        for cut in 0..text.len() {
            assert_eq!(JoinToken::parse(&text[..cut]).err(), Some(TokenError::Form), "{cut}");
        }
        assert_eq!(JoinToken::parse(&"x".repeat(TOKEN_MAX + 1)).err(), Some(TokenError::Long));
        let plain = JoinToken { controller: "http://c".to_owned(), ..token() };
        assert_eq!(JoinToken::parse(plain.to_text().expose()).err(), Some(TokenError::Form));
    }

    #[test]
    fn what_is_signed_names_everything() {
        let text = |ca, certificate: &[u8], request: &[u8], at| return_text(ca, certificate, request, at);
        let base = text("a", b"c", b"r", 1);
        for other in
            [text("b", b"c", b"r", 1), text("a", b"d", b"r", 1), text("a", b"c", b"s", 1), text("a", b"c", b"r", 2)]
        {
            assert_ne!(base, other);
        }
    }
}
