//! Messages to receivers on loopback that check them as the services do, and answer as the services do.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::http::StatusCode;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::{Value, json};
use serin::controller;
use serin::controller::notify::send::{Courier as _, Post};
use serin::notify::answer::Outcome;
use serin::notify::format::Outgoing;
use serin::notify::host::Hosts;
use serin::notify::service::Service;
use tokio::net::TcpListener;

use crate::notify_forms::{COMMIT, sent};
use crate::support::receivers::{Got, KEY, dingtalk, hmac, mail_server, receiver};

fn post(address: &str) -> (Post, Hosts) {
    controller::use_ring();
    let hosts = Hosts::of(&[address.to_owned()]).unwrap();
    (Post::new(hosts.clone(), Duration::from_secs(1)).unwrap(), hosts)
}

/// Sends what a channel would of an event; its secrets are the receiver's address and a key.
async fn send(service: Service, spec: &Value, address: &str, reason: &str) -> Outcome {
    let url = format!("{address}/hook?access_token=T");
    let secrets = [("url", url.as_str()), ("signing", KEY), ("token", "tok-1")];
    let outgoing = sent(spec, reason, &secrets, Timestamp::now_for_tests()).unwrap();
    let (post, hosts) = post(address);
    outgoing.check(&hosts).unwrap();
    post.carry(outgoing, service).await
}

trait Now {
    fn now_for_tests() -> Timestamp;
}

impl Now for Timestamp {
    fn now_for_tests() -> Timestamp {
        (controller::clock::wall())()
    }
}

fn secret(key: &str) -> Value {
    json!({"name": "chat", "key": key})
}

/// As open.feishu.cn says: the timestamp in seconds and the key are the key of an empty message.
fn feishu(got: &Got) -> Value {
    let body = got.json();
    let timestamp = body["timestamp"].as_str().unwrap_or_default();
    let wanted = STANDARD.encode(hmac(&format!("{timestamp}\n{KEY}"), ""));
    if body["sign"] != json!(wanted) || timestamp.len() != 10 {
        return json!({"code": 19_021, "msg": "sign match fail or timestamp is not within one hour from current time"});
    }
    if body["msg_type"] == "post" { json!({"code": 0, "msg": "success"}) } else { json!({"code": 9_499}) }
}

#[tokio::test]
async fn signatures_are_those_that_the_services_document() {
    let robot = json!({"webhookUrl": secret("url"), "signingKey": secret("signing")});
    let address = receiver(|got| axum::Json(dingtalk(got))).await;
    assert_eq!(send(Service::DingTalk, &json!({"dingtalk": robot}), &address, "Aborted").await, Outcome::Sent(None));
    let unsigned = json!({"dingtalk": {"webhookUrl": secret("url")}});
    let refused = send(Service::DingTalk, &unsigned, &address, "Aborted").await;
    assert_eq!(refused, Outcome::Refused("errcode 310000".into()), "of the answer only the code is kept");

    let address = receiver(|got| axum::Json(feishu(got))).await;
    assert_eq!(send(Service::Feishu, &json!({"feishu": robot}), &address, "Aborted").await, Outcome::Sent(None));
    let unsigned = json!({"feishu": {"webhookUrl": secret("url")}});
    assert_eq!(send(Service::Feishu, &unsigned, &address, "Aborted").await, Outcome::Refused("code 19021".into()));

    let address = receiver(|got| {
        let signed = hmac(KEY, std::str::from_utf8(&got.body).unwrap());
        let digits = signed.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().concat();
        let is_right = got.header("x-signature") == format!("sha256={digits}")
            && got.header("authorization") == "Bearer tok-1"
            && got.header("idempotency-key") == "0f1e2d3c-0000-4000-8000-000000000001.7.1767323045678"
            && got.json()["revert"]["commit"] == COMMIT;
        if is_right { StatusCode::NO_CONTENT } else { StatusCode::UNAUTHORIZED }
    })
    .await;
    let spec =
        json!({"webhook": {"urlFrom": secret("url"), "signingKey": secret("signing"), "token": secret("token")}});
    assert_eq!(send(Service::Webhook, &spec, &address, "Aborted").await, Outcome::Sent(None));
    let spec = json!({"webhook": {"urlFrom": secret("url")}});
    assert_eq!(send(Service::Webhook, &spec, &address, "Aborted").await, Outcome::Refused("HTTP 401".into()));
}

