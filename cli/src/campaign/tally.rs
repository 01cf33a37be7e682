//! How many sites stand how, and what that means for whoever started the campaign.

use gantry_proto::JobOutcome;

use super::state::{Site, Stage};
use crate::exit::Exit;

/// How many sites stand how. A site is counted once, but for `left_over`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// All of them.
    pub(crate) sites: usize,
    /// Done.
    pub(crate) succeeded: usize,
    /// Their jobs failed.
    pub(crate) failed: usize,
    /// Their jobs were cancelled.
    pub(crate) cancelled: usize,
    /// The controller refused their jobs.
    pub(crate) refused: usize,
    /// Their jobs wait for an operator.
    pub(crate) asks: usize,
    /// Their jobs are at work.
    pub(crate) at_work: usize,
    /// They have not begun.
    pub(crate) waiting: usize,
    /// Their workbooks are wrong, and they were left out.
    pub(crate) skipped: usize,
    /// Where something is left over.
    pub(crate) left_over: usize,
}

impl Tally {
    /// Counts; `asks` knows which jobs wait for an operator.
    pub(crate) fn of(sites: &[Site], asks: impl Fn(usize) -> bool) -> Self {
        let mut tally = Self { sites: sites.len(), ..Self::default() };
        for (index, site) in sites.iter().enumerate() {
            *match &site.stage {
                Stage::Waiting => &mut tally.waiting,
                Stage::Skipped => &mut tally.skipped,
                Stage::Refused { .. } => &mut tally.refused,
                Stage::Submitting | Stage::Running if asks(index) => &mut tally.asks,
                Stage::Submitting | Stage::Running => &mut tally.at_work,
                Stage::Ended(ended) => match ended.outcome {
                    JobOutcome::Succeeded => &mut tally.succeeded,
                    JobOutcome::Failed => &mut tally.failed,
                    JobOutcome::Cancelled => &mut tally.cancelled,
                },
            } += 1;
            tally.left_over += usize::from(matches!(&site.stage, Stage::Ended(ended) if ended.left_over));
        }
        tally
    }

    /// Sites whose turn is over.
    pub(crate) fn done(&self) -> usize {
        self.succeeded + self.failed + self.cancelled + self.refused
    }

    /// What counts against the failure budget.
    pub(crate) fn failures(&self) -> usize {
        self.failed + self.cancelled + self.refused + self.asks
    }

    /// The gravest of what happened.
    pub(crate) fn exit(&self) -> Exit {
        let gravest = [
            (self.left_over, Exit::Leftovers),
            (self.asks, Exit::NeedsOperator),
            (self.failed, Exit::Failed),
            (self.refused, Exit::Refused),
            (self.cancelled, Exit::Cancelled),
            (self.skipped, Exit::Rejected),
        ];
        gravest.iter().find(|(count, _)| *count > 0).map_or(Exit::Done, |(_, exit)| *exit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exit_code_is_the_gravest() {
        let all = Tally { left_over: 1, asks: 1, failed: 1, refused: 1, cancelled: 1, skipped: 1, ..Tally::default() };
        let mut now = all;
        let mut seen = vec![now.exit()];
        for field in [
            |tally: &mut Tally| tally.left_over = 0,
            |tally: &mut Tally| tally.asks = 0,
            |tally: &mut Tally| tally.failed = 0,
            |tally: &mut Tally| tally.refused = 0,
            |tally: &mut Tally| tally.cancelled = 0,
            |tally: &mut Tally| tally.skipped = 0,
        ] {
            field(&mut now);
            seen.push(now.exit());
        }
        assert_eq!(seen.iter().map(|exit| *exit as u8).collect::<Vec<_>>(), [5, 8, 4, 7, 130, 3, 0]);
    }
}
