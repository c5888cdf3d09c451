//! Scenarios as people write them: what pods, metrics and people do after a commit. Read from YAML, or built in.

use anyhow::{Context, bail};
use serde::Deserialize;
use serde_json::{Value, json};

use super::story::{Answer, At, Event, Health, Pods, Rule};
use crate::api::duration::DurationText;

/// The names of the scenarios that are built in, each with what happens in it.
pub const BUILT_IN: [(&str, &str); 6] = [
    ("good", "every metric is good, pods are ready after 3 s"),
    ("errors-from=50%", "every metric is bad from that weight of the canary on; any weight may be given"),
    ("slow-pods", "new pods are ready after 45 s"),
    ("no-traffic", "no query has data"),
    ("prometheus-down", "Prometheus is down from the commit on"),
    ("flapping", "new pods are ready and not ready in turns of 20 s"),
];

/// What happens after a commit.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Scenario {
    /// Its name, for the output.
    pub name: String,
    /// How new pods behave; absent: each is ready after 3 s.
    pub pods: Option<PodsText>,
    /// What Prometheus answers; a later rule goes before an earlier one, and what none speaks of is good.
    pub metrics: Vec<MetricText>,
    /// What happens besides, in any order.
    pub events: Vec<EventText>,
    /// After what time a person promotes a pause without an end, or approves a step; absent: nobody does.
    pub promote_after: Option<DurationText>,
}

/// How pods behave.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum PodsText {
    /// Each is ready after so long.
    ReadyAfter(DurationText),
    /// So many are never ready.
    Unready(usize),
    /// All are ready and not ready in turns of so long.
    Flapping(DurationText),
}

/// What Prometheus answers.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct MetricText {
    /// To this metric; absent: to every one.
    pub metric: Option<String>,
    /// From this weight of the canary on, in percent.
    pub from_weight: Option<i32>,
    /// From this time after the commit on.
    pub after: Option<DurationText>,
    /// `good`, `bad`, `nan`, `none` (no series), or a number.
    pub value: Option<Value>,
}

/// Something that happens; exactly one besides `after`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct EventText {
    /// When, after the commit.
    pub after: Option<DurationText>,
    /// A person creates a RolloutAction: approve, promote, promoteFull, abort, retry, pause, resume or restart.
    pub act: Option<String>,
    /// Git brings another image for the first container.
    pub commit: Option<Commit>,
    /// Git brings another number of pods.
    pub replicas: Option<i32>,
    /// New pods behave otherwise.
    pub pods: Option<PodsText>,
    /// So many new pods are gone at once.
    pub evict: Option<usize>,
    /// `up`, `down`, or the time that an answer takes.
    pub prometheus: Option<String>,
    /// A GitOps tool writes the routes as Git has them.
    pub revert_routes: Option<bool>,
    /// The controller is killed, and starts again after so long.
    pub kill: Option<DurationText>,
    /// The API server does not answer for so long.
    pub outage: Option<DurationText>,
}

/// Another release.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Commit {
    /// Image of the first container.
    pub image: String,
}

/// Reads a scenario from YAML.
pub fn read(text: &str) -> anyhow::Result<Scenario> {
    Ok(serde_saphyr::from_str(text)?)
}

/// A scenario that is built in.
pub fn built_in(name: &str) -> Option<anyhow::Result<Scenario>> {
    let bad = |value: &str, from_weight| MetricText { value: Some(json!(value)), from_weight, ..MetricText::default() };
    let seconds = DurationText::Seconds;
    let mut scenario = Scenario { name: name.to_owned(), ..Scenario::default() };
    match name {
        "good" => {}
        "slow-pods" => scenario.pods = Some(PodsText::ReadyAfter(seconds(45))),
        "no-traffic" => scenario.metrics.push(bad("none", None)),
        "prometheus-down" => {
            scenario.events.push(EventText { prometheus: Some("down".into()), ..EventText::default() });
        }
        "flapping" => scenario.pods = Some(PodsText::Flapping(seconds(20))),
        _ => {
            let weight = name.strip_prefix("errors-from=")?.trim_end_matches('%');
            match weight.parse() {
                Ok(weight @ 0..=100) => scenario.metrics.push(bad("bad", Some(weight))),
                Ok(_) | Err(_) => {
                    return Some(Err(anyhow::anyhow!("{name}: write a weight from 0% to 100%, as in errors-from=50%")));
                }
            }
        }
    }
    Some(Ok(scenario))
}

impl Scenario {
    /// The events of a story whose commit is at a time, for a Rollout whose pods have an image then.
    pub fn events(&self, commit_at: u64, image: &str, template: &Value) -> anyhow::Result<Vec<At>> {
        let mut events = Vec::new();
        if let Some(pods) = &self.pods {
            events.push(At { at: commit_at, event: Event::Pods(image.to_owned(), pods.read().context("pods")?) });
        }
        for (number, metric) in self.metrics.iter().enumerate() {
            let path = || format!("metrics[{number}]");
            let rule = Rule {
                metric: metric.metric.clone(),
                image: None,
                from_weight: metric.from_weight,
                answer: answer(metric.value.as_ref()).with_context(path)?,
            };
            let after = millis(metric.after.as_ref()).with_context(path)?;
            events.push(At { at: commit_at + after, event: Event::Answers(rule) });
        }
        for (number, event) in self.events.iter().enumerate() {
            let path = || format!("events[{number}]");
            let after = millis(event.after.as_ref()).with_context(path)?;
            events.push(At { at: commit_at + after, event: event.read(image, template).with_context(path)? });
        }
        Ok(events)
    }

