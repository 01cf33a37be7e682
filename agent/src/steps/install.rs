//! From the first SSH connection to the end of the installer (`flow.md` 4.1 to 4.5).

mod follow;
mod preinstall;
mod start;

use async_trait::async_trait;
use gantry_proto::{Level, StepInfo};
use serde_json::json;
use tokio::time::Instant;

use super::{
    dns, evidence, shell,
    story::{extra, permanent, story},
    tower,
};
use crate::{
    diff::Diff,
    facts::Facts,
    guest::{Status, scripts},
    step::{Step, StepCx, StepError},
};

/// Installs CloudTower inside the VM.
pub struct Install;

/// Usual seconds (C42).
const WEIGHT: u32 = 1_290;

/// What is to be done about the installer (`cloudtower.md` 2.4).
enum Todo {
    Start,
    Follow,
    Nothing,
}

#[async_trait]
impl Step for Install {
    fn info(&self) -> StepInfo {
        StepInfo { id: "install".into(), title: "Install CloudTower over SSH".to_owned(), weight: WEIGHT, attempts: 1 }
    }

    async fn run(&self, cx: &StepCx, facts: &mut Facts) -> Result<(), StepError> {
        shell::enter(cx, facts).await?;
        let begun = Instant::now();
        if shell::installer(cx, facts).await?.finished {
            return Ok(());
        }
        shell::cut_log(cx, facts).await;
        shell::reach(cx, facts, cx.settings.timing.ssh_limit_s).await?;
        check_mac(cx, facts).await?;
        match look(cx, facts).await? {
            Todo::Start => {
                dns::write(cx, facts).await?;
                preinstall::run(cx, facts).await?;
                start::start(cx, facts).await?;
                follow::follow(cx, facts).await?;
            }
            Todo::Follow => follow::follow(cx, facts).await?,
            Todo::Nothing => {}
        }
        facts.timings.insert("installer_s".to_owned(), cx.settings.timing.told(begun.elapsed()));
        shell::installer(cx, facts).await?.finished = true;
        cx.save(facts).await
    }

    async fn survey(&self, cx: &StepCx, _facts: &mut Facts, diff: &mut Diff) -> Result<(), StepError> {
        let ip = cx.plan.cloudtower.ip.to_string();
        dns::survey(cx, diff);
        diff.change(preinstall::CALL, &ip, "the preparation of the installer is run inside the VM over SSH");
        diff.create(start::CALL, &ip, "the installer is run inside the VM: it makes the CloudTower");
        Ok(())
    }

    /// What was done inside the VM goes with the VM; only the connection is ours to end.
    async fn undo(&self, cx: &StepCx, facts: &mut Facts) -> Result<Vec<String>, StepError> {
        evidence::of_installer(cx, facts).await?;
        cx.outside.guest.close().await;
        Ok(Vec::new())
    }
}

/// The host that answers must be the VM that we made (V19): nothing else may be touched.
async fn check_mac(cx: &StepCx, facts: &mut Facts) -> Result<(), StepError> {
    let Some(expected) = facts.vm.as_ref().and_then(|vm| vm.mac.clone()) else {
        let message = "the MAC address of the VM is not known, so the host that answers cannot be told from another";
        return Err(permanent(story("guest_mac_unknown", message, "retry the job; if it persists, report a defect")));
    };
    let output = shell::run(cx, facts, &scripts::mac_addresses(&cx.settings.guest)).await?;
    let text = output.stdout.text();
    let found: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    if found.iter().any(|mac| mac.eq_ignore_ascii_case(expected.trim())) {
        return Ok(());
    }
    cx.outside.guest.close().await;
    let address = cx.plan.cloudtower.ip;
    let message =
        format!("the host that answers SSH at {address} is not our VM: it has {found:?}, the VM has {expected}");
    let remedy = format!(
        "another host uses {address}: nothing was changed on it. Free the address or plan another one (集群管理信息!E3), \
         then start a new job"
    );
    let mut failure = story("guest_is_another_host", message, remedy);
    failure.detail = extra([("expected", json!(expected)), ("found", json!(found))]);
    Err(permanent(failure))
}

/// Looks for an earlier or running installation (S5).
async fn look(cx: &StepCx, facts: &mut Facts) -> Result<Todo, StepError> {
    let output = shell::run(cx, facts, &scripts::installer_status(&cx.settings.guest)).await?;
    let status = Status::parse(&output.stdout.bytes());
    if status.is_known() {
        let fields = extra([("pid", json!(status.pid)), ("rc", json!(status.rc)), ("alive", json!(status.alive))]);
        let message = if status.alive { "the installer runs already" } else { "the installer has run already" };
        cx.note(Level::Info, "installer_found", message, fields).await?;
        let installer = shell::installer(cx, facts).await?;
        // Of a re-run that was written down it is not known whether it was made: the start itself finds out.
        installer.started |= installer.starts < 2;
        (installer.pid, installer.starts) = (status.pid, installer.starts.max(1));
        cx.save(facts).await?;
        return Ok(Todo::Follow);
    }
    if status.nohup.is_some() {
        let message = "there is a nohup.out but no sign of an installer of ours: somebody started one by hand";
        cx.note(Level::Warning, "installer_by_hand", message, extra([])).await?;
    }
    tower::trust(cx, facts);
    if cx.outside.tower.setup_state().await.is_ok() {
        let message = "CloudTower answers already: the installer is not needed";
        cx.note(Level::Info, "installer_not_needed", message, extra([])).await?;
        return Ok(Todo::Nothing);
    }
    Ok(Todo::Start)
}
