//! The list of jobs.

use gantry_proto::v1;
use jiff::Timestamp;

use super::{frame, table::table, units, words};

/// One row a job, newest first.
pub(crate) fn text(jobs: &[v1::Job], now: Timestamp, columns: usize) -> String {
    if jobs.is_empty() {
        return say!("no jobs\n", "没有作业\n");
    }
    table(
        &[
            word!("JOB", "作业"),
            word!("STATE", "状态"),
            word!("DONE", "进度"),
            word!("STEP", "步骤"),
            word!("AGENT", "代理"),
            word!("VM", "虚拟机"),
            word!("ADDRESS", "IP 地址"),
            word!("AGE", "提交至今"),
        ],
        jobs.iter().map(|job| row(job, now)),
        columns,
    )
}

fn row(job: &v1::Job, now: Timestamp) -> Vec<String> {
    let age = units::from_micros(job.created_micros).map(|at| units::duration(units::between(at, now)));
    let mut agent = match frame::contact(job, now) {
        Some(_) => say!("{agent} (no contact)", "{agent}（失联）"; agent = job.agent_id),
        None => job.agent_id.clone(),
    };
    if !job.moving_to.is_empty() {
        agent = format!("{agent} → {}", job.moving_to);
    }
    vec![
        short(&job.job_id),
        words::state(job.state()).into_owned(),
        frame::percent(job.percent).trim_start().to_owned(),
        words::step_of_id(&job.current_step).to_owned(),
        agent,
        job.vm_name.clone(),
        job.cloudtower_ip.clone(),
        age.unwrap_or_default(),
    ]
}

/// The last eight digits of an id: short, and different for jobs made together.
pub(crate) fn short(id: &str) -> String {
    id.chars().skip(id.chars().count().saturating_sub(8)).collect()
}
