//! Many sites: who goes when, what stops it, and that a second run goes on where the first one was.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use gantry_proto::UndoState;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
};

use crate::{
    fake::{Fake, State},
    fake_many::{Many, WRONG},
    log,
    run::{Ran, command, ctl, finish, ran},
};

/// A fake with so many sites, `s01` and on, and a directory with a workbook for each.
async fn ready(count: usize) -> (Fake, PathBuf) {
    let sites: Vec<String> = (1..=count).map(|number| format!("s{number:02}")).collect();
    let fake =
        Fake::start(State { many: Some(Many { sites: sites.clone(), ..Many::default() }), ..State::default() }).await;
    let dir = fake.home().join("sites");
    fs::create_dir(&dir).unwrap();
    for site in sites {
        fs::write(dir.join(format!("{site}.xlsx")), &site).unwrap();
    }
    (fake, dir)
}

impl Fake {
    fn with_many<T>(&self, change: impl FnOnce(&mut Many) -> T) -> T {
        change(self.state.lock().unwrap().many.as_mut().unwrap())
    }

    /// The sites whose jobs are stored, in order.
    fn begun(&self) -> Vec<String> {
        self.with_many(|many| many.jobs.iter().map(|(_, site)| site.clone()).collect())
    }

    /// Waits until so many jobs are stored.
    async fn until_begun(&self, count: usize) {
        while self.begun().len() < count {
            tokio::task::yield_now().await;
        }
    }
}

async fn campaign(fake: &Fake, dir: &Path, verb: &str, more: &[&str]) -> Ran {
    ctl(fake.home(), &[&["campaign", verb, dir.to_str().unwrap()], more].concat()).await
}

/// A run that is still going on.
fn start(fake: &Fake, dir: &Path, more: &[&str]) -> Child {
    command_of(fake, dir, more).spawn().unwrap()
}

fn command_of(fake: &Fake, dir: &Path, more: &[&str]) -> Command {
    command(fake.home(), &[&["campaign", "run", dir.to_str().unwrap()], more].concat())
}

/// Waits until a run has said this on stderr.
async fn until_said(run: &mut Child, words: &str) {
    let mut lines = BufReader::new(run.stderr.take().unwrap()).lines();
    let said = async { while !lines.next_line().await.unwrap().expect("it ends").contains(words) {} };
    tokio::time::timeout(Duration::from_secs(30), said).await.unwrap();
}

async fn end(child: Child) -> Ran {
    ran(&tokio::time::timeout(Duration::from_secs(60), child.wait_with_output()).await.unwrap().unwrap())
}

fn state_of(dir: &Path) -> Value {
    let mut file = dir.as_os_str().to_owned();
    file.push(".campaign.json");
    serde_json::from_slice(&fs::read(file).unwrap()).unwrap()
}

fn count(document: &Value, what: &str) -> u64 {
    document["counts"][what].as_u64().unwrap()
}

#[tokio::test]
async fn all_sites_succeed_in_order_and_are_told() {
    let (fake, dir) = ready(7).await;
    let ran = campaign(&fake, &dir, "run", &["--max-parallel", "3", "--canary", "2", "-o", "json"]).await;
    assert_eq!(ran.code, 0, "{ran:?}");
    let document = ran.json();
    assert_eq!((count(&document, "succeeded"), &document["ended"]), (7, &json!("done")));
    let site = &document["sites"][3];
    assert_eq!(
        (&site["site"], &site["outcome"], &site["seconds"]),
        (&json!("s04"), &json!("succeeded"), &json!(150.0))
    );
    let mut first = fake.begun()[..2].to_vec();
    first.sort();
    assert_eq!((first, fake.begun().len()), (vec!["s01".to_owned(), "s02".to_owned()], 7));
    let again = campaign(&fake, &dir, "run", &[]).await;
    assert!(again.code == 0 && again.out.contains("7 of 7 sites done"), "{again:?}");
    assert_eq!(fake.begun().len(), 7, "nothing is deployed twice");
    assert_eq!(fake.with_many(|many| many.checked), 7, "nor checked");
    assert_eq!(campaign(&fake, &dir, "status", &["-o", "json"]).await.json()["is_run"], false);
}

