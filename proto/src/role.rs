//! The roles of operators in words, as people and scripts read and write them.

use crate::v1::Role;

impl Role {
    /// Every role, the least one first.
    pub const EACH: [Self; 3] = [Self::Viewer, Self::Operator, Self::Admin];

    /// The stable word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Unspecified => "none",
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }

    /// The role of a word.
    pub fn of(word: &str) -> Option<Self> {
        Self::EACH.into_iter().find(|role| role.word() == word)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_read_back_and_roles_rise() {
        for role in Role::EACH {
            assert_eq!(Role::of(role.word()), Some(role));
        }
        assert_eq!(Role::of("none"), None);
        assert!(Role::EACH.is_sorted() && Role::Unspecified < Role::Viewer);
    }
}
