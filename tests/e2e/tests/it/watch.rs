//! `ctl watch` on a real terminal: what an operator sees of a job at work, the keys, a window that changes its size, and
//! that the terminal is given back however it ends.

use std::{collections::HashSet, time::Duration};

use anyhow::{Context as _, ensure};
use gantry_e2e::{
    Lab, LabOptions, Mode, Terminal,
    delay::{Slow, measure},
    lab::{AGENT, text},
};
use serde_json::{Value, json};

use crate::{
    cancel::when_step_starts,
    support::{events, quick},
};

/// Bytes a second that the agent's settings allow: the ISO of a quick lab would take 64 s.
const SLOW: u64 = 16 << 10;
/// Columns and rows of the window.
const WINDOW: (u16, u16) = (120, 40);
/// A window in which every line has room.
const LARGE: (u16, u16) = (200, 60);

#[tokio::test]
async fn a_terminal_shows_the_job_takes_keys_and_is_given_back() -> anyhow::Result<()> {
    let lab = Lab::start(LabOptions {
        proxied: true,
        controller: json!({"link": {"heartbeat_ms": 1_000, "silence_ms": 1_500}}),
        agent: json!({
            "upload": {"limit_bytes_per_s": SLOW},
            "link": {"connect_timeout_ms": 2_000, "hello_timeout_ms": 2_000, "retry_first_ms": 50, "retry_cap_ms": 1_000},
        }),
        ..quick()
    })
    .await?;
    let job = lab.deploy(&[]).await?;
    when_step_starts(&lab, &job, "upload-iso").await?;
    let mut terminal = lab.ctl_terminal(&["watch", &job], WINDOW)?;
    it_shows_the_job(&mut terminal).await?;
    it_shows_the_contact(&lab, &mut terminal).await?;
    it_has_the_size_of_the_window(&mut terminal).await?;
    it_scrolls(&mut terminal).await?;

    // One that is told to end gives its terminal back, too.
    let mut other = lab.ctl_terminal(&["watch", &job], WINDOW)?;
    other.until_text("overall").await?;
    ensure!(!other.is_cooked()?, "keys do not come one by one");
    other.terminate()?;
    assert_eq!(other.ended().await?.code(), Some(0), "{}", other.text());
    is_given_back(&other)?;

    terminal.press(b"q").await?;
    assert_eq!(terminal.ended().await?.code(), Some(0), "{}", terminal.text());
    is_given_back(&terminal)?;
    let told = terminal.text();
    let next = told.split("--from-seq").nth(1).and_then(|rest| rest.split_whitespace().next());
    let next: u64 = next.with_context(|| format!("where to go on is not told: {told}"))?.parse()?;
    it_goes_on_where_it_was_left(&lab, &job, next).await?;
    lab.stop().await
}

/// The short form of `cargo bench-watch`, which tells how long it takes: here only that nothing is lost on the way.
#[tokio::test]
async fn every_event_comes_to_the_screen_through_two_slow_lines() -> anyhow::Result<()> {
    let line = Slow { round_trip: Duration::from_millis(300), rate: 1_000_000 / 8 };
    let seen = measure(line, quick()).await?;
    ensure!(seen.len() > 20, "only {} events were looked for", seen.len());
    Ok(())
}

/// Steps with their states, the bar of the one at work, and how long all of it will take, from when to when.
async fn it_shows_the_job(terminal: &mut Terminal) -> anyhow::Result<()> {
    let row = |screen: &vt100::Screen, sign: &str, title: &str, more: &[&str]| {
        let fits =
            |row: &String| row.starts_with(&format!("{sign} {title}")) && more.iter().all(|one| row.contains(one));
        screen.rows(0, screen.size().1.get()).any(|row| fits(&row))
    };
    let told = "steps, bar and estimate";
    terminal
        .until(told, |screen| {
            row(screen, "✓", "Check bastion, network and cluster", &[])
                && row(screen, "▸", "Upload the CloudTower ISO", &["█", "░", "%", "/1.0 MiB", "KiB/s"])
                && row(screen, "·", "Create the VM", &[])
                && screen.rows(0, screen.size().1.get()).any(|row| {
                    row.starts_with("overall")
                        && ["█", "%", "about", " left", " to ", ")"].iter().all(|one| row.contains(one))
                })
        })
        .await?;
    ensure!(terminal.screen(|screen| screen.alternate_screen() && screen.hide_cursor()), "it has no screen of its own");
    Ok(())
}

/// An agent that is out of contact is told as a state, and is gone from the screen when it is back.
async fn it_shows_the_contact(lab: &Lab, terminal: &mut Terminal) -> anyhow::Result<()> {
    let out = format!("agent {AGENT} is out of contact for");
    ensure!(!terminal.text().contains(&out), "{}", terminal.text());
    lab.line()?.set(Mode::refuse());
    terminal.until_text(&out).await?;
    lab.line()?.set(Mode::PASS);
    terminal.until_text(&format!("agent {AGENT} is in contact again")).await?;
    let state = |screen: &vt100::Screen| screen.rows(0, screen.size().1.get()).any(|row| row.starts_with(&out));
    terminal.until("the state is gone", |screen| !state(screen)).await
}

