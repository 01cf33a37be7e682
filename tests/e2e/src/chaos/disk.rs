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
            self.0.dead();
        }
        Ok(Box::new(FusedSink { fuse: self.0.clone(), inner: OsDisk.open(path)? }))
    }
}

impl Sink for FusedSink {
    fn append(&mut self, line: &[u8]) -> io::Result<()> {
        match self.fuse.next() {
            Word::Go => self.inner.append(line),
            Word::Dead => self.fuse.dead(),
            Word::Blow(how) => {
                let reaches = match how {
                    How::Before => 0,
                    How::Torn => line.len() / 2,
                    How::After => line.len(),
                };
                self.inner.append(&line[..reaches])?;
                self.fuse.blow();
                self.fuse.dead()
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.fuse.is_blown() { self.fuse.dead() } else { self.inner.flush() }
    }

    fn cut(&mut self, len: u64) -> io::Result<()> {
        if self.fuse.is_blown() { self.fuse.dead() } else { self.inner.cut(len) }
    }
}

impl Fuse {
    /// The thread of one that is dead comes no further: whatever it would do about an error, a dead process does not do,
    /// and the next life must not meet it.
    fn dead(&self) -> ! {
        self.await_burial();
        std::panic::resume_unwind(Box::new("the agent has died"))
    }
}
