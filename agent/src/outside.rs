//! The three parts of the outside world that a job speaks with, made once per job from plan, secrets and settings.

use gantry_proto::{Plan, Redactor, Secrets};

use crate::{cloudtower, config::Settings, fisheye, guest};

/// Clients of Fisheye, the guest and CloudTower. Each keeps its session in memory and nowhere else.
pub struct Outside {
    /// The cluster.
    pub fisheye: fisheye::Client,
    /// The new VM, over SSH.
    pub guest: guest::Guest,
    /// CloudTower in it.
    pub tower: cloudtower::Client,
}

impl Outside {
    /// Makes the clients; opens no connection.
    pub fn new(plan: &Plan, secrets: &Secrets, settings: &Settings, redactor: &Redactor) -> Self {
        Self {
            fisheye: fisheye::Client::new(plan, secrets, settings, redactor),
            guest: guest::Guest::new(plan, secrets, settings, redactor),
            tower: cloudtower::Client::new(plan, secrets, settings, redactor),
        }
    }

    /// Ends the sessions, as far as they can be ended now.
    pub async fn leave(&self) {
        if let Err(error) = self.fisheye.logout().await {
            tracing::debug!(%error, "the session with Fisheye ends by itself");
        }
        self.guest.wipe().await;
        self.tower.wipe();
    }

    /// The same for who only looks: Fisheye and CloudTower are sent reads and logins alone.
    pub fn only_looking(self) -> Self {
        Self { fisheye: self.fisheye.only_looking(), tower: self.tower.only_looking(), ..self }
    }
}
