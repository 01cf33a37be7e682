//! Root user and organisation (`flow.md` 5.1, 5.2): only the missing half, looked at before and after, and never another
//! password than the planned one (C11).

pub(super) mod organization;
mod root_user;

use async_trait::async_trait;
use gantry_proto::{
    Level, StepInfo,
    result::{NamedId, SetupStatus},
};
use serde_json::json;

use super::{
    shell,
    story::{extra, permanent, story},
    tower,
};
use crate::{
    cloudtower::SetupState,
    diff::Diff,
    facts::Facts,
    step::{Step, StepCx, StepError},
};

/// Sets CloudTower up.
pub struct InitialSetup;

/// Rounds of look and act: the first one and three retries, for each of the two halves (`flow.md` 5.2).
const ROUNDS: u32 = 8;

#[async_trait]
impl Step for InitialSetup {
    fn info(&self) -> StepInfo {
        StepInfo { id: "initial-setup".into(), title: "Set CloudTower up".to_owned(), weight: 10, attempts: 1 }
    }

    async fn run(&self, cx: &StepCx, facts: &mut Facts) -> Result<(), StepError> {
        shell::enter(cx, facts).await?;
        tower::trust(cx, facts);
        let mut proved = false;
        for round in 0..ROUNDS {
            cx.check()?;
            let state = tower::setup_state(cx, facts).await?;
            let ours = organization::ours(cx, &state)?;
            // Again after a certificate that was replaced meanwhile; each way from here sends the password.
            tower::confirm(cx, facts).await?;
            match (state.root_created, &ours) {
                (true, _) if !proved => {
                    root_user::prove(cx, facts).await?;
                    proved = true;
                }
                (true, Some(ours)) => return done(cx, facts, &state, ours).await,
                (false, _) => root_user::create(cx, facts, round).await?,
                (true, None) => organization::create(cx, round).await?,
            }
        }
        let message = format!("CloudTower was not set up after {ROUNDS} rounds of looking and acting");
        let remedy = "look at the job's events for what CloudTower said each time, then retry the job";
        Err(permanent(story("tower_setup_stuck", message, remedy)))
    }

    /// Only in a CloudTower that was made before: another one is not set up by this step.
    async fn survey(&self, cx: &StepCx, _facts: &mut Facts, diff: &mut Diff) -> Result<(), StepError> {
        diff.create(root_user::CALL, "root", "the root user is made with the planned password");
        let name = cx.plan.organization.trim();
        diff.create(organization::CALL, name, "the organisation is made");
        Ok(())
    }
}

async fn done(cx: &StepCx, facts: &mut Facts, state: &SetupState, ours: &NamedId) -> Result<(), StepError> {
    facts.organization = Some(ours.clone());
    facts.setup = Some(SetupStatus { created: true, organizations: state.organizations.len() as u64 });
    cx.save(facts).await?;
    let fields = extra([("organization", json!(ours)), ("root_user", json!(facts.root_user))]);
    cx.note(Level::Info, "tower_set_up", format!("CloudTower is set up for \"{}\"", ours.name), fields).await
}
