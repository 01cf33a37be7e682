//! The agent on the bastion: the link with the controller, the journal, the steps, the clients of the outside world.
//! Knows no workbook, no operator and no other agent.

pub mod cloudtower;
pub mod config;
pub mod executor;
pub mod facts;
pub mod fisheye;
pub mod guest;
pub mod http;
pub mod joblog;
pub mod journal;
pub mod outside;
pub mod pipeline;
pub mod result;
pub mod step;
pub mod steps;
pub mod tls;
