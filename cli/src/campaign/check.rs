//! Before the first job: every workbook is planned by the controller, every site is held against its agents, and all
//! that is wrong is told at once.

use std::collections::{BTreeMap, HashMap};

use gantry_proto::{Problem, Severity, Verdict, v1};
use tokio::task::JoinSet;

use super::state::{Site, Stage, State};
use crate::{
    client::Client,
    exit::{Exit, Failure},
    refusal, workbook,
};

/// Workbooks that are planned at the same time: the controller plans two.
const AT_ONCE: usize = 4;

/// What was found about one site.
#[derive(Debug)]
pub(crate) struct Finding {
    /// Its place in the campaign.
    pub(crate) index: usize,
    /// Whether it can be deployed.
    pub(crate) verdict: Verdict,
    /// Everything about it.
    pub(crate) problems: Vec<Problem>,
}

/// Checks every site that has not begun.
pub(crate) async fn all(client: &Client, state: &mut State) -> Result<Vec<Finding>, Failure> {
    let mut waiting: Vec<_> = state
        .sites
        .iter()
        .enumerate()
        .filter(|(_, site)| site.stage == Stage::Waiting)
        .map(|(index, site)| (index, site.clone()))
        .collect();
    if waiting.is_empty() {
        return Ok(Vec::new());
    }
    let agents = client.agents("").await?;
    let overrides: HashMap<_, _> = state.options.set.clone().into_iter().collect();
    let mut findings = Vec::with_capacity(waiting.len());
    waiting.reverse();
    let mut running = JoinSet::new();
    loop {
        while running.len() < AT_ONCE
            && let Some((index, site)) = waiting.pop()
        {
            let (client, overrides, missing) = (client.clone(), overrides.clone(), agent(&site, &agents));
            running.spawn(async move { (index, missing, plan(&client, &site, overrides).await) });
        }
        let Some(planned) = running.join_next().await else { break };
        let (index, missing, planned) = planned.map_err(|error| {
            Failure::new(Exit::Internal, said!("checking a workbook broke off", "规划表校验中断"))
                .because(error.to_string())
        })?;
        let (mut verdict, mut problems, sha256) = planned?;
        if let Some(missing) = missing {
            problems.push(missing);
            verdict = if verdict == Verdict::Unreadable { verdict } else { Verdict::Invalid };
        }
        state.sites[index].plan_sha256 = sha256;
        findings.push(Finding { index, verdict, problems });
    }
    findings.sort_by_key(|finding| finding.index);
    same_plans(&state.sites, &mut findings);
    Ok(findings)
}

type Planned = (Verdict, Vec<Problem>, Option<String>);

/// What the controller's planner says: its settings may fill what the workbook leaves open.
async fn plan(client: &Client, site: &Site, overrides: HashMap<String, String>) -> Result<Planned, Failure> {
    let bytes = match workbook::read(&site.workbook) {
        Ok(bytes) => bytes,
        Err(problem) => return Ok((Verdict::Unreadable, vec![*problem], None)),
    };
    let request = v1::CheckPlanRequest { workbook: bytes, file_name: workbook::name(&site.workbook), overrides };
    let answer = client.check(request).await?;
    let verdict =
        Verdict::try_from(answer.verdict()).map_err(|_| refusal::incomplete(client.url(), "verdict on a workbook"))?;
    let sha256 = answer.plan.map(|plan| plan.sha256.iter().map(|byte| format!("{byte:02x}")).collect());
    Ok((verdict, workbook::problems(answer.problems), sha256))
}

/// What is wrong with the site's agent.
fn agent(site: &Site, agents: &[v1::Agent]) -> Option<Problem> {
    let name = &site.site;
    let mut there = agents.iter().filter(|agent| agent.site == *name && !agent.revoked);
    let (code, message, remedy) = match (&site.agent, there.clone().count()) {
        (Some(agent), _) if there.any(|one| one.agent_id == *agent) => return None,
        (Some(agent), _) => (
            "agent_unknown",
            format!("site {name} has no agent {agent} that has been in contact"),
            "see which agents there are: ctl agents".to_owned(),
        ),
        (None, 1) => return None,
        (None, 0) => (
            "no_agent",
            format!("no agent of site {name} has ever been in contact"),
            format!("let one join: ctl agent token --site {name}; or see ctl site list, ctl agents"),
        ),
        (None, _) => (
            "agent_ambiguous",
            format!("site {name} has several agents"),
            format!("choose one in a list of the campaign's sites, with a line {name},WORKBOOK,AGENT"),
        ),
    };
    Some(problem(code, site.agent.clone(), message, remedy))
}

