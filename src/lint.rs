//! What is wrong with manifests, or will be, before they are applied: texts in, findings out. No cluster, no files, no clock.

mod analysis;
mod capacity;
mod counted;
mod find;
mod gitops;
mod holder;
mod input;
mod name;
mod promql;
mod route;
pub mod rule;
mod service;
mod shape;
pub mod show;
mod steps;
mod subject;
mod syntax;
mod workload;
pub mod yaml;

use jiff::SignedDuration;

pub use self::counted::{Expected, Measured};
pub use self::find::{Finding, Report};
use self::input::{DEPLOYMENT, Input};
use self::subject::{Subject, Uses, World};

/// A text and the name that findings call it by.
#[derive(Debug, Clone)]
pub struct Source {
    /// The name, such as a path.
    pub name: String,
    /// What it holds, or why that cannot be read.
    pub bytes: Result<Vec<u8>, String>,
}

/// What lint assumes.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The namespace of objects that name none.
    pub namespace: String,
    /// Time between two scrapes of a metric.
    pub scrape_interval: SignedDuration,
    /// Requests that are said to come, whatever counts them.
    pub expected: Option<Expected>,
    /// Requests that have come of late, as metrics count them.
    pub measured: Vec<Measured>,
    /// Folders that kustomize or Helm builds: their own files are not what is applied.
    pub built: Vec<String>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            namespace: "default".to_owned(),
            scrape_interval: SignedDuration::from_secs(30),
            expected: None,
            measured: Vec::new(),
            built: Vec::new(),
        }
    }
}

/// Looks at every object of the sources, and at what they are to each other.
pub fn lint(sources: &[Source], settings: &Settings) -> Report {
    let (input, mut found) = Input::read(sources, settings);
    let subjects: Vec<Subject<'_>> = input.objects.iter().filter_map(|object| Subject::of(&input, object)).collect();
    let (uses, world) = (Uses::of(&subjects), World::of(&input));
    for object in &input.objects {
        shape::check(&uses, object, &mut found);
        if input::is_known(object) {
            syntax::check(object, &mut found);
        }
        let brings_a_template = |subject: &Subject<'_>| subject.holder.index == object.index;
        if object.is(DEPLOYMENT) && subjects.iter().any(brings_a_template) {
            syntax::check_template(object, &mut found);
        }
    }
    for subject in &subjects {
        let observed = world.observed(subject);
        let mut missing = Vec::new();
        route::check(subject, &observed, &mut missing, &mut found);
        service::check(subject, &observed, &mut found);
        analysis::check(subject, &observed, &mut missing, &mut found);
        steps::check(subject, &mut found);
        workload::check(subject, &mut missing, &mut found);
        capacity::check(subject, &mut found);
        gitops::check(subject, &mut found);
        name::tell_missing(subject, &missing, &mut found);
    }
    workload::check_all(&input, &subjects, &mut found);
    route::check_all(&subjects, &mut found);
    gitops::check_all(&input, &mut found);
    Report::of(sources, &input, found)
}
