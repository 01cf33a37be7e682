//! The steps, one file each, in the pipeline's order. They talk to the world through [`crate::outside`] only.

pub mod attach_cluster;
pub mod check_cluster_healthy;
pub mod cleanup;
pub mod cloudtower_config;
mod cluster;
pub mod configure_network;
pub mod configure_services;
pub mod create_vm;
mod dns;
mod evidence;
pub mod finish;
pub mod initial_setup;
pub mod install;
pub(crate) mod iso_hash;
mod job;
mod place;
pub mod preflight;
mod removal;
mod shell;
pub(crate) mod story;
mod tower;
pub mod upload_iso;
pub mod verify_https;
pub mod wait_guest_agent;
