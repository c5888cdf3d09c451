//! The form of a message for each service, as files that people can read: `notifications/<service>-<reason>.txt`.
//! `UPDATE_EXPECT=1 cargo test notify_forms` rewrites them.

use std::collections::BTreeMap;

use expect_test::expect_file;
use jiff::Timestamp;
use serde_json::{Value, json};
use serin::api::notification::NotificationChannelSpec;
use serin::api::watched::Rollout;
use serin::notify::context::{Context, FIELDS, Message};
use serin::notify::format::{Given, Outgoing, Secrets, outgoing};
use serin::notify::service::{self, Service};

pub const COMMIT: &str = "4f2c1d0e9b8a7f6e5d4c3b2a190807f6e5d4c3b2";
const BEFORE: &str = "0a1b2c3d4e5f60718293a4b5c6d7e8f901234567";

/// A Rollout whose canary has something to tell.
pub fn rollout(reason: &str) -> Rollout {
    let side = |hash: &str, image: &str, commit: &str, weight: i32| json!({"hash": hash, "image": image, "commit": commit, "author": "ann@example.com", "observedWeight": weight});
    let measurement =
        |assessment: &str, value: &str| json!({"at": "2026-01-02T03:04:00Z", "assessment": assessment, "value": value});
    let metric = json!({"name": "success-rate", "verdict": "Fail", "measurements": [measurement("Success", "0.99"), measurement("Failure", "0.5")]});
    let wait = json!({"reason": "AwaitingApproval", "message": "", "since": "2026-01-02T03:04:00Z"});
    let message = if reason == "Paused" {
        "step 2 of 5 waits for the approval signoff of revision 5f6b7c8d"
    } else {
        "revision 5f6b7c8d: AnalysisFailed: success-rate <!channel> & co"
    };
    let event = json!({
        "sequence": 7, "at": "2026-01-02T03:04:05.678Z", "reason": reason, "message": message,
        "revision": "5f6b7c8d", "attempt": 1, "commit": COMMIT, "previousCommit": BEFORE,
    });
    let annotations = json!({
        "serin.dev/git-commit": COMMIT, "serin.dev/git-repo": "https://git.example/shop/checkout.git",
        "serin.dev/git-url": format!("https://git.example/shop/checkout/commit/{COMMIT}"),
    });
    let status = json!({
        "stable": side("1a2b3c4d", "registry.example/checkout:1", BEFORE, 80),
        "canary": side("5f6b7c8d", "registry.example/checkout:2", COMMIT, 20),
        "step": "2/5", "events": [event],
        "blockedBy": if reason == "Paused" { json!([wait]) } else { json!([]) },
        "analysis": [{"kind": "Step", "startedAt": "2026-01-02T03:03:00Z", "verdict": "Fail", "metrics": [metric]}],
    });
    let metadata = json!({"name": "checkout", "namespace": "shop", "uid": "0f1e2d3c-0000-4000-8000-000000000001", "annotations": annotations});
    serde_json::from_value(json!({"metadata": metadata, "status": status})).unwrap()
}

/// What a channel sends of an event, with these secrets.
pub fn sent(spec: &Value, reason: &str, secrets: &[(&str, &str)], now: Timestamp) -> Result<Outgoing, String> {
    sent_by("night", spec, reason, secrets, now)
}

/// The same of a channel of this name.
fn sent_by(
    channel: &str,
    spec: &Value,
    reason: &str,
    secrets: &[(&str, &str)],
    now: Timestamp,
) -> Result<Outgoing, String> {
    let spec: NotificationChannelSpec = serde_json::from_value(spec.clone()).unwrap();
    assert_eq!(service::faults(&spec), []);
    let named: Vec<String> = service::secrets(&spec).into_iter().map(|key| key.key).collect();
    assert!(named.iter().all(|key| secrets.iter().any(|(known, _)| known == key)), "{named:?}");
    let values: BTreeMap<_, _> =
        secrets.iter().map(|(key, value)| (("chat".to_owned(), (*key).to_owned()), (*value).to_owned())).collect();
    let rollout = rollout(reason);
    let event = &rollout.status.events[0];
    let message = Context::of(&rollout, event).message(&spec.template.clone().unwrap_or_default(), None);
    outgoing(&Given { channel, spec: &spec, secrets: &Secrets(values), now }, &message)
}

