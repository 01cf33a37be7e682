//! Several chunks in flight: as many as the server takes, each of them once, in whatever order they come.

use std::{collections::BTreeSet, time::Duration};

use gantry_agent::{executor::Ended, upload::Tuning};
use gantry_proto::Body;
use gantry_sim::{
    fault::{Action, ChunkMatch, Cut, Match, When},
    iso::Iso,
};
use serde_json::{Value, json};

use crate::site::{ISO_NAME, Ran, Site, Strings, UPLOAD, fault};

/// Chunks of these tests' ISO, of 64 KiB.
const MANY: u64 = 48;

/// A cluster that takes its time for each chunk, and an agent that finds out how many it takes.
async fn site() -> Site {
    let mut site = Site::with(|options| options.latencies.factor = 1.0).await;
    site.settings.upload.in_flight = 0;
    Iso::new(MANY << 16).write(&site.settings.iso_dir.join(ISO_NAME)).unwrap();
    site
}

fn most_at_once(site: &Site) -> u32 {
    site.core().world().images.values().map(|image| image.most_at_once).max().unwrap_or_default()
}

fn uploaded(site: &Site, ran: &Ran) {
    ran.succeeded();
    site.assert_content();
    site.assert_invariants();
    let sent: BTreeSet<u64> = site.chunk_calls().into_iter().collect();
    assert!(sent.into_iter().eq(0..MANY), "every chunk was sent");
}

fn sent(ran: &Ran) -> Value {
    let extra = ran.events.iter().rev().find_map(|event| match &event.body {
        Body::Note { code, extra, .. } if code == "upload_sent" => Some(extra.clone()),
        _ => None,
    });
    Value::Object(extra.unwrap())
}

#[tokio::test]
async fn a_server_that_takes_its_time_gets_several_chunks_at_once() {
    let site = site().await;
    let ran = site.run(UPLOAD).await;
    uploaded(&site, &ran);
    assert_eq!(site.chunk_calls().len() as u64, MANY, "none was sent twice");
    assert!((2..=16).contains(&most_at_once(&site)), "{}", most_at_once(&site));
    let told = sent(&ran);
    assert_eq!((&told["resent_bytes"], &told["sent_bytes"]), (&json!(0), &json!(MANY << 16)));
    let slots = told["slots"].as_array().unwrap();
    assert_eq!(told["max_in_flight"], slots.len());
    let wall = told["seconds"].as_f64().unwrap();
    for slot in slots {
        let sum: f64 = slot.as_object().unwrap().values().map(|kind| kind.as_f64().unwrap()).sum();
        assert!((sum / wall - 1.0).abs() < 0.03, "{slot}: {sum} of {wall} s");
    }
}

#[tokio::test]
async fn a_server_that_refuses_a_second_chunk_gets_one_after_the_other() {
    for mode in [json!({"chunks_at_once": "one"}), json!({"chunk_order": "ascending"})] {
        let site = site().await;
        site.modes(mode.clone());
        let ran = site.run(UPLOAD).await;
        uploaded(&site, &ran);
        assert_eq!((ran.notes("upload_one_by_one").len(), ran.notes("chunk_retry").len()), (1, 0), "{mode}");
        let calls = site.chunk_calls();
        let after = calls.iter().rposition(|index| calls.iter().filter(|other| *other == index).count() > 1).unwrap();
        assert!(calls[after..].is_sorted(), "ascending once it is known: {calls:?}");
        assert!(calls.len() as u64 <= MANY + 16, "a refusal costs what was in flight: {calls:?}");
    }
}

