//! The real API server answers the requests of `tests/it/conformance` as it is written down there; the embedded API is
//! compared with that by `cargo test conformance`.

#[path = "../../tests/it/conformance/transcript.rs"]
mod transcript;

use std::sync::Arc;

use kube::Api;
use kube::api::{DeleteParams, PostParams};
use serde_json::{Value, json};

use crate::support::Environment;

/// Every scenario in a namespace of its own; `UPDATE_EXPECT=1` writes the answers down.
pub async fn answers(environment: Arc<Environment>, _: String) {
    let api: Api<k8s_openapi::api::core::v1::Namespace> = Api::all(environment.client.clone());
    for (name, path, scenario) in transcript::scenarios() {
        let object = serde_json::from_value(json!({"metadata": {"generateName": "api-conforms-"}})).unwrap();
        let namespace = api.create(&PostParams::default(), &object).await.unwrap().metadata.name.unwrap();

        let answers = transcript::tell(&environment.client, &namespace, &scenario).await;
        api.delete(&namespace, &DeleteParams::default()).await.unwrap();
        if std::env::var_os("UPDATE_EXPECT").is_some() {
            let text = serde_yaml::to_string(&answers).unwrap();
            std::fs::write(
                &path,
                format!("# Answers of a real kube-apiserver; `UPDATE_EXPECT=1 e2e/run conform` writes them.\n{text}"),
            )
            .unwrap();
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        let known: Vec<Value> = serde_saphyr::from_str(&text).unwrap();
        assert_eq!(answers.len(), known.len(), "{name}: {} is old", path.display());
        for (answer, known) in answers.iter().zip(&known) {
            assert_eq!(answer, known, "{name}: {}: not as {} says", answer["step"], path.display());
        }
    }
}
