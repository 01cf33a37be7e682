//! What the installer prints, and when: pure, drawn from a seed before the installation starts.

use std::time::Duration;

use crate::rng::Chance;

/// The line that means success (`cloudtower.md` 2.5).
pub const SUCCESS: &str = "Install Operation Center Successfully";
/// The installer's checks, in the order it makes them.
pub const CHECKS: [&str; 8] = [
    "checkDiskSpace",
    "checkPkgArchDist",
    "checkVmSpec",
    "checkIOWait",
    "checkConflictingProcess",
    "checkPackageVersion",
    "checkCAPPDirectoryUsage",
    "checkMagicPatch",
];
/// Virtual seconds between two pieces of output.
const BEAT_SECONDS: [u64; 2] = [1, 20];
/// Lines after success come within this time.
const TAIL: Duration = Duration::from_secs(20);
const LONG_LINE: usize = 4096;

/// How an installation ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// The success line, more lines, this exit status.
    Success { exit: u32 },
    /// A check fails: its name is printed with the reason, exit 1.
    CheckFails(String),
    /// A failure text in the middle, this exit status.
    Fails { exit: u32 },
    /// The process is killed in the middle and says nothing.
    Killed,
    /// In the middle the output stops and the process lives on.
    Silent,
}

/// How the success line is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SuccessLine {
    /// In one piece.
    #[default]
    Plain,
    /// In two pieces, two seconds apart.
    Split,
    /// With colour codes inside.
    Coloured,
    /// After `\r` of a progress line, ended by `\r\n`.
    CarriageReturn,
}

/// What the output is drawn from.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) duration: Duration,
    pub(super) first_line: Duration,
    pub(super) lines: u32,
    pub(super) lines_after: u32,
    pub(super) ending: Ending,
    pub(super) success_line: SuccessLine,
    /// Printed on a line of its own near the start: a secret that the installer gives away (G13).
    pub(super) extra_line: Option<String>,
}

/// One piece of output.
#[derive(Clone, Debug)]
pub(super) struct Beat {
    /// Since the start.
    pub(super) at: Duration,
    pub(super) text: Vec<u8>,
    /// With this piece the success line is complete.
    pub(super) success: bool,
}

/// All output in order.
pub(super) fn script(settings: &Settings, chance: &Chance) -> Vec<Beat> {
    let mut beats = vec![checks(settings)];
    let (until, lines) = match &settings.ending {
        Ending::CheckFails(_) => return beats,
        Ending::Success { .. } => (settings.duration, settings.lines),
        Ending::Fails { .. } | Ending::Killed | Ending::Silent => (settings.duration / 2, settings.lines / 2),
    };
    body(settings, chance, until, lines, &mut beats);
    match &settings.ending {
        Ending::Success { .. } => success(settings, &mut beats),
        Ending::Fails { exit } => beats.push(beat(
            until,
            format!("[ERROR] 组件安装失败 install component tower-api failed: exit code {exit}\nInstall Operation Center Failed\n"),
        )),
        Ending::CheckFails(_) | Ending::Killed | Ending::Silent => {}
    }
    beats
}

/// When the success line is complete, if it ever is.
pub(super) fn success_at(beats: &[Beat]) -> Option<Duration> {
    beats.iter().find(|beat| beat.success).map(|beat| beat.at)
}

fn checks(settings: &Settings) -> Beat {
    let mut text = String::from("==> 开始安装 CloudTower / start deploying operation center\n");
    for check in CHECKS {
        if settings.ending == Ending::CheckFails(check.to_owned()) {
            text.push_str(&format!("[precheck] {check} \x1b[31mFAILED\x1b[0m: requirement not met\n"));
            text.push_str("[ERROR] precheck failed, please fix the problem and run deploy again\n");
            return beat(settings.first_line, text);
        }
        text.push_str(&format!("[precheck] {check} \x1b[32mpassed\x1b[0m\n"));
    }
    if let Some(line) = &settings.extra_line {
        text.push_str(line);
        text.push('\n');
    }
    beat(settings.first_line, text)
}

/// `lines` lines between the first line and `until`, several at each beat.
fn body(settings: &Settings, chance: &Chance, until: Duration, lines: u32, beats: &mut Vec<Beat>) {
    let span = until.saturating_sub(settings.first_line);
    let mut at = settings.first_line;
    let mut printed = 0;
    loop {
        at += chance.duration(
            "guest.installer.beat",
            Duration::from_secs(BEAT_SECONDS[0]),
            Duration::from_secs(BEAT_SECONDS[1]),
        );
        if at >= until {
            break;
        }
        let share = (at - settings.first_line).as_secs_f64() / span.as_secs_f64().max(1e-9);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of 0..1 of a u32")]
        let due = (f64::from(lines) * share) as u32;
        let text: String = (printed..due).map(|number| line(number, lines)).collect();
        printed = due.max(printed);
        if !text.is_empty() {
            beats.push(beat(at, text));
        }
    }
    let rest: String = (printed..lines).map(|number| line(number, lines)).collect();
    beats.push(beat(until.saturating_sub(Duration::from_millis(500)).max(settings.first_line), rest));
}

