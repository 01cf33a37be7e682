//! `ctl agent`: how agents come in, come back, and are shut out.

use gantry_proto::v1;
use serde_json::json;

use super::Cx;
use crate::{
    args::{AgentCommand, AgentToken, Format},
    exit::Failure,
    render::{text::clean, units},
};

/// Makes a token, approves or revokes.
pub(crate) async fn run(cx: &Cx, command: AgentCommand) -> Result<(), Failure> {
    match command {
        AgentCommand::Token(args) => token(cx, args).await,
        AgentCommand::Approve { agent, key } => approve(cx, &agent, key.unwrap_or_default()).await,
        AgentCommand::Revoke { agent } => revoke(cx, &agent).await,
    }
}

async fn token(cx: &Cx, args: AgentToken) -> Result<(), Failure> {
    let AgentToken { site, agent, life } = args;
    let wish = v1::MakeTokenRequest { site, agent_id: agent.clone().unwrap_or_default(), life_s: life.unwrap_or(0) };
    let answer = cx.connect().await?.make_token(wish).await?;
    let expires = units::from_micros(answer.expires_micros).map(|at| at.to_string());
    match cx.out.format {
        Format::Table => {
            cx.out.text(&answer.token)?;
            let until = expires.unwrap_or_default();
            cx.out.note(&say!(
                "works once, until {until}; on the agent's host: agent join, then paste it",
                "仅可使用一次，有效期至 {until}；在代理主机上执行 agent join 后粘贴"
            ));
            if answer.replaces {
                let agent = agent.unwrap_or_default();
                cx.out.note(&say!(
                    "warning: agent {agent} is there; the one that joins with this token takes its place (on the same \
                     host: agent join --again)",
                    "警告：代理 {agent} 已存在；用此令牌加入的代理将取代它（同一主机上：agent join --again）"
                ));
            }
            Ok(())
        }
        Format::Json | Format::Ndjson => {
            cx.out.json(&json!({ "token": answer.token, "expires": expires, "replaces": answer.replaces }))
        }
    }
}

async fn approve(cx: &Cx, agent: &str, key_sha256: String) -> Result<(), Failure> {
    let wish = v1::ApproveAgentRequest { agent_id: agent.to_owned(), key_sha256 };
    let answer = cx.connect().await?.approve_agent(wish).await?;
    let until = units::from_micros(answer.until_micros).map(|at| at.to_string());
    match cx.out.format {
        Format::Table => cx.out.text(&say!(
            "agent {agent} may come back with the key of sha256 {key}, until {until}",
            "代理 {agent} 可使用 SHA-256 为 {key} 的密钥恢复，有效期至 {until}";
            key = clean(&answer.key_sha256), until = until.unwrap_or_default()
        )),
        Format::Json | Format::Ndjson => {
            cx.out.json(&json!({ "agent_id": agent, "key_sha256": answer.key_sha256, "until": until }))
        }
    }
}

async fn revoke(cx: &Cx, agent: &str) -> Result<(), Failure> {
    let wish = v1::RevokeAgentRequest { agent_id: agent.to_owned() };
    let active_jobs = cx.connect().await?.revoke_agent(wish).await?.active_jobs;
    match cx.out.format {
        Format::Table => cx.out.text(&say!("agent {agent} is shut out", "代理 {agent} 已吊销"))?,
        Format::Json | Format::Ndjson => cx.out.json(&json!({ "agent_id": agent, "active_jobs": active_jobs }))?,
    }
    if active_jobs > 0 {
        cx.out.note(&say!(
            "warning: it has {active_jobs} unfinished jobs, and may go on with the step that each is at: stop it on its \
             host, then give each job to another agent with `ctl move JOB --agent AGENT --plan FILE --old-agent-is-off`; \
             see `ctl jobs --active`",
            "警告：它有 {active_jobs} 个未结束的作业，可能继续执行各自的当前步骤：请在其主机上停止它，再用 `ctl move JOB --agent \
             AGENT --plan FILE --old-agent-is-off` 将各作业移交其他代理；见 `ctl jobs --active`"
        ));
    }
    Ok(())
}
