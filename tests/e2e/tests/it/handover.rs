//! What is handed over after a deployment: the workbook with the licence serial in it, and the report.

use std::{collections::BTreeMap, fs, io::Write as _, path::Path, process::Command};

use anyhow::Context as _;
use gantry_agent::{pipeline::PIPELINE, step::Step};
use gantry_e2e::{Lab, lab::text};
use gantry_plan::Defaults;
use gantry_proto::plan::Stage;
use gantry_sim::workbook::Workbook;
use serde_json::{Value, json};

use crate::support::{quick, result};

#[tokio::test]
async fn the_serial_gets_into_a_copy_and_the_report_tells_everything() -> anyhow::Result<()> {
    let lab = Lab::start(quick()).await?;
    let job = lab.deploy(&[]).await?;
    assert_eq!(lab.watch(&job).await?, 0, "{}", lab.logs());
    let told = result(&lab, &job).await?;
    let serial = told["cloudtower"]["license"]["license_serial"].as_str().unwrap();
    the_copy(&lab, &job, serial).await?;
    the_report(&lab, &job, serial).await?;
    lab.stop().await
}

async fn the_copy(lab: &Lab, job: &str, serial: &str) -> anyhow::Result<()> {
    let (from, out) = (lab.workbook(), lab.dir().join("handed-over.xlsx"));
    let original = fs::read(&from)?;
    let (from, out) = (from.to_str().unwrap(), out.to_str().unwrap());
    let args = ["-o", "json", "result", job, "--workbook", out, "--from", from];
    let document = lab.ctl_json(&args).await?;
    let update = &document["deploy_cloudtower"]["cloudtower"]["plan_updates"][0];
    assert_eq!((update["written"].as_bool(), update["value"].as_str()), (Some(true), Some(serial)));
    assert_eq!(fs::read(from)?, original);

    let planned = |bytes: &[u8]| gantry_plan::plan(bytes, &Defaults::default(), &BTreeMap::new()).plan.unwrap();
    let (mut before, after) = (planned(&original), planned(&fs::read(out)?));
    assert_eq!(after.cloudtower.serial.as_deref(), Some(serial));
    before.cloudtower.serial = after.cloudtower.serial.clone();
    before.sources = after.sources.clone();
    assert_eq!(before, after);

    // The made workbook has no such cell: the new one is dressed as its neighbours are.
    openpyxl_sees_one_cell_more(Path::new(from), Path::new(out), serial, &["style of 集群管理信息!M3"])?;

    let again = lab.ctl(&args).await?;
    assert!(again.status.code() == Some(2) && text(&again).contains("is there already"), "{}", text(&again));
    // The copy has a serial that was not planned, and another workbook has another organisation.
    for other in [fs::read(out)?, Workbook::valid().set("文档描述!C15", "Somebody Else").bytes()] {
        let (other_path, out) = (lab.dir().join("other.xlsx"), lab.dir().join("none.xlsx"));
        fs::File::create(&other_path)?.write_all(&other)?;
        let (other, out) = (other_path.to_str().unwrap(), out.to_str().unwrap());
        let refused = lab.ctl(&["result", job, "--workbook", out, "--from", other]).await?;
        let said = text(&refused);
        assert!(refused.status.code() == Some(3) && said.contains("is not the workbook that was planned"), "{said}");
        assert!(!fs::exists(out)?);
    }
    Ok(())
}

/// An independent reader opens both files: they differ in the serial's cell, and in nothing else that it knows.
fn openpyxl_sees_one_cell_more(from: &Path, out: &Path, serial: &str, other: &[&str]) -> anyhow::Result<()> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/read_workbook.py");
    // Debian's own, which has Debian's packages.
    let read = Command::new("/usr/bin/python3").arg(script).args([from, out]).output().context("python3-openpyxl")?;
    anyhow::ensure!(read.status.success(), "{}", String::from_utf8_lossy(&read.stderr));
    let seen: Value = serde_json::from_slice(&read.stdout)?;
    assert_eq!(seen, json!({ "differing": { "集群管理信息!M3": serial }, "other": other }));
    Ok(())
}

#[test]
fn a_real_workbook_with_the_serial_in_it_is_read_by_others() -> anyhow::Result<()> {
    let shared = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/planning-valid-3node.xlsx");
    let Ok(original) = fs::read(&shared) else { return Ok(()) };
    let dir = tempfile::tempdir()?;
    let out = dir.path().join("out.xlsx");
    fs::write(&out, &*gantry_plan::with_serial(&original, "00000000-1111-2222-3333-444444444444")?)?;
    openpyxl_sees_one_cell_more(&shared, &out, "00000000-1111-2222-3333-444444444444", &[])
}

async fn the_report(lab: &Lab, job: &str, serial: &str) -> anyhow::Result<()> {
    let document = lab.ctl_json(&["-o", "json", "report", job]).await?;
    assert_eq!(document["outcome"], "succeeded");
    assert_eq!(document["licence"]["license_serial"], serial);
    let usual = |step: &&&dyn Step| step.stage().is_none_or(|stage| Stage::usual().contains(&stage));
    assert_eq!(document["steps"].as_array().map(Vec::len), Some(PIPELINE.iter().filter(usual).count()));
    assert!(document["steps"].as_array().unwrap().iter().all(|step| step["seconds"].is_number()), "{document}");
    assert!(
        document["plan"]
            .as_array()
            .unwrap()
            .iter()
            .any(|row| row["key"] == "cloudtower.ip" && row["from"][0]["cell"] == "集群管理信息!E3")
    );
    let acts: Vec<_> = document["audit"]["records"].as_array().unwrap().iter().map(|one| one["act"].clone()).collect();
    assert!(acts.contains(&"job.submit".into()), "{acts:?}");

    let file = lab.dir().join("handover.html");
    let written = lab.ctl(&["report", job, "--out", file.to_str().unwrap()]).await?;
    assert!(written.status.success(), "{}", text(&written));
    let page = fs::read_to_string(&file)?;
    assert!(page.contains(serial) && page.contains("SERVICE_READY"));
    // Every step of the agent has words of the page's language.
    for step in PIPELINE.iter().filter(usual) {
        let title = step.info().title.replace('\'', "&#39;");
        assert!(!page.contains(&title), "{title} is not translated");
    }
    Ok(())
}
