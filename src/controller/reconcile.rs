//! observe → plan → apply → measure: the only `reconcile`.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use tokio::time::Instant;
use tracing::Instrument;

use super::cache::Select;
use super::error::{Class, Error};
use super::{Shell, apply, clock, commit, measure, observe, proxies, trace};
use crate::api::names;
use crate::api::status::{Phase, RolloutStatus};
use crate::api::watched::Rollout;
use crate::plan::measurement::Measurement;
use crate::plan::narrate::Note;
use crate::plan::observed::Observed;
use crate::plan::status::is_pressing;
use crate::plan::{self, Plan, analysis};

/// Passes in a row after conflicts, before the next one waits for its turn.
const PASSES_MOST: usize = 4;
/// Plans in one pass, before the status is written and the next pass begins.
const ROUNDS_MOST: usize = 10;
/// No wait at all: the next pass begins once others have had their turn.
const AT_ONCE: Duration = Duration::from_millis(1);
/// The first wait after a failure, and the longest.
const BACKOFF: Duration = Duration::from_millis(200);
const BACKOFF_MOST: Duration = Duration::from_secs(30);
/// A look that nothing asked for, against what no watch tells.
const FAR: Duration = Duration::from_hours(6);

/// One pass over one Rollout, or a few when the snapshot turns out old; after what time to look again.
pub async fn reconcile(name: String, waited: Duration, shell: Arc<Shell>) -> Option<Duration> {
    shell.metrics.waited(waited.as_secs_f64());
    let span = tracing::info_span!("pass", rollout = %name);
    async move {
        let began = Instant::now();
        let result = passes(&shell, &name).await;
        let outcome = match &result {
            Ok(_) => "ok",
            Err(error) => error.metric_label(),
        };
        shell.metrics.pass(outcome, began.elapsed().as_secs_f64());
        match result {
            Ok(again) => {
                shell.calm(&name);
                again
            }
            Err(error) => after_failure(&name, &error, &shell),
        }
    }
    .instrument(span)
    .await
}

async fn passes(shell: &Arc<Shell>, name: &str) -> Result<Option<Duration>, Error> {
    let mut tries = 0;
    loop {
        tries += 1;
        let Some(rollout) = shell.rollout(name).filter(|_| !shell.leadership.is_of_another(name)) else {
            shell.forget(name);
            return Ok(None);
        };
        let Some(_permit) = shell.leadership.begin(name) else {
            return Err(Error::NotLeading);
        };
        let error = match Box::pin(pass(&rollout, shell, name)).await {
            Ok(again) => return Ok(again),
            Err(error) => error,
        };
        match error.class() {
            Class::Conflict if tries < PASSES_MOST => shell.reread_rollout(&rollout).await?,
            Class::Refused if tries < PASSES_MOST && shell.refuse(name, &error) => {}
            Class::Conflict | Class::Refused | Class::Transient | Class::NotLeading => {
                return Err(error);
            }
        }
    }
}

/// Plans and acts until nothing more can be done at once: each round sees the API server's answers to the one before.
/// The status is written once, at the end; a round that decides something writes it first.
async fn pass(rollout: &Arc<Rollout>, shell: &Arc<Shell>, name: &str) -> Result<Option<Duration>, Error> {
    let mut known = commit::of(shell, rollout).await;
    let mut pass = Pass {
        shell,
        name,
        stored: rollout.status.clone(),
        measured: Vec::new(),
        notes: Vec::new(),
        commit_again: known.again,
    };
    let mut status = rollout.status.clone();
    let mut rollout = rollout.clone();
    for round in 0..ROUNDS_MOST {
        let now = (shell.clock)();
        let (mut observed, read) = observe::observe(shell, &rollout);
        if let Some(left) = shell.list_wait(name).filter(|_| round == 0) {
            return Ok(Some(left));
        }
        observed.rollout.status = status;
        observed.commit.clone_from(&known.commit);
        observed.is_commit_unread = known.again.is_some();
        shell.refer(name, read);
        pass.measured = shell.inbox.answers(name);
        let (plan, violations) = plan::checked(&observed, &pass.measured, now);
        for violation in violations {
            tracing::error!(%violation, "a plan breaks an invariant; please report it");
            shell.metrics.broke(&violation);
        }
        if !plan.is_idle(&observed.rollout.status) {
            tracing::debug!(phase = %plan.phase(), actions = plan.actions.len(), message = %plan.status.message, "planned");
        }
        let carried = pass.carry_out(&observed, &plan).await;
        pass.ask(&plan);
        carried?;
        if plan.actions.is_empty() {
            inquire(shell, &plan, name);
            let again = pass.end(&observed, &plan).await?;
            pass.ask(&plan);
            return Ok(Some(again));
        }
        status = plan.status;
        let next = shell.rollout(name).unwrap_or_else(|| rollout.clone());
        // What came meanwhile may be of another commit.
        if next.metadata.generation != rollout.metadata.generation {
            known = commit::of(shell, &next).await;
            pass.commit_again = known.again;
        }
        rollout = next;
    }
    let (mut observed, _) = observe::observe(shell, &rollout);
    observed.rollout.status = pass.stored.clone();
    pass.store(&observed, &status).await?;
    Ok(Some(AT_ONCE))
}

