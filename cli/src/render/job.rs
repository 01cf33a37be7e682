//! Everything about one job on one page.

use gantry_proto::{Plan, TakenOver, v1, view::StepState};
use jiff::Timestamp;

use super::{
    ending::{self, Detail, Ending, block},
    frame,
    paint::Paint,
    question,
    table::table,
    text, units, words,
};
use crate::follow::Known;

/// Facts longer than this are cut: the whole value is in `-o json`.
const FACT_COLUMNS: usize = 160;

/// The page.
pub(crate) fn page(known: &Known, plan: Option<&Plan>, now: Timestamp, paint: Paint, columns: usize) -> String {
    let mut out = String::new();
    if let Some(job) = &known.job {
        let percent = if known.view.steps.is_empty() { job.percent } else { known.view.percent() };
        head(&mut out, job, percent, now, columns);
        if let Some(from) = &known.taken_over {
            block(&mut out, word!("moved", "移交"), &moved(from), columns);
        }
        if let Some(asked) = known.question() {
            section(&mut out, word!("what an operator has to decide", "待操作员决定"), paint);
            out.push_str(&question::text(&job.job_id, &asked, known, columns));
        }
    }
    if let Some(plan) = plan {
        section(&mut out, word!("plan", "计划"), paint);
        plan_rows(&mut out, plan, columns);
    }
    if !known.view.steps.is_empty() {
        section(&mut out, word!("steps", "步骤"), paint);
        out.push_str(&steps(known, now, columns));
    }
    if !known.view.facts.is_empty() {
        section(&mut out, word!("what the job found or made", "作业发现或创建的对象"), paint);
        for (key, value) in &known.view.facts {
            let value = ending::plain(value).unwrap_or_else(|| "-".to_owned());
            block(&mut out, key, &text::cut(&text::clean(&value), FACT_COLUMNS), columns);
        }
    }
    if !known.view.open_intents.is_empty() {
        section(&mut out, word!("begun, outcome not known yet", "已发起，结果未知"), paint);
        known.view.open_intents.iter().for_each(|(id, call)| block(&mut out, &id.to_string(), call, columns));
    }
    match Ending::of(known) {
        Some(end) => {
            section(&mut out, word!("how it ended", "结果"), paint);
            out.push_str(&end.text(paint, columns, Detail::OnPage));
        }
        None if !known.view.notes.is_empty() => {
            section(&mut out, word!("warnings", "警告"), paint);
            out.push_str(&ending::warnings(known, paint, columns));
        }
        None => {}
    }
    out
}

fn section(out: &mut String, name: &str, paint: Paint) {
    out.push('\n');
    out.push_str(&paint.head(name));
    out.push('\n');
}

fn head(out: &mut String, job: &v1::Job, percent: f64, now: Timestamp, columns: usize) {
    let mut row = |name: &str, value: String| {
        if !value.is_empty() {
            block(out, name, &value, columns);
        }
    };
    let time = |micros| units::from_micros(micros).map(units::time).unwrap_or_default();
    row(word!("job", "作业"), job.job_id.clone());
    let (state, percent) = (words::state(job.state()), frame::percent(percent));
    row(word!("state", "状态"), say!("{state}, {percent}", "{state}，{percent}"; percent = percent.trim_start()));
    row(word!("epoch", "轮次"), if job.epoch > 1 { job.epoch.to_string() } else { String::new() });
    let (agent, site) = (&job.agent_id, &job.site);
    row(
        word!("agent", "代理"),
        frame::contact(job, now).unwrap_or_else(|| say!("{agent} (site {site})", "{agent}（站点 {site}）")),
    );
    row(word!("moving to", "移交至"), words::moving_sentence(job).unwrap_or_default());
    row(word!("refused", "已拒绝"), job.refusal.clone());
    row(word!("cancel", "取消"), words::cancel_sentence(job.cancel()).unwrap_or_default().to_owned());
    row(word!("workbook", "规划表"), job.file_name.clone());
    let (at, by) = (time(job.created_micros), &job.submitted_by);
    row(word!("submitted", "提交时间"), say!("{at} by {by}", "{at}，提交人 {by}"));
    row(word!("started", "开始时间"), time(job.started_micros));
    row(word!("finished", "结束时间"), time(job.finished_micros));
    row(word!("on failure", "失败策略"), words::policy(job.on_failure()).to_owned());
    row(word!("events", "事件数"), job.last_seq.to_string());
}

