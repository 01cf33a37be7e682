//! Lost answers, one table: each call that changes something outside, with its request lost, its answer lost after the
//! effect, a 5xx after the effect, the connection reset within the request's and the answer's body, and a 401
//! (`flow.md` 6). Whatever becomes of the answer: one VM, one image, one user, one organisation, one installer, and a
//! job that ends well.

use futures_util::{StreamExt as _, stream};
use gantry_agent::{
    executor::Ended,
    facts::ImageState,
    pipeline::Pipeline,
    steps::{
        configure_services::ConfigureServices, create_vm::CreateVm, finish::Finish, initial_setup::InitialSetup,
        install::Install, preflight::Preflight, upload_iso::UploadIso, verify_https::VerifyHttps,
    },
};
use gantry_proto::{JobOutcome, UndoState};
use gantry_sim::{
    fault::{Action, ChunkMatch, Cut, Face, Match, When},
    guest::Stage,
};
use serde_json::json;

use crate::{
    inside::ROOT_PASSWORD,
    site::{CHUNKS, CLUSTER, CREATE, Ran, Refuses, Site, UPLOAD, fault},
};

const REFUSED: Pipeline = &[&Preflight, &UploadIso, &CreateVm, &Refuses];
const INSTALL: Pipeline = &[&Install];
const TOWER: Pipeline = &[&VerifyHttps, &InitialSetup, &ConfigureServices, &Finish];

/// What becomes of one answer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Lost {
    Request,
    Answer,
    /// 503, although it has worked.
    Unavailable,
    InRequest,
    InAnswer,
    /// 401.
    Token,
}

pub(crate) const ALL: [Lost; 6] =
    [Lost::Request, Lost::Answer, Lost::Unavailable, Lost::InRequest, Lost::InAnswer, Lost::Token];
/// For calls without a body.
pub(crate) const BODILESS: [Lost; 5] = [Lost::Request, Lost::Answer, Lost::Unavailable, Lost::InAnswer, Lost::Token];

impl Lost {
    fn fault(self) -> (When, Action) {
        let half = Cut { request_part: Some(0.5), ..Cut::default() };
        let begun = Cut { response_bytes: Some(3), ..Cut::default() };
        match self {
            Self::Request => (When::Before, Action::reset()),
            Self::Answer => (When::After, Action::reset()),
            Self::Unavailable => (When::After, Action::status(503)),
            Self::InRequest => (When::During, Action::Reset(half)),
            Self::InAnswer => (When::During, Action::Reset(begun)),
            Self::Token => (When::Before, Action::status(401)),
        }
    }
}

/// One row of the table: each loss once, in a world of its own.
pub(crate) async fn row(
    losses: &[Lost],
    call: impl Fn() -> Match,
    pipeline: Pipeline,
    site: impl AsyncFn() -> Site,
    check: impl Fn(&Site, &Ran, Lost),
) {
    let (call, site, check) = (&call, &site, &check);
    let runs = losses.iter().map(async |lost| {
        let site = site().await;
        let (when, action) = lost.fault();
        site.arm(fault("lost", call(), when, action).times(1));
        let ran = site.run(pipeline).await;
        assert_eq!(site.fired("lost"), 1, "{lost:?}: the call was never made");
        check(&site, &ran, *lost);
        site.sim.stop().await;
    });
    stream::iter(runs).buffer_unordered(3).collect::<Vec<()>>().await;
}

fn assert_made(site: &Site, ran: &Ran, lost: Lost) {
    assert!(matches!(ran.ended, Ended::Finished(JobOutcome::Succeeded)), "{lost:?}: {:#?}", ran.view.failure);
    assert!(ran.facts.leftovers.is_empty(), "{lost:?}: {:?}", ran.facts.leftovers);
    site.assert_content();
    site.assert_invariants();
    assert_eq!(ran.facts.image.as_ref().map(|image| image.state), Some(ImageState::Uploaded), "{lost:?}");
    assert_eq!(site.images().len(), 1, "{lost:?}");
    assert_eq!(site.vms(), usize::from(ran.facts.vm.is_some()), "{lost:?}");
}

fn assert_undone(site: &Site, ran: &Ran, lost: Lost, images: usize) {
    assert!(matches!(ran.ended, Ended::Finished(JobOutcome::Failed)), "{lost:?}: {:?}", ran.ended);
    assert_eq!(ran.view.undo, Some(UndoState::RolledBack), "{lost:?}: {:?}", ran.view.leftovers);
    assert!(ran.view.leftovers.is_empty(), "{lost:?}: {:?}", ran.view.leftovers);
    assert_eq!((site.vms(), site.images().len()), (0, images), "{lost:?}");
    site.assert_invariants();
}

