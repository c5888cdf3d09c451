//! `kubectl serin explain`: why a rollout does not move, or why it was aborted, with the evidence and the next thing to do.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use ratatui::style::{Modifier, Style};
use ratatui::text::Line;

use super::clock;
use super::cluster::{Cluster, Tree};
use super::outcome::Outcome;
use super::screen::Look;
use super::view::{age, pods_of, short};
use crate::api::status::{Aborted, AnalysisKind, MetricStatus, Phase, RevisionStatus, RolloutStatus, Verdict, Wait};

/// What a person can do about a wait, by its reason. `{name}` is the Rollout's.
const NEXT: &[(&str, &str)] = &[
    (
        "PodsNotReady",
        "look at the pods above; a canary that never gets them is aborted at spec.progressDeadlineSeconds",
    ),
    ("StableNotReady", "look at stable's pods; traffic moves as they become ready"),
    ("RouteSettling", "nothing: it is over in seconds"),
    (
        "RouteUnacknowledged",
        "look at the proxies that the message names, and at istiod: istioctl proxy-status; kubectl serin abort {name} takes the weight away at once",
    ),
    ("Draining", "nothing: it is over in seconds"),
    ("NoReplicas", "scale up: kubectl scale rollout/{name} --replicas=N, or in Git"),
    ("PausedByStep", "kubectl serin promote {name}, or kubectl serin abort {name}"),
    (
        "AwaitingApproval",
        "kubectl serin approve {name} --emit prints the approval to commit; kubectl serin approve {name} gives it at once",
    ),
    ("Held", "set spec.promotion.hold to false in Git"),
    ("OutsideWindow", "nothing: it goes on by itself; kubectl serin promote {name} --full does not wait"),
    ("Rejected", "push another revision, or take the rejection out of Git"),
    ("PausedBySpec", "set spec.paused to false in Git"),
    ("PausedByAction", "kubectl serin resume {name}, or kubectl serin abort {name}"),
    ("AnalysisRunning", "nothing: the analysis decides"),
    (
        "InsufficientTraffic",
        "send traffic to the canary, give it more weight, or lower minRequests; atMost ends the wait",
    ),
    ("NoData", "send traffic to the canary, correct the query, or set onNoData in the template"),
    ("ProviderDown", "repair the metric provider; it is asked again by itself"),
    (
        "Inconclusive",
        "kubectl serin promote {name} to go on, kubectl serin resume {name} to measure again, or kubectl serin abort {name}",
    ),
    ("InvalidSpec", "correct the field in Git; stable serves meanwhile"),
    ("TemplateMissing", "create the template, or correct its name in the Rollout"),
    ("TemplateInvalid", "correct the template"),
    ("ProviderMissing", "create the MetricProvider, or correct its name in the template"),
    ("ProviderInvalid", "correct the MetricProvider, or ask its administrator"),
    ("RouteContested", "let the other tool ignore them, as the condition RouteContested says"),
    ("RouteMissing", "create it as the message says"),
    ("RouteTaken", "remove the host there, or edit that route in place"),
    ("RouteNotMergeable", "remove the workloadSelector of the DestinationRule"),
    ("RouteRejected", "correct the HTTPRoute or its parent, as the message says"),
    ("ServiceMissing", "create the Service"),
    ("RoutePort", "write the Service's port into trafficRouting.istio.owned.port in Git"),
    ("ProgressDeadlineExceeded", "repair the pods, or kubectl serin abort {name}"),
    ("Restarting", "nothing: pods are replaced a few at a time"),
    ("EvictionRefused", "nothing; or look at the PodDisruptionBudget, which may allow none"),
    (
        "WorkloadUnlisted",
        "wait a few seconds; if it lasts, let the controller list Deployments: deploy/rbac.yaml, and kubectl serin doctor {name}",
    ),
    (
        "WorkloadMissing",
        "bring the Deployment back in Git, or correct its name in spec.workloadRef; a stable revision serves meanwhile",
    ),
    (
        "WorkloadScale",
        "write replicas: 0 into the Deployment in Git, or leave replicas out; the Rollout serves without its pods",
    ),
    (
        "RootMissing",
        "write the delegate into the VirtualService that holds the host, as the message says; the Deployment serves meanwhile",
    ),
    (
        "ConfigUnlisted",
        "wait a few seconds; if it lasts, bind the ClusterRole that the message names in this namespace",
    ),
    (
        "ConfigMissing",
        "bring it back in Git, or list it in spec.configSnapshots.except; pods that there are keep their copies",
    ),
    ("ConfigSettling", "nothing: it goes on by itself within five seconds"),
    (
        "CopyUndeleted",
        "nothing waits for it; read the message, and let the controller delete its copies in this namespace",
    ),
    (
        "JobsUnlisted",
        "wait a few seconds; if it lasts, let the controller list Jobs: deploy/rbac.yaml, or the chart's jobs.enabled",
    ),
    (
        "JobUndeleted",
        "nothing waits for it; read the message, and let the controller delete its Jobs in this namespace",
    ),
    ("WriteRefused", "read the message: quota, admission policy, permissions"),
];

