//! Lanes of a plot over time as SVG: places across are percents and places down are pixels, so that a lane is as wide as the
//! screen and its lines and letters keep their size.

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::html::Html;
use crate::sim::show::text::clock as passed;

/// Marks on the axis of time at most.
const TICKS: i64 = 5;
/// Seconds between marks.
const STEPS: [i64; 14] = [1, 2, 5, 10, 30, 60, 300, 600, 1_800, 3_600, 10_800, 21_600, 43_200, 86_400];

/// What a plot shows of time.
#[derive(Debug, Clone)]
pub struct Window {
    /// Its left end.
    pub from: Timestamp,
    /// Its right end.
    pub to: Timestamp,
    /// How times are told.
    pub face: Face,
}

/// How times are told.
#[derive(Debug, Clone)]
pub enum Face {
    /// As times of day.
    Zone(TimeZone),
    /// As what has passed since the epoch, which stands for a commit.
    Passed,
}

impl Face {
    /// A time, to the second.
    pub fn clock(&self, at: Timestamp) -> String {
        match self {
            Self::Zone(zone) => at.to_zoned(zone.clone()).strftime("%H:%M:%S").to_string(),
            Self::Passed => passed(u64::try_from(at.as_millisecond()).unwrap_or(0)),
        }
    }

    /// The same with its day.
    pub fn day(&self, at: Timestamp) -> String {
        match self {
            Self::Zone(zone) => at.to_zoned(zone.clone()).strftime("%Y-%m-%d %H:%M:%S %Z").to_string(),
            Self::Passed => self.clock(at),
        }
    }

    /// A mark of an axis with so many seconds between marks.
    fn tick(&self, at: Timestamp, step: i64) -> String {
        match (self, step) {
            (Self::Passed, _) => self.clock(at),
            (Self::Zone(_), ..60) => self.clock(at),
            (Self::Zone(zone), 60..86_400) => at.to_zoned(zone.clone()).strftime("%H:%M").to_string(),
            (Self::Zone(zone), _) => at.to_zoned(zone.clone()).strftime("%b %d").to_string(),
        }
    }
}

impl Window {
    /// Percent from the left.
    pub fn x(&self, at: Timestamp) -> f64 {
        let whole = self.to.duration_since(self.from).as_secs_f64().max(0.001);
        (at.duration_since(self.from).as_secs_f64() / whole * 100.0).clamp(0.0, 100.0)
    }

    /// Whether a time is in it.
    pub fn has(&self, at: Timestamp) -> bool {
        self.from <= at && at <= self.to
    }

    /// A time of day.
    pub fn clock(&self, at: Timestamp) -> String {
        self.face.clock(at)
    }

    /// The marks on its axis, each with its text.
    fn ticks(&self) -> Vec<(f64, String)> {
        let seconds = self.to.as_second() - self.from.as_second();
        let step = STEPS.into_iter().find(|step| seconds / step <= TICKS).unwrap_or(seconds / TICKS / 86_400 * 86_400);
        let step = step.max(1);
        let first = self.from.as_second().div_euclid(step) + 1;
        (first..)
            .map_while(|number| Timestamp::from_second(number * step).ok().filter(|at| *at <= self.to))
            .map(|at| (self.x(at), self.face.tick(at, step)))
            .collect()
    }
}

/// One value over time: it keeps its height until the next.
pub type Series = Vec<(Timestamp, Option<f64>)>;

/// One lane: so many pixels high, from a lowest to a highest value.
#[derive(Debug, Clone)]
pub struct Lane<'a> {
    /// Its time.
    pub window: &'a Window,
    /// Pixels.
    pub height: f64,
    /// The value at the bottom.
    pub low: f64,
    /// The value at the top.
    pub high: f64,
}

/// Pixels above the highest and below the lowest value.
const MARGIN: f64 = 6.0;

