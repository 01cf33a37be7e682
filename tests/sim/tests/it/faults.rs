//! Faults strike as ordered, leave the effect they should, and are seen in the transcript.

use std::time::{Duration, Instant};

use gantry_sim::fault::{Action, Answer, ChunkMatch, Cut, Edit, Fault, JobFault, Match, WorldAction};
use gantry_sim::{Sim, SimOptions};
use reqwest::Method;
use serde_json::{Value, json};

use crate::client::{CHUNK, Client, PATIENCE, broken, content, http, pass, quick, slice, start};

/// A volume of two chunks, ready to be sent.
async fn uploading() -> (Sim, Client, crate::client::Volume, Vec<u8>) {
    let (sim, client) = start(quick()).await;
    let bytes = content(2 * CHUNK);
    let to = client.volume("x.iso", bytes.len()).await;
    (sim, client, to, bytes)
}

fn seen(sim: &Sim, id: &str, times: u64) {
    assert_eq!(sim.core().faults.fired(id), times, "{id} fired");
    assert_eq!(sim.core().transcript.struck_by(id).len() as u64, times, "{id} in the transcript");
}

#[tokio::test]
async fn lost_answers_have_had_their_effect_or_not() {
    let (sim, client) = start(quick()).await;
    let path = "/api/v2/images/upload/volume";
    let call = || client.call(Method::POST, &format!("{path}?name=x&size=10&device=nfs&task_id=2")).send();
    sim.core().faults.arm(Fault::new("L1", Match::fisheye("POST", path), Action::reset()).after().times(1));
    call().await.unwrap_err();
    assert_eq!(sim.core().world().images.len(), 1, "the effect happened");
    sim.core().faults.arm(Fault::new("L6", Match::fisheye("POST", path), Action::reset()).times(1));
    call().await.unwrap_err();
    assert_eq!(sim.core().world().images.len(), 1, "no effect");
    call().await.unwrap();
    assert_eq!(sim.core().world().images.len(), 2);
    seen(&sim, "L1", 1);
    seen(&sim, "L6", 1);
    let statuses: Vec<_> = sim.core().transcript.calls("POST", path).iter().map(|entry| entry.status).collect();
    assert_eq!(statuses, [None, None, Some(200)]);
    sim.stop().await;
}

#[tokio::test]
async fn a_chunk_is_cut_at_any_byte_and_leaves_no_trace() {
    let (sim, client, to, bytes) = uploading().await;
    let everything = u64::try_from(CHUNK).unwrap();
    for (id, cut) in [
        ("first", Cut { request_bytes: Some(1), ..Cut::default() }),
        ("half", Cut { request_part: Some(0.5), ..Cut::default() }),
        ("near-end", Cut { request_bytes: Some(everything), ..Cut::default() }),
    ] {
        let fault = Fault::new(id, Match::chunk(ChunkMatch::One(0)), Action::Reset(cut)).during().times(1);
        sim.core().faults.arm(fault);
        client.chunk(&to, 0, slice(&bytes, 0)).await.unwrap_err();
        assert!(sim.core().world().images[&to.image].received.is_empty(), "{id}");
        seen(&sim, id, 1);
    }
    client.send(&to, 0, &bytes).await;
    assert_eq!(client.send(&to, 1, &bytes).await, json!([]));
    assert_eq!(broken(&sim), [] as [u8; 0]);
    sim.stop().await;
}

