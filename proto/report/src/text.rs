//! Text from outside, cleaned of what could steer a terminal or mislead a reader.

use std::borrow::Cow;

/// Text from outside, on one line: without escape sequences, control and direction-changing characters.
pub fn clean(text: &str) -> Cow<'_, str> {
    if !text.contains(unwanted) {
        return Cow::Borrowed(text);
    }
    let bare = console::strip_ansi_codes(text);
    let mut out = String::with_capacity(bare.len());
    for c in bare.chars() {
        if !unwanted(c) {
            out.push(c);
        } else if matches!(c, '\n' | '\t' | '\r') && !out.ends_with(' ') {
            out.push(' ');
        }
    }
    Cow::Owned(out.trim_end().to_owned())
}

fn unwanted(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_steer_a_terminal_is_taken_out() {
        assert_eq!(clean("\u{1b}[2J\u{1b}]0;title\u{7}evil\r\n\tnext\u{202e}x"), "evil nextx");
        assert!(matches!(clean("plain 中文"), Cow::Borrowed(_)));
    }
}
