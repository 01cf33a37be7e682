//! Images: every reading of `to_upload`, content that is proved, order, space, refusals.

use gantry_sim::SimOptions;
use gantry_sim::options::Storage;
use reqwest::Method;
use reqwest::multipart::{Form, Part};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::client::{CHUNK, broken, content, pass, quick, slice, start};

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn spooled(directory: &tempfile::TempDir) -> SimOptions {
    SimOptions { storage: Storage::Spool { directory: directory.path().into() }, ..quick() }
}

#[tokio::test]
async fn every_honest_reading_of_to_upload_stores_the_same_content() {
    let directory = tempfile::tempdir().unwrap();
    let (sim, client) = start(spooled(&directory)).await;
    let bytes = content(3 * CHUNK + 1);
    let readings = [
        ("remaining", [json!([1, 2, 3]), json!([])]),
        ("echo", [json!([0]), json!([3])]),
        ("single_then_empty", [json!([0]), json!([])]),
        ("growing", [json!([0]), json!([])]),
        ("absent", [Value::Null, Value::Null]),
    ];
    for (mode, [first, last]) in readings {
        sim.core().patch_modes(&json!({"to_upload": mode})).unwrap();
        let to = client.volume(mode, bytes.len()).await;
        assert_eq!(client.send(&to, 0, &bytes).await, first, "{mode}");
        client.send(&to, 1, &bytes).await;
        client.send(&to, 2, &bytes).await;
        assert_eq!(client.send(&to, 3, &bytes).await, last, "{mode}");
        let listed = client.get("/api/v2/images").await["images"].as_array().unwrap().clone();
        let ours = listed.iter().find(|image| image["uuid"] == to.image.as_str()).unwrap();
        assert_eq!((&ours["size"], &ours["path"]), (&json!(bytes.len()), &json!(to.path)));
        assert_eq!(ours["md5"], hex(&md5::Md5::digest(&bytes)), "{mode}");
        assert_eq!(std::fs::read(sim.core().store.path(&to.image).unwrap()).unwrap(), bytes);
    }
    assert_eq!(broken(&sim), [] as [u8; 0]);
    sim.stop().await;
}

#[tokio::test]
async fn lying_lists_lie_as_announced() {
    let (sim, client) = start(quick()).await;
    let bytes = content(2 * CHUNK);
    for (mode, wanted) in [
        ("never_shrinks", json!([0, 1])),
        ("repeat_once", json!([0])),
        ("empty_after_first", json!([])),
        ("out_of_range", json!([2, 9])),
        ("negative", json!([-1, -5])),
        ("strings", json!([])),
        ("null", Value::Null),
    ] {
        sim.core().patch_modes(&json!({"to_upload": mode})).unwrap();
        let to = client.volume(mode, bytes.len()).await;
        client.send(&to, 0, &bytes).await;
        assert_eq!(client.send(&to, 1, &bytes).await, wanted, "{mode}");
    }
    sim.core().patch_modes(&json!({"to_upload": "huge"})).unwrap();
    let to = client.volume("huge", bytes.len()).await;
    assert_eq!(client.send(&to, 0, &bytes).await.as_array().unwrap().len(), 1_000_000);
    sim.stop().await;
}

#[tokio::test]
async fn chunks_may_come_in_any_order_and_at_once() {
    let (sim, client) = start(quick()).await;
    let bytes = content(7 * CHUNK + 17);
    let to = client.volume("backwards", bytes.len()).await;
    for n in (0..8).rev() {
        client.send(&to, n, &bytes).await;
    }
    let at_once = client.volume("at-once", bytes.len()).await;
    futures_util::future::join_all((0..8).map(|n| client.send(&at_once, n, &bytes))).await;
    let want = hex(&Sha256::digest(&bytes));
    for volume in [to, at_once] {
        let world = sim.core().world();
        assert_eq!(world.images[&volume.image].sha256.as_deref(), Some(want.as_str()));
    }
    sim.core().patch_modes(&json!({"chunk_order": "ascending"})).unwrap();
    let strict = client.volume("strict", bytes.len()).await;
    let answer: Value = client.chunk(&strict, 1, slice(&bytes, 1)).await.unwrap().json().await.unwrap();
    assert_ne!(answer["ec"], "EOK");
    client.send(&strict, 0, &bytes).await;
    sim.stop().await;
}

