//! The end-to-end lab: simulator, controller and agent as real processes, `ctl` as an operator would call it.
//! `demo` and the tests start the same [`Lab`], so the demo cannot rot.

pub mod binaries;
pub mod canaries;
pub mod chaos;
pub mod control;
pub mod delay;
pub mod lab;
pub mod logs;
pub mod process;
pub mod proxy;
pub mod recorder;
pub mod rounds;
pub mod terminal;

pub use lab::{Lab, LabOptions};
pub use proxy::{Mode, Proxy};
pub use terminal::Terminal;
