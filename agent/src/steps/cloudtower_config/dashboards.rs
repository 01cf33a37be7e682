//! The dashboards (K4): three views with their graphs, each looked for before it is made, for none of the calls may be
//! made twice.

use gantry_proto::result::OperationResult;
use serde_json::json;

use super::{
    super::{
        story::{extra, permanent},
        tower,
    },
    Done, TRIES, fact, unclear,
};
use crate::{
    cloudtower::{Cluster, Error, NewGraph},
    diff::Diff,
    facts::Facts,
    step::{StepCx, StepError},
};

/// How many VMs a graph of the busiest ones shows.
const TOP: u32 = 5;

/// What a view's graphs are about.
#[derive(Clone, Copy, PartialEq, Eq)]
enum About {
    Cluster,
    Hosts,
    Vms,
}

/// A view: its name, what its graphs are about, and of each graph its metric and heading.
type View = (&'static str, About, &'static [(&'static str, &'static str)]);

/// The views.
const VIEWS: [View; 3] = [
    (
        "Cluster",
        About::Cluster,
        &[
            ("cluster_cpu_usage_percent", "集群 CPU 使用率"),
            ("cluster_memory_usage_percent", "集群内存使用率"),
            ("zbs_cluster_provisioned_data_space_bytes", "集群已分配数据空间"),
        ],
    ),
    (
        "Host",
        About::Hosts,
        &[
            ("host_cpu_overall_usage_percent", "主机 CPU 使用率"),
            ("elf_host_vcpus_provisioned_running", "运行中虚拟机的 vCPU 数量"),
            ("host_cpu_temperature_celsius", "主机 CPU 温度"),
            ("host_memory_usage_percent", "主机内存使用率"),
            ("zbs_chunk_read_cache_hit_ratio", "读缓存命中率"),
            ("zbs_chunk_write_cache_hit_ratio", "写缓存命中率"),
            ("zbs_chunk_used_data_space_bytes", "主机已使用数据空间"),
        ],
    ),
    (
        "VM",
        About::Vms,
        &[
            ("elf_vm_cpu_overall_usage_percent", "虚拟机 CPU 使用率 Top 5"),
            ("elf_vm_cpu_overall_steal_time_percent", "虚拟机 CPU 就绪等待 Top 5"),
            ("elf_vm_memory_usage_percent", "虚拟机内存使用率 Top 5"),
            ("elf_vm_disk_overall_write_speed_bps", "虚拟机写带宽 Top 5"),
            ("elf_vm_disk_overall_avg_readwrite_latency_ns", "虚拟机读写延迟 Top 5"),
        ],
    ),
];

/// The names of the views.
pub(super) fn views() -> impl Iterator<Item = &'static str> {
    VIEWS.iter().map(|(name, ..)| *name)
}

/// As the facts call a graph.
pub(super) fn key(view: &str, metric: &str) -> String {
    format!("{view}/{metric}")
}

/// Their words in the journal.
const CREATE_VIEW: &str = "create-view";
const CREATE_GRAPH: &str = "create-graph";

/// What would become of them.
pub(super) async fn survey(cx: &StepCx, diff: &mut Diff, ip: &str, cluster: &Cluster) -> Result<(), StepError> {
    if !cx.plan.deployment.tower_config.dashboards {
        return Ok(());
    }
    for (name, _, graphs) in VIEWS {
        match look(cx, &cluster.id, name).await? {
            Some(view) => {
                diff.keep(ip, format!("the dashboard {name} is there"));
                let there = graphs_of(cx, &view).await?;
                let missing = graphs.iter().filter(|(metric, _)| !there.iter().any(|known| known == metric));
                missing.for_each(|(metric, _)| to_create(diff, ip, (name, metric)));
            }
            None => {
                diff.create(CREATE_VIEW, ip, format!("the dashboard {name}"));
                graphs.iter().for_each(|(metric, _)| to_create(diff, ip, (name, metric)));
            }
        }
    }
    Ok(())
}

/// The same for a cluster that is yet to be attached.
pub(super) fn survey_new(cx: &StepCx, diff: &mut Diff, ip: &str) {
    if !cx.plan.deployment.tower_config.dashboards {
        return;
    }
    for (name, _, graphs) in VIEWS {
        diff.create(CREATE_VIEW, ip, format!("the dashboard {name}"));
        graphs.iter().for_each(|(metric, _)| to_create(diff, ip, (name, metric)));
    }
}

fn to_create(diff: &mut Diff, ip: &str, (view, metric): (&str, &str)) {
    diff.create(CREATE_GRAPH, ip, format!("the graph {metric} on the dashboard {view}"));
}

/// A view of this name.
async fn look(cx: &StepCx, cluster: &str, name: &str) -> Result<Option<String>, StepError> {
    let found = tower::ask(cx, "listing CloudTower's dashboards", || cx.outside.tower.views(cluster, name)).await?;
    Ok(found.into_iter().next())
}

