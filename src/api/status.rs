//! `Rollout` status: all that Serin remembers, and all that it tells.

use std::fmt;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::config::ConfigKind;
use super::event::RolloutEvent;
pub use super::evidence::{BaselineStatus, EvidenceStatus, EvidenceVerdict, Memory, RatioStatus, Requests};
use super::job::JobStatus;
pub use super::route::{AskedSides, RouteStatus};

/// The whole status. Serin writes it whole, and only when it changes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct RolloutStatus {
    /// The generation that this status speaks of.
    #[schemars(extend("default" = -1))]
    pub observed_generation: i64,
    /// One word for people: Healthy, Progressing, Paused or Degraded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phase: Option<Phase>,
    /// One sentence: what is going on, and what is awaited.
    pub message: String,
    /// The commit that was read last, from the annotation `serin.dev/git-commit`. One that changes nothing in the pod template
    /// begins no revision, so that it is here alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// Each thing that is awaited.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub blocked_by: Vec<Wait>,
    /// Pods of all revisions.
    pub replicas: i32,
    /// Ready pods of all revisions.
    pub ready_replicas: i32,
    /// Available pods of all revisions.
    pub available_replicas: i32,
    /// The selector as text, for the scale subresource.
    pub selector: String,
    /// The Deployment that `spec.workloadRef` names, as last read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workload: Option<WorkloadStatus>,
    /// Kinds of which there are copies for this Rollout: they are watched until the last copy is gone.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub config_copies: Vec<ConfigKind>,
    /// Jobs of metrics that there are, those that are over among them: they are watched until the last one is gone.
    #[serde(skip_serializing_if = "is_zero")]
    pub jobs: i32,
    /// The revision that serves when nothing is in progress.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stable: Option<RevisionStatus>,
    /// The revision under test, or the one that was aborted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub canary: Option<RevisionStatus>,
    /// The pods that the canary is held against by `against: baseline`; of stable's revision, and none of stable's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub baseline: Option<BaselineStatus>,
    /// Index of the current step, counting from 0; the number of steps when all are passed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub current_step_index: Option<i32>,
    /// The step under way among all, counting from 1, such as `2/5`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub step: Option<String>,
    /// The attempt under way: its step and what it waits for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempt: Option<Attempt>,
    /// The failed revision, while the template still asks for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub aborted: Option<Aborted>,
    /// A pause by action.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub paused: Option<Decision>,
    /// A restart of the pods that an action asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restart: Option<Decision>,
    /// Pods older than this were restarted: the last `restartAt`, or the time of the last action, that is done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restarted_at: Option<Timestamp>,
    /// The route as last observed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub route: Option<RouteStatus>,
    /// The running analyses, and those that decided.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub analysis: Vec<AnalysisStatus>,
    /// Revisions that no longer get traffic and wait to be scaled down.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub draining: Vec<Draining>,
    /// The last ten outcomes, newest last.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<Outcome>,
    /// The last ten decisions, newest last.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub decisions: Vec<Decision>,
    /// The last twenty events, newest last: what notification channels tell.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub events: Vec<RolloutEvent>,
    /// Actions that are decided and whose answer may not be written yet.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub handled_actions: Vec<HandledAction>,
    /// Conditions, kstatus-compatible.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}

impl RolloutStatus {
    /// The canary, while it is in progress: not after an abort.
    pub fn in_progress(&self) -> Option<&RevisionStatus> {
        self.canary.as_ref().filter(|_| self.aborted.is_none())
    }

    /// The last commit, where it came after the one that brought the revision that Git asks for, and changed nothing of it.
    pub fn accepted_commit(&self) -> Option<&str> {
        let asked = self.canary.as_ref().or(self.stable.as_ref()).filter(|_| self.aborted.is_none())?;
        let (last, brought) = (self.commit.as_deref()?, asked.commit.as_deref()?);
        (last != brought).then_some(last)
    }
}

impl Default for RolloutStatus {
    fn default() -> Self {
        Self {
            observed_generation: -1,
            phase: None,
            message: String::new(),
            commit: None,
            blocked_by: Vec::new(),
            replicas: 0,
            ready_replicas: 0,
            available_replicas: 0,
            selector: String::new(),
            workload: None,
            config_copies: Vec::new(),
            jobs: 0,
            stable: None,
            canary: None,
            baseline: None,
            current_step_index: None,
            step: None,
            attempt: None,
            aborted: None,
            paused: None,
            restart: None,
            restarted_at: None,
            route: None,
            analysis: Vec::new(),
            draining: Vec::new(),
            history: Vec::new(),
            decisions: Vec::new(),
            events: Vec::new(),
            handled_actions: Vec::new(),
            conditions: Vec::new(),
        }
    }
}

/// The one-word summary.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum Phase {
    /// Promoted and at rest.
    Healthy,
    /// A step or an analysis is under way.
    Progressing,
    /// Waits for a person, a time or data.
    Paused,
    /// Aborted, or cannot go on.
    Degraded,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Healthy => "Healthy",
            Self::Progressing => "Progressing",
            Self::Paused => "Paused",
            Self::Degraded => "Degraded",
        })
    }
}

