//! A job's journal: an append-only file, written and flushed before anything is told or acted on. One writer.
//!
//! A torn last line (a crash in the middle of a write) is cut off when the file is opened; damage anywhere else is an
//! error that names file and line, and concerns this job alone. Everything here blocks: the async half is
//! [`Journal::on_disk`], which keeps it off the runtime. Knows no step and no controller.

mod disk;
mod fold;
mod moves;
mod reader;
mod record;

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, BufRead as _, BufReader, Read as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use gantry_proto::{Body, Event};
use jiff::Timestamp;
use tokio::{sync::watch, task::spawn_blocking};

pub use crate::joblog::Chunk;
pub use disk::{Disk, OsDisk, Sink};
pub use fold::{Folded, OpenIntent};
pub use moves::{Carried, SurrenderRecord};
pub use reader::EventReader;
pub use record::{
    CancelRecord, ChunkRecord, Chunks, DecideRecord, Fault, HoldRecord, LINE_MAX, Record, SealedText, StartRecord,
    TuneRecord, decode, hex,
};

/// Name of the file inside the job's directory.
pub const FILE_NAME: &str = "journal.log";
/// Chunk records are flushed after so many; a crash forgets at most these.
const CHUNKS_PER_FLUSH: usize = 16;

/// A journal that cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The disk says no.
    #[error("the journal {path} cannot be read or written")]
    Io {
        /// The file.
        path: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A line in the middle is not what was written.
    #[error(
        "line {line} of the journal {path} is damaged: {what}; the job stays stopped: keep the file, restore it from a \
         copy if there is one, or remove what the job made by hand and move its directory away"
    )]
    Damaged {
        /// The file.
        path: String,
        /// From 1.
        line: u64,
        /// What is wrong.
        what: String,
    },
}

/// Where a journal stands. Everything in it is on disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tail {
    /// The newest epoch.
    pub epoch: u32,
    /// The last event; 0 before the first.
    pub last_seq: u64,
    /// Everything up to here is stored at the controller.
    pub acked: u64,
    /// The newest epoch has begun to tell.
    pub started: bool,
    /// The newest epoch has told its last event.
    pub finished: bool,
    /// That event was [`Body::Surrendered`].
    pub surrendered: bool,
    /// The controller has said that another agent has the job.
    pub moved: bool,
    /// The last event that another agent has told: the first one here comes after it.
    pub before: u64,
    /// Bytes that are on disk.
    len: u64,
}

impl Tail {
    /// Whether nothing more is to be done for the job here, in its newest epoch.
    pub fn is_over(&self) -> bool {
        self.finished || self.moved
    }
}

/// The journal of one job.
pub struct Journal {
    path: PathBuf,
    disk: Arc<dyn Disk>,
    writer: Mutex<Writer>,
    tail: watch::Sender<Tail>,
}

struct Writer {
    /// Open while the job is at work.
    file: Option<Box<dyn Sink>>,
    /// Bytes of whole lines.
    len: u64,
    /// Chunk records since the last flush.
    loose: usize,
    /// Set when it is no longer known what the disk holds.
    broken: bool,
}

impl Journal {
    /// Opens or creates the journal in `dir` and folds it (blocking).
    pub fn open(dir: &Path) -> Result<(Arc<Self>, Folded), JournalError> {
        Self::open_on(dir, Arc::new(OsDisk))
    }

    /// The same on another disk than the system's.
    pub fn open_on(dir: &Path, disk: Arc<dyn Disk>) -> Result<(Arc<Self>, Folded), JournalError> {
        let path = dir.join(FILE_NAME);
        let failed = |source| JournalError::Io { path: path.display().to_string(), source };
        if !path.exists() {
            create(dir, &path).map_err(failed)?;
        }
        let (folded, len) = fold(&path)?;
        let tail = folded.tail(len);
        let writer = Mutex::new(Writer { file: None, len, loose: 0, broken: false });
        Ok((Arc::new(Self { path, disk, writer, tail: watch::Sender::new(tail) }), folded))
    }

    /// None: it has no file, so that whatever is written fails.
    pub(crate) fn nowhere() -> Arc<Self> {
        let writer = Mutex::new(Writer { file: None, len: 0, loose: 0, broken: true });
        Arc::new(Self { path: PathBuf::new(), disk: Arc::new(OsDisk), writer, tail: watch::Sender::default() })
    }

    /// Where it stands.
    pub fn tail(&self) -> Tail {
        *self.tail.borrow()
    }

