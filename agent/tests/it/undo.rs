//! Undo of the real steps: twice is the same as once, and evidence comes before anything is removed.

use std::{collections::BTreeMap, time::Duration};

use gantry_agent::{
    executor::Ended,
    facts::VmFact,
    journal::CancelRecord,
    pipeline::{PIPELINE, Pipeline},
    step::StepCx,
    steps::{
        configure_network::ConfigureNetwork, create_vm::CreateVm, install::Install, preflight::Preflight,
        upload_iso::UploadIso, wait_guest_agent::WaitGuestAgent,
    },
};
use gantry_proto::{Body, JobOutcome, REDACTED, UndoState};
use gantry_sim::fault::{Action, Face, Match, When};
use tokio_util::sync::CancellationToken;

use crate::{
    inside::ROOT_PASSWORD,
    site::{Ran, Site, fault},
};

const INSTALLING: Pipeline = &[&Preflight, &UploadIso, &CreateVm, &WaitGuestAgent, &ConfigureNetwork, &Install];

#[tokio::test]
async fn every_step_may_be_undone_twice() {
    let mut site = Site::quick(|_| {}).await;
    site.plan.dns_servers = vec!["192.0.2.53".parse().unwrap()];
    let ran = site.run(PIPELINE).await;
    ran.succeeded();
    let mut facts = ran.facts;
    let (job, _strings) = site.take_up();
    // The last event of the job has been told: its undo needs a journal of its own.
    site.id = gantry_proto::JobId::new();
    let (log, _more) = site.take_up();
    for step in PIPELINE.iter().rev() {
        let id = step.info().id;
        let cx = StepCx {
            job: job.id,
            step: id.clone(),
            plan: job.plan.clone(),
            secrets: job.secrets.clone(),
            settings: job.settings.clone(),
            redactor: job.redactor.clone(),
            outside: job.outside.clone(),
            log: log.log.clone(),
            cancel: CancellationToken::new(),
        };
        let first = step.undo(&cx, &mut facts).await.unwrap();
        assert_eq!(first.len(), usize::from(id.as_str() == "create-vm"), "{id}: {first:?}");
        let (known, changes) = (facts.clone(), changes(&site));
        assert_eq!(step.undo(&cx, &mut facts).await.unwrap(), Vec::<String>::new(), "{id}");
        assert_eq!((&facts, self::changes(&site)), (&known, changes), "{id}: the second undo does nothing");
    }
    assert!(facts.vm.is_none() && facts.leftovers.is_empty(), "{:?}", facts.leftovers);
    assert_eq!((site.vms(), site.images().len()), (0, 1), "a complete image stays");
    site.assert_invariants();
}

/// Calls so far that change something.
fn changes(site: &Site) -> usize {
    site.core().transcript.filter(|entry| entry.face == Face::Fisheye && entry.method != "GET").len()
}

/// A job that is cancelled while the installer runs and its log is about to be read.
async fn cancelled_while_installing(site: &Site, hanging_reads: Option<u64>) -> Ran {
    let read = Match { face: Some(Face::Ssh), command: Some("read-log".into()), ..Match::default() };
    let hang = fault("hang", read, When::Before, Action::Hang);
    site.arm(if let Some(times) = hanging_reads { hang.times(times) } else { hang });
    site.run_with(INSTALLING, |strings| async move {
        while site.fired("hang") == 0 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        let record = CancelRecord { order: 2, epoch: 1, by: "op".into(), reason: String::new() };
        strings.log.request_cancel(record);
        strings.log.tell_cancel().await.unwrap();
        strings.cancel.cancel();
        std::future::pending::<()>().await;
    })
    .await
}

async fn installing() -> Site {
    let mut site = Site::quick(|options| options.guest.installer_s = 20_000).await;
    // Time for an SSH command of a debug build within a quarter of it.
    site.settings.timing.undo_limit_s = 60_000.0;
    site.plan.deployment.vm_description = format!("a careless {ROOT_PASSWORD} word");
    site
}

