//! A campaign: the picture while it runs, its table, and its JSON. Pure.

use std::fmt::Write as _;

use gantry_proto::v1::JobState;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::{frame, jobs, lines, paint::Paint, table::table, text, units, words};
use crate::{
    args::Lang,
    campaign::{
        Campaign,
        state::{Ended, Site, Stage},
        tally::Tally,
    },
    follow::Known,
    language::{now, within},
};

/// Wider lines are harder to read, not easier.
const WIDEST: usize = 110;
/// Columns of a site's name; longer ones are cut.
const NAME: usize = 24;

/// A campaign at one moment.
pub(crate) struct Scene<'a> {
    /// The campaign.
    pub(crate) campaign: &'a Campaign,
    /// The line to the controller is broken.
    pub(crate) broken: bool,
    /// Now, by our clock.
    pub(crate) now: Timestamp,
}

/// What a job at work does.
struct AtWork {
    step: String,
    percent: f64,
    left: Option<f64>,
    /// What stands between it and its work.
    held: Option<&'static str>,
}

impl AtWork {
    fn of(known: &Known, now: Timestamp) -> Self {
        let row = known.job.as_ref();
        let step = match known.view.current() {
            Some(step) => lines::step_name(known, &step.info.id),
            None => row.map(|job| words::step_of_id(&job.current_step).to_owned()).unwrap_or_default(),
        };
        let listed = row.map_or(0.0, |job| job.percent);
        let percent = if known.view.steps.is_empty() { listed } else { known.view.percent() };
        let held = row.and_then(|job| match job.state() {
            JobState::NeedsOperator if known.needs_operator() => Some(word!("waits for an operator", "等待操作员")),
            JobState::Paused => Some(word!("held", "已暂停")),
            _ if frame::contact(job, now).is_some() => Some(word!("agent out of contact", "代理失联")),
            JobState::Queued => Some(word!("waits for its agent", "等待代理")),
            _ => None,
        });
        Self { step, percent, left: known.eta(now).map(|eta| eta.seconds), held }
    }

    fn words(&self) -> String {
        let mut parts = vec![frame::percent(self.percent).trim_start().to_owned()];
        parts.extend(Some(self.step.clone()).filter(|step| !step.is_empty()));
        parts.extend(self.held.map(str::to_owned));
        parts.join("  ")
    }
}

