//! What is asked of a provider, and what came back. Values only; the shell does the asking.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::api::analysis::WebMethod;
use crate::evidence::Series;

/// One question to a provider.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Query {
    /// Names the attempt, the analysis, the metric and the number of the measurement, so that no answer counts twice.
    pub id: String,
    /// Name of the MetricProvider.
    pub provider: String,
    /// What is asked.
    pub ask: Ask,
}

/// What is asked of a provider.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Ask {
    /// The value of a query now, arguments filled in.
    Value(String),
    /// Counters at instants of the past.
    Counters(CounterQuery),
    /// The answer of a server.
    Web(WebQuery),
}

/// A request to a server.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct WebQuery {
    /// The method.
    pub method: WebMethod,
    /// Path and query, arguments filled in.
    pub path: String,
    /// What is sent.
    pub body: Option<String>,
    /// Where in the answer the value is; none for all of it.
    pub json_path: Option<String>,
}

/// Counters at instants of the past, each a step after the one before, all at the same.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct CounterQuery {
    /// The queries.
    pub texts: Vec<String>,
    /// The first instant.
    pub from: Timestamp,
    /// Time between two instants.
    pub step: SignedDuration,
    /// Steps to the last instant.
    pub steps: i32,
}

impl CounterQuery {
    /// The first and the last instant, in seconds since 1970: instants are multiples of the step, and that is whole seconds.
    pub fn range(&self) -> (i64, i64) {
        let from = self.from.as_second();
        (from, from.saturating_add(self.step.as_secs().saturating_mul(i64::from(self.steps))))
    }

    /// How many instants there are.
    pub fn instants(&self) -> usize {
        instants(self.steps)
    }
}

fn instants(steps: i32) -> usize {
    usize::try_from(steps).unwrap_or(0).saturating_add(1)
}

/// What a provider answered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Sample {
    /// One number.
    Scalar(f64),
    /// One number a series, in a stable order.
    Vector(Vec<f64>),
    /// Counters at instants of the past.
    Counters(Counters),
    /// The answer of a server.
    Web(WebAnswer),
    /// How a Job ended.
    Job(JobAnswer),
}

impl Counters {
    /// How many instants there are.
    pub fn instants(&self) -> usize {
        instants(self.steps)
    }
}

/// The answer of a server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WebAnswer {
    /// The status.
    pub status: u16,
    /// The values at the JSONPath, or the whole answer; nothing where the answer is no JSON.
    pub values: Vec<Value>,
}

impl WebAnswer {
    /// Whether the status is 2xx.
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }
}

/// How a Job ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobAnswer {
    /// Its name.
    pub name: String,
    /// Why it failed; none where it is complete.
    pub failure: Option<String>,
}

/// Counters at the instants of a [`CounterQuery`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Counters {
    /// The first instant.
    pub from: Timestamp,
    /// Time between two instants.
    pub step: SignedDuration,
    /// Steps to the last instant.
    pub steps: i32,
    /// The series of each query.
    pub series: Vec<Vec<Series>>,
}

/// One answer, or why there is none.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Measurement {
    /// The query's id.
    pub id: String,
    /// When the query was sent.
    pub started_at: Timestamp,
    /// When the answer came.
    pub finished_at: Timestamp,
    /// The answer, or a sentence that says why there is none.
    pub outcome: Result<Sample, String>,
}
