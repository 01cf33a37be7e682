//! A report as one HTML page that needs nothing else. Knows what stands where; how text gets into it is `markup`'s.

mod record;
mod run;

use gantry_proto::JobOutcome;
use serde_json::{Map, Value};

use super::{
    Report,
    markup::{
        Cell::{self, Badge, Bar, Code, Text},
        Markup, Tone,
    },
    stylesheet::STYLESHEET,
    terms::Term,
};
use crate::{
    Lang,
    rows::{flat, plain},
    units,
};

/// Nothing may be fetched or run, even if a text got past the escaping.
const HEAD: &str = "<meta charset=\"utf-8\">\
<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\
<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
<meta name=\"color-scheme\" content=\"light dark\"><meta name=\"referrer\" content=\"no-referrer\">\n";

/// Columns of a list of which nothing is known; what else its objects hold is in the whole result.
const COLUMNS_MAX: usize = 12;

/// The page.
pub fn page(report: &Report, lang: Lang) -> String {
    let mut page = Page { report, lang, markup: Markup::default() };
    page.markup.raw(match lang {
        Lang::Zh => "<!DOCTYPE html>\n<html lang=\"zh-CN\"><head>",
        Lang::En => "<!DOCTYPE html>\n<html lang=\"en\"><head>",
    });
    page.markup.raw(HEAD);
    let title = format!("{} {}", page.say(Term::Title), report.told.job_id);
    page.markup.within("<title>", &title, "</title><style>");
    page.markup.raw(STYLESHEET);
    page.markup.raw("</style></head>\n<body><main>\n");
    page.header();
    page.ending();
    page.overview();
    page.steps();
    page.failed_attempts();
    page.warnings();
    page.objects();
    page.leftovers();
    page.licence();
    page.health();
    page.stages();
    page.people();
    page.audit();
    page.versions();
    page.plan();
    page.everything();
    page.markup.raw("</main></body></html>\n");
    page.markup.into_string()
}

struct Page<'a> {
    report: &'a Report,
    lang: Lang,
    markup: Markup,
}