#[tokio::test]
async fn answers_are_replaced_edited_truncated_and_garbled() {
    let (sim, client, to, bytes) = uploading().await;
    let on_chunk = || Match::chunk(ChunkMatch::Any(vec![0]));
    let send = || async { client.chunk(&to, 0, slice(&bytes, 0)).await.unwrap() };

    sim.core().faults.arm(Fault::new("U2", on_chunk(), Action::status(503)).times(2));
    assert_eq!((send().await.status().as_u16(), send().await.status().as_u16()), (503, 503));
    assert!(sim.core().world().images[&to.image].received.is_empty());

    let unknown = json!({"data": {}, "ec": "REST_UNKNOWN_ERROR", "error": {"msg": "x", "detail": ""}});
    sim.core().faults.arm(Fault::new("U5", on_chunk(), Action::json(200, unknown)).times(1));
    assert_eq!(send().await.json::<Value>().await.unwrap()["ec"], "REST_UNKNOWN_ERROR");

    let edit = Edit { set: [("/data/chunk_num".to_owned(), json!(7))].into(), ..Edit::default() };
    sim.core().faults.arm(Fault::new("U6", on_chunk(), Action::Edit(edit)).times(1));
    assert_eq!(send().await.json::<Value>().await.unwrap()["data"]["chunk_num"], 7);

    sim.core().faults.arm(Fault::new("U7", on_chunk(), Action::Truncate { bytes: 20 }).times(1));
    assert_eq!(send().await.bytes().await.unwrap().len(), 20);
    sim.core().faults.arm(Fault::new("N14", on_chunk(), Action::Garble { bytes: 99 }).times(1));
    assert!(std::str::from_utf8(&send().await.bytes().await.unwrap()).is_err());
    let bomb = Action::HeaderBomb { count: 20, size: 100 };
    sim.core().faults.arm(Fault::new("bomb", on_chunk(), bomb).times(1));
    assert_eq!(send().await.headers().iter().filter(|(name, _)| name.as_str().starts_with("x-bomb")).count(), 20);
    let cut = Action::Close(Cut { response_bytes: Some(5), ..Cut::default() });
    sim.core().faults.arm(Fault::new("cut", on_chunk(), cut).during().times(1));
    send().await.bytes().await.unwrap_err();
    for (id, times) in [("U2", 2), ("U5", 1), ("U6", 1), ("U7", 1), ("N14", 1), ("bomb", 1), ("cut", 1)] {
        seen(&sim, id, times);
    }
    sim.stop().await;
}

#[tokio::test]
async fn floods_redirects_and_retry_after() {
    let (sim, client) = start(quick()).await;
    let on_list = || Match::fisheye("GET", "/api/v2/images");
    sim.core().faults.arm(Fault::new("flood", on_list(), Action::Flood { bytes: Some(3 << 20) }).times(1));
    let flood = client.call(Method::GET, "/api/v2/images").send().await.unwrap();
    assert_eq!(flood.bytes().await.unwrap().len(), 3 << 20);
    let headers = [("retry-after".to_owned(), "2".to_owned())].into();
    sim.core()
        .faults
        .arm(Fault::new("N15", on_list(), Action::Answer(Answer { status: 429, headers, body: Value::Null })).times(1));
    let busy = client.call(Method::GET, "/api/v2/images").send().await.unwrap();
    assert_eq!((busy.status().as_u16(), &busy.headers()["retry-after"]), (429, &"2".parse().unwrap()));
    let headers = [("location".to_owned(), "https://192.0.2.1/".to_owned())].into();
    sim.core()
        .faults
        .arm(Fault::new("N17", on_list(), Action::Answer(Answer { status: 302, headers, body: Value::Null })).times(1));
    assert_eq!(client.call(Method::GET, "/api/v2/images").send().await.unwrap().status(), 302);
    sim.stop().await;
}

#[tokio::test]
async fn hanging_stalling_delaying_and_throttling() {
    let mut options = SimOptions { manual_clock: false, time_scale: 1000.0, ..quick() };
    options.latencies.factor = 0.0;
    let (sim, client) = start(options).await;
    let bytes = content(CHUNK);
    let to = client.volume("x.iso", bytes.len()).await;
    let path = format!("/api/v2/images/upload?zbs_volume_id={}&image_uuid={}&chunk_num=0", to.zbs, to.image);
    let impatient = || async {
        let part = reqwest::multipart::Part::bytes(bytes.clone());
        let form = reqwest::multipart::Form::new().part("file", part);
        client.call(Method::POST, &path).multipart(form).timeout(Duration::from_millis(300)).send().await
    };
    sim.core().faults.arm(Fault::new("hang", Match::chunk(ChunkMatch::One(0)), Action::Hang).times(1));
    assert!(impatient().await.unwrap_err().is_timeout());
    let stall = Action::Stall { request_bytes: 100 };
    sim.core().faults.arm(Fault::new("U8", Match::chunk(ChunkMatch::One(0)), stall).times(1));
    assert!(impatient().await.unwrap_err().is_timeout());
    // 64 KiB at 131 072 bytes per virtual second, a thousand times as fast: half a millisecond.
    let throttle = Action::Throttle { bytes_per_s: 131_072 };
    sim.core().faults.arm(Fault::new("slow", Match::chunk(ChunkMatch::One(0)), throttle).times(1));
    let before = sim.core().clock.elapsed();
    assert_eq!(client.chunk(&to, 0, &bytes).await.unwrap().status(), 200);
    assert!(sim.core().clock.elapsed() - before >= Duration::from_millis(500));
    let on_list = Match::fisheye("GET", "/api/v2/images");
    sim.core().faults.arm(Fault::new("delay", on_list, Action::Delay { ms: 20_000 }).times(1));
    let wall = Instant::now();
    client.get("/api/v2/images").await;
    assert!(wall.elapsed() >= Duration::from_millis(20));
    let gone = async {
        while !sim.core().transcript.struck_by("hang")[0].notes.contains(&"no answer".to_owned()) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, gone).await.unwrap();
    sim.stop().await;
}

