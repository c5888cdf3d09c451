//! `kubectl serin diff`: what a commit will do: whether it starts a rollout, by which steps, gates and people, how long it takes.
#![expect(clippy::indexing_slicing, reason = "a JSON value answers null for a key that it lacks")]

mod before;
mod show;
mod source;
mod templates;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::Write as _;

use anyhow::Context as _;
use serde::Serialize;
use serde_json::Value;

pub use self::before::Before;
use self::before::Known;
pub use self::templates::{TemplateDifference, TemplateEffect, template_difference};
use super::cluster::{Cluster, Connection};
use super::outcome::Outcome;
use super::screen::{clean, print_json};
use super::simulate::DEFAULT_NAMESPACE;
use super::view::step_text;
use super::{files, plugin};
use crate::api::duration::DurationText;
use crate::api::status::{OutcomeKind, RolloutStatus};
use crate::embedded::store::key_of;
use crate::plan::observed::Workload;
use crate::plan::revision;
use crate::plan::snapshot::{self, Unknown};
use crate::plan::strategy::{self, ConfigSnapshots, Step, Strategy};
use crate::sim::input::{self, Input};
use crate::sim::scenario::{PodsText, Scenario};
use crate::sim::verdict;
use crate::sim::{self, show::Summary};

/// What is committed, and what it is compared with.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  kustomize build overlays/production | kubectl serin diff -f -\n  kubectl serin diff -f new.yaml --from old.yaml -o markdown"
)]
pub struct Arguments {
    /// Manifests as they would be applied: a file, a folder, or `-` for standard input.
    #[arg(short = 'f', long = "filename", value_name = "FILE", required = true, add = super::completion::manifests())]
    files: Vec<String>,
    /// Manifests as they are now; absent: what the cluster has.
    #[arg(long, value_name = "FILE", add = super::completion::manifests())]
    from: Vec<String>,
    /// How to show it.
    #[arg(short, long, value_enum, default_value = "text")]
    output: Output,
}

/// How a difference is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Output {
    /// Lines.
    Text,
    /// For a merge request.
    Markdown,
    /// For programs.
    Json,
}

/// What a commit does to one Rollout.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Difference {
    /// `namespace/name` of the Rollout.
    pub rollout: String,
    /// What happens, in a word.
    pub effect: Effect,
    /// What happens, in a sentence.
    pub summary: String,
    /// The revision hash of now; none for a new Rollout.
    pub from_revision: Option<String>,
    /// The revision hash that the commit asks for.
    pub to_revision: String,
    /// Every field of the template that changes.
    pub template: Vec<Change>,
    /// Every other field of the spec that changes; they hold at once, whether or not a rollout starts.
    pub spec: Vec<Change>,
    /// The steps that run, in words.
    pub steps: Vec<String>,
    /// What each gate wants: metric and condition.
    pub gates: Vec<String>,
    /// How many steps wait for a person.
    pub people: usize,
    /// Milliseconds from the commit to the promotion, without what people take; absent where no rollout starts.
    pub time: Option<Time>,
    /// What a revert does.
    pub revert: Option<String>,
    /// What is wrong with the spec.
    pub faults: Vec<String>,
    /// What brings the template, where that changes, or where it is a Deployment whose template changes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// What must not be merged like this, and what to do.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// How long a rollout takes, in milliseconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Time {
    /// With pods that are ready after three seconds and metrics that are good.
    pub least: u64,
    /// With pods that are ready right before `progressDeadlineSeconds`; a query without data takes longer.
    pub most: u64,
    /// Pods of all revisions at the peak, and before.
    pub pods_most: i32,
    /// Pods before the commit.
    pub pods_before: i32,
    /// What says how many there are before, where `spec.replicas` does not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pods_before_from: Option<String>,
}

/// What a commit does to a Rollout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Effect {
    /// There is no such Rollout yet.
    New,
    /// The Rollout is taken away.
    Removed,
    /// Nothing changes.
    Nothing,
    /// Fields change, the template does not.
    NoRollout,
    /// A rollout starts.
    Rollout,
    /// Stable's own template: traffic returns at once.
    Revert,
    /// A revision that was promoted before, within `rollbackWindow`: its steps are skipped.
    Rollback,
    /// The revision that was aborted: it is not tried again.
    Aborted,
    /// The spec has faults: nothing begins.
    Invalid,
}

