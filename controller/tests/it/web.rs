//! The web pages over real TLS: who gets in, what they may do, and a job that is followed over a broken line.

use gantry_controller::audit::act;
use gantry_proto::{
    Code, JobId, JobOutcome,
    audit::Outcome,
    sealed::SealingKey,
    token::sha256_hex,
    v1::{self, Role, fleet_service_client::FleetServiceClient},
};
use gantry_sim::workbook::Workbook;
use reqwest::{Client, RequestBuilder, Response, StatusCode};
use serde_json::{Value, json};
use tonic::transport::Identity;

use crate::{
    agent::{FakeAgent, done, finished, hello, started, step},
    lab::{Lab, client_tls, soon, submission, submit},
};

/// A browser: no certificate unless one is given, a cookie once it has entered.
pub(crate) struct Browser {
    pub(crate) client: Client,
    pub(crate) base: String,
    cookie: Option<String>,
}

impl Browser {
    pub(crate) fn new(lab: &Lab) -> Self {
        let tls = client_tls(&lab.ca(), rustls::DEFAULT_VERSIONS);
        Self::with(lab, Client::builder().tls_backend_preconfigured(tls))
    }

    fn with(lab: &Lab, builder: reqwest::ClientBuilder) -> Self {
        let base = format!("https://localhost:{}", lab.address.port());
        Self { client: builder.build().unwrap(), base, cookie: None }
    }

    /// One that has used a link of this operator.
    pub(crate) async fn entered(lab: &Lab, identity: Identity) -> Self {
        let mut browser = Self::new(lab);
        link(lab, identity, "token").await.unwrap();
        let answer = browser.enter("token").await;
        assert_eq!(answer.status(), StatusCode::OK);
        browser
    }

    async fn enter(&mut self, token: &str) -> Response {
        let answer = self.post("web/api/enter").body(json!({ "token": token }).to_string()).send().await.unwrap();
        if let Some(cookie) = answer.headers().get("set-cookie") {
            let cookie = cookie.to_str().unwrap();
            for part in ["__Host-gantry=", "Path=/", "Secure", "HttpOnly", "SameSite=Strict"] {
                assert!(cookie.contains(part), "{cookie}");
            }
            self.cookie = Some(cookie.split(';').next().unwrap().to_owned());
        }
        answer
    }

    pub(crate) fn get(&self, path: &str) -> RequestBuilder {
        self.dressed(self.client.get(format!("{}/{path}", self.base)))
    }

    pub(crate) fn post(&self, path: &str) -> RequestBuilder {
        self.dressed(self.client.post(format!("{}/{path}", self.base))).header("x-gantry-web", "1")
    }

    pub(crate) fn dressed(&self, request: RequestBuilder) -> RequestBuilder {
        match &self.cookie {
            Some(cookie) => request.header("cookie", cookie),
            None => request,
        }
    }
}

async fn link(lab: &Lab, identity: Identity, token: &str) -> Result<v1::MakeWebLinkResponse, tonic::Status> {
    let mut fleet = FleetServiceClient::new(lab.channel(Some(identity)).await);
    let wish = v1::MakeWebLinkRequest { token_sha256: sha256_hex(token.as_bytes()) };
    Ok(fleet.make_web_link(wish).await?.into_inner())
}

pub(crate) async fn told(answer: RequestBuilder) -> (StatusCode, Value) {
    let answer = soon("answer", answer.send()).await.unwrap();
    let status = answer.status();
    let text = answer.text().await.unwrap();
    (status, serde_json::from_str(&text).unwrap_or_else(|_| panic!("{status}: {text}")))
}

