//! What a check says: a line for people, or JSON.

use std::fmt;

use serde::Serialize;

/// How a check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// It works, and somebody should look at it.
    Warn,
    /// It does not work.
    Fail,
    /// Not looked at.
    Skip,
}

/// What was seen, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How it ended.
    pub verdict: Verdict,
    /// What was seen, with figures.
    pub seen: String,
    /// What a person does; there is one with every `warn` and `fail`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

impl Finding {
    pub(super) fn ok(seen: impl Into<String>) -> Self {
        Self { verdict: Verdict::Ok, seen: seen.into(), remedy: None }
    }

    pub(super) fn warn(seen: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { verdict: Verdict::Warn, seen: seen.into(), remedy: Some(remedy.into()) }
    }

    pub(super) fn fail(seen: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { verdict: Verdict::Fail, seen: seen.into(), remedy: Some(remedy.into()) }
    }

    pub(super) fn skip(seen: impl Into<String>) -> Self {
        Self { verdict: Verdict::Skip, seen: seen.into(), remedy: None }
    }
}

/// One check. `Display` is its line, and a second one with the remedy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// From 1.
    #[serde(skip)]
    pub number: usize,
    /// How many there are.
    #[serde(skip)]
    pub total: usize,
    /// What is looked at.
    pub name: &'static str,
    #[serde(flatten)]
    pub finding: Finding,
    /// Milliseconds.
    pub took_ms: u64,
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = match self.finding.verdict {
            Verdict::Ok => "ok",
            Verdict::Warn => "WARN",
            Verdict::Fail => "FAIL",
            Verdict::Skip => "skip",
        };
        write!(f, "{:>2}/{}  {word:<4}  {:<11}  {}", self.number, self.total, self.name, self.finding.seen)?;
        if let Some(remedy) = &self.finding.remedy {
            write!(f, "\n             do: {remedy}")?;
        }
        Ok(())
    }
}

/// All checks, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    pub checks: Vec<Check>,
}

impl Report {
    /// Whether nothing failed.
    pub fn is_good(&self) -> bool {
        self.count(Verdict::Fail) == 0
    }

    /// Checks that ended so.
    pub fn count(&self, verdict: Verdict) -> usize {
        self.checks.iter().filter(|check| check.finding.verdict == verdict).count()
    }

    /// One JSON document: `good`, `checks` with `name`, `verdict`, `seen`, `remedy` (where there is one), `took_ms`.
    pub fn json(&self) -> serde_json::Value {
        serde_json::json!({ "good": self.is_good(), "checks": self.checks })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [ok, warn, fail, skip] =
            [Verdict::Ok, Verdict::Warn, Verdict::Fail, Verdict::Skip].map(|verdict| self.count(verdict));
        write!(f, "{ok} ok, {warn} to look at, {fail} failed, {skip} skipped")
    }
}

/// The remedy of a check that took too long.
pub(super) fn slow(name: &str) -> &'static str {
    match name {
        "name" => "see why the name servers in /etc/resolv.conf do not answer",
        "identity" | "disk" | "iso" | "reading" => {
            "the disk does not answer: see whether a mount hangs and what the kernel's log says"
        }
        "fisheye" => "see that it is the cluster's address and that a firewall does not drop the packets",
        _ => {
            "a firewall may drop the packets, or what answers there is not what it should be; a slow line needs a larger \
             doctor.check_timeout_ms"
        }
    }
}
