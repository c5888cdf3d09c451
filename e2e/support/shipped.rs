//! What is shipped, applied as a GitOps tool does it: definitions, RBAC, and the controller's own credentials.

use std::path::{Path, PathBuf};
use std::time::Duration;

use kube::api::{DynamicObject, Patch, PatchParams};
use kube::core::GroupVersionKind;
use kube::{Api, Client};
use serde_json::{Value, json};

/// Applies the definitions and the RBAC that are shipped.
pub async fn apply_shipped(client: &Client) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let istio = r#"{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "istio-system"}}"#;
    apply_text(client, None, istio).await.unwrap_or_else(|error| panic!("namespace istio-system: {error}"));
    for file in ["namespace.yaml", "rbac.yaml", "sharding.yaml", "config-snapshots.yaml", "istiod.yaml"] {
        apply_file(client, &root.join("deploy").join(file)).await;
    }
    let mut definitions: Vec<PathBuf> =
        std::fs::read_dir(root.join("crds")).unwrap().map(|entry| entry.unwrap().path()).collect();
    definitions.sort();
    for file in definitions.iter().filter(|file| {
        file.extension().is_some_and(|extension| extension == "yaml") && !file.ends_with("kustomization.yaml")
    }) {
        apply_file(client, file).await;
    }
}

/// Writes the kubeconfig of the controller's service account, by the administrator's.
pub async fn write_kubeconfig(client: &Client, admin: &Path, path: &Path) {
    std::fs::write(path, kubeconfig_with(admin, &request_token(client).await)).unwrap();
}

/// Applies every document of a file, as a GitOps tool does.
async fn apply_file(client: &Client, file: &Path) {
    let text = std::fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    apply_text(client, None, &text).await.unwrap_or_else(|error| panic!("{}: {error}", file.display()));
}

/// Applies every document of a text server-side, into a namespace where it has none.
pub async fn apply_text(client: &Client, namespace: Option<&str>, text: &str) -> Result<(), kube::Error> {
    use serde::Deserialize as _;
    for document in serde_yaml::Deserializer::from_str(text) {
        let value = Value::deserialize(document).expect("YAML");
        if value.is_null() {
            continue;
        }
        let mut object: DynamicObject = serde_json::from_value(value).expect("an object");
        let types = object.types.clone().expect("apiVersion and kind");
        let kind = GroupVersionKind::try_from(&types).expect("a kind");
        let (resource, capabilities) = find(client, &kind).await;
        let namespace = object.metadata.namespace.clone().or(namespace.map(str::to_owned));
        let api: Api<DynamicObject> = match (capabilities, namespace) {
            (true, Some(namespace)) => Api::namespaced_with(client.clone(), &namespace, &resource),
            _ => Api::all_with(client.clone(), &resource),
        };
        object.metadata.managed_fields = None;
        let name = object.metadata.name.clone().expect("a name");
        api.patch(&name, &PatchParams::apply("git").force(), &Patch::Apply(&object)).await?;
    }
    Ok(())
}

async fn find(client: &Client, kind: &GroupVersionKind) -> (kube::core::ApiResource, bool) {
    let deadline = std::time::Instant::now() + Duration::from_secs(10);
    loop {
        if let Ok((resource, capabilities)) = kube::discovery::pinned_kind(client, kind).await {
            return (resource, capabilities.scope == kube::discovery::Scope::Namespaced);
        }
        assert!(std::time::Instant::now() < deadline, "the API server does not know {kind:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn request_token(client: &Client) -> String {
    let body = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 36_000}});
    let request = http::Request::post("/api/v1/namespaces/serin-system/serviceaccounts/serin/token")
        .header("content-type", "application/json")
        .body(serde_json::to_vec(&body).unwrap())
        .unwrap();
    let answer: Value = client.request(request).await.expect("a token for the service account");
    answer["status"]["token"].as_str().expect("a token").to_owned()
}

/// The administrator's kubeconfig with another user.
fn kubeconfig_with(admin: &Path, token: &str) -> String {
    let mut config: Value = serde_yaml::from_str(&std::fs::read_to_string(admin).unwrap()).unwrap();
    let user = config["users"][0]["name"].clone();
    config["users"] = json!([{"name": user, "user": {"token": token}}]);
    serde_yaml::to_string(&config).unwrap()
}
