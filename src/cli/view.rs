//! A Rollout as one screen: pure. What a person on call must know first comes first; the words are those of the status.

use std::cmp::Ordering;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod, PodCondition};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};

use super::branch::{self, Branch};
use super::cluster::Tree;
use crate::api::names;
use crate::api::status::{
    AnalysisKind, AnalysisStatus, Assessment, Decision, MetricStatus, Phase, RevisionStatus, RolloutStatus, Verdict,
    Wait,
};
use crate::api::watched::ReplicaSet;
use crate::plan::strategy::{self, ApprovalStep, Scale, Step};
use crate::plan::{baseline, revision, tell};

/// Cells of a bar of weight.
const BAR: usize = 25;

/// Measurements of a metric that are drawn.
const DRAWN: usize = 10;

/// Ready pods of a revision that are shown, and others, which come first.
const READY: usize = 5;
const OTHERS: usize = 10;

/// Decisions that are shown.
const DECISIONS: usize = 5;

/// The characters to draw with.
#[derive(Debug, Clone, Copy)]
pub struct Glyphs {
    passed: char,
    current: char,
    ahead: char,
    full: char,
    empty: char,
    /// Before a branch that others follow.
    pub branch: &'static str,
    /// Before the last branch.
    pub last: &'static str,
    /// Beside what is below a branch that others follow.
    pub trunk: &'static str,
    levels: [char; 8],
}

/// For terminals that know Unicode.
pub const UNICODE: Glyphs = Glyphs {
    passed: '●',
    current: '◉',
    ahead: '○',
    full: '█',
    empty: '░',
    branch: "├─ ",
    last: "└─ ",
    trunk: "│  ",
    levels: ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'],
};

/// Characters of texts that are made elsewhere, each with what stands for it where Unicode is not known.
const PLAIN: [(char, &str); 5] = [('█', "#"), ('░', "."), ('→', "->"), ('»', ">"), ('·', "-")];

impl Glyphs {
    /// A text that is made elsewhere, in these characters.
    pub fn drawn(&self, text: &str) -> String {
        if self.full == UNICODE.full {
            return text.to_owned();
        }
        PLAIN.iter().fold(text.to_owned(), |text, (one, plain)| text.replace(*one, plain))
    }
}

/// For those that do not.
pub const ASCII: Glyphs = Glyphs {
    passed: '*',
    current: '@',
    ahead: '.',
    full: '#',
    empty: '.',
    branch: "|- ",
    last: "`- ",
    trunk: "|  ",
    levels: ['_', '.', ',', '-', '~', '=', '+', '#'],
};

/// The lines of one Rollout.
pub fn lines(tree: &Tree, glyphs: &Glyphs, now: Timestamp) -> Vec<Line<'static>> {
    let status = &tree.rollout.status;
    let mut lines = head(tree, glyphs);
    lines.extend(weights(status, glyphs));
    if !status.blocked_by.is_empty() {
        lines.push(title("WAITS FOR"));
        lines.extend(status.blocked_by.iter().map(|wait| wait_line(wait, &status.message, now)));
    }
    let metrics = metrics(tree, glyphs);
    if !metrics.is_empty() {
        lines.push(title("METRICS"));
        lines.extend(metrics);
    }
    lines.push(Line::default());
    lines.extend(deployment(tree));
    lines.extend(revisions(tree, glyphs, now));
    if let Some(commit) = status.accepted_commit() {
        lines.push(Line::from(dim(format!("commit {} is accepted: it changes nothing in the pods", short(commit)))));
    }
    if !status.decisions.is_empty() {
        lines.push(title("DECISIONS"));
        lines.extend(status.decisions.iter().rev().take(DECISIONS).map(|decision| decision_line(decision, now)));
    }
    lines
}

