//! CloudTower's client and the steps that set it up, against the simulator.

use gantry_agent::{
    cloudtower::{ErrorKind, SetupState},
    step::StepError,
    steps::{configure_services::ConfigureServices, initial_setup::InitialSetup, verify_https::VerifyHttps},
};
use gantry_proto::Secret;
use gantry_sim::{
    cloudtower::{CreateRootUser, LicenseMode, NtpAnswer, RestAnswer, SecondOrganization, SecondUser},
    fault::{Action, Answer, Face, Fault, Match},
};
use serde_json::json;

use crate::inside::{ENCODED, Inside, ROOT_PASSWORD};

fn operation(name: &str) -> Match {
    Match { face: Some(Face::Tower), operation: Some(name.into()), ..Match::default() }
}

fn path(path: &str) -> Match {
    Match { face: Some(Face::Tower), path: Some(path.into()), ..Match::default() }
}

/// SHA-256 as the simulator keeps passwords.
fn digest(password: &str) -> String {
    use sha2::Digest as _;
    sha2::Sha256::digest(password).iter().map(|byte| format!("{byte:02x}")).collect()
}

async fn serving(change: impl FnOnce(&mut gantry_sim::SimOptions)) -> Inside {
    let mut inside = Inside::tower(change, |_, _, _| {}).await;
    inside.run(&VerifyHttps).await.unwrap();
    inside
}

async fn with_encoded(change: impl FnOnce(&mut gantry_sim::SimOptions)) -> Inside {
    let encoded = |secrets: &mut gantry_proto::Secrets| secrets.root_password_encoded = Some(Secret::new(ENCODED));
    let mut inside = Inside::tower(change, |_, _, secrets| encoded(secrets)).await;
    inside.run(&VerifyHttps).await.unwrap();
    inside
}

fn assert_ours_alone(inside: &Inside) {
    let tower = inside.tower_state();
    assert_eq!(tower.users.len(), 1);
    assert_eq!(tower.users[0].password_sha256, digest(ROOT_PASSWORD), "never another password than the planned one");
    let names: Vec<&str> = tower.organizations.iter().map(|found| found.name.as_str()).collect();
    assert_eq!(names, ["Example Org"]);
    inside.assert_no_secret();
}

