//! Reads a workbook's bytes. A file that cannot be read is a finding like any other, so that every command tells it in
//! the same form.

use std::{fs, io::Read as _, path::Path};

use gantry_proto::{Problem, Severity, v1};

use crate::profile::io_words;

/// The planner refuses what is larger; one byte more is read so that it can tell.
const MAX_BYTES: u64 = 32 << 20;

/// The bytes, at most one more than the planner takes.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, Box<Problem>> {
    let mut bytes = Vec::new();
    let failed = |error: std::io::Error| problem(path, &error);
    let kind = fs::metadata(path).map_err(failed)?;
    if kind.is_dir() {
        return Err(problem(path, &std::io::ErrorKind::IsADirectory.into()));
    }
    // Opening a pipe waits until somebody writes into it, perhaps for ever.
    if !kind.is_file() {
        return Err(problem(path, &std::io::Error::other("it is not a regular file")));
    }
    let file = fs::File::open(path).map_err(failed)?;
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(failed)?;
    Ok(bytes)
}

/// The file's name without its directory: that goes into messages and to the controller.
pub(crate) fn name(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

/// Findings as the controller tells them.
pub(crate) fn problems(wire: Vec<v1::Problem>) -> Vec<Problem> {
    wire.into_iter().map(Into::into).collect()
}

fn problem(path: &Path, error: &std::io::Error) -> Box<Problem> {
    let code = match error.kind() {
        std::io::ErrorKind::NotFound => "file_not_found",
        _ => "file_not_readable",
    };
    Box::new(Problem {
        severity: Severity::Error,
        code: code.to_owned(),
        rule: "FILE".to_owned(),
        sheet: None,
        cell: None,
        related: Vec::new(),
        label: String::new(),
        value: Some(path.display().to_string()),
        message: format!("the workbook {} cannot be read: {}", path.display(), io_words(error).english()),
        remedy: "check the path and that you may read the file".to_owned(),
    })
}
