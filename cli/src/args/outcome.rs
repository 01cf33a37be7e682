//! What can be typed behind `ctl result` and `ctl report`.

use std::path::PathBuf;

use clap::{Args as ClapArgs, ValueEnum};

use super::{Job, pair};

/// See [`super::Command::Result`].
pub(super) const RESULT_HELP: &str = "\
With --workbook a copy of the workbook that was deployed is made, with the serial of CloudTower's licence in \
集群管理信息!M3. Nothing else in it changes: no other cell, format, validation, protection or merged range. The \
workbook itself is only read. It has to be the one that was planned for the job: the controller plans it again, and the plans are \
compared, so give the same --set values as at submission. The exit code is 3 when it is another one or cannot be \
written, 7 when the job has no licence serial, 2 when OUT is there already or is the workbook itself.

Examples:
  ctl result 3f2a1b0c
  ctl result 3f2a1b0c -o json > shared-context.json
  ctl result 3f2a1b0c --workbook planning-deployed.xlsx --from planning.xlsx";

/// See [`super::Command::Report`].
pub(super) const REPORT_HELP: &str = "\
Without -o, and with -o html, it is one HTML page that needs nothing else: no script, no font, no picture from \
elsewhere. It can be printed. With -o json it is the same as one document. It holds no password and no token. The words of the \
page are Chinese, or English with --lang en; what agents, clusters and operators have said is quoted as it is. The audit log is part \
of it where your role may read it. A job that has not ended can be reported, too.

Examples:
  ctl report 3f2a1b0c --out handover.html
  ctl report 3f2a1b0c --lang en > handover.html
  ctl report 3f2a1b0c -o json | jq .steps";

/// See [`super::Command::Result`].
#[derive(Debug, ClapArgs)]
pub(crate) struct JobResult {
    #[command(flatten)]
    pub(crate) job: Job,
    /// Make a copy of the workbook with the licence serial in it
    #[arg(long, value_name = "OUT", requires = "from")]
    pub(crate) workbook: Option<PathBuf>,
    /// The planning workbook that was deployed
    #[arg(long, value_name = "IN", requires = "workbook")]
    pub(crate) from: Option<PathBuf>,
    /// A value that wins over the workbook, as it was given to deploy; may be given several times
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair, requires = "workbook")]
    pub(crate) set: Vec<(String, String)>,
    /// Replace OUT when it is there already
    #[arg(long, requires = "workbook")]
    pub(crate) force: bool,
}

/// See [`super::Command::Report`].
#[derive(Debug, ClapArgs)]
pub(crate) struct Report {
    #[command(flatten)]
    pub(crate) job: Job,
    /// Write it into this file instead of stdout
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
    /// Replace the file when it is there already
    #[arg(long, requires = "out")]
    pub(crate) force: bool,
}

/// Language of texts for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Lang {
    /// Chinese
    Zh,
    /// English
    En,
}

impl From<Lang> for gantry_report::Lang {
    fn from(lang: Lang) -> Self {
        match lang {
            Lang::Zh => Self::Zh,
            Lang::En => Self::En,
        }
    }
}
