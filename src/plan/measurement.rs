//! What is asked of a provider, and what came back. Values only; the shell does the asking.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// One question to a provider.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Query {
    /// Names the attempt, the analysis, the metric and the number of the measurement, so that no answer counts twice.
    pub id: String,
    /// Name of the MetricProvider.
    pub provider: String,
    /// The text, arguments filled in.
    pub text: String,
}

/// What a provider answered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Sample {
    /// One number.
    Scalar(f64),
    /// One number a series, in a stable order.
    Vector(Vec<f64>),
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
