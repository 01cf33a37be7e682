//! The upload step against a cluster that does everything wrong that it can (`simulator-behaviours.md` 5.1 to 5.3).

use std::{fs::File, os::unix::fs::FileExt as _, time::Duration};

use gantry_agent::{executor::Ended, facts::ImageState};
use gantry_proto::{Body, JobOutcome, UndoState};
use gantry_sim::{
    fault::{Action, Answer, ChunkMatch, Cut, Edit, Match, When, WorldAction},
    iso::Iso,
};
use serde_json::json;

use crate::{
    decide::{decide, question},
    site::{CHUNK, CHUNKS, ISO_NAME, Ran, Site, Strings, UPLOAD, fault},
};

const ALL: [u64; CHUNKS as usize] = [0, 1, 2, 3, 4];

fn chunk(index: u64) -> Match {
    Match::chunk(ChunkMatch::One(index))
}

fn volume() -> Match {
    Match::fisheye("POST", "/api/v2/images/upload/volume")
}

fn delete() -> Match {
    Match::fisheye("DELETE", "/api/v2/images/*")
}

fn body(status: u16, body: serde_json::Value) -> Action {
    Action::Answer(Answer { status, body, ..Answer::default() })
}

fn edit(pointer: &str, value: serde_json::Value) -> Action {
    Action::Edit(Edit { set: [(pointer.to_owned(), value)].into(), ..Edit::default() })
}

/// Uploaded, proved, clean.
fn assert_uploaded(site: &Site, ran: &Ran) {
    ran.succeeded();
    site.assert_content();
    site.assert_invariants();
    let image = ran.facts.image.clone().unwrap();
    assert_eq!((image.state, image.uploaded_chunks), (ImageState::Uploaded, CHUNKS));
    assert!(ran.facts.asked_volume.is_none() && ran.facts.leftovers.is_empty(), "{:?}", ran.facts.leftovers);
}

/// Failed, and nothing is left.
fn assert_clean_failure(site: &Site, ran: &Ran) -> String {
    let code = ran.code();
    assert_eq!(site.images(), []);
    assert!(matches!(ran.view.undo, Some(UndoState::RolledBack | UndoState::Nothing)), "{:?}", ran.view.undo);
    assert!(ran.facts.leftovers.is_empty());
    site.assert_invariants();
    code
}

#[tokio::test]
async fn an_upload_sends_each_chunk_once_and_proves_the_image() {
    let site = Site::new().await;
    let ran = site.run(UPLOAD).await;
    assert_uploaded(&site, &ran);
    assert_eq!(site.chunk_calls(), ALL);
    assert_eq!(site.calls("POST", "/api/v2/images/upload/volume").len(), 1);
    assert_eq!(ran.notes("upload_volume").len(), 1);
    let journaled = site.take_up().1.log.chunks(&ran.facts.image.unwrap().image_uuid);
    assert_eq!(journaled.keys().copied().collect::<Vec<_>>(), ALL);
    assert!(journaled.values().all(|chunk| chunk.sha256.len() == 64));
    assert_eq!(journaled[&4].size, 1);
    assert!(ran.facts.timings["upload_s"] > 0.0);
    for entry in site.calls("POST", "/api/v2/images/upload") {
        assert!(entry.headers.iter().any(|header| header == "content-length"), "{:?}", entry.headers);
        assert!(!entry.headers.iter().any(|header| header == "transfer-encoding"));
    }
}

