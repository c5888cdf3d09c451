//! What people do, and the tools that bring what Git holds.

use serde_json::{Value, json};

use super::Stage;
use crate::api::names;
use crate::embedded::kind::plural_of;

impl Stage<'_> {
    pub(super) fn apply(&mut self, object: &Value) {
        let kind = object.get("kind").and_then(Value::as_str).unwrap_or_default();
        let Some(plural) = plural_of(kind) else { return };
        if let Ok(applied) = self.cluster.apply(plural, object) {
            let committed = if plural == "deployments" { object } else { &*applied };
            self.model.committed(plural, &self.with_template(plural, committed));
        }
    }

    /// A Rollout with the template of the Deployment that it names.
    fn with_template(&self, plural: &str, object: &Value) -> Value {
        let mut object = object.clone();
        let name = object.pointer("/spec/workloadRef/name").and_then(Value::as_str).filter(|_| plural == "rollouts");
        if let Some(deployment) = name.and_then(|name| self.cluster.get("deployments", &self.namespace, name))
            && let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut)
        {
            spec.insert("template".into(), deployment.pointer("/spec/template").cloned().unwrap_or_default());
        }
        object
    }

    /// A commit's template is the Deployment's, where the Rollout names one; the rest of it is the Rollout's.
    fn commit_workload(&self, rollout: &Value, spec: &Value) -> Value {
        let mut rest = spec.clone();
        let name = rollout.pointer("/spec/workloadRef/name").and_then(Value::as_str);
        let template = rest.as_object_mut().filter(|_| name.is_some()).and_then(|rest| rest.remove("template"));
        if let (Some(name), Some(template)) = (name, template)
            && let Some(deployment) = self.cluster.get("deployments", &self.namespace, name)
        {
            let mut deployment = Value::clone(&deployment);
            if let Some(own) = deployment.pointer_mut("/spec/template") {
                *own = template;
            }
            let _ = self.cluster.replace("deployments", deployment);
        }
        rest
    }

    /// A merge patch of the Rollout's spec, as a commit brings it.
    pub(super) fn commit(&mut self, spec: &Value) {
        let Some(rollout) = self.cluster.get("rollouts", &self.namespace, &self.name) else { return };
        let mut rollout = Value::clone(&rollout);
        let body = json!({"spec": self.commit_workload(&rollout, spec)});
        json_patch::merge(&mut rollout, &body);
        if let Ok(committed) = self.cluster.replace("rollouts", rollout) {
            self.model.committed("rollouts", &self.with_template("rollouts", &committed));
        }
    }

    /// A person acts: `promote@2` and `approve@2` on the step with index 2, `promote` and `approve` on the one that it is at.
    pub(super) fn act(&mut self, text: &str) {
        let Some(rollout) = self.cluster.get("rollouts", &self.namespace, &self.name) else { return };
        let (action, at) = text.split_once('@').map_or((text, None), |(action, step)| (action, step.parse().ok()));
        let revision =
            rollout.pointer("/status/canary/hash").or_else(|| rollout.pointer("/status/stable/hash")).cloned();
        let current = rollout.pointer("/status/currentStepIndex").and_then(Value::as_u64).unwrap_or(0);
        let step = at.or_else(|| usize::try_from(current).ok()).filter(|_| ["approve", "promote"].contains(&action));
        self.acts += 1;
        let name = format!("{action}-{}", self.acts);
        let mut spec =
            json!({"rollout": self.name, "revision": revision, "action": action, "reason": "the story says so"});
        if let (Some(spec), Some(step)) = (spec.as_object_mut(), step) {
            spec.insert("step".into(), json!(step));
        }
        let object = json!({
            "apiVersion": names::API_VERSION, "kind": "RolloutAction",
            "metadata": {"name": name, "namespace": self.namespace}, "spec": spec,
        });
        let has_aborted = rollout.pointer("/status/aborted").is_some();
        if self.cluster.create("rolloutactions", object).is_ok() && (action != "retry" || has_aborted) {
            self.model.acted(&name, action, step);
        }
    }

    /// A GitOps tool writes the routes as Git has them.
    pub(super) fn revert(&mut self) {
        let is_route = |object: &&Value| {
            let kind = object.get("kind").and_then(Value::as_str).unwrap_or_default();
            ["VirtualService", "DestinationRule", "HTTPRoute", "Service"].contains(&kind)
        };
        for object in self.story.objects.iter().filter(is_route) {
            self.apply(object);
        }
    }
}
