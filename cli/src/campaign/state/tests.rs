//! What is written down, and what a second run makes of it.

use gantry_proto::{Secret, v1::JobState};
use serde_json::json;

use super::*;

fn endpoint(ca: &str) -> Endpoint {
    Endpoint {
        url: "https://c.example:7443".to_owned(),
        server_name: "c.example".to_owned(),
        ca: ca.to_owned(),
        cert: String::new(),
        key: Secret::new(""),
    }
}

fn entry(site: &str) -> Entry {
    Entry { site: site.to_owned(), workbook: format!("{site}.xlsx").into(), agent: None }
}

fn state(sites: &[&str]) -> State {
    let mut state = State::new(&endpoint("ca"));
    state.take_list(sites.iter().map(|site| entry(site)).collect());
    state
}

fn failed() -> Ended {
    Ended { outcome: JobOutcome::Failed, left_over: false, seconds: Some(1.5), code: Some("x".into()), message: None }
}

fn names(state: &State) -> Vec<&str> {
    state.sites.iter().map(|site| site.site.as_str()).collect()
}

#[test]
fn a_site_has_one_job_id_for_ever() {
    let mut state = state(&["a"]);
    let job = state.sites[0].begin();
    let site = &mut state.sites[0];
    site.stage = Stage::Refused { message: "no agent".to_owned() };
    assert_eq!(state.take_list(vec![entry("a")]), Vec::<String>::new());
    assert_eq!((&state.sites[0].stage, state.sites[0].job_id), (&Stage::Waiting, Some(job)), "it is tried again");
    assert_eq!(state.sites[0].begin(), job);
    state.sites[0].settle(None);
    assert_eq!((state.sites[0].stage.clone(), state.sites[0].begin()), (Stage::Waiting, job));
}

#[test]
fn the_file_is_read_as_it_was_written() {
    let mut state = state(&["a", "b", "c", "d"]);
    state.options.set.insert("organization".to_owned(), "Example".to_owned());
    state.options.on_failure = Some(OnFailure::Keep);
    state.sites[0].begin();
    state.sites[1].begin();
    state.sites[1].stage = Stage::Ended(failed());
    state.sites[2].stage = Stage::Refused { message: "no".to_owned() };
    let text = serde_json::to_value(&state).unwrap();
    assert_eq!((&text["sites"][1]["state"], &text["sites"][1]["outcome"]), (&json!("ended"), &json!("failed")));
    assert_eq!(serde_json::from_value::<State>(text).unwrap(), state);
    assert_eq!(state.fault(), None);
}

#[test]
fn what_somebody_has_edited_is_looked_at() {
    let mut other = state(&["a"]);
    other.form = "gantry.campaign/2".to_owned();
    let mut lost = state(&["a"]);
    lost.sites[0].stage = Stage::Running;
    let mut twice = state(&["a", "b"]);
    twice.sites[1].job_id = Some(twice.sites[0].begin());
    for broken in [other, lost, twice] {
        assert!(broken.fault().is_some(), "{broken:?}");
    }
}

#[test]
fn another_controller_is_refused_and_another_address_is_not() {
    let mut state = state(&["a"]);
    assert!(state.belongs_to(&endpoint("other ca")).is_err());
    let moved = Endpoint { url: "https://elsewhere:1".to_owned(), ..endpoint("ca") };
    assert_eq!(state.belongs_to(&moved), Ok(()));
    assert_eq!(state.controller, "https://elsewhere:1");
}

#[test]
fn the_list_may_change_between_runs() {
    let mut state = state(&["a", "b", "c"]);
    let (a, b) = (state.sites[0].begin(), state.sites[1].begin());
    state.sites[0].stage = Stage::Ended(failed());
    let mut moved = entry("a");
    moved.workbook = "elsewhere.xlsx".into();
    let notes = state.take_list(vec![entry("new"), moved]);
    assert_eq!(names(&state), ["new", "a", "b"]);
    assert_eq!((state.sites[1].job_id, state.sites[2].job_id), (Some(a), Some(b)));
    assert_eq!(state.sites[1].workbook, PathBuf::from("a.xlsx"), "what its job was made of");
    assert_eq!(notes.len(), 2, "{notes:?}");
}

#[test]
fn what_an_operator_has_done_since_counts() {
    let mut state = state(&["a"]);
    state.sites[0].begin();
    state.sites[0].stage = Stage::Ended(failed());
    assert!(state.sites[0].stage.is_open());
    let row = |state: JobState| v1::Job { state: state.into(), ..v1::Job::default() };
    state.sites[0].settle(Some(row(JobState::Running)));
    assert_eq!(state.sites[0].stand(false), Stand::AtWork);
    state.sites[0].settle(Some(row(JobState::Succeeded)));
    assert_eq!(state.sites[0].stand(false), Stand::Succeeded);
    assert!(!state.sites[0].stage.is_open());
    let ended = v1::Job { undo: v1::UndoState::Incomplete.into(), ..row(JobState::Cancelled) };
    state.sites[0].settle(Some(ended));
    let Stage::Ended(ended) = &state.sites[0].stage else { panic!("not ended") };
    assert_eq!((ended.outcome, ended.left_over), (JobOutcome::Cancelled, true));
}
