//! The cluster's steps, from the pre-checks to the VM's address, against every fault of `simulator-behaviours.md` 5.1
//! and 5.5.

use std::time::Duration;

use gantry_agent::executor::Ended;
use gantry_proto::{JobOutcome, UndoState};
use gantry_sim::{
    fault::{Action, Fault, JobFault, Match, When, WorldAction},
    iso::Iso,
};
use serde_json::json;

use crate::decide::{decide, question};
use crate::site::{CHUNK, CLUSTER, CREATE, ISO_NAME, Ran, Site, Strings, UPLOAD, fault};

fn create() -> Match {
    Match::fisheye("POST", "/api/v2/vms")
}

fn network() -> Match {
    Match::fisheye("PUT", "/api/v2/vms/*")
}

fn job(name: &str, what: JobFault) -> Fault {
    fault("job", Match::job(name), When::Before, Action::Job(what))
}

/// One VM, all right with the world.
fn assert_made(site: &Site, ran: &Ran) {
    ran.succeeded();
    assert_eq!(site.vms(), 1);
    assert!(ran.facts.leftovers.is_empty(), "{:?}", ran.facts.leftovers);
    site.assert_invariants();
}

/// Failed; no VM is left, the image is kept.
fn assert_rolled_back(site: &Site, ran: &Ran) -> String {
    let code = ran.code();
    assert_eq!((site.vms(), ran.view.undo), (0, Some(UndoState::RolledBack)), "{:#?}", ran.view.leftovers);
    site.assert_content();
    site.assert_invariants();
    code
}

#[tokio::test]
async fn the_cluster_does_its_part() {
    let site = Site::new().await;
    let ran = site.run(CLUSTER).await;
    assert_made(&site, &ran);
    let vm = ran.facts.vm.clone().unwrap();
    assert!(vm.network_done && vm.mac.is_some() && vm.mark.contains(&site.id.to_string()));
    assert_eq!(vm.guest_agent_state.as_deref(), Some("Running"));
    assert_eq!(ran.facts.fisheye_pins.len(), 4, "VIP and hosts are pinned");
    for phase in ["upload_s", "vm_create_s", "guest_agent_s"] {
        assert!(ran.facts.timings[phase] > 0.0, "{phase}");
    }
    assert!(ran.notes("job_state").len() >= 2);
    let payload = site.calls("POST", "/api/v2/vms").pop().unwrap().body.unwrap();
    assert_eq!((&payload["vcpu"], &payload["memory"]), (&json!(8), &json!(19u64 << 30)));
    assert_eq!((&payload["disks"][0]["type"], &payload["disks"][1]["type"]), (&json!("disk"), &json!("cdrom")));
    assert_eq!(site.logins(), 1);
}

#[tokio::test]
async fn every_answer_of_the_cluster_may_look_different() {
    for patch in [
        json!({"vm_visible": "at_once", "create_answer": "job_and_vm", "job_resources": "vm_only"}),
        json!({"vm_visible": "at_done", "job_resources": "empty"}),
        json!({"vm_visible": "late", "job_resources": "two_vms"}),
        json!({"vlans_shape": "array", "vlan_id": "string"}),
        json!({"agent_word": "RUNNING", "not_installed_word": false}),
        json!({"agent_word": "running", "agent_flaps": true}),
        json!({"no_host_list": true}),
        json!({"host_usage": true, "null_error": true}),
        json!({"first_page": "zero", "list_total": "zero"}),
        json!({"no_image_path": true}),
    ] {
        let site = Site::new().await;
        site.modes(patch.clone());
        let ran = site.run(CLUSTER).await;
        assert!(matches!(ran.ended, Ended::Finished(JobOutcome::Succeeded)), "{patch}: {:#?}", ran.view.failure);
        assert_made(&site, &ran);
    }
}

#[tokio::test]
async fn job_words_of_every_spelling_end_a_job() {
    for words in ["done_failed", "success_error", "succeed_aborted", "finished_failed", "shouting"] {
        let site = Site::new().await;
        site.modes(json!({"job_words": words}));
        assert_made(&site, &site.run(CREATE).await);
        let site = Site::new().await;
        site.modes(json!({"job_words": words}));
        site.arm(job("VM_CREATE", JobFault::Fail { code: "X".into(), message: "y".into(), follower_first: false }));
        assert_eq!((site.run(CREATE).await.code().as_str(), site.vms()), ("vm_create_failed", 0), "{words}");
    }
}