impl Page<'_> {
    fn say(&self, term: Term) -> &'static str {
        term.text(self.lang)
    }

    fn heads(&self, terms: &[Term]) -> Vec<&'static str> {
        terms.iter().map(|term| self.say(*term)).collect()
    }

    /// Begins a part of the page; the one before has to be ended.
    fn begin(&mut self, title: Term) {
        self.markup.within("<section><h2>", title.text(self.lang), "</h2>\n");
    }

    fn end(&mut self) {
        self.markup.raw("</section>\n");
    }

    fn remark(&mut self, text: &str) {
        self.markup.within("<p class=\"dim\">", text, "</p>\n");
    }

    /// A value of the result.
    fn told(&self, pointer: &str) -> Option<String> {
        self.report.result.as_ref().and_then(|result| result.pointer(pointer)).and_then(plain)
    }

    /// A step's title in the page's language; what is not known is titled as its agent did.
    fn step(&self, id: &str) -> String {
        let title = || self.report.steps.iter().find(|step| step.id.as_str() == id).map(|step| step.title.clone());
        match (self.lang, Term::of_step(id)) {
            (Lang::Zh, Some(term)) => self.say(term).to_owned(),
            _ => title().unwrap_or_else(|| id.to_owned()),
        }
    }

    fn header(&mut self) {
        let report = self.report;
        let (tone, state) = match report.outcome {
            Some(JobOutcome::Succeeded) => (Tone::Good, Term::Succeeded),
            Some(JobOutcome::Failed) => (Tone::Bad, Term::Failed),
            Some(JobOutcome::Cancelled) => (Tone::Warn, Term::Cancelled),
            None => (Tone::Plain, report.told.state().into()),
        };
        self.markup.within("<header><h1>", self.say(Term::Title), "</h1><p>");
        self.markup.badge(tone, self.say(state));
        self.markup.raw(" · ");
        let about = [&report.told.cluster, &report.told.vm_name, &report.told.cloudtower_ip];
        let about: Vec<&str> = about.into_iter().map(String::as_str).filter(|text| !text.is_empty()).collect();
        self.markup.text(&about.join(" · "));
        let made = format!("{}: {}. {}", self.say(Term::Made), units::time(report.made), self.say(Term::Quoted));
        self.markup.within("</p><p>", &made, "</p></header>\n");
    }

    fn ending(&mut self) {
        let report = self.report;
        self.begin(Term::Ending);
        if report.outcome.is_none() {
            self.remark(self.say(Term::NotEnded));
        }
        let mut pairs = Vec::new();
        if let Some(failure) = report.failure.as_ref().filter(|failure| !failure.message.is_empty()) {
            pairs.push((Term::What, Text(failure.message.clone())));
            pairs.extend(failure.causes.iter().map(|cause| (Term::Because, Text(cause.clone()))));
            pairs.push((Term::Code, Code(failure.code.clone())));
            pairs.push((Term::ToDo, Text(failure.remedy.clone())));
        }
        let success = report.outcome == Some(JobOutcome::Succeeded);
        if let Some(undo) = report.undo.filter(|_| !success) {
            pairs.push((Term::Undo, Text(self.say(undo.into()).to_owned())));
        }
        if let Some(total) = report.timings.total_s {
            pairs.push((Term::Total, Text(units::duration(total))));
            if success {
                let within = report.timings.within_goal == Some(true);
                let (tone, goal) = if within { (Tone::Good, Term::WithinGoal) } else { (Tone::Warn, Term::BeyondGoal) };
                pairs.push((Term::Goal, Badge(tone, self.say(goal).to_owned())));
            }
        }
        let (warnings, left) = (report.warnings.entries.len() + report.warnings.left_out, report.leftovers.len());
        let count = |count: usize, tone| Badge(if count == 0 { Tone::Good } else { tone }, count.to_string());
        pairs.push((Term::Warnings, count(warnings, Tone::Warn)));
        pairs.push((Term::Leftovers, count(left, Tone::Bad)));
        self.pairs(pairs);
        self.end();
    }

    fn overview(&mut self) {
        let job = &self.report.told;
        let time = |micros| units::from_micros(micros).map(units::time).unwrap_or_default();
        let login = self.told("/deploy_cloudtower/cloudtower/session/username");
        let login = login.map(|user| format!("{user}, {}", self.say(Term::LoginHint)));
        let told = |pointer: &str| self.told(pointer).unwrap_or_default();
        let list = |pointer: &str| {
            let found = self.report.result.as_ref().and_then(|result| result.pointer(pointer));
            found.and_then(Value::as_array).map(|all| all.iter().filter_map(plain).collect::<Vec<_>>().join(", "))
        };
        let pairs = vec![
            (Term::Url, Code(told("/deploy_cloudtower/base_url"))),
            (Term::Login, Text(login.unwrap_or_default())),
            (Term::State, Code(told("/deploy_cloudtower/status"))),
            (Term::Serial, Code(told("/deploy_cloudtower/cloudtower/license/license_serial"))),
            (Term::Organization, Text(told("/deploy_cloudtower/cloudtower/organization/name"))),
            (Term::Datacenter, Text(told("/deploy_cloudtower/cloudtower/inputs/datacenter_name"))),
            (Term::Ntp, Text(list("/deploy_cloudtower/cloudtower/ntp/servers").unwrap_or_default())),
            (Term::Dns, Text(list("/deploy_cloudtower/cloudtower/dns/servers").unwrap_or_default())),
            (Term::Cluster, Text(job.cluster.clone())),
            (Term::Vm, Text(job.vm_name.clone())),
            (Term::Address, Code(job.cloudtower_ip.clone())),
            (Term::Job, Code(job.job_id.clone())),
            (Term::Site, Text(job.site.clone())),
            (Term::Agent, Text(job.agent_id.clone())),
            (Term::SubmittedBy, Text(job.submitted_by.clone())),
            (Term::Submitted, Text(time(job.created_micros))),
            (Term::Started, Text(time(job.started_micros))),
            (Term::Finished, Text(time(job.finished_micros))),
            (Term::Workbook, Text(job.file_name.clone())),
            (Term::PlanHash, Code(job.plan_sha256.clone())),
            (Term::OnFailure, Text(self.say(job.on_failure().into()).to_owned())),
            (Term::Logs, Code(told("/deploy_cloudtower/logs/install"))),
        ];
        self.begin(Term::Overview);
        self.pairs(pairs);
        self.end();
    }

    /// Names with their values; those without a value are left out.
    fn pairs(&mut self, pairs: Vec<(Term, Cell)>) {
        let filled = pairs.into_iter().filter(|(_, cell)| !cell.is_empty());
        let lang = self.lang;
        self.markup.pairs(filled.map(|(term, cell)| (term.text(lang).to_owned(), cell)));
    }

    /// A part of the page that is a list, or says that there is nothing in it.
    fn list(&mut self, title: Term, heads: &[&str], rows: Vec<Vec<Cell>>, left_out: usize) {
        self.begin(title);
        if rows.is_empty() {
            self.remark(self.say(Term::None));
        }
        if left_out > 0 {
            self.remark(&format!("{}{left_out}", self.say(Term::LeftOut)));
        }
        self.markup.table(heads, rows);
        self.end();
    }

    /// A JSON document of which nothing is known: its values by key, its lists of objects as tables.
    fn document(&mut self, value: &Value) {
        let empty = Map::new();
        let map = value.as_object().unwrap_or(&empty);
        let is_list = |value: &Value| value.as_array().is_some_and(|all| all.iter().any(Value::is_object));
        let (lists, values): (Vec<_>, Vec<_>) = map.iter().partition(|(_, value)| is_list(value));
        let mut pairs: Vec<_> = values.into_iter().flat_map(|(key, value)| flat(key, value)).collect();
        if !value.is_object() {
            pairs = flat("", value);
        }
        self.markup.pairs(pairs.into_iter().map(|(key, value)| (key, Text(value))));
        for (key, list) in lists {
            let items = list.as_array().into_iter().flatten();
            let items: Vec<Vec<(String, String)>> = items.map(|item| flat("", item)).collect();
            let mut heads: Vec<&str> = Vec::new();
            for (name, _) in items.iter().flatten() {
                if !heads.contains(&name.as_str()) && heads.len() < COLUMNS_MAX {
                    heads.push(name);
                }
            }
            let row = |item: &Vec<(String, String)>| -> Vec<Cell> {
                let value = |head: &&str| item.iter().find(|(name, _)| name == head).map(|(_, value)| value.clone());
                heads.iter().map(|head| Text(value(head).unwrap_or_default())).collect()
            };
            self.markup.within("<h3>", key, "</h3>");
            self.markup.table(&heads, items.iter().map(row));
        }
    }
}
