//! The endpoints of `fisheye.md` 11, five lines each. Reads are repeated by themselves; what changes something is sent
//! once, and what a lost answer means is the caller's to find out.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{
    Client, Error, ErrorKind,
    call::Call,
    client::{Payload, Request},
    types::{Created, HostInfo, Image, Job, Policy, Vds, Vlan, Vm, Volume, VolumeInfo, list, text, total},
};

/// Entries asked for in one page.
const PAGE: usize = 100;
/// Pages of one list, at most.
const MOST_PAGES: usize = 200;

impl Client {
    /// F3: every image. Filters of the plan are added (R32); pages are followed when the answer is paged.
    pub async fn images(&self) -> Result<Vec<Image>, Error> {
        let mut request = Request::plain(Call::LIST_IMAGES, Call::LIST_IMAGES.route.to_owned());
        request.query = pairs(&self.upload.extra_image_query_params);
        let (mut entries, total) = self.repeat(&request, |data| page(&data, "images")).await?;
        if total.is_some_and(|total| total > entries.len() as u64) {
            entries = self.pages(Call::LIST_IMAGES, "images", request.query).await?;
        }
        Ok(entries.iter().map(Image::read).collect())
    }

    /// F4: asks for an upload volume, once. Not idempotent.
    pub async fn create_volume(&self, name: &str, size: u64) -> Result<Volume, Error> {
        let upload = &self.upload;
        let mut query = vec![
            ("name".to_owned(), name.to_owned()),
            ("size".to_owned(), size.to_string()),
            ("device".to_owned(), upload.device.clone()),
            ("task_id".to_owned(), upload.task_id.clone()),
            ("description".to_owned(), upload.description.clone()),
        ];
        query.retain(|(key, _)| !upload.extra_volume_params.contains_key(key));
        query.extend(pairs(&upload.extra_volume_params));
        let path = Call::CREATE_VOLUME.route.to_owned();
        let request = Request { call: Call::CREATE_VOLUME, path, query, payload: Payload::Empty };
        let decode = |data| Volume::read(&data).ok_or_else(|| "it lacks image_uuid or zbs_volume_id".to_owned());
        self.once(&request, decode).await
    }

    /// F6: deletes an image or an upload volume. Already gone counts as deleted.
    pub async fn delete_image(&self, image_uuid: &str) -> Result<(), Error> {
        let request = Request::plain(Call::DELETE_IMAGE, Call::DELETE_IMAGE.path(image_uuid));
        match self.repeat(&request, |_| Ok(())).await {
            Err(error) if error.is_gone() => Ok(()),
            outcome => outcome,
        }
    }

    /// Storage policies (8.1).
    pub async fn policies(&self) -> Result<Vec<Policy>, Error> {
        let entries = self.entries(Call::LIST_POLICIES, Call::LIST_POLICIES.route.to_owned(), "policies").await?;
        Ok(entries.iter().map(Policy::read).collect())
    }

    /// Virtual switches (8.2).
    pub async fn switches(&self) -> Result<Vec<Vds>, Error> {
        let entries = self.entries(Call::LIST_VDS, Call::LIST_VDS.route.to_owned(), "vds").await?;
        Ok(entries.iter().map(Vds::read).collect())
    }

    /// Networks of a switch (8.3).
    pub async fn vlans(&self, vds_uuid: &str) -> Result<Vec<Vlan>, Error> {
        let entries = self.entries(Call::LIST_VLANS, Call::LIST_VLANS.path(vds_uuid), "vlans").await?;
        Ok(entries.iter().map(Vlan::read).collect())
    }

    /// Hosts (8.4).
    pub async fn hosts(&self) -> Result<Vec<HostInfo>, Error> {
        let entries = self.entries(Call::LIST_HOSTS, Call::LIST_HOSTS.route.to_owned(), "hosts").await?;
        Ok(entries.iter().map(HostInfo::read).collect())
    }

    /// Every VM of the cluster (7.1).
    pub async fn vms(&self) -> Result<Vec<Vm>, Error> {
        Ok(self.pages(Call::LIST_VMS, "vms", Vec::new()).await?.iter().map(Vm::read).collect())
    }

    /// One VM (7.5); `None` when there is none of this id. Asked once: whoever polls, bears failures.
    pub async fn vm(&self, uuid: &str) -> Result<Option<Vm>, Error> {
        let request = Request::plain(Call::GET_VM, Call::GET_VM.path(uuid));
        let decode = |data: Value| match Vm::read(&data) {
            vm if data.is_object() && !vm.uuid.is_empty() => Ok(Some(vm)),
            _ => Err("it is no VM".to_owned()),
        };
        match self.once(&request, decode).await {
            Err(error) if error.is_gone() => Ok(None),
            outcome => outcome,
        }
    }

    /// One VM as the cluster tells it; `None` when there is none of this id.
    pub async fn vm_as_told(&self, uuid: &str) -> Result<Option<Value>, Error> {
        let request = Request::plain(Call::GET_VM, Call::GET_VM.path(uuid));
        match self.once(&request, |data| Ok(Some(data))).await {
            Err(error) if error.is_gone() => Ok(None),
            outcome => outcome,
        }
    }

