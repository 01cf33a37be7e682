//! A cluster's Fisheye: whether it answers, and with which certificate. Nothing is asked of it, and nobody logs in.

use std::{
    fs::{self, File},
    io::{BufRead as _, BufReader, Read as _},
    net::IpAddr,
    path::Path,
    time::Duration,
};

use gantry_proto::{JobId, Plan, error::causes};
use tokio::{net::TcpStream, time::Instant};

use super::{Finding, Looked};
use crate::{
    config::{CertificatePolicy, Settings},
    journal::{self, LINE_MAX, Record},
    tls::{Pins, SightError, sight as look},
    way::authority,
};

/// Jobs whose plans are read, the newest first, and clusters that are looked at, at most.
const MOST_JOBS: usize = 20;
const MOST_CLUSTERS: usize = 4;

/// The Fisheye addresses of the newest jobs in the data directory (blocking). Reads the first line of each journal, and
/// opens none of them as its writer would.
pub(super) fn known(data_dir: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(data_dir.join("jobs")) else { return Vec::new() };
    let is_job = |entry: fs::DirEntry| entry.file_name().to_str()?.parse::<JobId>().ok().map(|job| (job, entry.path()));
    let mut jobs: Vec<_> = entries.filter_map(|entry| is_job(entry.ok()?)).collect();
    jobs.sort_by_key(|(job, _)| std::cmp::Reverse(job.to_string()));
    let mut clusters = Vec::new();
    for address in jobs.into_iter().take(MOST_JOBS).filter_map(|(_, dir)| address_of(&dir)) {
        if !clusters.contains(&address) && clusters.len() < MOST_CLUSTERS {
            clusters.push(address);
        }
    }
    clusters
}

fn address_of(job: &Path) -> Option<String> {
    let file = File::open(job.join(journal::FILE_NAME)).ok()?;
    let mut line = Vec::new();
    BufReader::new(file.take(LINE_MAX as u64)).read_until(b'\n', &mut line).ok()?;
    let Ok(Record::Start(start)) = journal::decode(&line) else { return None };
    let plan: Plan = serde_json::from_str(&start.plan).ok()?;
    let address = plan.cluster.vip.or_else(|| plan.hosts.first().map(|host| host.mgmt_ip))?;
    Some(address.to_string())
}

/// TCP, TLS and the certificate's fingerprint.
pub(super) async fn sight(settings: &Settings, address: &str) -> Looked<()> {
    let (host, port) = match host_port(address, settings.fisheye.port) {
        Some(parts) => parts,
        None => {
            let seen = format!("{address:?} is no address");
            return (Finding::fail(seen, "name it as HOST, HOST:PORT or [IPV6]:PORT"), None);
        }
    };
    let (to, began) = (authority(&host, port), Instant::now());
    let remedy = "see that it is the cluster's management address, that Fisheye runs there (fisheye.port), and that routes and \
                  firewalls let this machine reach it; a proxy is never used for it";
    if settings.fisheye.scheme == "http" {
        return match TcpStream::connect((host.as_str(), port)).await {
            Ok(_) => (Finding::ok(format!("{to} answers, in clear, in {} ms", began.elapsed().as_millis())), None),
            Err(error) => (Finding::fail(format!("no connection to {to}: {error}"), remedy), None),
        };
    }
    let pinned = settings.fisheye.certificate == CertificatePolicy::Pinned;
    let pins = match pinned {
        true => Pins::new(CertificatePolicy::Pinned, settings.fisheye.fingerprint.as_deref()),
        // Whichever it is, it is to be shown.
        false => Pins::new(CertificatePolicy::FirstSight, None),
    };
    let within = Duration::from_millis(settings.fisheye.connect_timeout_ms);
    let finding = match look(&pins, &host, port, within).await {
        Ok(()) => {
            let took = began.elapsed().as_millis();
            let shown = match pins.fingerprint(&host) {
                Some(fingerprint) => format!("its certificate is {fingerprint}"),
                None => "its certificate is the one of the settings".to_owned(),
            };
            Finding::ok(format!("{to} answers in {took} ms; {shown}"))
        }
        Err(SightError::Refused(refused)) => Finding::fail(
            refused.to_string(),
            "when the cluster has a new certificate, write it into fisheye.fingerprint; when not, somebody is in between",
        ),
        Err(error @ SightError::Handshake(_)) => Finding::fail(
            format!("{to}: {}", causes(&error).join(": ")),
            "something answers there that does not speak TLS as Fisheye does: see that it is the cluster's address and fisheye.port",
        ),
        Err(error) => Finding::fail(format!("{to}: {}", causes(&error).join(": ")), remedy),
    };
    (finding, None)
}

/// `HOST`, `HOST:PORT`, `[IPV6]:PORT` or a bare IPv6 address.
fn host_port(address: &str, default: u16) -> Option<(String, u16)> {
    if address.parse::<IpAddr>().is_ok() {
        return Some((address.to_owned(), default));
    }
    let authority: http::uri::Authority = address.parse().ok()?;
    let host = authority.host().trim_start_matches('[').trim_end_matches(']');
    let whole = !host.is_empty() && !address.contains('@') && !address.ends_with(':');
    let port_is_whole = authority.port_u16().is_some() || !address.rsplit(']').next().unwrap_or(address).contains(':');
    (whole && port_is_whole).then(|| (host.to_owned(), authority.port_u16().unwrap_or(default)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_taken_apart() {
        let at = |text| host_port(text, 443);
        assert_eq!(at("192.0.2.10"), Some(("192.0.2.10".into(), 443)));
        assert_eq!(at("192.0.2.10:8443"), Some(("192.0.2.10".into(), 8443)));
        assert_eq!(at("fd00::1"), Some(("fd00::1".into(), 443)));
        assert_eq!(at("[fd00::1]:8443"), Some(("fd00::1".into(), 8443)));
        assert_eq!(at("[fd00::1]"), Some(("fd00::1".into(), 443)));
        assert_eq!(at("vip.test"), Some(("vip.test".into(), 443)));
        for bad in ["", "a b", "u@h", "h:", "h:99999", "https://h", "h/x"] {
            assert_eq!(at(bad), None, "{bad}");
        }
    }
}
