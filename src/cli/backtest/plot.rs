//! A report as a picture: how many of each kind of canary are aborted by when.

use std::fmt::Write as _;

use super::report::{MetricReport, Report, Row};
use super::show::duration;
use crate::sim::show::svg::escape;

const WIDTH: f64 = 960.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 250.0;
const TOP: f64 = 56.0;
/// Height of one metric's lane, and what lies between two.
const LANE: f64 = 200.0;
const GAP: f64 = 76.0;
/// The same canary has the same colour in every lane; the names beside tell them apart without.
const COLORS: [(&str, &str); 4] =
    [("good", "#2e7d32"), ("good, whole pods", "#1565c0"), ("x2", "#e0a100"), ("x5", "#c62828")];
const OTHER: &str = "#6a1b9a";

/// The picture, as the text of an SVG file.
pub(super) fn svg(report: &Report) -> String {
    let lanes: Vec<&MetricReport> = report.metrics.iter().filter(|metric| metric.releases > 0).collect();
    let height = lanes.iter().fold(TOP, |height, _| height + LANE + GAP);
    let mut out = String::new();
    let _ = write!(
        out,
        r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="system-ui, sans-serif" font-size="12">
<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>
<text x="16" y="26" font-size="16" font-weight="600">{}</text>
"##,
        escape(&format!("{}: canaries aborted, of {} hypothetical releases", report.rollout, report.releases))
    );
    let mut top = TOP;
    for metric in lanes {
        lane(&mut out, report, metric, top + 24.0);
        top += LANE + GAP;
    }
    out.push_str("</svg>\n");
    out
}

fn x(report: &Report, seconds: f64) -> f64 {
    LEFT + (WIDTH - LEFT - RIGHT) * (seconds / report.seconds().max(1.0)).min(1.0)
}

fn y(top: f64, percent: f64) -> f64 {
    top + LANE * (1.0 - percent / 100.0)
}

fn lane(out: &mut String, report: &Report, metric: &MetricReport, top: f64) {
    let title = format!("{}/{} ({}): {}", metric.template, metric.metric, metric.kind, metric.own);
    let _ = writeln!(out, r#"<text x="16" y="{:.1}" font-weight="600">{}</text>"#, top - 10.0, escape(&title));
    let bottom = y(top, 0.0);
    let mut begin = 0.0;
    for (step, shade) in report.steps.iter().zip(["#f7f7f7", "#eeeeee"].into_iter().cycle()) {
        let (left, right) = (x(report, begin), x(report, begin + step.seconds));
        let _ = writeln!(
            out,
            r##"<rect x="{left:.1}" y="{top:.1}" width="{:.1}" height="{LANE}" fill="{shade}"/>
<text x="{:.1}" y="{:.1}" fill="#616161" text-anchor="middle">{} %</text>
<text x="{right:.1}" y="{:.1}" fill="#616161" text-anchor="middle">{}</text>"##,
            right - left,
            f64::midpoint(left, right),
            bottom + 16.0,
            step.weight,
            bottom + 16.0,
            duration(begin + step.seconds),
        );
        begin += step.seconds;
    }
    for percent in [0.0, 50.0, 100.0] {
        let _ = writeln!(
            out,
            r##"<line x1="{LEFT}" y1="{height:.1}" x2="{:.1}" y2="{height:.1}" stroke="#bdbdbd"/>
<text x="{:.1}" y="{:.1}" fill="#616161" text-anchor="end">{percent} %</text>"##,
            WIDTH - RIGHT,
            LEFT - 8.0,
            y(top, percent) + 4.0,
            height = y(top, percent),
        );
    }
    for (index, row) in (0_u32..).zip(&metric.canaries) {
        let color = COLORS.into_iter().find(|(name, _)| *name == row.canary).map_or(OTHER, |(_, color)| color);
        curve(out, report, row, (top, color));
        let place = top + 18.0 + f64::from(index) * 20.0;
        let told = format!("{}: {:.1} %", row.canary, row.percent());
        let after = row.median().map_or(String::new(), |seconds| format!(" after {}", duration(seconds)));
        let _ = writeln!(
            out,
            r#"<line x1="{:.1}" y1="{:.1}" x2="{:.1}" y2="{:.1}" stroke="{color}" stroke-width="3"/>
<text x="{:.1}" y="{place:.1}">{}</text>"#,
            WIDTH - RIGHT + 16.0,
            place - 4.0,
            WIDTH - RIGHT + 40.0,
            place - 4.0,
            WIDTH - RIGHT + 48.0,
            escape(&format!("{told}{after}")),
        );
    }
}

/// How many are aborted by when, as stairs.
fn curve(out: &mut String, report: &Report, row: &Row, (top, color): (f64, &str)) {
    let mut path = format!("M{:.1},{:.1}", x(report, 0.0), y(top, 0.0));
    let all = f64::from(row.releases.max(1));
    for (count, seconds) in (1_u32..).zip(&row.aborted_after) {
        let _ = write!(path, "H{:.1}V{:.1}", x(report, *seconds), y(top, 100.0 * f64::from(count) / all));
    }
    let _ = write!(path, "H{:.1}", x(report, report.seconds()));
    let _ = writeln!(out, r#"<path d="{path}" fill="none" stroke="{color}" stroke-width="2"/>"#);
}
