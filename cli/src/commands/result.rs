//! `ctl result`: the document that later stages read.

use serde_json::Value;

use super::Cx;
use crate::{
    args::Job,
    exit::{Exit, Failure},
    jobref,
};

/// Prints it as it is: it is JSON in every form of output.
pub(crate) async fn run(cx: &Cx, args: &Job) -> Result<(), Failure> {
    let client = cx.connect().await?;
    let id = jobref::resolve(&client, &args.job).await?;
    let answer = client.result(&id.to_string()).await?;
    let document: Value = match answer.result_json.as_slice() {
        [] => Value::Null,
        bytes => serde_json::from_slice(bytes).map_err(|error| {
            Failure::new(Exit::Internal, format!("the result of job {id} is not JSON")).because(error.to_string())
        })?,
    };
    if document.is_null() {
        return Err(Failure::new(Exit::Refused, format!("job {id} has left no result"))
            .because("it ended before an agent began it")
            .remedy(format!("see how it ended: ctl show {id}")));
    }
    cx.out.json(&document)
}
