//! The demo's traffic and Prometheus: one gauge, `demo_success_rate{revision="…"}`, from what the route sends where.
#![expect(clippy::indexing_slicing, reason = "a JSON value answers null for a key that it lacks")]

use axum::Router;
use axum::extract::{Query, State};
use axum::response::IntoResponse;
use axum::routing::get;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::embedded::Cluster;

/// Serves the query API on a free loopback port; its address.
pub async fn serve(cluster: Cluster) -> std::io::Result<String> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let address = format!("http://{}", listener.local_addr()?);
    let app = Router::new().route("/api/v1/query", get(query)).with_state(cluster);
    tokio::spawn(async move { axum::serve(listener, app).await });
    Ok(address)
}

#[derive(Deserialize)]
struct Asked {
    query: String,
}

async fn query(State(cluster): State<Cluster>, Query(asked): Query<Asked>) -> impl IntoResponse {
    let revision = asked.query.strip_prefix("demo_success_rate{revision=\"").and_then(|rest| rest.strip_suffix("\"}"));
    let Some(revision) = revision else {
        return json!({"status": "error", "errorType": "bad_data", "error": "the demo's Prometheus knows only demo_success_rate{revision=\"…\"}"}).to_string();
    };
    let series: Vec<Value> = success_rate(&cluster, revision)
        .map(|rate| json!({"metric": {"revision": revision}, "value": [0, format!("{rate:.3}")]}))
        .into_iter()
        .collect();
    json!({"status": "success", "data": {"resultType": "vector", "result": series}}).to_string()
}

/// The fraction of a revision's requests that succeed; none while it gets no traffic.
fn success_rate(cluster: &Cluster, revision: &str) -> Option<f64> {
    let rules = cluster.list("destinationrules");
    let routes = cluster.list("virtualservices");
    let subsets = rules.first()?.pointer("/spec/subsets")?.as_array()?.clone();
    let destinations = routes.first()?.pointer("/spec/http/0/route")?.as_array()?.clone();
    let weight: i64 = destinations
        .iter()
        .filter(|one| {
            let subset = subsets.iter().find(|subset| subset["name"] == one["destination"]["subset"]);
            subset.is_some_and(|subset| subset["labels"]["serin.dev/revision-hash"] == revision)
        })
        .filter_map(|one| one["weight"].as_i64())
        .sum();
    let sets = cluster.list("replicasets");
    let own = sets.iter().find(|one| one["metadata"]["labels"]["serin.dev/revision-hash"] == revision)?;
    let image = own.pointer("/spec/template/spec/containers/0/image")?.as_str()?;
    if weight == 0 {
        return None;
    }
    // A bad release that breaks under load, as they do.
    let errors = if image.ends_with(":3") && weight >= 50 { 0.167 } else { 0.004 };
    // Some unrest, the same in every run: the number of requests so far stands in for chance.
    let unrest = f64::from(u32::try_from(cluster.requests().len() % 7).unwrap_or(0)) / 2_000.0;
    Some(1.0 - errors - unrest)
}
