//! CloudTower over real HTTPS.

use std::time::Duration;

use gantry_sim::SimOptions;
use gantry_sim::cloudtower::{
    CreateRootUser, LicenseMode, NtpAnswer, RestAnswer, SecondOrganization, SecondUser, violations,
};
use gantry_sim::world::GuestEvent;
use serde_json::{Value, json};

use crate::lab::{Lab, VM, https};

const SECRET: &str = "Si#Tower2957g";
const SETUP: &str = "query checkTowerIsSetup { organizations(first: 10) { id name } userCreated { created } }";
const CREATE_ORGANIZATION: &str =
    "mutation createOrganization($data: OrganizationCreateInput!) { createOrganization(data: $data) { id } }";
const NTP: &str = "mutation updateCloudTowerNtpUrl($data: NtpCommonUpdateInput!) \
    { updateCloudTowerNtpUrl(data: $data) { ntp_service_url } }";
const LICENSE: &str = "query deployedLicense { deploys(first: 1) { id license { id license_serial type sign_date } } }";

fn create_user(encoded: bool) -> String {
    format!(
        "mutation createRootUser($root_password: String!, $now: DateTime!) {{ createUser(data: {{ name: \"root\", \
         username: \"root\", display_username: \"root\", role: ROOT, source: LOCAL, password: $root_password, \
         password_updated_at: $now, password_recover_qa: {{ enabled: false, items: [] }} }}, \
         effect: {{ encoded: {encoded} }}) {{ id }} }}"
    )
}

async fn create_root(lab: &Lab, encoded: bool, password: &str) -> (u16, Value) {
    let variables = json!({ "root_password": password, "now": "2025-09-30T18:42:47.920Z" });
    lab.graphql(None, &create_user(encoded), variables).await
}

async fn create_organization(lab: &Lab, name: &str) -> (u16, Value) {
    lab.graphql(None, CREATE_ORGANIZATION, json!({ "data": { "name": name } })).await
}

async fn login(lab: &Lab, password: &str) -> (u16, Value) {
    lab.rest(None, "login", json!({ "username": "root", "password": password, "source": "LOCAL" })).await
}

/// A tower that is set up, and a token.
async fn set_up(change: impl FnOnce(&mut SimOptions)) -> (Lab, String) {
    let lab = Lab::ready_tower(change).await;
    assert_eq!(lab.rest(None, "create-root-user", json!({ "password": SECRET })).await.0, 200);
    assert_eq!(create_organization(&lab, "仿真实验室").await.0, 200);
    let token = login(&lab, SECRET).await.1["data"]["token"].as_str().expect("a token").to_owned();
    (lab, token)
}

fn modes(lab: &Lab, change: impl FnOnce(&mut gantry_sim::cloudtower::Modes)) {
    let mut modes = (*lab.core().modes()).clone();
    change(&mut modes.tower);
    lab.core().set_modes(modes);
}

fn error(answer: &Value) -> &str {
    answer.pointer("/errors/0/message").and_then(Value::as_str).unwrap_or("")
}

#[tokio::test]
async fn the_service_opens_in_steps_and_changes_its_certificate_when_told() {
    let lab = Lab::start(20.0, |options| {
        options.external_guest = true;
        options.modes.tower.certificate_changes = true;
    })
    .await;
    let certificate = async || {
        let response = https().get(lab.tower_url("/")).send().await.ok()?;
        let info = response.extensions().get::<reqwest::tls::TlsInfo>().expect("asked for");
        Some((response.status().as_u16(), info.peer_certificate().expect("a certificate").to_vec()))
    };
    assert!(certificate().await.is_none(), "closed before the installer is done");
    lab.tell(GuestEvent::Installed { vm_uuid: VM.to_owned() });
    let mut seen: Vec<(u16, Vec<u8>)> = Vec::new();
    let mut order = Vec::new();
    while order.last() != Some(&200) {
        match certificate().await {
            Some(answer) => {
                if order.last() != Some(&answer.0) {
                    order.push(answer.0);
                }
                seen.push(answer);
            }
            None => tokio::time::sleep(Duration::from_millis(5)).await,
        }
    }
    assert_eq!(order, [502, 503, 200]);
    assert_ne!(seen.first().map(|answer| &answer.1), seen.last().map(|answer| &answer.1), "another certificate");
    let opened = lab.core().world().towers[VM].opened_at.expect("opened");
    let installed = lab.core().world().guests.get(VM).and_then(|guest| guest.installed_at);
    assert!(installed.is_none_or(|installed| opened > installed));
}

