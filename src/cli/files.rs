//! Files of manifests, folders of them, and standard input: bounded in size, number and depth.

use std::collections::BTreeSet;
use std::io::{Read, stdin};
use std::path::{Path, PathBuf};

use anyhow::{anyhow, bail};

use crate::lint::yaml::BYTES_MOST;

/// Folders below a folder that are read.
const DEPTH_MOST: usize = 32;
/// Files that are read.
const FILES_MOST: usize = 20_000;
/// What standard input is called.
pub const STDIN: &str = "stdin";

/// One file, and its bytes or why it could not be read.
pub struct File {
    /// Its path as it was given, or found below a folder that was.
    pub name: String,
    /// Its path below that folder; its name where it was given itself.
    pub within: String,
    /// What it holds: at most one byte more than lint takes, so that lint says so.
    pub bytes: Result<Vec<u8>, String>,
}

/// The files of some paths.
#[derive(Default)]
pub struct Files {
    /// Each once, in the order in which they were given, those of a folder by name.
    pub files: Vec<File>,
    /// Folders that kustomize builds.
    pub built: Vec<String>,
    known: BTreeSet<PathBuf>,
}

/// The texts of files by name; `-` is standard input, a folder stands for its YAML and JSON files.
pub fn texts(paths: &[String]) -> anyhow::Result<Vec<(String, String)>> {
    let read = |file: File| {
        let bytes = file.bytes.map_err(|error| anyhow!("read {}: {error}", file.name))?;
        let text = String::from_utf8(bytes).map_err(|_| anyhow!("read {}: it is not UTF-8 text", file.name))?;
        if text.len() > BYTES_MOST {
            bail!("read {}: it has more than {BYTES_MOST} bytes", file.name);
        }
        Ok((file.within, text))
    };
    Files::of(paths).files.into_iter().map(read).collect()
}

impl Files {
    /// Reads files, folders, and for `-` standard input.
    pub fn of(paths: &[String]) -> Self {
        let mut files = Self::default();
        for path in paths {
            files.add(path);
        }
        files
    }

    fn add(&mut self, path: &str) {
        if path == "-" {
            return self.take(STDIN.to_owned(), STDIN.to_owned(), &mut stdin().lock());
        }
        let path = Path::new(path);
        if path.is_dir() {
            let before = self.files.len();
            self.add_folder(path, path, 0);
            if self.files.len() == before {
                self.fail(path, "holds no .yaml, .yml or .json file".to_owned());
            }
        } else {
            self.add_file(path, path);
        }
    }

    fn add_file(&mut self, root: &Path, path: &Path) {
        let name = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        if !self.known.insert(name) {
            return;
        }
        let below = path.strip_prefix(root).ok().filter(|below| !below.as_os_str().is_empty());
        let within = below.unwrap_or(path).display().to_string();
        match std::fs::File::open(path) {
            Ok(mut file) => self.take(path.display().to_string(), within, &mut file),
            Err(error) => self.fail(path, error.to_string()),
        }
    }

    fn fail(&mut self, path: &Path, message: String) {
        let name = path.display().to_string();
        self.files.push(File { within: name.clone(), name, bytes: Err(message) });
    }

    fn take(&mut self, name: String, within: String, reader: &mut impl Read) {
        let limit = u64::try_from(BYTES_MOST).unwrap_or(u64::MAX).saturating_add(1);
        let mut bytes = Vec::new();
        let read = reader.take(limit).read_to_end(&mut bytes);
        self.files.push(File { name, within, bytes: read.map(|_| bytes).map_err(|error| error.to_string()) });
    }

    /// Files of a folder in the order of their names; hidden ones and links to folders are left out.
    fn add_folder(&mut self, root: &Path, path: &Path, depth: usize) {
        if depth > DEPTH_MOST || self.files.len() >= FILES_MOST {
            return self.fail(path, format!("has more than {FILES_MOST} files, or is deeper than {DEPTH_MOST}"));
        }
        let entries = match std::fs::read_dir(path) {
            Ok(entries) => entries,
            Err(error) => return self.fail(path, error.to_string()),
        };
        let mut entries: Vec<_> = entries.flatten().map(|entry| (entry.path(), entry.file_type())).collect();
        entries.sort_by(|(one, _), (other, _)| one.cmp(other));
        for (path, kind) in entries {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
            if name.starts_with('.') || name == "node_modules" {
                continue;
            }
            if kind.as_ref().is_ok_and(std::fs::FileType::is_dir) {
                self.add_folder(root, &path, depth + 1);
            } else if ["kustomization.yaml", "kustomization.yml", "Kustomization"].contains(&name.as_str()) {
                self.built.push(path.parent().unwrap_or(&path).display().to_string());
            } else if matches!(path.extension().and_then(|one| one.to_str()), Some("yaml" | "yml" | "json")) {
                self.add_file(root, &path);
            }
        }
    }
}
