//! The planner: a planning workbook in, a [`Plan`] or every [`Problem`] out.
//!
//! Pure: bytes go in, values come out. There is no network, clock or disk in here. `workbook.md` is the source of the
//! rules (W1..W29), of the normalisation (N1..N11) and of the traps (Q1..Q17).
//!
//! Each value is settled in the order override, workbook, derived, settings, built-in default (R54); which one won is in
//! [`Plan::sources`]. Every rule runs in the same pass; one whose input is already wrong is left out, so that one mistake
//! gives one error.

mod addresses;
mod defaults;
mod deployment;
mod document;
mod fields;
mod finding;
mod hosts;
mod input;
mod layout;
mod network;
mod overrides;
mod read;
mod remedies;
mod secrets;
mod servers;
mod sources;
mod text;
mod tower;
mod tower_config;
mod values;
mod write;

use std::collections::BTreeMap;

use gantry_proto::{
    Plan, Problem, Redactor, Secret, Secrets, Verdict,
    plan::{CloudTower, Deployment, Network, OtherComponents},
};

pub use defaults::{
    Defaults, IsoDefaults, NetworkDefaults, PasswordPolicy, SecretSetting, SshDefaults, UploadDefaults, VmDefaults,
    VmProfile,
};
pub use document::check_document;
pub use fields::{Access, FIELDS, Field, Need};
pub use overrides::settable;
pub use write::{SERIAL_MAX, WriteError, serial_cell, with_serial};

use addresses::Others;
use finding::{Finding, Findings, Place};
use hosts::Cluster;
use input::{Input, Known};
use network::Networks;
use read::Fault;
use secrets::SecretCells;
use servers::Servers;
use tower::Tower;

/// What came of a workbook.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The verdict over all findings.
    pub verdict: Verdict,
    /// The plan; `None` unless the verdict is [`Verdict::Ok`].
    pub plan: Option<Plan>,
    /// The plan's secrets; `None` unless the verdict is [`Verdict::Ok`].
    pub secrets: Option<Secrets>,
    /// Every password that was seen in the workbook, valid or not: for the redactor, before the first log line.
    pub all_secrets: Vec<Secret>,
    /// Every finding, sorted by sheet in the workbook's order, row and column.
    pub problems: Vec<Problem>,
    secret_cells: SecretCells,
}

/// Reads a workbook and checks everything in one pass. `overrides` is what `--set key=value` gave, by key.
pub fn plan(workbook: &[u8], defaults: &Defaults, overrides: &BTreeMap<String, String>) -> Outcome {
    let book = match read::read(workbook, &fields::SHEETS) {
        Ok(book) => book,
        Err(fault) => return unreadable(&fault),
    };
    let secret_cells = match SecretCells::of(&book) {
        Ok(secret_cells) => secret_cells,
        Err(fault) => return unreadable(&fault),
    };
    let redactor = Redactor::new();
    secret_cells.register(&redactor);

    let mut findings = Findings::default();
    overrides::check(overrides, &mut findings);
    let usable = layout::usable_sheets(&book, &redactor, &mut findings);
    let mut input = Input::new(&book, usable, overrides, Known { cells: &secret_cells, redactor: &redactor }, findings);
    let parts = Parts::read(&mut input, defaults);
    samples(&mut input);

    let (plan, secrets) = match parts.into_plan(&mut input, defaults) {
        Some((plan, secrets)) if !input.findings.has_errors() => (Some(plan), Some(secrets)),
        _ => (None, None),
    };
    let verdict = if plan.is_some() { Verdict::Ok } else { Verdict::Invalid };
    let problems = input.findings.into_problems(&book.names, &redactor);
    Outcome { verdict, plan, secrets, all_secrets: secret_cells.secrets.clone(), problems, secret_cells }
}

