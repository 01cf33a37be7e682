//! `ctl result`: the document that later stages read, and the workbook that gets the licence serial of it.

mod write_back;

use serde_json::Value;

use super::Cx;
use crate::{
    args::JobResult,
    exit::{Exit, Failure},
    jobref,
};
use write_back::WriteBack;

/// Prints it as it is: it is JSON in every form of output.
pub(crate) async fn run(cx: &Cx, args: JobResult) -> Result<(), Failure> {
    let JobResult { job, workbook, from, set, force } = args;
    let write_back = match (workbook, from) {
        (Some(out), Some(from)) => Some(WriteBack::prepare(cx, &out, &from, &set, force)?),
        _ => None,
    };
    let client = cx.connect().await?;
    let id = jobref::resolve(&client, &job.job).await?;
    let answer = client.result(&id.to_string()).await?;
    let mut document: Value = match answer.result_json.as_slice() {
        [] => Value::Null,
        bytes => serde_json::from_slice(bytes).map_err(|error| {
            Failure::new(Exit::Internal, said!("the result of job {id} is not JSON", "作业 {id} 的结果不是 JSON"))
                .because(error.to_string())
        })?,
    };
    if document.is_null() {
        return Err(Failure::new(Exit::Refused, said!("job {id} has left no result", "作业 {id} 没有结果"))
            .because(said!("it ended before an agent began it", "它在代理开始执行之前就已结束"))
            .remedy(said!("see how it ended: ctl show {id}", "查看其如何结束：ctl show {id}")));
    }
    if let Some(write_back) = write_back {
        write_back.carry_out(cx, &client, id, &mut document).await?;
    }
    cx.out.json(&document)
}
