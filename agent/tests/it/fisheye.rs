//! Fisheye's client over real sockets: session, fail-over, limits, tolerance.

use gantry_agent::{config::CertificatePolicy, fisheye::ErrorKind};
use gantry_sim::fault::{Action, Answer, Match, When, WorldAction};
use serde_json::json;

use crate::site::{Site, fault};

fn answer(status: u16, body: serde_json::Value) -> Action {
    Action::Answer(Answer { status, body, ..Answer::default() })
}

fn images() -> Match {
    Match::fisheye("GET", "/api/v2/images")
}

fn login() -> Match {
    Match::fisheye("POST", "/api/v3/sessions")
}

#[tokio::test]
async fn a_wrong_password_is_tried_exactly_once() {
    let mut site = Site::new().await;
    site.password = "not-the-password".to_owned();
    let client = site.client();
    for _ in 0..3 {
        let error = client.images().await.unwrap_err();
        assert!(matches!(error.kind, ErrorKind::Credentials), "{error:?}");
        let failure = error.failure("listing the images");
        assert!(failure.remedy.contains("主机规划!M19") && !format!("{failure:?}").contains("not-the-password"));
    }
    assert_eq!(site.logins(), 1);
}

#[tokio::test]
async fn every_request_has_one_host_and_one_token_and_the_login_none() {
    let site = Site::with(|options| {
        options.modes.strict = true;
        options.modes.reject_token_on_login = true;
    })
    .await;
    let client = site.client();
    client.images().await.unwrap();
    site.core().change_world(&WorldAction::RevokeTokens).unwrap();
    client.vms().await.unwrap();
    let entries = site.core().transcript.entries();
    for entry in &entries {
        let count = |name: &str| entry.headers.iter().filter(|header| *header == name).count();
        let tokens = usize::from(entry.path != "/api/v3/sessions");
        assert_eq!((count("host"), count("x-smartx-token")), (1, tokens), "{entry:?}");
        assert_eq!(entry.host.as_deref(), Some(entry.address.as_str()));
    }
    assert_eq!(site.logins(), 2);
    client.logout().await.unwrap();
    assert_eq!(site.calls("DELETE", "/api/v3/sessions").len(), 1);
}

#[tokio::test]
async fn a_401_costs_one_login_and_one_replay_whatever_its_body_is() {
    for body in ["empty", "html", "envelope", "v3"] {
        let site = Site::new().await;
        site.modes(json!({"unauthorized_body": body}));
        let client = site.client();
        client.login().await.unwrap();
        site.core().change_world(&WorldAction::RevokeTokens).unwrap();
        client.images().await.unwrap();
        assert_eq!((site.logins(), site.calls("GET", "/api/v2/images").len()), (2, 2), "{body}");
    }
}

#[tokio::test]
async fn two_401_in_a_row_are_rejected_credentials_and_no_loop() {
    let site = Site::new().await;
    site.arm(fault("always", images(), When::Before, Action::status(401)));
    let error = site.client().images().await.unwrap_err();
    assert!(matches!(error.kind, ErrorKind::Credentials));
    assert_eq!((site.logins(), site.calls("GET", "/api/v2/images").len()), (2, 2));
}

#[tokio::test]
async fn one_login_serves_all_who_wait_for_it() {
    let site = Site::new().await;
    let client = site.client();
    let all = futures_util::future::join_all((0..8).map(|_| client.images())).await;
    assert!(all.iter().all(Result::is_ok));
    assert_eq!(site.logins(), 1);
    site.core().change_world(&WorldAction::RevokeTokens).unwrap();
    let all = futures_util::future::join_all((0..8).map(|_| client.images())).await;
    assert!(all.iter().all(Result::is_ok));
    assert_eq!(site.logins(), 2);
}

