//! A fuse: counts what happens and blows at a chosen moment. What is behind a blown fuse is dead, as after a crash.

use std::{
    sync::{
        Condvar, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::sync::watch;

/// What becomes of the thing at which the fuse blows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// It did not happen.
    Before,
    /// Half of it happened. For a store, which commits all or nothing, the same as `Before`.
    Torn,
    /// It happened, and nobody heard of it.
    After,
}

/// Counts, and blows once.
#[derive(Debug)]
pub(super) struct Fuse {
    seen: AtomicU64,
    blow: Mutex<Option<(u64, How)>>,
    blown: watch::Sender<bool>,
    buried: Mutex<bool>,
    burial: Condvar,
}

/// What is to be done with the thing that was counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Word {
    /// Do it.
    Go,
    /// The fuse blows at this: do what is said, then [`Fuse::blow`].
    Blow(How),
    /// It has blown before.
    Dead,
}

impl Fuse {
    /// Blows at the thing of this number, from 1; `None`: never by itself.
    pub(super) fn new(at: Option<(u64, How)>) -> Self {
        Self {
            seen: AtomicU64::new(0),
            blow: Mutex::new(at),
            blown: watch::Sender::new(false),
            buried: Mutex::new(false),
            burial: Condvar::new(),
        }
    }

    /// Counts one thing.
    pub(super) fn next(&self) -> Word {
        if *self.blown.borrow() {
            return Word::Dead;
        }
        let number = self.seen.fetch_add(1, Ordering::SeqCst) + 1;
        let how = self.blow.lock().unwrap_or_else(PoisonError::into_inner).filter(|(at, _)| *at == number);
        match how {
            Some((_, how)) => Word::Blow(how),
            None => Word::Go,
        }
    }

    /// From now on everything behind it is dead. Not before what still happens has happened: whoever hears of the death
    /// starts the next life, and a dead process writes nothing into that.
    pub(super) fn blow(&self) {
        self.blown.send_replace(true);
    }

    /// Blocks the thread of one that is dead until nobody can hear it any more: an error that it could still tell of would
    /// be more than a dead process says.
    pub(super) fn await_burial(&self) {
        let buried = self.buried.lock().unwrap_or_else(PoisonError::into_inner);
        // A harness that has ended buries nobody.
        let _ = self.burial.wait_timeout_while(buried, Duration::from_secs(20), |buried| !*buried);
    }

    /// Nobody hears what is behind the fuse any more.
    pub(super) fn bury(&self) {
        *self.buried.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.burial.notify_all();
    }

    /// Whether it has blown.
    pub(super) fn is_blown(&self) -> bool {
        *self.blown.borrow()
    }

    /// Waits until it has blown.
    pub(super) async fn blown(&self) {
        // The sender lives as long as `self`.
        let _ = self.blown.subscribe().wait_for(|blown| *blown).await;
    }

    /// How many things were counted.
    pub(super) fn seen(&self) -> u64 {
        self.seen.load(Ordering::SeqCst)
    }
}
