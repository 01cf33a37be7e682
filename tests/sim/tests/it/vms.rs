//! The life of a VM in virtual time: job, phases of the guest, network, power, deletion; and the modes of each.

use std::net::IpAddr;

use gantry_sim::Sim;
use gantry_sim::options::{PlantedVm, SimOptions};
use reqwest::Method;
use serde_json::{Value, json};

use crate::client::{Client, broken, content, pass, quick, start};

async fn ready_to_create(options: SimOptions) -> (Sim, Client, Value) {
    let (sim, client) = start(options).await;
    let image = client.upload("tower.iso", &content(100)).await;
    let form = client.vm_form("cloudtower", &image.path).await;
    (sim, client, form)
}

async fn detail(client: &Client, uuid: &str) -> Value {
    client.get(&format!("/api/v2/vms/{uuid}")).await
}

/// The uuid by the entry that says it is a VM, as a careful client does.
fn vm_of(job: &Value) -> String {
    let resources = job["resources"].as_object().unwrap();
    let vm = resources.values().find(|entry| entry["type"] == "KVM_VM").unwrap();
    vm["uuid"].as_str().unwrap().to_owned()
}

fn planted(name: &str, count: u32) -> PlantedVm {
    serde_json::from_value(json!({"name": name, "count": count})).unwrap()
}

#[tokio::test]
async fn from_creation_to_deletion() {
    let (sim, client, form) = ready_to_create(quick()).await;
    let job = client.post("/api/v2/vms", &form).await;
    pass(&sim, 0);
    let done = client.job(&job).await;
    assert_eq!((&done["state"], &done["description"]), (&json!("done"), &json!("VM_CREATE")));
    let first = done["resources"].as_object().unwrap().values().next().unwrap();
    assert_eq!(first["type"], "KVM_VOL", "a volume stands first, to catch readers of the first entry");
    let uuid = vm_of(&done);
    let vm = detail(&client, &uuid).await;
    assert_eq!((&vm["status"], &vm["guest_info"]), (&json!("running"), &Value::Null));
    assert_eq!(vm["guest_os_type"], "unknown");
    assert_eq!(vm["nics"][0]["vlans"][0]["name"], "default");
    assert_eq!(vm["description"], "made by the test");
    assert_ne!(vm["disks"][1]["path"], form["disks"][1]["path"], "mounting clones the LUN");

    let mut states = Vec::new();
    for _ in 0..90 {
        pass(&sim, 10);
        states.push(detail(&client, &uuid).await["guest_info"]["ga_state"].clone());
    }
    states.dedup();
    assert_eq!(states, [Value::Null, json!("NotInstalled"), json!("NotRunning"), json!("Running")]);

    let mac = vm["nics"][0]["mac_address"].as_str().unwrap().to_owned();
    assert!(mac.starts_with("52:54:00:"));
    let mut nic = form["nics"][0].clone();
    nic["mac_address"] = json!(mac);
    nic["ip_address"] = json!("127.0.20.20");
    nic["subnet_mask"] = json!("255.255.255.0");
    nic["gateway"] = json!("127.0.20.1");
    let answer = client.call(Method::PUT, &format!("/api/v2/vms/{uuid}")).json(&json!({"nics": [nic]}));
    let pushed: Value = answer.send().await.unwrap().json().await.unwrap();
    assert_eq!(client.job(&pushed["data"]).await["state"], "done");
    let vm = detail(&client, &uuid).await;
    assert_eq!((&vm["nics"][0]["ip_address"], &vm["nics"][0]["mac_address"]), (&json!("127.0.20.20"), &json!(mac)));
    assert_eq!(vm["guest_info"]["nics"][1]["ip_addresses"][0]["ip_address"], "127.0.20.20");

    let stop = client.post(&format!("/api/v2/vms/{uuid}/stop"), &json!({"force": true})).await;
    assert_eq!(client.job(&stop).await["state"], "done");
    assert_eq!(detail(&client, &uuid).await["status"], "stopped");
    let delete = client.call(Method::DELETE, &format!("/api/v2/vms/{uuid}")).json(&json!({"include_volumes": true}));
    assert_eq!(delete.send().await.unwrap().status(), 200);
    pass(&sim, 1);
    let gone = client.call(Method::GET, &format!("/api/v2/vms/{uuid}")).send().await.unwrap();
    assert_eq!(gone.status(), 404);
    assert_eq!(client.get("/api/v2/volumes?count=10&skip_page=1").await["total_entities"], 0);
    assert_eq!(broken(&sim), [] as [u8; 0]);
    sim.stop().await;
}