#[tokio::test]
async fn an_unknown_job_word_means_running() {
    // Long enough at work to be looked at, however busy the machine is.
    let site = Site::with(|options| {
        options.latencies.factor = 1.0;
        options.latencies.vm_create_job = [600_000, 600_000];
    })
    .await;
    site.modes(json!({"job_words": "weird"}));
    let ran = site.run(CREATE).await;
    assert_made(&site, &ran);
    assert!(ran.notes("job_state").iter().any(|note| note.contains("weird")), "{:?}", ran.notes("job_state"));
}

#[tokio::test]
async fn a_lost_answer_to_the_creation_makes_one_vm() {
    for visible in ["at_once", "late", "at_done"] {
        let site = Site::new().await;
        site.modes(json!({"vm_visible": visible}));
        site.arm(fault("lost", create(), When::After, Action::reset()).times(1));
        let ran = site.run(CREATE).await;
        assert_made(&site, &ran);
        assert_eq!(site.fired("lost"), 1, "{visible}");
    }
    for when in [When::Before, When::After] {
        let site = Site::new().await;
        site.arm(fault("lost", create(), when, Action::status(500)).times(1));
        assert_made(&site, &site.run(CREATE).await);
    }
    let site = Site::new().await;
    site.arm(fault("lost", create(), When::Before, Action::reset()).times(1));
    assert_made(&site, &site.run(CREATE).await);
    assert_eq!(site.calls("POST", "/api/v2/vms").len(), 2);
}

#[tokio::test]
async fn the_creation_is_tried_four_times_in_all() {
    let site = Site::new().await;
    site.arm(fault("f", create(), When::Before, Action::status(500)).times(3));
    assert_made(&site, &site.run(CREATE).await);
    let site = Site::new().await;
    site.arm(fault("f", create(), When::Before, Action::status(500)));
    let ran = site.run(CREATE).await;
    // Nothing had been made but the image, which stays.
    assert_eq!((ran.code().as_str(), site.vms(), site.fired("f")), ("fisheye_unavailable", 0, 4));
    site.assert_content();
    site.assert_invariants();
}

#[tokio::test]
async fn a_refused_form_is_not_sent_again() {
    let site = Site::new().await;
    let refusal = json!({"ec": "REST_FORM_ERROR", "data": {}, "error": {"msg": "vcpu"}});
    site.arm(fault("f", create(), When::Before, Action::json(400, refusal)));
    let ran = site.run(CREATE).await;
    assert_eq!((ran.code().as_str(), site.fired("f")), ("fisheye_refused", 1));
}

#[tokio::test]
async fn a_foreign_vm_of_our_name_is_a_conflict_and_stays() {
    let planted = || serde_json::from_value(json!({"name": "cloudtower", "description": "deployment=other"})).unwrap();
    let site = Site::with(|options| options.vms = vec![planted()]).await;
    let ran = site.run(CREATE).await;
    assert_eq!(ran.code(), "vm_name_taken");
    assert_eq!((site.vms(), site.chunk_calls().len()), (0, 0));
    site.assert_invariants();
}

#[tokio::test]
async fn a_duplicate_name_that_is_ours_is_adopted() {
    for mode in ["refuse_at_call", "refuse_in_job", "allow"] {
        let site = Site::new().await;
        // The answer is lost, and the VM is hidden from the looks that follow.
        site.modes(json!({"duplicate": mode, "vm_visible": "late"}));
        site.arm(fault("lost", create(), When::After, Action::reset()).times(1));
        let ran = site.run(CREATE).await;
        assert_made(&site, &ran);
    }
}

#[tokio::test]
async fn a_job_that_fails_for_good_names_the_primary_code() {
    let site = Site::new().await;
    site.arm(job(
        "VM_CREATE",
        JobFault::Fail { code: "HostAvailableMemoryFilter".into(), message: "No host".into(), follower_first: true },
    ));
    let ran = site.run(CREATE).await;
    assert_eq!(ran.code(), "vm_create_failed");
    assert!(ran.failure().message.contains("HostAvailableMemoryFilter"), "{}", ran.failure().message);
    assert_eq!((site.fired("job"), site.vms()), (1, 0));
    site.assert_invariants();
}

#[tokio::test]
async fn a_job_that_fails_otherwise_is_tried_again() {
    let fail = || JobFault::Fail { code: "SOMETHING".into(), message: "x".into(), follower_first: false };
    let site = Site::new().await;
    site.arm(job("VM_CREATE", fail()).times(2));
    assert_made(&site, &site.run(CREATE).await);
    let site = Site::new().await;
    site.arm(job("VM_CREATE", fail()));
    let ran = site.run(CREATE).await;
    assert_eq!((ran.code().as_str(), site.fired("job")), ("vm_create_failed", 4));
    assert_eq!(site.vms(), 0);
}

