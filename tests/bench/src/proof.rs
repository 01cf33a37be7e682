//! Before any figure: whether the agent and curl bring what is in the file. Digests cost the sink more than everything
//! else it does, so this is not done while speed is measured.

use anyhow::bail;
use serde::Serialize;

use crate::{
    clients::Client,
    control::{Manner, SinkProcess},
    rig::{Rig, say},
    speed::{AUTO, FOUR},
};

/// As `--only` calls it.
pub const SCENE: &str = "proof";

/// Whether a client's upload was the file, chunk by chunk.
#[derive(Clone, Debug, Serialize)]
pub struct Proof {
    pub client: String,
    /// Why not.
    pub failed: Option<String>,
}

/// Looks at each client once.
///
/// # Errors
/// The sink does not start.
pub async fn prove(rig: &Rig) -> anyhow::Result<Vec<Proof>> {
    if !rig.choice.scene(SCENE) {
        return Ok(Vec::new());
    }
    let sink = rig.sink(SCENE, Manner { verify: true, ..Manner::default() }).await?;
    let mut proofs = Vec::new();
    for client in [Client::Curl(4), Client::Loop, FOUR, AUTO].into_iter().filter(|client| rig.choice.client(*client)) {
        let failed = one(rig, &sink, client).await.err().map(|error| format!("{error:#}"));
        say(&format!("proof, {}: {}", client.name(), failed.as_deref().unwrap_or("every chunk is the file's")));
        proofs.push(Proof { client: client.name(), failed });
    }
    Ok(proofs)
}

async fn one(rig: &Rig, sink: &SinkProcess, client: Client) -> anyhow::Result<()> {
    rig.upload(client, sink, false).await?;
    let there = sink.digests().await?;
    let mut expected = rig.material.digests.iter();
    match there.iter().position(|digest| digest.as_ref() != expected.next()) {
        Some(chunk) => bail!("chunk {chunk} is not the file's"),
        None if expected.next().is_some() => bail!("chunks are missing"),
        None => Ok(()),
    }
}
