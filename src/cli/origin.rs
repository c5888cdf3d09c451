//! Where a Rollout's template comes from: the object that holds it, the tool that applies it from Git, and its change.

use std::io::{Write as _, stdout};

use anyhow::{Context as _, bail};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry;
use kube::Api;
use kube::ResourceExt as _;
use kube::api::{DynamicObject, PostParams};
use kube::core::ApiResource;
use serde_json::{Value, json};

use super::act;
use super::cluster::{Cluster, parsed};
use super::outcome::Outcome;
use crate::api::names;
use crate::api::watched::{Deployment, Rollout};
use crate::plan::strategy::PodMetadata;
use crate::plan::{revision, workload};

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

/// The object that holds a Rollout's pod template: the Rollout itself, or the Deployment that it names.
pub struct Held {
    /// The Rollout.
    pub rollout: Rollout,
    /// The object with the template.
    pub object: DynamicObject,
    resource: ApiResource,
}

impl Held {
    /// Reads a Rollout, and the Deployment that it names.
    pub async fn of(cluster: &Cluster, name: &str) -> anyhow::Result<Self> {
        let object = cluster.object(name).await?;
        let rollout = parsed(object.clone())?;
        let (object, resource) = match cluster.deployment_of(&rollout).await? {
            Some(deployment) => (deployment, ApiResource::erase::<Deployment>(&())),
            None => (object, ApiResource::erase::<Rollout>(&())),
        };
        Ok(Self { rollout, object, resource })
    }

    /// The Deployment that brings the template.
    pub fn deployment(&self) -> anyhow::Result<Option<Deployment>> {
        let is_deployment = self.resource.kind == "Deployment";
        is_deployment.then(|| read_deployment(&self.object)).transpose()
    }

    /// The template as it may stand in Git, and its revision hash.
    pub fn template(&self) -> anyhow::Result<(Value, String)> {
        if let Some(deployment) = self.deployment()? {
            let template = revision::template_of(&deployment);
            let read = workload::read_as(&deployment, &template, self.rollout.status.workload.as_ref());
            return Ok((template, read.revision_hash));
        }
        let written =
            self.object.data.pointer("/spec/template").cloned().context("the Rollout has no spec.template")?;
        let hash = revision::hash(&written);
        Ok((written, hash))
    }

    /// An annotation, as the controller reads it: the Deployment's before the Rollout's.
    pub fn annotation(&self, key: &str) -> Option<String> {
        workload::annotation([&self.object.metadata, &self.rollout.metadata], key)
    }

    /// `rollout checkout`, or `deployment checkout`.
    pub fn title(&self) -> String {
        format!("{} {}", self.resource.kind.to_lowercase(), self.object.name_any())
    }

    /// A change of its template, for Git.
    fn change_to(&self, template: Value, namespace: &str) -> anyhow::Result<String> {
        let (now, _) = self.template()?;
        let kind = (self.resource.api_version.as_str(), self.resource.kind.as_str());
        change_text(namespace, kind, &self.object.name_any(), &json!({"template": patch(&now, template)}))
    }
}

/// A Deployment as the API server has it, as one that is read.
pub fn read_deployment(object: &DynamicObject) -> anyhow::Result<Deployment> {
    let read = serde_json::to_value(object).and_then(serde_json::from_value);
    read.with_context(|| format!("read deployment {}", object.name_any()))
}

/// Prints a change of a Rollout's spec, for Git.
pub fn emit(cluster: &Cluster, name: &str, spec: &Value) -> anyhow::Result<()> {
    let text = change_text(&cluster.namespace, (names::API_VERSION, "Rollout"), name, spec)?;
    Ok(write!(stdout(), "{text}")?)
}

fn change_text(namespace: &str, (version, kind): (&str, &str), name: &str, spec: &Value) -> anyhow::Result<String> {
    // Kustomize finds what a plain patch is of by its namespace, too, and most bases have none.
    let change = json!({"apiVersion": version, "kind": kind, "metadata": {"name": name}, "spec": spec});
    let lower = kind.to_lowercase();
    let null = if removes(spec) {
        "# null takes a field away, in kustomize's patches too; in a whole manifest, delete its line.\n"
    } else {
        ""
    };
    let target = format!(
        "# For Git, in kustomization.yaml: patches: [{{path: THIS, target: {{kind: {kind}, name: {name}}}}}]\n"
    );
    let by_hand =
        format!("# By hand: kubectl patch {lower} {name} --namespace {namespace} --type merge --patch-file THIS\n");
    Ok(format!("{target}{by_hand}{null}{}", serde_yaml::to_string(&change)?))
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
pub async fn change(cluster: &Cluster, held: Held, template: Value, what: &str, how: &How) -> anyhow::Result<Outcome> {
    if how.emit {
        write!(stdout(), "{}", held.change_to(template, &cluster.namespace)?)?;
        return Ok(Outcome::Reached);
    }
    let title = held.title();
    if !how.yes {
        let tool = holder(&held.object);
        let warning = tool.as_ref().map_or_else(String::new, |tool| {
            format!(" {tool} applies {title} from Git and will take it back; --emit prints the change to commit.")
        });
        if !act::confirmed(&format!("{what}?{warning}"), tool.is_none())? {
            bail!("nothing was changed.{warning} With --yes it is done all the same");
        }
    }
    let Held { rollout, mut object, resource } = held;
    *object.data.pointer_mut("/spec/template").with_context(|| format!("{title} has no spec.template"))? = template;
    object.metadata.managed_fields = None;
    // The commit that they name has not brought this.
    if let Some(annotations) = &mut object.metadata.annotations {
        annotations.retain(|key, _| !key.starts_with(names::GIT_PREFIX));
    }
    let by = PostParams { field_manager: Some("kubectl-serin".to_owned()), ..PostParams::default() };
    let api: Api<DynamicObject> = Api::namespaced_with(cluster.client.clone(), &cluster.namespace, &resource);
    api.replace(&object.name_any(), &by, &object).await.with_context(|| format!("change {title}"))?;
    writeln!(stdout(), "{what}: done. kubectl serin get {} -w shows the rollout.", rollout.name_any())?;
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
    fn a_change_of_a_deployment_names_it_and_leaves_defaults_out() {
        let container = json!({"name": "app", "image": "a:1", "imagePullPolicy": "IfNotPresent", "resources": {}});
        let pod = json!({"containers": [container], "dnsPolicy": "ClusterFirst", "hostname": "a"});
        let object = serde_json::from_value(json!({
            "metadata": {"name": "checkout"},
            "spec": {"template": {"metadata": {"labels": {"app": "a"}, "creationTimestamp": null}, "spec": pod}},
        }));
        let resource = ApiResource::erase::<Deployment>(&());
        let held = Held { rollout: Rollout::default(), object: object.unwrap(), resource };
        let (mut template, hash) = held.template().unwrap();
        assert_eq!(hash, revision::hash(&template), "no status says otherwise");
        *template.pointer_mut("/spec").unwrap() = json!({"containers": [{"name": "app", "image": "a:2"}]});
        let text = held.change_to(template, "shop").unwrap();
        let wanted = "\
# For Git, in kustomization.yaml: patches: [{path: THIS, target: {kind: Deployment, name: checkout}}]
# By hand: kubectl patch deployment checkout --namespace shop --type merge --patch-file THIS
# null takes a field away, in kustomize's patches too; in a whole manifest, delete its line.
apiVersion: apps/v1
kind: Deployment
metadata:
  name: checkout
spec:
  template:
    metadata:
      labels:
        app: a
    spec:
      containers:
      - image: a:2
        name: app
      hostname: null
";
        assert_eq!(text, wanted);
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
