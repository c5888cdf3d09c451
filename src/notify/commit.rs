//! The status of a commit: at GitHub, GitLab and Gitea, and for gitops-promoter.

use serde_json::{Value, json};

use super::context::{Context, Message, first};
use super::format::{Given, Request};
use super::service::Service;
use crate::api::names;
use crate::plan::revision::hash_text;

/// Characters of a description that GitHub takes.
const DESCRIPTION_MOST: usize = 140;
/// Characters of a label's value.
const LABEL_MOST: usize = 63;
/// The API group of gitops-promoter.
pub const PROMOTER_GROUP: &str = "promoter.argoproj.io";

/// An object in the channel's namespace.
#[derive(Debug, Clone, PartialEq)]
pub struct Object {
    /// Its name.
    pub name: String,
    /// The whole object, to be applied server-side.
    pub body: Value,
}

/// How a commit is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Pending,
    Success,
    Failure,
    /// It was never decided: a newer commit came.
    Cancelled,
}

impl State {
    fn of(reason: &str) -> Option<Self> {
        match reason {
            // What stalls may go on once somebody mends it.
            "RolloutStarted" | "Paused" | "Stalled" => Some(Self::Pending),
            "FirstDeployment" | "Promoted" => Some(Self::Success),
            "Aborted" => Some(Self::Failure),
            "Superseded" | "Reverted" => Some(Self::Cancelled),
            _ => None,
        }
    }

    /// GitHub's and Gitea's word.
    fn of_github(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Success => "success",
            Self::Failure => "failure",
            Self::Cancelled => "error",
        }
    }

    /// GitLab's word.
    fn of_gitlab(self) -> &'static str {
        match self {
            Self::Pending => "running",
            Self::Success => "success",
            Self::Failure => "failed",
            Self::Cancelled => "canceled",
        }
    }

    /// The word of gitops-promoter.
    fn of_promoter(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Success => "success",
            Self::Failure | Self::Cancelled => "failure",
        }
    }
}

/// The commit's status by HTTP.
pub fn status(given: &Given<'_>, message: &Message, service: Service) -> Result<Request, String> {
    let spec = match service {
        Service::GitLab => given.spec.gitlab.as_ref(),
        Service::Gitea => given.spec.gitea.as_ref(),
        Service::GitHub => given.spec.github.as_ref(),
        Service::Slack
        | Service::DingTalk
        | Service::Feishu
        | Service::WeCom
        | Service::Teams
        | Service::Email
        | Service::Webhook
        | Service::CloudEvents
        | Service::Alertmanager
        | Service::Promoter => None,
    };
    let spec = spec.ok_or("the channel names no server of repositories")?;
    let context = &message.context;
    let state = State::of(&context.reason).ok_or("the event says nothing of a commit")?;
    let sha = sha(context)?;
    let repository = repository(spec.repository.as_ref().or(context.repo.as_ref()))?;
    let token = given.secrets.get(&spec.token)?;
    let name = format!("serin/{}/{}", context.namespace, context.rollout);
    let description = first(&context.message, DESCRIPTION_MOST);
    let base = |default: &str| spec.api_url.as_deref().unwrap_or(default).trim_end_matches('/').to_owned();
    if service == Service::GitLab {
        let mut body = json!({"state": state.of_gitlab(), "description": description, "name": name});
        add_url(&mut body, "target_url", context);
        let project = repository.replace('/', "%2F");
        let url = format!("{}/projects/{project}/statuses/{sha}", base("https://gitlab.com/api/v4"));
        return Ok(Request::json(&url, &body).with("private-token", token));
    }
    let mut body = json!({"state": state.of_github(), "description": description, "context": name});
    add_url(&mut body, "target_url", context);
    if service == Service::Gitea {
        let url = format!("{}/repos/{repository}/statuses/{sha}", base(""));
        return Ok(Request::json(&url, &body).with("authorization", format!("token {token}")));
    }
    let url = format!("{}/repos/{repository}/statuses/{sha}", base("https://api.github.com"));
    let request = Request::json(&url, &body).with_token(Some(token));
    Ok(request.with("accept", "application/vnd.github+json").with("x-github-api-version", "2022-11-28"))
}

