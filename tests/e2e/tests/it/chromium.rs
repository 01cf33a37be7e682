//! A real Chromium, driven by its own protocol over a pipe: JSON, a zero byte behind each message.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    process::{Child, ChildStdin, ChildStdout, Command},
    time::{Instant, sleep, timeout},
};

/// Where Debian's package puts it.
const PROGRAM: &str = "/usr/bin/chromium";
/// How long one answer of the browser may take.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);
/// How long a page may take to look as wanted.
const PAGE_LIMIT: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// A browser with one page. Killed when dropped.
pub(crate) struct Chromium {
    _child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
    number: u64,
    session: Option<String>,
    shots: Option<PathBuf>,
}

impl Chromium {
    /// Whether it is installed.
    pub(crate) fn is_there() -> bool {
        Path::new(PROGRAM).exists()
    }

    /// Starts it with its profile in `dir`. Pictures go where `GANTRY_WEB_SHOTS` says, if it says so.
    pub(crate) async fn start(dir: &Path) -> anyhow::Result<Self> {
        // The shell puts the ends of the pipe where the browser looks for them: 3 to read, 4 to write.
        let mut command = Command::new("sh");
        command.args(["-c", "exec \"$0\" \"$@\" 3<&0 4>&1 0</dev/null 1>/dev/null", PROGRAM]);
        command.args([
            "--headless=new",
            "--remote-debugging-pipe",
            // The tests run as root in containers, where the browser's own sandbox cannot be made. It sees our pages only.
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--disable-background-networking",
            "--no-first-run",
            "--hide-scrollbars",
            "--lang=en-US",
            // The lab's CA is nobody's; that its certificates are right is shown elsewhere.
            "--ignore-certificate-errors",
        ]);
        command.arg(format!("--user-data-dir={}", dir.join("chromium").display())).arg("about:blank");
        let log = std::fs::File::create(dir.join("chromium.log"))?;
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log).kill_on_drop(true).spawn()?;
        let (to, from) = (child.stdin.take().context("no stdin")?, child.stdout.take().context("no stdout")?);
        let shots = std::env::var_os("GANTRY_WEB_SHOTS").map(PathBuf::from);
        let mut browser = Self { _child: child, to, from: BufReader::new(from), number: 0, session: None, shots };
        let target = browser.call("Target.createTarget", json!({"url": "about:blank"})).await?;
        let wish = json!({"targetId": target["targetId"], "flatten": true});
        let attached = browser.call("Target.attachToTarget", wish).await?;
        browser.session = attached["sessionId"].as_str().map(str::to_owned);
        browser.call("Page.enable", json!({})).await?;
        Ok(browser)
    }

    /// One call; what the browser tells unasked is skipped.
    pub(crate) async fn call(&mut self, method: &str, params: Value) -> anyhow::Result<Value> {
        self.number += 1;
        let mut message = json!({"id": self.number, "method": method, "params": params});
        if let Some(session) = &self.session {
            message["sessionId"] = session.as_str().into();
        }
        self.to.write_all(message.to_string().as_bytes()).await?;
        self.to.write_all(&[0]).await?;
        let answer = async {
            loop {
                let mut told = Vec::new();
                ensure!(self.from.read_until(0, &mut told).await? > 0, "the browser has ended");
                told.pop();
                let told: Value = serde_json::from_slice(&told)?;
                if told["id"] == self.number {
                    return Ok(told);
                }
            }
        };
        let told: Value = timeout(ANSWER_LIMIT, answer).await.with_context(|| format!("{method}: no answer"))??;
        ensure!(told.get("error").is_none(), "{method}: {}", told["error"]);
        Ok(told["result"].clone())
    }

    pub(crate) async fn open(&mut self, url: &str) -> anyhow::Result<()> {
        let answer = self.call("Page.navigate", json!({"url": url})).await?;
        ensure!(answer.get("errorText").is_none(), "the page does not open: {}", answer["errorText"]);
        Ok(())
    }

    /// What a script gives.
    pub(crate) async fn run(&mut self, script: &str) -> anyhow::Result<Value> {
        let wish = json!({"expression": script, "returnByValue": true, "awaitPromise": true, "userGesture": true});
        let answer = self.call("Runtime.evaluate", wish).await?;
        ensure!(answer.get("exceptionDetails").is_none(), "{script}: {}", answer["exceptionDetails"]);
        Ok(answer["result"]["value"].clone())
    }

    /// Waits until a script gives something that is not nothing.
    pub(crate) async fn until(&mut self, script: &str) -> anyhow::Result<Value> {
        let deadline = Instant::now() + PAGE_LIMIT;
        loop {
            // While a page is being loaded there may be nothing yet to run it in.
            let value = self.run(script).await.unwrap_or(Value::Null);
            if !matches!(value, Value::Null | Value::Bool(false)) && value != "" && value != 0 {
                return Ok(value);
            }
            if Instant::now() > deadline {
                let text = self.run("document.body.innerText").await?;
                bail!("the page never came to: {script}\n{}", text.as_str().unwrap_or_default());
            }
            sleep(LOOK_EVERY).await;
        }
    }

    pub(crate) async fn click(&mut self, selector: &str) -> anyhow::Result<()> {
        self.until(&format!("!!document.querySelector({selector:?})")).await?;
        self.run(&format!("document.querySelector({selector:?}).click()")).await?;
        Ok(())
    }

    /// Presses a key, as the keyboard does.
    pub(crate) async fn press(&mut self, key: &str) -> anyhow::Result<()> {
        let code = match key {
            "Enter" => 13,
            "Escape" => 27,
            "Tab" => 9,
            other => other.to_ascii_uppercase().bytes().next().unwrap_or_default(),
        };
        let text = if key == "Enter" {
            "\r"
        } else if key.len() == 1 {
            key
        } else {
            ""
        };
        let down = json!({"type": "keyDown", "key": key, "text": text, "windowsVirtualKeyCode": code});
        self.call("Input.dispatchKeyEvent", down).await?;
        self.call("Input.dispatchKeyEvent", json!({"type": "keyUp", "key": key, "windowsVirtualKeyCode": code}))
            .await?;
        Ok(())
    }

    /// Types where the focus is.
    pub(crate) async fn write(&mut self, text: &str) -> anyhow::Result<()> {
        self.call("Input.insertText", json!({"text": text})).await.map(drop)
    }

    /// Chooses a file in the file field.
    pub(crate) async fn choose(&mut self, selector: &str, file: &Path) -> anyhow::Result<()> {
        self.until(&format!("!!document.querySelector({selector:?})")).await?;
        let root = self.call("DOM.getDocument", json!({})).await?;
        let wish = json!({"nodeId": root["root"]["nodeId"], "selector": selector});
        let node = self.call("DOM.querySelector", wish).await?;
        self.call("DOM.setFileInputFiles", json!({"files": [file], "nodeId": node["nodeId"]})).await.map(drop)
    }

    /// The page as others see it: wide and narrow, light and dark, English and Chinese; no page may be wider than its
    /// window.
    pub(crate) async fn looks(&mut self, name: &str) -> anyhow::Result<()> {
        for (wide, high, mobile) in [(1280, 900, false), (390, 844, true), (360, 740, true)] {
            let size = json!({"width": wide, "height": high, "deviceScaleFactor": 1, "mobile": mobile});
            self.call("Emulation.setDeviceMetricsOverride", size).await?;
            for (lang, theme) in [("en", "light"), ("zh", "dark")] {
                self.language(lang).await?;
                let dark = json!({"features": [{"name": "prefers-color-scheme", "value": theme}]});
                self.call("Emulation.setEmulatedMedia", dark).await?;
                sleep(LOOK_EVERY * 4).await;
                let width = self.run("document.documentElement.scrollWidth").await?;
                ensure!(width.as_u64() <= Some(wide), "{name} in {lang} is {width} wide in a window of {wide}");
                self.shot(&format!("{name}-{wide}-{lang}-{theme}")).await?;
            }
        }
        self.call("Emulation.clearDeviceMetricsOverride", json!({})).await?;
        self.language("en").await
    }

    /// The page as it is, dialogs too, wide and narrow; nothing of it lies outside of its window.
    pub(crate) async fn fits(&mut self, name: &str) -> anyhow::Result<()> {
        for (wide, high, mobile, theme) in [(1280, 900, false, "light"), (360, 740, true, "dark")] {
            let size = json!({"width": wide, "height": high, "deviceScaleFactor": 1, "mobile": mobile});
            self.call("Emulation.setDeviceMetricsOverride", size).await?;
            let theme = json!({"features": [{"name": "prefers-color-scheme", "value": theme}]});
            self.call("Emulation.setEmulatedMedia", theme).await?;
            sleep(LOOK_EVERY * 4).await;
            let right = "Math.max(document.documentElement.scrollWidth, \
                         ...[...document.querySelectorAll('dialog')].map((one) => one.getBoundingClientRect().left + one.scrollWidth))";
            let right = self.run(right).await?;
            ensure!(right.as_f64().is_some_and(|right| right <= f64::from(wide)), "{name} is {right} wide in {wide}");
            self.shot(&format!("{name}-{wide}")).await?;
        }
        self.call("Emulation.clearDeviceMetricsOverride", json!({})).await.map(drop)
    }

    pub(crate) async fn language(&mut self, lang: &str) -> anyhow::Result<()> {
        let own = if lang == "zh" { "zh-CN" } else { "en" };
        self.run(&format!("document.documentElement.lang === {own:?} || document.getElementById('lang').click()"))
            .await?;
        Ok(())
    }

    /// The page as it is.
    pub(crate) async fn shot(&mut self, name: &str) -> anyhow::Result<()> {
        let Some(dir) = self.shots.clone() else { return Ok(()) };
        let picture = self.call("Page.captureScreenshot", json!({"format": "png"})).await?;
        let picture = BASE64_STANDARD.decode(picture["data"].as_str().context("no picture")?)?;
        std::fs::write(dir.join(format!("{name}.png")), picture)?;
        Ok(())
    }
}
