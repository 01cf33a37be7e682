//! The inside of the VM over real SSH.

use std::time::{Duration, Instant};

use gantry_sim::fault::{Action, Answer, Face, Fault, Match};
use gantry_sim::guest::{
    Banner, HostKey, InstallerMode, NOISE, PreinstallMode, ResolvConf, SUCCESS, Stage, SuccessLine,
};
use gantry_sim::transcript::REDACTED;
use gantry_sim::world::GuestEvent;
use serde_json::Value;

use crate::lab::{Lab, MAC, Output, PASSWORD, Ssh, VM, collect};

const DEPLOY: &str = "cd /usr/share/smartx/tower/installer && setsid nohup sh -c 'sudo -n ./binary/installer deploy \
    >>/home/cloudtower/installer.out 2>&1; echo $? >/home/cloudtower/installer.rc' </dev/null >/dev/null 2>&1 & \
    echo $! >/home/cloudtower/installer.pid";
const PREINSTALL: &str = "sudo -n sh /usr/share/smartx/tower/preinstall.sh";

fn ssh_match(command: &str) -> Match {
    Match { face: Some(Face::Ssh), command: Some(command.into()), ..Match::default() }
}

async fn deploy(ssh: &Ssh) {
    assert_eq!(ssh.run(PREINSTALL).await.status, Some(0));
    assert_eq!(ssh.run(DEPLOY).await.status, Some(0));
}

