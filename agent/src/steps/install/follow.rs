//! Follows the installer's log to its verdict (4.5): by byte offset, through lost connections, without gap or duplicate
//! in our own file.

use gantry_proto::{Failure, Level};
use serde_json::json;
use tokio::time::Instant;

use super::super::{
    shell,
    story::{extra, permanent, story},
};
use super::{WEIGHT, start};
use crate::{
    facts::{Facts, InstallerFact},
    guest::{
        LogFile, Status,
        installer::{Reader, Verdict},
        scripts,
    },
    step::{Progress, StepCx, StepError},
};

/// Longest progress text, characters (`flow.md` 4.5).
const TEXT_MAX: usize = 200;
/// The installer's last lines that go along with a progress.
const TOLD_LINES: usize = 5;
/// Longest line in a failure's detail, characters.
const DETAIL_LINE_MAX: usize = 500;
/// After the success text the process may go on for so long (seconds at scale 1) before it is left alone.
const FINISHING_LIMIT_S: f64 = 60.0;
/// Seconds (at scale 1) between two looks then.
const FINISHING_POLL_S: f64 = 5.0;
/// Starts in all: one automatic re-run after a failed pre-check.
const STARTS: u32 = 2;

/// Where the reader is in the log.
struct Follow {
    reader: Reader,
    started: Instant,
    /// Name and inode of the file being read.
    file: Option<(&'static str, u64)>,
    /// Read up to here.
    offset: u64,
    /// In our own file up to here; behind `offset` never, before it only while an earlier part is read again.
    stored: u64,
    /// The last line end in our own file: what a restart goes on from.
    line_end: u64,
    warned: Warned,
    success_at: Option<Instant>,
}

/// What has been warned of.
#[derive(Default)]
struct Warned {
    missing: bool,
    slow: bool,
}

/// Follows until the verdict; makes the one re-run.
pub(super) async fn follow(cx: &StepCx, facts: &mut Facts) -> Result<(), StepError> {
    let mut follow = Follow::resume(facts);
    loop {
        let (status, behind) = follow.poll(cx, facts).await?;
        follow.tell(cx);
        if behind {
            cx.check()?;
            continue;
        }
        let timing = &cx.settings.timing;
        match follow.reader.verdict(&status, follow.started.elapsed(), timing.scaled(timing.installer_limit_s)) {
            Verdict::Running => follow.warn(cx, &status).await?,
            Verdict::Finishing if !follow.waited_enough(cx) => {
                cx.sleep(timing.scaled(FINISHING_POLL_S.min(timing.installer_poll_s))).await?;
                continue;
            }
            Verdict::Finishing => return follow.succeeded(cx, facts, None).await,
            Verdict::Succeeded { rc } => return follow.succeeded(cx, facts, rc).await,
            Verdict::Failed { failed_checks, .. }
                if may_run_again(shell::installer(cx, facts).await?, &failed_checks) =>
            {
                follow.run_again(cx, facts, &failed_checks).await?;
            }
            Verdict::Failed { rc, failed_checks } => return Err(follow.failed(cx, facts, rc, failed_checks).await?),
            Verdict::TooLate => return Err(follow.too_late(cx, facts).await?),
        }
        cx.sleep(timing.scaled(timing.installer_poll_s)).await?;
    }
}

impl Follow {
    /// After a restart the log is read again from its beginning, so that the verdict sees it whole; only what is not
    /// yet in our own file goes there.
    fn resume(facts: &Facts) -> Self {
        let stored = facts.installer.as_ref().map_or(0, |installer| installer.offset);
        Self {
            reader: Reader::default(),
            started: Instant::now(),
            file: None,
            offset: 0,
            stored,
            line_end: stored,
            warned: Warned::default(),
            success_at: None,
        }
    }

    /// One look: the process first, then what the log has grown by, so that a process that is gone has nothing more to
    /// say. True when there is more than one look may read.
    async fn poll(&mut self, cx: &StepCx, facts: &mut Facts) -> Result<(Status, bool), StepError> {
        let output = shell::run_quietly(cx, facts, &scripts::installer_status(&cx.settings.guest)).await?;
        let status = Status::parse(&output.stdout.bytes());
        let Some((name, log)) = newest(&status) else { return Ok((status, false)) };
        self.settle_on(cx, facts, name, log).await?;
        let path = format!("{}/{name}", cx.settings.guest.work_dir);
        let most = cx.settings.guest.log_poll_bytes.clamp(1, u64::from(u32::MAX));
        let due = log.size.saturating_sub(self.offset).min(most);
        if due > 0 {
            let output = shell::run_quietly(cx, facts, &scripts::read_log(&path, self.offset, due)).await?;
            self.take(cx, facts, &output.stdout.bytes()).await?;
            if output.stdout.total() == 0 {
                // It shrank between the two commands: the next look sees it.
                return Ok((status, false));
            }
        }
        if self.reader.success() {
            self.success_at.get_or_insert_with(Instant::now);
        }
        Ok((status, self.offset < log.size))
    }

