//! `ctl`, the command line of the operator. It talks to people, to the operator API and to the planner, and knows
//! nothing of agents' insides: what a job does is read from its events, through the one fold `JobView`.
//!
//! stdout carries results, stderr everything else; `exit.rs` has every exit code.

// First, because its macros are the texts of the others.
#[macro_use]
mod language;

mod args;
mod bundle;
mod campaign;
mod client;
mod commands;
mod exit;
mod follow;
mod help;
mod jobref;
mod outfile;
mod output;
mod probe;
mod profile;
mod records;
mod refusal;
mod render;
mod show;
mod trace;
mod workbook;

use std::{process::ExitCode, sync::Arc, time::Duration};

use clap::{ColorChoice, FromArgMatches as _, error::ErrorKind};
use gantry_proto::Redactor;
use gantry_telemetry::{Collector, Intake, Memory, Settings, Telemetry, Telling};
use tracing::Instrument as _;

use crate::{
    args::{
        AgentCommand, Args, AuditCommand, CampaignCommand, Command, Form, Lang, OperatorCommand, PlanCommand,
        SiteCommand,
    },
    exit::{Exit, Failure},
    output::Output,
};

/// Threads for the line, the screen and the exporter of traces.
const WORKERS: usize = 2;

/// How long the last spans may take to the collector: nobody waits for them longer than for a lost line.
const LAST_SPANS: Duration = Duration::from_secs(3);

/// The whole program.
pub fn main() -> ExitCode {
    language::set(language::choose(language::asked(std::env::args_os())));
    let args = match parse() {
        Ok(args) => args,
        Err(error) => {
            // Help is no mistake, and has its language already.
            if let (Lang::Zh, Some(summary)) = (language::now(), help::summary(error.kind())) {
                output::note(&format!("错误：{summary}"));
            }
            let _ = error.print();
            return if error.use_stderr() { code(Exit::Usage) } else { code(Exit::Done) };
        }
    };
    let out = Output::new(&args.global);
    let Err(failure) = start(args, out) else { return code(Exit::Done) };
    let text = failure.text(out.paint_err);
    if !text.is_empty() {
        out.note(&text);
    }
    code(failure.exit())
}

fn parse() -> Result<Args, clap::Error> {
    // Help is printed while the options are being read, so this one is looked for beforehand.
    let plain = std::env::args_os().any(|arg| arg == "--no-color");
    let choice = if plain { ColorChoice::Never } else { ColorChoice::Auto };
    let mut command = help::command().color(choice);
    let args = Args::from_arg_matches(&command.try_get_matches_from_mut(std::env::args_os())?)?;
    if args.global.output == Form::Html && !matches!(args.command, Command::Report(_)) {
        return Err(command.error(
            ErrorKind::InvalidValue,
            word!(
                "only ctl report has the form html: choose table, json or ndjson",
                "仅 ctl report 支持 html 格式：请选择 table、json 或 ndjson"
            ),
        ));
    }
    Ok(args)
}

fn start(args: Args, out: Output) -> Result<(), Failure> {
    // Fails only when a provider is set already, and it is the same one.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(WORKERS).enable_all().build().map_err(|error| {
            Failure::new(Exit::Internal, said!("cannot start", "无法启动")).because(error.to_string())
        })?;
    runtime.block_on(async {
        let redactor = Redactor::new();
        let (telemetry, traced) = telemetry(&args, &redactor)?;
        let span = tracing::info_span!("ctl", otel.name = name(&args.command), job_id = tracing::field::Empty);
        let done = Box::pin(commands::run(args, out, redactor)).instrument(span).await;
        telemetry.shutdown().await;
        if let Some((memory, collector)) = traced {
            memory.send(&collector, LAST_SPANS).await;
        }
        done
    })
}

/// Spans, and where they go at the end.
type Traced = (Arc<Memory>, Collector);

