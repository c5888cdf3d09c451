//! What every page has around its content: landmarks, the way back, how it is kept fresh, and what is wrong.

use super::html::Html;

/// How often a page without scripts is loaded again, in seconds.
const RELOAD: &str = "10";

/// A page's surroundings.
pub struct Frame<'a> {
    /// Its title.
    pub title: &'a str,
    /// Where it is: pages above it, each with its address.
    pub above: &'a [(&'a str, &'a str)],
    /// Which changes it shows, as the query of `/changes`; absent: it does not change.
    pub changes: Option<&'a str>,
    /// What is told to those who do not see the page, when it changes.
    pub told: &'a str,
    /// Why what is shown may be old.
    pub trouble: Option<&'a str>,
    /// Where the data is from, and what the page may do.
    pub source: &'a str,
}

/// A whole document.
pub fn document(frame: &Frame<'_>, content: impl FnOnce(&mut Html)) -> String {
    let mut html = Html::new();
    html.element("html", &[("lang", "en")], |html| {
        html.element("head", &[], |html| head(html, frame));
        let changes = frame.changes.map(|query| format!("/changes?{query}"));
        let changes: Vec<(&'static str, &str)> = changes.iter().map(|path| ("data-changes", path.as_str())).collect();
        html.element("body", &changes, |html| {
            html.line("a", &[("class", "skip"), ("href", "#main")], "Skip to content");
            html.element("header", &[], |html| header(html, frame));
            html.element("main", &[("id", "main"), ("tabindex", "-1")], |html| {
                trouble(html, frame.trouble);
                content(html);
            });
            html.element("footer", &[], |html| {
                html.line("p", &[], frame.source);
            });
            html.line("p", &[("id", "told"), ("class", "unseen"), ("role", "status")], frame.told);
        });
    });
    format!("<!doctype html>\n{}\n", html.into_text())
}

fn head(html: &mut Html, frame: &Frame<'_>) {
    html.void("meta", &[("charset", "utf-8")]);
    html.void("meta", &[("name", "viewport"), ("content", "width=device-width, initial-scale=1")]);
    html.void("meta", &[("name", "color-scheme"), ("content", "light dark")]);
    html.line("title", &[], &format!("{} – Serin", frame.title));
    html.void("link", &[("rel", "icon"), ("href", "/assets/icon.svg"), ("type", "image/svg+xml")]);
    html.void("link", &[("rel", "stylesheet"), ("href", "/assets/style.css")]);
    if frame.changes.is_some() {
        html.element("noscript", &[], |html| html.void("meta", &[("http-equiv", "refresh"), ("content", RELOAD)]));
        html.line("script", &[("src", "/assets/live.js"), ("defer", "")], "");
    }
}

fn header(html: &mut Html, frame: &Frame<'_>) {
    html.element("nav", &[("aria-label", "Where you are")], |html| {
        html.element("ol", &[("class", "crumbs")], |html| {
            for (name, address) in frame.above {
                html.element("li", &[], |html| html.line("a", &[("href", address)], name));
            }
            html.line("li", &[("aria-current", "page")], frame.title);
        });
    });
    if frame.changes.is_some() {
        html.element("p", &[("class", "live")], |html| {
            html.line("span", &[("id", "state")], &format!("Loaded anew every {RELOAD} seconds"));
            html.line(
                "button",
                &[("id", "hold"), ("type", "button"), ("hidden", ""), ("aria-pressed", "false")],
                "Pause updates",
            );
        });
    }
}

/// A part of a page that is kept fresh, with its heading.
pub fn section(html: &mut Html, id: &'static str, title: &str, inner: impl FnOnce(&mut Html)) {
    let heading = format!("{id}-title");
    html.element("section", &[("id", id), ("data-live", ""), ("aria-labelledby", &heading)], |html| {
        html.line("h2", &[("id", &heading)], title);
        inner(html);
    });
}

fn trouble(html: &mut Html, trouble: Option<&str>) {
    html.element("div", &[("id", "trouble"), ("data-live", "")], |html| {
        if let Some(trouble) = trouble {
            html.element("p", &[("class", "trouble"), ("role", "alert")], |html| {
                html.line("strong", &[], "What is shown may be old. ");
                html.text(trouble);
            });
        }
    });
}

/// A list of links of which one is chosen.
pub fn choices(html: &mut Html, name: &str, inner: impl FnOnce(&mut Html)) {
    html.element("ul", &[("class", "choices"), ("aria-label", name)], inner);
}

/// One of them, with what is told when one points at it, if anything.
pub fn choice(html: &mut Html, (address, text): (&str, &str), title: &str, is_chosen: bool) {
    let mut attributes = vec![("href", address)];
    attributes.extend((!title.is_empty()).then_some(("title", title)));
    attributes.extend(is_chosen.then_some(("aria-current", "true")));
    html.element("li", &[], |html| html.line("a", &attributes, text));
}

/// The head of a table.
pub fn head_row(html: &mut Html, names: &[(&'static str, &str)]) {
    html.element("thead", &[], |html| {
        html.element("tr", &[], |html| {
            for (class, name) in names {
                html.line("th", &[("scope", "col"), ("class", class)], name);
            }
        });
    });
}

/// A cell with a text that may be long.
pub fn long_cell(html: &mut Html, text: &str) {
    html.element("td", &[], |html| html.line("div", &[("class", "long")], text));
}

/// A table that may be wider than the screen: it scrolls by itself, by keyboard, too.
pub fn table(html: &mut Html, name: &str, class: &'static str, inner: impl FnOnce(&mut Html)) {
    html.element("div", &[("class", "scroll"), ("tabindex", "0"), ("role", "group"), ("aria-label", name)], |html| {
        html.element("table", &[("class", class)], inner);
    });
}