#[tokio::test]
async fn answers_of_services_are_understood() {
    let hook = json!({"webhookUrl": secret("url")});
    let api = |address: &str| json!({"slack": {"token": secret("token"), "channel": "C1", "apiUrl": address}});
    let cases: Vec<(Service, Value, &str, Outcome)> = vec![
        (Service::WeCom, json!({"wecom": hook}), r#"{"errcode":0,"errmsg":"ok"}"#, Outcome::Sent(None)),
        (
            Service::WeCom,
            json!({"wecom": hook}),
            r#"{"errcode":93000,"errmsg":"invalid webhook url"}"#,
            Outcome::Refused("errcode 93000".into()),
        ),
        (
            Service::WeCom,
            json!({"wecom": hook}),
            r#"{"errcode":45009}"#,
            Outcome::Later("errcode 45009".into(), Some(jiff::SignedDuration::from_secs(60))),
        ),
        (
            Service::DingTalk,
            json!({"dingtalk": hook}),
            r#"{"errcode":130101}"#,
            Outcome::Later("errcode 130101".into(), Some(jiff::SignedDuration::from_secs(600))),
        ),
        (
            Service::Feishu,
            json!({"feishu": hook}),
            r#"{"StatusCode":0,"StatusMessage":"success"}"#,
            Outcome::Sent(None),
        ),
        (
            Service::Feishu,
            json!({"feishu": hook}),
            "<html>a proxy</html>",
            Outcome::Unknown("HTTP 200 with an answer that is not the service's".into()),
        ),
        (Service::Slack, json!({"slack": hook}), "ok", Outcome::Sent(None)),
        (
            Service::Slack,
            json!({"slack": hook}),
            "sorry",
            Outcome::Unknown("HTTP 200 with an answer that is not the service's".into()),
        ),
        (
            Service::Slack,
            json!(null),
            r#"{"ok":true,"ts":"1700000000.000100"}"#,
            Outcome::Sent(Some("1700000000.000100".into())),
        ),
        (
            Service::Slack,
            json!(null),
            r#"{"ok":false,"error":"channel_not_found"}"#,
            Outcome::Refused("channel_not_found".into()),
        ),
        (
            Service::Slack,
            json!(null),
            r#"{"ok":false,"error":"ratelimited"}"#,
            Outcome::Later("ratelimited".into(), None),
        ),
        (Service::Slack, json!(null), r#"{"ok":false,"error":"fatal_error"}"#, Outcome::Unknown("fatal_error".into())),
        (Service::Teams, json!({"teams": hook}), "", Outcome::Sent(None)),
    ];
    for (service, spec, answer, wanted) in cases {
        let body = answer.to_owned();
        let address = receiver(move |_| body.clone()).await;
        let spec = if spec.is_null() { api(&address) } else { spec };
        assert_eq!(send(service, &spec, &address, "Paused").await, wanted, "{service:?} {answer}");
    }
}

#[tokio::test]
async fn what_goes_wrong_on_the_way_has_a_short_word() {
    let teams = json!({"teams": {"webhookUrl": secret("url")}});
    let github = |address: &str| json!({"github": {"token": secret("token"), "apiUrl": address}});
    let address = receiver(|_| (StatusCode::TOO_MANY_REQUESTS, [("retry-after", "30")], "wait")).await;
    let wanted = Outcome::Later("HTTP 429".into(), Some(jiff::SignedDuration::from_secs(30)));
    assert_eq!(send(Service::Teams, &teams, &address, "Aborted").await, wanted);
    let address = receiver(|_| (StatusCode::FOUND, [("location", "http://169.254.169.254/")], "")).await;
    let wanted = Outcome::Refused("HTTP 302: redirects are not followed".into());
    assert_eq!(send(Service::Teams, &teams, &address, "Aborted").await, wanted);
    let address = receiver(|_| (StatusCode::INTERNAL_SERVER_ERROR, "a secret of the inside")).await;
    assert_eq!(send(Service::Teams, &teams, &address, "Aborted").await, Outcome::Unknown("HTTP 500".into()));
    let address = receiver(|_| "x".repeat(1_000_000)).await;
    let hook = json!({"wecom": {"webhookUrl": secret("url")}});
    let wanted = Outcome::Unknown("HTTP 200 with an answer that is too long".into());
    assert_eq!(send(Service::WeCom, &hook, &address, "Aborted").await, wanted);
    assert_eq!(send(Service::Teams, &teams, &address, "Aborted").await, Outcome::Sent(None), "the code says enough");
    // GitLab refuses a status that the commit has.
    let address = receiver(|got| {
        let is_right = got.uri.path() == format!("/projects/shop%2Fcheckout/statuses/{COMMIT}")
            && got.header("private-token") == "tok-1";
        let message =
            "Cannot transition status via :run from :running (Reason(s): Status cannot transition via \"run\")";
        (
            if is_right { StatusCode::BAD_REQUEST } else { StatusCode::NOT_FOUND },
            axum::Json(json!({"message": message})),
        )
    })
    .await;
    let gitlab = json!({"gitlab": {"token": secret("token"), "apiUrl": address}});
    assert_eq!(send(Service::GitLab, &gitlab, &address, "Paused").await, Outcome::Sent(None));
    let address = receiver(|got| {
        if got.header("user-agent").starts_with("serin/") { StatusCode::CREATED } else { StatusCode::FORBIDDEN }
    })
    .await;
    assert_eq!(send(Service::GitHub, &github(&address), &address, "Aborted").await, Outcome::Sent(None));
    // Nobody listens, and somebody who never answers.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    assert_eq!(
        send(Service::Teams, &teams, &address, "Aborted").await,
        Outcome::Unknown("no answer within 1 s".into())
    );
    drop(listener);
    let silent = send(Service::Teams, &teams, &address, "Aborted").await;
    assert!(matches!(&silent, Outcome::Later(error, None) if error.starts_with("no connection: ")), "{silent:?}");
}

#[tokio::test]
async fn a_cloud_event_is_one() {
    let got: Arc<Mutex<Vec<Got>>> = Arc::default();
    let kept = got.clone();
    let address = receiver(move |one| {
        kept.lock().unwrap().push(one.clone());
        StatusCode::ACCEPTED
    })
    .await;
    let spec = json!({"cloudEvents": {"urlFrom": secret("url")}});
    for _ in 0..2 {
        assert_eq!(send(Service::CloudEvents, &spec, &address, "Promoted").await, Outcome::Sent(None));
    }
    let got = got.lock().unwrap().clone();
    // The attributes that CloudEvents 1.0 requires, and one id however often it is sent.
    assert_eq!(got[0].header("ce-id"), got[1].header("ce-id"));
    assert_eq!(got[0].header("ce-specversion"), "1.0");
    assert_eq!(got[0].header("ce-type"), "dev.serin.rollout.promoted");
    assert_eq!(got[0].header("ce-source"), "/apis/serin.dev/v1alpha1/namespaces/shop/rollouts/checkout");
    assert!(got[0].header("ce-time").parse::<Timestamp>().is_ok());
    assert!(got[0].header("content-type").starts_with("application/json"));
}

#[tokio::test]
async fn an_alert_ends_under_the_labels_that_it_began_with() {
    let got: Arc<Mutex<Vec<Value>>> = Arc::default();
    let kept = got.clone();
    let address = receiver(move |one| {
        assert_eq!(one.uri.path(), "/api/v2/alerts");
        kept.lock().unwrap().push(one.json());
        StatusCode::OK
    })
    .await;
    let spec = json!({"alertmanager": {"url": address, "labels": {"severity": "page"}}});
    for reason in ["Aborted", "Promoted"] {
        assert_eq!(send(Service::Alertmanager, &spec, &address, reason).await, Outcome::Sent(None));
    }
    let got = got.lock().unwrap().clone();
    assert_eq!(got[0][0]["labels"], got[1][0]["labels"]);
    assert_eq!(got[0][0]["labels"]["severity"], "page");
    let ends = |alert: &Value| alert["endsAt"].as_str().unwrap().parse::<Timestamp>().unwrap();
    assert!(ends(&got[0][0]) > got[0][0]["startsAt"].as_str().unwrap().parse::<Timestamp>().unwrap());
    assert!(got[1].as_array().unwrap().iter().all(|alert| ends(alert) <= Timestamp::now_for_tests()));
}

async fn mail(port: u16, flag: &str) -> (Result<(), String>, Outcome) {
    controller::use_ring();
    let spec = json!({"email": {
        "from": "Serin <serin@example.com>", "to": ["night@example.com", "day@example.com"], "host": "127.0.0.1", "port": port,
        "username": "serin", "password": secret("token"),
    }});
    let outgoing = sent(&spec, "Aborted", &[("token", "tok-1")], Timestamp::now_for_tests()).unwrap();
    assert!(matches!(outgoing, Outgoing::Mail(_)));
    let hosts = Hosts::of(&[flag.to_owned()]).unwrap();
    let checked = outgoing.check(&hosts);
    (checked, Post::new(hosts, Duration::from_secs(2)).unwrap().carry(outgoing, Service::Email).await)
}

#[tokio::test]
async fn mail_is_handed_over() {
    let (port, lines) = mail_server("250 queued").await;
    let (checked, outcome) = mail(port, &format!("smtp://127.0.0.1:{port}")).await;
    assert_eq!((checked, outcome), (Ok(()), Outcome::Sent(None)));
    let lines = lines.lock().unwrap().clone();
    let plain = STANDARD.encode("\0serin\0tok-1");
    for wanted in [
        "MAIL FROM:<serin@example.com>",
        "RCPT TO:<night@example.com>",
        "RCPT TO:<day@example.com>",
        "Subject: shop/checkout: Aborted",
        "Message-ID: <0f1e2d3c-0000-4000-8000-000000000001.7.1767323045678@serin>",
        &format!("AUTH PLAIN {plain}"),
    ] {
        assert!(lines.iter().any(|line| line.trim_end() == wanted), "{wanted}: {lines:#?}");
    }
}

#[tokio::test]
async fn mail_that_is_not_taken() {
    let (port, _) = mail_server("452 too many").await;
    let flag = format!("smtp://127.0.0.1:{port}");
    assert_eq!(mail(port, &flag).await.1, Outcome::Later("SMTP 452".into(), None));
    let (port, _) = mail_server("554 no").await;
    let flag = format!("smtp://127.0.0.1:{port}");
    assert_eq!(mail(port, &flag).await.1, Outcome::Refused("SMTP 554".into()));
    // Without the flag, nothing is sent before TLS: no password either.
    let (port, lines) = mail_server("250 queued").await;
    let (checked, outcome) = mail(port, &format!("127.0.0.1:{port}")).await;
    assert!(checked.is_ok() && !matches!(outcome, Outcome::Sent(_)), "{outcome:?}");
    assert!(lines.lock().unwrap().iter().all(|line| !line.starts_with("AUTH") && !line.starts_with("MAIL")));
    assert!(mail(port, "mail.example").await.0.is_err(), "a host that nobody allowed");
}
