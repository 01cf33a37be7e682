//! Who may come in: sites, operators, agents.

use std::{fs, os::unix::fs::PermissionsExt as _};

use gantry_proto::{Code, OperatorProfile};

use crate::{
    fake::{Fake, State},
    fake_access::token,
    run::ctl,
};

async fn fake() -> Fake {
    Fake::start(State::default()).await
}

fn asked(fake: &Fake) -> Vec<String> {
    std::mem::take(&mut fake.desk.lock().unwrap().asked)
}

#[tokio::test]
async fn sites_are_added_and_listed() {
    let fake = fake().await;
    let ran = ctl(fake.home(), &["site", "add", "beijing"]).await;
    assert_eq!((ran.code, ran.out.as_str()), (0, "site beijing added\n"));
    assert!(ran.err.contains("ctl agent token --site beijing"), "{ran:?}");
    let ran = ctl(fake.home(), &["site", "add", "old"]).await;
    assert_eq!((ran.code, ran.out.as_str(), ran.err.as_str()), (0, "site old was there already\n", ""));
    insta::assert_snapshot!("sites", ctl(fake.home(), &["site", "list"]).await.all());
    let document = ctl(fake.home(), &["site", "list", "-o", "json"]).await.json();
    assert_eq!((&document["sites"][0]["site"], &document["sites"][0]["agents"]), (&"beijing".into(), &2.into()));
    assert_eq!(asked(&fake)[..2], ["add site beijing", "add site old"]);
}

#[tokio::test]
async fn a_new_operators_directory_is_a_whole_profile_whose_key_was_made_here() {
    let fake = fake().await;
    let out = fake.home().join("li");
    let dir = out.to_str().unwrap();
    let args = ["operator", "add", "li", "--role", "operator", "--site", "beijing", "--out", dir];
    let ran = ctl(fake.home(), &args).await;
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(ran.err.contains("over a safe way"), "{ran:?}");
    assert_eq!(asked(&fake), ["add operator li operator [\"beijing\"]"]);
    let mode = |path: &std::path::Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&out), mode(&out.join("key.pem"))), (0o700, 0o600));
    let profile: OperatorProfile = toml::from_str(&fs::read_to_string(out.join("ctl.toml")).unwrap()).unwrap();
    assert_eq!(
        (profile.controller.as_str(), profile.server_name.as_str()),
        ("https://controller.test:7443", "controller.test")
    );
    assert_eq!(fs::read_to_string(out.join(&profile.cert_pem_file)).unwrap(), "THE CERTIFICATE");
    let key = fs::read_to_string(out.join(&profile.key_pem_file)).unwrap();
    assert!(key.contains("PRIVATE KEY") && !ran.out.contains(&key[30..60]) && !ran.err.contains(&key[30..60]));

    let again = ctl(fake.home(), &args).await;
    assert!(again.code == 2 && again.err.contains("there already"), "{again:?}");
    assert_eq!(asked(&fake), [""; 0], "nobody was let in");
    assert_eq!(fs::read_to_string(out.join("key.pem")).unwrap(), key);
}

#[tokio::test]
async fn an_operator_that_was_not_let_in_leaves_nothing_behind() {
    let fake = fake().await;
    let out = fake.home().join("li");
    let args = ["operator", "add", "li", "--role", "viewer", "--out", out.to_str().unwrap()];
    fake.desk.lock().unwrap().refuse = Some(Code::NameTaken.status("the name \"li\" is taken"));
    let ran = ctl(fake.home(), &args).await;
    assert!(ran.code == 2 && ran.err.contains("is taken"), "{ran:?}");
    assert!(!ran.err.contains("revoke"), "nobody is told to shut a colleague out: {ran:?}");
    assert!(!out.exists());
    fake.desk.lock().unwrap().lose_answers = 1;
    let ran = ctl(fake.home(), &args).await;
    assert!(ran.code == 6 && ran.err.contains("ctl operator revoke li"), "asked once, and what to do: {ran:?}");
    assert_eq!(asked(&fake).len(), 2);
    let left = fs::read_dir(fake.home()).unwrap().map(|entry| entry.unwrap().file_name()).collect::<Vec<_>>();
    assert_eq!(left, [".config"], "nothing is left of either");
    let ran = ctl(fake.home(), &["operator", "add", "x", "--role", "admin", "--site", "s", "--out", "x"]).await;
    assert!(ran.code == 2 && ran.err.contains("an admin has all sites"), "{ran:?}");
    let ran = ctl(fake.home(), &["operator", "add", "x", "--role", "root", "--out", "x"]).await;
    assert!(ran.code == 2 && ran.err.contains("viewer, operator or admin"), "{ran:?}");
}

