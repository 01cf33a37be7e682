//! Policies, switches, networks, hosts, unknown paths.

use reqwest::Method;
use serde_json::{Value, json};

use crate::client::{quick, start};

#[tokio::test]
async fn the_default_cluster_matches_the_loopback_workbook() {
    let (sim, client) = start(quick()).await;
    let vds = client.get("/api/v2/network/vds").await[0].clone();
    assert_eq!(vds["name"], "vDS-MgMt-Network");
    let path = format!("/api/v2/network/vds/{}/vlans", vds["uuid"].as_str().unwrap());
    let vlans = client.get(&path).await["entities"].clone();
    let ids: Vec<_> = vlans.as_array().unwrap().iter().map(|vlan| (&vlan["name"], &vlan["vlan_id"])).collect();
    assert_eq!(ids, [(&json!("mgt-network"), &json!(0)), (&json!("default"), &json!(0))]);
    sim.core().patch_modes(&json!({"vlans_shape": "array", "vlan_id": "string"})).unwrap();
    assert_eq!(client.get(&path).await[1]["vlan_id"], "0");
    assert_eq!(client.get("/api/v2/network/vm_vlans/search").await["total_entities"], 1);
    let hosts = client.get("/api/v2/management/hosts").await;
    assert_eq!((&hosts[2]["management_ip"], &hosts[2]["data_ip"]), (&json!("127.0.20.13"), &json!("127.0.21.13")));
    assert!(hosts[0]["memory"].get("used").is_none());
    sim.core().patch_modes(&json!({"host_usage": true})).unwrap();
    assert_eq!(client.get("/api/v2/management/hosts").await[0]["memory"]["used"], 0);
    sim.stop().await;
}

#[tokio::test]
async fn unknown_things_are_404_with_an_envelope() {
    let (sim, client) = start(quick()).await;
    for path in ["/api/v2/nothing", "/api/v2/jobs/none", "/api/v2/vms/none", "/api/v2/network/vds/none/vlans"] {
        let answer = client.call(Method::GET, path).send().await.unwrap();
        assert_eq!(answer.status(), 404, "{path}");
        assert!(answer.json::<Value>().await.unwrap()["error"]["msg"].is_string());
    }
    sim.core().patch_modes(&json!({"unknown_job": "ec_error"})).unwrap();
    let answer = client.call(Method::GET, "/api/v2/jobs/none").send().await.unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.json::<Value>().await.unwrap()["ec"], "JOB_NOT_FOUND");
    sim.stop().await;
}

#[tokio::test]
async fn unknown_parameters_are_remarked_and_refused_when_strict() {
    let (sim, client) = start(quick()).await;
    client.get("/api/v2/images?colour=red").await;
    let seen = sim.core().transcript.calls("GET", "/api/v2/images");
    assert!(seen[0].notes[0].contains("colour"));
    sim.core().patch_modes(&json!({"strict": true})).unwrap();
    let answer = client.call(Method::GET, "/api/v2/images?colour=red").send().await.unwrap();
    assert_eq!(answer.json::<Value>().await.unwrap()["ec"], "REST_FORM_ERROR");
    let elsewhere = client.call(Method::GET, "/api/v2/images").header("host", "127.0.20.99").send().await.unwrap();
    assert_eq!(elsewhere.status(), 400);
    sim.stop().await;
}
