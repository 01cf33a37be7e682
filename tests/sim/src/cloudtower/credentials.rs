//! Passwords and tokens: what the service can read, what it accepts, what it hands out.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};

use super::Options;
use crate::rng::Chance;

/// Reads an encoded password. The service's key is not known to the simulator: it reads only the configured values.
///
/// # Errors
/// The words of the refusal.
pub(super) fn decoded(options: &Options, encoded: &str) -> Result<String, String> {
    if !has_encoded_shape(encoded) {
        return Err("Invalid initialization vector".to_owned());
    }
    options.encoded_passwords.get(encoded).cloned().ok_or_else(|| "bad decrypt: wrong final block length".to_owned())
}

/// Base64 of `<32 hexadecimal digits>:<base64 of whole 16-byte blocks>`.
fn has_encoded_shape(encoded: &str) -> bool {
    let Some(text) = STANDARD.decode(encoded).ok().and_then(|bytes| String::from_utf8(bytes).ok()) else {
        return false;
    };
    let Some((vector, block)) = text.split_once(':') else { return false };
    vector.len() == 32
        && vector.bytes().all(|byte| byte.is_ascii_hexdigit())
        && STANDARD.decode(block).is_ok_and(|bytes| !bytes.is_empty() && bytes.len().is_multiple_of(16))
}

/// At least 8 characters, of at least 3 classes.
pub(super) fn satisfies_policy(password: &str) -> bool {
    let classes = [
        password.chars().any(|c| c.is_ascii_lowercase()),
        password.chars().any(|c| c.is_ascii_uppercase()),
        password.chars().any(|c| c.is_ascii_digit()),
        password.chars().any(|c| !c.is_ascii_alphanumeric()),
    ];
    password.chars().count() >= 8 && classes.into_iter().filter(|there| *there).count() >= 3
}

/// A token: three parts, the middle one is the bare user id, no expiry (`cloudtower.md` 5.2).
pub(super) fn token(chance: &Chance, user: &str) -> String {
    let part = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    format!("{}.{}.{}", part(br#"{"alg":"HS256"}"#), part(user.as_bytes()), part(&chance.bytes::<32>("tower.token")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_configured_values_of_the_right_shape_are_read() {
        let options = Options::default();
        assert_eq!(decoded(&options, super::super::EXAMPLE_ENCODED).as_deref(), Ok("HC!r0cks"));
        let other = STANDARD.encode(format!("{}:{}", "ab".repeat(16), STANDARD.encode([7; 16])));
        assert!(decoded(&options, &other).expect_err("unknown").contains("decrypt"));
        for wrong in ["", "HC!r0cks", "MDAx", &STANDARD.encode("xyz:abc")] {
            assert!(decoded(&options, wrong).expect_err("wrong shape").contains("vector"), "{wrong}");
        }
    }

    #[test]
    fn the_policy_wants_eight_characters_of_three_classes() {
        for good in ["HC!r0cks", "Abcdefg1", "密码abcAB1"] {
            assert!(satisfies_policy(good), "{good}");
        }
        for bad in ["Ab1!", "abcdefgh", "abcdefg1", ""] {
            assert!(!satisfies_policy(bad), "{bad}");
        }
    }
}
