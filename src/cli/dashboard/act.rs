//! What a person may do on a Rollout's page, where the dashboard was started for it: a `RolloutAction` at the revision and the step
//! that the page showed, so that what has moved on since is refused by the controller.

use std::sync::Arc;

use axum::Form;
use axum::extract::{Path, State};
use axum::response::{IntoResponse as _, Redirect, Response};
use kube::api::Api;
use serde::Deserialize;
use serde_json::{Value, json};

use super::frame::section;
use super::html::{Html, encoded};
use super::list::address;
use super::serve::{Dashboard, Shared, failed};
use crate::api::action::Verb;
use crate::api::watched::{Rollout, RolloutAction};
use crate::cli::act::{Ask, approval_step, question, revision_of};
use crate::cli::cluster::Cluster;

/// What can be asked, each with what its button says.
const VERBS: [(Verb, &str); 7] = [
    (Verb::Approve, "Approve"),
    (Verb::Promote, "Promote"),
    (Verb::PromoteFull, "Promote past all steps"),
    (Verb::Pause, "Pause"),
    (Verb::Resume, "Resume"),
    (Verb::Abort, "Abort"),
    (Verb::Retry, "Retry"),
];

/// A Rollout that a person may act on.
pub struct Wish<'a> {
    /// Its cluster and namespace.
    pub cluster: &'a Cluster,
    /// The Rollout.
    pub rollout: &'a Rollout,
    /// The name of the action that was asked for last.
    pub action: Option<&'a str>,
}

/// What became of an action.
pub struct Answer {
    class: &'static str,
    text: String,
}

impl Wish<'_> {
    /// What became of the action that was asked for last.
    pub async fn answer(&self) -> Option<Answer> {
        let name = self.action?;
        let api: Api<RolloutAction> = self.cluster.api();
        let action = api.get_opt(name).await.ok().flatten()?;
        let (accepted, message) = action.status.map(|status| (status.accepted, status.message)).unwrap_or_default();
        let message = message.unwrap_or_default();
        Some(match accepted {
            Some(true) => Answer { class: "good", text: format!("Done: {message}") },
            Some(false) => Answer { class: "bad", text: format!("Refused: {message}") },
            None => Answer { class: "warn", text: format!("Asked for; RolloutAction {name} has no answer yet.") },
        })
    }

    /// Writes what can be done now.
    pub fn write(&self, html: &mut Html, answer: Option<&Answer>) {
        section(html, "act", "Act", |html| {
            if let Some(answer) = answer {
                html.line("p", &[("class", answer.class), ("role", "status")], &answer.text);
            }
            let Some(revision) = revision_of(self.rollout) else {
                html.line("p", &[], "There is no revision yet.");
                return;
            };
            let offered = VERBS.into_iter().filter_map(|(verb, title)| Some((verb, title, self.step_of(verb)?)));
            html.element("div", &[("class", "acts")], |html| {
                offered.for_each(|(verb, title, step)| self.form(html, (verb, title), &revision, &step));
            });
        });
    }

    /// The step that an action is about, null where it is about none; nothing where it makes no sense now.
    fn step_of(&self, verb: Verb) -> Option<Value> {
        let status = &self.rollout.status;
        let under_way = status.in_progress().and(status.attempt.as_ref()).is_some();
        let waits_for = |reason: &str| status.blocked_by.iter().any(|wait| wait.reason == reason);
        match verb {
            Verb::Approve if under_way => approval_step(self.rollout, None).ok().map(Value::from),
            Verb::Promote if under_way && !waits_for("AwaitingApproval") => {
                Some(json!(status.current_step_index.unwrap_or(0)))
            }
            Verb::Pause => (under_way && status.paused.is_none()).then_some(Value::Null),
            Verb::PromoteFull | Verb::Abort => under_way.then_some(Value::Null),
            Verb::Resume => status.paused.is_some().then_some(Value::Null),
            Verb::Retry => status.aborted.is_some().then_some(Value::Null),
            Verb::Approve | Verb::Promote | Verb::Restart => None,
        }
    }

    /// One action: it is opened first, and then confirmed.
    fn form(&self, html: &mut Html, (verb, title): (Verb, &str), revision: &str, step: &Value) {
        let target = format!("{}/{verb}", address(self.rollout));
        let id = format!("why-{verb}");
        html.element("details", &[], |html| {
            html.line("summary", &[], &format!("{title}…"));
            html.element("form", &[("method", "post"), ("action", &target)], |html| {
                let what = question(verb, self.rollout).unwrap_or_else(|| self.sentence(verb, step));
                html.line("p", &[], &what);
                html.void("input", &[("type", "hidden"), ("name", "revision"), ("value", revision)]);
                html.void("input", &[("type", "hidden"), ("name", "step"), ("value", &step.to_string())]);
                html.line("label", &[("for", &id)], "Reason, kept with the decision");
                html.void("input", &[("id", &id), ("name", "reason"), ("maxlength", "1024"), ("autocomplete", "off")]);
                let class = if matches!(verb, Verb::Abort | Verb::PromoteFull) { "danger" } else { "" };
                html.line("button", &[("type", "submit"), ("class", class)], title);
            });
        });
    }

    fn sentence(&self, verb: Verb, step: &Value) -> String {
        let status = &self.rollout.status;
        let image =
            status.canary.as_ref().or(status.stable.as_ref()).map_or("the revision", |side| side.image.as_str());
        match (verb, step) {
            (Verb::Approve, Value::String(name)) => format!("Approve step {name} for {image}."),
            (Verb::Promote, step) => {
                let number = step.as_i64().unwrap_or(0) + 1;
                format!("{image} passes step {number} and goes on.")
            }
            (Verb::Pause, _) => format!("{image} stays at its step until it is resumed."),
            (Verb::Retry, _) => format!("{image} begins again from its first step."),
            (Verb::Resume, _) => format!("{image} goes on."),
            (Verb::Approve | Verb::PromoteFull | Verb::Abort | Verb::Restart, _) => format!("{verb} of {image}."),
        }
    }
}

/// What a form sends.
#[derive(Deserialize)]
pub struct Sent {
    revision: String,
    step: String,
    #[serde(default)]
    reason: String,
}

/// Asks for what a form says, and leads back to the page.
pub async fn answer(
    State(dashboard): Shared,
    Path((namespace, name, verb)): Path<(String, String, String)>,
    Form(sent): Form<Sent>,
) -> Response {
    match ask(&dashboard, (&namespace, &name, &verb), &sent).await {
        Ok(action) => {
            let page = format!("/rollouts/{}/{}", encoded(&namespace), encoded(&name));
            Redirect::to(&format!("{page}?action={}", encoded(&action))).into_response()
        }
        Err(error) => failed(&dashboard, &error),
    }
}

async fn ask(
    dashboard: &Arc<Dashboard>,
    (namespace, name, verb): (&str, &str, &str),
    sent: &Sent,
) -> anyhow::Result<String> {
    let cluster = dashboard.cluster(namespace)?;
    let verb = VERBS.into_iter().map(|(verb, _)| verb).find(|own| own.to_string() == verb);
    let verb = verb.ok_or_else(|| anyhow::anyhow!("there is no such action"))?;
    let reason = Some(sent.reason.trim()).filter(|reason| !reason.is_empty());
    let step = serde_json::from_str(&sent.step)?;
    Ask { verb, name, revision: &sent.revision, step, reason }.create(&cluster).await
}
