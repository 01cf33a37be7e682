//! The slots of one upload: started when they are wanted, waited for at the end.

use std::{io, sync::Arc, time::Duration};

use tokio::{sync::mpsc, task::spawn_blocking};
use tokio_util::sync::CancellationToken;

use super::{
    reader::Source,
    slot::{Order, Sent, Shared, Slot},
    throttle::Throttle,
    times::Times,
};
use crate::config::Settings;

/// The slots.
pub(super) struct Crew {
    shared: Arc<Shared>,
    slots: Vec<Slot>,
    results: mpsc::Receiver<Sent>,
    to_us: mpsc::Sender<Sent>,
}

impl Shared {
    pub(super) fn new(source: Source, settings: &Settings, stop: CancellationToken) -> Self {
        Self {
            source,
            throttle: Throttle::new(),
            taken: Default::default(),
            stop,
            stall: Duration::from_millis(settings.fisheye.stall_timeout_ms),
            floor: settings.upload.stall_floor_bytes_per_s,
            connect: Duration::from_millis(settings.fisheye.connect_timeout_ms),
            most_answer: settings.fisheye.max_response_bytes,
        }
    }
}

impl Crew {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        // Each slot has one answer at most that was not taken.
        let (to_us, results) = mpsc::channel(64);
        Self { shared, slots: Vec::new(), results, to_us }
    }

    pub(super) fn shared(&self) -> &Shared {
        &self.shared
    }

    /// The next word of a slot.
    pub(super) async fn next(&mut self) -> Option<Sent> {
        self.results.recv().await
    }

    /// A slot with nothing to do, from now on taken: one with a connection first.
    pub(super) fn free(&mut self) -> io::Result<usize> {
        let connected = self.slots.iter().position(|slot| !slot.is_busy && slot.endpoint.is_some());
        let number = connected.or_else(|| self.slots.iter().position(|slot| !slot.is_busy));
        let number = match number {
            Some(number) => number,
            None => {
                let number = self.slots.len();
                self.slots.push(Slot::start(number, self.shared.clone(), self.to_us.clone())?);
                number
            }
        };
        if let Some(slot) = self.slots.get_mut(number) {
            slot.is_busy = true;
        }
        Ok(number)
    }

    /// Where the connection leads that this slot has kept.
    pub(super) fn endpoint(&self, slot: usize) -> Option<String> {
        self.slots.get(slot)?.endpoint.clone()
    }

    /// Gives a chunk to a slot, which will be connected with `endpoint`. `false`: its thread is gone.
    pub(super) fn give(&mut self, slot: usize, endpoint: String, order: Order) -> bool {
        let Some(slot) = self.slots.get_mut(slot) else { return false };
        slot.endpoint = Some(endpoint);
        slot.give(order)
    }

    /// A slot is free again. Without a word of its own it was never given anything.
    pub(super) fn release(&mut self, slot: usize, said: Option<(bool, Times)>) {
        let Some(slot) = self.slots.get_mut(slot) else { return };
        slot.is_busy = false;
        if let Some((keeps, times)) = said {
            slot.times = times;
            if !keeps {
                slot.endpoint = None;
            }
        }
    }

    /// Ends the threads and waits for them: soon, for they look at `stop`. Where the time of each went, of `wall` in all:
    /// what it did not work for it has waited for. And what they had to say that was not taken yet.
    pub(super) async fn dismiss(&mut self, wall: Duration) -> (Vec<Times>, Vec<Sent>) {
        self.shared.stop.cancel();
        let threads: Vec<_> = self.slots.iter_mut().filter_map(Slot::dismiss).collect();
        // None of them panics (see `slot`).
        let _ = spawn_blocking(move || threads.into_iter().for_each(|thread| drop(thread.join()))).await;
        let whole = |slot: &Slot| {
            let mut times = slot.times;
            times.waiting += wall.saturating_sub(times.sum());
            times
        };
        let late = std::iter::from_fn(|| self.results.try_recv().ok()).collect();
        (self.slots.iter().map(whole).collect(), late)
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        // The threads look at it, and nobody waits for them any more.
        self.shared.stop.cancel();
    }
}
