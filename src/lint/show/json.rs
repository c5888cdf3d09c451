//! For programs: one object with all findings.

use serde::Serialize;

use crate::lint::Report;
use crate::lint::rule::Level;

#[derive(Serialize)]
struct Told<'a> {
    findings: Vec<One<'a>>,
    errors: usize,
    warnings: usize,
    notes: usize,
    ignored: usize,
    objects: usize,
    files: &'a [String],
}

#[derive(Serialize)]
struct One<'a> {
    file: &'a str,
    line: usize,
    column: usize,
    level: Level,
    rule: &'a str,
    object: &'a str,
    path: &'a str,
    message: &'a str,
    fix: &'a str,
    help: String,
}

/// The report as JSON.
pub fn json(report: &Report) -> serde_json::Result<String> {
    let findings = report.findings.iter().map(|one| One {
        file: &one.file,
        line: one.place.line,
        column: one.place.column,
        level: one.level(),
        rule: one.rule.id,
        object: &one.object,
        path: &one.path,
        message: &one.message,
        fix: &one.fix,
        help: one.rule.help(),
    });
    let told = Told {
        findings: findings.collect(),
        errors: report.count(Level::Error),
        warnings: report.count(Level::Warning),
        notes: report.count(Level::Note),
        ignored: report.hidden,
        objects: report.objects,
        files: &report.files,
    };
    serde_json::to_string_pretty(&told).map(|text| text + "\n")
}
