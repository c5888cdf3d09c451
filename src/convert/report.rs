//! What became of every field, and why.

use std::fmt::Write as _;

use serde::Serialize;

/// What became of a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Decision {
    /// It is in the result as it was.
    Kept,
    /// The result says the same in another way.
    Translated,
    /// The result does not say it.
    NotSupported,
}

impl Decision {
    fn word(self) -> &'static str {
        match self {
            Self::Kept => "kept",
            Self::Translated => "translated",
            Self::NotSupported => "not supported",
        }
    }
}

/// One field.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Line {
    /// Its path in the input.
    pub path: String,
    /// What became of it.
    pub decision: Decision,
    /// How or why, and what to do.
    pub note: String,
    /// Whether what it said protects production and is gone: a gate, a step, a route, an abort.
    pub is_lost: bool,
    /// Comments that stood at what the result does not say.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub comments: Vec<String>,
}

/// One object of the input.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Subject {
    /// The file that it stands in.
    pub file: String,
    /// Its API version and kind.
    pub kind: String,
    /// Its name, with its namespace if it has one.
    pub name: String,
    /// What it becomes, in words.
    pub becomes: String,
    /// Its fields.
    pub fields: Vec<Line>,
}

/// Everything.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// The objects, in order.
    pub objects: Vec<Subject>,
    /// How many objects passed through as they were.
    pub untouched: usize,
    /// What to do now, in order.
    pub next: Vec<String>,
}

impl Report {
    /// How many fields there are of a decision.
    pub fn count(&self, decision: Decision) -> usize {
        self.lines().filter(|line| line.decision == decision).count()
    }

    /// What protects production and is gone.
    pub fn lost(&self) -> usize {
        self.lines().filter(|line| line.is_lost).count()
    }

    fn lines(&self) -> impl Iterator<Item = &Line> {
        self.objects.iter().flat_map(|object| &object.fields)
    }

    fn summary(&self) -> String {
        let count = |decision: Decision| format!("{} {}", self.count(decision), decision.word());
        let mut text = [Decision::Kept, Decision::Translated, Decision::NotSupported].map(count).join(", ");
        if self.untouched > 0 {
            let objects = if self.untouched == 1 { "object passes" } else { "objects pass" };
            let _ = write!(text, "; {} other {objects} through", self.untouched);
        }
        text
    }

    fn warning(&self) -> Option<String> {
        let is = |count: usize| if count == 1 { "field protects" } else { "fields protect" };
        (self.lost() > 0).then(|| {
            format!(
                "{} of the {} production and could not be converted; look at the lines with a !",
                self.lost(),
                is(self.lost())
            )
        })
    }

    /// As text.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for object in &self.objects {
            let _ = writeln!(text, "{} {} ({})\n  {}", object.kind, object.name, object.file, object.becomes);
            let width = object.fields.iter().map(|line| line.path.chars().count()).max().unwrap_or(0).min(72);
            for line in &object.fields {
                let mark = if line.is_lost { '!' } else { ' ' };
                let head = format!("{mark} {:<width$}  {:<13}  {}", line.path, line.decision.word(), line.note);
                let _ = writeln!(text, "{}", head.trim_end());
                for comment in &line.comments {
                    let _ = writeln!(text, "      {comment}");
                }
            }
            text.push('\n');
        }
        let _ = writeln!(text, "{}", self.summary());
        self.warning().iter().for_each(|warning| {
            let _ = writeln!(text, "{warning}");
        });
        if !self.next.is_empty() {
            let _ = writeln!(text, "\nNext:");
            for (at, step) in self.next.iter().enumerate() {
                let _ = writeln!(text, "{}. {step}", at + 1);
            }
        }
        text
    }

    /// As Markdown, for a merge request.
    pub fn markdown(&self) -> String {
        let cell = |text: &str| text.replace('|', "\\|").replace('\n', " ");
        let mut text = format!("**{}**\n", self.summary());
        self.warning().iter().for_each(|warning| {
            let _ = writeln!(text, "\n**{warning}**");
        });
        for object in &self.objects {
            let _ = writeln!(
                text,
                "\n### {} `{}`\n\n`{}`: {}\n",
                object.kind,
                object.name,
                object.file,
                cell(&object.becomes)
            );
            if object.fields.is_empty() {
                continue;
            }
            let _ = writeln!(text, "| field | decision | how, or why |\n|---|---|---|");
            for line in &object.fields {
                let mark = if line.is_lost { "**!** " } else { "" };
                let comments: Vec<String> =
                    line.comments.iter().map(|comment| format!(" `{}`", cell(comment))).collect();
                let _ = writeln!(
                    text,
                    "| `{}` | {mark}{} | {}{} |",
                    cell(&line.path),
                    line.decision.word(),
                    cell(&line.note),
                    comments.concat()
                );
            }
        }
        if !self.next.is_empty() {
            let _ = writeln!(text, "\n### Next\n");
            for (at, step) in self.next.iter().enumerate() {
                let _ = writeln!(text, "{}. {step}", at + 1);
            }
        }
        text
    }

    /// As JSON, with the counts.
    pub fn json(&self) -> serde_json::Value {
        serde_json::json!({
            "objects": self.objects,
            "summary": {
                "kept": self.count(Decision::Kept),
                "translated": self.count(Decision::Translated),
                "notSupported": self.count(Decision::NotSupported),
                "lost": self.lost(),
                "untouched": self.untouched,
            },
            "next": self.next,
        })
    }
}
