//! `/metrics`, for whoever shows an operator's certificate, and what `deploy/monitoring` makes of it: every metric that the
//! dashboard and the alerts use is there, and promtool takes all of their expressions.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use gantry_e2e::Lab;
use gantry_proto::OperatorProfile;
use serde_json::{Value, json};
use tokio::{io::AsyncWriteExt as _, process::Command};

use crate::support::quick_with;

fn deploy() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/monitoring")
}

/// The page, by curl: with the operator's certificate, or without one. Status and text.
async fn page(lab: &Lab, certificate: bool) -> anyhow::Result<(u16, String)> {
    let profile: OperatorProfile = toml::from_str(&fs::read_to_string(lab.profile())?)?;
    let file = |name: &str| lab.profile().with_file_name(name);
    let mut curl = Command::new("curl");
    curl.arg("-s").arg("-w").arg("\n%{http_code}").arg("--cacert").arg(file(&profile.ca_pem_file));
    if certificate {
        curl.arg("--cert").arg(file(&profile.cert_pem_file)).arg("--key").arg(file(&profile.key_pem_file));
    }
    let output = curl.arg(format!("{}/metrics", profile.controller)).stderr(Stdio::inherit()).output().await?;
    let text = String::from_utf8(output.stdout)?;
    let (text, status) = text.rsplit_once('\n').context("no status")?;
    Ok((status.parse()?, text.to_owned()))
}

/// The names in a page; a histogram's are those of its series.
fn names(page: &str) -> BTreeSet<&str> {
    let series = page.lines().filter(|line| !line.starts_with('#'));
    series.filter_map(|line| line.split(['{', ' ']).next()).filter(|name| !name.is_empty()).collect()
}

/// The names of ours that an expression uses.
fn used(expression: &str) -> BTreeSet<&str> {
    let word = |c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == ':');
    expression.split(word).filter(|name| name.starts_with("gantry_")).collect()
}

/// The dashboard's expressions, and those of the alerts.
fn expressions() -> anyhow::Result<Vec<(String, String)>> {
    let dashboard: Value = serde_json::from_str(&fs::read_to_string(deploy().join("grafana-dashboard.json"))?)?;
    let mut all = Vec::new();
    for panel in dashboard["panels"].as_array().context("panels")? {
        let title = panel["title"].as_str().context("a title")?;
        let targets = panel["targets"].as_array().context("targets")?;
        ensure!(!targets.is_empty(), "{title} shows nothing");
        for target in targets {
            all.push((title.to_owned(), target["expr"].as_str().context("an expression")?.to_owned()));
        }
    }
    let rules = fs::read_to_string(deploy().join("gantry.rules.yml"))?;
    let mut alert = String::new();
    for line in rules.lines() {
        if let Some(name) = line.trim().strip_prefix("- alert: ") {
            name.clone_into(&mut alert);
        } else if let Some(expression) = line.trim().strip_prefix("expr: ") {
            all.push((alert.clone(), expression.to_owned()));
        }
    }
    Ok(all)
}

