//! The two files with which somebody comes in: an agent's join file (JSON) and an operator's profile (TOML).
//!
//! The join file is written by `agent join` on the agent's own host: it holds the private key, which never travels. The
//! profile only names files that lie beside it; `controller init` and `ctl operator add` write it.

use serde::{Deserialize, Serialize};

use crate::Secret;

/// File name of an operator's profile inside the directory that `controller init` or `ctl operator add` writes.
pub const OPERATOR_PROFILE_FILE: &str = "ctl.toml";

/// Everything an agent needs to dial its controller. One JSON object in one file of mode 0600.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct JoinFile {
    /// Where the agent dials: `https://host:port`.
    pub controller: String,
    /// The name that the controller's certificate must bear, whatever address is dialled.
    pub server_name: String,
    /// The controller's CA, PEM. No other one is trusted.
    pub ca_pem: String,
    /// The agent's certificate, PEM. Its SAN says the same id and site as below, and only the SAN counts.
    pub cert_pem: String,
    /// The agent's private key, PEM (PKCS#8).
    #[serde(with = "key_text")]
    pub key_pem: Secret,
    /// The agent's id.
    pub agent: String,
    /// The agent's site.
    pub site: String,
}

/// How `ctl` reaches a controller: the content of [`OPERATOR_PROFILE_FILE`]. Paths are relative to the profile's own
/// directory, so that the directory can be moved as a whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OperatorProfile {
    /// The controller: `https://host:port`.
    pub controller: String,
    /// The name that the controller's certificate must bear, whatever address is dialled.
    pub server_name: String,
    /// The controller's CA, a PEM file.
    pub ca_pem_file: String,
    /// The operator's certificate, a PEM file.
    pub cert_pem_file: String,
    /// The operator's private key, a PEM file of mode 0600.
    pub key_pem_file: String,
}

/// For serde: a key as text. The file into which it is written is made for nothing else.
pub mod key_text {
    use serde::{Deserialize as _, Deserializer, Serializer};

    use crate::Secret;

    /// The key, in clear.
    ///
    /// # Errors
    /// As the serializer says.
    pub fn serialize<S: Serializer>(key: &Secret, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(key.expose())
    }

    /// A key from text.
    ///
    /// # Errors
    /// When it is no text.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Secret, D::Error> {
        String::deserialize(deserializer).map(Secret::new)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_join_file_has_the_documented_keys_and_hides_its_key() {
        let text = json!({
            "controller": "https://c:7443", "server_name": "c", "ca_pem": "CA", "cert_pem": "CERT",
            "key_pem": "PRIVATE", "agent": "a1", "site": "s1",
        });
        let join: JoinFile = serde_json::from_value(text.clone()).unwrap();
        assert_eq!(serde_json::to_value(&join).unwrap(), text);
        assert!(!format!("{join:?}").contains("PRIVATE"));
    }

    #[test]
    fn a_profile_with_a_misspelt_key_is_refused() {
        let text = json!({
            "controller": "c", "server_name": "c", "ca_pem_file": "ca.pem", "cert_pem_file": "cert.pem",
            "key_pem_file": "key.pem", "timeout": 5,
        });
        let refused = serde_json::from_value::<OperatorProfile>(text).unwrap_err();
        assert!(refused.to_string().contains("timeout"));
    }
}
