//! The agent's disk with a fuse: the journal's writes are counted, and from a chosen one on nothing reaches the file.

use std::{io, path::Path, sync::Arc};

use gantry_agent::journal::{Disk, OsDisk, Sink};

use super::fuse::{Fuse, How, Word};

/// The system's disk behind a fuse.
pub(super) struct FusedDisk(pub(super) Arc<Fuse>);

struct FusedSink {
    fuse: Arc<Fuse>,
    inner: Box<dyn Sink>,
}

impl Disk for FusedDisk {
    fn open(&self, path: &Path) -> io::Result<Box<dyn Sink>> {
        if self.0.is_blown() {
            return Err(self.0.dead());
        }
        Ok(Box::new(FusedSink { fuse: self.0.clone(), inner: OsDisk.open(path)? }))
    }
}

impl Sink for FusedSink {
    fn append(&mut self, line: &[u8]) -> io::Result<()> {
        match self.fuse.next() {
            Word::Go => self.inner.append(line),
            Word::Dead | Word::Blow(How::Before) => Err(self.fuse.dead()),
            Word::Blow(How::Torn) => {
                self.inner.append(&line[..line.len() / 2])?;
                Err(self.fuse.dead())
            }
            Word::Blow(How::After) => {
                self.inner.append(line)?;
                Err(self.fuse.dead())
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.fuse.is_blown() { Err(self.fuse.dead()) } else { self.inner.flush() }
    }

    fn cut(&mut self, len: u64) -> io::Result<()> {
        if self.fuse.is_blown() { Err(self.fuse.dead()) } else { self.inner.cut(len) }
    }
}

impl Fuse {
    fn dead(&self) -> io::Error {
        self.await_burial();
        io::Error::other("the agent has died")
    }
}
