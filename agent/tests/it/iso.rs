//! The inventory of the ISO files, as an operator has it: `agent iso scan`, `agent iso list`, and the agent that hashes
//! by itself what lies in its directory.

use std::{
    ffi::OsStr,
    fs,
    io::{BufRead as _, BufReader, Read as _},
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
    process::{Child, Stdio},
};

use gantry_agent::{
    config::Settings,
    iso::{ChunkDigests, Inventory, find},
};
use gantry_proto::v1::{IsoFile, open_request::Item as Said};
use gantry_sim::iso::Iso;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::{
    controller::{Controller, Session, joined},
    program::{agent, output, signal, wait_for},
};

const NAME: &str = "cloudtower-v4.6.2.oe2003.x86_64.iso";
const CHUNK: usize = 64 << 10;

/// An agent's directory with its settings.
fn place(dir: &Path) -> Settings {
    let mut settings = Settings { data_dir: dir.join("data"), iso_dir: dir.join("data/iso"), ..Settings::default() };
    settings.iso.min_bytes = 1000;
    settings.iso.chunk_bytes = CHUNK as u64;
    write_settings(&settings);
    fs::create_dir_all(&settings.iso_dir).unwrap();
    settings
}

fn write_settings(settings: &Settings) {
    fs::create_dir_all(&settings.data_dir).unwrap();
    fs::write(settings.data_dir.join("agent.toml"), toml::to_string(settings).unwrap()).unwrap();
}

/// Whole at once, so that nobody sees half of it.
fn put(settings: &Settings, name: &str, seed: u64) -> PathBuf {
    let (copy, path) = (settings.iso_dir.join("copy"), settings.iso_dir.join(name));
    Iso::new(3 * CHUNK as u64 + 17).seed(seed).write(&copy).unwrap();
    fs::rename(copy, &path).unwrap();
    path
}

fn sha256(path: &Path) -> String {
    hex(&Sha256::digest(fs::read(path).unwrap()))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What a verb with `-o json` says. It must be content.
fn json(args: &[&str]) -> Value {
    let (output, said) = output(&[args, &["-o", "json"]].concat());
    assert!(output.status.success(), "{said}");
    serde_json::from_slice(&output.stdout).unwrap()
}

fn listed(settings: &Settings) -> Value {
    json(&["iso", "list", "--data", settings.data_dir.to_str().unwrap()])
}

#[test]
fn a_file_is_scanned_once_and_listed_with_its_hash() {
    let dir = tempfile::tempdir().unwrap();
    let settings = place(dir.path());
    let (path, data) = (put(&settings, NAME, 1), settings.data_dir.to_str().unwrap());
    let (before, said) = output(&["iso", "list", "--data", data]);
    let before = String::from_utf8(before.stdout).unwrap();
    let wanted = "VERSION  OS      ARCH    SIZE          SHA256\nv4.6.2   oe2003  x86_64  196625 bytes  not yet\n";
    assert_eq!((before.as_str(), said.as_str()), (wanted, ""));

    let scan = ["iso", "scan", path.to_str().unwrap(), "--state", data];
    let scanned = json(&scan);
    assert_eq!((&scanned["known"], &scanned["warnings"]), (&Value::Bool(false), &Value::Array(vec![])), "{scanned}");
    assert_eq!((scanned["sha256"].as_str().unwrap(), scanned["size"].as_u64()), (&*sha256(&path), Some(196_625)));
    assert_eq!((scanned["chunk_bytes"].as_u64(), scanned["chunks"].as_u64()), (Some(CHUNK as u64), Some(4)));
    let bytes = fs::read(&path).unwrap();
    let plainly = bytes.chunks(CHUNK).map(|chunk| Sha256::digest(chunk).into()).collect();
    let known = Inventory::new(&settings).known(&find(&path).unwrap()).unwrap();
    assert_eq!(known.chunks, Some(ChunkDigests { size: CHUNK as u64, sha256: plainly }));
    assert_eq!(known.md5, scanned["md5"]);

    let (again, said) = output(&scan);
    let again = String::from_utf8(again.stdout).unwrap();
    assert!(again.contains(&known.sha256) && again.contains("the inventory has it already"), "{again}{said}");
    let (after, _) = output(&["iso", "list", "--data", data]);
    assert!(String::from_utf8(after.stdout).unwrap().contains(&known.sha256));

    put(&settings, NAME, 2);
    assert_eq!(listed(&settings)["files"][0]["sha256"], Value::Null, "another file by now");
    let changed = json(&scan);
    assert_eq!((&changed["known"], changed["sha256"].as_str().unwrap()), (&Value::Bool(false), &*sha256(&path)));
    assert_ne!(changed["sha256"], scanned["sha256"]);
}

#[test]
fn what_is_no_such_iso_is_refused_with_exit_code_2_and_nothing_is_made() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    let at = |name: &str| dir.path().join(name).display().to_string();
    Iso::new(100_000).write(&dir.path().join("tower.iso")).unwrap();
    fs::write(dir.path().join(NAME), vec![7; 100_000]).unwrap();
    fs::write(dir.path().join("cloudtower-v1.a.b.iso"), "").unwrap();
    fs::create_dir(dir.path().join("cloudtower-v2.a.b.iso")).unwrap();
    for (file, why) in [
        ("tower.iso", "\"tower.iso\" is not named like cloudtower-<version>.<os>.<arch>.iso"),
        (NAME, "no ISO 9660 volume"),
        ("cloudtower-v1.a.b.iso", "no ISO 9660 volume"),
        ("cloudtower-v2.a.b.iso", "is not a regular file"),
        ("cloudtower-v3.a.b.iso", "there is no file"),
    ] {
        let (output, said) = output(&["iso", "scan", &at(file), "--state", state.to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(why) && output.stdout.is_empty(), "{said}");
    }
    assert!(!state.exists());
}

#[test]
fn missing_guest_tools_are_a_warning() {
    let dir = tempfile::tempdir().unwrap();
    let settings = place(dir.path());
    let path = settings.iso_dir.join(NAME);
    Iso::new(100_000).tools(false).write(&path).unwrap();
    let (data, path) = (settings.data_dir.to_str().unwrap(), path.to_str().unwrap());
    let (scanned, said) = output(&["iso", "scan", path, "--state", data]);
    assert!(scanned.status.success() && said.starts_with("warning: the guest tools are missing"), "{said}");
    let (list, _) = output(&["iso", "list", "--data", data]);
    let list = String::from_utf8(list.stdout).unwrap();
    assert!(list.contains("To look at:\n  cloudtower-v4.6.2.oe2003.x86_64.iso: the guest tools are missing"), "{list}");
}

#[test]
fn a_state_directory_that_is_not_there_yet_is_made_for_its_owner_alone() {
    use std::os::unix::fs::MetadataExt as _;
    let dir = tempfile::tempdir().unwrap();
    let (path, state) = (dir.path().join(NAME), dir.path().join("a/state"));
    Iso::new(100_000).write(&path).unwrap();
    let scanned = json(&["iso", "scan", path.to_str().unwrap(), "--state", state.to_str().unwrap()]);
    assert_eq!(scanned["chunks"].as_u64(), Some(1));
    assert_eq!(fs::metadata(state).unwrap().mode() & 0o777, 0o700);
}

#[test]
fn ctrl_c_ends_a_scan_and_leaves_the_inventory_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let settings = place(dir.path());
    // Minutes of work that take no room on the disk.
    Iso::new(100 << 30).sparse(true).write(&settings.iso_dir.join(NAME)).unwrap();
    let (file, data) = (settings.iso_dir.join(NAME).display().to_string(), settings.data_dir.display().to_string());
    let scan = ["iso", "scan", &file, "--state", &data];
    let mut child = agent(&scan).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut said = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    said.read_line(&mut line).unwrap();
    assert!(line.contains(" % of 100.0 GiB, ") && line.contains(" MiB/s, "), "{line}");
    signal(&child, "-INT");
    let mut rest = String::new();
    said.read_to_string(&mut rest).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(130), &b""[..]), "{rest}");
    assert!(rest.ends_with("error: interrupted; the inventory is as it was\n"), "{rest}");
    assert!(!settings.data_dir.join("iso-inventory.json").exists());
}