/// A Deployment whose pod template is the Rollout's. Its template's hash may come out differently when Kubernetes fills in a
/// new field, or Serin knows a new default; that is no new revision.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct WorkloadStatus {
    /// Its UID.
    pub uid: String,
    /// The generation of its spec.
    pub generation: i64,
    /// Pods that it wants.
    pub replicas: i32,
    /// Hash of its template without what Kubernetes fills in.
    pub template_hash: String,
    /// The revision hash of that template.
    pub revision_hash: String,
}

/// One thing that is awaited.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Wait {
    /// A word from a documented list, such as `PodsNotReady`.
    pub reason: String,
    /// What is awaited and what to do, for people.
    pub message: String,
    /// Since when.
    pub since: Timestamp,
    /// Until when at most, where that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
}

/// One revision: what it is and what it has.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct RevisionStatus {
    /// Revision hash.
    pub hash: String,
    /// Revision number, counting from 1.
    pub revision: i64,
    /// Images of its containers, joined by commas.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub image: String,
    /// Commit that brought it, from the annotation `serin.dev/git-commit`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// The generation that brought it, while the commit of that could not be read and is asked for again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unread_generation: Option<i64>,
    /// Author of that commit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// Label `app.kubernetes.io/version` of its pod template, else of the Rollout when the revision began.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Pods wanted.
    pub replicas: i32,
    /// When it was last seen to have lost pods, while there is a canary.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shrunk_at: Option<Timestamp>,
    /// Pods ready.
    pub ready: i32,
    /// Percent of traffic wanted.
    pub weight: i32,
    /// Percent of traffic that the route says now.
    pub observed_weight: i32,
    /// Percent of traffic by the last route that every proxy has, while there is a canary: acknowledged by all of them, or
    /// where nobody can be asked, assumed after a wait.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight_in_force: Option<i32>,
}

/// One try of one revision.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Attempt {
    /// 1 for the first try of a revision; a retry counts up.
    pub number: i32,
    /// When the try began.
    pub started_at: Timestamp,
    /// Number of steps.
    pub steps: i32,
    /// Hash of the steps already passed; when it changes the steps begin again.
    pub passed_steps: String,
    /// When the current step began.
    pub step_started_at: Timestamp,
    /// The weight of the last `setWeight` step that was passed.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub weight: i32,
    /// Whether the remaining steps are skipped: by a promoteFull or a rollback within the window, both on record.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub skip_steps: bool,
    /// Since when the canary has too few pods, and the most it had since.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub short_of_pods: Option<ShortOfPods>,
    /// Its approvals that are on record: those of passed steps, and those that `RolloutAction`s gave.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub approvals: Vec<Approval>,
    /// What its metrics with `compare` and `limit` have seen so far, over all steps.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub evidence: Vec<Memory>,
    /// Pauses of the current step that came and went by themselves: one that comes back soon is not told again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pauses: Vec<EndedPause>,
}

/// A pause that has ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EndedPause {
    /// Index of the step, counting from 0.
    pub step: i32,
    /// Why it waited.
    pub reason: String,
    /// When it went on.
    pub ended_at: Timestamp,
}

/// An approval of one step for the revision of an attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Approval {
    /// Name of the step.
    pub step: String,
    /// When it was seen.
    pub at: Timestamp,
    /// Who gave it, as Git or the `RolloutAction` says.
    pub by: String,
    /// Why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The commit that held it when it was seen; absent for a `RolloutAction`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
}

/// A wait for pods.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ShortOfPods {
    /// When it began, or when a pod was last gained.
    pub since: Timestamp,
    /// The most pods that were available since then.
    pub most: i32,
}

/// A failed revision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Aborted {
    /// Revision hash.
    pub hash: String,
    /// When.
    pub at: Timestamp,
    /// Why: a word from a documented list, such as `AnalysisFailed`.
    pub reason: String,
    /// The evidence.
    pub message: String,
    /// Since when no proxy sends it requests: acknowledged by all of them, or where nobody can be asked, assumed after a wait.
    #[serde(default, rename = "restoredAt", skip_serializing_if = "Option::is_none")]
    pub restored_at: Option<Timestamp>,
    /// What `spec.promotion.retry` was at the time; more of it begins the revision again.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub retry: i32,
}

impl Aborted {
    /// Seconds from the decision until no proxy sent it requests any more, to a tenth.
    pub fn restored_in(&self) -> Option<f64> {
        let restored = self.restored_at?.duration_since(self.at);
        Some((restored.as_secs_f64() * 10.0).round() / 10.0)
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
pub(super) fn is_zero(number: &i32) -> bool {
    *number == 0
}

/// Where an analysis belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum AnalysisKind {
    /// One step.
    Step,
    /// In the background of the steps.
    Background,
}

/// One analysis of one attempt.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AnalysisStatus {
    /// Where it belongs.
    pub kind: AnalysisKind,
    /// The step, of a step's analysis.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub step: Option<i32>,
    /// When it began; measurements begin later.
    pub started_at: Timestamp,
    /// Its verdict.
    pub verdict: Verdict,
    /// Its metrics.
    pub metrics: Vec<MetricStatus>,
}

