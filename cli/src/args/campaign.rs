//! What can be typed behind `ctl campaign`: many sites, one after the other.

use std::path::PathBuf;

use clap::{Args as ClapArgs, Subcommand};

use super::{OnFailure, pair};

/// See [`super::Command::Campaign`].
pub(super) const CAMPAIGN_HELP: &str = "\
A campaign deploys a workbook to each of many sites. `run` makes and follows its jobs; the others look at it, or hold \
it, from anywhere that sees its state file.

Examples:
  ctl campaign run sites/ --max-parallel 4 --canary 2 --max-failures 3
  ctl campaign status sites/
  ctl campaign pause sites/
  ctl campaign resume sites/";

const RUN_HELP: &str = "\
DIR holds a workbook for each site, named SITE.xlsx. LIST is a text file with a line SITE,WORKBOOK[,AGENT] for each \
(a path counts from the list's directory; # begins a comment; at most 1000 sites). A site needs an agent of its own; \
the third field chooses one where there are several.

First the controller checks every workbook, and tells everything that is wrong with any of them; nothing is submitted \
when something is. Then the canaries go: the first so many sites. The others begin once all canaries have succeeded, \
at most so many jobs at a time. Once so many jobs have failed no further one begins; what runs is followed to its end. \
A job counts as failed when it failed, was cancelled, was refused by the controller, and for as long as it waits for \
an operator. A canary that fails ends the campaign too.

The state file has the job of each site, written before the job is submitted: a ctl that was killed or detached goes \
on by the same command, and no site is ever deployed twice. Options that are left out are as they were the last \
time. A site that failed keeps its job: take that up with `ctl retry JOB`, then run the campaign again, which looks \
how it stands; a site that was refused is tried again.

Exit codes: 0 every site succeeded, or Ctrl-C (the jobs go on, no further one begins); 3 a workbook is rejected; else \
the gravest of what happened: 5 something is left over, 8 a job waits for an operator, 4 a job failed, 7 a site was \
refused, 130 a job was cancelled.

Examples:
  ctl campaign run sites/
  ctl campaign run night-1.csv --max-parallel 8 --canary 2 --max-failures 3
  ctl campaign run night-1.csv --max-failures 5          go on, with a larger budget
  ctl campaign run sites/ --skip-invalid -o json > summary.json";

const STATUS_HELP: &str = "\
What the state file says, and what the controller says of the jobs at work; without a controller the file alone.

Examples:
  ctl campaign status sites/
  ctl campaign status night-1.csv -o json";

const PAUSE_HELP: &str = "\
No further job begins, within two seconds; what runs goes on to its end. Single jobs are held with `ctl pause JOB`.

Examples:
  ctl campaign pause sites/";

const RESUME_HELP: &str = "\
A `ctl campaign run` that is still there goes on by itself; otherwise give that command again.

Examples:
  ctl campaign resume sites/";

/// See [`super::Command::Campaign`].
#[derive(Debug, Subcommand)]
pub(crate) enum CampaignCommand {
    /// Deploy to many sites: canaries first, then so many at a time, until the failure budget is spent
    #[command(after_help = RUN_HELP)]
    Run(CampaignRun),
    /// Show how a campaign stands
    #[command(after_help = STATUS_HELP)]
    Status(CampaignOf),
    /// Begin no further job of a campaign
    #[command(after_help = PAUSE_HELP)]
    Pause(CampaignOf),
    /// Let a paused campaign go on
    #[command(after_help = RESUME_HELP)]
    Resume(CampaignOf),
}

/// Which campaign.
#[derive(Debug, ClapArgs)]
pub(crate) struct CampaignOf {
    /// Directory with a workbook for each site, or file that lists them
    #[arg(value_name = "DIR|LIST")]
    pub(crate) sites: PathBuf,
    /// File with the campaign's state [default: DIR.campaign.json or LIST.campaign.json, beside it]
    #[arg(long, value_name = "FILE")]
    pub(crate) state: Option<PathBuf>,
}

/// See [`CampaignCommand::Run`].
#[derive(Debug, ClapArgs)]
pub(crate) struct CampaignRun {
    #[command(flatten)]
    pub(crate) of: CampaignOf,
    /// Jobs at a time, at most 64 [default: 4]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=64))]
    pub(crate) max_parallel: Option<u32>,
    /// So many sites go first and must all succeed before the others begin [default: 1]
    #[arg(long, value_name = "K", value_parser = clap::value_parser!(u32).range(0..=1000))]
    pub(crate) canary: Option<u32>,
    /// Begin no further job once so many have failed [default: 1]
    #[arg(long, value_name = "F", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) max_failures: Option<u32>,
    /// Leave out sites whose workbook is wrong, instead of beginning nothing
    #[arg(long)]
    pub(crate) skip_invalid: bool,
    /// What happens to what a failed job has made [default: the controller's setting]
    #[arg(long, value_name = "POLICY")]
    pub(crate) on_failure: Option<OnFailure>,
    /// A value that wins over every workbook; may be given several times (keys: ctl plan fields)
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair)]
    pub(crate) set: Vec<(String, String)>,
}