#[tokio::test]
async fn a_guest_played_by_somebody_else_is_reported_through_the_control_api() {
    let lab = Lab::start(1000.0, |options| {
        options.external_guest = true;
        options.vms = vec![serde_json::from_value(json!({ "name": "theirs" })).expect("a planted VM")];
    })
    .await;
    let report = async |body: Value| {
        let url = format!("{}/guest/installed", lab.sim.control_url());
        https().post(url).json(&body).send().await.expect("an answer").status().as_u16()
    };
    assert_eq!(report(json!({})).await, 409, "no VM has an address");
    let uuid = {
        let mut world = lab.core().world();
        let vm = world.vms.values_mut().next().expect("the planted VM");
        vm.guest_ip = Some(lab.ip);
        vm.uuid.clone()
    };
    lab.network_up(&uuid);
    assert_eq!(report(json!({ "vm_uuid": "another" })).await, 409);
    assert_eq!(report(json!({})).await, 200);
    lab.until("CloudTower opens", || lab.core().world().towers.contains_key(&uuid)).await;
    assert!(lab.try_ssh("cloudtower", "HC!r0cks").await.is_err(), "no SSH of ours");
}

#[tokio::test]
async fn first_time_set_up_goes_from_empty_to_ready() {
    let lab = Lab::ready_tower(|_| {}).await;
    let (status, empty) = lab.graphql(None, SETUP, json!({})).await;
    assert_eq!((status, &empty["data"]), (200, &json!({"organizations": [], "userCreated": {"created": false}})));
    let (status, user) = lab.rest(None, "create-root-user", json!({ "password": SECRET })).await;
    assert_eq!((status, &user["task_id"], &user["data"]["username"]), (200, &Value::Null, &json!("root")));
    let (status, organization) = create_organization(&lab, "仿真实验室").await;
    assert_eq!(status, 200);
    assert!(organization["data"]["createOrganization"]["id"].is_string(), "{organization}");
    assert!(organization["data"]["createOrganization"].get("name").is_none(), "only what was selected");
    let (_, ready) = lab.graphql(None, SETUP, json!({})).await;
    assert_eq!(ready["data"]["userCreated"]["created"], json!(true));
    assert_eq!(ready["data"]["organizations"][0]["name"], json!("仿真实验室"));
    let tower = lab.core().world().towers[VM].clone();
    assert!(tower.root_password_is(SECRET) && tower.ready_at.is_some());
    assert!(violations(lab.core()).is_empty());
    let text = serde_json::to_string(&tower).expect("text");
    assert!(!text.contains(SECRET), "the world holds no password");
}

#[tokio::test]
async fn login_gives_a_token_of_three_parts_that_expires() {
    let (lab, token) = set_up(|options| options.tower.token_lifetime_s = 1800).await;
    assert_eq!(token.split('.').count(), 3);
    let (status, wrong) = login(&lab, "nonsense").await;
    assert_eq!(status, 400);
    assert!(wrong["code"].is_string() && wrong["message"].is_string() && wrong["status"] == json!(400), "{wrong}");
    assert_eq!(lab.rest(Some(&token), "get-organizations", json!({})).await.0, 200);
    assert_eq!(lab.rest(None, "get-organizations", json!({})).await.0, 401);
    assert_eq!(lab.rest(Some(&format!("Bearer {token}")), "get-organizations", json!({})).await.0, 401);
    lab.core().clock.advance(Duration::from_secs(1800));
    for status in [401, 403, 400] {
        modes(&lab, |tower| tower.expired_token_status = status);
        assert_eq!(lab.rest(Some(&token), "get-deploys", json!({})).await.0, status);
        assert_eq!(lab.graphql(Some(&token), LICENSE, json!({})).await.0, status);
    }
    modes(&lab, |tower| tower.wrong_password_status = 404);
    assert_eq!(login(&lab, "nonsense").await.0, 404);
    let encoded = "mutation login($data: LoginInput!) { login(data: $data) { token uid need_mfa } }";
    let data = json!({ "data": { "username": "root", "password": SECRET, "source": "LOCAL", "auth_config_id": null } });
    let (_, answer) = lab.graphql(None, encoded, data).await;
    assert!(answer["data"]["login"]["token"].is_string(), "{answer}");
}

