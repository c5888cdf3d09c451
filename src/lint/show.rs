//! Reports as people and programs read them. Texts of the input are shown without control characters.

pub mod github;
pub mod json;
pub mod junit;
pub mod sarif;
pub mod text;

/// Text of the input on one line, safe on a terminal.
fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for one in text.chars() {
        match one {
            '\t' => shown.push(' '),
            one if one.is_control() || is_invisible(one) => shown.extend(one.escape_unicode()),
            one => shown.push(one),
        }
    }
    shown
}

/// Characters that change how the others around them are shown.
fn is_invisible(one: char) -> bool {
    matches!(one, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}
