//! Jobs on the wire (`fisheye.md` 9).

use axum::extract::{Path, State};
use axum::response::Response;
use http::StatusCode;
use serde_json::{Map, Value, json};

use super::envelope;
use crate::core::Core;
use crate::modes::{JobResources, JobWords, UnknownJob};
use crate::rng::named_uuid;
use crate::world::{Job, JobState, World};

/// `GET /api/v2/jobs/{id}`.
pub(super) async fn detail(State(core): State<Core>, Path(id): Path<String>) -> Response {
    let found = {
        let world = core.world();
        world.jobs.get(&id).filter(|job| !job.forgotten).map(|job| object(&core, &world, job))
    };
    core.clock.latency(core.drawn("latency.read", core.options.latencies.read)).await;
    match (found, core.modes().unknown_job) {
        (Some(job), _) => envelope::ok(&core, json!({ "job": job })),
        (None, UnknownJob::NotFound404) => envelope::not_found(&core, "job"),
        (None, UnknownJob::EcError) => envelope::error(StatusCode::OK, "JOB_NOT_FOUND", "job not found", json!("")),
    }
}

fn object(core: &Core, world: &World, job: &Job) -> Value {
    let words = core.modes().job_words;
    let state = state(words, &job.state);
    let mut object = json!({
        "job_id": job.id, "state": state, "life_cycle": "run", "description": job.description, "type": "action",
        "user": "", "ctime": job.ctime, "queue": null, "resource_group": null, "schedule_task": null,
        "one_time_task": null, "task_list": [], "resources": resources(core, world, job),
        "event": {
            "event_name": job.description, "user_name": "root", "user_role": "ROOT", "user_type": "USER",
            "resources": {}, "message": {"zh_CN": "", "en_US": ""}, "detail": {}, "data": {}, "batch": null,
        },
    });
    if let (JobState::Failed, Some(error)) = (&job.state, &job.error) {
        if error.follower_first {
            object["error_code"] = Value::Null;
            object["task_list"] = json!([
                {"state": state, "error_code": "JOB_FOLLOWER_FAILED_DUE_TO_DEPENDENCY", "error_msg": ""},
                {"state": state, "error_code": error.code, "error_msg": error.message},
            ]);
        } else {
            object["error_code"] = json!(error.code);
            object["error_msg"] = json!(error.message);
        }
    }
    object
}

fn state(words: JobWords, state: &JobState) -> String {
    let word = match (words, state) {
        (_, JobState::Stuck(state)) => return state.clone(),
        (JobWords::Shouting, JobState::Pending) => "PENDING",
        (JobWords::Weird, JobState::Processing) => "weird",
        (JobWords::Shouting, JobState::Processing) => "PROCESSING",
        (_, JobState::Pending) => "pending",
        (_, JobState::Processing) => "processing",
        (JobWords::SuccessError, JobState::Done) => "success",
        (JobWords::SucceedAborted, JobState::Done) => "Succeed",
        (JobWords::FinishedFailed, JobState::Done) => "FINISHED",
        (JobWords::Shouting, JobState::Done) => "DONE",
        (_, JobState::Done) => "done",
        (JobWords::SuccessError, JobState::Failed) => "error",
        (JobWords::SucceedAborted, JobState::Failed) => "aborted",
        (JobWords::Shouting, JobState::Failed) => "FAILED",
        (_, JobState::Failed) => "failed",
    };
    word.to_owned()
}

/// The `resources` map; its order matters to careless readers (C46).
fn resources(core: &Core, world: &World, job: &Job) -> Value {
    let mut map = Map::new();
    let mode = core.modes().job_resources;
    let Some(vm) = world.vms.get(&job.vm_uuid).filter(|_| mode != JobResources::Empty) else { return map.into() };
    if matches!(mode, JobResources::VolumeFirst | JobResources::TwoVms) {
        for volume in vm.disks.iter().filter_map(|disk| disk.volume_uuid.as_ref()) {
            map.insert(volume.clone(), json!({"type": "KVM_VOL", "uuid": volume}));
        }
    }
    if mode == JobResources::TwoVms {
        let other = named_uuid(&format!("other {}", job.id));
        map.insert(other.clone(), json!({"type": "KVM_VM", "uuid": other, "vm_name": "another-vm", "vcpu": 2}));
    }
    let entry = json!({"type": "KVM_VM", "uuid": vm.uuid, "vm_name": vm.name, "vcpu": vm.vcpu});
    map.insert(vm.uuid.clone(), entry);
    map.into()
}
