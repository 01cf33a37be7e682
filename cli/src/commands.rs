//! One file a verb. Each returns what went wrong, if anything did; the exit code follows from that.

mod agent;
mod agents;
mod audit;
mod bundle;
mod campaign;
mod cancel;
mod completions;
mod decide;
mod deploy;
mod diff;
mod explain;
mod hold;
mod jobs;
mod operator;
mod plan;
mod relocate;
mod report;
mod resources;
mod result;
mod retry;
mod show;
mod site;
mod sweep;
mod trace;
mod version;
mod watch;
mod web;

use gantry_proto::Redactor;

use crate::{
    args::{Args, Command, Global},
    client::Client,
    exit::Failure,
    output::Output,
    profile,
};

/// What every command has at hand.
pub(crate) struct Cx {
    /// The global options.
    pub(crate) global: Global,
    /// Where text goes.
    pub(crate) out: Output,
    /// Knows the secrets of the workbook that was read, before the first log line about it.
    pub(crate) redactor: Redactor,
}

impl Cx {
    /// A connection to the configured controller.
    pub(crate) async fn connect(&self) -> Result<Client, Failure> {
        Client::connect(&profile::require(&self.global)?, self.global.timeout).await
    }
}

/// Runs the command.
pub(crate) async fn run(args: Args, out: Output, redactor: Redactor) -> Result<(), Failure> {
    let cx = Cx { global: args.global, out, redactor };
    match args.command {
        Command::Plan(args) => plan::run(&cx, &args).await,
        Command::Deploy(args) => deploy::run(&cx, args).await,
        Command::Campaign(command) => campaign::run(&cx, command).await,
        Command::Jobs(args) => jobs::run(&cx, args).await,
        Command::Show(args) => show::run(&cx, &args).await,
        Command::Watch(args) => watch::run(&cx, &args).await,
        Command::Cancel(args) => cancel::run(&cx, &args).await,
        Command::Pause(args) => hold::pause(&cx, &args).await,
        Command::Upload(args) => hold::upload(&cx, &args).await,
        Command::Resume(args) => hold::resume(&cx, &args).await,
        Command::Retry(args) => retry::run(&cx, args).await,
        Command::Decide(args) => decide::run(&cx, args).await,
        Command::Move(args) => relocate::run(&cx, args).await,
        Command::Resources(args) => resources::run(&cx, &args).await,
        Command::Sweep(args) => sweep::run(&cx, &args).await,
        Command::Result(args) => result::run(&cx, args).await,
        Command::Report(args) => report::run(&cx, args).await,
        Command::Trace(args) => trace::run(&cx, args).await,
        Command::Explain(args) => explain::run(&cx, &args),
        Command::Bundle(args) => bundle::run(&cx, args).await,
        Command::Agents(args) => agents::run(&cx, args).await,
        Command::Agent(command) => agent::run(&cx, command).await,
        Command::Operator(command) => operator::run(&cx, command).await,
        Command::Site(command) => site::run(&cx, command).await,
        Command::Audit(args) => audit::run(&cx, args).await,
        Command::Web => web::run(&cx).await,
        Command::Version => version::run(&cx).await,
        Command::Completions { shell } => completions::run(&cx, shell),
    }
}
