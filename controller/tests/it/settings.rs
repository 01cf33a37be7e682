//! The example settings, the settings of the program, and what `init` makes.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, process::Command};

use gantry_controller::{Config, audit::act, setup};
use gantry_proto::{
    OperatorProfile,
    sealed::SealingKey,
    v1::{self, access_service_client::AccessServiceClient},
};
use tonic::transport::Identity;

use crate::{
    agent::{FakeAgent, hello},
    lab::Lab,
};

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
    for section in ["", "link", "store", "limits", "audit", "web", "certificates", "enrollment", "plan", "telemetry"] {
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
}

#[test]
fn names_that_could_leave_a_directory_and_a_missing_ca_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let config = Config { data: dir.path().join("data"), ..Config::default() };
    let out = dir.path().join("x");
    assert!(setup::operator_file(&config, "../x", &out).is_err());
    let missing = setup::operator_file(&config, "second", &out).unwrap_err();
    assert!(missing.to_string().contains("controller init"), "{missing}");
    setup::init(&config).unwrap();
    let first = setup::operator_file(&config, "second", &out).unwrap();
    assert!(first.ends_with("ctl.toml"));
    assert!(setup::operator_file(&config, "second", &out).is_err(), "nothing is overwritten");
}

#[tokio::test]
async fn a_rescued_operator_is_an_admin_also_beside_a_running_controller() {
    let mut lab = Lab::start().await;
    let out = lab.path("rescue");
    let (data, place) = (lab.config.data.clone(), out.clone());
    let rescue = move || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_controller"));
        command.args(["operator-file", "--name", "rescue", "--data"]).arg(&data).arg("--out").arg(&place);
        command.output().unwrap()
    };
    let made = tokio::task::spawn_blocking(rescue.clone()).await.unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let read = |name| fs::read(out.join(name)).unwrap();
    let identity = Identity::from_pem(read("cert.pem"), read("key.pem"));
    let mut admin = AccessServiceClient::new(lab.channel(Some(identity)).await);
    let operators = admin.list_operators(v1::ListOperatorsRequest {}).await.unwrap().into_inner().operators;
    let told: Vec<_> = operators.iter().map(|row| (row.operator.as_str(), row.role())).collect();
    assert_eq!(told, [("admin", v1::Role::Admin), ("rescue", v1::Role::Admin)]);
    let (records, _) = lab.audit().await;
    assert!(records.iter().any(|record| record.entry.act == act::OPERATOR_RESCUE), "{records:?}");
    let again = tokio::task::spawn_blocking(rescue).await.unwrap();
    assert!(!again.status.success() && String::from_utf8_lossy(&again.stderr).contains("not overwritten"));
    lab.stop().await;
}

#[tokio::test]
async fn a_backup_of_a_running_controller_is_the_same_controller() {
    let mut lab = Lab::start().await;
    let join = lab.join("a1", "s1").await;
    let (out, data) = (lab.path("backup"), lab.config.data.clone());
    let backup = move || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_controller"));
        command.args(["backup", "--data"]).arg(&data).arg("--out").arg(&out);
        command.output().unwrap()
    };
    let made = tokio::task::spawn_blocking(backup.clone()).await.unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let again = tokio::task::spawn_blocking(backup).await.unwrap();
    assert!(!again.status.success() && String::from_utf8_lossy(&again.stderr).contains("not overwritten"));
    let out = lab.path("backup");
    for name in ["gantry.db", "ca/ca.key", "tls/server.key"] {
        assert_eq!(fs::metadata(out.join(name)).unwrap().permissions().mode() & 0o777, 0o600, "{name}");
    }
    assert_eq!(fs::metadata(&out).unwrap().permissions().mode() & 0o777, 0o700);
    lab.stop().await;

    let mut restored = Lab::with(|config| config.data = out).await;
    let agent = FakeAgent::dial(&restored, &join, hello(&SealingKey::generate())).await;
    assert!(agent.is_ok(), "an agent of the first is one of the second: {:?}", agent.err());
    restored.stop().await;
}
