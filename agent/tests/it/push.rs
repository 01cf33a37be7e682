//! `agent iso push`, as an operator runs it: the program against a simulated cluster.

use std::{
    fs,
    path::PathBuf,
    process::{Output, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use gantry_agent::{
    iso::{self, HashError, Inventory},
    push::{Push, PushEnd, Wish},
    tls::hex,
};
use gantry_proto::{Redactor, Secret, plan::UploadParams};
use gantry_sim::{
    fault::{Action, ChunkMatch, Match, When},
    iso::Iso,
};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::{process::Command, task::JoinSet};
use tokio_util::sync::CancellationToken;

use crate::site::{ISO_NAME, Site, fault};

/// Chunks of the ISO, of 64 KiB.
const MANY: u64 = 32;

/// A cluster, an ISO, a state directory, a password file.
struct Bastion {
    site: Site,
    state: PathBuf,
    iso: PathBuf,
    password: PathBuf,
}

impl Bastion {
    async fn new() -> Self {
        let site = Site::with(|options| options.latencies.factor = 1.0).await;
        let state = site.settings.data_dir.join("push");
        fs::create_dir_all(&state).unwrap();
        let (iso, password) = (site.settings.iso_dir.join(ISO_NAME), state.join("pw"));
        Iso::new(MANY << 16).write(&iso).unwrap();
        fs::write(&password, format!("{}\n", site.password)).unwrap();
        let settings = format!("[timing]\ntime_scale = {:?}\n[iso]\nmin_bytes = 1\n", site.settings.timing.time_scale);
        fs::write(state.join("agent.toml"), settings).unwrap();
        Self { site, state, iso, password }
    }

    fn url(&self) -> String {
        format!("https://127.0.20.10:{}", self.site.sim.fisheye_port())
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_agent"));
        command.args(["iso", "push", "--user", "root", "-o", "json"]);
        let usual = [
            ("--fisheye", PathBuf::from(self.url())),
            ("--iso", self.iso.clone()),
            ("--password-file", self.password.clone()),
            ("--state", self.state.clone()),
        ];
        for (name, value) in usual.into_iter().filter(|(name, _)| !args.contains(name)) {
            command.arg(name).arg(value);
        }
        command.args(args).env_remove("RUST_LOG").stdin(Stdio::null()).kill_on_drop(true);
        command
    }

    async fn push(&self, args: &[&str]) -> Output {
        self.command(args).output().await.unwrap()
    }

    async fn pushed(&self, args: &[&str]) -> Value {
        let output = self.push(args).await;
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    async fn refused(&self, code: i32, words: &str, args: &[&str]) {
        let output = self.push(args).await;
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{args:?}: {said}");
        assert!(said.contains(words) && !said.contains(&self.site.password), "{args:?}: {said}");
        assert!(output.stdout.is_empty());
    }
}

#[tokio::test]
async fn an_iso_is_pushed_once_and_found_from_then_on() {
    let bastion = Bastion::new().await;
    let first = bastion.pushed(&["--in-flight", "4"]).await;
    bastion.site.assert_content();
    assert_eq!(
        (&first["bytes"], &first["chunks"], &first["resent_bytes"], &first["reused"]),
        (&json!(MANY << 16), &json!(MANY), &json!(0), &json!(false))
    );
    assert_eq!(first["max_in_flight"], 4);
    for key in ["image_uuid", "zbs_volume_id", "sha256", "md5"] {
        assert!(first[key].as_str().is_some_and(|text| !text.is_empty()), "{key}: {first}");
    }
    assert!(first["seconds"].as_f64().unwrap() > 0.0);
    let again = bastion.pushed(&[]).await;
    assert_eq!((&again["reused"], &again["image_uuid"]), (&json!(true), &first["image_uuid"]));
    // A state directory that knows nothing finds it by what the cluster says.
    let other = bastion.site.settings.data_dir.join("other");
    fs::create_dir_all(&other).unwrap();
    fs::copy(bastion.state.join("agent.toml"), other.join("agent.toml")).unwrap();
    let elsewhere = bastion.pushed(&["--state", other.to_str().unwrap()]).await;
    assert_eq!((&elsewhere["reused"], &elsewhere["image_uuid"]), (&json!(true), &first["image_uuid"]));
    assert_eq!(bastion.site.chunk_calls().len() as u64, MANY, "nothing is sent twice");
    assert_eq!(bastion.site.images().len(), 1);
}

#[tokio::test]
async fn a_push_that_was_killed_goes_on_and_loses_what_was_in_flight() {
    let bastion = Bastion::new().await;
    bastion.site.arm(fault("hang", Match::chunk(ChunkMatch::One(20)), When::Before, Action::Hang).times(1));
    let mut killed =
        bastion.command(&["--in-flight", "4"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let begin = Instant::now();
    while bastion.site.fired("hang") == 0 {
        assert!(begin.elapsed() < Duration::from_secs(60), "chunk 20 is never sent");
        tokio::task::yield_now().await;
    }
    killed.kill().await.unwrap();
    let before = bastion.site.chunk_calls().len() as u64;
    let went_on = bastion.pushed(&["--in-flight", "4"]).await;
    bastion.site.assert_content();
    assert_eq!(went_on["reused"], false);
    let again = bastion.site.chunk_calls().len() as u64 - MANY;
    // A batch of the journal's lines is not lost by a kill: what the system has is on its way to the disk.
    assert!(before >= 20 && again <= 4 + 1, "{again} chunks were sent again");
    assert_eq!(bastion.site.images().len(), 1, "the volume of the killed one was filled");
}

#[tokio::test]
async fn what_cannot_be_is_told_before_anything_is_sent() {
    let bastion = Bastion::new().await;
    let wrong = bastion.state.join("wrong");
    fs::write(&wrong, "not it\n").unwrap();
    let (wrong, junk) = (wrong.to_str().unwrap().to_owned(), bastion.state.join("cloudtower-v1.a.b.iso"));
    fs::write(&junk, vec![7; 100_000]).unwrap();
    let other = bastion.state.join("other.iso");
    fs::copy(&bastion.iso, &other).unwrap();
    bastion.refused(2, "for this machine only", &["--fisheye", "http://192.0.2.10"]).await;
    bastion.refused(2, "https://192.0.2.10", &["--fisheye", "192.0.2.10"]).await;
    bastion.refused(2, "64 hexadecimal digits", &["--fingerprint", "aa"]).await;
    bastion.refused(2, "cloudtower-<version>", &["--iso", other.to_str().unwrap()]).await;
    bastion.refused(2, "cannot be used", &["--iso", junk.to_str().unwrap()]).await;
    bastion.refused(2, "password file", &["--password-file", "/nowhere/pw"]).await;
    bastion.refused(1, "certificate", &["--fingerprint", &"ab".repeat(32)]).await;
    bastion.refused(1, "credentials", &["--password-file", &wrong]).await;
    assert_eq!((bastion.site.images().len(), bastion.site.chunk_calls().len()), (0, 0));
}

#[tokio::test]
async fn hashing_does_not_hold_back_the_sending() {
    let bastion = Bastion::new().await;
    let mut settings = bastion.site.settings.clone();
    settings.data_dir = bastion.state.clone();
    settings.upload.in_flight = 4;
    // Half an hour of work before it is this file's turn to be hashed.
    let endless = bastion.state.join("cloudtower-v9.a.b.iso");
    fs::File::create(&endless).unwrap().set_len(1 << 40).unwrap();
    let (other, endless) = (Inventory::new(&settings), iso::find(&endless).unwrap());
    let (begun, cancel) = (Arc::new(AtomicU64::new(0)), CancellationToken::new());
    let mut ahead = JoinSet::new();
    ahead.spawn({
        let (begun, cancel) = (begun.clone(), cancel.clone());
        async move { other.digests(&endless, begun, &cancel).await }
    });
    until("the other file", || begun.load(Ordering::Relaxed) > 0).await;

    let wish = Wish {
        host: "127.0.20.10".to_owned(),
        user: "root".to_owned(),
        password: Secret::new(bastion.site.password.clone()),
        iso: iso::find(&bastion.iso).unwrap(),
        upload: UploadParams::default(),
    };
    let work = Push::prepare(wish, settings, Redactor::new(), CancellationToken::new()).unwrap();
    let mut pushing = JoinSet::new();
    pushing.spawn(work.run());
    until("all chunks", || bastion.site.chunk_calls().len() as u64 == MANY).await;
    cancel.cancel();
    assert!(matches!(ahead.join_next().await.unwrap().unwrap(), Err(HashError::Cancelled)));
    let PushEnd::Done(facts) = pushing.join_next().await.unwrap().unwrap().unwrap() else { panic!("not done") };
    bastion.site.assert_content();
    let content = fs::read(&bastion.iso).unwrap();
    let iso = facts.iso.unwrap();
    assert_eq!((iso.sha256, iso.md5.len()), (hex(&Sha256::digest(content)), 32));
}

async fn until(what: &str, mut there: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !there() {
        assert!(begin.elapsed() < Duration::from_secs(60), "waiting for {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
