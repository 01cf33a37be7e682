//! What outlives a run of a campaign: its options, and for each site the job and how far it is. A site gets one job id,
//! before anything is submitted, and never another one: that is why no site is deployed twice.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use gantry_proto::{Failure, JobId, JobOutcome, token::sha256_hex, v1};
use serde::{Deserialize, Serialize};

use super::{
    SITES_MAX,
    list::Entry,
    schedule::{Limits, Stand},
};
use crate::{
    args::{CampaignRun, OnFailure},
    exit,
    follow::Known,
    language::Said,
    profile::Endpoint,
    render::{ending::Ending, units},
};

/// Name and version of the form of the file.
pub(crate) const FORM: &str = "gantry.campaign/1";

/// A campaign.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct State {
    /// [`FORM`].
    pub(crate) form: String,
    /// The controller's address, for people.
    pub(crate) controller: String,
    /// SHA-256 of its CA: job ids count at this controller only.
    pub(crate) ca_sha256: String,
    /// How it is carried out.
    pub(crate) options: Options,
    /// Every site, in order.
    pub(crate) sites: Vec<Site>,
}

/// How a campaign is carried out, as it was said last.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Options {
    /// Jobs at a time.
    pub(crate) max_parallel: u32,
    /// Sites that go first.
    pub(crate) canary: u32,
    /// The failure budget.
    pub(crate) max_failures: u32,
    /// What happens to what a failed job has made.
    pub(crate) on_failure: Option<OnFailure>,
    /// Values that win over every workbook.
    pub(crate) set: BTreeMap<String, String>,
}

/// One site.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Site {
    /// Its name.
    pub(crate) site: String,
    /// Its workbook.
    pub(crate) workbook: PathBuf,
    /// The agent, where the site has several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) agent: Option<String>,
    /// SHA-256 of the plan that was made of the workbook last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) plan_sha256: Option<String>,
    /// Its job: chosen once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) job_id: Option<JobId>,
    /// How far it is.
    #[serde(flatten)]
    pub(crate) stage: Stage,
}

/// How far a site is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub(crate) enum Stage {
    /// It has not begun.
    Waiting,
    /// Its workbook is wrong, and it is left out.
    Skipped,
    /// The controller has refused the job: nothing is stored.
    Refused {
        /// Why.
        message: String,
    },
    /// The job may be stored or not: nobody has answered yet.
    Submitting,
    /// The job is stored.
    Running,
    /// The job has ended.
    Ended(Ended),
}

/// How a job ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Ended {
    /// The outcome.
    pub(crate) outcome: JobOutcome,
    /// Something is left over.
    pub(crate) left_over: bool,
    /// From the first event to the last.
    pub(crate) seconds: Option<f64>,
    /// The failure's word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) code: Option<String>,
    /// The failure in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) message: Option<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self { max_parallel: 4, canary: 1, max_failures: 1, on_failure: None, set: BTreeMap::new() }
    }
}

impl Options {
    /// What was typed wins over what was said before.
    pub(crate) fn take(&mut self, args: &CampaignRun, set: BTreeMap<String, String>) {
        self.max_parallel = args.max_parallel.unwrap_or(self.max_parallel);
        self.canary = args.canary.unwrap_or(self.canary);
        self.max_failures = args.max_failures.unwrap_or(self.max_failures);
        self.on_failure = args.on_failure.or(self.on_failure);
        if !set.is_empty() {
            self.set = set;
        }
    }

    /// The bounds for the scheduler.
    pub(crate) fn limits(&self) -> Limits {
        let [max_parallel, canary, max_failures] = [self.max_parallel, self.canary, self.max_failures]
            .map(|number| usize::try_from(number).unwrap_or(usize::MAX));
        Limits { max_parallel, canary, max_failures }
    }
}

impl State {
    /// A campaign that has not begun.
    pub(crate) fn new(endpoint: &Endpoint) -> Self {
        Self {
            form: FORM.to_owned(),
            controller: endpoint.url.clone(),
            ca_sha256: sha256_hex(endpoint.ca.as_bytes()),
            options: Options::default(),
            sites: Vec::new(),
        }
    }

    /// What a file says that somebody may have edited.
    pub(crate) fn fault(&self) -> Option<Said> {
        if self.form != FORM {
            return Some(said!(
                "its form is \"{form}\", expected \"{FORM}\"",
                "其格式为“{form}”，应为“{FORM}”"; form = self.form
            ));
        }
        if self.sites.len() > 2 * SITES_MAX {
            return Some(said!("it has {n} sites", "它有 {n} 个站点"; n = self.sites.len()));
        }
        let (mut sites, mut jobs) = (BTreeSet::new(), BTreeSet::new());
        let twice =
            |site: &Site| said!("site {site} or its job is there twice", "站点 {site} 或其作业重复"; site = site.site);
        let known = |site: &&Site| !sites.insert(site.site.clone()) || site.job_id.is_some_and(|id| !jobs.insert(id));
        if let Some(site) = self.sites.iter().find(known) {
            return Some(twice(site));
        }
        let needs_job = |site: &&Site| site.job_id.is_none() && site.stage.is_begun();
        let site = self.sites.iter().find(needs_job)?;
        Some(said!("site {site} is at work without a job", "站点 {site} 进行中却没有作业"; site = site.site))
    }

