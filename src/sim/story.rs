//! One story as a value: what there is, what happens and when, what goes wrong. The same story gives the same run.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::plan::observed::Settings;

/// Everything that a run depends on.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Story {
    /// Seeds latencies, and the delays with which proxies take a route.
    pub seed: u64,
    /// Objects that Git holds at the beginning; exactly one of them is a Rollout.
    pub objects: Vec<Value>,
    /// The controller's settings.
    pub settings: Settings,
    /// In how many milliseconds the slowest proxy takes a route, where istiod is asked who has it; absent: nobody is asked, and
    /// all take it within the controller's wait.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slowest: Option<u64>,
    /// Replicas of the controller: one that leads alone, or several that elect a leader by Lease.
    pub controllers: u8,
    /// What happens, in order.
    pub events: Vec<At>,
    /// What goes wrong with the n-th request of the controllers, watches left out.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub faults: BTreeMap<u64, Fault>,
    /// From when on nothing goes wrong between the controllers and the API server any more, in milliseconds.
    pub fair_at: u64,
    /// Whether pods, metrics and deleted objects are well again from then on, too.
    pub heals: bool,
    /// After how many milliseconds a person promotes a pause without an end, or approves a step; absent: nobody does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub promotes_after: Option<u64>,
    /// After how many milliseconds without a step, a weight or a decision a run is at its end; absent: never for that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gives_up_after: Option<u64>,
    /// When the first requests come at the earliest, in milliseconds.
    pub requests_from: u64,
    /// When the run ends at the latest, in milliseconds.
    pub ends_at: u64,
}

/// Something that happens at a time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct At {
    /// Milliseconds since the beginning.
    pub at: u64,
    /// What happens.
    pub event: Event,
}

/// Anything that can happen.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Event {
    /// Git brings a change of the Rollout's spec, as a merge patch.
    Commit(Value),
    /// Git brings an object.
    Apply(Value),
    /// Somebody deletes an object: its plural and its name.
    Delete(String, String),
    /// A person acts on the revision that is the canary then; `promote@2` on the step with index 2, whatever step it is at.
    Act(String),
    /// Pods of an image behave otherwise from now on.
    Pods(String, Pods),
    /// So many ready pods of an image are gone at once.
    Evict(String, usize),
    /// Answers of Prometheus change from now on.
    Answers(Rule),
    /// Prometheus itself.
    Prometheus(Health),
    /// A GitOps tool writes the routes as Git has them.
    RevertRoutes,
    /// Watches of a kind lag so many milliseconds behind from now on; of pods: whoever makes them lags, too.
    Lag(String, u64),
    /// Every watch ends.
    DropWatches,
    /// Every watch ends, and no older version can be watched from; whether that is refused by HTTP 410, or told in the watch.
    Expire(bool),
    /// No request of the controllers is answered for so many milliseconds.
    Outage(u64),
    /// A controller is killed and starts again after so many milliseconds.
    Kill(u8, u64),
    /// A controller is asked to stop, and starts again after so many milliseconds.
    Stop(u8, u64),
    /// No request of a controller for the Lease is answered for so many milliseconds.
    LeaseHangs(u8, u64),
    /// Every write of a Rollout's status is refused for so many milliseconds.
    RefuseStatus(u64),
    /// The Lease is emptied, so that another replica takes it early.
    FreeLease,
    /// The wall clock jumps by so many milliseconds.
    ClockJump(i64),
    /// Istiod pushes nothing and answers nobody for so many milliseconds.
    IstiodAway(u64),
    /// A proxy takes nothing for so many milliseconds.
    Silent(usize, u64),
}

/// How pods behave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Pods {
    /// Each is ready so many milliseconds after it was created.
    ReadyAfter(u64),
    /// So many of them are never ready.
    Unready(usize),
    /// All of them are ready and not ready in turns of so many milliseconds.
    Flapping(u64),
    /// The first of them is ready and not ready in turns of so many milliseconds, the others never are.
    Crashing(u64),
}

/// What Prometheus answers, to whom. A later rule goes before an earlier one.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Rule {
    /// Only to this metric.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metric: Option<String>,
    /// Only for a canary of this image.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// Only from this weight of the canary on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from_weight: Option<i32>,
    /// What.
    pub answer: Answer,
}

/// An answer to a query.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Answer {
    /// A number that the metric's conditions call good.
    #[default]
    Good,
    /// A number that they call bad.
    Bad,
    /// This number.
    Value(f64),
    /// NaN.
    NotANumber,
    /// No series.
    Nothing,
}

/// How Prometheus itself does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Health {
    /// It answers.
    #[default]
    Up,
    /// It refuses connections.
    Down,
    /// It needs so many milliseconds.
    Slow(u64),
}

/// What goes wrong with one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Fault {
    /// It is refused with this status code.
    Refused(u16),
    /// It is carried out, and the answer is lost.
    AnswerLost,
    /// It is never answered, and not carried out.
    Hangs,
    /// It is carried out so many milliseconds later, and answered then.
    Late(u64),
    /// The controller is killed before the request leaves, and starts again after so many milliseconds.
    KilledBefore(u64),
    /// The controller is killed once the request is carried out, and starts again after so many milliseconds.
    KilledAfter(u64),
}

impl Fault {
    /// A word for counting.
    pub fn word(&self) -> String {
        match self {
            Self::Refused(code) => format!("refused {code}"),
            Self::AnswerLost => "answer lost".into(),
            Self::Hangs => "hangs".into(),
            Self::Late(_) => "late".into(),
            Self::KilledBefore(_) => "killed before a request".into(),
            Self::KilledAfter(_) => "killed after a request".into(),
        }
    }
}

