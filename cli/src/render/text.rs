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
    fill(&cut(text, columns), columns)
}

/// Filled with blanks to at least `columns`.
pub(crate) fn fill(text: &str, columns: usize) -> String {
    let mut out = text.to_owned();
    out.extend(std::iter::repeat_n(' ', columns.saturating_sub(width(text))));
    out
}

/// The text in lines of at most `columns`, broken at blanks where there are any, and between Chinese characters.
pub(crate) fn wrap(text: &str, columns: usize) -> Vec<String> {
    let columns = columns.max(8);
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let pieces = syllables(word).into_iter().flat_map(|part| pieces(&part, columns));
        for (index, piece) in pieces.enumerate() {
            let Some(line) = lines.last_mut() else { continue };
            let gap = if index == 0 && !line.is_empty() { " " } else { "" };
            if width(line) + gap.len() + width(&piece) <= columns {
                line.push_str(gap);
                line.push_str(&piece);
            } else {
                lines.push(piece);
            }
        }
    }
    lines
}

/// Where a line may end within a word: behind each Chinese character, and never before a mark that closes.
fn syllables(word: &str) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    let mut open = false;
    for c in word.chars() {
        let wide = !c.is_ascii() && width(c.encode_utf8(&mut [0; 4])) > 1;
        let glued = "，。：；、！？）》」”…".contains(c);
        match all.last_mut() {
            Some(last) if glued || (open && !wide) || last.ends_with(['（', '“', '《', '「']) => last.push(c),
            _ => all.push(c.to_string()),
        }
        open = !wide && !glued;
    }
    all
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
        assert_eq!((fill("作业", 6), fill("too long", 3)), ("作业  ".to_owned(), "too long".to_owned()));
    }

    #[test]
    fn lines_break_at_blanks_and_inside_words_that_are_too_long() {
        assert_eq!(wrap("one two three", 8), ["one two", "three"]);
        assert_eq!(wrap("集群管理信息集群", 8), ["集群管理", "信息集群"]);
        assert_eq!(wrap("", 8), [""]);
        assert_eq!(wrap("请用 ctl 查看（作业），再重试。", 12), ["请用 ctl 查", "看（作业），", "再重试。"]);
    }
}
