//! Telemetry on disk until it is delivered: bounded, oldest lost first, and what is lost is counted.
//!
//! The directory has numbered segments, each a row of records, and one small file with the place of the reader and the
//! count of what was lost. Nothing is synced: telemetry may lose its last second when a host dies, and a job must not wait
//! for it. What was written is sent once; after a crash of the process the record at work may be sent twice.

use std::{
    collections::VecDeque,
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    os::unix::fs::{DirBuilderExt as _, FileExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use tokio::{sync::Notify, task::spawn_blocking};

use crate::{
    export::RECORD_MAX,
    signal::{Intake, Loss, Record, Signal},
};

/// Kind, items, length, CRC-32 of the OTLP message.
const HEADER: usize = 1 + 4 + 4 + 4;
/// Place of the reader and losses: six numbers and their CRC-32.
const PLACE: usize = 5 * 8 + 4;
const PLACE_FILE: &str = "place";
/// A full spool has so many segments: what is lost at once is that part of it.
const SEGMENTS: u64 = 8;
/// The smallest bound, bytes: eight segments with a record of the largest size each.
const LEAST: u64 = SEGMENTS * RECORD_MAX as u64;

/// The spool.
#[derive(Debug)]
pub struct Spool {
    directory: PathBuf,
    limit: u64,
    state: Mutex<State>,
    /// Lost so far, by kind, and bytes that wait: outside of the state, which is held while the disk is at work, so that
    /// nobody who only asks or counts waits for it.
    lost: [AtomicU64; 3],
    waiting: AtomicU64,
    news: Notify,
}

/// A record that is to be delivered.
#[derive(Debug)]
pub struct Waiting {
    /// What is to be delivered.
    pub record: Record,
    at: Place,
    next: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    segment: u64,
    offset: u64,
}

#[derive(Debug)]
struct State {
    segments: VecDeque<Segment>,
    /// The newest segment.
    writer: File,
    /// In the oldest segment.
    read: u64,
    place: File,
    /// The last write failed, and that was told.
    failing: bool,
}

#[derive(Debug, Default)]
struct Segment {
    number: u64,
    bytes: u64,
    /// Not read yet.
    unread: Loss,
}

impl Spool {
    /// Opens the spool, or makes it. `limit`: bytes that it may take, at least eight MiB.
    ///
    /// # Errors
    /// When the directory cannot be read or written.
    pub fn open(directory: &Path, limit: u64) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        let place = open(&directory.join(PLACE_FILE))?;
        let known = read_place(&place)?;
        let mut numbers: Vec<u64> = Vec::new();
        for entry in fs::read_dir(directory)? {
            let name = entry?.file_name();
            numbers.extend(name.to_str().and_then(|name| name.strip_suffix(".otlp")?.parse::<u64>().ok()));
        }
        numbers.sort_unstable();
        let (from, lost) = known.unwrap_or((Place { segment: 0, offset: 0 }, Loss::default()));
        let mut segments = VecDeque::new();
        for number in numbers {
            let path = segment_path(directory, number);
            if number < from.segment {
                fs::remove_file(&path)?;
                continue;
            }
            let read = if number == from.segment { from.offset } else { 0 };
            segments.push_back(survey(&path, number, read)?);
        }
        if segments.is_empty() {
            segments.push_back(Segment { number: from.segment.saturating_add(1), ..Segment::default() });
        }
        let first = &segments[0];
        let read = if first.number == from.segment { from.offset.min(first.bytes) } else { 0 };
        let newest = segments.back().map_or(1, |segment| segment.number);
        let mut writer = open(&segment_path(directory, newest))?;
        writer.seek(SeekFrom::End(0))?;
        let state = State { segments, writer, read, place, failing: false };
        let spool = Self {
            directory: directory.to_owned(),
            limit: limit.max(LEAST),
            state: Mutex::new(state),
            lost: Signal::ALL.map(|signal| lost.of(signal).into()),
            waiting: AtomicU64::default(),
            news: Notify::new(),
        };
        spool.count(&spool.state());
        Ok(spool)
    }

    /// Waits until something was written; may return without it.
    pub async fn news(&self) {
        self.news.notified().await;
    }

    /// What was lost, ever.
    pub fn loss(&self) -> Loss {
        let mut loss = Loss::default();
        Signal::ALL.into_iter().zip(&self.lost).for_each(|(signal, lost)| loss.add(signal, lost.load(Relaxed)));
        loss
    }

    /// Bytes that wait.
    pub fn bytes(&self) -> u64 {
        self.waiting.load(Relaxed)
    }

    fn count(&self, state: &State) {
        let bytes: u64 = state.segments.iter().map(|segment| segment.bytes).sum();
        self.waiting.store(bytes.saturating_sub(state.read), Relaxed);
    }

    /// The oldest record that was not delivered (blocking).
    ///
    /// # Errors
    /// When the disk cannot be read.
    pub fn oldest(&self) -> io::Result<Option<Waiting>> {
        let mut state = self.state();
        loop {
            let Some(segment) = state.segments.front() else { return Ok(None) };
            if state.read >= segment.bytes {
                if state.segments.len() == 1 {
                    return Ok(None);
                }
                self.drop_oldest(&mut state)?;
                continue;
            }
            let at = Place { segment: segment.number, offset: state.read };
            let left = segment.bytes - state.read;
            let mut file = File::open(segment_path(&self.directory, segment.number))?;
            file.seek(SeekFrom::Start(state.read))?;
            match read_record(&mut file, left)? {
                Some((record, length)) => {
                    return Ok(Some(Waiting { record, at, next: at.offset + length }));
                }
                None => {
                    // The rest of the segment cannot be told apart any more.
                    let (unread, bytes) = (segment.unread, segment.bytes);
                    Signal::ALL.into_iter().for_each(|signal| self.lost(signal, unread.of(signal)));
                    state.read = bytes;
                    if let Some(segment) = state.segments.front_mut() {
                        segment.unread = Loss::default();
                    }
                    self.keep_place(&state)?;
                }
            }
        }
    }

    /// The record is where it belongs but for so many of its items, which nobody will ever take: they count as lost
    /// (blocking).
    ///
    /// # Errors
    /// When the place of the reader cannot be written.
    pub fn settle(&self, waiting: &Waiting, refused: u64) -> io::Result<()> {
        let mut state = self.state();
        let Waiting { record, at, next } = waiting;
        let read = state.read;
        // The segment may have been given up meanwhile: then the record is among the lost, sent or not.
        let here = state.segments.front_mut().filter(|first| first.number == at.segment && read == at.offset);
        let Some(segment) = here else { return Ok(()) };
        segment.unread.take(record.signal, record.items.into());
        state.read = *next;
        self.lost(record.signal, refused);
        self.keep_place(&state)
    }

    /// [`Spool::oldest`] for who must not block.
    ///
    /// # Errors
    /// As there.
    pub async fn next(self: &Arc<Self>) -> io::Result<Option<Waiting>> {
        let spool = self.clone();
        spawn_blocking(move || spool.oldest()).await.map_err(io::Error::other)?
    }

    /// [`Spool::settle`] for who must not block.
    ///
    /// # Errors
    /// As there.
    pub async fn settled(self: &Arc<Self>, waiting: Waiting, refused: u64) -> io::Result<()> {
        let spool = self.clone();
        spawn_blocking(move || spool.settle(&waiting, refused)).await.map_err(io::Error::other)?
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, state: &mut State, record: &Record) -> io::Result<()> {
        let length = (HEADER + record.otlp.len()) as u64;
        if state.segments.back().is_none_or(|newest| newest.bytes + length > self.limit / SEGMENTS) {
            self.begin_segment(state)?;
        }
        while state.segments.len() > 1 && state.segments.iter().map(|s| s.bytes).sum::<u64>() + length > self.limit {
            self.drop_oldest(state)?;
        }
        let mut bytes = Vec::with_capacity(HEADER + record.otlp.len());
        bytes.push(record.signal.number());
        bytes.extend(record.items.to_be_bytes());
        // Records are no larger than `RECORD_MAX`.
        bytes.extend((record.otlp.len() as u32).to_be_bytes());
        bytes.extend(crc32fast::hash(&record.otlp).to_be_bytes());
        bytes.extend(&record.otlp);
        let Some(newest) = state.segments.back_mut() else { return Ok(()) };
        if let Err(error) = state.writer.write_all(&bytes) {
            // A torn record must not be in the middle.
            state.writer.set_len(newest.bytes)?;
            state.writer.seek(SeekFrom::End(0))?;
            return Err(error);
        }
        newest.bytes += length;
        newest.unread.add(record.signal, record.items.into());
        Ok(())
    }

    fn begin_segment(&self, state: &mut State) -> io::Result<()> {
        let number = state.segments.back().map_or(1, |newest| newest.number.saturating_add(1));
        state.writer = open(&segment_path(&self.directory, number))?;
        state.segments.push_back(Segment { number, ..Segment::default() });
        Ok(())
    }

    /// What was not read of it is lost.
    fn drop_oldest(&self, state: &mut State) -> io::Result<()> {
        let Some(oldest) = state.segments.pop_front() else { return Ok(()) };
        Signal::ALL.into_iter().for_each(|signal| self.lost(signal, oldest.unread.of(signal)));
        state.read = 0;
        self.keep_place(state)?;
        fs::remove_file(segment_path(&self.directory, oldest.number))
    }

    fn keep_place(&self, state: &State) -> io::Result<()> {
        self.count(state);
        let segment = state.segments.front().map_or(0, |first| first.number);
        let Loss { spans, log_records, data_points } = self.loss();
        let mut bytes = Vec::with_capacity(PLACE);
        [segment, state.read, spans, log_records, data_points].iter().for_each(|n| bytes.extend(n.to_be_bytes()));
        bytes.extend(crc32fast::hash(&bytes).to_be_bytes());
        state.place.write_all_at(&bytes, 0)
    }
}

impl Intake for Spool {
    fn take(&self, record: Record) {
        let mut state = self.state();
        match self.write(&mut state, &record) {
            Ok(()) => {
                state.failing = false;
                self.count(&state);
            }
            Err(error) => {
                self.lost(record.signal, record.items.into());
                // Once: what is told here comes back here.
                if !std::mem::replace(&mut state.failing, true) {
                    drop(state);
                    tracing::warn!(%error, directory = %self.directory.display(), "telemetry cannot be spooled: it is lost and counted");
                }
            }
        }
        self.news.notify_one();
    }

    fn lost(&self, signal: Signal, items: u64) {
        for (known, lost) in Signal::ALL.into_iter().zip(&self.lost) {
            if known == signal {
                lost.fetch_add(items, Relaxed);
            }
        }
    }
}

impl Loss {
    fn take(&mut self, signal: Signal, items: u64) {
        let left = self.of(signal).saturating_sub(items);
        match signal {
            Signal::Traces => self.spans = left,
            Signal::Logs => self.log_records = left,
            Signal::Metrics => self.data_points = left,
        }
    }
}

fn segment_path(directory: &Path, number: u64) -> PathBuf {
    directory.join(format!("{number:020}.otlp"))
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)
}