/// Name, phase, message and steps.
fn head(tree: &Tree, glyphs: &Glyphs) -> Vec<Line<'static>> {
    let (metadata, status) = (&tree.rollout.metadata, &tree.rollout.status);
    let phase = status.phase.map_or_else(|| "Unknown".to_owned(), |phase| phase.to_string());
    let color = status.phase.map_or(Color::DarkGray, color_of);
    let reason = status.conditions.iter().find(|condition| condition.kind == "Ready").map(|ready| ready.reason.clone());
    let reason = reason.filter(|reason| *reason != phase).map_or_else(String::new, |reason| format!(" ({reason})"));
    let mut lines = vec![Line::from(vec![
        bold(metadata.name.clone().unwrap_or_default()),
        dim(format!(" in {}  ", metadata.namespace.clone().unwrap_or_default())),
        Span::styled(format!("{phase}{reason}"), Style::new().fg(color).add_modifier(Modifier::BOLD)),
    ])];
    let unseen = match status.phase {
        None => Some("  no controller has looked at it yet"),
        Some(_) if tree.rollout.is_behind() => Some("  the controller has not seen the last change of the spec yet"),
        Some(_) => None,
    };
    lines.extend(unseen.map(|text| Line::styled(text, Style::new().fg(Color::Yellow))));
    if metadata.deletion_timestamp.is_some() {
        let text = "  it is being deleted, and goes once the controller has brought its route back";
        lines.push(Line::styled(text, Style::new().fg(Color::Red)));
    }
    if !tree.unseen.is_empty() {
        lines.push(dim(format!("  not shown: you may not list {}", tree.unseen.join(" and "))).into());
    }
    if !status.message.is_empty() {
        lines.push(Line::from(format!("  {}", status.message)));
    }
    lines.extend(steps(tree, glyphs));
    lines
}

/// What is said once no step is left.
fn passed(total: i32) -> &'static str {
    match total {
        ..=0 => "there are no steps",
        1 => "the only step is passed",
        _ => "all steps passed",
    }
}

/// The place among the steps, and what the current one does.
fn steps(tree: &Tree, glyphs: &Glyphs) -> Option<Line<'static>> {
    let status = &tree.rollout.status;
    let total = status.attempt.as_ref()?.steps;
    let at = status.current_step_index.unwrap_or(0);
    let marks: String = (0..total)
        .map(|step| match step.cmp(&at) {
            Ordering::Less => glyphs.passed,
            Ordering::Equal => glyphs.current,
            Ordering::Greater => glyphs.ahead,
        })
        .collect();
    if at >= total {
        return Some(Line::from(format!("  {marks} {}", passed(total))));
    }
    let namespace = tree.rollout.metadata.namespace.as_deref().unwrap_or_default();
    let steps = strategy::parse(namespace, &tree.rollout.spec.value()).steps;
    let step = usize::try_from(at).ok().and_then(|at| steps.get(at));
    let what = step.map_or_else(String::new, |step| format!(": {}", step_text(step)));
    Some(Line::from(format!("  {marks} step {} of {total}{what}", at + 1)))
}

/// What a step does, in the words of the spec.
pub fn step_text(step: &Step) -> String {
    match step {
        Step::SetWeight(weight) => format!("setWeight {weight}%"),
        Step::SetCanaryScale(Scale::Replicas(pods)) => format!("setCanaryScale to {pods} pods"),
        Step::SetCanaryScale(Scale::Weight(percent)) => format!("setCanaryScale to {percent}% of the pods"),
        Step::SetCanaryScale(Scale::MatchTrafficWeight) => "setCanaryScale to what the weight needs".to_owned(),
        Step::Pause(Some(duration)) => format!("pause {duration:#}"),
        Step::Pause(None) => "pause until promoted".to_owned(),
        Step::Approval(ApprovalStep { name, approvers: 1 }) => format!("approval {name}"),
        Step::Approval(ApprovalStep { name, approvers }) => format!("approval {name} by {approvers} people"),
        Step::Analysis(gate) => {
            let names: Vec<&str> = gate.templates.iter().map(|template| template.template_name.as_str()).collect();
            format!("analysis {}", names.join(", "))
        }
        Step::SetRoute(route) if route.matches.is_empty() => format!("{} {}, taken away", route.field(), route.name),
        Step::SetRoute(route) => match route.mirror {
            Some(percentage) => format!("{} {} of {percentage}%", route.field(), route.name),
            None => format!("{} {}", route.field(), route.name),
        },
        Step::Faulty => "cannot be read".to_owned(),
    }
}

