//! `POST /v2/api/...`: the calls of the REST interface that a deployment needs (`cloudtower.md` 4.1, 5.1 to 5.4).

use axum::response::{IntoResponse as _, Response};
use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};

use super::service::{Service, error_body, ok};
use super::state::TASK_END;
use super::{CreateRootUser, RestAnswer, clusters, configured, credentials, graphql};

/// Calls that need no token.
const ANONYMOUS: &[&str] = &["login", "create-root-user"];
/// The change that always has a task.
const CONNECT: &str = "connect a cluster";

/// An error answer in the making.
pub(super) struct Refusal {
    status: StatusCode,
    code: &'static str,
    message: String,
}

pub(super) async fn answer(service: &Service, name: &str, headers: &HeaderMap, body: &[u8]) -> Response {
    match respond(service, name, headers, body).await {
        Ok(response) => response,
        Err(refusal) => error_body(refusal.status, refusal.code, &refusal.message, &format!("/v2/api/{name}")),
    }
}

async fn respond(service: &Service, name: &str, headers: &HeaderMap, body: &[u8]) -> Result<Response, Refusal> {
    let language = headers.get("content-language").map(|value| value.as_bytes().to_vec());
    if !matches!(language.as_deref(), None | Some(b"en-US" | b"zh-CN")) {
        return Err(refusal(StatusCode::BAD_REQUEST, "BadRequest", "content-language must be en-US or zh-CN"));
    }
    let body: Value = match body {
        [] => json!({}),
        bytes => serde_json::from_slice(bytes)
            .map_err(|error| refusal(StatusCode::BAD_REQUEST, "BadRequest", format!("body is not JSON: {error}")))?,
    };
    let root_mode = service.core.modes().tower.create_root_user;
    if name == "create-root-user" && root_mode == CreateRootUser::Missing {
        return Err(not_found());
    }
    let open = ANONYMOUS.contains(&name) && !(name == "create-root-user" && root_mode == CreateRootUser::NeedsToken);
    if !open {
        service.authorized(headers).map_err(|denial| refusal(service.denial_status(), denial.code, denial.message))?;
    }
    let options = &service.core.options.tower;
    let range = if name.starts_with("get-") { options.read_ms } else { options.change_ms };
    service.core.clock.latency(service.core.drawn("tower.latency", range)).await;
    match name {
        "login" => login(service, &body),
        "create-root-user" => change(service, &body, "create the root user", create_root_user),
        "update-user" => change(service, &body, "update a user", update_user),
        "create-organization" => change(service, &body, "create an organization", create_organization),
        "create-datacenter" => change(service, &body, "create a datacenter", clusters::create_datacenter),
        "delete-datacenter" => change(service, &body, "delete a datacenter", clusters::delete_datacenter),
        "connect-cluster" => change(service, &body, CONNECT, clusters::connect),
        "delete-cluster" => change(service, &body, "delete a cluster", clusters::delete_cluster),
        "create-view" => change(service, &body, "create a view", configured::create_view),
        "create-graph" => change(service, &body, "create a graph", configured::create_graph),
        "delete-view" => change(service, &body, "delete a view", configured::delete_view),
        "delete-graph" => change(service, &body, "delete a graph", configured::delete_graph),
        _ => read(service, name, &body).map(ok),
    }
}

fn read(service: &Service, name: &str, body: &Value) -> Result<Value, Refusal> {
    let (modes, now) = (service.core.modes(), service.core.clock.elapsed());
    match name {
        "get-organizations" => {
            let all: Vec<Value> = service.with(|tower| {
                let shown = tower.organizations.iter();
                shown.map(|found| clusters::shown_organization(tower, found)).collect()
            });
            Ok(filtered(all, body))
        }
        "get-datacenters" => Ok(filtered(clusters::datacenters(service), body)),
        "get-clusters" => Ok(filtered(clusters::clusters(service), body)),
        "get-cluster-settings" => configured::settings(service).map(|all| filtered(all, body)).ok_or_else(not_found),
        "get-hosts" | "get-views" | "get-graphs" => {
            configured::read(service, name).map(|all| filtered(all, body)).ok_or_else(not_found)
        }
        "get-users" => {
            let all = service.with(|tower| {
                let shown = tower.users.iter();
                shown.map(|user| json!({"id": user.id, "username": user.username, "name": user.username})).collect()
            });
            Ok(filtered(all, body))
        }
        "get-ntp-service-url" => Ok(json!({ "ntp_service_url": ntp_list(service) })),
        "get-deploys" => Ok(service.with(|tower| tower.deploys(&modes.tower, now))),
        "get-licenses" => {
            let deploys = service.with(|tower| tower.deploys(&modes.tower, now));
            let license = deploys.pointer("/0/license").filter(|license| !license.is_null()).cloned();
            Ok(Value::Array(license.into_iter().collect()))
        }
        "get-tasks" => {
            let all =
                service.with(|tower| tower.tasks.iter().filter_map(|task| task.shown(&modes.tower, now)).collect());
            Ok(filtered(all, body))
        }
        _ => Err(not_found()),
    }
}

/// Applies `where` with `id_in`, `name_contains`, and fields that must be equal, nested ones too; `first` and `skip`.
fn filtered(all: Vec<Value>, body: &Value) -> Value {
    let holds = |item: &Value| {
        let Some(Value::Object(conditions)) = body.get("where") else { return true };
        conditions.iter().all(|(key, wanted)| match key.as_str() {
            "id_in" => wanted.as_array().is_some_and(|ids| ids.contains(&item["id"])),
            "name_contains" => match (item["name"].as_str(), wanted.as_str()) {
                (Some(name), Some(part)) => name.contains(part),
                _ => false,
            },
            key => item.get(key).is_some_and(|found| fits(found, wanted)),
        })
    };
    let number = |key: &str| body.get(key).and_then(Value::as_u64).and_then(|number| usize::try_from(number).ok());
    let kept = all.into_iter().filter(holds).skip(number("skip").unwrap_or(0));
    Value::Array(kept.take(number("first").unwrap_or(usize::MAX)).collect())
}

