//! What several of the tests need: quick labs, the order of the transcript, digests.

use std::{collections::BTreeMap, fs, io::Read as _, path::Path};

use anyhow::Context as _;
use gantry_e2e::{Lab, LabOptions};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

/// Fast enough for a test, slow enough that a busy machine keeps up with the scaled deadlines.
pub(crate) const SCALE: f64 = 200.0;

/// A lab with small chunks, a small ISO and fast time.
pub(crate) fn quick() -> LabOptions {
    LabOptions {
        iso_bytes: (1 << 20) + 1,
        time_scale: SCALE,
        scenario: json!({"chunk_size": 1 << 16}),
        ..LabOptions::default()
    }
}

/// A quick lab with this merged into the scenario.
pub(crate) fn quick_with(scenario: Value) -> LabOptions {
    let mut options = quick();
    gantry_e2e::lab::merge(&mut options.scenario, &scenario);
    options
}

/// SHA-256 of a file, hexadecimal.
pub(crate) fn sha256_of(path: &Path) -> anyhow::Result<String> {
    let mut file = fs::File::open(path).with_context(|| format!("opening {}", path.display()))?;
    let (mut hash, mut piece) = (Sha256::new(), vec![0; 1 << 20]);
    loop {
        match file.read(&mut piece)? {
            0 => break,
            n => hash.update(&piece[..n]),
        }
    }
    Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

/// The VMs of the simulated world that are not deleted.
pub(crate) async fn vms(lab: &Lab) -> anyhow::Result<Vec<Value>> {
    objects(lab, "vms").await
}

/// The images of the simulated world.
pub(crate) async fn images(lab: &Lab) -> anyhow::Result<Vec<Value>> {
    objects(lab, "images").await
}

async fn objects(lab: &Lab, kind: &str) -> anyhow::Result<Vec<Value>> {
    let world = lab.control()?.world().await?;
    let found = world.get(kind).with_context(|| format!("the world tells no {kind}"))?;
    Ok(match found {
        Value::Array(items) => items.clone(),
        Value::Object(map) => map.values().cloned().collect(),
        other => anyhow::bail!("{kind} are {other}"),
    })
}

/// The job's result: the value of `deploy_cloudtower`.
pub(crate) async fn result(lab: &Lab, job: &str) -> anyhow::Result<Value> {
    let result = lab.ctl_json(&["-o", "json", "result", job]).await?;
    let stage = result.pointer("/result/deploy_cloudtower").or_else(|| result.get("deploy_cloudtower"));
    stage.cloned().with_context(|| format!("no deploy_cloudtower in {result}"))
}

/// Every event of a job so far, from the controller's log.
pub(crate) async fn events(lab: &Lab, job: &str) -> anyhow::Result<Vec<Value>> {
    let output = lab.ctl(&["-o", "ndjson", "watch", job, "--from-seq", "1"]).await?;
    let lines = String::from_utf8(output.stdout)?;
    let all: Vec<Value> = lines.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    Ok(all.into_iter().filter_map(|item| event_of(&item)).collect())
}

/// The event inside one line of `watch -o ndjson`; `None` for samples and snapshots.
pub(crate) fn event_of(item: &Value) -> Option<Value> {
    [Some(item), item.get("event"), item.get("item")].into_iter().flatten().find(|v| v.get("seq").is_some()).cloned()
}

/// The files of an archive.
pub(crate) fn unpacked(path: &Path) -> anyhow::Result<BTreeMap<String, Vec<u8>>> {
    let mut zip = zip::ZipArchive::new(fs::File::open(path)?)?;
    let mut files = BTreeMap::new();
    for index in 0..zip.len() {
        let mut file = zip.by_index(index)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        files.insert(file.name()?.into_owned(), bytes);
    }
    Ok(files)
}
