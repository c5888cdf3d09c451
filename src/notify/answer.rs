//! What a service's answer means. Of its words nothing is kept but a short class and a code.

use jiff::SignedDuration;
use serde_json::Value;

use super::service::Service;

/// What became of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The service took it; the thread that it began or continued.
    Sent(Option<String>),
    /// It was not taken, and may be later: why, and when the service says so.
    Later(String, Option<SignedDuration>),
    /// Nobody knows whether it was taken.
    Unknown(String),
    /// It is not taken, now and later.
    Refused(String),
}

/// An answer by HTTP.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status code.
    pub code: u16,
    /// The header `Retry-After`.
    pub retry_after: Option<String>,
    /// The body; none where it was too long to be read.
    pub body: Option<Vec<u8>>,
}

/// Seconds that DingTalk is silent for after too many messages, and that others want at least.
const DINGTALK_SILENT: i64 = 600;
const BUSY: i64 = 60;
/// Letters of a service's own word for an error.
const WORD_MOST: usize = 60;

/// What an answer means.
pub fn judge(service: Service, is_webhook_of_slack: bool, answer: &Answer) -> Outcome {
    let code = answer.code;
    match code {
        200..300 => of_body(service, is_webhook_of_slack, answer),
        300..400 => Outcome::Refused(format!("HTTP {code}: redirects are not followed")),
        400 if service == Service::GitLab && is_same_status(answer) => Outcome::Sent(None),
        // A limit of GitHub's.
        403 if answer.retry_after.is_some() => Outcome::Later(format!("HTTP {code}"), retry_after(answer)),
        408 | 425 | 429 | 503 => Outcome::Later(format!("HTTP {code}"), retry_after(answer)),
        500.. if service.takes_twice() => Outcome::Later(format!("HTTP {code}"), retry_after(answer)),
        // What broke on the way, or behind a proxy, may have come after the message was posted.
        500.. => Outcome::Unknown(format!("HTTP {code}")),
        _ => Outcome::Refused(format!("HTTP {code}")),
    }
}

fn retry_after(answer: &Answer) -> Option<SignedDuration> {
    let seconds: i64 = answer.retry_after.as_ref()?.trim().parse().ok()?;
    (seconds >= 0).then(|| SignedDuration::from_secs(seconds))
}

/// GitLab refuses a status that the commit has already.
fn is_same_status(answer: &Answer) -> bool {
    let text = String::from_utf8_lossy(answer.body.as_deref().unwrap_or_default()).into_owned();
    text.contains("Cannot transition status")
}

/// An answer of 200: what some services say there of errors.
fn of_body(service: Service, is_webhook_of_slack: bool, answer: &Answer) -> Outcome {
    let field = match service {
        Service::Slack if is_webhook_of_slack => return of_hook(answer),
        Service::Slack => return of_slack(answer),
        Service::DingTalk | Service::WeCom => "errcode",
        Service::Feishu => "code",
        Service::Teams
        | Service::Email
        | Service::Webhook
        | Service::CloudEvents
        | Service::Alertmanager
        | Service::GitHub
        | Service::GitLab
        | Service::Gitea
        | Service::Promoter => return Outcome::Sent(None),
    };
    let Some(body) = json(answer) else { return unreadable(answer) };
    // Before 2022 Feishu wrote StatusCode.
    let code = body.get(field).or_else(|| body.get("StatusCode")).and_then(Value::as_i64);
    let Some(code) = code else { return unreadable(answer) };
    let error = format!("{field} {code}");
    match (service, code) {
        (_, 0) => Outcome::Sent(None),
        (Service::DingTalk, 130_101) => Outcome::Later(error, Some(SignedDuration::from_secs(DINGTALK_SILENT))),
        (Service::WeCom, 45_009) | (Service::Feishu, 9_499 | 11_232 | 99_991_400) => {
            Outcome::Later(error, Some(SignedDuration::from_secs(BUSY)))
        }
        (_, -1) => Outcome::Later(error, None),
        _ => Outcome::Refused(error),
    }
}

fn of_hook(answer: &Answer) -> Outcome {
    match answer.body.as_deref() {
        Some(b"ok") => Outcome::Sent(None),
        _ => unreadable(answer),
    }
}

fn of_slack(answer: &Answer) -> Outcome {
    let Some(body) = json(answer) else { return unreadable(answer) };
    if body.get("ok") == Some(&Value::Bool(true)) {
        return Outcome::Sent(body.get("ts").and_then(Value::as_str).map(str::to_owned));
    }
    let word = body.get("error").and_then(Value::as_str).unwrap_or("no error is named");
    let error: String =
        word.chars().filter(|one| one.is_ascii_lowercase() || *one == '_' || *one == ' ').take(WORD_MOST).collect();
    match word {
        "ratelimited" | "rate_limited" => Outcome::Later(error, retry_after(answer)),
        "service_unavailable" | "request_timeout" => Outcome::Later(error, None),
        // Slack says of these that a part of it may have been done.
        "internal_error" | "fatal_error" => Outcome::Unknown(error),
        _ => Outcome::Refused(error),
    }
}

fn json(answer: &Answer) -> Option<Value> {
    serde_json::from_slice(answer.body.as_deref()?).ok()
}

fn unreadable(answer: &Answer) -> Outcome {
    let code = answer.code;
    Outcome::Unknown(match answer.body {
        Some(_) => format!("HTTP {code} with an answer that is not the service's"),
        None => format!("HTTP {code} with an answer that is too long"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_are_not_told_again_what_may_have_been_taken() {
        let judged = |service, code| judge(service, false, &Answer { code, retry_after: Some("7".into()), body: None });
        let later = |code| Outcome::Later(format!("HTTP {code}"), Some(SignedDuration::from_secs(7)));
        for chat in [Service::Slack, Service::DingTalk, Service::Feishu, Service::WeCom, Service::Teams] {
            for code in [500, 502, 504] {
                assert_eq!(judged(chat, code), Outcome::Unknown(format!("HTTP {code}")));
            }
            for code in [408, 429, 503] {
                assert_eq!(judged(chat, code), later(code));
            }
        }
        for code in [429, 500, 502, 503, 504] {
            assert_eq!(judged(Service::Webhook, code), later(code), "its reader knows the id");
        }
    }

    #[test]
    fn a_limit_is_waited_for_and_a_refusal_is_not() {
        let answer =
            |retry_after: Option<&str>| Answer { code: 403, retry_after: retry_after.map(str::to_owned), body: None };
        let judged = |retry_after| judge(Service::GitHub, false, &answer(retry_after));
        assert_eq!(judged(Some("60")), Outcome::Later("HTTP 403".into(), Some(SignedDuration::from_secs(60))));
        assert_eq!(judged(None), Outcome::Refused("HTTP 403".into()));
    }
}