impl Lane<'_> {
    /// Pixels from the top.
    pub fn y(&self, value: f64) -> f64 {
        let range = (self.high - self.low).max(f64::MIN_POSITIVE);
        let share = ((value - self.low) / range).clamp(0.0, 1.0);
        MARGIN + (1.0 - share) * (self.height - 2.0 * MARGIN)
    }

    /// The lane as a picture; `alternative` is read to those who cannot see it.
    pub fn draw(&self, html: &mut Html, alternative: &str, inner: impl FnOnce(&mut Html)) {
        let height = format!("{:.0}", self.height);
        html.element(
            "svg",
            &[("class", "lane"), ("height", &height), ("role", "img"), ("aria-label", alternative)],
            |html| {
                for (x, _) in self.window.ticks() {
                    line(html, "grid", (x, 0.0), (x, self.height));
                }
                inner(html);
            },
        );
    }

    /// A level across the whole lane.
    pub fn level(&self, html: &mut Html, class: &str, value: f64) {
        line(html, class, (0.0, self.y(value)), (100.0, self.y(value)));
    }

    /// A text at a level, above its line or below it where there is no room.
    pub fn note(&self, html: &mut Html, class: &str, value: f64, text: &str) {
        let above = self.y(value) - 4.0;
        let y = if above < 12.0 { self.y(value) + 13.0 } else { above };
        let y = format!("{y:.1}");
        html.line("text", &[("class", class), ("x", "4"), ("y", &y)], text);
    }

    /// A line of steps.
    pub fn stairs(&self, html: &mut Html, class: &str, series: &Series) {
        let parts = self.parts(series);
        html.element("g", &[("class", class)], |html| {
            for (at, (from, to, value)) in parts.iter().enumerate() {
                line(html, "", (*from, self.y(*value)), (*to, self.y(*value)));
                let next = parts.get(at + 1).filter(|(next, ..)| (next - to).abs() < 0.001);
                if let Some((_, _, next)) = next {
                    line(html, "", (*to, self.y(*value)), (*to, self.y(*next)));
                }
            }
        });
    }

    /// What is below such a line.
    pub fn area(&self, html: &mut Html, class: &str, series: &Series) {
        html.element("g", &[("class", class)], |html| {
            for (from, to, value) in self.parts(series) {
                let (y, bottom) = (self.y(value), self.y(self.low));
                rectangle(html, "", (from, y), (to - from, bottom - y));
            }
        });
    }

    /// A line from point to point.
    pub fn path(&self, html: &mut Html, class: &str, points: &[(Timestamp, f64)]) {
        html.element("g", &[("class", class)], |html| {
            for pair in points.windows(2) {
                if let [(from, one), (to, other)] = pair {
                    let (from, to) = (self.window.x(*from), self.window.x(*to));
                    line(html, "", (from, self.y(*one)), (to, self.y(*other)));
                }
            }
        });
    }

    /// What is not known before a time.
    pub fn unknown(&self, html: &mut Html, since: Timestamp) {
        let x = self.window.x(since);
        if x > 0.0 {
            rectangle(html, "unknown", (0.0, 0.0), (x, self.height));
        }
        if x > 20.0 {
            let middle = format!("{:.1}", self.height / 2.0);
            html.line("text", &[("class", "note"), ("x", "4"), ("y", &middle)], "not seen");
        }
    }

    /// A moment across the whole lane.
    pub fn moment(&self, html: &mut Html, class: &str, at: Timestamp) {
        if self.window.has(at) {
            let x = self.window.x(at);
            line(html, class, (x, 0.0), (x, self.height));
        }
    }

    /// The stretches of a series in the window, by percents, each with its value.
    fn parts(&self, series: &Series) -> Vec<(f64, f64, f64)> {
        let mut parts: Vec<(f64, f64, f64)> = Vec::new();
        for (at, (begins, value)) in series.iter().enumerate() {
            let ends = series.get(at + 1).map_or(self.window.to, |(next, _)| *next);
            let Some(value) = value.filter(|_| ends >= self.window.from && *begins <= self.window.to) else { continue };
            let (from, to) = (self.window.x(*begins), self.window.x(ends));
            match parts.last_mut() {
                Some((_, end, last)) if (*last - value).abs() < f64::EPSILON && (from - *end).abs() < 0.001 => {
                    *end = to
                }
                Some(_) | None => parts.push((from, to, value)),
            }
        }
        parts
    }
}

/// Forms of markers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Marker {
    /// A disc.
    Disc,
    /// A cross.
    Cross,
    /// A diamond.
    Diamond,
    /// A ring.
    Ring,
}

/// A marker, and what is told when one points at it.
pub fn marker(html: &mut Html, (x, y): (f64, f64), (form, class): (Marker, &str), title: &str) {
    let (form, drawn) = match form {
        Marker::Disc => ("M-4,0a4,4 0 1,0 8,0a4,4 0 1,0 -8,0z", "filled"),
        Marker::Cross => ("M-4,-4L4,4M-4,4L4,-4", "open"),
        Marker::Diamond => ("M0,-5L5,0L0,5L-5,0z", "filled"),
        Marker::Ring => ("M-3.5,0a3.5,3.5 0 1,0 7,0a3.5,3.5 0 1,0 -7,0z", "open"),
    };
    let (x, y, class) = (format!("{x:.2}%"), format!("{y:.1}"), format!("marker {drawn} {class}"));
    html.element("svg", &[("x", &x), ("y", &y), ("overflow", "visible"), ("class", &class)], |html| {
        html.shape("path", &[("d", form)], title);
    });
}