#[tokio::test]
async fn operators_are_changed_listed_and_revoked() {
    let fake = fake().await;
    let ran = ctl(fake.home(), &["operator", "set", "li", "--role", "viewer"]).await;
    assert_eq!((ran.code, ran.out.as_str()), (0, "operator li: role viewer, sites: all\n"));
    ctl(fake.home(), &["operator", "set", "li", "--all-sites"]).await;
    ctl(fake.home(), &["operator", "set", "li", "--site", "a", "--site", "b"]).await;
    let ran = ctl(fake.home(), &["operator", "revoke", "li"]).await;
    assert_eq!((ran.code, ran.out.as_str()), (0, "operator li is shut out\n"));
    assert_eq!(
        asked(&fake),
        [
            "set operator li viewer false []",
            "set operator li none true []",
            "set operator li none true [\"a\", \"b\"]",
            "revoke operator li"
        ]
    );
    let ran = ctl(fake.home(), &["operator", "set", "li"]).await;
    assert_eq!(ran.code, 2, "{ran:?}");
    insta::assert_snapshot!("operators", ctl(fake.home(), &["operator", "list"]).await.all());
    let document = ctl(fake.home(), &["operator", "list", "-o", "json"]).await.json();
    assert_eq!(document["operators"][1]["sites"][1], "shanghai");
    fake.desk.lock().unwrap().refuse = Some(Code::NotAllowed.status("this is the last admin"));
    let ran = ctl(fake.home(), &["operator", "revoke", "admin"]).await;
    assert!(ran.code == 7 && ran.err.contains("last admin"), "{ran:?}");
}

#[tokio::test]
async fn a_token_is_all_that_stdout_gets_and_nothing_else_shows_it() {
    let fake = fake().await;
    let text = token().to_text();
    let ran = ctl(fake.home(), &["-vv", "agent", "token", "--site", "beijing", "--life", "30m"]).await;
    assert_eq!((ran.code, ran.out.trim()), (0, text.expose()));
    assert!(
        !ran.err.contains(text.expose())
            && ran.err.contains("agent join, then paste it")
            && ran.err.contains("works once")
    );
    let ran = ctl(fake.home(), &["agent", "token", "--site", "beijing", "--agent", "bj-1"]).await;
    assert!(ran.err.contains("warning: agent bj-1 is there"), "{ran:?}");
    let document = ctl(fake.home(), &["agent", "token", "--site", "beijing", "-o", "json"]).await.json();
    assert_eq!((document["token"].as_str(), &document["replaces"]), (Some(text.expose()), &false.into()));
    assert_eq!(asked(&fake), ["token beijing \"\" 1800", "token beijing \"bj-1\" 0", "token beijing \"\" 0"]);
    fake.desk.lock().unwrap().refuse = Some(Code::Unknown.status("there is no site \"x\": `ctl site add x` adds it"));
    let ran = ctl(fake.home(), &["agent", "token", "--site", "x"]).await;
    assert!(ran.code == 2 && ran.err.contains("ctl site add x") && ran.out.is_empty(), "{ran:?}");
}

#[tokio::test]
async fn agents_are_approved_and_revoked() {
    let fake = fake().await;
    let ran = ctl(fake.home(), &["agent", "approve", "sh-3", "--key", &"AB".repeat(32)]).await;
    assert!(ran.code == 0 && ran.out.contains("may come back") && ran.out.contains(&"ab".repeat(32)), "{ran:?}");
    let ran = ctl(fake.home(), &["agent", "revoke", "sh-3"]).await;
    assert_eq!((ran.code, ran.out.as_str(), ran.err.as_str()), (0, "agent sh-3 is shut out\n", ""));
    fake.desk.lock().unwrap().active_jobs = 2;
    let ran = ctl(fake.home(), &["agent", "revoke", "bj-1"]).await;
    assert!(
        ran.code == 0 && ran.err.contains("2 unfinished jobs") && ran.err.contains("--old-agent-is-off"),
        "{ran:?}"
    );
    let ran = ctl(fake.home(), &["agent", "approve", "sh-3", "--key", "zz"]).await;
    assert!(ran.code == 2 && ran.err.contains("64 hexadecimal digits"), "{ran:?}");
    assert_eq!(
        asked(&fake),
        [&*format!("approve sh-3 {:?}", "ab".repeat(32)), "revoke agent sh-3", "revoke agent bj-1"]
    );
}
