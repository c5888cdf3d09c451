//! HTML and SVG that is written piece by piece: names of elements and attributes are the program's own, and everything else is
//! escaped, so that nothing that comes from a cluster becomes markup.

use std::fmt::Display;

use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};

use crate::cli::branch::Branch;

/// Attributes of an element; without a value where it is empty.
pub type Attributes<'a> = &'a [(&'static str, &'a str)];

/// A piece of a page.
#[derive(Debug, Default)]
pub struct Html(String);

impl Html {
    /// Nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// What was written.
    pub fn into_text(self) -> String {
        self.0
    }

    /// A text.
    pub fn text(&mut self, text: &str) -> &mut Self {
        text.chars().for_each(|char| self.char(char));
        self
    }

    /// Something as text.
    pub fn show(&mut self, what: impl Display) -> &mut Self {
        self.text(&what.to_string())
    }

    /// One character. Control characters, and those that turn the direction of what follows, are shown as unknown.
    fn char(&mut self, char: char) {
        match char {
            '&' => self.0.push_str("&amp;"),
            '<' => self.0.push_str("&lt;"),
            '>' => self.0.push_str("&gt;"),
            '"' => self.0.push_str("&quot;"),
            '\'' => self.0.push_str("&#39;"),
            '\n' | '\t' => self.0.push(char),
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => self.0.push('\u{fffd}'),
            char if char.is_control() => self.0.push('\u{fffd}'),
            char => self.0.push(char),
        }
    }

    fn begin(&mut self, name: &'static str, attributes: Attributes<'_>) {
        self.0.push('<');
        self.0.push_str(name);
        for (key, value) in attributes.iter().filter(|attribute| **attribute != ("class", "")) {
            self.0.push(' ');
            self.0.push_str(key);
            if !value.is_empty() {
                self.0.push_str("=\"");
                self.text(value);
                self.0.push('"');
            }
        }
        self.0.push('>');
    }

    /// An element with something in it.
    pub fn element(&mut self, name: &'static str, attributes: Attributes<'_>, inner: impl FnOnce(&mut Self)) {
        self.begin(name, attributes);
        inner(self);
        self.0.push_str("</");
        self.0.push_str(name);
        self.0.push('>');
    }

    /// An element with a text in it.
    pub fn line(&mut self, name: &'static str, attributes: Attributes<'_>, text: &str) {
        self.element(name, attributes, |html| {
            html.text(text);
        });
    }

    /// An element of HTML that has nothing in it and no end, such as `meta`.
    pub fn void(&mut self, name: &'static str, attributes: Attributes<'_>) {
        self.begin(name, attributes);
    }

    /// An element of SVG with nothing in it but its text for people who cannot see it, if any.
    pub fn shape(&mut self, name: &'static str, attributes: Attributes<'_>, title: &str) {
        self.element(name, attributes, |html| {
            if !title.is_empty() {
                html.line("title", &[], title);
            }
        });
    }

    /// A text for screen readers alone.
    pub fn unseen(&mut self, text: &str) {
        self.line("span", &[("class", "unseen")], text);
    }

    /// A line of a terminal, its colours as classes.
    pub fn spans(&mut self, line: &Line<'_>) {
        line.spans.iter().for_each(|span| self.span(span, line.style));
    }

    fn span(&mut self, span: &Span<'_>, style: Style) {
        let class = class_of(style.patch(span.style));
        if class.is_empty() {
            self.text(&span.content);
        } else {
            self.line("span", &[("class", &class)], &span.content);
        }
    }

    /// A cell of a table.
    pub fn cell(&mut self, class: &str, span: &Span<'_>) {
        self.element("td", &[("class", class)], |html| html.span(span, Style::new()));
    }

    /// Branches as lists in lists.
    pub fn branches(&mut self, branches: &[Branch]) {
        if branches.is_empty() {
            return;
        }
        self.element("ul", &[("class", "tree")], |html| {
            for branch in branches {
                html.element("li", &[], |html| {
                    html.spans(&branch.line);
                    html.branches(&branch.below);
                });
            }
        });
    }
}

/// The classes of a style.
fn class_of(style: Style) -> String {
    let known = [
        (Color::Green, "good"),
        (Color::Yellow, "warn"),
        (Color::Red, "bad"),
        (Color::Cyan, "busy"),
        (Color::DarkGray, "dim"),
    ];
    let color = known.into_iter().find_map(|(color, class)| (style.fg == Some(color)).then_some(class));
    let bold = style.add_modifier.contains(Modifier::BOLD).then_some("strong");
    color.into_iter().chain(bold).collect::<Vec<_>>().join(" ")
}

/// A segment of a path, or a value of a query, as an address has it.
pub fn encoded(text: &str) -> String {
    form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>().replace('+', "%20")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_write_is_never_markup() {
        let mut html = Html::new();
        let hostile = "<script>alert(1)</script>\" onload='x' & \u{7}\u{202e}gnp.exe";
        html.line("p", &[("title", hostile), ("hidden", "")], hostile);
        let text = "&lt;script&gt;alert(1)&lt;/script&gt;&quot; onload=&#39;x&#39; &amp; \u{fffd}\u{fffd}gnp.exe";
        assert_eq!(html.into_text(), format!("<p title=\"{text}\" hidden>{text}</p>"));
        assert_eq!(encoded("a/../b c?d#\"<é"), "a%2F..%2Fb%20c%3Fd%23%22%3C%C3%A9");
    }

    #[test]
    fn a_tree_is_lists_in_lists() {
        let leaf = Branch::leaf(Line::from(vec![Span::raw("pod <b>"), Span::styled("Ready", Color::Green)]));
        let mut html = Html::new();
        html.branches(&[Branch { line: Line::from("set"), below: vec![leaf] }]);
        let inner = r#"<ul class="tree"><li>pod &lt;b&gt;<span class="good">Ready</span></li></ul>"#;
        assert_eq!(html.into_text(), format!(r#"<ul class="tree"><li>set{inner}</li></ul>"#));
    }
}
