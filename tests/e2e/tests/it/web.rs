//! The web pages in a real Chromium, from the link of `ctl web` to a ready CloudTower.

use anyhow::Context as _;
use gantry_e2e::{Lab, LabOptions};
use gantry_sim::workbook::Workbook;
use serde_json::json;

use crate::{
    chromium::Chromium,
    support::{quick_with, vms},
};

#[tokio::test]
async fn a_browser_deploys_follows_and_cancels() -> anyhow::Result<()> {
    if !Chromium::is_there() {
        #[expect(clippy::print_stderr, reason = "a test that does not run says so")]
        {
            eprintln!("skipped: there is no Chromium; `tests/run` installs it");
        }
        return Ok(());
    }
    // Slow enough that an upload is seen while it goes on.
    let slow = json!({"id": "slow", "match": {"face": "fisheye", "path": "/api/v2/images/upload"}, "when": "before",
                      "action": {"delay": {"ms": 60_000}}});
    let options = LabOptions { iso_bytes: (12 << 20) + 1, ..quick_with(json!({"faults": [slow]})) };
    let lab = Lab::start(options).await?;
    let mut page = Chromium::start(lab.dir()).await?;

    // Without a link there is nothing to see; with one, it works once and leaves no trace in the address.
    let told = lab.ctl_json(&["-o", "json", "web"]).await?;
    let link = told["link"].as_str().context("no link")?.to_owned();
    let (base, token) = link.split_once("/web/enter#").context("the link has no token")?;
    page.open(base).await?;
    page.until("document.querySelector('.door pre')?.innerText === 'ctl web'").await?;
    page.looks("door").await?;
    page.open(&link).await?;
    page.until("!document.getElementById('nav').hidden && location.pathname === '/' && location.hash === ''").await?;
    page.until("document.querySelector('#who').innerText.startsWith('lab')").await?;
    assert_eq!(page.run("document.cookie").await?, json!(""), "no script can read the cookie");
    let again = format!("{base}/web/enter#{token}");
    page.open("about:blank").await?;
    page.open(&again).await?;
    page.until("document.querySelector('.door .bad')?.innerText.includes('ctl web')").await?;
    page.open(base).await?;
    page.until("!document.getElementById('nav').hidden").await?;

    a_job_is_cancelled(&lab, &mut page).await?;
    let job = a_workbook_is_corrected_and_deployed(&lab, &mut page).await?;
    it_is_in_the_list(&mut page, &job).await?;

    page.run("location.hash = '#/agents'").await?;
    page.until(
        "document.querySelector('.badge.succeeded')?.innerText && document.body.innerText.includes('bastion-1')",
    )
    .await?;
    page.looks("agents").await?;
    // Leaving ends the session for every page.
    page.click("#leave").await?;
    page.until("!!document.querySelector('.door')").await?;
    assert_eq!(page.run("fetch('/web/api/me').then((answer) => answer.status)").await?, json!(401));
    let log = lab.controller_log();
    assert!(!log.contains(token), "the token is in the controller's log");
    drop(page);
    lab.stop().await
}

/// A job that `ctl` has begun is seen in its upload, and cancelled there with the keyboard.
async fn a_job_is_cancelled(lab: &Lab, page: &mut Chromium) -> anyhow::Result<()> {
    let job = lab.deploy(&[]).await?;
    page.until(&format!("document.querySelector('a[href=\"#/job/{job}\"]')?.innerText")).await?;
    page.run(&format!("location.hash = '#/job/{job}'")).await?;
    page.until(
        "!!document.querySelector('li.running[data-step=upload-iso] .live, li.running[data-step=upload-iso] progress')",
    )
    .await?;
    page.click("#cancel").await?;
    page.until("document.activeElement?.id === 'reason'").await?;
    page.press("Escape").await?;
    page.until("!document.querySelector('dialog')").await?;
    page.click("#cancel").await?;
    page.until("document.activeElement?.id === 'reason'").await?;
    page.write("wrong night").await?;
    page.shot("cancel").await?;
    page.press("Enter").await?;
    page.until(
        "document.getElementById('main').dataset.ended === 'yes' && !!document.querySelector('h1 .badge.cancelled')",
    )
    .await?;
    page.looks("cancelled").await?;
    let shown = lab.ctl_json(&["-o", "json", "show", &job]).await?;
    assert_eq!((&shown["job"]["state"], &shown["job"]["cancel"]), (&json!("cancelled"), &json!("undone")), "{shown}");
    assert!(
        page.run("document.querySelector('.log').innerText").await?.as_str().is_some_and(|log| log.contains("lab"))
    );
    assert!(vms(lab).await?.is_empty());
    Ok(())
}

