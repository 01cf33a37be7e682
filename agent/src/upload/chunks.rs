//! What to send next, under every reading of `to_upload` (`fisheye.md` 6.2, C4). Pure.

use std::collections::{BTreeSet, VecDeque};

/// Chunks of one volume, at most: a smaller chunk size is refused instead of filling the memory (U16).
pub(super) const MOST_CHUNKS: u64 = 1_000_000;

/// The plan of one volume: a first pass in ascending order that nothing stops, then bounded rounds over what the server
/// still names.
#[derive(Clone, Debug)]
pub struct Chunks {
    size: u64,
    chunk_size: u64,
    count: u64,
    acknowledged: BTreeSet<u64>,
    todo: VecDeque<u64>,
    in_flight: BTreeSet<u64>,
    /// Those in flight that were so together with another one.
    in_company: BTreeSet<u64>,
    /// The newest `to_upload`: `None` as long as none came. Of answers to chunks that were in flight together nobody knows
    /// which is the newest: then what all of them name.
    named: Option<Vec<i64>>,
    rounds_left: u32,
    /// How many the server named at the beginning of the round at hand; `None` in the first pass.
    round_of: Option<usize>,
    doubtful: bool,
}

/// Why a volume cannot be filled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChunkPlanError {
    #[error("the server's chunk size is 0")]
    Zero,
    #[error("the server's chunk size of {chunk_size} bytes makes {count} chunks, at most {MOST_CHUNKS} are handled")]
    TooMany { chunk_size: u64, count: u64 },
}

impl Chunks {
    /// A plan for `size` bytes. `named`: the volume's first `to_upload`. `acknowledged`: known from before a restart.
    pub fn new(
        size: u64,
        chunk_size: u64,
        named: Option<&[i64]>,
        acknowledged: BTreeSet<u64>,
        rounds: u32,
    ) -> Result<Self, ChunkPlanError> {
        if chunk_size == 0 {
            return Err(ChunkPlanError::Zero);
        }
        let count = size.div_ceil(chunk_size);
        if count > MOST_CHUNKS {
            return Err(ChunkPlanError::TooMany { chunk_size, count });
        }
        let named: Option<BTreeSet<u64>> = named.map(|list| in_range(list, count).collect());
        let wanted = |index: &u64| named.as_ref().is_none_or(|named| named.is_empty() || named.contains(index));
        let acknowledged: BTreeSet<u64> = acknowledged.into_iter().filter(|index| *index < count).collect();
        let todo = (0..count).filter(|index| !acknowledged.contains(index)).filter(wanted).collect();
        Ok(Self {
            size,
            chunk_size,
            count,
            acknowledged,
            todo,
            in_flight: BTreeSet::new(),
            in_company: BTreeSet::new(),
            named: None,
            rounds_left: rounds,
            round_of: None,
            doubtful: false,
        })
    }

    /// How many chunks there are.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Bytes of the whole.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// How many are acknowledged.
    pub fn done(&self) -> u64 {
        self.acknowledged.len() as u64
    }

    /// Bytes that are acknowledged.
    pub fn done_bytes(&self) -> u64 {
        let last = self.count.checked_sub(1).filter(|last| self.acknowledged.contains(last));
        let short = last.map_or(0, |last| self.chunk_size - self.len_of(last));
        (self.done() * self.chunk_size).saturating_sub(short)
    }

    /// Where a chunk begins in the file.
    pub fn offset_of(&self, index: u64) -> u64 {
        index.saturating_mul(self.chunk_size)
    }

    /// Bytes of a chunk: all but the last one have the full size.
    pub fn len_of(&self, index: u64) -> u64 {
        self.chunk_size.min(self.size.saturating_sub(self.offset_of(index)))
    }

    /// Whether everything was acknowledged but the server's list says otherwise: the image list has to decide.
    pub fn is_doubtful(&self) -> bool {
        self.doubtful
    }

    /// Whether chunks are sent again that the server still names: each answer then tells whether to go on with it.
    pub fn is_in_round(&self) -> bool {
        self.round_of.is_some()
    }

    /// Whether nothing is in flight and nothing is left to send.
    pub fn is_over(&self) -> bool {
        // Taking one from a copy: only then the server's list is asked for a further round.
        self.in_flight.is_empty() && self.clone().take_next().is_none()
    }

    /// The next chunk to send; `None` when those in flight have to come back first, or there is nothing left.
    pub fn take_next(&mut self) -> Option<u64> {
        if self.todo.is_empty() && self.in_flight.is_empty() {
            self.next_round();
        }
        let index = self.todo.pop_front()?;
        if !self.in_flight.is_empty() {
            self.in_company.extend(&self.in_flight);
            self.in_company.insert(index);
        }
        self.in_flight.insert(index);
        Some(index)
    }

