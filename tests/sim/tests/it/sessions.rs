//! Login, tokens, 401 bodies, lock-out.

use std::collections::BTreeSet;

use reqwest::Method;
use serde_json::{Value, json};

use crate::client::{pass, quick, start};

#[tokio::test]
async fn a_token_opens_the_interface_and_logout_closes_it() {
    let (sim, client) = start(quick()).await;
    assert_eq!(client.token.len(), 32);
    assert!(client.get("/api/v2/images").await["images"].is_array());
    let out = client.call(Method::DELETE, "/api/v3/sessions").header("Grpc-Metadata-Token", &client.token);
    assert_eq!(out.send().await.unwrap().status(), 200);
    assert_eq!(client.call(Method::GET, "/api/v2/images").send().await.unwrap().status(), 401);
    sim.stop().await;
}

#[tokio::test]
async fn tokens_live_seven_days() {
    let (sim, client) = start(quick()).await;
    pass(&sim, 7 * 24 * 3600 - 1);
    client.get("/api/v2/images").await;
    pass(&sim, 2);
    assert_eq!(client.call(Method::GET, "/api/v2/images").send().await.unwrap().status(), 401);
    sim.stop().await;
}

#[tokio::test]
async fn the_body_of_a_401_takes_every_shape() {
    let (sim, mut client) = start(quick()).await;
    client.token = "0".repeat(32);
    let mut shapes = BTreeSet::new();
    for _ in 0..40 {
        let answer = client.call(Method::GET, "/api/v2/vms").send().await.unwrap();
        assert_eq!(answer.status(), 401);
        let text = answer.text().await.unwrap();
        shapes.insert(match serde_json::from_str::<Value>(&text) {
            Ok(json) if json.get("ec").is_some() => "envelope",
            Ok(_) => "v3",
            Err(_) if text.is_empty() => "empty",
            Err(_) => "html",
        });
    }
    assert_eq!(shapes.into_iter().collect::<Vec<_>>(), ["empty", "envelope", "html", "v3"]);
    sim.stop().await;
}

#[tokio::test]
async fn five_wrong_passwords_lock_the_account_for_five_minutes() {
    let (sim, mut client) = start(quick()).await;
    let url = format!("{}/api/v3/sessions", client.base);
    let wrong = json!({"username": "root", "password": "guess", "encrypted": false});
    for _ in 0..5 {
        let answer = client.http.post(&url).json(&wrong).send().await.unwrap();
        assert_eq!(answer.status(), 401);
        assert_eq!(answer.json::<Value>().await.unwrap()["code"], 16);
    }
    assert_eq!(client.http.post(&url).json(&wrong).send().await.unwrap().status(), 403);
    pass(&sim, 301);
    client.login().await;
    sim.stop().await;
}

#[tokio::test]
async fn a_token_on_the_login_request_is_refused_in_its_mode() {
    let (sim, client) = start(quick()).await;
    sim.core().patch_modes(&json!({"reject_token_on_login": true})).unwrap();
    let form = json!({"username": "root", "password": "Lo!Fish3390m"});
    let answer = client.call(Method::POST, "/api/v3/sessions").json(&form).send().await.unwrap();
    assert_eq!(answer.status(), 401);
    sim.stop().await;
}

#[tokio::test]
async fn secrets_and_tokens_are_not_in_the_transcript() {
    let (sim, client) = start(quick()).await;
    client.get("/api/v2/images").await;
    let text = serde_json::to_string(&sim.core().transcript.entries()).unwrap();
    assert!(!text.contains("Lo!Fish3390m") && !text.contains(&client.token));
    assert!(text.contains("机密凭据"));
    sim.stop().await;
}
