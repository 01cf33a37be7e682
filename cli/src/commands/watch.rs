//! `ctl watch`, and what `deploy --watch` does after the submit: follows a job to its end.

use std::{pin::pin, time::Duration};

use gantry_proto::JobId;
use serde_json::Value;
use tokio::signal::unix::{SignalKind, signal};

use super::Cx;
use crate::{
    args::{Format, Watch},
    client::Client,
    exit::{Exit, Failure},
    follow::{Follow, Heard, Known},
    jobref,
    output::Output,
    render::{
        ending::{Detail, Ending},
        json, question,
        terminal::Key,
    },
    show::Show,
};

/// How often a live screen is drawn when nothing is heard.
const TICK: Duration = Duration::from_millis(500);

/// Finds the job and follows it.
pub(crate) async fn run(cx: &Cx, args: &Watch) -> Result<(), Failure> {
    let client = cx.connect().await?;
    let job = jobref::resolve(&client, &args.job.job).await?;
    to_the_end(cx, &client, job, args.from_seq, Value::Null).await
}

/// Follows a job and tells events from number `from` on. `more` goes into the document of `-o json`.
pub(crate) async fn to_the_end(cx: &Cx, client: &Client, job: JobId, from: u64, more: Value) -> Result<(), Failure> {
    let mut show = Show::new(cx.out, from);
    // Lines of JSON need no history; a screen needs the step table, which is the first event.
    let after = if cx.out.format == Format::Ndjson { from.saturating_sub(1) } else { 0 };
    let mut follow = Follow::open(client, job, after, true).await?;
    let mut known = Known::default();
    let end = listen(&mut follow, &mut known, &mut show).await;
    show.end(&known);
    match end? {
        End::Detached => {
            let next = known.view.last_seq.max(after) + 1;
            cx.out.note(&say!(
                "detached; job {job} goes on. Follow it again: ctl watch {job} --from-seq {next}",
                "已离开，作业 {job} 仍在继续。再次跟踪：ctl watch {job} --from-seq {next}"
            ));
            Ok(())
        }
        End::NeedsOperator => {
            document(cx.out, &known, more)?;
            Err(question::failure(&job.to_string(), known.question().as_ref()))
        }
        End::Over => conclude(cx.out, &known, more),
    }
}

/// Why following has stopped.
enum End {
    Over,
    Detached,
    NeedsOperator,
}

async fn listen(follow: &mut Follow, known: &mut Known, show: &mut Show) -> Result<End, Failure> {
    let mut tick = tokio::time::interval(TICK);
    let mut interrupt = pin!(tokio::signal::ctrl_c());
    let mut ended = pin!(asked_to_end());
    loop {
        let heard = {
            let mut next = pin!(follow.next());
            loop {
                tokio::select! {
                    biased;
                    // Where no handler can be set, the default one ends the process, which detaches too.
                    Ok(()) = &mut interrupt => return Ok(End::Detached),
                    () = &mut ended => return Ok(End::Detached),
                    key = show.key() => match key {
                        Key::Detach => return Ok(End::Detached),
                        key => show.pressed(key, known),
                    },
                    heard = &mut next => break heard?,
                    _ = tick.tick() => show.tick(known),
                }
            }
        };
        known.take(&heard);
        show.heard(&heard, known)?;
        match &heard {
            Heard::End => return Ok(End::Over),
            Heard::Event(_) if known.is_told() => return Ok(End::Over),
            Heard::Job(_) if known.needs_operator() => return Ok(End::NeedsOperator),
            _ => {}
        }
    }
}

/// The terminal is closed, or the process is to end: in either case the terminal has to be given back first.
async fn asked_to_end() {
    let (hangup, terminate) = (signal(SignalKind::hangup()), signal(SignalKind::terminate()));
    let (Ok(mut hangup), Ok(mut terminate)) = (hangup, terminate) else { return std::future::pending().await };
    tokio::select! {
        _ = hangup.recv() => {}
        _ = terminate.recv() => {}
    }
}

/// Tells how the job ended; the exit code is the outcome's.
fn conclude(out: Output, known: &Known, more: Value) -> Result<(), Failure> {
    let Some(end) = Ending::of(known) else {
        return Err(unfinished());
    };
    let exit = end.exit();
    document(out, known, more)?;
    let columns = out.columns();
    // Where the last picture stays in sight, the times of the steps are on it.
    let detail = |seen: bool| if seen { Detail::WithoutSteps } else { Detail::WithSteps };
    if exit != Exit::Done {
        out.note(&end.text(out.paint_err, columns, detail(out.screen)));
        return Err(Failure::Told(exit));
    }
    if out.format == Format::Table {
        out.text(&end.text(out.paint, columns, detail(out.screen && out.stdout_is_terminal)))?;
    }
    Ok(())
}

/// The stream is over and the job is not.
pub(super) fn unfinished() -> Failure {
    Failure::new(
        Exit::Internal,
        said!("the controller ended the stream of a job that has not ended", "作业尚未结束，控制器却结束了事件流"),
    )
}

/// The one document of `-o json`.
fn document(out: Output, known: &Known, more: Value) -> Result<(), Failure> {
    if out.format != Format::Json {
        return Ok(());
    }
    let mut document = json::known(known);
    if let (Value::Object(document), Value::Object(more)) = (&mut document, more) {
        document.extend(more);
    }
    out.json(&document)
}
