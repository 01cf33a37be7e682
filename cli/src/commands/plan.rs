//! `ctl plan check`, `show` and `fields`: the planner, here, without a controller.

use std::collections::BTreeMap;

use gantry_plan::{Defaults, Outcome};
use gantry_proto::{Problem, Verdict};
use serde_json::json;

use super::Cx;
use crate::{
    args::{Format, PlanCommand, PlanFile},
    exit::{Exit, Failure},
    output::Output,
    render::{findings, json, plan},
    workbook,
};

/// Runs one of the three.
pub(crate) fn run(cx: &Cx, command: &PlanCommand) -> Result<(), Failure> {
    match command {
        PlanCommand::Check(args) => check(cx, args),
        PlanCommand::Show(args) => show(cx, args),
        PlanCommand::Fields => fields(cx.out),
    }
}

/// Values for `--set` as the planner takes them; a key twice is a mistake.
pub(crate) fn overrides(args: &PlanFile) -> Result<BTreeMap<String, String>, Failure> {
    let mut all = BTreeMap::new();
    for (key, value) in &args.set {
        if all.insert(key.clone(), value.clone()).is_some() {
            return Err(Failure::usage(format!("--set gives \"{key}\" more than once")));
        }
    }
    Ok(all)
}

/// Tells that a workbook gives no plan, in the form that was asked for.
pub(crate) fn reject(out: Output, file: &str, verdict: Verdict, problems: &[Problem]) -> Result<(), Failure> {
    match out.format {
        Format::Table => out.text(&findings::text(file, verdict, problems, out.paint, out.columns()))?,
        Format::Json | Format::Ndjson => out.json(&json::rejected(verdict, problems))?,
    }
    Err(Failure::Told(Exit::Rejected))
}

fn check(cx: &Cx, args: &PlanFile) -> Result<(), Failure> {
    let outcome = outcome(cx, args)?;
    match cx.out.format {
        Format::Table => {
            let name = workbook::name(&args.file);
            let text = findings::text(&name, outcome.verdict, &outcome.problems, cx.out.paint, cx.out.columns());
            cx.out.text(&text)?;
        }
        Format::Json | Format::Ndjson => cx.out.json(&gantry_plan::check_document(&outcome))?,
    }
    if outcome.verdict == Verdict::Ok { Ok(()) } else { Err(Failure::Told(Exit::Rejected)) }
}

fn show(cx: &Cx, args: &PlanFile) -> Result<(), Failure> {
    let outcome = outcome(cx, args)?;
    let Some(resolved) = &outcome.plan else {
        return reject(cx.out, &workbook::name(&args.file), outcome.verdict, &outcome.problems);
    };
    let document = gantry_plan::check_document(&outcome);
    match cx.out.format {
        Format::Table => cx.out.text(&plan::values(&document["plan"], &resolved.sources, cx.out.columns())),
        Format::Json | Format::Ndjson => {
            let mut shown = document["plan"].clone();
            if let Some(map) = shown.as_object_mut() {
                map.entry("sources").or_insert_with(|| json!(resolved.sources));
            }
            cx.out.json(&shown)
        }
    }
}

fn fields(out: Output) -> Result<(), Failure> {
    let keys = gantry_plan::settable();
    match out.format {
        Format::Table => out.text(&plan::settable(&keys, out.columns())),
        Format::Json => out.json(&keys.iter().map(field).collect::<Vec<_>>()),
        Format::Ndjson => keys.iter().try_for_each(|key| out.json(&field(key))),
    }
}

fn field(key: &gantry_plan::Settable) -> serde_json::Value {
    json!({ "key": key.key, "expects": key.expects, "help": key.help })
}

fn outcome(cx: &Cx, args: &PlanFile) -> Result<Outcome, Failure> {
    let overrides = overrides(args)?;
    let outcome = match workbook::read(&args.file) {
        Ok(bytes) => gantry_plan::plan(&bytes, &Defaults::default(), &overrides),
        Err(problem) => Outcome {
            verdict: Verdict::Unreadable,
            plan: None,
            secrets: None,
            all_secrets: Vec::new(),
            problems: vec![*problem],
        },
    };
    outcome.all_secrets.iter().for_each(|secret| cx.redactor.register(secret));
    Ok(outcome)
}