fn secret(key: &str) -> Value {
    json!({"name": "chat", "key": key})
}

const SECRETS: &[(&str, &str)] =
    &[("url", "https://service.example/hook?id=1"), ("signing", "SEC1"), ("token", "tok-1"), ("password", "pass")];

fn told(outgoing: Outgoing) -> String {
    match outgoing {
        Outgoing::Http(request) => {
            let body: Value = serde_json::from_str(&request.body).unwrap();
            let headers: Vec<String> =
                request.headers.iter().map(|(name, value)| format!("{name}: {value}\n")).collect();
            let headers = headers.concat();
            format!("POST {}\n{headers}\n{body:#}\n", request.url)
        }
        Outgoing::Mail(mail) => {
            let written = mail.written().unwrap().formatted();
            let text = String::from_utf8(written).unwrap().replace("\r\n", "\n");
            let lines = text.lines().filter(|line| !line.starts_with("Date:"));
            format!("{}:{}\n{}\n", mail.host, mail.port, lines.collect::<Vec<_>>().join("\n"))
        }
        Outgoing::Object(object) => serde_yaml::to_string(&object.body).unwrap(),
        Outgoing::Nothing => "nothing\n".to_owned(),
    }
}

#[test]
fn each_service_has_its_form() {
    let of = |service: &str, spec: Value| (service.to_owned(), json!({service: spec}));
    let channels = [
        ("slack-hook".to_owned(), json!({"slack": {"webhookUrl": secret("url")}})),
        ("slack".to_owned(), json!({"slack": {"token": secret("token"), "channel": "C123"}})),
        of("dingtalk", json!({"webhookUrl": secret("url"), "signingKey": secret("signing")})),
        of("feishu", json!({"webhookUrl": secret("url"), "signingKey": secret("signing")})),
        of("wecom", json!({"webhookUrl": secret("url")})),
        of("teams", json!({"webhookUrl": secret("url")})),
        of(
            "email",
            json!({"from": "Serin <serin@example.com>", "to": ["night@example.com"], "host": "mail.example.com", "username": "serin", "password": secret("password")}),
        ),
        of(
            "webhook",
            json!({"url": "https://service.example/hook", "signingKey": secret("signing"), "token": secret("token")}),
        ),
        of("cloudEvents", json!({"urlFrom": secret("url")})),
        of("alertmanager", json!({"url": "https://alerts.example", "labels": {"severity": "page"}})),
        of("github", json!({"token": secret("token"), "repository": "shop/checkout"})),
        of("gitlab", json!({"token": secret("token")})),
        of("gitea", json!({"token": secret("token"), "apiUrl": "https://git.example/api/v1"})),
        of("promoter", json!({"gitRepository": "shop", "branch": "environment/staging"})),
    ];
    for (name, spec) in channels {
        for reason in ["Paused", "Aborted", "Promoted"] {
            let now = "2026-01-02T03:04:06Z".parse().unwrap();
            let form = sent(&spec, reason, SECRETS, now).map_or_else(|error| error, told);
            let path =
                format!("{}/tests/it/notifications/{name}-{}.txt", env!("CARGO_MANIFEST_DIR"), reason.to_lowercase());
            expect_file![path].assert_eq(&form);
        }
    }
}