    /// A job as the cluster tells it.
    pub async fn job_as_told(&self, id: &str) -> Result<Value, Error> {
        self.once(&Request::plain(Call::GET_JOB, Call::GET_JOB.path(id)), Ok).await
    }

    /// Volumes (7.8), to find orphans.
    pub async fn volumes(&self) -> Result<Vec<VolumeInfo>, Error> {
        Ok(self.pages(Call::LIST_VOLUMES, "volumes", Vec::new()).await?.iter().map(VolumeInfo::read).collect())
    }

    /// A job (9). Asked once: whoever polls, bears failures.
    pub async fn job(&self, id: &str) -> Result<Job, Error> {
        let request = Request::plain(Call::GET_JOB, Call::GET_JOB.path(id));
        let decode = |data: Value| match data.is_object() {
            true => Ok(Job::read(&data)),
            false => Err("it is no job".to_owned()),
        };
        self.once(&request, decode).await
    }

    /// F9: creates a VM, once. Not idempotent.
    pub async fn create_vm(&self, payload: &Value) -> Result<Created, Error> {
        self.start_job(Call::CREATE_VM, Call::CREATE_VM.route.to_owned(), payload).await
    }

    /// F10: changes the keys given, once.
    pub async fn update_vm(&self, uuid: &str, payload: &Value) -> Result<Created, Error> {
        self.start_job(Call::UPDATE_VM, Call::UPDATE_VM.path(uuid), payload).await
    }

    /// F11: powers a VM on, once.
    pub async fn start_vm(&self, uuid: &str) -> Result<Created, Error> {
        self.start_job(Call::START_VM, Call::START_VM.path(uuid), &json!({"auto_schedule": true})).await
    }

    /// F11: takes a VM's power away, once.
    pub async fn stop_vm(&self, uuid: &str) -> Result<Created, Error> {
        self.start_job(Call::STOP_VM, Call::STOP_VM.path(uuid), &json!({"force": true})).await
    }

    /// F12: deletes a VM with its volumes, once.
    pub async fn delete_vm(&self, uuid: &str) -> Result<Created, Error> {
        self.start_job(Call::DELETE_VM, Call::DELETE_VM.path(uuid), &json!({"include_volumes": true})).await
    }

    async fn start_job(&self, call: Call, path: String, payload: &Value) -> Result<Created, Error> {
        let request = Request { call, path, query: Vec::new(), payload: Payload::Json(payload) };
        self.once(&request, |data| Ok(Created::read(&data))).await
    }

    async fn entries(&self, call: Call, path: String, own_key: &str) -> Result<Vec<Value>, Error> {
        Ok(self.repeat(&Request::plain(call, path), |data| page(&data, own_key)).await?.0)
    }

    /// Walks a paged list from page 1 until a page brings nothing new; page 0 as well when entries are missing then
    /// (7.1: where counting begins is not known). Entries are told apart by uuid.
    async fn pages(&self, call: Call, own_key: &str, filter: Vec<(String, String)>) -> Result<Vec<Value>, Error> {
        let mut all = Vec::new();
        let mut seen = BTreeSet::new();
        let mut told = None;
        for number in 1..=MOST_PAGES {
            let (entries, total) = self.page(call, own_key, &filter, number).await?;
            told = total.or(told);
            let (count, before) = (entries.len(), all.len());
            all.extend(entries.into_iter().filter(|entry| seen.insert(identity(entry))));
            let nothing_new = all.len() == before;
            if nothing_new || (count < PAGE && told == Some(all.len() as u64)) {
                break;
            }
        }
        if told.is_none_or(|told| told != all.len() as u64) {
            match self.page(call, own_key, &filter, 0).await {
                Ok((entries, _)) => all.extend(entries.into_iter().filter(|entry| seen.insert(identity(entry)))),
                // A server that counts from 1 may refuse page 0.
                Err(Error { kind: ErrorKind::Refused(refusal), .. }) if refusal.had_an_answer() => {}
                Err(error) => return Err(error),
            }
        }
        Ok(all)
    }

    async fn page(
        &self,
        call: Call,
        own_key: &str,
        filter: &[(String, String)],
        number: usize,
    ) -> Result<(Vec<Value>, Option<u64>), Error> {
        let mut request = Request::plain(call, call.route.to_owned());
        request.query = filter.to_vec();
        request.query.extend([("count".to_owned(), PAGE.to_string()), ("skip_page".to_owned(), number.to_string())]);
        self.repeat(&request, |data| page(&data, own_key)).await
    }
}

/// The entries of an answer, and how many there are in all.
fn page(data: &Value, own_key: &str) -> Result<(Vec<Value>, Option<u64>), String> {
    let entries = list(data, own_key).ok_or_else(|| format!("it holds no list of {own_key}"))?;
    Ok((entries, total(data)))
}

/// What tells entries apart; without a uuid, everything about them.
fn identity(entry: &Value) -> String {
    let uuid = text(entry, "uuid");
    if uuid.is_empty() { entry.to_string() } else { uuid }
}

fn pairs(map: &std::collections::BTreeMap<String, String>) -> Vec<(String, String)> {
    map.iter().map(|(key, value)| (key.clone(), value.clone())).collect()
}
