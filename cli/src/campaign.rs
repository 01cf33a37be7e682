//! Many sites, one workbook each: which go next, what is written down about them, and the loop that carries it out.
//! Decisions are in `schedule`, what outlives the process in `state`; the controller knows nothing of campaigns.

pub(crate) mod check;
pub(crate) mod drive;
mod list;
pub(crate) mod place;
mod schedule;
mod show;
mod site;
pub(crate) mod state;
pub(crate) mod tally;

use std::collections::BTreeMap;

use jiff::Timestamp;

use self::{schedule::Stand, state::State};
use crate::{follow::Known, render::campaign::Scene};

pub(crate) use list::read as list;
pub(crate) use schedule::Stop;

/// Most sites of a campaign: its state is written anew at each step, and a person has to oversee it.
pub(crate) const SITES_MAX: usize = 1000;

/// A campaign: what is written down, and what is known besides.
pub(crate) struct Campaign {
    /// What it is called.
    pub(crate) name: String,
    /// What is written down.
    pub(crate) state: State,
    /// What is known of the jobs at work, by the site's place.
    pub(crate) known: BTreeMap<usize, Known>,
    /// Since when it is paused.
    pub(crate) paused: Option<String>,
}

impl Campaign {
    /// As it is now, to be shown.
    pub(crate) fn scene(&self, broken: bool) -> Scene<'_> {
        Scene { campaign: self, broken, now: Timestamp::now() }
    }

    /// Whether the job of a site waits for an operator.
    pub(crate) fn asks(&self, index: usize) -> bool {
        self.known.get(&index).is_some_and(Known::needs_operator)
    }

    /// How each site stands.
    fn stands(&self) -> Vec<Stand> {
        self.state.sites.iter().enumerate().map(|(index, site)| site.stand(self.asks(index))).collect()
    }
}
