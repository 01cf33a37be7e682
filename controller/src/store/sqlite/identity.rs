//! Who may come in, in its tables.

use async_trait::async_trait;
use gantry_proto::{AgentId, v1::Role};
use jiff::{SignedDuration, Timestamp};
use sqlx::{Row as _, SqlitePool, sqlite::SqliteRow};

use super::{
    rows,
    writer::{Group, Operation},
};
use crate::store::{
    EnrolledRow, IdentityChange, IdentityChanged, IdentityRefused as Refused, Joining, OperatorRow, SiteRow,
    StoreError, TokenRow,
};

/// How long a used or expired token is remembered, so that its next use can be told what it is.
const TOKENS_KEPT: SignedDuration = SignedDuration::from_hours(30 * 24);

/// See [`crate::store::Store::change_identity`].
pub(super) struct ChangeIdentity(pub(super) IdentityChange);

#[async_trait]
impl Operation for ChangeIdentity {
    type Answer = IdentityChanged;

    async fn apply(&mut self, cx: &mut Group<'_>) -> Result<IdentityChanged, StoreError> {
        let changed = match self.0.clone() {
            IdentityChange::AddSite(site) => cx.add_site(site).await,
            IdentityChange::FirstAdmin(row) => cx.first_admin(row).await,
            IdentityChange::AddOperator(row) => cx.add_operator(row).await,
            IdentityChange::RescueOperator(row) => {
                cx.put_operator(&row).await?;
                Ok(IdentityChanged::Operator(row))
            }
            IdentityChange::SetOperator { name, role, sites } => cx.set_operator(name, role, sites).await,
            IdentityChange::RevokeOperator(name) => cx.revoke_operator(name).await,
            IdentityChange::AddToken { token, now } => cx.add_token(token, now).await,
            IdentityChange::Join(joining) => cx.join(joining).await,
            IdentityChange::Renewed { agent, expires } => cx.renewed(agent, expires).await,
            IdentityChange::AskReturn { agent, issued, key, now, expires } => {
                cx.ask_return(agent, issued, key, now, expires).await
            }
            IdentityChange::ApproveReturn { agent, key, until } => cx.approve_return(agent, key, until).await,
            IdentityChange::RevokeAgent { agent, now } => cx.revoke_agent(agent, now).await,
        };
        match changed {
            Err(Stop::Refused(why)) => Ok(IdentityChanged::Refused(why)),
            Err(Stop::Failed(error)) => Err(error),
            Ok(changed) => Ok(changed),
        }
    }
}

/// Why a change goes no further.
enum Stop {
    Refused(Refused),
    Failed(StoreError),
}

impl From<Refused> for Stop {
    fn from(why: Refused) -> Self {
        Self::Refused(why)
    }
}

impl From<StoreError> for Stop {
    fn from(error: StoreError) -> Self {
        Self::Failed(error)
    }
}

impl From<sqlx::Error> for Stop {
    fn from(error: sqlx::Error) -> Self {
        Self::Failed(error.into())
    }
}

type Change = Result<IdentityChanged, Stop>;

