//! What a message may say: the facts of one event, from the Rollout as it is known when the message is sent.

use serde::Serialize;
use serde_json::Value;

use super::template::Template;
use crate::api::event::RolloutEvent;
use crate::api::names;
use crate::api::notification::MessageTemplate;
use crate::api::status::{Assessment, MetricStatus, RevisionStatus, RolloutStatus, Verdict};
use crate::api::watched::Rollout;

/// The title where a channel has none.
pub const TITLE: &str = "{{ namespace }}/{{ rollout }}: {{ reason }}";
/// The text where a channel has none.
pub const BODY: &str = "{{ message }}
{% if metric.name %}metric {{ metric.name }}: {{ metric.value }}{% endif %}
{% if canary.hash %}canary {{ canary.hash }}: {{ canary.image }}, {{ canary.weight }}% of traffic{% if step %}, step {{ step }}{% endif %}{% endif %}
{% if stable.hash %}stable {{ stable.hash }}: {{ stable.image }}{% if stable.commit %}, commit {{ stable.commit }}{% endif %}{% endif %}
{% if commit %}commit {{ commit }}{% if author %} by {{ author }}{% endif %}{% endif %}
{% if url %}{{ url }}{% endif %}
{% if command %}{{ command }}{% endif %}";

/// Characters of a title and of a text.
const TITLE_MOST: usize = 250;
const BODY_MOST: usize = 4_000;

/// Every field that a template may name, with what it is.
pub const FIELDS: &[(&str, &str)] = &[
    ("id", "the message's own name; the same when it is sent again"),
    ("sequence", "the event's number, counting those of the Rollout"),
    ("at", "when it happened"),
    ("namespace", "the Rollout's namespace"),
    ("rollout", "the Rollout's name"),
    ("reason", "the event's reason, such as `Aborted`"),
    ("message", "one sentence"),
    ("revision", "hash of the revision that it is about"),
    ("attempt", "the try of that revision, counting from 1"),
    ("image", "images of that revision"),
    ("commit", "commit that brought it, from `serin.dev/git-commit`"),
    ("previousCommit", "commit of what served before it"),
    ("author", "author of the commit, from `serin.dev/git-author`"),
    ("repo", "repository, from `serin.dev/git-repo`"),
    ("url", "page of the commit, from `serin.dev/git-url`"),
    ("step", "the step under way, such as `2/5`"),
    ("weight", "percent of traffic that the canary has"),
    ("metric.name", "the metric that failed"),
    ("metric.value", "what it measured last"),
    ("stable.hash", "stable's revision hash"),
    ("stable.image", "stable's images"),
    ("stable.commit", "stable's commit"),
    ("stable.version", "stable's version"),
    ("stable.weight", "percent of traffic that stable has"),
    ("canary.hash", "the canary's revision hash"),
    ("canary.image", "the canary's images"),
    ("canary.commit", "the canary's commit"),
    ("canary.version", "the canary's version"),
    ("canary.weight", "percent of traffic that the canary has"),
    ("command", "what to type next, where there is something to do"),
];

/// The facts of one event.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "FIELDS says what each is")]
pub struct Context {
    pub id: String,
    pub sequence: i64,
    pub at: String,
    pub namespace: String,
    pub rollout: String,
    pub reason: String,
    pub message: String,
    pub revision: String,
    pub attempt: Option<i32>,
    pub image: Option<String>,
    pub commit: Option<String>,
    pub previous_commit: Option<String>,
    pub author: Option<String>,
    pub repo: Option<String>,
    pub url: Option<String>,
    pub step: Option<String>,
    pub weight: i32,
    pub metric: Option<Metric>,
    pub stable: Option<Side>,
    pub canary: Option<Side>,
    pub command: Option<String>,
}

/// A metric that failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[expect(missing_docs, reason = "FIELDS says what each is")]
pub struct Metric {
    pub name: String,
    pub value: String,
}

/// One revision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[expect(missing_docs, reason = "FIELDS says what each is")]
pub struct Side {
    pub hash: String,
    pub image: String,
    pub commit: Option<String>,
    pub version: Option<String>,
    pub weight: i32,
}

/// What is sent, before a service gives it its form.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Message {
    /// The facts.
    pub context: Context,
    /// One line.
    pub title: String,
    /// The text under it.
    pub body: String,
    /// The thread that it belongs to, where there is one already.
    pub thread: Option<String>,
}

/// The message's own name: the same however often it is sent, another one for every other event.
pub fn id(uid: &str, event: &RolloutEvent) -> String {
    format!("{uid}.{}.{}", event.sequence, event.at.as_millisecond())
}

