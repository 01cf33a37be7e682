//! `ctl web`: a link that opens the controller's web pages in this operator's name.

use gantry_proto::{
    Secret,
    token::{SECRET_BYTES, sha256_hex},
};
use serde_json::json;
use zeroize::Zeroizing;

use super::Cx;
use crate::{
    args::Format,
    exit::{Exit, Failure},
    render::units,
};

/// Makes the token, tells the controller its hash, and prints the link. The token is behind `#`, so a browser sends it to
/// nobody; the page hands it in.
pub(crate) async fn run(cx: &Cx) -> Result<(), Failure> {
    let client = cx.connect().await?;
    let token = token()?;
    cx.redactor.register(&token);
    let answer = client.web_link(&sha256_hex(token.expose().as_bytes())).await?;
    // The one place where the token is shown, to the operator who asked for it.
    let link = format!("{}/web/enter#{}", client.url(), token.expose());
    let until = units::from_micros(answer.until_micros).map(|at| at.to_string());
    match cx.out.format {
        Format::Table => {
            cx.out.text(&link)?;
            cx.out.note(&say!(
                "works once, until {until}; the pages then stay open for {session}",
                "仅可使用一次，有效期至 {until}；登录后可使用 {session}";
                until = until.unwrap_or_default(), session = units::duration(answer.session_s as f64)
            ));
            Ok(())
        }
        Format::Json | Format::Ndjson => {
            cx.out.json(&json!({ "link": link, "until": until, "session_s": answer.session_s }))
        }
    }
}

fn token() -> Result<Secret, Failure> {
    let mut bytes = Zeroizing::new([0; SECRET_BYTES]);
    let filled = rustls::crypto::ring::default_provider().secure_random.fill(&mut *bytes);
    filled
        .map_err(|_| Failure::new(Exit::Internal, said!("the system gives no random numbers", "系统无法提供随机数")))?;
    let text = Zeroizing::new(bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>());
    Ok(Secret::new(text.as_str()))
}
