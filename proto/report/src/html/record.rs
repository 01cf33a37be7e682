//! Who did what with which versions, what was planned, and the result word for word.

use gantry_proto::plan::Source;

use super::{Code, Page, Term, Text};
use crate::{Lang, Planned, rows::flat, units};

impl Page<'_> {
    pub(super) fn people(&mut self) {
        let acts = &self.report.acts;
        let rows = acts.entries.iter().map(|one| {
            let at = one.at.map(units::time).unwrap_or_default();
            vec![Text(at), Text(one.by.clone()), Text(self.say(one.act.into()).to_owned()), Text(one.about.clone())]
        });
        let rows: Vec<_> = rows.collect();
        let heads = self.heads(&[Term::At, Term::By, Term::Act, Term::About]);
        self.list(Term::People, &heads, rows, acts.left_out);
    }

    pub(super) fn audit(&mut self) {
        let report = self.report;
        let rows = report.audit.records.iter().flatten().map(|record| {
            let entry = &record.entry;
            let about = if entry.message.is_empty() { &entry.detail } else { &entry.message };
            vec![
                Text(record.number.to_string()),
                Text(units::time(record.at)),
                Text(entry.operator.clone()),
                Text(entry.role.clone()),
                Text(entry.remote.clone()),
                Code(entry.act.clone()),
                Text(self.say(entry.outcome.into()).to_owned()),
                Text(about.clone()),
            ]
        });
        let rows: Vec<_> = rows.collect();
        let heads = [Term::At, Term::By, Term::Role, Term::Remote, Term::Act, Term::State, Term::About];
        let heads: Vec<&str> = std::iter::once("#").chain(self.heads(&heads)).collect();
        match &report.audit.reason {
            None => self.list(Term::Audit, &heads, rows, 0),
            Some(reason) => {
                self.begin(Term::Audit);
                self.remark(&format!("{}{reason}", self.say(Term::NoAudit)));
                self.end();
            }
        }
    }

    pub(super) fn versions(&mut self) {
        let versions = &self.report.versions;
        let planned = self.report.plan.iter().flatten().find(|row| row.key == "cloudtower.version");
        let mut pairs: Vec<_> = versions.ctl.map(|ctl| ("ctl".to_owned(), Code(ctl.to_owned()))).into_iter().collect();
        pairs.push((self.say(Term::Controller).to_owned(), Code(versions.controller.clone())));
        for agent in &versions.agents {
            let name =
                format!("{} {} ({} {})", self.say(Term::Agent), agent.agent_id, self.say(Term::Epoch), agent.epoch);
            pairs.push((name, Code(format!("{}, {}", agent.version, units::time(agent.at)))));
        }
        let mut more = |term, value: Option<String>| {
            pairs.extend(value.map(|value| (self.say(term).to_owned(), Code(value))));
        };
        more(Term::Iso, self.told("/deploy_cloudtower/iso/file_name"));
        more(Term::GuestOs, self.told("/deploy_cloudtower/vm/os_version"));
        more(Term::PlannedVersion, planned.map(|row| row.value.clone()));
        self.begin(Term::Versions);
        self.markup.pairs(pairs);
        self.end();
    }

    pub(super) fn plan(&mut self) {
        let report = self.report;
        let heads = self.heads(&[Term::Key, Term::Value, Term::From]);
        self.begin(Term::Planned);
        match &report.plan {
            None => self.remark(self.say(Term::NoPlan)),
            Some(plan) => {
                let lang = self.lang;
                let from = |all: &[Source]| all.iter().map(|one| origin(one, lang)).collect::<Vec<_>>().join(", ");
                let row = |row: &Planned| vec![Code(row.key.clone()), Text(row.value.clone()), Text(from(&row.from))];
                self.markup.table(&heads, plan.iter().map(row));
            }
        }
        self.end();
    }

    pub(super) fn everything(&mut self) {
        let Some(result) = self.report.result.as_ref() else { return };
        self.begin(Term::Everything);
        let pairs = flat("", result).into_iter().map(|(key, value)| (key, Code(value)));
        self.markup.pairs(pairs);
        self.end();
    }
}

/// Where a value of the plan comes from.
fn origin(source: &Source, lang: Lang) -> String {
    match source {
        Source::Workbook { cell } => cell.clone(),
        Source::Derived { of } => format!("{} {of}", Term::Derived.text(lang)),
        Source::Override => Term::Override.text(lang).to_owned(),
        Source::Configuration => Term::Configuration.text(lang).to_owned(),
        Source::Default => Term::Default.text(lang).to_owned(),
    }
}
