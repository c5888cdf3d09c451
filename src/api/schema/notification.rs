//! Schema of a NotificationChannel.

use serde_json::{Value, json};

use super::{at, bound, object, of, one_of, rule, set, strip_nullable};
use crate::api::notification::{NotificationChannelSpec, NotificationChannelStatus};

/// The fields that name a service.
pub const SERVICES: &[&str] = &[
    "slack",
    "dingtalk",
    "feishu",
    "wecom",
    "teams",
    "email",
    "webhook",
    "cloudEvents",
    "alertmanager",
    "github",
    "gitlab",
    "gitea",
    "promoter",
];

/// Schema of a NotificationChannel.
pub fn notification_channel() -> Value {
    let mut schema = object::<NotificationChannelSpec>(Some(of::<NotificationChannelStatus>()));
    let spec = at(&mut schema, "spec");
    strip_nullable(spec);
    one_of(spec, SERVICES);
    bound(spec, "on", "maxItems", 30);
    set(at(spec, "on"), "minItems", json!(1));
    set(at(spec, "on[]"), "maxLength", json!(63));
    bound(spec, "rollouts.matchLabels", "maxProperties", 32);
    bound(spec, "rollouts.matchExpressions", "maxItems", 32);
    bound(spec, "rollouts.matchExpressions[].values", "maxItems", 100);
    bound(spec, "alertmanager.labels", "maxProperties", 32);
    set(at(spec, "email.to[]"), "maxLength", json!(320));
    one_of(at(spec, "slack"), &["webhookUrl", "token"]);
    rule(
        at(spec, "slack"),
        "has(self.token) == has(self.channel)",
        "token and channel belong together; give both or none",
    );
    one_of(at(spec, "webhook"), &["url", "urlFrom"]);
    one_of(at(spec, "cloudEvents"), &["url", "urlFrom"]);
    let email = at(spec, "email");
    rule(email, "has(self.username) == has(self.password)", "username and password belong together; give both or none");
    rule(at(spec, "gitea"), "has(self.apiUrl)", "apiUrl is required for Gitea, such as https://git.example.com/api/v1");
    schema
}