/// Values of a metric that are quoted.
const QUOTED: usize = 5;

/// Which Rollout.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  kubectl serin explain checkout")]
pub struct Arguments {
    /// Name of the Rollout.
    #[arg(add = super::completion::rollouts(), value_parser = super::cluster::name)]
    name: String,
}

/// Explains one Rollout.
pub async fn run(cluster: &Cluster, arguments: &Arguments, look: Look) -> anyhow::Result<Outcome> {
    let tree = cluster.tree(&arguments.name).await?;
    look.print(&lines(&tree, clock::now()))?;
    Ok(Outcome::Reached)
}

/// The sentences.
pub fn lines(tree: &Tree, now: Timestamp) -> Vec<Line<'static>> {
    let status = &tree.rollout.status;
    let mut told = Told { name: tree.rollout.metadata.name.clone().unwrap_or_default(), lines: Vec::new() };
    let Some(phase) = status.phase else {
        told.say("No controller has looked at this Rollout yet.");
        told.next("kubectl get pods -n serin-system");
        return told.lines;
    };
    if tree.rollout.is_behind() {
        told.say("The controller has not seen the last change of the spec yet; what follows is from before.");
    }
    match (&status.aborted, phase) {
        (Some(aborted), _) => told.abort(tree, aborted, now),
        (None, Phase::Healthy) => told.health(status, now),
        (None, Phase::Progressing | Phase::Paused | Phase::Degraded) => told.progress(tree, now),
    }
    told.lines
}

/// What was told so far.
struct Told {
    name: String,
    lines: Vec<Line<'static>>,
}

impl Told {
    fn say(&mut self, text: impl Into<String>) {
        self.lines.push(Line::from(text.into()));
    }

    fn show(&mut self, evidence: impl Into<String>) {
        self.lines.push(Line::from(format!("  {}", evidence.into())));
    }

    fn next(&mut self, text: &str) {
        let text = format!("Next: {}", text.replace("{name}", &self.name));
        self.lines.push(Line::styled(text, Style::new().add_modifier(Modifier::BOLD)));
    }

    fn health(&mut self, status: &RolloutStatus, now: Timestamp) {
        let stable = status.stable.as_ref().map_or_else(|| "no revision".to_owned(), named);
        let since =
            status.history.last().map_or_else(String::new, |last| format!(", since {} ago", age(last.ended_at, now)));
        self.say(format!("{} is healthy: {stable} has all traffic{since}.", self.name));
        if let Some(last) = status.history.last() {
            self.show(format!("{}: {}", last.outcome, last.reason));
        }
        if let Some(commit) = status.accepted_commit() {
            self.say(format!(
                "Commit {} came after it and is accepted: it changes nothing in the pods.",
                short(commit)
            ));
        }
        for wait in &status.blocked_by {
            self.say(format!("It has waited {} for {}: {}.", age(wait.since, now), wait.reason, wait.message));
            self.next_of(wait);
        }
        if !status.blocked_by.is_empty() {
            return;
        }
        self.next("nothing; a new template in Git begins the next rollout");
    }

    fn abort(&mut self, tree: &Tree, aborted: &Aborted, now: Timestamp) {
        let status = &tree.rollout.status;
        let canary = status.canary.as_ref().map_or_else(|| format!("revision {}", aborted.hash), named);
        self.say(format!("{canary} was aborted {} ago: {}.", age(aborted.at, now), aborted.reason));
        self.show(aborted.message.clone());
        let failed = status.analysis.iter().filter(|analysis| analysis.verdict == Verdict::Fail);
        for (analysis, metric) in
            failed.flat_map(|analysis| analysis.metrics.iter().map(move |metric| (analysis, metric)))
        {
            if metric.verdict == Verdict::Fail {
                self.metric(tree, metric, analysis.kind, now);
            }
        }
        if aborted.reason == "ProgressDeadlineExceeded" {
            self.pods(tree, &aborted.hash);
        }
        let stable = status.stable.as_ref();
        let weight = stable.map_or(0, |stable| stable.observed_weight);
        self.say(format!("{} has {weight}% of the traffic.", stable.map_or_else(|| "Stable".to_owned(), named)));
        let commit = status.canary.as_ref().and_then(|canary| canary.commit.clone());
        let revert = commit.map_or_else(|| "revert the commit".to_owned(), |commit| format!("git revert {commit}"));
        self.next(&format!("{revert}, push a fix, or try it again: kubectl serin retry {{name}}"));
    }

    fn progress(&mut self, tree: &Tree, now: Timestamp) {
        let status = &tree.rollout.status;
        self.say(format!("{} is {}: {}.", self.name, status.phase.unwrap_or(Phase::Progressing), status.message));
        if status.blocked_by.is_empty() {
            self.next("nothing: it goes on by itself");
        }
        for wait in &status.blocked_by {
            self.wait(tree, wait, now);
        }
    }

