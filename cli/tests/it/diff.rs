//! `ctl plan diff`: what an agent sees, as people and programs get it, and what the exit code says.

use std::{fs, path::PathBuf};

use gantry_proto::{
    Code,
    v1::{self, DiffKind, diff_plan_response::Item},
};
use tonic::Status;

use crate::{
    fake::{Fake, State},
    run::ctl,
};

fn message(item: Item) -> Result<v1::DiffPlanResponse, Status> {
    Ok(v1::DiffPlanResponse { item: Some(item) })
}

fn begun() -> Result<v1::DiffPlanResponse, Status> {
    message(Item::Begun(v1::DiffBegun { agent_id: "bastion-1".into(), site: "s1".into(), problems: Vec::new() }))
}

fn line(step: &str, kind: DiffKind, call: &str, subject: &str, message: &str) -> v1::DiffLine {
    let [step, call, subject, message] = [step, call, subject, message].map(str::to_owned);
    v1::DiffLine { step, kind: kind.into(), call, subject, message, ..Default::default() }
}

fn diff(refuses: bool) -> v1::SiteDiff {
    let step = |id: &str, title: &str| v1::StepInfo { id: id.into(), title: title.into(), weight: 1, attempts: 1 };
    let iso = "cloudtower-v4.6.2.oe2003.x86_64.iso";
    let taken = "a VM \"cloudtower\" (8d5b) is on the cluster already and is not of this job";
    let vm = v1::DiffLine {
        code: "vm_name_taken".into(),
        remedy: "plan another name in 集群管理信息!B3, or remove that VM if nobody needs it".into(),
        ..line("preflight", DiffKind::Refuse, "", "cloudtower", taken)
    };
    let mut lines = vec![
        line("preflight", DiffKind::Notice, "", "192.0.2.10", "the VIP 192.0.2.10 does not answer"),
        line("upload-iso", DiffKind::Keep, "", iso, "the ISO image is on the cluster already (1f); it is reused"),
        line(
            "create-vm",
            DiffKind::Create,
            "create_vm",
            "cloudtower",
            "the VM is made with 8 vCPUs and 19 GiB of memory",
        ),
        line(
            "configure-network",
            DiffKind::Change,
            "update_vm",
            "cloudtower",
            "the VM is given the address 192.0.2.20",
        ),
        line(
            "cleanup",
            DiffKind::Unknown,
            "delete_image",
            iso,
            "the ISO image is removed, unless a VM uses it \u{1b}[31m",
        ),
    ];
    if refuses {
        lines[2] = vm;
        lines.swap(1, 2);
    }
    let steps = vec![
        step("preflight", "Check bastion, network and cluster"),
        step("upload-iso", "Upload the CloudTower ISO"),
        step("create-vm", "Create the VM"),
        step("configure-network", "Give the VM its address"),
        step("cleanup", "Remove the ISO image"),
    ];
    v1::SiteDiff { steps, lines, left_out: 0 }
}

/// A controller that answers so, and a file to send.
async fn answering(answers: Vec<Result<v1::DiffPlanResponse, Status>>) -> (Fake, PathBuf) {
    let fake = Fake::start(State { diff_answer: answers, ..State::default() }).await;
    let file = fake.home().join("planning.xlsx");
    fs::write(&file, b"a workbook").unwrap();
    (fake, file)
}

#[tokio::test]
async fn the_diff_is_shown_step_by_step_with_its_sums() {
    let (fake, file) = answering(vec![begun(), message(Item::Diff(diff(false)))]).await;
    let file = file.to_str().unwrap();
    let ran = ctl(fake.home(), &["plan", "diff", file, "--site", "s1", "--stages", "attach_cluster"]).await;
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(ran.err.contains("looking at site s1 through agent bastion-1"), "{ran:?}");
    insta::assert_snapshot!("diff", ran.out);
    let asked = fake.state.lock().unwrap().orders.clone();
    assert_eq!(
        asked,
        ["diff planning.xlsx of site \"s1\" agent \"\" with {\"deployment.stages\": \"attach_cluster\"}"]
    );
}

#[tokio::test]
async fn what_would_be_refused_has_its_remedy_and_its_exit_code() {
    let (fake, file) = answering(vec![begun(), message(Item::Diff(diff(true)))]).await;
    let file = file.to_str().unwrap();
    let ran = ctl(fake.home(), &["plan", "diff", file]).await;
    assert_eq!(ran.code, 7, "{ran:?}");
    insta::assert_snapshot!("diff_refused", ran.out);
    let ran = ctl(fake.home(), &["plan", "diff", file, "-o", "json"]).await;
    assert_eq!(ran.code, 7);
    let json = ran.json();
    assert_eq!(
        (&json["agent"], &json["counts"]["refuse"], &json["counts"]["create"]),
        (&"bastion-1".into(), &1.into(), &0.into())
    );
    assert_eq!((&json["lines"][1]["kind"], &json["lines"][1]["code"]), (&"refuse".into(), &"vm_name_taken".into()));
    let ran = ctl(fake.home(), &["plan", "diff", file, "-o", "ndjson"]).await;
    assert_eq!((ran.code, ran.out.lines().count()), (7, 5));
}

#[tokio::test]
async fn what_cannot_be_looked_at_is_told_by_reason() {
    let gone = Code::AgentState.status("agent \"bastion-1\" is not in contact, so it cannot look at its site");
    let rejected = v1::PlanRejected { verdict: v1::PlanVerdict::Invalid.into(), problems: Vec::new() };
    let cases = [
        (vec![message(Item::Rejected(rejected))], 3, "cannot be deployed"),
        (vec![begun(), Err(gone)], 7, "not in contact"),
        (vec![begun()], 1, "diff"),
        (Vec::new(), 1, "begun"),
    ];
    for (answers, code, says) in cases {
        let (fake, file) = answering(answers).await;
        let ran = ctl(fake.home(), &["plan", "diff", file.to_str().unwrap()]).await;
        assert_eq!(ran.code, code, "{ran:?}");
        assert!(ran.out.contains(says) || ran.err.contains(says), "{says}: {ran:?}");
    }
    let (fake, _) = answering(Vec::new()).await;
    let ran = ctl(fake.home(), &["plan", "diff", "/no/such/file.xlsx"]).await;
    assert_eq!((ran.code, fake.state.lock().unwrap().orders.len()), (3, 0), "{ran:?}");
}
