//! Git, and the real GitOps engines that apply it to a story's namespace: what `e2e/gitops` starts.

use std::path::PathBuf;
use std::process::Command;

use jiff::Timestamp;
use kube::api::{DeleteParams, DynamicObject, GroupVersionKind};
use kube::core::ApiResource;
use kube::{Api, Client};
use serde::Deserialize;
use serde_json::{Value, json};

use super::World;

/// Who applies Git.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    /// Flux's kustomize-controller, which applies server-side.
    Flux,
    /// Argo CD as it is by default: it applies as `kubectl apply` does.
    Argo,
    /// Argo CD with `ServerSideApply=true`.
    ArgoServerSide,
}

impl Engine {
    /// The field manager that it writes as.
    pub fn manager(self) -> &'static str {
        match self {
            Self::Flux => "kustomize-controller",
            Self::Argo | Self::ArgoServerSide => "argocd-controller",
        }
    }

    /// The setting that its users are told of where it takes weights back.
    pub fn setting(self) -> &'static str {
        match self {
            Self::Flux => "kustomize.toolkit.fluxcd.io/ssa: IfNotPresent",
            Self::Argo | Self::ArgoServerSide => "ignoreDifferences with ApplyOutOfSyncOnly=true",
        }
    }

    /// The name of its program, which the recorder has from its requests.
    fn agent(self) -> &'static str {
        match self {
            Self::Flux => "kustomize-controller",
            Self::Argo | Self::ArgoServerSide => "argocd",
        }
    }
}

/// One write of an engine, as the recorder tells it.
#[derive(Debug, Clone, Deserialize)]
#[expect(dead_code, reason = "what a story that fails prints")]
pub struct Write {
    time: Timestamp,
    agent: String,
    operation: String,
    group: String,
    /// Plural of the kind.
    pub resource: String,
    namespace: String,
    /// Name of the object.
    pub name: String,
    status: u16,
    /// Whether the object became another one.
    pub changed: bool,
}

/// A Git repository that an engine applies to a story's namespace every second.
pub struct Git<'a> {
    world: &'a World,
    /// Who applies it.
    pub engine: Engine,
    folder: PathBuf,
    /// The name of the object that tells Flux to.
    kustomization: &'static str,
    /// What it follows.
    branch: &'static str,
    /// The cluster that the engine's own objects are in.
    home: Client,
}

impl<'a> Git<'a> {
    /// A repository with a first commit of these files, and a kustomization that has the image apart. Nobody applies it yet.
    pub fn new(world: &'a World, engine: Engine, files: &[(&str, Value)]) -> Self {
        let folder = PathBuf::from(std::env::var("E2E_REPOSITORIES").expect("e2e/run gitops starts the engines"));
        let git = Self { kustomization: "app", ..Self::at(world, engine, folder.join(&world.namespace), "main") };
        std::fs::create_dir_all(&git.folder).unwrap();
        git.run("git", &["init", "--quiet", "--initial-branch=main"]);
        for (name, object) in files {
            git.write(name, object);
        }
        let names: Vec<&str> = files.iter().map(|(name, _)| *name).collect();
        let images = json!([{"name": "checkout", "newTag": "1"}]);
        let kustomization = json!({"apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization", "resources": names, "images": images});
        git.write("kustomization.yaml", &kustomization);
        git.commit("first");
        git
    }

    /// A repository that is there, and that somebody else has told the engine of.
    pub fn at(world: &'a World, engine: Engine, folder: PathBuf, branch: &'static str) -> Self {
        Self { world, engine, folder, kustomization: "checkout", branch, home: world.client.clone() }
    }

    /// The same, where the engine's own objects are in another cluster.
    pub fn told_in(self, home: &World) -> Self {
        Self { home: home.client.clone(), ..self }
    }

    /// How many commits there are.
    pub fn commits(&self) -> usize {
        self.hashes().len()
    }

    /// Writes a file.
    pub fn write(&self, name: &str, object: &Value) {
        std::fs::write(self.folder.join(name), serde_yaml::to_string(object).unwrap()).unwrap();
    }

    /// Commits all that was written.
    pub fn commit(&self, message: &str) {
        self.run("git", &["add", "--all"]);
        self.run("git", &["commit", "--quiet", "--message", message]);
    }

    /// Commits another image, as a pipeline does.
    pub fn image(&self, image: &str) {
        let kustomize = std::env::var("E2E_KUSTOMIZE").unwrap();
        self.run(&kustomize, &["edit", "set", "image", &format!("checkout={image}")]);
        self.commit(image);
    }

    /// Takes a file out of Git.
    pub fn remove(&self, name: &str) {
        let kustomize = std::env::var("E2E_KUSTOMIZE").unwrap();
        self.run(&kustomize, &["edit", "remove", "resource", name]);
        self.run("git", &["rm", "--quiet", name]);
        self.commit("remove");
    }

    /// Reverts the last commit.
    pub fn revert(&self) {
        self.run("git", &["revert", "--no-edit", "HEAD"]);
    }

    /// The hashes of all commits, newest first.
    pub fn hashes(&self) -> Vec<String> {
        self.run("git", &["rev-list", self.branch]).lines().map(str::to_owned).collect()
    }