    fn wait(&mut self, tree: &Tree, wait: &Wait, now: Timestamp) {
        let status = &tree.rollout.status;
        let until =
            wait.until.filter(|until| *until > now).map(|until| format!(", for {} more at most", age(now, until)));
        let message = Some(format!(": {}", wait.message)).filter(|_| !status.message.contains(&wait.message));
        self.say(format!(
            "It has waited {} for {}{}{}.",
            age(wait.since, now),
            wait.reason,
            until.unwrap_or_default(),
            message.unwrap_or_default()
        ));
        match wait.reason.as_str() {
            "PodsNotReady" | "ProgressDeadlineExceeded" => {
                let side = status.canary.as_ref().or(status.stable.as_ref());
                side.into_iter().for_each(|side| self.pods(tree, &side.hash));
            }
            "StableNotReady" => status.stable.iter().for_each(|stable| self.pods(tree, &stable.hash)),
            "AnalysisRunning" | "NoData" | "InsufficientTraffic" | "ProviderDown" | "Inconclusive" => {
                for analysis in &status.analysis {
                    analysis.metrics.iter().for_each(|metric| self.metric(tree, metric, analysis.kind, now));
                }
            }
            _ => {}
        }
        self.next_of(wait);
    }

    /// What a person can do about a wait.
    fn next_of(&mut self, wait: &Wait) {
        if let Some((_, next)) = NEXT.iter().find(|(reason, _)| *reason == wait.reason) {
            self.next(next);
        }
    }

    /// A metric's last values against its condition.
    fn metric(&mut self, tree: &Tree, metric: &MetricStatus, kind: AnalysisKind, now: Timestamp) {
        let wants = tree.condition(&metric.name).map_or_else(String::new, |condition| format!(" wants {condition}"));
        let place = match kind {
            AnalysisKind::Step => "",
            AnalysisKind::Background => ", in the background",
        };
        self.show(format!("metric {}{wants}{place}:", metric.name));
        let from = metric.measurements.len().saturating_sub(QUOTED);
        for measurement in metric.measurements.get(from..).unwrap_or_default() {
            self.show(format!(
                "  {:>4} ago  {}  {:?}",
                age(measurement.at, now),
                measurement.value,
                measurement.assessment
            ));
        }
        metric.evidence.iter().for_each(|evidence| self.show(format!("  {}", evidence.message)));
    }

    /// Why pods of a revision are not ready.
    fn pods(&mut self, tree: &Tree, hash: &str) {
        for pod in pods_of(tree, hash) {
            if let Some(why) = not_ready(pod) {
                self.show(format!("pod {}: {why}", pod.metadata.name.clone().unwrap_or_default()));
            }
        }
    }
}

/// `revision r12 (registry.example/checkout:2.4.0, commit 3f9a01c)`
fn named(side: &RevisionStatus) -> String {
    let commit = side.commit.as_ref().map_or_else(String::new, |commit| format!(", commit {commit}"));
    format!("revision r{} ({}{commit})", side.revision, side.image)
}

/// Why a pod is not ready; none where it is.
fn not_ready(pod: &Pod) -> Option<String> {
    let status = pod.status.as_ref()?;
    let why = |container: &ContainerStatus| {
        let waiting = container.state.as_ref().and_then(|state| state.waiting.as_ref());
        let ended = container.last_state.as_ref().and_then(|state| state.terminated.as_ref());
        let reason = waiting.and_then(|waiting| waiting.reason.clone()).unwrap_or_else(|| "not ready".to_owned());
        let message = waiting.and_then(|waiting| waiting.message.as_ref()).map(|message| format!(": {message}"));
        let ended = ended.map(|ended| format!(", it last ended with exit code {}", ended.exit_code));
        let restarts = (container.restart_count > 0).then(|| format!(", {} restarts", container.restart_count));
        format!(
            "container {} {reason}{}{}{}",
            container.name,
            message.unwrap_or_default(),
            restarts.unwrap_or_default(),
            ended.unwrap_or_default()
        )
    };
    let unready = status.container_statuses.as_deref().unwrap_or_default().iter().find(|container| !container.ready);
    let unmet = |kind: &'static str, word: &'static str| {
        let conditions = status.conditions.as_deref().unwrap_or_default();
        let unmet = conditions.iter().find(|condition| condition.type_ == kind && condition.status == "False")?;
        Some(format!("is not {word}: {}", unmet.message.clone().or(unmet.reason.clone()).unwrap_or_default()))
    };
    let pending = || (status.phase.as_deref() == Some("Pending")).then(|| "is pending".to_owned());
    unready.map(why).or_else(|| unmet("PodScheduled", "scheduled")).or_else(|| unmet("Ready", "ready")).or_else(pending)
}
