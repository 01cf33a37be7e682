//! Settings of the way to the controller through an HTTP proxy. A password is never among them: they name a file.

use std::{net::IpAddr, path::PathBuf};

use serde::{Deserialize, Serialize};

use super::ConfigError;
use crate::way::Address;

/// The least that must be readable of a proxy's answer, bytes: hyper's own buffer is as large.
const ANSWER_LEAST: usize = 8 << 10;
/// Entries of `no_proxy`, at most.
const EXEMPT_MOST: usize = 1_000;

/// The proxy of the link, and of nothing else: clusters are always reached directly.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Proxy {
    /// `http://[user@]host:port` or `https://[user@]host:port`, without a password.
    pub url: Option<String>,
    /// A file of mode 0600 that holds the user's password; read at each dial, so a new one needs no restart.
    pub password_file: Option<PathBuf>,
    /// PEM file with the CAs that may sign the certificate of an `https://` proxy. Default: the system's.
    pub ca_file: Option<PathBuf>,
    /// Controllers that are dialled directly: names (with everything below them), addresses, networks as CIDR, `*`.
    pub no_proxy: Vec<String>,
    /// Without `url`: do as `HTTPS_PROXY`, `ALL_PROXY` and `NO_PROXY` say.
    pub from_environment: bool,
    /// The longest head of an answer that is read, bytes.
    pub answer_bytes: usize,
}

impl Default for Proxy {
    fn default() -> Self {
        Self {
            url: None,
            password_file: None,
            ca_file: None,
            no_proxy: Vec::new(),
            from_environment: true,
            answer_bytes: 16 << 10,
        }
    }
}

impl Proxy {
    /// Whether it makes sense. What is refused is never shown when it may hold a password.
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let bad = |key, value: String, expected| Err(ConfigError::Value { key, value, expected });
        if let Some(url) = &self.url {
            let shown = || if url.contains('@') { "not shown here".to_owned() } else { format!("{url:?}") };
            match Address::parse(url) {
                Err(expected) => return bad("link.proxy.url", shown(), expected),
                Ok(address) if address.password.is_some() => {
                    let expected = "it must not hold a password: write that into a file of mode 0600 and name it in \
                                    link.proxy.password_file";
                    return bad("link.proxy.url", shown(), expected);
                }
                Ok(address) if address.user.is_none() && self.password_file.is_some() => {
                    return bad(
                        "link.proxy.url",
                        shown(),
                        "with a password_file it must name the user: http://user@host:port",
                    );
                }
                Ok(_) => {}
            }
        } else if let Some(file) = &self.password_file {
            return bad("link.proxy.password_file", file.display().to_string(), "it needs link.proxy.url with a user");
        }
        if let Some(entry) = self.no_proxy.iter().find(|entry| !is_exemption(entry)) {
            let expected = "an entry is a name, an address, a network such as 10.0.0.0/8, or *; it has no port";
            return bad("link.proxy.no_proxy", format!("{entry:?}"), expected);
        }
        if self.no_proxy.len() > EXEMPT_MOST {
            return bad(
                "link.proxy.no_proxy",
                self.no_proxy.len().to_string(),
                "it must not have more than 1000 entries",
            );
        }
        if !(ANSWER_LEAST..=1 << 20).contains(&self.answer_bytes) {
            return bad("link.proxy.answer_bytes", self.answer_bytes.to_string(), "it must be between 8 KiB and 1 MiB");
        }
        Ok(())
    }
}

/// A misspelt network would else count as a name, and silently match nothing.
fn is_exemption(entry: &str) -> bool {
    if let Some((address, length)) = entry.split_once('/') {
        let most = match address.parse() {
            Ok(IpAddr::V4(_)) => 32,
            Ok(IpAddr::V6(_)) => 128,
            Err(_) => return false,
        };
        return length.parse::<u8>().is_ok_and(|length| length <= most);
    }
    let is_name = |text: &str| text.chars().all(|c| c.is_alphanumeric() || matches!(c, '.' | '-' | '_'));
    entry == "*" || entry.parse::<IpAddr>().is_ok() || (!entry.trim_matches('.').is_empty() && is_name(entry))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_be_exempt() {
        for good in ["*", "10.0.0.0/8", "fd00::/8", "192.0.2.1", "::1", "example.net", ".example.net", "host"] {
            assert!(is_exemption(good), "{good}");
        }
        for bad in ["", ".", "10.0.0.0/33", "fd00::/129", "10.0.0/8", "10.0.0.0/", "host:80", "a,b", "a b", "*.x"] {
            assert!(!is_exemption(bad), "{bad}");
        }
    }

    #[test]
    fn what_is_refused_is_named_and_no_password_is_shown() {
        let refused = |proxy: Proxy| proxy.check().unwrap_err().to_string();
        let url = |url: &str| Proxy { url: Some(url.into()), ..Proxy::default() };
        for text in ["http://u:canary-pw@h:1", "ftp://u:canary-pw@h:1", "http://u:canary-pw@"] {
            let refused = refused(url(text));
            assert!(refused.contains("link.proxy.url") && !refused.contains("canary"), "{refused}");
        }
        let nobody = Proxy { password_file: Some("/x".into()), ..url("http://h:1") };
        assert!(refused(nobody).contains("name the user"));
        let alone = Proxy { password_file: Some("/x".into()), ..Proxy::default() };
        assert!(refused(alone).contains("link.proxy.password_file"));
        let many = Proxy { no_proxy: vec!["x".into(); 1_001], ..Proxy::default() };
        assert!(refused(many).contains("no_proxy"));
        let small = Proxy { answer_bytes: 1, ..Proxy::default() };
        assert!(refused(small).contains("answer_bytes"));
        let net = Proxy { no_proxy: vec!["10.0.0.0/99".into()], ..Proxy::default() };
        assert!(refused(net).contains("10.0.0.0/99"));
        assert!(Proxy { password_file: Some("/x".into()), ..url("https://u@h:1") }.check().is_ok());
    }
}