#[tokio::test]
async fn every_wrong_workbook_is_told_and_nothing_is_submitted() {
    let (fake, dir) = ready(5).await;
    for site in ["s02", "s04"] {
        fs::write(dir.join(format!("{site}.xlsx")), WRONG).unwrap();
    }
    fs::write(dir.join("s05.xlsx"), "s01").unwrap();
    fs::write(dir.join("elsewhere.xlsx"), "x").unwrap();
    let ran = campaign(&fake, &dir, "run", &[]).await;
    assert_eq!(ran.code, 3, "{ran:?}");
    for told in
        ["site elsewhere: ", "no agent of site elsewhere", "site s02: ", "site s04: ", "same as that of site s01"]
    {
        assert!(ran.out.contains(told), "{told}: {}", ran.out);
    }
    assert!(fake.begun().is_empty());
    let document = campaign(&fake, &dir, "run", &["-o", "json"]).await.json();
    assert_eq!(document["rejected"].as_array().unwrap().len(), 4, "{document}");
    let ran = campaign(&fake, &dir, "run", &["--skip-invalid", "-o", "json"]).await;
    assert_eq!((ran.code, count(&ran.json(), "skipped"), count(&ran.json(), "succeeded")), (3, 4, 2), "{ran:?}");
    assert_eq!(fake.begun().len(), 2);
}

#[tokio::test]
async fn the_failure_budget_stops_it_and_a_retry_lets_it_go_on() {
    let (fake, dir) = ready(12).await;
    fake.with_many(|many| {
        many.logs.insert("s03".into(), log::failing(UndoState::RolledBack));
        many.logs.insert("s05".into(), log::cancelled(UndoState::RolledBack));
    });
    let options = ["--max-parallel", "1", "--max-failures", "2"];
    let ran = campaign(&fake, &dir, "run", &options).await;
    assert_eq!((ran.code, fake.begun().len()), (4, 5), "{ran:?}");
    assert!(ran.err.contains("failure budget is spent") && ran.err.contains("ctl retry JOB"), "{}", ran.err);
    assert!(ran.err.contains("s03: job") && ran.out.contains("fisheye_unreliable"), "{ran:?}");
    // Nothing has changed, so nothing begins.
    let ran = campaign(&fake, &dir, "run", &["-o", "json"]).await;
    assert_eq!((ran.code, &ran.json()["ended"], fake.begun().len()), (4, &json!("failure_budget"), 5));
    // An operator has taken the failed job up again, with success.
    fake.with_many(|many| many.logs.remove("s03"));
    let ran = campaign(&fake, &dir, "run", &["-o", "json"]).await;
    let document = ran.json();
    assert_eq!((ran.code, count(&document, "succeeded"), count(&document, "cancelled")), (130, 11, 1), "{ran:?}");
    assert_eq!(fake.begun().len(), 12, "one job a site");
}

#[tokio::test]
async fn a_failing_canary_is_the_only_victim() {
    let (fake, dir) = ready(6).await;
    fake.with_many(|many| many.logs.insert("s02".into(), log::failing(UndoState::RollbackIncomplete)));
    let ran = campaign(&fake, &dir, "run", &["--canary", "2", "--max-failures", "5", "--max-parallel", "6"]).await;
    assert_eq!((ran.code, fake.begun().len()), (5, 2), "{ran:?}");
    assert!(ran.err.contains("a canary failed") && ran.err.contains("ctl sweep"), "{}", ran.err);
}

#[tokio::test]
async fn a_refused_site_counts_and_is_tried_again() {
    let (fake, dir) = ready(3).await;
    fake.with_many(|many| many.refused.insert("s02".into()));
    let ran = campaign(&fake, &dir, "run", &["--max-failures", "2"]).await;
    assert!(ran.code == 7 && ran.err.contains("s02: refused: no agent of site"), "{ran:?}");
    let chosen = state_of(&dir)["sites"][1]["job_id"].clone();
    fake.with_many(|many| many.refused.clear());
    let ran = campaign(&fake, &dir, "run", &["-o", "json"]).await;
    assert_eq!((ran.code, &ran.json()["sites"][1]["job_id"]), (0, &chosen), "the job id is the site's for ever");
}

