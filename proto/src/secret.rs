//! A text that nobody may see: no `Display`, no `Serialize`, wiped when dropped.

use std::fmt;

use zeroize::Zeroizing;

/// What stands in every output where a secret would stand (R71).
pub const REDACTED: &str = "机密凭据";

/// A secret text. `Debug` prints [`REDACTED`], so that a struct that holds one can be logged.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Takes the text over.
    pub fn new(text: impl Into<String>) -> Self {
        Self(Zeroizing::new(text.into()))
    }

    /// The text itself. Every use of this is a place to look at in a review.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// True when there is no character in it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(REDACTED)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_the_word_and_nothing_else() {
        assert_eq!(format!("{:?}", Secret::new("hunter2")), "机密凭据");
        assert_eq!(format!("{:?}", Some(Secret::new("hunter2"))), "Some(机密凭据)");
    }
}