#[tokio::test]
async fn a_login_is_repeated_when_the_server_fails_but_not_when_it_refuses() {
    let site = Site::with(|options| options.modes.token_in_data = true).await;
    site.arm(fault("twice", login(), When::Before, Action::status(500)).times(2));
    site.client().login().await.unwrap();
    assert_eq!((site.fired("twice"), site.logins()), (2, 3));

    let site = Site::new().await;
    site.arm(fault("locked", login(), When::Before, Action::status(403)));
    let client = site.client();
    for _ in 0..2 {
        assert!(matches!(client.login().await.unwrap_err().kind, ErrorKind::LockedOut(_)));
    }
    assert_eq!(site.logins(), 1);

    let site = Site::new().await;
    site.arm(fault("empty", login(), When::Before, answer(200, json!({"user_id": "root"}))));
    assert!(matches!(site.client().login().await.unwrap_err().kind, ErrorKind::Shape(_)));
}

#[tokio::test]
async fn reads_are_tried_three_times_and_refusals_once() {
    for (action, calls, transient) in [
        (Action::status(500), 3, true),
        (Action::status(503), 3, true),
        (answer(200, json!({"ec": "REST_UNKNOWN_ERROR", "error": {"msg": "x"}})), 3, true),
        (answer(200, json!("{\"data\": [")), 3, true),
        (Action::status(400), 1, false),
        (Action::status(403), 1, false),
        (answer(200, json!({"ec": "REST_FORM_ERROR", "error": {"msg": "x"}})), 1, false),
        (Action::reset(), 3, true),
    ] {
        let site = Site::new().await;
        let name = format!("{action:?}");
        site.arm(fault("f", images(), When::Before, action));
        let error = site.client().images().await.unwrap_err();
        assert_eq!((site.fired("f"), error.is_transient()), (calls, transient), "{name}: {error:?}");
    }
}

#[tokio::test]
async fn a_read_that_works_at_last_is_a_success() {
    let site = Site::new().await;
    site.arm(fault("f", images(), When::Before, Action::status(502)).times(2));
    site.client().images().await.unwrap();
    assert_eq!(site.fired("f"), 2);
}

#[tokio::test]
async fn retry_after_is_honoured() {
    let site = Site::new().await;
    let headers = [("retry-after".to_owned(), "1".to_owned())].into();
    let busy = Action::Answer(Answer { status: 429, headers, ..Answer::default() });
    site.arm(fault("busy", images(), When::Before, busy).times(1));
    let begin = std::time::Instant::now();
    site.client().images().await.unwrap();
    assert!(begin.elapsed() >= std::time::Duration::from_secs(1), "{:?}", begin.elapsed());
}

#[tokio::test]
async fn a_hanging_call_ends_and_another_endpoint_is_asked() {
    let mut site = Site::new().await;
    site.settings.fisheye.request_timeout_ms = 200;
    let vip = site.sim.vip();
    site.arm(fault("hang", Match { address: Some(vip), ..images() }, When::Before, Action::Hang));
    let client = site.client();
    client.images().await.unwrap();
    assert_eq!(site.fired("hang"), 1);
    assert!(!client.base_url().contains(&vip.to_string()));
}

#[tokio::test]
async fn a_dead_vip_is_passed_over_with_the_same_token() {
    let site = Site::new().await;
    let client = site.client();
    client.images().await.unwrap();
    site.core().change_world(&WorldAction::Down { address: site.sim.vip() }).unwrap();
    client.images().await.unwrap();
    client.vms().await.unwrap();
    assert_eq!(site.logins(), 1);
    let last = site.calls("GET", "/api/v2/vms").pop().unwrap();
    assert!(last.address.starts_with("127.0.20.11:") && last.host == Some(last.address.clone()), "{last:?}");
}

#[tokio::test]
async fn with_every_endpoint_dead_the_end_is_bounded_and_clear() {
    let site = Site::new().await;
    let client = site.client();
    client.login().await.unwrap();
    for address in std::iter::once(site.sim.vip()).chain(site.core().options.nodes.iter().map(|node| node.management)) {
        site.core().change_world(&WorldAction::Down { address }).unwrap();
    }
    let error = client.images().await.unwrap_err();
    let ErrorKind::Unreachable(tried) = &error.kind else { panic!("{error:?}") };
    assert_eq!(tried.len(), 4);
    assert!(error.had_no_effect());
    assert_eq!(error.failure("x").code, "fisheye_unreachable");
}

