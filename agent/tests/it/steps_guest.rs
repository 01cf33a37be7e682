//! The steps inside the VM, from the first SSH connection to the end, against the simulator.

use std::time::Duration;

use gantry_agent::{
    guest::installer::SUCCESS,
    step::{Step, StepError},
    steps::{
        configure_services::ConfigureServices, initial_setup::InitialSetup, install::Install, verify_https::VerifyHttps,
    },
};
use gantry_proto::Secret;
use gantry_sim::{
    fault::{Action, Face, Fault, Match},
    guest::{Banner, CHECKS, HostKey, InstallerMode, PreinstallMode, ResolvConf, Stage, SuccessLine, TowerCertificate},
    world::GuestEvent,
};

use crate::inside::{Inside, MAC, SCALE, SSH_PASSWORD, VM};

fn ssh(command: &str) -> Match {
    Match { face: Some(Face::Ssh), command: Some(command.into()), ..Match::default() }
}

/// The installer ran once, and our copy of its log is whole.
async fn assert_installed_once(inside: &Inside) {
    let guest = inside.guest();
    assert_eq!((guest.stage, guest.deploys, guest.refused_deploys), (Stage::Installed, 1, 0));
    assert_eq!(guest.installed_dns.as_deref(), Some("nameserver 192.0.2.53\nnameserver 192.0.2.54\n"));
    let (ours, theirs) = (inside.local_log().await, inside.guest_log().await);
    assert!(theirs.lines().count() > 300, "{theirs}");
    // After a restart the commands of the second look stand between the installer's lines.
    let known: std::collections::BTreeSet<&str> = theirs.lines().collect();
    let copied: Vec<&str> = ours.lines().filter(|line| known.contains(line) && !line.is_empty()).collect();
    let written: Vec<&str> = theirs.lines().filter(|line| !line.is_empty()).collect();
    assert_eq!(copied, written, "our copy has gaps or duplicates");
    assert!(gantry_sim::guest::violations(inside.core()).is_empty());
    inside.assert_no_secret();
}

#[tokio::test]
async fn the_whole_way_from_ssh_to_the_summary() {
    let mut inside = Inside::start(|_| {}).await;
    inside.run_all().await.unwrap();
    let facts = inside.facts.clone();
    assert_eq!(facts.inside_of.as_deref(), Some(VM));
    assert_eq!(facts.host_key, inside.guest().host_key);
    assert_eq!(facts.ssh_user.as_deref(), Some("cloudtower"));
    let installer = facts.installer.unwrap();
    assert!(installer.finished && installer.preinstall_done && installer.starts == 1 && installer.pid.is_some());
    assert!(facts.timings["installer_s"] >= 200.0, "{:?}", facts.timings);
    assert!(facts.dns.unwrap().applied && facts.ntp.unwrap().applied);
    assert_eq!(facts.root_user.as_deref(), Some("P1"));
    assert_eq!(facts.organization.unwrap().name, "Example Org");
    assert_eq!(facts.setup.unwrap().organizations, 1);
    assert!(facts.tower_pin.is_some() && facts.license.is_some());
    assert_eq!(facts.tower_confirmed, facts.tower_pin);
    assert_eq!(inside.codes().iter().filter(|code| *code == "tower_certificate_confirmed").count(), 1);
    let tower = inside.tower_state();
    assert_eq!((tower.users.len(), tower.organizations.len()), (1, 1));
    assert_eq!(tower.ntp, ["192.0.2.2", "ntp.example.net"]);
    let log = inside.stage_log();
    let summary = log.iter().find(|line| line["extra"]["code"] == "summary").unwrap();
    assert!(summary["extra"]["elapsed"].as_f64().unwrap() >= 200.0, "{summary}");
    assert!(summary["extra"]["serial"].is_string() && summary["extra"]["log_path"].is_string(), "{summary}");
    assert_eq!(inside.codes().last().map(String::as_str), Some("summary"));
    assert!(!inside.cx.outside.guest.is_connected(), "SSH is closed");
    assert_installed_once(&inside).await;
    // Everything once more changes nothing.
    inside.restart();
    inside.run(&Install).await.unwrap();
    inside.run(&VerifyHttps).await.unwrap();
    assert_eq!(inside.guest().deploys, 1);
    inside.sim.stop().await;
}

