//! The pictures of a campaign, word for word.

use std::collections::BTreeMap;

use gantry_proto::{JobId, JobOutcome, Secret, v1};

use super::*;
use crate::{campaign::state::State, profile::Endpoint};

fn ended(outcome: JobOutcome, code: Option<&str>, left_over: bool) -> Stage {
    let code = code.map(str::to_owned);
    let message = code.as_ref().map(|_| "chunk 17 could not be sent".to_owned());
    Stage::Ended(Ended { outcome, left_over, seconds: Some(1_900.0), code, message })
}

/// Ten sites, each of which stands otherwise.
fn campaign() -> Campaign {
    let texts = ["https://c:1", "c", "", ""].map(str::to_owned);
    let [url, server_name, ca, cert] = texts;
    let mut state = State::new(&Endpoint { url, server_name, ca, cert, key: Secret::new("") });
    let stages = [
        ("shanghai-1", ended(JobOutcome::Succeeded, None, false)),
        ("beijing-2", ended(JobOutcome::Failed, Some("fisheye_unreliable"), false)),
        ("wuhan", ended(JobOutcome::Failed, Some("installer_failed"), true)),
        ("chengdu", ended(JobOutcome::Cancelled, None, false)),
        ("xian", Stage::Refused { message: "no agent of site xian".to_owned() }),
        ("a-site-with-a-name-that-is-far-too-long", Stage::Running),
        ("harbin", Stage::Running),
        ("dalian", Stage::Submitting),
        ("lhasa", Stage::Skipped),
        ("urumqi", Stage::Waiting),
    ];
    for (number, (site, stage)) in stages.into_iter().enumerate() {
        let job: JobId = format!("01976f2e-8c1a-7e11-9d55-0a1b3f2a1b{number:02}").parse().unwrap();
        let job_id = (stage.is_begun()).then_some(job);
        let workbook = format!("{site}.xlsx").into();
        state.sites.push(Site { site: site.to_owned(), workbook, agent: None, plan_sha256: None, job_id, stage });
    }
    let row = |state: JobState, percent| v1::Job {
        state: state.into(),
        percent,
        current_step: "upload-iso".to_owned(),
        agent_in_contact: true,
        ..v1::Job::default()
    };
    let known = |job| Known { job: Some(job), ..Known::default() };
    let known = BTreeMap::from([
        (5, known(row(JobState::Running, 42.5))),
        (6, known(row(JobState::NeedsOperator, 12.0))),
        (7, Known::default()),
    ]);
    Campaign { name: "night-1.csv".to_owned(), state, known, paused: Some("2031-01-02T03:04:05Z".to_owned()) }
}

fn snapshot(name: &str, text: &str) {
    insta::with_settings!({ snapshot_path => "../../../tests/it/snapshots", prepend_module_to_snapshot => false }, {
        insta::assert_snapshot!(name, text);
    });
}

#[test]
fn the_picture_fits_its_terminal() {
    let campaign = campaign();
    for (columns, rows) in [(80, 24), (40, 24), (80, 6)] {
        let lines = campaign.scene(true).frame((columns, rows), Paint::PLAIN);
        assert!(lines.len() < rows.max(8) && lines.iter().all(|line| text::width(line) <= columns), "{lines:#?}");
        snapshot(&format!("campaign_{columns}_{rows}"), &lines.join("\n"));
    }
}

#[test]
fn the_table_and_the_line_tell_every_site() {
    let campaign = campaign();
    snapshot("campaign_table", &campaign.scene(false).table(120));
    snapshot("campaign_line", &campaign.scene(false).line());
}

#[test]
fn a_campaign_in_chinese_is_the_same_to_programs() {
    let campaign = campaign();
    let english = campaign.scene(false).json();
    within(Lang::Zh, || {
        let lines = campaign.scene(true).frame((80, 24), Paint::PLAIN);
        assert!(lines.iter().all(|line| text::width(line) <= 80), "{lines:#?}");
        snapshot("campaign_80_24_zh", &lines.join("\n"));
        snapshot("campaign_table_zh", &campaign.scene(false).table(120));
        assert_eq!(campaign.scene(false).json(), english);
    });
}

#[test]
fn the_document_has_every_site_and_the_counts_add_up() {
    let campaign = campaign();
    let document = campaign.scene(false).json();
    let counts = document["counts"].as_object().unwrap();
    let sum = |names: &[&str]| names.iter().map(|name| counts[*name].as_u64().unwrap()).sum::<u64>();
    let kinds = ["succeeded", "failed", "cancelled", "refused", "needs_operator", "running", "waiting", "skipped"];
    assert_eq!((sum(&kinds), sum(&["sites"]), document["failures"].as_u64()), (10, 10, Some(5)));
    let site = &document["sites"][2];
    assert_eq!(
        (&site["state"], &site["code"], &site["left_over"]),
        (&json!("failed"), &json!("installer_failed"), &json!(true))
    );
    assert_eq!(document["sites"][6]["state"], "needs_operator");
    assert_eq!(document["sites"][5]["percent"], 42.5);
}
