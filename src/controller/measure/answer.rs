//! What a server with Prometheus' query API answers, read: numbers, or why it is none. Whatever it says, it takes no more memory
//! and time than its size allows for.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::evidence::Series;
use crate::plan::measurement::{CounterQuery, Sample};

/// Places for values, of all series together, that a controller with little memory has: an empty series has one for each
/// instant, too.
pub const PLACES_MOST: usize = 1_000_000;

/// The answer's envelope, <https://prometheus.io/docs/prometheus/latest/querying/api/>.
#[derive(Deserialize)]
struct Envelope {
    status: String,
    error: Option<String>,
    data: Option<Data>,
}

#[derive(Deserialize)]
#[serde(tag = "resultType", content = "result", rename_all = "lowercase")]
enum Data {
    Scalar((f64, String)),
    Vector(Vec<Point>),
    Matrix(Vec<Line>),
    String(serde::de::IgnoredAny),
}

#[derive(Deserialize)]
struct Point {
    metric: BTreeMap<String, String>,
    value: Option<(f64, String)>,
}

#[derive(Deserialize)]
struct Line {
    metric: BTreeMap<String, String>,
    values: Option<Vec<(f64, String)>>,
}

/// Why an answer is none.
fn garbage(body: &[u8]) -> String {
    let start: String = String::from_utf8_lossy(body).chars().take(60).collect();
    format!("the answer is not Prometheus': {start:?}")
}

/// What an answer holds.
fn data(body: &[u8]) -> Result<Data, String> {
    let envelope: Envelope = serde_json::from_slice(body).map_err(|_| garbage(body))?;
    if envelope.status != "success" {
        return Err(envelope.error.unwrap_or_else(|| garbage(body)));
    }
    envelope.data.ok_or_else(|| garbage(body))
}

/// The series of an answer at the instants that were asked for.
pub fn parse_counters(body: &[u8], asked: &CounterQuery, places_most: usize) -> Result<Vec<Series>, String> {
    let Data::Matrix(lines) = data(body)? else {
        return Err("the query answers no series of counters; write one that answers a vector".into());
    };
    let (count, instants) = (lines.len(), asked.instants());
    if count.saturating_mul(instants) > places_most {
        return Err(format!(
            "the query answers {count} series of {instants} instants each, and {places_most} values are read at most; aggregate in PromQL, or write a longer interval"
        ));
    }
    let step = asked.step.as_secs_f64();
    let series = |line: Line| {
        let mut values = vec![None; asked.instants()];
        let given = line.values.ok_or("the query answers histograms; write one of their buckets".to_owned())?;
        for (at, text) in given {
            let value: f64 = text.parse().map_err(|_| garbage(body))?;
            let place = ((at - asked.from.as_duration().as_secs_f64()) / step).round();
            let slot = (0..).zip(&mut values).find(|(index, _)| f64::from(*index).total_cmp(&place).is_eq());
            if let Some((_, slot)) = slot {
                *slot = Some(value).filter(|value| value.is_finite());
            }
        }
        Ok(Series { labels: line.metric, values })
    };
    lines.into_iter().map(series).collect()
}

/// The numbers of an answer, series in the order of their labels.
pub fn parse(body: &[u8]) -> Result<Sample, String> {
    let garbage = || garbage(body);
    match data(body)? {
        Data::Scalar((_, text)) => text.parse().map(Sample::Scalar).map_err(|_| garbage()),
        Data::Vector(mut series) => {
            series.sort_by(|left, right| left.metric.cmp(&right.metric));
            let numbers: Result<Vec<f64>, String> = series
                .iter()
                .map(|one| {
                    one.value
                        .as_ref()
                        .ok_or("the query answers histograms; use histogram_quantile or histogram_fraction".to_owned())?
                        .1
                        .parse()
                        .map_err(|_| garbage())
                })
                .collect();
            numbers.map(Sample::Vector)
        }
        Data::Matrix(_) => Err("the query answers a range; write an instant query".into()),
        Data::String(_) => Err("the query answers text; write one that answers numbers".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_without_values_take_no_memory() {
        let asked = |steps: i32| CounterQuery {
            texts: vec!["a".into()],
            from: jiff::Timestamp::from_second(1_000).unwrap(),
            step: jiff::SignedDuration::from_secs(1),
            steps,
        };
        let answer = |count: usize| {
            let series =
                vec![r#"{"metric":{},"values":[[1000,"1"],[1001.2,"2"],[998,"3"],[1e300,"4"]]}"#; count].join(",");
            format!(r#"{{"status":"success","data":{{"resultType":"matrix","result":[{series}]}}}}"#)
        };
        let read = parse_counters(answer(2).as_bytes(), &asked(2), PLACES_MOST).unwrap();
        assert_eq!(read[1].values, [Some(1.0), Some(2.0), None]);
        // Half a gigabyte, of an answer of a megabyte and a half.
        let told = parse_counters(answer(20_000).as_bytes(), &asked(1_800), PLACES_MOST).unwrap_err();
        assert!(told.starts_with("the query answers 20000 series of 1801 instants each"), "{told}");
    }
}
