//! Where people and tools are told of releases, on loopback: a chat of Slack, a robot of DingTalk, statuses of commits at GitLab,
//! and mail. What each of them takes is kept in a file, in order.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::json;
use tokio::task::JoinHandle;

use super::receivers::{Got, KEY, dingtalk, mail_server, receiver};

/// The project's token at GitLab.
const TOKEN: &str = "glpat-of-the-stories-alone";
/// The path of the statuses of the project's commits, and what the files of examples have in the place of the address.
const STATUSES: &str = "/api/v4/projects/shop%2Fcheckout/statuses/";
const GITLAB: &str = "https://gitlab.example/api/v4";
const LOOK: Duration = Duration::from_millis(50);

/// All receivers.
pub struct Inboxes {
    folder: PathBuf,
    address: String,
    port: u16,
    mail: JoinHandle<()>,
}

impl Inboxes {
    /// Receivers whose files are in a folder.
    pub async fn open(folder: PathBuf) -> Self {
        std::fs::create_dir_all(&folder).unwrap();
        let kept = folder.clone();
        let address = receiver(move |got| taken(got, &kept)).await;
        let (port, lines) = mail_server("250 queued").await;
        let mail = tokio::spawn(keep_mail(lines, folder.clone()));
        Self { folder, address, port, mail }
    }

    /// The controller's arguments that let it send here.
    pub fn arguments(&self) -> [String; 3] {
        let mail = format!("--notification-host=smtp://127.0.0.1:{}", self.port);
        ["--leader-election=false".to_owned(), format!("--notification-host={}", self.address), mail]
    }

    /// What stands here in the place of what an example's files have.
    pub fn replaced(&self) -> [(String, String); 3] {
        [
            (format!("{}/api/v4", self.address), GITLAB.to_owned()),
            ("host: 127.0.0.1".to_owned(), "host: mail.example.com".to_owned()),
            (format!("port: {}", self.port), "port: 587".to_owned()),
        ]
    }

    /// What is secret of the services.
    pub fn secrets(&self) -> [(String, String); 4] {
        let secrets = [
            ("SLACK", format!("{}/slack", self.address)),
            ("DINGTALK", format!("{}/dingtalk?access_token=T", self.address)),
            ("DINGTALK_KEY", KEY.to_owned()),
            ("GITLAB_TOKEN", TOKEN.to_owned()),
        ];
        secrets.map(|(name, value)| (name.to_owned(), value))
    }

    /// Whether any message has a word.
    pub fn mention(&self, word: &str) -> bool {
        let mut files = std::fs::read_dir(&self.folder).unwrap();
        files.any(|file| std::fs::read_to_string(file.unwrap().path()).unwrap().contains(word))
    }

    /// `inbox NAME WORD` prints what NAME got since it was asked last, once a message has that word.
    pub fn command(&self) -> String {
        format!(
            r#"#!/usr/bin/env bash
set -euo pipefail
file='{folder}'/"$1"
read=${{file%/*/*}}/"$1".read
begin=$(cat "$read" 2>/dev/null || echo 1)
for _ in $(seq 600); do
  new=$(tail -c "+$begin" "$file" 2>/dev/null; echo .)
  if grep -qe "$2" <<<"$new"; then
    echo $((begin + $(printf %s "${{new%.}}" | wc -c))) >"$read"
    printf %s "${{new%.}}"
    exit
  fi
  sleep 0.1
done
echo "nobody wrote $2: $new"
exit 1
"#,
            folder = self.folder.display()
        )
    }
}

impl Drop for Inboxes {
    fn drop(&mut self) {
        self.mail.abort();
    }
}

fn keep(folder: &Path, name: &str, message: &str) {
    let mut file = std::fs::File::options().create(true).append(true).open(folder.join(name)).unwrap();
    file.write_all(format!("{}\n\n", message.trim()).as_bytes()).unwrap();
}

/// The answer to a message, which is kept where it is taken.
fn taken(got: &Got, folder: &Path) -> Response {
    let path = got.uri.path();
    if let Some(commit) = path.strip_prefix(STATUSES) {
        if got.header("private-token") != TOKEN {
            return StatusCode::UNAUTHORIZED.into_response();
        }
        let (body, commit) = (got.json(), commit.get(..8).unwrap_or_default());
        let field = |name: &str| body[name].as_str().unwrap_or_default().to_owned();
        let status = format!("{commit} {}: {}\n{}", field("name"), field("state"), field("description"));
        keep(folder, "gitlab", &status);
        return (StatusCode::CREATED, axum::Json(json!({}))).into_response();
    }
    match path {
        "/slack" => {
            keep(folder, "slack", got.json()["text"].as_str().unwrap_or_default());
            "ok".into_response()
        }
        "/dingtalk" => {
            let answer = dingtalk(got);
            if answer["errcode"] == 0 {
                keep(folder, "dingtalk", got.json()["markdown"]["text"].as_str().unwrap_or_default());
            }
            axum::Json(answer).into_response()
        }
        _ => StatusCode::NOT_FOUND.into_response(),
    }
}

/// Keeps each mail that is there as a whole.
async fn keep_mail(lines: Arc<Mutex<Vec<String>>>, folder: PathBuf) {
    let mut kept = 0;
    loop {
        let mails = mails(&lines.lock().unwrap());
        mails.iter().skip(kept).for_each(|mail| keep(&folder, "mail", mail));
        kept = mails.len();
        tokio::time::sleep(LOOK).await;
    }
}

/// The mails among the lines of SMTP, as people see them.
fn mails(lines: &[String]) -> Vec<String> {
    let ended = lines.iter().enumerate().filter(|(_, line)| line.as_str() == ".").map(|(end, _)| &lines[..end]);
    let data = |all: &[String]| all.iter().rposition(|line| line == "DATA").map_or(0, |begin| begin + 1);
    ended.map(|all| shown(&all[data(all)..])).collect()
}

/// Whom a mail is to, its subject and its words.
fn shown(lines: &[String]) -> String {
    // A line that begins with a dot has one more on the way (RFC 5321).
    let lines: Vec<&str> = lines.iter().map(|line| line.strip_prefix('.').unwrap_or(line)).collect();
    let text = lines.join("\n");
    let (head, body) = text.split_once("\n\n").unwrap_or((&text, ""));
    let is_shown = |line: &&str| line.starts_with("To: ") || line.starts_with("Subject: ");
    let mut head: Vec<&str> = head.lines().filter(is_shown).collect();
    head.sort_unstable();
    let words = if text.contains("quoted-printable") { unquoted(body) } else { body.to_owned() };
    format!("{}\n\n{words}", head.join("\n"))
}

/// Quoted-printable as text (RFC 2045).
fn unquoted(body: &str) -> String {
    let joined = body.replace("=\n", "");
    let mut bytes = Vec::new();
    let mut pieces = joined.split('=');
    bytes.extend(pieces.next().unwrap_or_default().bytes());
    for piece in pieces {
        bytes.push(u8::from_str_radix(&piece[..2], 16).expect("two digits"));
        bytes.extend(piece[2..].bytes());
    }
    String::from_utf8(bytes).expect("UTF-8")
}
