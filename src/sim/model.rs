//! What must be true, told without `plan`: which revision may have how much, from what Git asked and Prometheus said.
//!
//! The model reads the objects as the API server has them, the answers as Prometheus gave them and the proxies' own view.
//! Its conditions are necessary ones: where it cannot know, it says nothing.
#![expect(clippy::indexing_slicing, reason = "a JSON value answers null for a key that it lacks")]

mod act;
mod foreign;
mod front;
mod labelled;
mod metric;
mod pods;
mod promotion;
mod role;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

use self::act::Act;
use self::labelled::{Labelled, assigned};
use self::role::Roles;
use super::mesh::{Mesh, ROUTES};
use super::prometheus::Answered;
use crate::api::names;
use crate::embedded::Cluster;
use crate::embedded::log::Change;
use crate::embedded::store::key_of;
use crate::plan::revision;

/// How old the newest thing that a controller knows may be, faults and all: a pass may still act on it.
const STALE: Duration = Duration::from_secs(20);

/// How much longer a change of a route may take to reach every proxy than the slowest one takes it.
const MARGIN: Duration = Duration::from_secs(1);

/// How late an abort may be: every controller killed, the longest outage, the longest back-off.
const LATE: Duration = Duration::from_mins(2);

/// Something that must not be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken {
    /// When, in milliseconds since the beginning.
    pub at: u64,
    /// Which rule: `S1` to `S8`, `plan` for one of these on a plan, `role`, `lost`, `liveness`, `rest`, `end`, `once`, `lease`.
    pub rule: &'static str,
    /// What.
    pub message: String,
}

/// A spec as Git had it.
struct Spec {
    at: Instant,
    hash: String,
    value: Value,
}

/// The weights of a revision over time.
type Weights = Vec<(Instant, f64)>;

/// The model of one Rollout.
pub struct Model {
    began: Instant,
    drain: Duration,
    /// How long a change of a route takes to reach every proxy, at most, and until when longer.
    slowest: Duration,
    slow_until: Instant,
    specs: Vec<Spec>,
    acts: Vec<Act>,
    git: BTreeMap<(String, String), Value>,
    assigned: BTreeMap<String, Weights>,
    in_force: BTreeMap<String, Weights>,
    /// Names of all header and mirror routes that Git has ever asked for.
    pub managed: BTreeSet<String>,
    /// Since when header and mirror routes lead to revisions.
    led: BTreeMap<String, Instant>,
    /// Header and mirror routes with the revision that they led to, and since when they do no more.
    fronts: BTreeMap<(String, String), Option<Instant>>,
    forced_at: Option<Instant>,
    /// When the routes last left open which revision gets what.
    open_at: Instant,
    stable: Option<String>,
    stable_since: Option<Instant>,
    stable_before: Option<String>,
    was_stable: BTreeSet<String>,
    aborted: Option<String>,
    aborted_at: Option<Instant>,
    /// When Git last asked for another try, and whether there was something to try again.
    raised_at: Option<Instant>,
    raised_counts: bool,
    retry_at_abort: i64,
    /// When the API server last refused the Rollout's status.
    status_refused_at: Option<Instant>,
    jumped_at: Option<Instant>,
    disturbed_at: Vec<Instant>,
    lagging: BTreeSet<String>,
    /// When somebody else changed a route that is watched with a lag: what happens to it is seen late.
    missed_at: Option<Instant>,
    stable_lacked: Option<Instant>,
    /// When revisions with requests last lost pods.
    shrunk_at: BTreeMap<String, Instant>,
    ready: BTreeMap<String, Vec<(Instant, usize)>>,
    roles: Roles,
    /// When the sets were last written, by name.
    written: BTreeMap<String, Instant>,
    /// The last change that arrived late: its version, and when it was sent.
    late: Option<(u64, Instant)>,
    /// Whether a change arrived after the Rollout was gone: nobody is left to mend it.
    pub is_late_for_the_end: bool,
    /// When the Rollout was deleted and had let go.
    gone_at: Option<Instant>,
    /// When it was last looked whether an abort is due.
    looked_at: Instant,
    /// What is told once a run, however long it lasts.
    told: BTreeSet<&'static str>,
    attempt: ((String, String), i64),
    /// What must not be and was.
    pub broken: Vec<Broken>,
}