/// The commit's status as gitops-promoter reads it: one object a channel and Rollout, of the commit that was looked at last.
/// Another channel, for another branch or key, has objects of its own.
pub fn object(given: &Given<'_>, message: &Message) -> Result<Object, String> {
    let spec = given.spec.promoter.as_ref().ok_or("the channel names no GitRepository")?;
    let context = &message.context;
    let state = State::of(&context.reason).ok_or("the event says nothing of a commit")?;
    let sha = sha(context)?;
    let key = spec.key.as_deref().unwrap_or("serin");
    let name = format!("serin-{}-{}", context.rollout, hash_text(given.channel));
    let mut labels = json!({"promoter.argoproj.io/commit-status": key});
    if let (Some(branch), Some(labels)) = (&spec.branch, labels.as_object_mut()) {
        labels.insert("promoter.argoproj.io/environment".into(), json!(label(branch)));
    }
    let title = format!("{key}/{}", spec.branch.as_deref().unwrap_or(&context.rollout));
    let mut inner = json!({
        "gitRepositoryRef": {"name": spec.git_repository},
        "sha": sha,
        "name": title,
        "description": first(&context.message, DESCRIPTION_MOST),
        "phase": state.of_promoter(),
    });
    add_url(&mut inner, "url", context);
    let body = json!({
        "apiVersion": format!("{PROMOTER_GROUP}/v1alpha1"),
        "kind": "CommitStatus",
        "metadata": {"name": name, "namespace": context.namespace, "labels": labels, "annotations": {names::ROLLOUT: context.rollout}},
        "spec": inner,
    });
    Ok(Object { name, body })
}

fn add_url(body: &mut Value, field: &str, context: &Context) {
    if let (Some(body), Some(url)) = (body.as_object_mut(), &context.url) {
        body.insert(field.to_owned(), json!(url));
    }
}

/// A branch as the value of a label.
fn label(branch: &str) -> String {
    let safe: String = branch
        .chars()
        .map(|one| if one.is_ascii_alphanumeric() || ['-', '_', '.'].contains(&one) { one } else { '-' })
        .take(LABEL_MOST)
        .collect();
    safe.trim_matches(|one: char| !one.is_ascii_alphanumeric()).to_owned()
}

/// The whole hash of the commit: services know no commit by a part of it.
fn sha(context: &Context) -> Result<&str, String> {
    let commit = context
        .commit
        .as_deref()
        .ok_or("the revision has no commit; let the pipeline set the annotation serin.dev/git-commit on the Rollout")?;
    let is_whole = [40, 64].contains(&commit.len()) && commit.chars().all(|one| one.is_ascii_hexdigit());
    if is_whole { Ok(commit) } else { Err("serin.dev/git-commit is not the whole hash of a commit".to_owned()) }
}

/// `owner/name` of a repository, of any of the forms that Git takes.
fn repository(given: Option<&String>) -> Result<String, String> {
    let given = given.ok_or(
        "the repository is unknown; write it in the channel, or let the pipeline set the annotation serin.dev/git-repo",
    )?;
    let path = match (given.split_once("://"), given.split_once('@')) {
        (Some((_, rest)), _) => rest.split_once('/').map_or("", |(_, path)| path),
        (None, Some((_, rest))) => rest.split_once(':').map_or("", |(_, path)| path),
        (None, None) => given,
    };
    let path = path.trim_end_matches('/').trim_end_matches(".git");
    let is_part = |part: &str| {
        !part.is_empty()
            && part.chars().any(|one| one != '.')
            && part.chars().all(|one| one.is_ascii_alphanumeric() || ['-', '_', '.'].contains(&one))
    };
    let is_right = path.contains('/') && path.split('/').all(is_part);
    if is_right { Ok(path.to_owned()) } else { Err("the repository is not of the form owner/name".to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repositories_in_every_form() {
        for (given, wanted) in [
            ("shop/checkout", Some("shop/checkout")),
            ("https://github.com/shop/checkout.git", Some("shop/checkout")),
            ("git@github.com:shop/checkout.git", Some("shop/checkout")),
            ("https://gitlab.com/group/sub/checkout", Some("group/sub/checkout")),
            ("ssh://git@host:22/shop/checkout", Some("shop/checkout")),
            ("checkout", None),
            ("shop/../admin", None),
            ("shop/check out", None),
            ("shop/checkout?x=", None),
            ("https://github.com/", None),
        ] {
            assert_eq!(repository(Some(&given.to_owned())).ok().as_deref(), wanted, "{given}");
        }
    }
}