#[tokio::test]
async fn a_stuck_job_ends_at_its_deadline_and_is_named() {
    for state in ["pending", "processing"] {
        let mut site = Site::new().await;
        site.settings.timing.job_limit_s = 100.0;
        site.arm(job("VM_CREATE", JobFault::Stuck { state: state.into() }));
        let ran = site.run(CREATE).await;
        assert_eq!((ran.code().as_str(), site.vms()), ("vm_create_timeout", 0));
        assert_eq!(ran.view.leftovers.len(), 1, "a queued job may still make a VM");
    }
}

#[tokio::test]
async fn a_forgotten_job_is_judged_by_the_vm() {
    for unknown in ["not_found404", "ec_error"] {
        let site = Site::new().await;
        site.modes(json!({"unknown_job": unknown}));
        site.arm(job("VM_CREATE", JobFault::Forgotten).times(1));
        assert_made(&site, &site.run(CREATE).await);
        let site = Site::new().await;
        site.modes(json!({"unknown_job": unknown}));
        site.arm(job("VM_CREATE", JobFault::NoEffect).times(1));
        assert_made(&site, &site.run(CREATE).await);
    }
}

#[tokio::test]
async fn our_vm_is_found_behind_many_others() {
    let site = Site::with(|options| {
        options.vms = vec![serde_json::from_value(json!({"name": "vm", "count": 220, "running": false})).unwrap()];
    })
    .await;
    site.arm(fault("lost", create(), When::After, Action::reset()).times(1));
    assert_made(&site, &site.run(CREATE).await);
}

#[tokio::test]
async fn a_stock_iso_never_brings_an_agent_and_the_failure_says_so() {
    let mut site = Site::new().await;
    site.settings.timing.guest_agent_limit_s = 1_200.0;
    site.modes(json!({"guest_tools": "absent"}));
    let ran = site.run(CLUSTER).await;
    assert_eq!(assert_rolled_back(&site, &ran), "guest_agent_timeout");
    let message = ran.failure().message;
    assert!(
        message.contains("guest tools") && message.contains("boot from the CD") && message.contains("input"),
        "{message}"
    );
}

#[tokio::test]
async fn guest_info_of_any_kind_is_not_ready_and_no_crash() {
    for kind in ["always_null", "missing", "wrong_type"] {
        let mut site = Site::new().await;
        site.settings.timing.guest_agent_limit_s = 200.0;
        site.modes(json!({"guest_info": kind}));
        assert_eq!(assert_rolled_back(&site, &site.run(CLUSTER).await), "guest_agent_timeout", "{kind}");
    }
}

#[tokio::test]
async fn a_vm_that_loses_power_is_started_once() {
    let site = Site::new().await;
    site.modes(json!({"power_off_during_install": 1}));
    let ran = site.run(CLUSTER).await;
    assert_made(&site, &ran);
    assert_eq!(ran.notes("vm_started_again").len(), 1);
    let site = Site::new().await;
    site.modes(json!({"power_off_during_install": 2}));
    assert_eq!(assert_rolled_back(&site, &site.run(CLUSTER).await), "vm_powered_off");
}

#[tokio::test]
async fn a_vm_that_somebody_deletes_is_a_clear_failure() {
    let site = Site::new().await;
    let detail = Match::fisheye("GET", "/api/v2/vms/*");
    let gone = Action::World(WorldAction::DeleteVm { vm: "cloudtower".into() });
    site.arm(fault("gone", detail, When::Before, gone).skip(8).times(1));
    let ran = site.run(CLUSTER).await;
    assert_eq!((ran.code().as_str(), site.vms()), ("vm_gone", 0));
    site.assert_content();
}

#[tokio::test]
async fn a_vm_without_network_card_fails_within_bounds() {
    for nics in ["none", "no_mac"] {
        let site = Site::new().await;
        site.modes(json!({"nics": nics}));
        assert_eq!(assert_rolled_back(&site, &site.run(CLUSTER).await), "nic_missing", "{nics}");
    }
}

#[tokio::test]
async fn the_network_push_is_tried_again_while_the_guest_tools_fail() {
    let svt = || JobFault::Fail { code: "SVT_EXEC_FAILED".into(), message: "agent".into(), follower_first: false };
    let site = Site::new().await;
    site.arm(job("VM_UPDATE", svt()).times(1));
    let ran = site.run(CLUSTER).await;
    assert_made(&site, &ran);
    let names: Vec<_> = site.core().faults.list().iter().map(|armed| armed.fired).collect();
    assert_eq!((names, ran.notes("network_retry").len()), (vec![1], 1));
    let site = Site::new().await;
    site.arm(job("VM_UPDATE", svt()));
    assert_eq!(assert_rolled_back(&site, &site.run(CLUSTER).await), "network_failed");
    assert_eq!(site.fired("job"), 4);
}

