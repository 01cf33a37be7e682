//! How many chunks are in flight: found by goodput and by the server's own time, one as long as the server refuses more.
//! Pure: time is given to it.

use std::time::Duration;

/// So much more has to come of a wider upload, or it becomes narrow again.
const GROWTH: f64 = 1.05;
/// Looks at the goodput before a width that was settled on is doubted again.
const SETTLED_FOR: u32 = 12;

/// The number of chunks in flight.
#[derive(Clone, Debug)]
pub struct Width {
    most: usize,
    fixed: Option<usize>,
    found: usize,
    /// The server has refused a second chunk in flight.
    serial: bool,
    look: Look,
    /// Width and bytes a second before the newest widening, as long as it has to prove itself.
    before: Option<(usize, f64)>,
    settled: u32,
}

/// One look at the goodput.
#[derive(Clone, Copy, Debug, Default)]
struct Look {
    /// Acknowledgements still to come from the width before.
    stale: usize,
    begin: Duration,
    acknowledged: usize,
    bytes: u64,
}

impl Width {
    /// From one on, to `most` at most.
    pub fn new(most: usize, fixed: Option<usize>) -> Self {
        let most = most.max(1);
        let mut width =
            Self { most, fixed: None, found: 1, serial: false, look: Look::default(), before: None, settled: 0 };
        width.fix(fixed);
        width
    }

    /// An operator's number, or `None` to find it.
    pub fn fix(&mut self, fixed: Option<usize>) {
        self.fixed = fixed.map(|count| count.clamp(1, self.most));
    }

    /// How many chunks may be in flight now.
    pub fn now(&self) -> usize {
        if self.serial { 1 } else { self.fixed.unwrap_or(self.found) }
    }

    /// Whether the server takes one chunk at a time only.
    pub fn is_serial(&self) -> bool {
        self.serial
    }

    /// A chunk of `bytes` was acknowledged at `at`, since the upload began. `sending`: how long it took to hand it over;
    /// `server`: how long the answer took then.
    pub fn acknowledged(&mut self, at: Duration, bytes: u64, sending: Duration, server: Duration) {
        if self.serial || self.fixed.is_some() {
            return;
        }
        if self.look.stale > 0 {
            self.look.stale -= 1;
            self.look.begin = at;
            return;
        }
        self.look.acknowledged += 1;
        self.look.bytes += bytes;
        // The first chunk tells enough about how long the server itself takes.
        let is_first = self.found == 1 && self.before.is_none() && self.settled == 0;
        let enough = if is_first { 1 } else { 2 * self.found };
        if self.look.acknowledged < enough {
            return;
        }
        let goodput = self.look.bytes as f64 / at.saturating_sub(self.look.begin).as_secs_f64().max(1e-9);
        let wanted = if is_first { hidden_by(sending, server) } else { 2 * self.found };
        self.look(at, goodput, wanted);
    }

    /// The server has refused a chunk while others were in flight: from now on one by one.
    pub fn refused(&mut self) {
        self.serial = true;
    }

    /// A chunk got lost on the line: half as many, and no widening for a while.
    pub fn lost(&mut self, at: Duration) {
        let narrower = (self.found / 2).max(1);
        (self.before, self.settled) = (None, 1);
        self.set(at, narrower);
    }

    fn look(&mut self, at: Duration, goodput: f64, wanted: usize) {
        let proved = self.before.is_none_or(|(_, before)| goodput >= before * GROWTH);
        match self.before.take() {
            Some((narrower, _)) if !proved => {
                self.settled = 1;
                self.set(at, narrower);
            }
            None if self.settled > 0 && self.settled < SETTLED_FOR => {
                self.settled += 1;
                self.set(at, self.found);
            }
            _ if self.found < self.most => {
                self.before = Some((self.found, goodput));
                self.set(at, wanted.clamp(self.found + 1, self.most));
            }
            _ => {
                self.settled = 1;
                self.set(at, self.found);
            }
        }
    }

    fn set(&mut self, at: Duration, width: usize) {
        // What is in flight was sent under the old width, and tells nothing about the new one.
        let stale = if width == self.found { 0 } else { self.found };
        self.found = width;
        self.look = Look { stale, begin: at, ..Look::default() };
    }
}

/// So many chunks in flight hide the time that the server takes after the last byte of one.
fn hidden_by(sending: Duration, server: Duration) -> usize {
    let ratio = server.as_secs_f64() / sending.as_secs_f64().max(1e-6);
    // Saturates.
    1 + ratio.ceil() as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An upload of `chunks` against a server that takes `server` ms after the last byte, over a line that takes `line` ms
    /// a chunk, of which `lanes` can be busy at a time. Gives seconds and the width at the end.
    fn run(width: &mut Width, chunks: usize, line: f64, server: f64, lanes: usize) -> (f64, usize) {
        let (mut now, mut lines, mut left) = (0.0_f64, vec![0.0_f64; lanes], chunks);
        let mut flying: Vec<(f64, f64)> = Vec::new();
        while left > 0 || !flying.is_empty() {
            while left > 0 && flying.len() < width.now() {
                let free = lines.iter_mut().min_by(|a, b| a.total_cmp(b)).unwrap();
                let begin = free.max(now);
                *free = begin + line;
                flying.push((begin + line + server, begin + line - now));
                left -= 1;
            }
            let next = (0..flying.len()).min_by(|a, b| flying[*a].0.total_cmp(&flying[*b].0)).unwrap();
            let (end, sending) = flying.swap_remove(next);
            now = end;
            let ms = |ms: f64| Duration::from_secs_f64(ms / 1000.0);
            width.acknowledged(ms(now), 8 << 20, ms(sending), ms(server));
        }
        (now / 1000.0, width.now())
    }

    #[test]
    fn the_servers_own_time_is_hidden_from_the_first_chunk_on() {
        for (line, server) in [(10.0, 200.0), (10.0, 20.0), (80.0, 20.0), (10.0, 0.0)] {
            let best =
                (1..=16).map(|n| run(&mut Width::new(16, Some(n)), 256, line, server, 1).0).fold(f64::MAX, f64::min);
            let (found, _) = run(&mut Width::new(16, None), 256, line, server, 1);
            assert!(best / found > 0.93, "{line} {server}: {found} s, best {best} s");
        }
    }

    #[test]
    fn it_stays_narrow_where_more_brings_nothing() {
        let (_, width) = run(&mut Width::new(16, None), 940, 100.0, 1.0, 1);
        assert!(width <= 3, "{width}");
        let (_, width) = run(&mut Width::new(16, None), 940, 100.0, 1.0, 4);
        assert!((4..=8).contains(&width), "{width}");
    }

    #[test]
    fn a_refusal_is_for_good_and_an_operators_number_is_kept() {
        let mut width = Width::new(16, Some(40));
        assert_eq!(width.now(), 16);
        width.fix(Some(4));
        run(&mut width, 100, 10.0, 200.0, 1);
        assert_eq!(width.now(), 4);
        width.refused();
        width.fix(Some(8));
        assert_eq!((width.now(), width.is_serial()), (1, true));
    }

    #[test]
    fn a_loss_halves_it() {
        let mut width = Width::new(16, None);
        run(&mut width, 256, 10.0, 200.0, 1);
        let before = width.now();
        width.lost(Duration::from_secs(100));
        assert_eq!((before, width.now()), (16, 8));
    }
}