fn read_place(file: &File) -> io::Result<Option<(Place, Loss)>> {
    let mut bytes = [0; PLACE];
    match file.read_exact_at(&mut bytes, 0) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    }
    let (numbers, crc) = bytes.split_at(PLACE - 4);
    if crc32fast::hash(numbers).to_be_bytes() != crc {
        return Ok(None);
    }
    let mut numbers = numbers.chunks_exact(8).map(number64);
    let mut next = || numbers.next().unwrap_or_default();
    let place = Place { segment: next(), offset: next() };
    Ok(Some((place, Loss { spans: next(), log_records: next(), data_points: next() })))
}

fn number64(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// Counts what is in a segment from `read` on, and cuts a torn end off.
fn survey(path: &Path, number: u64, read: u64) -> io::Result<Segment> {
    let mut file = open(path)?;
    let length = file.metadata()?.len();
    let (mut offset, mut unread) = (0, Loss::default());
    let mut header = [0; HEADER];
    while offset + HEADER as u64 <= length {
        file.seek(SeekFrom::Start(offset))?;
        file.read_exact(&mut header)?;
        let Some(Header { signal, items, bytes, .. }) = Header::of(&header) else { break };
        let end = offset + HEADER as u64 + u64::from(bytes);
        if end > length {
            break;
        }
        if offset >= read {
            unread.add(signal, items.into());
        }
        offset = end;
    }
    if offset < length {
        file.set_len(offset)?;
    }
    Ok(Segment { number, bytes: offset, unread })
}

struct Header {
    signal: Signal,
    items: u32,
    bytes: u32,
    crc: u32,
}

impl Header {
    fn of(header: &[u8; HEADER]) -> Option<Self> {
        let number = |from: usize| number64(&header[from..from + 4]) as u32;
        let bytes = number(5);
        let signal = Signal::of_number(header[0]).filter(|_| bytes as usize <= RECORD_MAX)?;
        Some(Self { signal, items: number(1), bytes, crc: number(9) })
    }
}

/// The record at the file's place and its length; `None`: it is damaged.
fn read_record(file: &mut File, left: u64) -> io::Result<Option<(Record, u64)>> {
    let mut header = [0; HEADER];
    if left < HEADER as u64 {
        return Ok(None);
    }
    file.read_exact(&mut header)?;
    let Some(Header { signal, items, bytes, crc }) = Header::of(&header) else { return Ok(None) };
    let length = HEADER as u64 + u64::from(bytes);
    if length > left {
        return Ok(None);
    }
    let mut otlp = vec![0; bytes as usize];
    file.read_exact(&mut otlp)?;
    Ok((crc32fast::hash(&otlp) == crc).then_some((Record { signal, items, otlp }, length)))
}

#[cfg(test)]
#[path = "spool/tests.rs"]
mod tests;
