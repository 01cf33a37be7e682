//! What an agent tells, read as the controller reads it, and everything that is made of it: the view, the row, the ledger,
//! what a retry would do, the JSON that people and programs see.

use gantry_controller::store::{Progress, cancel_stage};
use gantry_proto::{
    Event, JobView, Sample,
    ledger::ledger,
    retry,
    trace::admit,
    v1::{self, open_request::Item},
};
use jiff::Timestamp;

use super::input::messages;

pub(crate) fn run(input: &[u8]) {
    let mut view = JobView::default();
    let mut log = Vec::new();
    for v1::OpenRequest { item, trace } in messages(input) {
        admit(trace);
        match item {
            Some(Item::Events(batch)) => batch.events.into_iter().for_each(|event| take(&mut view, &mut log, event)),
            Some(Item::Sample(sample)) => {
                if let Ok(sample) = Sample::try_from(sample) {
                    view.sample(&sample);
                    assert!(sample.per_second.is_finite());
                }
            }
            _ => {}
        }
    }
    look(&view, &log);
}

fn take(view: &mut JobView, log: &mut Vec<Event>, wire: v1::Event) {
    let Ok(event) = Event::try_from(wire) else { return };
    // What was understood once is understood the same way again: from the wire, and from the line of a log.
    let again = Event::try_from(v1::Event::from(&event)).unwrap();
    assert_eq!(again, event);
    let line = serde_json::to_string(&event).unwrap();
    assert!(!line.contains('\n'));
    view.apply(&event);
    log.push(event);
}

fn look(view: &JobView, log: &[Event]) {
    let percent = view.percent();
    assert!((0.0..=100.0).contains(&percent), "{percent}");
    if let Some(eta) = view.eta(&Default::default(), Timestamp::UNIX_EPOCH) {
        assert!(0.0 <= eta.low && eta.low <= eta.seconds && eta.seconds <= eta.high && eta.high.is_finite(), "{eta:?}");
    }
    let row = Progress::of(view);
    assert!((0.0..=100.0).contains(&row.percent) && row.current_share.is_finite());
    for stage in (0..=5).filter_map(|stage| v1::CancelStage::try_from(stage).ok()) {
        assert!(cancel_stage(stage, view) as i32 >= stage as i32);
    }
    let resources = ledger(log);
    assert!(resources.iter().all(|resource| !resource.kind.is_empty() || !resource.is_ours() || !log.is_empty()));
    if let Ok(fates) = retry::assess(view, None, None) {
        assert_eq!(fates.len(), view.steps.len());
        for (step, _) in fates {
            retry::assess(view, Some(&step), None).unwrap();
        }
    }
    serde_json::to_string(view).unwrap();
}
