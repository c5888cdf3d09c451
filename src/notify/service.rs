//! What each service is: which events it tells by default, whether it knows a message by its id, how often it may be asked.

use jiff::SignedDuration;

use super::host::{Hosts, is_name};
use super::template::Template;
use crate::api::notification::{NotificationChannelSpec, RolloutSelector};
use crate::api::provider::SecretKey;
use crate::plan::narrate::REASONS;

/// A service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is named after its field of the spec")]
pub enum Service {
    Slack,
    DingTalk,
    Feishu,
    WeCom,
    Teams,
    Email,
    Webhook,
    CloudEvents,
    Alertmanager,
    GitHub,
    GitLab,
    Gitea,
    Promoter,
}

/// What people want to know, at night too: somebody is asked, something went wrong, or it is done.
pub const OF_PEOPLE: &[&str] = &["Paused", "Promoted", "Aborted", "Reverted", "Stalled", "Recovered", "RouteContested"];
/// What changes the status of a commit.
const OF_COMMITS: &[&str] =
    &["FirstDeployment", "RolloutStarted", "Paused", "Promoted", "Aborted", "Superseded", "Reverted", "Stalled"];
/// What begins and ends an alert.
const OF_ALERTS: &[&str] =
    &["FirstDeployment", "RolloutStarted", "Promoted", "Aborted", "Superseded", "Reverted", "Stalled", "Recovered"];

/// Something wrong with a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// A word for the condition.
    pub reason: &'static str,
    /// The field, such as `spec.template.title`.
    pub path: String,
    /// What is wrong, and what to do.
    pub message: String,
}

impl Fault {
    fn new(reason: &'static str, path: &str, message: impl Into<String>) -> Self {
        Self { reason, path: path.to_owned(), message: message.into() }
    }
}

impl Service {
    /// The service that a channel names; none where it names none, or several.
    pub fn of(spec: &NotificationChannelSpec) -> Option<Self> {
        let all = [
            (Self::Slack, spec.slack.is_some()),
            (Self::DingTalk, spec.dingtalk.is_some()),
            (Self::Feishu, spec.feishu.is_some()),
            (Self::WeCom, spec.wecom.is_some()),
            (Self::Teams, spec.teams.is_some()),
            (Self::Email, spec.email.is_some()),
            (Self::Webhook, spec.webhook.is_some()),
            (Self::CloudEvents, spec.cloud_events.is_some()),
            (Self::Alertmanager, spec.alertmanager.is_some()),
            (Self::GitHub, spec.github.is_some()),
            (Self::GitLab, spec.gitlab.is_some()),
            (Self::Gitea, spec.gitea.is_some()),
            (Self::Promoter, spec.promoter.is_some()),
        ];
        let mut named = all.into_iter().filter(|(_, is_named)| *is_named).map(|(service, _)| service);
        named.next().filter(|_| named.next().is_none())
    }

    /// Its field of the spec, and its metric label.
    pub fn name(self) -> &'static str {
        match self {
            Self::Slack => "slack",
            Self::DingTalk => "dingtalk",
            Self::Feishu => "feishu",
            Self::WeCom => "wecom",
            Self::Teams => "teams",
            Self::Email => "email",
            Self::Webhook => "webhook",
            Self::CloudEvents => "cloudEvents",
            Self::Alertmanager => "alertmanager",
            Self::GitHub => "github",
            Self::GitLab => "gitlab",
            Self::Gitea => "gitea",
            Self::Promoter => "promoter",
        }
    }

    /// Whether a message that comes twice counts once, by its id or because it says the same of the same thing.
    pub fn takes_twice(self) -> bool {
        match self {
            Self::Slack | Self::DingTalk | Self::Feishu | Self::WeCom | Self::Teams | Self::Email => false,
            Self::Webhook
            | Self::CloudEvents
            | Self::Alertmanager
            | Self::GitHub
            | Self::GitLab
            | Self::Gitea
            | Self::Promoter => true,
        }
    }

    /// The least time between two messages: robots of DingTalk and WeCom take twenty a minute, and are silent for ten minutes
    /// after more; Slack takes one a second and channel.
    pub fn pace(self) -> SignedDuration {
        match self {
            Self::DingTalk | Self::WeCom => SignedDuration::from_millis(3_100),
            Self::Slack | Self::Feishu | Self::Teams => SignedDuration::from_millis(1_100),
            Self::Email
            | Self::Webhook
            | Self::CloudEvents
            | Self::Alertmanager
            | Self::GitHub
            | Self::GitLab
            | Self::Gitea
            | Self::Promoter => SignedDuration::ZERO,
        }
    }

    /// The reasons that are told where the channel lists none.
    pub fn reasons(self) -> Vec<&'static str> {
        match self {
            Self::Slack | Self::DingTalk | Self::Feishu | Self::WeCom | Self::Teams | Self::Email => OF_PEOPLE.to_vec(),
            Self::Webhook | Self::CloudEvents => REASONS.iter().map(|(reason, _)| *reason).collect(),
            Self::Alertmanager => OF_ALERTS.to_vec(),
            Self::GitHub | Self::GitLab | Self::Gitea | Self::Promoter => OF_COMMITS.to_vec(),
        }
    }

    /// Whether an event of a reason can be told at all.
    fn can_tell(self, reason: &str) -> bool {
        self.takes_any() || self.reasons().contains(&reason)
    }

    /// Whether any reason means something to it; a commit's status and an alert are changed by some alone.
    fn takes_any(self) -> bool {
        match self {
            Self::Alertmanager | Self::GitHub | Self::GitLab | Self::Gitea | Self::Promoter => false,
            Self::Slack
            | Self::DingTalk
            | Self::Feishu
            | Self::WeCom
            | Self::Teams
            | Self::Email
            | Self::Webhook
            | Self::CloudEvents => true,
        }
    }
}