#[tokio::test]
async fn a_lost_answer_to_the_network_push_is_looked_up() {
    for (when, pushes) in [(When::After, 1), (When::Before, 2)] {
        let site = Site::new().await;
        site.arm(fault("lost", network(), when, Action::reset()).times(1));
        let ran = site.run(CLUSTER).await;
        assert_made(&site, &ran);
        let sent = site.core().transcript.filter(|entry| entry.method == "PUT").len();
        assert_eq!((site.fired("lost"), sent), (1, pushes));
    }
}

#[tokio::test]
async fn an_address_that_never_shows_is_a_warning_when_ssh_answers_there() {
    let site = Site::with(|options| options.latencies.ssh_open = [0, 0]).await;
    site.modes(json!({"guest_shows_address": false}));
    let ran = site.run(CLUSTER).await;
    assert_made(&site, &ran);
    assert_eq!(ran.notes("network_not_shown").len(), 1);

    let mut site = Site::with(|options| options.latencies.ssh_open = [0, 0]).await;
    site.settings.guest.ssh_port = 1;
    site.modes(json!({"guest_shows_address": false}));
    assert_eq!(assert_rolled_back(&site, &site.run(CLUSTER).await), "network_not_seen");
}

#[tokio::test]
async fn a_cancel_while_waiting_for_the_agent_deletes_the_vm_and_keeps_the_image() {
    let site = Site::new().await;
    let ran = cancel_at(&site, "guest_agent").await;
    assert!(matches!(ran.ended, Ended::Finished(JobOutcome::Cancelled)), "{:?}", ran.ended);
    assert_eq!((site.vms(), ran.view.undo), (0, Some(UndoState::RolledBack)));
    site.assert_content();
    site.assert_invariants();
}

#[tokio::test]
async fn a_cancel_in_any_step_leaves_nothing_but_a_complete_image() {
    for (mark, vm) in [("check", false), ("upload_volume", false), ("vm_create", true), ("network", true)] {
        let site = Site::new().await;
        let ran = cancel_at(&site, mark).await;
        assert!(matches!(ran.ended, Ended::Finished(JobOutcome::Cancelled)), "{mark} {:?}", ran.ended);
        assert_eq!(site.vms(), 0, "{mark}");
        assert!(ran.view.leftovers.is_empty(), "{mark}: {:?}", ran.view.leftovers);
        assert!(site.images().iter().all(|(_, complete)| *complete), "{mark}");
        assert_eq!(site.images().len(), usize::from(vm), "{mark}");
        site.assert_invariants();
    }
}

#[tokio::test]
async fn a_restart_at_any_note_ends_with_one_vm() {
    for mark in ["upload_volume", "image_complete", "resolve", "vm_create", "job_state", "guest_agent", "network"] {
        let site = Site::new().await;
        let first = stop_at(&site, mark).await;
        assert!(matches!(first.ended, Ended::Stopped), "{mark} {:?}", first.ended);
        let ran = site.run(CLUSTER).await;
        assert_made(&site, &ran);
        assert_eq!(site.images().len(), 1, "{mark}");
        assert_eq!(site.calls("POST", "/api/v2/vms").len(), 1, "{mark}");
    }
}

#[tokio::test]
async fn what_cannot_be_deleted_is_tried_by_force_and_listed() {
    let fail =
        |name: &str| job(name, JobFault::Fail { code: "X".into(), message: String::new(), follower_first: false });
    let broken = |site: &Site| {
        site.modes(json!({"nics": "none"}));
    };
    let site = Site::new().await;
    broken(&site);
    site.arm(fail("VM_DELETE"));
    let ran = site.run(CLUSTER).await;
    assert_eq!((site.vms(), ran.view.undo), (1, Some(UndoState::RollbackIncomplete)));
    assert_eq!((ran.view.leftovers[0].kind.as_str(), site.fired("job")), ("vm", 3));

    let site = Site::new().await;
    broken(&site);
    site.arm(fail("VM_DELETE").times(2));
    assert_rolled_back(&site, &site.run(CLUSTER).await);

    let site = Site::new().await;
    broken(&site);
    site.arm(fault("lost", Match::fisheye("DELETE", "/api/v2/vms/*"), When::After, Action::reset()).times(1));
    site.arm(fault("stop", Match::fisheye("POST", "/api/v2/vms/*/stop"), When::After, Action::reset()).times(1));
    assert_rolled_back(&site, &site.run(CLUSTER).await);
    assert_eq!((site.fired("lost"), site.fired("stop")), (1, 1));

    let site = Site::new().await;
    broken(&site);
    site.modes(json!({"delete_volumes": "always_orphan"}));
    let ran = site.run(CLUSTER).await;
    assert_eq!((site.vms(), ran.view.leftovers.len()), (0, 1));
    assert_eq!(ran.view.leftovers[0].kind, "volume");
}

