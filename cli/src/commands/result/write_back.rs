//! The serial of CloudTower's licence goes into a copy of the workbook that was planned (R83). The workbook itself is
//! only read, and the value stays in the result whatever becomes of the copy.
//!
//! Whether it is the workbook that was planned is found out as for `ctl move`: the controller, whose settings count,
//! plans it again. A job keeps no hash of the file, and a file that was only opened and saved is the same workbook.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use gantry_plan::{WriteError, serial_cell, with_serial};
use gantry_proto::{JobId, Plan, Problem, Verdict, plan::Source, v1};
use gantry_report::rows::{flat, source};
use serde_json::{Value, json};

use crate::{
    client::Client,
    commands::{Cx, plan},
    exit::{Exit, Failure},
    language::Said,
    outfile::{OutFile, is_same_file},
    refusal, workbook,
};

/// How many differences between two plans a message names.
const NAMED: usize = 5;

/// A workbook that was read, and the place of its copy.
pub(super) struct WriteBack {
    from: PathBuf,
    out: OutFile,
    bytes: Vec<u8>,
    overrides: BTreeMap<String, String>,
}

impl WriteBack {
    /// Looks at both places, and reads.
    pub(super) fn prepare(
        cx: &Cx,
        out: &Path,
        from: &Path,
        set: &[(String, String)],
        force: bool,
    ) -> Result<Self, Failure> {
        if is_same_file(out, from) {
            return Err(Failure::usage(said!(
                "{path} is the workbook itself, and is not touched",
                "{path} 就是规划表本身，未作改动"; path = out.display()
            ))
            .because(said!("it is the same file as {path}", "它与 {path} 是同一文件"; path = from.display()))
            .remedy(said!(
                "give --workbook another name: a copy is written there",
                "请为 --workbook 另取名称：副本写到该处"
            )));
        }
        let overrides = plan::overrides(set)?;
        let place = OutFile::at(out, force)?;
        let bytes = match workbook::read(from) {
            Ok(bytes) => bytes,
            Err(problem) => {
                plan::reject(cx.out, &workbook::name(from), Verdict::Unreadable, &[*problem])?;
                return Err(Failure::Told(Exit::Rejected));
            }
        };
        for path in [from, out] {
            if let Some(lock) = lock_file(path) {
                let (path, lock) = (path.display(), lock.display());
                let text = say!(
                    "warning: {path} seems to be open in a spreadsheet program: {lock} is there",
                    "警告：{path} 似乎正在电子表格程序中打开：存在 {lock}"
                );
                cx.out.note(&cx.out.paint_err.warn(&text));
            }
        }
        Ok(Self { from: from.to_owned(), out: place, bytes, overrides })
    }

    /// Writes the copy, and notes that in the result.
    pub(super) async fn carry_out(
        self,
        cx: &Cx,
        client: &Client,
        id: JobId,
        document: &mut Value,
    ) -> Result<(), Failure> {
        let keep = |failure: Failure| {
            failure
                .remedy(said!("the serial stays in the result: ctl result {id}", "序列号仍在结果中：ctl result {id}"))
        };
        let wanted = update(document).ok_or_else(|| no_serial(id))?;
        let serial = wanted.get("value").and_then(Value::as_str).unwrap_or_default().to_owned();
        self.is_planned(cx, client, id).await.map_err(keep)?;
        let copy = with_serial(&self.bytes, &serial).map_err(|error| keep(self.refused(&error)))?;
        self.out.write(&copy).map_err(keep)?;
        wanted["written"] = json!(true);
        let (sheet, cell) = serial_cell();
        let path = self.out.path().display();
        cx.out.note(&say!(
            "{path} is written: {sheet}!{cell} holds {serial}",
            "已写入 {path}：{sheet}!{cell} 为 {serial}"
        ));
        Ok(())
    }

