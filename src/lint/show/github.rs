//! For GitHub Actions: workflow commands, shown as annotations of the pull request.

use super::printable;
use crate::lint::rule::Level;
use crate::lint::{Finding, Report};

/// The report as workflow commands.
pub fn github(report: &Report) -> String {
    report.findings.iter().map(command).collect()
}

fn command(finding: &Finding) -> String {
    let word = match finding.level() {
        Level::Error => "error",
        Level::Warning => "warning",
        Level::Note => "notice",
    };
    let place = &finding.place;
    let title = if finding.object.is_empty() {
        finding.rule.id.to_owned()
    } else {
        format!("{} ({})", finding.rule.id, finding.object)
    };
    let message: Vec<String> = finding.told().lines().map(printable).collect();
    format!(
        "::{word} file={},line={},col={},endColumn={},title={}::{}\n",
        property(&printable(&finding.file)),
        place.line,
        place.column,
        place.column + place.length,
        property(&printable(&title)),
        data(&message.join("\n"))
    )
}

/// A message: what would end the line is escaped.
fn data(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

/// A property: what would end it, too.
fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}
