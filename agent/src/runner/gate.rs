//! What is looked at before anybody reads what an order asks for: for whom it is, until when, and whether its number was
//! used before. And where its plan may lead: no address outside of the settings' ranges, no file outside of a directory.

use std::net::{IpAddr, Ipv4Addr};

use gantry_proto::{Code, JobId, Plan, order, v1};
use jiff::{SignedDuration, Timestamp};
use v1::order::Kind;

use super::{
    Runner,
    accept::{Refused, other_epoch, refused},
    entry::Entry,
};
use crate::config::Settings;

impl Runner {
    /// Lets an order pass that is this agent's, within its time, and new; or that is no longer carried out but only told
    /// what has become of it.
    pub(super) fn pass(&self, job: JobId, order: &v1::Order) -> Result<(), Refused> {
        if order.number == 0 || order.number > order::NUMBER_MAX {
            return Err(refused(Code::BadRequest, format!("there is no order {}", order.number)));
        }
        let here = &self.identity.site;
        if order.site != *here {
            let there: String = order.site.chars().take(63).collect();
            return Err(word(
                order::OTHER_SITE,
                format!("the order is for site \"{there}\", this agent is at \"{here}\""),
            ));
        }
        let entry = self.entry(job);
        if entry.as_ref().is_some_and(|entry| is_only_told(entry, order)) {
            return Ok(());
        }
        let highest = self.seen.highest();
        if order.number <= highest {
            let epoch = entry.map_or(0, |entry| entry.journal.tail().epoch);
            if order.epoch < epoch {
                return Err(other_epoch(order.epoch, epoch));
            }
            let message = format!(
                "order {} comes again, or late: this agent has carried out order {highest}, and knows none of number {} \
                 that says this",
                order.number, order.number
            );
            return Err(word(order::REPLAYED, message));
        }
        within_its_time(order, Timestamp::now(), &self.settings)
    }

    /// The highest number of an order that was carried out; 0: none.
    pub fn last_order(&self) -> u64 {
        self.seen.highest()
    }
}

/// Whether the job's own memory answers this order, so that nothing is done by it.
fn is_only_told(entry: &Entry, order: &v1::Order) -> bool {
    let tail = entry.journal.tail();
    let (number, over) = (order.number, tail.is_over());
    match &order.kind {
        // A job begins once, whatever the number.
        Some(Kind::Start(_)) => true,
        Some(Kind::Retry(_) | Kind::TakeOver(_)) => order.epoch == tail.epoch && entry.start_order() == number,
        Some(Kind::Cancel(_)) => over || entry.knows_cancel(number),
        Some(Kind::Pause(_) | Kind::Resume(_)) => over || entry.newest_hold() >= number,
        Some(Kind::TuneUpload(_)) => over || entry.tuning().0 >= number,
        Some(Kind::Decide(_)) => entry.knows_decision(number),
        Some(Kind::Surrender(_)) => over || entry.knows(number),
        None => false,
    }
}

fn within_its_time(order: &v1::Order, now: Timestamp, settings: &Settings) -> Result<(), Refused> {
    let until = Timestamp::from_microsecond(order.expires_micros).ok().filter(|_| order.expires_micros > 0);
    let until = until.ok_or_else(|| refused(Code::BadRequest, "the order does not say until when it holds"))?;
    let tolerance = SignedDuration::from_secs(i64::from(settings.link.clock_tolerance_s));
    if now.duration_since(until) <= tolerance {
        return Ok(());
    }
    let message = format!("the order was to be begun until {until}, and the clock of this bastion says {now}");
    Err(word(order::EXPIRED, message))
}

/// Where a plan may lead the agent. Name servers and time servers are not looked at: the VM asks them, not the agent.
pub(super) fn leads_nowhere_else(plan: &Plan, settings: &Settings) -> Result<(), Refused> {
    let foreign = destinations(plan).find(|(_, address)| {
        let address = IpAddr::V4(*address);
        !settings.allow.iter().any(|range| range.contains(&address))
    });
    if let Some((what, address)) = foreign {
        let message = format!(
            "the plan's address {address} ({what}) is in none of the ranges that this agent may speak with (`allow` in its \
             settings): correct the workbook, or have the range added there"
        );
        return Err(word(order::ADDRESS_NOT_ALLOWED, message));
    }
    let iso = plan.deployment.iso.file_name.as_deref().unwrap_or("cloudtower.iso");
    if iso.contains(['/', '\\', '\0']) || iso.is_empty() || iso == "." || iso == ".." {
        let shown: String = iso.chars().take(80).collect();
        let message = format!("the plan's ISO \"{shown}\" is not the name of a file in the ISO directory");
        return Err(refused(Code::BadRequest, message));
    }
    Ok(())
}

/// Every address of a plan to which the agent itself opens a connection.
fn destinations(plan: &Plan) -> impl Iterator<Item = (&'static str, Ipv4Addr)> {
    let tower = ("the CloudTower VM", plan.cloudtower.ip);
    let vip = plan.cluster.vip.map(|vip| ("the cluster's VIP", vip));
    let hosts = plan.hosts.iter().flat_map(|host| {
        let bmc = host.bmc_ip.map(|address| ("a host's BMC", address));
        std::iter::once(("a host of the cluster", host.mgmt_ip)).chain(bmc)
    });
    std::iter::once(tower).chain(vip).chain(hosts)
}

fn word(code: &'static str, message: String) -> Refused {
    Refused { code, message }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(expires_micros: i64) -> v1::Order {
        v1::Order { expires_micros, ..Default::default() }
    }

    #[test]
    fn an_order_holds_until_its_time_and_the_tolerance_for_clocks_are_over() {
        let mut settings = Settings::default();
        settings.link.clock_tolerance_s = 10;
        let at = |seconds: i64| Timestamp::from_second(1_000_000 + seconds).unwrap();
        let until = order(at(0).as_microsecond());
        for now in [at(-5_000), at(0), at(10)] {
            assert!(within_its_time(&until, now, &settings).is_ok(), "{now}");
        }
        let refused = within_its_time(&until, at(11), &settings).unwrap_err();
        assert_eq!(refused.code, order::EXPIRED);
        for none in [0, -1, i64::MIN, i64::MAX] {
            assert_eq!(within_its_time(&order(none), at(0), &settings).unwrap_err().code, Code::BadRequest.word());
        }
    }

    #[test]
    fn by_default_only_private_ranges_are_spoken_with() {
        let allow = Settings::default().allow;
        let allowed = |address: &str| allow.iter().any(|range| range.contains(&address.parse::<IpAddr>().unwrap()));
        for address in ["10.0.0.1", "172.16.0.1", "172.31.255.254", "192.168.1.1", "100.64.0.1", "fd00::1"] {
            assert!(allowed(address), "{address}");
        }
        // Loopback is the bastion itself, link-local where clouds hand out credentials.
        for address in ["127.0.0.1", "169.254.169.254", "8.8.8.8", "172.32.0.1", "100.128.0.1", "0.0.0.0", "::1"] {
            assert!(!allowed(address), "{address}");
        }
    }
}