#[tokio::test]
async fn the_cloudtower_address_is_never_an_endpoint() {
    let mut site = Site::new().await;
    site.plan.cluster.vip = Some(site.plan.cloudtower.ip);
    let client = site.client();
    assert!(!client.endpoints().contains(&site.plan.cloudtower.ip.to_string()));
    client.login().await.unwrap();
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let site = Site::new().await;
    let headers = [("location".to_owned(), "https://127.0.0.1:1/api/v2/images".to_owned())].into();
    let moved = Action::Answer(Answer { status: 302, headers, ..Answer::default() });
    site.arm(fault("moved", images(), When::Before, moved));
    let error = site.client().images().await.unwrap_err();
    assert_eq!(error.kind.refusal().map(|refusal| refusal.status), Some(302), "{error:?}");
}

#[tokio::test]
async fn floods_header_bombs_and_rubbish_are_bounded() {
    let site = Site::new().await;
    let client = site.client();
    client.login().await.unwrap();
    site.arm(fault("flood", images(), When::After, Action::Flood { bytes: None }).times(1));
    assert!(matches!(client.images().await.unwrap_err().kind, ErrorKind::TooLarge(_)));
    for action in [
        Action::HeaderBomb { count: 5_000, size: 100 },
        Action::Garble { bytes: 3_000 },
        Action::Truncate { bytes: 10 },
        Action::Truncate { bytes: 0 },
    ] {
        let name = format!("{action:?}");
        site.arm(fault("odd", images(), When::After, action).times(1));
        client.images().await.unwrap_or_else(|error| panic!("{name}: {error:?}"));
        assert_eq!(site.fired("odd"), 1, "{name}");
    }
}

#[tokio::test]
async fn a_certificate_is_recorded_and_enforced_also_after_a_restart() {
    let site = Site::new().await;
    let client = site.client();
    client.login().await.unwrap();
    let pins = client.pins();
    assert_eq!(pins.keys().cloned().collect::<Vec<_>>(), [site.sim.vip().to_string()]);
    site.core().change_world(&WorldAction::RotateCertificate).unwrap();
    let later = site.client();
    later.trust(&pins);
    let error = later.login().await.unwrap_err();
    assert!(matches!(error.kind, ErrorKind::Certificate(_)), "{error:?}");
    assert_eq!(error.failure("x").code, "fisheye_certificate_changed");
    assert_eq!(site.logins(), 1, "nothing was sent to a server that is not the one expected");

    let mut pinned = Site::new().await;
    pinned.settings.fisheye.certificate = CertificatePolicy::Pinned;
    assert!(matches!(pinned.client().login().await.unwrap_err().kind, ErrorKind::Certificate(_)));
    let seen = {
        let mut site = Site::new().await;
        site.settings.fisheye.certificate = CertificatePolicy::AcceptAny;
        site.client().login().await
    };
    assert!(seen.is_ok());
}

#[tokio::test]
async fn image_lists_of_every_shape_are_read() {
    let planted = |options: &mut gantry_sim::SimOptions| {
        options.images = vec![serde_json::from_value(json!({"name": "a.iso", "size": 5, "count": 3})).unwrap()];
    };
    let site = Site::with(planted).await;
    let client = site.client();
    for shape in ["images", "entities", "array", "items", "list", "records", "results"] {
        site.modes(json!({"image_list": shape}));
        assert_eq!(client.images().await.unwrap().len(), 3, "{shape}");
    }
    let empty = Site::new().await;
    empty.modes(json!({"image_list": "null"}));
    assert!(empty.client().images().await.unwrap().is_empty());
}

#[tokio::test]
async fn every_vm_is_found_however_the_list_is_paged() {
    let site = Site::with(|options| {
        options.vms = vec![serde_json::from_value(json!({"name": "vm", "count": 250, "running": false})).unwrap()];
    })
    .await;
    let client = site.client();
    for (first, total) in [
        ("one", "right"),
        ("one", "too_high"),
        ("one", "zero"),
        ("one", "absent"),
        ("zero", "right"),
        ("zero", "too_high"),
        ("zero", "zero"),
        ("zero", "absent"),
    ] {
        site.modes(json!({"first_page": first, "list_total": total}));
        assert_eq!(client.vms().await.unwrap().len(), 250, "{first} {total}");
    }
}
