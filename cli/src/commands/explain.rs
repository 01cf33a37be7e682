//! `ctl explain`: what a code means and what to do about it. Asks nobody: the pages are part of the program.

use gantry_proto::reason;
use serde_json::json;

use super::Cx;
use crate::{
    args::{Explain, Format, Lang},
    exit::Failure,
    language,
    render::{reason as render, text},
};

/// Explains one code, or lists all of them.
pub(crate) fn run(cx: &Cx, args: &Explain) -> Result<(), Failure> {
    let lang = match cx.out.format {
        Format::Table => language::now(),
        // Programs get the same wherever they run, unless they ask.
        Format::Json | Format::Ndjson => cx.global.lang.unwrap_or(Lang::En),
    };
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
    let failure = Failure::usage(said!("there is no code \"{shown}\"", "没有代码“{shown}”"));
    let failure = match reason::nearest(code).as_slice() {
        [] => failure,
        near => {
            let near = near.join(", ");
            failure.remedy(said!("perhaps one of these is meant: {near}", "您要找的可能是：{near}"))
        }
    };
    failure.remedy(said!("list all codes: ctl explain", "列出全部代码：ctl explain")).remedy(said!(
        "a code of a newer agent or controller needs a newer ctl: ctl version",
        "较新的代理或控制器的代码需要较新的 ctl：ctl version"
    ))
}