    /// Numbers an event, writes it and flushes (blocking). Nothing follows the last event of an epoch: it is refused.
    pub fn event(&self, body: Body) -> io::Result<Event> {
        let mut writer = self.writer();
        let tail = self.tail();
        if tail.finished {
            let message = format!("epoch {} of the job has ended: nothing is told after its last event", tail.epoch);
            return Err(io::Error::other(message));
        }
        let seq = tail.last_seq.checked_add(1).ok_or_else(|| io::Error::other("the journal's numbers are used up"))?;
        let event = Event { seq, epoch: tail.epoch, at: Timestamp::now(), body };
        writer.append(&*self.disk, &self.path, &Record::Event(Box::new(event.clone())))?;
        writer.flush()?;
        let started = tail.started || matches!(event.body, Body::JobStarted { .. });
        let surrendered = matches!(event.body, Body::Surrendered { .. });
        let finished = surrendered || matches!(event.body, Body::JobFinished { .. });
        self.publish(&writer, |tail| *tail = Tail { last_seq: event.seq, started, finished, surrendered, ..*tail });
        Ok(event)
    }

    /// Writes the accepted order of a new epoch and flushes (blocking).
    pub fn start(&self, start: StartRecord) -> io::Result<()> {
        let (mut writer, epoch) = (self.writer(), start.epoch);
        let before = start.carried.as_ref().map(|carried| carried.last_seq);
        if before.is_some() && self.tail().epoch > 0 {
            return Err(io::Error::other("a job that is here already does not come from another agent"));
        }
        writer.append(&*self.disk, &self.path, &Record::Start(Box::new(start)))?;
        writer.flush()?;
        self.publish(&writer, |tail| {
            (tail.epoch, tail.started, tail.finished) = (epoch, false, false);
            (tail.surrendered, tail.moved) = (false, false);
            if let Some(before) = before {
                // The controller has all of that.
                (tail.before, tail.last_seq, tail.acked) = (before, before, before);
            }
        });
        Ok(())
    }

    /// Writes a cancel order and flushes (blocking).
    pub fn cancel(&self, cancel: CancelRecord) -> io::Result<()> {
        self.order(&Record::Cancel(cancel))
    }

    /// Writes a pause or a resume and flushes (blocking).
    pub fn hold(&self, hold: HoldRecord) -> io::Result<()> {
        self.order(&Record::Hold(hold))
    }

    /// Writes wishes about the upload and flushes (blocking).
    pub fn tune(&self, tune: TuneRecord) -> io::Result<()> {
        self.order(&Record::Tune(tune))
    }

    /// Writes the answer to a question and flushes (blocking).
    pub fn decide(&self, decision: DecideRecord) -> io::Result<()> {
        self.order(&Record::Decide(decision))
    }

    fn order(&self, order: &Record) -> io::Result<()> {
        let mut writer = self.writer();
        writer.append(&*self.disk, &self.path, order)?;
        writer.flush()?;
        self.publish(&writer, |_| ());
        Ok(())
    }

    /// Writes the order to let go of the job and flushes (blocking).
    pub fn surrender(&self, surrender: SurrenderRecord) -> io::Result<()> {
        self.order(&Record::Surrender(surrender))
    }

    /// Writes that another agent has the job, and flushes (blocking). What is told after that stays here.
    pub fn moved(&self) -> io::Result<()> {
        let mut writer = self.writer();
        let epoch = self.tail().epoch;
        writer.append(&*self.disk, &self.path, &Record::Moved(epoch))?;
        writer.flush()?;
        self.publish(&writer, |tail| tail.moved = true);
        // Nobody may be at work on the job any more who would close it.
        writer.file = None;
        Ok(())
    }

    /// What it adds up to now, read anew (blocking): for orders that depend on where the job stands.
    pub fn folded(&self) -> Result<Folded, JournalError> {
        let _nobody_writes = self.writer();
        fold(&self.path).map(|(folded, _)| folded)
    }

    /// Writes an acknowledged chunk; flushed in batches (blocking).
    pub fn chunk(&self, chunk: ChunkRecord) -> io::Result<()> {
        let mut writer = self.writer();
        writer.append(&*self.disk, &self.path, &Record::Chunk(chunk))?;
        writer.loose += 1;
        if writer.loose >= CHUNKS_PER_FLUSH {
            writer.flush()?;
            self.publish(&writer, |_| ());
        }
        Ok(())
    }