impl Scene<'_> {
    /// How many sites stand how.
    pub(crate) fn tally(&self) -> Tally {
        Tally::of(&self.campaign.state.sites, |index| self.campaign.asks(index))
    }

    /// The picture, for columns and rows.
    pub(crate) fn frame(&self, size: (usize, usize), paint: Paint) -> Vec<String> {
        let width = size.0.clamp(20, WIDEST);
        let head = say!("campaign {name}", "批量部署 {name}"; name = self.campaign.name);
        let mut lines = vec![paint.head(&text::cut(&text::clean(&head), width))];
        lines.extend(text::wrap(&self.counts(), width));
        let paused = self.campaign.paused.as_ref();
        let paused = paused
            .map(|since| say!("paused since {since}: no further job begins", "自 {since} 起暂停：不再开始新作业"));
        let broken = self.broken.then(|| {
            say!(
                "no line to the controller, trying again; the jobs go on",
                "与控制器的连接中断，正在重试；作业仍在继续"
            )
        });
        let states = paused.into_iter().chain(broken).flat_map(|line| text::wrap(&line, width)).collect::<Vec<_>>();
        let rows: Vec<_> = self.at_work().map(|(site, at_work)| self.row(site, &at_work, width)).collect();
        let room = size.1.saturating_sub(lines.len() + states.len() + 2).max(1);
        let more = rows.len().saturating_sub(room);
        lines.extend(rows.into_iter().take(room));
        if more > 0 {
            lines.push(paint.dim(&say!("· {more} more at work", "· 另有 {more} 个进行中")));
        }
        lines.extend(states.iter().map(|line| paint.warn(line)));
        lines
    }

    /// One line, for pipes.
    pub(crate) fn line(&self) -> String {
        let mut out = self.counts();
        for (site, at_work) in self.at_work() {
            let _ = write!(out, "{}{} {}", word!("; ", "；"), site.site, at_work.words());
        }
        out
    }

    /// The whole of it, a row a site.
    pub(crate) fn table(&self, columns: usize) -> String {
        let rows = self.campaign.state.sites.iter().enumerate().map(|(index, site)| {
            let at_work = self.campaign.known.get(&index).map(|known| AtWork::of(known, self.now));
            let (seconds, what) = match &site.stage {
                Stage::Ended(ended) => (ended.seconds.map(units::duration), how(ended)),
                Stage::Refused { message } => (None, message.clone()),
                _ => (None, at_work.map(|at_work| at_work.words()).unwrap_or_default()),
            };
            vec![
                site.site.clone(),
                site.job_id.map(|id| id.short()).unwrap_or_default(),
                self.shown(index, site),
                seconds.unwrap_or_default(),
                what,
            ]
        });
        let heading = [
            word!("SITE", "站点"),
            word!("JOB", "作业"),
            word!("STATE", "状态"),
            word!("TIME", "耗时"),
            word!("WHAT", "说明"),
        ];
        table(&heading, rows, columns)
    }

    /// `12 of 50 sites done, 4 at work, 34 waiting; 2 failures of at most 3`.
    pub(crate) fn counts(&self) -> String {
        let tally = self.tally();
        let (done, sites, s) = (tally.done(), tally.sites, words::s(tally.sites));
        let mut out = say!("{done} of {sites} site{s} done", "已完成 {done}/{sites} 个站点");
        for (count, what) in [
            (tally.succeeded, word!("succeeded", "成功")),
            (tally.failed, word!("failed", "失败")),
            (tally.cancelled, word!("cancelled", "已取消")),
            (tally.refused, word!("refused", "被拒绝")),
            (tally.asks, word!("waiting for an operator", "等待操作员")),
            (tally.at_work, word!("at work", "进行中")),
            (tally.waiting, word!("not begun", "未开始")),
            (tally.skipped, word!("skipped", "已跳过")),
        ] {
            if count > 0 {
                out.push_str(&say!(", {count} {what}", "，{what} {count}"));
            }
        }
        if tally.failures() > 0 {
            let (failures, most) = (tally.failures(), self.campaign.state.options.max_failures);
            out.push_str(&say!("; failures {failures} of {most}", "；失败预算已用 {failures}/{most}"));
        }
        out
    }

    /// The document of a campaign.
    pub(crate) fn json(&self) -> Value {
        let tally = self.tally();
        let sites: Vec<_> = (0..self.campaign.state.sites.len()).map(|index| self.site(index)).collect();
        json!({
            "campaign": self.campaign.name,
            "controller": self.campaign.state.controller,
            "paused_since": self.campaign.paused,
            "options": self.campaign.state.options,
            "counts": {
                "sites": tally.sites, "succeeded": tally.succeeded, "failed": tally.failed,
                "cancelled": tally.cancelled, "refused": tally.refused, "needs_operator": tally.asks,
                "running": tally.at_work, "waiting": tally.waiting, "skipped": tally.skipped,
                "left_over": tally.left_over,
            },
            "failures": tally.failures(),
            "sites": sites,
        })
    }

    /// One site of it.
    pub(crate) fn site(&self, index: usize) -> Value {
        let Some(site) = self.campaign.state.sites.get(index) else { return Value::Null };
        let ended = match &site.stage {
            Stage::Ended(ended) => Some(ended),
            _ => None,
        };
        let refused = match &site.stage {
            Stage::Refused { message } => Some(message),
            _ => None,
        };
        // A document for programs has the agent's own words.
        let at_work = || self.campaign.known.get(&index).map(|known| AtWork::of(known, self.now));
        let at_work = within(Lang::En, at_work);
        json!({
            "site": site.site,
            "workbook": site.workbook,
            "agent": site.agent,
            "job_id": site.job_id,
            "state": self.word(index, site),
            "outcome": ended.map(|ended| words::outcome(ended.outcome)),
            "seconds": ended.and_then(|ended| ended.seconds),
            "code": ended.and_then(|ended| ended.code.as_deref()),
            "message": ended.and_then(|ended| ended.message.as_ref()).or(refused),
            "left_over": ended.is_some_and(|ended| ended.left_over),
            "step": at_work.as_ref().map(|at_work| &at_work.step).filter(|step| !step.is_empty()),
            "percent": at_work.as_ref().map(|at_work| at_work.percent),
        })
    }

    fn word(&self, index: usize, site: &Site) -> &'static str {
        match &site.stage {
            Stage::Ended(ended) => words::outcome(ended.outcome),
            Stage::Running if self.campaign.asks(index) => "needs_operator",
            stage => stage.word(),
        }
    }

    /// The same, for people.
    fn shown(&self, index: usize, site: &Site) -> String {
        match (now(), &site.stage) {
            (Lang::En, _) => self.word(index, site).replace('_', " "),
            (Lang::Zh, Stage::Ended(ended)) => words::ended(ended.outcome).to_owned(),
            (Lang::Zh, Stage::Running) if self.campaign.asks(index) => "等待操作员".to_owned(),
            (Lang::Zh, Stage::Waiting) => "未开始".to_owned(),
            (Lang::Zh, Stage::Skipped) => "已跳过".to_owned(),
            (Lang::Zh, Stage::Refused { .. }) => "被拒绝".to_owned(),
            (Lang::Zh, Stage::Submitting) => "提交中".to_owned(),
            (Lang::Zh, Stage::Running) => "运行中".to_owned(),
        }
    }

    fn at_work(&self) -> impl Iterator<Item = (&Site, AtWork)> {
        let sites = self.campaign.state.sites.iter().enumerate();
        let at_work = sites.filter(|(_, site)| matches!(site.stage, Stage::Submitting | Stage::Running));
        at_work.filter_map(move |(index, site)| Some((site, AtWork::of(self.campaign.known.get(&index)?, self.now))))
    }

    fn row(&self, site: &Site, at_work: &AtWork, width: usize) -> String {
        let job = site.job_id.map(|id| jobs::short(&id.to_string())).unwrap_or_default();
        let left = at_work
            .left
            .map(|left| say!("  about {left} left", "  约剩 {left}"; left = units::about(left)))
            .unwrap_or_default();
        let line = format!(
            "▸ {}  {job}  {}{left}",
            text::column(&site.site, NAME.min(width * 3 / 10)),
            text::clean(&at_work.words())
        );
        text::cut(&line, width).into_owned()
    }
}

/// Why a job ended as it did, in a word or two.
fn how(ended: &Ended) -> String {
    let left_over = ended.left_over.then(|| say!("something is left over", "有残留对象"));
    ended.code.clone().into_iter().chain(left_over).collect::<Vec<_>>().join(word!("; ", "；"))
}

#[cfg(test)]
mod tests;
