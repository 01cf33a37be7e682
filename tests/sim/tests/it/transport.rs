//! Addresses, certificates, the control API, persistence, the program itself.

use std::process::Stdio;

use gantry_sim::SimOptions;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};

use crate::client::{Client, PATIENCE, broken, content, http, quick, start};

#[tokio::test]
async fn vip_and_nodes_answer_with_one_world_and_one_port() {
    let (sim, client) = start(quick()).await;
    for address in ["127.0.20.11", "127.0.20.12", "127.0.20.13"] {
        let base = format!("https://{address}:{}", sim.fisheye_port());
        let there = Client { http: http(), base, token: client.token.clone() };
        there.get("/api/v2/images").await;
    }
    let hosts: Vec<_> = sim.core().transcript.calls("GET", "/api/v2/images");
    assert!(hosts.iter().all(|entry| entry.host.as_deref() == Some(entry.address.as_str())));
    sim.stop().await;
}

#[tokio::test]
async fn the_vip_moves_refuses_and_answers_again() {
    let (sim, client) = start(quick()).await;
    let control = sim.control_url();
    let order = json!({"action": {"vip_move": {"down_s": 10, "lose_tokens": true}}});
    let plain = http();
    let moved = plain.post(format!("{control}/world")).json(&order).send().await.unwrap();
    assert_eq!(moved.status(), 200);
    // The port closes at once; the connection that was open is reset.
    let refused = async {
        while client.call(Method::GET, "/api/v2/vms").send().await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, refused).await.unwrap();
    let node = Client {
        http: http(),
        base: format!("https://127.0.20.11:{}", sim.fisheye_port()),
        token: client.token.clone(),
    };
    assert_eq!(node.call(Method::GET, "/api/v2/vms").send().await.unwrap().status(), 401, "tokens are lost");
    plain.post(format!("{control}/clock")).json(&json!({"advance_s": 10})).send().await.unwrap();
    let back = async {
        while client.call(Method::GET, "/api/v2/vms").send().await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, back).await.unwrap();
    sim.stop().await;
}

#[tokio::test]
async fn the_certificate_changes_on_demand() {
    let (sim, _) = start(quick()).await;
    let fingerprint = || async {
        let client = reqwest::Client::builder().tls_danger_accept_invalid_certs(true).tls_info(true).no_proxy();
        let url = format!("https://{}:{}/", sim.vip(), sim.fisheye_port());
        let answer = client.build().unwrap().get(url).send().await.unwrap();
        answer.extensions().get::<reqwest::tls::TlsInfo>().unwrap().peer_certificate().unwrap().to_vec()
    };
    let before = fingerprint().await;
    assert_eq!(before, fingerprint().await);
    sim.core().change_world(&gantry_sim::fault::WorldAction::RotateCertificate).unwrap();
    assert_ne!(before, fingerprint().await);
    sim.stop().await;
}

#[tokio::test]
async fn a_request_without_host_is_refused_and_seen_by_the_invariants() {
    let mut options = quick();
    options.ports.fisheye_http = Some(0);
    let (sim, _) = start(options).await;
    let port = sim.addresses().fisheye_http_port.unwrap();
    for request in ["GET /api/v2/vms HTTP/1.1\r\n\r\n", "GET /api/v2/vms HTTP/1.1\r\nHost:\r\n\r\n"] {
        let mut tcp = tokio::net::TcpStream::connect((sim.vip(), port)).await.unwrap();
        tcp.write_all(request.as_bytes()).await.unwrap();
        let mut head = [0; 12];
        tokio::time::timeout(PATIENCE, tcp.read_exact(&mut head)).await.unwrap().unwrap();
        assert_eq!(&head, b"HTTP/1.1 400");
    }
    assert!(broken(&sim).contains(&11));
    sim.stop().await;
}