#[tokio::test]
async fn a_kept_alive_connection_closes_just_before_reuse() {
    let (sim, client) = start(quick()).await;
    client.get("/api/v2/vms").await;
    let matches = Match { reused: Some(true), ..Match::fisheye("POST", "/api/v2/images/upload/volume") };
    sim.core().faults.arm(Fault::new("N13", matches, Action::Close(Cut::default())).times(1));
    let path = "/api/v2/images/upload/volume?name=x&size=10&device=nfs&task_id=2";
    client.call(Method::POST, path).send().await.unwrap_err();
    assert!(sim.core().world().images.is_empty());
    seen(&sim, "N13", 1);
    sim.stop().await;
}

#[tokio::test]
async fn a_damaged_chunk_shows_in_the_digest_and_in_the_invariants() {
    let (sim, client, to, bytes) = uploading().await;
    sim.core().faults.arm(Fault::new("U9", Match::chunk(ChunkMatch::One(1)), Action::mark("corrupt_chunk")).times(1));
    client.send(&to, 0, &bytes).await;
    client.send(&to, 1, &bytes).await;
    let md5 = client.get("/api/v2/images").await["images"][0]["md5"].clone();
    assert!(md5.is_string());
    let again = client.upload("y.iso", &bytes).await;
    let right = sim.core().world().images[&again.image].md5.clone();
    assert_ne!(right.as_deref(), md5.as_str());
    assert_eq!(broken(&sim), [3]);
    sim.stop().await;
}

#[tokio::test]
async fn jobs_fail_hang_and_are_forgotten_as_ordered() {
    let (sim, client) = start(quick()).await;
    let image = client.upload("tower.iso", &content(10)).await;
    let form = client.vm_form("cloudtower", &image.path).await;
    let arm = |id: &str, fault| {
        sim.core().faults.arm(Fault::new(id, Match::job("VM_CREATE"), Action::Job(fault)).times(1));
    };
    arm("V6", JobFault::Fail { code: "ODD".into(), message: "odd".into(), follower_first: false });
    let job = client.post("/api/v2/vms", &form).await;
    let job = client.job(&job).await;
    assert_eq!((&job["state"], &job["error_code"]), (&json!("failed"), &json!("ODD")));
    arm("V7", JobFault::Stuck { state: "processing".into() });
    let job = client.post("/api/v2/vms", &form).await;
    pass(&sim, 100_000);
    assert_eq!(client.job(&job).await["state"], "processing");
    sim.core().change_world(&WorldAction::DeleteVm { vm: "cloudtower".into() }).unwrap();
    arm("V9", JobFault::Forgotten);
    let job = client.post("/api/v2/vms", &form).await;
    let path = format!("/api/v2/jobs/{}", job["job_id"].as_str().unwrap());
    assert_eq!(client.call(Method::GET, &path).send().await.unwrap().status(), 404);
    assert_eq!(client.get("/api/v2/vms").await["entities"][0]["status"], "running");
    for id in ["V6", "V7", "V9"] {
        seen(&sim, id, 1);
    }
    sim.stop().await;
}