    /// Writes how far the controller has stored the job; not flushed, a crash costs sending some events again
    /// (blocking).
    pub fn acked(&self, seq: u64) -> io::Result<()> {
        let mut writer = self.writer();
        let tail = self.tail();
        if seq <= tail.acked || seq > tail.last_seq {
            return Ok(());
        }
        writer.append(&*self.disk, &self.path, &Record::Acked(seq))?;
        self.tail.send_modify(|tail| tail.acked = seq);
        if tail.finished && seq == tail.last_seq {
            writer.file = None;
        }
        Ok(())
    }

    /// Closes the file; the next write opens it again (blocking).
    pub fn close(&self) -> io::Result<()> {
        let mut writer = self.writer();
        writer.flush()?;
        writer.file = None;
        Ok(())
    }

    /// Runs one of the blocking calls off the runtime. It runs to its end even when the caller goes away.
    pub async fn on_disk<T, F>(self: &Arc<Self>, call: F) -> io::Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Self) -> io::Result<T> + Send + 'static,
    {
        let journal = self.clone();
        spawn_blocking(move || call(&journal)).await.map_err(io::Error::other)?
    }

    /// Reads events after `seq` page by page; what another agent has told is not here.
    pub fn events_after(self: &Arc<Self>, seq: u64) -> EventReader {
        EventReader::new(self.clone(), seq.max(self.tail().before))
    }

    fn publish(&self, writer: &Writer, change: impl FnOnce(&mut Tail)) {
        self.tail.send_modify(|tail| {
            change(tail);
            tail.len = writer.len;
        });
    }

    fn writer(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Writer {
    /// Writes one whole line, or leaves the file as it was.
    fn append(&mut self, disk: &dyn Disk, path: &Path, record: &Record) -> io::Result<()> {
        let line = record::encode(record).map_err(|why| io::Error::new(io::ErrorKind::InvalidInput, why))?;
        if self.broken {
            return Err(io::Error::other("an earlier write to the journal failed; restart the agent"));
        }
        let file = match &mut self.file {
            Some(file) => file,
            None => self.file.insert(disk.open(path)?),
        };
        if let Err(error) = file.append(&line) {
            // Half a line must not stay: the next one would be glued to it.
            self.broken = file.cut(self.len).is_err();
            return Err(error);
        }
        self.len += line.len() as u64;
        Ok(())
    }

    /// After a failed flush nobody knows what the disk holds: only opening the file again tells.
    fn flush(&mut self) -> io::Result<()> {
        let Some(file) = &mut self.file else { return Ok(()) };
        file.flush().inspect_err(|_| self.broken = true)?;
        self.loose = 0;
        Ok(())
    }
}

/// An empty journal whose directory entry is on disk too.
fn create(dir: &Path, path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    OpenOptions::new().create(true).append(true).mode(0o600).open(path)?.sync_all()?;
    File::open(dir)?.sync_all()?;
    if let Some(above) = dir.parent() {
        File::open(above)?.sync_all()?;
    }
    Ok(())
}

/// Folds the file, cuts a torn last line off, and says how long it is then.
fn fold(path: &Path) -> Result<(Folded, u64), JournalError> {
    let name = path.display().to_string();
    let failed = |source| JournalError::Io { path: name.clone(), source };
    let damaged = |line, what| JournalError::Damaged { path: name.clone(), line, what };
    let mut reader = BufReader::new(File::open(path).map_err(failed)?);
    let (mut folded, mut good, mut number, mut torn) = (Folded::default(), 0, 0, false);
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = (&mut reader).take(LINE_MAX as u64 + 1).read_until(b'\n', &mut line).map_err(failed)?;
        if read == 0 {
            break;
        }
        if torn {
            return Err(damaged(number, Fault::Torn.to_string()));
        }
        number += 1;
        match decode(&line) {
            Ok(record) => folded.apply(record).map_err(|what| damaged(number, what))?,
            Err(Fault::Torn) => {
                torn = true;
                continue;
            }
            Err(fault @ Fault::Unknown(_)) => return Err(damaged(number, fault.to_string())),
        }
        good += read as u64;
    }
    if torn {
        tracing::warn!(journal = %name, line = number, "the last line of the journal is torn, as after a crash: cut off");
        let file = OpenOptions::new().write(true).open(path).map_err(failed)?;
        file.set_len(good).and_then(|()| file.sync_all()).map_err(failed)?;
    }
    Ok((folded, good))
}

/// Removes the directory of a job that nobody needs any more (blocking).
pub fn remove(dir: &Path) -> io::Result<()> {
    fs::remove_dir_all(dir)
}