#[tokio::test]
async fn every_reading_of_to_upload_ends_with_the_whole_image() {
    for (mode, most) in [
        ("remaining", 5),
        ("echo", 6),
        ("single_then_empty", 5),
        ("growing", 5),
        ("absent", 5),
        ("never_shrinks", 6),
        ("repeat_once", 6),
        ("empty_after_first", 5),
        ("out_of_range", 5),
        ("negative", 5),
        ("strings", 6),
        ("huge", 5),
        ("null", 5),
    ] {
        let mut site = Site::new().await;
        // A million numbers take their time.
        site.settings.fisheye.stall_timeout_ms = 10_000;
        site.settings.fisheye.request_timeout_ms = 10_000;
        site.modes(json!({"to_upload": mode, "chunk_order": "ascending"}));
        let ran = site.run(UPLOAD).await;
        assert_uploaded(&site, &ran);
        let sent = site.chunk_calls();
        assert!(sent.starts_with(&ALL) && sent.len() <= most, "{mode}: {sent:?}");
    }
}

#[tokio::test]
async fn the_first_to_upload_may_be_anything() {
    for mode in ["subset", "unsorted", "absent", "null"] {
        for later in ["remaining", "absent", "growing"] {
            let site = Site::new().await;
            site.modes(json!({"initial_to_upload": mode, "to_upload": later}));
            assert_uploaded(&site, &site.run(UPLOAD).await);
            assert!(site.chunk_calls().len() <= 6, "{mode} {later} {:?}", site.chunk_calls());
        }
    }
}

#[tokio::test]
async fn md5_and_unfinished_images_may_be_listed_in_every_way() {
    for (md5, unfinished) in [
        ("present", "hidden"),
        ("present", "listed_with_partial_md5"),
        ("always_null", "listed_without_md5"),
        ("absent", "hidden"),
    ] {
        let mut site = Site::new().await;
        site.settings.timing.image_proof_limit_s = if md5 == "present" { 1_000.0 } else { 100.0 };
        site.modes(json!({"md5": md5, "unfinished": unfinished}));
        let ran = site.run(UPLOAD).await;
        assert_uploaded(&site, &ran);
        assert_eq!(ran.notes("image_without_md5").len(), usize::from(md5 != "present"), "{md5}");
    }
}

#[tokio::test]
async fn a_chunk_that_fails_is_sent_again() {
    let half = Cut { request_part: Some(0.5), ..Cut::default() };
    let first = Cut { request_bytes: Some(1), ..Cut::default() };
    let unknown = json!({"ec": "REST_UNKNOWN_ERROR", "data": {}, "error": {"msg": "x", "detail": ""}});
    let corrupted = json!({"ec": "CHUNK_CORRUPTED", "data": {}, "error": {"msg": "x"}});
    for (when, action) in [
        (When::During, Action::Reset(half.clone())),
        (When::During, Action::Close(half)),
        (When::During, Action::Reset(first)),
        (When::After, Action::reset()),
        (When::Before, Action::status(500)),
        (When::Before, Action::status(502)),
        (When::Before, Action::status(503)),
        (When::Before, Action::status(504)),
        (When::After, body(200, unknown)),
        (When::Before, body(200, corrupted)),
        (When::After, edit("/data/chunk_num", json!(99))),
        (When::After, Action::Edit(Edit { remove: vec!["/data/chunk_num".into()], ..Edit::default() })),
        (When::After, Action::Truncate { bytes: 0 }),
        (When::After, Action::Truncate { bytes: 20 }),
        (When::After, Action::Garble { bytes: 500 }),
        (When::After, Action::Flood { bytes: None }),
    ] {
        let name = format!("{when:?} {action:?}");
        let site = Site::new().await;
        site.arm(fault("f", chunk(2), when, action).times(2));
        let ran = site.run(UPLOAD).await;
        assert_uploaded(&site, &ran);
        assert_eq!((site.fired("f"), ran.notes("chunk_retry").len()), (2, 2), "{name}");
        assert_eq!(site.calls("POST", "/api/v2/images/upload/volume").len(), 1, "{name}");
    }
}

#[tokio::test]
async fn lost_answers_to_many_chunks_cost_one_more_sending_each() {
    let site = Site::new().await;
    site.arm(fault("even", Match::chunk(ChunkMatch::Every { every: 2 }), When::After, Action::reset()).times(1));
    site.arm(
        fault("last", Match::chunk(serde_json::from_value(json!("last")).unwrap()), When::After, Action::reset())
            .times(1),
    );
    assert_uploaded(&site, &site.run(UPLOAD).await);
    assert_eq!(site.chunk_calls(), [0, 0, 1, 2, 3, 4, 4]);
}