/// Every row of the new window is drawn, and no more.
async fn it_has_the_size_of_the_window(terminal: &mut Terminal) -> anyhow::Result<()> {
    for size in [(70, 24), (140, 50), WINDOW] {
        resized(terminal, size).await?;
    }
    Ok(())
}

async fn resized(terminal: &mut Terminal, (columns, rows): (u16, u16)) -> anyhow::Result<()> {
    terminal.resize(columns, rows)?;
    let rule = "─".repeat(usize::from(columns) - 1);
    terminal
        .until(&format!("a picture of {columns} by {rows}"), |screen| {
            let all: Vec<String> = screen.rows(0, columns).collect();
            all.contains(&rule)
                && all.last().is_some_and(|row| row.starts_with("q detach"))
                && all.first().is_some_and(|row| row.starts_with("job "))
                && all.iter().any(|row| row.starts_with("overall"))
        })
        .await
}

/// By lines, by pages, to the first and to the last.
async fn it_scrolls(terminal: &mut Terminal) -> anyhow::Result<()> {
    let back = "newer lines below";
    let below = |screen: &vt100::Screen| -> Option<u32> {
        let foot = screen.rows(0, screen.size().1.get()).last()?;
        foot.split_once(back)?.0.trim().parse().ok()
    };
    ensure!(terminal.screen(below).is_none(), "it has been scrolled: {}", terminal.text());
    // A key that is pressed while the size changes may wait for the next one: crossterm reads them from one poll.
    resized(terminal, (WINDOW.0, 24)).await?;
    terminal.press(b"\x1b[A\x1b[A").await?;
    terminal.until("two lines up", |screen| below(screen).is_some_and(|lines| lines >= 2)).await?;
    terminal.press(b"\x1b[B").await?;
    terminal.press(b"\x1b[5~").await?;
    terminal.until("a page up", |screen| below(screen).is_some_and(|lines| lines > 4)).await?;
    terminal.press(b"\x1b[H").await?;
    terminal.until_text(&format!("agent {AGENT} (version")).await?;
    terminal.press(b"\x1b[6~").await?;
    terminal.until("a page down", |screen| !screen.contents().contains(&format!("agent {AGENT} (version"))).await?;
    terminal.press(b"\x1b[F").await?;
    terminal.until("the newest", |screen| below(screen).is_none()).await
}

/// The shell has its terminal again: its own screen, the cursor, lines that are edited.
fn is_given_back(terminal: &Terminal) -> anyhow::Result<()> {
    ensure!(terminal.screen(|screen| !screen.alternate_screen()), "the screen is not the shell's");
    ensure!(terminal.screen(|screen| !screen.hide_cursor()), "the cursor is hidden");
    ensure!(terminal.is_cooked()?, "lines are not edited");
    // The last picture stays.
    ensure!(terminal.text().contains("overall"), "nothing is left to be seen: {}", terminal.text());
    Ok(())
}

/// The job went on meanwhile; whoever follows it again misses nothing, and sees nothing twice.
async fn it_goes_on_where_it_was_left(lab: &Lab, job: &str, next: u64) -> anyhow::Result<()> {
    let said = lab.ctl(&["upload", job, "--limit", "none"]).await?;
    ensure!(said.status.success(), "{}", text(&said));
    when_step_starts(lab, job, "wait-guest-agent").await?;
    let mut terminal = lab.ctl_terminal(&["watch", job, "--from-seq", &next.to_string()], LARGE)?;
    assert_eq!(terminal.ended().await?.code(), Some(0), "{}\n{}", terminal.text(), lab.logs());
    is_given_back(&terminal)?;
    ensure!(terminal.text().contains("CloudTower is ready"), "{}", terminal.text());
    let seen: HashSet<String> = terminal.seen_rows().into_keys().collect();
    let all = events(lab, job).await?;
    assert!(all.iter().zip(1..).all(|(event, seq)| event["seq"] == seq), "the log has no gap");
    ensure!(all.len() as u64 > next, "nothing happened meanwhile");
    let mut told = 0;
    for event in &all {
        let Some(words) = words(event) else { continue };
        let clock = &event["at"].as_str().context("no time")?[11..19];
        let shown = seen.iter().any(|row| row.starts_with(clock) && row.contains(&words));
        ensure!(shown, "event {} was never on the screen: {clock} {words}", event["seq"]);
        told += 1;
    }
    ensure!(told > 20, "only {told} events were looked for");
    Ok(())
}

/// What of an event stands on its line for certain; `None` for one that only engineers read.
fn words(event: &Value) -> Option<String> {
    match event["event"].as_str()? {
        // A long message is cut at the window's edge.
        "note" if event["level"] != "debug" => Some(event["message"].as_str()?.chars().take(80).collect()),
        "step_started" => Some(": begun".to_owned()),
        "step_succeeded" => Some(": done in".to_owned()),
        _ => None,
    }
}
