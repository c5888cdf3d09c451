//! What a person asks of a rollout: a `RolloutAction` at the revision and the step that the person saw.
#![expect(clippy::indexing_slicing, reason = "a JSON object takes any key")]

use std::io::{BufRead as _, IsTerminal as _, Write as _, stderr, stdin, stdout};
use std::pin::pin;
use std::time::Duration;

use anyhow::{Context as _, bail};
use futures::StreamExt as _;
use k8s_openapi::api::authentication::v1::SelfSubjectReview;
use kube::Api;
use kube::api::{DynamicObject, PostParams};
use kube::core::ApiResource;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::watch_object;
use serde_json::{Value, json};

use super::clock;
use super::cluster::Cluster;
use super::origin;
use super::outcome::Outcome;
use super::screen::{clean, print_yaml};
use crate::api::action::Verb;
use crate::api::names;
use crate::api::watched::{Rollout, RolloutAction};
use crate::plan::strategy::{self, Step};

/// How long an answer is waited for.
const ANSWERED_WITHIN: Duration = Duration::from_secs(30);

/// Which Rollout, why, and how.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Name of the Rollout.
    #[arg(add = super::completion::rollouts(), value_parser = super::cluster::name)]
    name: String,
    /// Why; kept with the decision in the status.
    #[arg(long)]
    reason: Option<String>,
    /// The revision hash that it is meant for; absent: the one that is there now.
    #[arg(long)]
    revision: Option<String>,
    /// Does not ask before what cannot be taken back.
    #[arg(short, long)]
    yes: bool,
    /// Prints the change for Git instead of acting: of the spec where it declares this, else a RolloutAction.
    #[arg(long)]
    emit: bool,
}

/// Asks for something, and waits for the answer.
pub async fn run(cluster: &Cluster, verb: Verb, arguments: &Arguments, step: Option<&str>) -> anyhow::Result<Outcome> {
    let name = &arguments.name;
    let rollout = cluster.rollout(name).await?;
    let revision = match &arguments.revision {
        Some(revision) => revision.clone(),
        None => revision_of(&rollout)
            .with_context(|| format!("rollout {name} has no revision yet; wait until it serves"))?,
    };
    let step = match verb {
        Verb::Approve => json!(approval_step(&rollout, step)?),
        Verb::Promote => json!(rollout.status.current_step_index.unwrap_or(0)),
        Verb::PromoteFull | Verb::Abort | Verb::Retry | Verb::Pause | Verb::Resume | Verb::Restart => Value::Null,
    };
    let asked = Ask { verb, name, revision: &revision, step: step.clone(), reason: arguments.reason.as_deref() };
    if arguments.emit {
        let decided = json!({"for": {"templateHash": revision}, "reason": arguments.reason});
        match declared(verb, &rollout, &step, decided) {
            Some(spec) => origin::emit(cluster, name, &spec)?,
            None => print_yaml(&named(asked.object(&cluster.namespace), &rollout, &revision))?,
        }
        return Ok(Outcome::Reached);
    }
    if let Some(question) = question(verb, &rollout).filter(|_| !arguments.yes)
        && !confirmed(&question, true)?
    {
        bail!("nothing was done");
    }
    let created = asked.create(cluster).await?;
    answer(cluster, &created, verb, name).await
}

/// What a person asks of a Rollout.
pub struct Ask<'a> {
    /// What.
    pub verb: Verb,
    /// The Rollout.
    pub name: &'a str,
    /// The revision that the person saw.
    pub revision: &'a str,
    /// The step that the person saw, by number or name; null where it does not matter.
    pub step: Value,
    /// Why.
    pub reason: Option<&'a str>,
}

impl Ask<'_> {
    fn object(&self, namespace: &str) -> Value {
        let Self { verb, name, revision, .. } = self;
        let mut action = json!({
            "apiVersion": names::API_VERSION,
            "kind": "RolloutAction",
            "metadata": {"generateName": format!("{name}-{}-", verb.to_string().to_lowercase()), "namespace": namespace},
            "spec": {"rollout": name, "revision": revision, "action": verb},
        });
        if !self.step.is_null() {
            action["spec"]["step"] = self.step.clone();
        }
        if let Some(reason) = self.reason {
            action["spec"]["reason"] = json!(reason);
        }
        action
    }

    /// Creates the action; its name.
    pub async fn create(&self, cluster: &Cluster) -> anyhow::Result<String> {
        let mut action = self.object(&cluster.namespace);
        if let Some(user) = user(cluster).await {
            action["spec"]["by"] = json!(user);
        }
        let resource = ApiResource::erase::<RolloutAction>(&());
        let api: Api<DynamicObject> = Api::namespaced_with(cluster.client.clone(), &cluster.namespace, &resource);
        let action = serde_json::from_value(action)?;
        let created = api.create(&PostParams::default(), &action).await;
        let created = created.with_context(|| format!("ask to {} {}", self.verb, self.name))?;
        Ok(created.metadata.name.unwrap_or_default())
    }
}