    /// A chunk was acknowledged, with the server's newest `to_upload`. Whether it was for the first time.
    pub fn acknowledge(&mut self, index: u64, named: Option<Vec<i64>>) -> bool {
        self.in_flight.remove(&index);
        let is_first = self.acknowledged.insert(index);
        let still_named =
            named.as_ref().is_some_and(|list| list.iter().any(|named| u64::try_from(*named) == Ok(index)));
        let together = self.in_company.remove(&index);
        self.named = match (self.named.take(), named) {
            (Some(before), Some(now)) if together => Some(both(before, &now)),
            (before, None) if together => before,
            (_, now) => now,
        };
        // In a round the server's list is put to the test by each answer: one that still names what was just written
        // will name it for ever.
        if self.round_of.is_some() && still_named {
            self.doubtful = true;
            self.todo.clear();
            self.rounds_left = 0;
        }
        is_first
    }

    fn next_round(&mut self) {
        let missing: Vec<u64> = (0..self.count).filter(|index| !self.acknowledged.contains(index)).collect();
        let again: Vec<u64> = match &self.named {
            Some(list) if list.is_empty() => return,
            Some(list) => {
                let valid: BTreeSet<u64> = in_range(list, self.count).collect();
                let odd = valid.len() != list.len();
                let stuck = self.round_of.is_some_and(|before| valid.len() >= before);
                if odd || stuck || self.rounds_left == 0 {
                    self.doubtful = true;
                    // What was never sent is sent, whatever the list says.
                    missing
                } else {
                    valid.into_iter().collect()
                }
            }
            None => missing,
        };
        if !again.is_empty() {
            self.rounds_left = self.rounds_left.saturating_sub(1);
            self.round_of = Some(again.len());
            self.todo = again.into();
        }
    }
}

/// What both lists name. Each is as long as the server likes, within the bound of an answer.
fn both(before: Vec<i64>, now: &[i64]) -> Vec<i64> {
    let now: BTreeSet<i64> = now.iter().copied().collect();
    before.into_iter().filter(|index| now.contains(index)).collect()
}