    /// Fails when the workbook is another one than the job's.
    async fn is_planned(&self, cx: &Cx, client: &Client, id: JobId) -> Result<(), Failure> {
        let name = workbook::name(&self.from);
        let planned = client.get(&id.to_string()).await?;
        let file_name = planned.job.map(|job| job.file_name).unwrap_or_default();
        let planned = planned.plan.ok_or_else(|| refusal::incomplete(client.url(), "plan"))?;
        let request = v1::CheckPlanRequest {
            workbook: self.bytes.clone(),
            file_name: name.clone(),
            overrides: self.overrides.clone().into_iter().collect(),
        };
        let answer = client.check(request).await?;
        let verdict = Verdict::try_from(answer.verdict()).unwrap_or(Verdict::Invalid);
        let Some(given) = answer.plan.filter(|_| verdict == Verdict::Ok) else {
            let problems: Vec<Problem> = answer.problems.into_iter().map(Into::into).collect();
            return plan::reject(cx.out, &name, verdict, &problems);
        };
        if given.sha256 == planned.sha256 {
            return Ok(());
        }
        let differences = match (Plan::from_document(&planned), Plan::from_document(&given)) {
            (Ok(planned), Ok(given)) => differences(&planned, &given),
            (Err(error), _) | (_, Err(error)) => vec![error.to_string().into()],
        };
        if differences.is_empty() {
            return Ok(());
        }
        let failure = Failure::new(
            Exit::Rejected,
            said!("{name} is not the workbook that was planned for job {id}", "{name} 不是作业 {id} 的规划表"),
        );
        let failure = differences.iter().take(NAMED).fold(failure, |failure, one| failure.because(one));
        let failure = match differences.len().saturating_sub(NAMED) {
            0 => failure,
            more => failure.because(said!("and {more} more", "另有 {more} 处")),
        };
        Err(failure.remedy(said!(
            "give the file that was deployed ({file_name}) and the same --set values",
            "请给出当时部署的文件（{file_name}）以及相同的 --set 值"
        )))
    }

    fn refused(&self, error: &WriteError) -> Failure {
        let (sheet, cell) = serial_cell();
        let path = self.from.display();
        let message = said!(
            "cannot write the serial into {sheet}!{cell} of a copy of {path}",
            "无法将序列号写入 {path} 副本的 {sheet}!{cell}"
        );
        Failure::new(Exit::Rejected, message).because(error.to_string()).remedy(error.remedy())
    }
}

/// The value for the workbook's one cell; what else a result may name is not written.
fn update(document: &mut Value) -> Option<&mut Value> {
    let all = document.pointer_mut("/deploy_cloudtower/cloudtower/plan_updates")?.as_array_mut()?;
    let (sheet, cell) = serial_cell();
    all.iter_mut().find(|one| one["sheet"] == sheet && one["cell"] == cell && one["value"].is_string())
}

fn no_serial(id: JobId) -> Failure {
    Failure::new(
        Exit::Refused,
        said!(
            "job {id} has no licence serial that could be written into a workbook",
            "作业 {id} 没有可写入规划表的许可证序列号"
        ),
    )
    .because(said!(
        "CloudTower told none, or the job ended before it was asked",
        "CloudTower 未返回，或作业在查询之前已结束"
    ))
    .remedy(said!("see how it ended: ctl show {id}", "查看其如何结束：ctl show {id}"))
}

/// What a workbook gives otherwise than planned. Values that come from the controller's settings on both sides say
/// nothing about the workbook: the settings may have changed since.
fn differences(planned: &Plan, given: &Plan) -> Vec<Said> {
    let values = |plan: &Plan| flat("", &json!(plan)).into_iter().collect::<BTreeMap<_, _>>();
    let (old, new) = (values(planned), values(given));
    let of_settings = |plan: &Plan, key: &str| match source_of(plan, key) {
        Some(Source::Configuration | Source::Default) => true,
        Some(Source::Override | Source::Workbook { .. } | Source::Derived { .. }) => false,
        None => key.starts_with("deployment."),
    };
    let keys: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    let differ = keys.into_iter().filter(|key| old.get(*key) != new.get(*key));
    differ
        .filter(|key| !(of_settings(planned, key) && of_settings(given, key)))
        .map(|key| {
            let shown = |values: &BTreeMap<String, String>| values.get(key).cloned().unwrap_or_else(|| "-".to_owned());
            let place = match source_of(given, key) {
                Some(Source::Workbook { cell }) => format!("{key} ({cell})"),
                _ => key.clone(),
            };
            said!(
                "{place} is {new}, planned was {old}",
                "{place} 为 {new}，规划为 {old}"; new = shown(&new), old = shown(&old)
            )
        })
        .collect()
}

/// The source of a value; of a list, that of its first item.
fn source_of<'a>(plan: &'a Plan, key: &str) -> Option<&'a Source> {
    source(key, &plan.sources).or_else(|| plan.sources.get(&format!("{key}[0]")))
}

/// The file that a spreadsheet program lays beside a workbook that it has open: Excel's, or LibreOffice's.
fn lock_file(path: &Path) -> Option<PathBuf> {
    let name = workbook::name(path);
    let locks = [format!("~${name}"), format!(".~lock.{name}#")].map(|lock| path.with_file_name(lock));
    locks.into_iter().find(|lock| fs::symlink_metadata(lock).is_ok())
}