/// A pass under way.
struct Pass<'a> {
    shell: &'a Arc<Shell>,
    name: &'a str,
    /// The status that the API server has.
    stored: RolloutStatus,
    /// Answers that the plans have counted and no stored status has.
    measured: Vec<Measurement>,
    /// What to tell people once the status is stored.
    notes: Vec<Note>,
    /// After what time the commit is asked for again.
    commit_again: Option<Duration>,
}

impl Pass<'_> {
    /// Carries a plan out; while the API server refuses a write, only the status says so.
    async fn carry_out(&mut self, observed: &Observed, plan: &Plan) -> Result<(), Error> {
        self.notes.extend(plan.notes.iter().cloned());
        if let Some(message) = observed.refusal.clone().filter(|_| self.shell.tells_refusal(self.name)) {
            self.store(observed, &plan.status).await?;
            return Err(Error::Told { message });
        }
        let recorded = if plan.is_status_first { self.store(observed, &plan.status).await } else { Ok(()) };
        if recorded.is_err() && !plan.withdraws_canary {
            return recorded;
        }
        if plan.watches_pods {
            let rollout = self.name.split_once('/').map_or("", |(_, name)| name);
            let pods = Select::Labels(format!("{}={rollout}", names::ROLLOUT));
            self.shell.pods.begin(&self.shell.client, self.name, pods, &self.shell.queue);
        } else {
            self.shell.pods.end(self.name);
        }
        apply::apply(self.shell, observed, plan, recorded.is_ok()).await?;
        recorded
    }

    /// Writes the status where it differs, and tells people what it says.
    async fn store(&mut self, observed: &Observed, status: &RolloutStatus) -> Result<(), Error> {
        if *status != self.stored {
            apply::write_status(self.shell, observed, status).await?;
            self.shell.store(self.name);
        }
        self.shell.inbox.drop_recorded(self.name, &self.measured);
        let before = std::mem::replace(&mut self.stored, status.clone());
        tell(self.shell, observed, (&before, status), std::mem::take(&mut self.notes));
        Ok(())
    }

    /// Ends the pass: the status is stored, unless it differs in counts alone and was stored a moment ago.
    async fn end(&mut self, observed: &Observed, plan: &Plan) -> Result<Duration, Error> {
        let wake = plan.wake.as_ref().map(|wake| clock::until((self.shell.clock)(), wake.at).max(AT_ONCE));
        let is_pressing = is_pressing(&self.stored, &plan.status) || !self.measured.is_empty();
        let wait = if is_pressing { None } else { self.shell.may_wait(self.name) };
        if wait.is_none() || plan.status == self.stored {
            self.store(observed, &plan.status).await?;
        }
        self.shell.forget_refusal(self.name);
        self.shell.in_phase(self.name, label(plan.phase()));
        let wait = wait.filter(|_| plan.status != self.stored);
        Ok(wake.into_iter().chain(wait).chain(self.commit_again).min().unwrap_or(FAR))
    }

    /// Starts the queries that are due, of the analyses that the stored status has: one whose beginning could not be stored
    /// begins anew in the next pass, and no answer to the one before counts.
    fn ask(&self, plan: &Plan) {
        let shell = self.shell;
        for query in plan.queries.iter().filter(|query| analysis::is_of(&self.stored, query)) {
            let spec = observe::provider(shell, &query.provider);
            let (queue, rollout, metrics) = (shell.queue.clone(), self.name.to_owned(), shell.metrics.clone());
            measure::start(
                &shell.inbox,
                &shell.meter,
                &shell.clock,
                (self.name, query.clone(), spec),
                move |is_ok, seconds| {
                    metrics.query(is_ok, seconds);
                    queue.ask(&rollout);
                },
            );
        }
    }
}

/// Asks the proxies for the route that they have not acknowledged.
fn inquire(shell: &Arc<Shell>, plan: &Plan, name: &str) {
    let (Some(proxies), Some(question)) = (&shell.proxies, &plan.question) else {
        shell.inquiries.end(name);
        return;
    };
    let (queue, rollout) = (shell.queue.clone(), name.to_owned());
    let since = plan.status.route.as_ref().and_then(|route| route.since);
    let age = since.map(|since| (shell.clock)().duration_since(since)).and_then(|age| Duration::try_from(age).ok());
    let asked = (name, question, age.unwrap_or_default());
    proxies::begin(&shell.inquiries, proxies.as_ref(), asked, move || queue.ask(&rollout));
}

/// Tells people what a stored status says that the one before did not.
fn tell(shell: &Shell, observed: &Observed, (before, after): (&RolloutStatus, &RolloutStatus), notes: Vec<Note>) {
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
    for note in notes {
        if note.is_warning {
            tracing::warn!(reason = %note.reason, message = %note.message);
        } else {
            tracing::info!(reason = %note.reason, message = %note.message);
        }
        shell.publisher.publish(about.clone(), note);
    }
    shell.metrics.wrote(before, after);
    if let Some(tracer) = &shell.tracer {
        tracer.send(trace::spans(&observed.rollout, before, after, (shell.clock)()));
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
fn after_failure(name: &str, error: &Error, shell: &Arc<Shell>) -> Option<Duration> {
    if error.class() == Class::NotLeading {
        shell.defer(name);
        return None;
    }
    let failures = shell.fail(name);
    let wait = BACKOFF.saturating_mul(1_u32 << failures.min(8)).min(BACKOFF_MOST);
    tracing::warn!(rollout = %name, %error, wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX), "the pass failed and is tried again");
    Some(wait)
}
