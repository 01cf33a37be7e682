//! `/etc/resolv.conf`: which servers go in, which are there. Pure.

use std::net::Ipv4Addr;

/// The C library looks at no more (`cloudtower.md` 2.2).
const MAX_SERVERS: usize = 3;
/// Lines of a file that are looked at.
const MAX_LINES: usize = 1000;

/// The plan's servers without duplicates, at most three.
pub fn servers(planned: &[Ipv4Addr]) -> Vec<Ipv4Addr> {
    let mut servers: Vec<Ipv4Addr> = Vec::new();
    for server in planned {
        if !servers.contains(server) {
            servers.push(*server);
        }
    }
    servers.truncate(MAX_SERVERS);
    servers
}

/// The servers that a file names, in order.
pub fn parse(text: &str) -> Vec<String> {
    let words = text.lines().take(MAX_LINES).map(str::split_whitespace);
    words
        .filter_map(|mut words| (words.next() == Some("nameserver")).then(|| words.next()).flatten())
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_servers_and_none_twice() {
        let ip = |last| Ipv4Addr::new(192, 0, 2, last);
        assert_eq!(servers(&[ip(1), ip(2), ip(1), ip(3), ip(4)]), [ip(1), ip(2), ip(3)]);
    }

    #[test]
    fn only_nameserver_lines_count() {
        let text = "# nameserver 9.9.9.9\nsearch x\n nameserver  192.0.2.1 # first\nnameserver\nnameserver fe80::1\n";
        assert_eq!(parse(text), ["192.0.2.1", "fe80::1"]);
    }
}
