//! A run as a picture: the canary's weight, the pods, and each measurement over time.

use std::fmt::Write as _;

use super::Summary;
use super::text::clock;
use crate::sim::record::Point;
use crate::sim::verdict::Outcome;

const WIDTH: f64 = 960.0;
const LEFT: f64 = 110.0;
const RIGHT: f64 = 24.0;
const TOP: f64 = 64.0;
/// Height of the lanes of weights and of pods, and of one metric's.
const LANE: f64 = 120.0;
const METRIC: f64 = 26.0;
const GAP: f64 = 34.0;

const GREEN: &str = "#2e7d32";
const AMBER: &str = "#e0a100";
const RED: &str = "#c62828";
const GRAY: &str = "#9e9e9e";

/// The picture, as the text of an SVG file.
pub fn svg(summary: &Summary) -> String {
    let mut metrics: Vec<&str> = summary.measurements.iter().map(|one| one.metric.as_str()).collect();
    metrics.sort_unstable();
    metrics.dedup();
    let lanes = metrics.iter().fold(0.0, |height, _| height + METRIC);
    let height = TOP + LANE + GAP + LANE + GAP + lanes + 44.0;
    let end =
        summary.points.last().map_or(0, |point| point.at).min(summary.took + summary.took / 8 + 10_000).max(1_000);
    let scale = Scale { end };
    let mut out = String::new();
    let _ = write!(
        out,
        r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="system-ui, sans-serif" font-size="12">
<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>
<text x="{x}" y="24" font-size="16" font-weight="600">{}</text>
<text x="{x}" y="44" fill="{}">{}</text>
"##,
        escape(&format!("{} under {}", summary.rollout, summary.scenario)),
        color(summary.outcome),
        escape(&cut(&summary.verdict(), 130)),
        x = 16,
    );
    axis(&mut out, &scale, height - 30.0);
    weights(&mut out, summary, &scale, TOP);
    pods(&mut out, summary, &scale, TOP + LANE + GAP);
    measurements(&mut out, summary, &metrics, &scale, TOP + 2.0 * (LANE + GAP));
    let _ = writeln!(out, "</svg>");
    out
}

struct Scale {
    end: u64,
}

impl Scale {
    #[expect(clippy::cast_precision_loss, reason = "a place in a picture")]
    fn x(&self, at: u64) -> f64 {
        let share = at.min(self.end) as f64 / self.end as f64;
        LEFT + share * (WIDTH - LEFT - RIGHT)
    }
}

fn color(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Promoted => GREEN,
        Outcome::Aborted | Outcome::Stuck | Outcome::Deleted => RED,
        Outcome::Waiting => AMBER,
    }
}

