//! The pages about `kubectl serin`: what they show is run here, against the cluster, with the real kubectl.

use std::path::PathBuf;
use std::sync::Arc;

use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;
use kube::api::{DeleteParams, ListParams};
use regex::Regex;
use serde_json::{Value, json};
use serin::api::watched::{MetricProvider, Rollout};
use serin::controller::lease;

use crate::support::transcript::Transcript;
use crate::support::world::{is_aborted, is_healthy};
use crate::support::{Environment, Given, World};

/// The commit that brings an image, as a pipeline records it.
fn committed(given: &Given, commit: &str, author: &str) -> Value {
    let mut object = given.object();
    object["metadata"]["annotations"] = json!({"serin.dev/git-commit": commit, "serin.dev/git-author": author});
    object
}

/// What differs each time: random ends of pods' names, ages, values of metrics and their picture.
const VARYING: [&str; 4] =
    [r"\b(checkout-[a-z0-9]{10})-[a-z0-9]{5}\b", r"\b\d+s\b", r"\b0\.\d+\b|\b1 ", r"[▁▂▃▄▅▆▇█]+ … "];

fn page(world: &World, name: &str) -> Transcript {
    let mut page = Transcript::of(name, &bin(world));
    page.variables.push(("KUBECONFIG".to_owned(), kubeconfig(world).to_str().unwrap().to_owned()));
    page.replaced.push((world.namespace.clone(), "shop".to_owned()));
    page.varying = VARYING.iter().map(|pattern| Regex::new(pattern).unwrap()).collect();
    page
}

/// A folder with `kubectl` and its plugin.
fn bin(world: &World) -> PathBuf {
    let bin = world.environment.dir.join("bin");
    std::fs::create_dir_all(&bin).unwrap();
    let kubectl = std::env::var("E2E_KUBECTL").expect("E2E_KUBECTL names kubectl; start the stories by e2e/run");
    for (name, to) in [("kubectl", kubectl.as_str()), ("kubectl-serin", env!("CARGO_BIN_EXE_kubectl-serin"))] {
        let _ = std::os::unix::fs::symlink(to, bin.join(name));
    }
    bin
}

/// A kubeconfig whose contexts have the story's namespace.
fn kubeconfig(world: &World) -> PathBuf {
    let given = std::fs::read_to_string(std::env::var("KUBECONFIG").unwrap()).unwrap();
    let mut config: Value = serde_yaml::from_str(&given).unwrap();
    for context in config["contexts"].as_array_mut().unwrap() {
        context["context"]["namespace"] = json!(world.namespace);
    }
    let path = world.environment.dir.join(format!("{}.kubeconfig", world.namespace));
    std::fs::write(&path, serde_yaml::to_string(&config).unwrap()).unwrap();
    path
}

/// A release that waits for a person, is promoted step by step, and one that is aborted.
pub async fn watched(environment: Arc<Environment>, name: String) {
    let world = World::start(environment, &name).await;
    let steps = json!([{"setWeight": 20}, {"analysis": World::analysis()}, {"pause": {}}, {"setWeight": 50}]);
    let first = Given { steps, replicas: 3, image: "registry.example/checkout:1", ..Given::default() };
    world.success_rate(json!({})).await;
    let (second, third) = (first.image("registry.example/checkout:2"), first.image("registry.example/checkout:3"));
    world.errors(&second.hash(), 0.0);
    world.errors(&third.hash(), 0.4);
    world.apply(&committed(&first, "9b7e02d5c1a84f63", "Ada")).await;
    let hash = first.hash();
    world.wait("Healthy", 30, |rollout| is_healthy(rollout, &hash)).await;
    world.is_measured(&[&second.hash(), &third.hash()]).await;
    world.apply(&committed(&second, "4f2a91cd01e35b77", "Grace")).await;
    let waits = |rollout: &Rollout| rollout.status.blocked_by.iter().any(|wait| wait.reason == "PausedByStep");
    world.wait("the pause", 40, waits).await;
    page(&world, "kubectl-serin/watching").check(Some("A release that waits for a person"));
    page(&world, "kubectl-serin/acting").check(Some("Promote"));
    let hash = second.hash();
    world.wait("promoted", 30, |rollout| is_healthy(rollout, &hash)).await;
    page(&world, "kubectl-serin/acting").check(Some("After the promotion"));
    world.apply(&committed(&third, "77c0ffee12345678", "Lin")).await;
    world.wait("aborted", 40, |rollout| is_aborted(rollout, "AnalysisFailed")).await;
    world.until("no pods of the canary", 20, || (world.pods_wanted(&third.hash()) == 0).then_some(())).await;
    page(&world, "kubectl-serin/watching").check(Some("A release that was aborted"));
    page(&world, "kubectl-serin/acting").check(Some("Undo"));
    world.end().await;
}

/// What the doctor finds where the routes are in Git, and their tool takes the weights back.
pub async fn doctor(environment: Arc<Environment>, name: String) {
    let world = World::start(environment, &name).await;
    let metadata = json!({"name": "checkout"});
    world
        .apply(&json!({
            "apiVersion": "networking.istio.io/v1", "kind": "VirtualService", "metadata": metadata,
            "spec": {"hosts": ["checkout"], "http": [{"name": "primary", "route": [
                {"destination": {"host": "checkout", "subset": "checkout-stable"}, "weight": 100},
                {"destination": {"host": "checkout", "subset": "checkout-canary"}, "weight": 0}]}]},
        }))
        .await;
    world.edit_virtual_service("checkout", json!({"metadata": {"labels": {"team": "payments"}}})).await;
    let istio = json!({"virtualService": {"name": "checkout", "routes": ["primary"]}});
    let given = Given { istio, steps: json!([{"setWeight": 20}]), ..Given::default() };
    world.healthy(&given).await;
    // Other stories leave theirs behind.
    let providers: Api<MetricProvider> = Api::all(world.client.clone());
    for left in providers.list(&ListParams::default()).await.expect("providers").items {
        let name = left.metadata.name.filter(|name| name.starts_with("e2e-")).unwrap_or_default();
        if !name.is_empty() {
            providers.delete(&name, &DeleteParams::default()).await.expect("a provider");
        }
    }
    let leases: Api<Lease> = Api::namespaced(world.client.clone(), "serin-system");
    let _ = leases.delete(lease::NAME, &DeleteParams::default()).await;
    let provider = json!({
        "apiVersion": "serin.dev/v1alpha1", "kind": "MetricProvider", "metadata": {"name": "e2e"},
        "spec": {"prometheus": {"address": world.environment.prometheus}},
    });
    world.apply(&provider).await;
    let mut page = page(&world, "kubectl-serin/doctor");
    page.replaced.push((world.environment.prometheus.clone(), "http://127.0.0.1:9090".to_owned()));
    page.varying.push(Regex::new(r"v1\.\d+\.\d+\S*").unwrap());
    page.check(None);
    providers.delete("e2e", &DeleteParams::default()).await.expect("the provider");
    world.end().await;
}