/// Files of the evidence and their texts.
fn evidence(site: &Site) -> BTreeMap<String, String> {
    let files = std::fs::read_dir(site.job_dir().join("evidence")).unwrap().flatten();
    files.map(|file| (file.file_name().into_string().unwrap(), std::fs::read_to_string(file.path()).unwrap())).collect()
}

fn assert_cancelled(site: &Site, ran: &Ran) {
    assert!(matches!(ran.ended, Ended::Finished(JobOutcome::Cancelled)), "{:?}", ran.ended);
    assert_eq!((site.vms(), ran.view.undo), (0, Some(UndoState::RolledBack)), "{:?}", ran.view.leftovers);
    site.assert_invariants();
}

#[tokio::test]
async fn evidence_is_kept_before_anything_is_removed() {
    let site = installing().await;
    let ran = cancelled_while_installing(&site, Some(1)).await;
    assert_cancelled(&site, &ran);
    // The facts have forgotten it by now; the log has not.
    let known = ran.events.iter().rev().find_map(|event| match &event.body {
        Body::Fact { key, value: Some(vm), .. } if key == "vm" => serde_json::from_value::<VmFact>(vm.clone()).ok(),
        _ => None,
    });
    let vm = known.unwrap();
    let (uuid, files) = (vm.uuid.unwrap(), evidence(&site));
    let told: serde_json::Value = serde_json::from_str(&files[&format!("vm-{uuid}.json")]).unwrap();
    let description = told["description"].as_str().unwrap();
    assert!(told["uuid"] == uuid.as_str() && description.contains(&vm.mark), "{told}");
    assert!(description.contains(REDACTED) && !files.values().any(|text| text.contains(ROOT_PASSWORD)), "{told}");
    assert!(files.contains_key(&format!("job-{}.json", vm.job_id.unwrap())), "{:?}", files.keys());
    assert!(files["installer.log"].lines().count() >= 1, "{:?}", files["installer.log"]);

    let at = |wanted: fn(&Body) -> bool| ran.events.iter().position(|event| wanted(&event.body));
    let kept = |body: &Body| matches!(body, Body::Note { code, .. } if code == "evidence_saved");
    let removing = at(|body| matches!(body, Body::Intent { call, .. } if call == "stop_vm" || call == "delete_vm"));
    let last = ran.events.iter().rposition(|event| kept(&event.body));
    assert!(last.unwrap() < removing.unwrap());
    let named = |event: &gantry_proto::Event| match &event.body {
        Body::Note { code, extra, .. } if code == "evidence_saved" => {
            serde_json::from_value(extra["files"].clone()).ok()
        }
        _ => None,
    };
    let named: Vec<Vec<String>> = ran.events.iter().filter_map(named).collect();
    let mut named = named.concat();
    named.sort();
    assert_eq!(named, files.keys().map(|name| format!("evidence/{name}")).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_silent_guest_or_cluster_does_not_hinder_the_undo() {
    let mut site = installing().await;
    site.settings.timing.undo_limit_s = 4_000.0;
    let ran = cancelled_while_installing(&site, None).await;
    assert_cancelled(&site, &ran);
    let files = evidence(&site);
    assert!(files.len() == 2 && !files.contains_key("installer.log"), "{:?}", files.keys());
}

#[tokio::test]
async fn evidence_that_cannot_be_had_is_missing_and_nothing_else() {
    let site = installing().await;
    // Where a directory is wanted there is a file.
    std::fs::create_dir_all(site.job_dir()).unwrap();
    std::fs::write(site.job_dir().join("evidence"), "in the way").unwrap();
    let ran = cancelled_while_installing(&site, Some(1)).await;
    assert_cancelled(&site, &ran);
    assert_eq!(ran.notes("evidence_saved"), Vec::<String>::new());
}
