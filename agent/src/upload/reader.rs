//! The ISO as a source of chunks: read in pieces, never a whole chunk in memory (R34, R72). Knows no server.

use std::{
    fs::File,
    io,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::iso::Identity;

/// The open file.
#[derive(Clone, Debug)]
pub struct Source {
    file: Arc<File>,
    path: PathBuf,
    identity: Identity,
    piece: usize,
}

impl Source {
    /// Opens the file (blocking). `piece`: bytes read at once.
    pub fn open(path: &Path, piece: usize) -> io::Result<Self> {
        let file = File::open(path)?;
        let identity = Identity::of(&file.metadata()?);
        Ok(Self { file: Arc::new(file), path: path.to_path_buf(), identity, piece: piece.max(1) })
    }

    /// What it was when it was opened.
    pub fn identity(&self) -> Identity {
        self.identity
    }

    /// Bytes read at once.
    pub fn piece(&self) -> usize {
        self.piece
    }

    /// Whether the open file, and what lies at its path, is still what it was (blocking).
    pub fn is_unchanged(&self) -> bool {
        let open = self.file.metadata().map(|metadata| Identity::of(&metadata));
        open.is_ok_and(|open| open == self.identity)
            && Identity::at(&self.path).is_ok_and(|there| there == self.identity)
    }

    /// Fills `piece` with the bytes from `offset` on (blocking).
    pub fn read_at(&self, piece: &mut [u8], offset: u64) -> io::Result<()> {
        self.file.read_exact_at(piece, offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_shrinks_or_changes_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.iso");
        std::fs::write(&path, [7; 1000]).unwrap();
        let source = Source::open(&path, 64).unwrap();
        let mut piece = [0; 200];
        source.read_at(&mut piece, 800).unwrap();
        assert!(source.is_unchanged() && piece == [7; 200]);
        File::options().write(true).open(&path).unwrap().set_len(500).unwrap();
        assert!(!source.is_unchanged());
        assert!(source.read_at(&mut piece, 400).is_err());
        std::fs::remove_file(&path).unwrap();
        assert!(!source.is_unchanged());
    }
}
