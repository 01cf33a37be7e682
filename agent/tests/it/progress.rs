//! Progress: the newest wins, the files show it at a bounded rate, the line carries it without a number.

use std::{fs, path::Path};

use gantry_agent::joblog::Chunk;
use gantry_proto::{REDACTED, Sample};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::bench::Bench;

fn sample(bench: &Bench, done: u64) -> Sample {
    let extra = json!({"progress_percent": done as f64, "path": "canary-ssh-password"});
    Sample {
        job: bench.id,
        step: "upload-iso".into(),
        at: Timestamp::now(),
        done,
        total: 100,
        unit: "bytes".into(),
        per_second: 1.0,
        text: String::new(),
        extra: extra.as_object().unwrap().clone(),
    }
}

fn lines(dir: &Path) -> Vec<Value> {
    let text = fs::read_to_string(dir.join("logs/stage_deploy_cloudtower.log")).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test]
async fn the_files_show_the_first_and_the_last_and_few_between() {
    let mut bench = Bench::new();
    bench.settings.timing.progress_every_s = 3_600.0;
    let (_job, strings) = bench.take_up();
    let told = async {
        for done in [1, 50, 60, 100] {
            strings.log.sample(sample(&bench, done));
            let at_disk =
                |lines: &[Value]| lines.last().is_some_and(|line| line["extra"]["progress_percent"] == done as f64);
            // The ones in the middle come too soon after the first.
            while matches!(done, 1 | 100) && !at_disk(&lines(&bench.job_dir())) {
                tokio::task::yield_now().await;
            }
        }
    };
    tokio::select! {
        told = tokio::time::timeout(std::time::Duration::from_secs(20), told) => told.expect("the files do not follow"),
        () = strings.log.write_progress() => panic!("it ends"),
    }
    strings.log.finish().await.unwrap();
    let lines = lines(&bench.job_dir());
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(lines.iter().all(|line| line["seq"].is_null() && line["step"] == "upload-iso"));
    let newest = fs::read_to_string(bench.job_dir().join("logs/upload_cloudtower.json")).unwrap();
    let newest: Value = serde_json::from_str(&newest).unwrap();
    assert_eq!((newest["progress_percent"].as_f64(), newest["path"].as_str()), (Some(100.0), Some(REDACTED)));
}

#[tokio::test]
async fn what_was_not_written_yet_is_written_at_the_end_and_nothing_is_journaled() {
    let bench = Bench::new();
    let (_job, strings) = bench.take_up();
    strings.log.sample(sample(&bench, 7));
    strings.log.finish().await.unwrap();
    strings.log.finish().await.unwrap();
    assert_eq!(lines(&bench.job_dir()).len(), 1);
    assert!(bench.events().await.is_empty());
}

#[tokio::test]
async fn chunks_come_back_after_a_restart() {
    let bench = Bench::new();
    let (_job, strings) = bench.take_up();
    for num in 0..20 {
        strings.log.chunk("image", Chunk { chunk_num: num, sha256: "00".into(), size: 8 }).await.unwrap();
    }
    assert_eq!(strings.log.chunks("image").len(), 20);
    assert!(strings.log.chunks("another").is_empty());
    let (_job, again) = bench.take_up();
    assert_eq!(again.log.chunks("image"), strings.log.chunks("image"));
}

#[tokio::test]
async fn facts_are_written_when_they_change_and_taken_back_when_they_no_longer_hold() {
    let bench = Bench::new();
    let (_job, strings) = bench.take_up();
    let mut facts = gantry_agent::facts::Facts::default();
    let step = "s".into();
    strings.log.save(&step, &facts).await.unwrap();
    crate::bench::made(&mut facts);
    strings.log.save(&step, &facts).await.unwrap();
    strings.log.save(&step, &facts).await.unwrap();
    assert_eq!(bench.events().await.len(), 2);
    facts.vm = None;
    strings.log.save(&step, &facts).await.unwrap();
    let view = bench.view().await;
    assert_eq!((view.last_seq, view.facts.keys().map(String::as_str).collect::<Vec<_>>()), (3, vec!["image"]));
    let known = serde_json::from_value(Value::Object(view.facts.into_iter().collect()));
    assert_eq!(known.ok(), Some(facts));
}
