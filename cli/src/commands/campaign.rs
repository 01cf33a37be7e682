//! `ctl campaign`: the same work at many sites.

use std::collections::BTreeMap;

use gantry_proto::Verdict;
use serde_json::{Value, json};

use super::{Cx, deploy, plan};
use crate::{
    args::{CampaignCommand, CampaignOf, CampaignRun, Format},
    campaign::{
        self, Campaign, Stop,
        check::{self, Finding},
        drive::{Drive, End},
        place::Place,
        state::{Stage, State},
    },
    client::Client,
    exit::{Exit, Failure},
    follow::Known,
    language::Said,
    profile,
    render::{findings, json, words},
    workbook,
};

/// How many jobs or sites a message names.
const NAMED: usize = 5;

/// Runs, shows, pauses or resumes.
pub(crate) async fn run(cx: &Cx, command: CampaignCommand) -> Result<(), Failure> {
    match command {
        CampaignCommand::Run(args) => carry_out(cx, &args).await,
        CampaignCommand::Status(args) => status(cx, &args).await,
        CampaignCommand::Pause(args) => pause(cx, &args),
        CampaignCommand::Resume(args) => resume(cx, &args),
    }
}

async fn carry_out(cx: &Cx, args: &CampaignRun) -> Result<(), Failure> {
    let set = plan::overrides(&args.set)?;
    let place = Place::of(&args.of)?;
    let list = campaign::list(&args.of.sites)?;
    let endpoint = profile::require(&cx.global)?;
    let _lock = place.lock()?;
    let mut state = place.read()?.unwrap_or_else(|| State::new(&endpoint));
    state.belongs_to(&endpoint)?;
    let client = cx.connect().await?;
    settle(&client, &mut state).await?;
    state.take_list(list).iter().for_each(|note| cx.out.note(&say!("note: {note}", "注意：{note}")));
    state.options.take(args, set);
    let findings = check::all(&client, &mut state).await?;
    judge(cx, &mut state, &findings, args.skip_invalid)?;
    place.write(&state)?;
    let on_failure = deploy::policy(state.options.on_failure);
    let mut drive = Drive::new(cx.out, &client, &place, state, on_failure);
    let end = drive.run().await.map_err(|failure| failure.remedy(go_on(&place)))?;
    conclude(cx, &place, &drive.campaign, end)
}

/// What was open when the last run ended, and what operators have done since.
async fn settle(client: &Client, state: &mut State) -> Result<(), Failure> {
    for site in state.sites.iter_mut().filter(|site| site.stage.is_open()) {
        if let Some(job) = site.job_id {
            let job = client.find(&job.to_string()).await?;
            site.settle(job);
        }
    }
    Ok(())
}

/// Tells all that was found; what is wrong ends it here, unless it may be left out.
fn judge(cx: &Cx, state: &mut State, found: &[Finding], skip: bool) -> Result<(), Failure> {
    let wrong: Vec<&Finding> = found.iter().filter(|finding| finding.verdict != Verdict::Ok).collect();
    let over = !wrong.is_empty() && !skip;
    if cx.out.format == Format::Table {
        for finding in found.iter().filter(|finding| !finding.problems.is_empty()) {
            let text = finding_text(cx, state, finding, over);
            if over && finding.verdict != Verdict::Ok { cx.out.text(&text)? } else { cx.out.note(&text) }
        }
    }
    if over {
        if cx.out.format != Format::Table {
            let rejected = wrong.iter().map(|finding| rejected(state, finding)).collect::<Vec<_>>();
            cx.out.json(&json!({ "rejected": rejected }))?;
        }
        let (n, all, s) = (wrong.len(), found.len(), words::s(found.len()));
        return Err(Failure::new(
            Exit::Rejected,
            said!("{n} of {all} workbook{s} cannot be deployed", "{all} 份规划表中有 {n} 份不能部署"),
        )
        .because(said!("what is wrong is told above; nothing was submitted", "问题见上；未提交任何作业"))
        .remedy(said!(
            "correct them and give the command again, or leave their sites out with --skip-invalid",
            "请修正后重新执行该命令，或用 --skip-invalid 跳过这些站点"
        )));
    }
    wrong.iter().for_each(|finding| state.sites[finding.index].stage = Stage::Skipped);
    Ok(())
}

