//! What the fields of a workbook expect, in Chinese: the planner's own words are English, and stand in its findings so.

use crate::{args::Lang, language::now};

/// The planner's words and what they mean.
const EXPECTED: &[(&str, &str)] = &[
    ("text", "文本"),
    ("text, at most 255 characters", "文本，最多 255 个字符"),
    ("an IPv4 address", "IPv4 地址"),
    ("true or false", "true 或 false"),
    ("a user name", "用户名"),
    ("an IPv4 network such as 192.0.2.0/24, prefix 8 to 30", "IPv4 网段，如 192.0.2.0/24，前缀 8 至 30"),
    (
        "1 to 63 letters, digits, '.', '_' or '-', the first one a letter or digit",
        "1 至 63 个字母、数字、“.”、“_”或“-”，首个为字母或数字",
    ),
    ("a password that satisfies the policy", "符合策略的口令"),
    ("root", "固定为 root"),
    ("a password", "口令"),
    ("IPv4 addresses or host names, separated by commas", "IPv4 地址或主机名，以逗号分隔"),
    ("IPv4 addresses, separated by commas", "IPv4 地址，以逗号分隔"),
    ("the name of a virtual switch", "虚拟交换机名称"),
    ("the name of a VM network", "虚拟机网络名称"),
    ("a whole number from 0 (untagged) to 4094", "0（不带标签）至 4094 的整数"),
    ("Access", "固定为 Access"),
    ("the password of the cluster's administrator", "集群管理员的口令"),
    ("the first and the last address of a range", "地址段的首个和末个地址"),
    ("high (8 vCPU, 19 GiB, 400 GiB) or low (4, 12, 100)", "high（8 vCPU、19 GiB、400 GiB）或 low（4、12、100）"),
    ("a whole number from 1 to 128", "1 至 128 的整数"),
    ("a whole number of GiB from 1 to 4096", "1 至 4096 的整数，单位 GiB"),
    ("a whole number of GiB from 1 to 65536", "1 至 65536 的整数，单位 GiB"),
    ("the name of a storage policy", "存储策略名称"),
    ("the storage address of the host that shall run the VM", "运行该虚拟机的主机的存储 IP"),
    ("the name of an ISO file in the agent's directory", "代理目录中 ISO 文件的名称"),
    ("64 hexadecimal digits", "64 位十六进制数字"),
    ("32 hexadecimal digits", "32 位十六进制数字"),
    ("a number of bytes from 65536 to 1073741824", "字节数，65536 至 1073741824"),
    ("auto or keep", "auto 或 keep"),
    (
        "stages, separated by commas: prepare, deploy_cloudtower, attach_cluster, cloudtower_config, \
         check_cluster_healthy, cleanup",
        "阶段，以逗号分隔：prepare、deploy_cloudtower、attach_cluster、cloudtower_config、check_cluster_healthy、cleanup",
    ),
    (
        "VIPs of clusters to attach beside the workbook's, with its user and password, separated by commas",
        "除规划表所列之外要接入的集群的 VIP，使用相同的用户名和口令，以逗号分隔",
    ),
    (
        "the clusters' default storage policy: REPLICA_2_THIN_PROVISION, REPLICA_3_THIN_PROVISION, \
         EC_4_2_THIN_PROVISION or EC_6_2_THIN_PROVISION",
        "集群的默认存储策略：REPLICA_2_THIN_PROVISION、REPLICA_3_THIN_PROVISION、EC_4_2_THIN_PROVISION 或 \
         EC_6_2_THIN_PROVISION",
    ),
    ("a whole number of percent below alert_critical", "小于 alert_critical 的整数百分比"),
    ("a whole number of percent from 2 to 100", "2 至 100 的整数百分比"),
];

/// The same for people.
pub(super) fn expected(english: &'static str) -> &'static str {
    match now() {
        Lang::En => english,
        Lang::Zh => EXPECTED.iter().find(|(known, _)| *known == english).map_or(english, |(_, chinese)| chinese),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_and_no_other_is_told_in_chinese() {
        let fields = || gantry_plan::FIELDS.iter().map(|field| field.expects);
        let untold: Vec<_> = fields().filter(|text| EXPECTED.iter().all(|(known, _)| known != text)).collect();
        assert_eq!(untold, Vec::<&str>::new());
        let unused: Vec<_> = EXPECTED.iter().filter(|(known, _)| fields().all(|text| text != *known)).collect();
        assert_eq!(unused, Vec::<&(&str, &str)>::new());
        assert!(EXPECTED.iter().all(|(en, zh)| en.is_ascii() && !zh.is_ascii()));
    }
}