    /// Job ids count at one controller: at another one they would make second jobs.
    pub(crate) fn belongs_to(&mut self, endpoint: &Endpoint) -> Result<(), exit::Failure> {
        if self.ca_sha256 != sha256_hex(endpoint.ca.as_bytes()) {
            return Err(exit::Failure::usage(said!(
                "the campaign cannot go on at the controller at {url}",
                "批量部署不能在控制器 {url} 上继续"; url = endpoint.url
            ))
            .because(said!(
                "it was begun at another one, at {url}",
                "它始于另一控制器 {url}"; url = self.controller
            ))
            .remedy(said!(
                "use the profile of that controller (--profile or GANTRY_PROFILE)",
                "请使用该控制器的配置文件（--profile 或 GANTRY_PROFILE）"
            ))
            .remedy(said!(
                "or begin a new campaign with --state FILE, for sites that were not deployed there",
                "或用 --state FILE 为未在该处部署过的站点开始新的批量部署"
            )));
        }
        self.controller.clone_from(&endpoint.url);
        Ok(())
    }

    /// Lays the list as it is now over what was done. Gives what is worth saying.
    pub(crate) fn take_list(&mut self, list: Vec<Entry>) -> Vec<String> {
        let mut notes = Vec::new();
        let mut before: BTreeMap<String, Site> = BTreeMap::new();
        let mut order = Vec::new();
        for site in std::mem::take(&mut self.sites) {
            order.push(site.site.clone());
            before.insert(site.site.clone(), site);
        }
        let mut sites = Vec::with_capacity(list.len());
        for Entry { site, workbook, agent } in list {
            sites.push(match before.remove(&site) {
                // What a job was made of is of the past.
                Some(known) if known.stage.is_begun() => known,
                known => {
                    let job_id = known.and_then(|known| known.job_id);
                    Site { site, workbook, agent, plan_sha256: None, job_id, stage: Stage::Waiting }
                }
            });
        }
        // What has begun stays in sight, behind the others: it is no canary of theirs.
        for gone in order.iter().filter_map(|name| before.remove(name)) {
            if gone.stage.is_begun() {
                notes.push(say!(
                    "site {site} is not in the list any more; its job is followed",
                    "站点 {site} 已不在列表中；继续跟踪其作业"; site = gone.site
                ));
                sites.push(gone);
            } else {
                notes.push(say!(
                    "site {site} is not in the list any more, and has not begun",
                    "站点 {site} 已不在列表中，且尚未开始"; site = gone.site
                ));
            }
        }
        self.sites = sites;
        notes
    }
}

impl Site {
    /// It begins: gives its job, the one that it has had before if there is one.
    pub(crate) fn begin(&mut self) -> JobId {
        self.stage = Stage::Submitting;
        *self.job_id.get_or_insert_with(JobId::new)
    }

    /// What the controller says of its job: a job that it does not have has not begun, one that was taken up again is
    /// at work.
    pub(crate) fn settle(&mut self, job: Option<v1::Job>) {
        self.stage = match job {
            None => Stage::Waiting,
            job => Ended::of(&Known { job, ..Known::default() }).map_or(Stage::Running, Stage::Ended),
        };
    }

    /// How it stands, `asks` when its job is known to wait for an operator.
    pub(crate) fn stand(&self, asks: bool) -> Stand {
        match &self.stage {
            Stage::Waiting => Stand::Waiting,
            Stage::Skipped => Stand::Skipped,
            Stage::Submitting | Stage::Running if asks => Stand::Asks,
            Stage::Submitting | Stage::Running => Stand::AtWork,
            Stage::Ended(Ended { outcome: JobOutcome::Succeeded, .. }) => Stand::Succeeded,
            Stage::Refused { .. } | Stage::Ended(_) => Stand::Failed,
        }
    }
}

impl Stage {
    /// Whether there may be a job.
    pub(crate) fn is_begun(&self) -> bool {
        matches!(self, Self::Submitting | Self::Running | Self::Ended(_))
    }

    /// Whether only the controller knows how it stands now: nobody has answered, or an operator may have acted since.
    pub(crate) fn is_open(&self) -> bool {
        match self {
            Self::Waiting | Self::Refused { .. } | Self::Submitting => true,
            Self::Ended(ended) => ended.outcome != JobOutcome::Succeeded,
            Self::Skipped | Self::Running => false,
        }
    }

    /// The word for it.
    pub(crate) fn word(&self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Skipped => "skipped",
            Self::Refused { .. } => "refused",
            Self::Submitting => "submitting",
            Self::Running => "running",
            Self::Ended(_) => "ended",
        }
    }
}

impl Ended {
    /// The end of a job, from its log or else from the controller's list; `None` before it.
    pub(crate) fn of(known: &Known) -> Option<Self> {
        let end = Ending::of(known)?;
        let row = known.job.as_ref();
        let listed = || Some((units::from_micros(row?.started_micros)?, units::from_micros(row?.finished_micros)?));
        let times = known.view.started.zip(known.view.finished).or_else(listed);
        let words =
            |text: fn(&Failure) -> &String| end.failure.as_ref().map(text).filter(|text| !text.is_empty()).cloned();
        Some(Self {
            outcome: end.outcome,
            left_over: end.is_left_over(),
            seconds: times.map(|(from, to)| units::between(from, to)),
            code: words(|failure| &failure.code),
            message: words(|failure| &failure.message),
        })
    }
}

#[cfg(test)]
mod tests;
