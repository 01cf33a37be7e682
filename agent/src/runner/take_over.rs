//! Goes on with a job that another agent had, from what the controller's log says of it.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use gantry_proto::{Code, JobId, TakenOver, trace::TraceContext, v1};
use serde_json::Value;
use tokio::task::spawn_blocking;
use v1::OrderStage;

use super::{
    Runner,
    accept::{Begin, Refused, closed, other_epoch, refused, words},
    entry::Entry,
};
use crate::{
    facts::{Facts, VmFact},
    guest::INSTALLER_LOGS,
    joblog::dir_of,
    journal::{self, Carried, OpenIntent, StartRecord},
};

/// Facts, and intents without outcome, that an order may carry.
const ENTRIES_MAX: usize = 256;
/// Bytes of all of them: with a plan and its secrets they must fit into one line of the journal.
const BYTES_MAX: usize = 512 << 10;
/// No job comes near this number of events.
const SEQ_MAX: u64 = 1 << 40;

impl Runner {
    /// Begins a job at the place where another agent has left it. Every step is walked, and looks before it makes
    /// anything.
    pub(super) async fn take_over(
        self: &Arc<Self>,
        id: JobId,
        order: u64,
        epoch: u32,
        mut take_over: v1::TakeOverJob,
        trace: TraceContext,
    ) -> Result<OrderStage, Refused> {
        let before = self.entry(id);
        if let Some(entry) = &before {
            let tail = entry.journal.tail();
            if epoch == tail.epoch && entry.start_order() == order {
                return Ok(if tail.is_over() { OrderStage::Done } else { OrderStage::Applied });
            }
            may_come_back(entry, epoch)?;
        }
        let document = take_over.plan.take().ok_or_else(|| bad("the order has no plan"))?;
        let sealed = take_over.secrets.take().ok_or_else(|| bad("the order has no secrets"))?;
        let carried = carried(id, &mut take_over)?;
        let begin = Begin { order, epoch, trace };
        let (plan, record) = self.look_at(id, begin, &document, &sealed)?;
        if let Some(entry) = before {
            closed(&entry).await?;
            self.clear(id).await?;
        }
        let record = StartRecord {
            keep_on_failure: take_over.keep_on_failure,
            submitted_by: words(&take_over.submitted_by),
            undo_only: take_over.undo_only,
            carried: Some(Box::new(carried)),
            ..record
        };
        let from = record.taken_over().map(|from| from.from.to_string()).unwrap_or_default();
        self.begin(id, record, &plan).await?;
        tracing::info!(job = %id, order, epoch, from, "a job of another agent is taken over");
        Ok(OrderStage::Applied)
    }

    /// Removes what this agent still has of a job that it had let go of: what the order carries is newer.
    async fn clear(&self, id: JobId) -> Result<(), Refused> {
        let dir: PathBuf = dir_of(&self.settings, id);
        let place = dir.display().to_string();
        let removed = spawn_blocking(move || journal::remove(&dir)).await.map_err(std::io::Error::other).flatten();
        removed.map_err(|error| {
            let message = format!("what is left of the job's earlier time here cannot be removed ({place}): {error}");
            refused(Code::Internal, message)
        })?;
        self.jobs().remove(&id);
        Ok(())
    }
}

/// A job may come back in a later epoch when it had been let go of.
fn may_come_back(entry: &Entry, epoch: u32) -> Result<(), Refused> {
    let tail = entry.journal.tail();
    if epoch <= tail.epoch {
        return Err(other_epoch(epoch, tail.epoch));
    }
    match tail.surrendered || tail.moved {
        true => Ok(()),
        false => Err(refused(Code::JobConflict, format!("the agent has this job itself, in epoch {}", tail.epoch))),
    }
}

/// What the order says of the job so far, within bounds and readable.
fn carried(job: JobId, order: &mut v1::TakeOverJob) -> Result<Carried, Refused> {
    let from = order.from.take().ok_or_else(|| bad("the order does not say where the job comes from"))?;
    let from = TakenOver::try_from(from).map_err(|error| bad(format!("where the job comes from: {error}")))?;
    let from = TakenOver { by: words(&from.by), ..from };
    let (last_seq, last_intent) = (order.last_seq, order.last_intent);
    if last_seq > SEQ_MAX || last_intent > last_seq {
        return Err(bad(format!("the job cannot have {last_seq} events and {last_intent} intents")));
    }
    let (count, bytes) = size(order);
    if count > ENTRIES_MAX || bytes > BYTES_MAX {
        let message = format!(
            "the order carries {count} facts and intents of {bytes} bytes, at most {ENTRIES_MAX} and {BYTES_MAX} are taken"
        );
        return Err(bad(message));
    }
    let facts = facts(job, std::mem::take(&mut order.facts))?;
    let open_intents = open_intents(std::mem::take(&mut order.open_intents), last_intent)?;
    Ok(Carried { from, last_seq, last_intent, facts, open_intents })
}

fn size(order: &v1::TakeOverJob) -> (usize, usize) {
    let facts: usize = order.facts.iter().map(|(key, value)| key.len() + value.len()).sum();
    let intents = order.open_intents.iter();
    let intents: usize = intents.map(|open| open.step.len() + open.call.len() + open.detail_json.len()).sum();
    (order.facts.len() + order.open_intents.len(), facts + intents)
}

