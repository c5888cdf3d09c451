//! The past, from Prometheus: each answer is kept in a directory, where one is given.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use jiff::Timestamp;
use sha2::{Digest as _, Sha256};

use crate::cli::cluster::Connection;
use crate::cli::doctor::service_of;
use crate::controller::measure::answer::parse_counters;
use crate::controller::measure::prometheus::{read, root};
use crate::evidence::Series;
use crate::plan::measurement::CounterQuery;

/// The most that an answer may have.
const BYTES: usize = 64 << 20;
/// Points a series that Prometheus answers at most.
pub(super) const POINTS: i32 = 11_000;
const ANSWERED_WITHIN: Duration = Duration::from_mins(1);
const TRIES: u32 = 3;
/// The file of a cache that says until when its run looks.
const UNTIL: &str = "until";

/// Where the past is.
pub(super) struct Source {
    way: Way,
    address: String,
    cache: Option<PathBuf>,
}

/// How Prometheus is asked.
enum Way {
    /// From here.
    Direct(prometheus_http_query::Client),
    /// By the API server's proxy to a Service, as the person who asks.
    Proxied(kube::Client, String),
}

/// Why there is no answer.
struct Refusal {
    /// Whether asking again is of no use.
    is_final: bool,
    told: String,
}

impl Refusal {
    fn passing(told: String) -> Self {
        Self { is_final: false, told }
    }
}

impl Source {
    pub(super) async fn new(address: &str, connection: &Connection, cache: Option<PathBuf>) -> anyhow::Result<Self> {
        let way = match service_of(address) {
            Some(service) => Way::Proxied(connection.connect().await?.client, service),
            None => {
                let client = reqwest::Client::builder().timeout(ANSWERED_WITHIN).build()?;
                let client = prometheus_http_query::Client::from(client, address);
                Way::Direct(client.with_context(|| format!("{address} is no address of Prometheus"))?)
            }
        };
        if let Some(cache) = &cache {
            std::fs::create_dir_all(cache).with_context(|| format!("create {}", cache.display()))?;
        }
        Ok(Self { way, address: address.to_owned(), cache })
    }

    /// Until when a run looks: what the first run with this cache looked at, so that its answers are of use.
    pub(super) fn until(&self, wanted: Timestamp) -> anyhow::Result<Timestamp> {
        let Some(path) = self.cache.as_ref().map(|cache| cache.join(UNTIL)) else { return Ok(wanted) };
        if let Ok(text) = std::fs::read_to_string(&path) {
            return text.trim().parse().with_context(|| format!("read {}", path.display()));
        }
        std::fs::write(&path, wanted.to_string()).with_context(|| format!("write {}", path.display()))?;
        Ok(wanted)
    }

    /// The series of one query at the instants that are asked for.
    pub(super) async fn series(&self, text: &str, asked: &CounterQuery) -> anyhow::Result<Vec<Series>> {
        let kept = self.cache.as_ref().map(|cache| cache.join(format!("{}.json", self.key(text, asked))));
        let known = kept.as_ref().and_then(|path| serde_json::from_slice(&std::fs::read(path).ok()?).ok());
        if let Some(series) = known {
            return Ok(series);
        }
        let mut tried = 0;
        let series = loop {
            match self.ask(text, asked).await {
                Ok(body) => {
                    break parse_counters(&body, asked, usize::MAX).map_err(|error| anyhow!("{error}: {text}"))?;
                }
                Err(refusal) if refusal.is_final || tried + 1 >= TRIES => {
                    return Err(anyhow!("{}: {}", self.address, refusal.told));
                }
                Err(_) => tried += 1,
            }
            tokio::time::sleep(Duration::from_secs(2_u64.pow(tried))).await;
        };
        if let Some(path) = kept {
            // Written whole: an interrupted run leaves no half answer.
            let half = path.with_extension("part");
            std::fs::write(&half, serde_json::to_vec(&series)?)
                .and_then(|()| std::fs::rename(&half, &path))
                .with_context(|| format!("write {}", path.display()))?;
        }
        Ok(series)
    }

    /// Names an answer: the same question to the same server.
    fn key(&self, text: &str, asked: &CounterQuery) -> String {
        let question = format!("{}\n{text}\n{} {} {}", self.address, asked.from, asked.step, asked.steps);
        let digest = Sha256::digest(question.as_bytes());
        let half: [u8; 16] = std::array::from_fn(|index| digest.get(index).copied().unwrap_or_default());
        format!("{:032x}", u128::from_be_bytes(half))
    }

    async fn ask(&self, text: &str, asked: &CounterQuery) -> Result<Vec<u8>, Refusal> {
        let (from, to) = asked.range();
        match &self.way {
            Way::Direct(client) => {
                let answer = client.query_range(text, from, to, asked.step.as_secs_f64()).get_raw().await;
                let answer = answer.map_err(|error| Refusal::passing(root(&error)))?;
                let status = answer.status();
                let body = read(answer, BYTES).await.map_err(Refusal::passing)?;
                if status.is_success() {
                    return Ok(body);
                }
                let why = parse_counters(&body, asked, usize::MAX).err().unwrap_or_default();
                Err(Refusal { is_final: status.is_client_error(), told: format!("HTTP {status}; {why}: {text}") })
            }
            Way::Proxied(client, service) => {
                let query: String = form_urlencoded::byte_serialize(text.as_bytes()).collect();
                let url = format!(
                    "{service}/api/v1/query_range?query={query}&start={from}&end={to}&step={}",
                    asked.step.as_secs()
                );
                let request = http::Request::get(url).body(Vec::new());
                let request = request.map_err(|error| Refusal { is_final: true, told: error.to_string() })?;
                let asked = tokio::time::timeout(ANSWERED_WITHIN, client.request_text(request)).await;
                let text = asked.map_err(|_| Refusal::passing("no answer within a minute".to_owned()))?;
                let is_final = |error: &kube::Error| matches!(error, kube::Error::Api(status) if (400..500).contains(&status.code));
                text.map(String::into_bytes)
                    .map_err(|error| Refusal { is_final: is_final(&error), told: error.to_string() })
            }
        }
    }
}
