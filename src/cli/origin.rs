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

/// A ReplicaSet's template without what Serin has added to the user's.
pub fn without_own(replica_set: &Value) -> Value {
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
    if removes(spec) {
        writeln!(
            stdout(),
            "# null takes a field away, in kustomize's patches too; in a whole manifest, delete its line."
        )?;
    }
    print_yaml(&change)
}

/// A value as a merge patch of another: fields that it lacks are null. Lists are replaced whole.
fn patch(now: &Value, wanted: Value) -> Value {
    let (Value::Object(before), Value::Object(mut fields)) = (now, wanted.clone()) else { return wanted };
    for (key, before) in before {
        let own = fields.remove(key).map_or(Value::Null, |own| patch(before, own));
        fields.insert(key.clone(), own);
    }
    Value::Object(fields)
}

/// Whether a merge patch takes a field away.
fn removes(patch: &Value) -> bool {
    match patch {
        Value::Null => true,
        Value::Object(fields) => fields.values().any(removes),
        Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => false,
    }
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
        let now = object.data.pointer("/spec/template").context("the Rollout has no spec.template")?;
        emit(cluster, &name, &json!({"template": patch(now, template)}))?;
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
    use super::*;

    #[test]
    fn an_emitted_change_takes_away_what_is_gone() {
        let now =
            json!({"metadata": {"annotations": {"team": "a", "kept": "b"}}, "spec": {"x": 1, "list": [{"y": 1}]}});
        let wanted = json!({"metadata": {"annotations": {"kept": "b"}}, "spec": {"list": [{"z": 1}]}});
        let patch = patch(&now, wanted.clone());
        assert_eq!(
            patch,
            json!({"metadata": {"annotations": {"team": null, "kept": "b"}}, "spec": {"x": null, "list": [{"z": 1}]}})
        );
        let mut patched = now.clone();
        json_patch::merge(&mut patched, &patch);
        assert_eq!(patched, wanted);
        assert!(removes(&patch) && !removes(&super::patch(&now, now.clone())));
    }

    #[test]
    fn labels_of_the_user_come_back() {
        let labels =
            json!({"app": "a", names::REVISION_HASH: "h", names::ROLLOUT: "a", names::CANONICAL_REVISION: "h"});
        let annotations = json!({names::USER_CANONICAL_REVISION: "v1"});
        let set = json!({"spec": {"template": {"metadata": {"labels": labels, "annotations": annotations}}}});
        let own = json!({"metadata": {"labels": {"app": "a", names::CANONICAL_REVISION: "v1"}}});
        assert_eq!(without_own(&set), own);
    }

    #[test]
    fn what_a_role_gave_is_not_the_users() {
        let metadata: PodMetadata =
            serde_json::from_value(json!({"labels": {"role": "stable"}, "annotations": {"why": "a"}})).unwrap();
        let annotations = json!({"why": "a", names::POD_METADATA: metadata.record()});
        let template = json!({"metadata": {"labels": {"app": "a", "role": "stable"}, "annotations": annotations}});
        let own = json!({"metadata": {"labels": {"app": "a"}}});
        assert_eq!(without_own(&json!({"spec": {"template": template}})), own);
    }
}
