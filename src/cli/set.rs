//! `kubectl serin set image`: another image, for Rollouts that no tool applies from Git; for the others the change to commit.

use anyhow::bail;
use serde_json::{Value, json};

use super::cluster::Cluster;
use super::origin::{self, Held, How};
use super::outcome::Outcome;

/// What to set.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Sets images of containers.
    #[command(after_help = "Example:\n  kubectl serin set image checkout app=registry.example/checkout:2")]
    Image(ImageArguments),
}

#[derive(Debug, clap::Args)]
struct ImageArguments {
    /// Name of the Rollout.
    #[arg(add = super::completion::rollouts(), value_parser = super::cluster::name)]
    name: String,
    /// Containers and their images; `*` stands for every container.
    #[arg(value_name = "CONTAINER=IMAGE", required = true, value_parser = assignment)]
    images: Vec<(String, String)>,
    #[command(flatten)]
    how: How,
}

fn assignment(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((container, image)) if !container.is_empty() && !image.is_empty() => Ok((container.into(), image.into())),
        _ => Err("expected CONTAINER=IMAGE".to_owned()),
    }
}

/// Sets images.
pub async fn run(cluster: &Cluster, arguments: &Arguments) -> anyhow::Result<Outcome> {
    let Command::Image(arguments) = &arguments.command;
    let held = Held::of(cluster, &arguments.name).await?;
    let (before, _) = held.template()?;
    let mut template = before.clone();
    for (container, image) in &arguments.images {
        set(&mut template, container, image)?;
    }
    if template == before {
        bail!("{} has these images already; nothing was changed", held.title());
    }
    let images: Vec<String> =
        arguments.images.iter().map(|(container, image)| format!("{container}={image}")).collect();
    let what = format!("Set {} of {}", images.join(" "), arguments.name);
    origin::change(cluster, held, template, &what, &arguments.how).await
}

fn set(template: &mut Value, container: &str, image: &str) -> anyhow::Result<()> {
    let mut names = Vec::new();
    let mut is_set = false;
    for list in ["containers", "initContainers"] {
        let containers = template.pointer_mut(&format!("/spec/{list}")).and_then(Value::as_array_mut);
        for one in containers.into_iter().flatten().filter_map(Value::as_object_mut) {
            let name = one.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
            if name == container || (container == "*" && list == "containers") {
                one.insert("image".to_owned(), json!(image));
                is_set = true;
            }
            names.push(name);
        }
    }
    if !is_set {
        bail!("there is no container {container}; the template has {}", names.join(", "));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_that_there_is_not_is_told() {
        let mut template =
            json!({"spec": {"containers": [{"name": "app", "image": "a:1"}, {"name": "log", "image": "l:1"}]}});
        let error = set(&mut template, "ap", "a:2").unwrap_err();
        assert_eq!(error.to_string(), "there is no container ap; the template has app, log");
        set(&mut template, "app", "a:2").unwrap();
        assert_eq!(template.pointer("/spec/containers/0/image"), Some(&json!("a:2")));
        assert_eq!(template.pointer("/spec/containers/1/image"), Some(&json!("l:1")));
    }
}
