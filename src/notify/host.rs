//! Where messages may go. A tenant writes the URL, and the controller's network may reach what the tenant's may not: so only
//! services that everybody knows, and what the administrator allows by `--notification-host`.

use reqwest::Url;

/// Services that everybody knows; `*.` stands for any host below.
pub const WELL_KNOWN: &[&str] = &[
    "hooks.slack.com",
    "slack.com",
    "oapi.dingtalk.com",
    "open.feishu.cn",
    "open.larksuite.com",
    "qyapi.weixin.qq.com",
    "*.logic.azure.com",
    "*.powerplatform.com",
    "api.github.com",
    "gitlab.com",
];

/// Hosts that may be asked.
#[derive(Debug, Clone, Default)]
pub struct Hosts(Vec<Allowed>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Allowed {
    host: String,
    port: Option<u16>,
    /// Whether it may be asked without TLS.
    is_plain: bool,
}

impl Hosts {
    /// The well-known ones and those of the flag: `host`, `host:port`, and with `http://` or `smtp://` before it, without TLS.
    pub fn of(flags: &[String]) -> Result<Self, String> {
        let allowed: Result<Vec<Allowed>, String> = flags.iter().map(|flag| allowed(flag)).collect();
        let known = WELL_KNOWN.iter().map(|host| Allowed { host: (*host).to_owned(), port: None, is_plain: false });
        Ok(Self(known.chain(allowed?).collect()))
    }

    /// The URL, read as the one that sends reads it; else why it may not be asked.
    pub fn check(&self, url: &str) -> Result<Url, String> {
        let Ok(read) = Url::parse(url) else {
            return Err("is not a URL; write https://…".to_owned());
        };
        let (Some(host), scheme) = (read.host_str(), read.scheme()) else {
            return Err("has no host; write https://…".to_owned());
        };
        if !["https", "http", "smtp"].contains(&scheme) || !read.username().is_empty() || read.password().is_some() {
            return Err("must be a URL that begins with https://, without a user".to_owned());
        }
        let port = read.port_or_known_default();
        let fits = |one: &&Allowed| {
            let same = match one.host.strip_prefix('*') {
                Some(below) => host.len() > below.len() && host.ends_with(below),
                None => host == one.host,
            };
            // SMTP without a port of its own is allowed at each that mail is submitted to.
            let default = if scheme == "smtp" { port } else { Some(if one.is_plain { 80 } else { 443 }) };
            same && one.port.or(default) == port
        };
        let mut known = self.0.iter().filter(fits).peekable();
        if known.peek().is_none() {
            let port = read.port().map_or(String::new(), |port| format!(":{port}"));
            return Err(format!(
                "the host {host}{port} is not allowed; ask the administrator to start Serin with --notification-host={host}{port}"
            ));
        }
        if scheme == "http" && !known.any(|one| one.is_plain) {
            return Err(format!(
                "{host} may be asked by https:// only; the administrator may allow --notification-host=http://{host}"
            ));
        }
        Ok(read)
    }

    /// Whether mail may be handed to a server without TLS.
    pub fn allows_plain_mail(&self, host: &str, port: u16) -> bool {
        self.0.iter().any(|one| one.is_plain && one.host == host && one.port.is_none_or(|own| own == port))
    }
}

/// Whether a text is the name, or the address, of a host and nothing else.
pub fn is_name(host: &str) -> bool {
    !host.is_empty() && host.chars().all(|one| one.is_ascii_alphanumeric() || ['.', '-'].contains(&one))
}

fn allowed(flag: &str) -> Result<Allowed, String> {
    let (is_plain, rest) = match flag.split_once("://") {
        None | Some(("https", _)) => (false, flag.trim_start_matches("https://")),
        Some(("http" | "smtp", rest)) => (true, rest),
        Some((scheme, _)) => return Err(format!("{flag:?}: {scheme}:// is none of https://, http:// and smtp://")),
    };
    let (host, port) = match rest.rsplit_once(':') {
        Some((host, port)) => (host, Some(port.parse().map_err(|_| format!("{flag:?}: {port:?} is no port"))?)),
        None => (rest, None),
    };
    let named = host.strip_prefix("*.").unwrap_or(host);
    if !is_name(named) {
        return Err(format!("{flag:?} is none of HOST, HOST:PORT, http://HOST:PORT and smtp://HOST:PORT"));
    }
    Ok(Allowed { host: host.to_lowercase(), port, is_plain })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_of_mail_is_a_name_and_nothing_else() {
        for (host, is_one) in [
            ("mail.example.com", true),
            ("127.0.0.1", true),
            ("mail.example#.evil.com", false),
            ("a b", false),
            ("", false),
        ] {
            assert_eq!(is_name(host), is_one, "{host}");
        }
    }

    #[test]
    fn only_known_hosts_are_asked() {
        let flags =
            ["hooks.example.com", "http://127.0.0.1:9", "*.chat.example", "mail.example", "smtp://plain.example:25"];
        let hosts = Hosts::of(&flags.map(str::to_owned)).unwrap_or_default();
        for (url, is_allowed) in [
            ("https://hooks.slack.com/services/T/B/x", true),
            ("https://hooks.slack.com:443/x", true),
            ("https://HOOKS.slack.com/x", true),
            ("http://hooks.slack.com/x", false),
            ("https://hooks.slack.com:8443/x", false),
            ("https://hooks.slack.com@169.254.169.254/", false),
            ("https://evil.example/hooks.slack.com", false),
            ("https://hooks.slack.com.evil.example/", false),
            ("https://user:pass@hooks.slack.com/", false),
            ("https://prod-1.westeurope.logic.azure.com/workflows/x", true),
            ("https://logic.azure.com/", false),
            ("https://evillogic.azure.com/", false),
            ("https://hooks.example.com/x", true),
            ("http://hooks.example.com/x", false),
            ("http://127.0.0.1:9/x", true),
            ("http://127.0.0.1:10/x", false),
            ("http://2130706433:9/x", true),
            ("http://169.254.169.254/latest/meta-data", false),
            ("https://a.chat.example/", true),
            ("file:///etc/passwd", false),
            ("gopher://hooks.slack.com/", false),
            ("smtp://mail.example:587", true),
            ("smtp://other.example:587", false),
            ("no url", false),
        ] {
            assert_eq!(hosts.check(url).is_ok(), is_allowed, "{url}");
        }
        assert!(hosts.allows_plain_mail("plain.example", 25));
        assert!(!hosts.allows_plain_mail("plain.example", 587) && !hosts.allows_plain_mail("mail.example", 25));
    }

    #[test]
    fn a_flag_that_is_no_host_is_refused() {
        for flag in ["", "ftp://a", "a:b", "a/b", "*", "*.", "http://"] {
            assert!(Hosts::of(&[flag.to_owned()]).is_err(), "{flag}");
        }
    }
}
