//! What a deployment would do, found out by looking alone: the simulator hears reads and logins and nothing else, and the
//! run that follows makes exactly the calls that were told, in that order.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use gantry_agent::{
    diff::{self, Diff, Survey},
    facts::Facts,
    outside::Outside,
    pipeline::{PIPELINE, Pipeline},
    step::{Step, StepCx, StepError},
    steps::{finish::Finish, preflight::Preflight},
};
use gantry_proto::{
    Body, Code, JobId, Redactor, StepInfo,
    event::IntentResult,
    order,
    plan::Stage,
    sealed::seal,
    v1::{self, DiffKind, SiteDiff},
};
use gantry_sim::fault::Face;
use tokio::{sync::Notify, time::timeout};
use tokio_util::sync::CancellationToken;
use v1::{open_request::Item as In, open_response::Item as Out};

use crate::{
    attach,
    bench::{plan, secrets},
    controller::{Agent, Controller, Session, joined},
    inside::{ROOT_PASSWORD, SSH_PASSWORD},
    site::{CREATE, Ran, Site, UPLOAD},
};

/// Everything, in the order of the journey.
const ALL: &[Stage] = &[
    Stage::Prepare,
    Stage::DeployCloudtower,
    Stage::AttachCluster,
    Stage::CloudtowerConfig,
    Stage::CheckClusterHealthy,
    Stage::Cleanup,
];

/// Surveys a site under an id of its own, and makes sure that the site was only looked at.
async fn survey_with(site: &Site, pipeline: Pipeline) -> SiteDiff {
    let before = site.core().transcript.entries().last().map_or(0, |entry| entry.seq);
    let files = || std::fs::read_dir(&site.settings.data_dir).map(|all| all.count()).unwrap_or_default();
    let kept = files();
    let (settings, redactor) = (Arc::new(site.settings.clone()), Redactor::new());
    redactor.register_all(&site.secrets());
    let outside = Arc::new(Outside::new(&site.plan, &site.secrets(), &settings, &redactor).only_looking());
    let survey = Survey {
        id: JobId::new(),
        plan: Arc::new(site.plan.clone()),
        secrets: Arc::new(site.secrets()),
        settings,
        redactor,
        outside: outside.clone(),
        cancel: CancellationToken::new(),
    };
    let diff = diff::look(survey, pipeline, None).await.unwrap();
    outside.leave().await;
    for entry in site.core().transcript.entries().into_iter().filter(|entry| entry.seq > before) {
        let (method, path) = (entry.method.as_str(), entry.path.as_str());
        let looks = match entry.face {
            Face::Fisheye => method == "GET" || path == "/api/v3/sessions",
            Face::Tower => {
                let asks = ["checkTowerIsSetup", "deployedLicense", "globalAlertRules"];
                let asked = entry.operation.as_deref().is_some_and(|operation| asks.contains(&operation));
                method == "GET" || path == "/v2/api/login" || path.starts_with("/v2/api/get-") || asked
            }
            _ => false,
        };
        assert!(looks, "a survey has made the call {method} {path} {:?}", entry.operation);
    }
    assert_eq!(files(), kept, "a survey keeps nothing");
    let told = format!("{diff:?}");
    for secret in [site.password.as_str(), ROOT_PASSWORD, SSH_PASSWORD] {
        assert!(!told.contains(secret));
    }
    diff
}

async fn survey(site: &Site) -> SiteDiff {
    survey_with(site, PIPELINE).await
}

/// The calls that would be made.
fn said(diff: &SiteDiff) -> Vec<String> {
    let acts =
        |line: &&v1::DiffLine| matches!(line.kind(), DiffKind::Create | DiffKind::Change) && !line.call.is_empty();
    diff.lines.iter().filter(acts).map(|line| line.call.clone()).collect()
}

/// The calls that were made, by the journal's intents that are done.
fn done(ran: &Ran) -> Vec<String> {
    let mut calls = BTreeMap::new();
    let mut done = Vec::new();
    for event in &ran.events {
        match &event.body {
            Body::Intent { id, call, .. } => drop(calls.insert(*id, call.clone())),
            Body::IntentOutcome { intent, result: IntentResult::Done, .. } => done.push(calls[intent].clone()),
            _ => {}
        }
    }
    done
}

