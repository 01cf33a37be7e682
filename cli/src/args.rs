//! What can be typed: clap types only, no decision.

mod access;
mod audit;
mod campaign;
mod diff;
mod outcome;
mod rate;
mod reasons;
mod trace;

use std::{path::PathBuf, time::Duration};

use clap::{ArgAction, Args as ClapArgs, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use serde::{Deserialize, Serialize};

pub(crate) use access::{AgentCommand, AgentToken, OperatorAdd, OperatorCommand, OperatorSet, SiteCommand};
pub(crate) use audit::{Audit, AuditCommand, AuditList, AuditVerify};
pub(crate) use campaign::{CampaignCommand, CampaignOf, CampaignRun};
pub(crate) use diff::PlanDiff;
pub(crate) use outcome::{JobResult, Lang, Report};
use rate::{in_flight, rate};
pub(crate) use reasons::{Bundle, Explain};
pub(crate) use trace::Trace;

const EXIT_CODES: &str = "\
Exit codes:
    0  done (warnings too); q or Ctrl-C in watch: the job goes on
    1  internal error of ctl or the controller
    2  wrong command line, profile or job id
    3  workbook rejected or unreadable; audit log that does not verify
    4  the job failed; what it had made is removed, or kept by policy
    5  the job failed or was cancelled and something is left over (listed)
    6  controller unreachable
    7  refused by the controller (certificate, role, state of things); plan diff: something would be refused
    8  the job waits for an operator
  130  the job was cancelled, nothing is left over

Examples:
  ctl plan check planning.xlsx             check a workbook, no controller needed
  ctl deploy planning.xlsx --watch         deploy it and follow to the end
  ctl jobs --active                        what is going on
  ctl watch 3f2a1b0c                       follow a job; q only detaches
  ctl cancel 3f2a1b0c --reason \"wrong site\" --wait";

/// Puts CloudTower onto SmartX clusters behind a bastion: the operator's side.
#[derive(Debug, Parser)]
#[command(name = "ctl", version, after_help = EXIT_CODES, disable_help_subcommand = true)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What every command takes.
#[derive(Debug, ClapArgs)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Global {
    /// Address of the controller, https://HOST:PORT; wins over the profile's
    #[arg(long, global = true, value_name = "URL", env = "GANTRY_CONTROLLER", hide_env_values = true)]
    pub(crate) controller: Option<String>,
    /// Profile with the controller's address and your certificate [default: $XDG_CONFIG_HOME/gantry/ctl.toml]
    #[arg(long, global = true, value_name = "FILE", env = "GANTRY_PROFILE", hide_env_values = true)]
    pub(crate) profile: Option<PathBuf>,
    /// Form of the result on stdout
    #[arg(short, long, global = true, value_name = "FORM", default_value = "table", hide_possible_values = true)]
    #[arg(help = "Form of the result on stdout: table (for people), json (one document), ndjson (one object a line)")]
    pub(crate) output: Form,
    /// No colour; NO_COLOR in the environment does the same
    #[arg(long, global = true)]
    pub(crate) no_color: bool,
    /// Language of texts for people, en or zh [env: GANTRY_LANG] [default: that of the environment]
    #[arg(long, global = true, value_name = "LANG", hide_possible_values = true)]
    pub(crate) lang: Option<Lang>,
    /// Longest wait for one answer of the controller, such as 30s or 2m
    #[arg(long, global = true, value_name = "TIME", default_value = "30s", value_parser = duration)]
    pub(crate) timeout: Duration,
    /// Log to stderr; twice for more (RUST_LOG is honoured too)
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub(crate) verbose: u8,
}

/// Form of the result, as it is typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Form {
    /// For people.
    Table,
    /// One document.
    Json,
    /// One object a line.
    Ndjson,
    /// A page for a browser; only reports have one.
    Html,
}

impl Form {
    /// The form that every command has; [`None`] for one that only reports have.
    pub(crate) fn format(self) -> Option<Format> {
        match self {
            Self::Table => Some(Format::Table),
            Self::Json => Some(Format::Json),
            Self::Ndjson => Some(Format::Ndjson),
            Self::Html => None,
        }
    }
}

/// Form of the result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// For people.
    Table,
    /// One document.
    Json,
    /// One object a line.
    Ndjson,
}

/// One verb each.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Check and show planning workbooks, and compare one with its site; only that needs a controller
    #[command(subcommand)]
    Plan(PlanCommand),
    /// Deploy a workbook: stores a job that the agent of the site carries out
    #[command(after_help = "\
