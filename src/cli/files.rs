//! Files of manifests, folders of them, and standard input.

use std::io::Read as _;
use std::path::Path;

use anyhow::Context as _;

/// The texts of files, each with its name; `-` is standard input, a folder its YAML and JSON files, in order.
pub fn read(files: &[String]) -> anyhow::Result<Vec<(String, String)>> {
    let mut texts = Vec::new();
    for file in files {
        if file == "-" {
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text).context("read standard input")?;
            texts.push(("standard input".to_owned(), text));
        } else {
            read_path(Path::new(file), &mut texts)?;
        }
    }
    Ok(texts)
}

fn read_path(path: &Path, texts: &mut Vec<(String, String)>) -> anyhow::Result<()> {
    let reading = || format!("read {}", path.display());
    if !path.is_dir() {
        texts.push((path.display().to_string(), std::fs::read_to_string(path).with_context(reading)?));
        return Ok(());
    }
    let entries = std::fs::read_dir(path).with_context(reading)?;
    let mut paths = entries.map(|entry| entry.map(|entry| entry.path())).collect::<Result<Vec<_>, _>>()?;
    paths.sort();
    let is_manifest =
        |path: &Path| path.extension().is_some_and(|end| ["yaml", "yml", "json"].iter().any(|one| end == *one));
    for path in paths.into_iter().filter(|path| path.is_dir() || is_manifest(path)) {
        read_path(&path, texts)?;
    }
    Ok(())
}
