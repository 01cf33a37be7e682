//! Colour, or none: decided once for each of stdout and stderr.

use console::Style;

/// How loud text is; without colour it is the text itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Paint {
    color: bool,
}

impl Paint {
    /// No colour.
    #[cfg(test)]
    pub(crate) const PLAIN: Self = Self { color: false };

    /// Colour if `color`.
    pub(crate) const fn new(color: bool) -> Self {
        Self { color }
    }

    /// Went well.
    pub(crate) fn good(self, text: &str) -> String {
        self.with(Style::new().green(), text)
    }

    /// Went wrong.
    pub(crate) fn bad(self, text: &str) -> String {
        self.with(Style::new().red().bold(), text)
    }

    /// Somebody should look.
    pub(crate) fn warn(self, text: &str) -> String {
        self.with(Style::new().yellow(), text)
    }

    /// At work.
    pub(crate) fn busy(self, text: &str) -> String {
        self.with(Style::new().cyan(), text)
    }

    /// Less important.
    pub(crate) fn dim(self, text: &str) -> String {
        self.with(Style::new().dim(), text)
    }

    /// A heading.
    pub(crate) fn head(self, text: &str) -> String {
        self.with(Style::new().bold(), text)
    }

    fn with(self, style: Style, text: &str) -> String {
        if !self.color || text.is_empty() {
            return text.to_owned();
        }
        style.force_styling(true).apply_to(text).to_string()
    }
}
