//! `agent doctor`: what it says when all is well, and what of this machine and of the clusters is wrong.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::Path,
    process::{Command, Output, Stdio},
};

use gantry_agent::{
    config::{CertificatePolicy, Settings},
    doctor::{Report, Verdict, examine},
    journal::Journal,
};
use gantry_proto::JobId;
use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, date_time_ymd};
use rustix::fs::statvfs;
use tokio::{net::TcpListener, task::spawn_blocking};

use crate::{
    bench::Table,
    controller::{Agent, Ca, Controller, join, joined},
    doctor_line::{Server, finding, holds, settings},
    proxy::Fake,
    site::Site,
};

const ISO: &str = "cloudtower-v4.6.2.oe2003.x86_64.iso";

async fn local(settings: Settings) -> Report {
    examine(settings, Vec::new(), |_| {}).await
}

/// An agent's directory with everything in it, whose controller is this.
fn complete(dir: &Path, server: &Server) -> Settings {
    let mut settings = settings(dir);
    settings.iso.min_bytes = 1_000;
    fs::write(settings.iso_dir.join(ISO), vec![7; 3 << 20]).unwrap();
    join(&settings, &server.ca, &server.ca, server.address);
    settings
}

/// Figures, the directory and fingerprints are another at each run.
fn without_figures(text: &str, dir: &Path) -> String {
    let text = text.replace(&dir.display().to_string(), "DIR").replace(ISO, "ISO");
    let mut plain = String::new();
    for word in text.split_inclusive([' ', '\n']) {
        let core = word.trim_end();
        if core.len() == 64 && core.chars().all(|c| c.is_ascii_hexdigit()) {
            plain += &word.replace(core, "FINGERPRINT");
            continue;
        }
        let mut digits = false;
        for c in word.chars() {
            let figure = c.is_ascii_digit() || (digits && c == '.');
            if figure && !digits {
                plain.push('N');
            }
            digits = figure;
            if !figure {
                plain.push(c);
            }
        }
    }
    plain
}

#[tokio::test]
async fn when_all_is_well_every_line_says_what_was_seen() {
    let (dir, server, site) = (tempfile::tempdir().unwrap(), Server::right().await, Site::new().await);
    let settings = complete(dir.path(), &server);
    let fisheye = format!("{}:{}", site.plan.cluster.vip.unwrap(), site.sim.fisheye_port());
    let mut lines = Vec::new();
    let report = examine(settings, vec![fisheye], |check| lines.push(check.to_string())).await;
    assert!(report.is_good());
    lines.push(report.to_string());
    let said = without_figures(&lines.join("\n"), dir.path());
    let wanted = "\x20N/N  ok    identity     agent aN of site sN, controller https://N:N
 N/N  ok    certificate  the agent's own certificate holds until N-N-N N:N UTC, N more days
 N/N  ok    proxy        none: neither settings nor environment name one
 N/N  ok    name         N, the controller, is an address
 N/N  ok    route        the controller answers at N:N, from N, in N ms
 N/N  ok    tunnel       none is needed
 N/N  ok    tls          TLSvN_N in N ms: controller.test (signed by CN=rcgen self signed cert, until N-N-N)
 N/N  ok    alpn         hN
 N/N  ok    welcome      the certificate is taken; N answers take N ms in the median, N ms at most
N/N  ok    clock        this machine and the controller agree to a second
N/N  ok    disk         N GiB free in DIR
N/N  ok    iso          ISO (version vN, oeN xN_N, N MiB)
N/N  ok    reading      N MiB of ISO read from the disk in N s, N MiB/s (what is cached is faster)
N/N  ok    fisheye      N:N answers in N ms; its certificate is FINGERPRINT
N ok, N to look at, N failed, N skipped";
    assert_eq!(said, wanted, "{}", lines.join("\n"));
}

/// Every file below `dir`, with what would tell that it was touched.
fn everything(dir: &Path, found: &mut BTreeMap<String, (i64, i64, u64, u32)>) {
    let meta = fs::metadata(dir).unwrap();
    found.insert(dir.display().to_string(), (meta.mtime(), meta.mtime_nsec(), meta.len(), meta.mode()));
    if meta.is_dir() {
        for entry in fs::read_dir(dir).unwrap() {
            everything(&entry.unwrap().path(), found);
        }
    }
}

