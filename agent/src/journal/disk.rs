//! Where a journal's lines go. The system's disk in every agent; one that fails at a chosen write where a crash is
//! rehearsed.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write as _},
    path::Path,
};

/// Opens journals for writing.
pub trait Disk: Send + Sync {
    /// Opens a file that exists, to append to it (blocking).
    fn open(&self, path: &Path) -> io::Result<Box<dyn Sink>>;
}

/// One journal, open for writing. Every call blocks.
pub trait Sink: Send {
    /// Appends a whole line.
    fn append(&mut self, line: &[u8]) -> io::Result<()>;
    /// Returns when everything appended so far is on disk.
    fn flush(&mut self) -> io::Result<()>;
    /// Cuts the file to this length, bytes: half a line must not stay.
    fn cut(&mut self, len: u64) -> io::Result<()>;
}

/// The system's disk.
pub struct OsDisk;

impl Disk for OsDisk {
    fn open(&self, path: &Path) -> io::Result<Box<dyn Sink>> {
        Ok(Box::new(OpenOptions::new().append(true).open(path)?))
    }
}

impl Sink for File {
    fn append(&mut self, line: &[u8]) -> io::Result<()> {
        self.write_all(line)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.sync_data()
    }

    fn cut(&mut self, len: u64) -> io::Result<()> {
        self.set_len(len)
    }
}
