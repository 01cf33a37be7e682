//! The program itself: arguments, exit codes, signals.

use std::{
    fs,
    path::Path,
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use crate::{
    bench::settings,
    controller::{Ca, join},
};

pub(crate) fn agent(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_agent"));
    command.args(args).env_remove("RUST_LOG").stdin(Stdio::null());
    command
}

pub(crate) fn output(args: &[&str]) -> (Output, String) {
    let output = agent(args).output().unwrap();
    let stderr = String::from_utf8(output.stderr.clone()).unwrap();
    (output, stderr)
}

pub(crate) fn wait_for(what: &str, mut there: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !there() {
        assert!(begin.elapsed() < Duration::from_secs(20), "{what} does not come");
        std::thread::yield_now();
    }
}

/// A running agent whose controller is not there.
fn running(dir: &Path) -> Child {
    let (mut settings, ca) = (settings(dir), Ca::new());
    settings.data_dir = dir.join("data");
    join(&settings, &ca, &ca, "127.0.0.1:1".parse().unwrap());
    let (data, ready) = (settings.data_dir.display().to_string(), dir.join("ready").display().to_string());
    let log = fs::File::create(dir.join("log")).unwrap();
    let child = agent(&["run", "--data", &data, "--ready-file", &ready]).stderr(log).spawn().unwrap();
    wait_for("the ready file", || fs::read_to_string(dir.join("ready")).is_ok_and(|text| text == "a1\n"));
    child
}

pub(crate) fn signal(child: &Child, name: &str) {
    assert!(Command::new("kill").args([name, &child.id().to_string()]).status().unwrap().success());
}

#[test]
fn a_signal_ends_it_in_order() {
    for name in ["-TERM", "-INT"] {
        let dir = tempfile::tempdir().unwrap();
        let mut child = running(dir.path());
        let log = || fs::read_to_string(dir.path().join("log")).unwrap();
        wait_for("the first try to dial", || log().contains("out of contact"));
        signal(&child, name);
        assert!(child.wait().unwrap().success());
        let log = log();
        assert!(log.contains("out of contact") && log.contains("the link is closed"), "{log}");
        assert!(!log.contains("PRIVATE KEY"));
    }
}

#[test]
fn a_killed_agent_leaves_the_directory_to_the_next_one() {
    let dir = tempfile::tempdir().unwrap();
    let mut child = running(dir.path());
    signal(&child, "-KILL");
    child.wait().unwrap();
    fs::remove_file(dir.path().join("ready")).unwrap();
    let mut child = running(dir.path());
    signal(&child, "-TERM");
    assert!(child.wait().unwrap().success());
}

#[test]
fn the_effective_settings_are_printed_and_can_be_read_again() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().display().to_string();
    let (printed, stderr) = output(&["config", "--data", &data]);
    assert!(printed.status.success(), "{stderr}");
    let file = dir.path().join("agent.toml");
    fs::write(&file, &printed.stdout).unwrap();
    let (again, _) = output(&["config", "--data", &data]);
    assert_eq!(again.stdout, printed.stdout);
}

#[test]
fn what_cannot_be_used_is_said_with_exit_code_2() {
    let dir = tempfile::tempdir().unwrap();
    let (data, file) = (dir.path().display().to_string(), dir.path().join("x.toml"));
    fs::write(&file, "[timing]\ntime_scael = 2.0\n").unwrap();
    for (args, word) in [
        (vec!["run", "--data", &data], "join.json"),
        (vec!["run", "--config", file.to_str().unwrap()], "time_scael"),
        (vec!["run", "--config", "/nowhere.toml"], "/nowhere.toml"),
        (vec!["walk"], "walk"),
    ] {
        let (output, stderr) = output(&args);
        assert_eq!(output.status.code(), Some(2), "{stderr}");
        assert!(stderr.contains(word) && output.stdout.is_empty(), "{stderr}");
    }
}

#[test]
fn what_is_no_token_is_refused_before_anything_is_made() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data").display().to_string();
    let (output, said) = output(&["join", "gantry-join-1.eyJ1", "--data", &data]);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("not a whole join token") && said.contains("ctl agent token"), "{said}");
    assert!(!dir.path().join("data").exists());
}

#[test]
fn an_agent_that_has_not_joined_says_how_to() {
    let dir = tempfile::tempdir().unwrap();
    let (output, said) = output(&["run", "--data", &dir.path().display().to_string()]);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("agent join TOKEN") && said.contains("ctl agent token --site"), "{said}");
}

#[test]
fn help_shows_how_it_is_started() {
    let (output, _) = output(&["--help"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && text.contains("agent join --config"), "{text}");
}
