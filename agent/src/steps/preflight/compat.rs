//! Whether a host can run what is planned at all: the ISO's architecture, and the number of CPUs (R25). Pure. Says no only
//! where that is certain for every host.

use super::capacity::Fit;
use crate::fisheye::HostInfo;

/// Words in the names of CPUs, each with its architecture as ISO names have it.
const BRANDS: &[(&str, &str)] = &[
    ("intel", "x86_64"),
    ("amd", "x86_64"),
    ("xeon", "x86_64"),
    ("epyc", "x86_64"),
    ("hygon", "x86_64"),
    ("zhaoxin", "x86_64"),
    ("kunpeng", "aarch64"),
    ("phytium", "aarch64"),
    ("ampere", "aarch64"),
    ("loongson", "loongarch64"),
];

/// Whether a host has the architecture of the ISO.
pub(super) fn architecture(hosts: &[HostInfo], pinned: Option<&str>, iso: &str) -> Fit {
    let wanted = match iso.to_lowercase().as_str() {
        "arm64" => "aarch64".to_owned(),
        "amd64" => "x86_64".to_owned(),
        word => word.to_owned(),
    };
    if !BRANDS.iter().any(|(_, arch)| *arch == wanted) {
        return Fit::Doubtful(format!("the ISO is for \"{iso}\", which is no architecture that is known here"));
    }
    let found: Vec<Option<&str>> = eligible(hosts, pinned).map(of_host).collect();
    if found.iter().flatten().any(|arch| *arch == wanted) {
        return Fit::Fits(format!("the ISO is for {iso}, and so are hosts of the cluster"));
    }
    match found.first().copied().flatten() {
        Some(other) if found.iter().all(Option::is_some) => {
            Fit::No(format!("the ISO is for {iso}, the hosts of the cluster are {other}"))
        }
        _ => Fit::Doubtful(format!("the ISO is for {iso}; the cluster does not tell the architecture of every host")),
    }
}

/// Whether a host has as many CPUs as the VM wants. More may be refused, or only be slow: never a no.
pub(super) fn cpus(hosts: &[HostInfo], pinned: Option<&str>, need: u32) -> Fit {
    let cores: Vec<Option<u64>> = eligible(hosts, pinned).map(|host| host.cores).collect();
    match cores.iter().flatten().max() {
        Some(most) if *most >= u64::from(need) => Fit::Fits(format!("the VM wants {need} CPUs, a host has {most}")),
        Some(most) if cores.iter().all(Option::is_some) => {
            Fit::Doubtful(format!("the VM wants {need} CPUs, no host has more than {most}"))
        }
        _ => Fit::Doubtful(format!("the VM wants {need} CPUs; the cluster does not tell how many every host has")),
    }
}

fn eligible<'a>(hosts: &'a [HostInfo], pinned: Option<&'a str>) -> impl Iterator<Item = &'a HostInfo> {
    hosts.iter().filter(move |host| pinned.is_none_or(|ip| host.data_ip == ip))
}

fn of_host(host: &HostInfo) -> Option<&'static str> {
    let brand = host.cpu_brand.as_ref()?.to_lowercase();
    BRANDS.iter().find(|(word, _)| brand.contains(word)).map(|(_, arch)| *arch)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(brand: &str, cores: Option<u64>) -> HostInfo {
        HostInfo { cpu_brand: Some(brand.to_owned()), cores, data_ip: brand.to_owned(), ..HostInfo::default() }
    }

    #[test]
    fn only_a_cluster_that_is_certainly_of_another_architecture_is_refused() {
        let (intel, kunpeng, odd) =
            (host("Intel(R) Xeon(R) Gold 5218", None), host("Kunpeng-920", None), host("Simulated CPU", None));
        let judged = |hosts: &[HostInfo], arch: &str| architecture(hosts, None, arch);
        let both = [intel.clone(), kunpeng.clone()];
        assert!(matches!(judged(&both, "x86_64"), Fit::Fits(_)));
        assert!(matches!(judged(&both, "arm64"), Fit::Fits(_)));
        assert!(matches!(judged(&both[1..], "x86_64"), Fit::No(why) if why.contains("aarch64")));
        assert!(matches!(judged(&[kunpeng, odd], "x86_64"), Fit::Doubtful(_)));
        assert!(matches!(judged(&[], "x86_64"), Fit::Doubtful(_)));
        assert!(matches!(judged(&both, "b"), Fit::Doubtful(_)));
        assert!(matches!(architecture(&both, Some("Kunpeng-920"), "x86_64"), Fit::No(_)));
    }

    #[test]
    fn too_few_cpus_are_a_doubt() {
        let hosts = [host("a", Some(4)), host("b", Some(64))];
        assert!(matches!(cpus(&hosts, None, 8), Fit::Fits(_)));
        assert!(matches!(cpus(&hosts, Some("a"), 8), Fit::Doubtful(why) if why.contains("no host")));
        assert!(matches!(cpus(&[host("a", None)], None, 8), Fit::Doubtful(why) if why.contains("not tell")));
    }
}
