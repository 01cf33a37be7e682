//! Moves a valid plan into another network.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use super::Workbook;

/// Hosts a plan can hold: rows 3 to 18 of `主机规划`.
const MAX_HOSTS: usize = 16;

impl Workbook {
    /// Puts the plan into `subnet` (`127.30.40.0/24`): the cluster's VIP, one host per entry of `nodes` (at most 16),
    /// CloudTower, gateway. The other addresses of the plan (components, temporary range, NTP, DNS, storage, BMC) are
    /// chosen so that none meets another one.
    ///
    /// # Panics
    /// When `subnet` is not an IPv4 network or there are too many nodes: a mistake in the test.
    #[must_use]
    pub fn addresses(
        mut self,
        vip: Ipv4Addr,
        nodes: &[Ipv4Addr],
        tower: Ipv4Addr,
        gateway: Ipv4Addr,
        subnet: &str,
    ) -> Self {
        assert!(nodes.len() <= MAX_HOSTS, "a plan holds at most {MAX_HOSTS} hosts");
        let (base, size) = parse_subnet(subnet);
        let mut taken: BTreeSet<u32> = nodes.iter().chain([&vip, &tower, &gateway]).map(|ip| (*ip).into()).collect();
        self = self
            .set("虚拟网络!H4", subnet)
            .set("虚拟网络!I4", gateway)
            .set("主机规划!I19", vip)
            .set("集群管理信息!E3", tower);
        let range = free_run(&taken, base, size, 9);
        taken.extend(range.clone().into_iter().flatten());
        self = self.put_or_clear("集群管理信息!E18", range.as_ref().and_then(|r| r.first().copied()));
        self = self.put_or_clear("集群管理信息!E19", range.as_ref().and_then(|r| r.last().copied()));
        for cell in ["E4", "E5", "E22", "E23", "E24", "E25"] {
            let free = free_run(&taken, base, size, 1).and_then(|run| run.first().copied());
            taken.extend(free);
            self = self.put_or_clear(&format!("集群管理信息!{cell}"), free);
        }
        self.hosts(nodes, &mut taken)
    }

    fn hosts(mut self, nodes: &[Ipv4Addr], taken: &mut BTreeSet<u32>) -> Self {
        for index in 0..MAX_HOSTS {
            let row = index + 3;
            let Some(node) = nodes.get(index) else {
                for column in ["E", "F", "G", "H", "I", "K", "M", "N"] {
                    self = self.clear(&format!("主机规划!{column}{row}"));
                }
                continue;
            };
            let number = index + 1;
            for (column, network) in [("E", BMC_NETWORK), ("N", STORAGE_NETWORK)] {
                let address = free_run(taken, u32::from(network), 256, 1).and_then(|run| run.first().copied());
                taken.extend(address);
                self = self.put_or_clear(&format!("主机规划!{column}{row}"), address);
            }
            self = self
                .set(&format!("主机规划!F{row}"), "root")
                .set(&format!("主机规划!G{row}"), super::template::BMC_PASSWORD)
                .set(&format!("主机规划!H{row}"), format!("SIM-SMTX-Lab-Node-{number:02}"))
                .set(&format!("主机规划!I{row}"), *node)
                .set(&format!("主机规划!K{row}"), super::template::NODE_PASSWORD)
                .set(&format!("主机规划!M{row}"), super::template::ADMIN_PASSWORD);
        }
        self
    }

    fn put_or_clear(self, address: &str, value: Option<u32>) -> Self {
        match value {
            Some(value) => self.set(address, Ipv4Addr::from(value)),
            None => self.clear(address),
        }
    }
}

pub(super) const BMC_NETWORK: Ipv4Addr = Ipv4Addr::new(127, 30, 39, 0);
pub(super) const STORAGE_NETWORK: Ipv4Addr = Ipv4Addr::new(127, 30, 41, 0);

#[expect(clippy::panic, reason = "a test that misspells a network must fail at that line")]
fn parse_subnet(subnet: &str) -> (u32, u32) {
    let parsed = subnet.split_once('/').and_then(|(address, prefix)| {
        let address: Ipv4Addr = address.parse().ok()?;
        let prefix: u32 = prefix.parse().ok().filter(|prefix| (1..=30).contains(prefix))?;
        let size = 1_u32 << (32 - prefix);
        Some((u32::from(address) & !(size - 1), size))
    });
    match parsed {
        Some(parsed) => parsed,
        None => panic!("{subnet:?} is not a network like `127.30.40.0/24`"),
    }
}

/// The highest run of `count` host addresses of the network that nobody has taken; the search is bounded.
fn free_run(taken: &BTreeSet<u32>, base: u32, size: u32, count: u32) -> Option<Vec<u32>> {
    const LOOKED_AT: u32 = 4096;
    let last = size.checked_sub(2)?;
    (1..=last.checked_sub(count - 1)?).rev().take(LOOKED_AT as usize).find_map(|start| {
        let run: Vec<u32> = (start..start + count).map(|offset| base + offset).collect();
        run.iter().all(|address| !taken.contains(address)).then_some(run)
    })
}