impl Group<'_> {
    async fn add_site(&mut self, site: SiteRow) -> Change {
        let done = sqlx::query("INSERT INTO sites VALUES (?1, ?2, ?3) ON CONFLICT (name) DO NOTHING")
            .bind(site.name)
            .bind(site.added.as_microsecond())
            .bind(site.added_by)
            .execute(&mut *self.connection)
            .await?;
        Ok(if done.rows_affected() == 0 { IdentityChanged::Already } else { IdentityChanged::Done })
    }

    async fn first_admin(&mut self, row: OperatorRow) -> Change {
        let any = sqlx::query("SELECT 1 FROM operators LIMIT 1").fetch_optional(&mut *self.connection).await?;
        if any.is_some() {
            return Ok(IdentityChanged::Already);
        }
        self.put_operator(&row).await?;
        Ok(IdentityChanged::Operator(row))
    }

    async fn add_operator(&mut self, row: OperatorRow) -> Change {
        if self.operator(&row.name).await?.is_some_and(|known| !known.revoked) {
            return Err(Refused::NameTaken(row.name).into());
        }
        self.scope(row.role, &row.sites).await?;
        self.put_operator(&row).await?;
        Ok(IdentityChanged::Operator(row))
    }

    async fn set_operator(&mut self, name: String, role: Option<Role>, sites: Option<Vec<String>>) -> Change {
        let known = self.operator(&name).await?.filter(|known| !known.revoked);
        let mut row = known.ok_or(Refused::UnknownOperator)?;
        row.role = role.unwrap_or(row.role);
        row.sites = sites.unwrap_or(row.sites);
        self.scope(row.role, &row.sites).await?;
        if row.role != Role::Admin {
            self.another_admin(&name).await?;
        }
        self.put_operator(&row).await?;
        Ok(IdentityChanged::Operator(row))
    }

    async fn revoke_operator(&mut self, name: String) -> Change {
        let mut row = self.operator(&name).await?.ok_or(Refused::UnknownOperator)?;
        self.another_admin(&name).await?;
        row.revoked = true;
        self.put_operator(&row).await?;
        Ok(IdentityChanged::Operator(row))
    }

    /// Whether these sites are there, and may be set for the role.
    async fn scope(&mut self, role: Role, sites: &[String]) -> Result<(), Stop> {
        if role == Role::Admin && !sites.is_empty() {
            return Err(Refused::AdminOfSites.into());
        }
        for site in sites {
            self.site(site).await?;
        }
        Ok(())
    }

    async fn site(&mut self, site: &str) -> Result<(), Stop> {
        let found = sqlx::query("SELECT 1 FROM sites WHERE name = ?1").bind(site.to_owned());
        let found = found.fetch_optional(&mut *self.connection).await?;
        found.map(|_| ()).ok_or_else(|| Refused::UnknownSite(site.to_owned()).into())
    }

    async fn another_admin(&mut self, than: &str) -> Result<(), Stop> {
        let other = sqlx::query("SELECT 1 FROM operators WHERE role = ?1 AND revoked = 0 AND name <> ?2 LIMIT 1")
            .bind(i32::from(Role::Admin))
            .bind(than.to_owned())
            .fetch_optional(&mut *self.connection)
            .await?;
        other.map(|_| ()).ok_or_else(|| Refused::LastAdmin.into())
    }

    async fn operator(&mut self, name: &str) -> Result<Option<OperatorRow>, StoreError> {
        let row = sqlx::query(OPERATOR).bind(name.to_owned()).fetch_optional(&mut *self.connection).await?;
        row.as_ref().map(operator_row).transpose()
    }

    async fn put_operator(&mut self, row: &OperatorRow) -> Result<(), StoreError> {
        sqlx::query("INSERT OR REPLACE INTO operators VALUES (?, ?, ?, ?, ?, ?, ?, ?)")
            .bind(&row.name)
            .bind(i32::from(row.role))
            .bind(serde_json::Value::from_iter(row.sites.iter().cloned()).to_string())
            .bind(i64::from(row.revoked))
            .bind(row.valid_from.as_microsecond())
            .bind(row.expires.as_microsecond())
            .bind(row.added.as_microsecond())
            .bind(&row.added_by)
            .execute(&mut *self.connection)
            .await?;
        Ok(())
    }

    async fn add_token(&mut self, token: TokenRow, now: Timestamp) -> Change {
        self.site(&token.site).await?;
        let known = match &token.agent {
            Some(agent) => self.enrolled(agent).await?,
            None => None,
        };
        if let Some(known) = &known
            && known.site != token.site
        {
            return Err(Refused::NameTaken(format!("{} of site {}", known.agent, known.site)).into());
        }
        let old = now.saturating_sub(TOKENS_KEPT).unwrap_or(Timestamp::MIN);
        sqlx::query("DELETE FROM tokens WHERE expires < ?1")
            .bind(old.as_microsecond())
            .execute(&mut *self.connection)
            .await?;
        sqlx::query("INSERT INTO tokens VALUES (?, ?, ?, ?, ?, '', '')")
            .bind(token.hash)
            .bind(token.site)
            .bind(token.agent.map(|agent| agent.to_string()).unwrap_or_default())
            .bind(token.expires.as_microsecond())
            .bind(token.made_by)
            .execute(&mut *self.connection)
            .await?;
        Ok(IdentityChanged::Token(known.is_some()))
    }

    async fn join(&mut self, joining: Joining) -> Change {
        let Joining { hash, wish, key, now, expires } = joining;
        let token = sqlx::query("SELECT * FROM tokens WHERE hash = ?1").bind(hash.clone());
        let token = token.fetch_optional(&mut *self.connection).await?.ok_or(Refused::TokenUnknown)?;
        let (site, named): (String, String) = (token.try_get("site")?, token.try_get("agent_id")?);
        let (used_by, used_key): (String, String) = (token.try_get("used_by")?, token.try_get("used_key")?);
        if rows::time(token.try_get("expires")?)? <= now {
            return Err(Refused::TokenExpired.into());
        }
        if !used_by.is_empty() {
            let row = self.enrolled(&agent_id(&used_by)?).await?.ok_or(Refused::UnknownAgent)?;
            // The answer was lost: the same joining again.
            return if used_key != key {
                Err(Refused::TokenUsed.into())
            } else if row.revoked {
                Err(Refused::Revoked.into())
            } else {
                Ok(IdentityChanged::Agent(row))
            };
        }
        let agent = if named.is_empty() { wish.ok_or(Refused::NoName)? } else { agent_id(&named)? };
        if named.is_empty() && self.enrolled(&agent).await?.is_some() {
            return Err(Refused::NameTaken(agent.to_string()).into());
        }
        sqlx::query("UPDATE tokens SET used_by = ?2, used_key = ?3 WHERE hash = ?1")
            .bind(hash)
            .bind(agent.as_str().to_owned())
            .bind(key)
            .execute(&mut *self.connection)
            .await?;
        let row = EnrolledRow {
            agent,
            site,
            revoked: false,
            valid_from: now,
            expires,
            returning: String::new(),
            approved: String::new(),
            approved_until: Timestamp::UNIX_EPOCH,
        };
        self.put_enrolled(&row).await?;
        Ok(IdentityChanged::Agent(row))
    }

    async fn renewed(&mut self, agent: AgentId, expires: Timestamp) -> Change {
        let mut row = self.enrolled(&agent).await?.ok_or(Refused::UnknownAgent)?;
        if row.revoked {
            return Err(Refused::Revoked.into());
        }
        row.expires = row.expires.max(expires);
        // Whoever is here has come back.
        row.returning = String::new();
        row.approved = String::new();
        self.put_enrolled(&row).await?;
        Ok(IdentityChanged::Agent(row))
    }

    async fn ask_return(
        &mut self,
        agent: AgentId,
        issued: Timestamp,
        key: String,
        now: Timestamp,
        expires: Timestamp,
    ) -> Change {
        let mut row = self.enrolled(&agent).await?.ok_or(Refused::UnknownAgent)?;
        if row.revoked {
            return Err(Refused::Revoked.into());
        }
        if issued < row.valid_from {
            return Err(Refused::Replaced.into());
        }
        // The approval stays until its end: the answer with the certificate may get lost.
        if row.approved == key && now < row.approved_until {
            row.expires = row.expires.max(expires);
            row.returning = String::new();
            self.put_enrolled(&row).await?;
            return Ok(IdentityChanged::Agent(row));
        }
        if row.returning != key {
            row.returning = key;
            self.put_enrolled(&row).await?;
        }
        Ok(IdentityChanged::Waiting)
    }

    async fn approve_return(&mut self, agent: AgentId, key: String, until: Timestamp) -> Change {
        let mut row = self.enrolled(&agent).await?.ok_or(Refused::UnknownAgent)?;
        if row.revoked {
            return Err(Refused::Revoked.into());
        }
        if row.returning.is_empty() || !(key.is_empty() || key == row.returning) {
            return Err(Refused::NotAsked(row.returning).into());
        }
        row.approved.clone_from(&row.returning);
        row.approved_until = until;
        self.put_enrolled(&row).await?;
        Ok(IdentityChanged::Agent(row))
    }

    async fn revoke_agent(&mut self, agent: AgentId, now: Timestamp) -> Change {
        let mut row = self.enrolled(&agent).await?.ok_or(Refused::UnknownAgent)?;
        row.revoked = true;
        row.valid_from = row.valid_from.max(now);
        row.returning = String::new();
        row.approved = String::new();
        self.put_enrolled(&row).await?;
        Ok(IdentityChanged::Agent(row))
    }

    async fn enrolled(&mut self, agent: &AgentId) -> Result<Option<EnrolledRow>, StoreError> {
        let row = sqlx::query(ENROLLED).bind(agent.as_str().to_owned()).fetch_optional(&mut *self.connection).await?;
        row.as_ref().map(enrolled_row).transpose()
    }

    async fn put_enrolled(&mut self, row: &EnrolledRow) -> Result<(), StoreError> {
        sqlx::query("INSERT OR REPLACE INTO enrolled VALUES (?, ?, ?, ?, ?, ?, ?, ?)")
            .bind(row.agent.as_str())
            .bind(&row.site)
            .bind(i64::from(row.revoked))
            .bind(row.valid_from.as_microsecond())
            .bind(row.expires.as_microsecond())
            .bind(&row.returning)
            .bind(&row.approved)
            .bind(row.approved_until.as_microsecond())
            .execute(&mut *self.connection)
            .await?;
        Ok(())
    }
}

