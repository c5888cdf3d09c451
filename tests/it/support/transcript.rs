//! Pages that are transcripts: the commands in the `console` blocks of a Markdown file are run, and what they print is compared
//! with what the page says, but for what differs each time. With `UPDATE_EXPECT=1` the page is written anew.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use expect_test::expect_file;
use regex::Regex;

/// How commands of a page are run, and what of their output differs each time.
pub struct Transcript {
    /// The page.
    page: PathBuf,
    /// The folder in which commands are run.
    folder: PathBuf,
    /// The folder whose executables come first.
    bin: PathBuf,
    /// Variables of the commands.
    pub variables: Vec<(String, String)>,
    /// What is replaced in every output by another text.
    pub replaced: Vec<(String, String)>,
    /// Any match of these may differ.
    pub varying: Vec<Regex>,
}

impl Transcript {
    /// The page `docs/<name>.md`, whose commands are run in the project's folder, with executables in `bin` first.
    pub fn of(name: &str, bin: &Path) -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        Self::at(&root.join(format!("docs/{name}.md")), root, bin)
    }

    /// A page anywhere, whose commands are run in a folder, with executables in `bin` first.
    pub fn at(page: &Path, folder: &Path, bin: &Path) -> Self {
        let variables = [("LC_ALL", "C.UTF-8"), ("RUST_BACKTRACE", "0")];
        Self {
            page: page.to_owned(),
            folder: folder.to_owned(),
            bin: bin.to_owned(),
            variables: variables.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
            replaced: Vec::new(),
            varying: Vec::new(),
        }
    }

    /// Runs the commands below one heading, or of the whole page, and compares.
    pub fn check(&self, heading: Option<&str>) {
        let text = std::fs::read_to_string(&self.page).unwrap();
        let mut told = String::new();
        let mut is_wanted = heading.is_none();
        let mut found = is_wanted;
        let mut lines = text.lines().peekable();
        while let Some(line) = lines.next() {
            writeln!(told, "{line}").unwrap();
            if let Some(own) = line.strip_prefix("## ").filter(|_| heading.is_some()) {
                is_wanted = Some(own) == heading;
                found |= is_wanted;
            }
            if line != "```console" || !is_wanted {
                continue;
            }
            while let Some(line) = lines.next_if(|line| *line != "```") {
                let command = line.strip_prefix("$ ").unwrap_or_else(|| panic!("{line}: not a command"));
                let mut before = String::new();
                while let Some(line) = lines.next_if(|line| *line != "```" && !line.starts_with("$ ")) {
                    writeln!(before, "{line}").unwrap();
                }
                let now = self.run(command);
                let is_same = self.constant(&before) == self.constant(&now);
                write!(told, "{line}\n{}", if is_same { before } else { now }).unwrap();
            }
        }
        assert!(found, "{} has no heading {heading:?}", self.page.display());
        expect_file![&self.page].assert_eq(&told);
    }

    /// What a command prints on both outputs, and its exit code where that is not 0.
    fn run(&self, command: &str) -> String {
        let variables = self.variables.iter().map(|(name, value)| (name, value));
        let output = Command::new("sh")
            .args(["-c", &format!("PATH={}:$PATH; exec 2>&1; {command}", self.bin.display())])
            .envs(variables)
            .current_dir(&self.folder)
            .output()
            .unwrap();
        let mut text = String::from_utf8(output.stdout).unwrap();
        for (one, by) in &self.replaced {
            text = text.replace(one, by);
        }
        let trimmed: Vec<&str> = text.lines().map(str::trim_end).collect();
        let mut text = trimmed.join("\n");
        if !text.is_empty() {
            text.push('\n');
        }
        match output.status.code() {
            Some(0) => text,
            code => format!("{text}(exit code {})\n", code.map_or_else(|| "none".to_owned(), |code| code.to_string())),
        }
    }

    /// An output without what may differ; widths follow from that.
    fn constant(&self, output: &str) -> String {
        let blank = |text: String, pattern: &Regex| pattern.replace_all(&text, "…").into_owned();
        let constant = self.varying.iter().fold(output.to_owned(), blank);
        constant.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ") + "\n").collect()
    }
}
