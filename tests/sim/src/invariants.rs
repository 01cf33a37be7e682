//! What must hold at the end of every scenario, whatever the fault (`simulator-behaviours.md` 6), as far as the outside
//! world can see it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::core::Core;
use crate::fault::Face;
use crate::transcript::Entry;
use crate::world::World;
use crate::{cloudtower, guest};

/// The note that a harness puts into the transcript when the client has given its result (`POST /transcript`).
pub const RESULT_MARK: &str = "result";

/// A broken invariant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Violation {
    /// Its number in the list of invariants.
    pub invariant: u8,
    /// What is wrong, on what.
    pub what: String,
}

/// All broken invariants.
#[must_use]
pub fn violations(core: &Core) -> Vec<Violation> {
    let mut found = Vec::new();
    {
        let world = core.world();
        one_of_each(&world, &mut found);
        content(&world, &mut found);
        foreign(&world, &mut found);
        space(&world, &mut found);
    }
    requests(core, &core.transcript.entries(), &mut found);
    found.extend(guest::violations(core).into_iter().map(|what| Violation { invariant: 6, what }));
    found.extend(cloudtower::violations(core).into_iter().map(|what| Violation { invariant: 6, what }));
    found
}

/// 1 and 2: no name twice, nothing unfinished.
fn one_of_each(world: &World, found: &mut Vec<Violation>) {
    let mut vms: BTreeMap<&str, usize> = BTreeMap::new();
    for vm in world.vms.values() {
        *vms.entry(&vm.name).or_default() += 1;
    }
    for (name, count) in vms.iter().filter(|(_, count)| **count > 1) {
        broken(found, 1, format!("{count} VMs are named {name}"));
    }
    let mut images: BTreeMap<String, usize> = BTreeMap::new();
    for image in world.images.values().filter(|image| image.is_complete()) {
        *images.entry(image.name.to_lowercase()).or_default() += 1;
    }
    for (name, count) in images.iter().filter(|(_, count)| **count > 1) {
        broken(found, 2, format!("{count} complete images are named {name}"));
    }
    for image in world.images.values().filter(|image| !image.is_complete()) {
        let (received, chunks) = (image.received.len(), image.chunks());
        broken(found, 2, format!("image {} ({}) is unfinished: {received} of {chunks} chunks", image.name, image.uuid));
    }
}

/// 3: no chunk missing or damaged in a complete image.
fn content(world: &World, found: &mut Vec<Violation>) {
    for image in world.images.values().filter(|image| image.is_complete() && !image.foreign) {
        let missing = image.missing();
        if !missing.is_empty() {
            broken(found, 3, format!("complete image {} lacks chunks {missing:?}", image.name));
        }
        if !image.damaged.is_empty() {
            broken(found, 3, format!("image {} holds damaged chunks {:?}", image.name, image.damaged));
        }
    }
}

/// 4: what existed before is as it was.
fn foreign(world: &World, found: &mut Vec<Violation>) {
    for (uuid, before) in &world.baseline.vms {
        match world.vms.get(uuid) {
            None => broken(found, 4, format!("foreign VM {} is gone", before.name)),
            Some(now) if now != before => broken(found, 4, format!("foreign VM {} was changed", before.name)),
            Some(_) => {}
        }
    }
    for (uuid, before) in &world.baseline.images {
        match world.images.get(uuid) {
            None => broken(found, 4, format!("foreign image {} is gone", before.name)),
            Some(now) if now != before => broken(found, 4, format!("foreign image {} was changed", before.name)),
            Some(_) => {}
        }
    }
}

/// 5: no orphan volume; free space adds up.
fn space(world: &World, found: &mut Vec<Violation>) {
    for volume in world.volumes.values().filter(|volume| volume.vm_uuid.is_none() && !volume.foreign) {
        broken(found, 5, format!("volume {} ({}) belongs to no VM", volume.name, volume.uuid));
    }
    let images: u64 = world.images.values().map(|image| image.reserved).sum();
    let volumes: u64 = world.volumes.values().map(|volume| volume.reserved).sum();
    let all = world.free_bytes.saturating_add(images).saturating_add(volumes);
    if all != world.baseline.free_bytes {
        let before = world.baseline.free_bytes;
        broken(found, 5, format!("free space and objects make {all} bytes, there were {before}"));
    }
}

/// 7, 11 and 12: the requests themselves.
fn requests(core: &Core, entries: &[Entry], found: &mut Vec<Violation>) {
    let result = entries.iter().rev().find(|entry| entry.method == "NOTE" && entry.path == RESULT_MARK);
    if let Some(result) = result {
        let logout = |entry: &Entry| entry.method == "DELETE" && entry.path == "/api/v3/sessions";
        let late = |entry: &&Entry| entry.seq > result.seq && entry.method != "NOTE" && !logout(entry);
        for entry in entries.iter().filter(late) {
            broken(found, 7, format!("{} {} came after the result", entry.method, entry.path));
        }
    }
    let fisheye: Vec<_> =
        entries.iter().filter(|entry| entry.face == Face::Fisheye && entry.method != "NOTE").collect();
    for entry in &fisheye {
        let count = |name: &str| entry.headers.iter().filter(|header| *header == name).count();
        let name = format!("request {} ({} {})", entry.seq, entry.method, entry.path);
        if count("host") != 1 {
            broken(found, 11, format!("{name} has {} Host headers", count("host")));
        }
        let tokens = count("x-smartx-token");
        if entry.path.starts_with("/api/v2") && tokens != 1 {
            broken(found, 11, format!("{name} has {tokens} x-smartx-token headers"));
        }
    }
    let limits = &core.options.limits;
    let seconds = |keep: &dyn Fn(&Entry) -> bool| -> Vec<i64> {
        fisheye.iter().filter(|entry| keep(entry)).map(|entry| entry.wall.as_second()).collect()
    };
    let logins = seconds(&|entry| entry.method == "POST" && entry.path == "/api/v3/sessions");
    if let Some(most) = densest(&logins, 60).filter(|most| *most > limits.logins_per_minute) {
        broken(found, 12, format!("{most} logins within a minute"));
    }
    let others = seconds(&|entry| entry.chunk.is_none());
    if let Some(most) = densest(&others, 1).filter(|most| *most > limits.requests_per_second) {
        broken(found, 12, format!("{most} requests within a second"));
    }
}

/// The largest number of moments within `window` seconds.
fn densest(moments: &[i64], window: i64) -> Option<usize> {
    let mut sorted = moments.to_vec();
    sorted.sort_unstable();
    let within = |(n, from): (usize, &i64)| sorted[n..].partition_point(|at| at - from < window);
    sorted.iter().enumerate().map(within).max()
}

fn broken(found: &mut Vec<Violation>, invariant: u8, what: String) {
    found.push(Violation { invariant, what });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_densest_window() {
        assert_eq!(densest(&[], 60), None);
        assert_eq!(densest(&[0, 10, 59, 60, 61, 200], 60), Some(4));
    }
}
