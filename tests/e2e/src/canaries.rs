//! Canaries: finds the workbook's secrets in what the processes have written, in every encoding that the redactor knows.

use std::{fs, path::Path};

use anyhow::ensure;
use gantry_proto::{REDACTED, Redactor, Secret};
use gantry_sim::workbook::{Cell, Workbook};

/// The workbook's secret cells.
const SECRET_CELLS: [&str; 7] = [
    "集群管理信息!G3",
    "集群管理信息!I3",
    "集群管理信息!K3",
    "主机规划!M19",
    "主机规划!G3",
    "主机规划!K3",
    "主机规划!M3",
];

/// Knows the secrets of one workbook.
pub struct Canaries {
    redactor: Redactor,
    /// How many there are.
    pub count: usize,
}

impl Canaries {
    /// The secrets of this workbook.
    pub fn of(workbook: &Workbook) -> Self {
        let redactor = Redactor::new();
        let text = |cell: &&str| match workbook.cell(cell) {
            Some(Cell::Text(text)) => Some(Secret::new(text.as_str())),
            _ => None,
        };
        let secrets: Vec<Secret> = SECRET_CELLS.iter().filter_map(text).collect();
        secrets.iter().for_each(|secret| redactor.register(secret));
        Self { redactor, count: secrets.len() }
    }

    /// One more, that was in another workbook.
    pub fn add(&mut self, secret: &str) {
        self.redactor.register(&Secret::new(secret));
    }

    /// Demands that these bytes hold none of them: whatever the redactor would replace must not be there.
    ///
    /// # Errors
    /// When one is there: `place`, and what stands before it.
    pub fn absent(&self, place: &str, bytes: &[u8]) -> anyhow::Result<()> {
        let text = String::from_utf8_lossy(bytes).replace(REDACTED, "");
        let clean = self.redactor.text(&text);
        let Some(at) = clean.find(REDACTED) else { return Ok(()) };
        let from = clean.floor_char_boundary(at.saturating_sub(80));
        anyhow::bail!("{place} holds a secret, near: {}", &clean[from..at])
    }

    /// The same for a file, or for every file below a directory; gives how many there were.
    ///
    /// # Errors
    /// When one is there, or a file cannot be read.
    pub fn absent_below(&self, path: &Path) -> anyhow::Result<usize> {
        if path.is_file() {
            self.absent(&path.display().to_string(), &fs::read(path)?)?;
            return Ok(1);
        }
        ensure!(path.is_dir(), "{} is neither a file nor a directory", path.display());
        let mut files = 0;
        for entry in fs::read_dir(path)? {
            files += self.absent_below(&entry?.path())?;
        }
        Ok(files)
    }
}
