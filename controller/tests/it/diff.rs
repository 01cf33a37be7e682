//! `DiffPlan`: planned, sealed and sent to a played agent; what keeps it from being looked at, and what it leaves behind.

use gantry_proto::{
    AgentId, Code, JobId, SURVEY,
    audit::Outcome,
    sealed::SealingKey,
    v1::{
        self, diff_plan_response::Item, job_service_client::JobServiceClient, open_request::Item as Up,
        open_response::Item as Down,
    },
};
use gantry_sim::workbook::Workbook;
use tonic::{Status, Streaming, transport::Channel};

use crate::{
    agent::{FakeAgent, hello, started},
    lab::{Lab, soon, submission, submit},
};

/// An agent that can look.
fn able(key: &SealingKey) -> v1::Hello {
    v1::Hello { capabilities: vec![SURVEY.to_owned()], ..hello(key) }
}

fn wish(site: &str) -> v1::DiffPlanRequest {
    v1::DiffPlanRequest {
        workbook: Workbook::valid().bytes(),
        file_name: "planning.xlsx".into(),
        site: site.into(),
        ..Default::default()
    }
}

type Jobs = JobServiceClient<Channel>;

async fn ask(jobs: &mut Jobs, wish: v1::DiffPlanRequest) -> Result<Streaming<v1::DiffPlanResponse>, Status> {
    Ok(soon("diff", jobs.diff_plan(wish)).await?.into_inner())
}

async fn next(answers: &mut Streaming<v1::DiffPlanResponse>) -> Result<Option<Item>, Status> {
    Ok(soon("answer", answers.message()).await?.and_then(|answer| answer.item))
}

async fn asked(agent: &mut FakeAgent) -> v1::SurveyRequest {
    match agent.hear().await.unwrap() {
        Some(Down::Survey(request)) => request,
        other => panic!("no survey but {other:?}"),
    }
}

fn found() -> v1::SiteDiff {
    let step = v1::StepInfo { id: "preflight".into(), title: "Check".into(), weight: 1, attempts: 1 };
    let line = v1::DiffLine {
        step: "create-vm".into(),
        kind: v1::DiffKind::Create.into(),
        call: "create_vm".into(),
        subject: "cloudtower".into(),
        message: "the VM is made".into(),
        ..Default::default()
    };
    v1::SiteDiff { steps: vec![step], lines: vec![line], left_out: 0 }
}

async fn acts(lab: &Lab) -> Vec<(Outcome, String)> {
    let (records, _) = lab.audit().await;
    let own = records.into_iter().filter(|record| record.entry.act == "plan.diff");
    own.map(|record| (record.entry.outcome, record.entry.agent.clone())).collect()
}

#[tokio::test]
async fn the_agent_of_the_site_looks_and_nothing_is_stored() {
    let mut lab = Lab::start().await;
    let key = SealingKey::generate();
    let mut agent = FakeAgent::dial(&lab, &lab.join("a1", "s1").await, able(&key)).await.unwrap();
    let mut jobs = lab.jobs().await;
    let mut answers = ask(&mut jobs, wish("s1")).await.unwrap();
    let Some(Item::Begun(begun)) = next(&mut answers).await.unwrap() else { panic!("not begun") };
    assert_eq!((begun.agent_id.as_str(), begun.site.as_str()), ("a1", "s1"));
    let request = asked(&mut agent).await;
    assert_eq!(request.site, "s1");
    let (id, a1): (JobId, AgentId) = (request.survey_id.parse().unwrap(), "a1".parse().unwrap());
    assert!(key.open(id, &a1, &request.secrets.unwrap()).is_ok(), "sealed to this agent and this survey");
    assert!(request.plan.is_some());
    agent.say(Up::Survey(v1::SurveyReport { survey_id: "another".into(), ..Default::default() })).await;
    let report = v1::SurveyReport { survey_id: request.survey_id, diff: Some(found()), ..Default::default() };
    agent.say(Up::Survey(report)).await;
    let Some(Item::Diff(diff)) = next(&mut answers).await.unwrap() else { panic!("no diff") };
    assert_eq!(diff, found());
    assert!(next(&mut answers).await.unwrap().is_none());
    let listed = jobs.list_jobs(v1::ListJobsRequest::default()).await.unwrap().into_inner();
    assert_eq!(listed.jobs, []);
    assert_eq!(acts(&lab).await, [(Outcome::Asked, String::new()), (Outcome::Done, "a1".to_owned())]);

    // A job at work on the same CloudTower would keep the deployment from beginning.
    let job = JobId::new();
    submit(&mut jobs, submission(job)).await.unwrap();
    agent.order().await;
    agent.tell(job, 1, vec![started()]).await;
    let mut answers = ask(&mut jobs, wish("s1")).await.unwrap();
    next(&mut answers).await.unwrap();
    let survey_id = asked(&mut agent).await.survey_id;
    agent.say(Up::Survey(v1::SurveyReport { survey_id, diff: Some(found()), ..Default::default() })).await;
    let Some(Item::Diff(diff)) = next(&mut answers).await.unwrap() else { panic!("no diff") };
    let first = &diff.lines[0];
    assert_eq!((diff.lines.len(), first.kind(), first.code.as_str()), (2, v1::DiffKind::Refuse, "target_busy"));
    assert!(first.message.contains(&job.to_string()) && first.step == "preflight");
    lab.stop().await;
}

