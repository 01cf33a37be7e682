//! Canaries: the workbook's secrets are in no file, no output and no argument list, in no encoding.

use gantry_e2e::{Lab, canaries::Canaries};
use gantry_sim::workbook::Workbook;

use crate::support::quick;

#[tokio::test]
async fn no_secret_is_in_any_output() -> anyhow::Result<()> {
    let mut options = quick();
    let canaries = Canaries::of(&Workbook::valid());
    assert!(canaries.count >= 3, "the workbook has too few secrets: {}", canaries.count);
    options.agent = serde_json::json!({"telemetry": {"log_filter": "debug", "log_format": "json"}});
    options.controller = serde_json::json!({"telemetry": {"log_filter": "debug", "log_format": "json"}});
    let lab = Lab::start(options).await?;
    let job = lab.deploy(&[]).await?;
    assert_eq!(lab.watch(&job).await?, 0, "{}", lab.logs());

    let log = lab.dir().join("audit.jsonl");
    let log = log.to_string_lossy();
    for args in [
        &["show", &job][..],
        &["-o", "json", "show", &job],
        &["-o", "json", "result", &job],
        &["-o", "ndjson", "watch", &job, "--from-seq", "1"],
        &["-o", "json", "plan", "check", &lab.workbook().to_string_lossy()],
        &["plan", "show", &lab.workbook().to_string_lossy()],
        &["audit"],
        &["audit", "-o", "json"],
        &["audit", "export", &log],
        &["audit", "verify", &log, "--head-from-controller"],
    ] {
        let output = lab.ctl(args).await?;
        assert_eq!(output.status.code(), Some(0), "ctl {args:?}: {}", gantry_e2e::lab::text(&output));
        canaries.absent(&format!("ctl {args:?}"), &output.stdout)?;
        canaries.absent(&format!("ctl {args:?}"), &output.stderr)?;
    }
    let mut files = 0;
    for place in ["agent", "controller", "agent.log", "controller.log", "audit.jsonl"] {
        files += canaries.absent_below(&lab.dir().join(place))?;
    }
    assert!(files > 8, "only {files} files were searched");
    lab.stop().await
}
