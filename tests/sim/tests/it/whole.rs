//! All faces together: an ISO becomes a VM, the VM gets its address, the installer runs, CloudTower is set up.

use std::time::Duration;

use gantry_sim::guest::Stage;
use gantry_sim::iso::Iso;
use gantry_sim::options::Storage;
use reqwest::multipart::{Form, Part};
use serde_json::{Value, json};

use crate::lab::{Lab, https};

const CHUNK: usize = 64 << 10;
const DEPLOY: &str = "cd /usr/share/smartx/tower/installer && setsid nohup sudo -n ./binary/installer deploy \
    >>/home/cloudtower/installer.out 2>&1 </dev/null &";

/// A logged-in client of the cluster.
struct Cluster {
    base: String,
    token: String,
}

impl Cluster {
    async fn login(lab: &Lab) -> Self {
        let base = format!("https://{}:{}", lab.sim.vip(), lab.sim.fisheye_port());
        let password = &lab.core().options.fisheye.password;
        let form = json!({"username": "root", "password": password, "encrypted": false});
        let answer = https().post(format!("{base}/api/v3/sessions")).json(&form).send().await.expect("an answer");
        let session: Value = answer.json().await.expect("JSON");
        Cluster { base, token: session["token"].as_str().expect("a token").to_owned() }
    }

    async fn call(&self, method: reqwest::Method, path: &str, body: Option<Value>, form: Option<Form>) -> Value {
        let mut request = https().request(method, format!("{}{path}", self.base)).header("x-smartx-token", &self.token);
        if let Some(body) = body {
            request = request.json(&body);
        }
        if let Some(form) = form {
            request = request.multipart(form);
        }
        let answer: Value = request.send().await.expect("an answer").json().await.expect("JSON");
        assert_eq!(answer["ec"], "EOK", "{path}: {answer}");
        answer["data"].clone()
    }

    async fn get(&self, path: &str) -> Value {
        self.call(reqwest::Method::GET, path, None, None).await
    }

    async fn upload(&self, content: &[u8]) -> String {
        let path = format!(
            "/api/v2/images/upload/volume?name=cloudtower.iso&size={}&device=nfs&task_id=2&description=x",
            content.len()
        );
        let volume = self.call(reqwest::Method::POST, &path, None, None).await;
        let text = |key: &str| volume[key].as_str().expect("text").to_owned();
        for (number, chunk) in content.chunks(CHUNK).enumerate() {
            let path = format!(
                "/api/v2/images/upload?zbs_volume_id={}&image_uuid={}&chunk_num={number}",
                text("zbs_volume_id"),
                text("image_uuid")
            );
            let part = Part::bytes(chunk.to_vec()).file_name("cloudtower.iso");
            self.call(reqwest::Method::POST, &path, None, Some(Form::new().part("file", part))).await;
        }
        text("image_path")
    }

    async fn create_vm(&self, image_path: &str) {
        let policy = self.get("/api/v2/storage_policies").await[0]["uuid"].clone();
        let vds = self.get("/api/v2/network/vds").await[0].clone();
        let vlans = self.get(&format!("/api/v2/network/vds/{}/vlans", vds["uuid"].as_str().expect("text"))).await;
        let vlan = vlans["entities"].as_array().and_then(|all| all.iter().find(|vlan| vlan["type"] == 3)).cloned();
        let form = json!({
            "vm_name": "cloudtower-sim", "description": "", "vcpu": 8, "memory": 19_u64 << 30,
            "cpu": {"topology": {"sockets": 8, "cores": 1}},
            "nics": [{"ovs": vds["ovsbr_name"], "model": "virtio", "mirror": false, "link": "up",
                      "vlan_uuid": vlan.expect("a VM network")["uuid"]}],
            "disks": [
                {"type": "disk", "bus": "virtio", "name": "os", "storage_policy_uuid": policy, "quota_policy": null,
                 "size_in_byte": 400_u64 << 30},
                {"type": "cdrom", "bus": "ide", "disabled": false, "path": image_path}],
            "ha": true, "node_ip": null, "auto_schedule": true, "status": "running",
        });
        self.call(reqwest::Method::POST, "/api/v2/vms", Some(form), None).await;
    }
}

/// The one VM, as the world holds it.
fn vm(lab: &Lab) -> Option<gantry_sim::world::Vm> {
    lab.core().world().vms.values().next().cloned()
}

#[tokio::test]
async fn from_iso_to_a_cloudtower_that_is_set_up() {
    let spool = tempfile::tempdir().expect("a directory");
    let lab = Lab::dark(2000.0, |options| {
        options.chunk_size = CHUNK as u64;
        options.storage = Storage::Spool { directory: spool.path().to_owned() };
    })
    .await;
    let cluster = Cluster::login(&lab).await;
    let image = Iso::new(3 * CHUNK as u64 + 1).bytes().expect("an image");
    cluster.create_vm(&cluster.upload(&image).await).await;
    let agent = |lab: &Lab| vm(lab).is_some_and(|vm| vm.agent_seen.is_some());
    lab.until("the guest agent runs: the ISO has the tools", || agent(&lab)).await;
    let found = vm(&lab).expect("the VM");
    let (mac, uuid) = (found.nics[0].mac.clone(), found.uuid.clone());
    let mut nics = cluster.get(&format!("/api/v2/vms/{uuid}")).await["nics"].clone();
    nics[0]["ip_address"] = json!(lab.ip);
    nics[0]["subnet_mask"] = json!("255.0.0.0");
    nics[0]["gateway"] = json!("127.0.0.254");
    let body = json!({ "nics": nics });
    cluster.call(reqwest::Method::PUT, &format!("/api/v2/vms/{uuid}"), Some(body), None).await;

    let ssh = lab.ssh().await;
    assert!(ssh.run("cat /sys/class/net/*/address").await.stdout.contains(&mac));
    assert_eq!(ssh.run("sudo -n sh /usr/share/smartx/tower/preinstall.sh").await.status, Some(0));
    assert_eq!(ssh.run(DEPLOY).await.status, Some(0));
    let stage = |lab: &Lab| lab.core().world().guests.get(&uuid).map(|guest| guest.stage);
    lab.until("it is installed", || stage(&lab) == Some(Stage::Installed)).await;
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    while !matches!(lab.post("/v2/api/login", None, json!({})).await, Ok((400, _))) {
        assert!(tokio::time::Instant::now() < deadline, "CloudTower does not become ready");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(lab.rest(None, "create-root-user", json!({ "password": "Si#Tower2957g" })).await.0, 200);
    drop(ssh);
    let broken = gantry_sim::invariants::violations(lab.core());
    assert!(broken.is_empty(), "{broken:?}");

    assert_eq!(lab.core().world().vms.len(), 1);
    lab.core()
        .change_world(&gantry_sim::fault::WorldAction::DeleteVm { vm: "cloudtower-sim".into() })
        .expect("the VM can go");
    lab.until("its ports close", || std::net::TcpStream::connect((lab.ip, lab.sim.tower_port())).is_err()).await;
    lab.sim.stop().await;
}