#[tokio::test]
async fn a_web_page_needs_no_identity_and_its_calls_do() {
    let mut lab = Lab::start().await;
    for http1 in [false, true] {
        let tls = client_tls(&lab.ca(), rustls::DEFAULT_VERSIONS);
        let builder = Client::builder().tls_backend_preconfigured(tls);
        let browser = Browser::with(&lab, if http1 { builder.http1_only() } else { builder });
        for (path, kind) in [("", "text/html"), ("web/enter", "text/html"), ("web/app.js", "text/javascript")] {
            let answer = browser.get(path).send().await.unwrap();
            assert_eq!(answer.status(), StatusCode::OK, "{path}");
            let header = |name: &str| answer.headers()[name].to_str().unwrap().to_owned();
            assert!(header("content-type").starts_with(kind), "{path}");
            assert!(header("content-security-policy").starts_with("default-src 'self'; "));
            assert!(!header("content-security-policy").contains("unsafe"));
            assert_eq!([header("x-content-type-options"), header("referrer-policy")], ["nosniff", "no-referrer"]);
            assert_eq!(header("cache-control"), "no-cache");
            let again = browser.get(path).header("if-none-match", header("etag")).send().await.unwrap();
            assert_eq!(again.status(), StatusCode::NOT_MODIFIED, "{path}");
        }
        let job = JobId::new();
        for path in ["me", "jobs", &format!("jobs/{job}"), &format!("jobs/{job}/events"), "agents"] {
            let (status, refused) = told(browser.get(&format!("web/api/{path}"))).await;
            assert_eq!((status, refused["code"].as_str()), (StatusCode::UNAUTHORIZED, Some("no_session")), "{path}");
        }
        for path in [&format!("jobs/{job}/cancel"), "check", "submit"] {
            let (status, _) = told(browser.post(&format!("web/api/{path}")).body("{}")).await;
            assert_eq!(status, StatusCode::UNAUTHORIZED, "{path}");
        }
        let nothing = browser.get("web/api/nothing").send().await.unwrap();
        assert_eq!(nothing.status(), StatusCode::NOT_FOUND);
        assert_eq!(browser.get("web/..%2f..%2fapp.js").send().await.unwrap().status(), StatusCode::NOT_FOUND);
    }
    lab.stop().await;
}

#[tokio::test]
async fn a_web_certificate_is_as_good_as_a_session() {
    let mut lab = Lab::start().await;
    let dir = lab.config.data.join("operators/admin");
    let read = |name| std::fs::read(dir.join(name)).unwrap();
    use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(lab.ca().as_bytes()).unwrap()).unwrap();
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(rustls::DEFAULT_VERSIONS)
        .unwrap()
        .with_root_certificates(roots)
        .with_client_auth_cert(
            vec![CertificateDer::from_pem_slice(&read("cert.pem")).unwrap()],
            PrivateKeyDer::from_pem_slice(&read("key.pem")).unwrap(),
        )
        .unwrap();
    let browser = Browser::with(&lab, Client::builder().tls_backend_preconfigured(tls));
    let (status, me) = told(browser.get("web/api/me")).await;
    assert_eq!((status, &me["operator"], &me["role"]), (StatusCode::OK, &json!("admin"), &json!("admin")));
    assert_eq!(me["session_left_s"], Value::Null);
    lab.stop().await;
}

#[tokio::test]
async fn a_web_link_works_once_and_not_late() {
    let mut lab = Lab::with(|config| config.web.link_life_s = 1).await;
    lab.admin().await.add_site(v1::AddSiteRequest { site: "s1".into() }).await.unwrap();
    let li = lab.operator("li", Role::Operator, &["s1"]).await;
    link(&lab, li.clone(), "once").await.unwrap();
    let mut browser = Browser::new(&lab);
    assert_eq!(browser.enter("twice").await.status(), StatusCode::FORBIDDEN);
    assert_eq!(browser.enter("once").await.status(), StatusCode::OK);
    let (_, me) = told(browser.get("web/api/me")).await;
    assert_eq!((&me["operator"], &me["role"], &me["sites"]), (&json!("li"), &json!("operator"), &json!(["s1"])));
    let mut second = Browser::new(&lab);
    let again = second.enter("once").await;
    assert_eq!(again.status(), StatusCode::FORBIDDEN);
    assert!(again.text().await.unwrap().contains("ctl web") && second.cookie.is_none());
    link(&lab, li.clone(), "late").await.unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(1_100)).await;
    assert_eq!(second.enter("late").await.status(), StatusCode::FORBIDDEN);
    // Over the limit of a small body, and no JSON at all.
    assert_eq!(second.enter(&"x".repeat(20 << 10)).await.status(), StatusCode::PAYLOAD_TOO_LARGE);
    let (status, _) = told(second.post("web/api/enter").body("no json")).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    let mut fleet = FleetServiceClient::new(lab.channel(Some(li)).await);
    for hash in ["", "xyz", &"g".repeat(64)] {
        let refused = fleet.make_web_link(v1::MakeWebLinkRequest { token_sha256: hash.into() }).await.unwrap_err();
        assert_eq!(Code::of(&refused), Some(Code::BadRequest));
    }
    let (records, _) = lab.audit().await;
    let of = |word: &str, outcome| {
        records.iter().filter(|r| r.entry.act == word && r.entry.outcome == outcome && r.entry.operator == "li").count()
    };
    assert_eq!((of(act::WEB_LINK, Outcome::Done), of(act::WEB_ENTER, Outcome::Done)), (2, 1));
    let refused = records.iter().filter(|r| r.entry.detail == "/web/api/enter" && r.entry.code == "token_refused");
    assert_eq!(refused.count(), 3);
    // Leaving ends it.
    assert_eq!(told(browser.post("web/api/leave")).await.0, StatusCode::OK);
    assert_eq!(told(browser.get("web/api/me")).await.0, StatusCode::UNAUTHORIZED);
    lab.stop().await;
}

