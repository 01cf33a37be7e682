//! What the bastion reaches: its own disk, hosts, VIP, BMCs, the certificates, and the CloudTower address, which must not
//! answer yet (1.4 to 1.6, 1.11, 1.12).

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    process::Stdio,
    time::Duration,
};

use futures_util::future::join_all;
use tokio::{net::TcpStream, process::Command};

use super::{
    super::story::{blocking, story, story_of},
    Outcome, Report,
};
use crate::{
    facts::Facts,
    step::{StepCx, StepError},
    tls::SightError,
};

/// What a TCP port does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Port {
    Open,
    /// Somebody is there and says no.
    Refused,
    Silent,
}

/// 1.11: the journal must be writable.
pub(super) async fn data_dir(report: &mut Report<'_>) -> Result<(), StepError> {
    let dir = report.cx.settings.data_dir.clone();
    let target = dir.display().to_string();
    let job = report.cx.job;
    let probe = move || -> io::Result<()> {
        std::fs::create_dir_all(&dir)?;
        let file = dir.join(format!(".probe-{job}"));
        std::fs::write(&file, b"probe")?;
        std::fs::remove_file(file)
    };
    match blocking(probe).await.and_then(|probed| probed) {
        Ok(()) => report.ok("local_disk", &target, "the data directory is writable").await,
        Err(error) => {
            let remedy = "make room on the disk, or correct the directory's owner and mode";
            let failure = story_of("data_dir_not_writable", &format!("writing to {target}"), &error, remedy);
            report.fail("local_disk", &target, failure).await
        }
    }
}

/// 1.4: each host by ping or one of its ports.
pub(super) async fn hosts(report: &mut Report<'_>) -> Result<(), StepError> {
    let cx = report.cx;
    let limit = Duration::from_millis(cx.settings.precheck.host_timeout_ms);
    let looks = join_all(cx.plan.hosts.iter().map(|host| async move {
        let ports = join_all(cx.settings.precheck.host_ports.iter().map(|port| port_of(host.mgmt_ip, *port, limit)));
        let (ports, ssh, pong) = tokio::join!(ports, port_of(host.mgmt_ip, 22, limit), ping(cx, host.mgmt_ip, limit));
        (host.mgmt_ip, ports, ssh, pong)
    }));
    let looks = or_stop(cx, looks).await?;
    for (address, ports, ssh, pong) in looks {
        let target = address.to_string();
        let open: Vec<u16> = cx
            .settings
            .precheck
            .host_ports
            .iter()
            .zip(&ports)
            .filter(|(_, port)| **port == Port::Open)
            .map(|(number, _)| *number)
            .collect();
        let alive = pong == Some(true) || !open.is_empty();
        if !alive {
            let message = format!("the host {target} answers neither ping nor on its ports");
            let remedy = "check the management addresses in 主机规划 and the bastion's network";
            report.fail("host", &target, story("host_unreachable", message, remedy)).await?;
            continue;
        }
        report.ok("host", &target, format!("the host {target} answers")).await?;
        if !open.contains(&443) && cx.settings.precheck.host_ports.contains(&443) {
            report
                .tell("host_https", &target, Outcome::Info, format!("port 443 of the host {target} is closed"))
                .await?;
        }
        if ssh != Port::Open {
            report.warn("host_ssh", &target, format!("port 22 of the host {target} is closed")).await?;
        }
    }
    Ok(())
}

/// 1.5: the VIP should answer; the hosts serve as well.
pub(super) async fn vip(report: &mut Report<'_>) -> Result<(), StepError> {
    let cx = report.cx;
    let Some(vip) = cx.plan.cluster.vip else {
        return report.warn("vip", "", "the plan has no cluster VIP; the hosts' addresses are used").await;
    };
    let limit = Duration::from_millis(cx.settings.precheck.vip_timeout_ms);
    let target = vip.to_string();
    let port = match or_stop(cx, port_of(vip, cx.settings.fisheye.port, limit)).await? {
        // A port may be open on an address that no service is behind.
        Port::Open => match or_stop(cx, cx.outside.fisheye.sight(&target, limit)).await? {
            Ok(()) | Err(SightError::Refused(_)) => Port::Open,
            Err(_) => Port::Silent,
        },
        port => port,
    };
    match port {
        Port::Open => report.ok("vip", &target, format!("the VIP {target} answers")).await,
        Port::Refused | Port::Silent => {
            report
                .warn("vip", &target, format!("the VIP {target} does not answer; the hosts' addresses are used"))
                .await
        }
    }
}

