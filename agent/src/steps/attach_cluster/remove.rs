//! The way back (`flow.md` 5): a cluster that we attached is removed from CloudTower, then a datacenter that we made. The
//! cluster itself is never touched.

use super::{super::removal, cluster, datacenter as dc};
use crate::{
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
            removal::remove(cx, facts, ("delete-cluster", &attempted), &leftover, ask, is_gone).await?;
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
            removal::remove(cx, facts, ("delete-datacenter", &attempted), &leftover, ask, is_gone).await?;
            Some(format!("the datacenter \"{name}\" ({id})"))
        }
    };
    facts.no_longer_left(&leftover.kind, &leftover.id);
    facts.datacenter = None;
    cx.save(facts).await?;
    Ok(told)
}
