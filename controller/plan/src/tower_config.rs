//! What the stage `cloudtower_config` does: overrides and settings only, no cell.

use gantry_proto::plan::{DefaultPolicy, TowerConfig};

use crate::{
    defaults::TowerConfigDefaults,
    deployment::value,
    fields::{ALERT_CRITICAL, ALERT_FLOOR, CAPACITY_ALERT, DASHBOARDS, DEFAULT_POLICY, Field},
    input::Input,
    values::{self, Reject},
};

/// Settles every value; `None` when one of them is wrong.
pub(crate) fn read(input: &mut Input<'_>, defaults: &TowerConfigDefaults) -> Option<TowerConfig> {
    let storage_policy = value(input, &DEFAULT_POLICY, defaults.storage_policy.clone(), policy);
    let mut boolean =
        |field, setting: bool| value(input, field, setting.to_string(), |text| values::word(text, values::BOOLEANS));
    let capacity_alert = boolean(&CAPACITY_ALERT, defaults.capacity_alert);
    let dashboards = boolean(&DASHBOARDS, defaults.dashboards);
    let mut percent = |field: &Field, setting: u32, range| {
        value(input, field, setting.to_string(), |text| values::whole(text, range))
    };
    let critical = percent(&ALERT_CRITICAL, defaults.alert_critical, 2..=100);
    // What is wrong with the one value is told once.
    let below = critical.map_or(99, |critical| critical - 1);
    let floor = percent(&ALERT_FLOOR, defaults.alert_notice_floor, 1..=below);
    Some(TowerConfig {
        storage_policy: storage_policy?,
        capacity_alert: capacity_alert?,
        alert_notice_floor: u32::try_from(floor?).ok()?,
        alert_critical: u32::try_from(critical?).ok()?,
        dashboards: dashboards?,
    })
}

/// A policy's name, or `default`.
fn policy(text: &str) -> Result<DefaultPolicy, Reject> {
    if text.eq_ignore_ascii_case("default") {
        return Ok(DefaultPolicy::default());
    }
    let words: Vec<(&str, DefaultPolicy)> = DefaultPolicy::ALL.iter().map(|(policy, name)| (*name, *policy)).collect();
    values::word(text, &words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_by_name_in_any_case() {
        for (text, expected) in [
            ("default", Some(DefaultPolicy::Replica2)),
            ("replica_3_thin_provision", Some(DefaultPolicy::Replica3)),
            ("EC_4_2_THIN_PROVISION", Some(DefaultPolicy::Ec4And2)),
            ("EC_4_2", None),
        ] {
            assert_eq!(policy(text).ok(), expected, "{text}");
        }
    }
}
