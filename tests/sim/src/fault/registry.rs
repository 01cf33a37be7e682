//! The armed faults: decides which of them strike a call, and counts.

use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;

use super::{Action, Call, Fault, When};
use crate::rng::Chance;

/// Faults that may be armed at once; more are refused.
const MAX_FAULTS: usize = 1000;

/// All armed faults.
#[derive(Debug)]
pub struct Faults {
    chance: Arc<Chance>,
    armed: Mutex<Vec<Armed>>,
}

/// A fault with its counts.
#[derive(Clone, Debug, Serialize)]
pub struct Armed {
    /// The fault as given.
    #[serde(flatten)]
    pub fault: Fault,
    /// Calls that matched.
    pub matched: u64,
    /// Calls that were struck.
    pub fired: u64,
}

/// A fault that strikes the call at hand.
#[derive(Clone, Debug)]
pub struct Fired {
    /// The fault's id.
    pub id: String,
    /// When it strikes.
    pub when: When,
    /// What it does.
    pub action: Action,
}

impl Faults {
    /// Armed with these faults.
    #[must_use]
    pub fn new(chance: Arc<Chance>, faults: &[Fault]) -> Self {
        let registry = Self { chance, armed: Mutex::default() };
        for fault in faults {
            registry.arm(fault.clone());
        }
        registry
    }

    /// Arms a fault; one with the same id is replaced and its counts start again. False when there are too many.
    pub fn arm(&self, fault: Fault) -> bool {
        let mut armed = self.lock();
        armed.retain(|old| old.fault.id != fault.id);
        let room = armed.len() < MAX_FAULTS;
        if room {
            armed.push(Armed { fault, matched: 0, fired: 0 });
        }
        room
    }

    /// Disarms a fault; false when there is none of this id. Its counts are lost.
    pub fn clear(&self, id: &str) -> bool {
        let mut armed = self.lock();
        let before = armed.len();
        armed.retain(|old| old.fault.id != id);
        armed.len() < before
    }

    /// Disarms all.
    pub fn clear_all(&self) {
        self.lock().clear();
    }

    /// How often a fault fired.
    #[must_use]
    pub fn fired(&self, id: &str) -> u64 {
        self.lock().iter().find(|armed| armed.fault.id == id).map_or(0, |armed| armed.fired)
    }

    /// All armed faults with their counts.
    #[must_use]
    pub fn list(&self) -> Vec<Armed> {
        self.lock().clone()
    }

    /// The faults that strike this call, in the order they were armed. Counts them: call it once for each call.
    #[must_use]
    pub fn strike(&self, call: &Call) -> Vec<Fired> {
        self.lock().iter_mut().filter_map(|armed| armed.strike(call, &self.chance)).collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Armed>> {
        self.armed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Armed {
    fn strike(&mut self, call: &Call, chance: &Chance) -> Option<Fired> {
        let fault = &self.fault;
        if !fault.matches.holds(call) || fault.times.is_some_and(|times| self.fired >= times) {
            return None;
        }
        self.matched += 1;
        let turn = self.matched.checked_sub(fault.skip + 1)?;
        if fault.every.is_some_and(|every| turn.checked_rem(every) != Some(0)) {
            return None;
        }
        if fault.probability.is_some_and(|p| !chance.chance(&format!("fault.{}", fault.id), p)) {
            return None;
        }
        self.fired += 1;
        Some(Fired { id: fault.id.clone(), when: fault.when, action: fault.action.clone() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::Match;

    fn fires(fault: Fault, calls: usize) -> Vec<bool> {
        let faults = Faults::new(Arc::new(Chance::new(1)), &[fault]);
        (0..calls).map(|_| !faults.strike(&Call::ssh("x")).is_empty()).collect()
    }

    #[test]
    fn times_skip_and_every() {
        let fault = || Fault::new("f", Match::default(), Action::Hang);
        assert_eq!(fires(fault().times(2), 3), [true, true, false]);
        assert_eq!(fires(fault().skip(2), 3), [false, false, true]);
        assert_eq!(fires(fault().skip(1).every(2).times(2), 6), [false, true, false, true, false, false]);
    }

    #[test]
    fn the_seed_decides_probability() {
        let mut fault = Fault::new("f", Match::default(), Action::Hang);
        fault.probability = Some(0.5);
        let first = fires(fault.clone(), 64);
        assert_eq!(first, fires(fault, 64));
        assert!(first.contains(&true) && first.contains(&false));
    }
}
