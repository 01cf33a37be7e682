//! What can be typed behind `ctl site`, `ctl operator` and `ctl agent`: who may come in.

use std::path::PathBuf;

use clap::{Args as ClapArgs, Subcommand};
use gantry_proto::v1::Role;

/// See [`super::Command::Site`].
pub(super) const SITE_HELP: &str = "\
Examples:
  ctl site add shanghai-1
  ctl site list";

/// See [`super::Command::Operator`].
pub(super) const OPERATOR_HELP: &str = "\
Roles: a viewer looks; an operator also deploys, cancels, retries and moves; an admin also lets others in and reads the \
audit log. Every command here needs the role admin.

Examples:
  ctl operator add li --role operator --site shanghai-1 --out ./li
  ctl operator set li --role viewer
  ctl operator list
  ctl operator revoke li";

/// See [`super::Command::Agent`].
pub(super) const AGENT_HELP: &str = "\
Every command here needs the role admin. `ctl agents` lists the agents.

Examples:
  ctl agent token --site shanghai-1
  ctl agent approve bastion-1 --key 9f2c...
  ctl agent revoke bastion-1";

const SITE_ADD_HELP: &str = "\
Adding one that is there changes nothing.

Examples:
  ctl site add shanghai-1";

const SITE_LIST_HELP: &str = "\
Examples:
  ctl site list
  ctl site list -o json";

const OPERATOR_ADD_HELP: &str = "\
The key is made here and is in the directory before the controller is asked; hand the whole directory over to the \
operator over a safe way, and delete it here. An operator limited to sites sees and touches only what belongs to them.

Examples:
  ctl operator add li --role operator --out ./li
  ctl operator add wang --role viewer --site shanghai-1 --site beijing-2 --out ./wang
  ctl --profile ./li/ctl.toml version          what li then can do";

const OPERATOR_SET_HELP: &str = "\
Holds from the next call on; streams that the operator has open end.

Examples:
  ctl operator set li --role admin --all-sites
  ctl operator set li --site shanghai-1 --site beijing-2";

const OPERATOR_LIST_HELP: &str = "\
Examples:
  ctl operator list
  ctl operator list -o json";

const OPERATOR_REVOKE_HELP: &str = "\
The operator is shut out at once, with every certificate made so far. `ctl operator add` lets the name in again, with a \
new key. The last admin cannot be revoked.

Examples:
  ctl operator revoke li";

const TOKEN_HELP: &str = "\
The token is all that stdout gets. It works once, for one agent, and carries the controller's address and the \
fingerprint of its CA; the controller keeps only its hash. Without --agent the agent names itself (as its host is \
named) and cannot take a name that is there. With --agent NAME of an agent that is there, the one that joins takes its \
place, and the older certificates are refused from then on. On its host, leave the token out of the arguments: `agent \
join` asks for it, so that it is in no list of processes.

Examples:
  ctl agent token --site shanghai-1
  ctl agent token --site shanghai-1 --agent bastion-1 --life 30m
  ctl agent token --site shanghai-1 | ssh bastion-1 agent join --no-run";

const APPROVE_HELP: &str = "\
An agent that was out of contact beyond the end of its certificate asks to come back, signed with its old key; it does \
so by itself. Compare the SHA-256 of its new key with the one in its log on its host: `ctl agents` shows it too.

Examples:
  ctl agent approve bastion-1
  ctl agent approve bastion-1 --key 9f2c...";

const REVOKE_HELP: &str = "\
The agent is shut out at once; its session ends. What it has at work stays at its cluster: the jobs can be moved to \
another agent. Until it is stopped on its host it may go on with the step that it is at. \
To let it in again: ctl agent token --site SITE --agent NAME, then agent join TOKEN --again on its host.

Examples:
  ctl agent revoke bastion-1";

/// See [`super::Command::Site`].
#[derive(Debug, Subcommand)]
pub(crate) enum SiteCommand {
    /// Add a site
    #[command(after_help = SITE_ADD_HELP)]
    Add {
        /// Its name
        site: String,
    },
    /// List the sites
    #[command(after_help = SITE_LIST_HELP)]
    List,
}

