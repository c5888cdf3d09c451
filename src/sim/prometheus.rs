//! Prometheus as the story has it: answers by rule, slow, down. Keeps a record of what it answered, and to whom.
#![expect(clippy::indexing_slicing, reason = "a JSON value answers null for a key that it lacks")]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use serde_json::Value;
use tokio::time::{Instant, sleep};

use super::counters::{self, Parts};
use super::network::Link;
use super::story::{Answer, Health, Rule};
use crate::api::names;
use crate::api::provider::MetricProviderSpec;
use crate::api::status::Assessment;
use crate::controller::measure::Meter;
use crate::embedded::Cluster;
use crate::plan::condition;
use crate::plan::measurement::{Ask, Query, Sample, WebAnswer};

/// How long an answer takes.
const LATENCY: Duration = Duration::from_millis(30);
/// How long a provider is waited for.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Numbers that are tried for a good and for a bad answer, in order.
const CANDIDATES: [f64; 12] = [0.999, 0.5, 1.0, 0.0, 0.01, 2.0, 10.0, 50.0, 100.0, 500.0, 5_000.0, 1e9];

/// The Prometheus of a run.
pub struct Prometheus {
    cluster: Cluster,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    rules: Vec<Rule>,
    health: Health,
    weights: BTreeMap<String, f64>,
    answered: Vec<Answered>,
}

/// A query as it was answered to a living controller.
#[derive(Debug, Clone)]
pub struct Answered {
    /// The query's id.
    pub id: String,
    /// The revision that was measured.
    pub revision: String,
    /// The metric.
    pub metric: String,
    /// Which start of which controller asked.
    pub asker: u64,
    /// When it was asked.
    pub asked_at: Instant,
    /// When the answer came.
    pub answered_at: Instant,
    /// What it says of the revision; nothing for no data and for an error.
    pub assessment: Option<Assessment>,
    /// The number, or why there is none.
    pub value: String,
}

