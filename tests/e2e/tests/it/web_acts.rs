//! What is done to a job in a real Chromium: held, let go on, answered, taken up again, moved, and its report read.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use gantry_e2e::{
    Lab,
    lab::{AGENT, SECOND_AGENT, text},
};
use serde_json::{Value, json};

use crate::{
    chromium::Chromium,
    support::{events, images, quick_with, vms},
};

/// Bytes a second that the agent's settings allow: the ISO of a quick lab would take 32 s.
const SLOW: u64 = 32 << 10;

/// Somebody makes a VM of our name while we are uploading, and the installer fails.
fn trouble() -> Value {
    let vm = json!({"name": "cloudtower-sim", "description": "of somebody else"});
    json!({
        "modes": {"guest": {"installer": "fails"}},
        "faults": [{
            "id": "stranger", "when": "after", "times": 1,
            "match": {"face": "fisheye", "method": "POST", "path": "/api/v2/images/upload/volume"},
            "action": {"world": {"plant_vm": vm}},
        }],
    })
}

#[tokio::test]
async fn a_browser_holds_answers_retries_moves_and_reads_the_report() -> anyhow::Result<()> {
    if !Chromium::is_there() {
        #[expect(clippy::print_stderr, reason = "a test that does not run says so")]
        {
            eprintln!("skipped: there is no Chromium; `tests/run` installs it");
        }
        return Ok(());
    }
    let mut options = quick_with(trouble());
    options.agent = json!({"upload": {"limit_bytes_per_s": SLOW}});
    let mut lab = Lab::start(options).await?;
    let mut page = Chromium::start(lab.dir()).await?;
    let link = lab.ctl_json(&["-o", "json", "web"]).await?["link"].as_str().context("no link")?.to_owned();
    page.open(&link).await?;
    page.until("!document.getElementById('nav').hidden").await?;

    lab.start_second_agent().await?;
    let job = lab.deploy(&["--on-failure", "keep", "--agent", AGENT]).await?;
    the_curve_begins_before_the_page(&lab, &mut page, &job).await?;
    it_is_held_and_goes_on(&lab, &mut page, &job).await?;
    it_is_answered(&lab, &mut page, &job).await?;
    it_is_retried(&lab, &mut page, &job).await?;
    who_may_only_look_sees_no_button(&lab, &mut page, &job).await?;
    it_is_moved(&lab, &mut page, &job).await?;
    the_report_is_read(&lab, &mut page, &link, &job).await?;

    let audit = lab.ctl_json(&["audit", "-o", "json"]).await?.to_string();
    for act in ["job.pause", "job.resume", "job.decide", "job.retry", "job.move"] {
        assert!(audit.contains(act), "{act} is not in the audit log");
    }
    lab.control()?.check_invariants().await?;
    drop(page);
    lab.stop().await
}

async fn shown(lab: &Lab, job: &str) -> anyhow::Result<Value> {
    Ok(lab.ctl_json(&["-o", "json", "show", job]).await?["job"].clone())
}

/// The upload has gone on for a while when the page is opened, and the curve has that time too.
async fn the_curve_begins_before_the_page(lab: &Lab, page: &mut Chromium, job: &str) -> anyhow::Result<()> {
    // Two chunks at this speed take four seconds.
    while images(lab).await?.first().and_then(|image| image["received"].as_object()).map_or(0, serde_json::Map::len) < 2
    {
        anyhow::ensure!(shown(lab, job).await?["finished"].is_null(), "{}", lab.logs());
    }
    let opened = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis();
    page.run(&format!("location.hash = '#/job/{job}'")).await?;
    let points = page.until("document.querySelector('.chart svg')?.dataset.points > 2").await?;
    assert_eq!(points, json!(true));
    let first = page.run("Date.parse(document.querySelector('.chart svg').dataset.first)").await?;
    let before = opened.saturating_sub(first.as_u64().context("no time")?.into());
    assert!(before > 2_000, "the curve begins {before} ms before the page was opened");
    assert!(
        page.run("document.querySelector('.chart svg').getAttribute('aria-label')")
            .await?
            .as_str()
            .is_some_and(|label| label.contains("since it began"))
    );
    Ok(())
}

async fn it_is_held_and_goes_on(lab: &Lab, page: &mut Chromium, job: &str) -> anyhow::Result<()> {
    page.until("!document.getElementById('pause').hidden && document.getElementById('resume').hidden").await?;
    page.click("#pause").await?;
    page.until("document.activeElement?.id === 'reason'").await?;
    page.write("the line is needed").await?;
    page.fits("pause").await?;
    page.press("Enter").await?;
    page.until("!!document.querySelector('h1 .badge.paused') && !document.querySelector('dialog')").await?;
    page.until("document.getElementById('pause').hidden && !document.getElementById('resume').hidden").await?;
    assert_eq!(shown(lab, job).await?["state"], "paused");
    page.looks("held").await?;
    page.until("!!document.querySelector('h1 .badge.paused')").await?;
    nobody_vouches_by_mistake(lab, page, job).await?;
    page.click("#resume").await?;
    page.until("document.activeElement?.id === 'yes'").await?;
    page.press("Enter").await?;
    page.until("!!document.querySelector('h1 .badge.running')").await?;
    let said = lab.ctl(&["upload", job, "--limit", "none"]).await?;
    assert!(said.status.success(), "{}", text(&said));
    Ok(())
}