/// One field that changes.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Change {
    /// Its path.
    pub path: String,
    /// The value of now; null for none.
    pub from: Value,
    /// The value that the commit brings; null for none.
    pub to: Value,
}

/// What a commit does to one object.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Item {
    /// A Rollout.
    Rollout(Difference),
    /// An analysis template.
    Template(TemplateDifference),
}

/// Shows what a commit will do.
pub fn run(connection: &Connection, arguments: &Arguments) -> anyhow::Result<Outcome> {
    let texts = files::texts(&arguments.files)?;
    let items = if arguments.from.is_empty() {
        plugin::runtime()?.block_on(async { from_cluster(&connection.connect().await?, &texts).await })?
    } else {
        let namespace = connection.namespace.as_deref().unwrap_or(DEFAULT_NAMESPACE);
        let before = Before::of_files(input::read_any(&files::texts(&arguments.from)?, namespace)?)?;
        items(&mut input::read_any(&texts, namespace)?, &before)?
    };
    if items.is_empty() {
        writeln!(
            std::io::stderr(),
            "There is no Rollout, neither before nor after, and no analysis template changes."
        )?;
    }
    let mut out = std::io::stdout().lock();
    match arguments.output {
        Output::Text => {
            for line in show::text(&items).lines() {
                writeln!(out, "{}", clean(line))?;
            }
        }
        Output::Markdown => write!(out, "{}", show::markdown(&items))?,
        Output::Json => print_json(&items)?,
    }
    Ok(Outcome::Reached)
}

/// What the commit does to every Rollout, then to every analysis template that changes.
fn items(input: &mut Input, before: &Before) -> anyhow::Result<Vec<Item>> {
    let mut differences = Vec::new();
    for at in 0..input.rollouts.len() {
        differences.push(difference(input, at, before)?);
    }
    let is_gone = |one: &&Value| !input.rollouts.iter().any(|rollout| key_of(rollout) == key_of(one));
    if before.is_all {
        differences.extend(before.rollouts.iter().filter(is_gone).map(removed));
    }
    let mut rollouts = input.rollouts.clone();
    for rollout in &mut rollouts {
        let known = before.rollouts.iter().find(|one| key_of(one) == key_of(rollout));
        rollout["status"] = known.map_or(Value::Null, |known| known["status"].clone());
    }
    rollouts.extend(before.rollouts.iter().filter(|one| !before.is_all && is_gone(one)).cloned());
    let told = |one: Option<&Value>, other: Option<&Value>| {
        template_difference(one, other, &rollouts, &differences).map(Item::Template)
    };
    let after: Vec<&Value> = input.others.iter().filter(|object| templates::is_template(object)).collect();
    let find = |among: &[&Value], one: &Value| among.iter().any(|other| templates::is_same(one, other));
    let known: Vec<&Value> = before.templates.iter().collect();
    let mut of_templates: Vec<Item> = after
        .iter()
        .filter_map(|one| told(known.iter().copied().find(|other| templates::is_same(one, other)), Some(one)))
        .collect();
    let gone = known.iter().filter(|one| before.is_all && !find(&after, one));
    of_templates.extend(gone.filter_map(|one| told(Some(one), None)));
    Ok(differences.into_iter().map(Item::Rollout).chain(of_templates).collect())
}

/// What manifests do to what the cluster has.
pub async fn from_cluster(cluster: &Cluster, texts: &[(String, String)]) -> anyhow::Result<Vec<Item>> {
    let mut input = input::read_any(texts, &cluster.namespace)?;
    if input.rollouts.is_empty() && !input.others.iter().any(templates::is_template) {
        // It says so.
        input::read(texts, &cluster.namespace)?;
    }
    let before = Before::of_cluster(cluster, &input).await?;
    items(&mut input, &before)
}

/// A Rollout that the commit takes away.
fn removed(rollout: &Value) -> Difference {
    let (namespace, name) = key_of(rollout);
    let hash = revision::hash(&rollout["spec"]["template"]);
    Difference {
        rollout: format!("{namespace}/{name}"),
        effect: Effect::Removed,
        summary: summary(Effect::Removed, &RolloutStatus::default()),
        from_revision: Some(hash.clone()),
        to_revision: hash,
        template: Vec::new(),
        spec: Vec::new(),
        steps: Vec::new(),
        gates: Vec::new(),
        people: 0,
        time: None,
        revert: None,
        faults: Vec::new(),
        source: None,
        warnings: Vec::new(),
    }
}

