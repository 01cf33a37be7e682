//! The log of who only looks: it has no journal and no file, and takes no intent, so that no step can get so far as to
//! change anything.

use std::path::Path;

use gantry_proto::{JobId, Redactor};
use tokio_util::sync::CancellationToken;

use super::{JobLog, Wake};
use crate::{
    config::Settings,
    journal::{Folded, Journal},
};

impl JobLog {
    /// A log that keeps nothing. `stop` is cancelled when nobody wants to know any more.
    pub fn looking(settings: &Settings, id: JobId, redactor: &Redactor, stop: CancellationToken) -> Self {
        let nowhere = Path::new("/dev/null");
        let (journal, folded) = (Journal::nowhere(), Folded::default());
        let log = Self::in_dir(nowhere, settings, id, redactor, journal, &folded, Wake::default(), stop);
        Self { only_looks: true, ..log }
    }

    /// Whether nothing may be changed.
    pub fn only_looks(&self) -> bool {
        self.only_looks
    }
}
