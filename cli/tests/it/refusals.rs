//! Controllers that cannot be reached, and those that say no.

use gantry_proto::{Code, v1::JobState};
use rcgen::ExtendedKeyUsagePurpose;
use tokio::net::TcpListener;
use tonic::Status;

use crate::{
    fake::{Authority, Fake, Profile},
    log,
    run::ctl,
};

async fn fake() -> Fake {
    Fake::with(log::success(), JobState::Succeeded).await
}

#[tokio::test]
async fn nobody_listens() {
    let fake = fake().await;
    // A port that was free a moment ago and is not listened on: bound, never accepted from, then given back.
    let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let url = format!("https://{port}");
    let ran = ctl(fake.home(), &["jobs", "--controller", &url]).await;
    assert_eq!((ran.code, ran.out.as_str()), (6, ""), "{}", ran.err);
    assert!(ran.err.contains(&url) && ran.err.contains("connection refused"), "{}", ran.err);
    assert!(ran.err.contains("to do:"), "{}", ran.err);
}

#[tokio::test]
async fn a_name_that_nobody_knows() {
    let fake = fake().await;
    let ran = ctl(fake.home(), &["jobs", "--controller", "https://controller.invalid:7443"]).await;
    assert_eq!(ran.code, 6, "{}", ran.err);
    assert!(ran.err.contains("name of the host cannot be resolved"), "{}", ran.err);
}

#[tokio::test]
async fn something_that_never_answers() {
    let fake = fake().await;
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}", silent.local_addr().unwrap());
    let ran = ctl(fake.home(), &["jobs", "--controller", &url, "--timeout", "1s"]).await;
    assert_eq!(ran.code, 6, "{}", ran.err);
    assert!(ran.err.contains("within 1 s") && ran.err.contains("--timeout"), "{}", ran.err);
}

#[tokio::test]
async fn a_certificate_of_somebody_elses_ca() {
    let fake = fake().await;
    let stranger = Authority::new();
    let (cert, key) = stranger.issue("ops", ExtendedKeyUsagePurpose::ClientAuth);
    fake.profile(&Profile { cert: &cert, key: &key, ..fake.good() });
    let ran = ctl(fake.home(), &["jobs"]).await;
    assert_eq!((ran.code, ran.out.as_str()), (7, ""), "{}", ran.err);
    assert!(ran.err.contains("refuses your certificate"), "{}", ran.err);
}

#[tokio::test]
async fn a_controller_of_somebody_elses_ca() {
    let fake = fake().await;
    let stranger = Authority::new();
    let (cert, key) = fake.operator();
    fake.profile(&Profile { ca: Profile::pem_of(&stranger), cert: &cert, key: &key, ..fake.good() });
    let ran = ctl(fake.home(), &["jobs"]).await;
    assert_eq!(ran.code, 7, "{}", ran.err);
    assert!(ran.err.contains("not issued by the CA of the profile"), "{}", ran.err);
}

#[tokio::test]
async fn a_controller_of_another_name() {
    let fake = fake().await;
    let (cert, key) = fake.operator();
    fake.profile(&Profile { server_name: "other.test", cert: &cert, key: &key, ..fake.good() });
    let ran = ctl(fake.home(), &["jobs"]).await;
    assert_eq!(ran.code, 7, "{}", ran.err);
    assert!(ran.err.contains("does not bear the server name"), "{}", ran.err);
}

#[tokio::test]
async fn the_words_of_a_refusal_and_its_exit_code() {
    let fake = fake().await;
    for (status, code, words) in [
        (Code::NotAllowed.status("role viewer may not do that"), 7, "role viewer may not do that"),
        (Code::TargetBusy.status("job x is at work on 192.0.2.20"), 7, "ctl jobs --active"),
        (Code::AgentAmbiguous.status("several agents: bj-1, sh-1"), 2, "bj-1, sh-1"),
        (Code::NoAgent.status("no agent of site x; there is bj-1"), 7, "ctl agents"),
        (Code::JobConflict.status("taken"), 2, "--job-id"),
        (Status::permission_denied("no"), 7, "refuses"),
        (Status::unimplemented(""), 7, "ctl version"),
        (Code::Internal.status("defect"), 1, "controller's log"),
    ] {
        fake.state.lock().unwrap().refuse = Some(status.clone());
        let file = fake.home().join("x.xlsx");
        std::fs::write(&file, "x").unwrap();
        let ran = ctl(fake.home(), &["deploy", file.to_str().unwrap()]).await;
        assert_eq!((ran.code, ran.out.as_str()), (code, ""), "{status:?}: {}", ran.err);
        assert!(ran.err.contains(words), "{words}: {}", ran.err);
    }
}

#[tokio::test]
async fn a_job_that_is_not_there_or_not_alone() {
    let fake = fake().await;
    let ran = ctl(fake.home(), &["show", "ffffffff"]).await;
    assert!(ran.code == 2 && ran.err.contains("ctl jobs"), "{ran:?}");
    let ran = ctl(fake.home(), &["show", "not-an-id"]).await;
    assert!(ran.code == 2 && ran.err.contains("is not a job id"), "{ran:?}");
    let twin = gantry_proto::v1::Job { job_id: "01976f2e-8c1a-7e11-9d55-0a1b3f2a0000".into(), ..Default::default() };
    fake.state.lock().unwrap().jobs.push(twin);
    let ran = ctl(fake.home(), &["show", "01976f2e"]).await;
    assert!(ran.code == 2 && ran.err.contains("2 jobs begin or end"), "{ran:?}");
    assert_eq!(ctl(fake.home(), &["show", "3f2a1b0c"]).await.code, 0);
}