#[tokio::test]
async fn an_agent_that_runs_does_not_notice() {
    let (dir, table, mut controller) = (tempfile::tempdir().unwrap(), Table::new(), Controller::start().await);
    let settings = joined(dir.path(), &controller);
    let agent = Agent::start(&settings, table.pipeline).await;
    let session = controller.welcomed(0).await;
    let (mut before, mut after) = (BTreeMap::new(), BTreeMap::new());
    everything(dir.path(), &mut before);
    let report = local(settings).await;
    assert_eq!(finding(&report, "welcome").verdict, Verdict::Ok, "{report:?}");
    everything(dir.path(), &mut after);
    assert_eq!(before, after, "something was written");
    assert!(!controller.is_dialled(), "a session was opened");
    drop(session);
    assert!(agent.stop().await);
}

#[tokio::test]
async fn an_agent_that_has_not_joined_is_told_how() {
    let dir = tempfile::tempdir().unwrap();
    let report = local(settings(dir.path())).await;
    holds(&report, "identity", Verdict::Fail, "join.json", "`ctl agent token --site SITE` and run `agent join TOKEN`");
    for name in ["certificate", "proxy", "name", "route", "tunnel", "tls", "alpn", "welcome", "clock"] {
        holds(&report, name, Verdict::Skip, "`identity`", "");
    }
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "only the ISO directory is there");

    let (open, ca) = (settings(dir.path()), Ca::new());
    join(&open, &ca, &ca, "127.0.0.1:1".parse().unwrap());
    let file = open.data_dir.join("join.json");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    holds(&local(open.clone()).await, "identity", Verdict::Fail, "mode 644", "chmod 600");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(&file, "{").unwrap();
    holds(&local(open).await, "identity", Verdict::Fail, "is not one", "agent join TOKEN");
}

#[tokio::test]
async fn the_end_of_our_own_certificate_is_told_in_time() {
    let (dir, ca) = (tempfile::tempdir().unwrap(), Ca::new());
    let settings = settings(dir.path());
    join(&settings, &ca, &ca, "127.0.0.1:1".parse().unwrap());
    let file = settings.data_dir.join("join.json");
    let told = async |change: &dyn Fn(&mut CertificateParams), days: u32| {
        let mut join: serde_json::Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
        let (cert, key) = ca.issue_with("a1", ExtendedKeyUsagePurpose::ClientAuth, |params| change(params));
        (join["cert_pem"], join["key_pem"]) = (cert.into(), key.into());
        fs::write(&file, join.to_string()).unwrap();
        let mut settings = settings.clone();
        settings.doctor.certificate_days = days;
        local(settings).await
    };
    let over = told(&|params| params.not_after = date_time_ymd(2001, 2, 3), 14).await;
    holds(&over, "certificate", Verdict::Fail, "ended on 2001-02-03", "`ctl agent approve`");
    let early = told(&|params| params.not_before = date_time_ymd(4000, 5, 6), 14).await;
    holds(&early, "certificate", Verdict::Fail, "from 4000-05-06", "clock");
    let soon = told(&|_| {}, u32::MAX).await;
    holds(&soon, "certificate", Verdict::Warn, "more days", "renews its certificate by itself");
    fs::write(&file, fs::read_to_string(&file).unwrap().replace("BEGIN CERTIFICATE", "BEGIN NOTHING")).unwrap();
    holds(&local(settings.clone()).await, "certificate", Verdict::Fail, "cannot be read", "agent join TOKEN");
}

#[tokio::test]
async fn a_disk_that_is_full_or_wrong_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let mut settings = settings(dir.path());
    let volume = statvfs(dir.path()).unwrap();
    let free = volume.f_bavail * volume.f_frsize;
    settings.doctor.free_bytes = free.saturating_mul(2);
    holds(&local(settings.clone()).await, "disk", Verdict::Warn, "free in", "jobs.keep_finished");
    settings.doctor.free_bytes = u64::MAX;
    holds(&local(settings.clone()).await, "disk", Verdict::Fail, "free in", "jobs.keep_finished");
    settings.doctor.free_bytes = 1;
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    holds(&local(settings.clone()).await, "disk", Verdict::Warn, "mode 755", "chmod 700");
    settings.data_dir = dir.path().join("none/yet");
    holds(&local(settings.clone()).await, "disk", Verdict::Warn, "does not exist yet", "agent join");
    fs::write(dir.path().join("file"), "x").unwrap();
    settings.data_dir = dir.path().join("file");
    holds(&local(settings).await, "disk", Verdict::Fail, "not a directory", "data_dir");
}

