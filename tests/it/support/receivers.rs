//! Receivers of messages on loopback: they check as the services do, and answer as the services do.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::http::{HeaderMap, Uri};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::{Value, json};
use serin::controller::clock;
use sha2::Sha256;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpListener;

/// The key that robots sign with.
pub const KEY: &str = "SECkey";

/// What a receiver got.
#[derive(Clone)]
pub struct Got {
    pub uri: Uri,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

impl Got {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    fn query(&self, key: &str) -> String {
        let pairs = form_urlencoded::parse(self.uri.query().unwrap_or_default().as_bytes());
        pairs.into_owned().find(|(name, _)| name == key).map(|(_, value)| value).unwrap_or_default()
    }
}

/// A receiver on loopback: its address.
pub async fn receiver<R: IntoResponse>(answer: impl Fn(&Got) -> R + Clone + Send + Sync + 'static) -> String {
    let app = Router::new().fallback(move |uri: Uri, headers: HeaderMap, body: Bytes| {
        let response: Response = answer(&Got { uri, headers, body: body.to_vec() }).into_response();
        std::future::ready(response)
    });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await });
    address
}

pub fn hmac(key: &str, message: &str) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key.as_bytes()).unwrap();
    mac.update(message.as_bytes());
    mac.finalize().into_bytes().to_vec()
}

/// As open.dingtalk.com says: the timestamp in milliseconds, no more than an hour away, and its signature.
pub fn dingtalk(got: &Got) -> Value {
    let timestamp = got.query("timestamp");
    let age = (clock::wall())().as_millisecond() - timestamp.parse::<i64>().unwrap_or(0);
    let wanted = STANDARD.encode(hmac(KEY, &format!("{timestamp}\n{KEY}")));
    if age.abs() > 3_600_000 || got.query("sign") != wanted || got.query("access_token") != "T" {
        return json!({"errcode": 310_000, "errmsg": "sign not match <secret of the server>"});
    }
    let body = got.json();
    let is_right =
        body["msgtype"] == "markdown" && body["markdown"]["title"].is_string() && body["markdown"]["text"].is_string();
    if is_right { json!({"errcode": 0, "errmsg": "ok"}) } else { json!({"errcode": 40_035, "errmsg": "wrong"}) }
}

/// A server of mail that speaks as much SMTP as is needed (RFC 5321), and answers `DATA` as it is told: its port, and the lines
/// that it gets.
pub async fn mail_server(answer: &'static str) -> (u16, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let lines: Arc<Mutex<Vec<String>>> = Arc::default();
    let kept = lines.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (read, mut write) = stream.into_split();
            let mut read = BufReader::new(read).lines();
            write.write_all(b"220 mail.example ESMTP\r\n").await.unwrap();
            let mut is_data = false;
            while let Ok(Some(line)) = read.next_line().await {
                kept.lock().unwrap().push(line.clone());
                let reply = match line.split(' ').next().unwrap_or_default() {
                    "." if is_data => {
                        is_data = false;
                        format!("{answer}\r\n")
                    }
                    _ if is_data => continue,
                    "EHLO" => "250-mail.example\r\n250 AUTH PLAIN\r\n".to_owned(),
                    "AUTH" => "235 welcome\r\n".to_owned(),
                    "DATA" => {
                        is_data = true;
                        "354 go on\r\n".to_owned()
                    }
                    "QUIT" => "221 bye\r\n".to_owned(),
                    _ => "250 ok\r\n".to_owned(),
                };
                if write.write_all(reply.as_bytes()).await.is_err() {
                    break;
                }
            }
        }
    });
    (port, lines)
}