/// A workbook that was copied for the next site and not filled in.
fn same_plans(sites: &[Site], findings: &mut [Finding]) {
    let mut first: BTreeMap<&str, &str> = BTreeMap::new();
    for site in sites.iter().filter(|site| site.stage.is_begun()) {
        first.extend(site.plan_sha256.as_deref().map(|plan| (plan, site.site.as_str())));
    }
    for finding in findings {
        let site = &sites[finding.index];
        let Some(plan) = site.plan_sha256.as_deref() else { continue };
        match first.get(plan) {
            None => drop(first.insert(plan, &site.site)),
            Some(other) => {
                let message = format!("the plan is the very same as that of site {other}");
                let remedy = "give each site a workbook with its own cluster and addresses".to_owned();
                finding.problems.push(problem("same_plan", None, message, remedy));
                finding.verdict = Verdict::Invalid;
            }
        }
    }
}

fn problem(code: &str, value: Option<String>, message: String, remedy: String) -> Problem {
    Problem {
        severity: Severity::Error,
        code: code.to_owned(),
        rule: "FILE".to_owned(),
        sheet: None,
        cell: None,
        related: Vec::new(),
        label: String::new(),
        value,
        message,
        remedy,
    }
}

#[cfg(test)]
mod tests {
    use gantry_proto::JobId;

    use super::*;

    fn site(name: &str, agent: Option<&str>, plan: Option<&str>) -> Site {
        Site {
            site: name.to_owned(),
            workbook: format!("{name}.xlsx").into(),
            agent: agent.map(str::to_owned),
            plan_sha256: plan.map(str::to_owned),
            job_id: None,
            stage: Stage::Waiting,
        }
    }

    #[test]
    fn a_site_has_exactly_one_agent_or_says_which() {
        let one = |id: &str, site: &str, revoked: bool| v1::Agent {
            agent_id: id.to_owned(),
            site: site.to_owned(),
            revoked,
            ..v1::Agent::default()
        };
        let agents = [one("a-1", "a", false), one("a-2", "a", true), one("b-1", "b", false), one("b-2", "b", false)];
        let code = |name, id| agent(&site(name, id, None), &agents).map(|problem| problem.code);
        assert_eq!((code("a", None), code("a", Some("a-1")), code("b", Some("b-2"))), (None, None, None));
        assert_eq!(code("a", Some("a-2")).as_deref(), Some("agent_unknown"), "it is shut out");
        assert_eq!(code("a", Some("b-1")).as_deref(), Some("agent_unknown"), "it is elsewhere");
        assert_eq!(code("b", None).as_deref(), Some("agent_ambiguous"));
        assert_eq!(code("c", None).as_deref(), Some("no_agent"));
    }

    #[test]
    fn a_copied_workbook_is_found_also_when_the_first_has_begun() {
        let mut sites = [site("a", None, Some("1")), site("b", None, Some("2")), site("c", None, Some("1"))];
        let finding = |index| Finding { index, verdict: Verdict::Ok, problems: Vec::new() };
        let mut findings = [finding(0), finding(1), finding(2)];
        same_plans(&sites, &mut findings);
        assert_eq!(findings.map(|finding| finding.verdict), [Verdict::Ok, Verdict::Ok, Verdict::Invalid]);
        (sites[0].job_id, sites[0].stage) = (Some(JobId::new()), Stage::Running);
        let mut findings = [finding(1), finding(2)];
        same_plans(&sites, &mut findings);
        assert!(findings[1].problems[0].message.ends_with("site a"), "{findings:?}");
    }
}