fn of(diff: &SiteDiff, kind: DiffKind) -> Vec<&v1::DiffLine> {
    diff.lines.iter().filter(|line| line.kind() == kind).collect()
}

fn codes(diff: &SiteDiff) -> Vec<&str> {
    of(diff, DiffKind::Refuse).iter().map(|line| line.code.as_str()).collect()
}

#[tokio::test]
async fn of_an_empty_site_every_call_is_told_and_the_run_makes_them() {
    let mut site = Site::quick(|_| {}).await;
    site.plan.deployment.stages = ALL.to_vec();
    site.plan.dns_servers = vec!["192.0.2.53".parse().unwrap()];
    let diff = survey(&site).await;
    // Three views with fifteen graphs, after the attaching.
    let dashboards = 3 + 15;
    let mut calls = said(&diff);
    let configured: Vec<String> = calls.drain(10..10 + dashboards).collect();
    assert_eq!(configured.iter().filter(|call| *call == "create-view").count(), 3);
    assert_eq!(configured.iter().filter(|call| *call == "create-graph").count(), 15);
    assert_eq!(
        calls,
        [
            "create_upload_volume",
            "create_vm",
            "update_vm",
            "preinstall.sh",
            "installer deploy",
            "createRootUser",
            "createOrganization",
            "updateCloudTowerNtpUrl",
            "create-datacenter",
            "connect-cluster",
            "inspect",
            "export-report",
        ]
    );
    assert_eq!((codes(&diff), of(&diff, DiffKind::Keep)), (vec![], vec![]));
    let unknown: Vec<&str> = of(&diff, DiffKind::Unknown).iter().map(|line| line.call.as_str()).collect();
    assert_eq!(unknown[..1], ["updateClusterSettings"], "the cluster's own policy is seen once it is attached");
    assert_eq!(unknown[1..], ["delete_image"], "whether the new VM counts as using it is seen only then");
    assert!(diff.lines.iter().any(|line| line.call.is_empty() && line.message.contains("192.0.2.53")));
    let steps: Vec<&str> = diff.steps.iter().map(|step| step.id.as_str()).collect();
    assert_eq!(steps, PIPELINE.iter().map(|step| step.info().id.to_string()).collect::<Vec<_>>());
    // Twice is the same, and the second one finds nothing of the first.
    assert_eq!(survey(&site).await, diff);
    assert_eq!((site.vms(), site.images().len()), (0, 0));

    let ran = site.run(PIPELINE).await;
    ran.succeeded();
    let told_as_unknown = |call: &String| unknown.contains(&call.as_str());
    let made: Vec<String> = done(&ran).into_iter().filter(|call| !told_as_unknown(call)).collect();
    assert_eq!(made, said(&diff));
}

#[tokio::test]
async fn of_what_is_configured_only_what_is_missing_is_made() {
    let mut site = attach::site().await;
    site.run(attach::ALL).await.succeeded();
    site.id = JobId::new();
    site.plan.deployment.stages = vec![Stage::CloudtowerConfig];
    site.plan.deployment.tower_config.capacity_alert = true;
    let diff = survey(&site).await;
    assert_eq!(said(&diff)[..3], ["updateClusterSettings", "updateGlobalAlertRule", "create-view"]);
    assert_eq!((said(&diff).len(), codes(&diff)), (2 + 3 + 15, vec![]));
    let ran = site.run(PIPELINE).await;
    ran.succeeded();
    assert_eq!(done(&ran), said(&diff));

    // Somebody removes a graph.
    for tower in site.core().world().towers.values_mut() {
        tower.configured.graphs.retain(|graph| graph.metric_name != "cluster_memory_usage_percent");
    }
    site.id = JobId::new();
    let diff = survey(&site).await;
    assert_eq!(said(&diff), ["create-graph"]);
    assert_eq!(of(&diff, DiffKind::Keep).len(), 5, "policy, alert and three dashboards");
    let ran = site.run(PIPELINE).await;
    ran.succeeded();
    assert_eq!(done(&ran), said(&diff));
}