/// The revision that an action is about: the canary's, else stable's.
pub fn revision_of(rollout: &Rollout) -> Option<String> {
    let status = &rollout.status;
    status.canary.as_ref().or(status.stable.as_ref()).map(|side| side.hash.clone())
}

/// The approval step that is meant: the one that is named, the one that is waited for, or the only one.
pub fn approval_step(rollout: &Rollout, named: Option<&str>) -> anyhow::Result<String> {
    let namespace = rollout.metadata.namespace.as_deref().unwrap_or_default();
    let strategy = strategy::parse(namespace, &rollout.spec.value());
    let all: Vec<&str> = strategy.approvals().map(|(_, step)| step.name.as_str()).collect();
    if let Some(name) = named {
        if !all.contains(&name) {
            let known = if all.is_empty() { "no step of the Rollout is one".to_owned() } else { all.join(", ") };
            bail!("no approval step is called {name}: {known}");
        }
        return Ok(name.to_owned());
    }
    let current = rollout.status.current_step_index.and_then(|index| usize::try_from(index).ok());
    let awaited = current.and_then(|index| strategy.steps.get(index)).and_then(Step::approval);
    match (awaited, all.as_slice()) {
        (Some(step), _) => Ok(step.name.clone()),
        (None, [only]) => Ok((*only).to_owned()),
        (None, []) => bail!("no step of the Rollout is an approval"),
        (None, several) => bail!("name one of the approval steps with --step: {}", several.join(", ")),
    }
}

/// What Git declares instead, where it can: a change of the Rollout's spec.
fn declared(verb: Verb, rollout: &Rollout, step: &Value, mut decided: Value) -> Option<Value> {
    let spec = rollout.spec.value();
    let promotion = &spec["promotion"];
    // A merge patch replaces a list whole.
    let with = |list: &str, one: Value| {
        let mut all = promotion[list].as_array().cloned().unwrap_or_default();
        all.push(one);
        json!({"promotion": {list: all}})
    };
    if let Some(fields) = decided.as_object_mut() {
        fields.retain(|_, value| !value.is_null());
    }
    match verb {
        Verb::Approve => {
            decided["step"] = step.clone();
            Some(with("approvals", decided))
        }
        Verb::Abort => Some(with("reject", decided)),
        Verb::Retry => {
            let at_abort = rollout.status.aborted.as_ref().map_or(0, |aborted| i64::from(aborted.retry));
            let retry = promotion["retry"].as_i64().unwrap_or(0).max(at_abort);
            Some(json!({"promotion": {"retry": retry + 1}}))
        }
        Verb::Pause => Some(json!({"paused": true})),
        Verb::Resume => Some(json!({"paused": false})),
        Verb::Restart => Some(json!({"restartAt": clock::now()})),
        Verb::Promote | Verb::PromoteFull => None,
    }
}

/// The action under a name of its own, so that it can be applied: once a revision, attempt and step.
fn named(mut action: Value, rollout: &Rollout, revision: &str) -> Value {
    let step = action["spec"]["step"].as_i64().map_or_else(String::new, |step| format!("-{step}"));
    let attempt = rollout.status.attempt.as_ref().map_or(1, |attempt| attempt.number);
    let begin = action["metadata"]["generateName"].as_str().unwrap_or_default().to_owned();
    let name = format!("{begin}{revision}-{attempt}{step}");
    action["metadata"] = json!({"name": name, "namespace": action["metadata"]["namespace"]});
    action
}

/// What is asked before what cannot be taken back.
pub fn question(verb: Verb, rollout: &Rollout) -> Option<String> {
    let name = rollout.metadata.name.as_deref().unwrap_or_default();
    let canary = rollout.status.canary.as_ref();
    let image = canary.map_or("the revision", |canary| canary.image.as_str());
    match verb {
        Verb::PromoteFull => Some(format!("Promote {image} of {name} past every step and every gate?")),
        Verb::Abort => Some(format!("Abort {image} of {name}? All traffic goes to stable.")),
        Verb::Restart => Some(format!("Restart all pods of {name}?")),
        Verb::Approve | Verb::Promote | Verb::Retry | Verb::Pause | Verb::Resume => None,
    }
}

