//! HTML being written. Tags and classes are ours and known when the program is built; whatever else comes in is text,
//! and is escaped here and nowhere else.

use std::fmt::Write as _;

use crate::text;

/// The longest text that is shown, characters: a page is for people.
const TEXT_MAX: usize = 4_000;

/// A page, or a part of one.
#[derive(Default)]
pub(super) struct Markup(String);

/// How a word stands out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tone {
    Plain,
    Good,
    Warn,
    Bad,
}

/// What stands in a cell of a table.
#[derive(Clone, Debug)]
pub(super) enum Cell {
    /// Words.
    Text(String),
    /// Something to be copied: an id, a key, a path.
    Code(String),
    /// A state.
    Badge(Tone, String),
    /// A share of the whole, 0 to 1, with words.
    Bar(f64, String),
}

impl Cell {
    /// Whether there is nothing to be seen in it.
    pub(super) fn is_empty(&self) -> bool {
        let (Self::Text(text) | Self::Code(text) | Self::Badge(_, text) | Self::Bar(_, text)) = self;
        text.is_empty()
    }
}

impl Markup {
    /// The page.
    pub(super) fn into_string(self) -> String {
        self.0
    }

    /// Markup of our own.
    pub(super) fn raw(&mut self, markup: &'static str) {
        self.0.push_str(markup);
    }

    /// Text, whatever is in it: without control and direction-changing characters, on one line, escaped.
    pub(super) fn text(&mut self, text: &str) {
        let clean = text::clean(text);
        let mut characters = clean.chars();
        for c in characters.by_ref().take(TEXT_MAX) {
            match c {
                '&' => self.raw("&amp;"),
                '<' => self.raw("&lt;"),
                '>' => self.raw("&gt;"),
                '"' => self.raw("&quot;"),
                '\'' => self.raw("&#39;"),
                c => self.0.push(c),
            }
        }
        if characters.next().is_some() {
            self.raw("…");
        }
    }

    /// Text between two pieces of markup.
    pub(super) fn within(&mut self, before: &'static str, text: &str, after: &'static str) {
        self.raw(before);
        self.text(text);
        self.raw(after);
    }

    /// A table; without rows, nothing.
    pub(super) fn table(&mut self, heads: &[&str], rows: impl IntoIterator<Item = Vec<Cell>>) {
        let mut rows = rows.into_iter().peekable();
        if rows.peek().is_none() {
            return;
        }
        self.raw("<table><thead><tr>");
        heads.iter().for_each(|head| self.within("<th scope=\"col\">", head, "</th>"));
        self.raw("</tr></thead><tbody>");
        for row in rows {
            self.raw("<tr>");
            row.iter().for_each(|cell| self.cell(cell));
            self.raw("</tr>\n");
        }
        self.raw("</tbody></table>\n");
    }

    /// Names with their values; without any, nothing.
    pub(super) fn pairs(&mut self, pairs: impl IntoIterator<Item = (String, Cell)>) {
        let mut pairs = pairs.into_iter().peekable();
        if pairs.peek().is_none() {
            return;
        }
        self.raw("<table><tbody>");
        for (name, cell) in pairs {
            self.within("<tr><th scope=\"row\">", &name, "</th>");
            self.cell(&cell);
            self.raw("</tr>\n");
        }
        self.raw("</tbody></table>\n");
    }

    fn cell(&mut self, cell: &Cell) {
        self.raw("<td>");
        match cell {
            Cell::Text(text) => self.text(text),
            Cell::Code(text) => self.within("<code>", text, "</code>"),
            Cell::Badge(tone, text) => self.badge(*tone, text),
            Cell::Bar(share, text) => {
                self.text(text);
                let percent = if share.is_finite() { 100.0 * share.clamp(0.0, 1.0) } else { 0.0 };
                // Writing to a string cannot fail.
                let _ = write!(self.0, "<span class=\"bar\" style=\"width:{percent:.1}%\"></span>");
            }
        }
        self.raw("</td>");
    }

    /// A state.
    pub(super) fn badge(&mut self, tone: Tone, text: &str) {
        let before = match tone {
            Tone::Plain => "<span class=\"badge\">",
            Tone::Good => "<span class=\"badge good\">",
            Tone::Warn => "<span class=\"badge warn\">",
            Tone::Bad => "<span class=\"badge bad\">",
        };
        self.within(before, text, "</span>");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_comes_in_is_text() {
        let mut markup = Markup::default();
        let hostile = "</td><script>alert(\"1\")</script>&#39;'\u{202e}\u{1b}[31m\nnext";
        markup.pairs([(hostile.to_owned(), Cell::Code(hostile.to_owned()))]);
        markup.table(&[hostile], [vec![Cell::Badge(Tone::Bad, hostile.to_owned())]]);
        let page = markup.into_string();
        assert!(!page.contains("<script") && !page.contains('\u{202e}') && !page.contains('\u{1b}'), "{page}");
        assert_eq!(
            page.matches("&lt;/td&gt;&lt;script&gt;alert(&quot;1&quot;)&lt;/script&gt;&amp;#39;&#39; next").count(),
            4
        );
    }

    #[test]
    fn a_share_is_a_share_and_long_texts_are_cut() {
        for (share, width) in [(0.5, "50.0"), (7.0, "100.0"), (-1.0, "0.0"), (f64::NAN, "0.0"), (f64::INFINITY, "0.0")]
        {
            let mut markup = Markup::default();
            markup.pairs([("a".to_owned(), Cell::Bar(share, "b".to_owned()))]);
            assert!(markup.into_string().contains(&format!("width:{width}%")), "{share}");
        }
        let mut markup = Markup::default();
        markup.text(&"x".repeat(TEXT_MAX + 1));
        assert_eq!(markup.into_string().chars().count(), TEXT_MAX + 1);
    }

    #[test]
    fn what_is_empty_is_not_there() {
        let mut markup = Markup::default();
        markup.pairs([]);
        markup.table(&["a"], []);
        assert_eq!(markup.into_string(), "");
    }
}