impl Model {
    /// A model that has seen nothing.
    pub fn new(began: Instant, drain: Duration, slowest: Duration) -> Self {
        Self {
            began,
            drain,
            slowest,
            slow_until: began,
            specs: Vec::new(),
            acts: Vec::new(),
            git: BTreeMap::new(),
            assigned: BTreeMap::new(),
            in_force: BTreeMap::new(),
            managed: BTreeSet::new(),
            led: BTreeMap::new(),
            fronts: BTreeMap::new(),
            forced_at: None,
            open_at: began,
            stable: None,
            stable_since: None,
            stable_before: None,
            was_stable: BTreeSet::new(),
            aborted: None,
            aborted_at: None,
            raised_at: None,
            raised_counts: false,
            retry_at_abort: 0,
            status_refused_at: None,
            jumped_at: None,
            disturbed_at: vec![began],
            lagging: BTreeSet::new(),
            missed_at: None,
            stable_lacked: None,
            shrunk_at: BTreeMap::new(),
            ready: BTreeMap::new(),
            roles: Roles::default(),
            written: BTreeMap::new(),
            late: None,
            is_late_for_the_end: false,
            gone_at: None,
            looked_at: began,
            told: BTreeSet::new(),
            attempt: Default::default(),
            broken: Vec::new(),
        }
    }

    /// Something is as it must not be.
    pub fn breaks(&mut self, rule: &'static str, message: String) {
        let at = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.broken.push(Broken { at, rule, message });
    }

    /// Something is as it must not be, and lasts: told once.
    fn breaks_for_long(&mut self, what: &'static str, rule: &'static str, message: String) {
        if self.told.insert(what) {
            self.breaks(rule, message);
        }
    }

    /// The wall clock jumped: what lasts by it is not checked any more.
    pub fn jumped(&mut self) {
        self.jumped_at = Some(Instant::now());
    }

    /// A controller starts, or is gone.
    pub fn disturbed(&mut self) {
        self.disturbed_at.push(Instant::now());
    }

    /// Watches of a kind lag behind, or no longer do.
    pub fn lags(&mut self, plural: &str, lag: Duration) {
        if lag.is_zero() {
            self.lagging.remove(plural);
        } else {
            self.lagging.insert(plural.to_owned());
        }
    }

    /// A route may reach no proxy before that time.
    pub fn slows(&mut self, until: Instant) {
        self.slow_until = self.slow_until.max(until);
    }

    /// How long a change of a route has taken at most to reach every proxy by now.
    fn settles(&self) -> Duration {
        if self.may_be_slow() { self.began.elapsed() } else { self.slowest + MARGIN }
    }

    /// Whether a change of a route may still be on its way, however long ago it was.
    fn may_be_slow(&self) -> bool {
        Instant::now() < self.slow_until + self.slowest + MARGIN
    }

    /// The Rollout's status cannot be written until then.
    pub fn refuses_status(&mut self, until: Instant) {
        self.status_refused_at = Some(until);
    }

    /// Git has another state of an object.
    pub fn committed(&mut self, plural: &str, object: &Value) {
        let key = (plural.to_owned(), key_of(object).1);
        if plural == "rollouts" {
            let value = object["spec"].clone();
            self.managed.extend(front::names(&value));
            self.roles.extend(&value);
            self.specs.push(Spec { at: Instant::now(), hash: revision::hash(&value["template"]), value });
            self.see_retry();
        }
        self.git.insert(key, object.clone());
    }

    /// The routes that Git holds, by plural.
    pub fn git_routes(&self) -> Vec<(String, Value)> {
        let is_route = |plural: &str| ROUTES.contains(&plural);
        self.git
            .iter()
            .filter(|((plural, _), _)| is_route(plural))
            .map(|((plural, _), git)| (plural.clone(), git.clone()))
            .collect()
    }