#[tokio::test]
async fn the_three_ways_to_a_root_user_can_each_be_closed() {
    let example = "MDAxMTIyMzM0NDU1NjY3Nzg4OTlhYWJiY2NkZGVlZmY6WlhoaGJYQnNaUzFqYVhCb1pYSXhOZz09";
    let lab = Lab::ready_tower(|options| {
        options.modes.tower.create_root_user = CreateRootUser::Missing;
        options.modes.tower.plain_create_user_refused = true;
    })
    .await;
    assert_eq!(lab.rest(None, "create-root-user", json!({ "password": SECRET })).await.0, 404);
    modes(&lab, |tower| tower.create_root_user = CreateRootUser::NeedsToken);
    assert_eq!(lab.rest(None, "create-root-user", json!({ "password": SECRET })).await.0, 401);
    let (status, refused) = create_root(&lab, false, SECRET).await;
    assert!(status == 200 && refused["data"].is_null() && error(&refused).contains("encoded"), "{refused}");
    let (_, unknown) = create_root(&lab, true, &example.replace("MDAx", "MDAy")).await;
    assert!(error(&unknown).contains("decrypt"), "{unknown}");
    let (_, shapeless) = create_root(&lab, true, SECRET).await;
    assert!(error(&shapeless).contains("vector"), "{shapeless}");
    let (_, created) = create_root(&lab, true, example).await;
    assert!(created["data"]["createUser"]["id"].is_string(), "{created}");
    let (_, logged_in) = login(&lab, "HC!r0cks").await;
    let token = logged_in["data"]["token"].as_str().expect("the default password").to_owned();
    let id = lab.core().world().towers[VM].root().expect("root").id.clone();
    let change = json!({ "where": { "id": id }, "data": { "password": SECRET } });
    assert_eq!(lab.rest(None, "update-user", change.clone()).await.0, 401);
    assert_eq!(lab.rest(Some(&token), "update-user", change).await.0, 200);
    assert_eq!((login(&lab, "HC!r0cks").await.0, login(&lab, SECRET).await.0), (400, 200));
}

#[tokio::test]
async fn a_second_root_user_is_refused_in_each_way() {
    let (lab, _) = set_up(|_| {}).await;
    let (status, again) = create_root(&lab, false, SECRET).await;
    assert!(status == 200 && error(&again).contains("UserAlreadyExists") && again["data"].is_null(), "{again}");
    modes(&lab, |tower| tower.second_user = SecondUser::Error400);
    assert_eq!(create_root(&lab, false, SECRET).await.0, 400);
    assert_eq!(lab.rest(None, "create-root-user", json!({ "password": SECRET })).await.0, 400);
    assert!(violations(lab.core()).is_empty());
}

#[tokio::test]
async fn a_second_organisation_is_created_or_refused() {
    let (lab, token) = set_up(|_| {}).await;
    assert_eq!(create_organization(&lab, "仿真实验室").await.0, 200);
    assert_eq!(violations(lab.core()).len(), 1, "and the simulator notices");
    modes(&lab, |tower| tower.second_organization = SecondOrganization::Refused);
    let (_, refused) = create_organization(&lab, "仿真实验室").await;
    assert!(error(&refused).contains("already exists"), "{refused}");
    let (_, found) = lab.rest(Some(&token), "get-organizations", json!({"where": {"name": "仿真实验室"}})).await;
    assert_eq!(found.as_array().map(Vec::len), Some(2));
}

