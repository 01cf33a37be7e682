//! What all faces share: clock, chance, options, modes, faults, transcript, and the world itself.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;

use crate::clock::Clock;
use crate::fault::{Faults, WorldAction};
use crate::modes::Modes;
use crate::net::{Identity, Pacer, Switchboard};
use crate::options::SimOptions;
use crate::rng::Chance;
use crate::store::Store;
use crate::transcript::Transcript;
use crate::world::World;

/// The shared heart of a simulation. Clones share everything.
#[derive(Clone, Debug)]
pub struct Core {
    /// Virtual time.
    pub clock: Clock,
    /// Seeded chance.
    pub chance: Arc<Chance>,
    /// What the simulation was started with; `ports` holds the numbers really used.
    pub options: Arc<SimOptions>,
    /// Armed faults.
    pub faults: Arc<Faults>,
    /// What was said.
    pub transcript: Arc<Transcript>,
    /// Which addresses answer.
    pub switchboard: Arc<Switchboard>,
    /// Bandwidth of the whole cluster.
    pub pacer: Arc<Pacer>,
    /// Uploaded bytes.
    pub store: Arc<Store>,
    /// Fisheye's certificate.
    pub identity: Arc<Identity>,
    modes: Arc<RwLock<Arc<Modes>>>,
    world: Arc<Mutex<World>>,
}

impl Core {
    /// A fresh world of these options.
    ///
    /// # Errors
    /// The certificate or the spool directory cannot be made.
    pub fn new(options: SimOptions) -> anyhow::Result<Self> {
        let chance = Arc::new(Chance::new(options.seed));
        let clock =
            Clock::new(options.start_at.unwrap_or_else(Timestamp::now), options.time_scale, options.manual_clock);
        let identity = Identity::self_signed("SMTX OS", &addresses(&options))?;
        Ok(Self {
            faults: Arc::new(Faults::new(chance.clone(), &options.faults)),
            transcript: Arc::new(Transcript::new(options.transcript_limit)),
            switchboard: Arc::new(Switchboard::default()),
            pacer: Arc::new(Pacer::new(options.bandwidth.total)),
            store: Arc::new(Store::new(&options.storage)?),
            identity: Arc::new(identity),
            modes: Arc::new(RwLock::new(Arc::new(options.modes.clone()))),
            world: Arc::new(Mutex::new(World::new(&options, clock.now()))),
            chance,
            clock,
            options: Arc::new(options),
        })
    }

    /// The modes as they are now.
    #[must_use]
    pub fn modes(&self) -> Arc<Modes> {
        self.modes.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Replaces the modes.
    pub fn set_modes(&self, modes: Modes) {
        *self.modes.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(modes);
    }

    /// Changes some modes: a JSON object as for `POST /modes`.
    ///
    /// # Errors
    /// A key is unknown or a value is not one of its mode's.
    pub fn patch_modes(&self, patch: &Value) -> anyhow::Result<()> {
        let patched = self.modes().patched(patch)?;
        self.set_modes(patched);
        Ok(())
    }

    /// The world, with everything done that was due by now. Do not hold it across an `await`.
    pub fn world(&self) -> MutexGuard<'_, World> {
        let mut world = self.world.lock().unwrap_or_else(PoisonError::into_inner);
        world.settle(self);
        world
    }

    /// Starts again with a fresh world, transcript, modes and the scenario's faults; time goes on.
    pub fn reset(&self) {
        let fresh = World::new(&self.options, self.clock.now());
        self.world.lock().unwrap_or_else(PoisonError::into_inner).replace(fresh);
        self.store.forget_all();
        self.set_modes(self.options.modes.clone());
        self.faults.clear_all();
        for fault in &self.options.faults {
            self.faults.arm(fault.clone());
        }
        self.transcript.clear();
        self.switchboard.all_up();
    }

    /// Changes the world as a fault or an operator asks.
    ///
    /// # Errors
    /// The new certificate cannot be made.
    pub fn change_world(&self, action: &WorldAction) -> anyhow::Result<()> {
        if matches!(action, WorldAction::RotateCertificate) {
            self.identity.rotate()?;
        }
        self.world().act(self, action);
        Ok(())
    }

    /// A latency drawn from `[low, high]` milliseconds, times the scenario's factor.
    #[must_use]
    pub fn drawn(&self, purpose: &str, [low, high]: [u64; 2]) -> Duration {
        let drawn = self.chance.duration(purpose, Duration::from_millis(low), Duration::from_millis(high));
        let factor = self.options.latencies.factor;
        if factor.is_finite() && factor >= 0.0 { drawn.mul_f64(factor.min(1e6)) } else { drawn }
    }
}

/// The addresses Fisheye answers on, VIP first, each once.
#[must_use]
pub fn addresses(options: &SimOptions) -> Vec<IpAddr> {
    let mut seen = BTreeMap::new();
    let all = std::iter::once(options.vip).chain(options.nodes.iter().map(|node| node.management));
    all.filter(|address| seen.insert(*address, ()).is_none()).collect()
}