/// Whether a channel tells events of a reason.
pub fn tells(spec: &NotificationChannelSpec, service: Service, reason: &str) -> bool {
    let is_wanted = match &spec.on {
        Some(on) => on.iter().any(|wanted| wanted == reason),
        None => service.reasons().contains(&reason),
    };
    is_wanted && service.can_tell(reason)
}

/// The Rollouts that a channel tells of.
pub fn selector(spec: &NotificationChannelSpec) -> RolloutSelector {
    spec.rollouts.clone().unwrap_or_default()
}

/// What is wrong with a channel, by its spec alone.
pub fn faults(spec: &NotificationChannelSpec) -> Vec<Fault> {
    let mut faults = Vec::new();
    let Some(service) = Service::of(spec) else {
        let services = crate::api::schema::SERVICES.join(", ");
        return vec![Fault::new("SpecInvalid", "spec", format!("exactly one of {services} is required"))];
    };
    for (index, reason) in spec.on.iter().flatten().enumerate() {
        let path = format!("spec.on[{index}]");
        if !REASONS.iter().any(|(known, _)| known == reason) {
            let known: Vec<&str> = REASONS.iter().map(|(known, _)| *known).collect();
            let message = format!("{reason} is no reason of an event; there are {}", known.join(", "));
            faults.push(Fault::new("ReasonUnknown", &path, message));
        } else if !service.can_tell(reason) {
            let told = service.reasons().join(", ");
            let message = format!("{reason} means nothing to {}; it is told of {told}", service.name());
            faults.push(Fault::new("ReasonUnknown", &path, message));
        }
    }
    let template = spec.template.clone().unwrap_or_default();
    for (field, text) in [("title", template.title), ("body", template.body)] {
        if let Some(Err(message)) = text.map(|text| Template::parse(&text)) {
            faults.push(Fault::new("TemplateInvalid", &format!("spec.template.{field}"), message));
        }
    }
    faults.extend(of_service(spec));
    faults
}

/// Fields of the service that do not fit each other; API servers refuse them, too.
fn of_service(spec: &NotificationChannelSpec) -> Vec<Fault> {
    let mut faults = Vec::new();
    let mut check = |is_wrong: bool, path: &str, message: &str| {
        if is_wrong {
            faults.push(Fault::new("SpecInvalid", path, message));
        }
    };
    if let Some(slack) = &spec.slack {
        let is_one = slack.webhook_url.is_some() != slack.token.is_some();
        check(!is_one, "spec.slack", "exactly one of webhookUrl, token is required");
        let belong = "token and channel belong together; give both or none";
        check(is_one && slack.token.is_some() != slack.channel.is_some(), "spec.slack", belong);
    }
    let of_url = [
        ("spec.webhook", spec.webhook.as_ref().map(|one| (&one.url, &one.url_from))),
        ("spec.cloudEvents", spec.cloud_events.as_ref().map(|one| (&one.url, &one.url_from))),
    ];
    for (path, urls) in of_url {
        let is_one = urls.is_none_or(|(url, from)| url.is_some() != from.is_some());
        check(!is_one, path, "exactly one of url, urlFrom is required");
    }
    if let Some(email) = &spec.email {
        let belong = "username and password belong together; give both or none";
        check(email.username.is_some() != email.password.is_some(), "spec.email", belong);
        let addresses = email.to.iter().enumerate().map(|(index, to)| (format!("spec.email.to[{index}]"), to));
        for (path, address) in addresses.chain([("spec.email.from".to_owned(), &email.from)]) {
            let is_wrong = address.parse::<lettre::message::Mailbox>().is_err();
            check(is_wrong, &path, &format!("{address:?} is no address, such as Serin <serin@example.com>"));
        }
    }
    let gitea = spec.gitea.as_ref().is_some_and(|gitea| gitea.api_url.is_none());
    check(gitea, "spec.gitea", "apiUrl is required for Gitea, such as https://git.example.com/api/v1");
    faults
}

