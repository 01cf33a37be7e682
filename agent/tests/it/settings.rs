//! The settings file: the documented example, and what is refused.

use std::{fs, path::Path};

use gantry_agent::config::{ConfigError, Settings};
use gantry_proto::error::causes;

fn load(text: &str) -> Result<Settings, ConfigError> {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("agent.toml");
    fs::write(&file, text).unwrap();
    Settings::load(Some(&file), None, None)
}

#[test]
fn the_documented_example_says_the_defaults() {
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/config/agent.toml");
    let settings = Settings::load(Some(&example), None, None).unwrap();
    assert_eq!(settings, Settings::default());
}

#[test]
fn the_documented_example_names_every_setting() {
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/config/agent.toml");
    let text = fs::read_to_string(example).unwrap();
    let defaults = toml::Value::try_from(Settings::default()).unwrap();
    let mut missing = Vec::new();
    for (key, value) in defaults.as_table().unwrap() {
        let keys = value.as_table().map_or_else(|| vec![key.clone()], keys_of);
        missing.extend(keys.into_iter().filter(|key| !text.lines().any(|line| line.starts_with(&format!("{key} = ")))));
    }
    assert!(missing.is_empty(), "not in the example: {missing:?}");
}

/// Of the table and of the tables in it.
fn keys_of(table: &toml::Table) -> Vec<String> {
    table.iter().flat_map(|(key, value)| value.as_table().map_or_else(|| vec![key.clone()], keys_of)).collect()
}

#[test]
fn an_unknown_setting_is_refused_by_name() {
    for (text, name) in [("data_dri = \"/x\"", "data_dri"), ("[timing]\nssh_poll = 5", "ssh_poll")] {
        let refused = load(text).unwrap_err();
        assert!(causes(&refused).join(": ").contains(name), "{refused}");
    }
}

#[test]
fn a_value_that_makes_no_sense_is_refused_by_name() {
    for (text, name) in [
        ("[timing]\ntime_scale = 0", "time_scale"),
        ("[timing]\ntime_scale = nan", "time_scale"),
        ("[jobs]\nconcurrent = 0", "concurrent"),
        ("[iso]\nchunk_bytes = 0", "iso.chunk_bytes"),
        ("[iso]\nchunk_bytes = 2147483648", "iso.chunk_bytes"),
        ("[iso]\nhash_every_s = 86401", "iso.hash_every_s"),
        ("[iso]\nsettle_s = 86401", "iso.settle_s"),
        ("[jobs]\nask_first_s = -1.0", "ask_first_s"),
        ("[jobs]\nask_first_s = nan", "ask_first_s"),
        ("[jobs]\nask_first_s = 3600.5", "ask_first_s"),
        ("[link]\nbatch_bytes = 1", "batch_bytes"),
        ("[link]\nclock_tolerance_s = 86401", "clock_tolerance_s"),
        ("allow = []", "allow"),
        ("allow = [\"10.0.0.0/33\"]", "allow"),
        ("allow = [\"example.net\"]", "allow"),
        ("[link.proxy]\nurl = \"ftp://x\"", "link.proxy.url"),
        ("[link.proxy]\nno_proxy = [\"10.0.0.0/33\"]", "10.0.0.0/33"),
        ("[doctor]\ncheck_timeout_ms = 1", "doctor.check_timeout_ms"),
        ("[doctor]\nround_trips = 0", "doctor.round_trips"),
        ("[link]\nretry_first_ms = 9\nretry_cap_ms = 8", "retry_cap_ms"),
    ] {
        let refused = load(text).unwrap_err();
        assert!(causes(&refused).join(": ").contains(name), "{refused}");
    }
}

#[test]
fn arguments_win_and_the_iso_files_lie_in_the_data_directory() {
    let settings = Settings::load(None, Some(Path::new("/nowhere/d")), Some(Path::new("/nowhere/j"))).unwrap();
    assert_eq!(settings.iso_dir, Path::new("/nowhere/d/iso"));
    assert_eq!(settings.join_file.as_deref(), Some(Path::new("/nowhere/j")));
    assert!(matches!(Settings::load(Some(Path::new("/nowhere/f")), None, None), Err(ConfigError::Read(..))));
}