/// A workbook with faults shows them by cell; the right one is deployed and followed to its end.
async fn a_workbook_is_corrected_and_deployed(lab: &Lab, page: &mut Chromium) -> anyhow::Result<String> {
    let faulty = lab.dir().join("faulty.xlsx");
    std::fs::write(&faulty, Workbook::valid().set("虚拟网络!F4", 4095).set("主机规划!I4", "x").bytes())?;
    page.run("location.hash = '#/deploy'").await?;
    page.choose("#file", &faulty).await?;
    page.until("document.querySelector('#verdict')?.dataset.verdict === 'invalid'").await?;
    let cells = page.run("[...document.querySelectorAll('.findings .badge.error')].map((badge) => badge.closest('tr').querySelector('.cell').innerText)");
    let cells = cells.await?;
    for cell in ["虚拟网络!F4", "主机规划!I4"] {
        assert!(cells.as_array().is_some_and(|cells| cells.contains(&json!(cell))), "{cells}");
    }
    assert_eq!(page.run("document.querySelector('#go')").await?, json!(null), "it cannot be deployed");
    page.looks("deploy").await?;
    page.choose("#file", &lab.workbook()).await?;
    page.until("document.querySelector('#verdict')?.dataset.verdict === 'ok' && !!document.querySelector('#go')")
        .await?;
    page.click("#go").await?;
    let job = page.until("location.hash.startsWith('#/job/') && location.hash.slice(6)").await?;
    let job = job.as_str().context("no job")?.to_owned();
    page.until("document.querySelector('li.running[data-step=upload-iso] progress')?.value > 5").await?;
    page.until("!!document.querySelector('.chart polyline')").await?;
    page.looks("running").await?;
    page.until(
        "document.getElementById('main').dataset.ended === 'yes' && !!document.querySelector('h1 .badge.succeeded')",
    )
    .await
    .with_context(|| lab.logs())?;
    page.until("document.querySelector('#result')?.innerText.includes('127.30.40.20')").await?;
    let steps =
        page.run("[...document.querySelectorAll('.steps > li')].every((step) => step.classList.contains('done'))");
    assert_eq!(steps.await?, json!(true));
    page.looks("done").await?;
    let shown = lab.ctl_json(&["-o", "json", "show", &job]).await?;
    assert_eq!(shown["job"]["state"], "succeeded");
    Ok(job)
}

/// The list shows both, and the keyboard finds and opens one.
async fn it_is_in_the_list(page: &mut Chromium, job: &str) -> anyhow::Result<()> {
    page.run("location.hash = '#/jobs'").await?;
    page.until("document.querySelectorAll('.list tbody tr').length === 2").await?;
    page.looks("jobs").await?;
    page.until("document.querySelectorAll('.list tbody tr').length === 2").await?;
    page.press("/").await?;
    page.write(job).await?;
    page.until("document.querySelectorAll('.list tbody tr').length === 1").await?;
    page.press("Enter").await?;
    page.until(&format!("document.activeElement.hash === '#/job/{job}'")).await?;
    page.press("Enter").await?;
    page.until(&format!("location.hash === '#/job/{job}' && !!document.querySelector('h1 .badge.succeeded')")).await?;
    Ok(())
}