    /// Begins anew where the file is another one or has shrunk (G12).
    async fn settle_on(
        &mut self,
        cx: &StepCx,
        facts: &mut Facts,
        name: &'static str,
        log: LogFile,
    ) -> Result<(), StepError> {
        let other = self.file.is_some_and(|file| file != (name, log.inode));
        // After a restart the recorded name tells, and a file shorter than what we have of it is a new one.
        let installer = shell::installer(cx, facts).await?;
        let renamed = self.file.is_none() && installer.log_file.as_deref().is_some_and(|known| known != name);
        let shrunk = log.size < self.offset || (self.file.is_none() && log.size < self.stored);
        self.file = Some((name, log.inode));
        if other || renamed || shrunk {
            (self.offset, self.stored, self.line_end) = (0, 0, 0);
            let message = "the installer's log was replaced or cut: reading it from its beginning";
            cx.note(Level::Warning, "installer_log_restarted", message, extra([("file", json!(name))])).await?;
        }
        let installer = shell::installer(cx, facts).await?;
        if installer.log_file.as_deref() != Some(name) {
            installer.log_file = Some(name.to_owned());
            cx.save(facts).await?;
        }
        Ok(())
    }

    /// Takes new bytes in: to the reader all of them, to our own file those that are not there yet.
    async fn take(&mut self, cx: &StepCx, facts: &mut Facts, bytes: &[u8]) -> Result<(), StepError> {
        self.reader.push(bytes);
        let known = usize::try_from(self.stored.saturating_sub(self.offset)).unwrap_or(usize::MAX).min(bytes.len());
        let fresh = &bytes[known..];
        self.offset += bytes.len() as u64;
        if fresh.is_empty() {
            return Ok(());
        }
        shell::append(cx, facts, fresh).await?;
        self.stored = self.offset;
        if let Some(end) = fresh.iter().rposition(|byte| *byte == b'\n') {
            // The log's writer holds an unfinished line back, so a restart has to begin at a line's beginning.
            self.line_end = self.stored - (fresh.len() - end - 1) as u64;
            shell::installer(cx, facts).await?.offset = self.line_end;
            cx.save(facts).await?;
        }
        Ok(())
    }

