//! `ctl pause` and `ctl resume`: hold a job at a safe point, let it go on; `ctl upload`: steer its upload.

use gantry_proto::v1::{self, JobState};
use serde_json::json;

use super::Cx;
use crate::{
    args::{Format, Job, Pause, Upload},
    exit::Failure,
    jobref,
    render::json,
};

/// Asks for the job to be held.
pub(crate) async fn pause(cx: &Cx, args: &Pause) -> Result<(), Failure> {
    let client = cx.connect().await?;
    let id = jobref::resolve(&client, &args.job.job).await?;
    let job = client.pause(&id.to_string(), &args.reason).await?;
    let said = match job.state() {
        JobState::Paused => say!("it is held", "已暂停"),
        _ => say!(
            "asked for; it is held at the next safe point{when}",
            "已请求，将在下一个安全点暂停{when}"; when = when(&job)
        ),
    };
    let text = say!(
        "pause of job {id}: {said}\nfollow it:  ctl watch {id}\ngo on:      ctl resume {id}\n",
        "暂停作业 {id}：{said}\n跟踪：  ctl watch {id}\n恢复：  ctl resume {id}\n"
    );
    tell(cx, &job, &text)
}

/// Lets the job go on.
pub(crate) async fn resume(cx: &Cx, args: &Job) -> Result<(), Failure> {
    let client = cx.connect().await?;
    let id = jobref::resolve(&client, &args.job).await?;
    let job = client.resume(&id.to_string()).await?;
    let when = when(&job);
    let text = say!(
        "job {id}: it goes on{when}\nfollow it:  ctl watch {id}\n",
        "作业 {id}：恢复执行{when}\n跟踪：  ctl watch {id}\n"
    );
    tell(cx, &job, &text)
}

/// Asks for the upload to go otherwise.
pub(crate) async fn upload(cx: &Cx, args: &Upload) -> Result<(), Failure> {
    let client = cx.connect().await?;
    let id = jobref::resolve(&client, &args.job.job).await?;
    let request = v1::TuneUploadRequest {
        job_id: id.to_string(),
        limit_bytes_per_s: args.limit,
        in_flight: args.in_flight,
        paused: (args.pause || args.resume).then_some(args.pause),
        request_id: String::new(),
    };
    let job = client.tune_upload(request).await?;
    let when = when(&job);
    let text = say!(
        "upload of job {id}: asked for{when}\nfollow it:  ctl watch {id}\n",
        "作业 {id} 的上传：已请求调整{when}\n跟踪：  ctl watch {id}\n"
    );
    tell(cx, &job, &text)
}

fn tell(cx: &Cx, job: &v1::Job, text: &str) -> Result<(), Failure> {
    match cx.out.format {
        Format::Table => cx.out.text(text),
        Format::Json | Format::Ndjson => cx.out.json(&json!({ "job": json::job(job) })),
    }
}

fn when(job: &v1::Job) -> &'static str {
    if job.agent_in_contact {
        ""
    } else {
        word!(", once its agent is in contact again", "（待其代理恢复联系后）")
    }
}
