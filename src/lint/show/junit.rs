//! For test reports: `JUnit` XML. A file is a suite, a finding a failed case; a file without findings is a case that passes.

use std::fmt::Write as _;

use crate::lint::rule::Level;
use crate::lint::{Finding, Report};

/// The report as `JUnit` XML. Notes pass.
pub fn junit(report: &Report) -> String {
    let mut text = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n".to_owned();
    let failures = |findings: &[&Finding]| findings.iter().filter(|one| one.level() != Level::Note).count();
    let all: Vec<&Finding> = report.findings.iter().collect();
    let suites: Vec<(&String, Vec<&Finding>)> = report
        .files
        .iter()
        .map(|file| (file, all.iter().copied().filter(|one| one.file == **file).collect()))
        .collect();
    let tests: usize = suites.iter().map(|(_, findings)| findings.len().max(1)).sum();
    let _ = writeln!(
        text,
        "<testsuites name=\"kubectl serin lint\" tests=\"{tests}\" failures=\"{}\" errors=\"0\">",
        failures(&all)
    );
    for (file, findings) in &suites {
        let count = findings.len().max(1);
        let _ = writeln!(
            text,
            "  <testsuite name=\"{}\" tests=\"{count}\" failures=\"{}\" errors=\"0\">",
            escaped(file),
            failures(findings)
        );
        if findings.is_empty() {
            let _ = writeln!(text, "    <testcase name=\"lint\" classname=\"{}\" time=\"0\"/>", escaped(file));
        }
        for finding in findings {
            text += &case(finding);
        }
        text += "  </testsuite>\n";
    }
    text + "</testsuites>\n"
}

fn case(finding: &Finding) -> String {
    let place = format!("{}:{}:{}", finding.file, finding.place.line, finding.place.column);
    let name = format!("{} at {place}", finding.rule.id);
    let told = [place.as_str(), &finding.object, &finding.told()]
        .into_iter()
        .filter(|part| !part.is_empty())
        .collect::<Vec<_>>()
        .join("\n");
    let (open, body) = (
        format!(
            "    <testcase name=\"{}\" classname=\"{}\" file=\"{}\" time=\"0\">",
            escaped(&name),
            escaped(&finding.file),
            escaped(&finding.file)
        ),
        escaped_text(&told),
    );
    match finding.level() {
        Level::Note => format!("{open}<system-out>{body}</system-out></testcase>\n"),
        level @ (Level::Error | Level::Warning) => {
            format!(
                "{open}<failure type=\"{}\" message=\"{}\">{body}</failure></testcase>\n",
                level.word(),
                escaped(&finding.sentence())
            )
        }
    }
}

/// Text as XML has it between tags.
fn escaped_text(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for one in text.chars() {
        match one {
            '&' => shown += "&amp;",
            '<' => shown += "&lt;",
            '>' => shown += "&gt;",
            '"' => shown += "&quot;",
            '\n' => shown.push('\n'),
            // XML has no way to write these.
            one if one.is_control() || matches!(one, '\u{fffe}' | '\u{ffff}') => shown.push('\u{fffd}'),
            one => shown.push(one),
        }
    }
    shown
}

/// Text as XML has it in an attribute: on one line.
fn escaped(text: &str) -> String {
    escaped_text(text).replace('\n', "&#10;")
}