#[tokio::test]
async fn an_image_that_is_there_is_kept_and_not_sent_again() {
    let mut site = Site::new().await;
    site.run(UPLOAD).await.succeeded();
    site.id = JobId::new();
    let diff = survey_with(&site, CREATE).await;
    let kept = of(&diff, DiffKind::Keep);
    assert_eq!((kept.len(), said(&diff)), (1, vec!["create_vm".to_owned()]));
    assert!(kept[0].message.contains(&site.images()[0].0), "{kept:?}");
    let ran = site.run(CREATE).await;
    ran.succeeded();
    assert_eq!(done(&ran), said(&diff));
}

#[tokio::test]
async fn a_vm_of_another_job_is_refused_and_the_rest_is_looked_at_all_the_same() {
    let mut site = Site::new().await;
    site.run(CREATE).await.succeeded();
    site.id = JobId::new();
    let diff = survey_with(&site, CREATE).await;
    assert_eq!(codes(&diff), ["vm_name_taken"], "told once, although two steps see it");
    let refused = of(&diff, DiffKind::Refuse)[0];
    assert!(refused.remedy.contains("B3") && refused.step == "preflight", "{refused:?}");
    assert_eq!((of(&diff, DiffKind::Keep).len(), said(&diff)), (1, vec![]), "the image was looked for");
    assert_eq!(site.run(CREATE).await.code(), "vm_name_taken");
}

#[tokio::test]
async fn what_would_fail_is_told_all_at_once() {
    let mut site = Site::new().await;
    site.plan.management_network.vds = "no such switch".to_owned();
    site.plan.deployment.iso.file_name = Some("cloudtower-v9.oe.x86_64.iso".to_owned());
    let diff = survey(&site).await;
    assert_eq!(codes(&diff), ["vds_not_found", "iso_missing"].iter().rev().copied().collect::<Vec<_>>());
    let unknown: Vec<&str> = of(&diff, DiffKind::Unknown).iter().map(|line| line.call.as_str()).collect();
    assert_eq!(unknown, ["create_upload_volume"]);
}

#[tokio::test]
async fn a_refused_password_is_tried_once_and_what_cannot_be_seen_is_said_to_be_unknown() {
    let mut site = Site::new().await;
    site.password = "not the password".to_owned();
    let diff = survey(&site).await;
    assert_eq!((codes(&diff), site.logins()), (vec!["fisheye_credentials_rejected"], 1));
    let unknown: Vec<&str> = of(&diff, DiffKind::Unknown).iter().map(|line| line.call.as_str()).collect();
    assert_eq!(unknown[..2], ["create_upload_volume", "create_vm"]);
}

#[tokio::test]
async fn in_a_cloudtower_that_is_there_only_what_is_missing_is_made() {
    let mut site = attach::site().await;
    site.plan.deployment.stages = vec![Stage::Prepare, Stage::DeployCloudtower];
    site.run(attach::ALL).await.succeeded();
    site.id = JobId::new();
    site.plan.deployment.stages = vec![Stage::AttachCluster, Stage::CheckClusterHealthy];
    let diff = survey(&site).await;
    assert_eq!(said(&diff), ["create-datacenter", "connect-cluster", "inspect", "export-report"]);
    assert_eq!((of(&diff, DiffKind::Keep).len(), codes(&diff)), (1, vec![]));
    let ran = site.run(PIPELINE).await;
    ran.succeeded();
    assert_eq!(done(&ran), said(&diff));

    // Once more: everything is there by now.
    site.id = JobId::new();
    let diff = survey(&site).await;
    assert_eq!(said(&diff), ["inspect", "export-report"]);
    let kept: Vec<&str> = of(&diff, DiffKind::Keep).iter().map(|line| line.subject.as_str()).collect();
    let (organization, datacenter) = (site.plan.organization.clone(), site.plan.datacenter.clone());
    assert_eq!(kept, [organization, datacenter, attach::vip(&site)]);
    let ran = site.run(PIPELINE).await;
    ran.succeeded();
    assert_eq!(done(&ran), said(&diff));

    // A new deployment to that address would stop at its first checks; nobody logs in to what is there.
    site.plan.deployment.stages = ALL.to_vec();
    let logins = site.calls("POST", "/v2/api/login").len();
    let diff = survey(&site).await;
    assert!(codes(&diff).contains(&"cloudtower_address_in_use"), "{:?}", codes(&diff));
    assert_eq!(site.calls("POST", "/v2/api/login").len(), logins);
}

