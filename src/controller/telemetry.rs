//! Logs and the Prometheus registry. Label sets are bounded: the names of Rollouts stand in those of one metric alone, which is
//! made when it is read, of what there is then.

use std::fmt::{self, Debug};
use std::io::{self, IsTerminal as _};
use std::sync::atomic::AtomicI64;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use clap::ValueEnum;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;
use tracing_subscriber::EnvFilter;

use crate::api::status::RevisionStatus;
use crate::api::watched::Rollout;
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
struct Outcome {
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

/// What a Rollout is at. A label `namespace` would be the scraped process's own.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Info {
    rollout_namespace: String,
    rollout: String,
    phase: String,
    stable: String,
    stable_commit: String,
    canary: String,
    canary_commit: String,
}

impl Info {
    fn of(rollout: &Rollout) -> Self {
        let (stable, canary) = (rollout.status.stable.as_ref(), rollout.status.canary.as_ref());
        let hash = |side: Option<&RevisionStatus>| side.map(|side| side.hash.clone()).unwrap_or_default();
        let commit = |side: Option<&RevisionStatus>| side.and_then(|side| side.commit.clone()).unwrap_or_default();
        Self {
            rollout_namespace: rollout.metadata.namespace.clone().unwrap_or_default(),
            rollout: rollout.metadata.name.clone().unwrap_or_default(),
            phase: rollout.status.phase.map(|phase| phase.to_string()).unwrap_or_default(),
            stable: hash(stable),
            stable_commit: commit(stable),
            canary: hash(canary),
            canary_commit: commit(canary),
        }
    }
}

/// All Rollouts that this replica handles, once they are known.
type Rollouts = Arc<OnceLock<Box<dyn Fn() -> Vec<Arc<Rollout>> + Send + Sync>>>;

/// One series a Rollout that this replica handles, so that each is there once.
struct Infos {
    rollouts: Rollouts,
}

impl Debug for Infos {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Infos")
    }
}

impl Collector for Infos {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Some(rollouts) = self.rollouts.get() else {
            return Ok(());
        };
        let help = "What each Rollout is at: its phase, and the revisions with the commits that brought them";
        let rollouts = rollouts();
        if rollouts.is_empty() {
            return Ok(());
        }
        let mut family = encoder.encode_descriptor("rollout_info", help, None, MetricType::Gauge)?;
        for rollout in rollouts {
            family.encode_family(&Info::of(&rollout))?.encode_gauge(&1_i64)?;
        }
        Ok(())
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Notification {
    kind: &'static str,
    result: &'static str,
}

/// The controller's own metrics.
pub struct Metrics {
    registry: Registry,
    passes: Family<Outcome, Counter>,
    pass_seconds: Histogram,
    requests: Family<Request, Counter>,
    queries: Family<Outcome, Counter>,
    ended: Family<Outcome, Counter>,
    rollouts: Family<Phase, Gauge>,
    events_dropped: Counter,
    notifications: Family<Notification, Counter>,
    broken: Counter,
    violations: Mutex<Vec<String>>,
    leader: Gauge<i64, AtomicI64>,
    shard_members: Gauge<i64, AtomicI64>,
    shard_settled: Gauge<i64, AtomicI64>,
    all: Rollouts,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix("serin"),
            passes: Family::default(),
            pass_seconds: Histogram::new(exponential_buckets(0.000_5, 4.0, 8)),
            requests: Family::default(),
            queries: Family::default(),
            ended: Family::default(),
            rollouts: Family::default(),
            events_dropped: Counter::default(),
            notifications: Family::default(),
            broken: Counter::default(),
            violations: Mutex::default(),
            leader: Gauge::default(),
            shard_members: Gauge::default(),
            shard_settled: Gauge::default(),
            all: Rollouts::default(),
        };
        let registry = &mut metrics.registry;
        registry.register("passes", "Passes over a Rollout, by outcome", metrics.passes.clone());
        registry.register("pass_duration_seconds", "Time of a pass, its writes included", metrics.pass_seconds.clone());
        registry.register("requests", "Requests besides watches and leases", metrics.requests.clone());
        registry.register("queries", "Queries to metric providers, by outcome", metrics.queries.clone());
        registry.register("rollouts_ended", "Rollouts that ended, by outcome", metrics.ended.clone());
        registry.register("rollouts", "Rollouts by phase", metrics.rollouts.clone());
        registry.register(
            "events_dropped",
            "Kubernetes Events that were not published",
            metrics.events_dropped.clone(),
        );
        registry.register("notifications", "Messages of channels, by service", metrics.notifications.clone());
        registry.register("broken_invariants", "Plans that broke a safety invariant: bugs", metrics.broken.clone());
        registry.register(
            "leader",
            "1 while this replica leads; where each has a share, on the first of the members",
            metrics.leader.clone(),
        );
        registry.register(
            "shard_members",
            "Replicas that live, as this one sees it; 0 where one leads",
            metrics.shard_members.clone(),
        );
        registry.register(
            "shard_settled",
            "1 while all replicas that live agree who they are; 0 where one leads",
            metrics.shard_settled.clone(),
        );
        registry.register_collector(Box::new(Infos { rollouts: metrics.all.clone() }));
        metrics
    }
}

impl Metrics {
    /// A pass ended.
    pub fn pass(&self, outcome: &'static str, seconds: f64) {
        self.passes.get_or_create(&Outcome { outcome }).inc();
        self.pass_seconds.observe(seconds);
    }

    /// A request was answered, or not.
    pub fn request(&self, resource: &'static str, verb: &'static str, outcome: &'static str) {
        self.requests.get_or_create(&Request { verb, resource, outcome }).inc();
    }

    /// A query was answered, or not.
    pub fn query(&self, is_ok: bool) {
        self.queries.get_or_create(&Outcome { outcome: if is_ok { "ok" } else { "error" } }).inc();
    }

    /// A rollout ended.
    pub fn ended(&self, outcome: &'static str) {
        self.ended.get_or_create(&Outcome { outcome }).inc();
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

    /// All metrics in the OpenMetrics text format.
    pub fn text(&self) -> String {
        let mut out = String::new();
        let _ = text::encode(&mut out, &self.registry);
        out
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
            r#"serin_rollout_info{rollout_namespace="shop",rollout="checkout",phase="Healthy",stable="7c9f",stable_commit="4f2a91c",canary="",canary_commit=""} 1"#
        );
        rollouts.lock().unwrap().clear();
        assert_eq!(told(), "", "it is gone");
    }
}