#[test]
fn scans_at_the_same_time_lose_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let settings = place(dir.path());
    let data = settings.data_dir.to_str().unwrap();
    let files: Vec<_> = (1..=8).map(|n| put(&settings, &format!("cloudtower-v{n}.a.b.iso"), n)).collect();
    let scan = |path: &PathBuf| {
        agent(&["iso", "scan", path.to_str().unwrap(), "--state", data]).stdout(Stdio::null()).spawn().unwrap()
    };
    let scans: Vec<Child> = files.iter().map(scan).collect();
    for mut scan in scans {
        assert!(scan.wait().unwrap().success());
    }
    for path in files {
        let known = Inventory::new(&settings).known(&find(&path).unwrap()).unwrap();
        assert_eq!((known.sha256, known.chunks.unwrap().sha256.len()), (sha256(&path), 4), "{}", path.display());
    }
}

#[test]
fn what_is_left_out_is_listed_with_the_reason() {
    let dir = tempfile::tempdir().unwrap();
    let settings = place(dir.path());
    let (data, at) = (settings.data_dir.to_str().unwrap(), |name: &str| settings.iso_dir.join(name));
    fs::write(at("notes.txt"), "no ISO").unwrap();
    fs::write(at("a\x1b[2Jb.iso"), "clears the screen").unwrap();
    fs::write(settings.iso_dir.join(OsStr::from_bytes(b"\xff.iso")), "no text").unwrap();
    fs::create_dir(at("cloudtower-v2.a.b.iso")).unwrap();
    let (empty, said) = output(&["iso", "list", "--data", data]);
    assert!(empty.status.success() && said.contains("no file named cloudtower-<version>.<os>.<arch>.iso"), "{said}");
    let text = String::from_utf8(empty.stdout).unwrap();
    assert!(text.starts_with("Left out:\n") && text.contains("\"notes.txt\" is not named like"), "{text}");
    assert!(text.contains("cloudtower-v2.a.b.iso is not a regular file") && !text.contains('\x1b'), "{text}");

    fs::write(at("cloudtower-v1.a.b.iso"), "short").unwrap();
    put(&settings, NAME, 1);
    let list = listed(&settings);
    let names: Vec<_> = list["files"].as_array().unwrap().iter().map(|file| file["name"].as_str().unwrap()).collect();
    assert_eq!(names, [NAME, "cloudtower-v1.a.b.iso"], "newest first");
    let remarks = list["files"][1]["remarks"].to_string();
    assert!(remarks.contains("no ISO 9660 volume") && remarks.contains("iso.min_bytes"), "{remarks}");
    let left: Vec<_> = list["left_out"].as_array().unwrap().iter().map(|left| &left["name"]).collect();
    assert_eq!(left, ["a\x1b[2Jb.iso", "cloudtower-v2.a.b.iso", "notes.txt", "\u{fffd}.iso"]);
    let nowhere = json(&["iso", "list", "--data", dir.path().join("nowhere").to_str().unwrap()]);
    assert_eq!(nowhere["files"], Value::Array(vec![]));
}