/// A cluster on which a lost answer has made two VMs of the job.
async fn twins() -> Site {
    let planted = || serde_json::from_value(json!({"name": "cloudtower"})).unwrap();
    let site = Site::with(|options| options.vms = vec![planted(), planted()]).await;
    for vm in site.core().world().vms.values_mut() {
        vm.description = format!("deployment={}", site.id);
    }
    site
}

#[tokio::test]
async fn a_second_vm_goes_without_a_word_about_the_disk_of_the_first() {
    let site = twins().await;
    let ran = site.run(CREATE).await;
    ran.succeeded();
    assert!(ran.facts.leftovers.is_empty(), "{:?}", ran.facts.leftovers);
    let vm = ran.facts.vm.unwrap();
    let world = site.core().world();
    assert_eq!((world.vms.len(), vm.volumes.len()), (1, 1));
    assert!(world.vms.contains_key(&vm.uuid.unwrap()) && world.volumes.contains_key(&vm.volumes[0]));
}

#[tokio::test]
async fn an_orphan_is_a_leftover_and_a_volume_that_another_vm_uses_is_none() {
    for used in [false, true] {
        let site = twins().await;
        site.modes(json!({"delete_volumes": "always_orphan"}));
        let volumes: Vec<_> = site.core().world().volumes.keys().cloned().collect();
        let entry = |uuid: &String| {
            let by = if used { json!([{"vm_uuid": "other", "vm_name": "other"}]) } else { json!([]) };
            json!({"uuid": uuid, "name": "d", "mounting_vm_list": by})
        };
        let list = json!({"ec": "EOK", "error": {}, "data": {
            "entities": volumes.iter().map(entry).collect::<Vec<_>>(), "total_entities": volumes.len(),
        }});
        site.arm(fault("list", Match::fisheye("GET", "/api/v2/volumes"), When::Before, Action::json(200, list)));
        let ran = site.run(CREATE).await;
        ran.succeeded();
        assert!(site.fired("list") > 0);
        let told: Vec<_> = ran.facts.leftovers.iter().map(|leftover| leftover.id.clone()).collect();
        let mut expected = volumes;
        expected.retain(|uuid| !used && !ran.facts.vm.as_ref().unwrap().volumes.contains(uuid));
        assert_eq!(told, expected, "used: {used}");
    }
}

#[tokio::test]
async fn what_a_later_undo_removes_is_no_leftover_any_more() {
    let site = twins().await;
    let fail = || Action::Job(JobFault::Fail { code: "X".into(), message: String::new(), follower_first: false });
    let attempts = u64::from(site.settings.timing.undo_attempts);
    site.arm(fault("delete", Match::job("VM_DELETE"), When::Before, fail()).times(attempts));
    site.arm(fault("update", Match::job("VM_UPDATE"), When::Before, fail()));
    let ran = site.run(CLUSTER).await;
    assert_eq!((ran.code().as_str(), site.fired("delete")), ("network_failed", attempts));
    assert_eq!(ran.notes("surplus_vm").len(), 2, "it could not be removed at first");
    assert_eq!((ran.view.undo, site.core().world().vms.len()), (Some(UndoState::RolledBack), 0));
    assert!(ran.view.leftovers.is_empty(), "{:?}", ran.view.leftovers);
}

