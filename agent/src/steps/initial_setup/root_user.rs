//! The root user with the planned password: by P1, then P2, then P3 (`cloudtower.md` 4.1), proved by a login.

use gantry_proto::{Level, event::IntentResult};
use serde_json::json;

use super::super::{
    story::{extra, permanent, story},
    tower,
};
use crate::{
    cloudtower::{Error, published_password},
    facts::Facts,
    step::{StepCx, StepError},
};

/// Ways to create the root user, in order of preference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Method {
    /// REST with the plain password.
    P1,
    /// GraphQL with the plain password.
    P2,
    /// GraphQL with the published default in its encoded form, then a change to the planned password.
    P3,
}

/// Seconds at scale 1 before a login is tried a second time (`flow.md` 5.3).
const SECOND_LOGIN_S: f64 = 5.0;
/// What an intent of ours is called.
pub(super) const CALL: &str = "createRootUser";

/// Creates it by the first method that is not refused. Whatever comes of it, the caller looks.
pub(super) async fn create(cx: &StepCx, facts: &mut Facts, round: u32) -> Result<(), StepError> {
    let mut refusals = Vec::new();
    for method in methods(cx) {
        let intent = cx.intend(CALL, extra([("method", json!(method.name()))])).await?;
        let error = match send(cx, method).await {
            Ok(task) => {
                cx.outcome(intent, IntentResult::Done, extra([])).await?;
                facts.root_user = Some(method.name().to_owned());
                cx.save(facts).await?;
                let message = format!("the root user has been created (method {})", method.name());
                cx.note(Level::Info, "root_user_created", message, extra([("method", json!(method.name()))])).await?;
                return finish(cx, method, task).await;
            }
            Err(error) => error,
        };
        let known = error.had_no_effect();
        let result = if known { IntentResult::Failed } else { IntentResult::Unknown };
        cx.outcome(intent, result, extra([("error", json!(error.kind.to_string()))])).await?;
        if tower::may_pin_again(cx, facts, &error).await? {
            return Ok(());
        }
        if let Some(failure) = final_word(&error) {
            return Err(failure);
        }
        if !known || error.is_transient() || exists(&error) {
            let message =
                format!("creating the root user ({}): {}; looking what became of it", method.name(), error.kind);
            cx.note(Level::Warning, "root_user_unclear", message, extra([("method", json!(method.name()))])).await?;
            return cx.sleep(tower::backoff(cx, round)).await;
        }
        let message = format!("method {} to create the root user is refused: {}", method.name(), error.kind);
        cx.note(Level::Info, "root_user_method_refused", message, extra([("method", json!(method.name()))])).await?;
        refusals.push(format!("{}: {}", method.name(), error.kind));
    }
    Err(permanent(impossible(refusals)))
}

/// Logs in with the planned password. A root user with another one is somebody else's, unless we can tell that it is
/// ours on the way of P3.
pub(super) async fn prove(cx: &StepCx, facts: &mut Facts) -> Result<(), StepError> {
    let tower = &cx.outside.tower;
    for second in [false, true] {
        if second {
            cx.sleep(cx.settings.timing.scaled(SECOND_LOGIN_S)).await?;
        }
        match tower::try_ask(cx, || tower.login()).await? {
            Ok(()) => {
                let message = "a login as root with the planned password succeeded";
                return cx.note(Level::Info, "root_user_proved", message, extra([])).await;
            }
            Err(error) if error.rejects_login() => {}
            Err(error) => return Err(permanent(tower::failed("logging in to CloudTower as root", &error))),
        }
    }
    let published = published_password();
    if may_be_on_the_way_of_p3(cx, facts) && tower::try_ask(cx, || tower.login_with(&published)).await?.is_ok() {
        change_password(cx).await?;
        return tower::ask(cx, "logging in as root after the change of the password", || tower.login()).await;
    }
    match &facts.root_user {
        Some(method) => {
            let message = format!(
                "the root user was created (method {method}), but a login with the planned password is refused"
            );
            let remedy = "somebody has changed the password since, or this CloudTower reads it differently; report its \
                          version";
            Err(permanent(story("root_password_not_proved", message, remedy)))
        }
        None => {
            let message = "this CloudTower has a root user already, and its password is not the planned one";
            let remedy = "somebody has used the set-up page in the meantime: the VM is kept. Ask who it was; then delete \
                          the VM and start a new job, or go on by hand";
            Err(StepError::HandsOff(Box::new(story("tower_is_foreign", message, remedy))))
        }
    }
}

impl Method {
    fn name(self) -> &'static str {
        match self {
            Self::P1 => "P1",
            Self::P2 => "P2",
            Self::P3 => "P3",
        }
    }
}

/// P3 needs the encoded value, which the operator gives or does not give (`cloudtower.md` 4.1).
fn methods(cx: &StepCx) -> Vec<Method> {
    let p3 = cx.secrets.root_password_encoded.as_ref().is_some_and(|encoded| !encoded.is_empty());
    [Some(Method::P1), Some(Method::P2), p3.then_some(Method::P3)].into_iter().flatten().collect()
}