/// CloudTower has heard no secret: nobody was made, nobody logged in.
fn assert_tower_heard_nothing(inside: &Inside) {
    let tower = inside.tower_state();
    assert_eq!((tower.users.len(), tower.organizations.len(), tower.tokens.len()), (0, 0, 0));
    inside.assert_no_secret();
}

#[tokio::test]
async fn a_certificate_that_is_not_the_one_inside_the_vm_stops_the_job_before_any_secret_is_sent() {
    let mut inside = Inside::start(|options| options.guest.installer_s = 60).await;
    inside.run(&Install).await.unwrap();
    inside.modes(|modes| modes.guest.tower_certificate = TowerCertificate::Another);
    // Also where a retry keeps the step that looks first.
    for step in [&VerifyHttps as &dyn Step, &InitialSetup, &ConfigureServices] {
        let failure = inside.fail(step).await;
        assert_eq!(failure.code, "tower_certificate_differs", "{failure:?}");
        assert!(failure.message.contains(inside.facts.tower_pin.as_deref().unwrap()) && !failure.remedy.is_empty());
        assert_eq!(inside.facts.tower_confirmed, None);
        assert_tower_heard_nothing(&inside);
    }
    inside.modes(|modes| modes.guest.tower_certificate = TowerCertificate::Shown);
    for step in [&VerifyHttps as &dyn Step, &InitialSetup, &ConfigureServices] {
        inside.run(step).await.unwrap();
    }
    assert!(inside.facts.tower_confirmed.is_some());
    inside.sim.stop().await;
}

#[tokio::test]
async fn a_certificate_that_cannot_be_compared_stops_the_job_unless_the_settings_do_without() {
    let mut inside = Inside::start(|options| options.guest.installer_s = 60).await;
    inside.run(&Install).await.unwrap();
    inside.modes(|modes| modes.guest.tower_certificate = TowerCertificate::Unreadable);
    let failure = inside.fail(&VerifyHttps).await;
    assert_eq!(failure.code, "tower_certificate_unconfirmed", "{failure:?}");
    assert!(failure.remedy.contains("cloudtower.confirm_over_ssh"), "{failure:?}");
    assert_tower_heard_nothing(&inside);
    let mut settings = (*inside.cx.settings).clone();
    settings.cloudtower.confirm_over_ssh = false;
    inside.cx.settings = std::sync::Arc::new(settings);
    inside.run(&VerifyHttps).await.unwrap();
    assert_eq!(inside.facts.tower_confirmed, None);
    inside.sim.stop().await;
}

#[tokio::test]
async fn the_connection_may_drop_every_minute() {
    let mut inside = Inside::start(|options| options.modes.guest.drop_every_s = 60).await;
    inside.run(&Install).await.unwrap();
    assert!(inside.guest().logins > 2, "it did drop");
    inside.modes(|modes| modes.guest.drop_every_s = 0);
    assert_installed_once(&inside).await;
}

#[tokio::test]
async fn an_answer_lost_at_any_command_never_starts_a_second_installer() {
    for command in [
        "check-sudo",
        "read-mac-addresses",
        "check-installer",
        "write-resolv-conf",
        "read-resolv-conf",
        "gantry-preinstall",
        "check-preinstall",
        "start-installer",
        "read-log",
    ] {
        let mut inside = Inside::start(|options| options.guest.installer_s = 60).await;
        let faults = &inside.core().faults;
        faults.arm(Fault::new("before", ssh(command), Action::reset()).times(1));
        faults.arm(Fault::new("after", ssh(command), Action::reset()).after().skip(1).times(1));
        inside.run(&Install).await.unwrap_or_else(|error| panic!("{command}: {error:?}"));
        assert_eq!(inside.core().faults.fired("before"), 1, "{command}");
        // The one thing that is asked for only once in a good run is run again after it was lost before its effect.
        assert!(inside.has("ssh_connection_lost"), "{command}");
        assert_installed_once(&inside).await;
        inside.sim.stop().await;
    }
}

#[tokio::test]
async fn a_start_whose_answer_is_lost_after_its_effect_is_found() {
    let mut inside = Inside::start(|_| {}).await;
    inside.core().faults.arm(Fault::new("lost", ssh("start-installer"), Action::reset()).after().times(1));
    inside.run(&Install).await.unwrap();
    assert_eq!(inside.core().faults.fired("lost"), 1);
    assert_eq!(inside.facts.installer.as_ref().unwrap().starts, 1);
    assert_installed_once(&inside).await;
}