/// Weights wanted and observed, as bars.
fn weights(status: &RolloutStatus, glyphs: &Glyphs) -> Vec<Line<'static>> {
    let canary_color = if status.aborted.is_some() { Color::Red } else { Color::Yellow };
    let sides = [("stable", status.stable.as_ref(), Color::Green), ("canary", status.canary.as_ref(), canary_color)];
    sides
        .into_iter()
        .filter_map(|(name, side, color)| {
            let side = side?;
            let wanted = (side.weight != side.observed_weight).then(|| format!("  (wanted {}%)", side.weight));
            let in_force = side.weight_in_force.filter(|weight| *weight != side.observed_weight);
            let in_force = in_force.map(|weight| format!("  (proxies have {weight}%)"));
            Some(Line::from(vec![
                Span::raw(format!("  {name}  ")),
                Span::styled(repeated(glyphs.full, cells(side.observed_weight)), Style::new().fg(color)),
                dim(repeated(glyphs.empty, BAR - cells(side.observed_weight))),
                Span::raw(format!(" {:>3}%", side.observed_weight)),
                Span::styled(wanted.unwrap_or_default(), Style::new().fg(Color::Yellow)),
                Span::styled(in_force.unwrap_or_default(), Style::new().fg(Color::Yellow)),
            ]))
        })
        .collect()
}

/// Filled cells of a bar; a weight above 0 fills at least one.
fn cells(percent: i32) -> usize {
    let percent = usize::try_from(percent.clamp(0, 100)).unwrap_or(0);
    (percent * BAR / 100).max(usize::from(percent > 0))
}

/// Every revision that has pods or traffic, with its ReplicaSet and its pods.
fn revisions(tree: &Tree, glyphs: &Glyphs, now: Timestamp) -> Vec<Line<'static>> {
    let status = &tree.rollout.status;
    let mut sets: Vec<&ReplicaSet> = tree.replica_sets.iter().collect();
    sets.sort_by_key(|set| std::cmp::Reverse(number_of(set)));
    let mut lines = Vec::new();
    for set in sets {
        let hash = revision::hash_of(set).unwrap_or_default();
        let side = [("canary", &status.canary), ("stable", &status.stable)]
            .into_iter()
            .find_map(|(name, side)| Some((name, side.as_ref().filter(|side| side.hash == hash)?)));
        let wanted = set.spec.replicas.unwrap_or(1);
        if side.is_none() && wanted == 0 && set.status.replicas == 0 {
            continue;
        }
        lines.push(revision_line(set, side, status));
        lines.extend(branch::lines(&[set_branch(tree, set, now)], glyphs, "  "));
    }
    lines
}

/// `Deployment checkout  3 pods, brings the template`, while it has pods.
fn deployment(tree: &Tree) -> Option<Line<'static>> {
    let name = tree.rollout.workload()?;
    let replicas = tree.rollout.status.workload.as_ref()?.replicas;
    (replicas > 0).then(|| {
        let pods = Span::styled(format!("  {}", counted(replicas)), Style::new().fg(Color::Yellow));
        Line::from(vec![Span::raw("Deployment "), bold(name), pods, Span::raw(", brings the template")])
    })
}

/// A number of pods.
pub fn counted(pods: i32) -> String {
    if pods == 1 { "1 pod".to_owned() } else { format!("{pods} pods") }
}

