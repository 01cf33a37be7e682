//! The traces of jobs: a file each, appended to as spans and log records come in. Bounded for each job and altogether; for
//! a new one the oldest goes.

use std::{
    collections::{BTreeSet, VecDeque},
    fs::{self, File, OpenOptions},
    io::{self, BufReader, Read as _, Seek as _, SeekFrom, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
};

use gantry_proto::{Code, JobId, v1};
use gantry_telemetry::{Record, Signal};
use tokio::sync::mpsc;
use tokio_stream::{Stream, wrappers::ReceiverStream};
use tonic::Status;

use super::Recorder;

/// Kind and length of a part.
const HEADER: usize = 1 + 4;
/// The largest part that is read again, bytes: none is written that is larger.
const PART_MAX: usize = 2 << 20;
/// Parts that wait for who asked.
const AHEAD: usize = 4;
const SUFFIX: &str = ".otlp";

/// The parts of a trace.
pub(crate) type PartStream = Pin<Box<dyn Stream<Item = Result<v1::GetJobTraceResponse, Status>> + Send>>;

#[derive(Debug)]
pub(super) struct Traces {
    directory: PathBuf,
    /// Of one job, bytes.
    each: u64,
    /// Of all jobs, bytes.
    all: u64,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    /// Oldest first, and how long each file is.
    jobs: VecDeque<(JobId, u64)>,
    /// Files of before, whose end may be torn: looked at before something is added.
    unsure: BTreeSet<JobId>,
    /// The last write failed, and that was told.
    failing: bool,
}

impl Traces {
    pub(super) fn open(directory: &Path, each: u64, all: u64) -> io::Result<Self> {
        let mut jobs = Vec::new();
        for entry in fs::read_dir(directory)? {
            let entry = entry?;
            let name = entry.file_name();
            let job = name.to_str().and_then(|name| name.strip_suffix(SUFFIX)?.parse::<JobId>().ok());
            if let Some(job) = job {
                jobs.push((job, entry.metadata()?.len()));
            }
        }
        // A job's id begins with its time.
        jobs.sort_unstable();
        let unsure = jobs.iter().map(|(job, _)| *job).collect();
        let kept = Kept { jobs: jobs.into(), unsure, failing: false };
        Ok(Self { directory: directory.to_owned(), each, all, kept: Mutex::new(kept) })
    }

    /// Adds a part. What has no room, or cannot be written, is not kept.
    pub(super) fn add(&self, job: JobId, part: &Record) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let written = self.write(&mut kept, job, part);
        let failed = written.is_err();
        // Once: what is told here comes back here.
        if let Err(error) = written
            && !kept.failing
        {
            kept.failing = true;
            drop(kept);
            tracing::warn!(%error, directory = %self.directory.display(), "the traces of jobs cannot be kept");
        } else if !failed {
            kept.failing = false;
        }
    }

    fn write(&self, kept: &mut Kept, job: JobId, part: &Record) -> io::Result<()> {
        let length = (HEADER + part.otlp.len()) as u64;
        let place = match kept.jobs.iter().position(|(known, _)| *known == job) {
            Some(place) => place,
            None => {
                kept.jobs.push_back((job, 0));
                kept.jobs.len() - 1
            }
        };
        if kept.unsure.contains(&job) {
            kept.jobs[place].1 = match whole(&self.path(job)) {
                // Somebody has taken it away.
                Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
                length => length?,
            };
            kept.unsure.remove(&job);
        }
        if kept.jobs[place].1 + length > self.each || part.otlp.len() > PART_MAX {
            return Ok(());
        }
        let mut bytes = Vec::with_capacity(HEADER + part.otlp.len());
        bytes.push(v1::Signal::from(part.signal) as u8);
        bytes.extend((part.otlp.len() as u32).to_be_bytes());
        bytes.extend(&part.otlp);
        let mut file = OpenOptions::new().append(true).create(true).mode(0o600).open(self.path(job))?;
        if let Err(error) = file.write_all(&bytes) {
            // A torn part must not be in the middle.
            file.set_len(kept.jobs[place].1)?;
            return Err(error);
        }
        kept.jobs[place].1 += length;
        while kept.jobs.len() > 1 && kept.jobs.iter().map(|(_, bytes)| bytes).sum::<u64>() > self.all {
            // The one at work is not the one that goes.
            let Some(oldest) = kept.jobs.iter().position(|(known, _)| *known != job) else { break };
            if let Some((old, _)) = kept.jobs.remove(oldest) {
                kept.unsure.remove(&old);
                fs::remove_file(self.path(old))?;
            }
        }
        Ok(())
    }

    fn path(&self, job: JobId) -> PathBuf {
        self.directory.join(format!("{job}{SUFFIX}"))
    }

    /// Gives the parts to `give` until it has enough (blocking).
    fn read(&self, job: JobId, mut give: impl FnMut(Record) -> bool) -> io::Result<()> {
        let file = match File::open(self.path(job)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        let mut file = BufReader::new(file);
        let mut header = [0; HEADER];
        loop {
            match file.read_exact(&mut header) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
                Err(error) => return Err(error),
            }
            let length = length_of(&header);
            let signal =
                v1::Signal::try_from(i32::from(header[0])).ok().and_then(|signal| Signal::try_from(signal).ok());
            let Some(signal) = signal.filter(|_| length <= PART_MAX) else { return Ok(()) };
            let mut otlp = vec![0; length];
            match file.read_exact(&mut otlp) {
                Ok(()) => {}
                // The controller ended while it wrote.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
                Err(error) => return Err(error),
            }
            if !give(Record { signal, items: 0, otlp }) {
                return Ok(());
            }
        }
    }
}