#[tokio::test]
async fn a_foreign_cloudtower_is_refused_and_so_is_an_inspection_of_what_is_not_attached() {
    let mut site = attach::site().await;
    site.plan.deployment.stages = vec![Stage::Prepare, Stage::DeployCloudtower];
    site.run(attach::ALL).await.succeeded();
    site.id = JobId::new();
    site.plan.deployment.stages = vec![Stage::CheckClusterHealthy];
    assert_eq!(codes(&survey(&site).await), ["cluster_not_attached"]);
    site.plan.deployment.stages = vec![Stage::AttachCluster];
    site.plan.organization = "somebody else".to_owned();
    let diff = survey(&site).await;
    assert_eq!((codes(&diff), said(&diff)), (vec!["tower_is_foreign"], vec![]));
}

/// A step that tries to act where it should only look.
struct Acts;

#[async_trait::async_trait]
impl Step for Acts {
    fn info(&self) -> StepInfo {
        StepInfo { id: "acts".into(), title: "Acts".to_owned(), weight: 1, attempts: 1 }
    }

    async fn run(&self, _cx: &StepCx, _facts: &mut Facts) -> Result<(), StepError> {
        Ok(())
    }

    async fn survey(&self, cx: &StepCx, facts: &mut Facts, _diff: &mut Diff) -> Result<(), StepError> {
        let (fisheye, tower) = (&cx.outside.fisheye, &cx.outside.tower);
        let refused = [
            fisheye.create_volume("a.iso", 1).await.map(drop).unwrap_err().kind.to_string(),
            fisheye.delete_image("an image").await.unwrap_err().kind.to_string(),
            fisheye.stop_vm("a vm").await.map(drop).unwrap_err().kind.to_string(),
            tower.create_organization("one").await.map(drop).unwrap_err().kind.to_string(),
            tower.inspect("v1", &[], &[]).await.map(drop).unwrap_err().kind.to_string(),
        ];
        assert!(refused.iter().all(|why| why.contains("only looks")), "{refused:?}");
        facts.timings.insert("acts".to_owned(), 1.0);
        cx.save(facts).await?;
        cx.intend("make", Default::default()).await.map(drop)
    }
}

#[tokio::test]
async fn a_survey_cannot_act_whatever_a_step_tries() {
    const TRIES: Pipeline = &[&Preflight, &Acts, &Finish];
    let site = Site::new().await;
    let diff = survey_with(&site, TRIES).await;
    let refused = of(&diff, DiffKind::Refuse);
    assert_eq!((codes(&diff), refused[0].step.as_str()), (vec!["internal"], "acts"));
    assert!(refused[0].message.contains("make"), "{refused:?}");
}

/// A step whose look waits for the test.
struct Waits {
    begun: Notify,
    go_on: Notify,
    ended: Notify,
}

#[async_trait::async_trait]
impl Step for Waits {
    fn info(&self) -> StepInfo {
        StepInfo { id: "waits".into(), title: "Waits".to_owned(), weight: 1, attempts: 1 }
    }

    async fn run(&self, _cx: &StepCx, _facts: &mut Facts) -> Result<(), StepError> {
        Ok(())
    }

    async fn survey(&self, cx: &StepCx, _facts: &mut Facts, diff: &mut Diff) -> Result<(), StepError> {
        self.begun.notify_one();
        tokio::select! {
            () = self.go_on.notified() => {}
            () = cx.cancel.cancelled() => self.ended.notify_one(),
        }
        cx.check()?;
        diff.create("make", "it", "the password is canary-root-password");
        Ok(())
    }
}

