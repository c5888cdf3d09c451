//! One of `examples/gitops`: its files in a Git repository, its people's clone, its pipeline's jobs, and the page whose commands
//! are the story.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use regex::Regex;
use serde_json::Value;
use serin::plan::revision;
use tokio::task::JoinHandle;

use super::World;
use super::exporter::Exporter;
use super::inbox::Inboxes;
use super::monitor::Monitor;
use super::transcript::Transcript;

/// Where everybody pushes to, as the files of all examples have it.
const URL: &str = "https://gitlab.example/shop/checkout.git";
/// The API server of the other cluster.
const OTHER: &str = "https://production.example:6443";
/// With the credentials that a job has.
const URL_OF_JOBS: &str = "https://deploy:of-the-stories-alone@gitlab.example/shop/checkout.git";
/// What the subject of a commit begins with whose image is bad, where tags are commits; and the tag of one, where they are not.
const BAD: [&str; 2] = ["Round", "1.2.0"];
/// The fraction of its requests that fail.
const ERRORS: f64 = 0.3;
/// Times, names that are drawn, hashes of commits and of revisions, what was measured, and its picture.
const VARYING: [&str; 12] = [
    r"\b\d+(\.\d+)? s later",
    // Before commits, which its digits look like.
    r"\b0\.\d+\b",
    r"\b(checkout-[a-z0-9]{10})-[a-z0-9]{5}\b",
    r"\b[bcdfghjklmnpqrstvwxz2456789]{10}\b",
    r"\b[0-9a-f]{7,40}\b",
    r"\b\d+(ms|s|m)\b|\b\d+m\d+s\b|\b\d+ of \d+ failed|\b\d+ of \d+ pods are available",
    r"\b1 |\b\d+\.\d+ s\b",
    r"\d\d:\d\d:\d\d|\d{4}-\d\d-\d\d",
    // A message has the weight of the time at which it is sent.
    r"\d+% of traffic, step",
    // Where nothing was measured yet, a question mark.
    r"[?▁▂▃▄▅▆▇█]+ … ",
    // For as long as requests of a canary are finishing, and pods of the revision before are kept.
    r"(?m)^(WAITS FOR\n( +Draining .*\n)+)?METRICS$",
    r"(?m)^(old .*\n( .*\n)*)?DECISIONS$",
];

/// An environment of an example: its name, which is that of a kubeconfig's context, and its world.
pub type Place<'a> = (&'static str, &'a World);

/// An example that is told.
pub struct Example {
    source: PathBuf,
    folder: PathBuf,
    variables: Vec<(String, String)>,
    replaced: Vec<(String, String)>,
    tasks: Vec<JoinHandle<()>>,
}