/// The URLs that a channel itself names, each with its field.
pub fn urls(spec: &NotificationChannelSpec) -> Vec<(&'static str, String)> {
    let api_url = |one: &Option<crate::api::notification::CommitStatusSpec>| one.as_ref()?.api_url.clone();
    let email = spec.email.as_ref().map(|email| format!("smtp://{}:{}", email.host, email.port.unwrap_or(587)));
    let all = [
        ("spec.slack.apiUrl", spec.slack.as_ref().and_then(|slack| slack.api_url.clone())),
        ("spec.webhook.url", spec.webhook.as_ref().and_then(|webhook| webhook.url.clone())),
        ("spec.cloudEvents.url", spec.cloud_events.as_ref().and_then(|events| events.url.clone())),
        ("spec.alertmanager.url", spec.alertmanager.as_ref().map(|alertmanager| alertmanager.url.clone())),
        ("spec.github.apiUrl", api_url(&spec.github)),
        ("spec.gitlab.apiUrl", api_url(&spec.gitlab)),
        ("spec.gitea.apiUrl", api_url(&spec.gitea)),
        ("spec.email.host", email),
    ];
    all.into_iter().filter_map(|(path, url)| Some((path, url?))).collect()
}

/// The first URL of a channel that may not be asked.
pub fn host_fault(spec: &NotificationChannelSpec, hosts: &Hosts) -> Option<Fault> {
    let refused = |(path, url): (&'static str, String)| {
        hosts.check(&url).err().map(|message| Fault::new("HostNotAllowed", path, message))
    };
    // What names a host to one library names another to the next.
    let mail = spec.email.as_ref().filter(|mail| !is_name(&mail.host));
    let says = "is no name of a host; write one such as mail.example.com".to_owned();
    let unnamed = mail.map(|_| Fault::new("HostNotAllowed", "spec.email.host", says));
    unnamed.or_else(|| urls(spec).into_iter().find_map(refused))
}

/// The keys of Secrets that a channel names.
pub fn secrets(spec: &NotificationChannelSpec) -> Vec<SecretKey> {
    let robot = |one: &Option<crate::api::notification::RobotSpec>| {
        one.iter().flat_map(|one| [Some(one.webhook_url.clone()), one.signing_key.clone()]).collect::<Vec<_>>()
    };
    let hook = |one: &Option<crate::api::notification::HookSpec>| one.as_ref().map(|one| one.webhook_url.clone());
    let commit = |one: &Option<crate::api::notification::CommitStatusSpec>| one.as_ref().map(|one| one.token.clone());
    let slack = spec.slack.iter().flat_map(|one| [one.webhook_url.clone(), one.token.clone()]);
    let webhook =
        spec.webhook.iter().flat_map(|one| [one.url_from.clone(), one.signing_key.clone(), one.token.clone()]);
    let events = spec.cloud_events.iter().flat_map(|one| [one.url_from.clone(), one.token.clone()]);
    let single = [
        hook(&spec.wecom),
        hook(&spec.teams),
        spec.email.as_ref().and_then(|one| one.password.clone()),
        spec.alertmanager.as_ref().and_then(|one| one.token.clone()),
        commit(&spec.github),
        commit(&spec.gitlab),
        commit(&spec.gitea),
    ];
    let robots = [robot(&spec.dingtalk), robot(&spec.feishu)].concat();
    robots.into_iter().chain(slack).chain(webhook).chain(events).chain(single).flatten().collect()
}