#[tokio::test]
async fn the_agent_may_be_killed_and_goes_on_where_it_was() {
    let mut inside = Inside::start(|options| options.guest.installer_s = 400).await;
    // A start that is interrupted is found the next time.
    for stop_at in [&["ssh_connected"][..], &["preinstall_done"], &["installer_started", "installer_found"]] {
        let cancel = inside.cx.cancel.clone();
        let mut facts = inside.facts.clone();
        let cx = inside.cx.clone();
        let stopped = async {
            inside.until("the next stop", || stop_at.iter().any(|code| inside.has(code))).await;
            // Somewhere behind it.
            tokio::time::sleep(Duration::from_millis(30)).await;
            cancel.cancel();
        };
        let (result, ()) = tokio::join!(Install.run(&cx, &mut facts), stopped);
        assert!(matches!(result, Err(StepError::Stopping | StepError::Cancelled)), "{stop_at:?}: {result:?}");
        inside.facts = facts;
        drop(cx);
        inside.restart();
    }
    inside.run(&Install).await.unwrap();
    assert!(inside.has("installer_found"));
    assert_installed_once(&inside).await;
}

#[tokio::test]
async fn a_cancel_is_heard_within_a_poll() {
    let inside = Inside::start(|options| options.guest.installer_s = 100_000).await;
    let (cx, cancel, mut facts) = (inside.cx.clone(), inside.cx.cancel.clone(), inside.facts.clone());
    let stop = async {
        inside.until("the installer runs", || inside.has("installer_started")).await;
        cancel.cancel();
        tokio::time::Instant::now()
    };
    let (result, cancelled) = tokio::join!(Install.run(&cx, &mut facts), stop);
    assert!(matches!(result, Err(StepError::Cancelled)), "{result:?}");
    assert!(cancelled.elapsed() < Duration::from_secs(2));
    assert_eq!(Install.undo(&cx, &mut facts).await.unwrap(), Vec::<String>::new());
    assert!(!cx.outside.guest.is_connected());
}

#[tokio::test]
async fn a_second_account_is_tried_once_and_then_no_more() {
    let mut inside = Inside::with(
        |options| options.guest.accounts[0].name = "smartx".to_owned(),
        |_, settings, _| settings.guest.work_dir = "/home/smartx".to_owned(),
    )
    .await;
    inside.run(&Install).await.unwrap();
    assert_eq!(inside.facts.ssh_user.as_deref(), Some("smartx"));
    assert!(inside.has("ssh_account_refused"));
    assert_eq!(inside.guest().refused_logins, 1, "the account that works is remembered");
    let mut inside = Inside::with(|_| {}, |_, _, secrets| secrets.ssh_password = Secret::new("wrong-password")).await;
    let failure = inside.fail(&Install).await;
    assert_eq!(failure.code, "guest_login_refused");
    assert!(failure.remedy.contains("H3"), "{failure:?}");
    assert_eq!((inside.guest().refused_logins, inside.guest().logins), (2, 0));
}

#[tokio::test]
async fn another_host_key_is_a_hard_stop_before_anything_is_sent() {
    let mut inside = Inside::start(|options| options.guest.installer_s = 100_000).await;
    inside.facts.inside_of = Some(VM.to_owned());
    inside.facts.host_key = Some("SHA256:of-somebody-else".to_owned());
    let failure = inside.fail(&Install).await;
    assert_eq!(failure.code, "guest_host_key_changed");
    assert_eq!((inside.guest().logins, inside.guest().refused_logins), (0, 0), "no password was offered");
    // The record belongs to a VM: another VM may have another key (G6).
    inside.facts.inside_of = Some("another VM".to_owned());
    inside.modes(|modes| {
        modes.guest.host_key = HostKey::ChangesEachTime;
        modes.guest.drop_every_s = 60;
    });
    let failure = inside.fail(&Install).await;
    assert_eq!(failure.code, "guest_host_key_changed", "{failure:?}");
    assert!(inside.guest().logins >= 1, "the first key of this VM was taken");
}