fn axis(out: &mut String, scale: &Scale, bottom: f64) {
    let steps = [1_000, 5_000, 10_000, 30_000, 60_000, 300_000, 600_000, 1_800_000, 3_600_000, 10_800_000, 43_200_000];
    let step = steps.into_iter().find(|step| scale.end / step <= 10).unwrap_or(86_400_000);
    for number in 0..=scale.end / step {
        let x = scale.x(number * step);
        let _ = writeln!(out, r##"<line x1="{x:.1}" y1="{TOP}" x2="{x:.1}" y2="{bottom:.1}" stroke="#eeeeee"/>"##);
        let _ = writeln!(
            out,
            r##"<text x="{x:.1}" y="{:.1}" fill="#616161" text-anchor="middle">{}</text>"##,
            bottom + 18.0,
            clock(number * step)
        );
    }
}

/// A line that keeps its height until the next point, as a path.
fn stairs(points: &[(f64, f64)], end: f64) -> String {
    let mut path = String::new();
    let mut height = None;
    for (x, y) in points {
        match height {
            None => {
                let _ = write!(path, "M{x:.1},{y:.1}");
            }
            Some(_) => {
                let _ = write!(path, "H{x:.1}V{y:.1}");
            }
        }
        height = Some(*y);
    }
    let _ = write!(path, "H{end:.1}");
    path
}

fn lane(out: &mut String, title: &str, top: f64, ticks: &[(f64, String)]) {
    let _ = writeln!(out, r#"<text x="16" y="{:.1}" font-weight="600">{title}</text>"#, top + 12.0);
    for (y, text) in ticks {
        let _ = writeln!(
            out,
            r##"<line x1="{LEFT}" y1="{y:.1}" x2="{:.1}" y2="{y:.1}" stroke="#e0e0e0"/>"##,
            WIDTH - RIGHT
        );
        let _ = writeln!(
            out,
            r##"<text x="{:.1}" y="{:.1}" fill="#616161" text-anchor="end">{text}</text>"##,
            LEFT - 8.0,
            y + 4.0
        );
    }
}

fn weights(out: &mut String, summary: &Summary, scale: &Scale, top: f64) {
    let y = |weight: i32| top + LANE * (1.0 - f64::from(weight) / 100.0);
    lane(out, "weight", top, &[0, 50, 100].map(|weight| (y(weight), format!("{weight}%"))));
    let mut line: Vec<(f64, f64)> = vec![(scale.x(0), y(0))];
    line.extend(summary.points.iter().map(|point| (scale.x(point.at), y(share(point)))));
    let path = stairs(&line, scale.x(scale.end));
    let _ = writeln!(out, r#"<path d="{path}V{:.1}H{LEFT}Z" fill="{AMBER}" fill-opacity="0.25"/>"#, y(0));
    let _ = writeln!(out, r#"<path d="{path}" fill="none" stroke="{AMBER}" stroke-width="2"/>"#);
    let x = scale.x(summary.took);
    let _ = writeln!(
        out,
        r#"<line x1="{x:.1}" y1="{top}" x2="{x:.1}" y2="{:.1}" stroke="{}" stroke-width="2" stroke-dasharray="4 3"/>"#,
        top + 2.0 * LANE + GAP,
        color(summary.outcome)
    );
}

/// The new revision's weight.
fn share(point: &Point) -> i32 {
    point.weight
}

fn pods(out: &mut String, summary: &Summary, scale: &Scale, top: f64) {
    let most = summary.points.iter().map(|point| point.stable.0.max(point.canary.0)).max().unwrap_or(1).max(1);
    let y = |pods: i32| top + LANE * (1.0 - f64::from(pods) / f64::from(most));
    lane(out, "ready pods", top, &[(y(0), "0".into()), (y(most), most.to_string())]);
    for (pick, color, name) in [
        ((|point: &Point| point.stable.1) as fn(&Point) -> i32, GREEN, "stable"),
        (|point: &Point| point.canary.1, AMBER, "canary"),
    ] {
        let line: Vec<(f64, f64)> = summary.points.iter().map(|point| (scale.x(point.at), y(pick(point)))).collect();
        let path = stairs(&line, scale.x(scale.end));
        let _ = writeln!(
            out,
            r#"<path d="{path}" fill="none" stroke="{color}" stroke-width="2"><title>{name}</title></path>"#
        );
    }
    let _ = writeln!(
        out,
        r#"<text x="16" y="{:.1}" fill="{GREEN}">stable</text><text x="16" y="{:.1}" fill="{AMBER}">canary</text>"#,
        top + 30.0,
        top + 46.0
    );
}

fn measurements(out: &mut String, summary: &Summary, metrics: &[&str], scale: &Scale, top: f64) {
    let mut y = top + METRIC / 2.0;
    for metric in metrics {
        let _ =
            writeln!(out, r#"<text x="16" y="{:.1}" font-weight="600">{}</text>"#, y + 4.0, escape(&cut(metric, 14)));
        for one in summary.measurements.iter().filter(|one| one.metric == *metric) {
            let color = match one.says {
                "good" => GREEN,
                "bad" => RED,
                "inconclusive" => AMBER,
                _ => GRAY,
            };
            let _ = writeln!(
                out,
                r#"<circle cx="{:.1}" cy="{y:.1}" r="5" fill="{color}"><title>{} {}: {}</title></circle>"#,
                scale.x(one.at),
                clock(one.at),
                escape(&one.value),
                one.says
            );
        }
        y += METRIC;
    }
}

/// A text inside of XML.
pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

fn cut(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        text.to_owned()
    } else {
        format!("{}…", text.chars().take(most - 1).collect::<String>())
    }
}
