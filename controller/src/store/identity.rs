//! Who may come in, as it is stored: sites, operators, agents, tokens. Certificates are not stored: each one says when it
//! was issued, and a row says from when on they count.

use gantry_proto::{AgentId, v1::Role};
use jiff::Timestamp;

/// A site.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SiteRow {
    /// Its name.
    pub name: String,
    /// When it was added.
    pub added: Timestamp,
    /// Who added it.
    pub added_by: String,
}

/// An operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OperatorRow {
    /// The name, as in the certificate.
    pub name: String,
    /// What they may do.
    pub role: Role,
    /// Only these sites; empty for all.
    pub sites: Vec<String>,
    /// Shut out.
    pub revoked: bool,
    /// Certificates that were issued before count no more.
    pub valid_from: Timestamp,
    /// When the newest certificate ends.
    pub expires: Timestamp,
    /// When they were let in.
    pub added: Timestamp,
    /// Who let them in.
    pub added_by: String,
}

/// An agent that has joined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnrolledRow {
    /// Its id.
    pub agent: AgentId,
    /// Its site.
    pub site: String,
    /// Shut out.
    pub revoked: bool,
    /// Certificates that were issued before count no more.
    pub valid_from: Timestamp,
    /// When the newest certificate ends.
    pub expires: Timestamp,
    /// The key with which it asks to come back, SHA-256 hexadecimal; empty: it does not ask.
    pub returning: String,
    /// The key that an operator has let in, SHA-256 hexadecimal; empty: none.
    pub approved: String,
    /// Until when that holds.
    pub approved_until: Timestamp,
}

/// A token that an agent can use, once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenRow {
    /// SHA-256 of its secret, hexadecimal.
    pub hash: String,
    /// The site to which it leads.
    pub site: String,
    /// The agent that it is for; `None`: one with a new name.
    pub agent: Option<AgentId>,
    /// When it ends.
    pub expires: Timestamp,
    /// Who made it.
    pub made_by: String,
}

/// A change of who may come in.
#[derive(Clone, Debug)]
pub enum IdentityChange {
    /// A site, unless it is there.
    AddSite(SiteRow),
    /// The first admin, unless there is any operator: a new controller, or one that has lost its store.
    FirstAdmin(OperatorRow),
    /// An operator whose name is not there, or revoked.
    AddOperator(OperatorRow),
    /// An operator, whatever was there: who can write the store's file may do so.
    RescueOperator(OperatorRow),
    /// Another role or other sites.
    SetOperator {
        /// Whose.
        name: String,
        /// `None`: as it is.
        role: Option<Role>,
        /// `None`: as they are.
        sites: Option<Vec<String>>,
    },
    /// Shuts an operator out.
    RevokeOperator(String),
    /// A token. Old ones are cleared away.
    AddToken {
        /// The token.
        token: TokenRow,
        /// Now.
        now: Timestamp,
    },
    /// Uses up a token.
    Join(Joining),
    /// An agent's certificate was renewed.
    Renewed {
        /// Whose.
        agent: AgentId,
        /// Its new end.
        expires: Timestamp,
    },
    /// An agent with an expired certificate, issued then, asks to come back with a new key.
    AskReturn {
        /// Which.
        agent: AgentId,
        /// When the expired certificate was issued.
        issued: Timestamp,
        /// SHA-256 of the key, hexadecimal.
        key: String,
        /// Now.
        now: Timestamp,
        /// The end of the certificate that it gets when it was approved.
        expires: Timestamp,
    },
    /// Lets an agent come back that has asked.
    ApproveReturn {
        /// Which.
        agent: AgentId,
        /// With this key; empty: the one that has asked.
        key: String,
        /// Until then.
        until: Timestamp,
    },
    /// Shuts an agent out.
    RevokeAgent {
        /// Which.
        agent: AgentId,
        /// Now.
        now: Timestamp,
    },
}

/// An agent that joins.
#[derive(Clone, Debug)]
pub struct Joining {
    /// SHA-256 of the token's secret, hexadecimal.
    pub hash: String,
    /// The name that it would like.
    pub wish: Option<AgentId>,
    /// SHA-256 of its key, hexadecimal: the same key again is the same joining.
    pub key: String,
    /// Now.
    pub now: Timestamp,
    /// The end of the certificate that it gets.
    pub expires: Timestamp,
}

/// What became of an [`IdentityChange`].
#[derive(Clone, Debug, PartialEq)]
pub enum IdentityChanged {
    /// Done.
    Done,
    /// It was so already; nothing was changed.
    Already,
    /// The operator as stored.
    Operator(OperatorRow),
    /// The agent as stored.
    Agent(EnrolledRow),
    /// The token is stored; `true`: the agent that it names is there.
    Token(bool),
    /// Not now, and nobody can tell when.
    Waiting,
    /// Not done; nothing was changed.
    Refused(IdentityRefused),
}

/// Why a change was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IdentityRefused {
    /// No such site.
    UnknownSite(String),
    /// No such operator.
    UnknownOperator,
    /// No such agent.
    UnknownAgent,
    /// The name is there.
    NameTaken(String),
    /// Nobody else could let anybody in.
    LastAdmin,
    /// An admin has all sites.
    AdminOfSites,
    /// No such token, or it was cleared away long ago.
    TokenUnknown,
    /// It was used, with another key.
    TokenUsed,
    /// It is too old.
    TokenExpired,
    /// It is for an agent with a new name, and none was given.
    NoName,
    /// The agent was shut out.
    Revoked,
    /// Its certificates of that time count no more.
    Replaced,
    /// It has not asked, or with another key, which is this one.
    NotAsked(String),
}
