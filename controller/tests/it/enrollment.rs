//! Who comes in and who does not: operators with roles and sites, agents that join, renew, come back and are shut out.
//! Every row goes over real sockets, and what it is refused with is said to the peer and written into the audit log.

use gantry_controller::audit::act;
use gantry_proto::{
    Code, JobId, JoinFile, JoinToken, Secret,
    audit::Outcome,
    sealed::SealingKey,
    token::{return_text, sha256_hex},
    v1::{
        self, Role, access_service_client::AccessServiceClient, audit_service_client::AuditServiceClient,
        enrollment_service_client::EnrollmentServiceClient, fleet_service_client::FleetServiceClient,
        job_service_client::JobServiceClient, open_request::Item as Up, open_response::Item as Down,
    },
};
use jiff::{SignedDuration, Timestamp};
use rcgen::{CertificateParams, DnType, Issuer, KeyPair, SanType, SigningKey as _};
use rustls_pki_types::{CertificateDer, pem::PemObject as _};
use tonic::{Status, transport::Identity};

use crate::{
    agent::{FakeAgent, hello},
    lab::{Lab, get, request, soon, submission, submit},
};

fn code(status: &Status) -> Option<Code> {
    Code::of(status)
}

fn identity(join: &JoinFile) -> Identity {
    Identity::from_pem(&join.cert_pem, join.key_pem.expose())
}

async fn dial(lab: &Lab, join: &JoinFile) -> Result<FakeAgent, Status> {
    FakeAgent::dial(lab, join, hello(&SealingKey::generate())).await
}

async fn enrollment(lab: &Lab) -> EnrollmentServiceClient<tonic::transport::Channel> {
    EnrollmentServiceClient::new(lab.channel(None).await)
}

fn der(pem: &str) -> Vec<u8> {
    CertificateDer::from_pem_slice(pem.as_bytes()).unwrap().to_vec()
}

/// A return as an honest agent asks for it.
fn coming_back(lab: &Lab, join: &JoinFile, next: &KeyPair) -> v1::ReturnRequest {
    let (certificate_der, request_der) = (der(&join.cert_pem), request(next));
    let old = KeyPair::from_pem(join.key_pem.expose()).unwrap();
    let signed_micros = Timestamp::now().as_microsecond();
    let text = return_text(&sha256_hex(&der(&lab.ca())), &certificate_der, &request_der, signed_micros);
    v1::ReturnRequest { certificate_der, request_der, signed_micros, signature: old.sign(&text).unwrap() }
}

/// The refusals in the audit log: act and code.
async fn refusals(lab: &Lab) -> Vec<(String, String)> {
    let (records, _) = lab.audit().await;
    let refused = records.into_iter().filter(|record| record.entry.outcome == Outcome::Refused);
    refused.map(|record| (record.entry.act, record.entry.code)).collect()
}

#[tokio::test]
async fn a_token_lets_one_agent_in_once_and_a_lost_answer_may_be_asked_for_again() {
    let mut lab = Lab::start().await;
    let (token, key) = (lab.token("", "s1").await, KeyPair::generate().unwrap());
    let first = lab.join_with(&token, "bastion-1", &key).await.unwrap();
    assert_eq!((first.agent.as_str(), first.site.as_str()), ("bastion-1", "s1"));
    let again = lab.join_with(&token, "bastion-1", &key).await.unwrap();
    for join in [&first, &again] {
        dial(&lab, join).await.unwrap();
    }
    let other = lab.join_with(&token, "bastion-2", &KeyPair::generate().unwrap()).await.unwrap_err();
    assert_eq!(code(&other), Some(Code::TokenRefused), "{other:?}");
    assert!(other.message().contains("used already") && other.message().contains("ctl agent token"), "{other:?}");
    assert_eq!(refusals(&lab).await, [(act::AGENT_JOIN.to_owned(), "token_refused".to_owned())]);
    let (records, _) = lab.audit().await;
    let joined: Vec<_> = records.iter().filter(|record| record.entry.act == act::AGENT_JOIN).collect();
    assert_eq!((joined[0].entry.agent.as_str(), joined[0].entry.site.as_str()), ("bastion-1", "s1"));
    assert!(!joined[0].entry.remote.is_empty() && joined[0].entry.subject.starts_with("key sha256 "));
    lab.stop().await;
}

