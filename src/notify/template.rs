//! The words of a message: text with `{{ field }}` and `{% if field %} … {% else %} … {% endif %}`, and nothing else.
//!
//! Fields are those of a message's context. There are no loops, filters or assignments, so that a text is at most as long as
//! the template and what it names, and every mistake is found without a message.

use serde_json::Value;

use super::context::FIELDS;

/// Conditions within conditions.
const DEPTH_MOST: usize = 10;

/// A template that is understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template(Vec<Part>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Field(String),
    If { field: String, then: Vec<Self>, otherwise: Vec<Self> },
}

/// What ended a list of parts.
#[derive(Debug, PartialEq, Eq)]
enum Stop {
    Text,
    Else,
    Closed,
}

impl Template {
    /// Reads a template; else what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut rest = text;
        let (parts, end) = parts(&mut rest, 0)?;
        match end {
            Stop::Text => Ok(Self(parts)),
            Stop::Else => Err("{% else %} stands outside of an if".to_owned()),
            Stop::Closed => Err("{% endif %} ends no if".to_owned()),
        }
    }

    /// The text of a context, without lines that are empty because of a condition.
    pub fn render(&self, context: &Value) -> String {
        let mut text = String::new();
        render(&self.0, context, &mut text);
        let lines: Vec<&str> = text.lines().map(str::trim_end).filter(|line| !line.is_empty()).collect();
        lines.join("\n")
    }
}

fn parts(rest: &mut &str, depth: usize) -> Result<(Vec<Part>, Stop), String> {
    if depth > DEPTH_MOST {
        return Err(format!("more than {DEPTH_MOST} ifs stand in each other"));
    }
    let mut parts = Vec::new();
    loop {
        let Some(at) = [rest.find("{{"), rest.find("{%")].into_iter().flatten().min() else {
            parts.push(Part::Text((*rest).to_owned()));
            *rest = "";
            return Ok((parts, Stop::Text));
        };
        let (text, tag) = rest.split_at(at);
        parts.push(Part::Text(text.to_owned()));
        let (open, close) = if tag.starts_with("{{") { ("{{", "}}") } else { ("{%", "%}") };
        let (inner, after) = tag
            .strip_prefix(open)
            .and_then(|inner| inner.split_once(close))
            .ok_or_else(|| format!("{open} is not closed by {close}"))?;
        *rest = after;
        let inner = inner.trim();
        if open == "{{" {
            parts.push(Part::Field(field(inner)?));
            continue;
        }
        match inner {
            "else" => return Ok((parts, Stop::Else)),
            "endif" => return Ok((parts, Stop::Closed)),
            _ => parts.push(condition(inner, rest, depth)?),
        }
    }
}

fn condition(inner: &str, rest: &mut &str, depth: usize) -> Result<Part, String> {
    let named = inner.strip_prefix("if ").ok_or_else(|| {
        format!("{{% {inner} %}} is unknown; there are {{% if field %}}, {{% else %}} and {{% endif %}}")
    })?;
    let field = field(named.trim())?;
    let (then, end) = parts(rest, depth + 1)?;
    let (otherwise, end) = if end == Stop::Else { parts(rest, depth + 1)? } else { (Vec::new(), end) };
    if end == Stop::Closed {
        Ok(Part::If { field, then, otherwise })
    } else {
        Err(format!("{{% if {field} %}} has no {{% endif %}}"))
    }
}

fn field(name: &str) -> Result<String, String> {
    if FIELDS.iter().any(|(known, _)| *known == name) {
        return Ok(name.to_owned());
    }
    let known: Vec<&str> = FIELDS.iter().map(|(name, _)| *name).collect();
    Err(format!("{name} is no field of a message; there are {}", known.join(", ")))
}

fn render(parts: &[Part], context: &Value, text: &mut String) {
    for part in parts {
        match part {
            Part::Text(own) => text.push_str(own),
            Part::Field(field) => text.push_str(&value(context, field)),
            Part::If { field, then, otherwise } => {
                let is_there = !value(context, field).is_empty();
                render(if is_there { then } else { otherwise }, context, text);
            }
        }
    }
}

/// A field as text; empty where it is absent.
fn value(context: &Value, field: &str) -> String {
    match context.pointer(&format!("/{}", field.replace('.', "/"))) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Null) | None => String::new(),
        Some(other) => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn rendered(template: &str) -> String {
        let context = json!({"rollout": "checkout", "weight": 0, "metric": null, "canary": {"hash": "abc"}});
        Template::parse(template).map_or_else(|error| error, |template| template.render(&context))
    }

    #[test]
    fn fields_and_conditions() {
        for (template, wanted) in [
            ("plain", "plain"),
            ("{{ rollout }} at {{weight}}%", "checkout at 0%"),
            ("a{% if metric.name %} by {{ metric.name }}{% endif %}!", "a!"),
            ("{% if canary.hash %}is{% else %}is not{% endif %}", "is"),
            ("{% if metric.name %}{% if rollout %}x{% endif %}{% else %}y{% endif %}", "y"),
            ("one\n{% if metric.name %}two{% endif %}\nthree", "one\nthree"),
            ("{ rollout }", "{ rollout }"),
        ] {
            assert_eq!(rendered(template), wanted, "{template}");
        }
    }

    #[test]
    fn mistakes_are_found_without_a_message() {
        for (template, wanted) in [
            ("{{ rollout", "{{ is not closed by }}"),
            ("{% if rollout", "{% is not closed by %}"),
            ("{% if rollout %}", "{% if rollout %} has no {% endif %}"),
            ("{% if rollout %}a{% else %}b", "{% if rollout %} has no {% endif %}"),
            ("{% else %}", "{% else %} stands outside of an if"),
            ("{% endif %}", "{% endif %} ends no if"),
            ("{% for a in b %}", "{% for a in b %} is unknown; there are {% if field %}, {% else %} and {% endif %}"),
        ] {
            assert_eq!(rendered(template), wanted, "{template}");
        }
        assert!(rendered("{{ rolout }}").starts_with("rolout is no field of a message; there are "));
        assert!(rendered(&"{% if rollout %}".repeat(40)).starts_with("more than 10 ifs"));
    }
}