#[tokio::test]
async fn who_cannot_look_is_told_with_a_remedy() {
    let mut lab = Lab::with(|config| config.limits.survey_ms = 300).await;
    let (join, key) = (lab.join("a1", "s1").await, SealingKey::generate());
    let mut jobs = lab.jobs().await;
    let refused = ask(&mut jobs, wish("s1")).await.unwrap_err();
    assert_eq!(Code::of(&refused), Some(Code::NoAgent));

    // An old one.
    let old = FakeAgent::dial(&lab, &join, hello(&key)).await.unwrap();
    let refused = ask(&mut jobs, wish("s1")).await.unwrap_err();
    assert!(Code::of(&refused) == Some(Code::Incompatible) && refused.message().contains("update it"), "{refused:?}");
    drop(old);
    lab.first_agent_is_gone().await;

    // None in contact.
    let refused = ask(&mut jobs, wish("s1")).await.unwrap_err();
    assert!(
        Code::of(&refused) == Some(Code::AgentState) && refused.message().contains("not in contact"),
        "{refused:?}"
    );

    // One that does not answer in time: it is told to look no further.
    let mut agent = FakeAgent::dial(&lab, &join, able(&key)).await.unwrap();
    let mut answers = ask(&mut jobs, wish("s1")).await.unwrap();
    next(&mut answers).await.unwrap();
    let survey_id = asked(&mut agent).await.survey_id;
    let late = next(&mut answers).await.unwrap_err();
    assert!(Code::of(&late) == Some(Code::AgentState) && late.message().contains("survey_ms"), "{late:?}");
    assert!(matches!(agent.hear().await.unwrap(), Some(Down::SurveyCancel(cancel)) if cancel.survey_id == survey_id));

    // One that says why not.
    let mut answers = ask(&mut jobs, wish("s1")).await.unwrap();
    next(&mut answers).await.unwrap();
    let survey_id = asked(&mut agent).await.survey_id;
    let (code, message) = ("address_not_allowed".to_owned(), "the plan leads elsewhere".to_owned());
    agent.say(Up::Survey(v1::SurveyReport { survey_id, diff: None, code, message })).await;
    let refused = next(&mut answers).await.unwrap_err();
    assert!(refused.message().contains("leads elsewhere"), "{refused:?}");

    // A workbook that gives no plan: nobody is asked.
    let invalid = v1::DiffPlanRequest { workbook: b"no workbook".to_vec(), ..wish("s1") };
    let mut answers = ask(&mut jobs, invalid).await.unwrap();
    assert!(matches!(next(&mut answers).await.unwrap(), Some(Item::Rejected(_))));
    assert!(next(&mut answers).await.unwrap().is_none());

    // And one whose line breaks.
    let mut answers = ask(&mut jobs, wish("s1")).await.unwrap();
    next(&mut answers).await.unwrap();
    asked(&mut agent).await;
    drop(agent);
    let lost = next(&mut answers).await.unwrap_err();
    assert!(Code::of(&lost) == Some(Code::AgentState) && lost.message().contains("lost"), "{lost:?}");
    lab.stop().await;
}

#[tokio::test]
async fn one_looks_at_a_time_and_a_caller_that_goes_away_ends_it() {
    let mut lab = Lab::start().await;
    let join = lab.join("a1", "s1").await;
    let mut agent = FakeAgent::dial(&lab, &join, able(&SealingKey::generate())).await.unwrap();
    let mut jobs = lab.jobs().await;
    let mut first = ask(&mut jobs, wish("s1")).await.unwrap();
    next(&mut first).await.unwrap();
    let survey_id = asked(&mut agent).await.survey_id;
    let refused = ask(&mut lab.jobs().await, wish("s1")).await.unwrap_err();
    assert!(Code::of(&refused) == Some(Code::Busy) && refused.message().contains("somebody else"), "{refused:?}");
    drop(first);
    assert!(matches!(agent.hear().await.unwrap(), Some(Down::SurveyCancel(cancel)) if cancel.survey_id == survey_id));
    let mut second = ask(&mut jobs, wish("s1")).await.unwrap();
    next(&mut second).await.unwrap();
    asked(&mut agent).await;
    let cut_off = soon("the record", async {
        loop {
            let acts = acts(&lab).await;
            if acts.iter().any(|(outcome, _)| *outcome == Outcome::CutOff) {
                return acts;
            }
        }
    });
    cut_off.await;
    lab.stop().await;
}

#[tokio::test]
async fn it_needs_the_right_to_deploy_at_that_site() {
    let mut lab = Lab::start().await;
    let join = lab.join("a1", "s1").await;
    let _agent = FakeAgent::dial(&lab, &join, able(&SealingKey::generate())).await.unwrap();
    lab.admin().await.add_site(v1::AddSiteRequest { site: "s2".into() }).await.unwrap();
    let viewer = lab.operator("vi", v1::Role::Viewer, &[]).await;
    let elsewhere = lab.operator("li", v1::Role::Operator, &["s2"]).await;
    for (identity, code) in [(viewer, Code::NotAllowed), (elsewhere, Code::NoAgent)] {
        let mut jobs = JobServiceClient::new(lab.channel(Some(identity)).await);
        let refused = ask(&mut jobs, wish("s1")).await.unwrap_err();
        assert_eq!(Code::of(&refused), Some(code), "{refused:?}");
    }
    lab.stop().await;
}