#[tokio::test]
async fn weak_passwords_and_wrong_input_are_refused() {
    let lab = Lab::ready_tower(|_| {}).await;
    let (status, weak) = lab.rest(None, "create-root-user", json!({ "password": "password" })).await;
    assert!(status == 400 && weak["message"].as_str().is_some_and(|text| text.contains("too weak")), "{weak}");
    assert!(error(&create_root(&lab, false, "password").await.1).contains("too weak"));
    let (status, answer) = lab.graphql(None, "query x { organizations {", json!({})).await;
    assert_eq!((status, error(&answer).is_empty()), (400, false));
    assert_eq!(lab.graphql(None, "{ secrets { id } }", json!({})).await.0, 401, "unknown fields need a token first");
    let wrong = create_user(false).replace("role: ROOT", "role: USER");
    let variables = json!({ "root_password": SECRET, "now": "2025-09-30T18:42:47.920Z" });
    assert_eq!(lab.graphql(None, &wrong, variables).await.0, 400);
    let variables = json!({ "root_password": SECRET, "now": "yesterday" });
    assert_eq!(lab.graphql(None, &create_user(false), variables).await.0, 400);
    modes(&lab, |tower| tower.graphql_error_status = 400);
    assert_eq!(create_organization(&lab, "").await.0, 400);
    assert_eq!(lab.rest(None, "unheard-of", json!({})).await.0, 401);
    let get = https().get(lab.tower_url("/v2/api/login")).send().await.expect("an answer");
    assert_eq!(get.status(), 404);
    modes(&lab, |tower| tower.password_policy = false);
    assert_eq!(lab.rest(None, "create-root-user", json!({ "password": "password" })).await.0, 200);
}

#[tokio::test]
async fn an_allow_list_and_a_closed_set_up_query() {
    let (lab, token) = set_up(|options| options.modes.tower.operation_allow_list = true).await;
    assert_eq!(lab.graphql(None, SETUP, json!({})).await.0, 200);
    assert_eq!(lab.graphql(None, &SETUP.replace("checkTowerIsSetup", "mine"), json!({})).await.0, 403);
    modes(&lab, |tower| tower.setup_needs_token = true);
    assert_eq!(lab.graphql(None, SETUP, json!({})).await.0, 401);
    assert_eq!(lab.graphql(Some(&token), SETUP, json!({})).await.0, 200);
}

#[tokio::test]
async fn ntp_takes_commas_and_gives_semicolons() {
    let (lab, token) = set_up(|_| {}).await;
    let data = json!({ "data": { "ntp_service_url": "192.0.2.2,ntp.example.net" } });
    assert_eq!(lab.graphql(None, NTP, data.clone()).await.0, 401);
    let (_, answer) = lab.graphql(Some(&token), NTP, data.clone()).await;
    assert_eq!(answer["data"]["updateCloudTowerNtpUrl"]["ntp_service_url"], json!("192.0.2.2;ntp.example.net"));
    let read = async || lab.rest(Some(&token), "get-ntp-service-url", json!({})).await.1["ntp_service_url"].clone();
    assert_eq!(read().await, json!("192.0.2.2;ntp.example.net"));
    modes(&lab, |tower| tower.ntp_answer = NtpAnswer::Spaced);
    assert_eq!(read().await, json!("192.0.2.2; ntp.example.net"));
    modes(&lab, |tower| tower.ntp_answer = NtpAnswer::Reversed);
    assert_eq!(read().await, json!("ntp.example.net;192.0.2.2"));
    modes(&lab, |tower| tower.ntp_unreachable = true);
    assert!(error(&lab.graphql(Some(&token), NTP, data).await.1).contains("cannot reach"));
}