fn finding_text(cx: &Cx, state: &State, finding: &Finding, result: bool) -> String {
    let site = &state.sites[finding.index];
    let (site, file) = (&site.site, workbook::name(&site.workbook));
    let name = say!("site {site}: {file}", "站点 {site}：{file}");
    let paint = if result { cx.out.paint } else { cx.out.paint_err };
    findings::text(&name, finding.verdict, &finding.problems, paint, cx.out.columns())
}

fn rejected(state: &State, finding: &Finding) -> Value {
    let site = &state.sites[finding.index];
    let mut document = json::rejected(finding.verdict, &finding.problems);
    if let Value::Object(fields) = &mut document {
        fields.insert("site".to_owned(), json!(site.site));
        fields.insert("workbook".to_owned(), json!(site.workbook));
    }
    document
}

/// Tells how it stands; the exit code is the gravest of what happened.
fn conclude(cx: &Cx, place: &Place, campaign: &Campaign, end: End) -> Result<(), Failure> {
    let scene = campaign.scene(false);
    let ended = match end {
        End::Detached => "detached",
        End::Over(Stop::Done) => "done",
        End::Over(Stop::Budget) => "failure_budget",
        End::Over(Stop::Canary) => "canary",
        End::Over(Stop::Asks) => "needs_operator",
    };
    match cx.out.format {
        Format::Table => {
            cx.out.text(&format!("{}{}\n", scene.table(cx.out.columns()), scene.counts()))?;
        }
        Format::Json => cx.out.json(&with(scene.json(), &[("ended", json!(ended)), ("state", json!(place.file()))]))?,
        Format::Ndjson => {
            let more = [("event", json!("campaign")), ("ended", json!(ended)), ("state", json!(place.file()))];
            cx.out.json(&with(scene.json(), &more))?;
        }
    }
    let (tally, name, again) = (scene.tally(), &campaign.name, place.command("run"));
    let stop = match end {
        End::Detached => {
            let (n, s) = (tally.at_work + tally.asks, words::s(tally.at_work + tally.asks));
            cx.out.note(&say!(
                "detached; {n} job{s} at work, no further one begins. Go on: {again}",
                "已离开；{n} 个作业进行中，不再开始新作业。继续：{again}"
            ));
            return Ok(());
        }
        End::Over(Stop::Done) if tally.exit() == Exit::Done => return Ok(()),
        End::Over(stop) => stop,
    };
    let message = match stop {
        Stop::Done => {
            said!("campaign {name} is over, and not every site succeeded", "批量部署 {name} 已结束，部分站点未成功")
        }
        Stop::Budget => {
            said!("campaign {name} has stopped: its failure budget is spent", "批量部署 {name} 已停止：失败预算已用完")
        }
        Stop::Canary => said!("campaign {name} has stopped: a canary failed", "批量部署 {name} 已停止：金丝雀站点失败"),
        Stop::Asks => said!(
            "campaign {name} cannot go on: only jobs that wait for an operator are left",
            "批量部署 {name} 无法继续：只剩等待操作员的作业"
        ),
    };
    let mut failure = Failure::new(tally.exit(), message).because(Said::of(|| scene.counts()));
    let asking = campaign.state.sites.iter().enumerate().filter(|(index, _)| campaign.asks(*index));
    for (_, site) in asking.take(NAMED) {
        let job = site.job_id.map(|id| id.to_string()).unwrap_or_default();
        let site = &site.site;
        failure =
            failure.remedy(said!("answer for site {site}: ctl decide {job}", "答复站点 {site}：ctl decide {job}"));
    }
    if tally.failed + tally.cancelled > 0 {
        failure = failure.remedy(said!(
            "see why a job failed: ctl show JOB; then take it up again: ctl retry JOB",
            "查看作业失败原因：ctl show JOB；然后重试：ctl retry JOB"
        ));
    }
    if tally.left_over > 0 {
        failure = failure.remedy(said!(
            "see what is left over at a site: ctl sweep --site SITE",
            "查看站点的残留对象：ctl sweep --site SITE"
        ));
    }
    Err(match stop {
        Stop::Budget => failure.remedy(said!(
            "then go on: {again}; or with a larger budget: {again} --max-failures N",
            "然后继续：{again}；或加大预算：{again} --max-failures N"
        )),
        _ => failure.remedy(go_on(place)),
    })
}

