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
            block(&mut out, "moved", &moved(from), columns);
        }
        if let Some(asked) = known.question() {
            section(&mut out, "what an operator has to decide", paint);
            out.push_str(&question::text(&job.job_id, &asked, known, columns));
        }
    }
    if let Some(plan) = plan {
        section(&mut out, "plan", paint);
        plan_rows(&mut out, plan, columns);
    }
    if !known.view.steps.is_empty() {
        section(&mut out, "steps", paint);
        out.push_str(&steps(known, now, columns));
    }
    if !known.view.facts.is_empty() {
        section(&mut out, "what the job found or made", paint);
        for (key, value) in &known.view.facts {
            let value = ending::plain(value).unwrap_or_else(|| "-".to_owned());
            block(&mut out, key, &text::cut(&text::clean(&value), FACT_COLUMNS), columns);
        }
    }
    if !known.view.open_intents.is_empty() {
        section(&mut out, "begun, outcome not known yet", paint);
        known.view.open_intents.iter().for_each(|(id, call)| block(&mut out, &id.to_string(), call, columns));
    }
    match Ending::of(known) {
        Some(end) => {
            section(&mut out, "how it ended", paint);
            out.push_str(&end.text(paint, columns, Detail::OnPage));
        }
        None if !known.view.notes.is_empty() => {
            section(&mut out, "warnings", paint);
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
    row("job", job.job_id.clone());
    let state = words::job_state(job.state()).replace('_', " ");
    row("state", format!("{state}, {}", frame::percent(percent).trim_start()));
    row("epoch", if job.epoch > 1 { job.epoch.to_string() } else { String::new() });
    row("agent", frame::contact(job, now).unwrap_or_else(|| format!("{} (site {})", job.agent_id, job.site)));
    row("moving to", words::moving_sentence(job).unwrap_or_default());
    row("refused", job.refusal.clone());
    row("cancel", words::cancel_sentence(job.cancel()).unwrap_or_default().to_owned());
    row("workbook", job.file_name.clone());
    row("submitted", format!("{} by {}", time(job.created_micros), job.submitted_by));
    row("started", time(job.started_micros));
    row("finished", time(job.finished_micros));
    row("on failure", words::on_failure(job.on_failure()).to_owned());
    row("events", job.last_seq.to_string());
}

/// From where a job came, and how that agent was known to have stopped.
fn moved(TakenOver { from, by, confirmed }: &TakenOver) -> String {
    let how = if *confirmed { "which had let go of it".to_owned() } else { format!("which {by} said was off") };
    format!("from agent {from}, {how}, by {by}")
}

fn plan_rows(out: &mut String, plan: &Plan, columns: usize) {
    let list = |items: Vec<String>| if items.is_empty() { "none".to_owned() } else { items.join(", ") };
    let network = &plan.management_network;
    let mut row = |name: &str, value: String| block(out, name, &value, columns);
    row("vm", format!("{} at {}", plan.cloudtower.vm_name, plan.cloudtower.ip));
    row(
        "network",
        format!(
            "{} on {}, VLAN {}, {}, gateway {}",
            network.network, network.vds, network.vlan_id, network.subnet, network.gateway
        ),
    );
    let cluster = plan.cluster.name.clone().unwrap_or_else(|| "-".to_owned());
    let endpoint = plan.cluster.vip.map_or_else(|| "no VIP".to_owned(), |vip| vip.to_string());
    row("cluster", format!("{cluster} ({endpoint}), {}", words::count(plan.hosts.len(), "host")));
    row("inside", format!("organisation {}, datacenter {}", plan.organization, plan.datacenter));
    row("ntp", list(plan.ntp_servers.clone()));
    row("dns", list(plan.dns_servers.iter().map(ToString::to_string).collect()));
    let vm = plan.deployment.vm;
    row(
        "size",
        format!("{} vCPU, {} memory, {} disk", vm.vcpu, units::bytes(vm.memory_bytes), units::bytes(vm.disk_bytes)),
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
            step.info.title.clone(),
            words::step_state(step.state).to_owned(),
            took,
            attempt,
        ]
    });
    table(&["  #", "STEP", "STATE", "TIME", "ATTEMPT"], rows, columns)
}