/// A ReplicaSet and its pods.
pub fn set_branch(tree: &Tree, set: &ReplicaSet, now: Timestamp) -> Branch {
    let wanted = set.spec.replicas.unwrap_or(1);
    let created = set.metadata.creation_timestamp.as_ref().map_or_else(String::new, |at| age(at.0, now));
    let line = Line::from(vec![
        Span::raw(format!("ReplicaSet {}", set.metadata.name.clone().unwrap_or_default())),
        ready(format!("  {}/{wanted} ready", set.status.ready_replicas), set.status.ready_replicas >= wanted),
        dim(format!("  {created}")),
    ]);
    let pods = match baseline::read(set) {
        Some(baseline) => pods_that(tree, |pod| baseline.has(&pod.metadata)),
        None => pods_of(tree, revision::hash_of(set).unwrap_or_default()),
    };
    let (ready, others): (Vec<&Pod>, Vec<&Pod>) = pods.into_iter().partition(|pod| is_ready(pod));
    let mut below = Vec::new();
    for (pods, most, word) in [(others, OTHERS, "not ready"), (ready, READY, "ready")] {
        below.extend(pods.iter().take(most).map(|pod| Branch::leaf(pod_line(pod, now))));
        if pods.len() > most {
            below.push(Branch::leaf(dim(format!("{} more, {word}", pods.len() - most))));
        }
    }
    Branch { line, below }
}

fn number_of(set: &ReplicaSet) -> i64 {
    let number = set.metadata.annotations.as_ref().and_then(|annotations| annotations.get(names::REVISION));
    number.and_then(|number| number.parse().ok()).unwrap_or(0)
}

/// `canary r2  registry/checkout:2  commit 3f9a01c by Ada`
fn revision_line(set: &ReplicaSet, side: Option<(&str, &RevisionStatus)>, status: &RolloutStatus) -> Line<'static> {
    let (name, color) = match side {
        Some(("stable", _)) => ("stable", Color::Green),
        Some(_) if status.aborted.is_some() => ("aborted", Color::Red),
        Some(_) => ("canary", Color::Yellow),
        None => ("old", Color::DarkGray),
    };
    let image = set.spec.template.spec.containers.first().map_or_else(String::new, |container| container.image.clone());
    if let Some(baseline) = baseline::read(set) {
        return Line::from(vec![
            Span::styled("baseline", Style::new().fg(Color::Cyan).add_modifier(Modifier::BOLD)),
            Span::raw(format!("  {image}")),
            dim(format!("  of stable {}, as young as canary {}", baseline.stable, baseline.canary)),
        ]);
    }
    let commit = side.and_then(|(_, side)| side.commit.as_ref()).map(|commit| format!("  commit {}", short(commit)));
    let author = side.and_then(|(_, side)| side.author.as_ref()).map(|author| format!(" by {author}"));
    Line::from(vec![
        Span::styled(format!("{name:<7}"), Style::new().fg(color).add_modifier(Modifier::BOLD)),
        Span::raw(format!(" r{}  {image}", number_of(set))),
        dim(format!("{}{}", commit.unwrap_or_default(), author.unwrap_or_default())),
    ])
}

/// A commit as Git shortens it.
pub fn short(commit: &str) -> &str {
    commit.get(..7).unwrap_or(commit)
}

/// The pods of a revision, by name.
pub fn pods_of<'a>(tree: &'a Tree, hash: &str) -> Vec<&'a Pod> {
    pods_that(tree, |pod| revision::is_own(&pod.metadata, hash))
}

fn pods_that(tree: &Tree, is_one: impl Fn(&Pod) -> bool) -> Vec<&Pod> {
    let mut pods: Vec<&Pod> = tree.pods.iter().filter(|pod| is_one(pod)).collect();
    pods.sort_by_key(|pod| pod.metadata.name.clone());
    pods
}

fn pod_line(pod: &Pod, now: Timestamp) -> Line<'static> {
    let containers = pod.spec.as_ref().map_or(0, |spec| spec.containers.len());
    let ready_containers = container_statuses(pod).iter().filter(|status| status.ready).count();
    let restarts: i32 = container_statuses(pod).iter().map(|status| status.restart_count).sum();
    let created = pod.metadata.creation_timestamp.as_ref().map_or_else(String::new, |at| age(at.0, now));
    let restarts = match restarts {
        0 => String::new(),
        1 => "  1 restart".to_owned(),
        more => format!("  {more} restarts"),
    };
    // A readiness gate, or a condition that has not followed yet.
    let gated = if !is_ready(pod) && ready_containers == containers { ", not ready" } else { "" };
    Line::from(vec![
        Span::raw(format!("{}  ", pod.metadata.name.clone().unwrap_or_default())),
        ready(format!("{} {ready_containers}/{containers}{gated}", pod_state(pod)), is_ready(pod)),
        Span::styled(restarts, Style::new().fg(Color::Yellow)),
        dim(format!("  {created}")),
    ])
}

