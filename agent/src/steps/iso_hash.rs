//! The hashes of the ISO for a step: known ones, else read with progress (`flow.md` 1.3). Where nothing depends on them
//! before the first byte, they are read beside the sending and asked for at the end.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use serde_json::json;
use tokio::time::{Instant, interval};

use super::story::{fields, permanent, story_of};
use crate::{
    facts::{Facts, IsoFact},
    iso::{Digests, Found, HashError, Identity, Inventory},
    step::{Progress, StepCx, StepError},
    upload::changed,
};

/// How often the progress is told.
const TICK: Duration = Duration::from_millis(500);

impl IsoFact {
    /// This file; without `digests` its hashes stay empty until [`known`] is asked.
    pub(crate) fn of(found: &Found, digests: Option<Digests>, guest_tools: Option<bool>) -> Self {
        let Identity { device, inode, size, mtime_ns, ctime_ns } = found.identity;
        let (sha256, md5) = digests.map(|digests| (digests.sha256, digests.md5)).unwrap_or_default();
        Self {
            path: found.path.display().to_string(),
            file_name: found.file_name.clone(),
            size,
            device,
            inode,
            mtime_ns,
            ctime_ns,
            sha256,
            md5,
            guest_tools,
        }
    }
}

/// Both hashes of the whole file.
pub(crate) async fn hash(cx: &StepCx, found: &Found) -> Result<Digests, HashError> {
    let read = Arc::new(AtomicU64::new(0));
    let inventory = Inventory::new(&cx.settings);
    let mut work = Box::pin(inventory.digests(found, read.clone(), &cx.cancel));
    // What was read ahead does not count for the speed, nor does the wait for another job's file.
    let (mut first, mut tick) = (None, interval(TICK));
    tick.reset();
    loop {
        tokio::select! {
            digests = &mut work => return digests,
            _ = tick.tick() => {
                let (done, total) = (read.load(Ordering::Relaxed), found.identity.size);
                first = first.or((done > 0).then(|| (Instant::now(), done)));
                let per_second = first.map_or(0.0, |(begin, before)| {
                    (done - before) as f64 / begin.elapsed().as_secs_f64().max(1e-3)
                });
                let text = format!("reading {} for its checksums", found.file_name);
                cx.progress(Progress { done, total, unit: "bytes", per_second, text, extra: fields(json!({})) });
            }
        }
    }
}

/// The file with its hashes, which go into the facts where they were not known so far.
pub(super) async fn known(cx: &StepCx, facts: &mut Facts, iso: &IsoFact) -> Result<IsoFact, StepError> {
    if !iso.sha256.is_empty() {
        return Ok(iso.clone());
    }
    let found = found(iso, Identity::from(iso)).ok_or_else(|| permanent(changed(&iso.file_name)))?;
    let digests = match hash(cx, &found).await {
        Ok(digests) => digests,
        Err(HashError::Cancelled) => return Err(cx.log.why_stopped()),
        Err(HashError::Changed) => return Err(permanent(changed(&iso.file_name))),
        Err(error) => {
            let remedy = "check the disk of the bastion, then start again";
            return Err(permanent(story_of("iso_unreadable", &format!("hashing {}", iso.path), &error, remedy)));
        }
    };
    let iso = IsoFact::of(&found, Some(digests), iso.guest_tools);
    facts.iso = Some(iso.clone());
    cx.save(facts).await?;
    Ok(iso)
}

/// The file as the inventory knows it.
pub(super) fn found(iso: &IsoFact, identity: Identity) -> Option<Found> {
    let name = crate::iso::IsoName::parse(&iso.file_name)?;
    Some(Found { path: iso.path.clone().into(), file_name: iso.file_name.clone(), name, identity })
}
