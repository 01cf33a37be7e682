//! `POST /api`: first-time set-up, NTP and licence over GraphQL (`cloudtower.md` 4).

use axum::response::{IntoResponse as _, Response};
use http::header::SET_COOKIE;
use http::{HeaderMap, HeaderValue, StatusCode};
use serde_json::{Map, Value, json};

use super::query::Operation;
use super::rest::ntp_list;
use super::service::{Service, error_body};
use super::{NtpAnswer, SecondOrganization, SecondUser, configured, credentials};

/// The operation names of `cloudtower.md` that this simulator serves.
const KNOWN_OPERATIONS: &[&str] = &[
    "createRootUser",
    "createOrganization",
    "checkTowerIsSetup",
    "login",
    "updateCloudTowerNtpUrl",
    "deployedLicense",
    "updateClusterSettings",
    "globalAlertRules",
    "updateGlobalAlertRule",
];
/// Root fields that need no token.
const ANONYMOUS: &[&str] = &["createUser", "createOrganization", "organizations", "userCreated", "login"];

/// What went wrong with one root field.
struct Refusal {
    message: String,
    status: Option<StatusCode>,
}

impl From<String> for Refusal {
    fn from(message: String) -> Self {
        Refusal { message, status: None }
    }
}

impl From<&str> for Refusal {
    fn from(message: &str) -> Self {
        Refusal { message: message.to_owned(), status: None }
    }
}

pub(super) async fn answer(service: &Service, headers: &HeaderMap, body: &[u8]) -> Response {
    let operation = match Operation::read(body) {
        Ok(operation) => operation,
        Err(message) => return errors(StatusCode::BAD_REQUEST, &message, None),
    };
    if let Some(refused) = not_listed(service, &operation) {
        return refused;
    }
    let roots = operation.roots();
    if let Some(denial) = not_admitted(service, headers, &roots) {
        return denial;
    }
    let changes = operation.query.trim_start().starts_with("mutation");
    let options = &service.core.options.tower;
    let latency = service.core.drawn("tower.latency", if changes { options.change_ms } else { options.read_ms });
    service.core.clock.latency(latency).await;
    let mut data = Map::new();
    let mut cookie = None;
    for root in &roots {
        match resolve(service, &operation, root) {
            Ok(value) => {
                if root == "login" {
                    cookie = Some("connect.sid=s%3Asimulated; Path=/; HttpOnly; Secure; SameSite=Strict");
                }
                data.insert(root.clone(), operation.pruned(value));
            }
            Err(refusal) => return refused(service, refusal, root),
        }
    }
    let mut response = axum::Json(json!({ "data": data })).into_response();
    if let Some(cookie) = cookie {
        response.headers_mut().insert(SET_COOKIE, HeaderValue::from_static(cookie));
    }
    response
}

fn refused(service: &Service, refusal: Refusal, root: &str) -> Response {
    let mode = service.core.modes().tower.graphql_error_status;
    let status = refusal.status.or_else(|| StatusCode::from_u16(mode).ok()).unwrap_or(StatusCode::OK);
    errors(status, &refusal.message, Some(root))
}

fn errors(status: StatusCode, message: &str, path: Option<&str>) -> Response {
    let path = path.map_or(Value::Null, |root| json!([root]));
    let body = json!({ "errors": [{ "message": message, "path": path, "locations": [] }], "data": null });
    (status, axum::Json(body)).into_response()
}

fn not_listed(service: &Service, operation: &Operation) -> Option<Response> {
    let listed = operation.name.as_deref().is_some_and(|name| KNOWN_OPERATIONS.contains(&name));
    (service.core.modes().tower.operation_allow_list && !listed)
        .then(|| errors(StatusCode::FORBIDDEN, "operation is not allowed", None))
}

fn not_admitted(service: &Service, headers: &HeaderMap, roots: &[String]) -> Option<Response> {
    let ready = service.with(|tower| tower.ready_at.is_some());
    let setup_closed = ready && service.core.modes().tower.setup_needs_token;
    let anonymous = roots.iter().all(|root| {
        ANONYMOUS.contains(&root.as_str())
            && !(setup_closed && matches!(root.as_str(), "organizations" | "userCreated"))
    });
    if anonymous {
        return None;
    }
    let denial = service.authorized(headers).err()?;
    Some(error_body(service.denial_status(), denial.code, denial.message, "/api"))
}

fn resolve(service: &Service, operation: &Operation, root: &str) -> Result<Value, Refusal> {
    match root {
        "organizations" => Ok(service.with(|tower| {
            tower
                .organizations
                .iter()
                .map(|found| json!({"id": found.id, "name": found.name, "datacenters": []}))
                .collect()
        })),
        "userCreated" => Ok(service.with(|tower| json!({ "created": tower.root().is_some() }))),
        "createUser" => create_user(service, operation),
        "createOrganization" => create_organization(service, operation),
        "login" => login(service, operation),
        "updateCloudTowerNtpUrl" => update_ntp(service, operation),
        "deploys" => {
            let (modes, now) = (service.core.modes(), service.core.clock.elapsed());
            Ok(service.with(|tower| tower.deploys(&modes.tower, now)))
        }
        "updateClusterSettings" => configured::update_settings(service, operation).map_err(Refusal::from),
        "globalAlertRules" => Ok(configured::alert_rules(service, operation)),
        "globalAlertRulesConnection" => Ok(configured::alert_rules_count(service)),
        "updateGlobalAlertRule" => configured::update_alert_rule(service, operation).map_err(Refusal::from),
        other => Err(Refusal {
            message: format!("Cannot query field \"{other}\" on this type."),
            status: Some(StatusCode::BAD_REQUEST),
        }),
    }
}

