//! The inspection centre (`cloudtower.md` 7): a job, the export of its report, and the report.

use std::{collections::BTreeMap, time::Duration};

use axum::{
    body::Bytes,
    response::{IntoResponse as _, Response},
};
use http::{Method, StatusCode, Uri, header::CONTENT_TYPE};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{
    service::{Service, error_body, ok},
    state::cuid,
};
use crate::workbook::zip_of;

/// Virtual time that an inspection takes, and an export.
const INSPECTION: Duration = Duration::from_secs(30);
const EXPORT: Duration = Duration::from_secs(5);
/// Virtual time before the first byte of a slow download.
const SLOW: Duration = Duration::from_secs(6);
/// The version of the interface that this CloudTower has.
pub(super) const VERSION: &str = "1.1.1-rc.11";
/// Inspections that are remembered.
const MOST: usize = 100;

/// How an inspection goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Inspector {
    /// It ends with `SUCCEEDED`.
    #[default]
    Succeeded,
    /// `FINISHED`.
    Finished,
    /// `SUCCESS`.
    Success,
    /// It fails.
    Failed,
    /// The version is refused.
    VersionRefused,
    /// The export fails.
    ExportFails,
    /// The download begins late.
    SlowDownload,
}

/// An inspection.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Inspection {
    /// Identity.
    pub id: String,
    /// The clusters' own uuids.
    pub clusters: Vec<String>,
    /// What is looked at.
    pub items: Vec<String>,
    /// When it began; virtual time since the start.
    pub began: Duration,
    /// File name and begin of the export.
    pub export: Option<(String, Duration)>,
}

/// A request below `/api/inspector/`.
pub(super) async fn answer(service: &Service, method: &Method, uri: &Uri, body: &Bytes) -> Response {
    let (path, query) = (uri.path(), query(uri));
    let refuse = |status, message: &str| error_body(status, "InspectorError", message, path);
    let latency = service.core.drawn("tower.latency", service.core.options.tower.read_ms);
    service.core.clock.latency(latency).await;
    let rest = path.trim_start_matches("/api/inspector/api/");
    let body: Value = serde_json::from_slice(body).unwrap_or(Value::Null);
    let export = rest.strip_prefix("v3/jobs/").and_then(|rest| rest.strip_suffix(":exportReport"));
    match (method, rest) {
        (&Method::POST, "v3/jobs") => begin(service, &body).unwrap_or_else(|why| refuse(StatusCode::BAD_REQUEST, &why)),
        (&Method::POST, _) if export.is_some() => match begin_export(service, export.unwrap_or_default()) {
            Some(answer) => answer,
            None => refuse(StatusCode::NOT_FOUND, "there is no such job, or it has not ended"),
        },
        (&Method::GET, "v3/export/status") => {
            let state = export_of(service, query.get("filename")).map(|began| state_of_export(service, began));
            state.map_or_else(|| refuse(StatusCode::NOT_FOUND, "no such export"), |word| ok(json!({ "status": word })))
        }
        (&Method::GET, "v1/export/download") => match export_of(service, query.get("filename")) {
            Some(began) if state_of_export(service, began) == "EXPORT_SUCCEEDED" => download(service).await,
            _ => refuse(StatusCode::NOT_FOUND, "no such export"),
        },
        (&Method::GET, _) => match rest.strip_prefix("v3/jobs/").and_then(|id| job(service, id)) {
            Some(answer) => ok(answer),
            None => refuse(StatusCode::NOT_FOUND, "there is no such job"),
        },
        _ => refuse(StatusCode::NOT_FOUND, "cannot find this path"),
    }
}