/// Leads both templates to the copies of ConfigMaps and Secrets that their revisions cover, so that a change of one shows; where
/// one is not there to compare, neither, and why.
fn cover_configuration(
    strategy: &Strategy,
    (now, before): (&mut Value, &Before),
    (after, input): (&mut Value, &Input),
) -> Option<String> {
    let (namespace, name) = key_of(after);
    let of = |spec: &Value| strategy::of(&namespace, spec, &Workload::Unlisted).snapshots;
    let (of_now, of_after) = (of(now), strategy.snapshots.clone());
    if of_now.is_none() && of_after.is_none() {
        return None;
    }
    let led = |template: &Value, snapshots: Option<ConfigSnapshots>, configs: &[Value]| {
        let Some(snapshots) = snapshots else { return Ok(template.clone()) };
        let own: Vec<&Value> = configs.iter().filter(|one| key_of(one).0 == namespace).collect();
        snapshot::offline((&name, template), &snapshots, &own).map(|(template, _)| template)
    };
    let of_now = led(&now["template"], of_now, &before.configs);
    match (of_now, led(&after["spec"]["template"], of_after, &input.configs)) {
        (Ok(of_now), Ok(of_after)) => {
            if now.is_object() {
                now["template"] = of_now;
            }
            after["spec"]["template"] = of_after;
            None
        }
        (Err(Unknown::Missing(objects)), _) | (_, Err(Unknown::Missing(objects))) => Some(format!(
            "spec.configSnapshots: {} cannot be compared, which the revision covers: a change of it starts a rollout too, and the hashes of revisions differ from these; give its manifest, too",
            objects.join(" and ")
        )),
        (Err(_), _) | (_, Err(_)) => None,
    }
}

/// What the commit does to one of the Rollouts of the input.
pub fn difference(input: &mut Input, at: usize, before: &Before) -> anyhow::Result<Difference> {
    let mut after = input.whole(at)?.clone();
    let written = input.written.get(at).cloned().context("no such Rollout")?;
    let deployment = input::deployment_of(&written, &input.deployments).cloned();
    let (namespace, name) = key_of(&after);
    let workload = deployment.as_ref().and_then(before::read);
    let workload = workload.map_or(Workload::Unlisted, |read| Workload::Found(Box::new(read)));
    let strategy = strategy::of(&namespace, &written["spec"], &workload);
    let known = before.find(&after);
    let mut now = known.as_ref().map_or(Value::Null, |known| known.spec.clone());
    let uncompared = cover_configuration(&strategy, (&mut now, before), (&mut after, input));
    let status = known.as_ref().map_or_else(RolloutStatus::default, |known| known.status.clone());
    let template = changes(&now["template"], &after["spec"]["template"], "spec.template");
    let spec = known.as_ref().map_or_else(Vec::new, |known| {
        let rest = |spec: &Value| rest(spec, &written["spec"]);
        changes(&rest(known.written), &rest(&written["spec"]), "spec")
    });
    let from_revision = known.as_ref().map(|known| Known { spec: &now, ..known.clone() }.revision());
    let to_revision = before::revision_after(&after["spec"]["template"], deployment.as_ref(), &status);
    let effect = effect(&strategy, from_revision.as_deref(), &to_revision, (&status, !spec.is_empty()));
    let runs = matches!(effect, Effect::Rollout);
    let steps: Vec<&Step> = strategy.steps.iter().filter(|_| runs).collect();
    let takeover = source::takeover(before, &status, &written, deployment.as_ref());
    let refused = known.as_ref().and_then(|known| source::refused(known.written, &written["spec"]));
    let mut summary = summary(effect, &status);
    summary += if refused.is_some() { "; WARNING: API servers refuse the commit" } else { "" };
    summary += if takeover.is_some() { "; WARNING: nobody answers until they are ready" } else { "" };
    let mut difference = Difference {
        rollout: format!("{namespace}/{name}"),
        effect,
        summary,
        source: source::told(known.as_ref(), deployment.as_ref(), !template.is_empty()),
        from_revision,
        to_revision,
        template: if known.is_some() { template } else { Vec::new() },
        spec,
        steps: steps.iter().map(|step| step_text(step)).collect(),
        gates: if runs { gates(input, &strategy, &namespace) } else { Vec::new() },
        people: steps.iter().filter(|step| matches!(step, Step::Pause(None) | Step::Approval(_))).count(),
        time: None,
        revert: runs.then(|| revert(&strategy)),
        faults: strategy.faults.iter().map(ToString::to_string).collect(),
        warnings: refused.into_iter().chain(takeover).chain(uncompared).collect(),
    };
    if runs {
        count_as_before(input, at, &now);
        difference.time = time(input, at, &now["template"], &mut difference.summary)?;
    }
    Ok(difference)
}