/// A small number at a place.
pub fn number(html: &mut Html, (x, y): (f64, f64), class: &str, text: &str) {
    let anchor = anchor_of(x);
    let (x, y) = (format!("{x:.2}%"), format!("{y:.1}"));
    html.line("text", &[("class", class), ("x", &x), ("y", &y), ("text-anchor", anchor)], text);
}

/// The axis of time.
pub fn axis(html: &mut Html, window: &Window) {
    html.element("svg", &[("class", "lane axis"), ("height", "18"), ("aria-hidden", "true")], |html| {
        for (x, text) in window.ticks() {
            number(html, (x, 13.0), "tick", &text);
        }
    });
}

fn anchor_of(x: f64) -> &'static str {
    match x {
        ..8.0 => "start",
        92.0.. => "end",
        _ => "middle",
    }
}

fn line(html: &mut Html, class: &str, (from, top): (f64, f64), (to, bottom): (f64, f64)) {
    let (from, to) = (format!("{from:.2}%"), format!("{to:.2}%"));
    let (top, bottom) = (format!("{top:.1}"), format!("{bottom:.1}"));
    let places = [("x1", from.as_str()), ("y1", &top), ("x2", &to), ("y2", &bottom), ("class", class)];
    html.shape("line", &places, "");
}

fn rectangle(html: &mut Html, class: &str, (x, y): (f64, f64), (width, height): (f64, f64)) {
    let (x, width) = (format!("{x:.2}%"), format!("{width:.2}%"));
    let (y, height) = (format!("{y:.1}"), format!("{height:.1}"));
    let places = [("x", x.as_str()), ("y", &y), ("width", &width), ("height", &height), ("class", class)];
    html.shape("rect", &places, "");
}

/// The numbers that a condition compares its result with, where it says them plainly, such as `result[0] >= 0.95`.
pub fn thresholds(condition: &str) -> Vec<f64> {
    let after = |at: usize| condition.get(at + 1..).unwrap_or_default();
    let number = |rest: &str| {
        let rest = rest.strip_prefix('=').unwrap_or(rest).trim_start();
        let end = rest.find(|char: char| !char.is_ascii_digit() && !".-eE".contains(char)).unwrap_or(rest.len());
        let (number, rest) = rest.split_at(end);
        let goes_on = rest.trim_start().starts_with(['+', '-', '*', '/', '%', '(']);
        number.parse().ok().filter(|number: &f64| number.is_finite() && !goes_on)
    };
    let mut found: Vec<f64> = condition.match_indices(['<', '>']).filter_map(|(at, _)| number(after(at))).collect();
    found.dedup();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(from: i64, to: i64) -> Window {
        let at = |second| Timestamp::from_second(second).unwrap();
        Window { from: at(from), to: at(to), face: Face::Zone(TimeZone::UTC) }
    }

    #[test]
    fn thresholds_are_read_where_they_are_plain() {
        let cases: [(&str, &[f64]); 7] = [
            ("result[0] >= 0.95", &[0.95]),
            ("result < 300 && result[0]>=1e-3", &[300.0, 0.001]),
            ("not result[0] > -2", &[-2.0]),
            ("0.95 <= result[0]", &[]),
            ("result[0] > 2 * args.limit", &[]),
            ("result[0] > other", &[]),
            ("isNaN(result)", &[]),
        ];
        for (condition, expected) in cases {
            assert_eq!(thresholds(condition), expected, "{condition}");
        }
    }

    #[test]
    fn steps_of_equal_height_are_one() {
        let window = window(100, 200);
        let lane = Lane { window: &window, height: 100.0, low: 0.0, high: 100.0 };
        let at = |second| Timestamp::from_second(second).unwrap();
        let series = vec![(at(50), Some(0.0)), (at(120), Some(20.0)), (at(130), Some(20.0)), (at(150), None)];
        assert_eq!(lane.parts(&series), [(0.0, 20.0, 0.0), (20.0, 50.0, 20.0)]);
        assert_eq!((lane.y(0.0), lane.y(100.0), lane.y(500.0)), (94.0, 6.0, 6.0));
    }

    #[test]
    fn an_axis_has_few_marks() {
        for seconds in [1, 7, 60, 100, 3_599, 86_400, 864_000, 40_000_000] {
            let ticks = window(1_000_007, 1_000_007 + seconds).ticks();
            assert!((1..=6).contains(&ticks.len()), "{seconds}: {ticks:?}");
        }
        let told: Vec<String> = window(0, 50).ticks().into_iter().map(|(_, text)| text).collect();
        assert_eq!(told, ["00:00:10", "00:00:20", "00:00:30", "00:00:40", "00:00:50"]);
    }
}
