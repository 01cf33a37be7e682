//! Canaries: the workbook's secrets are in no file, no output and no argument list, in no encoding.

use std::{fs, path::Path};

use gantry_e2e::Lab;
use gantry_proto::{REDACTED, Redactor, Secret};
use gantry_sim::workbook::{Cell, Workbook};

use crate::support::quick;

/// The workbook's secret cells.
const SECRET_CELLS: [&str; 7] = [
    "集群管理信息!G3",
    "集群管理信息!I3",
    "集群管理信息!K3",
    "主机规划!M19",
    "主机规划!G3",
    "主机规划!K3",
    "主机规划!M3",
];

#[tokio::test]
async fn no_secret_is_in_any_output() -> anyhow::Result<()> {
    let mut options = quick();
    let workbook = Workbook::valid();
    let secrets: Vec<String> = SECRET_CELLS.iter().filter_map(|cell| text_of(workbook.cell(cell))).collect();
    assert!(secrets.len() >= 3, "the workbook has too few secrets: {}", secrets.len());
    options.agent = serde_json::json!({"telemetry": {"log_filter": "debug", "log_format": "json"}});
    options.controller = serde_json::json!({"telemetry": {"log_filter": "debug", "log_format": "json"}});
    let lab = Lab::start(options).await?;
    let job = lab.deploy(&[]).await?;
    assert_eq!(lab.watch(&job).await?, 0, "{}", lab.logs());

    let finder = Finder::new(&secrets);
    for args in [
        &["show", &job][..],
        &["-o", "json", "show", &job],
        &["-o", "json", "result", &job],
        &["-o", "ndjson", "watch", &job, "--from-seq", "1"],
        &["-o", "json", "plan", "check", &lab.workbook().to_string_lossy()],
        &["plan", "show", &lab.workbook().to_string_lossy()],
    ] {
        let output = lab.ctl(args).await?;
        finder.must_be_clean(&format!("ctl {args:?}"), &output.stdout);
        finder.must_be_clean(&format!("ctl {args:?}"), &output.stderr);
    }
    let mut files = 0;
    for place in ["agent", "controller", "agent.log", "controller.log"] {
        files += search(&lab.dir().join(place), &finder)?;
    }
    assert!(files > 8, "only {files} files were searched");
    lab.stop().await
}

struct Finder(Redactor);

impl Finder {
    fn new(secrets: &[String]) -> Self {
        let redactor = Redactor::new();
        secrets.iter().for_each(|secret| redactor.register(&Secret::new(secret.as_str())));
        Self(redactor)
    }

    /// The redactor knows every encoding; whatever it would replace must not be there.
    fn must_be_clean(&self, place: &str, bytes: &[u8]) {
        let text = String::from_utf8_lossy(bytes).replace(REDACTED, "");
        let clean = self.0.text(&text);
        if let Some(at) = clean.find(REDACTED) {
            let from = clean.floor_char_boundary(at.saturating_sub(80));
            panic!("{place} holds a secret, near: {}", &clean[from..at]);
        }
    }
}

/// Searches every file below; gives how many there were.
fn search(path: &Path, finder: &Finder) -> anyhow::Result<usize> {
    if path.is_file() {
        finder.must_be_clean(&path.display().to_string(), &fs::read(path)?);
        return Ok(1);
    }
    let mut files = 0;
    for entry in fs::read_dir(path)? {
        files += search(&entry?.path(), finder)?;
    }
    Ok(files)
}

fn text_of(cell: Option<&Cell>) -> Option<String> {
    match cell {
        Some(Cell::Text(text)) => Some(text.clone()),
        _ => None,
    }
}