#[test]
fn two_channels_write_two_statuses_for_gitops_promoter() {
    let name = |channel: &str, branch: &str| {
        let spec = json!({"promoter": {"gitRepository": "shop", "branch": branch}});
        let sent = sent_by(channel, &spec, "Promoted", &[], Timestamp::UNIX_EPOCH);
        let Ok(Outgoing::Object(object)) = sent else { panic!("no object") };
        assert_eq!(object.body["metadata"]["name"], object.name);
        object.name
    };
    let (staging, production) = (name("staging", "environment/staging"), name("production", "environment/production"));
    assert_ne!(staging, production, "neither takes the other's");
    assert!(staging.starts_with("serin-checkout-"), "{staging}");
    assert_eq!(staging, name("staging", "environment/renamed"), "a channel keeps its own");
}

#[test]
fn what_is_mended_ends_its_alert_alone() {
    let spec = json!({"alertmanager": {"url": "https://alerts.example"}});
    let Ok(Outgoing::Http(request)) = sent(&spec, "Recovered", &[], Timestamp::UNIX_EPOCH) else {
        panic!("no request")
    };
    let alerts: Vec<Value> = serde_json::from_str(&request.body).unwrap();
    assert_eq!(alerts.len(), 1);
    assert_eq!(alerts[0]["labels"]["alertname"], "SerinRolloutStalled");
    assert!(alerts[0]["endsAt"].is_string() && alerts[0]["startsAt"].is_null());
}

#[test]
fn people_are_not_called_by_what_a_rollout_says() {
    let Ok(Outgoing::Http(request)) =
        sent(&json!({"slack": {"webhookUrl": secret("url")}}), "Aborted", SECRETS, Timestamp::UNIX_EPOCH)
    else {
        panic!("no request")
    };
    assert!(
        !request.body.contains("<!channel>") && request.body.contains("&lt;!channel&gt; &amp; co"),
        "{}",
        request.body
    );
}

#[test]
fn a_commit_without_a_whole_hash_has_no_status() {
    let spec = json!({"github": {"token": secret("token"), "repository": "shop/checkout"}});
    let spec: NotificationChannelSpec = serde_json::from_value(spec).unwrap();
    let secrets = Secrets(BTreeMap::from([(("chat".to_owned(), "token".to_owned()), "t".to_owned())]));
    let given = Given { channel: "night", spec: &spec, secrets: &secrets, now: Timestamp::UNIX_EPOCH };
    for (commit, wanted) in [
        (None, "has no commit"),
        (Some("4f2c1d0"), "is not the whole hash"),
        (Some("../../x"), "is not the whole hash"),
    ] {
        let context = Context { reason: "Promoted".into(), commit: commit.map(str::to_owned), ..Context::default() };
        let error = outgoing(&given, &Message { context, ..Message::default() }).unwrap_err();
        assert!(error.contains(wanted), "{error}");
    }
}

#[test]
fn fields_of_templates_are_what_a_message_has_and_are_documented() {
    let rollout = rollout("Aborted");
    let value = Context::of(&rollout, &rollout.status.events[0]).value();
    let documented = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/notifications.md")).unwrap();
    for (field, meaning) in FIELDS {
        assert!(value.pointer(&format!("/{}", field.replace('.', "/"))).is_some(), "{field}");
        assert!(documented.contains(&format!("| `{field}` | {meaning} |")), "docs/notifications.md lacks {field}");
    }
}

#[test]
fn every_service_and_every_host_is_documented() {
    let documented = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/notifications.md")).unwrap();
    for service in serin::api::schema::SERVICES {
        assert!(documented.contains(&format!("### `{service}`")), "docs/notifications.md lacks {service}");
    }
    for host in serin::notify::host::WELL_KNOWN {
        assert!(documented.contains(&format!("`{host}`")), "docs/notifications.md lacks {host}");
    }
    for service in [Service::Slack, Service::GitHub, Service::Alertmanager] {
        for reason in service.reasons() {
            assert!(documented.contains(&format!("`{reason}`")), "docs/notifications.md lacks {reason}");
        }
    }
}
