//! The space that a deployment takes under its storage policy (R25, `fisheye.md` 8.4). Pure. No call tells how much there
//! is, so it is shown and nothing is refused: the authoritative answer is the cluster's, when the volume is made.

use crate::fisheye::Policy;

const GIB: f64 = (1u64 << 30) as f64;

/// The need in words. `iso`, `disk`: bytes.
pub(super) fn need(policy: &Policy, iso: Option<u64>, disk: u64) -> String {
    let replicas = policy.replicas.unwrap_or(1).max(1);
    let copies = match policy.replicas {
        Some(replicas) => format!("{replicas} copies"),
        None => "copies that the cluster does not tell".to_owned(),
    };
    let gib = |bytes: u64| format!("{:.1} GiB", bytes as f64 / GIB);
    let iso = iso.map(|iso| format!("the ISO {}, ", gib(iso.saturating_mul(replicas)))).unwrap_or_default();
    let disk = gib(disk.saturating_mul(replicas));
    let disk = match policy.thin {
        Some(true) => format!("the system disk {disk} as it fills"),
        Some(false) => format!("the system disk {disk} at once"),
        None => format!("the system disk up to {disk}"),
    };
    format!("needed under \"{}\" with {copies}: {iso}{disk}; the cluster tells nobody how much is free", policy.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_copy_counts() {
        let policy = |replicas, thin| Policy { name: "default".into(), replicas, thin, ..Policy::default() };
        let told = need(&policy(Some(2), Some(true)), Some(8 << 30), 400 << 30);
        assert!(told.contains("2 copies: the ISO 16.0 GiB, the system disk 800.0 GiB as it fills"), "{told}");
        let thick = need(&policy(Some(3), Some(false)), None, 100 << 30);
        assert!(thick.contains("3 copies: the system disk 300.0 GiB at once"), "{thick}");
        let unknown = need(&policy(None, None), None, u64::MAX);
        assert!(unknown.contains("does not tell") && unknown.contains("up to"), "{unknown}");
    }
}