#[tokio::test]
async fn a_job_that_asks_is_told_and_ends_the_run_when_it_is_alone() {
    let (fake, dir) = ready(4).await;
    fake.with_many(|many| many.asking.insert("s03".into()));
    let ran = campaign(&fake, &dir, "run", &["--max-failures", "2", "-o", "json"]).await;
    let document = ran.json();
    assert_eq!(
        (ran.code, &document["ended"], count(&document, "succeeded")),
        (8, &json!("needs_operator"), 3),
        "{ran:?}"
    );
    assert!(ran.err.contains("answer for site s03: ctl decide"), "{}", ran.err);
    let status = campaign(&fake, &dir, "status", &[]).await;
    assert!(status.code == 0 && status.out.contains("needs operator"), "{status:?}");
    fake.with_many(|many| many.asking.clear());
    assert_eq!(campaign(&fake, &dir, "run", &[]).await.code, 0);
}

#[tokio::test]
async fn a_killed_run_goes_on_and_deploys_nothing_twice() {
    let (fake, dir) = ready(8).await;
    fake.with_many(|many| many.held.extend(["s03".to_owned(), "s04".to_owned()]));
    let mut first = start(&fake, &dir, &["--max-parallel", "2"]);
    fake.until_begun(4).await;
    let second = campaign(&fake, &dir, "run", &[]).await;
    assert!(second.code == 7 && second.err.contains("is being run already"), "{second:?}");
    let status = campaign(&fake, &dir, "status", &["-o", "json"]).await.json();
    assert_eq!((&status["is_run"], count(&status, "running")), (&json!(true), 2));
    first.kill().await.unwrap();
    fake.with_many(|many| many.go.send_replace(true));
    let ran = campaign(&fake, &dir, "run", &["-o", "json"]).await;
    assert_eq!((ran.code, count(&ran.json(), "succeeded")), (0, 8), "{ran:?}");
    assert_eq!(fake.begun().len(), 8, "one job a site");
}

#[tokio::test]
async fn a_job_whose_answer_was_lost_with_the_run_is_found_again() {
    let (fake, dir) = ready(3).await;
    fake.state.lock().unwrap().lose_answers = u32::MAX;
    let mut first = start(&fake, &dir, &[]);
    fake.until_begun(1).await;
    first.kill().await.unwrap();
    assert_eq!(state_of(&dir)["sites"][0]["state"], "submitting");
    fake.state.lock().unwrap().lose_answers = 0;
    assert_eq!(campaign(&fake, &dir, "run", &[]).await.code, 0);
    assert_eq!(fake.begun(), ["s01", "s02", "s03"]);
    // What never arrived is submitted under the id that was chosen for it.
    let (fake, dir) = ready(1).await;
    assert_eq!(campaign(&fake, &dir, "run", &[]).await.code, 0);
    let (mut state, job) = (state_of(&dir), fake.with_many(|many| many.jobs.pop().unwrap().0));
    state["sites"][0]["state"] = json!("submitting");
    fs::write(dir.with_file_name("sites.campaign.json"), state.to_string()).unwrap();
    assert_eq!(campaign(&fake, &dir, "run", &[]).await.code, 0);
    assert_eq!(fake.with_many(|many| many.jobs.clone()), [(job, "s01".to_owned())]);
}

#[tokio::test]
async fn a_broken_line_is_waited_for() {
    let (fake, dir) = ready(5).await;
    fake.with_many(|many| many.held.extend(["s02".to_owned(), "s03".to_owned()]));
    fake.state.lock().unwrap().lose_answers = 1;
    let run = start(&fake, &dir, &["--max-parallel", "2"]);
    fake.until_begun(3).await;
    fake.watched(3).await;
    fake.line.cut();
    fake.watched(5).await;
    fake.with_many(|many| many.go.send_replace(true));
    let ran = end(run).await;
    assert_eq!((ran.code, fake.begun().len()), (0, 5), "{ran:?}");
    let told = |words: &str| ran.err.matches(words).count();
    assert_eq!((told("the line to the controller broke"), told("is back")), (1, 1), "told once: {}", ran.err);
}

