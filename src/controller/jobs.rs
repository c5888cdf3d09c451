//! Jobs of metrics: watched for the Rollouts that have any, created and deleted. What keeps one from being created or from going
//! is remembered and told, and keeps nothing else from being done.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::{SignedDuration, Timestamp};
use kube::Api;
use kube::api::{DeleteParams, Preconditions};
use serde_json::Value;

use super::Shell;
use super::apply::create;
use super::cache::Select;
use super::configs::undeleted;
use super::error::{Class, Error};
use super::watches::Watches;
use crate::api::job::Job;
use crate::api::json::Json;
use crate::api::names;
use crate::api::watched::Rollout;
use crate::plan::action::Action;
use crate::plan::analysis::later;
use crate::plan::observed::{JobRefused, Jobs, Observed, Template, Undeleted};

/// How often a Job is tried that the API server neither takes nor refuses; the first wait, and each is twice as long.
const TRIES_MOST: u32 = 5;
const AGAIN: SignedDuration = SignedDuration::from_secs(1);
/// Jobs that could not be created, of which the last are remembered.
const REMEMBERED: usize = 50;

/// The watches, and what failed, by Rollout.
#[derive(Default)]
pub struct JobWatches {
    jobs: Watches<Job>,
    failed: Mutex<BTreeMap<String, Failed>>,
}

#[derive(Default)]
struct Failed {
    refused: Vec<(JobRefused, u32)>,
    undeleted: Option<Undeleted>,
}

impl JobWatches {
    /// Watches no more.
    pub fn end(&self, rollout: &str) {
        self.jobs.end(rollout);
        self.failed().remove(rollout);
    }

    fn failed(&self) -> MutexGuard<'_, BTreeMap<String, Failed>> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers that a Job could not be created. What was refused is not tried again, the rest a few times.
    fn refuse(&self, rollout: &str, name: &str, error: &Error, now: Timestamp) {
        let mut all = self.failed();
        let refused = &mut all.entry(rollout.to_owned()).or_default().refused;
        let tries = refused.iter().find(|(one, _)| one.name == name).map_or(0, |(_, tries)| *tries) + 1;
        refused.retain(|(one, _)| one.name != name);
        let is_final = error.class() == Class::Refused || tries >= TRIES_MOST;
        let until = later(now, AGAIN.saturating_mul(1 << (tries - 1).min(TRIES_MOST)));
        let is_taken = error.code() == Some(409);
        let message =
            if is_taken { format!("{error}; it is not this Rollout's: delete it") } else { error.to_string() };
        refused.push((JobRefused { name: name.to_owned(), message, is_final, until }, tries));
        let surplus = refused.len().saturating_sub(REMEMBERED);
        refused.drain(..surplus);
    }

    /// Remembers that a Job could not be deleted.
    fn postpone(&self, rollout: &str, error: &Error, now: Timestamp) {
        self.failed().entry(rollout.to_owned()).or_default().undeleted = Some(undeleted(error, now));
    }
}

/// What is known of a Rollout's Jobs, which are watched from now on; of one that has none and asks for none, nothing.
pub fn observe(shell: &Shell, rollout: &str, of: &Rollout, templates: &[Template]) -> Jobs {
    let asks = of.status.in_progress().is_some() && templates.iter().any(has_jobs);
    if of.status.jobs == 0 && !asks {
        shell.jobs.end(rollout);
        return Jobs::default();
    }
    let name = of.metadata.name.as_deref().unwrap_or_default();
    let select = Select::Labels(format!("{}={name}", names::ROLLOUT));
    shell.jobs.jobs.begin(&shell.client, rollout, select, &shell.queue);
    let uid = of.metadata.uid.as_ref();
    let is_own = |job: &Job| job.metadata.owner_references.iter().flatten().any(|owner| Some(&owner.uid) == uid);
    let listed = shell.jobs.jobs.of(rollout).map(|all| all.into_iter().filter(is_own).collect());
    let all = shell.jobs.failed();
    let failed = all.get(rollout);
    let refused = failed.map(|failed| failed.refused.iter().map(|(one, _)| one.clone()).collect());
    Jobs { listed, refused: refused.unwrap_or_default(), undeleted: failed.and_then(|failed| failed.undeleted.clone()) }
}

/// Whether a template has a metric that runs Jobs.
fn has_jobs(template: &Template) -> bool {
    let has_word = template.spec.text().contains("\"job\"");
    let spec = if has_word { template.spec.value() } else { Value::Null };
    let metrics = spec.get("metrics").and_then(Value::as_array);
    metrics.into_iter().flatten().any(|metric| metric.get("job").is_some_and(|job| !job.is_null()))
}

/// Creates or deletes a Job.
pub async fn carry_out(shell: &Shell, observed: &Observed, action: &Action) -> Result<(), Error> {
    if let Action::CreateJob { name, body } = action {
        run(shell, observed, action, (name, body)).await
    } else if let Action::DeleteJob { name, uid } = action {
        delete(shell, observed, action, (name, uid)).await
    } else {
        Ok(())
    }
}

/// Creates a Job. One that is refused, or is there already, is told by the next snapshot.
async fn run(shell: &Shell, observed: &Observed, action: &Action, (name, body): (&str, &Json)) -> Result<(), Error> {
    let rollout = shell.name_of(&observed.rollout);
    match create::<Job, _>(shell, observed, action, "jobs", body).await {
        Ok(created) => {
            shell.jobs.jobs.put(&rollout, &created);
            Ok(())
        }
        Err(Error::NotLeading) => Err(Error::NotLeading),
        Err(error) => {
            tracing::warn!(%rollout, %error, "the Job of a metric could not be created");
            shell.jobs.refuse(&rollout, name, &error, (shell.clock)());
            Ok(())
        }
    }
}

/// Deletes a Job with its pods. What keeps it from going stands in the status.
async fn delete(shell: &Shell, observed: &Observed, action: &Action, (name, uid): (&str, &str)) -> Result<(), Error> {
    let rollout = shell.name_of(&observed.rollout);
    let now = (shell.clock)();
    let is_postponed = |failed: &Failed| failed.undeleted.as_ref().is_some_and(|undeleted| undeleted.until > now);
    // What keeps one from going keeps the others, too.
    if shell.jobs.failed().get(&rollout).is_some_and(is_postponed) {
        return Ok(());
    }
    let namespace = observed.rollout.metadata.namespace.as_deref().unwrap_or_default();
    let api: Api<Job> = Api::namespaced(shell.client.clone(), namespace);
    let preconditions = Preconditions { uid: Some(uid.to_owned()), resource_version: None };
    let params = DeleteParams::background().preconditions(preconditions);
    if let Err(error) = shell.write(&rollout, ("jobs", "delete"), &action.to_string(), api.delete(name, &params)).await
    {
        match error.class() {
            Class::NotLeading => return Err(error),
            // It is gone.
            Class::Conflict if error.code() == Some(404) => {}
            Class::Conflict | Class::Refused | Class::Transient => {
                tracing::warn!(%rollout, %error, "a Job that nothing needs stays for a while");
                shell.jobs.postpone(&rollout, &error, now);
                return Ok(());
            }
        }
    }
    shell.jobs.jobs.forget(&rollout, name);
    Ok(())
}
