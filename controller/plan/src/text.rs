//! Normalisation of typed text (N1, N2, N5) and making the invisible visible. Knows no field and no rule.

use unicode_normalization::UnicodeNormalization;

/// The longest piece of a value that a message repeats, characters.
const SHOWN_MAX: usize = 120;

/// N1: without zero-width characters, trimmed, every inner run of white space one space.
pub(crate) fn clean(text: &str) -> String {
    let visible: String = text.chars().filter(|c| !zero_width(*c)).collect();
    visible.split(char::is_whitespace).filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
}

/// N2: full-width forms become ordinary ones, the ideographic full stop a dot.
pub(crate) fn fold(text: &str) -> String {
    let folded: String = text.nfkc().map(|c| if c == '。' { '.' } else { c }).collect();
    clean(&folded)
}

/// For comparing labels: no white space, no trailing colon, width and case folded.
pub(crate) fn compact(text: &str) -> String {
    let folded = fold(text).to_lowercase();
    let joined: String = folded.chars().filter(|c| !c.is_whitespace()).collect();
    joined.trim_end_matches(':').to_owned()
}

/// The value with invisible characters written as `<U+00A0>`, cut when very long. Secrets must be out of it before: what
/// is cut or escaped cannot be found any more.
pub(crate) fn shown(text: &str) -> String {
    let mut chars = text.chars();
    let mut out = visible(&chars.by_ref().take(SHOWN_MAX).collect::<String>());
    if chars.next().is_some() {
        out.push('…');
    }
    out
}

/// The whole text with invisible characters written as `<U+00A0>`.
pub(crate) fn visible(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        let visible = c == ' ' || !(c.is_whitespace() || c.is_control() || zero_width(c) || direction_mark(c));
        if visible {
            out.push(c);
        } else {
            out.push_str(&format!("<U+{:04X}>", u32::from(c)));
        }
    }
    out
}

/// N5: a whole number as its decimal digits, without fraction or exponent.
pub(crate) fn number(value: f64) -> String {
    // `Display` of a float never uses an exponent.
    if value == 0.0 { "0".to_owned() } else { value.to_string() }
}

fn zero_width(c: char) -> bool {
    matches!(c, '\u{200B}'..='\u{200D}' | '\u{2060}' | '\u{FEFF}')
}

/// Marks that change the order in which text is shown, and other characters without a shape.
fn direction_mark(c: char) -> bool {
    matches!(c, '\u{200E}' | '\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}' | '\u{00AD}' | '\u{180E}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cleaning_removes_what_nobody_sees() {
        assert_eq!(clean("\u{FEFF} a\u{200B}b \u{A0}\n c\u{3000}"), "ab c");
        assert_eq!(clean(" \t\u{3000}\u{200B} "), "");
    }

    #[test]
    fn folding_makes_full_width_forms_ordinary() {
        assert_eq!(fold("１９２．0。2．20"), "192.0.2.20");
        assert_eq!(fold("192.0.2.0／24"), "192.0.2.0/24");
        assert_eq!(compact(" 客户名称 ： "), "客户名称");
        assert_eq!(compact("ＶＬＡＮ id"), "vlanid");
    }

    #[test]
    fn shown_text_has_nothing_invisible() {
        assert_eq!(shown("a\u{A0}b\n\u{202E} c"), "a<U+00A0>b<U+000A><U+202E> c");
        assert_eq!(shown(&"x".repeat(500)).chars().count(), SHOWN_MAX + 1);
    }

    #[test]
    fn numbers_have_no_fraction_and_no_exponent() {
        assert_eq!(number(20_250_820.0), "20250820");
        assert_eq!(number(1e21), "1000000000000000000000");
        assert_eq!(number(-0.0), "0");
        assert_eq!(number(20.5), "20.5");
    }
}
