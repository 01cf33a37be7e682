//! How an agent gets its identity, the next one, and one after the old one has expired; and that no crash on the way
//! leaves it without one.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, sync::Arc, time::Duration};

use gantry_agent::{
    config::Settings,
    credentials::Credentials,
    enroll::{self, EnrollError},
    identity::Identity,
};
use gantry_proto::{
    Code, JoinFile, JoinToken,
    error::causes,
    token::{return_text, sha256_hex},
    v1::{self, open_request::Item as In, open_response::Item as Out},
};
use rcgen::KeyPair;
use rustls_pki_types::{CertificateDer, alg_id, pem::PemObject as _};
use tokio::time::timeout;
use tonic::Status;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::{
    bench::{Table, settings},
    controller::{Agent, Ca, Controller, Session, start_order, write_join},
};

fn token(controller: &Controller) -> JoinToken {
    JoinToken {
        controller: format!("https://{}", controller.relay.address),
        server_name: "controller.test".into(),
        ca_sha256: controller.ca.sha256(),
        secret: [7; 32].into(),
    }
}

fn joined(cert_pem: String, ca_pem: &str, agent: &str) -> v1::JoinResponse {
    v1::JoinResponse { cert_pem, ca_pem: ca_pem.to_owned(), agent_id: agent.into(), site: "s1".into() }
}

/// The controller's next answer is the certificate that was asked for.
fn let_in(controller: &Controller, agent: &'static str) {
    let ca = controller.ca.clone();
    controller.desk.answer(move |request| Ok(joined(ca.sign(request, agent, 60, 3600), &ca.pem, agent)));
}

