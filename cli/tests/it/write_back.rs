//! The licence serial for a copy of the workbook: everything that is in the way of it. That it gets there is tested
//! with real processes.

use std::{fs, os::unix::fs::symlink, path::PathBuf};

use gantry_proto::v1::{CheckPlanResponse, JobState, PlanDocument, PlanVerdict};
use serde_json::json;

use crate::{fake::Fake, log, run::Ran, run::ctl};

/// A job that went well and a file that is no workbook.
struct Desk {
    fake: Fake,
    from: PathBuf,
    out: PathBuf,
}

impl Desk {
    async fn new() -> Self {
        let fake = Fake::with(log::success(), JobState::Succeeded).await;
        let (from, out) = (fake.home().join("planning.xlsx"), fake.home().join("out.xlsx"));
        fs::write(&from, "bytes").unwrap();
        let desk = Self { fake, from, out };
        desk.result(json!([{"sheet": "集群管理信息", "cell": "M3", "value": "7f2d7a0e", "written": false}]));
        desk.plans("one", "one");
        desk
    }

    fn result(&self, updates: serde_json::Value) {
        let result = json!({"deploy_cloudtower": {"cloudtower": {"plan_updates": updates}}});
        self.fake.state.lock().unwrap().result = result.to_string().into_bytes();
    }

    /// The job's plan, and that of the workbook.
    fn plans(&self, planned: &str, given: &str) {
        let document = |text: &str| PlanDocument {
            schema: format!("gantry.plan/of another time: {text}"),
            json: text.into(),
            sha256: text.into(),
        };
        let mut state = self.fake.state.lock().unwrap();
        state.plan = Some(document(planned));
        let (verdict, plan) = (PlanVerdict::Ok.into(), Some(document(given)));
        state.check_answer = Some(CheckPlanResponse { verdict, plan, ..Default::default() });
    }

    async fn write(&self, more: &[&str]) -> Ran {
        let (from, out) = (self.from.to_str().unwrap(), self.out.to_str().unwrap());
        let mut args = vec!["result", log::JOB, "--workbook", out, "--from", from];
        args.extend(more);
        let ran = ctl(self.fake.home(), &args).await;
        assert_eq!(fs::read(&self.from).unwrap(), b"bytes", "the workbook is only read");
        ran
    }
}

#[tokio::test]
async fn the_workbook_itself_is_never_the_copy() {
    let mut desk = Desk::new().await;
    let links = [desk.fake.home().join("soft.xlsx"), desk.fake.home().join("hard.xlsx"), desk.from.clone()];
    symlink(&desk.from, &links[0]).unwrap();
    fs::hard_link(&desk.from, &links[1]).unwrap();
    for link in links {
        desk.out = link;
        for more in [&[][..], &["--force"]] {
            let ran = desk.write(more).await;
            assert!(ran.code == 2 && ran.err.contains("is the workbook itself, and is not touched"), "{ran:?}");
        }
    }
    assert!(desk.fake.state.lock().unwrap().orders.is_empty());
}

#[tokio::test]
async fn what_is_there_is_not_replaced_unasked() {
    let desk = Desk::new().await;
    fs::write(&desk.out, "other").unwrap();
    let ran = desk.write(&[]).await;
    assert!(ran.code == 2 && ran.err.contains("is there already, and is not touched"), "{ran:?}");
    assert_eq!(fs::read(&desk.out).unwrap(), b"other");
    // With --force it goes on, to the file that is no workbook.
    assert_eq!(desk.write(&["--force"]).await.code, 3);
    assert_eq!(fs::read(&desk.out).unwrap(), b"other");
}

#[tokio::test]
async fn another_workbook_is_refused() {
    let desk = Desk::new().await;
    desk.plans("one", "two");
    let ran = desk.write(&["--set", "organization=A"]).await;
    assert_eq!((ran.code, ran.out.as_str()), (3, ""), "{ran:?}");
    for words in [
        "planning.xlsx is not the workbook that was planned for job",
        "and the same --set values",
        "the serial stays in the result: ctl result",
    ] {
        assert!(ran.err.contains(words), "{words}: {ran:?}");
    }
    assert_eq!(desk.fake.state.lock().unwrap().orders, ["check 5 bytes with {\"organization\": \"A\"}"]);
    assert!(!desk.out.exists());

    let verdict = PlanVerdict::Invalid.into();
    desk.fake.state.lock().unwrap().check_answer = Some(CheckPlanResponse { verdict, ..Default::default() });
    let ran = desk.write(&[]).await;
    assert!(ran.code == 3 && ran.out.contains("cannot be deployed"), "{ran:?}");
}

#[tokio::test]
async fn a_file_that_is_no_workbook_and_one_that_is_open() {
    let desk = Desk::new().await;
    let ran = desk.write(&[]).await;
    assert_eq!((ran.code, ran.out.as_str()), (3, ""));
    assert!(ran.err.contains("cannot write the serial into 集群管理信息!M3 of a copy of"), "{ran:?}");
    assert!(ran.err.contains("it is not a zip package") && !ran.err.contains("warning"), "{ran:?}");
    fs::write(desk.fake.home().join("~$planning.xlsx"), "").unwrap();
    let ran = desk.write(&[]).await;
    assert!(ran.err.contains("warning: ") && ran.err.contains("seems to be open in a spreadsheet program"), "{ran:?}");
    let left = fs::read_dir(desk.fake.home()).unwrap();
    let names: Vec<_> = left.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    assert!(!names.iter().any(|name| name.contains("part") || name == "out.xlsx"), "{names:?}");

    fs::remove_file(&desk.from).unwrap();
    let args = ["result", log::JOB, "--workbook", "out.xlsx", "--from", desk.from.to_str().unwrap()];
    assert_eq!(ctl(desk.fake.home(), &args).await.code, 3);
}

#[tokio::test]
async fn without_a_serial_there_is_nothing_to_write() {
    let desk = Desk::new().await;
    for updates in [json!([]), json!([{"sheet": "集群管理信息", "cell": "G3", "value": "x"}])] {
        desk.result(updates);
        let ran = desk.write(&[]).await;
        assert!(ran.code == 7 && ran.err.contains("has no licence serial"), "{ran:?}");
    }
    assert!(desk.fake.state.lock().unwrap().orders.is_empty() && !desk.out.exists());
    for args in [&["--workbook", "x"][..], &["--from", "x"], &["--force"], &["--set", "a=b"]] {
        let args = [&["result", log::JOB], args].concat();
        assert_eq!(ctl(desk.fake.home(), &args).await.code, 2, "{args:?}");
    }
}
