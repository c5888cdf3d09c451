//! What a team writes in a `NotificationChannel`: which Rollouts, which events, and where people and tools are told of them.

use std::collections::BTreeMap;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::event::RolloutEvent;
use super::provider::SecretKey;
use super::status::Condition;

/// Tells people or tools what happens to Rollouts of its own namespace. Exactly one of the fields that name a service.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NotificationChannelSpec {
    /// Labels of the Rollouts. Absent: every Rollout of the namespace.
    pub rollouts: Option<RolloutSelector>,
    /// Reasons of the events that are told, as docs/events.md lists them. Absent: what docs/notifications.md says of the service.
    pub on: Option<Vec<String>>,
    /// The words, for services that people read. Absent: Serin's own.
    pub template: Option<MessageTemplate>,
    /// Slack: an incoming webhook, or a channel by the token of an app.
    pub slack: Option<SlackSpec>,
    /// DingTalk: a robot of a group.
    pub dingtalk: Option<RobotSpec>,
    /// Feishu or Lark: a bot of a group.
    pub feishu: Option<RobotSpec>,
    /// WeCom: a robot of a group.
    pub wecom: Option<HookSpec>,
    /// Microsoft Teams: the URL of a workflow.
    pub teams: Option<HookSpec>,
    /// Mail.
    pub email: Option<EmailSpec>,
    /// A JSON document by HTTP POST.
    pub webhook: Option<WebhookSpec>,
    /// A CloudEvent by HTTP, in binary mode.
    pub cloud_events: Option<CloudEventsSpec>,
    /// An alert that fires from an abort or a stall until a promotion or a revert.
    pub alertmanager: Option<AlertmanagerSpec>,
    /// The status of the commit at GitHub.
    pub github: Option<CommitStatusSpec>,
    /// The status of the commit at GitLab.
    pub gitlab: Option<CommitStatusSpec>,
    /// The status of the commit at Gitea or Forgejo.
    pub gitea: Option<CommitStatusSpec>,
    /// A `CommitStatus` of argoproj-labs/gitops-promoter, in the channel's namespace.
    pub promoter: Option<PromoterSpec>,
}

/// Selects Rollouts by their labels: all that is given must fit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RolloutSelector {
    /// Each label with the value that it must have.
    pub match_labels: Option<BTreeMap<String, String>>,
    /// Conditions of other kinds.
    pub match_expressions: Option<Vec<LabelRequirement>>,
}

/// A condition on one label.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LabelRequirement {
    /// The label.
    #[schemars(length(min = 1, max = 317))]
    pub key: String,
    /// What must be so.
    pub operator: LabelOperator,
    /// The values, for `In` and `NotIn`.
    pub values: Option<Vec<String>>,
}

/// How a label is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum LabelOperator {
    /// It has one of the values.
    In,
    /// It has none of the values, or is absent.
    NotIn,
    /// It is there.
    Exists,
    /// It is absent.
    DoesNotExist,
}

impl RolloutSelector {
    /// Whether an object's labels fit.
    pub fn selects(&self, labels: &BTreeMap<String, String>) -> bool {
        let fits = |one: &LabelRequirement| {
            let value = labels.get(&one.key);
            let is_listed = value.is_some_and(|value| one.values.iter().flatten().any(|listed| listed == value));
            match one.operator {
                LabelOperator::In => is_listed,
                LabelOperator::NotIn => !is_listed,
                LabelOperator::Exists => value.is_some(),
                LabelOperator::DoesNotExist => value.is_none(),
            }
        };
        self.match_labels.iter().flatten().all(|(key, value)| labels.get(key) == Some(value))
            && self.match_expressions.iter().flatten().all(fits)
    }
}

/// The words of a message: text with `{{ field }}` and `{% if field %} … {% else %} … {% endif %}`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MessageTemplate {
    /// One line.
    #[schemars(length(min = 1, max = 512))]
    pub title: Option<String>,
    /// The text under it.
    #[schemars(length(min = 1, max = 4096))]
    pub body: Option<String>,
}

/// Slack: `webhookUrl`, or `token` and `channel`. With a token all messages of one attempt are in one thread.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SlackSpec {
    /// URL of an incoming webhook.
    pub webhook_url: Option<SecretKey>,
    /// Bot token of an app that may write to the channel (`chat:write`).
    pub token: Option<SecretKey>,
    /// The channel's ID, for `token`.
    #[schemars(length(min = 1, max = 80))]
    pub channel: Option<String>,
    /// Where Slack's API is. Absent: `https://slack.com/api`.
    #[schemars(length(min = 1, max = 2048))]
    pub api_url: Option<String>,
}

/// A robot whose messages may be signed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RobotSpec {
    /// URL of its webhook.
    pub webhook_url: SecretKey,
    /// The key of its signatures. Absent: its messages are not signed.
    pub signing_key: Option<SecretKey>,
}

/// A webhook that takes messages.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HookSpec {
    /// Its URL.
    pub webhook_url: SecretKey,
}