#[cfg(test)]
mod tests {
    use gantry_proto::plan::VmShape;

    use super::*;

    fn planned() -> Plan {
        let source = |cell: &str| json!({"from": "workbook", "cell": cell});
        let network = json!({"row": 4, "vds": "vds", "network": "default", "vlan_id": 0, "vlan_type": "Access",
            "subnet": "192.0.2.0/24", "netmask": "255.255.255.0", "gateway": "192.0.2.1"});
        let plan = json!({
            "cloudtower": {"ip": "192.0.2.20", "vm_name": "cloudtower", "version": null, "web_user": "root",
                "ssh_user": "cloudtower", "serial": null, "sizing_text": null},
            "organization": "Org", "datacenter": "DC", "ntp_servers": ["a"], "dns_servers": [],
            "management_network": network, "default_management_network": network, "storage_subnet": null,
            "cluster": {"name": null, "vip": null, "admin_user": "root", "serial": null, "function": null,
                "storage_architecture": null, "network_architecture": null, "software_version_text": null},
            "hosts": [], "other_components": {"obs_ip": null, "backup_ip": null}, "temporary_range": null,
            "deployment": {"vm": {"vcpu": 8, "memory_bytes": 1, "disk_bytes": 1}, "storage_policy": "default",
                "target_host": null, "iso": {"file_name": null, "sha256": null, "md5": null},
                "upload": {"device": "nfs", "task_id": "2", "description": "d", "chunk_size_fallback": 1,
                    "extra_volume_params": {}, "extra_image_query_params": {}},
                "vm_description": "d", "require_guest_tools_in_iso": true, "ntp_failure_is_warning": false,
                "rollback_policy": "auto"},
            "sources": {"cloudtower.ip": source("集群管理信息!E3"), "cloudtower.ssh_user": {"from": "default"},
                "cloudtower.serial": source("集群管理信息!M3"), "ntp_servers[0]": source("集群管理信息!E22")},
        });
        serde_json::from_value(plan).unwrap()
    }

    #[test]
    fn what_the_workbook_gives_counts_and_settings_do_not() {
        let plan = planned();
        assert_eq!(differences(&plan, &plan), Vec::<Said>::new());
        let mut other = plan.clone();
        other.cloudtower.ssh_user = "smartx".to_owned();
        other.deployment.vm = VmShape { vcpu: 4, ..plan.deployment.vm };
        assert_eq!(differences(&plan, &other), Vec::<Said>::new());
        other.cloudtower.ip = [192, 0, 2, 21].into();
        other.cloudtower.serial = Some("7f2d".to_owned());
        other.ntp_servers.push("b".to_owned());
        assert_eq!(
            differences(&plan, &other),
            [
                "cloudtower.ip (集群管理信息!E3) is 192.0.2.21, planned was 192.0.2.20",
                "cloudtower.serial (集群管理信息!M3) is 7f2d, planned was -",
                "ntp_servers (集群管理信息!E22) is a, b, planned was a",
            ]
        );
        other = plan.clone();
        other.sources.insert("cloudtower.ssh_user".to_owned(), Source::Override);
        other.cloudtower.ssh_user = "li".to_owned();
        assert_eq!(differences(&plan, &other), ["cloudtower.ssh_user is li, planned was cloudtower"]);
    }

    #[test]
    fn only_the_serials_cell_is_taken_from_a_result() {
        let result = |updates: Value| json!({"deploy_cloudtower": {"cloudtower": {"plan_updates": updates}}});
        let good = json!({"sheet": "集群管理信息", "cell": "M3", "value": "7f2d", "written": false});
        let bad = json!({"sheet": "集群管理信息", "cell": "G3", "value": "x", "written": false});
        let mut document = result(json!([bad, good]));
        assert_eq!(update(&mut document).map(|one| one["value"].clone()), Some(json!("7f2d")));
        let odd = json!({"sheet": "集群管理信息", "cell": "M3", "value": 7});
        for none in [json!([]), json!([bad]), json!([odd]), json!({}), json!("x"), Value::Null] {
            assert_eq!(update(&mut result(none.clone())), None, "{none}");
        }
        assert_eq!(update(&mut json!(7)), None);
    }

    #[test]
    fn lock_files_of_spreadsheet_programs_are_seen() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("规划表.xlsx");
        assert_eq!(lock_file(&file), None);
        for lock in ["~$规划表.xlsx", ".~lock.规划表.xlsx#"] {
            let lock = dir.path().join(lock);
            fs::write(&lock, "").unwrap();
            assert_eq!(lock_file(&file), Some(lock.clone()));
            fs::remove_file(&lock).unwrap();
        }
    }
}