#[tokio::test]
async fn the_world_changes_by_fault_and_by_control() {
    let (sim, client) = start(quick()).await;
    let image = client.upload("tower.iso", &content(10)).await;
    let form = client.vm_form("cloudtower", &image.path).await;
    client.post("/api/v2/vms", &form).await;
    let status = || async { client.get("/api/v2/vms").await["entities"][0]["status"].clone() };
    let plain = http();
    let world = format!("{}/world", sim.control_url());
    let order = |action: Value| plain.post(&world).json(&json!({ "action": action })).send();
    assert_eq!(order(json!({"power_off": {"vm": "cloudtower"}})).await.unwrap().status(), 200);
    assert_eq!(status().await, "stopped");
    assert_eq!(order(json!({"no_such": {}})).await.unwrap().status(), 422);
    let revoke = json!({
        "id": "N1", "match": {"face": "fisheye", "path": "/api/v2/**"}, "times": 1,
        "action": {"world": "revoke_tokens"},
    });
    let armed = plain.post(format!("{}/faults", sim.control_url())).json(&revoke).send().await.unwrap();
    assert_eq!(armed.status(), 201);
    assert_eq!(client.call(Method::GET, "/api/v2/vms").send().await.unwrap().status(), 401);
    let listed: Value = plain.get(format!("{}/faults", sim.control_url())).send().await.unwrap().json().await.unwrap();
    assert_eq!((&listed[0]["id"], &listed[0]["fired"]), (&json!("N1"), &json!(1)));
    let cleared = plain.delete(format!("{}/faults/N1", sim.control_url())).send().await.unwrap();
    assert_eq!(cleared.status(), 200);
    sim.stop().await;
}

#[tokio::test]
async fn a_restarted_cluster_forgets_jobs_and_loses_the_queued_ones() {
    let mut options = quick();
    options.latencies.factor = 1.0;
    options.latencies.job_queue = [10_000, 10_000];
    let (sim, client) = start(options).await;
    let image = client.upload("tower.iso", &content(10)).await;
    pass(&sim, 60);
    let form = client.vm_form("cloudtower", &image.path).await;
    let job = client.post("/api/v2/vms", &form).await;
    sim.core().change_world(&WorldAction::ClusterRestart).unwrap();
    let path = format!("/api/v2/jobs/{}", job["job_id"].as_str().unwrap());
    assert_eq!(client.call(Method::GET, &path).send().await.unwrap().status(), 404);
    pass(&sim, 600);
    assert_eq!(client.get("/api/v2/vms").await["total_entities"], 0);
    let job = client.post("/api/v2/vms", &form).await;
    pass(&sim, 11);
    sim.core().change_world(&WorldAction::ClusterRestart).unwrap();
    pass(&sim, 60);
    let path = format!("/api/v2/jobs/{}", job["job_id"].as_str().unwrap());
    assert_eq!(client.call(Method::GET, &path).send().await.unwrap().status(), 404);
    assert_eq!(client.get("/api/v2/vms").await["entities"][0]["status"], "running");
    sim.stop().await;
}

#[tokio::test]
async fn the_same_seed_gives_the_same_world() {
    let mut runs = Vec::new();
    for _ in 0..2 {
        let (sim, client) = start(SimOptions { seed: 42, ..quick() }).await;
        let to = client.volume("x", 10).await;
        runs.push((client.token.clone(), to.image, to.zbs, to.path));
        sim.stop().await;
    }
    assert_eq!(runs[0], runs[1]);
}

#[test]
fn the_actions_of_the_manual_are_understood() {
    let manual = include_str!("../../README.md").replace('…', "\"127.0.20.10\"").replace(": null", ": 1");
    let table = manual.split("| Want |").nth(1).unwrap();
    let quoted = table.split('`').skip(1).step_by(2).filter(|text| text.starts_with("{\"") || *text == "\"hang\"");
    let mut understood = 0;
    for text in quoted {
        let action: Value = serde_json::from_str(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        if action.get("request_part").is_some() {
            continue;
        }
        serde_json::from_value::<Action>(action).unwrap_or_else(|error| panic!("{text}: {error}"));
        understood += 1;
    }
    assert!(understood > 20, "only {understood} actions were found");
}
