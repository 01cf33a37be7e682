//! Every kind of value, good and bad.

use super::*;

fn code<T: std::fmt::Debug>(result: Result<T, Reject>) -> &'static str {
    result.expect_err("a bad value").code
}

#[test]
fn addresses_are_four_plain_numbers() {
    assert_eq!(ipv4("192.0.2.20"), Ok(Ipv4Addr::new(192, 0, 2, 20)));
    assert_eq!(ipv4("0.0.0.0"), Ok(Ipv4Addr::UNSPECIFIED));
    for bad in [
        "",
        "192.0.2",
        "192.0.2.20.1",
        "192.0.2.256",
        "192.0.2.020",
        "192.0.2.20/24",
        "192.0.2.20:443",
        "192.0.2.x",
        "192.0.2.",
        " 192.0.2.1",
        "192.0.2. 1",
        "+1.0.0.0",
        "cloudtower",
        "1921680201",
        "192,0,2,20",
        "1234.1.1.1",
        "192.0.2.99999999999999999999",
    ] {
        assert_eq!(code(ipv4(bad)), "invalid_address", "{bad}");
    }
    for six in ["2001:db8::1", "::", "fe80::1%eth0", "::ffff:192.0.2.1"] {
        assert_eq!(code(ipv4(six)), "ipv6_address", "{six}");
    }
}

#[test]
fn subnets_have_a_prefix_from_8_to_30_or_a_mask() {
    let (net, bits) = subnet("192.0.2.0/24").expect("good");
    assert_eq!((net.to_string(), net.netmask(), bits), ("192.0.2.0/24".into(), Ipv4Addr::new(255, 255, 255, 0), false));
    let (net, bits) = subnet("192.0.2.9/24").expect("good");
    assert_eq!((net.to_string(), bits), ("192.0.2.0/24".into(), true));
    assert_eq!(subnet("192.0.2.0/255.255.255.0").expect("good").0.to_string(), "192.0.2.0/24");
    assert_eq!(subnet("10.0.0.0/8").expect("good").0.broadcast(), Ipv4Addr::new(10, 255, 255, 255));
    let (small, _) = subnet("192.0.2.4/30").expect("good");
    assert_eq!(small.broadcast(), Ipv4Addr::new(192, 0, 2, 7));
    assert_eq!(small.refuses(Ipv4Addr::new(192, 0, 2, 4)).map(|r| r.code), Some("network_address"));
    assert_eq!(small.refuses(Ipv4Addr::new(192, 0, 2, 7)).map(|r| r.code), Some("broadcast_address"));
    assert_eq!(small.refuses(Ipv4Addr::new(192, 0, 2, 8)).map(|r| r.code), Some("not_in_subnet"));
    assert_eq!(small.refuses(Ipv4Addr::new(192, 0, 2, 5)), None);
    for bad in [
        "192.0.2.0",
        "192.0.2.0/",
        "192.0.2.0/31",
        "192.0.2.0/32",
        "192.0.2.0/7",
        "192.0.2.0/0",
        "192.0.2.0/33",
        "192.0.2.0/255.0.255.0",
        "192.0.2.0/0.0.0.255",
        "192.0.2/24",
        "192.0.2.0/24/24",
        "2001:db8::/64",
        "x/24",
        "192.0.2.0/-1",
        "192.0.2.0/999",
    ] {
        assert_eq!(code(subnet(bad)), "invalid_subnet", "{bad}");
    }
}

#[test]
fn subnets_overlap_in_both_directions() {
    let net = |text| subnet(text).expect("good").0;
    assert!(net("10.0.0.0/8").overlaps(net("10.1.2.0/24")));
    assert!(net("10.1.2.0/24").overlaps(net("10.0.0.0/8")));
    assert!(!net("10.1.2.0/24").overlaps(net("10.1.3.0/24")));
}

#[test]
fn unusable_ranges_are_named() {
    for bad in [[0, 1, 2, 3], [224, 0, 0, 1], [239, 255, 255, 255], [240, 0, 0, 1], [255, 255, 255, 255]] {
        assert!(unusable(bad.into()).is_some(), "{bad:?}");
    }
    for good in [[127, 0, 0, 1], [169, 254, 1, 1], [10, 0, 0, 1], [223, 255, 255, 254]] {
        assert!(unusable(good.into()).is_none(), "{good:?}");
    }
}

#[test]
fn vlan_ids_are_whole_numbers_to_4094() {
    assert_eq!(vlan("0"), Ok(0));
    assert_eq!(vlan("4094"), Ok(4094));
    for bad in ["", "4095", "-1", "20.5", "vlan20", "1e2", "99999999999", "+5"] {
        assert_eq!(code(vlan(bad)), "invalid_vlan", "{bad}");
    }
}

#[test]
fn vm_names_are_what_a_platform_takes() {
    for good in ["cloudtower", "c", "1a.b_c-d", &"a".repeat(63)] {
        assert_eq!(vm_name(good), Ok(good.to_owned()));
    }
    for bad in ["", "-a", ".a", "a b", "云塔", "a/b", "ｃloud", &"a".repeat(64)] {
        assert_eq!(code(vm_name(bad)), "invalid_name", "{bad}");
    }
}

#[test]
fn servers_are_addresses_or_host_names() {
    for good in ["192.0.2.123", "ntp.example.test", "ntp", "n-1.example", "1ntp.example", &"a".repeat(63)] {
        assert_eq!(server(good), Ok(good.to_owned()));
    }
    for bad in [
        "1.2.3",
        "192.0.2.256",
        "12345",
        "-a.b",
        "a-.b",
        "a..b",
        "a_b",
        "ntp.example:123",
        "2001:db8::1",
        "时间",
        "ntp.example.",
        &"a".repeat(64),
        &vec!["abcdefg"; 40].join("."),
    ] {
        assert_eq!(code(server(bad)), "invalid_server", "{bad}");
    }
    assert_eq!(entries(" a,b，c；d;e、f\ng  h ,"), ["a", "b", "c", "d", "e", "f", "g", "h"]);
}

#[test]
fn words_numbers_and_digests_have_their_form() {
    assert_eq!(whole("19", 1..=4096), Ok(19));
    for bad in ["0", "4097", "-1", "1.5", "x", ""] {
        assert_eq!(code(whole(bad, 1..=4096)), "invalid_value");
    }
    assert_eq!(word("TRUE", &[("true", true), ("false", false)]), Ok(true));
    assert_eq!(code(word("yes", &[("true", true), ("false", false)])), "invalid_value");
    assert_eq!(digest("AB01", 4), Ok("ab01".to_owned()));
    assert_eq!(code(digest("xyz1", 4)), "invalid_value");
    assert_eq!(code(digest("ab", 4)), "invalid_value");
    assert_eq!(code(file_name("../a.iso")), "invalid_value");
    assert_eq!(code(free_text(&"x".repeat(256))), "too_long");
    assert_eq!(code(free_text("a\u{7}b")), "control_character");
    assert_eq!(code(vds_name("（IPMI）")), "invalid_vds");
    assert_eq!(vds_name("vDS-MgMt"), Ok("vDS-MgMt".to_owned()));
}