fn waits() -> (&'static Waits, Pipeline) {
    let step: &'static Waits =
        Box::leak(Box::new(Waits { begun: Notify::new(), go_on: Notify::new(), ended: Notify::new() }));
    (step, Box::leak(vec![step as &'static dyn Step].into_boxed_slice()))
}

fn request(session: &Session, ip: &str) -> v1::SurveyRequest {
    let id = JobId::new();
    let sealed = seal(&secrets(), id, &"a1".parse().unwrap(), &session.hello.sealing_key).unwrap();
    v1::SurveyRequest {
        survey_id: id.to_string(),
        site: "s1".into(),
        plan: Some(plan(ip).to_document().unwrap()),
        secrets: Some(sealed),
    }
}

/// The next report.
async fn report(session: &mut Session) -> v1::SurveyReport {
    loop {
        if let In::Survey(report) = session.hear().await.expect("the session ends too early") {
            return report;
        }
    }
}

#[tokio::test]
async fn over_the_link_one_survey_is_at_work_and_ends_when_nobody_waits() {
    let (dir, mut controller, (step, pipeline)) = (tempfile::tempdir().unwrap(), Controller::start().await, waits());
    let agent = Agent::start(&joined(dir.path(), &controller), pipeline).await;
    let mut session = controller.welcomed(0).await;
    assert_eq!(session.hello.capabilities, ["survey"]);
    let first = request(&session, "192.0.2.20");
    session.say(Out::Survey(first.clone())).await;
    step.begun.notified().await;
    let second = request(&session, "192.0.2.20");
    session.say(Out::Survey(second.clone())).await;
    let refused = report(&mut session).await;
    assert_eq!((refused.survey_id, refused.code.as_str()), (second.survey_id, Code::Busy.word()));
    step.go_on.notify_one();
    let told = report(&mut session).await;
    assert_eq!(told.survey_id, first.survey_id);
    let diff = told.diff.unwrap();
    assert_eq!((said(&diff), diff.steps.len()), (vec!["make".to_owned()], 1));
    assert!(!diff.lines[0].message.contains("canary"), "{diff:?}");
    assert_eq!(agent.redactor.text("canary-root-password"), "canary-root-password", "its secrets are gone with it");

    let third = request(&session, "192.0.2.20");
    session.say(Out::Survey(third.clone())).await;
    step.begun.notified().await;
    session.say(Out::SurveyCancel(v1::SurveyCancel { survey_id: third.survey_id })).await;
    step.ended.notified().await;
    // Nothing is told of it: the next report is that of the next one.
    let fourth = v1::SurveyRequest { site: "s2".into(), ..request(&session, "192.0.2.20") };
    loop {
        session.say(Out::Survey(fourth.clone())).await;
        let told = report(&mut session).await;
        assert_eq!(told.survey_id, fourth.survey_id);
        if told.code != Code::Busy.word() {
            assert_eq!(told.code, order::OTHER_SITE);
            break;
        }
    }

    let last = request(&session, "192.0.2.20");
    session.say(Out::Survey(last)).await;
    step.begun.notified().await;
    drop(session);
    timeout(Duration::from_secs(20), step.ended.notified()).await.expect("it goes on without its session");
    assert!(agent.stop().await);
}

#[tokio::test]
async fn what_leads_elsewhere_or_takes_too_long_is_refused() {
    let (dir, mut controller, (step, pipeline)) = (tempfile::tempdir().unwrap(), Controller::start().await, waits());
    let mut settings = joined(dir.path(), &controller);
    settings.survey.limit_ms = 1_000;
    let agent = Agent::start(&settings, pipeline).await;
    let mut session = controller.welcomed(0).await;
    let good = request(&session, "192.0.2.20");
    let cases = [
        (request(&session, "8.8.8.8"), order::ADDRESS_NOT_ALLOWED),
        (v1::SurveyRequest { survey_id: "x".into(), ..good.clone() }, Code::BadRequest.word()),
        (v1::SurveyRequest { plan: None, ..good.clone() }, Code::BadRequest.word()),
        (v1::SurveyRequest { secrets: None, ..good.clone() }, Code::BadRequest.word()),
        // Sealed for another survey.
        (v1::SurveyRequest { survey_id: JobId::new().to_string(), ..good.clone() }, Code::BadRequest.word()),
        (good, Code::Busy.word()),
    ];
    for (request, code) in cases {
        session.say(Out::Survey(request.clone())).await;
        let told = report(&mut session).await;
        assert_eq!((told.code.as_str(), told.diff), (code, None), "{}", told.message);
    }
    step.begun.notified().await;
    assert!(agent.stop().await);
}
