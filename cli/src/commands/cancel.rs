//! `ctl cancel`: asks for a job to be stopped and undone, and waits for that if wanted.

use gantry_proto::{
    JobId, JobOutcome,
    v1::{self, CancelStage},
};
use jiff::Timestamp;
use serde_json::json;

use super::{Cx, watch};
use crate::{
    args::{Cancel, Format},
    client::Client,
    exit::{Exit, Failure},
    follow::{Follow, Heard, Known},
    jobref,
    render::{
        ending::{Detail, Ending},
        json,
        lines::{Line, Teller},
        words,
    },
};

/// Asks; a job that has ended already is a refusal.
pub(crate) async fn run(cx: &Cx, args: &Cancel) -> Result<(), Failure> {
    let client = cx.connect().await?;
    let id = jobref::resolve(&client, &args.job.job).await?;
    let (job, cut_short) = client.cancel(&id.to_string(), &args.reason).await?;
    if job.cancel() == CancelStage::TooLate {
        return Err(too_late(&job));
    }
    if args.wait {
        return wait(cx, &client, id).await;
    }
    let stage = if cut_short {
        word!(
            "asked for again; the undo waits for nothing more, and lists what may be left over",
            "已再次请求；回滚不再等待，并列出可能残留的对象"
        )
    } else {
        words::cancel_sentence(job.cancel()).unwrap_or(word!("asked for", "已请求"))
    };
    match cx.out.format {
        Format::Table => cx.out.text(&say!(
            "cancel of job {id}: {stage}\nfollow it:  ctl watch {id}\n",
            "取消作业 {id}：{stage}\n跟踪：  ctl watch {id}\n"
        )),
        Format::Json | Format::Ndjson => cx.out.json(&json!({ "job": json::job(&job), "undo_cut_short": cut_short })),
    }
}

/// Waits for the end; lines about stopping and undoing go to stderr.
async fn wait(cx: &Cx, client: &Client, id: JobId) -> Result<(), Failure> {
    let mut known = Known::default();
    let mut teller = Teller::default();
    let mut follow = Follow::open(client, id, 0, true).await?;
    loop {
        let heard = follow.next().await?;
        known.take(&heard);
        let line = teller.tell(&heard, &known, Timestamp::now());
        // What happened before the agent took the cancel up is not of interest here.
        let of_interest = known.view.cancelled_by.is_some() || !matches!(heard, Heard::Event(_) | Heard::Sample(_));
        line.iter().filter(|_| of_interest).map(Line::stamped).for_each(|line| cx.out.note(&line));
        if matches!(heard, Heard::End) || (matches!(heard, Heard::Event(_)) && known.is_told()) {
            return conclude(cx, &known);
        }
    }
}

fn conclude(cx: &Cx, known: &Known) -> Result<(), Failure> {
    let Some(end) = Ending::of(known) else {
        return Err(watch::unfinished());
    };
    match cx.out.format {
        Format::Table => cx.out.text(&end.text(cx.out.paint, cx.out.columns(), Detail::WithoutSteps))?,
        Format::Json | Format::Ndjson => cx.out.json(&json::known(known))?,
    }
    match (end.outcome, end.exit()) {
        // It was cancelled and nothing is left: that is what was asked for.
        (JobOutcome::Cancelled, Exit::Cancelled) => Ok(()),
        (JobOutcome::Succeeded, _) => Err(known.job.as_ref().map_or(Failure::Told(Exit::Refused), too_late)),
        (_, exit) => Err(Failure::Told(exit)),
    }
}

fn too_late(job: &v1::Job) -> Failure {
    let id = &job.job_id;
    Failure::new(Exit::Refused, said!("job {id} cannot be cancelled any more", "作业 {id} 已不能取消"))
        .because(said!("it had ended before: {state}", "此前已结束：{state}"; state = words::state(job.state())))
        .remedy(said!("see what it has made: ctl show {id}", "查看其创建的对象：ctl show {id}"))
}