/// Who says that an agent is off has to type its name.
async fn nobody_vouches_by_mistake(lab: &Lab, page: &mut Chromium, job: &str) -> anyhow::Result<()> {
    page.click("#move").await?;
    page.until("!!document.getElementById('off')").await?;
    page.choose("#workbook", &lab.workbook()).await?;
    page.click("#off").await?;
    page.until("document.querySelector('dialog').innerText.includes('is in contact right now')").await?;
    page.fits("vouch").await?;
    page.click("#yes").await?;
    let said = format!("document.querySelector('dialog [role=alert]').innerText.includes('Type {AGENT}')");
    page.until(&said).await?;
    page.press("Escape").await?;
    page.until("!document.querySelector('dialog')").await?;
    let after = shown(lab, job).await?;
    assert_eq!((&after["epoch"], &after["moving_to"]), (&json!(1), &Value::Null), "{after}");
    Ok(())
}

/// A viewer reads the report and does nothing.
async fn who_may_only_look_sees_no_button(lab: &Lab, page: &mut Chromium, job: &str) -> anyhow::Result<()> {
    let dir = lab.dir().join("viewer");
    let dir = dir.to_string_lossy();
    lab.told(&["operator", "add", "guest", "--role", "viewer", "--out", &dir]).await?;
    let profile = format!("{dir}/{}", gantry_proto::join::OPERATOR_PROFILE_FILE);
    let link = lab.ctl_json(&["-o", "json", "--profile", &profile, "web"]).await?["link"].clone();
    page.open(link.as_str().context("no link")?).await?;
    page.until("document.querySelector('#who').innerText.startsWith('guest')").await?;
    page.run(&format!("location.hash = '#/job/{job}'")).await?;
    page.until(ENDED_FAILED).await?;
    page.until("!!document.querySelector('#report')").await?;
    assert_eq!(page.run(NO_BUTTON).await?, json!(true));
    let reason = "fetch(document.querySelector('#report-json').href).then((answer) => answer.json()).then((told) => \
                  told.audit.reason)";
    assert!(page.run(reason).await?.as_str().is_some_and(|reason| reason.contains("role admin")));
    let link = lab.ctl_json(&["-o", "json", "web"]).await?["link"].clone();
    page.open("about:blank").await?;
    page.open(link.as_str().context("no link")?).await?;
    page.until("document.querySelector('#who').innerText.startsWith('lab')").await?;
    page.run(&format!("location.hash = '#/job/{job}'")).await?;
    page.until(ENDED_FAILED).await.map(drop)
}

/// Somebody else's VM is in the way; it is removed, and the job is told to look again.
async fn it_is_answered(lab: &Lab, page: &mut Chromium, job: &str) -> anyhow::Result<()> {
    page.until("!!document.querySelector('#question [data-choice=look-again]')").await.with_context(|| lab.logs())?;
    page.looks("question").await?;
    page.until("!!document.querySelector('#question [data-choice=look-again]')").await?;
    assert_eq!(shown(lab, job).await?["state"], "needs_operator");
    lab.control()?.post("/world", &json!({"action": {"delete_vm": {"vm": "cloudtower-sim"}}})).await?;
    page.run("document.querySelector('#question [data-choice=look-again]').focus()").await?;
    page.press("Enter").await?;
    page.until("document.activeElement?.id === 'reason'").await?;
    page.write("it was removed").await?;
    page.fits("decide").await?;
    page.press("Enter").await?;
    page.until("!document.querySelector('#question') && !!document.querySelector('h1 .badge.running')").await?;
    Ok(())
}