/// Looks at the certificate of every endpoint, so that the VIP may move to any of them later.
pub(super) async fn certificates(report: &mut Report<'_>) -> Result<(), StepError> {
    let cx = report.cx;
    let limit = Duration::from_millis(cx.settings.fisheye.connect_timeout_ms);
    let endpoints = cx.outside.fisheye.endpoints();
    let looks = join_all(endpoints.iter().map(|endpoint| cx.outside.fisheye.sight(endpoint, limit)));
    let looks = or_stop(cx, looks).await?;
    for (endpoint, look) in endpoints.iter().zip(looks) {
        // Who does not answer at all has been told already.
        if let Err(SightError::Refused(refused)) = look {
            let remedy = "find out why the certificate differs; if it was replaced on purpose, correct fisheye.fingerprint or start a new job";
            // Given fingerprints may be the VIP's alone: then the other hosts do not serve, and need not.
            if cx.outside.fisheye.is_pinned() && endpoints.first() != Some(endpoint) {
                report.warn("certificate", endpoint, format!("{refused}; it will not serve")).await?;
                continue;
            }
            let failure = story("fisheye_certificate_changed", refused.to_string(), remedy);
            report.fail("certificate", endpoint, failure).await?;
        }
    }
    Ok(())
}

/// 1.6: nobody may use the address yet. Unless it is our own VM (resume).
pub(super) async fn cloudtower_address(report: &mut Report<'_>, facts: &Facts) -> Result<(), StepError> {
    let (cx, ip) = (report.cx, report.cx.plan.cloudtower.ip);
    let target = ip.to_string();
    if facts.vm.as_ref().is_some_and(|vm| vm.uuid.is_some()) {
        return report.ok("cloudtower_address", &target, "the address belongs to the VM of this job").await;
    }
    let limit = Duration::from_millis(cx.settings.precheck.cloudtower_timeout_ms);
    let numbers = [cx.settings.cloudtower.port, 80, cx.settings.guest.ssh_port];
    let looks =
        async { tokio::join!(join_all(numbers.iter().map(|port| port_of(ip, *port, limit))), ping(cx, ip, limit)) };
    let (ports, pong) = or_stop(cx, looks).await?;
    if let Some((number, _)) = numbers.iter().zip(&ports).find(|(_, port)| **port == Port::Open) {
        let message = format!("the CloudTower address {target} is in use: port {number} answers");
        let remedy = "plan another address in 集群管理信息!E3, or remove what uses it";
        return report.fail("cloudtower_address", &target, story("cloudtower_address_in_use", message, remedy)).await;
    }
    // A loopback address always answers; it belongs to a rehearsal.
    let somebody = pong == Some(true) || ports.contains(&Port::Refused);
    if somebody && !ip.is_loopback() {
        let message = format!("somebody answers at the CloudTower address {target}, but on no port that matters");
        return report.warn("cloudtower_address", &target, message).await;
    }
    report.ok("cloudtower_address", &target, format!("the CloudTower address {target} is free")).await
}

/// 1.12: not needed by this flow, so a warning at most.
pub(super) async fn bmcs(report: &mut Report<'_>) -> Result<(), StepError> {
    let cx = report.cx;
    let limit = Duration::from_millis(cx.settings.precheck.host_timeout_ms);
    let addresses = cx.plan.hosts.iter().filter_map(|host| host.bmc_ip);
    let looks = join_all(addresses.map(|address| async move { (address, ping(cx, address, limit).await) }));
    for (address, pong) in or_stop(cx, looks).await? {
        let target = address.to_string();
        match pong {
            Some(true) => report.ok("bmc", &target, format!("the BMC {target} answers")).await?,
            Some(false) => report.warn("bmc", &target, format!("the BMC {target} does not answer ping")).await?,
            None => {}
        }
    }
    Ok(())
}

async fn port_of(address: Ipv4Addr, port: u16, limit: Duration) -> Port {
    match tokio::time::timeout(limit, TcpStream::connect(SocketAddr::new(address.into(), port))).await {
        Ok(Ok(_)) => Port::Open,
        Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => Port::Refused,
        Ok(Err(_)) | Err(_) => Port::Silent,
    }
}

/// `None`: there is no `ping` here, or the settings do without it.
async fn ping(cx: &StepCx, address: Ipv4Addr, limit: Duration) -> Option<bool> {
    if !cx.settings.precheck.ping {
        return None;
    }
    let seconds = limit.as_secs().max(1).to_string();
    let mut command = Command::new("ping");
    command.args(["-n", "-q", "-c", "1", "-W", &seconds]).arg(address.to_string());
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
    let status = command.status();
    match tokio::time::timeout(limit + Duration::from_secs(1), status).await {
        Ok(Ok(status)) => match status.code() {
            Some(0) => Some(true),
            Some(1) => Some(false),
            _ => None,
        },
        Ok(Err(_)) => None,
        Err(_) => Some(false),
    }
}

/// Drops the looks when the job is to stop.
async fn or_stop<T>(cx: &StepCx, looks: impl Future<Output = T>) -> Result<T, StepError> {
    tokio::select! {
        biased;
        () = cx.cancel.cancelled() => Err(cx.log.why_stopped()),
        looked = looks => Ok(looked),
    }
}