/// Mail by SMTP, encrypted: from the beginning at port 465, by STARTTLS at any other.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EmailSpec {
    /// Who sends, such as `Serin <serin@example.com>`.
    #[schemars(length(min = 3, max = 320))]
    pub from: String,
    /// Who gets it.
    #[schemars(length(min = 1, max = 50))]
    pub to: Vec<String>,
    /// The server.
    #[schemars(length(min = 1, max = 253))]
    pub host: String,
    /// Its port. Absent: 587.
    #[schemars(range(min = 1, max = 65535))]
    pub port: Option<i32>,
    /// The user. Absent: nobody logs in.
    #[schemars(length(min = 1, max = 253))]
    pub username: Option<String>,
    /// The user's password.
    pub password: Option<SecretKey>,
}

/// A JSON document by HTTP POST; docs/notifications.md describes it. Exactly one of `url` and `urlFrom`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WebhookSpec {
    /// The URL.
    #[schemars(length(min = 1, max = 2048))]
    pub url: Option<String>,
    /// The URL, where it is a secret.
    pub url_from: Option<SecretKey>,
    /// Key of the header `X-Signature: sha256=…`, HMAC-SHA256 of the body. Absent: not signed.
    pub signing_key: Option<SecretKey>,
    /// A token, sent as `Authorization: Bearer`.
    pub token: Option<SecretKey>,
}

/// A CloudEvent by HTTP POST. Exactly one of `url` and `urlFrom`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CloudEventsSpec {
    /// The URL.
    #[schemars(length(min = 1, max = 2048))]
    pub url: Option<String>,
    /// The URL, where it is a secret.
    pub url_from: Option<SecretKey>,
    /// A token, sent as `Authorization: Bearer`.
    pub token: Option<SecretKey>,
}

/// An Alertmanager with API v2.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AlertmanagerSpec {
    /// Its address, such as `http://alertmanager.monitoring:9093`.
    #[schemars(length(min = 1, max = 2048))]
    pub url: String,
    /// A token, sent as `Authorization: Bearer`.
    pub token: Option<SecretKey>,
    /// More labels of its alerts, such as `severity`.
    pub labels: Option<BTreeMap<String, String>>,
}

/// A server of Git repositories that shows statuses of commits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CommitStatusSpec {
    /// A token that may write statuses.
    pub token: SecretKey,
    /// The repository, such as `owner/name`. Absent: that of the Rollout's annotation `serin.dev/git-repo`.
    #[schemars(length(min = 1, max = 512))]
    pub repository: Option<String>,
    /// Where the API is. Absent: GitHub's or GitLab's own; required for Gitea.
    #[schemars(length(min = 1, max = 2048))]
    pub api_url: Option<String>,
}

/// A `CommitStatus` that gates promotions of gitops-promoter.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PromoterSpec {
    /// Name of the `GitRepository` of gitops-promoter.
    #[schemars(length(min = 1, max = 253))]
    pub git_repository: String,
    /// Key by which a `PromotionStrategy` names it. Absent: `serin`.
    #[schemars(length(min = 1, max = 63))]
    pub key: Option<String>,
    /// Branch of the environment, such as `environment/staging`.
    #[schemars(length(min = 1, max = 250))]
    pub branch: Option<String>,
}

/// What a channel did.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct NotificationChannelStatus {
    /// The generation that this status speaks of.
    #[schemars(extend("default" = -1))]
    pub observed_generation: i64,
    /// Nothing from before this time is told: the channel's creation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// Messages that the service took.
    pub sent: i64,
    /// Messages that were given up.
    pub failed: i64,
    /// Messages of which nobody knows whether they arrived, and which were not sent again.
    pub unconfirmed: i64,
    /// The last message.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last: Option<LastDelivery>,
    /// The message under way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub in_flight: Option<InFlight>,
    /// How far each Rollout is told; one that is not listed, to the time `since`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rollouts: Vec<Told>,
    /// Conditions, kstatus-compatible.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}

impl Default for NotificationChannelStatus {
    fn default() -> Self {
        Self {
            observed_generation: -1,
            since: None,
            sent: 0,
            failed: 0,
            unconfirmed: 0,
            last: None,
            in_flight: None,
            rollouts: Vec::new(),
            conditions: Vec::new(),
        }
    }
}

/// How a message ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LastDelivery {
    /// The Rollout.
    pub rollout: String,
    /// The event's reason.
    pub reason: String,
    /// When it ended.
    pub at: Timestamp,
    /// `Sent`, `Failed` or `Unconfirmed`.
    pub outcome: String,
    /// Why, where it is not sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// A message under way: written before it is sent, so that no crash sends it twice unseen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct InFlight {
    /// The Rollout.
    pub rollout: String,
    /// Its UID.
    pub uid: String,
    /// The event.
    pub event: RolloutEvent,
    /// When it was first tried.
    pub began: Timestamp,
    /// How often it was tried.
    pub tries: i32,
    /// The process that sends it now; absent while it waits to be tried again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sender: Option<String>,
    /// When it is tried again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_at: Option<Timestamp>,
    /// Why the last try failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// How far one Rollout is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Told {
    /// The Rollout.
    pub name: String,
    /// Its UID.
    pub uid: String,
    /// The last event that is told, by its number.
    pub sequence: i64,
    /// The time of the latest event that is told.
    pub at: Timestamp,
    /// Where messages of an attempt are gathered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thread: Option<Thread>,
}

/// A thread of messages.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Thread {
    /// The revision.
    pub revision: String,
    /// Its attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<i32>,
    /// The service's name for it.
    pub id: String,
}