    /// Whether Git says how many pods a Deployment has.
    pub fn holds_replicas(&self) -> bool {
        let mut deployments = self.git.iter().filter(|((plural, _), _)| plural == "deployments");
        deployments.any(|(_, git)| !git["spec"]["replicas"].is_null())
    }

    /// The hash that Git asks for.
    pub fn wanted(&self) -> Option<&str> {
        self.specs.last().map(|spec| spec.hash.as_str())
    }

    /// Takes a change of the cluster in, and checks it.
    pub fn see(&mut self, change: &Change, cluster: &Cluster, mesh: &Mesh, answered: &[Answered]) {
        let is_own = change.writer == names::FIELD_MANAGER;
        match change.plural {
            _ if self.gone_at.is_some() => {}
            "rollouts" if change.is_removal() => self.see_end(mesh),
            plural if ROUTES.contains(&plural) => {
                let labelled = Labelled::of(cluster);
                if is_own && !change.is_removal() {
                    self.check_foreign(change);
                    self.check_led(change, &labelled);
                }
                self.take_led(cluster, &labelled);
                if !is_own && self.lagging.contains(change.plural) {
                    self.missed_at = Some(Instant::now());
                }
                self.take_weights(&assigned(cluster, &labelled, &self.managed), is_own, answered);
            }
            "replicasets" if is_own => self.check_set(change, cluster, mesh),
            "deployments" if is_own => self.check_workload(change, mesh),
            "pods" => self.take_pod(change),
            "rollouts" => {
                self.take_canary(&change.object);
                self.take_status(&change.object["status"], answered);
            }
            "rolloutactions" => self.see_answer(&change.object),
            _ => {}
        }
    }

    /// A deletion is complete: every proxy sends to stable what it sends.
    fn see_end(&mut self, mesh: &Mesh) {
        self.gone_at = Some(Instant::now());
        let other = |(revision, weight): &(&String, &f64)| self.stable.as_ref() != Some(*revision) && **weight > 0.5;
        let other = mesh.weights().iter().find(other).map(|(revision, weight)| (revision.clone(), *weight));
        if let Some((revision, weight)) = other.filter(|_| self.is_routed() && self.may_move()) {
            self.breaks("S3", format!("the Rollout is gone while a proxy gives {revision} {weight:.0}%"));
        }
    }

    /// The specs that a controller may still act on: those of so late, and the one before.
    fn specs_of_late(&self, of_late: Duration) -> &[Spec] {
        let first = self.specs.iter().rposition(|spec| spec.at.elapsed() >= of_late).unwrap_or(0);
        self.specs.get(first..).unwrap_or_default()
    }

    /// Whether the Rollout was gone at a time.
    pub fn was_gone(&self, at: Instant) -> bool {
        self.gone_at.is_some_and(|gone| gone <= at)
    }

    /// Whether the canary's share is a weight of routes, not of pods.
    fn is_routed(&self) -> bool {
        self.specs.last().is_some_and(|spec| spec.value["strategy"]["canary"].get("trafficRouting").is_some())
    }

    /// Notes when the routes leave open which revision gets what.
    fn note_open(&mut self) {
        let total: f64 = self.assigned.values().filter_map(|weights| weights.last()).map(|(_, weight)| weight).sum();
        if self.stable.is_none() || !self.is_routed() || total < 99.5 {
            self.open_at = Instant::now();
        }
    }

