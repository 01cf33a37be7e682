//! `ctl move`: another agent of the site goes on with a job.

use std::io::{self, BufRead as _, IsTerminal as _, Read as _};

use gantry_proto::{Verdict, ended::is_final, v1};
use serde_json::json;

use super::{Cx, plan, watch};
use crate::{
    args::{Format, Move},
    client::Client,
    exit::{Exit, Failure},
    jobref, refusal,
    render::json,
    workbook,
};

/// Longest answer that is read from the terminal, bytes.
const ANSWER_MAX: u64 = 256;

/// Asks, and follows if that is wanted.
pub(crate) async fn run(cx: &Cx, args: Move) -> Result<(), Failure> {
    let name = workbook::name(&args.plan);
    let bytes = match workbook::read(&args.plan) {
        Ok(bytes) => bytes,
        Err(problem) => return plan::reject(cx.out, &name, Verdict::Unreadable, &[*problem]),
    };
    let client = cx.connect().await?;
    let id = jobref::resolve(&client, &args.job.job).await?;
    if args.old_agent_is_off {
        vouch(cx, &client, &id.to_string(), args.yes).await?;
    }
    let request = v1::MoveJobRequest {
        job_id: id.to_string(),
        agent_id: args.agent.clone(),
        workbook: bytes,
        file_name: name.clone(),
        overrides: args.set.into_iter().collect(),
        old_agent_is_off: args.old_agent_is_off,
        request_id: String::new(),
    };
    let answer = client.relocate(request).await?;
    if let Some(rejected) = answer.rejected {
        let verdict = Verdict::try_from(rejected.verdict()).unwrap_or(Verdict::Invalid);
        return plan::reject(cx.out, &name, verdict, &workbook::problems(rejected.problems));
    }
    let job = answer.job.ok_or_else(|| refusal::incomplete(client.url(), "job"))?;
    let document = json!({ "job": json::job(&job), "moved": answer.moved });
    let text = if answer.moved { moved(&job) } else { asked(&job) };
    if args.watch {
        if cx.out.format == Format::Table {
            cx.out.note(&text);
        }
        return watch::to_the_end(cx, &client, id, job.last_seq + 1, json!({ "move": document })).await;
    }
    match cx.out.format {
        Format::Table => cx.out.text(&say!("{text}follow it:  ctl watch {id}\n", "{text}跟踪：  ctl watch {id}\n")),
        Format::Json | Format::Ndjson => cx.out.json(&document),
    }
}

fn moved(job: &v1::Job) -> String {
    let when = match job.agent_in_contact {
        true => word!("gets it now", "立即接收"),
        false => word!("gets it when it is in contact", "恢复联系后接收"),
    };
    let (id, epoch, agent) = (&job.job_id, job.epoch, &job.agent_id);
    say!(
        "job {id} is moved, its epoch is {epoch}; agent {agent} {when}\n",
        "作业 {id} 已移交，轮次 {epoch}；代理 {agent} {when}\n"
    )
}

/// The agent that has the job is to let go of it first.
fn asked(job: &v1::Job) -> String {
    let (id, from, to) = (&job.job_id, &job.agent_id, &job.moving_to);
    // Repeated after the answer was lost: the job may have ended, or its agent refused, meanwhile.
    if to.is_empty() {
        let why = if job.refusal.is_empty() { word!("see ctl show", "见 ctl show") } else { &job.refusal };
        return say!("job {id} stays at agent {from}: {why}\n", "作业 {id} 仍由代理 {from} 执行：{why}\n");
    }
    let how = if job.agent_in_contact {
        word!("it is in contact, and stops at its next safe point", "在线，将在下一个安全点停止")
    } else {
        word!(
            "it is out of contact, and hears of it when it is back; if it is off for good, give the same command with \
             --old-agent-is-off",
            "失联，恢复联系后得知；若已彻底关机，请加上 --old-agent-is-off 重新执行该命令"
        )
    };
    say!(
        "agent {from} is asked to let go of job {id}, then agent {to} gets it\nagent {from}: {how}\n",
        "已请求代理 {from} 交出作业 {id}，随后由代理 {to} 接手\n代理 {from}：{how}\n"
    )
}

/// Says what the operator vouches for, and makes sure that it is meant.
async fn vouch(cx: &Cx, client: &Client, id: &str, yes: bool) -> Result<(), Failure> {
    let answer = client.get(id).await?;
    let job = answer.job.ok_or_else(|| refusal::incomplete(client.url(), "job"))?;
    // A job that has ended is in nobody's hands.
    if is_final(job.state()) {
        return Ok(());
    }
    let agent = &job.agent_id;
    let mut text = say!(
        "warning: you vouch that agent {agent} is off, and will not go on with job {id}. If that is wrong, two agents are \
         at work on one cluster: two VMs, or a VM that one makes and the other removes. It is recorded in the job's log.",
        "警告：您担保代理 {agent} 已关机，不会再继续作业 {id}。若与事实不符，将有两个代理同时操作一个集群：可能出现两台虚拟机，或一方创建而另一方删除。此担保会记入作业日志。"
    );
    if job.agent_in_contact {
        text.push_str(&say!(
            "\nwarning: agent {agent} is in contact right now: it is not off",
            "\n警告：代理 {agent} 此刻在线，并未关机"
        ));
    }
    cx.out.note(&cx.out.paint_err.warn(&text));
    if yes {
        return Ok(());
    }
    if !io::stdin().is_terminal() {
        return Err(Failure::usage(said!(
            "--old-agent-is-off needs --yes where nobody can be asked",
            "无法交互确认时，--old-agent-is-off 须与 --yes 同用"
        ))
        .remedy(said!(
            "make sure that the agent is off, then give the same command with --yes",
            "请确认代理已关机，再加上 --yes 重新执行该命令"
        )));
    }
    cx.out.note(&say!("type the agent's name ({agent}) to go on:", "输入代理名称（{agent}）以继续："));
    match tokio::task::spawn_blocking(read_line).await {
        Ok(Ok(typed)) if typed.trim() == agent => Ok(()),
        _ => Err(Failure::new(
            Exit::Usage,
            said!("the agent's name was not typed: nothing was changed", "未输入代理名称：未作任何更改"),
        )),
    }
}

fn read_line() -> io::Result<String> {
    let mut line = String::new();
    io::BufReader::new(io::stdin().lock().take(ANSWER_MAX)).read_line(&mut line)?;
    Ok(line)
}
