//! Hashes the ISO files before a job needs them: a task of the running agent that looks at the directory now and then.
//! The link tells the controller, which sees the hash in the list of the agent's files (`iso.scan_s`).

use std::{
    collections::HashMap,
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use gantry_proto::error::causes;
use tokio::{task::spawn_blocking, time::sleep};
use tokio_util::sync::CancellationToken;

use super::{Directory, Found, HashError, Identity, Inventory, IsoError, VolumeError, contents};
use crate::config::Settings;

/// Files that are hashed ahead, the newest ones: fewer than the inventory keeps, or each would drive out another.
const MOST_AHEAD: usize = 32;

/// What is remembered from one look to the next.
struct Ahead {
    settings: Arc<Settings>,
    inventory: Inventory,
    /// The files that are there.
    seen: HashMap<Identity, Seen>,
    /// The directory could not be read, and that has been told.
    told_directory: bool,
}

struct Seen {
    since: Instant,
    /// It cannot be hashed, and that has been told.
    given_up: bool,
}

/// Hashes what lies in the ISO directory and rests, one file after the other, until the token is cancelled. What cannot
/// be hashed is told once, and tried again when it has changed.
pub async fn hash_ahead(settings: Arc<Settings>, stop: CancellationToken) {
    let every = Duration::from_secs(settings.iso.hash_every_s);
    if every.is_zero() {
        return;
    }
    let inventory = Inventory::new(&settings);
    let mut ahead = Ahead { settings, inventory, seen: HashMap::new(), told_directory: false };
    // Dropped on the way, whatever is read then ends soon.
    stop.run_until_cancelled(async {
        loop {
            ahead.look().await;
            sleep(every).await;
        }
    })
    .await;
}

impl Ahead {
    /// Once over the directory.
    async fn look(&mut self) {
        let dir = self.settings.iso_dir.clone();
        let Ok(read) = spawn_blocking(move || Directory::read(&dir)).await else { return };
        let mut found = match read {
            Ok(directory) => directory.found,
            Err(error) => return self.tell_directory(&error),
        };
        self.told_directory = false;
        found.truncate(MOST_AHEAD);
        self.seen.retain(|identity, _| found.iter().any(|found| found.identity == *identity));
        for found in found {
            let seen = self.seen.entry(found.identity).or_insert(Seen { since: Instant::now(), given_up: false });
            if seen.given_up || !rests(&found, seen.since, Duration::from_secs(self.settings.iso.settle_s)) {
                continue;
            }
            if let Err(why) = self.hash(&found).await {
                tracing::warn!(file = %found.path.display(), %why, "the ISO cannot be hashed ahead");
                if let Some(seen) = self.seen.get_mut(&found.identity) {
                    seen.given_up = true;
                }
            }
        }
    }

    /// Hashes the file unless it has been. What will be the same the next time is an error.
    async fn hash(&self, found: &Found) -> Result<(), String> {
        let (inventory, file) = (self.inventory.clone(), found.clone());
        let looked = spawn_blocking(move || match inventory.full(&file) {
            Some(_) => Ok(true),
            None => contents(&file).map(|_| false),
        });
        match looked.await {
            Ok(Ok(false)) => {}
            Ok(Ok(true)) => return Ok(()),
            Ok(Err(VolumeError::Io(error))) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Ok(Err(error)) => return Err(causes(&error).join(": ")),
            Err(error) => return Err(causes(&error).join(": ")),
        }
        let begun = Instant::now();
        loop {
            let ended = self.inventory.fill_ahead(found, Arc::default(), &CancellationToken::new()).await;
            let file = found.path.display();
            match ended {
                Ok(digests) => {
                    let seconds = begun.elapsed().as_secs_f64();
                    tracing::info!(%file, sha256 = %digests.sha256, seconds, "an ISO has been hashed ahead");
                    return Ok(());
                }
                // A job came first: behind it.
                Err(HashError::Cancelled) => tracing::debug!(%file, "a job hashes first"),
                Err(HashError::Changed) => {
                    tracing::info!(%file, "the ISO has changed while it was hashed; it is hashed when it rests");
                    return Ok(());
                }
                Err(HashError::Io(error)) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
                Err(error) => return Err(causes(&error).join(": ")),
            }
        }
    }

    fn tell_directory(&mut self, error: &IsoError) {
        if !std::mem::replace(&mut self.told_directory, true) {
            let why = causes(error).join(": ");
            tracing::warn!(%why, "the ISO directory cannot be read; nothing is hashed ahead");
        }
    }
}

/// Whether the file has not been written to for so long: by the clock, or, as clocks are set, as far as we have seen it
/// ourselves.
fn rests(found: &Found, since: Instant, settle: Duration) -> bool {
    since.elapsed() >= settle || found.identity.age() >= settle
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_can_be_switched_off() {
        let mut settings = Settings::default();
        settings.iso.hash_every_s = 0;
        hash_ahead(Arc::new(settings), CancellationToken::new()).await;
    }

    #[test]
    fn a_file_rests_by_either_clock() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("cloudtower-v1.a.b.iso");
        std::fs::write(&path, "abc").unwrap();
        let (mut found, hour) = (super::super::find(&path).unwrap(), Duration::from_secs(3600));
        let hours_ago = Instant::now().checked_sub(hour).unwrap();
        assert!(!rests(&found, Instant::now(), hour));
        assert!(rests(&found, hours_ago, hour));
        found.identity.ctime_ns -= 3_600_000_000_000;
        assert!(rests(&found, Instant::now(), hour));
        // Written in a future that never comes.
        found.identity.ctime_ns = i128::MAX;
        assert!(!rests(&found, Instant::now(), hour) && rests(&found, hours_ago, hour));
    }
}
