//! The steps, one file each, in the pipeline's order. They talk to the world through [`crate::outside`] only.

pub mod configure_services;
mod dns;
pub mod finish;
pub mod initial_setup;
pub mod install;
mod shell;
pub(crate) mod story;
mod tower;
pub mod verify_https;