#[tokio::test]
async fn a_web_session_has_the_rights_of_its_operator_and_ends_with_them() {
    let mut lab = Lab::start().await;
    let _agent = FakeAgent::dial(&lab, &lab.join("a1", "s1").await, hello(&SealingKey::generate())).await.unwrap();
    let job = JobId::new();
    submit(&mut lab.jobs().await, submission(job)).await.unwrap();
    let viewer = Browser::entered(&lab, lab.operator("wang", Role::Viewer, &[]).await).await;
    let (_, list) = told(viewer.get("web/api/jobs")).await;
    assert_eq!((&list["jobs"][0]["job_id"], &list["jobs"][0]["state"]), (&json!(job.to_string()), &json!("queued")));
    let (_, agents) = told(viewer.get("web/api/agents")).await;
    assert_eq!((&agents["agents"][0]["agent_id"], &agents["agents"][0]["in_contact"]), (&json!("a1"), &json!(true)));
    let cancel = format!("web/api/jobs/{job}/cancel");
    let wish = json!({ "reason": "wrong night", "request_id": "r1" }).to_string();
    let (status, refused) = told(viewer.post(&cancel).body(wish.clone())).await;
    assert_eq!((status, &refused["code"]), (StatusCode::FORBIDDEN, &json!("not_allowed")));
    // Somebody of another site neither sees nor touches it.
    lab.admin().await.add_site(v1::AddSiteRequest { site: "s2".into() }).await.unwrap();
    let other = Browser::entered(&lab, lab.operator("zhao", Role::Operator, &["s2"]).await).await;
    assert_eq!(told(other.get("web/api/jobs")).await.1["jobs"], json!([]));
    assert_eq!(told(other.post(&cancel).body(wish.clone())).await.0, StatusCode::FORBIDDEN);
    // What another site's page could send is refused before anything else.
    let li = Browser::entered(&lab, lab.operator("li", Role::Operator, &["s1"]).await).await;
    let bare = li.dressed(li.client.post(format!("{}/{cancel}", li.base))).body(wish.clone());
    assert_eq!(told(bare).await.1["code"], "foreign_origin");
    let foreign = li.post(&cancel).header("origin", "https://evil.example").body(wish.clone());
    assert_eq!(told(foreign).await.1["code"], "foreign_origin");
    let own = li.post(&cancel).header("origin", &li.base).header("sec-fetch-site", "same-origin").body(wish);
    let (status, answer) = told(own).await;
    assert_eq!((status, &answer["job"]["cancel"]), (StatusCode::OK, &json!("requested")), "{answer}");
    let (records, _) = lab.audit().await;
    let cancels: Vec<_> = records.iter().filter(|r| r.entry.act == act::CANCEL).collect();
    let told_of: Vec<_> = cancels.iter().map(|r| (r.entry.operator.as_str(), r.entry.outcome)).collect();
    let wanted =
        [("wang", Outcome::Refused), ("zhao", Outcome::Refused), ("li", Outcome::Asked), ("li", Outcome::Done)];
    assert_eq!(told_of, wanted);
    assert_eq!(cancels[3].entry.detail, "wrong night");

    // A stream that is open ends with the operator, and so does the session.
    let mut stream = li.get(&format!("web/api/jobs/{job}/events")).send().await.unwrap();
    assert_eq!(stream.headers()["content-type"], "text/event-stream");
    soon("the first line", stream.chunk()).await.unwrap().unwrap();
    lab.admin().await.revoke_operator(v1::RevokeOperatorRequest { operator: "li".into() }).await.unwrap();
    soon("the end of the stream", async { while stream.chunk().await.unwrap().is_some() {} }).await;
    assert_eq!(told(li.get("web/api/me")).await.0, StatusCode::FORBIDDEN);
    lab.stop().await;
}

