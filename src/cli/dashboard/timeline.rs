//! One Rollout over time: weights, pods, metrics against their thresholds, evidence and decisions, each as a lane, as a sentence
//! for those who cannot see it, and as a table.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use super::frame;
use super::html::Html;
use super::plot::{self, Lane, Marker, Series, Window};
use super::seen::{Measured, Past, Sample, Side};
use crate::api::status::{AnalysisKind, Assessment, Decision, EvidenceStatus, MeasurementStatus, RolloutStatus};
use crate::cli::view::{number, short};

/// Rows of a table, the newest.
const ROWS: usize = 60;
/// Changes that a sentence tells, the newest.
const TOLD: usize = 8;
/// The shortest plot, and the least that is shown after an end.
const SHORTEST: SignedDuration = SignedDuration::from_secs(30);
const AFTER: SignedDuration = SignedDuration::from_secs(10);

/// What a person asked to see of the past.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Span {
    /// The release that is under way or was the last.
    Rollout,
    /// So many minutes.
    Minutes(i64),
}

impl Span {
    /// The choices, each with its name in addresses and for people.
    pub const ALL: [(Self, &'static str, &'static str); 5] = [
        (Self::Rollout, "rollout", "Last release"),
        (Self::Minutes(15), "15m", "15 minutes"),
        (Self::Minutes(60), "1h", "1 hour"),
        (Self::Minutes(360), "6h", "6 hours"),
        (Self::Minutes(1_440), "1d", "1 day"),
    ];

    /// The choice of a name.
    pub fn named(name: Option<&str>) -> Self {
        let found = Self::ALL.into_iter().find(|(_, own, _)| Some(*own) == name);
        found.map_or(Self::Rollout, |(span, ..)| span)
    }

    /// From when to when that is.
    pub fn bounds(self, status: &RolloutStatus, now: Timestamp) -> (Timestamp, Timestamp) {
        let (from, to) = match self {
            Self::Minutes(minutes) => (before(now, SignedDuration::from_mins(minutes)), now),
            Self::Rollout => {
                let under_way = status.in_progress().and(status.attempt.as_ref()).map(|attempt| attempt.started_at);
                match (under_way, status.history.last()) {
                    (Some(began), _) => (began, now),
                    (None, Some(last)) => {
                        let more = (last.ended_at.duration_since(last.started_at) / 4).max(AFTER);
                        (last.started_at, last.ended_at.checked_add(more).unwrap_or(now).min(now))
                    }
                    (None, None) => (before(now, SignedDuration::from_mins(15)), now),
                }
            }
        };
        (from.min(before(to, SHORTEST)), to)
    }
}

fn before(at: Timestamp, duration: SignedDuration) -> Timestamp {
    at.checked_sub(duration).unwrap_or(at)
}

/// What a simulation foretells of the canary's weight.
#[derive(Debug, Clone, Default)]
pub struct Foretold {
    /// The scenario.
    pub scenario: String,
    /// The weight, by time.
    pub weights: Series,
}

/// All that a timeline shows.
pub struct Timeline<'a> {
    /// What was seen.
    pub past: &'a Past,
    /// The success condition of a metric.
    pub condition: &'a dyn Fn(&str) -> Option<&'a str>,
    /// Its time.
    pub window: Window,
    /// A simulation to compare with.
    pub foretold: Option<Foretold>,
}

/// A lane's pick of a side's numbers.
type Pick = fn(&Side) -> i32;

