//! Takes answers out of their envelope and refusals apart (`fisheye.md` 2). Pure.

use std::time::Duration;

use gantry_proto::Redactor;
use http::{HeaderMap, StatusCode, header};
use serde_json::Value;

use super::{
    error::{ErrorKind, Refusal},
    types::{maybe_text, number},
};
use crate::http::Answer;

/// Most characters of a server's words in an error.
const MESSAGE_CHARS: usize = 400;
/// gRPC's `UNAUTHENTICATED` and `PERMISSION_DENIED`, in the bodies of `/api/v3`.
const UNAUTHENTICATED: u64 = 16;
const PERMISSION_DENIED: u64 = 7;

/// What a failed login says about the credentials.
pub(super) enum LoginVerdict {
    /// Wrong user or password.
    Rejected,
    /// The account is locked or forbidden.
    Locked(Refusal),
    /// Nothing.
    Other,
}

/// The `data` of a success. `may_be_empty`: a success without body counts as `null`.
pub(super) fn open(answer: &Answer, may_be_empty: bool, redactor: &Redactor) -> Result<Value, ErrorKind> {
    if answer.status.is_success() && answer.body.trim_ascii().is_empty() && may_be_empty {
        return Ok(Value::Null);
    }
    let mut value = whole(answer, redactor)?;
    match value.as_object_mut() {
        Some(map) if map.contains_key("data") => Ok(map.remove("data").unwrap_or_default()),
        Some(map) if map.contains_key("ec") => Ok(Value::Null),
        _ => Ok(value),
    }
}

/// The whole JSON of a success; a `200` whose `ec` is not `EOK` is none.
pub(super) fn whole(answer: &Answer, redactor: &Redactor) -> Result<Value, ErrorKind> {
    if !answer.status.is_success() {
        return Err(ErrorKind::Refused(refusal(answer.status, &answer.headers, &answer.body, redactor)));
    }
    if answer.body.trim_ascii().is_empty() {
        return Err(ErrorKind::Shape("it is empty".to_owned()));
    }
    let value: Value = serde_json::from_slice(&answer.body)
        .map_err(|error| ErrorKind::Shape(format!("{} bytes that are no JSON, {error}", answer.body.len())))?;
    match value.get("ec") {
        None => Ok(value),
        Some(Value::String(ec)) if ec == "EOK" => Ok(value),
        Some(_) => Err(ErrorKind::Refused(refusal(answer.status, &answer.headers, &answer.body, redactor))),
    }
}

/// The `ec` of a body, for the log; empty when there is none.
pub(super) fn ec(body: &[u8]) -> String {
    let value: Value = serde_json::from_slice(body).unwrap_or_default();
    maybe_text(&value, "ec").map(shortened).unwrap_or_default()
}

/// What a failed login means.
pub(super) fn login_verdict(kind: &ErrorKind) -> LoginVerdict {
    let ErrorKind::Refused(refusal) = kind else { return LoginVerdict::Other };
    let code = refusal.ec.strip_prefix("code ").and_then(|code| code.parse().ok());
    match (refusal.status, code) {
        (401, _) | (_, Some(UNAUTHENTICATED)) => LoginVerdict::Rejected,
        (403 | 423, _) | (_, Some(PERMISSION_DENIED)) => LoginVerdict::Locked(refusal.clone()),
        _ => LoginVerdict::Other,
    }
}

/// The server's own words, from a body of any shape.
fn refusal(status: StatusCode, headers: &HeaderMap, body: &[u8], redactor: &Redactor) -> Refusal {
    let value: Value = serde_json::from_slice(body).unwrap_or_default();
    let error = value.get("error").unwrap_or(&Value::Null);
    let ec = maybe_text(&value, "ec").or_else(|| number(&value, "code").map(|code| format!("code {code}")));
    let said = maybe_text(error, "msg")
        .or_else(|| maybe_text(error, "message"))
        .or_else(|| maybe_text(&value, "error"))
        .or_else(|| maybe_text(&value, "message"));
    let mut message = said.unwrap_or_default();
    if let Some(detail) = error.get("detail").and_then(detail_text).filter(|detail| !message.contains(detail)) {
        message = if message.is_empty() { detail } else { format!("{message} ({detail})") };
    }
    if status.is_redirection() {
        message = "a redirect, which is not followed".to_owned();
    }
    let retry_after = headers.get(header::RETRY_AFTER).and_then(|value| value.to_str().ok()?.trim().parse().ok());
    Refusal {
        status: status.as_u16(),
        ec: shortened(redactor.text(&ec.unwrap_or_default()).into_owned()),
        message: shortened(redactor.text(&message).into_owned()),
        retry_after: retry_after.map(Duration::from_secs),
    }
}