/// Makes what is not there, where the plan wants it.
pub(super) async fn make(cx: &StepCx, facts: &mut Facts, ip: &str, cluster: &Cluster) -> Result<Done, StepError> {
    if !cx.plan.deployment.tower_config.dashboards {
        return Ok((OperationResult::Skipped, "not wanted (deployment.tower_config.dashboards)".to_owned()));
    }
    let hosts = tower::ask(cx, "listing the cluster's hosts", || cx.outside.tower.cluster_hosts(&cluster.id)).await?;
    let (mut made, mut found) = (0, 0);
    for (name, about, graphs) in VIEWS {
        let view = view(cx, facts, (ip, &cluster.id), name).await?;
        let there = graphs_of(cx, &view).await?;
        for (metric, title) in graphs {
            if there.iter().any(|known| known == metric) {
                found += 1;
                continue;
            }
            let (resource_type, about, top) = match about {
                About::Cluster => ("cluster", vec![cluster.id.clone()], None),
                About::Hosts => ("host", hosts.clone(), None),
                About::Vms => ("vm", Vec::new(), Some(TOP)),
            };
            let graph = NewGraph { resource_type, title, metric, about, top };
            graph_on(cx, facts, (ip, &cluster.id), (name, &view), &graph).await?;
            made += 1;
        }
    }
    let result = if made == 0 { OperationResult::Unchanged } else { OperationResult::Changed };
    Ok((result, format!("{made} graphs made, {found} were there")))
}

/// The metrics of the graphs on a view.
async fn graphs_of(cx: &StepCx, view: &str) -> Result<Vec<String>, StepError> {
    let graphs = tower::ask(cx, "listing the graphs of a dashboard", || cx.outside.tower.graphs(view)).await?;
    Ok(graphs.into_iter().map(|graph| graph.metric).collect())
}

/// A view, found or made.
async fn view(cx: &StepCx, facts: &mut Facts, (ip, cluster): (&str, &str), name: &str) -> Result<String, StepError> {
    let tower = &cx.outside.tower;
    let attempted = format!("making the dashboard {name} of the cluster {ip}");
    for round in 0..=TRIES {
        if let Some(id) = look(cx, cluster, name).await? {
            return Ok(id);
        }
        if round == TRIES {
            break;
        }
        let detail = extra([("cluster", json!(ip)), ("view", json!(name))]);
        create(cx, facts, (ip, name), (CREATE_VIEW, &attempted), detail, round, || tower.create_view(cluster, name))
            .await?;
    }
    Err(unclear(&attempted))
}

/// A graph that was not there a moment ago.
async fn graph_on(
    cx: &StepCx,
    facts: &mut Facts,
    (ip, cluster): (&str, &str),
    (name, view): (&str, &str),
    graph: &NewGraph,
) -> Result<(), StepError> {
    let tower = &cx.outside.tower;
    let attempted = format!("making the graph {} on the dashboard {name} of the cluster {ip}", graph.metric);
    let key = key(name, graph.metric);
    for round in 0..=TRIES {
        if round > 0 && graphs_of(cx, view).await?.iter().any(|known| known == graph.metric) {
            return Ok(());
        }
        if round == TRIES {
            break;
        }
        let detail = extra([("cluster", json!(ip)), ("view", json!(name)), ("metric", json!(graph.metric))]);
        let ask = || tower.create_graph(cluster, view, graph);
        create(cx, facts, (ip, &key), (CREATE_GRAPH, &attempted), detail, round, ask).await?;
    }
    Err(unclear(&attempted))
}

/// One try to make something that was looked for just now; the caller looks again, whatever the answer. A refusal ends it.
async fn create<F>(
    cx: &StepCx,
    facts: &mut Facts,
    (ip, key): (&str, &str),
    (call, attempted): (&str, &str),
    detail: gantry_proto::event::Extra,
    round: u32,
    mut ask: impl FnMut() -> F,
) -> Result<(), StepError>
where
    F: Future<Output = Result<Option<String>, Error>>,
{
    cx.check()?;
    if fact(facts, ip).dashboards.insert(key.to_owned()) {
        cx.save(facts).await?;
    }
    let intent = cx.intend(call, detail).await?;
    let asked = tower::unlocked(cx, &mut ask).await?;
    cx.outcome(intent, tower::became(&asked), extra([])).await?;
    match asked {
        Ok(task) => tower::finish_task(cx, attempted, task.as_deref()).await,
        Err(error) if error.had_no_effect() && !error.is_transient() => {
            let mut failure = tower::failed(attempted, &error);
            failure.code = "dashboard_refused".to_owned();
            Err(permanent(failure))
        }
        Err(_) => cx.sleep(tower::backoff(cx, round)).await,
    }
}
