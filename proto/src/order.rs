//! Why an order is refused because of what every order says of itself: for whom it is, until when, and its number. Stable
//! words, as they stand in `OrderUpdate.code` and in the failure of a job that was not begun for that reason.

/// Meant for the agents of another site.
pub const OTHER_SITE: &str = "other_site";
/// Past its time.
pub const EXPIRED: &str = "order_expired";
/// Its number was used before, by an order that is not this one.
pub const REPLAYED: &str = "order_replayed";
/// Its plan names an address outside of the ranges in the agent's settings.
pub const ADDRESS_NOT_ALLOWED: &str = "address_not_allowed";

/// The highest number that an order may have: what lies above is no number that was ever given.
pub const NUMBER_MAX: u64 = 1 << 53;

/// What an operator does about a refusal; `None`: the word is not one of these.
pub fn remedy(code: &str) -> Option<&'static str> {
    match code {
        OTHER_SITE => Some("compare the site in the agent's join file with the job's, then submit the workbook again"),
        EXPIRED => Some("bring the agent into contact (`ctl agents`), then submit the workbook again"),
        REPLAYED => Some("look at `ctl show JOB`; when the order is still wanted, give it again"),
        ADDRESS_NOT_ALLOWED => Some(
            "correct the address in the workbook, or let whoever runs the bastion add its range to `allow` in the agent's \
             settings; then submit the workbook again",
        ),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_has_a_remedy_and_no_other_has() {
        for word in [OTHER_SITE, EXPIRED, REPLAYED, ADDRESS_NOT_ALLOWED] {
            assert!(remedy(word).is_some_and(|text| !text.is_empty()), "{word}");
        }
        assert_eq!(remedy("bad_request"), None);
    }
}
