//! `ctl bundle` and `ctl explain` as an operator gets them.

use std::{
    fs::{self, File},
    io::Read as _,
    os::unix::fs::PermissionsExt as _,
    path::Path,
};

use gantry_proto::{Body, Code, Event, JobOutcome, Level, UndoState, v1, v1::JobState};
use serde_json::{Value, json};
use zip::ZipArchive;

use crate::{
    fake::Fake,
    log,
    run::{command, ctl, finish},
};

/// A secret that no part may have, in the places where one could slip in.
const CANARY: &str = "canary-9f3Kx!topsecret";

fn files(path: &Path) -> Vec<(String, String)> {
    let mut zip = ZipArchive::new(File::open(path).unwrap()).unwrap();
    (0..zip.len())
        .map(|index| {
            let mut file = zip.by_index(index).unwrap();
            let mut text = String::new();
            file.read_to_string(&mut text).unwrap();
            (file.name().unwrap().into_owned(), text)
        })
        .collect()
}

fn file<'a>(files: &'a [(String, String)], name: &str) -> &'a str {
    &files.iter().find(|(file, _)| file == name).unwrap_or_else(|| panic!("no {name}")).1
}

fn document(files: &[(String, String)], name: &str) -> Value {
    serde_json::from_str(file(files, name)).unwrap()
}

fn plan(json: &Value) -> v1::PlanDocument {
    v1::PlanDocument { json: serde_json::to_vec(json).unwrap(), ..v1::PlanDocument::default() }
}

#[tokio::test]
async fn a_bundle_has_everything_about_a_failed_job() {
    let fake = Fake::with(log::failing(UndoState::RollbackIncomplete), JobState::Failed).await;
    {
        let mut state = fake.state.lock().unwrap();
        state.plan = Some(plan(&json!({"cloudtower": {"ip": "192.0.2.20"}})));
        state.result = br#"{"deploy_cloudtower": {"error": {"code": "fisheye_unreliable"}}}"#.to_vec();
    }
    let out = fake.home().join("case.zip");
    let args = ["bundle", "3f2a1b0c", "--out", out.to_str().unwrap(), "-o", "json"];
    let ran = ctl(fake.home(), &args).await;
    assert!(ran.code == 0 && ran.err.contains("case.zip is written"), "{ran:?}");
    assert_eq!(fs::metadata(&out).unwrap().permissions().mode() & 0o777, 0o600);

    let all = files(&out);
    let names: Vec<_> = all.iter().map(|(name, _)| name.as_str()).collect();
    for name in [
        "manifest.json",
        "job.json",
        "events.jsonl",
        "view.json",
        "plan.json",
        "result.json",
        "resources.json",
        "times.json",
        "report.json",
        "report.html",
        "audit.jsonl",
        "agents.json",
        "ctl.json",
    ] {
        assert!(names.contains(&name), "{name} in {names:?}");
    }
    assert_eq!(names[0], "manifest.json");
    let manifest = document(&all, "manifest.json");
    assert_eq!(manifest, ran.json());
    assert_eq!(
        (&manifest["form"], &manifest["versions"]["agents"][0]["version"]),
        (&json!("gantry.bundle/1"), &json!("0.1.0"))
    );
    assert!(manifest["made_by"]["certificate_sha256"].as_str().is_some_and(|hash| hash.len() == 64), "{manifest}");
    let events = log::failing(UndoState::RollbackIncomplete).len();
    assert_eq!(file(&all, "events.jsonl").lines().count(), events);
    let parts = manifest["parts"].as_array().unwrap();
    let listed = parts.iter().find(|part| part["file"] == "events.jsonl").unwrap();
    assert_eq!(listed["lines"], events);
    assert_eq!(document(&all, "plan.json")["cloudtower"]["ip"], "192.0.2.20");
    assert_eq!(document(&all, "result.json")["deploy_cloudtower"]["error"]["code"], "fisheye_unreliable");
    assert!(document(&all, "resources.json").as_array().is_some_and(|list| !list.is_empty()));
    assert!(file(&all, "report.html").contains("chunk 17 of the ISO could not be sent"));

    // It takes nobody's place unasked.
    let again = ctl(fake.home(), &args).await;
    assert!(again.code == 2 && again.err.contains("is there already"), "{again:?}");
    assert_eq!(ctl(fake.home(), &[&args[..], &["--force"]].concat()).await.code, 0);
}

#[tokio::test]
async fn what_cannot_be_had_is_told_and_stops_nothing() {
    let fake = Fake::with(log::success()[..5].to_vec(), JobState::Running).await;
    fake.state.lock().unwrap().refuse_audit = Some(Code::NotAllowed.status("the audit log is for the role admin"));
    let mut run = command(fake.home(), &["bundle", "3f2a1b0c"]);
    run.current_dir(fake.home());
    let ran = finish(run).await;
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(
        ran.out.is_empty()
            && ran.err.contains("audit.jsonl is not in the archive: the audit log is for the role admin")
    );
    let id = log::job(JobState::Running, 5).job_id;
    let all = files(&fake.home().join(format!("gantry-{id}.zip")));
    let manifest = document(&all, "manifest.json");
    let missing: Vec<_> =
        manifest["parts"].as_array().unwrap().iter().filter(|part| part.get("missing").is_some()).collect();
    assert_eq!(missing.len(), 3, "plan, result, audit: {missing:?}");
    assert!(file(&all, "report.html").contains("<html"));
    assert!(!all.iter().any(|(name, _)| name == "audit.jsonl"));
}