#[tokio::test]
async fn with_default_timings_the_agent_runs_within_888_seconds() {
    let options = SimOptions { manual_clock: true, chunk_size: 64 << 10, ..SimOptions::default() };
    let (sim, client, form) = ready_to_create(options).await;
    pass(&sim, 60);
    let job = client.post("/api/v2/vms", &form).await;
    assert_eq!(client.job(&job).await["state"], "pending");
    pass(&sim, 2);
    assert_eq!(client.job(&job).await["state"], "processing");
    pass(&sim, 18);
    assert_eq!(client.job(&job).await["state"], "done");
    let uuid = vm_of(&client.job(&job).await);
    pass(&sim, 868);
    assert_eq!(detail(&client, &uuid).await["guest_info"]["ga_state"], "Running");
    sim.stop().await;
}

#[tokio::test]
async fn the_stock_iso_never_brings_an_agent() {
    let (sim, client, form) = ready_to_create(quick()).await;
    sim.core().patch_modes(&json!({"guest_tools": "absent"})).unwrap();
    let job = client.post("/api/v2/vms", &form).await;
    let uuid = vm_of(&client.job(&job).await);
    pass(&sim, 100_000);
    assert_eq!(detail(&client, &uuid).await["guest_info"]["ga_state"], "NotInstalled");
    let push = json!({"nics": [{"vlan_uuid": form["nics"][0]["vlan_uuid"], "ovs": form["nics"][0]["ovs"],
                                "ip_address": "127.0.20.20"}]});
    let answer: Value = client
        .call(Method::PUT, &format!("/api/v2/vms/{uuid}"))
        .json(&push)
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    let code = match answer["ec"].as_str() {
        Some("EOK") => client.job(&answer["data"]).await["error_code"].clone(),
        _ => answer["ec"].clone(),
    };
    assert!(code.as_str().unwrap().starts_with("SVT_"));
    sim.stop().await;
}

#[tokio::test]
async fn a_put_without_mac_replaces_the_card() {
    let (sim, client, form) = ready_to_create(quick()).await;
    let job = client.post("/api/v2/vms", &form).await;
    let uuid = vm_of(&client.job(&job).await);
    let before = detail(&client, &uuid).await["nics"][0]["mac_address"].clone();
    let answer = client.call(Method::PUT, &format!("/api/v2/vms/{uuid}")).json(&json!({"nics": form["nics"]}));
    assert_eq!(answer.send().await.unwrap().status(), 200);
    assert_ne!(detail(&client, &uuid).await["nics"][0]["mac_address"], before);
    sim.stop().await;
}

#[tokio::test]
async fn a_taken_name_is_refused_at_the_call_in_the_job_or_not_at_all() {
    let options = SimOptions { vms: vec![planted("cloudtower", 1)], ..quick() };
    let (sim, client, form) = ready_to_create(options).await;
    sim.core().patch_modes(&json!({"duplicate": "refuse_at_call"})).unwrap();
    let answer: Value =
        client.call(Method::POST, "/api/v2/vms").json(&form).send().await.unwrap().json().await.unwrap();
    assert_eq!(answer["ec"], "VM_DUPLICATED_NAME");
    sim.core().patch_modes(&json!({"duplicate": "refuse_in_job"})).unwrap();
    let job = client.post("/api/v2/vms", &form).await;
    let job = client.job(&job).await;
    assert_eq!((&job["state"], &job["error_code"]), (&json!("failed"), &json!("VM_DUPLICATED_NAME")));
    assert_eq!(client.get("/api/v2/vms?count=9&skip_page=1").await["total_entities"], 1);
    sim.core().patch_modes(&json!({"duplicate": "allow"})).unwrap();
    let job = client.post("/api/v2/vms", &form).await;
    assert_eq!(client.job(&job).await["state"], "done");
    assert_eq!(broken(&sim), [1], "two VMs of one name are seen by the invariants");
    sim.stop().await;
}

#[tokio::test]
async fn no_node_with_enough_memory() {
    let (sim, client, mut form) = ready_to_create(quick()).await;
    form["memory"] = json!(500_u64 << 30);
    let job = client.post("/api/v2/vms", &form).await;
    let job = client.job(&job).await;
    assert_eq!(job["state"], "failed");
    assert_eq!(job["task_list"][0]["error_code"], "JOB_FOLLOWER_FAILED_DUE_TO_DEPENDENCY");
    assert_eq!(job["task_list"][1]["error_code"], "HostAvailableMemoryFilter");
    assert_eq!(client.get("/api/v2/vms").await["total_entities"], 0);
    assert_eq!(broken(&sim), [] as [u8; 0]);
    sim.stop().await;
}

