//! Figures as CloudWatch takes them from a log: the embedded metric format.

use std::io::{self, Write};
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value, json};

use super::{METRICS_ARE_ON, milliseconds};

/// The namespace of all metrics.
const NAMESPACE: &str = "glioseg";

/// Most values of one metric in one document, by the specification of the format.
const MAX_VALUES: usize = 100;

/// Figures of one piece of work, written as one line of CloudWatch's embedded metric format.
///
/// ```
/// use std::time::Duration;
/// use glioseg_shared::cloud::telemetry::Metrics;
///
/// Metrics::new("segment")
///     .count("Slices", 1)
///     .millis("InferenceMilliseconds", Duration::from_millis(42))
///     .property("ModelVersion", "1.0.0")
///     .emit();
/// ```
#[derive(Clone, Debug, PartialEq)]
#[must_use = "figures are written by `emit`"]
pub struct Metrics {
    function: &'static str,
    figures: Vec<Figure>,
    properties: Map<String, Value>,
}

#[derive(Clone, Debug, PartialEq)]
struct Figure {
    name: &'static str,
    unit: &'static str,
    values: Vec<Value>,
}

impl Metrics {
    /// No figures yet, of a function: the dimension `Function` of all of them.
    pub fn new(function: &'static str) -> Self {
        Self {
            function,
            figures: Vec::new(),
            properties: Map::new(),
        }
    }

    /// Adds a count; counts of one name are added up.
    pub fn count(mut self, name: &'static str, count: u64) -> Self {
        let figure = self.figure(name, "Count");
        let sum = figure.values.first().and_then(Value::as_u64).unwrap_or(0);
        figure.values = vec![sum.saturating_add(count).into()];
        self
    }

    /// Adds a duration; of one name the first 100 are kept.
    pub fn millis(mut self, name: &'static str, duration: Duration) -> Self {
        let figure = self.figure(name, "Milliseconds");
        if figure.values.len() < MAX_VALUES {
            figure.values.push(milliseconds(duration).into());
        }
        self
    }

    /// Adds what is searched for rather than summed up. It makes no metric, so it may take many values.
    pub fn property(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.properties.insert(name.to_owned(), value.into());
        self
    }

    /// Writes the line, if [`init`](super::init) was called and there is a figure.
    pub fn emit(self) {
        if self.figures.is_empty() || !METRICS_ARE_ON.load(Ordering::Relaxed) {
            return;
        }
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let mut line = self.document(now).to_string();
        line.push('\n');
        // One write under the lock of standard output: lines of other threads stay whole.
        if let Err(error) = io::stdout().lock().write_all(line.as_bytes()) {
            tracing::warn!(%error, "metrics cannot be written");
        }
    }

    fn figure(&mut self, name: &'static str, unit: &'static str) -> &mut Figure {
        let at = self
            .figures
            .iter()
            .position(|figure| figure.name == name)
            .unwrap_or_else(|| {
                self.figures.push(Figure {
                    name,
                    unit,
                    values: Vec::new(),
                });
                self.figures.len() - 1
            });
        &mut self.figures[at]
    }

    /// Source: "Specification: Embedded metric format" of the Amazon CloudWatch user guide.
    fn document(self, now: Duration) -> Value {
        let definitions: Vec<Value> = self
            .figures
            .iter()
            .map(|figure| json!({ "Name": figure.name, "Unit": figure.unit }))
            .collect();
        let mut members = self.properties;
        for figure in self.figures {
            let mut values = figure.values;
            let value = match values.len() {
                1 => values.remove(0),
                _ => Value::Array(values),
            };
            members.insert(figure.name.to_owned(), value);
        }
        members.insert("Function".to_owned(), self.function.into());
        members.insert(
            "_aws".to_owned(),
            json!({
                "Timestamp": u64::try_from(now.as_millis()).unwrap_or(u64::MAX),
                "CloudWatchMetrics": [{
                    "Namespace": NAMESPACE,
                    "Dimensions": [["Function"]],
                    "Metrics": definitions,
                }],
            }),
        );
        Value::Object(members)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_of_the_embedded_format() {
        let document = Metrics::new("segment")
            .count("Slices", 1)
            .count("Slices", 2)
            .millis("DecodeMilliseconds", Duration::from_micros(1500))
            .millis("DecodeMilliseconds", Duration::from_millis(2))
            .property("ModelVersion", "v1")
            .property("Function", "is overruled")
            .document(Duration::from_millis(1_700_000_000_123));
        let expected = json!({
            "_aws": {
                "Timestamp": 1_700_000_000_123_u64,
                "CloudWatchMetrics": [{
                    "Namespace": "glioseg",
                    "Dimensions": [["Function"]],
                    "Metrics": [
                        { "Name": "Slices", "Unit": "Count" },
                        { "Name": "DecodeMilliseconds", "Unit": "Milliseconds" },
                    ],
                }],
            },
            "Function": "segment",
            "Slices": 3,
            "DecodeMilliseconds": [1.5, 2.0],
            "ModelVersion": "v1",
        });
        assert_eq!(document, expected);
    }

    #[test]
    fn a_metric_has_at_most_a_hundred_values() {
        let metrics = (0..150).fold(Metrics::new("f"), |metrics, _| {
            metrics.millis("M", Duration::ZERO)
        });
        let document = metrics.document(Duration::ZERO);
        assert_eq!(document["M"].as_array().map(Vec::len), Some(MAX_VALUES));
    }
}