#[tokio::test]
async fn another_machine_at_the_address_is_left_alone() {
    let mut inside = Inside::start(|_| {}).await;
    inside.facts.vm.as_mut().unwrap().mac = Some("52:54:00:00:00:01".to_owned());
    let failure = inside.fail(&Install).await;
    assert_eq!(failure.code, "guest_is_another_host");
    assert!(failure.message.contains(MAC) && failure.detail["expected"] == "52:54:00:00:00:01", "{failure:?}");
    assert_eq!((inside.guest().preinstalls, inside.guest().stage), (0, Stage::Absent));
    assert!(inside.core().transcript.commands("resolv").is_empty());
    assert!(!inside.cx.outside.guest.is_connected());
}

#[tokio::test]
async fn a_port_that_opens_late_is_waited_for_and_one_that_never_does_is_told() {
    let mut inside = Inside::start(|options| {
        options.modes.guest.ssh_refused_s = 60;
        options.guest.installer_s = 20;
    })
    .await;
    inside.run(&Install).await.unwrap();
    for banner in [Banner::None, Banner::CloseAfter] {
        let mut inside = Inside::with(
            |options| options.modes.guest.banner = banner,
            |_, settings, _| {
                settings.timing.ssh_limit_s = 100.0;
                settings.guest.connect_timeout_ms = 200;
            },
        )
        .await;
        let failure = inside.fail(&Install).await;
        assert_eq!(failure.code, "guest_unreachable", "{failure:?}");
        assert!(!failure.causes.is_empty());
    }
    let mut inside = Inside::with(
        |options| options.modes.guest.ssh_filtered = true,
        |_, settings, _| {
            settings.timing.ssh_limit_s = 100.0;
            settings.guest.connect_timeout_ms = 200;
        },
    )
    .await;
    assert_eq!(inside.fail(&Install).await.code, "guest_unreachable");
    let mut inside = Inside::start(|options| {
        options.modes.guest.banner = Banner::Late;
        options.guest.installer_s = 20;
    })
    .await;
    inside.run(&Install).await.unwrap();
}

