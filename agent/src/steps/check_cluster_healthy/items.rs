//! What an inspection looks at, by CloudTower's names (`cloudtower.md` 7).

/// Everything.
pub(super) const LOOKED_AT: &[&str] = &[
    "master_redundancy_check",
    "cluster_mem_usage_check",
    "cluster_cpu_usage_check",
    "host_disk_remaining_life_percent",
    "host_power_is_on",
    "host_disk_is_healthy",
    "host_unhealthy_disk_is_offline",
    "event_disk_remove",
    "event_slot_disk_remove",
    "event_disk_add",
    "sensor_check",
    "power_health_check",
    "bmc_selftest",
    "fan_check",
    "ipmi_account_is_valid",
    "chassis_selftest",
    "hotfix_package_check",
    "worker_status_check",
    "worker_num_check",
    "job_duration_check",
    "failed_job_check",
    "host_service_health",
    "host_service_resident_memory_bytes",
    "host_service_is_running",
    "log_dir_usage_check",
    "host_cpu_overall_usage_percent",
    "host_memory_usage_percent",
    "host_time_diff_with_ntp_leader_seconds",
    "cluster_can_sync_time_with_external_ntp_server",
    "cluster_can_connect_to_external_ntp_server",
    "mongo_data_size_check",
    "root_disk_usage_check",
    "meta_partition_usage_check",
    "sys_partition_raid_is_normal",
    "sys_boot_health_check",
    "zk_cfg_check",
    "zk_role_check",
    "zk_primary_check",
    "primary_check",
    "status_check",
    "zk_status_check",
    "system_config_check",
    "third_party_software_check",
    "host_storage_network_can_ping",
    "host_management_network_can_ping",
    "host_access_network_can_ping",
    "host_to_host_max_ping_time_ns",
    "host_work_status_is_unknown",
    "host_bond_slave_is_normal",
    "default_gateway_check",
    "associated_nic_num_check",
    "network_loss_package_check",
    "zbs_cluster_data_space_use_rate",
    "zbs_chunk_data_space_use_rate",
    "cluster_storage_usage_check",
    "zbs_cluster_chunks_unsafe_failure_space",
    "partition_status_check",
    "lsm_info_check",
    "zbs_cluster_pending_migrate_bytes",
    "zbs_chunk_avg_readwrite_latency_ns",
    "zbs_chunk_connect_status",
    "zbs_chunk_maintenance_mode",
    "zbs_cluster_chunks_without_topo",
    "zbs_chunk_dirty_cache_ratio",
    "zbs_zone_maximum_proportion_of_rack_space",
    "zbs_rack_maximum_proportion_of_brick_space",
    "disk_max_sectors_kb_check",
    "lsm2db_manifest_size_check",
    "journal_status_check",
    "dead_data_check",
    "cache_status_check",
    "recover_data_check",
    "meta_leader_check",
    "zbs_zk_hosts_cfg_check",
    "elf_cluster_cpu_model_not_recommended",
    "elf_vm_placement_expire",
    "elf_vm_placement_status",
    "elf_cluster_cpu_model_incompatible",
    "elf_host_ha_status",
    "vm_zero_page_refcount_check",
    "vm_uuid_duplicate_check",
    "without_vm_uuid_check",
];

/// What the report has no pages for.
const NOT_REPORTED: &[&str] = &[
    "host_disk_is_healthy",
    "host_unhealthy_disk_is_offline",
    "host_service_resident_memory_bytes",
    "host_memory_usage_percent",
    "host_time_diff_with_ntp_leader_seconds",
    "cluster_can_sync_time_with_external_ntp_server",
    "cluster_can_connect_to_external_ntp_server",
    "elf_host_ha_status",
];

/// What the report tells of.
pub(super) fn reported() -> Vec<&'static str> {
    LOOKED_AT.iter().filter(|item| !NOT_REPORTED.contains(item)).copied().collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn there_are_as_many_as_in_the_sample() {
        let all: BTreeSet<&str> = LOOKED_AT.iter().copied().collect();
        assert_eq!((all.len(), reported().len()), (82, 74));
    }
}