#[tokio::test]
async fn iso_files_that_cannot_be_used_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let mut settings = settings(dir.path());
    settings.iso.min_bytes = 100;
    let put = "cloudtower-<version>.<os>.<arch>.iso";
    let none = local(settings.clone()).await;
    holds(&none, "iso", Verdict::Fail, "no ISO lies in", put);
    holds(&none, "reading", Verdict::Skip, "`iso`", "");
    fs::write(settings.iso_dir.join("other.iso"), vec![1; 200]).unwrap();
    fs::write(settings.iso_dir.join("notes.txt"), "no ISO").unwrap();
    holds(&local(settings.clone()).await, "iso", Verdict::Fail, "not named like", put);
    fs::write(settings.iso_dir.join("cloudtower-v1.el7.x86_64.iso"), vec![1; 50]).unwrap();
    holds(&local(settings.clone()).await, "iso", Verdict::Fail, "shorter than iso.min_bytes", put);
    fs::write(settings.iso_dir.join(ISO), vec![1; 200]).unwrap();
    let some = local(settings.clone()).await;
    holds(&some, "iso", Verdict::Warn, "version v4.6.2, oe2003 x86_64", "rename");
    assert!(finding(&some, "iso").seen.contains("other.iso") && !finding(&some, "iso").seen.contains("notes.txt"));
    settings.doctor.slow_bytes_per_s = u64::MAX;
    holds(&local(settings.clone()).await, "reading", Verdict::Warn, "MiB/s", "local disk");
    settings.iso_dir = dir.path().join("nowhere");
    holds(&local(settings).await, "iso", Verdict::Fail, "cannot be read", "put an ISO");
}

#[tokio::test]
async fn a_cluster_that_is_not_there_is_told() {
    let (dir, site) = (tempfile::tempdir().unwrap(), Site::new().await);
    let mut settings = settings(dir.path());
    let vip = format!("{}:{}", site.plan.cluster.vip.unwrap(), site.sim.fisheye_port());
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().to_string();
    let (mail, bad) = (Fake::says("220 ESMTP\r\n").await, "a b".to_owned());
    settings.fisheye.connect_timeout_ms = 1_000;
    let told =
        async |settings: &Settings, address: &str| examine(settings.clone(), vec![address.to_owned()], |_| {}).await;
    holds(&told(&settings, &nobody).await, "fisheye", Verdict::Fail, "refused", "firewalls");
    // It waits for an HTTP request that never comes.
    holds(&told(&settings, &mail.address.to_string()).await, "fisheye", Verdict::Fail, "no answer within", "firewalls");
    holds(&told(&settings, &bad).await, "fisheye", Verdict::Fail, "no address", "HOST:PORT");
    let good = told(&settings, &vip).await;
    let seen = &finding(&good, "fisheye").seen;
    let fingerprint = seen.rsplit(' ').next().unwrap().to_owned();
    settings.fisheye.certificate = CertificatePolicy::Pinned;
    settings.fisheye.fingerprint = Some(fingerprint.clone());
    holds(&told(&settings, &vip).await, "fisheye", Verdict::Ok, "the one of the settings", "");
    settings.fisheye.fingerprint = Some("00".repeat(32));
    holds(&told(&settings, &vip).await, "fisheye", Verdict::Fail, &fingerprint, "fisheye.fingerprint");
    settings.fisheye.scheme = "http".to_owned();
    holds(&told(&settings, &vip).await, "fisheye", Verdict::Ok, "in clear", "");
    holds(&told(&settings, &nobody).await, "fisheye", Verdict::Fail, "refused", "firewalls");
}