#[tokio::test]
async fn a_stalled_chunk_is_given_up_after_the_stall_timer_and_a_slow_one_is_not() {
    let site = Site::new().await;
    site.arm(fault("stall", chunk(2), When::During, Action::Stall { request_bytes: 100 }).times(1));
    site.arm(fault("hang", chunk(3), When::After, Action::Hang).times(1));
    let ran = site.run(UPLOAD).await;
    assert_uploaded(&site, &ran);
    assert_eq!((site.fired("stall"), site.fired("hang"), ran.notes("chunk_retry").len()), (1, 1, 2));

    let site = Site::new().await;
    // Three real seconds in virtual time; the stall timer is 0.3 s, but the whole chunk lies in the buffers.
    site.arm(fault("slow", chunk(0), When::After, Action::Delay { ms: 1_500_000 }).times(1));
    let ran = site.run(UPLOAD).await;
    assert_uploaded(&site, &ran);
    assert_eq!((site.fired("slow"), ran.notes("chunk_retry").len()), (1, 0));
}

#[tokio::test]
async fn a_401_or_429_in_mid_upload_costs_what_it_must() {
    let site = Site::new().await;
    site.arm(fault("401", Match::chunk(ChunkMatch::From { from: 0 }), When::Before, Action::status(401)).every(2));
    let ran = site.run(UPLOAD).await;
    assert_uploaded(&site, &ran);
    assert_eq!(ran.notes("chunk_retry").len(), 0, "a 401 is not an attempt");
    assert!(site.fired("401") >= 3 && site.logins() as u64 == 1 + site.fired("401"));

    let site = Site::with(|options| options.fisheye.token_lifetime_s = 200).await;
    let all = Match::chunk(ChunkMatch::From { from: 0 });
    site.arm(fault("wait", all, When::After, Action::Delay { ms: 100_000 }));
    assert_uploaded(&site, &site.run(UPLOAD).await);
    assert!(site.logins() > 1, "{}", site.logins());
}

#[tokio::test]
async fn a_chunk_that_fails_four_times_costs_the_volume_and_one_more_upload() {
    let site = Site::new().await;
    site.arm(fault("f", chunk(3), When::Before, Action::status(500)).times(4));
    let ran = site.run(UPLOAD).await;
    assert_uploaded(&site, &ran);
    assert_eq!(site.chunk_calls(), [0, 1, 2, 3, 3, 3, 3, 0, 1, 2, 3, 4]);
    assert_eq!(site.calls("POST", "/api/v2/images/upload/volume").len(), 2);
    assert_eq!(site.images().len(), 1);
}

#[tokio::test]
async fn the_second_exhaustion_fails_the_job_and_leaves_nothing() {
    let site = Site::new().await;
    site.arm(fault("f", chunk(1), When::Before, Action::status(500)));
    let ran = site.run(UPLOAD).await;
    assert_eq!(assert_clean_failure(&site, &ran), "fisheye_unavailable");
    assert_eq!((site.fired("f"), site.calls("POST", "/api/v2/images/upload/volume").len()), (8, 2));
    assert_eq!(ran.failure().detail["chunk_num"], 1);
}

#[tokio::test]
async fn a_damaged_image_is_found_by_its_md5_and_uploaded_once_more() {
    let mut site = Site::new().await;
    site.settings.timing.image_proof_limit_s = 100.0;
    site.arm(fault("f", chunk(2), When::Before, Action::mark("corrupt_chunk")).times(1));
    assert_uploaded(&site, &site.run(UPLOAD).await);
    assert_eq!((site.fired("f"), site.chunk_calls().len()), (1, 10));

    let mut site = Site::new().await;
    site.settings.timing.image_proof_limit_s = 100.0;
    site.arm(fault("f", chunk(2), When::Before, Action::mark("corrupt_chunk")));
    let ran = site.run(UPLOAD).await;
    assert_eq!(assert_clean_failure(&site, &ran), "image_corrupted");
}

