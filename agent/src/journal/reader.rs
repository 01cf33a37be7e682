//! Reads a journal's events page by page, so that a link that was down for hours never needs them all in memory.

use std::{
    fs::File,
    io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom},
    path::Path,
    sync::Arc,
};

use gantry_proto::Event;

use super::{Journal, LINE_MAX, Record, decode};

/// A place in a journal.
pub struct EventReader {
    journal: Arc<Journal>,
    /// The last event that was read.
    seq: u64,
    /// Byte after it.
    offset: u64,
}

impl EventReader {
    pub(super) fn new(journal: Arc<Journal>, seq: u64) -> Self {
        Self { journal, seq, offset: 0 }
    }

    /// The journal that it reads.
    pub fn journal(&self) -> &Arc<Journal> {
        &self.journal
    }

    /// The last event that was read.
    pub fn seq(&self) -> u64 {
        self.seq
    }

    /// Whether there is an event that has not been read.
    pub fn has_more(&self) -> bool {
        self.journal.tail().last_seq > self.seq
    }

    /// The next events that are on disk: at most `events`, and about `bytes` of JSON. Empty: none is there now.
    pub async fn page(&mut self, events: usize, bytes: usize) -> io::Result<Vec<Event>> {
        let (offset, seq) = (self.offset, self.seq);
        let read = move |journal: &Journal| {
            let len = journal.tail().len;
            page(&journal.path, offset..len, seq, events, bytes)
        };
        let (page, offset) = self.journal.on_disk(read).await?;
        self.offset = offset;
        if let Some(last) = page.last() {
            self.seq = last.seq;
        }
        Ok(page)
    }
}

fn page(
    path: &Path,
    range: std::ops::Range<u64>,
    after: u64,
    events: usize,
    bytes: usize,
) -> io::Result<(Vec<Event>, u64)> {
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(range.start))?;
    let mut reader = BufReader::new(file.take(range.end.saturating_sub(range.start)));
    let (mut page, mut offset, mut size, mut line) = (Vec::new(), range.start, 0, Vec::new());
    while page.len() < events && size < bytes {
        line.clear();
        let read = (&mut reader).take(LINE_MAX as u64 + 1).read_until(b'\n', &mut line)?;
        if read == 0 {
            break;
        }
        let record = decode(&line).map_err(|fault| {
            let message = format!("the journal {} is damaged at byte {offset}: {fault}", path.display());
            io::Error::new(io::ErrorKind::InvalidData, message)
        })?;
        offset += read as u64;
        if let Record::Event(event) = record
            && event.seq > after
        {
            size += read;
            page.push(*event);
        }
    }
    Ok((page, offset))
}
