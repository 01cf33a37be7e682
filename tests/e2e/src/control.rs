//! The simulator's control port, for tests: what the world looks like, what was asked of it, what shall go wrong.

use anyhow::{Context as _, ensure};
use serde_json::Value;

/// A client of the control API.
#[derive(Clone, Debug)]
pub struct Control {
    http: reqwest::Client,
    base: String,
}

impl Control {
    /// Speaks with the control port at `base`, such as `http://127.0.0.1:40001`.
    pub fn new(base: &str) -> anyhow::Result<Self> {
        // The control port is plain HTTP, but the client library wants a crypto provider all the same. A second
        // installation in one process is refused and changes nothing.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder().no_proxy().tls_certs_only([]).build()?;
        Ok(Self { http, base: base.to_owned() })
    }

    /// `GET path` as JSON.
    pub async fn get(&self, path: &str) -> anyhow::Result<Value> {
        let answer = self.http.get(format!("{}{path}", self.base)).send().await?;
        ensure!(answer.status().is_success(), "GET {path}: {} {}", answer.status(), answer.text().await?);
        answer.json().await.with_context(|| format!("GET {path}"))
    }

    /// `POST path` with a JSON body.
    pub async fn post(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        let answer = self.http.post(format!("{}{path}", self.base)).json(body).send().await?;
        let status = answer.status();
        let text = answer.text().await?;
        ensure!(status.is_success(), "POST {path}: {status} {text}");
        Ok(serde_json::from_str(&text).unwrap_or(Value::Null))
    }

    /// The whole world.
    pub async fn world(&self) -> anyhow::Result<Value> {
        self.get("/world").await
    }

    /// Fails with the list when an invariant of `simulator-behaviours.md` 6 is violated.
    pub async fn check_invariants(&self) -> anyhow::Result<()> {
        let report = self.get("/invariants").await?;
        let violations = report.get("violations").and_then(Value::as_array);
        let violations = violations.context("the invariants' report has no list of violations")?;
        ensure!(violations.is_empty(), "violated invariants: {report:#}");
        Ok(())
    }

    /// The requests and commands so far, in order.
    pub async fn transcript(&self) -> anyhow::Result<Vec<Value>> {
        let mut all: Vec<Value> = Vec::new();
        loop {
            let after = all.last().and_then(|entry| entry["seq"].as_u64()).unwrap_or(0);
            let page = self.get(&format!("/transcript?after={after}")).await?;
            let page = page.get("entries").and_then(Value::as_array).context("the transcript has no entries")?;
            if page.is_empty() {
                return Ok(all);
            }
            all.extend(page.iter().cloned());
        }
    }
}