#[tokio::test]
async fn only_the_hash_of_a_token_is_stored() {
    let mut lab = Lab::start().await;
    let token = lab.token("a1", "s1").await;
    lab.stop().await;
    let secret = token.secret.to_vec();
    let text = token.to_text();
    let mut seen = 0;
    for file in std::fs::read_dir(&lab.config.data).unwrap() {
        let path = file.unwrap().path();
        let Ok(bytes) = std::fs::read(&path) else { continue };
        seen += 1;
        for needle in [&secret[..], &text.expose().as_bytes()[20..]] {
            assert!(!bytes.windows(needle.len()).any(|window| window == needle), "{}", path.display());
        }
    }
    assert!(seen > 0);
}

#[tokio::test]
async fn a_token_that_is_unknown_too_old_or_of_another_controller_is_refused() {
    let short = |config: &mut gantry_controller::Config| {
        (config.enrollment.token_life_s, config.enrollment.calls_per_minute) = (1, 1_000_000);
    };
    let mut lab = Lab::with(short).await;
    let mut admin = lab.admin().await;
    let old = lab.token("a1", "s1").await;
    let made_up = JoinToken { secret: [7; 32].into(), ..lab.token("a1", "s1").await };
    let key = KeyPair::generate().unwrap();
    let refused = lab.join_with(&made_up, "a1", &key).await.unwrap_err();
    assert!(code(&refused) == Some(Code::TokenRefused) && refused.message().contains("not known"), "{refused:?}");
    // Its end is a moment: it is asked for until that has come.
    let mut key = KeyPair::generate().unwrap();
    let refused = soon("end of the token", async {
        loop {
            match lab.join_with(&old, "", &key).await {
                Err(refused) if refused.message().contains("expired") => return refused,
                Err(other) => assert!(other.message().contains("used already"), "{other:?}"),
                Ok(_) => key = KeyPair::generate().unwrap(),
            }
            tokio::task::yield_now().await;
        }
    });
    assert_eq!(code(&refused.await), Some(Code::TokenRefused));
    let long = v1::MakeTokenRequest { site: "s1".into(), life_s: u32::MAX, ..Default::default() };
    let refused = admin.make_token(long).await.unwrap_err();
    assert!(code(&refused) == Some(Code::BadRequest) && refused.message().contains("token_life_max_s"), "{refused:?}");
    let nowhere = v1::MakeTokenRequest { site: "s9".into(), ..Default::default() };
    let refused = admin.make_token(nowhere).await.unwrap_err();
    assert!(code(&refused) == Some(Code::Unknown) && refused.message().contains("ctl site add s9"), "{refused:?}");
    lab.stop().await;
}

#[tokio::test]
async fn a_name_is_not_taken_over_without_an_admins_word() {
    let mut lab = Lab::start().await;
    let first = lab.join("a1", "s1").await;
    let mut live = dial(&lab, &first).await.unwrap();
    let (free, key) = (lab.token("", "s1").await, KeyPair::generate().unwrap());
    let refused = lab.join_with(&free, "a1", &key).await.unwrap_err();
    assert_eq!(code(&refused), Some(Code::NameTaken), "{refused:?}");
    assert_eq!(code(&lab.join_with(&free, "", &key).await.unwrap_err()), Some(Code::BadRequest), "no name");
    assert_eq!(code(&lab.join_with(&free, "../a", &key).await.unwrap_err()), Some(Code::BadRequest), "no such name");
    // Refused joinings use nothing up.
    lab.join_with(&free, "a2", &key).await.unwrap();

    let mut admin = lab.admin().await;
    admin.add_site(v1::AddSiteRequest { site: "s2".into() }).await.unwrap();
    let elsewhere = v1::MakeTokenRequest { site: "s2".into(), agent_id: "a1".into(), life_s: 0 };
    let refused = admin.make_token(elsewhere).await.unwrap_err();
    assert_eq!(code(&refused), Some(Code::NameTaken), "an agent does not change its site: {refused:?}");
    let replacing = v1::MakeTokenRequest { site: "s1".into(), agent_id: "a1".into(), life_s: 0 };
    let answer = admin.make_token(replacing).await.unwrap().into_inner();
    assert!(answer.replaces);
    let token = JoinToken::parse(&answer.token).unwrap();
    let second = lab.join_with(&token, "ignored", &KeyPair::generate().unwrap()).await.unwrap();
    assert_eq!(second.agent, "a1");
    let ended = live.hear().await.unwrap_err();
    assert!(ended.message().contains("another agent has joined as"), "the first one's session ends: {ended:?}");
    let refused = dial(&lab, &first).await.err().unwrap();
    assert!(code(&refused) == Some(Code::NotAllowed) && refused.message().contains("counts no more"), "{refused:?}");
    dial(&lab, &second).await.unwrap();
    lab.stop().await;
}