/// `error.detail`: a text, or fields with their messages.
fn detail_text(detail: &Value) -> Option<String> {
    let text = match detail {
        Value::String(text) => text.trim().to_owned(),
        Value::Object(map) if !map.is_empty() => detail.to_string(),
        _ => String::new(),
    };
    (!text.is_empty()).then_some(text)
}

fn shortened(text: String) -> String {
    if text.chars().count() <= MESSAGE_CHARS { text } else { text.chars().take(MESSAGE_CHARS).chain(['…']).collect() }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use gantry_proto::Secret;
    use serde_json::json;

    use super::*;

    fn answer(status: u16, body: &str) -> Answer {
        let status = StatusCode::from_u16(status).unwrap();
        Answer { status, headers: HeaderMap::new(), body: Bytes::copy_from_slice(body.as_bytes()) }
    }

    fn opened(status: u16, body: &str) -> Result<Value, ErrorKind> {
        open(&answer(status, body), false, &Redactor::new())
    }

    #[test]
    fn data_is_taken_out_with_error_empty_or_null() {
        for error in ["{}", "null"] {
            let body = format!(r#"{{"data": [1], "ec": "EOK", "error": {error}}}"#);
            assert_eq!(opened(200, &body).unwrap(), json!([1]));
        }
        assert_eq!(opened(200, r#"{"token": "t"}"#).unwrap(), json!({"token": "t"}));
        assert_eq!(opened(200, r#"{"ec": "EOK"}"#).unwrap(), json!(null));
        assert_eq!(open(&answer(204, ""), true, &Redactor::new()).unwrap(), json!(null));
    }

    #[test]
    fn rubbish_is_a_shape_error_and_no_crash() {
        for body in ["", "  ", "<html>", "{\"data\": {", "\u{0}\u{1}"] {
            assert!(matches!(opened(200, body), Err(ErrorKind::Shape(_))), "{body:?}");
        }
        let binary = Answer { body: Bytes::from_static(b"\xff\xfe\x00"), ..answer(200, "") };
        assert!(matches!(open(&binary, false, &Redactor::new()), Err(ErrorKind::Shape(_))));
    }

    #[test]
    fn a_refusal_keeps_status_ec_and_message() {
        let body = r#"{"data": {}, "ec": "REST_FORM_ERROR",
            "error": {"detail": {"replica_num": ["0 is not one of [1, 2, 3]"]}, "msg": "bad form"}}"#;
        for status in [200, 400, 500] {
            let Err(ErrorKind::Refused(refusal)) = opened(status, body) else { panic!("{status}") };
            assert_eq!((refusal.status, refusal.ec.as_str()), (status, "REST_FORM_ERROR"));
            assert!(refusal.message.starts_with("bad form (") && refusal.message.contains("replica_num"));
        }
        let Err(ErrorKind::Refused(refusal)) = opened(502, "<html>Bad gateway</html>") else { panic!() };
        assert_eq!((refusal.status, refusal.message.as_str()), (502, ""));
    }

    #[test]
    fn a_refusal_shows_no_secret_and_is_short() {
        let redactor = Redactor::new();
        redactor.register(&Secret::new("s3cr3t-pass"));
        let body =
            json!({"ec": "X", "error": {"msg": format!("password s3cr3t-pass {}", "y".repeat(2000))}}).to_string();
        let Err(ErrorKind::Refused(refusal)) = open(&answer(200, &body), false, &redactor) else { panic!() };
        assert!(refusal.message.contains("机密凭据") && !refusal.message.contains("s3cr3t"));
        assert_eq!(refusal.message.chars().count(), MESSAGE_CHARS + 1);
    }

    #[test]
    fn a_login_is_rejected_by_status_or_code() {
        let verdict = |status, body| match opened(status, body) {
            Err(kind) => login_verdict(&kind),
            Ok(_) => panic!("a success"),
        };
        assert!(matches!(verdict(401, ""), LoginVerdict::Rejected));
        assert!(matches!(verdict(400, r#"{"code": 16, "message": "no"}"#), LoginVerdict::Rejected));
        assert!(matches!(verdict(403, "<html>"), LoginVerdict::Locked(_)));
        assert!(matches!(verdict(500, ""), LoginVerdict::Other));
    }
}
