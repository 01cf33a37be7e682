//! Dashboards (K4): views of a cluster, and the graphs on them. None of the calls that make something is idempotent.

use serde_json::{Value, json};

use super::{
    Client, Error,
    rest::{changed, list, route},
    types::short,
};

/// The largest number of graphs or hosts that is read.
const MOST: usize = 1_000;

/// A graph to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewGraph {
    /// `cluster`, `host` or `vm`.
    pub resource_type: &'static str,
    /// Its heading.
    pub title: &'static str,
    /// What it shows.
    pub metric: &'static str,
    /// What it is about, by id; empty: chosen by CloudTower.
    pub about: Vec<String>,
    /// Only so many with the highest values.
    pub top: Option<u32>,
}

/// A graph that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Graph {
    pub id: String,
    /// What it shows.
    pub metric: String,
}

fn ids(call: super::Call, answer: &Value) -> Result<Vec<String>, Error> {
    let id = |found: &Value| found.get("id").and_then(Value::as_str).map(short);
    Ok(list(call, answer)?.iter().filter_map(id).take(MOST).collect())
}

impl Client {
    /// The views of this name of a cluster, by id.
    pub async fn views(&self, cluster: &str, name: &str) -> Result<Vec<String>, Error> {
        let call = route("get-views");
        let body = json!({ "where": { "cluster": { "id": cluster }, "name": name } });
        let answer = self.post_authorized(call, &body).await?;
        ids(call, &answer)
    }

    /// Makes a view with a time axis of two hours. `Some`: a task to wait for.
    pub async fn create_view(&self, cluster: &str, name: &str) -> Result<Option<String>, Error> {
        let call = route("create-view");
        let body = json!([{ "cluster_id": cluster, "name": name, "time_unit": "HOUR", "time_span": 2 }]);
        let answer = self.post_authorized(call, &body).await?;
        changed(call, &answer)
    }

    /// Removes a view.
    pub async fn delete_view(&self, id: &str) -> Result<Option<String>, Error> {
        let call = route("delete-view");
        let answer = self.post_authorized(call, &json!({ "where": { "id": id } })).await?;
        changed(call, &answer)
    }

    /// The hosts of a cluster, by id.
    pub async fn cluster_hosts(&self, cluster: &str) -> Result<Vec<String>, Error> {
        let call = route("get-hosts");
        let answer = self.post_authorized(call, &json!({ "where": { "cluster": { "id": cluster } } })).await?;
        ids(call, &answer)
    }

    /// The graphs on a view.
    pub async fn graphs(&self, view: &str) -> Result<Vec<Graph>, Error> {
        let call = route("get-graphs");
        let answer = self.post_authorized(call, &json!({ "where": { "view": { "id": view } } })).await?;
        let read = |found: &Value| {
            let text = |key: &str| found.get(key).and_then(Value::as_str).map(short);
            Some(Graph { id: text("id")?, metric: text("metric_name")? })
        };
        Ok(list(call, &answer)?.iter().filter_map(read).take(MOST).collect())
    }

    /// Makes a graph on a view. `Some`: a task to wait for.
    pub async fn create_graph(&self, cluster: &str, view: &str, graph: &NewGraph) -> Result<Option<String>, Error> {
        let call = route("create-graph");
        let mut body = json!({
            "type": "AREA", "resource_type": graph.resource_type, "view_id": view, "title": graph.title,
            "cluster_id": cluster, "connect_id": graph.about, "metric_name": graph.metric,
        });
        if let Some(top) = graph.top {
            body["metric_type"] = json!("TOPK");
            body["metric_count"] = json!(top);
        }
        let answer = self.post_authorized(call, &json!([body])).await?;
        changed(call, &answer)
    }

    /// Removes a graph.
    pub async fn delete_graph(&self, id: &str) -> Result<Option<String>, Error> {
        let call = route("delete-graph");
        let answer = self.post_authorized(call, &json!({ "where": { "id": id } })).await?;
        changed(call, &answer)
    }
}
