//! Bad input: the one message that says what and why, the right exit code, nothing stored, nothing touched.

use std::fs;

use gantry_e2e::{Lab, LabOptions, lab::text};
use gantry_sim::workbook::Workbook;
use serde_json::{Value, json};

use crate::support::{images, quick, vms};

async fn no_jobs(lab: &Lab) -> anyhow::Result<()> {
    let jobs = lab.ctl_json(&["-o", "json", "jobs"]).await?;
    assert_eq!(jobs["jobs"], json!([]), "{jobs}");
    assert_eq!(vms(lab).await?, Vec::<Value>::new());
    assert_eq!(images(lab).await?, Vec::<Value>::new());
    Ok(())
}

#[tokio::test]
async fn a_workbook_that_gives_no_plan_stores_nothing() -> anyhow::Result<()> {
    let lab = Lab::start(quick()).await?;
    let valid = Workbook::valid();
    let cases: [(&str, Vec<u8>, &[&str]); 6] = [
        ("blank address", valid.clone().clear("集群管理信息!E3").bytes(), &["集群管理信息", "E3"]),
        (
            "two mistakes",
            valid.clone().clear("集群管理信息!E3").set("虚拟网络!F4", 4095).bytes(),
            &["E3", "F4", "4095"],
        ),
        ("empty", Vec::new(), &["empty"]),
        ("text", b"not a workbook at all".to_vec(), &["xlsx"]),
        ("cut", valid.bytes()[..2000].to_vec(), &[]),
        ("sheet missing", valid.clone().remove_sheet("集群管理信息").bytes(), &["集群管理信息"]),
    ];
    for (name, bytes, words) in cases {
        let file = lab.dir().join("bad.xlsx");
        fs::write(&file, bytes)?;
        let output = lab.ctl(&["deploy", &file.to_string_lossy()]).await?;
        assert_eq!(output.status.code(), Some(3), "{name}: {}", text(&output));
        for word in words {
            assert!(text(&output).contains(word), "{name} does not say {word}: {}", text(&output));
        }
    }
    let output = lab.ctl(&["deploy", "no-such-file.xlsx"]).await?;
    assert_eq!(output.status.code(), Some(3), "{}", text(&output));
    no_jobs(&lab).await?;
    lab.stop().await
}

#[tokio::test]
async fn no_matching_agent_is_said_with_the_ones_there_are() -> anyhow::Result<()> {
    let lab = Lab::start(quick()).await?;
    let workbook = lab.workbook();
    let output = lab.ctl(&["deploy", &workbook.to_string_lossy(), "--site", "elsewhere"]).await?;
    assert_ne!(output.status.code(), Some(0));
    assert!(text(&output).contains("elsewhere") && text(&output).contains(gantry_e2e::lab::AGENT), "{}", text(&output));
    no_jobs(&lab).await?;
    lab.stop().await
}

/// No ISO, an empty one, not one: said before anything is created.
#[tokio::test]
async fn an_unusable_iso_is_said_before_anything_is_created() -> anyhow::Result<()> {
    let cases: [(&str, Option<Vec<u8>>, &str); 3] = [
        ("none", None, "iso_missing"),
        ("empty", Some(Vec::new()), "iso"),
        ("no ISO 9660", Some(vec![7; 1 << 20]), "iso"),
    ];
    let lab = Lab::start(LabOptions { iso_bytes: 0, ..quick() }).await?;
    for (name, content, code) in cases {
        if let Some(content) = content {
            fs::write(lab.iso(), content)?;
        }
        let job = lab.deploy(&[]).await?;
        assert_eq!(lab.watch(&job).await?, 4, "{name}: {}", lab.logs());
        let result = crate::support::result(&lab, &job).await?;
        let error = &result["error"];
        let told = error["code"].as_str().unwrap_or_default();
        assert!(told.starts_with(code) || error.to_string().contains("iso"), "{name}: {error:#}");
        assert_eq!(images(&lab).await?, Vec::<Value>::new());
        assert_eq!(vms(&lab).await?, Vec::<Value>::new());
    }
    lab.stop().await
}

/// One attempt, the cells named, no lock-out.
#[tokio::test]
async fn a_wrong_fisheye_password_is_tried_once() -> anyhow::Result<()> {
    let mut options = quick();
    options.fisheye_password = "another-Password-9".to_owned();
    let lab = Lab::start(options).await?;
    let job = lab.deploy(&[]).await?;
    assert_eq!(lab.watch(&job).await?, 4, "{}", lab.logs());
    let shown = text(&lab.ctl(&["show", &job]).await?);
    assert!(shown.contains("L19") && shown.contains("M19"), "{shown}");
    let transcript = lab.control()?.transcript().await?;
    let logins = transcript.iter().filter(|entry| entry["path"] == "/api/v3/sessions" && entry["method"] == "POST");
    assert_eq!(logins.count(), 1);
    lab.stop().await
}