fn effect(strategy: &Strategy, from: Option<&str>, to: &str, (status, is_edited): (&RolloutStatus, bool)) -> Effect {
    let is = |hash: Option<&String>| hash.is_some_and(|hash| hash == to);
    // The newest is stable's own.
    let promoted = status.history.iter().rev().filter(|outcome| outcome.outcome == OutcomeKind::Promoted);
    let is_near = |window: usize| promoted.take(window + 1).any(|outcome| outcome.hash == to);
    match from {
        _ if !strategy.faults.is_empty() => Effect::Invalid,
        None => Effect::New,
        Some(from) if from == to && !is_edited => Effect::Nothing,
        Some(from) if from == to => Effect::NoRollout,
        Some(_) if is(status.stable.as_ref().map(|stable| &stable.hash)) => Effect::Revert,
        Some(_) if is(status.aborted.as_ref().map(|aborted| &aborted.hash)) => Effect::Aborted,
        Some(_) if strategy.rollback_window.is_some_and(is_near) => Effect::Rollback,
        Some(_) => Effect::Rollout,
    }
}

fn summary(effect: Effect, status: &RolloutStatus) -> String {
    let superseded = status.in_progress().filter(|_| matches!(effect, Effect::Rollout | Effect::Rollback));
    let superseded = superseded.map_or_else(String::new, |canary| {
        format!(
            "; it supersedes r{}, whose {}% of traffic goes to stable first",
            canary.revision, canary.observed_weight
        )
    });
    let told = match effect {
        Effect::New => "a new Rollout: it becomes stable when its pods are ready, without steps",
        Effect::Removed => "REMOVED: where its tool prunes, it is deleted, and its pods with it",
        Effect::Nothing => "nothing changes",
        Effect::NoRollout => "no rollout starts: the template stays as it is",
        Effect::Rollout => "a rollout starts",
        Effect::Revert => "stable's template again: all traffic returns to stable at once, without steps",
        Effect::Rollback => "a revision that was stable before: within rollbackWindow, so that its steps are skipped",
        Effect::Aborted => "the revision that was aborted: it is not tried again without kubectl serin retry",
        Effect::Invalid => "the spec cannot be used: nothing begins, stable serves",
    };
    format!("{told}{superseded}")
}

/// What of a spec is not the template. What Serin writes itself is left out where the commit leaves it out.
fn rest(written: &Value, after: &Value) -> Value {
    let mut rest = written.clone();
    if let Some(fields) = rest.as_object_mut() {
        fields.remove("template");
        if after["replicas"].is_null() {
            fields.remove("replicas");
        }
    }
    rest
}

/// Every field that differs.
fn changes(from: &Value, to: &Value, path: &str) -> Vec<Change> {
    match (from, to) {
        (Value::Object(one), Value::Object(other)) => {
            let keys: BTreeSet<&String> = one.keys().chain(other.keys()).collect();
            keys.into_iter().flat_map(|key| changes(&from[key], &to[key], &format!("{path}.{key}"))).collect()
        }
        (Value::Array(one), Value::Array(other)) if one.len() == other.len() => {
            let items = one.iter().zip(other).enumerate();
            items.flat_map(|(at, (one, other))| changes(one, other, &format!("{path}[{at}]"))).collect()
        }
        _ if from == to => Vec::new(),
        _ => vec![Change { path: path.to_owned(), from: from.clone(), to: to.clone() }],
    }
}