#[tokio::test]
async fn no_secret_comes_into_a_bundle() {
    let mut events = log::failing(UndoState::RolledBack);
    let last = events.last().unwrap().clone();
    let extra = json!({"password": CANARY, "deep": [{"ssh_password": CANARY}], "x-smartx-token": CANARY});
    let note = Body::Note {
        step: None,
        level: Level::Warning,
        code: "chunk_retry".to_owned(),
        message: "a note".to_owned(),
        extra: extra.as_object().cloned().unwrap(),
    };
    events.insert(events.len() - 1, Event { body: note, ..last });
    for (index, event) in events.iter_mut().enumerate() {
        event.seq = index as u64 + 1;
    }
    let fake = Fake::with(events, JobState::Failed).await;
    let key = fs::read_to_string(fake.home().join(".config/gantry/key.pem")).unwrap();
    {
        let mut state = fake.state.lock().unwrap();
        // What a broken controller could send.
        state.plan = Some(plan(&json!({"root_password": CANARY, "note": key, "cookie": CANARY})));
        state.result = serde_json::to_vec(&json!({"a": {"token": CANARY, "text": key}})).unwrap();
    }
    let out = fake.home().join("b.zip");
    let ran = ctl(fake.home(), &["bundle", "3f2a1b0c", "--out", out.to_str().unwrap(), "-o", "json"]).await;
    assert_eq!(ran.code, 0, "{ran:?}");
    let body = key.lines().nth(1).unwrap();
    let mut texts = files(&out);
    texts.push(("stdout and stderr".to_owned(), ran.all()));
    for (name, text) in &texts {
        for secret in [CANARY, body, "PRIVATE KEY"] {
            assert!(!text.contains(secret), "{secret} in {name}");
        }
    }
    assert!(document(&texts, "plan.json")["root_password"] == "机密凭据");
    assert!(file(&texts, "events.jsonl").contains("机密凭据"), "the note is there, its secrets are not");
}

#[tokio::test]
async fn a_code_is_explained_off_line_in_two_languages() {
    let nowhere = Path::new("/nonexistent");
    let ran = ctl(nowhere, &["explain", "vm_name_taken"]).await;
    assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{ran:?}");
    insta::assert_snapshot!("explain_en", ran.out);
    let ran = ctl(nowhere, &["explain", "vm_name_taken", "--lang", "zh"]).await;
    insta::assert_snapshot!("explain_zh", ran.out);
    // The environment chooses where nobody does.
    let mut run = command(nowhere, &["explain", "vm_name_taken"]);
    run.env("LANG", "zh_CN.UTF-8");
    assert_eq!(finish(run).await.out, ran.out);
    let mut run = command(nowhere, &["explain", "vm_name_taken"]);
    run.env("LANG", "zh_CN.UTF-8").env("LC_ALL", "C");
    assert!(finish(run).await.out.contains("to do"));

    let page = ctl(nowhere, &["explain", "vm_name_taken", "-o", "json"]).await.json();
    assert_eq!((&page["code"], page["remedy"].as_array().map(Vec::len)), (&json!("vm_name_taken"), Some(3)));
    let list = ctl(nowhere, &["explain"]).await;
    assert!(list.code == 0 && list.out.lines().count() > 200 && list.out.starts_with("CODE"), "{list:?}");
    let codes = ctl(nowhere, &["explain", "-o", "json"]).await.json();
    assert!(codes["codes"].as_array().is_some_and(|codes| codes.len() > 200));
    let lines = ctl(nowhere, &["explain", "-o", "ndjson", "--lang", "zh"]).await;
    assert!(lines.out.lines().all(|line| serde_json::from_str::<Value>(line).is_ok()) && lines.out.contains("虚拟机"));

    let wrong = ctl(nowhere, &["explain", "vm_nam_taken\u{1b}[31m"]).await;
    assert_eq!(wrong.code, 2, "{wrong:?}");
    insta::assert_snapshot!("explain_unknown", wrong.err);
}

/// Where a failure is shown, its page is named.
#[tokio::test]
async fn a_failure_says_how_it_is_explained() {
    let fake = Fake::with(log::failing(UndoState::RolledBack), JobState::Failed).await;
    for args in [["show", "3f2a1b0c"], ["watch", "3f2a1b0c"]] {
        let ran = ctl(fake.home(), &args).await;
        assert!(ran.all().contains("ctl explain fisheye_unreliable"), "{ran:?}");
    }
    fake.state.lock().unwrap().refuse = Some(Code::TargetBusy.status("job 1 works at this cluster"));
    let ran = ctl(fake.home(), &["jobs"]).await;
    assert!(ran.code == 7 && ran.err.contains("more:    ctl explain target_busy"), "{ran:?}");
}

/// A job that ended as it should needs no explanation.
#[tokio::test]
async fn a_success_is_not_explained() {
    let fake = Fake::with(log::success(), JobState::Succeeded).await;
    assert!(
        log::success()
            .iter()
            .any(|event| matches!(event.body, Body::JobFinished { outcome: JobOutcome::Succeeded, .. }))
    );
    assert!(!ctl(fake.home(), &["show", "3f2a1b0c"]).await.out.contains("ctl explain"));
}
