//! What is tried: the metrics of the manifests, and the steps of a release. Queries are widened to all revisions of the
//! Rollout, since those of the past had other hashes.

use std::collections::BTreeMap;

use anyhow::{Context as _, bail};
use jiff::SignedDuration;
use serde_json::Value;

use crate::api::rollout::TemplateRef;
use crate::cli::files;
use crate::cli::simulate::DEFAULT_NAMESPACE;
use crate::embedded::store::key_of;
use crate::plan::observed::{Observed, Template};
use crate::plan::preset::Place;
use crate::plan::route::Route;
use crate::plan::strategy::{self, Gate, Step, Strategy};
use crate::plan::template::{self, End, Metric, Names};
use crate::plan::weigh;
use crate::sim::input::{self, Input};

/// Stands for the hash of a revision until a query is widened.
pub(super) const REVISION: &str = "serinbacktestrevision";
/// How long a step lasts whose end only a person or the evidence decides.
const OPEN: SignedDuration = SignedDuration::from_mins(5);
/// The steps where no Rollout says which: percent.
const USUAL: [i32; 3] = [5, 20, 50];

/// What is tried.
pub(super) struct Plan {
    /// The Rollout's name.
    pub(super) rollout: String,
    /// Its metrics, each once.
    pub(super) metrics: Vec<Metric>,
    /// The weights of a release.
    pub(super) phases: Vec<Phase>,
    /// How long requests of new pods are not counted.
    pub(super) warmup: SignedDuration,
    /// The probability of an abort without reason that the Rollout promises.
    pub(super) alpha: f64,
    /// What was assumed, in sentences.
    pub(super) notes: Vec<String>,
}

/// A weight, and how long it is kept.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Phase {
    /// Percent for the canary.
    pub(super) weight: i32,
    /// How long.
    pub(super) lasts: SignedDuration,
}

impl Plan {
    /// Reads manifests.
    pub(super) fn read(files: &[String], namespace: Option<&str>, wanted: Option<&str>) -> anyhow::Result<Self> {
        let namespace = namespace.unwrap_or(DEFAULT_NAMESPACE);
        let input = input::read_any(&files::texts(files)?, namespace)?;
        let named = |rollout: &&Value| wanted.is_none_or(|wanted| key_of(rollout).1 == wanted);
        let mut rollouts = input.rollouts.iter().filter(named);
        let rollout = rollouts.next();
        if let Some(other) = rollouts.next() {
            bail!("the input has several Rollouts, {} among them; name one with --rollout", key_of(other).1);
        }
        Self::of(&input, rollout, namespace, wanted)
    }

    /// That of one Rollout, or of a name where there is none.
    pub(super) fn of(
        input: &Input,
        rollout: Option<&Value>,
        namespace: &str,
        wanted: Option<&str>,
    ) -> anyhow::Result<Self> {
        let mut observed =
            Observed { templates: input.others.iter().filter_map(template_of).collect(), ..Observed::default() };
        if observed.templates.is_empty() {
            bail!("no AnalysisTemplate in the input; give its manifest with -f");
        }
        let known = |template: &Template| {
            let spec = template::parse_template(&template.spec.value(), End::Never).ok()?;
            Some(spec.metrics.iter().filter_map(|metric| metric.provider().map(str::to_owned)).collect::<Vec<_>>())
        };
        let providers = observed.templates.iter().filter_map(known).flatten().chain(["default".to_owned()]);
        observed.providers = providers.map(|name| (name, None)).collect();
        let mut notes = Vec::new();
        let strategy = match rollout {
            Some(rollout) => {
                observed.rollout = serde_json::from_value(rollout.clone()).context("read the Rollout")?;
                let (namespace, _) = key_of(rollout);
                strategy::parse(&namespace, rollout.get("spec").unwrap_or(&Value::Null))
            }
            None => Strategy::default(),
        };
        let metadata = &mut observed.rollout.metadata;
        metadata.namespace.get_or_insert_with(|| namespace.to_owned());
        metadata.name = metadata.name.clone().or_else(|| wanted.map(str::to_owned));
        let name = metadata.name.clone().context("whose requests count? name the Rollout with --rollout")?;
        let gates = gates(&strategy, &observed);
        let mut metrics = metrics(&observed, &strategy, &gates, &name)?;
        let phases = phases(&strategy, &observed, &metrics, &mut notes);
        for metric in metrics.extract_if(.., |metric| matches!(metric.source, template::Source::Web(_))) {
            notes.push(format!("metric {} asks a server that remembers nothing: it is left out", metric.name));
        }
        for metric in metrics.extract_if(.., |metric| metric.job().is_some()) {
            notes.push(format!("metric {} runs a Job, of which Prometheus knows nothing: it is left out", metric.name));
        }
        if metrics.is_empty() {
            bail!("no metric of the input asks Prometheus");
        }
        let judging = strategy.judging.clone();
        Ok(Self { rollout: name, metrics, phases, warmup: judging.warmup, alpha: judging.alpha, notes })
    }

