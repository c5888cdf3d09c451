//! Where a Rollout's template comes from: the tool that applies it from Git, the template of a revision, and its change.

use std::io::{Write as _, stdout};

use anyhow::{Context as _, bail};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry;
use kube::ResourceExt as _;
use kube::api::{DynamicObject, PostParams};
use serde_json::{Value, json};

use super::act;
use super::cluster::Cluster;
use super::outcome::Outcome;
use super::screen::print_yaml;
use crate::api::names;
use crate::plan::revision;
use crate::plan::strategy::PodMetadata;

/// Field managers of the tools that apply from Git, by the beginning of their names.
const FROM_GIT: &[&str] = &["argocd", "kustomize-controller", "helm-controller", "flux", "gitlab", "fleet"];

/// The tool that holds `spec.template` for Git, by its field manager.
pub fn holder(object: &DynamicObject) -> Option<String> {
    let holds = |entry: &&ManagedFieldsEntry| {
        let fields = entry.fields_v1.as_ref().map(|fields| &fields.0);
        fields.is_some_and(|fields| fields.pointer("/f:spec/f:template").is_some())
    };
    let entries = object.metadata.managed_fields.iter().flatten();
    let latest = entries.filter(holds).max_by_key(|entry| entry.time.as_ref().map_or(Timestamp::MIN, |time| time.0))?;
    let manager = latest.manager.clone()?;
    FROM_GIT.iter().any(|tool| manager.starts_with(tool)).then_some(manager)
}

/// The user's template of another revision: what differs between the two ReplicaSets is changed in the user's template of
/// now, so that what Kubernetes has filled into both stays out.
pub fn template_of(now: &Value, set_of_now: &Value, set_of_other: &Value, hash: &str) -> anyhow::Result<Value> {
    let mut template = now.clone();
    let patch = json_patch::diff(&without_own(set_of_now), &without_own(set_of_other));
    let is_same = json_patch::patch(&mut template, &patch).is_ok() && revision::hash(&template) == hash;
    if !is_same {
        bail!("the template of revision {hash} cannot be had back exactly from its ReplicaSet; take it from Git");
    }
    Ok(template)
}

/// A ReplicaSet's template without what Serin has added to the user's.
fn without_own(replica_set: &Value) -> Value {
    let mut template = replica_set.pointer("/spec/template").cloned().unwrap_or_default();
    let own = |map: &str, keys: &[&str], template: &mut Value| {
        let map = template.pointer_mut(&format!("/metadata/{map}")).and_then(Value::as_object_mut)?;
        keys.iter().filter_map(|key| map.remove(*key)).last()
    };
    own("labels", &[names::REVISION_HASH, names::ROLLOUT, names::CANONICAL_REVISION], &mut template);
    let record = template.pointer("/metadata/annotations").and_then(|map| map.get(names::POD_METADATA)?.as_str());
    let of_role = PodMetadata::of_record(record);
    own("labels", &of_role.labels.keys().map(String::as_str).collect::<Vec<_>>(), &mut template);
    own("annotations", &of_role.annotations.keys().map(String::as_str).collect::<Vec<_>>(), &mut template);
    own("annotations", &[names::POD_METADATA], &mut template);
    let users = own("annotations", &[names::USER_CANONICAL_REVISION], &mut template);
    if let Some(metadata) = template.pointer_mut("/metadata").and_then(Value::as_object_mut) {
        metadata.retain(|key, value| key != "annotations" || value.as_object().is_none_or(|map| !map.is_empty()));
    }
    let labels = template.pointer_mut("/metadata/labels").and_then(Value::as_object_mut);
    if let (Some(labels), Some(users)) = (labels, users) {
        labels.insert(names::CANONICAL_REVISION.to_owned(), users);
    }
    template
}

