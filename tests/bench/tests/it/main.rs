//! The rig itself, with a stand-in for the agent: that it measures what it says, and counts nothing that is not whole.

mod rig;
mod sink;