/// Logs only when asked for: people read stderr. Spans only where a collector is named.
fn telemetry(args: &Args, redactor: &Redactor) -> Result<(Telemetry, Option<Traced>), Failure> {
    let filter = match args.global.verbose {
        0 => "off",
        1 => "gantry_ctl=debug,info",
        _ => "gantry_ctl=trace,debug",
    };
    let settings = Settings { log_filter: Some(filter.to_owned()), ..Settings::default() };
    let failed = |error: &dyn std::error::Error| {
        Failure::usage(said!("cannot start logs and traces", "无法启动日志与追踪")).because(error.to_string())
    };
    let collector = Collector::find(None).map_err(|error| failed(&error))?;
    let traced = collector.map(|collector| (Arc::<Memory>::default(), collector));
    let intake = traced.as_ref().map(|(memory, _)| memory.clone() as Arc<dyn Intake>);
    let (service, version) = ("gantry-ctl", env!("CARGO_PKG_VERSION"));
    let telling = Telling { service, version, settings: &settings, redactor, intake };
    Ok((gantry_telemetry::init(telling).map_err(|error| failed(&error))?, traced))
}

/// The name of the command's span.
fn name(command: &Command) -> &'static str {
    match command {
        Command::Plan(PlanCommand::Check(_)) => "ctl plan check",
        Command::Plan(PlanCommand::Show(_)) => "ctl plan show",
        Command::Plan(PlanCommand::Diff(_)) => "ctl plan diff",
        Command::Plan(PlanCommand::Fields) => "ctl plan fields",
        Command::Deploy(_) => "ctl deploy",
        Command::Campaign(CampaignCommand::Run(_)) => "ctl campaign run",
        Command::Campaign(CampaignCommand::Status(_)) => "ctl campaign status",
        Command::Campaign(CampaignCommand::Pause(_)) => "ctl campaign pause",
        Command::Campaign(CampaignCommand::Resume(_)) => "ctl campaign resume",
        Command::Jobs(_) => "ctl jobs",
        Command::Show(_) => "ctl show",
        Command::Watch(_) => "ctl watch",
        Command::Cancel(_) => "ctl cancel",
        Command::Pause(_) => "ctl pause",
        Command::Upload(_) => "ctl upload",
        Command::Resume(_) => "ctl resume",
        Command::Retry(_) => "ctl retry",
        Command::Decide(_) => "ctl decide",
        Command::Move(_) => "ctl move",
        Command::Resources(_) => "ctl resources",
        Command::Sweep(_) => "ctl sweep",
        Command::Result(_) => "ctl result",
        Command::Report(_) => "ctl report",
        Command::Trace(_) => "ctl trace",
        Command::Explain(_) => "ctl explain",
        Command::Bundle(_) => "ctl bundle",
        Command::Agents(_) => "ctl agents",
        Command::Agent(AgentCommand::Token(_)) => "ctl agent token",
        Command::Agent(AgentCommand::Approve { .. }) => "ctl agent approve",
        Command::Agent(AgentCommand::Revoke { .. }) => "ctl agent revoke",
        Command::Operator(OperatorCommand::Add(_)) => "ctl operator add",
        Command::Operator(OperatorCommand::Set(_)) => "ctl operator set",
        Command::Operator(OperatorCommand::List) => "ctl operator list",
        Command::Operator(OperatorCommand::Revoke { .. }) => "ctl operator revoke",
        Command::Site(SiteCommand::Add { .. }) => "ctl site add",
        Command::Site(SiteCommand::List) => "ctl site list",
        Command::Audit(audit) => match &audit.command {
            None => "ctl audit",
            Some(AuditCommand::Export { .. }) => "ctl audit export",
            Some(AuditCommand::Verify(_)) => "ctl audit verify",
        },
        Command::Web => "ctl web",
        Command::Version => "ctl version",
        Command::Completions { .. } => "ctl completions",
    }
}

fn code(exit: Exit) -> ExitCode {
    ExitCode::from(exit as u8)
}
