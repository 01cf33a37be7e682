//! The tables, and how an older file becomes a newer one.

use sqlx::{Connection as _, SqliteConnection, raw_sql};

use crate::store::StoreError;

/// Each entry takes the file one form further. Entries are only ever added.
const MIGRATIONS: &[&str] = &["
    CREATE TABLE agents (
        id             TEXT PRIMARY KEY,
        site           TEXT NOT NULL,
        version        TEXT NOT NULL,
        boot_id        TEXT NOT NULL,
        sealing_key    BLOB NOT NULL,
        isos           BLOB NOT NULL,             -- protobuf IsoList
        remote_address TEXT NOT NULL,
        seen           INTEGER NOT NULL,          -- microseconds since 1970, as every time here
        next_order     INTEGER NOT NULL DEFAULT 1
    ) STRICT;
    CREATE TABLE jobs (
        id              TEXT PRIMARY KEY,
        epoch           INTEGER NOT NULL,
        site            TEXT NOT NULL,
        agent_id        TEXT NOT NULL,
        created         INTEGER NOT NULL,
        submitted_by    TEXT NOT NULL,
        file_name       TEXT NOT NULL,
        plan            BLOB NOT NULL,            -- protobuf PlanDocument: no secret in it
        plan_sha256     BLOB NOT NULL,
        cluster         TEXT NOT NULL,
        vm_name         TEXT NOT NULL,
        cloudtower_ip   TEXT NOT NULL,
        target          TEXT NOT NULL,
        keep_on_failure INTEGER NOT NULL,
        cancel          INTEGER NOT NULL,         -- CancelStage
        -- From here on: what the log adds up to, written in the transaction that appends to it.
        state           INTEGER NOT NULL,         -- JobState
        last_seq        INTEGER NOT NULL,
        started         INTEGER,
        finished        INTEGER,
        outcome         INTEGER NOT NULL,         -- JobOutcome
        undo            INTEGER NOT NULL,         -- UndoState
        failure         BLOB,                     -- protobuf Failure
        percent         REAL NOT NULL,
        current_step    TEXT NOT NULL,
        current_share   REAL NOT NULL,
        result          BLOB,                     -- JSON
        active          INTEGER NOT NULL          -- 1 until the job has ended
    ) STRICT;
    CREATE INDEX jobs_active ON jobs (agent_id) WHERE active = 1;
    CREATE INDEX jobs_target ON jobs (target) WHERE active = 1;
    CREATE INDEX jobs_cloudtower ON jobs (cloudtower_ip) WHERE active = 1;
    CREATE INDEX jobs_site ON jobs (site, id);
    CREATE TABLE events (
        job_id TEXT NOT NULL REFERENCES jobs (id),
        seq    INTEGER NOT NULL,
        epoch  INTEGER NOT NULL,
        at     INTEGER NOT NULL,
        body   BLOB NOT NULL,                     -- protobuf Event
        PRIMARY KEY (job_id, seq)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE orders (
        agent_id TEXT NOT NULL REFERENCES agents (id),
        number   INTEGER NOT NULL,
        job_id   TEXT NOT NULL REFERENCES jobs (id),
        epoch    INTEGER NOT NULL,
        kind     TEXT NOT NULL,                   -- start, cancel, pause, resume, retry, decide, surrender, take_over
        body     BLOB NOT NULL,                   -- protobuf Order, secrets sealed; emptied when nothing more comes of it
        sent     INTEGER NOT NULL,                -- 1: it may have reached the agent
        stage    INTEGER NOT NULL,                -- OrderStage; 100: withdrawn before it was sent
        PRIMARY KEY (agent_id, number)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX orders_open ON orders (agent_id, number) WHERE stage < 2;
    CREATE INDEX orders_job ON orders (job_id);
", "
    -- Chosen by who asked, so that a repeated call gives no second order.
    ALTER TABLE orders ADD COLUMN request TEXT NOT NULL DEFAULT '';
    -- Why the agent refused the newest order of the job.
    ALTER TABLE jobs ADD COLUMN refusal TEXT NOT NULL DEFAULT '';
", "
    -- Of a decision: the number of the event that asked.
    ALTER TABLE orders ADD COLUMN question INTEGER NOT NULL DEFAULT 0;
    -- What the job cannot decide: protobuf OperatorQuestion. NULL unless it is open.
    ALTER TABLE jobs ADD COLUMN question BLOB;
    -- Number of the event that asked; 0: none is open.
    ALTER TABLE jobs ADD COLUMN question_seq INTEGER NOT NULL DEFAULT 0;
    -- 1: this epoch walks no step, it only removes what was made.
    ALTER TABLE jobs ADD COLUMN undo_only INTEGER NOT NULL DEFAULT 0;
    CREATE TABLE moves (
        job_id     TEXT NOT NULL REFERENCES jobs (id),
        epoch      INTEGER NOT NULL,              -- the one that it begins
        from_agent TEXT NOT NULL,                 -- who had it
        to_agent   TEXT NOT NULL REFERENCES agents (id),
        confirmed  INTEGER NOT NULL,              -- 1: that agent is known to have stopped; 0: the operator has vouched
        pending    INTEGER NOT NULL,              -- 1: that agent is to let go first
        surrender  INTEGER NOT NULL,              -- number of the order that tells it so; 0: none
        request    TEXT NOT NULL,
        body       BLOB NOT NULL,                 -- protobuf Order, secrets sealed; emptied when it is made
        PRIMARY KEY (job_id, epoch)
    ) STRICT, WITHOUT ROWID;
    CREATE UNIQUE INDEX moves_pending ON moves (job_id) WHERE pending = 1;
    CREATE VIEW job_rows AS
        SELECT jobs.*, moves.to_agent AS moving_to,
               EXISTS (SELECT 1 FROM orders WHERE job_id = jobs.id AND epoch = jobs.epoch AND kind = 'decide'
                                            AND question = jobs.question_seq AND stage <> 4) AS answered
        FROM jobs LEFT JOIN moves ON moves.job_id = jobs.id AND moves.pending = 1;
", AUDIT, IDENTITY, STEP_TIMES];

/// Who did what. Rows are only ever added, each one behind the last: this holds against a slip, the chain of hashes
/// against intent.
const AUDIT: &str = "
    CREATE TABLE audit (
        number      INTEGER PRIMARY KEY,
        at          INTEGER NOT NULL,
        act         TEXT NOT NULL,
        outcome     TEXT NOT NULL,                -- asked, done, refused, cut_off
        asked       INTEGER NOT NULL,             -- number of the row that this one settles; 0: none
        code        TEXT NOT NULL,
        message     TEXT NOT NULL,
        operator    TEXT NOT NULL,
        role        TEXT NOT NULL,
        remote      TEXT NOT NULL,
        job         TEXT NOT NULL,
        site        TEXT NOT NULL,
        agent       TEXT NOT NULL,
        subject     TEXT NOT NULL,
        plan_sha256 TEXT NOT NULL,                -- hexadecimal
        request_id  TEXT NOT NULL,
        detail      TEXT NOT NULL,
        previous    BLOB NOT NULL,                -- SHA-256, as `hash`
        hash        BLOB NOT NULL
    ) STRICT;
    CREATE TRIGGER audit_no_update BEFORE UPDATE ON audit BEGIN
        SELECT RAISE(ABORT, 'the audit log is append-only');
    END;
    CREATE TRIGGER audit_no_delete BEFORE DELETE ON audit BEGIN
        SELECT RAISE(ABORT, 'the audit log is append-only');
    END;
    -- INSERT OR REPLACE would delete without the trigger above.
    CREATE TRIGGER audit_in_order BEFORE INSERT ON audit
        WHEN NEW.number <> (SELECT coalesce(max(number), 0) + 1 FROM audit) BEGIN
        SELECT RAISE(ABORT, 'the audit log is append-only');
    END;
";

/// Who may come in. Agents that were there before are taken over with their site; their certificates go on.
const IDENTITY: &str = "
    CREATE TABLE sites (
        name     TEXT PRIMARY KEY,
        added    INTEGER NOT NULL,
        added_by TEXT NOT NULL
    ) STRICT;
    CREATE TABLE operators (
        name       TEXT PRIMARY KEY,
        role       INTEGER NOT NULL,              -- Role
        sites      TEXT NOT NULL,                 -- JSON list; empty for all
        revoked    INTEGER NOT NULL,
        valid_from INTEGER NOT NULL,              -- certificates that were issued before count no more
        expires    INTEGER NOT NULL,              -- of the newest certificate
        added      INTEGER NOT NULL,
        added_by   TEXT NOT NULL
    ) STRICT;
    CREATE TABLE enrolled (
        agent_id       TEXT PRIMARY KEY,
        site           TEXT NOT NULL,
        revoked        INTEGER NOT NULL,
        valid_from     INTEGER NOT NULL,
        expires        INTEGER NOT NULL,
        asking_key     TEXT NOT NULL,             -- SHA-256 of the key with which it asks to come back; '': it does not
        approved       TEXT NOT NULL,             -- SHA-256 of the key that was let in; '': none
        approved_until INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE tokens (
        hash     TEXT PRIMARY KEY,                -- SHA-256 of the secret
        site     TEXT NOT NULL,
        agent_id TEXT NOT NULL,                   -- '': one with a new name
        expires  INTEGER NOT NULL,
        made_by  TEXT NOT NULL,
        used_by  TEXT NOT NULL,                   -- '': not used
        used_key TEXT NOT NULL                    -- SHA-256 of the key of the agent that used it
    ) STRICT;
    INSERT INTO sites SELECT DISTINCT site, 0, '' FROM agents;
    INSERT INTO enrolled SELECT id, site, 0, 0, 0, '', '', 0 FROM agents;
";

const STEP_TIMES: &str = "
    CREATE TABLE step_times (
        number  INTEGER PRIMARY KEY,
        site    TEXT NOT NULL,
        step    TEXT NOT NULL,
        seconds REAL NOT NULL
    ) STRICT;
    CREATE INDEX step_times_of ON step_times (site, number);
";

/// Brings the file to the newest form.
pub(super) async fn migrate(connection: &mut SqliteConnection) -> Result<(), StoreError> {
    let known = MIGRATIONS.len() as i64;
    raw_sql("CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value ANY NOT NULL) STRICT")
        .execute(&mut *connection)
        .await?;
    let found: Option<(i64,)> =
        sqlx::query_as("SELECT value FROM meta WHERE key = 'form'").fetch_optional(&mut *connection).await?;
    let found = found.map_or(0, |row| row.0);
    if found > known {
        return Err(StoreError::Newer { found, known });
    }
    for (form, statements) in (1i64..).zip(MIGRATIONS).skip(usize::try_from(found).unwrap_or(0)) {
        let mut transaction = connection.begin().await?;
        raw_sql(*statements).execute(&mut *transaction).await?;
        sqlx::query("INSERT INTO meta VALUES ('form', ?1) ON CONFLICT (key) DO UPDATE SET value = ?1")
            .bind(form)
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await?;
    }
    Ok(())
}
