//! Runs that a seed makes up: faults of the outside world, crashes and restarts of both sides, cuts of the line, pauses, a
//! cancel, a retry. The same seed makes up the same run, as far as the simulator's determinism goes.

use std::time::Duration;

use gantry_sim::{
    SimOptions,
    fault::{Action, Answer, Cut, Fault, Match, When},
    modes::ToUpload,
};

use super::{Crashes, End, Happening, How, Moment, Scenario};

/// A small generator (splitmix64): what a seed means must not change with a library.
struct Draw(u64);

impl Draw {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit.max(1)
    }

    fn one_in(&mut self, of: u64) -> bool {
        self.below(of) == 0
    }

    fn how(&mut self) -> How {
        [How::Before, How::Torn, How::After][self.below(3) as usize]
    }
}

/// Paths of calls that may go wrong once without the job being entitled to fail.
const PATHS: [&str; 9] = [
    "/api/v3/sessions",
    "/api/v2/images",
    "/api/v2/images/upload",
    "/api/v2/images/*",
    "/api/v2/vms",
    "/api/v2/vms/*",
    "/api/v2/jobs/*",
    "/api/v2/management/hosts",
    "/v2/api/*",
];

/// What a seed makes up.
pub fn made_up(seed: u64) -> (Scenario, Crashes) {
    let mut draw = Draw(seed);
    let mut crashes = Crashes::default();
    for _ in 0..draw.below(3) {
        crashes.agent.push((1 + draw.below(150), draw.how()));
    }
    for _ in 0..draw.below(3) {
        crashes.controller.push((1 + draw.below(60), draw.how()));
    }
    let fails = draw.one_in(4);
    let cancel_after = draw.one_in(4).then(|| draw.below(130));
    let retried = fails && cancel_after.is_none() && draw.one_in(2);
    let mut moments: Vec<Moment> = (0..draw.below(4)).map(|_| moment(&mut draw)).collect();
    // A job that has failed and is moved is retried by that: two wishes for one thing.
    let moves = !retried && draw.one_in(4);
    if moves {
        let what = if draw.one_in(2) { Happening::Move } else { Happening::MoveOff };
        moments.push(Moment { after: draw.below(140), what });
        if draw.one_in(2) {
            crashes.second.push((1 + draw.below(100), draw.how()));
        }
    }
    let asks = draw.one_in(5);
    moments.extend(cancel_after.map(|after| Moment { after, what: Happening::Cancel }));
    moments.sort_by_key(|moment| moment.after);
    let faults: Vec<Fault> = (0..draw.below(4)).map(|number| fault(&mut draw, number)).collect();
    let reading = [ToUpload::Remaining, ToUpload::Echo, ToUpload::SingleThenEmpty, ToUpload::Growing, ToUpload::Absent]
        [draw.below(5) as usize];
    let change = move |options: &mut SimOptions| {
        options.modes.to_upload = reading;
        options.faults.extend(faults.iter().cloned());
        if asks {
            super::stranger(options);
        }
        if fails {
            options.modes.guest.installer = gantry_sim::guest::InstallerMode::Fails;
        }
    };
    // The second agent's pre-check may meet the stranger's VM before anything asks.
    let ends: &[End] = match (fails && !retried, asks && moves, cancel_after.is_some()) {
        (false, false, false) => &[End::Succeeded],
        (false, true, false) => &[End::Succeeded, End::FailedAndUndone],
        // One that is moved in its undo is undone, and no more.
        (true, _, false) if moves => &[End::FailedAndUndone, End::CancelledAndUndone],
        (true, _, false) => &[End::FailedAndUndone],
        (false, false, true) => &[End::CancelledAndUndone, End::Succeeded],
        (false, true, true) => &[End::CancelledAndUndone, End::Succeeded, End::FailedAndUndone],
        (true, _, true) => &[End::CancelledAndUndone, End::FailedAndUndone],
    };
    let name = format!("made up by seed {seed}");
    let answer = "look-again";
    let scenario =
        Scenario { name, seed, change: Box::new(change), moments, retried, answer, ends, ..Scenario::happy() };
    (scenario, crashes)
}

fn moment(draw: &mut Draw) -> Moment {
    let what = match draw.below(5) {
        0 => Happening::Cut,
        1 => Happening::Silence(Duration::from_millis(20 + draw.below(200))),
        2 => Happening::RestartAgent,
        3 => Happening::RestartController,
        _ => Happening::Pause,
    };
    Moment { after: draw.below(140), what }
}

fn fault(draw: &mut Draw, number: u64) -> Fault {
    let path = PATHS[draw.below(PATHS.len() as u64) as usize];
    let matches = Match { path: Some(path.to_owned()), ..Match::default() };
    let (when, action) = match draw.below(5) {
        0 => (When::Before, Action::Answer(Answer { status: 503, ..Answer::default() })),
        1 => (When::After, Action::Answer(Answer { status: 500, ..Answer::default() })),
        2 => (When::Before, Action::Reset(Cut::default())),
        3 => (When::After, Action::Close(Cut::default())),
        // A login that is refused is a wrong password, and ends the job by right.
        _ if path == PATHS[0] => (When::Before, Action::Answer(Answer { status: 503, ..Answer::default() })),
        _ => (When::Before, Action::Answer(Answer { status: 401, ..Answer::default() })),
    };
    Fault { when, times: Some(1), ..Fault::new(&format!("chaos-{number}"), matches, action) }
}