#[tokio::test]
async fn chunk_sizes_of_every_kind_are_handled_or_refused() {
    for size in [json!(100_000), json!("65536"), json!(1u64 << 40)] {
        let site = Site::new().await;
        // The simulator keeps to its own size: only answers that agree with it can succeed.
        let agrees = size == json!("65536");
        site.arm(fault("f", volume(), When::After, edit("/data/chunk_size", size.clone())));
        let ran = site.run(UPLOAD).await;
        if agrees {
            assert_uploaded(&site, &ran)
        } else {
            assert_clean_failure(&site, &ran);
        }
    }
    let site = Site::new().await;
    let remove = Action::Edit(Edit { remove: vec!["/data/chunk_size".into()], ..Edit::default() });
    site.arm(fault("f", volume(), When::After, remove));
    assert_uploaded(&site, &site.run(UPLOAD).await);
    for (size, word) in [(json!(0), "chunk size is 0")] {
        let site = Site::new().await;
        site.arm(fault("f", volume(), When::After, edit("/data/chunk_size", size)));
        let ran = site.run(UPLOAD).await;
        assert_eq!(assert_clean_failure(&site, &ran), "volume_unusable");
        assert!(ran.failure().message.contains(word));
    }
    for (chunk_size, iso) in [(4096, CHUNK * 2), (CHUNK * 4, CHUNK * 2), (CHUNK, CHUNK * 3), (CHUNK * 2, CHUNK * 2 - 1)]
    {
        let site = Site::with(|options| options.chunk_size = chunk_size).await;
        Iso::new(iso).seed(3).write(&site.iso()).unwrap();
        site.run(UPLOAD).await.succeeded();
        site.assert_content();
        assert_eq!(site.chunk_calls().len() as u64, iso.div_ceil(chunk_size));
    }
}

#[tokio::test]
async fn a_full_cluster_is_told_at_once_with_the_advice_about_disks() {
    let site = Site::with(|options| options.free_bytes = 1000).await;
    let ran = site.run(UPLOAD).await;
    assert_eq!(assert_clean_failure(&site, &ran), "volume_refused");
    assert!(ran.failure().remedy.contains("free space"));
    assert_eq!(site.calls("POST", "/api/v2/images/upload/volume").len(), 1);
}

#[tokio::test]
async fn a_volume_that_vanishes_is_made_anew_once() {
    let site = Site::new().await;
    site.arm(fault("f", chunk(2), When::Before, Action::World(WorldAction::DropImages { all: true })).times(1));
    let ran = site.run(UPLOAD).await;
    assert_uploaded(&site, &ran);
    assert_eq!(site.calls("POST", "/api/v2/images/upload/volume").len(), 2);
}

#[tokio::test]
async fn a_lost_answer_to_the_volume_leaves_one_image() {
    let site = Site::new().await;
    site.arm(fault("lost", volume(), When::After, Action::reset()).times(1));
    let ran = site.run(UPLOAD).await;
    assert_uploaded(&site, &ran);
    assert_eq!(ran.notes("orphan_volume_deleted").len(), 1);
    assert_eq!((site.images().len(), site.fired("lost")), (1, 1));

    let site = Site::new().await;
    site.modes(json!({"unfinished": "hidden"}));
    site.arm(fault("lost", volume(), When::After, Action::reset()).times(1));
    let ran = site.run(UPLOAD).await;
    ran.succeeded();
    site.assert_content();
    assert_eq!((ran.facts.leftovers.len(), ran.facts.leftovers[0].kind.as_str()), (1, "image"));

    // The call never arrived: a server that lists unfinished volumes proves that nothing is left.
    let site = Site::new().await;
    site.arm(fault("lost", volume(), When::Before, Action::reset()).times(1));
    assert_uploaded(&site, &site.run(UPLOAD).await);

    let site = Site::new().await;
    site.arm(fault("lost", volume(), When::After, Action::reset()));
    let ran = site.run(UPLOAD).await;
    assert_clean_failure(&site, &ran);
    assert_eq!(site.fired("lost"), 3);
}

