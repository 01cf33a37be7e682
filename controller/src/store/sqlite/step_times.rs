//! What steps have taken, by site, for estimates: the newest ones only.

use gantry_proto::{Body, Event};
use sqlx::{Row as _, SqliteConnection, SqlitePool};

use crate::store::StoreError;

/// Times that are kept of a site: some fifty jobs.
const KEPT: i64 = 1_000;
/// Times of other sites that are read.
const ELSEWHERE: i64 = 2_000;

/// Keeps what these events tell of steps that ended well.
pub(super) async fn keep(
    connection: &mut SqliteConnection,
    site: &str,
    events: impl Iterator<Item = &Event>,
) -> Result<(), StoreError> {
    let mut new = 0;
    for event in events {
        let Body::StepSucceeded { step, elapsed_ms } = &event.body else { continue };
        sqlx::query("INSERT INTO step_times (site, step, seconds) VALUES (?1, ?2, ?3)")
            .bind(site)
            .bind(step.as_str())
            .bind(*elapsed_ms as f64 / 1_000.0)
            .execute(&mut *connection)
            .await?;
        new += 1;
    }
    if new > 0 {
        sqlx::query(
            "DELETE FROM step_times WHERE site = ?1 AND number <=
             (SELECT number FROM step_times WHERE site = ?1 ORDER BY number DESC LIMIT 1 OFFSET ?2)",
        )
        .bind(site)
        .bind(KEPT)
        .execute(&mut *connection)
        .await?;
    }
    Ok(())
}

/// See [`crate::store::Store::step_times`].
pub(super) async fn read(
    readers: &SqlitePool,
    site: &str,
) -> Result<(Vec<(String, f64)>, Vec<(String, f64)>), StoreError> {
    let rows = sqlx::query(
        "SELECT * FROM (SELECT step, seconds, 1 AS home FROM step_times WHERE site = ?1)
         UNION ALL
         SELECT * FROM (SELECT step, seconds, 0 AS home FROM step_times WHERE site <> ?1 ORDER BY number DESC LIMIT ?2)",
    )
    .bind(site)
    .bind(ELSEWHERE)
    .fetch_all(readers)
    .await?;
    let (mut at_home, mut elsewhere) = (Vec::new(), Vec::new());
    for row in rows {
        let time = (row.try_get::<String, _>(0)?, row.try_get::<f64, _>(1)?);
        if row.try_get::<i64, _>(2)? == 1 { at_home.push(time) } else { elsewhere.push(time) }
    }
    Ok((at_home, elsewhere))
}