// --- the cluster ---

#[tokio::test]
async fn f1_login() {
    let call = || Match::fisheye("POST", "/api/v3/sessions");
    row(&ALL, call, UPLOAD, Site::new, |site, ran, lost| match lost {
        // A 401 here is the password's: asked once, and nothing is made.
        Lost::Token => {
            assert_eq!((ran.code().as_str(), site.logins()), ("fisheye_credentials_rejected", 1));
            assert!(site.images().is_empty());
        }
        _ => assert_made(site, ran, lost),
    })
    .await;
}

#[tokio::test]
async fn f2_log_out() {
    const CHECKED: Pipeline = &[&Preflight, &Finish];
    let call = || Match::fisheye("DELETE", "/api/v3/sessions");
    row(&BODILESS, call, CHECKED, Site::new, |site, ran, lost| {
        // A session that stays ends by itself: no reason to fail.
        assert!(matches!(ran.ended, Ended::Finished(JobOutcome::Succeeded)), "{lost:?}: {:?}", ran.ended);
        assert!(site.logins() <= 2 && site.images().is_empty(), "{lost:?}: {} logins", site.logins());
    })
    .await;
}

#[tokio::test]
async fn f4_create_the_volume() {
    let call = || Match::fisheye("POST", "/api/v2/images/upload/volume");
    row(&BODILESS, call, UPLOAD, Site::new, |site, ran, lost| {
        assert_made(site, ran, lost);
        assert_eq!(site.chunk_calls().len() as u64, CHUNKS, "{lost:?}");
    })
    .await;
}

#[tokio::test]
async fn f5_send_a_chunk() {
    let call = || Match::chunk(ChunkMatch::One(2));
    row(&ALL, call, UPLOAD, Site::new, |site, ran, lost| {
        assert_made(site, ran, lost);
        assert_eq!(site.chunk_calls(), [0, 1, 2, 2, 3, 4], "{lost:?}");
    })
    .await;
}

#[tokio::test]
async fn f6_delete_the_image() {
    let call = || Match::fisheye("DELETE", "/api/v2/images/*");
    let failing = async || {
        let site = Site::new().await;
        site.arm(fault("chunk", Match::chunk(ChunkMatch::One(1)), When::Before, Action::status(500)));
        site
    };
    row(&BODILESS, call, UPLOAD, failing, |site, ran, lost| assert_undone(site, ran, lost, 0)).await;
}

#[tokio::test]
async fn f9_create_the_vm() {
    let call = || Match::fisheye("POST", "/api/v2/vms");
    row(&ALL, call, CREATE, Site::new, assert_made).await;
}

#[tokio::test]
async fn f10_configure_the_network() {
    let call = || Match::fisheye("PUT", "/api/v2/vms/*");
    row(&ALL, call, CLUSTER, Site::new, assert_made).await;
}

#[tokio::test]
async fn f11_start_the_vm() {
    let call = || Match::fisheye("POST", "/api/v2/vms/*/start");
    let off = async || {
        let site = Site::new().await;
        site.modes(json!({"power_off_during_install": 1}));
        site
    };
    row(&ALL, call, CLUSTER, off, assert_made).await;
}

#[tokio::test]
async fn f11_stop_the_vm() {
    let call = || Match::fisheye("POST", "/api/v2/vms/*/stop");
    row(&ALL, call, REFUSED, Site::new, |site, ran, lost| assert_undone(site, ran, lost, 1)).await;
}

#[tokio::test]
async fn f12_delete_the_vm() {
    let call = || Match::fisheye("DELETE", "/api/v2/vms/*");
    row(&ALL, call, REFUSED, Site::new, |site, ran, lost| assert_undone(site, ran, lost, 1)).await;
}

// --- inside the VM: what is lost before or after a command's effect is in `steps_guest` ---

fn assert_installed(site: &Site, ran: &Ran, lost: Lost) {
    assert!(matches!(ran.ended, Ended::Finished(JobOutcome::Succeeded)), "{lost:?}: {:#?}", ran.view.failure);
    let guest = site.guest();
    assert_eq!((guest.stage, guest.deploys, guest.refused_deploys), (Stage::Installed, 1, 0));
    assert_eq!(guest.preinstalls, 1);
    assert_eq!(guest.installed_dns.as_deref(), Some("nameserver 192.0.2.53\n"));
    assert_eq!(ran.notes("ssh_connection_lost").len(), 1);
}

