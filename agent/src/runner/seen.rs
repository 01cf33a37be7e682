//! The highest number of an order that was carried out, in a file of its own: an order that comes again is known for one
//! even when nothing is left of its job.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use gantry_proto::order::NUMBER_MAX;
use tokio::task::spawn_blocking;

/// Name of the file in `data_dir`.
const FILE: &str = "orders.seen";
/// The longest text that is a number.
const TEXT_MAX: u64 = 32;

/// The highest number, in memory and on disk.
pub(super) struct Seen {
    path: PathBuf,
    highest: Mutex<u64>,
}

impl Seen {
    /// Reads the file (blocking). None: no order was carried out yet.
    ///
    /// # Errors
    /// When it cannot be read, or holds no number: then nobody knows which orders were carried out.
    pub(super) fn open(data_dir: &Path) -> io::Result<Self> {
        let path = data_dir.join(FILE);
        let highest = match File::open(&path) {
            Ok(file) => read(file).map_err(|error| {
                let name = path.display();
                io::Error::new(
                    error.kind(),
                    format!(
                        "{name}: {error}; put back what it held, or remove it and be sure \
                    that no order is given to this agent a second time"
                    ),
                )
            })?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
            Err(error) => return Err(error),
        };
        Ok(Self { path, highest: Mutex::new(highest) })
    }

    /// The highest number; 0: none.
    pub(super) fn highest(&self) -> u64 {
        *self.highest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that an order was carried out; on disk when this returns.
    ///
    /// # Errors
    /// When the disk says no; the number is known nevertheless as long as the process lives.
    pub(super) async fn note(&self, number: u64) -> io::Result<()> {
        {
            let mut highest = self.highest.lock().unwrap_or_else(PoisonError::into_inner);
            if number <= *highest {
                return Ok(());
            }
            *highest = number;
        }
        let path = self.path.clone();
        spawn_blocking(move || write(&path, number)).await.map_err(io::Error::other)?
    }
}

fn read(file: File) -> io::Result<u64> {
    let mut text = String::new();
    file.take(TEXT_MAX).read_to_string(&mut text)?;
    let number = text.strip_suffix('\n').and_then(|digits| digits.parse().ok()).filter(|number| *number <= NUMBER_MAX);
    number.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "it holds no number of an order"))
}

/// All or nothing, also after a power cut.
fn write(path: &Path, number: u64) -> io::Result<()> {
    let next = path.with_extension("next");
    let mut file = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&next)?;
    file.write_all(format!("{number}\n").as_bytes())?;
    file.sync_all()?;
    fs::rename(&next, path)?;
    match path.parent() {
        Some(dir) => File::open(dir)?.sync_all(),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_highest_number_survives_and_never_sinks() {
        let dir = tempfile::tempdir().unwrap();
        let seen = Seen::open(dir.path()).unwrap();
        assert_eq!(seen.highest(), 0);
        for number in [3, 7, 5] {
            seen.note(number).await.unwrap();
        }
        assert_eq!((seen.highest(), Seen::open(dir.path()).unwrap().highest()), (7, 7));
    }

    #[test]
    fn a_file_without_a_number_is_not_taken_for_none() {
        let dir = tempfile::tempdir().unwrap();
        for text in ["", "7", "-1\n", "x\n", "9007199254740993\n", "99999999999999999999999999999999999999\n"] {
            fs::write(dir.path().join(FILE), text).unwrap();
            let refused = Seen::open(dir.path()).err().unwrap();
            assert!(refused.to_string().contains(FILE), "{text:?}: {refused}");
        }
    }

    #[tokio::test]
    async fn a_disk_that_says_no_is_told_and_the_number_is_known_all_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let seen = Seen::open(dir.path()).unwrap();
        fs::create_dir(dir.path().join("orders.next")).unwrap();
        assert!(seen.note(4).await.is_err());
        assert_eq!(seen.highest(), 4);
    }
}