fn begin(service: &Service, body: &Value) -> Result<Response, String> {
    let list = |key: &str| -> Vec<String> {
        let list = body.get(key).and_then(Value::as_array).into_iter().flatten();
        list.filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let (clusters, items) = (list("cluster_uuids"), list("user_defined_items_names"));
    let version = body.get("version").and_then(Value::as_str).unwrap_or_default();
    if version != VERSION || service.core.modes().tower.inspector == Inspector::VersionRefused {
        return Err(format!("version {version} is not supported"));
    }
    let (chance, began) = (service.core.chance.clone(), service.core.clock.elapsed());
    let id = service.with(|tower| {
        let known = |uuid: &String| tower.present(began).any(|cluster| cluster.local_id == *uuid);
        if clusters.is_empty() || items.is_empty() || !clusters.iter().all(known) {
            return Err("cluster_uuids and user_defined_items_names must name what is there".to_owned());
        }
        if tower.inspections.len() >= MOST {
            tower.inspections.remove(0);
        }
        let id = cuid(&chance);
        let (id, clusters) = (id, clusters.clone());
        tower.inspections.push(Inspection { id: id.clone(), clusters, items: items.clone(), began, export: None });
        Ok(id)
    })?;
    Ok(ok(json!({ "id": id, "version": version, "cluster_uuids": clusters, "cluster_names": {} })))
}

fn job(service: &Service, id: &str) -> Option<Value> {
    let (now, mode) = (service.core.clock.elapsed(), service.core.modes().tower.inspector);
    let found = service.with(|tower| tower.inspections.iter().find(|inspection| inspection.id == id).cloned())?;
    let ended = now.saturating_sub(found.began) >= INSPECTION;
    let status = match mode {
        _ if !ended => "RUNNING",
        Inspector::Failed => "FAILED",
        Inspector::Finished => "FINISHED",
        Inspector::Success => "SUCCESS",
        _ => "SUCCEEDED",
    };
    // One of the items is worth a word.
    let item = |(n, name): (usize, &String)| json!({"name": name, "result": if n == 0 { "WARNING" } else { "NORMAL" }});
    let items: Vec<Value> = found.items.iter().enumerate().map(item).filter(|_| ended).collect();
    Some(json!({ "id": found.id, "status": status, "cluster_uuids": found.clusters, "items": items }))
}

fn begin_export(service: &Service, id: &str) -> Option<Response> {
    let now = service.core.clock.elapsed();
    let filename = format!("InspectorReport-{}-{id}.zip", now.as_secs());
    service.with(|tower| {
        let found = tower.inspections.iter_mut().find(|inspection| inspection.id == id)?;
        if now.saturating_sub(found.began) < INSPECTION {
            return None;
        }
        found.export = Some((filename.clone(), now));
        Some(())
    })?;
    Some(ok(json!({ "filename": filename })))
}

fn export_of(service: &Service, filename: Option<&String>) -> Option<Duration> {
    let filename = filename?;
    service.with(|tower| {
        let mut exports = tower.inspections.iter().filter_map(|inspection| inspection.export.as_ref());
        exports.find(|(name, _)| name == filename).map(|(_, began)| *began)
    })
}

fn state_of_export(service: &Service, began: Duration) -> &'static str {
    let ended = service.core.clock.elapsed().saturating_sub(began) >= EXPORT;
    match (ended, service.core.modes().tower.inspector) {
        (false, _) => "EXPORT_RUNNING",
        (true, Inspector::ExportFails) => "EXPORT_FAILED",
        (true, _) => "EXPORT_SUCCEEDED",
    }
}

async fn download(service: &Service) -> Response {
    if service.core.modes().tower.inspector == Inspector::SlowDownload {
        let clock = &service.core.clock;
        clock.sleep_until(clock.elapsed() + SLOW).await;
    }
    let parts = [("InspectorReport.docx".to_owned(), b"a report".to_vec())];
    ([(CONTENT_TYPE, "application/zip")], zip_of(&parts)).into_response()
}

fn query(uri: &Uri) -> BTreeMap<String, String> {
    let pairs = uri.query().unwrap_or_default().split('&').filter_map(|pair| pair.split_once('='));
    pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}