#[tokio::test]
async fn a_request_without_its_key_of_another_kind_or_too_large_is_refused() {
    let mut lab = Lab::start().await;
    let token = lab.token("a1", "s1").await;
    let mut client = enrollment(&lab).await;
    let good = request(&KeyPair::generate().unwrap());
    let mut spoilt = good.clone();
    *spoilt.last_mut().unwrap() ^= 1;
    let other = request(&KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap());
    for request_der in [spoilt, other, Vec::new()] {
        let wish = v1::JoinRequest { secret: token.secret.to_vec(), request_der, ..Default::default() };
        assert_eq!(code(&client.join(wish).await.unwrap_err()), Some(Code::BadRequest));
    }
    let wish = v1::JoinRequest { secret: token.secret.to_vec(), request_der: vec![0; 17 << 10], ..Default::default() };
    let refused = client.join(wish).await.unwrap_err();
    assert!(
        matches!(refused.code(), tonic::Code::OutOfRange | tonic::Code::Unknown | tonic::Code::Internal),
        "{refused:?}"
    );
    // None of these has used the token up.
    lab.join_with(&token, "", &KeyPair::generate().unwrap()).await.unwrap();
    lab.stop().await;
}

#[tokio::test]
async fn calls_without_a_certificate_are_few() {
    let mut lab = Lab::with(|config| config.enrollment.calls_per_minute = 3).await;
    let mut client = enrollment(&lab).await;
    let mut codes = Vec::new();
    for _ in 0..5 {
        codes.push(code(&client.join(v1::JoinRequest::default()).await.unwrap_err()));
    }
    assert_eq!(codes[..3], [Some(Code::BadRequest); 3]);
    assert_eq!(codes[3..], [Some(Code::Busy); 2]);
    lab.stop().await;
}

#[tokio::test]
async fn a_certificate_is_renewed_over_the_link_and_the_old_one_goes_on() {
    let mut lab = Lab::start().await;
    let join = lab.join("a1", "s1").await;
    let mut agent = dial(&lab, &join).await.unwrap();
    let next = KeyPair::generate().unwrap();
    agent.say(Up::Renew(v1::RenewRequest { request_der: request(&next) })).await;
    let Some(Down::Renewed(renewed)) = agent.hear().await.unwrap() else { panic!("no answer") };
    assert_eq!(renewed.key_sha256, sha256_hex(&rcgen::PublicKeyData::subject_public_key_info(&next)));
    let new = JoinFile { cert_pem: renewed.cert_pem, key_pem: Secret::new(next.serialize_pem()), ..join.clone() };
    dial(&lab, &new).await.unwrap();
    let mut again = dial(&lab, &join).await.unwrap();
    again.say(Up::Renew(v1::RenewRequest { request_der: b"rubbish".to_vec() })).await;
    let Some(Down::Renewed(refused)) = again.hear().await.unwrap() else { panic!("no answer") };
    assert!(refused.cert_pem.is_empty() && refused.message.contains("cannot be read"), "{refused:?}");
    let (records, _) = lab.audit().await;
    assert!(records.iter().any(|record| record.entry.act == act::AGENT_RENEW && record.entry.agent == "a1"));
    lab.stop().await;
}