fn create_user(service: &Service, operation: &Operation) -> Result<Value, Refusal> {
    let modes = service.core.modes();
    let text = |key: &str| operation.argument(key).and_then(|value| value.as_str().map(str::to_owned));
    for (key, wanted) in [("username", "root"), ("role", "ROOT"), ("source", "LOCAL")] {
        if text(key).as_deref() != Some(wanted) {
            return Err(bad_request(&format!("Field \"{key}\" of UserCreateInput must be {wanted}.")));
        }
    }
    let updated = text("password_updated_at");
    if !updated.as_deref().is_some_and(|moment| moment.ends_with('Z') && moment.parse::<jiff::Timestamp>().is_ok()) {
        return Err(bad_request("DateTime cannot represent an invalid date-time-string in \"password_updated_at\"."));
    }
    let Some(given) = text("password") else {
        return Err(bad_request("Field \"password\" of required type \"String!\" was not provided."));
    };
    let encoded = operation.argument("encoded") == Some(Value::Bool(true));
    if !encoded && modes.tower.plain_create_user_refused {
        return Err("password must be encoded".into());
    }
    let password = if encoded { credentials::decoded(&service.core.options.tower, &given)? } else { given };
    if modes.tower.password_policy && !credentials::satisfies_policy(&password) {
        return Err("password is too weak: at least 8 characters of 3 classes are required".into());
    }
    let (chance, now) = (service.core.chance.clone(), service.core.clock.elapsed());
    let how = if encoded { "graphql encoded" } else { "graphql plain" };
    let id = service.with(|tower| {
        if tower.root().is_some() {
            return None;
        }
        let id = tower.add_root(&chance, &password, how);
        tower.note_ready(now);
        Some(id)
    });
    match id {
        Some(id) => Ok(json!({ "id": id, "username": "root", "name": "root" })),
        None => Err(Refusal {
            message: "UserAlreadyExists: user root already exists".to_owned(),
            status: (modes.tower.second_user == SecondUser::Error400).then_some(StatusCode::BAD_REQUEST),
        }),
    }
}

fn create_organization(service: &Service, operation: &Operation) -> Result<Value, Refusal> {
    let name = operation.argument("name").and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default();
    add_organization(service, &name).map_err(Refusal::from)
}

/// Creates an organisation, for both interfaces.
///
/// # Errors
/// The words of the refusal.
pub(super) fn add_organization(service: &Service, name: &str) -> Result<Value, String> {
    if name.trim().is_empty() {
        return Err("organization name must not be empty".to_owned());
    }
    let modes = service.core.modes();
    let (chance, now) = (service.core.chance.clone(), service.core.clock.elapsed());
    service.with(|tower| {
        let known = tower.organizations.iter().any(|organization| organization.name == name);
        if known && modes.tower.second_organization == SecondOrganization::Refused {
            return Err(format!("organization {name} already exists"));
        }
        let id = tower.add_organization(&chance, name);
        tower.note_ready(now);
        Ok(json!({ "id": id, "name": name }))
    })
}

fn login(service: &Service, operation: &Operation) -> Result<Value, Refusal> {
    let text = |key: &str| operation.argument(key).and_then(|value| value.as_str().map(str::to_owned));
    let given = text("password").unwrap_or_default();
    let encoded = operation.argument("encoded") == Some(Value::Bool(true));
    let password = if encoded { credentials::decoded(&service.core.options.tower, &given)? } else { given };
    let token = log_in(service, &text("username").unwrap_or_default(), &password)
        .ok_or_else(|| Refusal::from("LoginFailed: username or password is wrong"))?;
    Ok(json!({ "token": token.1, "uid": token.0, "need_mfa": false, "mfa_meta": null }))
}

/// Checks credentials; gives the user's id and a new token.
pub(super) fn log_in(service: &Service, username: &str, password: &str) -> Option<(String, String)> {
    let now = service.core.clock.elapsed();
    let chance = service.core.chance.clone();
    service.with(|tower| {
        if username != "root" || !tower.root_password_is(password) {
            return None;
        }
        let id = tower.root()?.id.clone();
        let token = credentials::token(&chance, &id);
        tower.add_token(&token, now);
        Some((id, token))
    })
}

fn update_ntp(service: &Service, operation: &Operation) -> Result<Value, Refusal> {
    let modes = service.core.modes();
    let given = operation.argument("ntp_service_url").and_then(|value| value.as_str().map(str::to_owned));
    let Some(given) = given else { return Err(bad_request("Field \"ntp_service_url\" was not provided.")) };
    if modes.tower.ntp_unreachable {
        return Err(format!("NtpServerUnreachable: cannot reach {given}").into());
    }
    let servers: Vec<String> = given.split(',').map(str::trim).filter(|s| !s.is_empty()).map(str::to_owned).collect();
    if servers.is_empty() || !servers.iter().all(|server| plausible_server(server)) {
        return Err("NTP server address is invalid".into());
    }
    service.with(|tower| tower.ntp = servers);
    Ok(json!({ "ntp_service_url": ntp_list(service) }))
}

fn plausible_server(server: &str) -> bool {
    server.len() <= 253 && server.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | ':'))
}

/// The servers as an answer shows them.
pub(super) fn shown_servers(servers: &[String], mode: NtpAnswer) -> String {
    match mode {
        NtpAnswer::Semicolons => servers.join(";"),
        NtpAnswer::Spaced => servers.join("; "),
        NtpAnswer::Reversed => servers.iter().rev().cloned().collect::<Vec<_>>().join(";"),
    }
}

fn bad_request(message: &str) -> Refusal {
    Refusal { message: message.to_owned(), status: Some(StatusCode::BAD_REQUEST) }
}