impl Prometheus {
    /// A Prometheus that answers every query well.
    pub fn new(cluster: Cluster) -> Arc<Self> {
        Arc::new(Self { cluster, inner: Mutex::default() })
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a rule.
    pub fn rule(&self, rule: Rule) {
        self.inner().rules.push(rule);
    }

    /// Changes how it does.
    pub fn set_health(&self, health: Health) {
        self.inner().health = health;
    }

    /// It answers, with numbers.
    pub fn heal(&self) {
        let mut inner = self.inner();
        inner.health = Health::Up;
        inner.rules.retain(|rule| !matches!(rule.answer, Answer::NotANumber | Answer::Nothing));
    }

    /// The weights that the proxies give now.
    pub fn see(&self, weights: &BTreeMap<String, f64>) {
        let mut inner = self.inner();
        if inner.weights != *weights {
            inner.weights.clone_from(weights);
        }
    }

    /// Reads every answer so far in place.
    pub fn read<T>(&self, reads: impl FnOnce(&[Answered]) -> T) -> T {
        reads(&self.inner().answered)
    }

    /// Every answer so far.
    pub fn answered(&self) -> Vec<Answered> {
        self.inner().answered.clone()
    }

    /// The answers since the n-th.
    pub fn answered_since(&self, from: usize) -> Vec<Answered> {
        self.inner().answered.get(from..).unwrap_or_default().to_vec()
    }

    /// Takes in what was measured otherwise.
    pub fn hear(&self, answered: Answered) {
        self.inner().answered.push(answered);
    }

    /// What the rules say of a metric of a revision.
    pub fn answer(&self, revision: &str, metric: &str) -> Answer {
        let image = self.image(revision);
        let inner = self.inner();
        let weight = inner.weights.get(revision).copied().unwrap_or(0.0);
        let applies = |rule: &&Rule| {
            rule.metric.as_ref().is_none_or(|own| own == metric)
                && rule.image.as_ref().is_none_or(|own| image.as_ref() == Some(own))
                && rule.from_weight.is_none_or(|from| weight + 0.5 >= f64::from(from))
        };
        inner.rules.iter().rev().find(applies).map(|rule| rule.answer).unwrap_or_default()
    }

    fn image(&self, revision: &str) -> Option<String> {
        let sets = self.cluster.list("replicasets");
        let own = sets.iter().find(|set| set["metadata"]["labels"][names::REVISION_HASH] == revision)?;
        own.pointer("/spec/template/spec/containers/0/image")?.as_str().map(str::to_owned)
    }

    /// The part of stable's pods that are the baseline of a canary.
    fn baseline(&self, canary: &str) -> f64 {
        let sets = self.cluster.list("replicasets");
        let labels = |set: &Value| set["metadata"]["labels"].clone();
        let Some(own) = sets.iter().find(|set| labels(set)[names::BASELINE] == canary) else { return 0.0 };
        let stable = sets.iter().filter(|set| labels(set)[names::REVISION_HASH] == labels(own)[names::REVISION_HASH]);
        let ready = |set: &Value| set["status"]["readyReplicas"].as_u64().and_then(|pods| u32::try_from(pods).ok());
        let all: f64 = stable.filter_map(|set| ready(set)).map(f64::from).sum();
        ready(own).map_or(0.0, |pods| f64::from(pods) / all.max(1.0))
    }

    /// The conditions of a metric.
    fn conditions(&self, metric: &str) -> (Option<String>, Option<String>) {
        let templates = ["analysistemplates", "clusteranalysistemplates"].map(|plural| self.cluster.list(plural));
        let mut metrics =
            templates.iter().flatten().filter_map(|template| template["spec"]["metrics"].as_array()).flatten();
        let own = metrics.find(|one| one["name"] == metric).cloned().unwrap_or_default();
        let text = |key: &str| own[key].as_str().map(str::to_owned);
        (text("successCondition"), text("failureCondition"))
    }

    /// A number that the conditions of a metric assess so, in the shape that they read.
    fn number(&self, metric: &str, wanted: Assessment) -> Sample {
        let (success, failure) = self.conditions(metric);
        let fits = |sample: &Sample| {
            condition::assess(sample, success.as_deref(), failure.as_deref()).is_ok_and(|found| found == wanted)
        };
        let vectors = CANDIDATES.iter().map(|number| Sample::Vector(vec![*number]));
        let scalars = CANDIDATES.iter().map(|number| Sample::Scalar(*number));
        vectors.chain(scalars).find(fits).unwrap_or(Sample::Vector(vec![1.0]))
    }

    /// What is answered to a query about a revision.
    fn sample(&self, revision: &str, metric: &str, ask: &Ask) -> Sample {
        let answer = self.answer(revision, metric);
        match ask {
            Ask::Value(_) => self.value(metric, answer),
            Ask::Web(_) => self.web(metric, answer),
            Ask::Counters(asked) => {
                let weight = self.inner().weights.get(revision).copied().unwrap_or(0.0);
                let parts = Parts { canary: revision, share: weight / 100.0, baseline: self.baseline(revision) };
                Sample::Counters(counters::answer(asked, parts, counters::REQUESTS, answer))
            }
        }
    }

    fn value(&self, metric: &str, answer: Answer) -> Sample {
        let reads_scalar = self.conditions(metric).0.is_some_and(|text| !text.contains("result["));
        let shaped = |number| if reads_scalar { Sample::Scalar(number) } else { Sample::Vector(vec![number]) };
        match answer {
            Answer::Good => self.number(metric, Assessment::Success),
            Answer::Bad => self.number(metric, Assessment::Failure),
            Answer::Value(number) => shaped(number),
            Answer::NotANumber => shaped(f64::NAN),
            Answer::Nothing => Sample::Vector(Vec::new()),
        }
    }

    /// What a server says: by its status where the metric has no conditions, else what they assess so.
    fn web(&self, metric: &str, answer: Answer) -> Sample {
        let (success, failure) = self.conditions(metric);
        let told = |status, values| Sample::Web(WebAnswer { status, values });
        if success.is_none() && failure.is_none() {
            return told(if matches!(answer, Answer::Bad) { 500 } else { 200 }, Vec::new());
        }
        let wanted = match answer {
            Answer::Good => Assessment::Success,
            Answer::Bad => Assessment::Failure,
            Answer::Value(number) => return told(200, vec![number.into()]),
            Answer::NotANumber | Answer::Nothing => return told(200, Vec::new()),
        };
        let flags = [true, false].map(Value::from).into_iter();
        let mut answers = flags.chain(CANDIDATES.iter().copied().map(Value::from)).map(|value| told(200, vec![value]));
        let fits = |sample: &Sample| {
            condition::assess(sample, success.as_deref(), failure.as_deref()).is_ok_and(|found| found == wanted)
        };
        answers.find(fits).unwrap_or_else(|| told(200, vec![Value::from(1.0)]))
    }

    fn assess(&self, metric: &str, sample: &Sample) -> Option<Assessment> {
        let (success, failure) = self.conditions(metric);
        if matches!(sample, Sample::Counters(_)) {
            return Some(Assessment::Counted);
        }
        let is_plain = success.is_none() && failure.is_none();
        let has_data = match sample {
            Sample::Scalar(number) => !number.is_nan(),
            Sample::Vector(numbers) => numbers.iter().any(|number| !number.is_nan()),
            Sample::Web(answer) if is_plain => {
                return Some(if answer.is_success() { Assessment::Success } else { Assessment::Failure });
            }
            Sample::Web(answer) => answer.is_success() && !answer.values.iter().all(Value::is_null),
            Sample::Job(_) | Sample::Counters(_) => false,
        };
        has_data.then(|| condition::assess(sample, success.as_deref(), failure.as_deref()).ok()).flatten()
    }
}

/// One controller's way to Prometheus.
pub struct Asker {
    /// The Prometheus.
    pub prometheus: Arc<Prometheus>,
    /// The controller's connection: a killed one hears no answer.
    pub link: Arc<Link>,
}

impl Meter for Asker {
    fn measure(&self, query: Query, _: MetricProviderSpec) -> BoxFuture<'static, Result<Sample, String>> {
        let (prometheus, link) = (self.prometheus.clone(), self.link.clone());
        async move {
            let asked_at = Instant::now();
            let mut parts = query.id.split('/');
            let revision = parts.next().unwrap_or_default().to_owned();
            let metric = parts.nth(3).unwrap_or_default().to_owned();
            let health = prometheus.inner().health;
            let outcome = match health {
                Health::Up => {
                    sleep(LATENCY).await;
                    Ok(prometheus.sample(&revision, &metric, &query.ask))
                }
                Health::Down => {
                    sleep(LATENCY).await;
                    Err("connection refused".to_owned())
                }
                Health::Slow(needs) if Duration::from_millis(needs) > TIMEOUT => {
                    sleep(TIMEOUT).await;
                    Err(format!("no answer within {} s", TIMEOUT.as_secs()))
                }
                Health::Slow(needs) => {
                    sleep(Duration::from_millis(needs)).await;
                    Ok(prometheus.sample(&revision, &metric, &query.ask))
                }
            };
            if link.is_cut() {
                return outcome;
            }
            let assessment = outcome.as_ref().ok().and_then(|sample| prometheus.assess(&metric, sample));
            let value = match &outcome {
                Ok(Sample::Scalar(number)) => number.to_string(),
                Ok(Sample::Vector(numbers)) if numbers.is_empty() => "no data".to_owned(),
                Ok(Sample::Vector(numbers)) => numbers.iter().map(f64::to_string).collect::<Vec<_>>().join(", "),
                Ok(Sample::Counters(counters)) => counters::told(counters),
                Ok(Sample::Web(answer)) => format!("HTTP {}", answer.status),
                Ok(Sample::Job(answer)) => answer.name.clone(),
                Err(error) => error.clone(),
            };
            let answered = Answered {
                id: query.id,
                revision,
                metric,
                asker: link.start,
                asked_at,
                answered_at: Instant::now(),
                assessment,
                value,
            };
            prometheus.inner().answered.push(answered);
            outcome
        }
        .boxed()
    }
}
