//! Text for a terminal: cleaned of what could steer it, measured and cut by columns (a Chinese character takes two).

use std::borrow::Cow;

use console::{measure_text_width, truncate_str};

pub(crate) use gantry_report::text::clean;

/// Columns that the text takes.
pub(crate) fn width(text: &str) -> usize {
    measure_text_width(text)
}

/// At most `columns` wide, with `…` where something was cut off.
pub(crate) fn cut(text: &str, columns: usize) -> Cow<'_, str> {
    truncate_str(text, columns, "…")
}

/// Cut or filled with blanks to exactly `columns`.
pub(crate) fn column(text: &str, columns: usize) -> String {
    let mut out = cut(text, columns).into_owned();
    out.extend(std::iter::repeat_n(' ', columns.saturating_sub(width(&out))));
    out
}

/// The text in lines of at most `columns`, broken at blanks where there are any.
pub(crate) fn wrap(text: &str, columns: usize) -> Vec<String> {
    let columns = columns.max(8);
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        for piece in pieces(word, columns) {
            let Some(line) = lines.last_mut() else { continue };
            if line.is_empty() {
                line.push_str(&piece);
            } else if width(line) + 1 + width(&piece) <= columns {
                line.push(' ');
                line.push_str(&piece);
            } else {
                lines.push(piece);
            }
        }
    }
    lines
}

/// A word that is wider than a line, in pieces that are not.
fn pieces(word: &str, columns: usize) -> Vec<String> {
    if width(word) <= columns {
        return vec![word.to_owned()];
    }
    let mut all = vec![String::new()];
    for c in word.chars() {
        let mut buffer = [0; 4];
        let c = &*c.encode_utf8(&mut buffer);
        match all.last_mut() {
            Some(piece) if width(piece) + width(c) <= columns => piece.push_str(c),
            _ => all.push(c.to_owned()),
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn widths_are_columns_not_characters() {
        assert_eq!(column("集群", 6), "集群  ");
        assert_eq!(column("集群管理信息", 6), "集群… ");
        assert_eq!(cut("abcdef", 4), "abc…");
    }

    #[test]
    fn lines_break_at_blanks_and_inside_words_that_are_too_long() {
        assert_eq!(wrap("one two three", 8), ["one two", "three"]);
        assert_eq!(wrap("集群管理信息集群", 8), ["集群管理", "信息集群"]);
        assert_eq!(wrap("", 8), [""]);
    }
}