fn success(settings: &Settings, beats: &mut Vec<Beat>) {
    let at = settings.duration;
    let mut done = match settings.success_line {
        SuccessLine::Plain => beat(at, format!("{SUCCESS}\n")),
        SuccessLine::CarriageReturn => beat(at, format!("finishing  99%\rfinishing 100%\r{SUCCESS}\r\n")),
        SuccessLine::Coloured => {
            beat(at, "\x1b[1mInstall \x1b[32mOperation Center\x1b[0m Success\x1b[0mfully\x1b[0m\n".to_owned())
        }
        SuccessLine::Split => {
            let (first, second) = SUCCESS.split_at(21);
            beats.push(beat(at, first.to_owned()));
            beat(at + Duration::from_secs(2), format!("{second}\n"))
        }
    };
    done.success = true;
    let end = done.at;
    beats.push(done);
    let count = settings.lines_after;
    for number in 0..count {
        let at = end + TAIL * number / count.max(1);
        beats.push(beat(at, format!("[INFO] cleanup step {number}: 清理临时文件 removing temporary files\n")));
    }
}

/// Line `number` of the body: mostly plain, some with what makes log readers stumble.
fn line(number: u32, lines: u32) -> String {
    let component = ["tower-api", "postgres", "prometheus", "nginx", "vector", "inspector"][number as usize % 6];
    match number {
        n if n % 97 == 96 => format!("[DEBUG] {component} values: {}\n", "0123456789abcdef".repeat(LONG_LINE / 16)),
        n if n % 29 == 28 => {
            let steps: String = (0..=100).step_by(20).map(|p| format!("\rloading image {component} {p:3}%")).collect();
            format!("{steps}\n")
        }
        n if n % 23 == 22 => format!("\x1b[33m[WARN]\x1b[0m {component} is not ready yet, retry {n}\n"),
        n if n % 17 == 16 => format!("[INFO] 正在安装组件 {component}（{n}/{lines}）…\n"),
        n => format!("[INFO] step {n}/{lines} installing {component}\n"),
    }
}

fn beat(at: Duration, text: String) -> Beat {
    Beat { at, text: text.into_bytes(), success: false }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(ending: Ending) -> Settings {
        Settings {
            duration: Duration::from_secs(1200),
            first_line: Duration::from_secs(100),
            lines: 2000,
            lines_after: 200,
            ending,
            success_line: SuccessLine::Plain,
            extra_line: None,
        }
    }

    fn text(beats: &[Beat]) -> String {
        String::from_utf8(beats.iter().flat_map(|beat| beat.text.clone()).collect()).expect("text")
    }

    #[test]
    fn a_good_installation_prints_about_2000_lines_in_order() {
        let beats = script(&settings(Ending::Success { exit: 0 }), &Chance::new(1));
        assert!(beats.is_sorted_by_key(|beat| beat.at), "in order");
        assert_eq!(beats[0].at, Duration::from_secs(100));
        assert_eq!(success_at(&beats), Some(Duration::from_secs(1200)));
        let text = text(&beats);
        let lines: Vec<&str> = text.lines().collect();
        assert!((2200..2230).contains(&lines.len()), "{}", lines.len());
        assert!(lines.iter().any(|line| line.len() >= LONG_LINE));
        assert!(text.contains('\r') && text.contains('\x1b') && text.contains("正在安装"));
        assert!(CHECKS.iter().all(|check| text.contains(&format!("{check} \x1b[32mpassed"))));
        let from_end = lines.len() - lines.iter().position(|line| *line == SUCCESS).expect("success");
        assert_eq!(from_end, 201, "200 lines follow");
    }

    #[test]
    fn failures_never_say_success() {
        let endings =
            [Ending::Fails { exit: 1 }, Ending::Killed, Ending::Silent, Ending::CheckFails("checkIOWait".to_owned())];
        for ending in endings {
            let beats = script(&settings(ending.clone()), &Chance::new(1));
            assert_eq!(success_at(&beats), None);
            assert!(!text(&beats).contains(SUCCESS), "{ending:?}");
        }
        let failed = text(&script(&settings(Ending::CheckFails("checkIOWait".to_owned())), &Chance::new(1)));
        assert!(failed.contains("checkIOWait \x1b[31mFAILED") && failed.contains("checkVmSpec \x1b[32mpassed"));
    }

    #[test]
    fn a_split_success_line_comes_in_two_pieces() {
        let mut settings = settings(Ending::Success { exit: 0 });
        settings.success_line = SuccessLine::Split;
        let beats = script(&settings, &Chance::new(1));
        assert_eq!(success_at(&beats), Some(Duration::from_secs(1202)));
        assert!(text(&beats).contains(SUCCESS));
        assert!(beats.iter().all(|beat| !text(std::slice::from_ref(beat)).contains(SUCCESS)));
    }
}