    /// How long a release lasts.
    pub(super) fn lasts(&self) -> SignedDuration {
        self.phases.iter().fold(SignedDuration::ZERO, |sum, phase| sum + phase.lasts)
    }
}

fn template_of(object: &Value) -> Option<Template> {
    let kind = object.get("kind")?.as_str()?;
    let cluster = kind == "ClusterAnalysisTemplate";
    let spec = serde_json::from_value(object.get("spec")?.clone()).ok()?;
    (cluster || kind == "AnalysisTemplate").then(|| Template { name: key_of(object).1, cluster, spec })
}

/// The analyses of the Rollout; of all templates at once where there is none.
fn gates(strategy: &Strategy, observed: &Observed) -> Vec<(End, Gate)> {
    let named: Vec<(End, Gate)> =
        strategy.gates().map(|(step, gate)| (End::of(gate, step.is_none()), gate.clone())).collect();
    if !named.is_empty() {
        return named;
    }
    let reference = |template: &Template| TemplateRef {
        template_name: template.name.clone(),
        cluster_scope: Some(template.cluster),
    };
    let templates = observed.templates.iter().map(reference).collect();
    vec![(End::Never, Gate { templates, ..Gate::default() })]
}

/// The metrics of all analyses, each once: what a metric has seen is remembered over all steps.
fn metrics(
    observed: &Observed,
    strategy: &Strategy,
    gates: &[(End, Gate)],
    rollout: &str,
) -> anyhow::Result<Vec<Metric>> {
    let place = Place::of(observed, strategy.routing.as_ref(), &Route::default());
    let names = Names { rollout, stable: REVISION, canary: REVISION, place };
    let mut metrics: BTreeMap<(String, String), Metric> = BTreeMap::new();
    for (end, gate) in gates {
        let filled = template::metrics(observed, gate, *end, &names).map_err(|obstacles| {
            let told: Vec<String> = obstacles.into_iter().map(|(_, message)| message).collect();
            anyhow::anyhow!(told.join("; "))
        })?;
        for metric in filled {
            metrics.entry((metric.template.clone(), metric.name.clone())).or_insert(metric);
        }
    }
    let mut metrics: Vec<Metric> = metrics.into_values().collect();
    let weights = metrics.iter().filter_map(|metric| Some(metric.counted()?.weight)).sum();
    weigh::share(&mut metrics, strategy.judging.alpha, weights);
    Ok(metrics)
}