#[tokio::test]
async fn an_agent_that_was_shut_out_goes_at_once_and_stays_out() {
    let mut lab = Lab::start().await;
    let join = lab.join("a1", "s1").await;
    let mut agent = dial(&lab, &join).await.unwrap();
    let (mut jobs, job) = (lab.jobs().await, JobId::new());
    submit(&mut jobs, submission(job)).await.unwrap();
    agent.order().await;
    let mut admin = lab.admin().await;
    let answer = admin.revoke_agent(v1::RevokeAgentRequest { agent_id: "a1".into() }).await.unwrap().into_inner();
    assert_eq!(answer.active_jobs, 1);
    let ended = agent.hear().await.unwrap_err();
    assert!(code(&ended) == Some(Code::NotAllowed) && ended.message().contains("ctl agent revoke"), "{ended:?}");
    assert_eq!(code(&dial(&lab, &join).await.err().unwrap()), Some(Code::NotAllowed));
    let listed = lab.fleet().await.list_agents(v1::ListAgentsRequest::default()).await.unwrap().into_inner().agents;
    assert!(listed[0].revoked && !listed[0].in_contact, "{listed:?}");
    let refused = submit(&mut jobs, submission(JobId::new())).await.unwrap_err();
    assert!(matches!(code(&refused), Some(Code::NoAgent | Code::TargetBusy)), "nothing is sealed to it: {refused:?}");
    // It cannot come back by asking, only by joining anew.
    let asked = enrollment(&lab).await.r#return(coming_back(&lab, &join, &KeyPair::generate().unwrap())).await;
    assert_eq!(code(&asked.unwrap_err()), Some(Code::NotAllowed));
    let unknown = admin.revoke_agent(v1::RevokeAgentRequest { agent_id: "a9".into() }).await.unwrap_err();
    assert_eq!(code(&unknown), Some(Code::Unknown));
    let new = lab.join("a1", "s1").await;
    dial(&lab, &new).await.unwrap();
    lab.stop().await;
}

#[tokio::test]
async fn an_agent_comes_back_after_its_end_by_its_old_key_and_an_admins_word() {
    let mut lab = Lab::with(|config| config.certificates.agent_life_s = 1).await;
    let join = lab.join("a1", "s1").await;
    // Past its end the handshake itself refuses it.
    soon("end of the certificate", async {
        loop {
            let refused = match lab.endpoint(Some(identity(&join))).connect().await {
                Ok(channel) => FleetServiceClient::new(channel).get_version(v1::GetVersionRequest {}).await.err(),
                Err(_) => return,
            };
            if refused.is_none_or(|status| code(&status).is_none()) {
                return;
            }
            tokio::task::yield_now().await;
        }
    })
    .await;
    let (mut client, mut admin) = (enrollment(&lab).await, lab.admin().await);
    let approve = |key: &str| v1::ApproveAgentRequest { agent_id: "a1".into(), key_sha256: key.into() };
    let early = admin.approve_agent(approve("")).await.unwrap_err();
    assert!(code(&early) == Some(Code::AgentState) && early.message().contains("does not ask"), "{early:?}");

    let next = KeyPair::generate().unwrap();
    let asked = client.r#return(coming_back(&lab, &join, &next)).await.unwrap().into_inner();
    assert!(asked.cert_pem.is_empty() && asked.ask_again_ms > 0, "{asked:?}");
    let listed = lab.fleet().await.list_agents(v1::ListAgentsRequest::default()).await.unwrap().into_inner().agents;
    assert_eq!(listed[0].asks_to_return, asked.key_sha256);
    let wrong = admin.approve_agent(approve(&"0".repeat(64))).await.unwrap_err();
    assert!(wrong.message().contains(&asked.key_sha256), "{wrong:?}");
    let approved = admin.approve_agent(approve(&asked.key_sha256.to_uppercase())).await.unwrap().into_inner();
    assert_eq!(approved.key_sha256, asked.key_sha256);
    // Another key of the same agent was not approved.
    let other = client.r#return(coming_back(&lab, &join, &KeyPair::generate().unwrap())).await.unwrap().into_inner();
    assert!(other.cert_pem.is_empty());
    // Twice: the first answer may have been lost.
    for _ in 0..2 {
        let back = client.r#return(coming_back(&lab, &join, &next)).await.unwrap().into_inner();
        assert!(back.cert_pem.contains("BEGIN CERTIFICATE"), "{back:?}");
    }
    let (records, _) = lab.audit().await;
    let told: Vec<_> = records.iter().map(|record| record.entry.act.as_str()).collect();
    for word in [act::AGENT_ASK, act::AGENT_APPROVE, act::AGENT_RETURN] {
        assert!(told.contains(&word), "{word}: {told:?}");
    }
    lab.stop().await;
}