#[tokio::test]
async fn a_paused_campaign_begins_nothing_until_it_is_resumed() {
    let (fake, dir) = ready(4).await;
    fake.with_many(|many| many.held.insert("s01".into()));
    assert_eq!(campaign(&fake, &dir, "pause", &[]).await.code, 2, "it has not been begun");
    let mut run = start(&fake, &dir, &["-o", "ndjson"]);
    fake.until_begun(1).await;
    let paused = campaign(&fake, &dir, "pause", &[]).await;
    assert!(paused.code == 0 && paused.out.contains("no further job begins"), "{paused:?}");
    assert!(campaign(&fake, &dir, "pause", &[]).await.out.contains("was paused before"));
    until_said(&mut run, "the campaign is paused").await;
    fake.with_many(|many| many.go.send_replace(true));
    let status = async {
        loop {
            let status = campaign(&fake, &dir, "status", &["-o", "json"]).await.json();
            if count(&status, "succeeded") == 1 {
                return status;
            }
        }
    };
    let status = tokio::time::timeout(Duration::from_secs(30), status).await.unwrap();
    assert!(status["paused_since"].is_string() && status["is_run"] == true, "{status}");
    assert_eq!(fake.begun().len(), 1);
    let resumed = campaign(&fake, &dir, "resume", &[]).await;
    assert!(resumed.code == 0 && resumed.out.contains("is being run, and goes on"), "{resumed:?}");
    let ran = end(run).await;
    assert_eq!((ran.code, fake.begun().len()), (0, 4), "{ran:?}");
    let lines: Vec<Value> = ran.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let ended = lines.iter().filter(|line| line["event"] == "site" && line["outcome"] == "succeeded").count();
    assert_eq!((ended, &lines[lines.len() - 1]["event"]), (4, &json!("campaign")));
}

#[tokio::test]
async fn ctrl_c_detaches_and_says_how_to_go_on() {
    let (fake, dir) = ready(3).await;
    fake.with_many(|many| many.held.insert("s01".into()));
    let run = start(&fake, &dir, &[]);
    fake.until_begun(1).await;
    // Its handler is in place before it follows anything.
    fake.watched(1).await;
    let pid = run.id().unwrap().to_string();
    assert!(Command::new("kill").args(["-INT", &pid]).status().await.unwrap().success());
    let ran = end(run).await;
    assert!(ran.code == 0 && ran.err.contains("detached; 1 job at work"), "{ran:?}");
    assert!(ran.err.contains(&format!("ctl campaign run {}", dir.display())), "{}", ran.err);
    fake.with_many(|many| many.go.send_replace(true));
    assert_eq!(campaign(&fake, &dir, "run", &[]).await.code, 0);
    assert_eq!(fake.begun().len(), 3);
}

#[tokio::test]
async fn a_list_names_sites_workbooks_and_agents() {
    let (fake, dir) = ready(2).await;
    let list = fake.home().join("night.csv");
    fs::write(&list, "site,workbook,agent\n# first\ns02,sites/s02.xlsx,s02-agent\ns01,sites/s01.xlsx\n").unwrap();
    let mut run = command_of(&fake, &list, &["--set", "organization=Example", "--on-failure", "keep"]);
    run.current_dir(&dir);
    let ran = finish(run).await;
    assert_eq!((ran.code, fake.begun()), (0, vec!["s02".to_owned(), "s01".to_owned()]), "{ran:?}");
    let state = fake.state.lock().unwrap();
    let sent = &state.submitted[0];
    assert_eq!((sent.agent_id.as_str(), sent.site.as_str(), sent.file_name.as_str()), ("s02-agent", "s02", "s02.xlsx"));
    assert_eq!(sent.overrides.get("organization").map(String::as_str), Some("Example"));
}

#[tokio::test]
async fn another_controller_is_no_place_to_go_on() {
    let (fake, dir) = ready(1).await;
    assert_eq!(campaign(&fake, &dir, "run", &[]).await.code, 0);
    let (other, _) = ready(1).await;
    let ran = campaign(&other, &dir, "run", &[]).await;
    assert!(ran.code == 2 && ran.err.contains("begun at another one"), "{ran:?}");
}