#[tokio::test]
async fn forms_that_are_wrong_are_refused_by_field() {
    let (sim, client, form) = ready_to_create(quick()).await;
    for (pointer, value, field) in [
        ("/vm_name", json!(""), "vm_name"),
        ("/vcpu", json!(7), "cpu"),
        ("/memory", json!(0), "memory"),
        ("/disks/0/size_in_byte", json!(0), "size_in_byte"),
        ("/disks/0/storage_policy_uuid", json!("none"), "storage_policy_uuid"),
        ("/disks/1/path", json!("iscsi://nowhere/1"), "path"),
        ("/nics/0/vlan_uuid", json!("none"), "vlan_uuid"),
        ("/nics/0/ovs", json!("ovsbr-other"), "ovs"),
        ("/node_ip", json!("192.0.2.1"), "node_ip"),
    ] {
        let mut wrong = form.clone();
        *wrong.pointer_mut(pointer).unwrap() = value;
        let answer = client.call(Method::POST, "/api/v2/vms").json(&wrong).send().await.unwrap();
        let body: Value = answer.json().await.unwrap();
        assert_eq!(body["ec"], "REST_FORM_ERROR", "{pointer}");
        assert!(body["error"]["detail"].get(field).is_some(), "{pointer}: {body}");
    }
    assert!(sim.core().world().vms.is_empty());
    sim.stop().await;
}

#[tokio::test]
async fn the_vm_appears_late_at_once_or_at_the_end() {
    let mut options = quick();
    options.latencies.factor = 1.0;
    options.latencies.job_queue = [1000, 1000];
    options.latencies.vm_visible = [3000, 3000];
    options.latencies.vm_create_job = [9000, 9000];
    let (sim, client, form) = ready_to_create(options).await;
    sim.core().patch_modes(&json!({"duplicate": "allow"})).unwrap();
    for (mode, appears) in [("at_once", 0), ("late", 4), ("at_done", 10)] {
        sim.core().patch_modes(&json!({"vm_visible": mode})).unwrap();
        let before = client.get("/api/v2/vms").await["total_entities"].as_u64().unwrap();
        client.post("/api/v2/vms", &form).await;
        if appears > 0 {
            pass(&sim, appears - 1);
            assert_eq!(client.get("/api/v2/vms").await["total_entities"], before, "{mode}");
            pass(&sim, 1);
        }
        assert_eq!(client.get("/api/v2/vms").await["total_entities"], before + 1, "{mode}");
        pass(&sim, 20);
    }
    sim.stop().await;
}

#[tokio::test]
async fn a_running_vm_cannot_be_deleted_and_volumes_may_stay() {
    let (sim, client, form) = ready_to_create(quick()).await;
    let job = client.post("/api/v2/vms", &form).await;
    let uuid = vm_of(&client.job(&job).await);
    let path = format!("/api/v2/vms/{uuid}");
    let delete: Value = client.call(Method::DELETE, &path).send().await.unwrap().json().await.unwrap();
    assert_eq!(client.job(&delete["data"]).await["state"], "failed");
    client.post(&format!("{path}/stop"), &json!({"force": true})).await;
    pass(&sim, 1);
    client.call(Method::DELETE, &path).send().await.unwrap();
    pass(&sim, 1);
    let volumes = client.get("/api/v2/volumes?count=10&skip_page=1").await;
    assert_eq!(volumes["entities"][0]["mounting_vm_list"], json!([]));
    assert_eq!(broken(&sim), [5], "the orphan is seen by the invariants");
    sim.stop().await;
}

#[tokio::test]
async fn the_list_has_pages_and_lies_about_its_total() {
    let options = SimOptions { vms: vec![planted("old", 250)], ..quick() };
    let (sim, client) = start(options).await;
    let names = |data: Value| data["entities"].as_array().unwrap().len();
    assert_eq!(names(client.get("/api/v2/vms?count=100&skip_page=1").await), 100);
    assert_eq!(names(client.get("/api/v2/vms?count=100&skip_page=3").await), 50);
    assert_eq!(names(client.get("/api/v2/vms?count=100&skip_page=4").await), 0);
    sim.core().patch_modes(&json!({"first_page": "zero", "list_total": "too_high"})).unwrap();
    let data = client.get("/api/v2/vms?count=100&skip_page=2").await;
    assert_eq!((data["total_entities"].clone(), names(data)), (json!(600), 50));
    sim.stop().await;
}

#[tokio::test]
async fn what_was_there_before_is_watched() {
    let options = SimOptions { vms: vec![planted("theirs", 1)], ..quick() };
    let (sim, client) = start(options).await;
    assert_eq!(broken(&sim), [] as [u8; 0]);
    let uuid = sim.core().world().vms.keys().next().unwrap().clone();
    client.post(&format!("/api/v2/vms/{uuid}/stop"), &json!({"force": true})).await;
    pass(&sim, 1);
    assert_eq!(broken(&sim), [4]);
    sim.stop().await;
}

#[tokio::test]
async fn a_fixed_mac_is_announced() {
    let options = SimOptions { guest_mac: Some("52:54:00:aa:bb:cc".into()), ..quick() };
    let (sim, client, form) = ready_to_create(options).await;
    let job = client.post("/api/v2/vms", &form).await;
    let uuid = vm_of(&client.job(&job).await);
    assert_eq!(detail(&client, &uuid).await["nics"][0]["mac_address"], "52:54:00:aa:bb:cc");
    assert!(sim.core().world().vms[&uuid].node_ip.is_some_and(|ip: IpAddr| ip.is_loopback()));
    sim.stop().await;
}