#[tokio::test]
async fn a_world_can_be_saved_changed_loaded_and_reset() {
    let (sim, client) = start(quick()).await;
    let image = client.upload("kept.iso", &content(100)).await;
    let plain = http();
    let url = format!("{}/world", sim.control_url());
    let saved: Value = plain.get(&url).send().await.unwrap().json().await.unwrap();
    plain.post(format!("{}/reset", sim.control_url())).send().await.unwrap();
    assert!(sim.core().world().images.is_empty());
    plain.post(&url).json(&json!({ "load": saved })).send().await.unwrap();
    assert!(sim.core().world().images.contains_key(&image.image));
    client.get("/api/v2/images").await;
    let pointer = format!("/images/{}/name", image.image);
    let set = plain.post(&url).json(&json!({"set": {pointer: "renamed.iso"}})).send().await.unwrap();
    assert_eq!(set.status(), 200);
    assert_eq!(client.get("/api/v2/images").await["images"][0]["name"], "renamed.iso");
    let nonsense = plain.post(&url).json(&json!({"set": {"/images": 7}})).send().await.unwrap();
    assert_eq!(nonsense.status(), 400);
    sim.stop().await;
}

#[tokio::test]
async fn requests_after_the_result_break_an_invariant() {
    let (sim, client) = start(quick()).await;
    let url = format!("{}/transcript", sim.control_url());
    http().post(&url).json(&json!({"note": "result"})).send().await.unwrap();
    assert_eq!(broken(&sim), [] as [u8; 0]);
    client.get("/api/v2/vms").await;
    let checked: Value =
        http().get(format!("{}/invariants", sim.control_url())).send().await.unwrap().json().await.unwrap();
    assert_eq!((&checked["ok"], &checked["violations"][0]["invariant"]), (&json!(false), &json!(7)));
    sim.stop().await;
}

#[tokio::test]
async fn scenarios_refuse_what_they_do_not_know() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("night.toml");
    std::fs::write(&path, "seed = 7\ntime_scale = 60.0\n[modes]\nto_upload = \"echo\"\n").unwrap();
    let mut options = SimOptions::load(&path).unwrap();
    assert_eq!((options.seed, options.time_scale), (7, 60.0));
    options.set("modes.unfinished=hidden").unwrap();
    options.set("fisheye.password=123").unwrap_err();
    options.set("no.such.key=1").unwrap_err();
    std::fs::write(&path, "sede = 7\n").unwrap();
    assert!(format!("{:#}", SimOptions::load(&path).unwrap_err()).contains("sede"));
}

#[tokio::test]
async fn the_program_says_where_it_is_and_ends_on_sigterm() {
    let directory = tempfile::tempdir().unwrap();
    let ready = directory.path().join("ready.json");
    let mut child = tokio::process::Command::new(env!("CARGO_BIN_EXE_simulator"))
        .args(["--set", "time_scale=60", "--ready-file"])
        .arg(&ready)
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let line = tokio::time::timeout(PATIENCE, lines.next_line()).await.unwrap().unwrap().unwrap();
    assert_eq!(std::fs::read_to_string(&ready).unwrap(), line);
    let addresses: Value = serde_json::from_str(&line).unwrap();
    let health = format!("{}/health", addresses["control_url"].as_str().unwrap());
    assert_eq!(http().get(health).send().await.unwrap().status(), 200);
    let pid = child.id().unwrap().to_string();
    assert!(tokio::process::Command::new("kill").arg(pid).status().await.unwrap().success());
    let status = tokio::time::timeout(PATIENCE, child.wait()).await.unwrap().unwrap();
    assert!(status.success());
}

#[tokio::test]
async fn a_wrong_scenario_is_said_in_one_line() {
    let mut simulator = tokio::process::Command::new(env!("CARGO_BIN_EXE_simulator"));
    let output = simulator.args(["--set", "foo=1"]).env("RUST_BACKTRACE", "1").output().await.unwrap();
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), told.lines().count()), (Some(2), 1), "{told}");
    assert!(told.contains("`foo`"), "{told}");
}

#[tokio::test]
async fn a_cluster_on_an_ipv6_address() {
    let options = SimOptions { vip: "::1".parse().unwrap(), ..quick() };
    let sim = gantry_sim::Sim::start(options).await.unwrap();
    let base = format!("https://[::1]:{}", sim.fisheye_port());
    let mut client = Client { http: http(), base, token: String::new() };
    client.login().await;
    sim.core().patch_modes(&json!({"strict": true})).unwrap();
    client.get("/api/v2/images").await;
    sim.stop().await;
}