const OPERATOR: &str = "SELECT * FROM operators WHERE name = ?1";
const ENROLLED: &str = "SELECT * FROM enrolled WHERE agent_id = ?1";

/// See [`crate::store::Store::operator`].
pub(super) async fn operator(readers: &SqlitePool, name: &str) -> Result<Option<OperatorRow>, StoreError> {
    let row = sqlx::query(OPERATOR).bind(name.to_owned()).fetch_optional(readers).await?;
    row.as_ref().map(operator_row).transpose()
}

/// See [`crate::store::Store::operators`].
pub(super) async fn operators(readers: &SqlitePool) -> Result<Vec<OperatorRow>, StoreError> {
    let rows = sqlx::query("SELECT * FROM operators ORDER BY name").fetch_all(readers).await?;
    rows.iter().map(operator_row).collect()
}

/// See [`crate::store::Store::enrolled`].
pub(super) async fn enrolled(readers: &SqlitePool, agent: &AgentId) -> Result<Option<EnrolledRow>, StoreError> {
    let row = sqlx::query(ENROLLED).bind(agent.as_str().to_owned()).fetch_optional(readers).await?;
    row.as_ref().map(enrolled_row).transpose()
}

/// See [`crate::store::Store::enrollments`].
pub(super) async fn enrollments(readers: &SqlitePool) -> Result<Vec<EnrolledRow>, StoreError> {
    let rows = sqlx::query("SELECT * FROM enrolled ORDER BY site, agent_id").fetch_all(readers).await?;
    rows.iter().map(enrolled_row).collect()
}

