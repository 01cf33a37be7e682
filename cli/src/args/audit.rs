//! What can be typed behind `ctl audit`.

use std::path::PathBuf;

use clap::{Args as ClapArgs, Subcommand};
use gantry_proto::audit::Head;
use jiff::{SignedDuration, Timestamp, civil::Date, tz::TimeZone};

/// See [`super::Command::Audit`].
pub(super) const HELP: &str = "\
Every act has two records: asked, before it is carried out, and done or refused (with the reason) once it is settled. \
The records are chained by their hashes. The last line is the head of the log: its number and its hash. Whoever has \
noted a head elsewhere finds later whether the log up to it is still the same: ctl audit verify --head.

Examples:
  ctl audit
  ctl audit --job 3f2a1b0c
  ctl audit --by li --since 24h -o json
  ctl audit --since 2026-11-01 --limit 1000
  ctl audit export audit.jsonl
  ctl audit verify audit.jsonl --head-from-controller";

const EXPORT_HELP: &str = "\
Writes one record a line, from the first to the last, each with its hash and the hash of the one before. The file is \
checked on the way and holds everything that `ctl audit verify` needs. An existing file is not touched.

Examples:
  ctl audit export audit-2026-11.jsonl";

const VERIFY_HELP: &str = "\
Finds any record that was altered, removed, reordered, doubled or inserted. Needs no controller. The exit code is 0 when \
nothing is wrong, 3 otherwise.

Two things cannot be told from a file alone: that records were removed at its end, and that all of it was written anew. \
For these give a head that is known from elsewhere: one that `ctl audit` or `ctl audit export` has printed before \
(--head), or the one that the controller has now (--head-from-controller; the file must go up to it, so export it just \
before).

Examples:
  ctl audit verify audit.jsonl
  ctl audit verify audit.jsonl --head 120:9f2c...
  ctl audit verify audit.jsonl --head-from-controller";

/// See [`super::Command::Audit`].
#[derive(Debug, ClapArgs)]
pub(crate) struct Audit {
    #[command(subcommand)]
    pub(crate) command: Option<AuditCommand>,
    #[command(flatten)]
    pub(crate) list: AuditList,
}

/// Which records are shown.
#[derive(Debug, ClapArgs)]
pub(crate) struct AuditList {
    /// Only about this job
    #[arg(long, value_name = "JOB")]
    pub(crate) job: Option<String>,
    /// Only of this operator
    #[arg(long, value_name = "NAME")]
    pub(crate) by: Option<String>,
    /// Only from this time on: 2026-11-01, 2026-11-01T08:00:00Z, or so long ago: 90m, 24h, 7d
    #[arg(long, value_name = "TIME", value_parser = since)]
    pub(crate) since: Option<Timestamp>,
    /// At most so many, the newest ones
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) limit: u32,
}

/// What else can be done with the log.
#[derive(Debug, Subcommand)]
pub(crate) enum AuditCommand {
    /// Write the whole log into a file
    #[command(after_help = EXPORT_HELP)]
    Export {
        /// The file to make
        file: PathBuf,
    },
    /// Check a file that was exported; needs no controller
    #[command(after_help = VERIFY_HELP)]
    Verify(AuditVerify),
}

/// See [`AuditCommand::Verify`].
#[derive(Debug, ClapArgs)]
pub(crate) struct AuditVerify {
    /// The file
    pub(crate) file: PathBuf,
    /// A head that was noted before: that record must be in the file
    #[arg(long, value_name = "NUMBER:HASH", conflicts_with = "head_from_controller")]
    pub(crate) head: Option<Head>,
    /// Ask the controller for the head that it has now
    #[arg(long)]
    pub(crate) head_from_controller: bool,
}

fn since(text: &str) -> Result<Timestamp, String> {
    let midnight = |date: Date| date.to_zoned(TimeZone::UTC).map(|at| at.timestamp());
    let found = match ago(text) {
        Some(long) => Timestamp::now().checked_sub(long).ok(),
        None => text.parse().ok().or_else(|| text.parse().ok().and_then(|date| midnight(date).ok())),
    };
    found.ok_or_else(|| {
        say!(
            "expected a date such as 2026-11-01, a time such as 2026-11-01T08:00:00Z, or 90m, 24h or 7d",
            "应为日期如 2026-11-01，时间如 2026-11-01T08:00:00Z，或 90m、24h、7d"
        )
    })
}

fn ago(text: &str) -> Option<SignedDuration> {
    let hours = |count: i64| SignedDuration::try_from_hours(count);
    let count = |unit: char| text.strip_suffix(unit).and_then(|count| count.parse::<u32>().ok()).map(i64::from);
    if let Some(days) = count('d') {
        return hours(days * 24);
    }
    count('h').and_then(hours).or_else(|| count('m').and_then(SignedDuration::try_from_mins))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_dates_times_or_so_long_ago() {
        assert_eq!(since("2026-11-01").unwrap().to_string(), "2026-11-01T00:00:00Z");
        assert_eq!(since("2026-11-01T08:00:00+08:00").unwrap().to_string(), "2026-11-01T00:00:00Z");
        for (text, hours) in [("90m", 1), ("24h", 24), ("7d", 168)] {
            let at = since(text).unwrap();
            assert_eq!(Timestamp::now().duration_since(at).as_hours(), hours, "{text}");
        }
        for bad in ["", "yesterday", "-1h", "4000000000d", "99999999999h", "2026-13-01"] {
            assert!(since(bad).is_err(), "{bad}");
        }
    }
}