async fn hands_off(inside: &mut Inside, code: &str) {
    match inside.run(&InitialSetup).await {
        Err(StepError::HandsOff(failure)) => assert_eq!(failure.code, code, "{failure:?}"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn every_way_to_create_the_root_user() {
    for (mode, p2_refused, method, made_by) in [
        (CreateRootUser::Works, false, "P1", "rest"),
        (CreateRootUser::Missing, false, "P2", "graphql plain"),
        (CreateRootUser::NeedsToken, false, "P2", "graphql plain"),
        (CreateRootUser::Missing, true, "P3", "graphql encoded"),
    ] {
        let mut inside = with_encoded(|options| {
            options.modes.tower.create_root_user = mode;
            options.modes.tower.plain_create_user_refused = p2_refused;
            options.modes.tower.operation_allow_list = true;
        })
        .await;
        inside.run(&InitialSetup).await.unwrap();
        assert_eq!(inside.facts.root_user.as_deref(), Some(method));
        assert_eq!(inside.tower_state().users[0].created_by, made_by);
        assert_ours_alone(&inside);
        // Once more: nothing is made twice.
        inside.restart();
        inside.run(&InitialSetup).await.unwrap();
        assert_ours_alone(&inside);
        inside.sim.stop().await;
    }
}

#[tokio::test]
async fn a_password_that_cannot_be_set_is_an_honest_failure() {
    let mut inside = serving(|options| {
        options.modes.tower.create_root_user = CreateRootUser::Missing;
        options.modes.tower.plain_create_user_refused = true;
    })
    .await;
    let failure = inside.fail(&InitialSetup).await;
    assert_eq!(failure.code, "root_password_not_settable");
    assert!(inside.tower_state().users.is_empty());
}

#[tokio::test]
async fn a_weak_password_is_told_at_once() {
    let mut inside = Inside::tower(|_| {}, |_, _, secrets| secrets.root_password = Secret::new("weakling")).await;
    inside.run(&VerifyHttps).await.unwrap();
    let failure = inside.fail(&InitialSetup).await;
    assert_eq!(failure.code, "root_password_too_weak");
    assert!(failure.remedy.contains("G3") && failure.message.contains("8 characters"), "{failure:?}");
    let tries = inside.core().transcript.calls("POST", "/v2/api/create-root-user").len()
        + inside.core().transcript.operations("createRootUser").len();
    assert_eq!(tries, 1, "nothing retried");
}

#[tokio::test]
async fn lost_answers_make_nothing_twice() {
    for second in [SecondOrganization::Created, SecondOrganization::Refused] {
        for error in [SecondUser::Error200, SecondUser::Error400] {
            let mut inside = serving(|options| {
                options.modes.tower.second_organization = second;
                options.modes.tower.second_user = error;
            })
            .await;
            let faults = &inside.core().faults;
            faults.arm(Fault::new("user", path("/v2/api/create-root-user"), Action::reset()).after().times(1));
            faults.arm(Fault::new("organization", operation("createOrganization"), Action::reset()).after().times(1));
            inside.run(&InitialSetup).await.unwrap();
            assert_eq!((inside.core().faults.fired("user"), inside.core().faults.fired("organization")), (1, 1));
            assert!(inside.has("root_user_unclear") && inside.has("organization_unclear"));
            assert_ours_alone(&inside);
            inside.sim.stop().await;
        }
    }
}

#[tokio::test]
async fn a_lost_answer_of_p3_is_completed() {
    let mut inside = with_encoded(|options| {
        options.modes.tower.create_root_user = CreateRootUser::Missing;
        options.modes.tower.plain_create_user_refused = true;
    })
    .await;
    let lost = Fault::new("lost", operation("createRootUser"), Action::reset()).after().skip(1).times(1);
    inside.core().faults.arm(lost);
    inside.run(&InitialSetup).await.unwrap();
    assert_eq!(inside.core().faults.fired("lost"), 1);
    assert_ours_alone(&inside);
}

#[tokio::test]
async fn what_did_not_happen_is_done_again() {
    let mut inside = serving(|_| {}).await;
    let faults = &inside.core().faults;
    faults.arm(Fault::new("user", path("/v2/api/create-root-user"), Action::status(503)).times(2));
    faults.arm(Fault::new("organization", operation("createOrganization"), Action::reset()).times(2));
    faults.arm(Fault::new("login", path("/v2/api/login"), Action::reset()).times(1));
    inside.run(&InitialSetup).await.unwrap();
    assert_eq!(inside.core().faults.fired("user"), 2);
    assert_ours_alone(&inside);
}

#[tokio::test]
async fn a_half_that_is_there_is_not_made_again() {
    let mut inside = serving(|options| options.tower.planted_organizations = vec!["Example Org".to_owned()]).await;
    inside.run(&InitialSetup).await.unwrap();
    assert!(inside.core().transcript.operations("createOrganization").is_empty());
    assert_ours_alone(&inside);
    let mut inside = serving(|options| options.tower.planted_root_password = Some(ROOT_PASSWORD.to_owned())).await;
    inside.run(&InitialSetup).await.unwrap();
    assert!(inside.core().transcript.calls("POST", "/v2/api/create-root-user").is_empty());
    assert_eq!(inside.facts.root_user, None, "not ours, but with our password");
    assert_ours_alone(&inside);
}

#[tokio::test]
async fn a_foreign_tower_is_left_alone() {
    let mut inside = serving(|options| options.tower.planted_root_password = Some("Somebody-else-1".to_owned())).await;
    hands_off(&mut inside, "tower_is_foreign").await;
    assert!(inside.tower_state().organizations.is_empty());
    let mut inside = serving(|options| options.tower.planted_organizations = vec!["Other Org".to_owned()]).await;
    hands_off(&mut inside, "tower_is_foreign").await;
    assert!(inside.tower_state().users.is_empty());
}

#[tokio::test]
async fn a_tower_that_tells_its_state_only_to_users() {
    let mut inside = serving(|options| options.modes.tower.setup_needs_token = true).await;
    inside.run(&InitialSetup).await.unwrap();
    assert_ours_alone(&inside);
    inside.restart();
    inside.run(&VerifyHttps).await.unwrap();
    inside.run(&InitialSetup).await.unwrap();
    assert_ours_alone(&inside);
    let mut inside = serving(|options| {
        options.modes.tower.setup_needs_token = true;
        options.tower.planted_root_password = Some("Somebody-else-1".to_owned());
        options.tower.planted_organizations = vec!["Example Org".to_owned()];
    })
    .await;
    hands_off(&mut inside, "tower_is_foreign").await;
}

#[tokio::test]
async fn answers_that_are_none_are_errors() {
    let inside = serving(|_| {}).await;
    let tower = &inside.cx.outside.tower;
    assert_eq!(tower.setup_state().await.unwrap(), SetupState::default());
    for (status, body) in [
        (200, json!({"errors": [{"message": "boom"}], "data": null})),
        (200, json!({"data": null})),
        (200, json!({"data": {"organizations": []}})),
        (200, json!("<html>")),
        (400, json!({"errors": [{"message": "boom"}]})),
        (404, json!({"message": "no such thing"})),
        (500, json!(null)),
        (302, json!({})),
    ] {
        let answer = Answer { status, body: body.clone(), ..Answer::default() };
        let fault = Fault::new("odd", operation("checkTowerIsSetup"), Action::Answer(answer)).times(1);
        inside.core().faults.arm(fault);
        let error = tower.setup_state().await.expect_err("an error");
        assert!(!matches!(error.kind, ErrorKind::Unreachable(_)), "{status} {body}: {error:?}");
        assert_eq!(error.is_transient(), status == 500, "{status} {body}: {error:?}");
    }
    assert_eq!(tower.setup_state().await.unwrap(), SetupState::default());
}

#[tokio::test]
async fn the_service_is_waited_for_however_it_opens() {
    // Late (W1), with 502 and 503 (W2).
    let mut inside = Inside::tower(
        |options| {
            options.tower.opens_after_success_s = 60;
            options.tower.bad_gateway_s = 90;
            options.tower.unavailable_s = 30;
        },
        |_, _, _| {},
    )
    .await;
    inside.run(&VerifyHttps).await.unwrap();
    assert!(inside.has("tower_port_late") && inside.has("tower_ready"));
    assert!(inside.facts.tower_pin.is_some());
    // Never.
    let mut inside = Inside::tower(
        |options| options.tower.bad_gateway_s = 1_000_000,
        |_, settings, _| settings.timing.ready_limit_s = 60.0,
    )
    .await;
    let failure = inside.fail(&VerifyHttps).await;
    assert_eq!(failure.code, "tower_not_ready");
    assert!(failure.message.contains("502"), "{failure:?}");
}

#[tokio::test]
async fn the_certificate_may_change_once_while_the_service_opens() {
    let mut inside = Inside::tower(
        |options| {
            options.modes.tower.certificate_changes = true;
            options.tower.bad_gateway_s = 60;
        },
        |_, _, _| {},
    )
    .await;
    // Without kept connections, so that each look shakes hands.
    inside.run(&VerifyHttps).await.unwrap();
    let pin = inside.facts.tower_pin.clone().unwrap();
    inside.run(&InitialSetup).await.unwrap();
    // A certificate that is not the recorded one is refused once there is a root user, and nothing is sent.
    inside.facts.tower_pin = Some("00".repeat(32));
    inside.restart();
    let failure = inside.fail(&ConfigureServices).await;
    assert_eq!(failure.code, "tower_certificate_changed");
    assert!(failure.causes.iter().any(|cause| cause.contains(&pin)), "{failure:?}");
}

#[tokio::test]
async fn a_token_that_expires_is_renewed_once() {
    for status in [401, 403, 400] {
        let mut inside = serving(|options| options.modes.tower.expired_token_status = status).await;
        inside.run(&InitialSetup).await.unwrap();
        let tower = &inside.cx.outside.tower;
        tower.login().await.unwrap();
        inside.core().world().towers.values_mut().for_each(|tower| tower.tokens.clear());
        let logins = || inside.core().transcript.calls("POST", "/v2/api/login").len();
        let before = logins();
        assert!(tower.license().await.unwrap().is_some(), "{status}");
        assert!(tower.ntp().await.unwrap().is_empty());
        assert_eq!(logins(), before + 1, "{status}");
    }
}

#[tokio::test]
async fn a_token_is_forgotten_when_another_one_takes_its_place_and_at_the_end() {
    let inside = serving(|_| {}).await;
    let (tower, redactor) = (&inside.cx.outside.tower, &inside.cx.redactor);
    let login = async |token: &str| {
        let answer = Answer { status: 200, body: json!({"data": {"token": token}}), ..Answer::default() };
        inside.core().faults.arm(Fault::new("given", path("/v2/api/login"), Action::Answer(answer)).times(1));
        tower.login_with(&Secret::new("any-password")).await
    };
    login("first-token-0001").await.unwrap();
    assert_eq!(redactor.text("first-token-0001"), gantry_proto::REDACTED);
    login("second-token-0002").await.unwrap();
    assert_eq!(redactor.text("first-token-0001 second-token-0002"), "first-token-0001 机密凭据");
    tower.wipe();
    assert_eq!(redactor.text("second-token-0002"), "second-token-0002");
    let error = login(&"t".repeat(5_000)).await.unwrap_err();
    assert!(matches!(error.kind, ErrorKind::Shape(_)), "{error:?}");
}

#[tokio::test]
async fn every_call_leaves_one_debug_line_without_secrets() {
    let lines = Lines::default();
    let _guard = tracing::subscriber::set_default(lines.clone());
    let mut inside = serving(|_| {}).await;
    inside.run(&InitialSetup).await.unwrap();
    lines.0.lock().unwrap().clear();
    let tower = &inside.cx.outside.tower;
    tower.login().await.unwrap();
    tower.ntp().await.unwrap();
    tower.login_with(&Secret::new("not-registered-anywhere")).await.unwrap_err();
    inside.sim.stop().await;
    let base = inside.cx.outside.tower.base_url().to_owned();
    let told = lines.0.lock().unwrap().clone();
    let told: Vec<&String> = told.iter().filter(|line| line.contains("cloudtower call")).collect();
    assert_eq!(told.len(), 3, "{told:#?} {base}");
    assert!(told[0].contains("status=200") && told[0].contains("ms=") && told[0].contains("username"), "{}", told[0]);
    assert!(told[1].contains("get-ntp-service-url") && told[1].contains("got="), "{}", told[1]);
    for line in told {
        assert!(!line.contains(ROOT_PASSWORD) && !line.contains("not-registered-anywhere"), "{line}");
        assert!(line.chars().count() < 2_000, "{line}");
    }
}

#[tokio::test]
async fn objects_arrays_and_tasks_are_all_understood() {
    for answer in [RestAnswer::Mirror, RestAnswer::Object, RestAnswer::Array] {
        let mut inside = with_encoded(|options| {
            options.modes.tower.rest_answer = answer;
            options.modes.tower.tasks = true;
            options.modes.tower.task_late = true;
        })
        .await;
        inside.run(&InitialSetup).await.unwrap();
        assert_ours_alone(&inside);
        let tower = &inside.cx.outside.tower;
        let id = tower.root_user_id().await.unwrap().unwrap();
        let task = tower.change_password(&id, &Secret::new(ROOT_PASSWORD)).await.unwrap().expect("a task");
        tower.task(&task).await.unwrap();
        inside.sim.stop().await;
    }
}

#[tokio::test]
async fn ntp_servers_are_set_and_compared_whatever_the_form() {
    for (mode, servers) in [(NtpAnswer::Semicolons, 2), (NtpAnswer::Spaced, 2), (NtpAnswer::Reversed, 2)] {
        let mut inside = serving(|options| options.modes.tower.ntp_answer = mode).await;
        inside.run(&InitialSetup).await.unwrap();
        inside.run(&ConfigureServices).await.unwrap();
        let ntp = inside.facts.ntp.clone().unwrap();
        assert_eq!((ntp.servers.len(), ntp.applied), (servers, true), "{mode:?}");
        assert_eq!(inside.tower_state().ntp, ["192.0.2.2", "ntp.example.net"]);
        inside.assert_no_secret();
    }
}

#[tokio::test]
async fn ntp_that_cannot_be_set_fails_or_warns() {
    let mut inside = serving(|options| options.modes.tower.ntp_unreachable = true).await;
    inside.run(&InitialSetup).await.unwrap();
    let failure = inside.fail(&ConfigureServices).await;
    assert_eq!(failure.code, "ntp_not_set");
    assert!(failure.remedy.contains("E22:E24"), "{failure:?}");
    let mut inside = Inside::tower(
        |options| options.modes.tower.ntp_unreachable = true,
        |plan, _, _| plan.deployment.ntp_failure_is_warning = true,
    )
    .await;
    inside.run(&VerifyHttps).await.unwrap();
    inside.run(&InitialSetup).await.unwrap();
    inside.run(&ConfigureServices).await.unwrap();
    assert!(inside.has("ntp_failed") && !inside.facts.ntp.as_ref().unwrap().applied);
}

#[tokio::test]
async fn a_lost_ntp_answer_is_read_back() {
    let mut inside = serving(|_| {}).await;
    inside.run(&InitialSetup).await.unwrap();
    let lost = Fault::new("lost", operation("updateCloudTowerNtpUrl"), Action::reset()).after().times(1);
    inside.core().faults.arm(lost);
    inside.run(&ConfigureServices).await.unwrap();
    assert_eq!(inside.core().transcript.operations("updateCloudTowerNtpUrl").len(), 1, "not sent again");
    assert!(inside.facts.ntp.as_ref().unwrap().applied);
}

#[tokio::test]
async fn a_licence_that_is_late_is_found_and_one_that_is_missing_is_a_warning() {
    for (mode, found) in [
        (LicenseMode::Trial, true),
        (LicenseMode::Late, true),
        (LicenseMode::Null, false),
        (LicenseMode::NoDeploy, false),
    ] {
        let mut inside = serving(|options| options.modes.tower.license = mode).await;
        inside.run(&InitialSetup).await.unwrap();
        inside.run(&ConfigureServices).await.unwrap();
        assert_eq!(inside.facts.license.is_some(), found, "{mode:?}");
        assert_eq!(inside.has("license_missing"), !found, "{mode:?}");
    }
}

#[tokio::test]
async fn a_locked_resource_is_waited_for() {
    let mut inside = serving(|_| {}).await;
    inside.run(&InitialSetup).await.unwrap();
    let body = json!({"code": "ResourceLocked", "message": "locked", "path": "/api", "status": 400});
    let answer = Answer { status: 400, body, ..Answer::default() };
    inside.core().faults.arm(Fault::new("locked", operation("deployedLicense"), Action::Answer(answer)).times(5));
    inside.run(&ConfigureServices).await.unwrap();
    assert_eq!(inside.core().faults.fired("locked"), 5);
    assert!(inside.facts.license.is_some());
}

#[tokio::test]
async fn login_goes_on_after_a_lost_answer() {
    let mut inside = serving(|_| {}).await;
    inside.run(&InitialSetup).await.unwrap();
    inside.core().faults.arm(Fault::new("lost", path("/v2/api/login"), Action::reset()).after().times(1));
    inside.run(&ConfigureServices).await.unwrap();
    assert_eq!(inside.core().faults.fired("lost"), 1);
}

#[tokio::test]
async fn an_answer_of_any_size_takes_bounded_memory() {
    let mut inside = Inside::tower(|_| {}, |_, settings, _| settings.cloudtower.max_response_bytes = 10_000).await;
    inside.run(&VerifyHttps).await.unwrap();
    let answer = Answer { status: 200, body: json!("x".repeat(100_000)), ..Answer::default() };
    inside.core().faults.arm(Fault::new("big", operation("checkTowerIsSetup"), Action::Answer(answer)).times(1));
    let error = inside.cx.outside.tower.setup_state().await.expect_err("too large");
    assert!(matches!(error.kind, ErrorKind::Unread(_)) && !error.is_transient(), "{error:?}");
}

/// Every event that is told, as one line of `name=value`.
#[derive(Clone, Default)]
struct Lines(std::sync::Arc<std::sync::Mutex<Vec<String>>>);

impl tracing::Subscriber for Lines {
    fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}

    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        struct Fields(String);
        impl tracing::field::Visit for Fields {
            fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
                self.0.push_str(&format!("{field}={value:?} "));
            }
        }
        let mut fields = Fields(String::new());
        event.record(&mut fields);
        self.0.lock().unwrap().push(fields.0);
    }

    fn enter(&self, _: &tracing::span::Id) {}

    fn exit(&self, _: &tracing::span::Id) {}
}