Without --watch ctl ends with 0 as soon as the job is stored. With --watch it follows to the end and the exit code \
tells the outcome; Ctrl-C only detaches. Repeating the command with the same --job-id never makes a second job.

Examples:
  ctl deploy planning.xlsx
  ctl deploy planning.xlsx --site shanghai-1 --watch
  ctl deploy planning.xlsx --set cloudtower.vm_name=tower-2 --on-failure keep
  ctl deploy planning.xlsx --stages deploy_cloudtower,attach_cluster --watch
  ctl deploy planning.xlsx --stages attach_cluster --watch     # into a CloudTower that is there already
  ctl deploy planning.xlsx --watch -o json > result.json")]
    Deploy(Deploy),
    /// Deploy to many sites: canaries, so many at a time, a failure budget
    #[command(subcommand, after_help = campaign::CAMPAIGN_HELP)]
    Campaign(CampaignCommand),
    /// List jobs, newest first
    #[command(after_help = "\
Examples:
  ctl jobs --active
  ctl jobs --site shanghai-1 --limit 10
  ctl jobs -o ndjson")]
    Jobs(Jobs),
    /// Show everything about one job
    #[command(after_help = "\
Examples:
  ctl show 3f2a1b0c
  ctl show 3f2a1b0c -o json")]
    Show(Job),
    /// Follow a job to its end; q or Ctrl-C detaches, the job goes on
    #[command(after_help = "\
On a terminal it has the whole screen: the steps, how long is left (with a range, learned from earlier jobs), and below \
it what was told so far: arrows, PgUp, PgDn, Home and End scroll. In a pipe it is lines of text. \
With -o ndjson each event, progress sample and change of the job is one line on stdout. A broken line is taken up \
again after the last event, without gap or repetition. The exit code tells the outcome of the job.

Examples:
  ctl watch 3f2a1b0c
  ctl watch 3f2a1b0c --from-seq 120
  ctl watch 3f2a1b0c -o ndjson | tee job.ndjson")]
    Watch(Watch),
    /// Stop a job at its next safe point and undo it
    #[command(after_help = "\
The job stops at its next safe point and removes what it has made; a complete ISO image stays. Without --wait ctl ends \
with 0 as soon as the wish is stored. With --wait: 0 cancelled and nothing left over, 5 something is left over, \
7 the job had ended before. A second cancel while the job is being undone ends the undo's waiting: what is not known \
to be gone then is listed.

Examples:
  ctl cancel 3f2a1b0c --reason \"wrong VLAN\"
  ctl cancel 3f2a1b0c --wait")]
    Cancel(Cancel),
    /// Hold a job at its next safe point
    #[command(after_help = "\
Safe points are between two steps and between two chunks of the upload. The job is held once `ctl jobs` says paused; \
until then the step at work goes on to its end.

Examples:
  ctl pause 3f2a1b0c
  ctl pause 3f2a1b0c --reason \"the storage team needs the line until 02:00\"")]
    Pause(Pause),
    /// Let a held job go on
    #[command(after_help = "\
Examples:
  ctl resume 3f2a1b0c")]
    Resume(Job),
    /// Steer the upload of a job while it runs, or before it begins
    #[command(after_help = "\
The wishes hold until the job ends, also over a restart of its agent; each new one is added to the others. A paused \
upload goes on where it was. What the upload is doing is in `ctl watch`.

Examples:
  ctl upload 3f2a1b0c --limit 40MiB/s
  ctl upload 3f2a1b0c --limit none --in-flight auto
  ctl upload 3f2a1b0c --in-flight 4
  ctl upload 3f2a1b0c --pause")]
    Upload(Upload),
    /// Take a job up again that failed or was cancelled: what is done is kept, the rest is done again
    #[command(after_help = "\
Says of each step whether it is kept, redone or blocked. A step is blocked when it is in the way: it was carried out \
with another value than the new plan has, or it is not done and a later step needs it. Then nothing happens and the \
exit code is 7. A plan that is rejected ends with 3.

Examples:
  ctl retry 3f2a1b0c --dry-run
  ctl retry 3f2a1b0c --watch
  ctl retry 3f2a1b0c --from install
  ctl retry 3f2a1b0c --plan planning-corrected.xlsx --on-failure undo")]
    Retry(Retry),
    /// Answer the question of a job that waits for an operator
    #[command(after_help = "\
Without CHOICE it shows the question, every answer and what follows from it; the exit code is 8 while the job waits, 7 \
when it does not. The job goes on once its agent has the answer.