impl Context {
    /// The facts of an event of a Rollout.
    pub fn of(rollout: &Rollout, event: &RolloutEvent) -> Self {
        let (metadata, status) = (&rollout.metadata, &rollout.status);
        let annotation = |key: &str| metadata.annotations.as_ref()?.get(key).cloned();
        let own = [&status.canary, &status.stable].into_iter().flatten().find(|side| side.hash == event.revision);
        // The annotations speak of the commit that was applied last.
        let is_of_commit = event.commit.is_some() && annotation(names::GIT_COMMIT) == event.commit;
        let name = metadata.name.clone().unwrap_or_default();
        let namespace = metadata.namespace.clone().unwrap_or_default();
        Self {
            id: id(metadata.uid.as_deref().unwrap_or_default(), event),
            sequence: event.sequence,
            at: event.at.to_string(),
            reason: event.reason.clone(),
            message: event.message.clone(),
            revision: event.revision.clone(),
            attempt: event.attempt,
            image: own.map(|own| own.image.clone()),
            commit: event.commit.clone(),
            previous_commit: event.previous_commit.clone(),
            author: own.and_then(|own| own.author.clone()),
            repo: annotation(names::GIT_REPO),
            url: annotation(names::GIT_URL).filter(|_| is_of_commit),
            step: status.step.clone(),
            weight: status.canary.as_ref().map_or(0, |canary| canary.observed_weight),
            metric: if event.reason == "Aborted" { failed_metric(status) } else { None },
            stable: status.stable.as_ref().map(Side::of),
            canary: status.canary.as_ref().map(Side::of),
            command: command(status, event, (&namespace, &name)),
            rollout: name,
            namespace,
        }
    }

    /// As JSON: what templates name, and the body of a webhook.
    pub fn value(&self) -> Value {
        serde_json::to_value(self).unwrap_or(Value::Null)
    }

    /// The words of a channel; where a template cannot be read, Serin's own.
    pub fn message(self, template: &MessageTemplate, thread: Option<String>) -> Message {
        let value = self.value();
        let render = |own: Option<&String>, default: &str| {
            let own = own.and_then(|own| Template::parse(own).ok());
            own.or_else(|| Template::parse(default).ok()).map(|read| read.render(&value)).unwrap_or_default()
        };
        let title = render(template.title.as_ref(), TITLE).replace('\n', " ");
        let body = render(template.body.as_ref(), BODY);
        Message { context: self, title: first(&title, TITLE_MOST), body: first(&body, BODY_MOST), thread }
    }
}

impl Side {
    fn of(side: &RevisionStatus) -> Self {
        Self {
            hash: side.hash.clone(),
            image: side.image.clone(),
            commit: side.commit.clone(),
            version: side.version.clone(),
            weight: side.observed_weight,
        }
    }
}

fn failed_metric(status: &RolloutStatus) -> Option<Metric> {
    let of = |verdict: Verdict| {
        let mut metrics = status.analysis.iter().flat_map(|analysis| &analysis.metrics);
        metrics.find(|metric| metric.verdict == verdict)
    };
    let metric = of(Verdict::Fail).or_else(|| of(Verdict::Inconclusive))?;
    let value = |metric: &MetricStatus| {
        let bad = metric.measurements.iter().rev().find(|one| one.assessment != Assessment::Success);
        bad.or(metric.measurements.last()).map(|one| one.value.clone())
    };
    Some(Metric { name: metric.name.clone(), value: value(metric).unwrap_or_default() })
}

/// What to type next.
fn command(status: &RolloutStatus, event: &RolloutEvent, (namespace, name): (&str, &str)) -> Option<String> {
    let of_revision = |verb: &str| format!("kubectl serin {verb} {name} -n {namespace} --revision {}", event.revision);
    let waits = |reason: &str| status.blocked_by.iter().any(|wait| wait.reason == reason);
    match event.reason.as_str() {
        "Paused" if waits("AwaitingApproval") => Some(of_revision("approve")),
        "Paused" if waits("PausedByStep") => Some(of_revision("promote")),
        "Paused" if waits("PausedByAction") => Some(of_revision("resume")),
        "Paused" | "Aborted" | "Stalled" | "RouteContested" | "ActionRefused" => {
            Some(format!("kubectl serin explain {name} -n {namespace}"))
        }
        _ => None,
    }
}

/// The first characters of a text.
pub fn first(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    let kept: String = text.chars().take(most.saturating_sub(1)).collect();
    format!("{kept}…")
}