/// The agent as a program, whose settings these are.
fn run(settings: &Settings) -> Child {
    write_settings(settings);
    let log = fs::File::create(settings.data_dir.join("log")).unwrap();
    agent(&["run", "--data", settings.data_dir.to_str().unwrap()]).stderr(log).spawn().unwrap()
}

/// Settings of an agent of this controller that looks for files each second.
fn watchful(dir: &Path, controller: &Controller) -> Settings {
    let mut settings = joined(dir, controller);
    (settings.iso.scan_s, settings.iso.hash_every_s, settings.iso.settle_s) = (1, 1, 0);
    settings.iso.chunk_bytes = CHUNK as u64;
    fs::create_dir_all(&settings.iso_dir).unwrap();
    settings
}

/// The agent's list of files as soon as it is so.
async fn until(session: &mut Session, so: impl Fn(&[IsoFile]) -> bool) {
    loop {
        if let Said::Isos(list) = session.hear().await.expect("the session ends too early")
            && so(&list.isos)
        {
            return;
        }
    }
}

#[tokio::test]
async fn the_agent_hashes_new_and_changed_files_and_the_controller_hears_of_it() {
    let (dir, mut controller) = (tempfile::tempdir().unwrap(), Controller::start().await);
    let settings = watchful(dir.path(), &controller);
    // It has the right name, and is never hashed.
    fs::write(settings.iso_dir.join("cloudtower-v1.a.b.iso"), vec![7; 100_000]).unwrap();
    let mut running = run(&settings);
    let mut session = controller.welcomed(0).await;
    assert_eq!(session.hello.isos.len(), 1);
    let mut hashes = Vec::new();
    for seed in [1, 2] {
        let path = put(&settings, NAME, seed);
        let sha256 = sha256(&path);
        until(&mut session, |isos| isos.iter().any(|iso| iso.name == NAME && iso.sha256 == sha256)).await;
        let file = listed(&settings)["files"][0].clone();
        assert_eq!((file["sha256"].as_str(), file["chunks"].as_u64()), (Some(sha256.as_str()), Some(4)));
        hashes.push(sha256);
    }
    assert_ne!(hashes[0], hashes[1]);
    signal(&running, "-TERM");
    assert!(running.wait().unwrap().success());
    let log = fs::read_to_string(settings.data_dir.join("log")).unwrap();
    assert_eq!(log.matches("an ISO has been hashed ahead").count(), 2, "{log}");
    assert_eq!(log.matches("the ISO cannot be hashed ahead").count(), 1, "told once, not at each look: {log}");
}

/// The nice value of the process's thread of this name.
fn priority(child: &Child, name: &str) -> Option<i32> {
    let tasks = fs::read_dir(format!("/proc/{}/task", child.id())).ok()?;
    let stat = |task: fs::DirEntry| fs::read_to_string(task.path().join("stat")).ok();
    let stat = tasks.flatten().filter_map(stat).find(|stat| stat.contains(&format!("({name})")))?;
    // Field 19; the name is the second, and may hold anything.
    stat.rsplit_once(')')?.1.split_whitespace().nth(16)?.parse().ok()
}

#[tokio::test]
async fn hashing_ahead_has_the_lowest_priority_and_holds_up_no_end() {
    let (dir, mut controller) = (tempfile::tempdir().unwrap(), Controller::start().await);
    let settings = watchful(dir.path(), &controller);
    Iso::new(100 << 30).sparse(true).write(&settings.iso_dir.join(NAME)).unwrap();
    let mut running = run(&settings);
    let _session = controller.welcomed(0).await;
    wait_for("the thread that hashes", || priority(&running, "iso-md5") == Some(19));
    assert_eq!(priority(&running, "iso-ahead"), Some(19));
    assert!(priority(&running, "agent").unwrap() < 19);
    signal(&running, "-TERM");
    assert!(running.wait().unwrap().success());
    assert!(!settings.data_dir.join("iso-inventory.json").exists());
}