impl Timeline<'_> {
    /// Writes the lanes.
    pub fn write(&self, html: &mut Html) {
        html.element("div", &[("class", "lanes")], |html| {
            self.weights(html);
            self.pods(html);
            let shown = |at: &Timestamp| self.window.has(*at);
            for (metric, taken) in &self.past.measurements {
                if taken.keys().any(shown) {
                    self.metric(html, metric, taken);
                }
            }
            for (metric, seen) in &self.past.evidence {
                if seen.keys().any(shown) {
                    self.evidence(html, metric, seen);
                }
            }
            self.decisions(html);
        });
    }

    /// The numbers of one side, over time.
    fn series(&self, side: fn(&Sample) -> Option<&Side>, pick: fn(&Side) -> Option<i32>) -> Series {
        let value = |sample: &Sample| side(sample).and_then(pick).map(f64::from);
        self.past.samples.iter().map(|sample| (sample.at, value(sample))).collect()
    }

    fn weights(&self, html: &mut Html) {
        let canary: fn(&Sample) -> Option<&Side> = |sample| sample.canary.as_ref();
        let wanted = self.series(canary, |side| Some(side.weight));
        let observed = self.series(canary, |side| Some(side.observed));
        let in_force = self.series(canary, |side| Some(side.in_force.unwrap_or(side.observed)));
        let lane = Lane { window: &self.window, height: 132.0, low: 0.0, high: 100.0 };
        let mut legend =
            vec![("wanted", "wanted"), ("observed", "in the route"), ("inforce", "in force: every proxy has it")];
        let foretold = self.foretold.as_ref().map(|foretold| format!("simulated: {}", foretold.scenario));
        legend.extend(foretold.as_deref().map(|text| ("foretold", text)));
        let told = self.told(&in_force, |value| format!("{value}%"));
        let alternative = format!("Weight of the canary in force, {}: {told}", self.reach());
        let rows = self.rows(|sample| {
            let canary = sample.canary.as_ref()?;
            let percent = |weight: i32| format!("{weight}%");
            let in_force = canary.in_force.map_or_else(|| "-".to_owned(), percent);
            Some(vec![
                percent(canary.weight),
                percent(canary.observed),
                in_force,
                sample.step.clone().unwrap_or_default(),
            ])
        });
        figure(html, "Weight of the canary", &legend, |html| {
            self.lane(html, &["100%", "50%", "0%"], &lane, &alternative, |html| {
                lane.unknown(html, self.past.since);
                [0.0, 50.0, 100.0].into_iter().for_each(|level| lane.level(html, "grid", level));
                lane.area(html, "inforce", &in_force);
                if let Some(foretold) = &self.foretold {
                    lane.stairs(html, "foretold", &foretold.weights);
                }
                lane.stairs(html, "wanted", &wanted);
                lane.stairs(html, "observed", &observed);
            });
            table(html, "Weights", &["Time", "Wanted", "In the route", "In force", "Step"], rows);
        });
    }

    fn pods(&self, html: &mut Html) {
        let samples = &self.past.samples;
        let sides = samples.iter().flat_map(|sample| [&sample.canary, &sample.stable]).flatten();
        let most = sides.map(|side| side.replicas.max(side.ready)).max().unwrap_or(1).max(1);
        let lane = Lane { window: &self.window, height: 84.0, low: 0.0, high: f64::from(most) };
        let canary: fn(&Sample) -> Option<&Side> = |sample| sample.canary.as_ref();
        let stable: fn(&Sample) -> Option<&Side> = |sample| sample.stable.as_ref();
        let of = |side, pick: fn(&Side) -> Option<i32>| self.series(side, pick);
        let told = |series: &Series| self.told(series, |value| value.to_string());
        let (ready, others) = (of(canary, |side| Some(side.ready)), of(stable, |side| Some(side.ready)));
        let alternative = format!("Ready pods, {}. Canary: {} Stable: {}", self.reach(), told(&ready), told(&others));
        let rows = self.rows(|sample| {
            let side =
                |side: Option<&Side>, pick: Pick| side.map_or_else(|| "-".to_owned(), |side| pick(side).to_string());
            let (canary, stable) = (sample.canary.as_ref(), sample.stable.as_ref());
            let (ready, wanted): (Pick, Pick) = (|side| side.ready, |side| side.replicas);
            Some(vec![side(canary, ready), side(canary, wanted), side(stable, ready), side(stable, wanted)])
        });
        let legend = [("canaryready", "canary"), ("stableready", "stable"), ("canarywanted", "wanted of each")];
        figure(html, "Ready pods", &legend, |html| {
            self.lane(html, &[&most.to_string(), "0"], &lane, &alternative, |html| {
                lane.unknown(html, self.past.since);
                [0.0, f64::from(most)].into_iter().for_each(|level| lane.level(html, "grid", level));
                lane.stairs(html, "stablewanted", &of(stable, |side| Some(side.replicas)));
                lane.stairs(html, "canarywanted", &of(canary, |side| Some(side.replicas)));
                lane.stairs(html, "stableready", &others);
                lane.stairs(html, "canaryready", &ready);
            });
            table(html, "Pods", &["Time", "Canary ready", "of", "Stable ready", "of"], rows);
        });
    }

    fn metric(&self, html: &mut Html, (name, kind): &Measured, taken: &BTreeMap<Timestamp, MeasurementStatus>) {
        let condition = (self.condition)(name);
        let levels = condition.map(plot::thresholds).unwrap_or_default();
        let shown: Vec<&MeasurementStatus> = taken.values().filter(|one| self.window.has(one.at)).collect();
        let valued: Vec<(Timestamp, f64)> =
            shown.iter().filter_map(|one| Some((one.at, number(&one.value)?))).collect();
        let (low, high) = range(valued.iter().map(|(_, value)| *value).chain(levels.iter().copied()));
        let lane = Lane { window: &self.window, height: 84.0, low, high };
        let failed = shown.iter().filter(|one| one.assessment == Assessment::Failure).count();
        let last = shown.last().map_or_else(String::new, |one| format!(", the last {}", one.value));
        let wants = condition.map_or_else(String::new, |condition| format!(" Wanted is {condition}."));
        let (taken, reach) = (shown.len(), self.reach());
        let alternative = format!("Metric {name}, {reach}: {taken} measurements, {failed} failed{last}.{wants}");
        let rows = shown.iter().rev().take(ROWS);
        let rows: Vec<Vec<String>> = rows
            .map(|one| vec![self.window.clock(one.at), one.value.clone(), word(one.assessment).to_owned()])
            .collect();
        let place = if *kind == AnalysisKind::Background { ", in the background" } else { "" };
        let wants = condition.map(|condition| format!("wants {condition}"));
        let mut legend = vec![("good", "success"), ("bad", "failure"), ("warn", "no verdict")];
        legend.extend(wants.as_deref().map(|wants| ("threshold", wants)));
        figure(html, &format!("Metric {name}{place}"), &legend, |html| {
            self.lane(html, &[&tick(high), &tick(low)], &lane, &alternative, |html| {
                levels.iter().for_each(|level| lane.level(html, "threshold", *level));
                valued
                    .chunk_by(|one, next| !self.is_decided(one.0, next.0))
                    .for_each(|part| lane.path(html, "value", part));
                for one in &shown {
                    let y = lane.y(number(&one.value).unwrap_or(low));
                    let title = format!("{} {}: {}", self.window.clock(one.at), word(one.assessment), one.value);
                    plot::marker(html, (self.window.x(one.at), y), marker_of(one.assessment), &title);
                }
            });
            table(html, &format!("Measurements of {name}"), &["Time", "Value", "Assessment"], rows);
        });
    }

    fn evidence(&self, html: &mut Html, (name, _): &Measured, seen: &BTreeMap<Timestamp, EvidenceStatus>) {
        let shown: Vec<(&Timestamp, &EvidenceStatus)> = seen.iter().filter(|(at, _)| self.window.has(**at)).collect();
        let Some((_, last)) = shown.last() else { return };
        // Odds: each tenfold is as high as the next.
        let log = |odds: f64| odds.max(1e-3).log10();
        let points = |pick: fn(&EvidenceStatus) -> f64| -> Vec<(Timestamp, f64)> {
            shown.iter().map(|(at, evidence)| (**at, log(pick(evidence)))).collect()
        };
        let (worse, better) = (points(|evidence| evidence.worse), points(|evidence| evidence.better));
        let limits: Vec<f64> = std::iter::once(last.aborts_at).chain(last.passes_at).map(log).collect();
        let all = worse.iter().chain(&better).map(|(_, value)| *value).chain(limits).chain([0.0]);
        let (low, high) = range(all);
        let lane = Lane { window: &self.window, height: 96.0, low, high };
        let alternative = format!("Evidence of {name}, {}: {}", self.reach(), last.message);
        let rows = shown.iter().rev().take(ROWS);
        let rows: Vec<Vec<String>> = rows.map(|(at, one)| vec![self.window.clock(**at), one.message.clone()]).collect();
        let aborts = format!("worse, aborts at {}×", last.aborts_at);
        let passes = last.passes_at.map_or_else(|| "good".to_owned(), |at| format!("good, passes at {at}×"));
        let legend = [("worse", aborts.as_str()), ("better", &passes)];
        figure(html, &format!("Evidence of {name}: how many times more likely than not"), &legend, |html| {
            let (top, bottom) = (format!("{}×", tick(10_f64.powf(high))), format!("{}×", tick(10_f64.powf(low))));
            self.lane(html, &[&top, &bottom], &lane, &alternative, |html| {
                lane.level(html, "limit worse", log(last.aborts_at));
                lane.note(html, "note", log(last.aborts_at), "aborts");
                if let Some(at) = last.passes_at {
                    lane.level(html, "limit better", log(at));
                    lane.note(html, "note end", log(at), "passes");
                }
                lane.path(html, "worse", &worse);
                lane.path(html, "better", &better);
            });
            html.line("p", &[("class", "told")], &last.message);
            table(html, &format!("Evidence of {name}"), &["Time", "What it says"], rows);
        });
    }

    /// Decisions by number, in up to three rows where they are close.
    fn decisions(&self, html: &mut Html) {
        let shown: Vec<(usize, &Decision)> = self.numbered().filter(|(_, one)| self.window.has(one.at)).collect();
        if shown.is_empty() {
            return;
        }
        let lane = Lane { window: &self.window, height: 46.0, low: 0.0, high: 1.0 };
        let told: Vec<String> =
            shown.iter().map(|(at, one)| format!("{at} {} at {}", one.what, self.window.clock(one.at))).collect();
        let alternative = format!("Decisions, {}: {}.", self.reach(), told.join(", "));
        figure(html, "Decisions, by their number below", &[], |html| {
            row(html, &[], &self.window, |html| {
                lane.draw(html, &alternative, |html| self.numbers(html, &shown));
            });
        });
    }

    fn numbers(&self, html: &mut Html, shown: &[(usize, &Decision)]) {
        let mut ends = [f64::NEG_INFINITY; 3];
        for (at, decision) in shown {
            let x = self.window.x(decision.at);
            let free = ends.iter().position(|end| x - end > 6.0).unwrap_or(0);
            ends.iter_mut().skip(free).take(1).for_each(|end| *end = x);
            let y = f64::from(u8::try_from(free).unwrap_or(0)) * 15.0;
            plot::number(html, (x, y + 12.0), class_of(decision), &at.to_string());
        }
    }

    /// Decisions, each with its number.
    pub fn numbered(&self) -> impl DoubleEndedIterator<Item = (usize, &Decision)> {
        self.past.decisions.iter().enumerate().map(|(at, decision)| (at + 1, decision))
    }

    /// Ticks beside a lane, the lane with the moments of decisions, and the axis below it.
    fn lane(&self, html: &mut Html, ticks: &[&str], lane: &Lane<'_>, alternative: &str, inner: impl FnOnce(&mut Html)) {
        row(html, ticks, &self.window, |html| {
            lane.draw(html, alternative, |html| {
                for decision in &self.past.decisions {
                    lane.moment(html, &format!("moment {}", class_of(decision)), decision.at);
                }
                inner(html);
            });
        });
    }

    /// Whether something was decided between two times: what is measured after it belongs to something else.
    fn is_decided(&self, from: Timestamp, to: Timestamp) -> bool {
        self.past.decisions.iter().any(|decision| from < decision.at && decision.at < to)
    }

    /// `from 12:00:03 to 12:04:10`
    fn reach(&self) -> String {
        format!("from {} to {}", self.window.clock(self.window.from), self.window.clock(self.window.to))
    }

    /// The last changes of a series as a sentence.
    fn told(&self, series: &Series, text: impl Fn(i32) -> String) -> String {
        let mut changes: Vec<(Timestamp, Option<f64>)> = Vec::new();
        for (at, value) in series.iter().filter(|(at, _)| *at <= self.window.to) {
            if changes.last().is_none_or(|(_, last)| last != value) {
                changes.push((*at, *value));
            }
        }
        #[expect(clippy::cast_possible_truncation, reason = "a percentage, or a count of pods")]
        let told: Vec<String> = changes
            .iter()
            .skip(changes.len().saturating_sub(TOLD))
            .map(|(at, value)| {
                let value = value.map_or_else(|| "none".to_owned(), |value| text(value.round() as i32));
                format!("{value} from {}", self.window.clock(*at))
            })
            .collect();
        if told.is_empty() { "nothing was seen.".to_owned() } else { format!("{}.", told.join(", ")) }
    }

    /// Rows of a table of samples, newest first, without those that repeat the one before.
    fn rows(&self, cells: impl Fn(&Sample) -> Option<Vec<String>>) -> Vec<Vec<String>> {
        let mut rows: Vec<Vec<String>> = Vec::new();
        for sample in self.past.samples.iter().filter(|sample| self.window.has(sample.at)) {
            let Some(cells) = cells(sample) else { continue };
            if rows.last().is_none_or(|last| last.get(1..) != Some(&cells)) {
                rows.push(std::iter::once(self.window.clock(sample.at)).chain(cells).collect());
            }
        }
        rows.reverse();
        rows.truncate(ROWS);
        rows
    }
}