/// Waits for `installer.rc` and gives it with the log.
async fn outcome(lab: &Lab, ssh: &Ssh) -> (String, String) {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let rc = ssh.run("cat /home/cloudtower/installer.rc").await;
        if rc.status == Some(0) && !rc.stdout.is_empty() {
            let log = ssh.run("cat /home/cloudtower/installer.out").await.stdout;
            return (rc.stdout.trim().to_owned(), log);
        }
        assert!(Instant::now() < deadline, "the installer does not end: {:?}", lab.guest());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Processes of all guests of this test process, by the marker that they carry.
fn guest_processes() -> Vec<String> {
    let marker = format!("gantry-guest-{}-", std::process::id());
    let entries = std::fs::read_dir("/proc").expect("proc").flatten();
    let carries = |path: &std::path::Path| {
        std::fs::read(path.join("environ")).is_ok_and(|text| {
            text.split(|byte| *byte == 0)
                .any(|line| line.starts_with(b"GUEST_ROOT=") && String::from_utf8_lossy(line).contains(&marker))
        })
    };
    entries.map(|entry| entry.path()).filter(|path| carries(path)).map(|path| path.display().to_string()).collect()
}

fn trees() -> Vec<std::path::PathBuf> {
    let marker = format!("gantry-guest-{}-", std::process::id());
    let entries = std::fs::read_dir(std::env::temp_dir()).expect("a directory").flatten();
    entries.map(|entry| entry.path()).filter(|path| path.to_string_lossy().contains(&marker)).collect()
}

#[tokio::test]
async fn commands_see_the_guest_and_not_the_host() {
    let lab = Lab::start(100.0, |_| {}).await;
    let ssh = lab.ssh().await;
    let missing = ssh.run("cat /etc/resolv.conf").await;
    assert_eq!(missing.status, Some(1), "there is none at first");
    assert!(missing.stderr.starts_with(NOISE), "{}", missing.stderr);
    let host = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    let written = "sudo -n touch /etc/resolv.conf && printf 'nameserver 192.0.2.53\\n' | sudo -n tee \
        /etc/resolv.conf.new >/dev/null && sudo -n mv /etc/resolv.conf.new /etc/resolv.conf && cat /etc/resolv.conf";
    let output = ssh.run(written).await;
    assert_eq!((output.status, output.stdout.as_str()), (Some(0), "nameserver 192.0.2.53\n"));
    assert_eq!(std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default(), host, "the host's file is untouched");
    let cases = [
        ("id -u; sudo -n id -u; whoami; sudo -n whoami", "1000\n0\ncloudtower\nroot\n"),
        ("cat /sys/class/net/*/address", &format!("{MAC}\n00:00:00:00:00:00\n")),
        ("ip -o link show ens4 | grep -o 'ether [0-9a-f:]*'", &format!("ether {MAC}\n")),
        ("sh -c 'cd /usr/share/smartx/tower && ls'", "installer\npreinstall.sh\n"),
        ("cd; pwd | sed 's/.*guest-[^/]*//'", "/home/cloudtower\n"),
        ("printf abc >x; stat -c %s x; tail -c 1 x; test -e x && echo yes; false || echo no", "3\ncyes\nno\n"),
        ("printf '\\000\\377' | wc -c", "2\n"),
        ("uname -r | cut -d. -f1-3; hostname", "4.19.90-2112\nlocalhost.localdomain\n"),
    ];
    for (command, expected) in cases {
        let output = ssh.run(command).await;
        assert_eq!((output.status, output.stdout.as_str()), (Some(0), expected), "{command}: {}", output.stderr);
    }
    assert_eq!(ssh.run("exit 7").await.status, Some(7));
    assert!(ssh.run(&format!("ip addr | grep {}", lab.ip)).await.stdout.contains("inet"));
    lab.sim.stop().await;
}

#[tokio::test]
async fn scripts_on_standard_input_or_in_files_see_the_guest() {
    let lab = Lab::start(100.0, |_| {}).await;
    let ssh = lab.ssh().await;
    let output = ssh.run_with("sudo -n sh -s", "echo one >/etc/marker\ncat /etc/marker\nid -u\n", false).await;
    assert_eq!((output.status, output.stdout.as_str()), (Some(0), "one\n0\n"), "{}", output.stderr);
    ssh.run_with("cat >/home/cloudtower/x.sh", "cat /etc/marker $1; exit 5\n", false).await;
    let output = ssh.run("sh /home/cloudtower/x.sh /etc/marker").await;
    assert_eq!((output.status, output.stdout.as_str()), (Some(5), "one\none\n"), "{}", output.stderr);
    let output = ssh.run("sh -ec 'cat /etc/marker; exit 3'").await;
    assert_eq!((output.status, output.stdout.as_str()), (Some(3), "one\n"));
}

#[tokio::test]
async fn scripts_of_many_lines_take_their_values_as_arguments() {
    let lab = Lab::start(100.0, |_| {}).await;
    let ssh = lab.ssh().await;
    let command = "sudo -n sh -c '\nwork=$1; shift\nmkdir -p \"$work/start.1\" || exit 4\ncd \"$work\" || exit 3\n\
        setsid nohup sh -c '\\''echo \"$$\" >\"$1/it.pid\"; shift; \"$@\" >>out 2>&1; echo \"$?\" >it.rc'\\'' \
        gantry-word \"$work\" sh -c \"exit 9\" </dev/null >/dev/null 2>&1 &' start-it /home/cloudtower/work a";
    let output = ssh.run(command).await;
    assert_eq!(output.status, Some(0), "{output:?}");
    let deadline = Instant::now() + Duration::from_secs(10);
    while ssh.run("cat /home/cloudtower/work/it.rc").await.stdout != "9\n" {
        assert!(Instant::now() < deadline, "no status appears");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn accounts_are_checked_and_wrong_passwords_cost_three_seconds() {
    let lab = Lab::start(30.0, |options| {
        options.guest.accounts.push(gantry_sim::guest::Account { name: "smartx".into(), password: "other".into() });
    })
    .await;
    drop(lab.ssh().await);
    let before = lab.core().clock.elapsed();
    assert!(lab.try_ssh("cloudtower", "wrong").await.expect("an answer").is_none());
    assert!(lab.core().clock.elapsed() - before >= Duration::from_secs(3));
    assert!(lab.try_ssh("smartx", "other").await.expect("an answer").is_some());
    assert!(lab.try_ssh("root", PASSWORD).await.expect("an answer").is_none());
    let guest = lab.guest();
    assert_eq!((guest.logins, guest.refused_logins), (2, 2));
}

#[tokio::test]
async fn a_machine_keeps_its_key_and_a_new_machine_has_another() {
    let lab = Lab::start(100.0, |_| {}).await;
    let first = lab.ssh().await.key;
    assert_eq!(lab.ssh().await.key, first);
    assert_eq!(lab.guest().host_key, Some(first.clone()));
    lab.tell(GuestEvent::PoweredOff { vm_uuid: VM.to_owned() });
    lab.network_up(VM);
    assert_eq!(lab.ssh().await.key, first, "power does not change it");
    lab.tell(GuestEvent::Deleted { vm_uuid: VM.to_owned() });
    lab.network_up("0f0e0d0c-1111-4222-8333-000000000002");
    assert_ne!(lab.ssh().await.key, first);
    let mut modes = (*lab.core().modes()).clone();
    modes.guest.host_key = HostKey::ChangesEachTime;
    lab.core().set_modes(modes);
    assert_ne!(lab.ssh().await.key, lab.ssh().await.key);
}

#[tokio::test]
async fn the_foreground_dies_with_its_channel_and_the_detached_survives() {
    let lab = Lab::start(1.0, |_| {}).await;
    let ssh = lab.ssh().await;
    let mut channel = ssh.begin("echo $$; exec sleep 1000", false).await;
    let pid = loop {
        if let Some(russh::ChannelMsg::Data { data }) = channel.wait().await {
            break String::from_utf8_lossy(&data).trim().to_owned();
        }
    };
    assert!(ssh.run(&format!("kill -0 {pid}")).await.status == Some(0), "it runs");
    channel.close().await.expect("closed");
    lab.until("the foreground process is gone", || !std::path::Path::new(&format!("/proc/{pid}")).exists()).await;
    for start in ["setsid sleep 1000", "nohup sleep 1000", "sudo -n systemd-run --unit=x sleep 1000"] {
        let output = ssh.run(&format!("{start} </dev/null >/dev/null 2>&1 & echo $!")).await;
        assert_eq!(output.status, Some(0), "{start}");
    }
    drop(ssh);
    let ssh = lab.ssh().await;
    lab.until("three sleeps run", || guest_processes().len() >= 3).await;
    assert_eq!(ssh.run("pgrep -x sleep | wc -l").await.stdout, "3\n");
    assert_eq!(ssh.run("systemctl is-active x").await.stdout, "active\n");
    assert_eq!(ssh.run("ls /home/cloudtower/nohup.out").await.status, Some(2), "no terminal, no nohup.out");
    lab.sim.stop().await;
    assert_eq!((guest_processes(), trees()), (Vec::new(), Vec::new()), "nothing is left");
}

#[tokio::test]
async fn power_off_ends_everything_and_keeps_the_disk() {
    let lab = Lab::start(1.0, |_| {}).await;
    let ssh = lab.ssh().await;
    ssh.run("echo kept >/home/cloudtower/file; setsid sleep 1000 >/dev/null 2>&1 &").await;
    lab.tell(GuestEvent::PoweredOff { vm_uuid: VM.to_owned() });
    lab.until("all is quiet", || ssh.is_closed() && guest_processes().is_empty()).await;
    assert!(lab.try_ssh("cloudtower", PASSWORD).await.is_err(), "the port is closed");
    lab.network_up(VM);
    assert_eq!(lab.run("cat /home/cloudtower/file").await.stdout, "kept\n");
    lab.tell(GuestEvent::Deleted { vm_uuid: VM.to_owned() });
    lab.until("the disk is gone", || trees().is_empty()).await;
}

#[tokio::test]
async fn a_dropped_simulation_leaves_nothing_behind() {
    let lab = Lab::start(1.0, |_| {}).await;
    lab.run("setsid sleep 1000 >/dev/null 2>&1 &").await;
    // The shell answers when it has forked: the child may not be what it is to be yet.
    lab.until("the sleep runs", || !guest_processes().is_empty()).await;
    drop(lab);
    let deadline = Instant::now() + Duration::from_secs(10);
    while !(guest_processes().is_empty() && trees().is_empty()) {
        assert!(Instant::now() < deadline, "{:?} {:?}", guest_processes(), trees());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn sudo_with_a_password_refuses_n_and_reads_s() {
    let lab = Lab::start(100.0, |options| options.modes.guest.sudo_needs_password = true).await;
    let ssh = lab.ssh().await;
    let refused = ssh.run("sudo -n id -u").await;
    assert_eq!(refused.status, Some(1));
    assert!(refused.stderr.contains("a password is required"), "{}", refused.stderr);
    let right = ssh.run_with("sudo -S -p '' sh -c 'id -u; cat'", &format!("{PASSWORD}\nrest\n"), false).await;
    assert_eq!((right.status, right.stdout.as_str()), (Some(0), "0\nrest\n"), "{}", right.stderr);
    let wrong = ssh.run_with("sudo -S id -u", "nonsense\n", false).await;
    assert_eq!(wrong.status, Some(1));
    let echoed = ssh.run_with("sudo -S id -u", &format!("{PASSWORD}\n"), true).await;
    assert!(echoed.stdout.contains(PASSWORD), "a terminal echoes: {:?}", echoed.stdout);
}

#[tokio::test]
async fn a_whole_installation_succeeds_once() {
    let lab = Lab::start(600.0, |_| {}).await;
    let ssh = lab.ssh().await;
    ssh.run("echo 'nameserver 192.0.2.53' | sudo -n tee /etc/resolv.conf").await;
    let early = ssh.run("cd /usr/share/smartx/tower/installer && sudo -n ./binary/installer deploy").await;
    assert_eq!(early.status, Some(1), "not before preinstall.sh");
    assert_eq!(ssh.run("sh /usr/share/smartx/tower/preinstall.sh").await.status, Some(1), "not without sudo");
    deploy(&ssh).await;
    lab.until("it runs", || lab.guest().stage == Stage::Installing).await;
    let running = ssh.run("pgrep -f 'binary/installer deploy' && ps -o args= -p $(cat installer.pid)").await;
    assert_eq!(running.status, Some(0), "{running:?}");
    let second = ssh.run("sudo -n /usr/share/smartx/tower/installer/binary/installer deploy").await;
    assert!(second.status == Some(1) && second.stdout.contains("another deploy is running"), "{second:?}");
    let (rc, log) = outcome(&lab, &ssh).await;
    assert_eq!(rc, "0");
    assert!(log.lines().any(|line| line == SUCCESS));
    assert!(log.lines().count() >= 2000, "{}", log.lines().count());
    let guest = lab.guest();
    assert_eq!((guest.stage, guest.deploys, guest.refused_deploys), (Stage::Installed, 1, 2));
    assert_eq!(guest.installed_dns.as_deref(), Some("nameserver 192.0.2.53\n"));
    lab.until("CloudTower opens", || lab.core().world().towers.contains_key(VM)).await;
    let info = ssh.run("sudo -n /usr/share/smartx/tower/installer/binary/installer info").await;
    assert!(info.status == Some(0) && info.stdout.contains("4.7.1"), "{info:?}");
    assert!(gantry_sim::guest::violations(lab.core()).iter().any(|text| text.contains("second installer")));
    lab.sim.stop().await;
}

#[tokio::test]
async fn every_unhappy_installation_looks_as_it_should() {
    let lab = Lab::start(2000.0, |options| options.guest.first_line_s = Some(30)).await;
    let set = |change: &dyn Fn(&mut gantry_sim::guest::Modes)| {
        let mut modes = (*lab.core().modes()).clone();
        modes.guest = gantry_sim::guest::Modes::default();
        change(&mut modes.guest);
        lab.core().set_modes(modes);
    };
    let again = async || {
        let ssh = lab.ssh().await;
        ssh.run("rm -f installer.rc installer.out").await;
        deploy(&ssh).await;
        let (rc, log) = outcome(&lab, &ssh).await;
        assert_eq!(lab.guest().stage, Stage::Failed);
        assert!(!log.contains(SUCCESS));
        (rc, log)
    };
    for check in gantry_sim::guest::CHECKS {
        set(&|guest| {
            guest.failing_check = Some(check.to_owned());
            guest.failing_check_times = u32::MAX;
        });
        let (rc, log) = again().await;
        assert_eq!(rc, "1");
        assert!(log.contains(&format!("{check} \x1b[31mFAILED")), "{log}");
    }
    assert_eq!(lab.guest().failed_checks, 8);
    assert!(gantry_sim::guest::violations(lab.core()).is_empty(), "runs after a failed check are right");
    set(&|guest| guest.installer = InstallerMode::Fails);
    let (rc, log) = again().await;
    assert!(rc == "1" && log.contains("Install Operation Center Failed"), "{rc}");
    set(&|guest| guest.installer = InstallerMode::Killed);
    assert_eq!(again().await.0, "137");
}

#[tokio::test]
async fn a_small_machine_fails_the_check_of_its_size() {
    let lab = Lab::dark(2000.0, |_| {}).await;
    lab.network_up_with(VM, 4, 12 << 30);
    let ssh = lab.ssh().await;
    deploy(&ssh).await;
    let (rc, log) = outcome(&lab, &ssh).await;
    assert!(rc == "1" && log.contains("checkVmSpec \x1b[31mFAILED"), "{log}");
}

#[tokio::test]
async fn a_silent_installer_lives_on_until_it_is_killed() {
    let lab = Lab::start(2000.0, |options| options.modes.guest.installer = InstallerMode::Silent).await;
    let ssh = lab.ssh().await;
    deploy(&ssh).await;
    lab.core().clock.sleep(Duration::from_secs(40 * 60)).await;
    assert_eq!(ssh.run("pgrep -f 'installer deploy'").await.status, Some(0));
    assert!(!ssh.run("cat installer.out").await.stdout.contains(SUCCESS));
    ssh.run("sudo -n kill -9 $(pgrep -x installer)").await;
    assert_eq!(outcome(&lab, &ssh).await.0, "137");
}

#[tokio::test]
async fn an_installer_killed_from_within_never_opens_cloudtower() {
    let lab = Lab::start(600.0, |_| {}).await;
    let ssh = lab.ssh().await;
    deploy(&ssh).await;
    lab.until("it prints", || lab.guest().stage == Stage::Installing).await;
    ssh.run("kill -9 $(pgrep -x installer)").await;
    assert_eq!(outcome(&lab, &ssh).await.0, "137");
    lab.core().clock.sleep(Duration::from_secs(25 * 60)).await;
    assert!(!lab.core().world().towers.contains_key(VM));
    assert_eq!(lab.guest().stage, Stage::Failed);
}

#[tokio::test]
async fn success_lines_in_every_dress_and_secrets_in_the_log() {
    for style in [SuccessLine::Split, SuccessLine::Coloured, SuccessLine::CarriageReturn] {
        let lab = Lab::start(4000.0, |options| {
            options.modes.guest.success_line = style;
            options.modes.guest.exit_after_success = 3;
            options.guest.log_secret = Some("hunter2hunter2".into());
        })
        .await;
        let ssh = lab.ssh().await;
        deploy(&ssh).await;
        let (rc, log) = outcome(&lab, &ssh).await;
        assert_eq!((rc.as_str(), lab.guest().stage), ("3", Stage::Installed));
        assert!(log.contains("hunter2hunter2"));
        let plain = ["\x1b[0m", "\x1b[1m", "\x1b[32m"].iter().fold(log, |log, code| log.replace(code, ""));
        assert!(plain.contains(SUCCESS), "{style:?}");
        lab.sim.stop().await;
    }
}

#[tokio::test]
async fn the_log_can_be_missing_and_cut_to_nothing() {
    let lab = Lab::start(600.0, |options| {
        options.modes.guest.log_missing_s = 300;
        options.modes.guest.log_truncated = true;
        options.guest.first_line_s = Some(10);
    })
    .await;
    let ssh = lab.ssh().await;
    deploy(&ssh).await;
    lab.until("it runs", || lab.guest().stage == Stage::Installing).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_ne!(ssh.run("cat installer.out").await.status, Some(0), "the log does not exist yet");
    let (_, log) = outcome(&lab, &ssh).await;
    assert!(log.contains(SUCCESS) && !log.contains("precheck"), "the first half is lost");
}

#[tokio::test]
async fn preinstall_fails_or_hangs() {
    let lab = Lab::start(1000.0, |options| options.modes.guest.preinstall = PreinstallMode::Fails).await;
    let ssh = lab.ssh().await;
    let failed = ssh.run(PREINSTALL).await;
    assert!(failed.status == Some(1) && failed.stdout.contains("no space left"), "{failed:?}");
    let mut modes = (*lab.core().modes()).clone();
    modes.guest.preinstall = PreinstallMode::Hangs;
    lab.core().set_modes(modes);
    let mut channel = ssh.begin(PREINSTALL, false).await;
    let ended = tokio::time::timeout(Duration::from_millis(300), collect(&mut channel)).await;
    assert!(ended.is_err(), "it hangs: {ended:?}");
    assert_eq!(lab.guest().stage, Stage::Absent);
}

#[tokio::test]
async fn faults_strike_commands_before_and_after_their_effect() {
    let lab = Lab::start(100.0, |_| {}).await;
    let faults = &lab.core().faults;
    faults.arm(Fault::new("before", ssh_match("touch a"), Action::reset()).times(1));
    faults.arm(Fault::new("after", ssh_match("touch b"), Action::reset()).after().times(1));
    let answer = Answer { status: 42, body: Value::String("said\n".into()), ..Answer::default() };
    faults.arm(Fault::new("answer", ssh_match("touch c"), Action::Answer(answer.clone())).times(1));
    faults.arm(Fault::new("late", ssh_match("touch d"), Action::Answer(answer)).after().times(1));
    faults.arm(Fault::new("slow", ssh_match("touch e"), Action::Delay { ms: 20_000 }).times(1));
    let lost = |output: Output| assert_eq!(output.status, None, "no status: the connection is gone");
    lost(lab.run("touch a").await);
    lost(lab.run("touch b").await);
    let ssh = lab.ssh().await;
    let answered = ssh.run("touch c").await;
    assert_eq!((answered.status, answered.stdout.as_str()), (Some(42), "said\n"));
    assert_eq!(ssh.run("touch d").await.status, Some(42));
    let before = lab.core().clock.elapsed();
    ssh.run("touch e").await;
    assert!(lab.core().clock.elapsed() - before >= Duration::from_secs(20));
    assert_eq!(ssh.run("ls").await.stdout, "b\nd\ne\n", "only these had an effect");
    for id in ["before", "after", "answer", "late", "slow"] {
        assert_eq!(faults.fired(id), 1, "{id}");
        assert_eq!(lab.core().transcript.struck_by(id).len(), 1, "{id}");
    }
}

#[tokio::test]
async fn output_breaks_off_in_the_middle() {
    let lab = Lab::start(100.0, |options| options.modes.guest.noise = false).await;
    let cut = gantry_sim::fault::Cut { response_bytes: Some(1000), ..Default::default() };
    lab.core().faults.arm(Fault::new("cut", ssh_match("seq"), Action::Close(cut)).during().times(1));
    let output = lab.run("seq 1 100000").await;
    assert_eq!((output.status, output.stdout.len()), (None, 1000));
    let whole = lab.run("seq 1 1000000 | tail -c +1").await;
    assert_eq!((whole.status, whole.stdout.len()), (Some(0), 6_888_896), "large output arrives whole");
}

#[tokio::test]
async fn every_phase_of_a_connection_can_fail() {
    let lab = Lab::start(100.0, |_| {}).await;
    drop(lab.ssh().await);
    for phase in ["connect", "banner", "auth"] {
        lab.core().faults.arm(Fault::new(phase, ssh_match(phase), Action::reset()).times(1));
        let tried = lab.try_ssh("cloudtower", PASSWORD).await;
        assert!(!matches!(tried, Ok(Some(_))), "{phase}");
        assert_eq!(lab.core().faults.fired(phase), 1, "{phase}");
    }
    lab.core().faults.arm(Fault::new("refuse", ssh_match("auth"), Action::status(403)).times(1));
    assert!(lab.try_ssh("cloudtower", PASSWORD).await.expect("an answer").is_none());
    assert!(lab.try_ssh("cloudtower", PASSWORD).await.expect("an answer").is_some());
    for banner in [Banner::None, Banner::CloseAfter, Banner::Late] {
        let mut modes = (*lab.core().modes()).clone();
        modes.guest.banner = banner;
        lab.core().set_modes(modes);
        let tried = tokio::time::timeout(Duration::from_secs(2), lab.try_ssh("cloudtower", PASSWORD)).await;
        match banner {
            Banner::None => assert!(tried.is_err(), "no word"),
            Banner::CloseAfter => assert!(tried.expect("at once").is_err()),
            _ => assert!(tried.expect("in time").expect("an answer").is_some(), "25 virtual seconds later"),
        }
    }
}

#[tokio::test]
async fn connections_drop_every_few_seconds_and_nothing_inside_is_harmed() {
    let lab = Lab::start(20.0, |options| options.modes.guest.drop_every_s = 20).await;
    let ssh = lab.ssh().await;
    ssh.run("setsid sleep 1000 >/dev/null 2>&1 &").await;
    lab.until("the connection drops", || ssh.is_closed()).await;
    assert_eq!(lab.run("pgrep -x sleep | wc -l").await.stdout, "1\n");
}

#[tokio::test]
async fn a_port_can_be_refused_for_a_while_or_filtered() {
    let lab = Lab::start(100.0, |options| options.modes.guest.ssh_refused_s = 60).await;
    lab.until("the machine exists", || lab.guest().host_key.is_some()).await;
    let refused = tokio::net::TcpStream::connect((lab.ip, lab.sim.ssh_port())).await;
    assert_eq!(refused.expect_err("refused").kind(), std::io::ErrorKind::ConnectionRefused);
    drop(lab.ssh().await);
    assert!(lab.core().clock.elapsed() >= Duration::from_secs(60));
    lab.sim.stop().await;
    let lab = Lab::start(100.0, |options| options.modes.guest.ssh_filtered = true).await;
    lab.until("the machine exists", || lab.guest().host_key.is_some()).await;
    let at = (lab.ip, lab.sim.ssh_port());
    // The port needs a moment to fill its queue; until then a connection is refused or accepted and never answered.
    let mut silent = 0;
    for _ in 0..20 {
        match tokio::time::timeout(Duration::from_millis(200), tokio::net::TcpStream::connect(at)).await {
            Err(_) => silent += 1,
            Ok(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
        if silent == 3 {
            return;
        }
    }
    panic!("the port answers");
}

#[tokio::test]
async fn ssh_opens_on_loopback_addresses_only() {
    let mut lab = Lab::dark(100.0, |_| {}).await;
    lab.ip = std::net::IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED);
    lab.network_up(VM);
    lab.until("the machine exists", || lab.guest().host_key.is_some()).await;
    lab.core().clock.sleep(Duration::from_secs(30)).await;
    assert!(lab.try_ssh("cloudtower", PASSWORD).await.is_err());
}

#[tokio::test]
async fn in_an_address_conflict_another_machine_answers() {
    let lab = Lab::start(100.0, |options| options.modes.address_conflict = true).await;
    let macs = lab.run("cat /sys/class/net/*/address").await.stdout;
    assert!(!macs.contains(MAC) && macs.lines().count() == 2, "{macs}");
}

#[tokio::test]
async fn network_manager_may_empty_the_resolver_file() {
    let lab = Lab::start(100.0, |options| {
        options.modes.guest.resolv_conf = ResolvConf::RewrittenByNetworkManager;
    })
    .await;
    let ssh = lab.ssh().await;
    ssh.run("echo 'nameserver 192.0.2.53' >/etc/resolv.conf").await;
    lab.core().clock.sleep(Duration::from_secs(70)).await;
    assert_eq!(ssh.run("cat /etc/resolv.conf").await.stdout, "# Generated by NetworkManager\n");
}

#[tokio::test]
async fn a_terminal_makes_nohup_out_and_so_does_the_mode() {
    let lab = Lab::start(100.0, |_| {}).await;
    let ssh = lab.ssh().await;
    let output = ssh.run_with("nohup echo hello; exit 4", "", true).await;
    assert_eq!(output.status, Some(4), "{output:?}");
    assert_eq!(ssh.run("cat nohup.out").await.stdout, "hello\n");
    lab.sim.stop().await;
    let lab = Lab::start(100.0, |options| options.modes.guest.nohup_out = true).await;
    let ssh = lab.ssh().await;
    ssh.run("nohup echo hello").await;
    ssh.run("nohup echo elsewhere >file").await;
    assert_eq!(ssh.run("cat nohup.out file").await.stdout, "hello\nelsewhere\n");
}

#[tokio::test]
async fn the_transcript_holds_commands_without_secrets() {
    let lab = Lab::start(100.0, |_| {}).await;
    let ssh = lab.ssh().await;
    ssh.run(&format!("echo {PASSWORD} | cat")).await;
    ssh.run("exit 3").await;
    let spoken = lab.core().transcript.commands("| cat");
    assert_eq!(spoken.len(), 1);
    assert_eq!(spoken[0].path, format!("echo {REDACTED} | cat"));
    assert_eq!(lab.core().transcript.commands("exit 3")[0].status, Some(3));
    assert!(lab.core().transcript.entries().iter().all(|entry| !entry.path.contains(PASSWORD)));
}
