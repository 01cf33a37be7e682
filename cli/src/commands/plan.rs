//! `ctl plan check`, `show` and `fields`: the planner, here, without a controller. `diff` is a file of its own.

use std::collections::BTreeMap;

use gantry_plan::{Access, Defaults, Field, Need, Outcome};
use gantry_proto::{Problem, Verdict};
use serde_json::{Value, json};

use super::{Cx, diff};
use crate::{
    args::{Format, PlanCommand, PlanFile},
    exit::{Exit, Failure},
    output::Output,
    render::{findings, json, plan},
    workbook,
};

/// Runs one of them.
pub(crate) async fn run(cx: &Cx, command: &PlanCommand) -> Result<(), Failure> {
    match command {
        PlanCommand::Check(args) => check(cx, args),
        PlanCommand::Show(args) => show(cx, args),
        PlanCommand::Diff(args) => diff::run(cx, args).await,
        PlanCommand::Fields => fields(cx.out),
    }
}

/// Values for `--set` as the planner takes them; a key twice is a mistake.
pub(crate) fn overrides(set: &[(String, String)]) -> Result<BTreeMap<String, String>, Failure> {
    let mut all = BTreeMap::new();
    for (key, value) in set {
        if all.insert(key.clone(), value.clone()).is_some() {
            return Err(Failure::usage(said!("--set gives \"{key}\" more than once", "--set 多次给出“{key}”")));
        }
    }
    Ok(all)
}

/// The same with `--stages`.
pub(crate) fn chosen(args: &PlanFile) -> Result<BTreeMap<String, String>, Failure> {
    let mut all = overrides(&args.set)?;
    if let Some(stages) = &args.stages
        && all.insert(STAGES.to_owned(), stages.clone()).is_some()
    {
        return Err(Failure::usage(said!(
            "--stages and --set {STAGES} say the same: give one of them",
            "--stages 与 --set {STAGES} 含义相同：请只给其一"
        )));
    }
    Ok(all)
}

/// The key of what `--stages` says.
const STAGES: &str = "deployment.stages";

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
    let fields = gantry_plan::FIELDS;
    match out.format {
        Format::Table => out.text(&plan::fields(fields, out.columns())),
        Format::Json => out.json(&fields.iter().map(field).collect::<Vec<_>>()),
        Format::Ndjson => fields.iter().try_for_each(|one| out.json(&field(one))),
    }
}

fn field(field: &Field) -> Value {
    let default = match field.need {
        Need::Default(value) => Some(value),
        Need::Required | Need::Optional => None,
    };
    json!({
        "key": field.key,
        "sheet": (!field.sheet.is_empty()).then_some(field.sheet),
        "cells": field.cells,
        "label": field.label,
        "expects": field.expects,
        "required": field.need == Need::Required,
        "default": default,
        "settable": field.access == Access::Settable,
        "secret": field.access == Access::Secret,
    })
}

/// What the planner says; a file that cannot be read is told at once.
fn outcome(cx: &Cx, args: &PlanFile) -> Result<Outcome, Failure> {
    let overrides = chosen(args)?;
    let bytes = match workbook::read(&args.file) {
        Ok(bytes) => bytes,
        Err(problem) => {
            reject(cx.out, &workbook::name(&args.file), Verdict::Unreadable, &[*problem])?;
            return Err(Failure::Told(Exit::Rejected));
        }
    };
    let outcome = gantry_plan::plan(&bytes, &Defaults::default(), &overrides);
    outcome.all_secrets.iter().for_each(|secret| cx.redactor.register(secret));
    Ok(outcome)
}