Examples:
  ctl decide 3f2a1b0c
  ctl decide 3f2a1b0c look-again
  ctl decide 3f2a1b0c undo --reason \"the VM belongs to the storage team\"")]
    Decide(Decide),
    /// Move a job to another agent of its site
    #[command(after_help = "\
The agent that has the job lets go of it at its next safe point, undoes nothing and says so; only then the other agent \
goes on, from what the job's log says. A job that failed or was cancelled moves at once, and is tried again there. The \
workbook is needed again because the passwords are sealed to one agent: the same file, the same --set values.

With --old-agent-is-off nothing is waited for. You vouch that the agent that has the job is off and stays off until its \
machine can reach the controller: two agents at work on one cluster could make two VMs. It is recorded in the job's log.

Examples:
  ctl move 3f2a1b0c --agent bastion-2 --plan planning.xlsx --watch
  ctl move 3f2a1b0c --agent bastion-2 --plan planning.xlsx --set organization=Example
  ctl move 3f2a1b0c --agent bastion-2 --plan planning.xlsx --old-agent-is-off --yes")]
    Move(Move),
    /// List what a job made, found, removed and left over
    #[command(after_help = "\
Examples:
  ctl resources 3f2a1b0c
  ctl resources 3f2a1b0c -o json")]
    Resources(Job),
    /// List what ended jobs of a site left behind; with --yes let their agents remove it
    #[command(after_help = "\
Only what a job's own log says it made, and what still bears the job's mark, is ever removed; a complete ISO image \
stays for reuse. Without --yes nothing is touched.

Examples:
  ctl sweep --site shanghai-1
  ctl sweep --site shanghai-1 --yes
  ctl sweep --job 3f2a1b0c --yes")]
    Sweep(Sweep),
    /// Print the result document of a job that has ended; write the licence serial into a copy of the workbook
    #[command(after_help = outcome::RESULT_HELP)]
    Result(JobResult),
    /// Write the hand-over report of a job: what was planned, made and seen, by whom and how long it took
    #[command(after_help = outcome::REPORT_HELP)]
    Report(Report),
    /// Draw where a job's time went, call by call, and what failed on the way
    #[command(after_help = trace::TRACE_HELP)]
    Trace(Trace),
    /// Explain a code: its cause, where it shows and what to do; needs no controller
    #[command(after_help = reasons::EXPLAIN_HELP)]
    Explain(Explain),
    /// Collect all there is about a job in one archive, without secrets, for whoever looks into it
    #[command(after_help = reasons::BUNDLE_HELP)]
    Bundle(Bundle),
    /// List the agents and the ISO files that they offer
    #[command(after_help = "\
Examples:
  ctl agents
  ctl agents --site shanghai-1 -o json")]
    Agents(Agents),
    /// Let agents in and back, and shut them out
    #[command(subcommand, after_help = access::AGENT_HELP)]
    Agent(AgentCommand),
    /// Let operators in, change what they may do, and shut them out
    #[command(subcommand, after_help = access::OPERATOR_HELP)]
    Operator(OperatorCommand),
    /// Add and list sites
    #[command(subcommand, after_help = access::SITE_HELP)]
    Site(SiteCommand),
    /// Show who did what; export and verify the audit log
    #[command(args_conflicts_with_subcommands = true, after_help = audit::HELP)]
    Audit(Audit),
    /// Print a link that opens the controller's web pages
    #[command(after_help = "\
The link works once, and soon; whoever opens it acts in your name, with your role, until the session ends. The browser \
must reach the controller at the address that ctl uses, and trust the controller's CA (ca.pem beside the profile) or \
be told to.

Examples:
  ctl web
  ctl web -o json")]
    Web,
    /// Print the version of ctl and, when it can be reached, of the controller
    #[command(after_help = "\
Examples:
  ctl version
  ctl version -o json")]
    Version,
    /// Print the completions of a shell
    #[command(after_help = "\
Examples:
  ctl completions bash > /etc/bash_completion.d/ctl
  ctl completions zsh > \"${fpath[1]}/_ctl\"")]
    Completions {
        /// The shell
        shell: Shell,
    },
}

