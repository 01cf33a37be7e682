//! The example settings, the settings of the program, and what `init` makes.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, process::Command};

use gantry_controller::{Config, setup};
use gantry_proto::OperatorProfile;

const EXAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/config/controller.toml");

#[test]
fn the_example_shows_the_defaults() {
    let example = Config::load(Some(Path::new(EXAMPLE)), None).unwrap();
    assert_eq!(format!("{example:#?}"), format!("{:#?}", Config::default()));
}

#[test]
fn the_example_shows_every_key() {
    let text = fs::read_to_string(EXAMPLE).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("c.toml");
    for section in ["", "link", "store", "limits", "audit", "certificates", "plan", "telemetry"] {
        let header = if section.is_empty() { String::new() } else { format!("[{section}]\n") };
        fs::write(&path, format!("{header}no_such_key = 1\n")).unwrap();
        let refused = Config::load(Some(&path), None).unwrap_err().to_string();
        let (_, expected) = refused.split_once("expected one of ").unwrap_or_else(|| panic!("{refused}"));
        let keys: Vec<&str> = expected.split(';').next().unwrap().split('`').skip(1).step_by(2).collect();
        assert!(!keys.is_empty(), "{refused}");
        for key in keys {
            let shown = text.lines().map(|line| line.trim_start_matches("# ")).any(|line| {
                line.starts_with(&format!("{key} ="))
                    || line.starts_with(&format!("[{key}]"))
                    || line.starts_with(&format!("[{section}.{key}]"))
            });
            assert!(shown, "{section}.{key} is not in the example");
        }
    }
}

#[test]
fn the_program_refuses_an_unknown_key_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("c.toml");
    fs::write(&path, "[limits]\nconections = 5\n").unwrap();
    let run = Command::new(env!("CARGO_BIN_EXE_controller")).arg("run").arg("--config").arg(&path).output().unwrap();
    let said = String::from_utf8(run.stderr).unwrap();
    assert_eq!(run.status.code(), Some(2), "{said}");
    assert!(said.contains("`conections`") && said.contains("`connections`") && said.contains("line 2"), "{said}");
    assert!(run.stdout.is_empty());
}

#[test]
fn init_makes_everything_once_and_overwrites_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let init = |names: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_controller"));
        command.args(["init", "--listen", "127.0.0.1:7999", "--data"]).arg(&data);
        names.iter().for_each(|name| {
            command.args(["--name", name]);
        });
        command.output().unwrap()
    };
    let first = init(&["controller.example", "192.0.2.7"]);
    let said = String::from_utf8(first.stdout).unwrap();
    assert!(first.status.success(), "{}", String::from_utf8_lossy(&first.stderr));
    assert!(said.contains("made   CA") && said.contains("controller run --data"), "{said}");
    let mode = |name: &str| fs::metadata(data.join(name)).unwrap().permissions().mode() & 0o777;
    for (name, expected) in
        [("", 0o700), ("ca/ca.key", 0o600), ("tls/server.key", 0o600), ("operators/admin/key.pem", 0o600)]
    {
        assert_eq!(mode(name), expected, "{name}");
    }
    let profile = fs::read_to_string(data.join("operators/admin/ctl.toml")).unwrap();
    let profile: OperatorProfile = toml::from_str(&profile).unwrap();
    assert_eq!(profile.controller, "https://controller.example:7999");
    assert_eq!(profile.server_name, "controller.example");

    let ca = fs::read(data.join("ca/ca.pem")).unwrap();
    let again = init(&["controller.example"]);
    let said = String::from_utf8(again.stdout).unwrap();
    assert!(again.status.success() && said.contains("kept   CA") && !said.contains("made"), "{said}");
    assert_eq!(fs::read(data.join("ca/ca.pem")).unwrap(), ca);
    let other = init(&["other.example"]);
    let said = String::from_utf8(other.stderr).unwrap();
    assert!(!other.status.success() && said.contains("other.example") && said.contains("not overwritten"), "{said}");

    let join = |out: &Path| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_controller"));
        command.args(["join-file", "--agent", "a1", "--site", "s1", "--data"]).arg(&data).arg("--out").arg(out);
        command.output().unwrap()
    };
    let out = dir.path().join("a1.json");
    assert!(join(&out).status.success());
    assert_eq!(fs::metadata(&out).unwrap().permissions().mode() & 0o777, 0o600);
    let file: gantry_proto::JoinFile = serde_json::from_slice(&fs::read(&out).unwrap()).unwrap();
    assert_eq!((file.controller.as_str(), file.agent.as_str()), ("https://controller.example:7999", "a1"));
    let again = join(&out);
    assert!(!again.status.success() && String::from_utf8_lossy(&again.stderr).contains("not overwritten"));
}

#[test]
fn names_that_could_leave_a_directory_and_a_missing_ca_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let config = Config { data: dir.path().join("data"), ..Config::default() };
    let out = dir.path().join("x");
    assert!(setup::operator_file(&config, "../x", &out).is_err());
    let missing = setup::join_file(&config, "a1", "s1", &out).unwrap_err();
    assert!(missing.to_string().contains("controller init"), "{missing}");
    setup::init(&config).unwrap();
    assert!(setup::join_file(&config, "A/1", "s1", &out).is_err());
    assert!(setup::join_file(&config, "a1", "..", &out).is_err());
    let first = setup::operator_file(&config, "second", &out).unwrap();
    assert!(first.ends_with("ctl.toml"));
    assert!(setup::operator_file(&config, "second", &out).is_err(), "nothing is overwritten");
}