#[tokio::test]
async fn faults_among_many_chunks_cost_one_more_sending_each() {
    let half = Cut { request_part: Some(0.5), ..Cut::default() };
    for (when, action) in [
        (When::After, Action::reset()),
        (When::During, Action::Reset(half)),
        (When::Before, Action::status(401)),
        (When::During, Action::Stall { request_bytes: 100 }),
    ] {
        let name = format!("{action:?}");
        let site = site().await;
        for index in [10, 20, 30] {
            let one = Match::chunk(ChunkMatch::One(index));
            site.arm(fault(&format!("f{index}"), one, when, action.clone()).times(1));
        }
        let ran = site.run(UPLOAD).await;
        uploaded(&site, &ran);
        let fired: u64 = ["f10", "f20", "f30"].iter().map(|fault| site.fired(fault)).sum();
        assert_eq!((fired, site.chunk_calls().len() as u64), (3, MANY + 3), "{name}");
    }
}

#[tokio::test]
async fn a_stopped_upload_loses_what_was_in_flight_and_no_more() {
    let site = site().await;
    let ran = site
        .run_with(UPLOAD, |Strings { stop, log, .. }| async move {
            let mut samples = log.samples();
            let many = |sample: &Option<gantry_proto::Sample>| {
                sample.as_ref().is_some_and(|sample| sample.unit == "bytes" && sample.done > 20 << 16)
            };
            samples.wait_for(many).await.unwrap();
            stop.cancel();
        })
        .await;
    assert!(matches!(ran.ended, Ended::Stopped), "{:?}", ran.ended);
    let before = site.chunk_calls().len() as u64;
    let ran = site.run(UPLOAD).await;
    uploaded(&site, &ran);
    let again = site.chunk_calls().len() as u64 - MANY;
    assert!(again <= 16 && again < before, "{again} chunks of {before} were sent again");
}

#[tokio::test]
async fn a_pause_does_not_hold_an_upload_that_is_through() {
    let mut site = site().await;
    site.settings.upload.in_flight = 1;
    let last = Match::chunk(ChunkMatch::One(MANY - 1));
    site.arm(fault("last", last, When::Before, Action::Delay { ms: 2000 }).times(1));
    let ran = site
        .run_with(UPLOAD, |Strings { log, .. }| async move {
            let mut samples = log.samples();
            let is_last = |sample: &Option<gantry_proto::Sample>| {
                sample.as_ref().is_some_and(|sample| {
                    sample.unit == "bytes"
                        && sample.done == (MANY - 1) << 16
                        && sample.extra.get("in_flight") == Some(&json!(1))
                })
            };
            samples.wait_for(is_last).await.unwrap();
            log.tune(Tuning { paused: true, ..Tuning::default() });
            std::future::pending::<()>().await;
        })
        .await;
    uploaded(&site, &ran);
    assert_eq!(ran.notes("upload_tuned").len(), 1, "the pause came before the end");
}

#[tokio::test]
async fn an_operators_wishes_take_effect_while_it_runs() {
    let site = site().await;
    let ran = site
        .run_with(UPLOAD, |Strings { log, .. }| async move {
            let mut samples = log.samples();
            let begun = |sample: &Option<gantry_proto::Sample>| {
                sample.as_ref().is_some_and(|sample| sample.unit == "bytes" && sample.done > 0)
            };
            samples.wait_for(begun).await.unwrap();
            log.tune(Tuning { paused: true, ..Tuning::default() });
            let paused = |sample: &Option<gantry_proto::Sample>| {
                sample.as_ref().is_some_and(|sample| {
                    sample.text.ends_with("paused") && sample.extra.get("in_flight") == Some(&json!(0))
                })
            };
            // What was on its way comes to its end, and nothing new begins.
            tokio::time::timeout(Duration::from_secs(20), samples.wait_for(paused)).await.unwrap().unwrap();
            log.tune(Tuning { in_flight: Some(1), limit_bytes_per_s: Some(1 << 20), ..Tuning::default() });
            std::future::pending::<()>().await;
        })
        .await;
    uploaded(&site, &ran);
    assert_eq!(site.chunk_calls().len() as u64, MANY);
    assert_eq!(ran.notes("upload_tuned").len(), 2);
    let seconds = sent(&ran)["seconds"].as_f64().unwrap();
    // 3 MiB at 1 MiB/s, but for what went before the wish.
    assert!(seconds > 1.0, "the limit holds: {seconds} s");
}