/// Reads server-sent events until one of this name, or the end: name, number, data.
pub(crate) async fn read(mut stream: Response, until: &str) -> Vec<(String, Option<u64>, Value)> {
    let (mut text, mut all) = (String::new(), Vec::new());
    loop {
        while let Some(end) = text.find("\n\n") {
            let block: String = text.drain(..end + 2).collect();
            let field = |name: &str| block.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
            let Some(name) = field("event:") else { continue };
            let data = serde_json::from_str(field("data:").unwrap()).unwrap();
            all.push((name.to_owned(), field("id:").map(|id| id.parse().unwrap()), data));
            if name == until {
                return all;
            }
        }
        match soon("events", stream.chunk()).await.unwrap() {
            Some(chunk) => text.push_str(std::str::from_utf8(&chunk).unwrap()),
            None => return all,
        }
    }
}

#[tokio::test]
async fn a_web_page_that_lost_the_line_goes_on_without_gap_and_copy() {
    let mut lab = Lab::start().await;
    let mut agent = FakeAgent::dial(&lab, &lab.join("a1", "s1").await, hello(&SealingKey::generate())).await.unwrap();
    let job = JobId::new();
    submit(&mut lab.jobs().await, submission(job)).await.unwrap();
    agent.order().await;
    let browser = Browser::entered(&lab, lab.operator_identity()).await;
    let path = format!("web/api/jobs/{job}/events");
    agent.tell(job, 1, vec![started(), step("preflight"), done("preflight")]).await;
    let first = read(browser.get(&path).send().await.unwrap(), "view").await;
    assert_eq!(first[0].0, "job");
    let numbers = |all: &[(String, Option<u64>, Value)]| all.iter().filter_map(|line| line.1).collect::<Vec<_>>();
    assert_eq!(numbers(&first), [1, 2, 3]);
    let view = &first.last().unwrap().2;
    assert_eq!((&view["steps"][0]["state"], &view["percent"]), (&json!("done"), &json!(25.0)));

    // The line is lost here; meanwhile the job goes on, and ends.
    agent.tell(job, 4, vec![step("upload-iso"), done("upload-iso"), finished(JobOutcome::Succeeded)]).await;
    let back = browser.get(&path).header("last-event-id", "3");
    let rest = read(soon("events", back.send()).await.unwrap(), "never").await;
    assert_eq!(numbers(&rest), [4, 5, 6]);
    assert_eq!(rest.last().unwrap().0, "end");
    let views: Vec<_> = rest.iter().filter(|line| line.0 == "view").collect();
    // No view is older than what the browser has: the fold begins at the first event, whatever was asked for.
    assert!(views.iter().all(|view| view.2["last_seq"].as_u64() >= Some(3)));
    assert_eq!(
        (&views.last().unwrap().2["percent"], &views.last().unwrap().2["outcome"]),
        (&json!(100.0), &json!("succeeded"))
    );
    assert!(rest.iter().all(|line| line.2.get("result").is_none()), "the result has a call of its own");
    let after = read(browser.get(&format!("{path}?after=5")).send().await.unwrap(), "never").await;
    assert_eq!(numbers(&after), [6]);
    let (_, result) = told(browser.get(&format!("web/api/jobs/{job}/result"))).await;
    assert_eq!(result["result"]["deploy_cloudtower"]["ip"], "127.30.40.20");
    lab.stop().await;
}

