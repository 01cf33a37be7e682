//! `ctl explain`: what a code means and what to do about it. Asks nobody: the pages are part of the program.

use gantry_proto::reason;
use serde_json::json;

use super::Cx;
use crate::{
    args::{Explain, Format},
    exit::Failure,
    language,
    render::{reason as render, text},
};

/// Explains one code, or lists all of them.
pub(crate) fn run(cx: &Cx, args: &Explain) -> Result<(), Failure> {
    let lang = language::choose(args.lang);
    let Some(code) = &args.code else {
        return match cx.out.format {
            Format::Table => cx.out.text(&render::list(lang, cx.out.columns())),
            Format::Json => cx
                .out
                .json(&json!({ "codes": reason::pages().map(|page| render::row(page, lang)).collect::<Vec<_>>() })),
            Format::Ndjson => reason::pages().try_for_each(|page| cx.out.json(&render::row(page, lang))),
        };
    };
    let code = text::clean(code.trim());
    let Some(page) = reason::page(&code) else { return Err(unknown(&code)) };
    match cx.out.format {
        Format::Table => cx.out.text(&render::page(page, lang, cx.out.paint, cx.out.columns())),
        Format::Json | Format::Ndjson => cx.out.json(&render::document(page, lang)),
    }
}

fn unknown(code: &str) -> Failure {
    let shown: String = code.chars().take(80).collect();
    let failure = Failure::usage(format!("there is no code \"{shown}\""));
    let failure = match reason::nearest(code).as_slice() {
        [] => failure,
        near => failure.remedy(format!("perhaps one of these is meant: {}", near.join(", "))),
    };
    failure
        .remedy("list all codes: ctl explain")
        .remedy("a code of a newer agent or controller needs a newer ctl: ctl version")
}
