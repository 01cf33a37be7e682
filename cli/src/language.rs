//! The language in which `ctl` explains: what was asked for, else what the environment says.

use std::env;

use crate::args::Lang;

/// Looked at in this order; the first that is set and not empty counts, as everywhere on the system.
const VARIABLES: [&str; 3] = ["LC_ALL", "LC_MESSAGES", "LANG"];

/// The language.
pub(crate) fn choose(asked: Option<Lang>) -> Lang {
    asked.unwrap_or_else(|| of(|name| env::var(name).ok()))
}

/// Chinese when the environment is, English otherwise.
fn of(variable: impl Fn(&str) -> Option<String>) -> Lang {
    let value = VARIABLES.iter().find_map(|name| variable(name).filter(|value| !value.is_empty()));
    let language = value.as_deref().unwrap_or_default().split(['_', '-', '.', '@']).next().unwrap_or_default();
    if language.eq_ignore_ascii_case("zh") { Lang::Zh } else { Lang::En }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_variable_that_is_set_counts() {
        for (set, expected) in [
            (&[][..], Lang::En),
            (&[("LANG", "zh_CN.UTF-8")], Lang::Zh),
            (&[("LANG", "ZH")], Lang::Zh),
            (&[("LANG", "C.UTF-8")], Lang::En),
            (&[("LANG", "zhuang")], Lang::En),
            (&[("LC_ALL", ""), ("LANG", "zh-Hans")], Lang::Zh),
            (&[("LC_ALL", "en_GB.UTF-8"), ("LANG", "zh_CN.UTF-8")], Lang::En),
            (&[("LC_MESSAGES", "zh_TW"), ("LANG", "de_DE")], Lang::Zh),
        ] {
            let look = |name: &str| set.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
            assert_eq!(of(look), expected, "{set:?}");
        }
        assert_eq!(choose(Some(Lang::Zh)), Lang::Zh);
    }
}
