//! The guest's resolver file (4.2, C18): written before the installer copies it, looked at again at the end (G21).

use gantry_proto::{Level, result::ServersResult};
use serde_json::json;

use super::{
    shell,
    story::{extra, permanent, story},
};
use crate::{
    diff::Diff,
    facts::Facts,
    guest::{resolv, scripts},
    step::{StepCx, StepError},
};

/// Writes the servers and reads them back; without any, says so and does nothing.
pub(super) async fn write(cx: &StepCx, facts: &mut Facts) -> Result<(), StepError> {
    let servers = resolv::servers(&cx.plan.dns_servers);
    if servers.is_empty() {
        facts.dns = Some(ServersResult { servers: Vec::new(), applied: false });
        cx.save(facts).await?;
        let message = "the plan names no DNS server (集群管理信息!E25:E26): /etc/resolv.conf is left as it is";
        return cx.note(Level::Warning, "dns_skipped", message, extra([])).await;
    }
    let command = scripts::write_resolv_conf(&cx.settings.guest, &servers);
    let output = shell::run(cx, facts, &command).await?;
    if !output.success() {
        return Err(shell::command_failed("dns_not_written", "writing the DNS servers", &command, &output));
    }
    let there = read(cx, facts).await?;
    if there != text(&servers) {
        let path = &cx.settings.guest.resolv_conf;
        let message = format!("{path} names {there:?} just after {:?} were written", text(&servers));
        let remedy = "something in the VM rewrites the file at once (NetworkManager, cloud-init); look at the ISO";
        return Err(permanent(story("dns_not_written", message, remedy)));
    }
    facts.dns = Some(ServersResult { servers: there.clone(), applied: true });
    cx.save(facts).await?;
    let message = format!("DNS servers written: {}", there.join(", "));
    cx.note(Level::Info, "dns_written", message, extra([("servers", json!(there))])).await
}

/// What [`write`] would do. It sets a file inside the VM to what it must be, and has no intent.
pub(super) fn survey(cx: &StepCx, diff: &mut Diff) {
    let (path, servers) = (&cx.settings.guest.resolv_conf, resolv::servers(&cx.plan.dns_servers));
    if servers.is_empty() {
        diff.notice(path, format!("the plan names no DNS server: {path} in the VM is left as it is"));
    } else {
        diff.change("", path, format!("the DNS servers {} are written inside the VM", text(&servers).join(", ")));
    }
}

/// Looks again and writes again where somebody has overwritten the file.
pub(super) async fn verify(cx: &StepCx, facts: &mut Facts) -> Result<(), StepError> {
    let servers = resolv::servers(&cx.plan.dns_servers);
    if servers.is_empty() {
        return Ok(());
    }
    let there = read(cx, facts).await?;
    if there == text(&servers) {
        let message = "the DNS servers are still in place";
        return cx.note(Level::Info, "dns_verified", message, extra([("servers", json!(there))])).await;
    }
    let message = "the resolver file was overwritten after the installation; writing the DNS servers again";
    let fields = extra([("found", json!(there)), ("servers", json!(text(&servers)))]);
    cx.note(Level::Warning, "dns_overwritten", message, fields).await?;
    write(cx, facts).await
}

async fn read(cx: &StepCx, facts: &mut Facts) -> Result<Vec<String>, StepError> {
    let command = scripts::read_resolv_conf(&cx.settings.guest);
    let output = shell::run(cx, facts, &command).await?;
    Ok(resolv::parse(&output.stdout.text()))
}

fn text(servers: &[std::net::Ipv4Addr]) -> Vec<String> {
    servers.iter().map(ToString::to_string).collect()
}