/// From where a job came, and how that agent was known to have stopped.
fn moved(TakenOver { from, by, confirmed }: &TakenOver) -> String {
    let how = match *confirmed {
        true => say!("which had let go of it", "原代理已交出作业"),
        false => say!("which {by} said was off", "{by} 担保原代理已关机"),
    };
    say!("from agent {from}, {how}, by {by}", "来自代理 {from}，{how}，操作人 {by}")
}

fn plan_rows(out: &mut String, plan: &Plan, columns: usize) {
    let list = |items: Vec<String>| if items.is_empty() { say!("none", "无") } else { items.join(", ") };
    let network = &plan.management_network;
    let mut row = |name: &str, value: String| block(out, name, &value, columns);
    let (vm, ip) = (&plan.cloudtower.vm_name, &plan.cloudtower.ip);
    row(word!("vm", "虚拟机"), say!("{vm} at {ip}", "{vm}，IP {ip}"));
    let (name, vds, vlan) = (&network.network, &network.vds, &network.vlan_id);
    let (subnet, gateway) = (&network.subnet, &network.gateway);
    row(
        word!("network", "网络"),
        say!(
            "{name} on {vds}, VLAN {vlan}, {subnet}, gateway {gateway}",
            "{name}，虚拟交换机 {vds}，VLAN {vlan}，{subnet}，网关 {gateway}"
        ),
    );
    let cluster = plan.cluster.name.clone().unwrap_or_else(|| "-".to_owned());
    let endpoint = plan.cluster.vip.map_or_else(|| say!("no VIP", "无 VIP"), |vip| vip.to_string());
    let (n, s) = (plan.hosts.len(), words::s(plan.hosts.len()));
    row(word!("cluster", "集群"), say!("{cluster} ({endpoint}), {n} host{s}", "{cluster}（{endpoint}），{n} 台主机"));
    let (organization, datacenter) = (&plan.organization, &plan.datacenter);
    row(
        word!("inside", "归属"),
        say!("organisation {organization}, datacenter {datacenter}", "组织 {organization}，数据中心 {datacenter}"),
    );
    row("ntp", list(plan.ntp_servers.clone()));
    row("dns", list(plan.dns_servers.iter().map(ToString::to_string).collect()));
    let vm = plan.deployment.vm;
    let (vcpu, memory, disk) = (vm.vcpu, units::bytes(vm.memory_bytes), units::bytes(vm.disk_bytes));
    row(
        word!("size", "规格"),
        say!("{vcpu} vCPU, {memory} memory, {disk} disk", "{vcpu} vCPU，内存 {memory}，磁盘 {disk}"),
    );
}

fn steps(known: &Known, now: Timestamp, columns: usize) -> String {
    let rows = known.view.steps.iter().enumerate().map(|(index, step)| {
        let took = step.started.map(|from| units::duration(units::between(from, step.finished.unwrap_or(now))));
        let took = took.filter(|_| step.state != StepState::Waiting).unwrap_or_default();
        let attempt = if step.attempt > 0 {
            format!("{}/{}", step.attempt, step.info.attempts.max(step.attempt))
        } else {
            String::new()
        };
        vec![
            format!("{:>3}", index + 1),
            words::step_title(&step.info).to_owned(),
            words::step_state(step.state).to_owned(),
            took,
            attempt,
        ]
    });
    let heading =
        ["  #", word!("STEP", "步骤"), word!("STATE", "状态"), word!("TIME", "耗时"), word!("ATTEMPT", "尝试")];
    table(&heading, rows, columns)
}