/// What can be done with a workbook before it is deployed.
#[derive(Debug, Subcommand)]
pub(crate) enum PlanCommand {
    /// Check a workbook: every problem with its cell and what to do
    #[command(after_help = "\
Exit code 0 when the workbook can be deployed, 3 otherwise. Nothing is contacted.

Examples:
  ctl plan check planning.xlsx
  ctl plan check planning.xlsx -o json | jq .problems
  ctl plan check planning.xlsx --set organization=Example")]
    Check(PlanFile),
    /// Show the plan of a workbook: every value and where it comes from
    #[command(after_help = "\
Examples:
  ctl plan show planning.xlsx
  ctl plan show planning.xlsx -o json")]
    Show(PlanFile),
    /// Look what deploying a workbook would do to its site; changes nothing
    #[command(after_help = diff::HELP)]
    Diff(PlanDiff),
    /// List the cells that are read and the keys for --set
    #[command(after_help = "\
Examples:
  ctl plan fields
  ctl plan fields -o json")]
    Fields,
}

/// A workbook and what wins over it.
#[derive(Debug, ClapArgs)]
pub(crate) struct PlanFile {
    /// The planning workbook, .xlsx
    pub(crate) file: PathBuf,
    /// A value that wins over the workbook; may be given several times (keys: ctl plan fields)
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair)]
    pub(crate) set: Vec<(String, String)>,
    /// What of the journey is made, separated by commas: prepare, deploy_cloudtower, attach_cluster,
    /// cloudtower_config, check_cluster_healthy, cleanup [default: prepare,deploy_cloudtower]
    #[arg(long, value_name = "STAGES")]
    pub(crate) stages: Option<String>,
}

/// See [`Command::Deploy`].
#[derive(Debug, ClapArgs)]
pub(crate) struct Deploy {
    #[command(flatten)]
    pub(crate) plan: PlanFile,
    /// Use the agent of this site; not needed when there is only one agent
    #[arg(long, conflicts_with = "agent")]
    pub(crate) site: Option<String>,
    /// Use this agent
    #[arg(long, value_name = "ID")]
    pub(crate) agent: Option<String>,
    /// What happens to what a failed job has made [default: the controller's setting]
    #[arg(long, value_name = "POLICY")]
    pub(crate) on_failure: Option<OnFailure>,
    /// Id of the job, a UUID of version 7 [default: a new one]
    #[arg(long, value_name = "UUID")]
    pub(crate) job_id: Option<gantry_proto::JobId>,
    /// Follow the job to its end
    #[arg(long, short)]
    pub(crate) watch: bool,
}

/// What happens to what a failed job has made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum OnFailure {
    /// Remove it
    Undo,
    /// Keep it, for a look
    Keep,
}

/// See [`Command::Jobs`].
#[derive(Debug, ClapArgs)]
pub(crate) struct Jobs {
    /// Only jobs that have not ended
    #[arg(long)]
    pub(crate) active: bool,
    /// Only this site
    #[arg(long)]
    pub(crate) site: Option<String>,
    /// At most so many
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) limit: u32,
}

/// One job.
#[derive(Debug, ClapArgs)]
pub(crate) struct Job {
    /// Id of the job; a beginning or ending of it that no other job has is enough
    pub(crate) job: String,
}

/// See [`Command::Watch`].
#[derive(Debug, ClapArgs)]
pub(crate) struct Watch {
    #[command(flatten)]
    pub(crate) job: Job,
    /// Begin with the event of this number (inclusive; the first event of a job is 1)
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) from_seq: u64,
}

/// See [`Command::Cancel`].
#[derive(Debug, ClapArgs)]
pub(crate) struct Cancel {
    #[command(flatten)]
    pub(crate) job: Job,
    /// Why, for the job's log
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    pub(crate) reason: String,
    /// Wait until the job has stopped and is undone
    #[arg(long)]
    pub(crate) wait: bool,
}

/// See [`Command::Pause`].
#[derive(Debug, ClapArgs)]
pub(crate) struct Pause {
    #[command(flatten)]
    pub(crate) job: Job,
    /// Why, for the job's log
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    pub(crate) reason: String,
}

/// See [`Command::Upload`].
#[derive(Debug, ClapArgs)]
#[group(required = true, multiple = true, args = ["limit", "in_flight", "pause", "resume"])]
pub(crate) struct Upload {
    #[command(flatten)]
    pub(crate) job: Job,
    /// Bytes a second at most, like 40MiB/s, 500KiB/s or 12MB/s; `none`: no limit
    #[arg(long, value_name = "RATE", value_parser = rate)]
    pub(crate) limit: Option<u64>,
    /// Chunks in flight, 1 to 16; `auto`: found by the agent
    #[arg(long, value_name = "N", value_parser = in_flight)]
    pub(crate) in_flight: Option<u32>,
    /// Send no further bytes for now
    #[arg(long)]
    pub(crate) pause: bool,
    /// Go on
    #[arg(long, conflicts_with = "pause")]
    pub(crate) resume: bool,
}