#[tokio::test]
async fn the_clusters_of_the_jobs_are_known() {
    let site = Site::new().await;
    let none = local(site.settings.clone()).await;
    holds(&none, "fisheye", Verdict::Skip, "--fisheye", "");
    let (journal, _) = Journal::open(&site.job_dir()).unwrap();
    journal.start(crate::bench::start_record(1)).unwrap();
    // A damaged journal, one that is empty, and what is no job do not matter.
    for (name, text) in [(JobId::new().to_string(), "x\n"), (JobId::new().to_string(), ""), ("x".to_owned(), "")] {
        let other = site.settings.data_dir.join("jobs").join(name);
        fs::create_dir_all(&other).unwrap();
        fs::write(other.join("journal.log"), text).unwrap();
    }
    let mut settings = site.settings.clone();
    settings.fisheye.connect_timeout_ms = 200;
    let report = local(settings).await;
    let of: Vec<_> = report.checks.iter().filter(|check| check.name == "fisheye").collect();
    assert!(of.len() == 1 && of[0].finding.seen.contains("192.0.2.10"), "{of:?}");
}

fn program(args: &[&str], environment: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_agent"));
    for name in ["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY", "no_proxy", "NO_PROXY"] {
        command.env_remove(name);
    }
    command.args(args).envs(environment.iter().copied()).stdin(Stdio::null()).output().unwrap()
}

#[tokio::test]
async fn the_program_says_it_in_lines_or_json_and_by_its_exit_code() {
    let (dir, server) = (tempfile::tempdir().unwrap(), Server::right().await);
    let settings = complete(dir.path(), &server);
    fs::write(dir.path().join("agent.toml"), "[iso]\nmin_bytes = 1000\n").unwrap();
    let data = settings.data_dir.display().to_string();
    let run = async |more: &'static [&'static str]| {
        let data = data.clone();
        let ran = spawn_blocking(move || program(&[&["doctor", "--data", &data], more].concat(), &[]));
        let output = ran.await.unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    let (code, text) = run(&[]).await;
    assert_eq!((code, text.lines().count()), (Some(0), 15), "{text}");
    assert!(
        text.starts_with(" 1/14  ok    identity ") && text.ends_with("13 ok, 0 to look at, 0 failed, 1 skipped\n"),
        "{text}"
    );
    let (code, text) = run(&["--json", "--fisheye", "127.0.0.1:1"]).await;
    let report: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!((code, &report["good"]), (Some(1), &false.into()), "{text}");
    let checks = report["checks"].as_array().unwrap();
    let keys: Vec<_> = checks[0].as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!((checks.len(), keys), (14, vec!["name", "verdict", "seen", "took_ms"]));
    let last = &checks[13];
    assert_eq!((&last["name"], &last["verdict"]), (&"fisheye".into(), &"fail".into()));
    assert!(last["remedy"].as_str().is_some_and(|remedy| remedy.contains("firewalls")), "{last}");
    assert!(!text.contains("PRIVATE KEY"));
}

#[tokio::test]
async fn a_proxy_of_the_environment_is_told_without_its_password() {
    let (dir, proxy, ca) = (tempfile::tempdir().unwrap(), Fake::says("HTTP/1.1 407 No\r\n\r\n").await, Ca::new());
    let settings = settings(dir.path());
    join(&settings, &ca, &ca, "192.0.2.1:7443".parse().unwrap());
    let (data, url) = (settings.data_dir.display().to_string(), format!("http://agent:canary-pw@{}", proxy.address));
    let run = async |environment: &[(&'static str, &str)]| {
        let environment: Vec<_> = environment.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        let data = data.clone();
        let ran = spawn_blocking(move || {
            let environment: Vec<_> = environment.iter().map(|(name, value)| (*name, value.as_str())).collect();
            program(&["doctor", "--data", &data, "--json"], &environment)
        });
        let output = ran.await.unwrap();
        let text = String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap();
        assert!(!text.contains("canary") && output.status.code() == Some(1), "{text}");
        text
    };
    let refused = run(&[("HTTPS_PROXY", &url)]).await;
    assert!(
        refused.contains("as agent (from HTTPS_PROXY)") && refused.contains("refuses user and password"),
        "{refused}"
    );
    let bad = run(&[("HTTPS_PROXY", "http://agent:canary pw@x")]).await;
    assert!(bad.contains("that HTTPS_PROXY names cannot be used"), "{bad}");
}
