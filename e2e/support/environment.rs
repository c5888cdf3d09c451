//! The cluster once: definitions, RBAC and the controller's own credentials, all from the shipped files.

use std::path::PathBuf;
use std::sync::Arc;

use kube::Client;

use super::exporter::Exporter;
use super::shipped::{apply_shipped, write_kubeconfig};

/// What all stories share.
pub struct Environment {
    /// The administrator's client.
    pub client: Client,
    /// The release binary.
    pub binary: PathBuf,
    /// Kubeconfig of the controller's service account.
    pub kubeconfig: PathBuf,
    /// A folder for logs.
    pub dir: PathBuf,
    /// URL of the real Prometheus.
    pub prometheus: String,
    /// What Prometheus scrapes.
    pub exporter: Exporter,
}

impl Environment {
    /// Applies what is shipped, server-side, and makes the controller's credentials.
    pub async fn prepare() -> Arc<Self> {
        let variable = |name: &str| {
            std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set; start the stories by e2e/run"))
        };
        let client = Client::try_default().await.expect("KUBECONFIG leads to a cluster");
        let dir = PathBuf::from(variable("E2E_DIR"));
        apply_shipped(&client).await;
        let kubeconfig = dir.join("serin.kubeconfig");
        write_kubeconfig(&client, &kubeconfig).await;
        let exporter = Exporter::start(variable("E2E_EXPORTER").parse().expect("an address")).await;
        Arc::new(Self {
            client,
            binary: variable("SERIN_BIN").into(),
            kubeconfig,
            dir,
            prometheus: variable("E2E_PROMETHEUS"),
            exporter,
        })
    }
}
