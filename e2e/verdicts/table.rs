//! Tables of what the judges say, in Markdown.

use super::judges::Judge;

/// A judge, and what it is called.
pub struct Column {
    pub name: &'static str,
    pub judge: Judge<'static>,
}

impl Column {
    pub fn new(name: &'static str, judge: Judge<'static>) -> Self {
        Self { name, judge }
    }
}

/// What one judge said of the releases of a row.
#[derive(Clone, Default)]
pub struct Cell {
    /// Seconds after which each release was aborted, of those that were.
    aborted: Vec<f64>,
    /// Failed requests of the canary until then, of all releases.
    harmed: f64,
    runs: usize,
}

impl Cell {
    pub fn add(&mut self, aborted: Option<f64>, harmed: f64) {
        self.aborted.extend(aborted);
        self.harmed += harmed;
        self.runs += 1;
    }

    /// Counts seconds from a moment on, and leaves releases out that were aborted before.
    pub fn begins(&mut self, at: f64) {
        let before = self.aborted.len();
        self.aborted.retain(|seconds| *seconds > at);
        self.runs -= before - self.aborted.len();
        self.aborted.iter_mut().for_each(|seconds| *seconds -= at);
    }

    /// How many were aborted, in percent.
    pub fn percent(&self) -> String {
        let percent = 100.0 * self.aborted.len() as f64 / self.runs as f64;
        if percent >= 10.0 { format!("{percent:.0}") } else { format!("{percent:.2}") }
    }

    /// The same, and the mean time of those.
    pub fn timed(&self) -> String {
        if self.aborted.is_empty() {
            return format!("{} / –", self.percent());
        }
        let seconds = self.aborted.iter().sum::<f64>() / self.aborted.len() as f64;
        format!("{} / {seconds:.0}", self.percent())
    }

    /// The same, and the mean of failed requests of all.
    pub fn all(&self) -> String {
        format!("{} / {:.0}", self.timed(), self.harmed / self.runs as f64)
    }
}

/// Prints a table, a row as soon as it is known.
pub fn told(
    title: &str,
    columns: &[Column],
    shown: impl Fn(&Cell) -> String,
    rows: impl IntoIterator<Item = (String, Vec<Cell>)>,
) {
    let heads: Vec<&str> = columns.iter().map(|column| column.name).collect();
    println!("{title}\n\n| | {} |\n|---|{}", heads.join(" | "), "---|".repeat(heads.len()));
    for (name, cells) in rows {
        let cells: Vec<String> = cells.iter().map(&shown).collect();
        println!("| {name} | {} |", cells.join(" | "));
    }
    println!();
}