/// Ticks beside a lane, the lane, and the axis below it.
pub fn row(html: &mut Html, ticks: &[&str], window: &Window, inner: impl FnOnce(&mut Html)) {
    html.element("div", &[("class", "row")], |html| {
        html.element("div", &[("class", "ticks"), ("aria-hidden", "true")], |html| {
            ticks.iter().for_each(|tick| html.line("span", &[], tick));
        });
        html.element("div", &[("class", "drawn")], |html| {
            inner(html);
            plot::axis(html, window);
        });
    });
}

/// A picture with its title and what its lines mean.
pub fn figure(html: &mut Html, title: &str, legend: &[(&'static str, &str)], inner: impl FnOnce(&mut Html)) {
    html.element("figure", &[], |html| {
        html.element("figcaption", &[], |html| {
            html.line("span", &[("class", "title")], title);
            for (class, text) in legend {
                html.element("span", &[("class", "key")], |html| {
                    html.element("svg", &[("width", "18"), ("height", "10"), ("aria-hidden", "true")], |html| {
                        let class = format!("swatch {class}");
                        let line = [("x1", "0"), ("y1", "5"), ("x2", "18"), ("y2", "5"), ("class", class.as_str())];
                        match sign_of(&class) {
                            Some(sign) => plot::marker(html, (50.0, 5.0), sign, ""),
                            None => html.shape("line", &line, ""),
                        }
                    });
                    html.text(text);
                });
            }
        });
        inner(html);
    });
}

/// The same as a table, for those who want its numbers.
pub fn table(html: &mut Html, title: &str, head: &[&'static str], rows: Vec<Vec<String>>) {
    if rows.is_empty() {
        return;
    }
    html.element("details", &[], |html| {
        html.line("summary", &[], &format!("{title} as a table"));
        plain_table(html, title, head, rows);
    });
}

/// A table of texts.
pub fn plain_table(html: &mut Html, title: &str, head: &[&'static str], rows: Vec<Vec<String>>) {
    let names: Vec<(&'static str, &str)> = head.iter().map(|name| ("", *name)).collect();
    frame::table(html, title, "", |html| {
        frame::head_row(html, &names);
        html.element("tbody", &[], |html| {
            for row in rows {
                html.element("tr", &[], |html| row.iter().for_each(|cell| html.line("td", &[], cell)));
            }
        });
    });
}

/// The lowest and the highest of values, with some room.
pub fn range(values: impl Iterator<Item = f64> + Clone) -> (f64, f64) {
    let low = values.clone().fold(f64::INFINITY, f64::min);
    let high = values.fold(f64::NEG_INFINITY, f64::max);
    if !low.is_finite() || !high.is_finite() {
        return (0.0, 1.0);
    }
    let room = if high > low { (high - low) * 0.15 } else { (low.abs() * 0.05).max(0.5) };
    (low - room, high + room)
}

/// A number beside a lane, to three digits.
pub fn tick(value: f64) -> String {
    let text = match value.abs() {
        1e6.. | f64::MIN_POSITIVE..1e-3 => return format!("{value:.1e}"),
        100.0.. => format!("{value:.0}"),
        10.0.. => format!("{value:.1}"),
        1.0.. => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    };
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

/// The marker that stands for a class in a legend, where it is one.
fn sign_of(class: &str) -> Option<(Marker, &'static str)> {
    let signs = [("good", Marker::Disc), ("bad", Marker::Cross), ("warn", Marker::Ring)];
    signs.into_iter().find(|(name, _)| class.ends_with(&format!(" {name}"))).map(|(name, marker)| (marker, name))
}

fn marker_of(assessment: Assessment) -> (Marker, &'static str) {
    match assessment {
        Assessment::Success => (Marker::Disc, "good"),
        Assessment::Counted => (Marker::Disc, "busy"),
        Assessment::Failure => (Marker::Cross, "bad"),
        Assessment::Inconclusive | Assessment::Pending => (Marker::Diamond, "warn"),
        Assessment::NoData | Assessment::Error => (Marker::Ring, "warn"),
    }
}

/// An assessment in words.
fn word(assessment: Assessment) -> &'static str {
    match assessment {
        Assessment::Success => "success",
        Assessment::Failure => "failure",
        Assessment::Inconclusive => "inconclusive",
        Assessment::Counted => "counted",
        Assessment::Pending => "fails, not for long enough",
        Assessment::NoData => "no data",
        Assessment::Error => "error",
    }
}

/// How a decision looks: what ends badly, what a person wanted, and the rest.
fn class_of(decision: &Decision) -> &'static str {
    match (decision.what.as_str(), decision.by.as_str()) {
        ("Abort" | "Reject", _) => "bad",
        (_, "serin") => "plain",
        _ => "person",
    }
}

/// Who decided, with the commit that declares it.
pub fn author(decision: &Decision) -> String {
    let commit = decision.commit.as_ref().map_or_else(String::new, |commit| format!(" in commit {}", short(commit)));
    format!("{}{commit}", decision.by)
}
