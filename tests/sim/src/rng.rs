//! One seed, many independent streams of chance: what one purpose draws never shifts what another one gets.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};
use sha2::{Digest, Sha256};
use uuid::Uuid;

/// Seeded chance. Each purpose (`"vm.uuid"`, `"latency.login"`) has its own stream derived from the seed.
#[derive(Debug)]
pub struct Chance {
    seed: u64,
    streams: Mutex<BTreeMap<String, Xoshiro256PlusPlus>>,
}

impl Chance {
    /// All streams of `seed`, at their beginnings.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { seed, streams: Mutex::default() }
    }

    /// The next bytes of a purpose's stream.
    #[must_use]
    pub fn bytes<const N: usize>(&self, purpose: &str) -> [u8; N] {
        self.with(purpose, |stream| stream.random())
    }

    /// The next version 4 UUID of a purpose.
    #[must_use]
    pub fn uuid(&self, purpose: &str) -> String {
        uuid::Builder::from_random_bytes(self.bytes(purpose)).into_uuid().to_string()
    }

    /// A number of `range` (its start when the range is empty).
    #[must_use]
    pub fn pick(&self, purpose: &str, range: Range<u64>) -> u64 {
        if range.is_empty() { range.start } else { self.with(purpose, |stream| stream.random_range(range)) }
    }

    /// True with the given probability, clamped to 0..=1.
    #[must_use]
    pub fn chance(&self, purpose: &str, probability: f64) -> bool {
        let probability = if probability.is_finite() { probability.clamp(0.0, 1.0) } else { 0.0 };
        self.with(purpose, |stream| stream.random_bool(probability))
    }

    /// A duration between two bounds, to the millisecond.
    #[must_use]
    pub fn duration(&self, purpose: &str, low: Duration, high: Duration) -> Duration {
        let millis = |d: Duration| u64::try_from(d.as_millis()).unwrap_or(u64::MAX);
        Duration::from_millis(self.pick(purpose, millis(low)..millis(high).saturating_add(1)))
    }

    /// Lower-case hex digits, two for each byte.
    #[must_use]
    pub fn hex<const N: usize>(&self, purpose: &str) -> String {
        hex(&self.bytes::<N>(purpose))
    }

    fn with<T>(&self, purpose: &str, draw: impl FnOnce(&mut Xoshiro256PlusPlus) -> T) -> T {
        let mut streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
        if !streams.contains_key(purpose) {
            let mut hash = Sha256::new();
            hash.update(self.seed.to_be_bytes());
            hash.update(purpose.as_bytes());
            streams.insert(purpose.to_owned(), Xoshiro256PlusPlus::from_seed(hash.finalize().into()));
        }
        let fresh = || Xoshiro256PlusPlus::seed_from_u64(self.seed);
        draw(streams.entry(purpose.to_owned()).or_insert_with(fresh))
    }
}

/// Lower-case hex of any bytes.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a `String` cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// A UUID made from a name alone, for objects that exist from the start.
#[must_use]
pub fn named_uuid(name: &str) -> String {
    let digest: [u8; 32] = Sha256::digest(name.as_bytes()).into();
    let mut first = [0; 16];
    first.copy_from_slice(&digest[..16]);
    Uuid::from_bytes(uuid::Builder::from_random_bytes(first).into_uuid().into_bytes()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn purposes_do_not_disturb_each_other() {
        let (one, two) = (Chance::new(7), Chance::new(7));
        let _ = two.pick("other", 0..100);
        assert_eq!(one.uuid("vm"), two.uuid("vm"));
        assert_ne!(one.uuid("vm"), Chance::new(8).uuid("vm"));
    }

    #[test]
    fn empty_ranges_do_not_panic() {
        assert_eq!(Chance::new(1).pick("x", 5..5), 5);
        assert!(!Chance::new(1).chance("x", f64::NAN));
    }
}
