//! How agents present themselves.

use async_trait::async_trait;
use gantry_proto::{AgentId, v1};
use jiff::Timestamp;
use prost::Message as _;

use crate::store::{
    AgentRow, StoreError,
    sqlite::writer::{Group, Operation},
};

/// See [`crate::store::Store::put_agent`].
pub(in crate::store::sqlite) struct PutAgent(pub(in crate::store::sqlite) AgentRow);

#[async_trait]
impl Operation for PutAgent {
    type Answer = ();

    async fn apply(&mut self, cx: &mut Group<'_>) -> Result<(), StoreError> {
        let agent = &self.0;
        let isos = v1::IsoList { isos: agent.isos.clone() }.encode_to_vec();
        sqlx::query(
            "INSERT INTO agents (id, site, version, boot_id, sealing_key, isos, remote_address, seen)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
             ON CONFLICT (id) DO UPDATE SET site = ?2, version = ?3, boot_id = ?4, sealing_key = ?5, isos = ?6,
                                            remote_address = ?7, seen = ?8",
        )
        .bind(agent.id.as_str())
        .bind(&agent.site)
        .bind(&agent.version)
        .bind(&agent.boot_id)
        .bind(&agent.sealing_key)
        .bind(isos)
        .bind(&agent.remote_address)
        .bind(agent.seen.as_microsecond())
        .execute(&mut *cx.connection)
        .await?;
        Ok(())
    }
}

/// See [`crate::store::Store::touch_agent`].
pub(in crate::store::sqlite) struct TouchAgent(
    pub(in crate::store::sqlite) AgentId,
    pub(in crate::store::sqlite) Timestamp,
);

#[async_trait]
impl Operation for TouchAgent {
    type Answer = ();

    async fn apply(&mut self, cx: &mut Group<'_>) -> Result<(), StoreError> {
        sqlx::query("UPDATE agents SET seen = max(seen, ?2) WHERE id = ?1")
            .bind(self.0.as_str())
            .bind(self.1.as_microsecond())
            .execute(&mut *cx.connection)
            .await?;
        Ok(())
    }
}