#[tokio::test]
async fn a_vm_that_may_be_there_is_listed_when_the_undo_cannot_look() {
    let site = Site::new().await;
    site.arm(fault("hang", create(), When::After, Action::Hang));
    let site_ref = &site;
    let ran = site
        .run_with(CREATE, |strings| async move {
            while site_ref.fired("hang") == 0 {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            let list = Match::fisheye("GET", "/api/v2/vms");
            site_ref.arm(fault("down", list, When::Before, Action::status(503)));
            let question = question(strings.log.journal()).await;
            decide(&strings.log, question, "undo").await;
        })
        .await;
    assert_eq!(ran.code(), "outcome_unknown");
    assert_eq!(ran.view.undo, Some(UndoState::RollbackIncomplete));
    let [leftover] = ran.view.leftovers.as_slice() else { panic!("{:?}", ran.view.leftovers) };
    assert_eq!((leftover.kind.as_str(), leftover.id.as_str(), leftover.name.as_str()), ("vm", "", "cloudtower"));
    assert!(leftover.remedy.starts_with("look ") && leftover.remedy.contains(&site.id.to_string()));
}

#[tokio::test]
async fn a_creation_that_was_refused_leaves_nothing_to_look_for() {
    let refused = || Action::json(400, json!({"ec": "REST_FORM_ERROR", "data": {}, "error": {"msg": "vcpu"}}));
    let mut site = Site::new().await;
    site.keep = true;
    site.arm(fault("f", create(), When::Before, refused()));
    let ran = site.run(CREATE).await;
    assert_eq!((ran.code().as_str(), ran.facts.vm), ("fisheye_refused", None));

    // An earlier one, whose answer was lost, stays in doubt.
    let mut site = Site::new().await;
    site.keep = true;
    site.arm(fault("lost", create(), When::Before, Action::reset()).times(1));
    site.arm(fault("f", create(), When::Before, refused()).skip(1));
    let ran = site.run(CREATE).await;
    assert_eq!((ran.code().as_str(), site.fired("lost")), ("fisheye_refused", 1));
    assert_eq!(ran.facts.vm.unwrap().name, "cloudtower");
}

#[tokio::test]
async fn only_a_job_that_is_known_to_have_ended_makes_no_vm_any_more() {
    let look = || Match::fisheye("GET", "/api/v2/jobs/*");
    let site = Site::new().await;
    site.modes(json!({"vm_visible": "at_done"}));
    site.arm(job("VM_CREATE", JobFault::Stuck { state: "pending".into() }));
    site.arm(fault("look", look(), When::Before, Action::status(503)));
    let undo = async |strings: crate::site::Strings| {
        let question = question(strings.log.journal()).await;
        decide(&strings.log, question, "undo").await;
    };
    let ran = site.run_with(CREATE, undo).await;
    assert_eq!((ran.code().as_str(), ran.view.undo), ("outcome_unknown", Some(UndoState::RollbackIncomplete)));
    assert_eq!((ran.view.leftovers.len(), ran.view.leftovers[0].kind.as_str()), (1, "vm"));
    assert!(ran.view.leftovers[0].remedy.contains("job"));

    let site = Site::new().await;
    site.modes(json!({"vm_visible": "at_done"}));
    site.arm(job("VM_CREATE", JobFault::NoEffect));
    let unknown = json!({"ec": "JOB_NOT_FOUND", "data": {}, "error": {"msg": "x"}});
    site.arm(fault("look", look(), When::Before, Action::json(404, unknown)));
    let ran = site.run(CREATE).await;
    ran.failure();
    assert!(ran.view.leftovers.is_empty(), "{:?}", ran.view.leftovers);
}

#[tokio::test]
async fn the_uuid_in_a_creations_answer_is_no_vm_yet() {
    let slow = || job("VM_CREATE", JobFault::Slow { seconds: 1_500 });
    let early = json!({"create_answer": "job_and_vm", "vm_visible": "at_done", "duplicate": "allow"});
    // After a restart the job is followed, and no second VM is asked for.
    let site = Site::new().await;
    site.modes(early.clone());
    site.arm(slow());
    assert!(matches!(stop_at(&site, "vm_create").await.ended, Ended::Stopped));
    let vm = site.run_facts().await.vm.unwrap();
    assert!(vm.uuid.is_none() && vm.job_id.is_some(), "{vm:?}");
    let mut again = site;
    again.settings.timing.job_limit_s = 10_000.0;
    assert_made(&again, &again.run(CREATE).await);
    assert_eq!(again.calls("POST", "/api/v2/vms").len(), 1);

    // While the job is at work, a VM that is not there (404) is not gone.
    let site = Site::new().await;
    site.modes(early);
    site.arm(slow());
    let ran = cancel_at(&site, "vm_create").await;
    assert!(matches!(ran.ended, Ended::Finished(JobOutcome::Cancelled)), "{:?}", ran.ended);
    assert_eq!((ran.view.undo, ran.view.leftovers.len()), (Some(UndoState::RollbackIncomplete), 1));
}

#[tokio::test]
async fn a_certificate_that_changes_in_the_middle_is_a_clear_failure() {
    let site = Site::new().await;
    // Open connections stay: the next one meets the new certificate.
    let rotate = fault("rotate", create(), When::Before, Action::World(WorldAction::RotateCertificate));
    site.arm(rotate.times(1));
    site.arm(fault("close", create(), When::After, Action::Close(Default::default())).times(1));
    let ran = site.run(CREATE).await;
    assert_eq!(ran.code(), "fisheye_certificate_changed");
}

// --- pre-checks ---

#[tokio::test]
async fn every_check_is_told() {
    let site = Site::new().await;
    let ran = site.run(UPLOAD).await;
    ran.succeeded();
    for (check, results) in [
        ("local_disk", 1),
        ("iso", 1),
        ("guest_tools", 1),
        ("host", 3),
        ("vip", 1),
        ("cloudtower_address", 1),
        ("login", 1),
        ("clock", 1),
        ("capacity", 1),
        ("vm_name", 1),
        ("storage_policy", 1),
        ("storage_space", 1),
        ("network", 1),
        ("iso_hash", 1),
    ] {
        let told = ran.checks(check);
        assert_eq!(told.len(), results, "{check}");
        assert!(check == "clock" || told.iter().all(|result| result == "ok"), "{check} {told:?}");
    }
}

#[tokio::test]
async fn a_wrong_password_ends_the_checks_at_once_and_never_shows() {
    let mut site = Site::new().await;
    site.password = "wrong-canary-password".to_owned();
    let ran = site.run(UPLOAD).await;
    assert_eq!(ran.code(), "fisheye_credentials_rejected");
    assert!(ran.failure().remedy.contains("主机规划!L19") && ran.failure().remedy.contains("主机规划!M19"));
    assert_eq!(site.logins(), 1);
    assert!(ran.checks("capacity").is_empty());
    let journal = std::fs::read_dir(site.job_dir()).unwrap().flatten().filter(|entry| entry.path().is_file());
    for file in journal {
        let text = String::from_utf8_lossy(&std::fs::read(file.path()).unwrap()).into_owned();
        assert!(!text.contains("wrong-canary-password"));
    }
}

#[tokio::test]
async fn all_errors_come_together_and_nothing_is_made() {
    let mut site = Site::with(|options| {
        options.vms = vec![serde_json::from_value(json!({"name": "cloudtower"})).unwrap()];
        options.policies.push(serde_json::from_value(json!({"name": "gold"})).unwrap());
        options.nodes.iter_mut().for_each(|node| node.memory = 16 << 30);
    })
    .await;
    site.plan.deployment.storage_policy = "silver".to_owned();
    site.plan.management_network.vds = "no-such-switch".to_owned();
    Iso::new(200_000).tools(false).write(&site.iso()).unwrap();
    site.plan.deployment.iso.sha256 = Some("0".repeat(64));
    let ran = site.run(UPLOAD).await;
    let failure = ran.failure();
    assert_eq!(failure.code, "precheck_failed");
    let codes: Vec<&str> =
        failure.detail["checks"].as_array().unwrap().iter().map(|c| c["code"].as_str().unwrap()).collect();
    let want = [
        "iso_without_guest_tools",
        "vm_name_taken",
        "capacity_missing",
        "storage_policy_not_found",
        "vds_not_found",
        "iso_hash_mismatch",
    ];
    assert_eq!(codes, want);
    assert!(failure.message.contains("\"default\", \"gold\""), "{}", failure.message);
    assert!(
        site.core().transcript.filter(|entry| entry.method == "POST" && entry.path != "/api/v3/sessions").is_empty()
    );
}

#[tokio::test]
async fn an_iso_that_cannot_be_used_is_refused_before_anything_is_made() {
    type Change = fn(&Site);
    for (code, change) in [
        ("iso_missing", (|site| std::fs::remove_file(site.iso()).unwrap()) as Change),
        ("iso_empty", |site| std::fs::write(site.iso(), b"").unwrap()),
        ("iso_not_iso9660", |site| std::fs::write(site.iso(), vec![1; 100_000]).unwrap()),
    ] {
        let site = Site::new().await;
        change(&site);
        let ran = site.run(UPLOAD).await;
        assert_eq!(ran.code(), code);
        assert_eq!(ran.checks("network"), ["ok"], "the other checks are made all the same");
        assert!(site.images().is_empty());
    }
    let mut site = Site::new().await;
    site.settings.iso.min_bytes = 1 << 30;
    assert_eq!(site.run(UPLOAD).await.code(), "iso_too_small");

    let mut site = Site::new().await;
    Iso::new(2 * CHUNK).tools(false).write(&site.iso()).unwrap();
    site.plan.deployment.require_guest_tools_in_iso = false;
    site.plan.cloudtower.version = Some("4.7.1".to_owned());
    let ran = site.run(UPLOAD).await;
    ran.succeeded();
    assert_eq!(
        (ran.checks("guest_tools"), ran.checks("iso_version")),
        (vec!["warning".to_owned()], vec!["warning".to_owned()])
    );
    assert!(ran.facts.iso.unwrap().file_name == ISO_NAME);
}

#[tokio::test]
async fn a_dead_host_is_an_error_and_a_dead_vip_a_warning() {
    let site = Site::new().await;
    site.client().login().await.unwrap();
    site.core().change_world(&WorldAction::Down { address: site.sim.vip() }).unwrap();
    let ran = site.run(UPLOAD).await;
    ran.succeeded();
    assert_eq!(ran.checks("vip"), ["warning"]);
    assert_eq!(ran.facts.fisheye_url, Some(format!("https://127.0.20.11:{}", site.sim.fisheye_port())));

    let site = Site::new().await;
    site.client().login().await.unwrap();
    let node = site.core().options.nodes[1].management;
    site.core().change_world(&WorldAction::Down { address: node }).unwrap();
    let ran = site.run(UPLOAD).await;
    assert_eq!(
        (ran.code().as_str(), ran.checks("host")),
        ("host_unreachable", ["ok", "error", "ok"].map(str::to_owned).to_vec())
    );
}

#[tokio::test]
async fn a_cloudtower_address_in_use_is_refused_unless_it_is_our_own_vm() {
    let site = Site::new().await;
    let address = (site.plan.cloudtower.ip, site.settings.cloudtower.port);
    let taken = tokio::net::TcpListener::bind(address).await.unwrap();
    assert_eq!(site.run(UPLOAD).await.code(), "cloudtower_address_in_use");
    drop(taken);
}

#[tokio::test]
async fn networks_are_matched_by_the_rules() {
    let mut site = Site::with(|options| {
        let vlan = |name: &str, id: u16| serde_json::from_value(json!({"name": name, "vlan_id": id})).unwrap();
        options.vds[0].vlans.extend([vlan("twin", 7), vlan("twin", 7)]);
    })
    .await;
    site.plan.management_network.network = "twin".to_owned();
    site.plan.management_network.vlan_id = 7;
    assert_eq!(site.run(UPLOAD).await.code(), "vlan_ambiguous");
    let site = Site::with(|options| options.vds.clear()).await;
    assert_eq!(site.run(UPLOAD).await.code(), "vds_not_found");
}

#[tokio::test]
async fn a_single_other_policy_is_taken_with_a_warning() {
    let mut site = Site::new().await;
    site.plan.deployment.storage_policy = "silver".to_owned();
    let ran = site.run(CREATE).await;
    assert_made(&site, &ran);
    assert_eq!(ran.checks("storage_policy"), ["warning"]);
}

async fn cancel_at(site: &Site, note: &str) -> Ran {
    at_note(site, note, |strings| async move {
        let record = gantry_agent::journal::CancelRecord { order: 2, epoch: 1, by: "op".into(), reason: String::new() };
        strings.log.request_cancel(record);
        strings.log.tell_cancel().await.unwrap();
        strings.cancel.cancel();
    })
    .await
}

async fn stop_at(site: &Site, note: &str) -> Ran {
    at_note(site, note, |strings| async move { strings.stop.cancel() }).await
}

/// Does something to the job as soon as a note of this code is in its journal.
async fn at_note<F: Future<Output = ()>>(site: &Site, note: &str, act: impl FnOnce(Strings) -> F) -> Ran {
    let word = format!("\"code\":\"{note}\"");
    site.run_with(CLUSTER, |strings| async move {
        let stage = site.job_dir().join("logs/stage_deploy_cloudtower.log");
        while !std::fs::read_to_string(&stage)
            .is_ok_and(|log| log.contains(&word) || log.contains(&format!("\"code\": \"{note}\"")))
        {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        act(strings).await;
        std::future::pending::<()>().await;
    })
    .await
}

#[tokio::test]
async fn an_iso_for_another_architecture_is_refused_before_the_upload() {
    let site = Site::new().await;
    site.modes(json!({"cpu_brand": "Kunpeng-920"}));
    let ran = site.run(CREATE).await;
    assert_eq!((ran.code().as_str(), ran.checks("architecture")), ("iso_wrong_architecture", vec!["error".to_owned()]));
    assert!(ran.failure().message.contains("aarch64") && site.chunk_calls().is_empty() && site.images().is_empty());
    let site = Site::new().await;
    site.modes(json!({"cpu_brand": "a CPU"}));
    let ran = site.run(UPLOAD).await;
    ran.succeeded();
    assert_eq!((ran.checks("architecture"), ran.checks("cpu")), (vec!["warning".to_owned()], vec!["ok".to_owned()]));
}