/// The installer fails, in the first epoch and in the second one, which the page has begun.
async fn it_is_retried(lab: &Lab, page: &mut Chromium, job: &str) -> anyhow::Result<()> {
    page.until(ENDED_FAILED).await.with_context(|| lab.logs())?;
    page.until("!!document.querySelector('#report') && !!document.querySelector('#failure')").await?;
    page.looks("failed").await?;
    page.until(ENDED_FAILED).await?;
    assert_eq!(vms(lab).await?.len(), 1);
    page.click("#retry").await?;
    page.until("!!document.querySelector('#fates .badge.kept') && !document.getElementById('yes').disabled").await?;
    let fate = "[...document.querySelectorAll('#fates tbody tr')].map((row) => row.innerText).join('\\n')";
    let fates = page.run(fate).await?.as_str().unwrap_or_default().to_owned();
    assert!(fates.contains("Upload the CloudTower ISO") && fates.contains("done again"), "{fates}");
    page.fits("retry").await?;
    // A step that lies behind the first one that is not done cannot be the first.
    let from = |step: &str| {
        let field = "document.getElementById('from')";
        format!("{field}.value = '{step}', {field}.dispatchEvent(new Event('change'))")
    };
    page.run(&from("finish")).await?;
    page.until("!!document.querySelector('#fates .badge.blocked') && document.getElementById('yes').disabled").await?;
    page.fits("blocked").await?;
    page.run(&from("install")).await?;
    page.until("!document.querySelector('#fates .badge.blocked') && !document.getElementById('yes').disabled").await?;
    assert_eq!(shown(lab, job).await?["epoch"], 1, "looking changes nothing");
    page.click("#yes").await?;
    page.until("!document.querySelector('dialog') && document.getElementById('main').dataset.ended !== 'yes'").await?;
    page.until(ENDED_FAILED).await.with_context(|| lab.logs())?;
    let after = shown(lab, job).await?;
    assert_eq!((&after["epoch"], &after["state"]), (&json!(2), &json!("failed")), "{after}");
    Ok(())
}

const NO_BUTTON: &str = "['pause','resume','retry','move','cancel'].every((id) => document.getElementById(id).hidden)";
const ENDED_FAILED: &str =
    "document.getElementById('main').dataset.ended === 'yes' && !!document.querySelector('h1 .badge.failed')";

/// The installer works again, and another agent of the site goes on to the end.
async fn it_is_moved(lab: &Lab, page: &mut Chromium, job: &str) -> anyhow::Result<()> {
    lab.control()?.post("/modes", &json!({"guest": {"installer": "succeeds"}})).await?;
    page.click("#move").await?;
    page.until(&format!("document.getElementById('agent')?.value === '{SECOND_AGENT}'")).await?;
    page.choose("#workbook", &lab.workbook()).await?;
    page.fits("move").await?;
    page.click("#yes").await?;
    page.until("!document.querySelector('dialog') && document.getElementById('main').dataset.ended !== 'yes'").await?;
    page.until(
        "document.getElementById('main').dataset.ended === 'yes' && !!document.querySelector('h1 .badge.succeeded')",
    )
    .await
    .with_context(|| lab.logs())?;
    let after = shown(lab, job).await?;
    assert_eq!((&after["epoch"], &after["agent_id"]), (&json!(3), &json!(SECOND_AGENT)), "{after}");
    assert_eq!(page.run(NO_BUTTON).await?, json!(true));
    let all = events(lab, job).await?;
    let held = all.iter().find(|event| event["event"] == "paused").context("never held")?;
    assert_eq!((&held["by"], &held["reason"]), (&json!("lab"), &json!("the line is needed")));
    let decided = all.iter().find(|event| event["event"] == "operator_decided").context("never answered")?;
    assert_eq!((&decided["choice"], &decided["reason"]), (&json!("look-again"), &json!("it was removed")));
    page.looks("moved").await
}

/// In the page's language, as a page of its own with its style; and as JSON.
async fn the_report_is_read(lab: &Lab, page: &mut Chromium, link: &str, job: &str) -> anyhow::Result<()> {
    let base = link.split_once("/web/enter#").context("the link has no token")?.0;
    page.until("!!document.querySelector('#report')").await?;
    let name = page.run("document.querySelector('#report-json').download").await?;
    assert_eq!(name, json!(format!("report-{job}.json")));
    let document =
        page.run("fetch(document.querySelector('#report-json').href).then((answer) => answer.json())").await?;
    let by_ctl = lab.ctl_json(&["-o", "json", "report", job]).await?;
    for part in ["outcome", "steps", "objects", "acts", "licence", "plan", "result", "attempts", "warnings"] {
        assert_eq!(document[part], by_ctl[part], "{part}");
    }
    for (lang, title, word) in
        [("en", "Hand-over report", "Upload the CloudTower ISO"), ("zh", "交付报告", "上传 CloudTower ISO")]
    {
        page.open(&format!("{base}/#/job/{job}")).await?;
        page.until("!!document.querySelector('#report')").await?;
        page.language(lang).await?;
        let href = page.until(&format!("document.querySelector('#report')?.href.endsWith('lang={lang}') && document.querySelector('#report').href")).await?;
        page.open(href.as_str().context("no link")?).await?;
        page.until(&format!("document.querySelector('h1')?.innerText === '{title}'")).await?;
        let text = page.run("document.body.innerText").await?.as_str().unwrap_or_default().to_owned();
        for wanted in [word, job, "127.30.40.20", "job.move", SECOND_AGENT] {
            assert!(text.contains(wanted), "{wanted} is not in the report in {lang}");
        }
        assert_ne!(page.run("getComputedStyle(document.querySelector('section')).borderRadius").await?, json!("0px"));
        page.fits(&format!("report-{lang}")).await?;
    }
    Ok(())
}
