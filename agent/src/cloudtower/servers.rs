//! Lists of servers as CloudTower writes them: `,` on the way in, `;` on the way out (C40). Pure.

/// The servers of a list, whichever way it is written.
pub fn split_servers(list: &str) -> Vec<String> {
    list.split([',', ';']).map(str::trim).filter(|server| !server.is_empty()).map(str::to_owned).collect()
}

/// Whether both lists name the same servers, in any order.
pub fn same_servers(one: &[String], other: &[String]) -> bool {
    let sorted = |list: &[String]| {
        let mut list: Vec<String> = list.iter().map(|server| server.to_lowercase()).collect();
        list.sort_unstable();
        list
    };
    sorted(one) == sorted(other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_separators_and_blanks() {
        assert_eq!(split_servers("192.0.2.2;ntp.example.net"), ["192.0.2.2", "ntp.example.net"]);
        assert_eq!(split_servers(" a ,b; ;c;"), ["a", "b", "c"]);
        assert!(split_servers(" ; ").is_empty());
    }

    #[test]
    fn order_is_not_what_makes_servers_the_same() {
        let list = |text: &str| split_servers(text);
        assert!(same_servers(&list("a,B"), &list("b;A")));
        assert!(!same_servers(&list("a,b"), &list("a")));
        assert!(!same_servers(&list("a,a"), &list("a,b")));
    }
}