/// The weights of the Rollout's steps and how long each lasts; the usual ones where there are none.
fn phases(strategy: &Strategy, observed: &Observed, metrics: &[Metric], notes: &mut Vec<String>) -> Vec<Phase> {
    let mut phases: Vec<Phase> = Vec::new();
    let mut is_open = false;
    let mut weight = 0;
    for step in &strategy.steps {
        let lasts = match step {
            Step::SetWeight(next) => {
                weight = *next;
                SignedDuration::ZERO
            }
            Step::Pause(Some(duration)) => *duration,
            Step::Analysis(gate) => length(gate, metrics).unwrap_or_else(|| {
                is_open = true;
                gate.at_most.unwrap_or(OPEN)
            }),
            Step::Pause(None) | Step::Approval(_) => {
                is_open = true;
                OPEN
            }
            Step::SetCanaryScale(_) | Step::SetRoute(_) | Step::Faulty => SignedDuration::ZERO,
        };
        match phases.last_mut() {
            Some(last) if last.weight == weight => last.lasts += lasts,
            Some(_) | None => phases.push(Phase { weight, lasts }),
        }
    }
    phases.retain(|phase| phase.lasts > SignedDuration::ZERO && phase.weight > 0 && phase.weight < 100);
    if is_open {
        notes.push("steps that a person or the evidence ends are taken to last 5 minutes".to_owned());
    }
    if phases.is_empty() {
        let why = if observed.rollout.metadata.name.is_some() && !strategy.steps.is_empty() {
            "the steps have no weight that lasts"
        } else {
            "no Rollout says which steps"
        };
        notes.push(format!("{why}: 5, 20 and 50 percent are taken, 5 minutes each"));
        return USUAL.map(|weight| Phase { weight, lasts: OPEN }).to_vec();
    }
    phases
}

/// How long the analysis of a step lasts.
fn length(gate: &Gate, metrics: &[Metric]) -> Option<SignedDuration> {
    let is_named = |metric: &&Metric| gate.templates.iter().any(|one| one.template_name == metric.template);
    let each = metrics.iter().filter(is_named);
    each.map(|metric| Some(metric.delay + metric.interval.unwrap_or_default().saturating_mul(metric.count?)))
        .collect::<Option<Vec<_>>>()?
        .into_iter()
        .max()
}

/// A query of one revision as one of all revisions of the Rollout.
pub(super) fn widened(query: &str, rollout: &str) -> String {
    let own = format!("destination_canonical_revision=\"{REVISION}\"");
    // A revision was the Rollout's own; all of them need its name, and a Deployment before it had it, too.
    let all = format!("destination_canonical_revision=~\".+\",destination_workload=~\"{rollout}(-.+)?\"");
    let mut rest = query.replace(&own, &all);
    let mut wide = String::with_capacity(rest.len());
    while let Some((before, after)) = rest.split_once(REVISION) {
        let (head, value) = before.rsplit_once('"').unwrap_or((before, ""));
        let is_equal = head.ends_with('=') && !head.ends_with("!=");
        wide.push_str(head);
        if is_equal {
            wide.push('~');
        }
        if before.contains('"') {
            wide.push('"');
        }
        match value.strip_suffix('-') {
            Some(value) => wide.extend([value, "(-.+)?"]),
            None => wide.extend([value, ".+"]),
        }
        rest = after.to_owned();
    }
    wide + &rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_of_one_revision_is_one_of_all() {
        let check = |query: &str, wanted: &str| {
            assert_eq!(widened(&query.replace("HASH", REVISION), "checkout"), wanted);
        };
        check(
            r#"sum(a{destination_canonical_revision="HASH"})"#,
            r#"sum(a{destination_canonical_revision=~".+",destination_workload=~"checkout(-.+)?"})"#,
        );
        check(r#"sum by (pod) (a{revision="HASH",code="500"})"#, r#"sum by (pod) (a{revision=~".+",code="500"})"#);
        check(r#"a{w="checkout-HASH"} / a{w="checkout-HASH"}"#, r#"a{w=~"checkout(-.+)?"} / a{w=~"checkout(-.+)?"}"#);
        check(r#"a{w=~"x-HASH.*",v="1"}"#, r#"a{w=~"x(-.+)?.*",v="1"}"#);
        check("sum(a)", "sum(a)");
    }
}