impl Example {
    /// The example of this name: a repository with one commit of its files on a branch, a clone of it, and the jobs of its
    /// pipeline as commands. What its files call `shop-<place>` is that place's namespace here.
    pub fn new(name: &str, branch: &str, places: &[Place<'_>], inboxes: Option<&Inboxes>) -> Self {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/gitops").join(name);
        let world = places[0].1;
        let folder = world.environment.dir.join(format!("{}.example", world.namespace));
        let mut example = Self { source, folder, variables: Vec::new(), replaced: Vec::new(), tasks: Vec::new() };
        let names = places.iter().map(|(place, world)| (world.namespace.clone(), format!("shop-{place}")));
        let engines = std::env::var("E2E_OTHER_ENGINES").expect("e2e/run gitops starts the other cluster");
        let servers = [(example.url(), URL.to_owned()), (engines, OTHER.to_owned())];
        let told = inboxes.map(Inboxes::replaced).into_iter().flatten();
        example.replaced = servers.into_iter().chain(told).chain(names).collect();
        std::fs::create_dir_all(example.folder.join("bin")).unwrap();
        example.variables = example.variables_of(world, places);
        example.variables.extend(inboxes.map(Inboxes::secrets).into_iter().flatten());
        example.make_repository(branch);
        for (_, world) in places {
            let repositories =
                PathBuf::from(std::env::var("E2E_REPOSITORIES").expect("e2e/run gitops starts the engines"));
            std::os::unix::fs::symlink(example.server(), repositories.join(&world.namespace)).unwrap();
            example.tasks.push(tokio::spawn(Traffic::of(world, example.server()).send()));
        }
        example.make_commands();
        if let Some(inboxes) = inboxes {
            example.make_command("inbox", &inboxes.command());
        }
        example
    }

    /// The repository that everybody pushes to, and that the engines read.
    pub fn server(&self) -> PathBuf {
        self.folder.join("server.git")
    }

    fn url(&self) -> String {
        format!("file://{}", self.server().display())
    }

    fn work(&self) -> PathBuf {
        self.folder.join("checkout")
    }

    /// What people's and jobs' commands have; no settings of the machine's own Git.
    fn variables_of(&self, world: &World, places: &[Place<'_>]) -> Vec<(String, String)> {
        let kubeconfig = world.environment.dir.join(format!("{}.contexts", world.namespace));
        std::fs::write(&kubeconfig, contexts(places)).unwrap();
        let variables = [
            ("KUBECONFIG", kubeconfig.display().to_string()),
            ("SERIN", env!("CARGO_MANIFEST_DIR").to_owned()),
            ("GIT_CONFIG_GLOBAL", "/dev/null".to_owned()),
            ("GIT_CONFIG_NOSYSTEM", "1".to_owned()),
            ("GIT_CONFIG_COUNT", "1".to_owned()),
            ("GIT_CONFIG_KEY_0", format!("url.{}.insteadOf", self.url())),
            ("GIT_CONFIG_VALUE_0", URL_OF_JOBS.to_owned()),
        ];
        variables.map(|(name, value)| (name.to_owned(), value)).into()
    }

    fn make_repository(&self, branch: &str) {
        let (server, clone) = (self.server(), self.work());
        self.git(&self.folder, &["init", "--quiet", "--bare", &format!("--initial-branch={branch}"), "server.git"]);
        self.git(&server, &["config", "receive.advertisePushOptions", "true"]);
        self.git(&self.folder, &["clone", "--quiet", &self.url(), "checkout"]);
        self.git(&clone, &["config", "user.name", "Ada"]);
        self.git(&clone, &["config", "user.email", "ada@example.com"]);
        for file in files(&self.source) {
            let path = clone.join(file.strip_prefix(&self.source).unwrap());
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            let text = std::fs::read_to_string(&file).unwrap();
            // Flux refuses the address of a folder, and the one that it has is not read.
            let is_kept = |there: &str| there == URL && text.contains("kind: GitRepository");
            let replaced = self.replaced.iter().filter(|(_, there)| !is_kept(there));
            let text = replaced.fold(text.clone(), |text, (here, there)| text.replace(there, here));
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::metadata(&file).unwrap().permissions()).unwrap();
        }
        self.git(&clone, &["add", "--all"]);
        self.git(&clone, &["commit", "--quiet", "--message", "The first commit"]);
        self.git(&clone, &["push", "--quiet", "origin", &format!("HEAD:{branch}")]);
    }

    fn git(&self, folder: &Path, arguments: &[&str]) {
        let variables = self.variables.iter().map(|(name, value)| (name, value));
        let output = Command::new("git").args(arguments).envs(variables).current_dir(folder).output().expect("git");
        assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// `kubectl` with its plugin, kustomize, and `job NAME`, which does what GitLab does when a job of that name is run for the
    /// commit that is checked out.
    fn make_commands(&self) {
        let bin = self.folder.join("bin");
        let of = |name: &str| PathBuf::from(std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set")));
        let links = [
            ("kubectl", of("E2E_KUBECTL")),
            ("kustomize", of("E2E_KUSTOMIZE")),
            ("kubectl-serin", env!("CARGO_BIN_EXE_kubectl-serin").into()),
        ];
        for (name, to) in links {
            std::os::unix::fs::symlink(to, bin.join(name)).unwrap();
        }
        let Ok(text) = std::fs::read_to_string(self.source.join(".gitlab-ci.yml")) else { return };
        let pipeline: Value = serde_yaml::from_str(&text).unwrap();
        for name in pipeline.as_object().unwrap().keys().filter(|name| !name.starts_with('.')) {
            if let Some(script) = job(&pipeline, name) {
                std::fs::write(self.folder.join(format!("{name}.job")), script).unwrap();
            }
        }
        self.make_command("job", &self.runner());
    }

    fn make_command(&self, name: &str, script: &str) {
        let path = self.folder.join("bin").join(name);
        std::fs::write(&path, script).unwrap();
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    }

    /// A build folder at the commit, the variables that GitLab gives, and the script.
    fn runner(&self) -> String {
        format!(
            r#"#!/usr/bin/env bash
set -euo pipefail
export CI=true GITLAB_CI=true CI_DEFAULT_BRANCH=main CI_SERVER_HOST=gitlab.example CI_PROJECT_PATH=shop/checkout
export CI_PROJECT_URL=https://gitlab.example/shop/checkout DEPLOY_TOKEN=of-the-stories-alone
export GITLAB_USER_LOGIN=ada GITLAB_USER_NAME=Ada GITLAB_USER_EMAIL=ada@example.com
CI_COMMIT_SHA=$(git rev-parse HEAD) CI_COMMIT_BRANCH=$(git branch --show-current)
export CI_COMMIT_SHA CI_COMMIT_BRANCH CI_COMMIT_SHORT_SHA=${{CI_COMMIT_SHA:0:8}}
build=$(mktemp -d -p '{folder}')
git clone --quiet '{url}' "$build"
cd "$build"
git checkout --quiet --detach "$CI_COMMIT_SHA"
code=0
bash '{folder}'/"$1".job 2>"$build.err" || code=$?
# What waits tells its progress there.
case $code in 0 | 2 | 3 | 4) ;; *) cat "$build.err" >&2 ;; esac
exit "$code"
"#,
            folder = self.folder.display(),
            url = self.url()
        )
    }

    /// Does what the example's README says below a heading, and compares what it says was printed.
    pub async fn tell(&self, heading: &str) {
        let mut page = Transcript::at(&self.source.join("README.md"), &self.work(), &self.folder.join("bin"));
        page.variables.extend(self.variables.clone());
        page.replaced.clone_from(&self.replaced);
        page.varying = VARYING.iter().map(|pattern| Regex::new(pattern).unwrap()).collect();
        let heading = heading.to_owned();
        // Commands wait; the other stories go on.
        let told = tokio::task::spawn_blocking(move || page.check(Some(&heading))).await;
        if let Err(error) = told {
            std::panic::resume_unwind(error.into_panic());
        }
    }
}

impl Drop for Example {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// All files but the page.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut all: Vec<PathBuf> =
        entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect();
    all.retain(|path| !path.ends_with("README.md"));
    all
}

/// A kubeconfig with a context for each place, which has its namespace.
fn contexts(places: &[Place<'_>]) -> String {
    let mut whole = Value::Null;
    for (place, world) in places {
        let text = std::fs::read_to_string(&world.environment.admin).unwrap();
        let mut config: Value = serde_yaml::from_str(&text).unwrap();
        for (list, field) in [("clusters", "cluster"), ("users", "user")] {
            config[list][0]["name"] = (*place).into();
            config["contexts"][0]["context"][field] = (*place).into();
        }
        config["contexts"][0]["name"] = (*place).into();
        config["contexts"][0]["context"]["namespace"] = world.namespace.as_str().into();
        if whole.is_null() {
            config["current-context"] = (*place).into();
            whole = config;
            continue;
        }
        for list in ["clusters", "users", "contexts"] {
            whole[list].as_array_mut().unwrap().push(config[list][0].clone());
        }
    }
    serde_yaml::to_string(&whole).unwrap()
}

/// The script of a job as GitLab's shell runs it, with what the job extends and its variables; none where it is no job.
fn job(pipeline: &Value, name: &str) -> Option<String> {
    let own = &pipeline[name];
    let extended = own["extends"].as_str().map_or(&Value::Null, |extended| &pipeline[extended]);
    let field = |key: &str| if own[key].is_null() { extended[key].clone() } else { own[key].clone() };
    let before = field("before_script").as_array().cloned().unwrap_or_default();
    let script_of = field("script");
    let mut script = String::from("set -eo pipefail\n");
    for (key, value) in
        [pipeline["variables"].clone(), field("variables")].iter().filter_map(Value::as_object).flatten()
    {
        writeln!(script, "export {key}='{}'", value.as_str()?).unwrap();
    }
    if let Some(environment) = field("environment").as_str() {
        writeln!(script, "export CI_ENVIRONMENT_NAME='{environment}'").unwrap();
    }
    for line in before.iter().chain(script_of.as_array()?) {
        writeln!(script, "{}", line.as_str()?).unwrap();
    }
    Some(script)
}

/// Requests to every revision that comes; those to a bad image fail.
struct Traffic {
    monitor: Monitor,
    exporter: Exporter,
    namespace: String,
    server: PathBuf,
}

impl Traffic {
    fn of(world: &World, server: PathBuf) -> Self {
        let exporter = world.environment.exporter.clone();
        Self { monitor: world.monitor.clone(), exporter, namespace: world.namespace.clone(), server }
    }

    async fn send(self) {
        let mut known = Vec::new();
        loop {
            for set in self.monitor.replica_sets() {
                let Some(hash) = revision::hash_of(&set).filter(|hash| !known.contains(&(*hash).to_owned())) else {
                    continue;
                };
                let image = set.spec.template.spec.containers.first().map_or("", |container| &container.image);
                let errors = if self.is_bad(image) { ERRORS } else { 0.0 };
                self.exporter.set(&self.namespace, hash, errors);
                known.push(hash.to_owned());
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    fn is_bad(&self, image: &str) -> bool {
        let tag = image.rsplit(':').next().unwrap_or_default();
        let shown = Command::new("git").args(["log", "-1", "--format=%s", tag]).current_dir(&self.server).output();
        let subject = shown.map(|shown| String::from_utf8_lossy(&shown.stdout).into_owned()).unwrap_or_default();
        BAD.iter().any(|bad| tag == *bad || subject.starts_with(bad))
    }
}