async fn send(cx: &StepCx, method: Method) -> Result<Option<String>, Error> {
    let (tower, password) = (&cx.outside.tower, &cx.secrets.root_password);
    match (method, &cx.secrets.root_password_encoded) {
        (Method::P1, _) => tower.create_root_user_rest(password).await,
        (Method::P3, Some(encoded)) => {
            cx.redactor.register(&published_password());
            tower.create_root_user_encoded(encoded).await.map(|()| None)
        }
        (Method::P2 | Method::P3, _) => tower.create_root_user_plain(password).await.map(|()| None),
    }
}

/// What follows a creation: a task to wait for, or the change to the planned password.
async fn finish(cx: &StepCx, method: Method, task: Option<String>) -> Result<(), StepError> {
    match method {
        // The task is asked for with the very password that is being set; that it is there yet is what `prove` finds out.
        Method::P1 if task.is_some() => cx.sleep(cx.settings.timing.scaled(SECOND_LOGIN_S)).await,
        Method::P1 | Method::P2 => Ok(()),
        Method::P3 if cx.secrets.root_password == published_password() => Ok(()),
        Method::P3 => {
            log_in_with_the_published(cx).await?;
            change_password(cx).await
        }
    }
}

async fn log_in_with_the_published(cx: &StepCx) -> Result<(), StepError> {
    let (tower, published) = (&cx.outside.tower, published_password());
    tower::ask(cx, "logging in with the published password", || tower.login_with(&published)).await.map(drop)
}

/// A call in the session of the published password; that one is begun again when it was lost. The client's own log-in
/// would be with the planned password, which is not set yet.
async fn published<T, F>(cx: &StepCx, call: impl Fn() -> F) -> Result<Result<T, Error>, StepError>
where
    F: Future<Output = Result<T, Error>>,
{
    let result = tower::try_ask(cx, &call).await?;
    if !result.as_ref().is_err_and(Error::is_auth) {
        return Ok(result);
    }
    log_in_with_the_published(cx).await?;
    tower::try_ask(cx, &call).await
}

/// Changes the published password to the planned one. The token in use is that of the published one.
async fn change_password(cx: &StepCx) -> Result<(), StepError> {
    let tower = &cx.outside.tower;
    let attempted = "changing the root password to the planned one";
    let id =
        published(cx, || tower.root_user_id()).await?.map_err(|error| permanent(tower::failed(attempted, &error)))?;
    let Some(id) = id else {
        let message = format!("{attempted} failed: CloudTower lists no user \"root\"");
        let remedy = "report CloudTower's version: its list of users is not known";
        return Err(permanent(story("root_password_not_settable", message, remedy)));
    };
    let intent = cx.intend("update-user", extra([("user", json!(id))])).await?;
    // It sets a value, so that it may be repeated.
    let changed = published(cx, || tower.change_password(&id, &cx.secrets.root_password)).await?;
    let result = match &changed {
        Ok(_) => IntentResult::Done,
        Err(error) if error.had_no_effect() => IntentResult::Failed,
        Err(_) => IntentResult::Unknown,
    };
    cx.outcome(intent, result, extra([])).await?;
    match changed {
        Ok(task) => tower::finish_task(cx, attempted, task.as_deref()).await,
        Err(error) => {
            if let Some(failure) = final_word(&error) {
                return Err(failure);
            }
            let mut failure = tower::failed(attempted, &error);
            failure.code = "root_password_not_settable".to_owned();
            Err(permanent(failure))
        }
    }
}

/// Ours with the published password: created by P3 before, or an answer of P3 was lost.
fn may_be_on_the_way_of_p3(cx: &StepCx, facts: &Facts) -> bool {
    cx.secrets.root_password_encoded.is_some() && facts.root_user.as_deref().is_none_or(|method| method == "P3")
}

fn exists(error: &Error) -> bool {
    error.refusal().is_some_and(|refusal| refusal.speaks_of_existing())
}

/// A refusal that no other method can change (W7), or a certificate that is not the recorded one.
fn final_word(error: &Error) -> Option<StepError> {
    if error.certificate().is_some() {
        return Some(permanent(tower::failed("creating the root user", error)));
    }
    let refusal = error.refusal().filter(|refusal| refusal.speaks_of_password_policy())?;
    let message = format!("CloudTower does not accept the planned root password: {}", refusal.message);
    let remedy =
        "plan a stronger password in 集群管理信息!G3 (at least 8 characters of 3 classes), then start a new job";
    Some(permanent(story("root_password_too_weak", message, remedy)))
}

fn impossible(refusals: Vec<String>) -> gantry_proto::Failure {
    let message = format!("the planned root password cannot be set in this CloudTower: {}", refusals.join("; "));
    let remedy = "give the encoded default password (root_password_encoded) so that method P3 can be tried, or use a \
                  CloudTower version that takes plain passwords; no other password than the planned one is ever left";
    let mut failure = story("root_password_not_settable", message, remedy);
    failure.detail = extra([("refusals", json!(refusals))]);
    failure
}