#[tokio::test]
async fn every_metric_that_dashboard_and_alerts_use_is_there() -> anyhow::Result<()> {
    let chunk = json!({"face": "fisheye", "method": "POST", "path": "/api/v2/images/upload", "chunk": 3});
    let refused = json!({"answer": {"status": 500, "body": "oops"}});
    let lab = Lab::start(quick_with(crate::faults::fault(chunk, "before", 4, refused))).await?;
    let job = lab.deploy(&["--watch"]).await?;
    let failing = json!({"guest": {"installer": "fails"}});
    lab.control()?.post("/modes", &failing).await?;
    let second = lab.ctl(&["deploy", &lab.workbook().display().to_string(), "--watch"]).await?;
    ensure!(second.status.code() != Some(0), "the second one fails: its VM's name is taken\n{}", lab.logs());
    let told = |page: &str| page.contains("gantry_jobs_active{") && page.contains("gantry_agents{");
    let began = Instant::now();
    while !told(&page(&lab, true).await?.1) {
        ensure!(began.elapsed() < Duration::from_secs(30), "no gauges");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }

    let (status, text) = page(&lab, true).await?;
    assert_eq!(status, 200);
    let there = names(&text);
    let expressions = expressions()?;
    assert!(expressions.len() > 30, "{}", expressions.len());
    for (place, expression) in &expressions {
        let used = used(expression);
        assert!(!used.is_empty() || place == "GantryControllerDown", "{place}: {expression}");
        for name in used {
            assert!(there.contains(name), "{place}: there is no {name}: {there:?}");
        }
    }
    let all: BTreeSet<&str> = expressions.iter().flat_map(|(_, expression)| used(expression)).collect();
    let shown = |name: &&str| {
        all.iter().any(|used| name.starts_with(used.trim_end_matches("_bucket").trim_end_matches("_count")))
    };
    let unused: Vec<&str> =
        there.iter().filter(|name| name.starts_with("gantry_")).filter(|name| !shown(name)).copied().collect();
    assert_eq!(unused, Vec::<&str>::new(), "metrics that nobody looks at");
    // What they say.
    let value = |line: &str| -> Option<f64> {
        text.lines().find_map(|found| found.strip_prefix(line)).and_then(|rest| rest.trim().parse().ok())
    };
    assert_eq!(value("gantry_jobs_submitted_total "), Some(2.0));
    assert_eq!(value(r#"gantry_jobs_ended_total{outcome="succeeded",undo="nothing"} "#), Some(1.0));
    assert!(value("gantry_upload_retries_total ").is_some_and(|chunks| chunks >= 1.0));
    assert_eq!(value(r#"gantry_step_duration_seconds_count{step="install"} "#), Some(1.0));
    assert_eq!(value(r#"gantry_agents{contact="yes"} "#), Some(1.0));
    assert!(value("gantry_upload_sent_bytes_total ").is_some_and(|bytes| bytes > 1e6));
    assert!(!text.contains(&job) && !text.contains("bastion-1"), "labels name no job and no agent");
    // Each with a help.
    let helps: BTreeMap<&str, &str> =
        text.lines().filter_map(|line| line.strip_prefix("# HELP ")?.split_once(' ')).collect();
    for name in there.iter().filter(|name| name.starts_with("gantry_")) {
        let plain = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name);
        assert!(helps.get(plain).or_else(|| helps.get(name)).is_some_and(|help| help.len() > 10), "{name} has no help");
    }
    promtool(&["check", "metrics"], Some(&text)).await?;
    let (status, text) = page(&lab, false).await?;
    assert_eq!(status, 403, "{text}");
    lab.stop().await
}

#[tokio::test]
async fn promtool_takes_rules_and_expressions() -> anyhow::Result<()> {
    let rules = deploy().join("gantry.rules.yml").display().to_string();
    promtool(&["check", "rules", &rules], None).await?;
    let configuration = deploy().join("prometheus.yml").display().to_string();
    promtool(&["check", "config", "--syntax-only", &configuration], None).await?;
    // The dashboard's expressions as rules; Grafana puts the times in.
    let mut text = "groups:\n  - name: dashboard\n    rules:\n".to_owned();
    for (number, (_, expression)) in expressions()?.iter().enumerate() {
        let expression = expression.replace("$__rate_interval", "5m").replace("$__range", "6h");
        text.push_str(&format!("      - record: panel:{number}\n        expr: {}\n", json!(expression)));
    }
    let place = tempfile::tempdir()?;
    let file = place.path().join("dashboard.yml");
    fs::write(&file, text)?;
    promtool(&["check", "rules", &file.display().to_string()], None).await
}

async fn promtool(arguments: &[&str], input: Option<&str>) -> anyhow::Result<()> {
    let mut command = Command::new("promtool");
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut tool =
        command.spawn().context("starting promtool, of Debian's package prometheus; tests/run installs it")?;
    let mut stdin = tool.stdin.take().context("stdin")?;
    stdin.write_all(input.unwrap_or_default().as_bytes()).await?;
    drop(stdin);
    let output = tool.wait_with_output().await?;
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    ensure!(output.status.success(), "promtool {arguments:?}: {said}");
    Ok(())
}
