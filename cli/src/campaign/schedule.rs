//! Which sites go next: pure, from how each site stands. Canaries first, so many at a time, until the budget is spent.

/// Where a campaign's bounds are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Jobs at a time.
    pub(crate) max_parallel: usize,
    /// Sites that must succeed before the others begin.
    pub(crate) canary: usize,
    /// Failures with which no further job begins.
    pub(crate) max_failures: usize,
}

/// How a site stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stand {
    /// Left out.
    Skipped,
    /// It has not begun.
    Waiting,
    /// Its job is submitted and has not ended.
    AtWork,
    /// Its job waits for an operator: it is at work and counts as failed until it goes on.
    Asks,
    /// Done.
    Succeeded,
    /// Failed, cancelled or refused.
    Failed,
}

/// What is to be done now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// These sites begin.
    Begin(Vec<usize>),
    /// Nothing begins now; jobs are at work.
    Follow,
    /// Something could begin, but the campaign is paused, and nothing is at work.
    Held,
    /// Nothing more will happen.
    Over(Stop),
}

/// Why nothing more happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// Every site has had its turn.
    Done,
    /// The failure budget is spent.
    Budget,
    /// A canary failed.
    Canary,
    /// Only jobs that wait for an operator are left.
    Asks,
}

/// What is to be done now.
pub(crate) fn next(sites: &[Stand], limits: Limits, paused: bool) -> Next {
    let count = |stand: Stand| sites.iter().filter(|site| **site == stand).count();
    let (at_work, asks) = (count(Stand::AtWork), count(Stand::Asks));
    let ranked = || sites.iter().enumerate().filter(|(_, stand)| **stand != Stand::Skipped);
    let canaries = || ranked().take(limits.canary);
    let proven = canaries().all(|(_, stand)| *stand == Stand::Succeeded);
    let stop = if canaries().any(|(_, stand)| *stand == Stand::Failed) {
        Some(Stop::Canary)
    } else if count(Stand::Failed) + asks >= limits.max_failures {
        Some(Stop::Budget)
    } else {
        None
    };
    let may_go = if proven { usize::MAX } else { limits.canary };
    let room = if stop.is_some() { 0 } else { limits.max_parallel.saturating_sub(at_work + asks) };
    let waiting = ranked().take(may_go).filter(|(_, stand)| **stand == Stand::Waiting);
    let begin: Vec<usize> = waiting.take(room).map(|(index, _)| index).collect();
    match (begin.is_empty(), stop) {
        (false, _) if !paused => Next::Begin(begin),
        _ if at_work > 0 => Next::Follow,
        (false, _) => Next::Held,
        (true, Some(stop)) if count(Stand::Waiting) > 0 => Next::Over(stop),
        (true, _) if asks > 0 => Next::Over(Stop::Asks),
        (true, _) => Next::Over(Stop::Done),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMITS: Limits = Limits { max_parallel: 2, canary: 1, max_failures: 2 };

    fn stands(text: &str) -> Vec<Stand> {
        let stand = |c| match c {
            '-' => Stand::Skipped,
            '.' => Stand::Waiting,
            'w' => Stand::AtWork,
            '?' => Stand::Asks,
            's' => Stand::Succeeded,
            _ => Stand::Failed,
        };
        text.chars().map(stand).collect()
    }

    #[test]
    fn each_situation_has_its_answer() {
        for (sites, expected) in [
            ("....", Next::Begin(vec![0])),
            ("-...", Next::Begin(vec![1])),
            ("w...", Next::Follow),
            ("?...", Next::Over(Stop::Asks)),
            ("f...", Next::Over(Stop::Canary)),
            ("s...", Next::Begin(vec![1, 2])),
            ("sw..", Next::Begin(vec![2])),
            ("sww.", Next::Follow),
            ("sw?.", Next::Follow),
            ("sf..", Next::Begin(vec![2, 3])),
            ("sff.", Next::Over(Stop::Budget)),
            ("sfw?.", Next::Follow),
            ("sf?.", Next::Over(Stop::Budget)),
            ("s??..", Next::Over(Stop::Budget)),
            ("sss?", Next::Over(Stop::Asks)),
            ("ssff", Next::Over(Stop::Done)),
            ("s-ss", Next::Over(Stop::Done)),
            ("", Next::Over(Stop::Done)),
        ] {
            assert_eq!(next(&stands(sites), LIMITS, false), expected, "{sites}");
        }
    }

    #[test]
    fn a_paused_campaign_begins_nothing_and_does_not_end() {
        assert_eq!(next(&stands("s.."), LIMITS, true), Next::Held);
        assert_eq!(next(&stands("sw."), LIMITS, true), Next::Follow);
        assert_eq!(next(&stands("sss"), LIMITS, true), Next::Over(Stop::Done), "there is nothing to hold");
    }

    #[test]
    fn without_canaries_all_go_at_once() {
        let limits = Limits { canary: 0, max_parallel: 3, ..LIMITS };
        assert_eq!(next(&stands("...."), limits, false), Next::Begin(vec![0, 1, 2]));
    }

    /// What happens to one job at work, or to the campaign.
    #[derive(Clone, Copy, Debug)]
    enum Happening {
        Ends(usize, bool),
        Asks(usize),
        Answered(usize),
        Pause(bool),
    }

    fn happening() -> impl Strategy<Value = Happening> {
        prop_oneof![
            4 => (any::<usize>(), prop::bool::weighted(0.8)).prop_map(|(n, well)| Happening::Ends(n, well)),
            1 => any::<usize>().prop_map(Happening::Asks),
            1 => any::<usize>().prop_map(Happening::Answered),
            1 => any::<bool>().prop_map(Happening::Pause),
        ]
    }

    proptest! {
        #[test]
        fn the_bounds_hold_whatever_happens(
            skipped in prop::collection::vec(prop::bool::weighted(0.1), 0..40),
            (max_parallel, canary, max_failures) in (1usize..6, 0usize..5, 1usize..5),
            happenings in prop::collection::vec(happening(), 0..200),
        ) {
            let limits = Limits { max_parallel, canary, max_failures };
            let stand = |skipped: &bool| if *skipped { Stand::Skipped } else { Stand::Waiting };
            let mut sites: Vec<Stand> = skipped.iter().map(stand).collect();
            let canaries: Vec<usize> = (0..sites.len()).filter(|i| !skipped[*i]).take(canary).collect();
            let mut begun = vec![0u32; sites.len()];
            let (mut paused, mut happenings) = (false, happenings.into_iter());
            // What may happen runs out, then everything ends well: so there is an end.
            for _ in 0..1000 {
                let count = |sites: &[Stand], stand| sites.iter().filter(|site| **site == stand).count();
                match next(&sites, limits, paused) {
                    Next::Begin(which) => {
                        prop_assert!(!paused && !which.is_empty());
                        prop_assert!(count(&sites, Stand::Failed) + count(&sites, Stand::Asks) < max_failures);
                        let proven = canaries.iter().all(|i| sites[*i] == Stand::Succeeded);
                        for index in which {
                            prop_assert!(proven || canaries.contains(&index), "{index} before its canaries");
                            prop_assert_eq!(sites[index], Stand::Waiting);
                            sites[index] = Stand::AtWork;
                            begun[index] += 1;
                        }
                        prop_assert!(count(&sites, Stand::AtWork) + count(&sites, Stand::Asks) <= max_parallel);
                        continue;
                    }
                    Next::Follow => prop_assert!(count(&sites, Stand::AtWork) > 0),
                    Next::Held => prop_assert!(paused && count(&sites, Stand::Waiting) > 0),
                    Next::Over(stop) => {
                        prop_assert_eq!(count(&sites, Stand::AtWork), 0);
                        let all = count(&sites, Stand::Waiting) == 0 && count(&sites, Stand::Asks) == 0;
                        prop_assert_eq!(stop == Stop::Done, all);
                        prop_assert!(begun.iter().all(|times| *times <= 1), "a site begins once");
                        return Ok(());
                    }
                }
                let nth = |stand: Stand, n: usize| {
                    let which: Vec<usize> = (0..sites.len()).filter(|i| sites[*i] == stand).collect();
                    which.get(n.checked_rem(which.len())?).copied()
                };
                let well = if paused { Happening::Pause(false) } else { Happening::Ends(0, true) };
                match happenings.next().unwrap_or(well) {
                    Happening::Ends(n, well) => if let Some(index) = nth(Stand::AtWork, n) {
                        sites[index] = if well { Stand::Succeeded } else { Stand::Failed };
                    },
                    Happening::Asks(n) => if let Some(index) = nth(Stand::AtWork, n) { sites[index] = Stand::Asks },
                    Happening::Answered(n) => if let Some(index) = nth(Stand::Asks, n) { sites[index] = Stand::AtWork },
                    Happening::Pause(now) => paused = now,
                }
            }
            prop_assert!(false, "no end: {sites:?}");
        }
    }
}
