//! The way back (`flow.md` 5): a cluster that we attached is removed from CloudTower, then a datacenter that we made. The
//! cluster itself is never touched.

use gantry_proto::{Leftover, Level};
use serde_json::json;

use super::{
    super::{
        story::{extra, permanent, story},
        tower,
    },
    cluster, datacenter as dc,
};
use crate::{
    cloudtower::Error,
    facts::{ClusterFact, Facts},
    step::{StepCx, StepError},
};

/// Every cluster of ours; one that cannot be removed does not hold up the others.
pub(super) async fn clusters(cx: &StepCx, facts: &mut Facts) -> Result<Vec<String>, StepError> {
    let ours: Vec<String> =
        facts.clusters.iter().filter(|(_, cluster)| cluster.made).map(|(ip, _)| ip.clone()).collect();
    let (mut removed, mut failed) = (Vec::new(), None);
    for ip in ours {
        match one(cx, facts, &ip).await {
            Ok(told) => removed.extend(told),
            Err(StepError::Permanent(failure)) => failed = Some(failure),
            Err(error) => return Err(error),
        }
    }
    failed.map_or(Ok(removed), |failure| Err(StepError::Permanent(failure)))
}

/// One of ours, if it is there.
pub(super) async fn one(cx: &StepCx, facts: &mut Facts, ip: &str) -> Result<Option<String>, StepError> {
    let Some(fact) = facts.clusters.get(ip).filter(|cluster| cluster.made).cloned() else { return Ok(None) };
    let leftover = fact.leftover(ip);
    // Another one under this address is not ours.
    let found = cluster::look(cx, ip).await?.filter(|found| fact.id.is_empty() || found.id == fact.id);
    let told = match found {
        None => None,
        Some(found) => {
            let (tower, id) = (&cx.outside.tower, &found.id);
            let attempted = format!("removing the cluster {ip} from CloudTower");
            let is_gone = || async {
                cluster::gone(cx, ip).await?;
                Ok(cluster::look(cx, ip).await?.is_none_or(|still| still.id != *id))
            };
            let ask = || tower.delete_cluster(id);
            delete(cx, facts, ("delete-cluster", &attempted), &leftover, ask, is_gone).await?;
            Some(format!("the cluster {ip} ({id}) from CloudTower"))
        }
    };
    facts.no_longer_left(&leftover.kind, &leftover.id);
    match fact.failure {
        // Why it is not attached stays known.
        failure @ Some(_) => facts.clusters.insert(ip.to_owned(), ClusterFact { failure, ..ClusterFact::default() }),
        None => facts.clusters.remove(ip),
    };
    cx.save(facts).await?;
    Ok(told)
}

/// The datacenter, if it is ours, there, and empty.
pub(super) async fn datacenter(cx: &StepCx, facts: &mut Facts) -> Result<Option<String>, StepError> {
    let Some(fact) = facts.datacenter.clone().filter(|datacenter| datacenter.made) else { return Ok(None) };
    let (leftover, name) = (fact.leftover(), fact.name.as_str());
    let look = || dc::look(cx, &fact.organization, name);
    let told = match look().await?.filter(|found| fact.id.is_empty() || found.id == fact.id) {
        None => None,
        Some(found) => {
            let (tower, id) = (&cx.outside.tower, &found.id);
            let attempted = format!("deleting the datacenter \"{name}\"");
            let is_gone = || async { Ok(look().await?.is_none_or(|still| still.id != *id)) };
            let ask = || tower.delete_datacenter(id);
            delete(cx, facts, ("delete-datacenter", &attempted), &leftover, ask, is_gone).await?;
            Some(format!("the datacenter \"{name}\" ({id})"))
        }
    };
    facts.no_longer_left(&leftover.kind, &leftover.id);
    facts.datacenter = None;
    cx.save(facts).await?;
    Ok(told)
}

/// A removal with its attempts, a look after each: an answer that was lost is no matter.
async fn delete<A, G>(
    cx: &StepCx,
    facts: &mut Facts,
    (call, attempted): (&str, &str),
    leftover: &Leftover,
    mut ask: impl FnMut() -> A,
    mut is_gone: impl FnMut() -> G,
) -> Result<(), StepError>
where
    A: Future<Output = Result<Option<String>, Error>>,
    G: Future<Output = Result<bool, StepError>>,
{
    let timing = &cx.settings.timing;
    let mut said = "it is still there".to_owned();
    for attempt in 1..=timing.undo_attempts.max(1) {
        if attempt > 1 {
            cx.sleep(timing.scaled(timing.undo_retry_s)).await?;
        }
        let detail = extra([("id", json!(leftover.id)), ("name", json!(leftover.name)), ("attempt", json!(attempt))]);
        let intent = cx.intend(call, detail).await?;
        let asked = tower::unlocked(cx, &mut ask).await?;
        cx.outcome(intent, tower::became(&asked), extra([])).await?;
        match asked {
            Ok(task) => match tower::finish_task(cx, attempted, task.as_deref()).await {
                Err(StepError::Permanent(failure)) => said = failure.message,
                ended => ended?,
            },
            Err(error) => said = error.kind.to_string(),
        }
        if is_gone().await? {
            return Ok(());
        }
    }
    let (message, remedy) = (format!("{attempted} failed: {said}"), leftover.remedy.clone());
    facts.leave(leftover.clone());
    cx.save(facts).await?;
    cx.note(Level::Warning, "left_in_cloudtower", message.clone(), extra([])).await?;
    Err(permanent(story("not_removed", message, remedy)))
}
