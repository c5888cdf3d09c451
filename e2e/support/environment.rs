//! The cluster once: definitions, RBAC and the controller's own credentials, all from the shipped files.

use std::path::PathBuf;
use std::sync::Arc;

use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};

use super::exporter::Exporter;
use super::shipped::{apply_shipped, write_kubeconfig};

/// What all stories share.
pub struct Environment {
    /// The administrator's client.
    pub client: Client,
    /// The release binary.
    pub binary: PathBuf,
    /// Kubeconfig of the administrator.
    pub admin: PathBuf,
    /// Kubeconfig of the controller's service account.
    pub kubeconfig: PathBuf,
    /// A folder for logs.
    pub dir: PathBuf,
    /// URL of the real Prometheus.
    pub prometheus: String,
    /// What Prometheus scrapes.
    pub exporter: Exporter,
}

/// The cluster that `KUBECONFIG` names.
const ADMIN: &str = "KUBECONFIG";
/// The other cluster, which is there beside GitOps engines.
const OTHER: &str = "E2E_OTHER_KUBECONFIG";

fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set; start the stories by e2e/run"))
}

impl Environment {
    /// Applies what is shipped, server-side, and makes the controller's credentials.
    pub async fn prepare() -> Arc<Self> {
        let exporter = Exporter::start(variable("E2E_EXPORTER").parse().expect("an address")).await;
        Self::of(variable(ADMIN).into(), "serin.kubeconfig", exporter).await
    }

    /// The same in the other cluster, beside the same Prometheus.
    pub async fn other(&self) -> Arc<Self> {
        Self::of(variable(OTHER).into(), "serin-other.kubeconfig", self.exporter.clone()).await
    }

    async fn of(admin: PathBuf, credentials: &str, exporter: Exporter) -> Arc<Self> {
        let given = Kubeconfig::read_from(&admin).expect("a kubeconfig");
        let config = Config::from_custom_kubeconfig(given, &KubeConfigOptions::default()).await.expect("a context");
        let client = Client::try_from(config).expect("it leads to a cluster");
        let dir = PathBuf::from(variable("E2E_DIR"));
        apply_shipped(&client).await;
        let kubeconfig = dir.join(credentials);
        write_kubeconfig(&client, &admin, &kubeconfig).await;
        Arc::new(Self {
            client,
            admin,
            binary: variable("SERIN_BIN").into(),
            kubeconfig,
            dir,
            prometheus: variable("E2E_PROMETHEUS"),
            exporter,
        })
    }
}