/// Asks on a terminal; where there is none, the answer is `otherwise`.
pub fn confirmed(question: &str, otherwise: bool) -> anyhow::Result<bool> {
    if !stdin().is_terminal() || !stderr().is_terminal() {
        return Ok(otherwise);
    }
    write!(stderr(), "{question} [y/N] ")?;
    stderr().flush()?;
    let mut answer = String::new();
    stdin().lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim().to_lowercase().as_str(), "y" | "yes"))
}

/// Who the API server says the person is.
async fn user(cluster: &Cluster) -> Option<String> {
    let api: Api<SelfSubjectReview> = Api::all(cluster.client.clone());
    let review = api.create(&PostParams::default(), &SelfSubjectReview::default()).await.ok()?;
    review.status?.user_info?.username
}

/// Waits for the answer, and tells it.
async fn answer(cluster: &Cluster, action: &str, verb: Verb, name: &str) -> anyhow::Result<Outcome> {
    let mut actions = pin!(watch_object(cluster.api::<RolloutAction>(), action).default_backoff());
    let answered = async {
        while let Some(event) = actions.next().await {
            let Ok(known) = event else { continue };
            let Some(status) = known.and_then(|action| action.status) else { continue };
            if let Some(accepted) = status.accepted {
                return Some((accepted, status.message.unwrap_or_default()));
            }
        }
        None
    };
    match tokio::time::timeout(ANSWERED_WITHIN, answered).await {
        Ok(Some((true, message))) => {
            writeln!(stdout(), "{}", clean(&message))?;
            Ok(Outcome::Reached)
        }
        Ok(Some((false, message))) => {
            writeln!(stderr(), "{verb} of {name} was refused: {}", clean(&message))?;
            Ok(Outcome::Failed)
        }
        Ok(None) | Err(_) => {
            let seconds = ANSWERED_WITHIN.as_secs();
            writeln!(
                stderr(),
                "RolloutAction {action} is created, and was not answered within {seconds} s; it is carried out once the controller runs. Withdraw it: kubectl delete rolloutaction {action}"
            )?;
            Ok(Outcome::TimedOut)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rollout(promotion: &Value) -> Rollout {
        let steps = json!([{"setWeight": 5}, {"approval": {"name": "testers"}}, {"approval": {"name": "sales"}}]);
        let spec = json!({"promotion": promotion, "strategy": {"canary": {"steps": steps}}});
        let status = json!({"currentStepIndex": 1, "aborted": {"hash": "h", "at": "2026-11-20T10:00:00Z", "reason": "R", "message": "", "retry": 4}});
        serde_json::from_value(json!({"metadata": {"name": "checkout"}, "spec": spec, "status": status})).unwrap()
    }

    #[test]
    fn what_is_declared_keeps_what_is_there() {
        let (old, new) =
            (json!({"step": "sales", "for": {"image": "a:1"}}), json!({"for": {"templateHash": "h"}, "reason": null}));
        let here = rollout(&json!({"approvals": [old], "retry": 2}));
        let approved = declared(Verb::Approve, &here, &json!("testers"), new.clone()).unwrap();
        let wanted = json!({"promotion": {"approvals": [old, {"step": "testers", "for": {"templateHash": "h"}}]}});
        assert_eq!(approved, wanted);
        let rejected = declared(Verb::Abort, &here, &Value::Null, new.clone()).unwrap();
        assert_eq!(rejected, json!({"promotion": {"reject": [{"for": {"templateHash": "h"}}]}}));
        // More than there was at the abort.
        assert_eq!(declared(Verb::Retry, &here, &Value::Null, new), Some(json!({"promotion": {"retry": 5}})));
    }

    #[test]
    fn the_approval_that_is_awaited_is_meant() {
        let mut here = rollout(&json!({}));
        assert_eq!(approval_step(&here, None).unwrap(), "testers");
        assert_eq!(approval_step(&here, Some("sales")).unwrap(), "sales");
        let told = |error: anyhow::Error| error.to_string();
        assert_eq!(
            approval_step(&here, Some("legal")).map_err(told),
            Err("no approval step is called legal: testers, sales".into())
        );
        here.status.current_step_index = Some(0);
        assert_eq!(
            approval_step(&here, None).map_err(told),
            Err("name one of the approval steps with --step: testers, sales".into())
        );
    }
}
