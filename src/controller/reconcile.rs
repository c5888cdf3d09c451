//! observe → plan → apply → measure: the only `reconcile`.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use kube::runtime::controller::Action as Requeue;
use tokio::time::Instant;
use tracing::Instrument;

use super::error::{Class, Error};
use super::{Shell, apply, clock, measure, observe};
use crate::api::names;
use crate::api::status::Phase;
use crate::api::watched::Rollout;
use crate::plan::measurement::Measurement;
use crate::plan::observed::Observed;
use crate::plan::{self, Plan, invariant};

/// Passes in a row after conflicts, before the next one waits for its turn.
const PASSES_MOST: usize = 4;
/// The first wait after a failure, and the longest.
const BACKOFF: Duration = Duration::from_millis(200);
const BACKOFF_MOST: Duration = Duration::from_secs(30);
/// A look that nothing asked for, against what no watch tells.
const FAR: Duration = Duration::from_hours(6);

/// One pass over one Rollout, or a few when the snapshot turns out old.
pub async fn reconcile(rollout: Arc<Rollout>, shell: Arc<Shell>) -> Result<Requeue, Error> {
    let name = shell.name_of(&rollout);
    let span = tracing::info_span!("pass", rollout = %name);
    async move {
        let began = Instant::now();
        let result = passes(&rollout, &shell, &name).await;
        let outcome = match &result {
            Ok(_) => "ok",
            Err(error) => error.metric_label(),
        };
        shell.metrics.pass(outcome, began.elapsed().as_secs_f64());
        if result.is_ok() {
            shell.calm(&name);
        }
        result
    }
    .instrument(span)
    .await
}

async fn passes(rollout: &Arc<Rollout>, shell: &Arc<Shell>, name: &str) -> Result<Requeue, Error> {
    let mut tries = 0;
    loop {
        tries += 1;
        let current = shell.newest(rollout);
        let error = match pass(&current, shell, name).await {
            Ok(requeue) => return Ok(requeue),
            Err(error) => error,
        };
        match error.class() {
            Class::Conflict if tries < PASSES_MOST => shell.reread(&current).await?,
            Class::Refused if tries < PASSES_MOST && shell.refuse(name, &error) => {}
            Class::Conflict | Class::Refused | Class::Transient | Class::NotLeading => {
                return Err(error);
            }
        }
    }
}

async fn pass(rollout: &Rollout, shell: &Arc<Shell>, name: &str) -> Result<Requeue, Error> {
    if !shell.leadership.may_write() {
        return Ok(Requeue::await_change());
    }
    let now = (shell.clock)();
    let (observed, read) = observe::observe(shell, rollout);
    shell.refer(name, read);
    let measured = shell.inbox.answers(name);
    let plan = plan::plan(&observed, &measured, now);
    for violation in invariant::check(&observed, &plan, now) {
        tracing::error!(%violation, "a plan breaks an invariant; please report it");
    }
    if !plan.is_idle(&observed.rollout.status) {
        tracing::debug!(phase = %plan.phase(), actions = plan.actions.len(), message = %plan.status.message, "planned");
    }
    let applied = carry_out(shell, &observed, &plan, name).await;
    ask(shell, &plan, name);
    applied?;
    settle(shell, &observed, &plan, &measured, name);
    Ok(plan.wake.map_or_else(
        || Requeue::requeue(FAR),
        |wake| Requeue::requeue(clock::until((shell.clock)(), wake.at).max(Duration::from_millis(1))),
    ))
}

/// Applies the plan; while the API server refuses a write, only the status says so.
async fn carry_out(shell: &Arc<Shell>, observed: &Observed, plan: &Plan, name: &str) -> Result<(), Error> {
    if let Some(message) = observed.refusal.clone().filter(|_| shell.tells_refusal(name)) {
        if plan.status != observed.rollout.status {
            apply::write_status(shell, observed, plan).await?;
        }
        return Err(Error::Told { message });
    }
    apply::apply(shell, observed, plan).await
}

/// Starts the queries that are due.
fn ask(shell: &Arc<Shell>, plan: &Plan, name: &str) {
    for query in &plan.queries {
        let spec = observe::provider(shell, &query.provider);
        let (trigger, rollout, metrics) = (shell.trigger.clone(), name.to_owned(), shell.metrics.clone());
        measure::start(&shell.inbox, &shell.meter, &shell.clock, (name, query.clone(), spec), move |is_ok| {
            metrics.query(is_ok);
            trigger.send(&rollout);
        });
    }
}

/// After a whole pass: answers are recorded, people are told.
fn settle(shell: &Arc<Shell>, observed: &Observed, plan: &Plan, measured: &[Measurement], name: &str) {
    shell.inbox.drop_recorded(name, measured);
    shell.forget_refusal(name);
    shell.in_phase(name, label(plan.phase()));
    let metadata = &observed.rollout.metadata;
    let about = ObjectReference {
        api_version: Some(names::API_VERSION.into()),
        kind: Some("Rollout".into()),
        namespace: metadata.namespace.clone(),
        name: metadata.name.clone(),
        uid: metadata.uid.clone(),
        resource_version: metadata.resource_version.clone(),
        field_path: None,
    };
    for note in &plan.notes {
        if note.is_warning {
            tracing::warn!(reason = %note.reason, message = %note.message);
        } else {
            tracing::info!(reason = %note.reason, message = %note.message);
        }
        shell.publisher.publish(about.clone(), note.clone());
    }
    for outcome in plan.status.history.iter().filter(|outcome| !observed.rollout.status.history.contains(outcome)) {
        shell.metrics.ended(match outcome.outcome {
            crate::api::status::OutcomeKind::Promoted => "promoted",
            crate::api::status::OutcomeKind::Aborted => "aborted",
            crate::api::status::OutcomeKind::Superseded => "superseded",
            crate::api::status::OutcomeKind::Reverted => "reverted",
        });
    }
}

/// A phase as a metric label.
pub fn label(phase: Phase) -> &'static str {
    match phase {
        Phase::Healthy => "Healthy",
        Phase::Progressing => "Progressing",
        Phase::Paused => "Paused",
        Phase::Degraded => "Degraded",
    }
}

/// When to try again after a failure; a fresh event does not wait for it.
pub fn on_error(rollout: &Arc<Rollout>, error: &Error, shell: &Arc<Shell>) -> Requeue {
    let name = shell.name_of(rollout);
    if error.class() == Class::NotLeading {
        return Requeue::await_change();
    }
    let failures = shell.fail(&name);
    let wait = BACKOFF.saturating_mul(1_u32 << failures.min(8)).min(BACKOFF_MOST);
    tracing::warn!(rollout = %name, %error, wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX), "the pass failed and is tried again");
    Requeue::requeue(wait)
}