#[tokio::test]
async fn a_web_workbook_is_checked_and_submitted_whatever_it_is_called() {
    let mut lab = Lab::with(|config| config.limits.workbook_bytes = 1 << 20).await;
    let _agent = FakeAgent::dial(&lab, &lab.join("a1", "s1").await, hello(&SealingKey::generate())).await.unwrap();
    let browser = Browser::entered(&lab, lab.operator_identity()).await;
    let check = |name: &str, body: Vec<u8>| browser.post("web/api/check").query(&[("file_name", name)]).body(body);
    let (_, good) = told(check("规划表.xlsx", Workbook::valid().bytes())).await;
    assert_eq!(good["verdict"], "ok", "{good}");
    let (_, bad) = told(check("plan.xlsx", Workbook::valid().set("虚拟网络!F4", 4095).bytes())).await;
    assert_eq!(bad["verdict"], "invalid", "{bad}");
    let found = bad["problems"].as_array().unwrap().iter().find(|found| found["severity"] == "error").unwrap();
    assert!(found["sheet"].is_string() && found["cell"].is_string() && found["remedy"] != "", "{found}");
    assert_eq!(told(check("x.xlsx", b"rubbish".to_vec())).await.1["verdict"], "unreadable");
    let (status, large) = told(check("large.xlsx", vec![0; (1 << 20) + 1])).await;
    assert_eq!((status, &large["code"]), (StatusCode::PAYLOAD_TOO_LARGE, &json!("too_large")));

    let hostile = "<img src=x onerror=alert(1)>\"'\r\n../../etc/passwd.xlsx";
    let job = JobId::new().to_string();
    let submit = |name: &str, body: Vec<u8>| {
        let query = [("job_id", job.as_str()), ("file_name", name), ("site", "s1"), ("stages", "prepare")];
        browser.post("web/api/submit").query(&query).body(body)
    };
    let (_, rejected) = told(submit(hostile, b"rubbish".to_vec())).await;
    assert_eq!((&rejected["job"], &rejected["verdict"]), (&Value::Null, &json!("unreadable")));
    for known in [false, true] {
        let (status, taken) = told(submit(hostile, Workbook::valid().bytes())).await;
        assert_eq!((status, &taken["job"]["job_id"]), (StatusCode::OK, &json!(job)), "{taken}");
        assert_eq!(taken["already_known"], known);
    }
    let (_, list) = told(browser.get("web/api/jobs")).await;
    assert_eq!(list["jobs"].as_array().unwrap().len(), 1);
    assert_eq!(told(browser.post("web/api/submit?job_id=x").body("")).await.0, StatusCode::BAD_REQUEST);
    lab.stop().await;
}

#[tokio::test]
async fn a_web_connection_with_a_session_stays_and_pages_can_be_turned_off() {
    let mut lab = Lab::with(|config| config.limits.anonymous_ms = 1_500).await;
    let mut agent = FakeAgent::dial(&lab, &lab.join("a1", "s1").await, hello(&SealingKey::generate())).await.unwrap();
    let job = JobId::new();
    submit(&mut lab.jobs().await, submission(job)).await.unwrap();
    agent.order().await;
    let browser = Browser::entered(&lab, lab.operator_identity()).await;
    let stream = browser.get(&format!("web/api/jobs/{job}/events")).send().await.unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(2_000)).await;
    agent.tell(job, 1, vec![started(), finished(JobOutcome::Failed)]).await;
    assert_eq!(read(stream, "never").await.last().unwrap().0, "end");
    lab.stop().await;

    let mut lab = Lab::with(|config| config.web.enabled = false).await;
    assert!(lab.get("/").await.starts_with("HTTP/1.1 404"));
    assert!(lab.get("/web/api/me").await.starts_with("HTTP/1.1 404"));
    let refused = link(&lab, lab.operator_identity(), "token").await.unwrap_err();
    assert_eq!(Code::of(&refused), Some(Code::NotAllowed));
    lab.stop().await;
}
