//! The real steps at a second agent, after the first one was stopped at any event: one VM, one image that equals the
//! file, one installer, one CloudTower, whatever the first one had come to.

use std::collections::BTreeMap;

use futures_util::{StreamExt as _, stream};
use gantry_agent::{
    executor::Ended,
    facts::Facts,
    guest::installer::SUCCESS,
    journal::{Carried, Journal, OpenIntent, StartRecord},
    pipeline::Pipeline,
    steps::{
        configure_services::ConfigureServices, create_vm::CreateVm, finish::Finish, initial_setup::InitialSetup,
        install::Install, preflight::Preflight, upload_iso::UploadIso, verify_https::VerifyHttps,
    },
};
use gantry_proto::{Body, Event, JobOutcome, JobView, TakenOver};
use gantry_sim::guest::Stage;

use crate::{
    bench::start_record,
    site::{CLUSTER, CREATE, Ran, Refuses, Site, UPLOAD},
};

/// Runs at the first agent until it has told this many events, and stops there; what it told.
async fn first_agent(site: &Site, pipeline: Pipeline, until: u64) -> Ran {
    site.run_with(pipeline, async |strings| {
        while strings.log.journal().tail().last_seq < until {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
        strings.stop.cancel();
    })
    .await
}

/// From here on the site's agent is another one, with another disk and the ISO elsewhere; it takes the job over from what
/// these events say.
fn move_to_another_agent(site: &mut Site, events: &[Event], confirmed: bool, undo_only: bool) {
    let iso = site.iso();
    site.settings.iso_dir = site.settings.data_dir.with_file_name("elsewhere");
    site.settings.data_dir = site.settings.data_dir.with_file_name("second");
    std::fs::create_dir_all(&site.settings.iso_dir).unwrap();
    std::fs::copy(iso, site.iso()).unwrap();
    let view = JobView::of(events);
    let mut open_intents = BTreeMap::new();
    for event in events {
        match event.body.clone() {
            Body::Intent { step, id, call, detail } => drop(open_intents.insert(id, OpenIntent { step, call, detail })),
            Body::IntentOutcome { intent, .. } => drop(open_intents.remove(&intent)),
            _ => {}
        }
    }
    let intents = events.iter().filter_map(|event| match event.body {
        Body::Intent { id, .. } => Some(id),
        _ => None,
    });
    let carried = Carried {
        from: TakenOver { from: "a0".parse().unwrap(), by: "op".into(), confirmed },
        last_seq: view.last_seq,
        last_intent: intents.max().unwrap_or_default(),
        facts: view.facts,
        open_intents,
    };
    let (journal, _) = Journal::open(&site.job_dir()).unwrap();
    journal.start(StartRecord { carried: Some(Box::new(carried)), undo_only, ..start_record(2) }).unwrap();
}

/// Numbers of events after which the first agent may stop: at both ends of each step, and around everything that it makes
/// or finds.
fn points(events: &[Event]) -> Vec<u64> {
    let telling = |event: &&Event| {
        matches!(
            event.body,
            Body::StepStarted { .. }
                | Body::StepSucceeded { .. }
                | Body::Intent { .. }
                | Body::IntentOutcome { .. }
                | Body::Fact { .. }
        )
    };
    events.iter().filter(telling).map(|event| event.seq).collect()
}

/// Moves the job after each event of one of these steps, and checks what the second agent made of it.
async fn everywhere(
    pipeline: Pipeline,
    steps: &[&str],
    least: usize,
    site: impl AsyncFn() -> Site,
    check: impl Fn(&Site, &Ran, &Facts, &str),
) {
    let first = site().await;
    let whole = first.run(pipeline).await;
    whole.succeeded();
    first.sim.stop().await;
    let of_steps = |event: &Event| event.body.step().is_some_and(|step| steps.contains(&step.as_str()));
    let events: Vec<Event> = whole.events.into_iter().filter(of_steps).collect();
    let points = points(&events);
    assert!(points.len() >= least, "{} events are too few", points.len());
    let (site, check) = (&site, &check);
    let moves = points.into_iter().map(async |until| {
        let mut site = site().await;
        let before = first_agent(&site, pipeline, until).await;
        let last = before.events.last().map(|event| event.body.clone());
        let what = format!("after event {until}: {last:?}");
        if matches!(before.ended, Ended::Finished(_)) {
            // It was faster than the word: there is nothing to be taken over.
            site.sim.stop().await;
            return;
        }
        assert!(matches!(before.ended, Ended::Stopped), "{what}: {:?}", before.ended);
        move_to_another_agent(&mut site, &before.events, true, false);
        let ran = site.run(pipeline).await;
        assert!(
            matches!(ran.ended, Ended::Finished(JobOutcome::Succeeded)),
            "{what}: {:?} {:#?}",
            ran.ended,
            ran.view.failure
        );
        let from = before.view.last_seq + 1;
        assert!(ran.events.iter().zip(from..).all(|(event, seq)| event.seq == seq), "{what}");
        let facts = facts_of(&before.events, &ran.events);
        assert!(facts.leftovers.is_empty(), "{what}: {:?}", facts.leftovers);
        check(&site, &ran, &facts, &what);
        site.sim.stop().await;
    });
    stream::iter(moves).buffer_unordered(3).collect::<Vec<()>>().await;
}

/// What the controller's log says in the end: the events of both agents.
fn facts_of(first: &[Event], second: &[Event]) -> Facts {
    let all: Vec<Event> = first.iter().chain(second).cloned().collect();
    let facts = JobView::of(&all).facts.into_iter().collect();
    serde_json::from_value(serde_json::Value::Object(facts)).unwrap()
}

fn assert_one_vm(site: &Site, what: &str) {
    assert_eq!((site.vms(), site.images().len()), (1, 1), "{what}");
    assert_eq!(site.calls("POST", "/api/v2/vms").len(), 1, "{what}");
    site.assert_content();
    site.assert_invariants();
}

#[tokio::test]
async fn after_the_pre_checks_and_in_the_upload() {
    everywhere(UPLOAD, &["preflight", "upload-iso"], 10, Site::new, |site, _, facts, what| {
        assert_eq!(site.images().len(), 1, "{what}");
        site.assert_content();
        site.assert_invariants();
        let iso = facts.iso.as_ref().unwrap();
        assert!(iso.path.contains("elsewhere"), "{what}: {iso:?}");
        let list = std::fs::read_to_string(site.settings.data_dir.join("unfinished-volumes.json")).unwrap_or_default();
        assert!(list.is_empty() || list == "[]", "{what}: {list}");
    })
    .await;
}

#[tokio::test]
async fn between_any_two_chunks() {
    for chunks in 1..crate::site::CHUNKS as usize {
        let mut site = Site::new().await;
        let before = site
            .run_with(UPLOAD, async |strings| {
                while site.chunk_calls().len() < chunks {
                    tokio::time::sleep(std::time::Duration::from_millis(1)).await;
                }
                strings.stop.cancel();
            })
            .await;
        if matches!(before.ended, Ended::Finished(_)) {
            continue;
        }
        move_to_another_agent(&mut site, &before.events, true, false);
        site.run(UPLOAD).await.succeeded();
        assert_eq!(site.images().len(), 1, "after {chunks} chunks");
        site.assert_content();
        site.assert_invariants();
    }
}

#[tokio::test]
async fn another_iso_at_the_second_agent_is_uploaded_and_the_first_ones_volume_is_not_mixed_with_it() {
    let mut site = Site::new().await;
    let before = site
        .run_with(UPLOAD, async |strings| {
            while site.chunk_calls().len() < 2 {
                tokio::time::sleep(std::time::Duration::from_millis(1)).await;
            }
            strings.stop.cancel();
        })
        .await;
    assert!(matches!(before.ended, Ended::Stopped));
    move_to_another_agent(&mut site, &before.events, true, false);
    gantry_sim::iso::Iso::new(7 * crate::site::CHUNK + 3).seed(9).write(&site.iso()).unwrap();
    site.run(UPLOAD).await.succeeded();
    site.assert_content();
    assert_eq!(site.images().len(), 1);
}

#[tokio::test]
async fn in_the_creation_of_the_vm() {
    everywhere(CREATE, &["create-vm"], 8, Site::new, |site, _, _, what| assert_one_vm(site, what)).await;
}

#[tokio::test]
async fn in_the_wait_for_the_guest_and_its_network() {
    everywhere(CLUSTER, &["wait-guest-agent", "configure-network"], 8, Site::new, |site, _, facts, what| {
        assert_one_vm(site, what);
        assert!(facts.vm.as_ref().is_some_and(|vm| vm.network_done && vm.mac.is_some()), "{what}");
    })
    .await;
}

#[tokio::test]
async fn in_the_installation() {
    const INSTALL: Pipeline = &[&Install];
    let inside = async || Site::inside(INSTALL, false).await;
    everywhere(INSTALL, &["install"], 12, inside, |site, ran, facts, what| {
        let guest = site.guest();
        assert_eq!((guest.stage, guest.deploys, guest.refused_deploys), (Stage::Installed, 1, 0), "{what}");
        assert_eq!(guest.preinstalls, 1, "{what}");
        let installer = facts.installer.clone().unwrap();
        assert!(installer.finished && installer.starts == 1, "{what}: {installer:?}");
        // Where this agent has followed the installer, it has the whole log.
        if ran.notes("installer_succeeded").len() == 1 {
            let log = site.job_dir().join("logs").join(installer.local_log.unwrap());
            let log = std::fs::read_to_string(log).unwrap();
            assert_eq!(log.matches(SUCCESS).count(), 1, "{what}: {log}");
        }
    })
    .await;
}

#[tokio::test]
async fn in_the_set_up_of_cloudtower() {
    const TOWER: Pipeline = &[&VerifyHttps, &InitialSetup, &ConfigureServices, &Finish];
    let steps = ["verify-https", "initial-setup", "configure-services", "finish"];
    let inside = async || Site::inside(TOWER, true).await;
    everywhere(TOWER, &steps, 15, inside, |site, _, facts, what| {
        let tower = site.tower();
        let organizations: Vec<&str> = tower.organizations.iter().map(|found| found.name.as_str()).collect();
        assert_eq!((tower.users.len(), organizations), (1, vec!["Example Org"]), "{what}");
        assert_eq!(tower.ntp, ["192.0.2.2"], "{what}");
        assert!(facts.license.is_some() && facts.tower_pin.is_some(), "{what}");
    })
    .await;
}

// --- an agent that could not tell everything ---

/// The events up to the one that makes this true.
fn up_to(events: &[Event], last: impl Fn(&Body) -> bool) -> Vec<Event> {
    let end = events.iter().position(|event| last(&event.body)).expect("there is no such event");
    events[..=end].to_vec()
}

fn succeeded(step: &'static str) -> impl Fn(&Body) -> bool {
    move |body| matches!(body, Body::StepSucceeded { step: id, .. } if id.as_str() == step)
}

/// A first agent that has come to the VM's address, while the controller has heard of the upload only.
async fn unheard_of() -> (Site, Vec<Event>) {
    let site = Site::new().await;
    let whole = site.run(CLUSTER).await;
    whole.succeeded();
    (site, up_to(&whole.events, succeeded("upload-iso")))
}

#[tokio::test]
async fn a_vm_that_no_fact_tells_of_is_found_by_its_mark() {
    let (mut site, events) = unheard_of().await;
    move_to_another_agent(&mut site, &events, false, false);
    site.run(CLUSTER).await.succeeded();
    assert_one_vm(&site, "");
}

#[tokio::test]
async fn a_vm_that_no_fact_tells_of_is_removed_by_its_mark() {
    let (mut site, events) = unheard_of().await;
    move_to_another_agent(&mut site, &events, false, true);
    let ran = site.run(CLUSTER).await;
    assert!(matches!(ran.ended, Ended::Finished(JobOutcome::Cancelled)), "{:?}", ran.ended);
    assert_eq!((site.vms(), ran.view.leftovers.len()), (0, 0), "{:?}", ran.view.leftovers);
    site.assert_content();
}

#[tokio::test]
async fn a_volume_that_no_fact_tells_of_is_never_taken_for_an_image() {
    for list in ["hidden", "listed_without_md5", "listed_with_partial_md5"] {
        let mut site = Site::new().await;
        site.modes(serde_json::json!({"unfinished": list}));
        let before = site
            .run_with(UPLOAD, async |strings| {
                while site.chunk_calls().len() < 2 {
                    tokio::time::sleep(std::time::Duration::from_millis(1)).await;
                }
                strings.stop.cancel();
            })
            .await;
        assert!(matches!(before.ended, Ended::Stopped));
        let events = up_to(&before.events, succeeded("preflight"));
        move_to_another_agent(&mut site, &events, false, false);
        site.run(UPLOAD).await.succeeded();
        site.assert_content();
    }
}

#[tokio::test]
async fn a_job_that_fails_early_at_the_second_agent_leaves_nothing_of_the_first_one() {
    const REFUSED: Pipeline = &[&Preflight, &Refuses, &UploadIso, &CreateVm];
    let (mut site, _) = unheard_of().await;
    let whole = site.told().await;
    move_to_another_agent(&mut site, &whole.events, true, false);
    let ran = site.run(REFUSED).await;
    assert_eq!(ran.code(), "refused");
    assert_eq!((site.vms(), ran.view.leftovers.len()), (0, 0), "{:?}", ran.view.leftovers);
    site.assert_content();
    site.assert_invariants();
}

#[tokio::test]
async fn an_upload_that_nobody_told_of_is_listed_by_an_agent_that_fails_before_it_looks_for_it() {
    const REFUSED: Pipeline = &[&Preflight, &Refuses, &UploadIso, &CreateVm];
    let mut site = Site::new().await;
    let before = site
        .run_with(UPLOAD, async |strings| {
            while site.chunk_calls().len() < 2 {
                tokio::time::sleep(std::time::Duration::from_millis(1)).await;
            }
            strings.stop.cancel();
        })
        .await;
    assert!(matches!(before.ended, Ended::Stopped));
    let left = site.images();
    assert!(left.len() == 1 && !left[0].1, "{left:?}");
    let events = up_to(&before.events, succeeded("preflight"));
    move_to_another_agent(&mut site, &events, false, false);
    let ran = site.run(REFUSED).await;
    assert_eq!(ran.code(), "refused");
    let listed: Vec<&str> = ran.view.leftovers.iter().map(|left| left.id.as_str()).collect();
    assert_eq!(listed, [left[0].0.as_str()]);
}