#[tokio::test]
async fn chunks_of_the_wrong_shape_are_refused_and_leave_no_trace() {
    let (sim, client) = start(quick()).await;
    let bytes = content(CHUNK + 1);
    let to = client.volume("x", bytes.len()).await;
    let refused = |answer: reqwest::Response| async move {
        let body: Value = answer.json().await.unwrap();
        assert_ne!(body["ec"], "EOK", "{body}");
    };
    refused(client.chunk(&to, 0, &bytes[..CHUNK - 1]).await.unwrap()).await;
    refused(client.chunk(&to, 1, &bytes[..2]).await.unwrap()).await;
    refused(client.chunk(&to, 2, &bytes[..1]).await.unwrap()).await;
    let other = crate::client::Volume { zbs: "other".into(), ..to.clone() };
    refused(client.chunk(&other, 1, &bytes[..1]).await.unwrap()).await;
    let path = format!("/api/v2/images/upload?zbs_volume_id={}&image_uuid={}&chunk_num=1", to.zbs, to.image);
    let two = Form::new().part("file", Part::bytes(vec![1])).part("file", Part::bytes(vec![1]));
    refused(client.call(Method::POST, &path).multipart(two).send().await.unwrap()).await;
    let named = Form::new().part("blob", Part::bytes(vec![1]));
    refused(client.call(Method::POST, &path).multipart(named).send().await.unwrap()).await;
    refused(client.call(Method::POST, &path).json(&json!({})).send().await.unwrap()).await;
    assert!(sim.core().world().images[&to.image].received.is_empty());
    let zero = client.call(Method::POST, "/api/v2/images/upload/volume?name=e&size=0&device=nfs&task_id=2");
    refused(zero.send().await.unwrap()).await;
    sim.stop().await;
}

#[tokio::test]
async fn unfinished_and_finished_images_in_the_list() {
    let mut options = quick();
    options.latencies.factor = 1.0;
    options.latencies.md5 = [60_000, 60_000];
    let (sim, client) = start(options).await;
    let bytes = content(10);
    let to = client.volume("x.iso", bytes.len()).await;
    let listed = || async { client.get("/api/v2/images").await["images"].as_array().unwrap().clone() };
    assert!(listed().await[0].get("md5").is_none());
    sim.core().patch_modes(&json!({"unfinished": "hidden"})).unwrap();
    assert!(listed().await.is_empty());
    sim.core().patch_modes(&json!({"unfinished": "listed_with_partial_md5"})).unwrap();
    assert!(listed().await[0]["md5"].is_string());
    client.send(&to, 0, &bytes).await;
    assert_eq!(listed().await[0]["md5"], Value::Null);
    pass(&sim, 61);
    assert_eq!(listed().await[0]["md5"], hex(&md5::Md5::digest(&bytes)));
    for (shape, pointer) in [("entities", "/entities/0"), ("array", "/0"), ("records", "/records/0")] {
        sim.core().patch_modes(&json!({"image_list": shape})).unwrap();
        assert!(client.get("/api/v2/images").await.pointer(pointer).is_some(), "{shape}");
    }
    sim.stop().await;
}

#[tokio::test]
async fn space_is_taken_given_back_and_refused() {
    let (sim, client) = start(SimOptions { free_bytes: 1000, ..quick() }).await;
    let to = client.volume("x", 400).await;
    assert_eq!(sim.core().world().free_bytes, 200);
    let path = "/api/v2/images/upload/volume?name=y&size=400&device=nfs&task_id=2";
    let full: Value = client.call(Method::POST, path).send().await.unwrap().json().await.unwrap();
    assert_eq!(full["ec"], "ZBS_NO_SPACE");
    assert_eq!(broken(&sim), [2]);
    let gone = format!("/api/v2/images/{}", to.image);
    assert_eq!(client.call(Method::DELETE, &gone).send().await.unwrap().status(), 200);
    assert_eq!(client.call(Method::DELETE, &gone).send().await.unwrap().status(), 404);
    assert_eq!(sim.core().world().free_bytes, 1000);
    assert_eq!(broken(&sim), [] as [u8; 0]);
    sim.stop().await;
}

#[tokio::test]
async fn an_unfinished_volume_expires_in_its_mode() {
    let (sim, client) = start(quick()).await;
    sim.core().patch_modes(&json!({"volume_ttl_s": 100})).unwrap();
    let bytes = content(2 * CHUNK);
    let to = client.volume("x", bytes.len()).await;
    pass(&sim, 99);
    client.send(&to, 0, &bytes).await;
    pass(&sim, 99);
    client.send(&to, 0, &bytes).await;
    pass(&sim, 101);
    assert_eq!(client.chunk(&to, 1, slice(&bytes, 1)).await.unwrap().status(), 404);
    sim.stop().await;
}