/// Each is JSON, and together they are facts that this agent can work with.
fn facts(job: JobId, told: impl IntoIterator<Item = (String, String)>) -> Result<BTreeMap<String, Value>, Refused> {
    let mut facts = BTreeMap::new();
    for (key, text) in told {
        let value = serde_json::from_str(&text).map_err(|error| bad(format!("the fact {key} is no JSON: {error}")))?;
        facts.insert(key, value);
    }
    let all = Value::Object(facts.clone().into_iter().collect());
    let known = serde_json::from_value::<Facts>(all)
        .map_err(|error| bad(format!("the facts cannot be read ({error}): update the agent")))?;
    lead_nowhere_else(job, &known)?;
    Ok(facts)
}

/// The facts are the controller's word: they name no VM but the job's own, and no file in it but the installer's logs. What
/// they say of the other agent's disk is forgotten before the first step ([`Facts::leave_home`]).
fn lead_nowhere_else(job: JobId, facts: &Facts) -> Result<(), Refused> {
    if let Some(vm) = facts.vm.as_ref().filter(|vm| !vm.mark.is_empty() && vm.mark != VmFact::mark_of(job)) {
        let mark: String = vm.mark.chars().take(80).collect();
        return Err(bad(format!("the facts name a VM with the mark \"{mark}\", which is not this job's")));
    }
    let log = facts.installer.as_ref().and_then(|installer| installer.log_file.as_deref());
    if let Some(log) = log.filter(|log| !INSTALLER_LOGS.contains(log)) {
        let log: String = log.chars().take(80).collect();
        return Err(bad(format!("the facts name \"{log}\", which is none of the installer's logs")));
    }
    Ok(())
}

fn open_intents(told: Vec<v1::Intent>, last: u64) -> Result<BTreeMap<u64, OpenIntent>, Refused> {
    let mut open = BTreeMap::new();
    for v1::Intent { step, id, call, detail_json } in told {
        if id == 0 || id > last {
            return Err(bad(format!("there is no intent {id}, the last one is {last}")));
        }
        let detail = serde_json::from_str(&detail_json).unwrap_or_default();
        open.insert(id, OpenIntent { step: step.as_str().into(), call, detail });
    }
    Ok(open)
}

fn bad(message: impl Into<String>) -> Refused {
    refused(Code::BadRequest, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order() -> v1::TakeOverJob {
        let from = v1::TakenOver { from_agent: "a0".into(), by: "op".into(), confirmed: true };
        let intent = v1::Intent { step: "a".into(), id: 2, call: "make".into(), detail_json: "{\"x\":1}".into() };
        v1::TakeOverJob {
            last_seq: 9,
            last_intent: 2,
            facts: [("ssh_user".to_owned(), "\"me\"".to_owned())].into(),
            open_intents: vec![intent],
            from: Some(from),
            ..Default::default()
        }
    }

    #[test]
    fn what_is_carried_is_what_the_order_says() {
        let carried = carried(JobId::new(), &mut order()).unwrap();
        assert_eq!((carried.last_seq, carried.last_intent), (9, 2));
        assert_eq!(carried.facts["ssh_user"], "me");
        assert_eq!(carried.open_intents[&2].detail["x"], 1);
        assert!(carried.from.confirmed);
    }

    #[test]
    fn facts_of_the_jobs_own_vm_and_of_the_installers_logs_are_taken() {
        let (job, mut order) = (JobId::new(), order());
        let vm = format!(r#"{{"mark":"{}"}}"#, VmFact::mark_of(job));
        order.facts.insert("vm".into(), vm);
        order.facts.insert("installer".into(), r#"{"log_file":"nohup.out"}"#.into());
        assert_eq!(carried(job, &mut order).unwrap().facts.len(), 3);
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        type Spoil = fn(&mut v1::TakeOverJob);
        let spoiled: [(&str, Spoil); 10] = [
            ("where the job comes from", |order| order.from = None),
            ("where the job comes from", |order| order.from.as_mut().unwrap().from_agent = "a b".into()),
            ("events", |order| order.last_seq = u64::MAX),
            ("intents", |order| order.last_intent = 10),
            ("no JSON", |order| drop(order.facts.insert("vm".into(), "{".into()))),
            ("cannot be read", |order| drop(order.facts.insert("vm".into(), "7".into()))),
            ("not this job's", |order| drop(order.facts.insert("vm".into(), r#"{"mark":"a"}"#.into()))),
            ("none of the installer's logs", |order| {
                order.facts.insert("installer".into(), r#"{"log_file":"../../etc/shadow"}"#.into());
            }),
            ("no intent 3", |order| order.open_intents[0].id = 3),
            ("at most", |order| {
                order.facts = (0..300).map(|n| (n.to_string(), "1".to_owned())).collect();
            }),
        ];
        for (what, spoil) in spoiled {
            let mut order = order();
            spoil(&mut order);
            let refused = carried(JobId::new(), &mut order).unwrap_err();
            assert!(refused.code == Code::BadRequest.word() && refused.message.contains(what), "{}", refused.message);
        }
        let mut large = order();
        large.facts.insert("vm".into(), format!("\"{}\"", "x".repeat(BYTES_MAX)));
        assert!(carried(JobId::new(), &mut large).unwrap_err().message.contains("at most"));
    }
}