/// See [`crate::store::Store::sites`].
pub(super) async fn sites(readers: &SqlitePool) -> Result<Vec<SiteRow>, StoreError> {
    let rows = sqlx::query("SELECT * FROM sites ORDER BY name").fetch_all(readers).await?;
    let site = |row: &SqliteRow| {
        Ok(SiteRow {
            name: row.try_get("name")?,
            added: rows::time(row.try_get("added")?)?,
            added_by: row.try_get("added_by")?,
        })
    };
    rows.iter().map(site).collect()
}

fn operator_row(row: &SqliteRow) -> Result<OperatorRow, StoreError> {
    let sites: &str = row.try_get("sites")?;
    Ok(OperatorRow {
        name: row.try_get("name")?,
        role: Role::try_from(row.try_get::<i32, _>("role")?).map_err(|_| StoreError::Corrupt("role of an operator"))?,
        sites: serde_json::from_str(sites).map_err(|_| StoreError::Corrupt("sites of an operator"))?,
        revoked: row.try_get("revoked")?,
        valid_from: rows::time(row.try_get("valid_from")?)?,
        expires: rows::time(row.try_get("expires")?)?,
        added: rows::time(row.try_get("added")?)?,
        added_by: row.try_get("added_by")?,
    })
}

fn enrolled_row(row: &SqliteRow) -> Result<EnrolledRow, StoreError> {
    Ok(EnrolledRow {
        agent: agent_id(row.try_get("agent_id")?)?,
        site: row.try_get("site")?,
        revoked: row.try_get("revoked")?,
        valid_from: rows::time(row.try_get("valid_from")?)?,
        expires: rows::time(row.try_get("expires")?)?,
        returning: row.try_get("asking_key")?,
        approved: row.try_get("approved")?,
        approved_until: rows::time(row.try_get("approved_until")?)?,
    })
}

fn agent_id(text: &str) -> Result<AgentId, StoreError> {
    text.parse().map_err(|_| StoreError::Corrupt("agent id"))
}