    fn run(&self, program: &str, arguments: &[&str]) -> String {
        let identity = ["AUTHOR", "COMMITTER"];
        let mut command = Command::new(program);
        command.args(arguments).current_dir(&self.folder);
        for who in identity {
            command.env(format!("GIT_{who}_NAME"), "alice").env(format!("GIT_{who}_EMAIL"), "alice@example.com");
        }
        let output = command.output().unwrap_or_else(|error| panic!("{program}: {error}"));
        assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// Lets the engine apply the repository, with these fields of the Application's spec besides.
    pub async fn follow(&self, more: &Value) {
        match self.engine {
            Engine::Flux => self.follow_by_flux().await,
            Engine::Argo | Engine::ArgoServerSide => self.follow_by_argo(more).await,
        }
    }

    async fn follow_by_flux(&self) {
        let source = json!({
            "apiVersion": "source.toolkit.fluxcd.io/v1", "kind": "GitRepository", "metadata": {"name": "app"},
            "spec": {"interval": "1m", "url": "https://git.invalid/app", "ref": {"branch": "main"}},
        });
        let kustomization = json!({
            "apiVersion": "kustomize.toolkit.fluxcd.io/v1", "kind": "Kustomization", "metadata": {"name": "app"},
            "spec": {"interval": "1s", "retryInterval": "1s", "timeout": "30s", "path": "./", "prune": true,
                "targetNamespace": self.world.namespace, "sourceRef": {"kind": "GitRepository", "name": "app"}},
        });
        self.world.apply(&source).await;
        self.world.apply(&kustomization).await;
    }

    async fn follow_by_argo(&self, more: &Value) {
        let mut options = more["syncOptions"].as_array().cloned().unwrap_or_default();
        if self.engine == Engine::ArgoServerSide {
            options.push(json!("ServerSideApply=true"));
        }
        let application = json!({
            "apiVersion": "argoproj.io/v1alpha1", "kind": "Application",
            "metadata": {"name": self.world.namespace, "namespace": "argocd"},
            "spec": {
                "project": "default",
                "source": {"repoURL": format!("file://{}", self.folder.display()), "targetRevision": "main", "path": "."},
                "destination": {"server": "https://kubernetes.default.svc", "namespace": self.world.namespace},
                "syncPolicy": {"automated": {"prune": true, "selfHeal": true}, "syncOptions": options},
                "ignoreDifferences": more["ignoreDifferences"].as_array().cloned().unwrap_or_default(),
            },
        });
        self.world.apply(&application).await;
    }

    fn tool(&self) -> (Api<DynamicObject>, &str) {
        let (kind, namespace, name) = match self.engine {
            Engine::Flux => {
                let kind = GroupVersionKind::gvk("kustomize.toolkit.fluxcd.io", "v1", "Kustomization");
                (kind, self.world.namespace.as_str(), self.kustomization)
            }
            Engine::Argo | Engine::ArgoServerSide => {
                (GroupVersionKind::gvk("argoproj.io", "v1alpha1", "Application"), "argocd", &*self.world.namespace)
            }
        };
        (Api::namespaced_with(self.home.clone(), namespace, &ApiResource::from_gvk(&kind)), name)
    }

    /// What the engine says: whether the cluster is as the last commit has it, when it looked last, and all of its status.
    pub async fn state(&self) -> (bool, String, Value) {
        let (api, name) = self.tool();
        let status = api.get(name).await.expect("the engine's object").data["status"].clone();
        let commit = self.run("git", &["rev-parse", self.branch]);
        let (is_as_git, looked) = match self.engine {
            Engine::Flux => {
                let ready = status["conditions"].as_array().into_iter().flatten().find(|one| one["type"] == "Ready");
                // While it looks again it is neither ready nor not.
                let has_failed = ready.is_some_and(|one| one["status"] == "False");
                let applied = status["lastAppliedRevision"].as_str().is_some_and(|one| one.ends_with(&commit));
                (applied && !has_failed, &status["lastHandledReconcileAt"])
            }
            Engine::Argo | Engine::ArgoServerSide => {
                let sync = &status["sync"];
                (sync["status"] == "Synced" && sync["revision"] == json!(commit), &status["reconciledAt"])
            }
        };
        (is_as_git, looked.as_str().unwrap_or_default().to_owned(), status)
    }

    /// Writes of the engine to the story's objects that the API server took.
    pub fn writes(&self) -> Vec<Write> {
        let text = std::fs::read_to_string(std::env::var("E2E_WRITES").unwrap()).unwrap();
        let all = text.lines().filter_map(|line| serde_json::from_str::<Write>(line).ok());
        all.filter(|write| {
            write.agent == self.engine.agent()
                && write.namespace == self.world.namespace
                && write.status < 300
                && !write.group.ends_with("toolkit.fluxcd.io")
                && write.resource != "events"
        })
        .collect()
    }

    /// The engine applies the repository no more; what it has applied may stay.
    pub async fn leave(&self) {
        let (api, name) = self.tool();
        let _ = api.delete(name, &DeleteParams::background()).await;
    }
}
