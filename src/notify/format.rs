//! A message in the form that a service wants: a request, a mail or an object.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::Value;

use super::context::Message;
use super::host::Hosts;
use super::service::Service;
use super::{chat, commit, machine, mail};
use crate::api::notification::NotificationChannelSpec;
use crate::api::provider::SecretKey;

/// What goes out.
#[derive(Debug, Clone, PartialEq)]
pub enum Outgoing {
    /// A request by HTTP.
    Http(Request),
    /// A mail.
    Mail(mail::Mail),
    /// An object in the channel's namespace, written onto what is there.
    Object(commit::Object),
    /// Nothing: the event means nothing to the service.
    Nothing,
}

/// A request by HTTP POST.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The URL.
    pub url: String,
    /// Headers besides the length.
    pub headers: Vec<(String, String)>,
    /// The body, JSON.
    pub body: String,
}

impl Request {
    /// A JSON document.
    pub fn json(url: &str, body: &Value) -> Self {
        let headers = vec![("content-type".to_owned(), "application/json; charset=utf-8".to_owned())];
        Self { url: url.to_owned(), headers, body: body.to_string() }
    }

    /// With one more header.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    /// With a token, where there is one.
    #[must_use]
    pub fn with_token(self, token: Option<&String>) -> Self {
        match token {
            Some(token) => self.with("authorization", format!("Bearer {token}")),
            None => self,
        }
    }
}

/// Values of Secrets, by name and key.
#[derive(Clone, Default)]
pub struct Secrets(pub BTreeMap<(String, String), String>);

impl Secrets {
    /// A value that was read.
    pub fn get(&self, key: &SecretKey) -> Result<&String, String> {
        let value = self.0.get(&(key.name.clone(), key.key.clone()));
        value.ok_or_else(|| format!("the Secret {} has no key {}", key.name, key.key))
    }

    /// A value that may be left out.
    pub fn maybe(&self, key: Option<&SecretKey>) -> Result<Option<&String>, String> {
        key.map(|key| self.get(key)).transpose()
    }
}

/// All that the form of a message depends on.
pub struct Given<'a> {
    /// The channel's name.
    pub channel: &'a str,
    /// What it says.
    pub spec: &'a NotificationChannelSpec,
    /// Its secrets.
    pub secrets: &'a Secrets,
    /// The time, for signatures.
    pub now: Timestamp,
}

/// The form of a message.
pub fn outgoing(given: &Given<'_>, message: &Message) -> Result<Outgoing, String> {
    let service = Service::of(given.spec).ok_or("the channel names no service")?;
    match service {
        Service::Slack => chat::slack(given, message).map(Outgoing::Http),
        Service::DingTalk => chat::dingtalk(given, message).map(Outgoing::Http),
        Service::Feishu => chat::feishu(given, message).map(Outgoing::Http),
        Service::WeCom => chat::wecom(given, message).map(Outgoing::Http),
        Service::Teams => chat::teams(given, message).map(Outgoing::Http),
        Service::Email => mail::mail(given, message).map(Outgoing::Mail),
        Service::Webhook => machine::webhook(given, message).map(Outgoing::Http),
        Service::CloudEvents => machine::cloud_event(given, message).map(Outgoing::Http),
        Service::Alertmanager => Ok(machine::alert(given, message)?.map_or(Outgoing::Nothing, Outgoing::Http)),
        Service::GitHub | Service::GitLab | Service::Gitea => {
            commit::status(given, message, service).map(Outgoing::Http)
        }
        Service::Promoter => commit::object(given, message).map(Outgoing::Object),
    }
}

impl Outgoing {
    /// Whether it may go where it wants to.
    pub fn check(&self, hosts: &Hosts) -> Result<(), String> {
        match self {
            Self::Http(request) => hosts.check(&request.url).map(|_| ()),
            Self::Mail(mail) => hosts.check(&format!("smtp://{}:{}", mail.host, mail.port)).map(|_| ()),
            Self::Object(_) | Self::Nothing => Ok(()),
        }
    }
}