#[tokio::test]
async fn sudo_with_a_password_never_shows_it() {
    let mut inside = Inside::start(|options| options.modes.guest.sudo_needs_password = true).await;
    let done = std::sync::atomic::AtomicBool::new(false);
    let scanned = std::sync::atomic::AtomicUsize::new(0);
    let watch = async {
        while !done.load(std::sync::atomic::Ordering::SeqCst) {
            scanned.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            assert_eq!(processes_that_show(SSH_PASSWORD), Vec::<String>::new());
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    let work = async {
        let result = inside.run(&Install).await;
        done.store(true, std::sync::atomic::Ordering::SeqCst);
        result
    };
    let (result, ()) = tokio::join!(work, watch);
    result.unwrap();
    assert!(scanned.into_inner() > 20);
    assert_installed_once(&inside).await;
}

/// Processes with this text among their arguments or in their environment.
fn processes_that_show(secret: &str) -> Vec<String> {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let shows = |path: &std::path::Path| {
        ["cmdline", "environ"].iter().any(|file| {
            std::fs::read(path.join(file)).is_ok_and(|bytes| crate::inside::contains(&bytes, secret.as_bytes()))
        })
    };
    entries.map(|entry| entry.path()).filter(|path| shows(path)).map(|path| path.display().to_string()).collect()
}

#[tokio::test]
async fn sudo_that_is_refused_altogether_is_told() {
    let mut inside = Inside::start(|_| {}).await;
    let refusal = Action::status(1);
    inside.core().faults.arm(Fault::new("no", ssh("check-sudo"), refusal));
    assert_eq!(inside.fail(&Install).await.code, "guest_sudo_refused");
}

#[tokio::test]
async fn preinstall_that_fails_or_hangs_is_told_with_its_last_lines() {
    let mut inside = Inside::start(|options| options.modes.guest.preinstall = PreinstallMode::Fails).await;
    let failure = inside.fail(&Install).await;
    assert_eq!(failure.code, "preinstall_failed");
    assert!(failure.detail["last_lines"].to_string().contains("no space left"), "{failure:?}");
    assert_eq!((inside.guest().preinstalls, inside.guest().deploys), (1, 0));
    let mut inside = Inside::with(
        |options| options.modes.guest.preinstall = PreinstallMode::Hangs,
        |_, settings, _| settings.timing.preinstall_limit_s = 200.0,
    )
    .await;
    assert_eq!(inside.fail(&Install).await.code, "preinstall_timeout");
}

#[tokio::test]
async fn the_success_line_is_found_in_every_dress() {
    for line in [SuccessLine::Split, SuccessLine::Coloured, SuccessLine::CarriageReturn] {
        let mut inside = Inside::start(|options| {
            options.modes.guest.success_line = line;
            options.guest.installer_s = 60;
            options.guest.lines_after_success = Some(200);
        })
        .await;
        inside.run(&Install).await.unwrap();
        assert!(inside.facts.installer.as_ref().unwrap().finished, "{line:?}");
        assert_installed_once(&inside).await;
    }
}

#[tokio::test]
async fn the_log_may_come_late_and_be_cut() {
    let mut inside = Inside::start(|options| {
        options.modes.guest.log_missing_s = 500;
        options.guest.installer_s = 560;
    })
    .await;
    inside.run(&Install).await.unwrap();
    assert!(inside.has("installer_log_missing"), "{:?}", inside.codes());
    assert_installed_once(&inside).await;
    let mut inside = Inside::start(|options| options.modes.guest.log_truncated = true).await;
    inside.run(&Install).await.unwrap();
    let log = inside.local_log().await;
    assert!(inside.has("installer_log_restarted") && log.contains("checkDiskSpace") && log.contains(SUCCESS));
}

#[tokio::test]
async fn a_secret_in_the_installers_output_is_not_kept() {
    let mut inside = Inside::start(|options| {
        options.guest.log_secret = Some(SSH_PASSWORD.to_owned());
        options.guest.installer_s = 60;
    })
    .await;
    inside.run(&Install).await.unwrap();
    assert!(inside.guest_log().await.contains(SSH_PASSWORD));
    assert!(inside.local_log().await.contains("using credential 机密凭据 for setup"));
    inside.assert_no_secret();
}

#[tokio::test]
async fn a_failed_check_is_tried_once_more_and_named() {
    let mut inside = Inside::start(|options| {
        options.modes.guest.failing_check = Some("checkIOWait".to_owned());
        options.guest.installer_s = 60;
    })
    .await;
    inside.run(&Install).await.unwrap();
    assert!(inside.has("installer_precheck_retry"));
    assert_eq!((inside.guest().deploys, inside.guest().stage), (2, Stage::Installed));
    for check in CHECKS {
        let mut inside = Inside::start(|options| {
            options.modes.guest.failing_check = Some(check.to_owned());
            options.modes.guest.failing_check_times = u32::MAX;
        })
        .await;
        let failure = inside.fail(&Install).await;
        assert_eq!(failure.code, "installer_precheck_failed");
        assert!(!inside.facts.installer.as_ref().unwrap().failed, "nothing is half-done");
        assert_eq!(failure.detail["failed_checks"], serde_json::json!([check]));
        assert!(failure.message.contains(check) && !failure.remedy.is_empty());
        assert!(failure.detail["last_lines"].as_array().unwrap().len() <= 50);
        assert_eq!(inside.guest().deploys, 2, "{check}");
        inside.sim.stop().await;
    }
}

#[tokio::test]
async fn an_installer_that_fails_or_dies_fails_at_once() {
    for (mode, code, rc) in
        [(InstallerMode::Fails, "installer_failed", 1), (InstallerMode::Killed, "installer_killed", 137)]
    {
        let mut inside = Inside::start(|options| options.modes.guest.installer = mode).await;
        let failure = inside.fail(&Install).await;
        assert_eq!((failure.code.as_str(), &failure.detail["rc"]), (code, &rc.into()), "{failure:?}");
        assert_eq!(inside.guest().deploys, 1, "no re-run");
        assert!(failure.detail["free_space"].as_str().is_some_and(|text| text.contains('%')), "{failure:?}");
    }
}

#[tokio::test]
async fn a_retry_from_the_installer_on_runs_it_once_more() {
    let mut inside = Inside::start(|options| options.modes.guest.installer = InstallerMode::Fails).await;
    assert_eq!(inside.fail(&Install).await.code, "installer_failed");
    inside.restart();
    assert_eq!(inside.fail(&Install).await.code, "installer_failed");
    assert_eq!(inside.guest().deploys, 1, "a restart alone is no retry");
    assert!(inside.facts.installer.as_ref().unwrap().failed, "what is half-done is told to who makes VMs");

    inside.facts.take_back();
    assert_eq!(inside.fail(&Install).await.code, "installer_failed");
    assert_eq!(inside.guest().deploys, 2, "one more in this epoch");
    inside.modes(|modes| modes.guest.installer = InstallerMode::Succeeds);
    inside.facts.take_back();
    inside.run(&Install).await.unwrap();
    assert!(inside.has("installer_run_again") && !inside.facts.installer.as_ref().unwrap().failed);
    assert_eq!((inside.guest().deploys, inside.guest().stage), (3, Stage::Installed));

    inside.facts.take_back();
    inside.run(&Install).await.unwrap();
    assert_eq!(inside.guest().deploys, 3, "what is installed is not installed again");
}

#[tokio::test]
async fn a_silent_installer_meets_the_deadline() {
    let mut inside = Inside::with(
        |options| options.modes.guest.installer = InstallerMode::Silent,
        |_, settings, _| {
            settings.timing.installer_warn_s = 300.0;
            settings.timing.installer_limit_s = 500.0;
        },
    )
    .await;
    assert_eq!(inside.fail(&Install).await.code, "installer_timeout");
    assert!(inside.has("installer_slow"));
}

#[tokio::test]
async fn success_with_a_bad_exit_status_is_success_with_a_warning() {
    let mut inside = Inside::start(|options| {
        options.modes.guest.exit_after_success = 3;
        options.guest.installer_s = 60;
    })
    .await;
    inside.run(&Install).await.unwrap();
    assert!(inside.has("installer_exit_status"));
}

#[tokio::test]
async fn a_reboot_in_the_middle_is_found_out() {
    let inside = Inside::start(|_| {}).await;
    let (cx, mut facts) = (inside.cx.clone(), inside.facts.clone());
    let reboot = async {
        inside.until("the installer runs", || inside.has("installer_started")).await;
        inside.tell(GuestEvent::AgentRebooted { vm_uuid: VM.to_owned() });
        inside.network_up();
    };
    let (result, ()) = tokio::join!(Install.run(&cx, &mut facts), reboot);
    match result {
        Err(StepError::Permanent(failure)) => {
            // As the wrapper dies before or after it can tell of the installer's death.
            assert!(["installer_vanished", "installer_killed"].contains(&failure.code.as_str()), "{failure:?}");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(inside.guest().deploys, 1);
}

#[tokio::test]
async fn resolvers_that_are_overwritten_are_written_again() {
    let mut inside = Inside::start(|options| {
        options.modes.guest.resolv_conf = ResolvConf::RewrittenByNetworkManager;
        options.guest.installer_s = 60;
    })
    .await;
    inside.run_all().await.unwrap();
    assert!(inside.has("dns_overwritten") || inside.has("dns_verified"));
    // For certain: somebody empties it between installation and configuration.
    let mut inside = Inside::start(|options| options.guest.installer_s = 20).await;
    inside.run(&Install).await.unwrap();
    inside.run(&VerifyHttps).await.unwrap();
    inside.run(&gantry_agent::steps::initial_setup::InitialSetup).await.unwrap();
    let mut other = inside.cx.settings.guest.clone();
    other.max_output_bytes = 1;
    let empty = gantry_agent::guest::scripts::write_resolv_conf(&other, &[]);
    assert!(inside.cx.outside.guest.run(&empty).await.unwrap().success());
    inside.run(&ConfigureServices).await.unwrap();
    assert!(inside.has("dns_overwritten"), "{:?}", inside.codes());
    assert!(inside.facts.dns.as_ref().unwrap().applied);
}

#[tokio::test]
async fn without_dns_servers_the_file_is_left_alone() {
    let mut inside =
        Inside::with(|options| options.guest.installer_s = 20, |plan, _, _| plan.dns_servers.clear()).await;
    inside.run(&Install).await.unwrap();
    assert!(inside.has("dns_skipped"));
    assert_eq!(inside.guest().installed_dns, None);
}

#[tokio::test]
async fn no_poll_is_faster_than_it_should_be() {
    let mut inside = Inside::start(|_| {}).await;
    inside.run(&Install).await.unwrap();
    let polls = inside.core().transcript.commands("check-installer").len();
    // 200 virtual seconds every 30, a look before and after, those that confirm the start, those that wait for the end.
    assert!(polls < 40, "{polls} looks in {} virtual seconds", 0.2 * SCALE);
}