    /// S3: no proxy gives a revision more than the routes have just said.
    fn check_exposed(&mut self, mesh: &Mesh) {
        self.note_open();
        if self.open_at.elapsed() < STALE || self.may_be_slow() {
            return;
        }
        for (revision, &weight) in mesh.weights() {
            let known = self.assigned.get(revision).map_or(&[][..], Vec::as_slice);
            let from = known.partition_point(|(at, _)| at.elapsed() > self.settles()).saturating_sub(1);
            let most = known.iter().skip(from).map(|(_, weight)| *weight).fold(0.0, f64::max);
            // A revision that is rolled back to at once was stable for the slower proxies until now.
            let was_stable = self.stable_before.as_ref() == Some(revision)
                && self.stable_since.is_some_and(|since| since.elapsed() < STALE);
            if weight > most + 0.5 && self.stable.as_ref() != Some(revision) && !was_stable {
                let message = format!("a proxy gives {revision} {weight:.0}%, and the routes say at most {most:.0}%");
                self.breaks_for_long("exposed", "S3", message);
            }
        }
    }

    /// Notes which weights every proxy has.
    pub fn see_mesh(&mut self, mesh: &Mesh) {
        if self.gone_at.is_some() {
            return;
        }
        self.check_exposed(mesh);
        let settled = mesh.settled_since();
        if settled.is_none() || settled == self.forced_at {
            return;
        }
        self.forced_at = settled;
        let now = Instant::now();
        for (revision, weights) in &self.assigned {
            if let Some((_, weight)) = weights.last() {
                self.in_force.entry(revision.clone()).or_default().push((now, *weight));
            }
        }
    }

    fn take_weights(&mut self, weights: &BTreeMap<String, f64>, is_own: bool, answered: &[Answered]) {
        self.note_open();
        let now = Instant::now();
        let known: Vec<String> = self.assigned.keys().chain(weights.keys()).cloned().collect();
        for revision in known {
            let weight = weights.get(&revision).copied().unwrap_or(0.0);
            let own = self.assigned.entry(revision.clone()).or_default();
            let before = own.last().map_or(0.0, |(_, weight)| *weight);
            if (weight - before).abs() < 0.01 {
                continue;
            }
            own.push((now, weight));
            let is_stable = self.stable.as_deref().is_none_or(|stable| stable == revision);
            let lacked = self.stable_lacked.is_some_and(|lacked| now - lacked < STALE);
            if weight > before && is_own && !is_stable && !lacked {
                self.check_raise(&revision, weight, answered);
            }
        }
    }

    /// S3, S5, S7: a canary gets more weight only while Git asks for it, it has not failed, and what comes before is passed.
    fn check_raise(&mut self, revision: &str, weight: f64, answered: &[Answered]) {
        let now = Instant::now();
        let ended = self
            .specs
            .iter()
            .zip(self.specs.iter().skip(1))
            .rev()
            .find(|(spec, _)| spec.hash == revision)
            .map(|(_, next)| next.at);
        let is_wanted = self.wanted() == Some(revision) || ended.is_some_and(|ended| now - ended < STALE);
        if !is_wanted {
            self.breaks("S3", format!("{revision} gets {weight}%, and Git has asked for another revision for long"));
        }
        if self.aborted.as_deref() == Some(revision) {
            self.breaks("S7", format!("{revision} gets {weight}% after it was aborted"));
        }
        if self.is_rejected(revision) {
            self.breaks("S7", format!("{revision} gets {weight}%, and Git has rejected it for long"));
        }
        if let Some(began) = self.began_at(revision, Duration::ZERO).filter(|began| self.is_held(*began)) {
            let known = self.assigned.get(revision).map_or(&[][..], Vec::as_slice);
            let before = known.iter().rev().skip(1).take_while(|(at, _)| *at >= began);
            let most = before.map(|(_, weight)| *weight).fold(0.0, f64::max);
            if weight > most + 0.01 {
                self.breaks("S5", format!("{revision} gets {weight}%, never had more than {most}%, and is held"));
            }
        }
        if let Some(lack) = self.lacks(revision, weight, answered).or_else(|| self.lacks_pods(revision, weight, STALE))
        {
            self.breaks("S3", format!("{revision} gets {weight}%: {lack}"));
        }
    }

