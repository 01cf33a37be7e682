//! Certificates, for people: whose they are, who signed them, how long they hold. Their texts are somebody else's.

use std::sync::Arc;

use jiff::Timestamp;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio_rustls::TlsConnector;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::{
    config::CertificatePolicy,
    tls::{Pins, client_config},
    way::Stream,
};

/// Certificates of a chain that are shown, at most.
const SHOWN: usize = 3;
/// The longest name that is shown, characters.
const NAME_SHOWN: usize = 100;

/// How long a certificate holds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Validity {
    pub(super) from: Timestamp,
    pub(super) to: Timestamp,
}

/// The chain of whoever is there, without trusting it: nothing is said, and nothing of ours shown.
pub(super) async fn whose(stream: Stream, name: ServerName<'static>) -> Option<Vec<CertificateDer<'static>>> {
    let anybody = client_config(&Pins::new(CertificatePolicy::AcceptAny, None));
    let shaken = TlsConnector::from(Arc::new(anybody)).connect(name, stream).await.ok()?;
    shaken.get_ref().1.peer_certificates().map(<[_]>::to_vec)
}

/// Each certificate's name, issuer and dates.
pub(super) fn describe(chain: &[CertificateDer<'_>]) -> String {
    let one = |der: &CertificateDer<'_>| match X509Certificate::from_der(der) {
        Ok((_, certificate)) => {
            let names = certificate.subject_alternative_name().ok().flatten();
            let names =
                names.map(|names| names.value.general_names.iter().map(shown_name).collect::<Vec<_>>().join(", "));
            let subject = names.unwrap_or_else(|| certificate.subject().to_string());
            let until = Timestamp::from_second(certificate.validity().not_after.timestamp());
            let until = until.map_or_else(|_| "?".to_owned(), |until| until.strftime("%Y-%m-%d").to_string());
            format!("{} (signed by {}, until {until})", plain(&subject), plain(&certificate.issuer().to_string()))
        }
        Err(_) => "something unreadable".to_owned(),
    };
    let shown: Vec<_> = chain.iter().take(SHOWN).map(one).collect();
    if shown.is_empty() { "no certificate".to_owned() } else { shown.join(" < ") }
}

/// How long the certificate holds; `None` when it cannot be read.
pub(super) fn validity(der: &CertificateDer<'_>) -> Option<Validity> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let at = |seconds| Timestamp::from_second(seconds).ok();
    let validity = certificate.validity();
    Some(Validity { from: at(validity.not_before.timestamp())?, to: at(validity.not_after.timestamp())? })
}

fn shown_name(name: &x509_parser::prelude::GeneralName<'_>) -> String {
    use x509_parser::prelude::GeneralName as N;
    match name {
        N::DNSName(name) | N::URI(name) | N::RFC822Name(name) => (*name).to_owned(),
        N::IPAddress(bytes) => match <[u8; 4]>::try_from(*bytes) {
            Ok(v4) => std::net::Ipv4Addr::from(v4).to_string(),
            Err(_) => <[u8; 16]>::try_from(*bytes)
                .map_or_else(|_| "?".to_owned(), |v6| std::net::Ipv6Addr::from(v6).to_string()),
        },
        _ => "?".to_owned(),
    }
}

/// Without anything that a terminal might take for an order.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).take(NAME_SHOWN).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_certificate_is_said() {
        assert_eq!(describe(&[]), "no certificate");
        assert_eq!(describe(&[CertificateDer::from(vec![1, 2, 3])]), "something unreadable");
        assert!(validity(&CertificateDer::from(vec![1, 2, 3])).is_none());
    }

    #[test]
    fn names_reach_no_terminal_as_orders() {
        assert_eq!(plain("a\x1b[2Jb\n"), "a?[2Jb?");
        assert_eq!(plain(&"x".repeat(1_000)).len(), NAME_SHOWN);
    }
}