fn go_on(place: &Place) -> Said {
    said!("then go on: {again}", "然后继续：{again}"; again = place.command("run"))
}

async fn status(cx: &Cx, args: &CampaignOf) -> Result<(), Failure> {
    let place = Place::of(args)?;
    let state = place.require()?;
    let known = match at_work(cx, &state).await {
        Ok(known) => known,
        Err(failure) => {
            cx.out.note(&say!(
                "note: the jobs at work were not asked for: {why}",
                "注意：未能查询进行中的作业：{why}"; why = failure.sentence()
            ));
            BTreeMap::new()
        }
    };
    let (is_run, paused) = (place.is_run(), place.paused_since());
    let campaign = Campaign { name: place.name(), state, known, paused };
    let scene = campaign.scene(false);
    match cx.out.format {
        Format::Table => {
            let run =
                if is_run { word!("is being run", "正在执行") } else { word!("is not being run", "未在执行") };
            let paused = campaign.paused.as_ref();
            let paused = paused.map(|since| say!(", paused since {since}", "，自 {since} 起暂停")).unwrap_or_default();
            let head = say!("campaign {name} {run}{paused}", "批量部署 {name} {run}{paused}"; name = campaign.name);
            cx.out.text(&format!("{head}\n{}\n{}", scene.counts(), scene.table(cx.out.columns())))
        }
        Format::Json | Format::Ndjson => {
            cx.out.json(&with(scene.json(), &[("is_run", json!(is_run)), ("state", json!(place.file()))]))
        }
    }
}

/// What the controller says of the jobs that had not ended.
async fn at_work(cx: &Cx, state: &State) -> Result<BTreeMap<usize, Known>, Failure> {
    let at_work = |stage: &Stage| matches!(stage, Stage::Submitting | Stage::Running);
    let jobs = state.sites.iter().enumerate().filter(|(_, site)| at_work(&site.stage));
    let jobs: Vec<_> = jobs.filter_map(|(index, site)| Some((index, site.job_id?))).collect();
    let mut known = BTreeMap::new();
    if jobs.is_empty() {
        return Ok(known);
    }
    let client = cx.connect().await?;
    for (index, id) in jobs {
        let job = client.find(&id.to_string()).await?;
        known.insert(index, Known { job, ..Known::default() });
    }
    Ok(known)
}

fn pause(cx: &Cx, args: &CampaignOf) -> Result<(), Failure> {
    let place = Place::of(args)?;
    place.require()?;
    let paused = place.pause()?;
    let said = match paused {
        true => word!("is paused: no further job begins, what runs goes on", "已暂停：不再开始新作业，进行中的继续"),
        false => word!("was paused before", "此前已暂停"),
    };
    tell(cx, &place, said, &say!("let it go on: {command}", "恢复：{command}"; command = place.command("resume")))
}

fn resume(cx: &Cx, args: &CampaignOf) -> Result<(), Failure> {
    let place = Place::of(args)?;
    place.require()?;
    let said = match place.resume()? {
        true => word!("is not paused any more", "已恢复"),
        false => word!("was not paused", "此前未暂停"),
    };
    let next = match place.is_run() {
        true => say!("it is being run, and goes on", "正在执行，将继续"),
        false => say!("nobody runs it; go on: {again}", "没有进程在执行；继续：{again}"; again = place.command("run")),
    };
    tell(cx, &place, said, &next)
}

fn tell(cx: &Cx, place: &Place, said: &str, next: &str) -> Result<(), Failure> {
    match cx.out.format {
        Format::Table => cx
            .out
            .text(&say!("campaign {name} {said}\n{next}\n", "批量部署 {name} {said}\n{next}\n"; name = place.name())),
        Format::Json | Format::Ndjson => cx
            .out
            .json(&json!({ "campaign": place.name(), "paused_since": place.paused_since(), "is_run": place.is_run() })),
    }
}

fn with(mut document: Value, more: &[(&str, Value)]) -> Value {
    if let Value::Object(fields) = &mut document {
        fields.extend(more.iter().map(|(key, value)| ((*key).to_owned(), value.clone())));
    }
    document
}
