//! Memory: whether the agent's peak depends on the file's size or on the chunk's.

use crate::{
    clients::InFlight,
    control::Manner,
    material::{CHUNK, Iso, LEAST},
    rig::{Rig, say},
    speed::Table,
};

/// As `--only` calls it.
pub const SCENE: &str = "memory";
/// Rounds, at most: memory varies less than time.
const ROUNDS: usize = 3;
/// The large file is so many times as large as the one whose speed is measured, the small one so many times smaller.
const LARGER: u64 = 4;
const SMALLER: u64 = 8;
/// The large chunk.
const LARGE_CHUNK: u64 = 64 << 20;
/// In flight in all of them.
const IN_FLIGHT: InFlight = InFlight::Fixed(4);

/// The names of the four uploads: a small file and a large sparse one; small chunks and large ones.
pub const SMALL_FILE: &str = "small file";
pub const LARGE_FILE: &str = "large sparse file";
pub const SMALL_CHUNKS: &str = "8 MiB chunks";
pub const LARGE_CHUNKS: &str = "64 MiB chunks";

/// Makes all uploads.
///
/// # Errors
/// A sink does not start, or a file cannot be made. What the agent does wrong is in the table.
pub async fn measure(rig: &Rig, table: &mut Table) -> anyhow::Result<()> {
    if !rig.choice.scene(SCENE) {
        return Ok(());
    }
    if let Err(reason) = &rig.agent.push {
        for name in [SMALL_FILE, LARGE_FILE, SMALL_CHUNKS, LARGE_CHUNKS] {
            table.add(SCENE, name.to_owned(), 1, Err(anyhow::anyhow!("{reason}")));
        }
        return Ok(());
    }
    let size = rig.material.iso.size;
    let rounds = rig.rounds.min(ROUNDS);
    for (name, size) in [(SMALL_FILE, (size / SMALLER).max(LEAST)), (LARGE_FILE, size * LARGER)] {
        say(&format!("making a sparse file of {} MiB and its digests", size >> 20));
        let dir = rig.dir.join("sparse");
        std::fs::create_dir_all(&dir)?;
        let iso = Iso::sparse(dir.join(crate::material::ISO_NAME), size).await?;
        uploads(rig, table, name, &iso, CHUNK, rounds).await?;
        std::fs::remove_dir_all(&dir)?;
    }
    for (name, chunk) in [(SMALL_CHUNKS, CHUNK), (LARGE_CHUNKS, LARGE_CHUNK)] {
        uploads(rig, table, name, &rig.material.iso, chunk, rounds).await?;
    }
    Ok(())
}

async fn uploads(
    rig: &Rig,
    table: &mut Table,
    name: &str,
    iso: &Iso,
    chunk_size: u64,
    rounds: usize,
) -> anyhow::Result<()> {
    let sink = rig.sink(SCENE, Manner { chunk_size, md5: iso.md5.clone(), ..Manner::default() }).await?;
    let scanned = rig.dir.join("scanned");
    let known = rig.scanned(iso, &scanned).await;
    if let Err(error) = known {
        table.add(SCENE, name.to_owned(), 1, Err(error));
        return Ok(());
    }
    for round in 1..=rounds {
        let state = rig.state(Some(&scanned))?;
        let figures = rig.push(IN_FLIGHT, &sink, iso, chunk_size, &state, false).await;
        table.add(SCENE, name.to_owned(), round, figures);
    }
    Ok(())
}