fn in_range(list: &[i64], count: u64) -> impl Iterator<Item = u64> {
    list.iter().filter_map(|index| u64::try_from(*index).ok()).filter(move |index| *index < count)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Sends everything, with answers made by `answer(sent so far, index)`.
    fn run(mut chunks: Chunks, mut answer: impl FnMut(&[u64], u64) -> Option<Vec<i64>>) -> (Vec<u64>, Chunks) {
        let mut sent = Vec::new();
        while let Some(index) = chunks.take_next() {
            sent.push(index);
            let named = answer(&sent, index);
            chunks.acknowledge(index, named);
            assert!(sent.len() < 1000, "endless");
        }
        (sent, chunks)
    }

    fn plan(named: Option<&[i64]>) -> Chunks {
        Chunks::new(9, 2, named, BTreeSet::new(), 3).unwrap()
    }

    fn missing(sent: &[u64]) -> Vec<i64> {
        (0..5).filter(|index| !sent.contains(index)).map(|index| index as i64).collect()
    }

    #[test]
    fn sizes_and_places() {
        let chunks = plan(None);
        assert_eq!((chunks.count(), chunks.len_of(0), chunks.len_of(4), chunks.offset_of(4)), (5, 2, 1, 8));
        let real = Chunks::new(7_873_968_128, 8 << 20, None, BTreeSet::new(), 3).unwrap();
        assert_eq!((real.count(), real.len_of(938)), (939, 5_453_824));
        let one = Chunks::new(9, 1 << 40, None, BTreeSet::new(), 3).unwrap();
        assert_eq!((one.count(), one.len_of(0)), (1, 9));
        assert_eq!(Chunks::new(9, 0, None, BTreeSet::new(), 3).unwrap_err(), ChunkPlanError::Zero);
        assert!(matches!(Chunks::new(8 << 30, 1, None, BTreeSet::new(), 3), Err(ChunkPlanError::TooMany { .. })));
    }

    #[test]
    fn each_honest_reading_sends_every_chunk_once() {
        let all = [0, 1, 2, 3, 4];
        assert_eq!(run(plan(None), |sent, _| Some(missing(sent))).0, all);
        assert_eq!(run(plan(None), |_, _| None).0, all);
        let single = |sent: &[u64], index: u64| Some(if sent.len() < 5 { vec![index as i64] } else { vec![] });
        assert_eq!(run(plan(None), single).0, all);
        let growing = |sent: &[u64], _| Some(if sent.len() < 5 { (0..sent.len() as i64).collect() } else { vec![] });
        assert_eq!(run(plan(None), growing).0, all);
        // The last index is named even after it was sent: sent once more, then the image list decides.
        let (sent, chunks) = run(plan(None), |_, index| Some(vec![index as i64]));
        assert_eq!(sent, [0, 1, 2, 3, 4, 4]);
        assert!(chunks.is_doubtful());
    }

    #[test]
    fn a_liar_stops_nothing_and_costs_one_chunk_at_most() {
        assert_eq!(run(plan(None), |_, _| Some(vec![])).0, [0, 1, 2, 3, 4]);
        for lie in [vec![0, 1, 2, 3, 4], vec![99], vec![-1], vec![0, 1, 99], (0..1_000_000).collect()] {
            let (sent, chunks) = run(plan(None), |_, _| Some(lie.clone()));
            assert!(sent.len() <= 6 && sent.starts_with(&[0, 1, 2, 3, 4]), "{sent:?}");
            assert!(chunks.is_doubtful());
        }
    }

    #[test]
    fn what_the_server_names_after_the_pass_is_sent_again() {
        let (sent, chunks) = run(plan(None), |sent, _| {
            let again: Vec<i64> =
                [1, 3].into_iter().filter(|n| sent.iter().filter(|s| *s == n).count() < 2).map(|n| n as i64).collect();
            Some(again)
        });
        assert_eq!(sent, [0, 1, 2, 3, 4, 1, 3]);
        assert!(!chunks.is_doubtful());
    }

    #[test]
    fn the_first_list_may_be_a_subset_unsorted_or_odd() {
        assert_eq!(run(plan(Some(&[3, 1])), |sent, _| Some(missing(sent))).0, [1, 3, 0, 2, 4]);
        assert_eq!(run(plan(Some(&[3, 1])), |_, _| None).0, [1, 3, 0, 2, 4]);
        for odd in [&[][..], &[-1], &[77]] {
            assert_eq!(run(plan(Some(odd)), |sent, _| Some(missing(sent))).0, [0, 1, 2, 3, 4]);
        }
    }

    #[test]
    fn a_resume_sends_only_what_is_missing() {
        let chunks = Chunks::new(9, 2, None, BTreeSet::from([0, 1, 4, 77]), 3).unwrap();
        assert_eq!((chunks.done(), chunks.done_bytes()), (3, 5));
        let (sent, chunks) = run(chunks, |sent, _| Some(missing(&[sent, &[0, 1, 4]].concat())));
        assert_eq!(sent, [2, 3]);
        assert_eq!(chunks.done_bytes(), 9);
    }

    #[test]
    fn an_answer_that_was_overtaken_names_nothing_that_another_one_does_not() {
        let mut chunks = plan(None);
        let all: Vec<u64> = std::iter::from_fn(|| chunks.take_next()).collect();
        // The server wrote 3 before 4 and answered in the other order; 2 was lost on its disk, as every answer says.
        for (index, named) in
            [(0, vec![1, 2, 3, 4]), (1, vec![2, 3, 4]), (2, vec![2, 3, 4]), (4, vec![2]), (3, vec![2, 4])]
        {
            assert!(chunks.acknowledge(index, Some(named)));
        }
        assert_eq!((all.len(), chunks.take_next()), (5, Some(2)));
        assert!(!chunks.acknowledge(2, Some(vec![])));
        assert_eq!((chunks.take_next(), chunks.is_doubtful()), (None, false));

        let mut chunks = plan(None);
        let all: Vec<u64> = std::iter::from_fn(|| chunks.take_next()).collect();
        let last = |index| if index == 4 { vec![] } else { vec![index as i64, 4] };
        all.into_iter().rev().for_each(|index| assert!(chunks.acknowledge(index, Some(last(index)))));
        assert_eq!((chunks.take_next(), chunks.is_doubtful()), (None, false), "one of them says that all is there");
    }

    #[test]
    fn several_may_be_in_flight() {
        let mut chunks = plan(None);
        let first: Vec<u64> = std::iter::from_fn(|| chunks.take_next()).collect();
        assert_eq!(first, [0, 1, 2, 3, 4]);
        assert!(first.into_iter().rev().all(|index| chunks.acknowledge(index, None)));
        assert_eq!((chunks.take_next(), chunks.done()), (None, 5));
    }

    proptest! {
        #[test]
        fn every_chunk_is_sent_and_the_work_is_bounded(
            size in 1u64..200, chunk in 1u64..40, lies in proptest::collection::vec(
                proptest::option::of(proptest::collection::vec(-3i64..60, 0..20)), 1..30),
        ) {
            let chunks = Chunks::new(size, chunk, None, BTreeSet::new(), 3).unwrap();
            let count = chunks.count();
            let (sent, chunks) = run(chunks, |sent, _| lies[sent.len() % lies.len()].clone());
            prop_assert_eq!(sent.iter().copied().collect::<BTreeSet<_>>().len() as u64, count);
            prop_assert!(sent.len() as u64 <= count * 5);
            prop_assert_eq!(chunks.done_bytes(), size);
        }
    }
}