#[tokio::test]
async fn nobody_comes_back_with_somebody_elses_certificate() {
    let mut lab = Lab::start().await;
    let mut foreign = Lab::start().await;
    let (join, other) = (lab.join("a1", "s1").await, lab.join("a2", "s1").await);
    let stranger = foreign.join("a1", "s1").await;
    let mut client = enrollment(&lab).await;
    let next = KeyPair::generate().unwrap();
    let good = coming_back(&lab, &join, &next);
    let operator = std::fs::read(lab.config.data.join("operators/admin/cert.pem")).unwrap();
    let operator_key = std::fs::read_to_string(lab.config.data.join("operators/admin/key.pem")).unwrap();
    let as_agent =
        JoinFile { cert_pem: String::from_utf8(operator).unwrap(), key_pem: Secret::new(operator_key), ..join.clone() };
    let rows: Vec<(&str, v1::ReturnRequest)> = vec![
        ("signed by another key", v1::ReturnRequest { certificate_der: der(&other.cert_pem), ..good.clone() }),
        ("of another controller", coming_back(&lab, &stranger, &next)),
        ("for another controller", coming_back(&foreign, &join, &next)),
        ("for another key", v1::ReturnRequest { request_der: request(&KeyPair::generate().unwrap()), ..good.clone() }),
        ("of another time", v1::ReturnRequest { signed_micros: good.signed_micros + 1, ..good.clone() }),
        ("without a signature", v1::ReturnRequest { signature: Vec::new(), ..good.clone() }),
        ("without a certificate", v1::ReturnRequest { certificate_der: Vec::new(), ..good.clone() }),
        ("of an operator", coming_back(&lab, &as_agent, &next)),
        ("of the CA itself", v1::ReturnRequest { certificate_der: der(&lab.ca()), ..good.clone() }),
    ];
    for (what, wish) in rows {
        let refused = client.r#return(wish).await.expect_err(what);
        assert_eq!(code(&refused), Some(Code::NotAllowed), "{what}: {refused:?}");
    }
    assert!(client.r#return(good).await.unwrap().into_inner().cert_pem.is_empty());
    lab.stop().await;
    foreign.stop().await;
}

#[tokio::test]
async fn roles_reach_as_far_as_they_say() {
    let mut lab = Lab::start().await;
    let agent = dial(&lab, &lab.join("a1", "s1").await).await.unwrap();
    let job = JobId::new();
    let viewer = lab.channel(Some(lab.operator("wang", Role::Viewer, &[]).await)).await;
    let operator = lab.channel(Some(lab.operator("li", Role::Operator, &[]).await)).await;
    submit(&mut JobServiceClient::new(operator.clone()), submission(job)).await.unwrap();

    let mut watching = JobServiceClient::new(viewer.clone());
    assert_eq!(get(&mut watching, job).await.site, "s1");
    let cancel = v1::CancelJobRequest { job_id: job.to_string(), ..Default::default() };
    let refused = watching.cancel_job(cancel.clone()).await.unwrap_err();
    assert_eq!(code(&refused), Some(Code::NotAllowed));
    assert!(
        refused.message().contains("needs the role operator") && refused.message().contains("ctl operator set wang")
    );
    let refused = submit(&mut watching, submission(JobId::new())).await.unwrap_err();
    assert_eq!(code(&refused), Some(Code::NotAllowed));
    for channel in [viewer, operator.clone()] {
        let refused = AuditServiceClient::new(channel.clone()).list_audit(v1::ListAuditRequest::default()).await;
        assert_eq!(code(&refused.map(drop).unwrap_err()), Some(Code::NotAllowed));
        let refused = AccessServiceClient::new(channel).list_operators(v1::ListOperatorsRequest {}).await;
        assert_eq!(code(&refused.unwrap_err()), Some(Code::NotAllowed));
    }
    JobServiceClient::new(operator).cancel_job(cancel).await.unwrap();
    let (records, _) = lab.audit().await;
    let refused: Vec<_> = records.iter().filter(|record| record.entry.outcome == Outcome::Refused).collect();
    let first = &refused[0].entry;
    assert_eq!(
        (first.act.as_str(), first.operator.as_str(), first.role.as_str(), first.code.as_str()),
        (act::CANCEL, "wang", "viewer", "not_allowed")
    );
    let by_li = records.iter().find(|record| record.entry.act == act::SUBMIT).unwrap();
    assert_eq!((by_li.entry.operator.as_str(), by_li.entry.role.as_str()), ("li", "operator"));
    drop(agent);
    lab.stop().await;
}

#[tokio::test]
async fn an_operator_of_one_site_sees_and_touches_nothing_of_another() {
    let mut lab = Lab::start().await;
    let one = dial(&lab, &lab.join("a1", "s1").await).await.unwrap();
    let two = dial(&lab, &lab.join("a2", "s2").await).await.unwrap();
    let li = lab.channel(Some(lab.operator("li", Role::Operator, &["s2"]).await)).await;
    let (mut admin, mut li_jobs) = (lab.jobs().await, JobServiceClient::new(li.clone()));
    let theirs = JobId::new();
    submit(&mut admin, v1::SubmitJobRequest { site: "s1".into(), ..submission(theirs) }).await.unwrap();

    let agents = FleetServiceClient::new(li).list_agents(v1::ListAgentsRequest::default()).await.unwrap().into_inner();
    assert_eq!(agents.agents.iter().map(|agent| agent.agent_id.as_str()).collect::<Vec<_>>(), ["a2"]);
    assert_eq!(li_jobs.list_jobs(v1::ListJobsRequest::default()).await.unwrap().into_inner().jobs, []);
    let id = theirs.to_string();
    let refused = [
        li_jobs.get_job(v1::GetJobRequest { job_id: id.clone() }).await.map(drop),
        li_jobs.watch_job(v1::WatchJobRequest { job_id: id.clone(), ..Default::default() }).await.map(drop),
        li_jobs.get_job_result(v1::GetJobResultRequest { job_id: id.clone() }).await.map(drop),
        li_jobs.cancel_job(v1::CancelJobRequest { job_id: id.clone(), ..Default::default() }).await.map(drop),
        li_jobs.pause_job(v1::PauseJobRequest { job_id: id.clone(), ..Default::default() }).await.map(drop),
        li_jobs.resume_job(v1::ResumeJobRequest { job_id: id.clone(), ..Default::default() }).await.map(drop),
        li_jobs.retry_job(v1::RetryJobRequest { job_id: id.clone(), ..Default::default() }).await.map(drop),
        li_jobs.sweep_job(v1::SweepJobRequest { job_id: id.clone(), ..Default::default() }).await.map(drop),
        li_jobs.decide_job(v1::DecideJobRequest { job_id: id.clone(), ..Default::default() }).await.map(drop),
        li_jobs.move_job(v1::MoveJobRequest { job_id: id.clone(), ..Default::default() }).await.map(drop),
        submit(&mut li_jobs, submission(theirs)).await.map(drop),
    ];
    for (at, answer) in refused.into_iter().enumerate() {
        assert_eq!(code(&answer.unwrap_err()), Some(Code::NotAllowed), "{at}");
    }
    let at_s1 = v1::SubmitJobRequest { site: "s1".into(), ..submission(JobId::new()) };
    let refused = submit(&mut li_jobs, at_s1).await.unwrap_err();
    assert_eq!(code(&refused), Some(Code::NoAgent), "{refused:?}");
    assert!(!refused.message().contains("a1"), "{refused:?}");
    drop((one, two));
    lab.stop().await;
}

#[tokio::test]
async fn a_change_of_rights_ends_open_streams_and_holds_for_the_next_call() {
    let mut lab = Lab::start().await;
    let agent = dial(&lab, &lab.join("a1", "s1").await).await.unwrap();
    let job = JobId::new();
    submit(&mut lab.jobs().await, submission(job)).await.unwrap();
    let mut li = JobServiceClient::new(lab.channel(Some(lab.operator("li", Role::Operator, &[]).await)).await);
    let mut admin = lab.admin().await;
    for revoke in [false, true] {
        let mut stream = crate::lab::watch(&mut li, job, 0).await;
        soon("first item", stream.message()).await.unwrap().unwrap();
        if revoke {
            admin.revoke_operator(v1::RevokeOperatorRequest { operator: "li".into() }).await.unwrap();
        } else {
            let viewer =
                v1::SetOperatorRequest { operator: "li".into(), role: Role::Viewer.into(), ..Default::default() };
            admin.set_operator(viewer).await.unwrap();
        }
        let ended = soon("end of the stream", async {
            loop {
                if let Err(status) = stream.message().await {
                    return status;
                }
            }
        });
        let ended = ended.await;
        assert!(code(&ended) == Some(Code::NotAllowed) || ended.code() == tonic::Code::PermissionDenied, "{ended:?}");
        assert!(ended.message().contains("changed by an admin"), "{ended:?}");
        let cancel = v1::CancelJobRequest { job_id: job.to_string(), ..Default::default() };
        let refused = li.cancel_job(cancel).await.unwrap_err();
        assert_eq!(refused.message().contains("was revoked"), revoke, "{refused:?}");
        assert_eq!(code(&refused), Some(Code::NotAllowed));
    }
    drop(agent);
    lab.stop().await;
}

#[tokio::test]
async fn the_last_admin_stays_and_a_name_is_given_once() {
    let mut lab = Lab::start().await;
    let mut admin = lab.admin().await;
    let revoke = |name: &str| v1::RevokeOperatorRequest { operator: name.into() };
    let demote = v1::SetOperatorRequest { operator: "admin".into(), role: Role::Viewer.into(), ..Default::default() };
    for refused in
        [admin.revoke_operator(revoke("admin")).await.map(drop), admin.set_operator(demote.clone()).await.map(drop)]
    {
        let refused = refused.unwrap_err();
        assert!(refused.message().contains("last admin"), "{refused:?}");
    }
    let second = lab.operator("second", Role::Admin, &[]).await;
    let add = |name: &str, role: Role, sites: &[&str]| v1::AddOperatorRequest {
        operator: name.into(),
        role: role.into(),
        sites: sites.iter().map(|site| (*site).to_owned()).collect(),
        request_der: request(&KeyPair::generate().unwrap()),
    };
    let rows = [
        (add("second", Role::Viewer, &[]), Code::NameTaken),
        (add("../x", Role::Viewer, &[]), Code::BadRequest),
        (add("x", Role::Unspecified, &[]), Code::BadRequest),
        (add("x", Role::Admin, &["s1"]), Code::Unknown),
        (add("x", Role::Viewer, &["s9"]), Code::Unknown),
        (add("x", Role::Viewer, &["../s"]), Code::BadRequest),
    ];
    admin.set_operator(demote).await.unwrap();
    let mut admin = AccessServiceClient::new(lab.channel(Some(second)).await);
    for (wish, wanted) in rows {
        let told = format!("{wish:?}");
        let refused = admin.add_operator(wish).await.expect_err(&told);
        // An admin of sites is refused as such, whether or not there are the sites.
        let wanted = if told.contains("s1") { Code::BadRequest } else { wanted };
        assert_eq!(code(&refused), Some(wanted), "{told}: {refused:?}");
    }
    admin.revoke_operator(revoke("admin")).await.unwrap();
    let refused = lab.admin().await.list_sites(v1::ListSitesRequest {}).await.unwrap_err();
    assert!(refused.message().contains("was revoked"), "{refused:?}");
    lab.stop().await;
}

#[tokio::test]
async fn a_certificate_that_names_nobody_or_an_unknown_operator_is_refused_and_recorded() {
    let mut lab = Lab::start().await;
    // Made with the CA's own key: what a thief of an old backup could make.
    let read = |name| std::fs::read_to_string(lab.config.data.join("ca").join(name)).unwrap();
    let issuer = Issuer::from_ca_cert_pem(&read("ca.pem"), KeyPair::from_pem(&read("ca.key")).unwrap()).unwrap();
    let issue = |uris: &[&str]| {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "x");
        params.subject_alt_names = uris.iter().map(|uri| SanType::URI((*uri).try_into().unwrap())).collect();
        params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
        let certificate = params.signed_by(&key, &issuer).unwrap();
        Identity::from_pem(certificate.pem(), key.serialize_pem())
    };
    let rows: [(&[&str], &str); 6] = [
        (&[], "carries no identity"),
        (&["spiffe://other/operator/admin"], "carries no identity"),
        (&["spiffe://gantry/operator/admin", "spiffe://gantry/operator/li"], "carries no identity"),
        (&["spiffe://gantry/operator/../admin"], "carries no identity"),
        (&["spiffe://gantry/operator/stranger"], "not known to this controller"),
        (&["spiffe://gantry/site/s1/agent/a1"], "belongs to agent"),
    ];
    for (uris, wanted) in rows {
        let mut fleet = FleetServiceClient::new(lab.channel(Some(issue(uris))).await);
        let refused = fleet.list_agents(v1::ListAgentsRequest::default()).await.unwrap_err();
        assert!(
            code(&refused) == Some(Code::NotAllowed) && refused.message().contains(wanted),
            "{uris:?}: {refused:?}"
        );
    }
    lab.join("a1", "s1").await;
    for (uri, wanted) in [
        ("spiffe://gantry/site/s1/agent/a9", "not known to this controller"),
        ("spiffe://gantry/site/s2/agent/a1", "is at site"),
        ("spiffe://gantry/site/s1/agent/a1", "counts no more"),
        ("spiffe://gantry/operator/admin", "belongs to operator"),
    ] {
        let mut link = v1::agent_link_client::AgentLinkClient::new(lab.channel(Some(issue(&[uri]))).await);
        let first = v1::OpenRequest { item: Some(Up::Hello(hello(&SealingKey::generate()))), ..Default::default() };
        let refused = link.open(tokio_stream::iter([first])).await.map(drop).unwrap_err();
        assert!(code(&refused) == Some(Code::NotAllowed) && refused.message().contains(wanted), "{uri}: {refused:?}");
    }
    assert_eq!(refusals(&lab).await.len(), rows.len() + 4);
    lab.stop().await;
}

#[tokio::test]
async fn sites_are_added_once_and_listed_with_their_agents() {
    let mut lab = Lab::start().await;
    lab.join("a1", "s1").await;
    let mut admin = lab.admin().await;
    let add = |site: &str| v1::AddSiteRequest { site: site.into() };
    assert!(!admin.add_site(add("s2")).await.unwrap().into_inner().already_known);
    assert!(admin.add_site(add("s2")).await.unwrap().into_inner().already_known);
    assert_eq!(code(&admin.add_site(add("../s")).await.unwrap_err()), Some(Code::BadRequest));
    let sites = admin.list_sites(v1::ListSitesRequest {}).await.unwrap().into_inner().sites;
    let told: Vec<_> = sites.iter().map(|site| (site.site.as_str(), site.agents, site.added_by.as_str())).collect();
    assert_eq!(told, [("s1", 1, "admin"), ("s2", 0, "admin")]);
    let long_ago = Timestamp::now() - SignedDuration::from_hours(1);
    assert!(sites.iter().all(|site| site.added_micros > long_ago.as_microsecond()));
    lab.stop().await;
}