#[tokio::test]
async fn a_deletion_is_tried_again_and_what_stays_is_listed() {
    for (action, when) in [(Action::status(500), When::Before), (Action::reset(), When::After)] {
        let site = Site::new().await;
        site.arm(fault("chunk", chunk(1), When::Before, Action::status(500)));
        site.arm(fault("delete", delete(), when, action).times(1));
        let ran = site.run(UPLOAD).await;
        assert_clean_failure(&site, &ran);
        assert_eq!(site.fired("delete"), 1);
    }
    for action in [Action::status(500), body(200, json!({"ec": "EOK", "data": {}, "error": {}}))] {
        let site = Site::new().await;
        site.arm(fault("chunk", chunk(1), When::Before, Action::status(500)));
        site.arm(fault("delete", delete(), When::Before, action));
        let ran = site.run(UPLOAD).await;
        assert_eq!(ran.view.undo, Some(UndoState::RollbackIncomplete));
        assert_eq!(ran.view.leftovers.len(), 1);
        let leftover = &ran.view.leftovers[0];
        assert_eq!((leftover.kind.as_str(), &leftover.id), ("image", &site.images()[0].0));
        assert!(leftover.remedy.contains("curl -k -X DELETE"));
        assert!(site.fired("delete") >= 2);
        assert_eq!(site.calls("POST", "/api/v2/images/upload/volume").len(), 1, "no second volume beside the first");
    }
}

