//! Output of any length in bounded memory: the beginning, the end, and how much is missing between them. Pure.

/// What is kept of one stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Captured {
    keep: usize,
    head: Vec<u8>,
    tail: Vec<u8>,
    total: u64,
}

impl Captured {
    /// Keeps up to `keep` bytes.
    pub fn new(keep: usize) -> Self {
        Self { keep, ..Self::default() }
    }

    /// Takes more output in.
    pub fn push(&mut self, bytes: &[u8]) {
        self.total += bytes.len() as u64;
        let room = self.head_room().saturating_sub(self.head.len()).min(bytes.len());
        let (first, rest) = bytes.split_at(room);
        self.head.extend_from_slice(first);
        let room = self.tail_room();
        self.tail.extend_from_slice(&rest[rest.len().saturating_sub(room)..]);
        // Cut only now and then, so that a byte is moved once on average.
        if self.tail.len() > room * 2 {
            self.tail.drain(..self.tail.len() - room);
        }
    }

    /// Everything kept; what is missing is named where it was.
    pub fn bytes(&self) -> Vec<u8> {
        let tail = &self.tail[self.tail.len().saturating_sub(self.tail_room())..];
        let missing = self.total - self.head.len() as u64 - tail.len() as u64;
        let mut all = self.head.clone();
        if missing > 0 {
            all.extend_from_slice(format!("\n[{missing} bytes left out]\n").as_bytes());
        }
        all.extend_from_slice(tail);
        all
    }

    /// The same as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes()).into_owned()
    }

    /// How much there was, bytes.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// Whether nothing is missing.
    pub fn is_whole(&self) -> bool {
        self.total <= self.keep as u64
    }

    fn head_room(&self) -> usize {
        self.keep.div_ceil(2)
    }

    fn tail_room(&self) -> usize {
        self.keep / 2
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_fits_is_whole_and_what_does_not_is_bounded(
            pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 0..20),
            keep in 0usize..200,
        ) {
            let mut captured = Captured::new(keep);
            pieces.iter().for_each(|piece| captured.push(piece));
            let all: Vec<u8> = pieces.concat();
            prop_assert_eq!(captured.total(), all.len() as u64);
            prop_assert!(captured.head.len() + captured.tail.len() <= keep * 2);
            if all.len() <= keep {
                prop_assert_eq!(captured.bytes(), all);
                prop_assert!(captured.is_whole());
            } else {
                let bytes = captured.bytes();
                prop_assert!(bytes.starts_with(&all[..keep.div_ceil(2)]));
                prop_assert!(bytes.ends_with(&all[all.len() - keep / 2..]));
                prop_assert!(!captured.is_whole());
            }
        }
    }
}