/// A condition on a nested object holds when each of its own does.
fn fits(found: &Value, wanted: &Value) -> bool {
    match wanted {
        Value::Object(conditions) => {
            conditions.iter().all(|(key, wanted)| found.get(key).is_some_and(|found| fits(found, wanted)))
        }
        wanted => found == wanted,
    }
}

fn login(service: &Service, body: &Value) -> Result<Response, Refusal> {
    let text = |key: &str| body.get(key).and_then(Value::as_str).unwrap_or("");
    let status = StatusCode::from_u16(service.core.modes().tower.wrong_password_status);
    let wrong = refusal(status.unwrap_or(StatusCode::BAD_REQUEST), "LoginFailed", "username or password is wrong");
    if text("source") != "LOCAL" {
        return Err(refusal(StatusCode::BAD_REQUEST, "BadRequest", "source must be LOCAL, LDAP, AUTHN or SSO"));
    }
    let (_, token) = graphql::log_in(service, text("username"), text("password")).ok_or(wrong)?;
    Ok(ok(json!({ "data": { "token": token }, "task_id": null })))
}

/// A changing call: takes an object or an array, answers in the form that the mode demands.
fn change(
    service: &Service,
    body: &Value,
    description: &str,
    one: fn(&Service, &Value) -> Result<Value, Refusal>,
) -> Result<Response, Refusal> {
    let items = match body {
        Value::Array(items) => items.clone(),
        other => vec![other.clone()],
    };
    let (chance, now) = (service.core.chance.clone(), service.core.clock.elapsed());
    let mut answers = Vec::new();
    for item in &items {
        let data = one(service, item)?;
        let id = data.get("id").and_then(Value::as_str).unwrap_or("").to_owned();
        let work = match (description == CONNECT, service.core.modes().tower.tasks) {
            (true, _) => Some((clusters::task_lasts(service, &id), clusters::task_error(service, &id))),
            (false, true) => Some((TASK_END, None)),
            (false, false) => None,
        };
        let task = work.map(|work| service.with(|tower| tower.add_task(&chance, description, &id, now, work)));
        answers.push(json!({ "task_id": task, "data": data }));
    }
    let as_array = match service.core.modes().tower.rest_answer {
        RestAnswer::Mirror => body.is_array(),
        RestAnswer::Object => false,
        RestAnswer::Array => true,
    };
    let answer = if as_array { Value::Array(answers) } else { answers.into_iter().next().unwrap_or(Value::Null) };
    Ok(axum::Json(answer).into_response())
}

fn create_root_user(service: &Service, item: &Value) -> Result<Value, Refusal> {
    let password = checked_password(service, item.get("password"))?;
    let (chance, now) = (service.core.chance.clone(), service.core.clock.elapsed());
    let id = service.with(|tower| {
        if tower.root().is_some() {
            return None;
        }
        let id = tower.add_root(&chance, &password, "rest");
        tower.note_ready(now);
        Some(id)
    });
    let taken = || refusal(StatusCode::BAD_REQUEST, "UserAlreadyExists", "user root already exists");
    Ok(json!({ "id": id.ok_or_else(taken)?, "username": "root", "name": "root", "role": "ROOT" }))
}

fn update_user(service: &Service, item: &Value) -> Result<Value, Refusal> {
    let id = item.pointer("/where/id").and_then(Value::as_str).unwrap_or("").to_owned();
    let password = checked_password(service, item.pointer("/data/password"))?;
    let found = service.with(|tower| {
        let user = tower.users.iter_mut().find(|user| user.id == id)?;
        user.password_sha256 = super::state::digest(&password);
        Some(json!({ "id": user.id, "username": user.username }))
    });
    found.ok_or_else(|| refusal(StatusCode::NOT_FOUND, "UserNotFound", "there is no such user"))
}

fn checked_password(service: &Service, given: Option<&Value>) -> Result<String, Refusal> {
    let Some(password) = given.and_then(Value::as_str) else {
        return Err(refusal(StatusCode::BAD_REQUEST, "BadRequest", "password is required"));
    };
    if service.core.modes().tower.password_policy && !credentials::satisfies_policy(password) {
        let message = "password is too weak: at least 8 characters of 3 classes are required";
        return Err(refusal(StatusCode::BAD_REQUEST, "PasswordTooWeak", message));
    }
    Ok(password.to_owned())
}

fn create_organization(service: &Service, item: &Value) -> Result<Value, Refusal> {
    let name = item.get("name").and_then(Value::as_str).unwrap_or("");
    graphql::add_organization(service, name)
        .map_err(|message| refusal(StatusCode::BAD_REQUEST, "OrganizationCreateFailed", message))
}

/// The tower's NTP servers as an answer shows them.
pub(super) fn ntp_list(service: &Service) -> String {
    let servers = service.with(|tower| tower.ntp.clone());
    graphql::shown_servers(&servers, service.core.modes().tower.ntp_answer)
}

fn not_found() -> Refusal {
    refusal(StatusCode::NOT_FOUND, "NotFound", "cannot find this path")
}

pub(super) fn refusal(status: StatusCode, code: &'static str, message: impl Into<String>) -> Refusal {
    Refusal { status, code, message: message.into() }
}
