//! Whether any host has room for the VM (1.8, `fisheye.md` 8.4). Pure. Says no only where no host can have it.

use crate::{
    config::Precheck,
    fisheye::{HostInfo, Vm},
};

/// What is known; each with a sentence for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fit {
    /// A host has room.
    Fits(String),
    /// Not known, or only without the reserve for the host itself.
    Doubtful(String),
    /// No host has room, and that is certain.
    No(String),
}

const GIB: f64 = (1u64 << 30) as f64;

/// Looks at every host that may run the VM: only `pinned` (its storage address) when the plan names one.
pub(super) fn fit(hosts: &[HostInfo], vms: &[Vm], need: u64, pinned: Option<&str>, settings: &Precheck) -> Fit {
    let eligible: Vec<&HostInfo> = hosts.iter().filter(|host| pinned.is_none_or(|ip| host.data_ip == ip)).collect();
    if let (Some(ip), true) = (pinned, eligible.is_empty()) {
        return Fit::Doubtful(format!("the cluster lists no host with the storage address {ip}"));
    }
    let rooms: Vec<Option<Room>> = eligible.iter().map(|host| room(host, vms, settings)).collect();
    let known: Vec<&Room> = rooms.iter().flatten().collect();
    let best = known.iter().max_by_key(|room| room.after_reserve);
    let wanted = format!("{:.1} GiB", need as f64 / GIB);
    match best {
        Some(room) if room.after_reserve >= need => {
            Fit::Fits(format!("{} has room for {wanted} ({})", room.host, room.by))
        }
        _ if known.len() < rooms.len() || rooms.is_empty() => Fit::Doubtful(
            "the cluster does not tell the memory of every host; it decides when the VM is made".to_owned(),
        ),
        _ => {
            let most = known.iter().map(|room| room.free).max().unwrap_or_default();
            let most_gib = most as f64 / GIB;
            if most >= need {
                Fit::Doubtful(format!(
                    "{wanted} fit only into what a host may need for itself (at most {most_gib:.1} GiB are free)"
                ))
            } else {
                Fit::No(format!("no host has {wanted} of memory free, the most is {most_gib:.1} GiB"))
            }
        }
    }
}

struct Room {
    host: String,
    /// Free by count.
    free: u64,
    /// The same less what the host keeps for itself.
    after_reserve: u64,
    /// Which figure it was taken from.
    by: String,
}

/// `None`: the host's memory is not known.
fn room(host: &HostInfo, vms: &[Vm], settings: &Precheck) -> Option<Room> {
    if let Some((free, field)) = host.memory_free {
        return Some(Room { host: host.name.clone(), free, after_reserve: free, by: format!("memory.{field}") });
    }
    let total = host.memory_total?;
    let on_it = |vm: &&Vm| vm.is_running() && !host.data_ip.is_empty() && vm.node_ip == host.data_ip;
    let committed: u64 = vms.iter().filter(on_it).filter_map(|vm| vm.memory).fold(0, u64::saturating_add);
    let reserve = (total / 100).saturating_mul(settings.host_reserve_percent).max(settings.host_reserve_bytes);
    let free = total.saturating_sub(committed);
    let by = "total memory less running VMs and reserve".to_owned();
    Some(Room { host: host.name.clone(), free, after_reserve: free.saturating_sub(reserve), by })
}

#[cfg(test)]
mod tests {
    use super::*;

    const G: u64 = 1 << 30;

    fn host(ip: &str, total: Option<u64>, free: Option<u64>) -> HostInfo {
        let memory_free = free.map(|free| (free, "available"));
        HostInfo { name: ip.into(), data_ip: ip.into(), memory_total: total, memory_free, ..HostInfo::default() }
    }

    fn vm(ip: &str, memory: u64) -> Vm {
        Vm { node_ip: ip.into(), memory: Some(memory), status: "running".into(), ..Vm::default() }
    }

    fn judged(hosts: &[HostInfo], vms: &[Vm], pinned: Option<&str>) -> &'static str {
        match fit(hosts, vms, 19 * G, pinned, &Precheck::default()) {
            Fit::Fits(_) => "fits",
            Fit::Doubtful(_) => "doubtful",
            Fit::No(_) => "no",
        }
    }

    #[test]
    fn one_host_with_room_is_enough() {
        assert_eq!(judged(&[host("a", Some(16 * G), None), host("b", Some(256 * G), None)], &[], None), "fits");
        assert_eq!(judged(&[host("a", Some(256 * G), None)], &[vm("a", 240 * G)], None), "no");
        assert_eq!(judged(&[host("a", Some(256 * G), None)], &[vm("a", 200 * G)], None), "doubtful");
        let stopped = Vm { status: "stopped".into(), ..vm("a", 250 * G) };
        assert_eq!(judged(&[host("a", Some(256 * G), None)], &[stopped], None), "fits");
    }

    #[test]
    fn what_is_not_known_refuses_nothing() {
        assert_eq!(judged(&[], &[], None), "doubtful");
        assert_eq!(judged(&[host("a", None, None), host("b", Some(8 * G), None)], &[], None), "doubtful");
    }

    #[test]
    fn the_servers_own_count_wins() {
        assert_eq!(judged(&[host("a", Some(256 * G), Some(5 * G))], &[], None), "no");
        assert_eq!(judged(&[host("a", Some(20 * G), Some(19 * G))], &[], None), "fits");
    }

    #[test]
    fn only_the_planned_host_counts() {
        let hosts = [host("a", Some(16 * G), None), host("b", Some(256 * G), None)];
        assert_eq!(judged(&hosts, &[], Some("a")), "no");
        assert_eq!(judged(&hosts, &[], Some("b")), "fits");
        assert_eq!(judged(&hosts, &[], Some("c")), "doubtful");
    }
}