    fn tell(&self, cx: &StepCx) {
        let elapsed = cx.settings.timing.told(self.started.elapsed());
        let line = self.reader.last_line();
        let text: String = cx.redactor.text(&line).chars().take(TEXT_MAX).collect();
        let total = u64::from(WEIGHT);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "seconds, positive and small")]
        let done = (elapsed as u64).min(total - 1);
        let cut = |line: &String| -> String { cx.redactor.text(line).chars().take(TEXT_MAX).collect() };
        let tail = self.reader.tail();
        let tail: Vec<String> = tail[tail.len().saturating_sub(TOLD_LINES)..].iter().map(cut).collect();
        let extra =
            extra([("elapsed", json!(elapsed.round())), ("log_bytes", json!(self.offset)), ("tail", json!(tail))]);
        cx.progress(Progress { done, total, unit: "seconds", per_second: 0.0, text, extra });
    }

    async fn warn(&mut self, cx: &StepCx, status: &Status) -> Result<(), StepError> {
        let (timing, elapsed) = (&cx.settings.timing, self.started.elapsed());
        if !self.warned.missing && newest(status).is_none() && elapsed >= timing.scaled(timing.installer_log_grace_s) {
            self.warned.missing = true;
            let seconds = timing.installer_log_grace_s;
            let message = format!("the installer has written no log for {seconds:.0} s; waiting on");
            cx.note(Level::Warning, "installer_log_missing", message, extra([])).await?;
        }
        if !self.warned.slow && elapsed >= timing.scaled(timing.installer_warn_s) {
            self.warned.slow = true;
            let (warn, limit) = (timing.installer_warn_s, timing.installer_limit_s);
            let message = format!("the installer works for more than {warn:.0} s; it may take up to {limit:.0} s");
            cx.note(Level::Warning, "installer_slow", message, extra([])).await?;
        }
        Ok(())
    }

    fn waited_enough(&self, cx: &StepCx) -> bool {
        let limit = cx.settings.timing.scaled(FINISHING_LIMIT_S);
        self.success_at.is_some_and(|success| success.elapsed() >= limit)
    }

    async fn succeeded(&self, cx: &StepCx, facts: &mut Facts, rc: Option<i64>) -> Result<(), StepError> {
        let elapsed = cx.settings.timing.told(self.started.elapsed());
        if let Some(rc) = rc.filter(|rc| *rc != 0) {
            let message = format!("the installer reported success, yet ended with {rc}");
            cx.note(Level::Warning, "installer_exit_status", message, extra([("rc", json!(rc))])).await?;
        }
        shell::installer(cx, facts).await?.finished = true;
        cx.save(facts).await?;
        let fields = extra([("elapsed", json!(elapsed)), ("rc", json!(rc)), ("log_bytes", json!(self.offset))]);
        cx.note(Level::Info, "installer_succeeded", "CloudTower is installed", fields).await
    }

    /// The documented recovery from a failed pre-check, once (`cloudtower.md` 2.4), or what an operator's retry asks for.
    async fn run_again(&mut self, cx: &StepCx, facts: &mut Facts, checks: &[String]) -> Result<(), StepError> {
        let (code, message) = if checks.is_empty() {
            let message = "the installer has ended without success; as the job is retried, it is run once more in the \
                           same VM (if that does not help: undo the job, and deploy anew)";
            ("installer_run_again", message.to_owned())
        } else {
            let message = format!("the installer's pre-check {} failed; running it once more", checks.join(", "));
            ("installer_precheck_retry", message)
        };
        cx.note(Level::Warning, code, message, extra([("checks", json!(checks))])).await?;
        start::start(cx, facts).await?;
        // The same file goes on; what it said before is no verdict on the second run.
        self.reader = Reader::default();
        (self.started, self.warned) = (Instant::now(), Warned::default());
        Ok(())
    }

    async fn failed(
        &self,
        cx: &StepCx,
        facts: &mut Facts,
        rc: Option<i64>,
        checks: Vec<String>,
    ) -> Result<StepError, StepError> {
        let last = self.reader.last_line();
        let (code, message, remedy) = match (rc, checks.is_empty()) {
            (_, false) => (
                "installer_precheck_failed",
                format!("the installer's pre-check {} failed: {last}", checks.join(", ")),
                remedy_for(&checks),
            ),
            (Some(rc @ 129..), true) => (
                "installer_killed",
                format!("the installer was killed by signal {} and without its success text: {last}", rc - 128),
                "look at the VM's console for a reboot or a lack of memory, then retry the job",
            ),
            (Some(rc), true) => (
                "installer_failed",
                format!("the installer ended with {rc} and without its success text: {last}"),
                "read the last lines in the failure's detail and the installer's log of the job",
            ),
            (None, true) => (
                "installer_vanished",
                format!("the installer's process is gone without a word (killed, or the VM was rebooted): {last}"),
                "look at the VM's console for a reboot or a lack of memory, then retry the job",
            ),
        };
        // A failed pre-check has changed nothing: the installer may run again in this VM.
        shell::installer(cx, facts).await?.failed = checks.is_empty();
        self.story(cx, facts, story(code, message, remedy), rc).await
    }

    async fn too_late(&self, cx: &StepCx, facts: &mut Facts) -> Result<StepError, StepError> {
        let limit = cx.settings.timing.installer_limit_s;
        let last = self.reader.last_line();
        let message = if self.offset == 0 {
            format!("the installer has run for {limit:.0} s and never wrote a log")
        } else {
            format!("the installer has run for {limit:.0} s without its success text; its last words: {last}")
        };
        let remedy = "check disk space and disk latency in the VM (detail: free_space); raise timing.installer_limit_s \
                      if the cluster is just slow";
        shell::installer(cx, facts).await?.failed = true;
        self.story(cx, facts, story("installer_timeout", message, remedy), None).await
    }

    /// Adds what a person needs to find the cause.
    async fn story(
        &self,
        cx: &StepCx,
        facts: &mut Facts,
        mut failure: Failure,
        rc: Option<i64>,
    ) -> Result<StepError, StepError> {
        cx.save(facts).await?;
        let space = start::free_space(cx, facts).await?;
        let cut = |line: &String| cx.redactor.text(line).chars().take(DETAIL_LINE_MAX).collect::<String>();
        let tail: Vec<String> = self.reader.tail().iter().map(cut).collect();
        failure.message = cx.redactor.text(&failure.message).chars().take(DETAIL_LINE_MAX).collect();
        failure.detail = extra([
            ("rc", json!(rc)),
            ("named_checks", json!(self.reader.named_checks())),
            ("failed_checks", json!(self.reader.failed_checks())),
            ("last_lines", json!(tail)),
            ("free_space", json!(space)),
            ("elapsed", json!(cx.settings.timing.told(self.started.elapsed()))),
        ]);
        Ok(permanent(failure))
    }
}

/// One re-run in each epoch that a retry begins, and an automatic one after a failed pre-check; also one that was written
/// down before a restart, but perhaps not made.
fn may_run_again(installer: &InstallerFact, failed_checks: &[String]) -> bool {
    installer.again || !installer.started || (!failed_checks.is_empty() && installer.starts < STARTS)
}

/// Our own log first, then that of an installation started by hand (C7).
fn newest(status: &Status) -> Option<(&'static str, LogFile)> {
    status.out.map(|log| ("installer.out", log)).or_else(|| status.nohup.map(|log| ("nohup.out", log)))
}

/// What to do about a failed check (`cloudtower.md` 2.5).
fn remedy_for(checks: &[String]) -> &'static str {
    match checks.first().map(String::as_str) {
        Some("checkDiskSpace") => {
            "give the VM a larger disk (profile: 100 GiB low, 400 GiB high), then start a new job"
        }
        Some("checkVmSpec") => "give the VM at least 4 vCPU and 12 GiB (low) or 8 vCPU and 19 GiB (high)",
        Some("checkIOWait") => "the disk's latency is above 30 ms: retry the job when the storage is less loaded",
        Some("checkPkgArchDist") => "the ISO is for another architecture or distribution: use the right one",
        _ => "read the last lines in the failure's detail, remove the cause, then retry the job",
    }
}