    /// What a revision lacks to have so much weight, of all that its steps ask before.
    fn lacks(&self, revision: &str, weight: f64, answered: &[Answered]) -> Option<String> {
        let of_revision: Vec<&Spec> = self.specs.iter().filter(|spec| spec.hash == revision).collect();
        let spec = of_revision.last()?;
        let canary = &spec.value["strategy"]["canary"];
        // A short interruption may pass unseen: then the attempt goes on.
        let began = self.began_at(revision, STALE)?;
        let goes_back = !spec.value["rollbackWindow"].is_null() && self.was_stable.contains(revision);
        if goes_back || self.has_acted(&["promoteFull"], began) {
            return None;
        }
        // A controller that had the answer may have died with it; the next one asks anew.
        let has_heard =
            |failed: &Instant| self.disturbed_at.last().map_or(*failed, |at| *failed.max(at)).elapsed() > STALE;
        if let Some(failed) = self.failed_at(revision, answered, Duration::ZERO).filter(has_heard) {
            let seconds = (failed - self.began).as_secs();
            return Some(format!("its metric failed at {seconds} s"));
        }
        if self.missed_at.is_some_and(|missed| missed >= began) {
            return None;
        }
        if of_revision.iter().any(|other| other.value["strategy"]["canary"]["steps"] != canary["steps"]) {
            return self.gates_lack(revision, weight, began, answered);
        }
        let mut since = began;
        for (index, step) in canary["steps"].as_array().into_iter().flatten().enumerate() {
            if let Some(permitted) = step["setWeight"].as_f64() {
                if weight <= permitted + 0.01 {
                    return None;
                }
                if !self.has_passed(index, began) {
                    since = self.reached_at(revision, permitted, since).unwrap_or(since);
                }
            } else if !self.has_passed(index, began)
                && let Some(lack) = self.step_lacks(revision, step, &mut since, answered)
            {
                return Some(format!("step {index}: {lack}"));
            }
        }
        None
    }

    fn step_lacks(&self, revision: &str, step: &Value, since: &mut Instant, answered: &[Answered]) -> Option<String> {
        if let Some(approval) = step.get("approval") {
            let began = self.began_at(revision, STALE)?;
            let is_approved = self.is_approved(revision, &approval["name"], began);
            return (!is_approved).then(|| "nobody approved it".into());
        }
        if let Some(pause) = step.get("pause") {
            if pause["duration"].is_null() {
                return Some("nobody promoted it".into());
            }
            let pause = metric::duration(&pause["duration"]);
            let passed = since.elapsed();
            if self.jumped_at.is_none() {
                *since += pause;
            }
            return (passed < pause && self.jumped_at.is_none())
                .then(|| format!("paused {} of {} ms", passed.as_millis(), pause.as_millis()));
        }
        self.gate_lacks(revision, step, *since, answered)
    }

    /// When every proxy had at least this weight of a revision; nothing when the weight was never asked for.
    fn reached_at(&self, revision: &str, weight: f64, since: Instant) -> Option<Instant> {
        let first = |weights: &Weights, since: Instant| {
            let later = weights.iter().find(|(at, own)| *at >= since && *own + 0.01 >= weight).map(|(at, _)| *at);
            let already =
                weights.iter().rev().find(|(at, _)| *at < since).is_some_and(|(_, own)| *own + 0.01 >= weight);
            if already { Some(since) } else { later }
        };
        if !self.is_routed() {
            let known = self.ready.get(revision).map_or(&[][..], Vec::as_slice);
            let last = known.iter().rfind(|(at, _)| *at < since).filter(|(_, ready)| *ready > 0);
            return last
                .map(|_| since)
                .or_else(|| known.iter().find(|(at, ready)| *at >= since && *ready > 0).map(|(at, _)| *at));
        }
        let asked = first(self.assigned.get(revision)?, since)?;
        Some(self.in_force.get(revision).and_then(|weights| first(weights, asked)).unwrap_or_else(Instant::now))
    }