/// How a template is changed.
#[derive(Debug, Clone, clap::Args)]
pub struct How {
    /// Prints the change, for Git, instead of making it.
    #[arg(long)]
    pub emit: bool,
    /// Does not ask, not even where a tool that applies from Git will undo it.
    #[arg(short, long)]
    pub yes: bool,
}

/// Prints a change of a Rollout's spec, for Git.
pub fn emit(cluster: &Cluster, name: &str, spec: &Value) -> anyhow::Result<()> {
    let metadata = json!({"name": name, "namespace": cluster.namespace});
    let change = json!({"apiVersion": names::API_VERSION, "kind": "Rollout", "metadata": metadata, "spec": spec});
    writeln!(stdout(), "# For Git; by hand: kubectl patch rollout {name} --type merge --patch-file THIS")?;
    print_yaml(&change)
}

/// Writes another template, or prints it. `what` is told when it is done.
pub async fn change(
    cluster: &Cluster,
    mut object: DynamicObject,
    template: Value,
    what: &str,
    how: &How,
) -> anyhow::Result<Outcome> {
    let name = object.name_any();
    if how.emit {
        emit(cluster, &name, &json!({"template": template}))?;
        return Ok(Outcome::Reached);
    }
    if !how.yes {
        let tool = holder(&object);
        let warning = tool.as_ref().map_or_else(String::new, |tool| {
            format!(" {tool} applies {name} from Git and will take it back; --emit prints the change to commit.")
        });
        if !act::confirmed(&format!("{what}?{warning}"), tool.is_none())? {
            bail!("nothing was changed.{warning} With --yes it is done all the same");
        }
    }
    *object.data.pointer_mut("/spec/template").context("the Rollout has no spec.template")? = template;
    object.metadata.managed_fields = None;
    // The commit that they name has not brought this.
    if let Some(annotations) = &mut object.metadata.annotations {
        annotations.retain(|key, _| !key.starts_with(names::GIT_PREFIX));
    }
    let by = PostParams { field_manager: Some("kubectl-serin".to_owned()), ..PostParams::default() };
    cluster.objects(false).replace(&name, &by, &object).await.with_context(|| format!("change rollout {name}"))?;
    writeln!(stdout(), "{what}: done. kubectl serin get {name} -w shows the rollout.")?;
    Ok(Outcome::Reached)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn template(image: &str) -> Value {
        json!({"metadata": {"labels": {"app": "a"}}, "spec": {"containers": [{"name": "app", "image": image}]}})
    }

    fn set(image: &str) -> Value {
        let mut template = template(image);
        template["metadata"]["labels"][names::REVISION_HASH] = json!(revision::hash(&template));
        template["spec"]["restartPolicy"] = json!("Always");
        template["spec"]["containers"][0]["imagePullPolicy"] = json!("IfNotPresent");
        json!({"spec": {"template": template}})
    }

    #[test]
    fn a_template_comes_back_without_defaults() {
        let hash = revision::hash(&template("a:1"));
        assert_eq!(template_of(&template("a:2"), &set("a:2"), &set("a:1"), &hash).unwrap(), template("a:1"));
    }

    #[test]
    fn a_template_comes_back_without_what_a_role_gave() {
        let metadata: PodMetadata =
            serde_json::from_value(json!({"labels": {"role": "stable"}, "annotations": {"why": "a"}})).unwrap();
        let mut stable = set("a:1");
        stable["spec"]["template"]["metadata"]["labels"]["role"] = json!("stable");
        stable["spec"]["template"]["metadata"]["annotations"] =
            json!({"why": "a", names::POD_METADATA: metadata.record()});
        let hash = revision::hash(&template("a:1"));
        assert_eq!(template_of(&template("a:2"), &set("a:2"), &stable, &hash).unwrap(), template("a:1"));
    }

    #[test]
    fn a_template_that_would_be_another_is_refused() {
        let error = template_of(&template("a:2"), &set("a:2"), &set("a:1"), "another").unwrap_err();
        assert!(error.to_string().contains("take it from Git"));
    }
}