/// See [`super::Command::Operator`].
#[derive(Debug, Subcommand)]
pub(crate) enum OperatorCommand {
    /// Let somebody in: makes their profile, key included
    #[command(after_help = OPERATOR_ADD_HELP)]
    Add(OperatorAdd),
    /// Change role or sites
    #[command(after_help = OPERATOR_SET_HELP)]
    Set(OperatorSet),
    /// List the operators
    #[command(after_help = OPERATOR_LIST_HELP)]
    List,
    /// Shut somebody out
    #[command(after_help = OPERATOR_REVOKE_HELP)]
    Revoke {
        /// Whom
        name: String,
    },
}

/// See [`OperatorCommand::Add`].
#[derive(Debug, ClapArgs)]
pub(crate) struct OperatorAdd {
    /// Whom
    pub(crate) name: String,
    /// What they may do: viewer, operator or admin
    #[arg(long, value_parser = role)]
    pub(crate) role: Role,
    /// Only this site; may be given several times
    #[arg(long = "site", value_name = "SITE")]
    pub(crate) sites: Vec<String>,
    /// The directory to make, with profile, certificate and key
    #[arg(long, value_name = "DIR")]
    pub(crate) out: PathBuf,
}

/// See [`OperatorCommand::Set`].
#[derive(Debug, ClapArgs)]
pub(crate) struct OperatorSet {
    /// Whose
    pub(crate) name: String,
    /// What they may do from now on: viewer, operator or admin
    #[arg(long, value_parser = role)]
    pub(crate) role: Option<Role>,
    /// Only this site from now on; may be given several times
    #[arg(long = "site", value_name = "SITE", conflicts_with = "all_sites")]
    pub(crate) sites: Vec<String>,
    /// All sites from now on
    #[arg(long)]
    pub(crate) all_sites: bool,
}

/// See [`super::Command::Agent`].
#[derive(Debug, Subcommand)]
pub(crate) enum AgentCommand {
    /// Make a token with which one agent can join, once
    #[command(after_help = TOKEN_HELP)]
    Token(AgentToken),
    /// Let an agent come back whose certificate has expired
    #[command(after_help = APPROVE_HELP)]
    Approve {
        /// Which
        agent: String,
        /// SHA-256 of the key with which it asks
        #[arg(long, value_name = "SHA256", value_parser = sha256)]
        key: Option<String>,
    },
    /// Shut an agent out
    #[command(after_help = REVOKE_HELP)]
    Revoke {
        /// Which
        agent: String,
    },
}

/// See [`AgentCommand::Token`].
#[derive(Debug, ClapArgs)]
pub(crate) struct AgentToken {
    /// The agent's site
    #[arg(long)]
    pub(crate) site: String,
    /// The agent's name; without it the agent names itself
    #[arg(long, value_name = "NAME")]
    pub(crate) agent: Option<String>,
    /// How long it can be used, such as 30m or 4h [default: as the controller is set, 1h]
    #[arg(long, value_name = "TIME", value_parser = life)]
    pub(crate) life: Option<u32>,
}

fn role(text: &str) -> Result<Role, String> {
    Role::of(text).ok_or_else(|| say!("expected viewer, operator or admin", "应为 viewer、operator 或 admin"))
}

fn sha256(text: &str) -> Result<String, String> {
    let whole = text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    if whole {
        Ok(text.to_ascii_lowercase())
    } else {
        Err(say!("expected 64 hexadecimal digits", "应为 64 位十六进制数字"))
    }
}

/// Seconds.
fn life(text: &str) -> Result<u32, String> {
    let count = |unit: char| text.strip_suffix(unit).and_then(|count| count.parse::<u32>().ok());
    let seconds = count('s').or_else(|| count('m')?.checked_mul(60)).or_else(|| count('h')?.checked_mul(3600));
    let seconds = seconds.or_else(|| count('d')?.checked_mul(24 * 3600));
    seconds
        .filter(|seconds| *seconds > 0)
        .ok_or_else(|| say!("expected a time such as 30m, 4h or 1d", "应为时间，如 30m、4h 或 1d"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_and_lives() {
        assert_eq!((role("viewer"), role("admin")), (Ok(Role::Viewer), Ok(Role::Admin)));
        assert!(role("none").is_err() && role("root").is_err());
        assert_eq!([life("90s"), life("30m"), life("4h"), life("1d")], [Ok(90), Ok(1800), Ok(14_400), Ok(86_400)]);
        for bad in ["", "0m", "5", "-1h", "99999999d", "1w"] {
            assert!(life(bad).is_err(), "{bad}");
        }
    }
}