/// See [`Command::Retry`].
#[derive(Debug, ClapArgs)]
pub(crate) struct Retry {
    #[command(flatten)]
    pub(crate) job: Job,
    /// Begin with this step instead of the first one that is not done
    #[arg(long, value_name = "STEP")]
    pub(crate) from: Option<String>,
    /// A corrected planning workbook; its passwords are sealed anew
    #[arg(long, value_name = "FILE")]
    pub(crate) plan: Option<PathBuf>,
    /// A value that wins over that workbook; may be given several times
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair, requires = "plan")]
    pub(crate) set: Vec<(String, String)>,
    /// What happens to what the job has made when it fails again [default: as before]
    #[arg(long, value_name = "POLICY")]
    pub(crate) on_failure: Option<OnFailure>,
    /// Only tell what would become of each step
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Follow the job to its end
    #[arg(long, short, conflicts_with = "dry_run")]
    pub(crate) watch: bool,
}

/// See [`Command::Decide`].
#[derive(Debug, ClapArgs)]
pub(crate) struct Decide {
    #[command(flatten)]
    pub(crate) job: Job,
    /// The answer: a word that the question names; leave it out to see the question
    pub(crate) choice: Option<String>,
    /// Why, for the job's log
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true, requires = "choice")]
    pub(crate) reason: String,
    /// Answer this question and no newer one, by its number
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true, requires = "choice")]
    pub(crate) question: u64,
}

/// See [`Command::Move`].
#[derive(Debug, ClapArgs)]
pub(crate) struct Move {
    #[command(flatten)]
    pub(crate) job: Job,
    /// The agent that gets the job
    #[arg(long, value_name = "ID")]
    pub(crate) agent: String,
    /// The planning workbook that was deployed
    #[arg(long, value_name = "FILE")]
    pub(crate) plan: PathBuf,
    /// A value that wins over the workbook, as it was given to deploy; may be given several times
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair)]
    pub(crate) set: Vec<(String, String)>,
    /// Do not wait for the agent that has the job: you vouch that it is off
    #[arg(long)]
    pub(crate) old_agent_is_off: bool,
    /// Do not ask whether that is so
    #[arg(long, requires = "old_agent_is_off")]
    pub(crate) yes: bool,
    /// Follow the job to its end
    #[arg(long, short)]
    pub(crate) watch: bool,
}

/// See [`Command::Sweep`].
#[derive(Debug, ClapArgs)]
pub(crate) struct Sweep {
    /// Every ended job of this site
    #[arg(long, required_unless_present = "job", conflicts_with = "job")]
    pub(crate) site: Option<String>,
    /// Only this job
    #[arg(long, value_name = "JOB")]
    pub(crate) job: Option<String>,
    /// Remove it
    #[arg(long)]
    pub(crate) yes: bool,
}

/// See [`Command::Agents`].
#[derive(Debug, ClapArgs)]
pub(crate) struct Agents {
    /// Only this site
    #[arg(long)]
    pub(crate) site: Option<String>,
}

fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.trim().is_empty() => Ok((key.trim().to_owned(), value.to_owned())),
        _ => Err(say!(
            "expected KEY=VALUE, such as cloudtower.vm_name=tower-2",
            "应为 KEY=VALUE，如 cloudtower.vm_name=tower-2"
        )),
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match &text[digits.len()..] {
        "" | "s" => 1,
        "m" => 60,
        _ => 0,
    };
    match digits.parse::<u64>().ok().and_then(|count| count.checked_mul(unit)) {
        Some(seconds @ 1..=3600) => Ok(Duration::from_secs(seconds)),
        _ => Err(say!("expected a time from 1s to 60m, such as 30s or 2m", "应为 1s 至 60m 的时间，如 30s 或 2m")),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_declaration_is_sound() {
        Args::command().debug_assert();
    }

    #[test]
    fn pairs_and_times() {
        assert_eq!(pair("a.b=c=d"), Ok(("a.b".to_owned(), "c=d".to_owned())));
        assert_eq!(pair("a="), Ok(("a".to_owned(), String::new())));
        assert!(pair("=x").is_err() && pair("x").is_err());
        assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
        assert_eq!(duration("45"), Ok(Duration::from_secs(45)));
        for bad in ["", "s", "0s", "2h", "-1", "99999999999999999999m", "1ms"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }
}