#[tokio::test]
async fn an_iso_that_changes_under_the_upload_is_noticed() {
    let change = |site: &Site, how: u8| {
        let path = site.iso();
        move || {
            let file = File::options().write(true).open(&path).unwrap();
            match how {
                0 => file.write_all_at(b"changed", 3 * CHUNK).unwrap(),
                1 => file.set_len(CHUNK).unwrap(),
                _ => std::fs::remove_file(&path).unwrap(),
            }
        }
    };
    for how in 0..3 {
        let site = Site::new().await;
        // The third chunk waits for a moment; the file changes meanwhile.
        site.arm(fault("wait", chunk(2), When::Before, Action::Delay { ms: 200_000 }).times(1));
        let change = change(&site, how);
        let ran = site
            .run_with(UPLOAD, |_| async {
                while site.chunk_calls().len() < 3 {
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
                change();
                std::future::pending::<()>().await;
            })
            .await;
        assert_eq!(assert_clean_failure(&site, &ran), "iso_changed", "{how}");
    }
}

#[tokio::test]
async fn a_stopped_upload_goes_on_where_it_was() {
    let site = Site::new().await;
    let first = stop_at_chunk(&site, 3).await;
    assert!(matches!(first.ended, Ended::Stopped), "{:?}", first.ended);
    let sent = site.chunk_calls().len();
    let ran = site.run(UPLOAD).await;
    assert_uploaded(&site, &ran);
    assert_eq!(site.calls("POST", "/api/v2/images/upload/volume").len(), 1);
    let again = site.chunk_calls().split_off(sent);
    assert!(again == [3, 4] || again == [4] || again == [2, 3, 4], "{again:?}");
}

#[tokio::test]
async fn a_stopped_upload_whose_volume_is_gone_begins_anew() {
    for hidden in [false, true] {
        let site = Site::new().await;
        site.modes(json!({"unfinished": if hidden { "hidden" } else { "listed_without_md5" }}));
        stop_at_chunk(&site, 3).await;
        site.core().change_world(&WorldAction::DropImages { all: true }).unwrap();
        assert_uploaded(&site, &site.run(UPLOAD).await);
        assert_eq!(site.calls("POST", "/api/v2/images/upload/volume").len(), 2);
    }
}

#[tokio::test]
async fn an_unfinished_volume_that_is_listed_with_another_size_is_still_ours() {
    for (times, code) in [(Some(1), None), (None, Some("image_wrong_size"))] {
        let mut site = Site::new().await;
        site.settings.timing.image_proof_limit_s = 100.0;
        site.modes(json!({"unfinished": "listed_without_md5", "image_list": "images"}));
        stop_at_chunk(&site, 3).await;
        let list = Match::fisheye("GET", "/api/v2/images");
        let other = fault("size", list, When::After, edit("/data/images/0/size", json!(1)));
        site.arm(if let Some(times) = times { other.times(times) } else { other });
        let ran = site.run(UPLOAD).await;
        let volumes = site.calls("POST", "/api/v2/images/upload/volume").len();
        assert!(site.fired("size") > 0 && ran.notes("image_gone").is_empty());
        match code {
            // It goes on where it was.
            None => {
                assert_uploaded(&site, &ran);
                assert_eq!(volumes, 1);
            }
            // The proof fails, the volume is deleted, and the upload made once more.
            Some(code) => {
                assert_eq!(assert_clean_failure(&site, &ran), code);
                assert_eq!(volumes, 2);
            }
        }
    }
}

#[tokio::test]
async fn what_a_later_undo_deletes_is_no_leftover_any_more() {
    let site = Site::new().await;
    site.arm(fault("chunk", chunk(1), When::Before, Action::status(500)));
    let nothing = body(200, json!({"ec": "EOK", "data": {}, "error": {}}));
    let attempts = site.settings.timing.undo_attempts.max(2);
    site.arm(fault("delete", delete(), When::Before, nothing).times(attempts.into()));
    let ran = site.run(UPLOAD).await;
    assert!(ran.failure().causes.iter().any(|cause| cause.contains("its undo failed")), "{:?}", ran.failure());
    assert_eq!(site.fired("delete"), u64::from(attempts));
    assert_clean_failure(&site, &ran);
    assert!(ran.view.leftovers.is_empty());
}

#[tokio::test]
async fn a_volume_that_may_be_there_is_listed_when_the_undo_cannot_look() {
    let site = Site::new().await;
    site.arm(fault("hang", volume(), When::After, Action::Hang));
    let site_ref = &site;
    let ran = site
        .run_with(UPLOAD, |strings| async move {
            while site_ref.fired("hang") == 0 {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            let list = Match::fisheye("GET", "/api/v2/images");
            site_ref.arm(fault("down", list, When::Before, Action::status(503)));
            let question = question(strings.log.journal()).await;
            decide(&strings.log, question, "undo").await;
        })
        .await;
    assert_eq!((ran.code().as_str(), ran.view.undo), ("outcome_unknown", Some(UndoState::RollbackIncomplete)));
    let [leftover] = ran.view.leftovers.as_slice() else { panic!("{:?}", ran.view.leftovers) };
    assert_eq!((leftover.kind.as_str(), leftover.id.as_str(), leftover.name.as_str()), ("image", "", ISO_NAME));
    assert!(leftover.remedy.contains("unfinished ISO image"));
}

#[tokio::test]
async fn a_cancel_in_the_middle_deletes_the_volume() {
    let site = Site::new().await;
    site.arm(fault("slow", chunk(2), When::Before, Action::Hang));
    let site_ref = &site;
    let ran = site
        .run_with(UPLOAD, |strings| async move {
            while site_ref.chunk_calls().len() < 3 {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            cancel(&strings).await;
            std::future::pending::<()>().await;
        })
        .await;
    assert!(matches!(ran.ended, Ended::Finished(JobOutcome::Cancelled)), "{:?}", ran.ended);
    assert_eq!(ran.view.undo, Some(UndoState::RolledBack));
}

#[tokio::test]
async fn progress_is_monotone_and_complete() {
    let site = Site::new().await;
    site.arm(fault("wait", Match::chunk(ChunkMatch::From { from: 0 }), When::Before, Action::Delay { ms: 30_000 }));
    let (job, strings) = site.take_up();
    let mut samples = strings.log.samples();
    let run = gantry_agent::executor::execute(job, UPLOAD);
    tokio::pin!(run);
    let mut percents = Vec::new();
    loop {
        tokio::select! {
            ended = &mut run => { assert!(matches!(ended, Ended::Finished(JobOutcome::Succeeded))); break }
            Ok(()) = samples.changed() => {
                let sample = samples.borrow_and_update().clone().unwrap();
                if sample.extra.contains_key("progress_percent") {
                    let speed = sample.extra["speed_bps"].as_f64().unwrap();
                    assert!(speed.is_finite() && (speed > 0.0 || sample.extra["eta_seconds"].is_null()));
                    percents.push(sample.extra["progress_percent"].as_f64().unwrap());
                }
            }
        }
    }
    assert!(percents.is_sorted() && percents.first() == Some(&0.0), "{percents:?}");
    assert_eq!(percents.last(), Some(&100.0));
}

#[tokio::test]
async fn what_is_there_already_is_reused_only_when_it_is_the_iso() {
    let (size, md5) = {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        Iso::new((CHUNKS - 1) * CHUNK + 1).seed(7).write(&path).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        (bytes.len() as u64, md5_of(&bytes))
    };
    let name = |change: fn(&str) -> String| change(ISO_NAME);
    let right = json!({"name": ISO_NAME, "size": size, "md5": md5});
    let with = |key: &str, value: serde_json::Value| {
        let mut image = right.clone();
        image[key] = value;
        image
    };
    for (what, image, reused) in [
        ("I1", right.clone(), true),
        ("I2", with("size", json!(size + 1)), false),
        ("I3", with("md5", json!("0".repeat(32))), false),
        ("no md5", with("md5", json!(null)), true),
        ("I5", with("no_path", json!(true)), false),
        ("I7 case", with("name", json!(name(|n| n.to_uppercase()))), true),
        ("I7 suffix", with("name", json!(name(|n| n.trim_end_matches(".iso").to_owned()))), true),
        ("other", with("name", json!("something-else.iso")), false),
    ] {
        let site = Site::with(|options| options.images = vec![serde_json::from_value(image).unwrap()]).await;
        let ran = site.run(UPLOAD).await;
        ran.succeeded();
        let state = ran.facts.image.unwrap().state;
        assert_eq!(state == ImageState::Reused, reused, "{what}");
        assert_eq!(site.chunk_calls().len(), if reused { 0 } else { 5 }, "{what}");
        assert_eq!(site.calls("POST", "/api/v2/images/upload/volume").len(), usize::from(!reused), "{what}");
        let foreign = gantry_sim::invariants::violations(site.core());
        assert!(foreign.iter().all(|violation| violation.invariant == 2), "{what}: {foreign:?}");
    }
}

#[tokio::test]
async fn the_newest_of_several_images_is_reused() {
    let site = Site::new().await;
    site.run(UPLOAD).await.succeeded();
    let md5 = md5_of(&std::fs::read(site.iso()).unwrap());
    let size = std::fs::metadata(site.iso()).unwrap().len();
    let planted =
        |time: i64| serde_json::from_value(json!({"name": ISO_NAME, "size": size, "md5": md5, "time": time})).unwrap();
    let site = Site::with(|options| options.images = vec![planted(5), planted(9), planted(7)]).await;
    let ran = site.run(UPLOAD).await;
    ran.succeeded();
    let chosen = ran.facts.image.unwrap().image_uuid;
    assert_eq!(site.core().world().images[&chosen].time, 9);
}

#[tokio::test]
async fn a_volume_that_an_earlier_job_left_unfinished_is_never_reused() {
    let mut site = Site::new().await;
    site.arm(fault("chunk", chunk(1), When::Before, Action::status(500)));
    site.arm(fault("delete", delete(), When::Before, Action::status(500)));
    site.run(UPLOAD).await.failure();
    assert_eq!(site.images().len(), 1);
    site.core().faults.clear_all();
    site.id = gantry_proto::JobId::new();
    let ran = site.run(UPLOAD).await;
    ran.succeeded();
    site.assert_content();
    assert_eq!(ran.facts.image.unwrap().state, ImageState::Uploaded);
}

#[tokio::test]
async fn a_vip_that_moves_costs_nothing_and_lost_uploads_one_more_volume() {
    for (lose_tokens, lose_uploads) in [(false, false), (true, false), (false, true)] {
        let site = Site::new().await;
        let moves = WorldAction::VipMove { down_s: 100, lose_tokens, lose_uploads };
        site.arm(fault("move", chunk(2), When::Before, Action::World(moves)).times(1));
        let ran = site.run(UPLOAD).await;
        assert_uploaded(&site, &ran);
        let volumes = site.calls("POST", "/api/v2/images/upload/volume").len();
        assert_eq!(volumes, 1 + usize::from(lose_uploads), "{lose_tokens} {lose_uploads}");
    }
}

#[tokio::test]
async fn undoing_twice_is_the_same_as_once() {
    use gantry_agent::{
        step::{Step as _, StepCx},
        steps::upload_iso::UploadIso,
    };
    let site = Site::new().await;
    stop_at_chunk(&site, 2).await;
    let mut facts = site.run_facts().await;
    let (job, _strings) = site.take_up();
    let cx = StepCx {
        job: job.id,
        step: "upload-iso".into(),
        plan: job.plan,
        secrets: job.secrets,
        settings: job.settings,
        redactor: job.redactor,
        outside: job.outside,
        log: job.log,
        cancel: tokio_util::sync::CancellationToken::new(),
    };
    assert_eq!(UploadIso.undo(&cx, &mut facts).await.unwrap().len(), 1);
    assert_eq!(site.images(), []);
    assert!(UploadIso.undo(&cx, &mut facts).await.unwrap().is_empty());
    assert!(facts.image.is_none() && facts.leftovers.is_empty());
}

#[tokio::test]
async fn the_intent_stands_in_the_journal_before_the_call() {
    let site = Site::new().await;
    let ran = site.run(UPLOAD).await;
    let at = |wanted: &str, outcome: bool| {
        ran.events.iter().position(|event| match &event.body {
            Body::Intent { call, .. } => !outcome && call == wanted,
            Body::IntentOutcome { .. } => outcome,
            _ => false,
        })
    };
    assert!(at("create_upload_volume", false).unwrap() < at("", true).unwrap());
    let asked = ran
        .events
        .iter()
        .position(|e| matches!(&e.body, Body::Fact { key, value: Some(_), .. } if key == "asked_volume"));
    assert!(asked.unwrap() < at("create_upload_volume", false).unwrap());
}

/// Stops the agent while a chunk is on its way.
async fn stop_at_chunk(site: &Site, index: u64) -> Ran {
    site.arm(fault("hold", chunk(index), When::Before, Action::Hang).times(1));
    let ran = site
        .run_with(UPLOAD, |strings: Strings| async move {
            while site.fired("hold") == 0 {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            strings.stop.cancel();
            std::future::pending::<()>().await;
        })
        .await;
    site.core().faults.clear("hold");
    ran
}

async fn cancel(strings: &Strings) {
    let record = gantry_agent::journal::CancelRecord { order: 2, epoch: 1, by: "op".into(), reason: String::new() };
    strings.log.request_cancel(record);
    strings.log.tell_cancel().await.unwrap();
    strings.cancel.cancel();
}

fn md5_of(bytes: &[u8]) -> String {
    use md5::Digest as _;
    md5::Md5::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}