    /// After how many milliseconds a person promotes.
    pub fn promotes_after(&self) -> anyhow::Result<Option<u64>> {
        self.promote_after.as_ref().map(|after| millis(Some(after)).context("promoteAfter")).transpose()
    }
}

impl PodsText {
    fn read(&self) -> anyhow::Result<Pods> {
        Ok(match self {
            Self::ReadyAfter(after) => Pods::ReadyAfter(millis(Some(after))?),
            Self::Unready(count) => Pods::Unready(*count),
            Self::Flapping(period) => Pods::Flapping(millis(Some(period))?),
        })
    }
}

impl EventText {
    fn read(&self, image: &str, template: &Value) -> anyhow::Result<Event> {
        let mut found = Vec::new();
        if let Some(action) = &self.act {
            let known = ["approve", "promote", "promoteFull", "abort", "retry", "pause", "resume", "restart"];
            if !known.contains(&action.as_str()) {
                bail!("act: {action} is none of {}", known.join(", "));
            }
            found.push(Event::Act(action.clone()));
        }
        if let Some(commit) = &self.commit {
            found.push(Event::Commit(json!({"template": with_image(template, &commit.image)})));
        }
        found.extend(self.replicas.map(|replicas| Event::Commit(json!({"replicas": replicas}))));
        if let Some(pods) = &self.pods {
            found.push(Event::Pods(image.to_owned(), pods.read()?));
        }
        found.extend(self.evict.map(|count| Event::Evict(image.to_owned(), count)));
        found.extend(match self.prometheus.as_deref() {
            None => None,
            Some("up") => Some(Event::Prometheus(Health::Up)),
            Some("down") => Some(Event::Prometheus(Health::Down)),
            Some(needs) => Some(Event::Prometheus(Health::Slow(
                millis(Some(&DurationText::Text(needs.to_owned())))
                    .context("prometheus: write up, down or a duration")?,
            ))),
        });
        found.extend(self.revert_routes.map(|_| Event::RevertRoutes));
        if let Some(pause) = &self.kill {
            found.push(Event::Kill(0, millis(Some(pause)).context("kill")?));
        }
        if let Some(lasts) = &self.outage {
            found.push(Event::Outage(millis(Some(lasts)).context("outage")?));
        }
        match found.pop() {
            Some(event) if found.is_empty() => Ok(event),
            _ => bail!(
                "write exactly one of act, commit, replicas, pods, evict, prometheus, revertRoutes, kill, outage beside after"
            ),
        }
    }
}

/// A pod template with another image in its first container.
pub fn with_image(template: &Value, image: &str) -> Value {
    let mut template = template.clone();
    if let Some(own) = template.pointer_mut("/spec/containers/0/image") {
        *own = json!(image);
    }
    template
}

fn answer(value: Option<&Value>) -> anyhow::Result<Answer> {
    Ok(match value {
        None => Answer::Good,
        Some(Value::String(word)) => match word.as_str() {
            "good" => Answer::Good,
            "bad" => Answer::Bad,
            "nan" => Answer::NotANumber,
            "none" => Answer::Nothing,
            _ => bail!("value: {word} is none of good, bad, nan, none, nor a number"),
        },
        Some(value) => Answer::Value(value.as_f64().context("value: write good, bad, nan, none, or a number")?),
    })
}

fn millis(duration: Option<&DurationText>) -> anyhow::Result<u64> {
    let duration = duration.map(DurationText::parse).transpose().map_err(anyhow::Error::msg)?.unwrap_or_default();
    Ok(u64::try_from(duration.as_millis()).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_built_in_scenario_is_read() {
        for (name, _) in BUILT_IN {
            let scenario = built_in(name).unwrap().unwrap();
            scenario.events(0, "checkout:2", &json!({})).unwrap();
        }
        assert!(built_in("errors-from=120%").unwrap().is_err());
        assert!(built_in("sunshine").is_none());
    }

    #[test]
    fn faults_are_told_with_their_place() {
        let told = |text: &str| {
            let events = read(text).and_then(|scenario| scenario.events(0, "i", &json!({})));
            format!("{:#}", events.unwrap_err())
        };
        assert!(told("metrics: [{value: fine}]").contains("metrics[0]: value: fine is none of good"));
        assert!(told("events: [{after: 1m}]").contains("events[0]: write exactly one of act"));
        assert!(told("events: [{act: jump}]").contains("events[0]: act: jump is none of approve, promote"));
        assert!(told("pods: {readyAfter: soon}").contains("pods: \"soon\" is not a duration"));
        assert!(told("metric: []").contains("metric"), "{}", told("metric: []"));
    }
}