#[tokio::test]
async fn t1_to_t3_an_answer_that_breaks_off() {
    let call = |command: &str| Match { face: Some(Face::Ssh), command: Some(command.into()), ..Match::default() };
    let site = async || Site::inside(INSTALL, false).await;
    let one = &[Lost::InAnswer];
    tokio::join!(
        row(one, || call("read-mac-addresses"), INSTALL, site, assert_installed),
        row(one, || call("check-installer"), INSTALL, site, assert_installed),
        row(one, || call("read-resolv-conf"), INSTALL, site, assert_installed),
        row(one, || call("gantry-preinstall"), INSTALL, site, assert_installed),
        row(one, || call("read-log"), INSTALL, site, assert_installed),
    );
}

// --- CloudTower ---

fn operation(name: &str) -> Match {
    Match { face: Some(Face::Tower), operation: Some(name.into()), ..Match::default() }
}

fn path(path: &str) -> Match {
    Match { face: Some(Face::Tower), path: Some(path.into()), ..Match::default() }
}

async fn tower() -> Site {
    Site::inside(TOWER, true).await
}

fn assert_set_up(site: &Site, ran: &Ran, lost: Lost) {
    assert!(matches!(ran.ended, Ended::Finished(JobOutcome::Succeeded)), "{lost:?}: {:#?}", ran.view.failure);
    use sha2::Digest as _;
    let tower = site.tower();
    let digest: String = sha2::Sha256::digest(ROOT_PASSWORD).iter().map(|byte| format!("{byte:02x}")).collect();
    let users: Vec<&str> = tower.users.iter().map(|user| user.password_sha256.as_str()).collect();
    assert_eq!(users, [digest], "{lost:?}");
    let organizations: Vec<&str> = tower.organizations.iter().map(|found| found.name.as_str()).collect();
    assert_eq!(organizations, ["Example Org"], "{lost:?}");
    assert_eq!(tower.ntp, ["192.0.2.2"], "{lost:?}");
    assert!(ran.facts.ntp.as_ref().is_some_and(|ntp| ntp.applied), "{lost:?}");
    assert!(ran.facts.license.is_some(), "{lost:?}");
}

#[tokio::test]
async fn t4_create_the_root_user() {
    row(&ALL, || path("/v2/api/create-root-user"), TOWER, tower, assert_set_up).await;
}

#[tokio::test]
async fn t4_create_the_root_user_the_second_way() {
    let second = async || {
        let site = tower().await;
        site.modes(json!({"tower": {"create_root_user": "missing"}}));
        site
    };
    // It takes no token, so that none can be refused.
    row(&ALL[..5], || operation("createRootUser"), TOWER, second, assert_set_up).await;
}

/// A CloudTower that takes only the encoded form of the published default password (P3).
async fn third() -> Site {
    let mut site = tower().await;
    site.encoded = true;
    site.modes(json!({"tower": {"create_root_user": "missing", "plain_create_user_refused": true}}));
    site
}

#[tokio::test]
async fn t4_create_the_root_user_the_third_way() {
    // The first such call is the plain one, which is refused. It takes no token, so that none can be refused.
    let encoded = || operation("createRootUser");
    for lost in &ALL[..5] {
        let site = third().await;
        let (when, action) = lost.fault();
        site.arm(fault("lost", encoded(), when, action).skip(1).times(1));
        let ran = site.run(TOWER).await;
        assert_eq!(site.fired("lost"), 1, "{lost:?}: the call was never made");
        assert_set_up(&site, &ran, *lost);
        assert_eq!(site.tower().users[0].created_by, "graphql encoded", "{lost:?}");
        site.sim.stop().await;
    }
}

#[tokio::test]
async fn t4_change_the_published_password_to_the_planned_one() {
    row(&ALL, || path("/v2/api/update-user"), TOWER, third, assert_set_up).await;
    row(&ALL, || path("/v2/api/get-users"), TOWER, third, assert_set_up).await;
}

#[tokio::test]
async fn t5_create_the_organisation() {
    row(&ALL, || operation("createOrganization"), TOWER, tower, assert_set_up).await;
}

#[tokio::test]
async fn t6_log_in() {
    row(&ALL, || path("/v2/api/login"), TOWER, tower, assert_set_up).await;
}

#[tokio::test]
async fn t7_set_the_ntp_servers() {
    row(&ALL, || operation("updateCloudTowerNtpUrl"), TOWER, tower, assert_set_up).await;
}

#[tokio::test]
async fn t8_read_the_licence() {
    row(&ALL, || operation("deployedLicense"), TOWER, tower, assert_set_up).await;
}
