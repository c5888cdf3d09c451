//! What tests read in the pages: fenced blocks, commands, inline code, links and headings.

use std::path::Path;

use regex::Regex;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
/// Folders with pages, and pages beside them.
const FOLDERS: [&str; 6] = ["docs", "examples", "charts", "e2e", "fuzz", "deploy"];
const PAGES: [&str; 4] = ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md"];

/// A line of a page, counted from 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    pub number: usize,
    pub text: String,
}

/// Every page, by its path in the repository.
pub fn pages() -> Vec<String> {
    let mut found: Vec<String> = PAGES.iter().map(|page| (*page).to_owned()).collect();
    for folder in FOLDERS {
        find(&Path::new(ROOT).join(folder), &mut found);
    }
    found.sort();
    found
}

fn find(folder: &Path, found: &mut Vec<String>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.is_symlink() {
            find(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "md") {
            found.push(path.strip_prefix(ROOT).unwrap().to_str().unwrap().to_owned());
        }
    }
}

fn read(page: &str) -> String {
    std::fs::read_to_string(Path::new(ROOT).join(page)).unwrap()
}

/// The lines of a page, each with the language of the block that it is in; none outside of blocks.
fn lines(page: &str) -> Vec<(Option<String>, Line)> {
    let mut inside: Option<String> = None;
    let mut found = Vec::new();
    for (index, text) in read(page).lines().enumerate() {
        if let Some(fence) = text.trim_start().strip_prefix("```") {
            inside = match inside {
                None => Some(fence.split_whitespace().next().unwrap_or_default().to_owned()),
                Some(_) => None,
            };
            continue;
        }
        found.push((inside.clone(), Line { number: index + 1, text: text.to_owned() }));
    }
    assert_eq!(inside, None, "{page} has a block without an end");
    found
}

/// The commands of a page's blocks in one of these languages: each in one line, without its comment.
pub fn commands(page: &str, languages: &[&str]) -> Vec<Line> {
    let mut found: Vec<Line> = Vec::new();
    let mut goes_on = false;
    for (language, line) in lines(page) {
        let Some(language) = language.filter(|language| languages.contains(&language.as_str())) else {
            goes_on = false;
            continue;
        };
        let text = match (language.as_str(), goes_on) {
            ("console", _) => match line.text.strip_prefix("$ ") {
                Some(command) => command,
                None => continue,
            },
            _ => line.text.as_str(),
        };
        let (part, more) = text.strip_suffix('\\').map_or((text, false), |part| (part, true));
        let part = part.split(" # ").next().unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ");
        match found.last_mut().filter(|_| goes_on) {
            Some(last) => last.text = format!("{} {part}", last.text),
            None if part.is_empty() || part.starts_with('#') => {}
            None => found.push(Line { number: line.number, text: part }),
        }
        goes_on = more;
    }
    found
}

/// Inline code outside of blocks.
pub fn spans(page: &str) -> Vec<Line> {
    let prose = lines(page).into_iter().filter(|(language, _)| language.is_none());
    let of = |line: Line| {
        let parts: Vec<String> = line.text.split('`').skip(1).step_by(2).map(str::to_owned).collect();
        parts.into_iter().map(move |text| Line { number: line.number, text })
    };
    prose.flat_map(|(_, line)| of(line)).collect()
}

/// The targets of links and pictures.
pub fn links(page: &str) -> Vec<Line> {
    let link = Regex::new(r"\]\(([^)\s]+)\)").unwrap();
    let code = Regex::new(r"`[^`]*`").unwrap();
    let prose = lines(page).into_iter().filter(|(language, _)| language.is_none());
    let of = |line: Line| {
        let text = code.replace_all(&line.text, "code").into_owned();
        let targets: Vec<String> = link.captures_iter(&text).map(|found| found[1].to_owned()).collect();
        targets.into_iter().map(move |text| Line { number: line.number, text })
    };
    prose.flat_map(|(_, line)| of(line)).collect()
}

/// The anchors of a page's headings, as forges make them.
pub fn anchors(page: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for (_, line) in lines(page).into_iter().filter(|(language, line)| language.is_none() && line.text.starts_with('#'))
    {
        let heading = line.text.trim_start_matches('#').trim().to_lowercase();
        let kept = heading.chars().filter(|char| char.is_alphanumeric() || [' ', '-', '_'].contains(char));
        let anchor: String = kept.map(|char| if char == ' ' { '-' } else { char }).collect();
        let earlier = found.iter().filter(|known| **known == anchor).count();
        found.push(if earlier == 0 { anchor } else { format!("{anchor}-{earlier}") });
    }
    found
}

/// The simple commands of a line of shell, each as its words: quotes are taken off, redirections are left out.
pub fn words(command: &str) -> Vec<Vec<String>> {
    let mut simple = vec![Vec::new()];
    let mut word: Option<String> = None;
    let mut quote: Option<char> = None;
    for char in command.chars() {
        match (quote, char) {
            (Some(open), _) if open == char => quote = None,
            (Some(_), _) => word.get_or_insert_default().push(char),
            (None, '\'' | '"') => {
                quote = Some(char);
                word.get_or_insert_default();
            }
            (None, ' ' | '|' | ';' | '&' | '(' | ')') => {
                simple.last_mut().unwrap().extend(word.take());
                if char != ' ' {
                    simple.push(Vec::new());
                }
            }
            (None, _) => word.get_or_insert_default().push(char),
        }
    }
    simple.last_mut().unwrap().extend(word);
    for one in &mut simple {
        let end = one.iter().position(|word| word.starts_with(['>', '<']) || word.starts_with("2>"));
        one.truncate(end.unwrap_or(one.len()));
    }
    simple.retain(|one| !one.is_empty());
    simple
}