fn container_statuses(pod: &Pod) -> &[ContainerStatus] {
    pod.status.as_ref().and_then(|status| status.container_statuses.as_deref()).unwrap_or_default()
}

/// Whether a pod gets requests.
fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let is_so = |condition: &PodCondition| condition.type_ == "Ready" && condition.status == "True";
    pod.metadata.deletion_timestamp.is_none() && conditions.into_iter().any(is_so)
}

/// One word for a pod: its phase, or what it waits for.
fn pod_state(pod: &Pod) -> String {
    let waiting =
        container_statuses(pod).iter().find_map(|status| status.state.as_ref()?.waiting.as_ref()?.reason.clone());
    let phase = pod.status.as_ref().and_then(|status| status.phase.clone()).unwrap_or_else(|| "Unknown".to_owned());
    match (&pod.metadata.deletion_timestamp, waiting) {
        (Some(_), _) => "Terminating".to_owned(),
        (None, Some(reason)) => reason,
        (None, None) => phase,
    }
}

/// Every metric of the analyses, newest first: its last values against its condition.
fn metrics(tree: &Tree, glyphs: &Glyphs) -> Vec<Line<'static>> {
    let of = |analysis: &AnalysisStatus| -> Vec<Line<'static>> {
        let place = match (analysis.kind, analysis.step) {
            (AnalysisKind::Step, Some(step)) => format!("step {}", step + 1),
            (AnalysisKind::Step, None) => "step".to_owned(),
            (AnalysisKind::Background, _) => "background".to_owned(),
        };
        analysis
            .metrics
            .iter()
            .map(|metric| metric_line(metric, &place, tree.condition(&metric.name), glyphs))
            .collect()
    };
    tree.rollout.status.analysis.iter().rev().flat_map(of).collect()
}

fn metric_line(metric: &MetricStatus, place: &str, condition: Option<&str>, glyphs: &Glyphs) -> Line<'static> {
    let mut spans = vec![Span::raw(format!("  {:<20} ", metric.name)), dim(format!("{place:<10} "))];
    let from = metric.measurements.len().saturating_sub(DRAWN);
    let drawn = metric.measurements.get(from..).unwrap_or_default();
    let values: Vec<Option<f64>> = drawn.iter().map(|measurement| number(&measurement.value)).collect();
    for (measurement, value) in drawn.iter().zip(&values) {
        let mark = value.map_or('?', |value| level(value, &values, glyphs));
        spans.push(Span::styled(mark.to_string(), Style::new().fg(color_of_assessment(measurement.assessment))));
    }
    if let Some(last) = drawn.last() {
        spans.push(Span::raw(format!(" {}", last.value)));
    }
    spans.extend(metric.job.as_ref().map(|job| Span::raw(format!(" Job {} runs", job.name))));
    spans.extend(condition.map(|condition| dim(format!("  wants {condition}"))));
    let counted = metric.successes + metric.failures + metric.inconclusive;
    let (verdict, color) = match metric.verdict {
        Verdict::Running => match &metric.evidence {
            Some(evidence) => (format!("  {}", tell::weight_of(evidence)), Color::Cyan),
            None => (format!("  {} of {counted} good", metric.successes), Color::Cyan),
        },
        Verdict::Pass => ("  passed".to_owned(), Color::Green),
        Verdict::Fail => ("  FAILED".to_owned(), Color::Red),
        Verdict::Inconclusive => ("  inconclusive".to_owned(), Color::Yellow),
    };
    spans.push(Span::styled(verdict, Style::new().fg(color)));
    Line::from(spans)
}

