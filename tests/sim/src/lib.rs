//! The outside world on loopback: Fisheye, the VM over SSH, CloudTower; and the files that are fed to our programs.
//! One process, one shared world, virtual time, one seed, every mode and fault. Knows no type of what it is to test.
//!
//! ```no_run
//! # async fn demo() -> anyhow::Result<()> {
//! use gantry_sim::{Sim, SimOptions};
//!
//! let sim = Sim::start(SimOptions { time_scale: 60.0, ..SimOptions::default() }).await?;
//! println!("Fisheye at https://{}:{}", sim.vip(), sim.fisheye_port());
//! assert!(sim.core().transcript.calls("POST", "/api/v2/vms").is_empty());
//! sim.stop().await;
//! # Ok(())
//! # }
//! ```

pub mod clock;
pub mod cloudtower;
pub mod control;
pub mod core;
pub mod fault;
pub mod fisheye;
pub mod guest;
pub mod invariants;
pub mod iso;
pub mod modes;
pub mod net;
pub mod options;
pub mod rng;
pub mod sim;
pub mod squid;
pub mod store;
pub mod transcript;
pub mod workbook;
pub mod world;

pub use crate::core::Core;
pub use crate::options::SimOptions;
pub use crate::sim::Sim;
