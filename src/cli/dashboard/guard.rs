//! Who may ask the dashboard, which acts with the rights of the person who started it: this person's browser, at an address of
//! this machine, from the dashboard's own pages.
//!
//! A name that leads to this machine by a trick of DNS is refused by its `Host`; a request that another site's page makes by its
//! `Origin` and by what browsers say of its site; another person of this machine by the key that only the terminal has shown.

use anyhow::Context as _;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use base64::Engine as _;
use sha2::{Digest as _, Sha256};

/// Names of this machine that lead nowhere else.
const LOOPBACK: [&str; 3] = ["127.0.0.1", "localhost", "[::1]"];
/// Random bytes of a key.
const BYTES: usize = 24;

/// What every answer says to browsers: nothing of other sites, no frames, nothing kept.
const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// Why a request is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// Its name is not one of this machine.
    Host,
    /// It comes from a page of another site.
    Origin,
    /// It lacks the key.
    Key,
}

impl Refusal {
    /// The status code and what to do.
    pub fn told(self) -> (StatusCode, &'static str) {
        match self {
            Self::Host => (
                StatusCode::MISDIRECTED_REQUEST,
                "This page is served at 127.0.0.1 and localhost alone; open the address that the terminal shows.",
            ),
            Self::Origin => (
                StatusCode::FORBIDDEN,
                "This page answers no requests of other sites' pages; open the address that the terminal shows.",
            ),
            Self::Key => (
                StatusCode::UNAUTHORIZED,
                "Open the address that the terminal shows: it has the key that this page asks for. A key lasts as long as the command that printed it.",
            ),
        }
    }
}

/// Who may ask.
#[derive(Clone)]
pub struct Guard {
    /// The port that addresses name; absent: any, as behind `kubectl port-forward`.
    pub port: Option<u16>,
    /// What the person's browser shows; absent: who reaches the port may look.
    pub key: Option<String>,
}

impl Guard {
    /// Whether a request may be answered.
    pub fn check(&self, method: &Method, headers: &HeaderMap) -> Result<(), Refusal> {
        let host = text(headers, &header::HOST).filter(|host| self.is_own(host)).ok_or(Refusal::Host)?;
        check_origin(method, headers, host)?;
        let is_known =
            self.key.as_deref().is_none_or(|key| self.shown(headers).is_some_and(|shown| is_same(key, shown)));
        if is_known { Ok(()) } else { Err(Refusal::Key) }
    }

    fn is_own(&self, host: &str) -> bool {
        let Some(rest) = LOOPBACK.iter().find_map(|name| host.strip_prefix(name)) else { return false };
        match (rest.strip_prefix(':').map(str::parse::<u16>), self.port) {
            (Some(Ok(named)), Some(own)) => named == own,
            (Some(Ok(_)), None) => true,
            (Some(Err(_)), _) => false,
            (None, own) => rest.is_empty() && own.is_none_or(|own| own == 80),
        }
    }

    /// Whether this is the key.
    pub fn takes(&self, key: &str) -> bool {
        self.key.as_deref().is_some_and(|own| is_same(own, key))
    }

    /// The cookie's name: other servers of this machine have their own.
    fn cookie(&self) -> String {
        format!("serin-{}", self.port.unwrap_or(0))
    }

    /// The key that a browser shows.
    fn shown<'a>(&self, headers: &'a HeaderMap) -> Option<&'a str> {
        let name = self.cookie();
        let cookies = headers.get_all(header::COOKIE).into_iter().filter_map(|value| value.to_str().ok());
        let mut pairs = cookies.flat_map(|cookies| cookies.split(';')).filter_map(|pair| pair.trim().split_once('='));
        pairs.find(|(own, _)| *own == name).map(|(_, value)| value)
    }

    /// What gives the browser the key.
    pub fn set_cookie(&self) -> Option<HeaderValue> {
        let key = self.key.as_deref()?;
        let text = format!("{}={key}; Path=/; HttpOnly; SameSite=Strict", self.cookie());
        HeaderValue::from_str(&text).ok()
    }
}

/// Whether a request is of one of the dashboard's own pages, or typed by a person.
fn check_origin(method: &Method, headers: &HeaderMap, host: &str) -> Result<(), Refusal> {
    let reads = [Method::GET, Method::HEAD].contains(method);
    match text(headers, &header::ORIGIN) {
        Some(origin) if origin != format!("http://{host}") => return Err(Refusal::Origin),
        None if !reads => return Err(Refusal::Origin),
        Some(_) | None => {}
    }
    let of = |name: &'static str| text(headers, &HeaderName::from_static(name));
    let is_link = reads && of("sec-fetch-mode") == Some("navigate") && of("sec-fetch-dest") == Some("document");
    match of("sec-fetch-site") {
        Some("same-origin" | "none") | None => Ok(()),
        // A link on another page; the key's cookie does not come along.
        Some(_) if is_link => Ok(()),
        Some(_) => Err(Refusal::Origin),
    }
}

