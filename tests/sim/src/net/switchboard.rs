//! Which addresses answer. A listener watches its own switch: when it goes down the port closes and every connection is
//! reset, when it comes up the port opens again.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use tokio::sync::watch;

/// One switch for each address; all are up until told otherwise.
#[derive(Debug, Default)]
pub struct Switchboard {
    switches: Mutex<BTreeMap<IpAddr, watch::Sender<bool>>>,
}

impl Switchboard {
    /// Watches an address: `true` = up.
    #[must_use]
    pub fn watch(&self, address: IpAddr) -> watch::Receiver<bool> {
        self.with(address, watch::Sender::subscribe)
    }

    /// Takes an address down or up.
    pub fn set(&self, address: IpAddr, up: bool) {
        self.with(address, |switch| switch.send_replace(up));
    }

    /// Takes every address up.
    pub fn all_up(&self) {
        for switch in self.switches.lock().unwrap_or_else(PoisonError::into_inner).values() {
            switch.send_replace(true);
        }
    }

    /// The addresses that are down.
    #[must_use]
    pub fn down(&self) -> Vec<IpAddr> {
        let switches = self.switches.lock().unwrap_or_else(PoisonError::into_inner);
        switches.iter().filter(|(_, switch)| !*switch.borrow()).map(|(address, _)| *address).collect()
    }

    fn with<T>(&self, address: IpAddr, act: impl FnOnce(&watch::Sender<bool>) -> T) -> T {
        let mut switches = self.switches.lock().unwrap_or_else(PoisonError::into_inner);
        act(switches.entry(address).or_insert_with(|| watch::Sender::new(true)))
    }
}
