//! What needs no controller: the command line, the profile, workbooks that are none.

use std::fs;

use serde_json::json;

use crate::run::{command, ctl, finish};

#[tokio::test]
async fn wrong_command_lines_end_with_2() {
    let home = tempfile::tempdir().unwrap();
    for args in [
        &["deploy"][..],
        &["deploy", "x.xlsx", "--set", "novalue"],
        &["deploy", "x.xlsx", "--set", "=x"],
        &["deploy", "x.xlsx", "--set", "a=1", "--set", "a=2"],
        &["deploy", "x.xlsx", "--site", "a", "--agent", "b"],
        &["deploy", "x.xlsx", "--on-failure", "explode"],
        &["deploy", "x.xlsx", "--job-id", "d9428888-122b-11e1-b85c-61cd3cbb3210"],
        &["watch", "1b0c", "--from-seq", "0"],
        &["jobs", "--limit", "0"],
        &["audit", "--since", "yesterday"],
        &["audit", "--limit", "0"],
        &["audit", "--by", "li", "export", "x.jsonl"],
        &["audit", "verify", "x.jsonl", "--head", "5"],
        &["audit", "verify", "x.jsonl", "--head", "5:00", "--head-from-controller"],
        &["jobs", "--timeout", "never"],
        &["campaign", "run"],
        &["campaign", "run", "no-such-list", "--max-parallel", "0"],
        &["campaign", "run", "no-such-list", "--max-failures", "0"],
        &["campaign", "run", "no-such-list"],
        &["campaign", "status", "no-such-list"],
        &["nothing-like-that"],
        &[],
    ] {
        let ran = ctl(home.path(), args).await;
        assert_eq!((ran.code, ran.out.as_str()), (2, ""), "{args:?}");
        assert!(!ran.err.is_empty(), "{args:?}");
    }
}

#[tokio::test]
async fn without_a_controller_it_says_what_to_do() {
    let home = tempfile::tempdir().unwrap();
    fs::write(home.path().join("x.xlsx"), "x").unwrap();
    let file = home.path().join("x.xlsx");
    for args in [&["jobs"][..], &["watch", "1b0c"], &["agents"], &["deploy", file.to_str().unwrap()]] {
        let ran = ctl(home.path(), args).await;
        assert_eq!((ran.code, ran.out.as_str()), (2, ""), "{args:?}");
        assert!(ran.err.contains("no controller is configured") && ran.err.contains("--profile"), "{}", ran.err);
    }
    let mut addressed = command(home.path(), &["jobs"]);
    addressed.env("GANTRY_CONTROLLER", "https://127.0.0.1:1");
    let ran = finish(addressed).await;
    assert!(ran.code == 2 && ran.err.contains("no profile"), "{ran:?}");
}

#[tokio::test]
async fn a_profile_with_a_fault_is_refused_by_name() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("p.toml");
    let name = file.to_str().unwrap();
    let good = "controller = \"https://c:1\"\nserver_name = \"c\"\nca_pem_file = \"ca.pem\"\n\
                cert_pem_file = \"cert.pem\"\nkey_pem_file = \"key.pem\"\n";
    for (text, words) in [
        (format!("{good}timout = 3\n"), "line 6: unknown field `timout`"),
        ("controller = \"https://c:1\"\n".to_owned(), "missing field"),
        ("controller = \n".to_owned(), "line 1"),
        (good.replace("https", "http"), "is not the address of a controller"),
        (good.to_owned(), "ca.pem"),
        ("x".repeat(300 << 10), "larger than 256 KiB"),
    ] {
        fs::write(&file, &text).unwrap();
        let ran = ctl(home.path(), &["jobs", "--profile", name]).await;
        assert_eq!((ran.code, ran.out.as_str()), (2, ""), "{words}: {}", ran.err);
        assert!(ran.err.contains(words), "{words}: {}", ran.err);
    }
    let ran = ctl(home.path(), &["jobs", "--profile", "/nonexistent/ctl.toml"]).await;
    assert!(ran.code == 2 && ran.err.contains("there is no such file"), "{ran:?}");
}

#[tokio::test]
async fn certificates_that_are_none_are_a_matter_of_the_profile() {
    let home = tempfile::tempdir().unwrap();
    for name in ["ca.pem", "cert.pem", "key.pem"] {
        fs::write(home.path().join(name), "-----BEGIN NOTHING-----\n").unwrap();
    }
    let file = home.path().join("p.toml");
    let text = "controller = \"https://127.0.0.1:1\"\nserver_name = \"c\"\nca_pem_file = \"ca.pem\"\n\
                cert_pem_file = \"cert.pem\"\nkey_pem_file = \"key.pem\"\n";
    fs::write(&file, text).unwrap();
    let ran = ctl(home.path(), &["jobs", "--profile", file.to_str().unwrap()]).await;
    assert!(ran.code == 2 && ran.err.contains("PEM files"), "{ran:?}");
}

#[tokio::test]
async fn files_that_are_no_workbooks_end_with_3_and_one_finding() {
    let home = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| {
        let path = home.path().join(name);
        fs::write(&path, bytes).unwrap();
        path.to_str().unwrap().to_owned()
    };
    // Nobody will ever write into it: it must not be waited for.
    let pipe = home.path().join("pipe.xlsx").to_str().unwrap().to_owned();
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    for path in [
        pipe,
        home.path().join("missing.xlsx").to_str().unwrap().to_owned(),
        home.path().to_str().unwrap().to_owned(),
        write("empty.xlsx", b""),
        write("garbage.xlsx", b"this is not a workbook at all"),
        write("zip.xlsx", b"PK\x03\x04 and no more"),
        write("ole.xlsx", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1 encrypted"),
    ] {
        let ran = ctl(home.path(), &["plan", "check", &path, "-o", "json"]).await;
        assert_eq!((ran.code, ran.err.as_str()), (3, ""), "{path}");
        let document = ran.json();
        assert_eq!((&document["outcome"], &document["plan"]), (&json!("unreadable"), &json!(null)), "{path}");
        assert_eq!(document["problems"].as_array().map(Vec::len), Some(1), "{path}");
        assert_eq!(document["problems"][0]["cell"], json!(null), "{path}");

        let ran = ctl(home.path(), &["plan", "check", &path]).await;
        assert_eq!(ran.code, 3, "{path}");
        assert!(ran.out.contains("cannot be read as a planning workbook (1 error)"), "{}", ran.out);
        assert_eq!(ctl(home.path(), &["plan", "show", &path]).await.code, 3, "{path}");
    }
}

#[tokio::test]
async fn deploy_of_a_missing_file_needs_no_controller_to_say_so() {
    let home = tempfile::tempdir().unwrap();
    let ran = ctl(home.path(), &["deploy", "missing.xlsx"]).await;
    assert!(ran.code == 3 && ran.out.contains("there is no such file"), "{ran:?}");
}

#[tokio::test]
async fn the_version_needs_no_controller() {
    let home = tempfile::tempdir().unwrap();
    let ran = ctl(home.path(), &["version"]).await;
    assert_eq!((ran.code, ran.err.as_str()), (0, ""));
    assert!(ran.out.starts_with("ctl  "), "{}", ran.out);
    assert_eq!(ctl(home.path(), &["version", "-o", "json"]).await.json()["controller"], json!(null));
}