fn unreadable(fault: &Fault) -> Outcome {
    let mut findings = Findings::default();
    let finding = Finding::error(fault.code(), "FILE", &Place::file(), fault.to_string());
    findings.add(finding.remedy(fault.remedy()));
    Outcome {
        verdict: Verdict::Unreadable,
        plan: None,
        secrets: None,
        all_secrets: Vec::new(),
        problems: findings.into_problems(&[], &Redactor::new()),
        secret_cells: SecretCells::default(),
    }
}

/// Everything that was read, each value missing where it is blank or wrong.
struct Parts {
    deployment: Option<Deployment>,
    networks: Networks,
    cluster: Cluster,
    tower: Tower,
    others: Others,
    servers: Servers,
}

impl Parts {
    fn read(input: &mut Input<'_>, defaults: &Defaults) -> Self {
        let deployment = deployment::read(input, defaults);
        let networks = network::read(input, defaults);
        let cluster = hosts::read(input, defaults, networks.hosts_subnet());
        let tower = tower::read(input, defaults, deployment.as_ref(), networks.subnet.as_ref());
        let others = addresses::read(input);
        let servers = servers::read(input, defaults);
        addresses::check(input, &networks, &cluster, &tower, &others, &servers);
        Self { deployment, networks, cluster, tower, others, servers }
    }

    /// `None` when something that a plan needs is missing: an error has been reported for it.
    fn into_plan(self, input: &mut Input<'_>, defaults: &Defaults) -> Option<(Plan, Secrets)> {
        let Self { deployment, networks, cluster, tower, others, servers } = self;
        let default_management_network = networks.default_network()?;
        let subnet = networks.subnet?.value;
        let mut plan = Plan {
            cloudtower: CloudTower {
                ip: tower.ip?.value,
                vm_name: tower.vm_name?,
                version: tower.version,
                web_user: tower.web_user,
                ssh_user: tower.ssh_user?,
                serial: tower.serial,
                sizing_text: tower.sizing_text,
            },
            organization: tower.organization?,
            datacenter: tower.datacenter?,
            ntp_servers: servers.ntp,
            dns_servers: servers.dns,
            management_network: Network {
                row: networks.row,
                vds: networks.vds?,
                network: networks.network?,
                vlan_id: networks.vlan_id?,
                vlan_type: networks.vlan_type?,
                subnet: subnet.to_string(),
                netmask: subnet.netmask(),
                gateway: networks.gateway?.value,
            },
            default_management_network,
            storage_subnet: networks.storage.map(|given| given.value.to_string()),
            cluster: gantry_proto::plan::Cluster {
                name: networks.cluster_name,
                vip: cluster.vip.map(|given| given.value),
                admin_user: cluster.admin_user?,
                serial: cluster.serial,
                function: cluster.function,
                storage_architecture: cluster.storage_architecture,
                network_architecture: cluster.network_architecture,
                software_version_text: cluster.software_version_text,
            },
            hosts: cluster.hosts.iter().map(hosts::HostRow::host).collect::<Option<_>>()?,
            other_components: OtherComponents {
                obs_ip: others.observability.as_ref().map(|given| given.value),
                backup_ip: others.backup.as_ref().map(|given| given.value),
            },
            temporary_range: others.temporary_range(),
            deployment: deployment?,
            sources: std::mem::take(&mut input.sources),
        };
        sources::note_fixed_cells(&mut plan);
        let secrets = Secrets {
            root_password: tower.root_password?,
            fisheye_password: cluster.admin_password?,
            ssh_password: tower.ssh_password?,
            root_password_encoded: defaults.root_password_encoded.as_ref().map(|setting| setting.0.clone()),
        };
        Some((plan, secrets))
    }
}

/// W26: values of the template that nobody has replaced.
fn samples(input: &mut Input<'_>) {
    for (key, sample) in fields::SAMPLES {
        let Some(field) = FIELDS.iter().find(|field| field.key == *key) else { continue };
        for place in input.cells_with(field, sample) {
            let finding = Finding::warning("sample_value", "W26", &place, "is the sample value of the template");
            input.findings.add(finding.value(sample).remedy("replace it by your own value"));
        }
    }
}
