//! Rules of the house that a machine can check: who may depend on whom, and what every file opens with.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// Which of our packages each of our packages may name, outside of tests.
const MAY_DEPEND: [(&str, &[&str]); 10] = [
    ("gantry-proto", &[]),
    ("gantry-report", &["gantry-proto"]),
    ("gantry-telemetry", &["gantry-proto"]),
    ("gantry-plan", &["gantry-proto"]),
    ("gantry-controller", &["gantry-proto", "gantry-plan", "gantry-report", "gantry-telemetry"]),
    ("gantry-agent", &["gantry-proto", "gantry-telemetry"]),
    ("gantry-ctl", &["gantry-proto", "gantry-plan", "gantry-report", "gantry-telemetry"]),
    ("gantry-sim", &[]),
    ("gantry-bench", &[]),
    (
        "gantry-e2e",
        &[
            "gantry-proto",
            "gantry-plan",
            "gantry-controller",
            "gantry-agent",
            "gantry-ctl",
            "gantry-sim",
            "gantry-telemetry",
        ],
    ),
];

/// What a package of ours must not bring in by itself: the contract and the planner are pure.
const MUST_NOT_NAME: [(&str, &[&str]); 4] = [
    ("gantry-proto", &["tokio", "reqwest", "hyper", "sqlx", "russh", "calamine"]),
    ("gantry-plan", &["tokio", "reqwest", "hyper", "sqlx", "russh", "tonic"]),
    ("gantry-report", &["tokio", "reqwest", "hyper", "sqlx", "russh", "tonic"]),
    ("gantry-ctl", &["reqwest", "russh", "sqlx", "calamine"]),
];

fn metadata() -> Value {
    let out = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps", "--locked", "--offline"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    serde_json::from_slice(&out.stdout).unwrap()
}

/// Package → (dependency, kind), kind being "normal", "dev" or "build".
fn dependencies(metadata: &Value) -> BTreeMap<String, Vec<(String, String)>> {
    let text = |value: &Value| value.as_str().unwrap_or("normal").to_owned();
    let packages = metadata["packages"].as_array().unwrap();
    packages
        .iter()
        .map(|package| {
            let deps = package["dependencies"].as_array().unwrap();
            (text(&package["name"]), deps.iter().map(|d| (text(&d["name"]), text(&d["kind"]))).collect())
        })
        .collect()
}

#[test]
fn packages_depend_on_whom_they_may() {
    let dependencies = dependencies(&metadata());
    assert_eq!(dependencies.len(), MAY_DEPEND.len(), "a package is missing in the table");
    for (package, allowed) in MAY_DEPEND {
        for (dependency, kind) in &dependencies[package] {
            let ours = dependency.starts_with("gantry-");
            let in_tests = kind == "dev" && dependency == "gantry-sim";
            assert!(
                !ours || in_tests || allowed.contains(&dependency.as_str()),
                "{package} must not depend on {dependency} ({kind})"
            );
        }
    }
}

#[test]
fn pure_packages_name_no_runtime() {
    let dependencies = dependencies(&metadata());
    for (package, forbidden) in MUST_NOT_NAME {
        for (dependency, kind) in &dependencies[package] {
            let used = kind != "dev" && forbidden.contains(&dependency.as_str());
            assert!(!used, "{package} must not name {dependency}");
        }
    }
}

#[test]
fn steps_know_no_link_and_clients_know_no_step() {
    let src = root().join("agent/src");
    let no = |dir: &str, word: &str| {
        for file in rust_files(&src.join(dir)) {
            let text = fs::read_to_string(&file).unwrap();
            assert!(!text.contains(word), "{} must not use {word}", file.display());
        }
    };
    no("steps", "crate::link");
    for client in ["fisheye", "guest", "cloudtower", "upload"] {
        no(client, "crate::steps");
    }
}

#[test]
fn every_file_says_what_it_is_for() {
    let mut seen = 0;
    for file in rust_files(&root()) {
        let text = fs::read_to_string(&file).unwrap();
        assert!(text.starts_with("//!") || text.starts_with("#!["), "{} does not open with //!", file.display());
        seen += 1;
    }
    assert!(seen > 50, "only {seen} files were found");
}

#[test]
fn the_top_level_holds_the_agreed_names() {
    let agreed =
        ["Cargo.toml", "Cargo.lock", "proto", "controller", "agent", "cli", "tests", "deploy", "LICENSE", "README.md"];
    let out = Command::new("git").args(["ls-files"]).current_dir(root()).output().unwrap();
    let listed = String::from_utf8(out.stdout).unwrap();
    for name in listed.lines().filter_map(|line| line.split('/').next()) {
        assert!(agreed.contains(&name) || name.starts_with('.'), "{name} is not an agreed top-level name");
    }
    for name in agreed {
        assert!(root().join(name).exists(), "{name} is missing");
    }
    assert!(fs::read_to_string(root().join("LICENSE")).unwrap().contains("GNU GENERAL PUBLIC LICENSE"));
}

#[test]
fn every_item_of_the_contract_is_documented() {
    for entry in fs::read_dir(root().join("proto/gantry/v1")).unwrap() {
        let path = entry.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        let lines: Vec<_> = text.lines().map(str::trim).collect();
        for pair in lines.windows(2) {
            let item = ["message ", "enum ", "service ", "rpc ", "oneof "].iter().any(|word| pair[1].starts_with(word))
                || (pair[1].ends_with(';') && pair[1].contains(" = ") && !pair[1].starts_with("//"));
            let plain = pair[1].starts_with("syntax") || pair[1].starts_with("import");
            assert!(!item || plain || pair[0].starts_with("//"), "{}: no comment above: {}", path.display(), pair[1]);
        }
    }
}

/// The table of requirements names tests and files; each must be there.
#[test]
fn the_table_of_requirements_names_what_there_is() {
    let readme = fs::read_to_string(root().join("tests/README.md")).unwrap();
    let rows: Vec<_> = readme.lines().filter(|line| line.starts_with("| R")).collect();
    let all: String = rust_files(&root()).iter().map(|file| fs::read_to_string(file).unwrap()).collect();
    let files: Vec<_> = rust_files(&root()).iter().map(|file| file.display().to_string()).collect();
    let mut names = 0;
    for name in rows.iter().flat_map(|row| row.split('`').skip(1).step_by(2)) {
        let (file, test) = name.split_once("::").unwrap_or(("", name));
        if name.ends_with(".md") {
            continue; // The references are not part of the project.
        }
        let known = if name.ends_with(".rs") || name.contains('/') || name.contains('.') {
            files.iter().any(|file| file.ends_with(name)) || root().join(name).exists()
        } else {
            let file_is_there = file.is_empty() || files.iter().any(|path| path.ends_with(&format!("/{file}.rs")));
            file_is_there && (test == "*" || !test.contains('_') || all.contains(&format!("fn {test}(")))
        };
        assert!(known, "tests/README.md names `{name}`, which is not there");
        names += 1;
    }
    assert!(names > 60, "only {names} names were checked");
}

fn rust_files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() && name != "target" && !name.starts_with('.') {
            found.extend(rust_files(&path));
        } else if name.ends_with(".rs") {
            found.push(path);
        }
    }
    found
}