fn length_of(header: &[u8; HEADER]) -> usize {
    header[1..].iter().fold(0, |number: usize, byte| number << 8 | usize::from(*byte))
}

/// Cuts off a part that was not written to its end; gives the length.
fn whole(path: &Path) -> io::Result<u64> {
    let mut file = OpenOptions::new().read(true).write(true).open(path)?;
    let (there, mut end) = (file.metadata()?.len(), 0);
    let mut header = [0; HEADER];
    while end + HEADER as u64 <= there {
        file.seek(SeekFrom::Start(end))?;
        file.read_exact(&mut header)?;
        let next = end + (HEADER + length_of(&header)) as u64;
        if next > there {
            break;
        }
        end = next;
    }
    file.set_len(end)?;
    Ok(end)
}

/// The parts of a job's trace, read as fast as they are taken. The reading thread ends with the stream.
pub(super) fn stream(recorder: Arc<Recorder>, job: JobId, with_logs: bool) -> PartStream {
    let (parts, told) = mpsc::channel(AHEAD);
    tokio::task::spawn_blocking(move || {
        let read = recorder.traces.read(job, |part| {
            let wanted = part.signal == Signal::Traces || with_logs && part.signal == Signal::Logs;
            let signal = v1::Signal::from(part.signal).into();
            !wanted || parts.blocking_send(Ok(v1::GetJobTraceResponse { signal, otlp: part.otlp })).is_ok()
        });
        if let Err(error) = read {
            tracing::warn!(%error, %job, "a trace cannot be read");
            let status = Code::Internal.status("the trace cannot be read: look into the controller's log");
            // Who asked may have gone.
            let _ = parts.blocking_send(Err(status));
        }
    });
    Box::pin(ReceiverStream::new(told))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(fill: u8, bytes: usize) -> Record {
        Record { signal: Signal::Traces, items: 1, otlp: vec![fill; bytes] }
    }

    fn read(traces: &Traces, job: JobId) -> Vec<Vec<u8>> {
        let mut parts = Vec::new();
        let give = |part: Record| {
            parts.push(part.otlp);
            true
        };
        traces.read(job, give).unwrap();
        parts
    }

    #[test]
    fn parts_come_back_in_order_also_after_a_restart_and_behind_a_torn_end() {
        let home = tempfile::tempdir().unwrap();
        let traces = Traces::open(home.path(), 1 << 20, 1 << 20).unwrap();
        let (job, other) = (JobId::new(), JobId::new());
        traces.add(job, &part(1, 100));
        traces.add(other, &part(9, 10));
        traces.add(job, &part(2, 50));
        assert_eq!(read(&traces, job), [vec![1; 100], vec![2; 50]]);
        let path = traces.path(job);
        let whole = fs::read(&path).unwrap();
        fs::write(&path, &whole[..whole.len() - 1]).unwrap();
        let traces = Traces::open(home.path(), 1 << 20, 1 << 20).unwrap();
        assert_eq!(read(&traces, job), [vec![1; 100]]);
        traces.add(job, &part(3, 20));
        assert_eq!(read(&traces, job), [vec![1; 100], vec![3; 20]], "what is torn is not in the middle");
        assert_eq!(read(&traces, other), [vec![9; 10]]);
        assert!(read(&traces, JobId::new()).is_empty());
    }

    #[test]
    fn a_job_takes_no_more_than_its_bound_and_the_oldest_goes_for_a_new_one() {
        let home = tempfile::tempdir().unwrap();
        let traces = Traces::open(home.path(), 1000, 2500).unwrap();
        let jobs: Vec<JobId> = (0..4).map(|_| JobId::new()).collect();
        for job in &jobs[..3] {
            (0..20).for_each(|_| traces.add(*job, &part(1, 95)));
        }
        // Ten of a hundred bytes each, and two of the three jobs.
        let counts: Vec<usize> = jobs.iter().map(|job| read(&traces, *job).len()).collect();
        assert_eq!(counts, [0, 10, 10, 0]);
        traces.add(jobs[3], &part(1, 95));
        assert_eq!(fs::read_dir(home.path()).unwrap().count(), 3);
    }
}
