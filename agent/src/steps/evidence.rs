//! What is kept of a VM before an undo removes it: the cluster's own words about it, and what the installer has said
//! since the last look (`flow.md` 5). Bounded in size and time, and never in the way of the undo: what cannot be had is
//! missing. Knows no step.

use std::{
    fs::{DirBuilder, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::PathBuf,
    time::Duration,
};

use gantry_proto::Level;
use serde_json::{Value, json};

use super::story::{blocking, fields};
use crate::{
    facts::{Facts, VmFact},
    guest::scripts,
    joblog::dir_of,
    step::{StepCx, StepError},
};

/// Where it lies, relative to the job's directory.
const DIR: &str = "evidence";
/// Most that is kept in one file, bytes.
const FILE_MAX: usize = 1 << 20;
/// Longest that one look may take; less where an undo has little time.
const LOOK_MAX: Duration = Duration::from_secs(30);
/// Longest part of an id in a file's name, characters.
const ID_MAX: usize = 64;

/// The VM and the job that made it, as the cluster tells them.
pub(super) async fn of_vm(cx: &StepCx, fact: &VmFact, uuid: &str) -> Result<(), StepError> {
    let fisheye = &cx.outside.fisheye;
    let mut saved = Vec::new();
    let vm = in_time(cx, async { fisheye.vm_as_told(uuid).await.ok().flatten() }).await;
    // Where there is no VM any more, an earlier undo has removed it and kept what there was.
    let Some(vm) = vm else { return Ok(()) };
    saved.extend(keep(cx, format!("vm-{}.json", short(uuid)), pretty(&vm)).await);
    if let Some(id) = &fact.job_id
        && let Some(job) = in_time(cx, async { fisheye.job_as_told(id).await.ok() }).await
    {
        saved.extend(keep(cx, format!("job-{}.json", short(id)), pretty(&job)).await);
    }
    tell(cx, saved).await
}

/// What the installer has written since the log was read last.
pub(super) async fn of_installer(cx: &StepCx, facts: &Facts) -> Result<(), StepError> {
    let Some(installer) = facts.installer.as_ref().filter(|installer| installer.starts > 0 && !installer.finished)
    else {
        return Ok(());
    };
    let file = installer.log_file.as_deref().unwrap_or("installer.out");
    let path = format!("{}/{file}", cx.settings.guest.work_dir);
    let command = scripts::read_log(&path, installer.offset, FILE_MAX as u64);
    let rest = in_time(cx, async {
        let guest = &cx.outside.guest;
        if !guest.is_connected() {
            // Only the machine that was seen before, with the account that worked before.
            let (key, user) = (facts.host_key.as_deref()?, facts.ssh_user.as_deref()?);
            let greeting = guest.greet(Some(key), LOOK_MAX).await.ok()?;
            guest.login(greeting, user).await.ok()?;
        }
        guest.run(&command).await.ok()
    });
    let Some(rest) = rest.await else { return Ok(()) };
    let text = rest.stdout.text().to_string();
    if text.is_empty() {
        return Ok(());
    }
    let saved = keep(cx, "installer.log".to_owned(), text).await;
    tell(cx, saved.into_iter().collect()).await
}

/// Waits for a look, but not longer than an undo can spare, and not once nobody is to wait any more.
async fn in_time<T>(cx: &StepCx, look: impl Future<Output = Option<T>>) -> Option<T> {
    let limit = (cx.settings.timing.scaled(cx.settings.timing.undo_limit_s) / 4).min(LOOK_MAX);
    tokio::select! {
        biased;
        () = cx.cancel.cancelled() => None,
        seen = tokio::time::timeout(limit, look) => seen.ok().flatten(),
    }
}

/// Writes a file, redacted and cut to size, unless an earlier undo has written it: what was seen first tells most. Gives
/// its name, relative to the job's directory, when it is new.
async fn keep(cx: &StepCx, name: String, text: String) -> Option<String> {
    let mut text = cx.redactor.text(&text).into_owned();
    text.truncate(text.floor_char_boundary(FILE_MAX));
    let (dir, file) = (dir_of(&cx.settings, cx.job).join(DIR), name.clone());
    let written = blocking(move || write_new(dir, &file, text.as_bytes())).await.and_then(|written| written);
    match written {
        Ok(new) => new.then(|| format!("{DIR}/{name}")),
        Err(error) => {
            tracing::warn!(job = %cx.job, %error, name, "evidence cannot be written; the undo goes on without it");
            None
        }
    }
}

/// Whole or not at all (blocking). False: it was there.
fn write_new(dir: PathBuf, name: &str, bytes: &[u8]) -> io::Result<bool> {
    let (path, next) = (dir.join(name), dir.join(format!(".{name}.next")));
    if path.exists() {
        return Ok(false);
    }
    DirBuilder::new().recursive(true).mode(0o700).create(&dir)?;
    let mut file = OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(&next)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&next, path).map(|()| true)
}

async fn tell(cx: &StepCx, files: Vec<String>) -> Result<(), StepError> {
    if files.is_empty() {
        return Ok(());
    }
    let message = format!("kept before anything is removed: {}", files.join(", "));
    cx.note(Level::Info, "evidence_saved", message, fields(json!({"files": files}))).await
}

fn pretty(value: &Value) -> String {
    serde_json::to_string_pretty(value).unwrap_or_default()
}

/// An id of the cluster as part of a file's name.
fn short(id: &str) -> String {
    id.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-').take(ID_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_written_once_and_its_name_cannot_leave_the_directory() {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join("evidence");
        assert!(write_new(place.clone(), "a.json", b"first").unwrap());
        assert!(!write_new(place.clone(), "a.json", b"second").unwrap());
        assert_eq!(std::fs::read(place.join("a.json")).unwrap(), b"first");
        assert_eq!(std::fs::read_dir(place).unwrap().count(), 1);
        assert_eq!(short("../../etc/passwd 0f-1"), "etcpasswd0f-1");
        assert_eq!(short(&"x".repeat(1_000)).len(), ID_MAX);
    }
}