/// What an analysis or a metric has decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Verdict {
    /// Nothing yet.
    Running,
    /// Good.
    Pass,
    /// Bad.
    Fail,
    /// Neither, more often than its limit allows.
    Inconclusive,
}

/// One metric of an analysis.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct MetricStatus {
    /// Its name.
    pub name: String,
    /// Its verdict.
    pub verdict: Verdict,
    /// Whether it judges nothing.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub dry_run: bool,
    /// Since when all its measurements fail, where it has `for`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failing_since: Option<Timestamp>,
    /// All measurements taken, those without data and with errors too.
    pub taken: i32,
    /// Measurements that succeeded.
    pub successes: i32,
    /// Measurements that failed.
    pub failures: i32,
    /// Measurements that were neither.
    pub inconclusive: i32,
    /// Measurements without data.
    pub no_data: i32,
    /// Measurements with an error.
    pub errors: i32,
    /// Errors in a row.
    pub consecutive_errors: i32,
    /// Successes in a row.
    pub consecutive_successes: i32,
    /// The last ten measurements, newest last.
    pub measurements: Vec<MeasurementStatus>,
    /// What a metric with `compare` or `limit` has seen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub evidence: Option<EvidenceStatus>,
    /// The Job of the measurement that is under way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub job: Option<JobStatus>,
}

impl Default for MetricStatus {
    fn default() -> Self {
        Self {
            name: String::new(),
            verdict: Verdict::Running,
            dry_run: false,
            failing_since: None,
            taken: 0,
            successes: 0,
            failures: 0,
            inconclusive: 0,
            no_data: 0,
            errors: 0,
            consecutive_errors: 0,
            consecutive_successes: 0,
            measurements: Vec::new(),
            evidence: None,
            job: None,
        }
    }
}

/// What one measurement said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Assessment {
    /// The success condition held.
    Success,
    /// The failure condition held, or the success condition did not.
    Failure,
    /// Neither condition held.
    Inconclusive,
    /// A window was counted, and nothing is proven yet.
    Counted,
    /// It fails, and has not done so for as long as `for` says.
    Pending,
    /// An empty answer, or NaN.
    NoData,
    /// No answer, or one that cannot be judged.
    Error,
}

/// One measurement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MeasurementStatus {
    /// When the query was sent; of a Job, when it was seen to be over.
    pub at: Timestamp,
    /// What it said.
    pub assessment: Assessment,
    /// The value as text, or the error.
    pub value: String,
}

/// A revision that waits to be scaled down.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Draining {
    /// Revision hash.
    pub hash: String,
    /// Why: Promoted, Aborted, Superseded or Reverted.
    pub reason: OutcomeKind,
    /// Since when no route selects it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// Since when every proxy is known to have a route that does not select it; its delay counts from here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acknowledged: Option<Timestamp>,
}

/// How a rollout ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum OutcomeKind {
    /// The canary became stable.
    Promoted,
    /// The canary failed or was stopped.
    Aborted,
    /// A newer template came.
    Superseded,
    /// The template went back to stable.
    Reverted,
}

impl fmt::Display for OutcomeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Promoted => "Promoted",
            Self::Aborted => "Aborted",
            Self::Superseded => "Superseded",
            Self::Reverted => "Reverted",
        })
    }
}

/// One rollout that ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Outcome {
    /// Revision hash.
    pub hash: String,
    /// Revision number.
    pub revision: i64,
    /// Commit that brought it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// How it ended.
    pub outcome: OutcomeKind,
    /// When it began.
    pub started_at: Timestamp,
    /// When it ended.
    pub ended_at: Timestamp,
    /// Why.
    pub reason: String,
}

/// One decision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Decision {
    /// When.
    pub at: Timestamp,
    /// Who: `serin`, or the person that an action names.
    pub by: String,
    /// What, from a documented list, such as `Abort`.
    pub what: String,
    /// The evidence, or the reason given.
    pub why: String,
    /// The commit that declares it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
}

/// An action that is decided.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HandledAction {
    /// UID of the `RolloutAction`.
    pub uid: String,
    /// Whether it was done.
    pub accepted: bool,
    /// The answer.
    pub message: String,
    /// When it was decided.
    pub at: Timestamp,
}

/// A Kubernetes condition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// Its name.
    #[serde(rename = "type")]
    pub kind: String,
    /// True, False or Unknown.
    pub status: String,
    /// A word.
    pub reason: String,
    /// A sentence.
    pub message: String,
    /// The generation that it speaks of.
    pub observed_generation: i64,
    /// When its status last changed.
    pub last_transition_time: Timestamp,
}
