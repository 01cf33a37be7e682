//! What to do about a finding, by its code. Knows no cell and no value; a rule that can say more says it itself.

use gantry_proto::Severity;

/// The remedy for a code. Never empty.
pub(crate) fn of(code: &str, severity: Severity) -> &'static str {
    match code {
        "required" => "fill in the cell",
        "secret_in_text" => "put the right value into this cell",
        "address_conflict" => "give one of the cells another address",
        "in_temporary_range" => "choose an address outside the range, or change the range",
        "not_in_subnet" | "network_address" | "broadcast_address" => "choose a free host address of the subnet",
        "invalid_address" => "type an IPv4 address such as 192.0.2.20",
        "ipv6_address" => "type the IPv4 address instead",
        "unusable_address" => "type the IPv4 address of one machine, below 224.0.0.0 and not in 0.0.0.0/8",
        "invalid_subnet" => "type the network with its prefix length, such as 192.0.2.0/24",
        "invalid_vlan" => "type a whole number from 0 (untagged) to 4094",
        "invalid_name" => "use 1 to 63 letters, digits, '.', '_' or '-', the first one a letter or digit",
        "invalid_vds" => "type the name of the switch that carries the management network",
        "invalid_server" => "type IPv4 addresses or, for NTP, host names, separated by commas",
        "invalid_value" => "give one of the values that are expected",
        "control_character" => "type the text again on one line, without control characters",
        "too_long" => "shorten the text",
        "password_policy" => "choose another password",
        "layout" => "use the unchanged template",
        "fixed_field" => "correct the value in the workbook and leave the override out",
        "blank_override" => "give the override a value, or leave it out",
        "half_filled_range" => "fill in both ends of the range, or neither",
        "reversed_range" => "put the lower address first",
        "half_filled_row" => "fill in the whole row, or clear it",
        "host_bits_set" => "type the network's own address",
        "subnet_overlap" => "give the two networks different addresses, unless the overlap is meant",
        "no_hosts" => "fill in the hosts, unless there is only the VIP",
        "no_vip" => "fill in the VIP before the cluster is attached",
        "no_ntp" | "no_dns" => "fill in the servers, unless the step shall be left out",
        "loopback_address" | "link_local_address" => "replace the address by a real one, unless this is a rehearsal",
        "vlan_type" => "check that the port carries the VLAN as the plan says",
        "web_user" => "expect the user root, and correct the cell",
        "sizing_differs" => "correct the cell, or choose the shape with --set deployment.vm.profile",
        "version_differs" => "correct the cell, or choose the other ISO file",
        _ => match severity {
            Severity::Notice => "nothing, when that is meant; otherwise correct the cell",
            _ => "correct the cell",
        },
    }
}
