//! Remembers, over all jobs of this agent, which upload volumes it made and never completed: such an image has the
//! right name and the right size and must never be reused (C49, `fisheye.md` 4.1).

use std::{
    collections::BTreeSet,
    fs::File,
    io::{self, Read as _},
    path::PathBuf,
    sync::{Mutex, PoisonError},
};

use crate::{config::Settings, iso::write_atomically};

/// Volumes remembered, at most; the first ones in order go.
const MOST: usize = 4096;
/// Bytes of the file that are read, at most.
const MOST_BYTES: u64 = 1 << 20;

/// One writer at a time in this process.
static WRITING: Mutex<()> = Mutex::new(());

/// The unfinished volumes of one agent, in `unfinished-volumes.json`. Every call blocks on the disk.
#[derive(Clone, Debug)]
pub struct Unfinished {
    path: PathBuf,
}

impl Unfinished {
    /// In the agent's data directory.
    pub fn new(settings: &Settings) -> Self {
        Self { path: settings.data_dir.join("unfinished-volumes.json") }
    }

    /// Their image uuids.
    pub fn all(&self) -> BTreeSet<String> {
        let mut bytes = Vec::new();
        let read = File::open(&self.path).and_then(|file| file.take(MOST_BYTES).read_to_end(&mut bytes));
        read.ok().and_then(|_| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
    }

    /// A volume was made.
    pub fn add(&self, image_uuid: &str) -> io::Result<()> {
        self.change(|all| all.insert(image_uuid.to_owned()))
    }

    /// A volume was completed, or deleted.
    pub fn remove(&self, image_uuid: &str) -> io::Result<()> {
        self.change(|all| all.remove(image_uuid))
    }

    fn change(&self, change: impl FnOnce(&mut BTreeSet<String>) -> bool) -> io::Result<()> {
        let _one = WRITING.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all = self.all();
        if !change(&mut all) {
            return Ok(());
        }
        while all.len() > MOST {
            all.pop_first();
        }
        write_atomically(&self.path, &serde_json::to_vec(&all)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn volumes_are_remembered_over_restarts_and_damage_is_borne() {
        let dir = tempfile::tempdir().unwrap();
        let settings = Settings { data_dir: dir.path().join("data"), ..Settings::default() };
        Unfinished::new(&settings).add("a").unwrap();
        Unfinished::new(&settings).add("b").unwrap();
        Unfinished::new(&settings).remove("a").unwrap();
        assert_eq!(Unfinished::new(&settings).all(), BTreeSet::from(["b".to_owned()]));
        std::fs::write(settings.data_dir.join("unfinished-volumes.json"), b"[\"b").unwrap();
        assert!(Unfinished::new(&settings).all().is_empty());
    }
}