/// A key that nobody guesses.
pub fn key() -> anyhow::Result<String> {
    let mut bytes = [0; BYTES];
    let provider = rustls::crypto::ring::default_provider();
    provider.secure_random.fill(&mut bytes).ok().context("draw a random key")?;
    Ok(base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes))
}

/// Compares without telling by time how much is alike.
fn is_same(own: &str, given: &str) -> bool {
    Sha256::digest(own) == Sha256::digest(given)
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// Gives an answer what every answer has.
pub fn harden(headers: &mut HeaderMap) {
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        // Without any, forms would come with the origin `null`.
        (header::REFERRER_POLICY, "same-origin"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
        (header::CACHE_CONTROL, "no-store"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(method: &Method, pairs: &[(&'static str, &str)]) -> Result<(), Refusal> {
        let guard = Guard { port: Some(8046), key: Some("k1".to_owned()) };
        let headers = pairs.iter().map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap()));
        guard.check(method, &headers.collect())
    }

    #[test]
    fn only_names_of_this_machine_are_answered() {
        for host in ["127.0.0.1:8046", "localhost:8046", "[::1]:8046"] {
            assert_eq!(check(&Method::GET, &[("host", host), ("cookie", "serin-8046=k1")]), Ok(()), "{host}");
        }
        for host in [
            "evil.example:8046",
            "127.0.0.1",
            "127.0.0.1:80",
            "localhost.evil.example:8046",
            "127.0.0.1:x",
            "127.0.0.1.nip.io:8046",
        ] {
            let told = check(&Method::GET, &[("host", host), ("cookie", "serin-8046=k1")]);
            assert_eq!(told, Err(Refusal::Host), "{host}");
        }
        assert_eq!(check(&Method::GET, &[]), Err(Refusal::Host));
        let any = Guard { port: None, key: None };
        assert!(any.is_own("localhost:9999") && any.is_own("127.0.0.1") && !any.is_own("evil.example:9999"));
    }

    #[test]
    fn other_sites_ask_in_vain() {
        let own = [("host", "127.0.0.1:8046"), ("cookie", "serin-8046=k1")];
        let with = |method: Method, more: &[(&'static str, &str)]| check(&method, &[&own[..], more].concat());
        assert_eq!(with(Method::POST, &[("origin", "http://127.0.0.1:8046")]), Ok(()));
        assert_eq!(with(Method::POST, &[]), Err(Refusal::Origin), "a browser names the origin of every form");
        for origin in
            ["null", "http://127.0.0.1:8047", "http://localhost:8046", "https://127.0.0.1:8046", "http://evil.example"]
        {
            assert_eq!(with(Method::POST, &[("origin", origin)]), Err(Refusal::Origin), "{origin}");
            assert_eq!(with(Method::GET, &[("origin", origin)]), Err(Refusal::Origin), "{origin}");
        }
        for site in ["cross-site", "same-site"] {
            assert_eq!(
                with(Method::GET, &[("sec-fetch-site", site), ("sec-fetch-mode", "no-cors")]),
                Err(Refusal::Origin)
            );
            let link = [("sec-fetch-site", site), ("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "document")];
            assert_eq!(with(Method::GET, &link), Ok(()));
            let frame = [("sec-fetch-site", site), ("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "iframe")];
            assert_eq!(with(Method::GET, &frame), Err(Refusal::Origin));
        }
    }

    #[test]
    fn the_key_is_asked_for() {
        let with = |cookie| check(&Method::GET, &[("host", "localhost:8046"), ("cookie", cookie)]);
        assert_eq!(with("a=b; serin-8046=k1"), Ok(()));
        for cookie in ["serin-8046=k2", "serin-8046=", "serin-8047=k1", "k1"] {
            assert_eq!(with(cookie), Err(Refusal::Key), "{cookie}");
        }
        assert_eq!(check(&Method::GET, &[("host", "localhost:8046")]), Err(Refusal::Key));
        let keys = [key().unwrap(), key().unwrap()];
        assert!(keys[0] != keys[1] && keys[0].len() == 32, "{keys:?}");
    }
}
