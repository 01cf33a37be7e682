//! A plain client of the simulated cluster, and the simulations it talks to.

use std::time::Duration;

use gantry_sim::{Sim, SimOptions};
use reqwest::multipart::{Form, Part};
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde_json::{Value, json};

/// Longest wait of any condition in these tests.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// A fast simulation: no latency, time stands still until it is advanced.
pub(crate) fn quick() -> SimOptions {
    let mut options = SimOptions { chunk_size: 64 << 10, manual_clock: true, ..SimOptions::default() };
    options.latencies.factor = 0.0;
    options
}

/// A logged-in client.
pub(crate) struct Client {
    pub(crate) http: reqwest::Client,
    pub(crate) base: String,
    pub(crate) token: String,
}

/// An upload volume.
#[derive(Clone, Debug)]
pub(crate) struct Volume {
    pub(crate) image: String,
    pub(crate) zbs: String,
    pub(crate) path: String,
}

/// A client without a limit on what certificate it accepts.
pub(crate) fn http() -> reqwest::Client {
    // The first one wins; a second installation is refused, which is what is wanted.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder()
        .tls_danger_accept_invalid_certs(true)
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .timeout(PATIENCE)
        .build()
        .unwrap()
}

/// Starts a simulation and logs in.
pub(crate) async fn start(options: SimOptions) -> (Sim, Client) {
    let sim = Sim::start(options).await.unwrap();
    let base = format!("https://{}:{}", sim.vip(), sim.fisheye_port());
    let mut client = Client { http: http(), base, token: String::new() };
    client.login().await;
    (sim, client)
}

impl Client {
    pub(crate) async fn login(&mut self) {
        let form = json!({"username": "root", "password": "Lo!Fish3390m", "encrypted": false});
        let answer = self.http.post(format!("{}/api/v3/sessions", self.base)).json(&form).send().await.unwrap();
        assert_eq!(answer.status(), 200);
        self.token = answer.json::<Value>().await.unwrap()["token"].as_str().unwrap().to_owned();
    }

    pub(crate) fn call(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{}{path}", self.base)).header("x-smartx-token", &self.token)
    }

    pub(crate) async fn get(&self, path: &str) -> Value {
        let answer = self.call(Method::GET, path).send().await.unwrap();
        assert_eq!(answer.status(), 200, "GET {path}");
        let body: Value = answer.json().await.unwrap();
        assert_eq!(body["ec"], "EOK");
        body["data"].clone()
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Value {
        let answer = self.call(Method::POST, path).json(body).send().await.unwrap();
        let (status, body) = (answer.status(), answer.json::<Value>().await.unwrap());
        assert_eq!((status.as_u16(), &body["ec"]), (200, &json!("EOK")), "POST {path}: {body}");
        body["data"].clone()
    }

    pub(crate) async fn volume(&self, name: &str, size: usize) -> Volume {
        let path = format!("/api/v2/images/upload/volume?name={name}&size={size}&device=nfs&task_id=2");
        let data: Value = self.call(Method::POST, &path).send().await.unwrap().json().await.unwrap();
        let text = |field: &str| data["data"][field].as_str().unwrap().to_owned();
        Volume { image: text("image_uuid"), zbs: text("zbs_volume_id"), path: text("image_path") }
    }

    pub(crate) async fn chunk(&self, to: &Volume, chunk: usize, bytes: &[u8]) -> reqwest::Result<Response> {
        let path = format!("/api/v2/images/upload?zbs_volume_id={}&image_uuid={}&chunk_num={chunk}", to.zbs, to.image);
        let part = Part::bytes(bytes.to_vec()).file_name("x.iso");
        self.call(Method::POST, &path).multipart(Form::new().part("file", part)).send().await
    }

    /// Sends chunk `n` of `content`; returns `to_upload`.
    pub(crate) async fn send(&self, to: &Volume, n: usize, content: &[u8]) -> Value {
        let answer = self.chunk(to, n, slice(content, n)).await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK, "chunk {n}");
        let body: Value = answer.json().await.unwrap();
        assert_eq!(body["data"]["chunk_num"], n);
        body["data"]["to_upload"].clone()
    }

    /// A whole upload in ascending order.
    pub(crate) async fn upload(&self, name: &str, content: &[u8]) -> Volume {
        let to = self.volume(name, content.len()).await;
        for n in 0..content.len().div_ceil(CHUNK) {
            self.send(&to, n, content).await;
        }
        to
    }

    /// The form of a VM that boots from an image.
    pub(crate) async fn vm_form(&self, name: &str, image_path: &str) -> Value {
        let policy = self.get("/api/v2/storage_policies").await[0]["uuid"].clone();
        let vds = self.get("/api/v2/network/vds").await[0].clone();
        let vlans = self.get(&format!("/api/v2/network/vds/{}/vlans", vds["uuid"].as_str().unwrap())).await;
        let vlans = vlans["entities"].as_array().unwrap().clone();
        let vlan = vlans.iter().find(|vlan| vlan["type"] == 3).unwrap();
        json!({
            "vm_name": name, "description": "made by the test", "vcpu": 8, "memory": 20_401_094_656_u64,
            "cpu": {"topology": {"sockets": 8, "cores": 1}},
            "nics": [{"ovs": vds["ovsbr_name"], "model": "virtio", "mirror": false, "link": "up",
                      "vlan_uuid": vlan["uuid"]}],
            "disks": [
                {"type": "disk", "bus": "virtio", "name": "os", "storage_policy_uuid": policy,
                 "quota_policy": null, "size_in_byte": 429_496_729_600_u64},
                {"type": "cdrom", "bus": "ide", "disabled": false, "path": image_path}],
            "ha": true, "node_ip": null, "auto_schedule": true, "status": "running",
        })
    }

    pub(crate) async fn job(&self, data: &Value) -> Value {
        self.get(&format!("/api/v2/jobs/{}", data["job_id"].as_str().unwrap())).await["job"].clone()
    }
}

/// Bytes of a chunk in these tests.
pub(crate) const CHUNK: usize = 64 << 10;

/// Reproducible content.
pub(crate) fn content(len: usize) -> Vec<u8> {
    (0..len).map(|n| u8::try_from((n * 31 + n / 251) % 256).unwrap()).collect()
}

pub(crate) fn slice(content: &[u8], n: usize) -> &[u8] {
    &content[n * CHUNK..content.len().min((n + 1) * CHUNK)]
}

/// Virtual seconds pass.
pub(crate) fn pass(sim: &Sim, seconds: u64) {
    sim.core().clock.advance(Duration::from_secs(seconds));
}

/// The invariants that are broken now.
pub(crate) fn broken(sim: &Sim) -> Vec<u8> {
    gantry_sim::invariants::violations(sim.core()).into_iter().map(|violation| violation.invariant).collect()
}
