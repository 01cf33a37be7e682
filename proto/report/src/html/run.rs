//! How the job went: steps, attempts, warnings, objects, and what it found.

use gantry_proto::{Leftover, ledger, view::StepState};

use super::{Badge, Bar, Code, Page, Term, Text, Tone};
use crate::{HEALTH_STAGE, rows::leftover, units};

impl Page<'_> {
    pub(super) fn steps(&mut self) {
        let steps = &self.report.steps;
        let longest = steps.iter().filter_map(|step| step.seconds).fold(0.0, f64::max);
        let rows = steps.iter().map(|step| {
            let took = match step.seconds {
                Some(seconds) if longest > 0.0 => Bar(seconds / longest, units::duration(seconds)),
                _ => Text(String::new()),
            };
            let tone = match step.state {
                StepState::Done => Tone::Good,
                StepState::Failed | StepState::UndoFailed => Tone::Bad,
                StepState::Retrying | StepState::Undoing => Tone::Warn,
                StepState::Waiting | StepState::Running | StepState::Undone => Tone::Plain,
            };
            vec![
                Text(self.step(step.id.as_str())),
                Badge(tone, self.say(step.state.into()).to_owned()),
                took,
                Text(step.attempts.to_string()),
                Text(step.started.map(units::time).unwrap_or_default()),
            ]
        });
        let rows: Vec<_> = rows.collect();
        let phases = self.report.timings.phases.iter().map(|(phase, seconds)| {
            let name = Term::of_phase(phase).map_or_else(|| phase.clone(), |term| self.say(term).to_owned());
            (name, Text(units::duration(*seconds)))
        });
        let phases: Vec<_> = phases.collect();
        let heads = self.heads(&[Term::Step, Term::State, Term::Took, Term::Attempts, Term::Started]);
        self.begin(Term::Steps);
        self.markup.table(&heads, rows);
        if !phases.is_empty() {
            self.markup.within("<h3>", self.say(Term::Phase), "</h3>");
            self.markup.pairs(phases);
        }
        self.end();
    }

    pub(super) fn failed_attempts(&mut self) {
        let attempts = &self.report.attempts;
        let rows = attempts.entries.iter().map(|one| {
            let number = one.attempt.map(|number| number.to_string()).unwrap_or_default();
            let (tone, next) = if one.will_retry { (Tone::Warn, Term::Retrying) } else { (Tone::Bad, Term::Failed) };
            vec![
                Text(units::time(one.at)),
                Text(one.step.as_ref().map(|step| self.step(step.as_str())).unwrap_or_default()),
                Text(number),
                Badge(tone, self.say(next).to_owned()),
                Code(one.code.clone()),
                Text(one.message.clone()),
            ]
        });
        let rows: Vec<_> = rows.collect();
        let heads = self.heads(&[Term::At, Term::Step, Term::Attempt, Term::State, Term::Code, Term::Message]);
        self.list(Term::Retries, &heads, rows, attempts.left_out);
    }

    pub(super) fn warnings(&mut self) {
        let warnings = &self.report.warnings;
        let rows = warnings.entries.iter().map(|one| {
            vec![
                Text(units::time(one.at)),
                Text(one.step.as_ref().map(|step| self.step(step.as_str())).unwrap_or_default()),
                Code(one.code.clone()),
                Text(one.message.clone()),
            ]
        });
        let rows: Vec<_> = rows.collect();
        let heads = self.heads(&[Term::At, Term::Step, Term::Code, Term::Message]);
        self.list(Term::Warnings, &heads, rows, warnings.left_out);
    }

    pub(super) fn objects(&mut self) {
        let rows = self.report.objects.iter().map(|one| {
            let tone = match one.state {
                ledger::State::Made | ledger::State::Delivered => Tone::Good,
                ledger::State::Found | ledger::State::Removed => Tone::Plain,
                ledger::State::Asked | ledger::State::Unfinished => Tone::Warn,
                ledger::State::LeftOver => Tone::Bad,
            };
            vec![
                Code(one.kind.clone()),
                Text(one.name.clone()),
                Code(one.id.clone()),
                Badge(tone, self.say(one.state.into()).to_owned()),
                Text(one.step.as_ref().map(|step| self.step(step.as_str())).unwrap_or_default()),
            ]
        });
        let rows: Vec<_> = rows.collect();
        let heads = self.heads(&[Term::Kind, Term::Name, Term::Id, Term::State, Term::Step]);
        self.list(Term::Objects, &heads, rows, 0);
    }

    pub(super) fn leftovers(&mut self) {
        let row = |left: &Leftover| vec![Text(leftover(left)), Text(left.remedy.clone())];
        let rows: Vec<_> = self.report.leftovers.iter().map(row).collect();
        let heads = self.heads(&[Term::Name, Term::ByHand]);
        self.list(Term::Leftovers, &heads, rows, 0);
    }

    pub(super) fn licence(&mut self) {
        let report = self.report;
        self.begin(Term::Licence);
        match &report.licence {
            Some(licence) => self.document(licence),
            None => self.remark(self.say(Term::NoLicence)),
        }
        self.end();
    }

    pub(super) fn health(&mut self) {
        let report = self.report;
        self.begin(Term::Health);
        match &report.health {
            Some(health) => self.document(health),
            None => self.remark(self.say(Term::NoHealth)),
        }
        self.end();
    }

    /// Whatever other stages have left, known to this version or not.
    pub(super) fn stages(&mut self) {
        let report = self.report;
        let others: Vec<_> = report.stages.iter().filter(|(key, _)| *key != HEALTH_STAGE).collect();
        if others.is_empty() {
            return;
        }
        self.begin(Term::Stages);
        for (key, stage) in others {
            let name = Term::of_stage(key).map_or(key.as_str(), |term| self.say(term));
            self.markup.within("<h3>", name, "</h3>");
            self.document(stage);
        }
        self.end();
    }
}
