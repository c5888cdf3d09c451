//! Logs and the Prometheus registry. Label sets are bounded: the names of Rollouts stand in series that are made when they are
//! read, of what there is then ([`rollouts`]).

pub mod rollouts;

use std::fmt::{self, Debug};
use std::io::{self, IsTerminal as _};
use std::sync::atomic::AtomicI64;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use clap::ValueEnum;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;
use tracing_subscriber::EnvFilter;

use self::rollouts::{EachRollout, Rollouts};
use crate::api::status::{Aborted, AnalysisStatus, Outcome, OutcomeKind, RolloutStatus, Verdict};
use crate::api::watched::Rollout;
use crate::plan::contest;
use crate::plan::invariant::Violation;

/// Violations that are kept to be shown.
const VIOLATIONS_MOST: usize = 10;

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Whether log lines have colours: on a terminal, unless `NO_COLOR` is set.
pub fn has_color(no_color: &str, is_terminal: bool) -> bool {
    is_terminal && no_color.is_empty()
}

/// Sends logs to standard error; `no_color` is the variable's value.
pub fn init(format: LogFormat, filter: &str, no_color: &str) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(filter)?;
    let has_color = has_color(no_color, io::stderr().is_terminal());
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).with_ansi(has_color);
    let set = match format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    set.map_err(|error| anyhow::anyhow!("{error}"))
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Ended {
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Phase {
    phase: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Request {
    verb: &'static str,
    resource: &'static str,
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Asked {
    verb: &'static str,
    resource: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Decided {
    verdict: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Manager {
    manager: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Sent {
    result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Notification {
    kind: &'static str,
    result: &'static str,
}

/// A number that is asked for when it is read.
type Asking = Arc<OnceLock<Box<dyn Fn() -> usize + Send + Sync>>>;

/// Rollouts whose pass is due and has not begun.
struct Due(Asking);

impl Debug for Due {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Due")
    }
}

impl Collector for Due {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let help = "Rollouts whose pass is due and has not begun";
        let due = self.0.get().map_or(0, |due| i64::try_from(due()).unwrap_or(i64::MAX));
        let due = ConstGauge::new(due);
        due.encode(encoder.encode_descriptor("queue_depth", help, None, MetricType::Gauge)?)
    }
}

/// The controller's own metrics.
pub struct Metrics {
    registry: Registry,
    passes: Family<Ended, Counter>,
    pass_seconds: Histogram,
    queue_seconds: Histogram,
    requests: Family<Request, Counter>,
    request_seconds: Family<Asked, Histogram, fn() -> Histogram>,
    query_seconds: Histogram,
    queries: Family<Ended, Counter>,
    ended: Family<Ended, Counter>,
    rollout_seconds: Family<Ended, Histogram, fn() -> Histogram>,
    restore_seconds: Histogram,
    analyses: Family<Decided, Counter>,
    contested: Family<Manager, Counter>,
    spans: Family<Sent, Counter>,
    rollouts: Family<Phase, Gauge>,
    events_dropped: Counter,
    notifications: Family<Notification, Counter>,
    broken: Counter,
    violations: Mutex<Vec<String>>,
    leader: Gauge<i64, AtomicI64>,
    shard_members: Gauge<i64, AtomicI64>,
    shard_settled: Gauge<i64, AtomicI64>,
    all: Rollouts,
    due: Asking,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix("serin"),
            passes: Family::default(),
            pass_seconds: Histogram::new(exponential_buckets(0.000_5, 4.0, 8)),
            queue_seconds: Histogram::new(exponential_buckets(0.001, 4.0, 8)),
            requests: Family::default(),
            request_seconds: Family::new_with_constructor(|| Histogram::new(exponential_buckets(0.002, 3.0, 8))),
            queries: Family::default(),
            query_seconds: Histogram::new(exponential_buckets(0.005, 3.0, 8)),
            ended: Family::default(),
            rollout_seconds: Family::new_with_constructor(|| Histogram::new(exponential_buckets(15.0, 4.0, 9))),
            restore_seconds: Histogram::new(exponential_buckets(0.1, 2.0, 11)),
            analyses: Family::default(),
            contested: Family::default(),
            spans: Family::default(),
            rollouts: Family::default(),
            events_dropped: Counter::default(),
            notifications: Family::default(),
            broken: Counter::default(),
            violations: Mutex::default(),
            leader: Gauge::default(),
            shard_members: Gauge::default(),
            shard_settled: Gauge::default(),
            all: Rollouts::default(),
            due: Asking::default(),
        };
        metrics.register_work();
        metrics.register_rollouts();
        metrics
    }
}

impl Metrics {
    /// What the controller does.
    fn register_work(&mut self) {
        let registry = &mut self.registry;
        registry.register("passes", "Passes over a Rollout, by outcome", self.passes.clone());
        registry.register("pass_duration_seconds", "Time of a pass, its writes included", self.pass_seconds.clone());
        registry.register("queue_wait_seconds", "From when a pass is due until it begins", self.queue_seconds.clone());
        registry.register_collector(Box::new(Due(self.due.clone())));
        registry.register("requests", "Requests besides watches and leases", self.requests.clone());
        registry.register("request_duration_seconds", "Time of such a request", self.request_seconds.clone());
        registry.register("queries", "Queries to metric providers, by outcome", self.queries.clone());
        registry.register("query_duration_seconds", "Time of such a query", self.query_seconds.clone());
        registry.register("events_dropped", "Kubernetes Events that were not published", self.events_dropped.clone());
        registry.register("notifications", "Messages of channels, by service", self.notifications.clone());
        registry.register("spans", "Spans of traces: sent, failed, dropped", self.spans.clone());
        registry.register("broken_invariants", "Plans that broke a safety invariant: bugs", self.broken.clone());
        registry.register(
            "leader",
            "1 while this replica leads; where each has a share, on the first of the members",
            self.leader.clone(),
        );
        registry.register(
            "shard_members",
            "Replicas that live, as this one sees it; 0 where one leads",
            self.shard_members.clone(),
        );
        registry.register(
            "shard_settled",
            "1 while all replicas that live agree who they are; 0 where one leads",
            self.shard_settled.clone(),
        );
    }

    /// What becomes of Rollouts.
    fn register_rollouts(&mut self) {
        let registry = &mut self.registry;
        registry.register("rollouts", "Rollouts by phase", self.rollouts.clone());
        registry.register("rollouts_ended", "Rollouts that ended, by outcome", self.ended.clone());
        registry.register(
            "rollout_duration_seconds",
            "From the beginning of a rollout to its end, by outcome",
            self.rollout_seconds.clone(),
        );
        registry.register(
            "restore_seconds",
            "From an abort until no proxy sends the canary requests",
            self.restore_seconds.clone(),
        );
        registry.register("analyses", "Analyses that decided, by verdict", self.analyses.clone());
        registry.register(
            "contested_writes",
            "Writes of somebody else to what Serin wrote of a route, by field manager",
            self.contested.clone(),
        );
        registry.register_collector(Box::new(EachRollout { rollouts: self.all.clone() }));
        // Series that begin at 0: a rate does not count what a series begins with.
        for outcome in OUTCOMES.map(|outcome| Ended { outcome: ended(outcome) }) {
            let _ = self.ended.get_or_create(&outcome);
            let _ = self.rollout_seconds.get_or_create(&outcome);
        }
        for verdict in [Verdict::Pass, Verdict::Fail, Verdict::Inconclusive] {
            let _ = self.analyses.get_or_create(&Decided { verdict: rollouts::verdict(verdict) });
        }
    }

    /// A pass ended.
    pub fn pass(&self, outcome: &'static str, seconds: f64) {
        self.passes.get_or_create(&Ended { outcome }).inc();
        self.pass_seconds.observe(seconds);
    }

    /// A pass that was due began after so many seconds.
    pub fn waited(&self, seconds: f64) {
        self.queue_seconds.observe(seconds);
    }

    /// A request was answered, or not.
    pub fn request(&self, (resource, verb): (&'static str, &'static str), outcome: &'static str, seconds: f64) {
        self.requests.get_or_create(&Request { verb, resource, outcome }).inc();
        self.request_seconds.get_or_create(&Asked { verb, resource }).observe(seconds);
    }

    /// A query was answered, or not.
    pub fn query(&self, is_ok: bool, seconds: f64) {
        self.queries.get_or_create(&Ended { outcome: if is_ok { "ok" } else { "error" } }).inc();
        self.query_seconds.observe(seconds);
    }

    /// A status was written: rollouts that ended, traffic that is restored, analyses that decided, writes of others.
    pub fn wrote(&self, before: &RolloutStatus, after: &RolloutStatus) {
        let is_new = |outcome: &&Outcome| before.stable.is_some() && !before.history.contains(outcome);
        for outcome in after.history.iter().filter(is_new) {
            let label = Ended { outcome: ended(outcome.outcome) };
            self.ended.get_or_create(&label).inc();
            let seconds = outcome.ended_at.duration_since(outcome.started_at).as_secs_f64();
            self.rollout_seconds.get_or_create(&label).observe(seconds);
        }
        let restored = |status: &RolloutStatus| status.aborted.as_ref().and_then(Aborted::restored_in);
        if let (None, Some(seconds)) = (restored(before), restored(after)) {
            self.restore_seconds.observe(seconds);
        }
        let was_running = |analysis: &AnalysisStatus| {
            let same = |known: &&AnalysisStatus| known.kind == analysis.kind && known.started_at == analysis.started_at;
            before.analysis.iter().find(same).is_none_or(|known| known.verdict == Verdict::Running)
        };
        for analysis in after.analysis.iter().filter(|one| one.verdict != Verdict::Running && was_running(one)) {
            self.analyses.get_or_create(&Decided { verdict: rollouts::verdict(analysis.verdict) }).inc();
        }
        let told = after.conditions.iter().find(|condition| condition.kind == "RouteContested");
        let counts =
            |status: &RolloutStatus| status.route.as_ref().map_or([0, 0], |route| [route.contested, route.relabelled]);
        let more = counts(before).into_iter().zip(counts(after)).map(|(was, is)| (is - was).max(0)).sum::<i32>();
        if more > 0 {
            let manager = contest::manager(told.map_or("", |told| told.message.as_str()));
            self.contested.get_or_create(&Manager { manager }).inc_by(u64::from(more.unsigned_abs()));
        }
    }

    /// So many spans were sent, or why not.
    pub fn spans(&self, result: &'static str, count: usize) {
        self.spans.get_or_create(&Sent { result }).inc_by(u64::try_from(count).unwrap_or(u64::MAX));
    }

    /// A Rollout is in another phase than before; none for one that does not exist.
    pub fn phase(&self, before: Option<&'static str>, after: Option<&'static str>) {
        if before == after {
            return;
        }
        if let Some(phase) = before {
            self.rollouts.get_or_create(&Phase { phase }).dec();
        }
        if let Some(phase) = after {
            self.rollouts.get_or_create(&Phase { phase }).inc();
        }
    }

    /// An Event was not published.
    pub fn event_dropped(&self) {
        self.events_dropped.inc();
    }

    /// A message of a channel ended, or is tried again.
    pub fn notified(&self, kind: &'static str, result: &'static str) {
        self.notifications.get_or_create(&Notification { kind, result }).inc();
    }

    /// A plan broke an invariant.
    pub fn broke(&self, violation: &Violation) {
        self.broken.inc();
        let mut violations = self.violations.lock().unwrap_or_else(PoisonError::into_inner);
        if violations.len() < VIOLATIONS_MOST {
            violations.push(violation.to_string());
        }
    }

    /// The first violations of invariants.
    pub fn violations(&self) -> Vec<String> {
        self.violations.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether this replica leads.
    pub fn leads(&self, leads: bool) {
        self.leader.set(i64::from(leads));
    }

    /// How many replicas there are, where each has a share, and whether they agree on it.
    pub fn shards(&self, members: usize, is_settled: bool) {
        self.shard_members.set(i64::try_from(members).unwrap_or(i64::MAX));
        self.shard_settled.set(i64::from(is_settled));
    }

    /// Names where all Rollouts are found that this replica handles; once.
    pub fn find_rollouts(&self, all: impl Fn() -> Vec<Arc<Rollout>> + Send + Sync + 'static) {
        let _ = self.all.set(Box::new(all));
    }

    /// Names where the Rollouts are counted whose pass is due; once.
    pub fn find_due(&self, due: impl Fn() -> usize + Send + Sync + 'static) {
        let _ = self.due.set(Box::new(due));
    }

    /// All metrics in the OpenMetrics text format.
    pub fn text(&self) -> String {
        let mut out = String::new();
        let _ = text::encode(&mut out, &self.registry);
        out
    }
}

const OUTCOMES: [OutcomeKind; 4] =
    [OutcomeKind::Promoted, OutcomeKind::Aborted, OutcomeKind::Superseded, OutcomeKind::Reverted];

fn ended(outcome: OutcomeKind) -> &'static str {
    match outcome {
        OutcomeKind::Promoted => "promoted",
        OutcomeKind::Aborted => "aborted",
        OutcomeKind::Superseded => "superseded",
        OutcomeKind::Reverted => "reverted",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_are_for_terminals_that_want_them() {
        assert!(has_color("", true));
        assert!(!has_color("1", true), "NO_COLOR");
        assert!(!has_color("", false), "a file or a pipe");
    }

    #[test]
    fn each_rollout_has_a_series_while_it_is_there() {
        let rollouts: Arc<Mutex<Vec<Arc<Rollout>>>> = Arc::default();
        let metrics = Metrics::default();
        let all = rollouts.clone();
        metrics.find_rollouts(move || all.lock().unwrap().clone());
        let told = || metrics.text().lines().filter(|line| line.starts_with("serin_rollout_info{")).collect::<String>();
        let rollout = serde_json::json!({
            "metadata": {"name": "checkout", "namespace": "shop"},
            "status": {"observedGeneration": 1, "phase": "Healthy", "stable": {"hash": "7c9f", "revision": 1, "image": "checkout:1", "commit": "4f2a91c"}},
        });
        assert_eq!(told(), "", "there is none, or another replica handles it");
        rollouts.lock().unwrap().push(Arc::new(serde_json::from_value(rollout).unwrap()));
        assert_eq!(
            told(),
            r#"serin_rollout_info{rollout_namespace="shop",rollout="checkout",phase="Healthy",stable="7c9f",stable_commit="4f2a91c",canary="",canary_commit=""} 1.0"#
        );
        let of_it = |text: &str| text.lines().filter(|line| line.contains("rollout=\"checkout\"")).count();
        let text = metrics.text();
        assert!(of_it(&text) > 8, "{text}");
        rollouts.lock().unwrap().clear();
        assert_eq!(told(), "", "it is gone");
        assert_eq!(of_it(&metrics.text()), 0, "and all of its series");
    }

    fn status(value: serde_json::Value) -> RolloutStatus {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn what_a_status_tells_is_counted_once() {
        let metrics = Metrics::default();
        let analysis = |verdict: &str| serde_json::json!([{"kind": "Step", "step": 1, "startedAt": "2026-01-01T00:00:10Z", "verdict": verdict, "metrics": []}]);
        let outcome = serde_json::json!({"hash": "4a1b", "revision": 2, "outcome": "Aborted", "startedAt": "2026-01-01T00:00:00Z", "endedAt": "2026-01-01T00:01:40Z", "reason": ""});
        let aborted = |restored: Option<&str>| serde_json::json!({"hash": "4a1b", "at": "2026-01-01T00:01:40Z", "reason": "", "message": "", "restoredAt": restored});
        let conditions = serde_json::json!([{"type": "RouteContested", "status": "True", "reason": "WeightsReverted", "message": "argocd-controller changed the weights of VirtualService checkout 3 times during this rollout", "observedGeneration": 1, "lastTransitionTime": "2026-01-01T00:00:00Z"}]);
        let stable = serde_json::json!({"hash": "7c9f"});
        let course = [
            status(serde_json::json!({"stable": stable, "analysis": analysis("Running")})),
            status(
                serde_json::json!({"stable": stable, "analysis": analysis("Fail"), "history": [outcome], "aborted": aborted(None), "route": {"observed": "", "contested": 3}, "conditions": conditions}),
            ),
            status(
                serde_json::json!({"stable": stable, "analysis": analysis("Fail"), "history": [outcome], "aborted": aborted(Some("2026-01-01T00:01:42Z")), "route": {"observed": "", "contested": 3}, "conditions": conditions}),
            ),
        ];
        for (before, after) in course.iter().zip(&course[1..]).chain([(&course[2], &course[2])]) {
            metrics.wrote(before, after);
        }
        let text = metrics.text();
        for line in [
            "serin_rollouts_ended_total{outcome=\"promoted\"} 0",
            "serin_rollout_duration_seconds_count{outcome=\"promoted\"} 0",
            "serin_analyses_total{verdict=\"Pass\"} 0",
            "serin_rollouts_ended_total{outcome=\"aborted\"} 1",
            "serin_rollout_duration_seconds_sum{outcome=\"aborted\"} 100.0",
            "serin_restore_seconds_sum 2.0",
            "serin_restore_seconds_count 1",
            "serin_analyses_total{verdict=\"Fail\"} 1",
            "serin_contested_writes_total{manager=\"argocd-controller\"} 3",
        ] {
            assert!(text.lines().any(|one| one == line), "{line} is not in\n{text}");
        }
    }
}
