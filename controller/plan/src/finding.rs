//! Findings: where something is wrong and in which words. Knows no rule.

use gantry_proto::{Problem, Redactor, Severity, plan::Source};

use crate::{read::Position, remedies, text};

/// Where a value comes from, as a person would look for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    sheet: Option<&'static str>,
    position: Option<Position>,
    label: String,
    source: Source,
}

impl Place {
    /// A cell of the workbook.
    pub(crate) fn cell(sheet: &'static str, position: Position, label: impl Into<String>) -> Self {
        let source = Source::Workbook { cell: format!("{sheet}!{position}") };
        Self { sheet: Some(sheet), position: Some(position), label: label.into(), source }
    }

    /// A sheet as a whole.
    pub(crate) fn sheet(sheet: &'static str) -> Self {
        Self { sheet: Some(sheet), position: None, label: sheet.to_owned(), source: Source::Default }
    }

    /// The file as a whole.
    pub(crate) fn file() -> Self {
        Self { sheet: None, position: None, label: String::new(), source: Source::Default }
    }

    /// An override.
    pub(crate) fn setting(key: &str) -> Self {
        Self { sheet: None, position: None, label: format!("--set {key}"), source: Source::Override }
    }

    /// A value of the settings that no cell holds.
    pub(crate) fn configuration(key: &str) -> Self {
        Self { sheet: None, position: None, label: key.to_owned(), source: Source::Configuration }
    }

    /// The same place, its value from elsewhere because the cell is blank.
    pub(crate) fn filled_from(&self, source: Source) -> Self {
        Self { source, ..self.clone() }
    }

    /// Which source won.
    pub(crate) fn source(&self) -> &Source {
        &self.source
    }

    /// The row of the cell.
    pub(crate) fn row(&self) -> Option<u32> {
        self.position.map(|position| position.row)
    }

    /// `sheet!cell`, or how the value was given.
    pub(crate) fn name(&self) -> String {
        match (self.sheet, self.position) {
            (Some(sheet), Some(position)) => format!("{sheet}!{position}"),
            (Some(sheet), None) => sheet.to_owned(),
            (None, _) => self.label.clone(),
        }
    }

    /// The name with the words a person looks for.
    pub(crate) fn with_label(&self) -> String {
        if self.sheet.is_some() && self.position.is_some() && !self.label.is_empty() {
            format!("{} ({})", self.name(), self.label)
        } else {
            self.name()
        }
    }
}

/// One finding under construction. The phrase is a predicate: it follows the value in quotes, when there is one.
#[derive(Debug)]
pub(crate) struct Finding(Problem);

impl Finding {
    pub(crate) fn error(code: &str, rule: &str, place: &Place, phrase: impl Into<String>) -> Self {
        Self::new(Severity::Error, code, rule, place, phrase.into())
    }

    pub(crate) fn warning(code: &str, rule: &str, place: &Place, phrase: impl Into<String>) -> Self {
        Self::new(Severity::Warning, code, rule, place, phrase.into())
    }

    pub(crate) fn notice(code: &str, rule: &str, place: &Place, phrase: impl Into<String>) -> Self {
        Self::new(Severity::Notice, code, rule, place, phrase.into())
    }

    pub(crate) fn new(severity: Severity, code: &str, rule: &str, place: &Place, phrase: String) -> Self {
        let from_settings = matches!(place.source, Source::Configuration) && place.sheet.is_some();
        Self(Problem {
            severity,
            code: code.to_owned(),
            rule: rule.to_owned(),
            sheet: place.sheet.map(str::to_owned),
            cell: place.position.map(|position| position.to_string()),
            related: Vec::new(),
            label: place.label.clone(),
            value: None,
            message: if from_settings { format!("{phrase} (the cell is blank: from the settings)") } else { phrase },
            remedy: String::new(),
        })
    }

    /// Repeats the value as typed; it is made fit to be shown with all findings. Never for a secret.
    pub(crate) fn value(mut self, typed: &str) -> Self {
        self.0.value = Some(typed.to_owned());
        self
    }

    /// Names the other places that take part.
    pub(crate) fn related<'a>(mut self, places: impl IntoIterator<Item = &'a Place>) -> Self {
        self.0.related.extend(places.into_iter().map(Place::name));
        self
    }

    /// Names one other cell, as `sheet!cell`.
    pub(crate) fn related_cell(mut self, cell: &str) -> Self {
        self.0.related.push(cell.to_owned());
        self
    }

    /// Says what to do, where the code alone does not tell.
    pub(crate) fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.0.remedy = remedy.into();
        self
    }
}

/// All findings of one workbook.
#[derive(Debug, Default)]
pub(crate) struct Findings(Vec<Problem>);

impl Findings {
    pub(crate) fn add(&mut self, finding: Finding) {
        self.0.push(finding.0);
    }

    pub(crate) fn has_errors(&self) -> bool {
        self.0.iter().any(|problem| problem.severity == Severity::Error)
    }

    /// Sorted by sheet in the workbook's order, row and column; what has no cell comes first. Secrets that stand in a
    /// wrong place are taken out.
    pub(crate) fn into_problems(mut self, sheets: &[String], redactor: &Redactor) -> Vec<Problem> {
        let order = |problem: &Problem| {
            let sheet = problem.sheet.as_ref().map(|name| sheets.iter().position(|sheet| sheet == name));
            let cell = problem.cell.as_deref().and_then(Position::parse);
            (sheet, cell, problem.severity)
        };
        self.0.sort_by_cached_key(order);
        for problem in &mut self.0 {
            if let Some(typed) = &problem.value {
                // Before anything is cut or escaped: a part of a secret could not be found any more.
                let shown = text::shown(&redactor.text(typed));
                problem.message = format!("\"{shown}\" {}", problem.message);
                problem.value = Some(shown);
            }
            if problem.remedy.is_empty() {
                problem.remedy = remedies::of(&problem.code, problem.severity).to_owned();
            }
            for text in problem.value.iter_mut().chain([&mut problem.message, &mut problem.remedy]) {
                if let std::borrow::Cow::Owned(clean) = redactor.text(text) {
                    *text = clean;
                }
            }
        }
        self.0
    }
}