    /// When Git last began to ask for a revision, or a person had it tried again.
    /// An interruption by another revision that is as short as `unseen` does not count: since the last start of a controller in it.
    fn began_at(&self, revision: &str, unseen: Duration) -> Option<Instant> {
        let mut began: Option<Instant> = None;
        let mut next = Instant::now();
        for spec in self.specs.iter().rev() {
            if spec.hash == revision {
                began = Some(spec.at);
            } else if began.is_some() {
                let started = self.disturbed_at.iter().rfind(|at| (spec.at..next).contains(*at));
                if next - *started.unwrap_or(&spec.at) > unseen {
                    break;
                }
            }
            next = spec.at;
        }
        let retried = self.retried_at();
        began.map(|began| retried.map_or(began, |retried| retried.max(began)))
    }

    /// A revision besides these two that the routes give weight, and have for as long as a controller may not know.
    fn third(&self, before: &str, after: &str) -> Option<(&str, f64)> {
        if self.missed_at.is_some_and(|missed| missed.elapsed() < STALE) {
            return None;
        }
        self.assigned.iter().find_map(|(revision, weights)| {
            let (since, weight) = weights.last()?;
            let is_third = revision != before && revision != after;
            (is_third && *weight > 0.0 && since.elapsed() > self.settles()).then_some((revision.as_str(), *weight))
        })
    }

    /// What was decided is not forgotten: an abort stays until a person has it tried again, a passed step stays passed.
    fn check_memory(&mut self, status: &Value, answered: &[Answered]) {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let aborted = text(&status["aborted"]["hash"]);
        if let Some(before) = self.aborted.clone()
            && self.wanted() == Some(&before)
            && aborted != before
            && self.retried_at().is_none()
            && self.specs.last().is_some_and(|spec| spec.at.elapsed() > STALE)
        {
            self.breaks("S7", format!("the abort of {before} is forgotten"));
        }
        let attempt = (text(&status["canary"]["hash"]), text(&status["attempt"]["startedAt"]));
        let step = status["currentStepIndex"].as_i64().unwrap_or(0);
        let is_edited = self.specs.iter().any(|spec| {
            self.specs.first().is_some_and(|first| {
                first.value["strategy"]["canary"]["steps"] != spec.value["strategy"]["canary"]["steps"]
            })
        });
        if self.attempt.0 == attempt && step < self.attempt.1 && !is_edited && self.jumped_at.is_none() {
            self.breaks("S5", format!("step {} is passed, and step {step} comes again", self.attempt.1));
        }
        if self.attempt.0 == attempt && step > self.attempt.1 && self.aborted.is_none() {
            self.check_pass(step, answered);
        }
        self.attempt = (attempt, step);
    }

    /// S5, S7: stable changes only to a revision that has passed everything.
    fn take_status(&mut self, status: &Value, answered: &[Answered]) {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let stable = text(&status["stable"]["hash"]);
        if let (Some(before), Some(after)) = (&self.stable, &stable)
            && before != after
            && let Some(lack) = self.lacks(after, f64::INFINITY, answered)
        {
            let message = format!("{after} becomes stable: {lack}");
            self.breaks("S5", message);
        }
        if let (Some(before), Some(after)) = (&self.stable, &stable)
            && before != after
            && let Some((third, weight)) = self.third(before, after)
        {
            let message = format!("{after} becomes stable while {third} has {weight:.0}%");
            self.breaks("S5", message);
        }
        if let (Some(before), Some(after)) = (&self.stable, &stable)
            && before != after
            && let Some(lack) = self.lacks_pods(after, 100.0, STALE)
        {
            let message = format!("{after} becomes stable: {lack}");
            self.breaks("S5", message);
        }
        self.was_stable.extend(stable.clone());
        if stable.is_some() && stable != self.stable {
            self.stable_before = std::mem::replace(&mut self.stable, stable);
            self.stable_since = Some(Instant::now());
        }
        self.check_memory(status, answered);
        // Before the abort is taken in: one that comes too late is broken, too.
        self.check_abort(answered);
        let aborted = text(&status["aborted"]["hash"]);
        if aborted != self.aborted {
            self.aborted_at = aborted.as_ref().map(|_| Instant::now());
            self.aborted = aborted;
            self.see_abort();
        }
    }
}