/// What each gate wants, as far as its templates are in the input.
fn gates(input: &Input, strategy: &Strategy, namespace: &str) -> Vec<String> {
    let mut told = Vec::new();
    for (step, gate) in strategy.gates() {
        let place = step.map_or_else(|| "background".to_owned(), |step| format!("step {}", step + 1));
        for reference in &gate.templates {
            let kind =
                if reference.cluster_scope == Some(true) { "ClusterAnalysisTemplate" } else { "AnalysisTemplate" };
            let own = if reference.cluster_scope == Some(true) { "" } else { namespace };
            let key = (own.to_owned(), reference.template_name.clone());
            let template = input.others.iter().find(|object| object["kind"] == kind && key_of(object) == key);
            let metrics = template.and_then(|template| template["spec"]["metrics"].as_array());
            match metrics {
                None => told.push(format!("{place}: {kind} {} is not in the input", reference.template_name)),
                Some(metrics) => told.extend(metrics.iter().map(|metric| format!("{place}: {}", metric_text(metric)))),
            }
        }
    }
    told
}

/// `success-rate wants result[0] >= 0.95, 5 times every 30s`
fn metric_text(metric: &Value) -> String {
    let text = |key: &str| metric[key].as_str().map(str::to_owned);
    let wants = text("successCondition").map(|condition| format!(" wants {condition}"));
    let refuses = text("failureCondition").map(|condition| format!(" refuses {condition}"));
    let plain = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let count = metric.get("count").map(|count| format!(", {} times", plain(count)));
    let every = metric.get("interval").map(|interval| format!(" every {}", plain(interval)));
    let name = text("name").unwrap_or_default();
    [Some(name), wants, refuses, count, every].into_iter().flatten().collect()
}

fn revert(strategy: &Strategy) -> String {
    let later = match strategy.rollback_window {
        Some(revisions) => format!("without steps within {revisions} revisions (rollbackWindow)"),
        None => "by the steps, as any release; rollbackWindow would skip them".to_owned(),
    };
    format!("under way: all traffic to stable at once; after the promotion: {later}")
}

/// Where neither the commit nor an autoscaler says how many pods there are, there are as many as before.
fn count_as_before(input: &mut Input, at: usize, now: &Value) {
    let Some(rollout) = input.rollouts.get(at) else { return };
    let is_said = !rollout["spec"]["replicas"].is_null() || input.least_replicas(rollout).is_some();
    if let Some(rollout) = input.rollouts.get_mut(at).filter(|_| !is_said) {
        rollout["spec"]["replicas"] = now["replicas"].clone();
    }
}

/// How long the rollout takes, simulated twice; the summary says where it does not end in a promotion.
fn time(input: &mut Input, at: usize, before: &Value, summary: &mut String) -> anyhow::Result<Option<Time>> {
    let seconds = |field: &str| input.rollouts.get(at).and_then(|rollout| rollout["spec"][field].as_i64());
    // Ready, and available in time.
    let most = seconds("progressDeadlineSeconds").unwrap_or(600) - seconds("minReadySeconds").unwrap_or(0);
    let slow = DurationText::Seconds((most - 5).max(1));
    let promoted = Scenario { promote_after: Some(DurationText::Seconds(1)), ..Scenario::default() };
    let late = Scenario { pods: Some(PodsText::ReadyAfter(slow)), ..promoted.clone() };
    let mut told = Vec::new();
    for scenario in [promoted, late] {
        let story = input.story_after(at, before.clone(), &scenario, 0)?;
        let told_by = Summary::of(&story, "", &sim::run(&story)?);
        if told_by.outcome != verdict::Outcome::Promoted {
            let _ = write!(summary, "; even when all is good it would not be promoted: {}", told_by.verdict());
            return Ok(None);
        }
        told.push(told_by);
    }
    let [least, most] = told.as_slice() else { return Ok(None) };
    let (pods_most, pods_before) = (least.pods_most.max(most.pods_most), least.pods_before);
    let scaler = input.rollouts.get(at).and_then(|rollout| input.least_replicas(rollout));
    let pods_before_from = scaler.map(|(_, said_by)| said_by);
    Ok(Some(Time { least: least.took, most: most.took, pods_most, pods_before, pods_before_from }))
}
