//! Messages in the forms of chats.

use serde_json::json;

use super::context::Message;
use super::format::{Given, Request};
use super::sign;
use crate::api::notification::{HookSpec, RobotSpec};

/// Bytes of a text that WeCom takes.
const WECOM_BYTES: usize = 2_048;

/// Slack: <https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks> and
/// <https://docs.slack.dev/reference/methods/chat.postMessage>.
pub fn slack(given: &Given<'_>, message: &Message) -> Result<Request, String> {
    let spec = given.spec.slack.as_ref().ok_or("the channel names no Slack")?;
    // Nothing that a Rollout says may call people: `<!channel>` is a text like any other.
    let plain = |text: &str| text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let text = format!("*{}*\n{}", plain(&message.title), plain(&message.body));
    if let Some(url) = given.secrets.maybe(spec.webhook_url.as_ref())? {
        return Ok(Request::json(url, &json!({"text": text})));
    }
    let token = given.secrets.maybe(spec.token.as_ref())?;
    let mut body = json!({"channel": spec.channel, "text": text, "unfurl_links": false});
    if let (Some(thread), Some(body)) = (&message.thread, body.as_object_mut()) {
        body.insert("thread_ts".into(), json!(thread));
    }
    let url = format!("{}/chat.postMessage", spec.api_url.as_deref().unwrap_or("https://slack.com/api"));
    Ok(Request::json(&url, &body).with_token(token))
}

/// DingTalk: <https://open.dingtalk.com/document/orgapp/custom-robot-access>.
pub fn dingtalk(given: &Given<'_>, message: &Message) -> Result<Request, String> {
    let spec: &RobotSpec = given.spec.dingtalk.as_ref().ok_or("the channel names no robot")?;
    let url = given.secrets.get(&spec.webhook_url)?;
    // In its Markdown two spaces end a line.
    let text = format!("### {}\n{}", message.title, message.body.replace('\n', "  \n"));
    let body = json!({"msgtype": "markdown", "markdown": {"title": message.title, "text": text}});
    let Some(key) = given.secrets.maybe(spec.signing_key.as_ref())? else {
        return Ok(Request::json(url, &body));
    };
    let timestamp = given.now.as_millisecond();
    let signature = sign::base64(key, &format!("{timestamp}\n{key}"));
    let encoded: String = form_urlencoded::byte_serialize(signature.as_bytes()).collect();
    let separator = if url.contains('?') { '&' } else { '?' };
    Ok(Request::json(&format!("{url}{separator}timestamp={timestamp}&sign={encoded}"), &body))
}

/// Feishu and Lark: <https://open.feishu.cn/document/client-docs/bot-v3/add-custom-bot>.
pub fn feishu(given: &Given<'_>, message: &Message) -> Result<Request, String> {
    let spec: &RobotSpec = given.spec.feishu.as_ref().ok_or("the channel names no bot")?;
    let url = given.secrets.get(&spec.webhook_url)?;
    let lines: Vec<_> = message.body.lines().map(|line| json!([{"tag": "text", "text": line}])).collect();
    let post = json!({"title": message.title, "content": lines});
    let mut body = json!({"msg_type": "post", "content": {"post": {"zh_cn": post}}});
    if let (Some(key), Some(body)) = (given.secrets.maybe(spec.signing_key.as_ref())?, body.as_object_mut()) {
        let timestamp = given.now.as_second();
        // What others sign is the key here, and the message is empty.
        body.insert("timestamp".into(), json!(timestamp.to_string()));
        body.insert("sign".into(), json!(sign::base64(&format!("{timestamp}\n{key}"), "")));
    }
    Ok(Request::json(url, &body))
}

/// WeCom: <https://developer.work.weixin.qq.com/document/path/91770>.
pub fn wecom(given: &Given<'_>, message: &Message) -> Result<Request, String> {
    let spec: &HookSpec = given.spec.wecom.as_ref().ok_or("the channel names no robot")?;
    let text = format!("{}\n{}", message.title, message.body);
    let content = text.get(..text.floor_char_boundary(WECOM_BYTES)).unwrap_or_default();
    let body = json!({"msgtype": "text", "text": {"content": content}});
    Ok(Request::json(given.secrets.get(&spec.webhook_url)?, &body))
}

/// Teams: an Adaptive Card to the URL of a workflow,
/// <https://learn.microsoft.com/en-us/connectors/teams/#microsoft-teams-webhook>.
pub fn teams(given: &Given<'_>, message: &Message) -> Result<Request, String> {
    let spec: &HookSpec = given.spec.teams.as_ref().ok_or("the channel names no workflow")?;
    let block = |text: &str| json!({"type": "TextBlock", "text": text, "wrap": true});
    let title = json!({"type": "TextBlock", "text": message.title, "wrap": true, "weight": "Bolder", "size": "Medium"});
    let blocks: Vec<_> = [title].into_iter().chain(message.body.lines().map(block)).collect();
    let card = json!({
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard",
        "version": "1.4",
        "body": blocks,
    });
    let attachment = json!({"contentType": "application/vnd.microsoft.card.adaptive", "content": card});
    Ok(Request::json(given.secrets.get(&spec.webhook_url)?, &json!({"type": "message", "attachments": [attachment]})))
}
