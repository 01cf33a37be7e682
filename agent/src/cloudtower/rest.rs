//! The REST calls (`cloudtower.md` 4.1, 5). Answers may be objects or arrays.

use gantry_proto::{Secret, result::NamedId};
use serde_json::{Value, json};

use super::{
    Call, Client, Error, ErrorKind, Task,
    client::{Auth, REST},
    split_servers,
    types::{first, named_id},
};
use crate::http::TOKEN_MAX;

impl Client {
    /// Creates the root user with a plain password (P1). `Some`: a task to wait for.
    pub async fn create_root_user_rest(&self, password: &Secret) -> Result<Option<String>, Error> {
        let call = route("create-root-user");
        let answer = self.post(call, &json!({ "password": password.expose() }), Auth::Anonymous).await?;
        changed(call, &answer)
    }

    /// Logs in as root with the planned password and keeps the token in memory.
    pub async fn login(&self) -> Result<(), Error> {
        let password = self.planned_password().ok_or(Error { call: LOGIN, kind: ErrorKind::NotLoggedIn })?;
        self.login_with(&password).await
    }

    /// The same with another password.
    pub async fn login_with(&self, password: &Secret) -> Result<(), Error> {
        self.set_token(None);
        let body = json!({ "username": "root", "password": password.expose(), "source": "LOCAL" });
        let answer = self.post(LOGIN, &body, Auth::Anonymous).await?;
        let token = first(&answer).pointer("/data/token").and_then(Value::as_str).filter(|token| !token.is_empty());
        let Some(token) = token else {
            return Err(Error { call: LOGIN, kind: ErrorKind::Shape("the token is missing".to_owned()) });
        };
        if token.len() > TOKEN_MAX {
            let what = format!("the token is longer than {TOKEN_MAX} bytes");
            return Err(Error { call: LOGIN, kind: ErrorKind::Shape(what) });
        }
        self.set_token(Some(Secret::new(token)));
        Ok(())
    }

    /// The id of the user `root`, asked in the session that there is: one that is not taken any more is not renewed.
    pub async fn root_user_id(&self) -> Result<Option<String>, Error> {
        let body = json!({ "where": { "username": "root" } });
        let answer = self.post(route("get-users"), &body, Auth::Token).await?;
        Ok(first(&answer).get("id").and_then(Value::as_str).map(str::to_owned))
    }

    /// Changes a user's password, in the session that there is. `Some`: a task to wait for.
    pub async fn change_password(&self, user: &str, password: &Secret) -> Result<Option<String>, Error> {
        let call = route("update-user");
        let body = json!({ "where": { "id": user }, "data": { "password": password.expose() } });
        let answer = self.post(call, &body, Auth::Token).await?;
        changed(call, &answer)
    }

    /// The organisations, for a CloudTower that tells its set-up state to nobody unknown.
    pub async fn organizations(&self) -> Result<Vec<NamedId>, Error> {
        let call = route("get-organizations");
        let answer = self.post_authorized(call, &json!({})).await?;
        Ok(list(call, &answer)?.iter().filter_map(named_id).collect())
    }

    /// The NTP servers that are set.
    pub async fn ntp(&self) -> Result<Vec<String>, Error> {
        let call = route("get-ntp-service-url");
        let answer = self.post_authorized(call, &json!({})).await?;
        let list = first(&answer).get("ntp_service_url").and_then(Value::as_str);
        list.map(split_servers).ok_or_else(|| shape(call, "ntp_service_url is missing"))
    }

    /// One look at a task.
    pub async fn task(&self, id: &str) -> Result<Task, Error> {
        let answer = self.post_authorized(route("get-tasks"), &json!({ "where": { "id": id } })).await?;
        Ok(Task::read(&answer))
    }
}

const LOGIN: Call = Call { base: REST, name: "login", reads: false };

/// The task of a change, if it is not finished yet. The change itself must be there.
pub(super) fn changed(call: Call, answer: &Value) -> Result<Option<String>, Error> {
    let change = first(answer);
    if !change.get("data").is_some_and(Value::is_object) {
        return Err(shape(call, "data is missing"));
    }
    Ok(change.get("task_id").and_then(Value::as_str).map(str::to_owned))
}

/// The answer to a read: a bare array.
pub(super) fn list(call: Call, answer: &Value) -> Result<&Vec<Value>, Error> {
    answer.as_array().ok_or_else(|| shape(call, "no list"))
}

pub(super) fn route(name: &'static str) -> Call {
    Call { base: REST, name, reads: false }
}

pub(super) fn shape(call: Call, what: &str) -> Error {
    Error { call, kind: ErrorKind::Shape(what.to_owned()) }
}
