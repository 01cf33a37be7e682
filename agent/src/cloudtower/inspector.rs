//! The inspection centre (`cloudtower.md` 7): a job over clusters, the export of its report, and the report.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use serde_json::{Value, json};

use super::{Call, Client, Error, client::Request, rest::shape, types::short};

const BEGIN: Call = Call { base: "/api/inspector/api/v3", name: "jobs", reads: false };
const LOOK: Call = Call { base: "/api/inspector/api/v3", name: "jobs/{id}", reads: true };
const EXPORT: Call = Call { base: "/api/inspector/api/v3", name: "jobs/{id}:exportReport", reads: false };
const EXPORT_STATUS: Call = Call { base: "/api/inspector/api/v3", name: "export/status", reads: true };
const DOWNLOAD: Call = Call { base: "/api/inspector/api/v1", name: "export/download", reads: true };
/// Words for a good result of an item, in any case.
const GOOD: [&str; 6] = ["normal", "ok", "pass", "passed", "success", "healthy"];
/// Items that are named, at most.
const NAMED_MAX: usize = 100;

/// One look at an inspection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inspection {
    pub state: InspectionState,
    /// In CloudTower's word.
    pub word: String,
    /// How many items had which result; empty when the answer does not tell.
    pub findings: BTreeMap<String, u64>,
    /// Items whose result is not a good one.
    pub conspicuous: Vec<String>,
}

/// How far an inspection, or an export, is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum InspectionState {
    #[default]
    Running,
    Succeeded,
    Failed,
}

impl Client {
    /// H1: begins an inspection of these clusters (their own uuids); its id. Not idempotent, and harmless.
    pub async fn inspect(&self, version: &str, clusters: &[String], items: &[&str]) -> Result<String, Error> {
        let body = json!({ "version": version, "cluster_uuids": clusters, "user_defined_items_names": items });
        let answer = self.authorized(BEGIN, &self.usual(BEGIN, Some(&body))).await?;
        text(BEGIN, &self.json(BEGIN, &answer)?, "id")
    }

    /// H2: one look at it.
    pub async fn inspection(&self, id: &str) -> Result<Inspection, Error> {
        let request = Request { path: format!("{}/jobs/{}", LOOK.base, part(id)), ..self.usual(LOOK, None) };
        let answer = self.authorized(LOOK, &request).await?;
        Inspection::read(&self.json(LOOK, &answer)?).ok_or_else(|| shape(LOOK, "the status is missing"))
    }

    /// H3: begins the export of its report; the file's name.
    pub async fn export_report(&self, id: &str, clusters: &[String], items: &[&str]) -> Result<String, Error> {
        let option = |uuid: &String| json!({ "cluster_uuid": uuid, "items_names": items, "graph_duration_months": 6 });
        let body = json!({ "options": clusters.iter().map(option).collect::<Vec<_>>() });
        let path = format!("{}/jobs/{}:exportReport?format=word", EXPORT.base, part(id));
        let request = Request { path, ..self.usual(EXPORT, Some(&body)) };
        let answer = self.authorized(EXPORT, &request).await?;
        text(EXPORT, &self.json(EXPORT, &answer)?, "filename")
    }

    /// H4: one look at the export.
    pub async fn export_state(&self, filename: &str) -> Result<(InspectionState, String), Error> {
        let path = format!("{}/{}?filename={}", EXPORT_STATUS.base, EXPORT_STATUS.name, part(filename));
        let request = Request { path, ..self.usual(EXPORT_STATUS, None) };
        let answer = self.authorized(EXPORT_STATUS, &request).await?;
        let json = self.json(EXPORT_STATUS, &answer)?;
        // The word itself, or an object around it.
        let word = json.as_str().or_else(|| json.get("status").and_then(Value::as_str)).map(short);
        let word = word.ok_or_else(|| shape(EXPORT_STATUS, "the status is missing"))?;
        let state = match word.as_str() {
            "EXPORT_SUCCEEDED" => InspectionState::Succeeded,
            "EXPORT_FAILED" => InspectionState::Failed,
            _ => InspectionState::Running,
        };
        Ok((state, word))
    }

    /// H5: the report, at most `most` bytes, in at most `limit`.
    pub async fn report(&self, filename: &str, limit: Duration, most: usize) -> Result<Bytes, Error> {
        let path = format!("{}/{}?filename={}", DOWNLOAD.base, DOWNLOAD.name, part(filename));
        let request = Request { path, body: None, limit, most };
        Ok(self.authorized(DOWNLOAD, &request).await?.body)
    }
}

impl Inspection {
    fn read(answer: &Value) -> Option<Self> {
        let word = short(answer.get("status")?.as_str()?);
        let state = match word.as_str() {
            "SUCCEEDED" | "FINISHED" | "SUCCESS" => InspectionState::Succeeded,
            "FAILED" | "ERROR" => InspectionState::Failed,
            _ => InspectionState::Running,
        };
        let mut inspection = Self { state, word, ..Self::default() };
        for item in answer.get("items").and_then(Value::as_array).into_iter().flatten() {
            let word = ["result", "status", "level"].iter().find_map(|key| item.get(key)?.as_str());
            let (Some(word), Some(name)) = (word.map(short), item.get("name").and_then(Value::as_str)) else {
                continue;
            };
            if !GOOD.contains(&word.to_lowercase().as_str()) && inspection.conspicuous.len() < NAMED_MAX {
                inspection.conspicuous.push(short(name));
            }
            if inspection.findings.len() < NAMED_MAX || inspection.findings.contains_key(&word) {
                *inspection.findings.entry(word).or_default() += 1;
            }
        }
        Some(inspection)
    }
}

fn text(call: Call, answer: &Value, key: &str) -> Result<String, Error> {
    let text = answer.get(key).and_then(Value::as_str).filter(|text| !text.is_empty());
    text.map(short).ok_or_else(|| shape(call, &format!("{key} is missing")))
}

/// As it may stand in a path or a query.
fn part(text: &str) -> percent_encoding::PercentEncode<'_> {
    percent_encoding::utf8_percent_encode(text, crate::http::UNRESERVED)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_for_an_end_is_known_and_items_are_counted() {
        let state = |word: &str| Inspection::read(&json!({"status": word})).unwrap().state;
        for word in ["SUCCEEDED", "FINISHED", "SUCCESS"] {
            assert_eq!(state(word), InspectionState::Succeeded);
        }
        assert_eq!((state("ERROR"), state("FAILED")), (InspectionState::Failed, InspectionState::Failed));
        assert_eq!(state("anything"), InspectionState::Running);
        assert_eq!(Inspection::read(&json!({})), None);
        let items = json!([
            {"name": "a", "result": "NORMAL"}, {"name": "b", "status": "WARNING"}, {"name": "c", "result": "NORMAL"},
            {"name": 5, "result": "NORMAL"}, {"name": "d"}, 7,
        ]);
        let read = Inspection::read(&json!({"status": "SUCCESS", "items": items})).unwrap();
        assert_eq!(read.findings, BTreeMap::from([("NORMAL".to_owned(), 2), ("WARNING".to_owned(), 1)]));
        assert_eq!(read.conspicuous, ["b"]);
    }

    #[test]
    fn what_the_service_names_cannot_leave_its_place_in_a_path() {
        assert_eq!(part("../a?b=c&d#e").to_string(), "..%2Fa%3Fb%3Dc%26d%23e");
    }
}
