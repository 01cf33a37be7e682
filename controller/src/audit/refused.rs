//! Calls that were refused at the first look. Whoever makes them has done nothing to deserve disk: in each window of
//! time a few are recorded for each peer and a bounded number in all; the others are counted, and the count is recorded.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError},
    time::Duration,
};

use gantry_proto::audit::{Entry, Outcome};

use super::{Audit, Call, Who, act};
use crate::{
    config::{self, ms},
    refusal::Refusal,
};

/// The peers that are beyond the bound, together.
const OTHERS: &str = "others";

/// What one window has seen.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    recorded: u32,
    peers: HashMap<Peer, Count>,
}

/// Who is counted: by name, or by address where there is none.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Peer {
    operator: String,
    remote: String,
}

#[derive(Debug, Default)]
struct Count {
    recorded: u32,
    beyond: u64,
}

impl Refusals {
    /// Whether this one is recorded; it is counted otherwise.
    fn admit(&mut self, peer: Peer, settings: &config::Audit) -> bool {
        let full = self.peers.len() >= settings.peers && !self.peers.contains_key(&peer);
        let peer = if full { Peer { operator: String::new(), remote: OTHERS.to_owned() } } else { peer };
        let count = self.peers.entry(peer).or_default();
        if count.recorded < settings.refusals_per_peer && self.recorded < settings.refusals_in_all {
            count.recorded += 1;
            self.recorded += 1;
            return true;
        }
        count.beyond += 1;
        false
    }
}

impl Audit {
    /// Records that a call was refused before it came to a handler: nobody, a wrong role, no right to a site. Never an
    /// error: the call is refused whether or not that can be written down.
    pub async fn refused(&self, who: &Who, path: &str, refusal: &Refusal) {
        let entry = Entry {
            act: Call::word(path).to_owned(),
            code: refusal.code.word().to_owned(),
            message: refusal.message.clone(),
            detail: path.to_owned(),
            ..who.entry()
        };
        self.refuse(entry).await;
    }

    pub(super) async fn refuse(&self, entry: Entry) {
        let remote =
            entry.remote.parse().map_or_else(|_| entry.remote.clone(), |at: std::net::SocketAddr| at.ip().to_string());
        let remote = if entry.operator.is_empty() { remote } else { String::new() };
        let peer = Peer { operator: entry.operator.clone(), remote };
        let admitted = self.refusals.lock().unwrap_or_else(PoisonError::into_inner).admit(peer, &self.settings);
        if admitted {
            self.settle(Entry { outcome: Outcome::Refused, ..entry }).await;
        }
    }

    /// Ends a window after the other, until the controller stops.
    pub async fn keep(self: Arc<Self>) {
        loop {
            let stopped = tokio::select! {
                () = self.stop.cancelled() => true,
                () = tokio::time::sleep(ms(self.settings.window_ms)) => false,
            };
            self.end_window().await;
            if stopped {
                return;
            }
        }
    }

    /// Records what was only counted.
    async fn end_window(&self) {
        let window = std::mem::take(&mut *self.refusals.lock().unwrap_or_else(PoisonError::into_inner));
        for (peer, count) in window.peers.into_iter().filter(|(_, count)| count.beyond > 0) {
            let seconds = Duration::from_millis(self.settings.window_ms).as_secs_f64();
            let detail = format!("{} more calls were refused within {seconds} s", count.beyond);
            let Peer { operator, remote } = peer;
            let act = act::REFUSED_CALLS.to_owned();
            self.settle(Entry { act, outcome: Outcome::Refused, operator, remote, detail, ..Entry::default() }).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(name: &str) -> Peer {
        Peer { operator: name.to_owned(), remote: String::new() }
    }

    #[test]
    fn each_peer_all_peers_and_their_number_are_bounded() {
        let settings = config::Audit { refusals_per_peer: 2, refusals_in_all: 5, peers: 3, ..config::Audit::default() };
        let mut window = Refusals::default();
        let admitted =
            |window: &mut Refusals, name: &str| (0..4).filter(|_| window.admit(peer(name), &settings)).count();
        assert_eq!([admitted(&mut window, "a"), admitted(&mut window, "b"), admitted(&mut window, "c")], [2, 2, 1]);
        assert_eq!((admitted(&mut window, "d"), admitted(&mut window, "e")), (0, 0));
        assert_eq!(window.peers.len(), 4, "three, and all others together");
        let others = Peer { operator: String::new(), remote: OTHERS.to_owned() };
        assert_eq!(window.peers[&others].beyond, 8);
    }
}