fn identity(settings: &Settings) -> JoinFile {
    serde_json::from_slice(&fs::read(settings.data_dir.join("join.json")).unwrap()).unwrap()
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[tokio::test]
async fn an_agent_joins_once_and_its_key_stays_here() {
    let (dir, controller) = (tempfile::tempdir().unwrap(), Controller::start().await);
    let settings = settings(dir.path());
    let_in(&controller, "bastion-1");
    let joined = enroll::join(&settings, &token(&controller), "wish", false).await.unwrap();
    assert_eq!((joined.join.agent.as_str(), joined.join.site.as_str()), ("bastion-1", "s1"));
    let asked = controller.desk.joins.lock().unwrap().remove(0);
    assert_eq!((asked.secret, asked.agent_id.as_str()), (vec![7; 32], "wish"));
    assert_eq!(mode(&joined.file), 0o600);
    assert!(!settings.data_dir.join("identity/join.key").exists());

    let refused = enroll::join(&settings, &token(&controller), "wish", false).await.unwrap_err();
    assert!(matches!(refused, EnrollError::Already(_)) && refused.to_string().contains("--again"), "{refused}");
    let_in(&controller, "bastion-2");
    // The key of the identity that is there, left over from a crash at the last moment, is not used twice.
    let before = identity(&settings);
    let left = settings.data_dir.join("identity/join.key");
    fs::write(&left, before.key_pem.expose()).unwrap();
    fs::set_permissions(&left, fs::Permissions::from_mode(0o600)).unwrap();
    enroll::join(&settings, &token(&controller), "wish", true).await.unwrap();
    assert_eq!(identity(&settings).agent, "bastion-2");
    assert_ne!(identity(&settings).key_pem.expose(), before.key_pem.expose());
    let running = Identity::load(&settings).unwrap();
    let refused = enroll::join(&settings, &token(&controller), "wish", true).await.unwrap_err();
    assert!(refused.to_string().contains("another agent is at work"), "{refused}");
    drop(running);
}

#[tokio::test]
async fn a_lost_answer_is_asked_for_again_with_the_same_key() {
    let (dir, controller) = (tempfile::tempdir().unwrap(), Controller::start().await);
    let settings = settings(dir.path());
    controller.desk.answer(|_| Err(Status::unavailable("the line broke")));
    let lost = enroll::join(&settings, &token(&controller), "a1", false).await.unwrap_err();
    assert!(matches!(lost, EnrollError::Lost(_)) && lost.to_string().contains("same command again"), "{lost}");
    assert_eq!(mode(&settings.data_dir.join("identity/join.key")), 0o600);
    let_in(&controller, "a1");
    enroll::join(&settings, &token(&controller), "a1", false).await.unwrap();
    let asked = controller.desk.joins.lock().unwrap();
    let key = |request: &v1::JoinRequest| {
        let (_, request) =
            x509_parser::certification_request::X509CertificationRequest::from_der(&request.request_der).unwrap();
        request.certification_request_info.subject_pki.raw.to_vec()
    };
    assert_eq!(key(&asked[0]), key(&asked[1]));
}

#[tokio::test]
async fn nothing_is_told_to_a_controller_with_another_ca() {
    let (dir, controller) = (tempfile::tempdir().unwrap(), Controller::start().await);
    let settings = settings(dir.path());
    let wrong = [
        JoinToken { ca_sha256: Ca::new().sha256(), ..token(&controller) },
        JoinToken { server_name: "other.test".into(), ..token(&controller) },
    ];
    for token in wrong {
        let refused = enroll::join(&settings, &token, "a1", false).await.unwrap_err();
        assert!(matches!(refused, EnrollError::Dial(_)), "{}", causes(&refused).join(": "));
        assert!(refused.to_string().contains("does not prove to be our controller"), "{refused}");
    }
    assert!(controller.desk.joins.lock().unwrap().is_empty());
    assert!(!settings.data_dir.join("join.json").exists());
}

#[tokio::test]
async fn what_the_controller_says_against_it_is_told() {
    let (dir, controller) = (tempfile::tempdir().unwrap(), Controller::start().await);
    let settings = settings(dir.path());
    for (code, message) in [
        (Code::TokenRefused, "the join token has expired: make a new one with `ctl agent token --site SITE`"),
        (Code::NameTaken, "the name \"a1\" is taken"),
        (Code::Busy, "more than 60 calls"),
    ] {
        controller.desk.answer(move |_| Err(code.status(message)));
        let refused = enroll::join(&settings, &token(&controller), "a1", false).await.unwrap_err();
        assert!(matches!(refused, EnrollError::Refused(_)) && refused.to_string().contains(message), "{refused}");
    }
    controller.desk.answer(|_| Err(Status::unimplemented("")));
    let refused = enroll::join(&settings, &token(&controller), "a1", false).await.unwrap_err();
    assert!(refused.to_string().contains("compare the versions"), "{refused}");
}

#[tokio::test]
async fn an_answer_that_is_not_ours_is_not_taken() {
    let (dir, controller) = (tempfile::tempdir().unwrap(), Controller::start().await);
    let settings = settings(dir.path());
    let ca = controller.ca.clone();
    type Spoil = fn(&Ca, &[u8]) -> v1::JoinResponse;
    let rows: [(&str, Spoil); 6] = [
        ("another key", |ca, _| joined(ca.issue_agent("a1", 60, 60).0, &ca.pem, "a1")),
        ("another CA has signed", |ca, request| joined(Ca::new().sign(request, "a1", 60, 60), &ca.pem, "a1")),
        ("not the one of the token", |_, request| {
            let other = Ca::new();
            joined(other.sign(request, "a1", 60, 60), &other.pem, "a1")
        }),
        ("another name", |ca, request| joined(ca.sign(request, "a2", 60, 60), &ca.pem, "a1")),
        ("unusable name", |ca, request| joined(ca.sign(request, "a1", 60, 60), &ca.pem, "../a1")),
        ("cannot be read", |ca, _| joined("rubbish".into(), &ca.pem, "a1")),
    ];
    for (what, spoil) in rows {
        let ca = ca.clone();
        controller.desk.answer(move |request| Ok(spoil(&ca, request)));
        let refused = enroll::join(&settings, &token(&controller), "a1", false).await.unwrap_err();
        assert!(causes(&refused).join(": ").contains(what), "{what}: {}", causes(&refused).join(": "));
        assert!(!settings.data_dir.join("join.json").exists(), "{what}");
    }
}

/// An agent whose certificate is past two thirds of its life.
async fn ageing(dir: &Path, controller: &Controller) -> (Settings, Agent, JoinFile) {
    let mut settings = settings(dir);
    settings.link.renew_again_s = 1;
    write_join(&settings, &controller.ca, controller.ca.issue_agent("a1", 90, 10), controller.relay.address);
    let agent = Agent::start(&settings, Table::new().pipeline).await;
    let join = identity(&settings);
    (settings, agent, join)
}

async fn renewal(session: &mut Session) -> v1::RenewRequest {
    loop {
        if let In::Renew(request) = session.hear().await.expect("the session ends") {
            return request;
        }
    }
}

fn key_of(request_der: &[u8]) -> String {
    let (_, request) = x509_parser::certification_request::X509CertificationRequest::from_der(request_der).unwrap();
    sha256_hex(request.certification_request_info.subject_pki.raw)
}

async fn until_changed(settings: &Settings, before: &JoinFile) -> JoinFile {
    let changed = async {
        loop {
            let now = identity(settings);
            if now.cert_pem != before.cert_pem {
                return now;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(Duration::from_secs(20), changed).await.expect("the identity stays as it is")
}

#[tokio::test]
async fn a_certificate_is_renewed_over_the_link_and_shown_at_the_next_dial() {
    let (dir, mut controller) = (tempfile::tempdir().unwrap(), Controller::start().await);
    let (settings, agent, before) = ageing(dir.path(), &controller).await;
    let mut session = controller.welcomed(0).await;
    // First refused, then for a key that nobody asked for, of another CA, and at last as it should be.
    let request = renewal(&mut session).await;
    session.say(Out::Renewed(v1::RenewResponse { message: "not now".into(), ..Default::default() })).await;
    let again = renewal(&mut session).await;
    assert_eq!(key_of(&request.request_der), key_of(&again.request_der), "one key until it has its certificate");
    let good = controller.ca.sign(&again.request_der, "a1", 0, 3600);
    let answer = |cert_pem: String, key_sha256: String| {
        Out::Renewed(v1::RenewResponse { cert_pem, key_sha256, message: String::new() })
    };
    session.say(answer(good.clone(), "0".repeat(64))).await;
    let third = renewal(&mut session).await;
    let key = key_of(&third.request_der);
    session.say(answer(Ca::new().sign(&third.request_der, "a1", 0, 3600), key.clone())).await;
    let fourth = renewal(&mut session).await;
    assert_eq!(identity(&settings).cert_pem, before.cert_pem, "nothing of that was taken");
    session.say(answer(controller.ca.sign(&fourth.request_der, "a1", 0, 3600), key)).await;
    let after = until_changed(&settings, &before).await;
    assert_eq!((after.agent.as_str(), mode(&settings.data_dir.join("join.json"))), ("a1", 0o600));
    assert_ne!(after.key_pem.expose(), before.key_pem.expose());
    let der = |join: &JoinFile| CertificateDer::from_pem_slice(join.cert_pem.as_bytes()).unwrap().to_vec();
    assert_eq!(session.shown, der(&before));
    controller.relay.cut();
    assert_eq!(controller.welcomed(0).await.shown, der(&after));
    assert!(agent.stop().await);
}

#[tokio::test]
async fn a_crash_in_a_renewal_leaves_an_identity_that_works() {
    let (dir, controller) = (tempfile::tempdir().unwrap(), Controller::start().await);
    let settings = settings(dir.path());
    write_join(&settings, &controller.ca, controller.ca.issue_agent("a1", 90, 10), controller.relay.address);
    let load = || -> Arc<Credentials> { Identity::load(&settings).unwrap().credentials.clone() };
    let next = settings.data_dir.join("identity/next.key");
    let before = identity(&settings);

    // After the key: the next life asks with the same one.
    let first = load().prepare().unwrap();
    assert_eq!(mode(&next), 0o600);
    let second = load().prepare().unwrap();
    assert_eq!(first.key_sha256, second.key_sha256);
    // In the middle of writing the key: it is made anew.
    fs::write(&next, "-----BEGIN PRIV").unwrap();
    fs::set_permissions(&next, fs::Permissions::from_mode(0o600)).unwrap();
    let third = load().prepare().unwrap();
    assert_ne!(first.key_sha256, third.key_sha256);
    // In the middle of writing the identity: the old one is there, whole.
    fs::write(settings.data_dir.join("join.json.next"), "{\"contr").unwrap();
    assert_eq!(load().current().cert_pem, before.cert_pem);
    // After the answer, before it was written: it can be asked for again.
    let renewed = controller.ca.sign(&third.request_der, "a1", 0, 3600);
    let kept = fs::read(&next).unwrap();
    load().commit(&renewed).unwrap();
    assert_eq!(load().current().cert_pem, renewed);
    // After it was written, before the key was removed: that key is not used twice.
    fs::write(&next, kept).unwrap();
    fs::set_permissions(&next, fs::Permissions::from_mode(0o600)).unwrap();
    assert_ne!(load().prepare().unwrap().key_sha256, third.key_sha256);
    // A certificate for which no key waits changes nothing.
    fs::remove_file(&next).unwrap();
    assert!(load().commit(&renewed).unwrap_err().to_string().contains("no key waits"));
    // A key that others could have read is not used.
    fs::write(&next, KeyPair::generate().unwrap().serialize_pem()).unwrap();
    fs::set_permissions(&next, fs::Permissions::from_mode(0o644)).unwrap();
    load().prepare().unwrap();
    assert_eq!(mode(&next), 0o600);
}

/// Whether the request is signed by the key of the certificate in it.
fn proves(request: &v1::ReturnRequest, ca_sha256: &str) -> bool {
    let (_, certificate) = X509Certificate::from_der(&request.certificate_der).unwrap();
    let text = return_text(ca_sha256, &request.certificate_der, &request.request_der, request.signed_micros);
    let provider = rustls::crypto::ring::default_provider();
    let key = &certificate.public_key().subject_public_key.data;
    provider.signature_verification_algorithms.all.iter().any(|algorithm| {
        algorithm.public_key_alg_id() == alg_id::ECDSA_P256
            && algorithm.signature_alg_id() == alg_id::ECDSA_SHA256
            && algorithm.verify_signature(key, &text, &request.signature).is_ok()
    })
}

#[tokio::test]
async fn an_agent_dark_past_its_end_comes_back_when_an_admin_says_so() {
    let (dir, mut controller) = (tempfile::tempdir().unwrap(), Controller::start().await);
    let settings = settings(dir.path());
    let expired = controller.ca.issue_agent("a1", 100, -10);
    write_join(&settings, &controller.ca, expired, controller.relay.address);
    let before = identity(&settings);
    let pem = controller.ca.pem.clone();
    let not_yet = move |_: &[u8]| Ok(joined(String::new(), &pem, "a1"));
    controller.desk.answer(not_yet.clone());
    controller.desk.answer(not_yet);
    controller.desk.answer(|_| Err(Code::NotAllowed.status("this agent was shut out")));
    let_in(&controller, "a1");
    let agent = Agent::start(&settings, Table::new().pipeline).await;
    controller.welcomed(0).await;
    let after = identity(&settings);
    assert_ne!(after.cert_pem, before.cert_pem);
    let asked = controller.desk.returns.lock().unwrap().clone();
    assert_eq!(asked.len(), 4);
    let old = CertificateDer::from_pem_slice(before.cert_pem.as_bytes()).unwrap();
    for request in asked.iter() {
        assert_eq!(request.certificate_der, old.to_vec());
        assert!(proves(request, &controller.ca.sha256()));
        assert_eq!(key_of(&request.request_der), key_of(&asked[0].request_der), "what an admin has approved stays");
    }
    assert!(agent.stop().await);
}

#[tokio::test]
async fn jobs_go_on_while_an_agent_cannot_come_back() {
    let (dir, mut controller) = (tempfile::tempdir().unwrap(), Controller::start().await);
    let settings = settings(dir.path());
    write_join(&settings, &controller.ca, controller.ca.issue_agent("a1", 100, 3), controller.relay.address);
    let agent = Agent::start(&settings, Table::new().pipeline).await;
    let mut session = controller.welcomed(0).await;
    let (job, key) = (gantry_proto::JobId::new(), session.hello.sealing_key.clone());
    let update = session.order(start_order(1, job, &key, "192.0.2.20")).await;
    assert_eq!(update.stage(), v1::OrderStage::Applied);
    // The certificate ends, the line breaks, and nobody approves anything.
    controller.relay.cut();
    let asked = async {
        while controller.desk.returns.lock().unwrap().is_empty() {
            // Sessions of before the end lead nowhere.
            drop(timeout(Duration::from_millis(5), controller.session_if_any()).await);
        }
    };
    timeout(Duration::from_secs(20), asked).await.expect("it does not ask to come back");
    agent.until(job, |tail| tail.finished).await;
    assert!(agent.stop().await);
}

/// The program, joining with this token and these arguments.
async fn program(token: &JoinToken, dir: &Path, args: &[&str]) -> std::process::Output {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_agent"));
    command.args(["join", token.to_text().expose(), "--no-run", "--data"]).arg(dir).args(args);
    command.env_remove("RUST_LOG").stdin(std::process::Stdio::null());
    tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
}

#[tokio::test]
async fn the_ranges_of_an_agent_are_settled_when_it_joins() {
    let (dir, controller) = (tempfile::tempdir().unwrap(), Controller::start().await);
    let (data, token) = (dir.path().join("data"), token(&controller));
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();

    let output = program(&token, &data, &["--allow", "10.9.0.0-9"]).await;
    assert_eq!((output.status.code(), data.join("join.json").exists()), (Some(2), false), "a word that is no range");

    let_in(&controller, "bastion-1");
    let output = program(&token, &data, &["--allow", "10.9.0.0/16", "--allow", "192.0.2.7,fc00::/7"]).await;
    let said = text(output.stdout);
    assert!(output.status.success() && said.contains("10.9.0.0/16, 192.0.2.7/32, fc00::/7"), "{said}");
    let allow = Settings::load(None, Some(&data), None).unwrap().allow;
    assert_eq!(allow.iter().map(ToString::to_string).collect::<Vec<_>>(), ["10.9.0.0/16", "192.0.2.7/32", "fc00::/7"]);

    let output = program(&token, &data, &["--again", "--allow", "10.8.0.0/16"]).await;
    let said = text(output.stderr);
    assert_eq!(output.status.code(), Some(2), "what is said in the file is the operator's");
    assert!(
        said.contains("agent.toml sets `allow` already") && controller.desk.joins.lock().unwrap().len() == 1,
        "{said}"
    );

    let_in(&controller, "bastion-1");
    let output = program(&token, &dir.path().join("other"), &[]).await;
    let said = text(output.stdout);
    assert!(said.contains("allow    10.0.0.0/8, 172.16.0.0/12"), "nobody to be asked: the private ranges. {said}");
    assert!(!dir.path().join("other/agent.toml").exists());
}