/// The first number of a value.
pub fn number(value: &str) -> Option<f64> {
    let first = value.trim_start_matches('[').split([',', ']', '%']).next()?;
    first.trim().parse().ok().filter(|number: &f64| number.is_finite())
}

/// A value's height among the others.
fn level(value: f64, values: &[Option<f64>], glyphs: &Glyphs) -> char {
    let known = || values.iter().flatten().copied();
    let (least, most) = (known().fold(f64::INFINITY, f64::min), known().fold(f64::NEG_INFINITY, f64::max));
    let top = glyphs.levels.len() - 1;
    let height = if most > least { (value - least) / (most - least) } else { 1.0 };
    let at = (0..=top).rev().find(|at| height * 7.0 + 0.5 >= f64::from(u32::try_from(*at).unwrap_or(0))).unwrap_or(0);
    glyphs.levels.get(at).copied().unwrap_or('?')
}

/// One wait; its message only where the Rollout's does not say it already.
fn wait_line(wait: &Wait, message: &str, now: Timestamp) -> Line<'static> {
    let until = wait.until.map_or_else(String::new, |until| {
        if until > now { format!(", at most {} more", age(now, until)) } else { ", due now".to_owned() }
    });
    let told = if message.contains(&wait.message) { String::new() } else { format!(": {}", wait.message) };
    Line::from(format!("  {:<18} for {}{until}{told}", wait.reason, age(wait.since, now)))
}

/// One decision: when, what, who and why.
pub fn decision_line(decision: &Decision, now: Timestamp) -> Line<'static> {
    let age = age(decision.at, now);
    let commit = decision.commit.as_ref().map_or_else(String::new, |commit| format!(" ({})", short(commit)));
    Line::from(format!("  {age:>4} ago  {:<16} {}{commit}: {}", decision.what, decision.by, decision.why))
}

/// Time between two moments, as kubectl shortens it.
pub fn age(from: Timestamp, to: Timestamp) -> String {
    let seconds = to.as_second().saturating_sub(from.as_second()).max(0);
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7_200 => format!("{}m", seconds / 60),
        7_200..172_800 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// The colour of a phase.
pub fn color_of(phase: Phase) -> Color {
    match phase {
        Phase::Healthy => Color::Green,
        Phase::Progressing => Color::Cyan,
        Phase::Paused => Color::Yellow,
        Phase::Degraded => Color::Red,
    }
}

fn color_of_assessment(assessment: Assessment) -> Color {
    match assessment {
        Assessment::Counted => Color::Cyan,
        Assessment::Success => Color::Green,
        Assessment::Failure => Color::Red,
        Assessment::Inconclusive | Assessment::Pending | Assessment::NoData | Assessment::Error => Color::Yellow,
    }
}

/// The title of a part.
pub fn title(text: &'static str) -> Line<'static> {
    Line::styled(text, Style::new().add_modifier(Modifier::BOLD))
}

fn bold(text: String) -> Span<'static> {
    Span::styled(text, Style::new().add_modifier(Modifier::BOLD))
}

fn dim(text: String) -> Span<'static> {
    Span::styled(text, Style::new().fg(Color::DarkGray))
}

fn ready(text: String, is_ready: bool) -> Span<'static> {
    Span::styled(text, Style::new().fg(if is_ready { Color::Green } else { Color::Yellow }))
}

fn repeated(glyph: char, times: usize) -> String {
    std::iter::repeat_n(glyph, times).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_that_are_over_are_counted_as_people_do() {
        assert_eq!([0, 1, 2].map(passed), ["there are no steps", "the only step is passed", "all steps passed"]);
    }

    #[test]
    fn what_is_drawn_elsewhere_is_drawn_in_ascii() {
        assert_eq!(ASCII.drawn("█░ 1 → 2 » ·"), "#. 1 -> 2 > -");
        assert_eq!(UNICODE.drawn("█░ 1 → 2 » ·"), "█░ 1 → 2 » ·");
    }
}