#[tokio::test]
async fn the_licence_is_there_missing_null_or_late() {
    let (lab, token) = set_up(|_| {}).await;
    let license = async || lab.graphql(Some(&token), LICENSE, json!({})).await.1["data"]["deploys"].clone();
    let trial = license().await;
    assert_eq!(trial[0]["license"]["type"], json!("TRIAL"), "{trial}");
    let serial = lab.core().world().towers[VM].license_serial.clone();
    assert_eq!(trial[0]["license"]["license_serial"], json!(serial));
    modes(&lab, |tower| tower.license = LicenseMode::NoDeploy);
    assert_eq!(license().await, json!([]));
    modes(&lab, |tower| tower.license = LicenseMode::Null);
    assert_eq!(license().await[0]["license"], Value::Null);
    assert_eq!(lab.rest(Some(&token), "get-licenses", json!({})).await.1, json!([]));
    modes(&lab, |tower| tower.license = LicenseMode::Late);
    lab.core().clock.advance(Duration::from_secs(20));
    assert_eq!(license().await[0]["license"]["type"], json!("TRIAL"));
}

#[tokio::test]
async fn rest_answers_mirror_the_form_or_insist_and_tasks_run() {
    let (lab, token) = set_up(|_| {}).await;
    let create = async |body: Value| lab.rest(Some(&token), "create-organization", body).await.1;
    assert!(create(json!({ "name": "a" })).await.is_object());
    assert!(create(json!([{ "name": "b" }])).await.is_array());
    modes(&lab, |tower| tower.rest_answer = RestAnswer::Object);
    assert!(create(json!([{ "name": "c" }])).await.is_object());
    modes(&lab, |tower| {
        tower.rest_answer = RestAnswer::Array;
        tower.tasks = true;
        tower.task_late = true;
    });
    lab.core().clock.set_manual(true);
    let answer = create(json!({ "name": "d" })).await;
    let task = answer[0]["task_id"].as_str().expect("a task").to_owned();
    let status = async || {
        let found = lab.rest(Some(&token), "get-tasks", json!({ "where": { "id": task } })).await.1;
        found[0]["status"].as_str().map(str::to_owned)
    };
    assert_eq!(status().await, None, "not visible yet");
    lab.core().clock.advance(Duration::from_millis(1100));
    assert_eq!(status().await.as_deref(), Some("EXECUTING"));
    lab.core().clock.advance(Duration::from_secs(1));
    assert_eq!(status().await.as_deref(), Some("SUCCESSED"));
}

#[tokio::test]
async fn a_foreign_tower_has_its_own_user_and_organisation() {
    let lab = Lab::ready_tower(|options| {
        options.tower.planted_organizations = vec!["Somebody".into()];
        options.tower.planted_root_password = Some("Other!9876".into());
    })
    .await;
    let (_, state) = lab.graphql(None, SETUP, json!({})).await;
    assert_eq!(state["data"]["organizations"][0]["name"], json!("Somebody"));
    assert_eq!(state["data"]["userCreated"]["created"], json!(true));
    assert_eq!((login(&lab, SECRET).await.0, login(&lab, "Other!9876").await.0), (400, 200));
}

#[tokio::test]
async fn plain_http_redirects_and_has_no_effect() {
    let lab = Lab::ready_tower(|_| {}).await;
    let port = lab.sim.addresses().tower_http_port;
    let url = format!("http://{}:{port}/v2/api/create-root-user", lab.ip);
    let response = https().post(url).json(&json!({ "password": SECRET })).send().await.expect("an answer");
    assert_eq!(response.status(), 301);
    assert_eq!(response.headers()["location"], lab.tower_url("/v2/api/create-root-user"));
    assert!(lab.core().world().towers[VM].users.is_empty());
}

#[tokio::test]
async fn the_transcript_names_operations_and_hides_passwords() {
    let (lab, _) = set_up(|_| {}).await;
    create_root(&lab, false, SECRET).await;
    let transcript = &lab.core().transcript;
    assert_eq!(transcript.operations("createRootUser").len(), 1);
    assert_eq!(transcript.calls("POST", "/v2/api/create-root-user").len(), 1);
    let text = serde_json::to_string(&transcript.entries()).expect("text");
    assert!(!text.contains(SECRET));
}