impl Event {
    /// A word for counting; nothing for what is no fault.
    pub fn fault(&self) -> Option<&'static str> {
        Some(match self {
            Self::Commit(_) | Self::Apply(_) | Self::Act(_) => return None,
            Self::Delete(..) => "object deleted",
            Self::Pods(_, Pods::ReadyAfter(_)) => "slow pods",
            Self::Pods(_, Pods::Unready(_)) => "unready pods",
            Self::Pods(_, Pods::Flapping(_)) => "flapping pods",
            Self::Pods(_, Pods::Crashing(_)) => "crashing pods",
            Self::Evict(..) => "pods gone",
            Self::Answers(rule) => match rule.answer {
                Answer::Good | Answer::Value(_) => return None,
                Answer::Bad => "bad metric",
                Answer::NotANumber => "NaN",
                Answer::Nothing => "no data",
            },
            Self::Prometheus(Health::Up) => return None,
            Self::Prometheus(Health::Down) => "Prometheus down",
            Self::Prometheus(Health::Slow(_)) => "Prometheus slow",
            Self::RevertRoutes => "routes reverted",
            Self::Lag(..) => "lagging watch",
            Self::DropWatches => "watches dropped",
            Self::Expire(_) => "versions expired",
            Self::Outage(_) => "outage",
            Self::Kill(..) => "killed",
            Self::Stop(..) => "stopped",
            Self::LeaseHangs(..) => "lease not renewed",
            Self::RefuseStatus(_) => "status not written",
            Self::FreeLease => "lease taken early",
            Self::ClockJump(_) => "clock jump",
            Self::IstiodAway(_) => "istiod away",
            Self::Silent(..) => "silent proxy",
        })
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = |milliseconds: &u64| format!("{} s", milliseconds / 1000);
        match self {
            Self::Commit(spec) => {
                let image = spec.pointer("/template/spec/containers/0/image").and_then(Value::as_str);
                match (image, spec.get("replicas")) {
                    (Some(image), _) => write!(f, "Git brings {image}"),
                    (None, Some(replicas)) => write!(f, "Git asks for {replicas} pods"),
                    (None, None) => write!(f, "Git brings {spec}"),
                }
            }
            Self::Apply(object) => {
                write!(f, "Git brings {}", object.get("kind").and_then(Value::as_str).unwrap_or("an object"))
            }
            Self::Delete(plural, name) => write!(f, "somebody deletes {plural} {name}"),
            Self::Act(action) => write!(f, "somebody asks for: {action}"),
            Self::Pods(image, Pods::ReadyAfter(after)) => {
                write!(f, "pods of {image} are ready after {}", seconds(after))
            }
            Self::Pods(image, Pods::Unready(count)) => write!(f, "{count} pods of {image} are never ready"),
            Self::Pods(image, Pods::Flapping(period)) => write!(f, "pods of {image} flap every {}", seconds(period)),
            Self::Pods(image, Pods::Crashing(period)) => {
                write!(f, "one pod of {image} comes and goes every {}, the others never come", seconds(period))
            }
            Self::Evict(image, count) => write!(f, "{count} pods of {image} are gone"),
            Self::Answers(rule) => {
                let metric = rule.metric.as_deref().unwrap_or("every metric");
                let image = rule.image.as_ref().map(|image| format!(" of {image}")).unwrap_or_default();
                let from = rule.from_weight.map(|weight| format!(" from {weight}% on")).unwrap_or_default();
                let answer = match rule.answer {
                    Answer::Good => "good".to_owned(),
                    Answer::Bad => "bad".to_owned(),
                    Answer::Value(number) => number.to_string(),
                    Answer::NotANumber => "NaN".to_owned(),
                    Answer::Nothing => "without data".to_owned(),
                };
                write!(f, "{metric}{image} is {answer}{from}")
            }
            Self::Prometheus(Health::Up) => write!(f, "Prometheus answers"),
            Self::Prometheus(Health::Down) => write!(f, "Prometheus is down"),
            Self::Prometheus(Health::Slow(needs)) => write!(f, "Prometheus needs {}", seconds(needs)),
            Self::RevertRoutes => write!(f, "a GitOps tool writes the routes as Git has them"),
            Self::Lag(plural, lag) => write!(f, "watches of {plural} lag {lag} ms behind"),
            Self::DropWatches => write!(f, "every watch ends"),
            Self::Expire(true) => write!(f, "every watch ends and old versions are refused"),
            Self::Expire(false) => write!(f, "every watch ends and old versions are forgotten"),
            Self::Outage(lasts) => write!(f, "the API server does not answer for {}", seconds(lasts)),
            Self::Kill(controller, pause) => write!(f, "controller {controller} is killed for {}", seconds(pause)),
            Self::Stop(controller, pause) => write!(f, "controller {controller} stops for {}", seconds(pause)),
            Self::RefuseStatus(lasts) => write!(f, "no status can be written for {}", seconds(lasts)),
            Self::LeaseHangs(controller, lasts) => {
                write!(f, "controller {controller} hears nothing of the Lease for {}", seconds(lasts))
            }
            Self::FreeLease => write!(f, "the Lease is emptied"),
            Self::ClockJump(by) => write!(f, "the clock jumps by {} s", by / 1000),
            Self::IstiodAway(lasts) => write!(f, "istiod is away for {}", seconds(lasts)),
            Self::Silent(proxy, lasts) => write!(f, "proxy {proxy} takes nothing for {}", seconds(lasts)),
        }
    }
}
