//! A job's request: a template with its placeholders filled, and hyper-parameters set.
//!
//! A template is the whole request as JSON. A placeholder is `${Name}` in a string of it; [`PLACEHOLDERS`] lists them. One
//! that stands alone in a list makes as many elements as it has values. One that nothing fills either is an error that
//! names what fills it, or takes the part of the request with it that makes no sense without it.

mod fill;

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::jobs::{Job, Kind};
use crate::job::{HyperParameterError, HyperParameters};

pub use fill::{PLACEHOLDERS, Placeholder, Values, fill};

/// The request of a training job that is used where no other is named.
pub const TRAINING_TEMPLATE: &str = include_str!("../../../../infra/sagemaker/training-job.json");
/// The request of a tuning job that is used where no other is named.
pub const TUNING_TEMPLATE: &str = include_str!("../../../../infra/sagemaker/tuning-job.json");

/// A request that cannot be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// A template that is no request of a job.
    #[error("the template is no request of a job: {0}")]
    Template(String),
    /// A template of the other kind of job.
    #[error("the template is one of a {found}, not of a {wanted}")]
    Kind {
        /// What it is of.
        found: Kind,
        /// What it was to be of.
        wanted: Kind,
    },
    /// Places that nothing fills: their options.
    #[error("missing: {}", .0.join(", "))]
    Missing(Vec<String>),
    /// A value for a place that the template does not have.
    #[error("{option} has no effect: the template has no ${{{place}}}")]
    Unused {
        /// The option.
        option: &'static str,
        /// The place.
        place: &'static str,
    },
    /// A hyper-parameter that the tuning job varies.
    #[error(
        "hyper-parameter {0}: the tuning job draws it itself; change its range in the template"
    )]
    Tuned(String),
    /// Hyper-parameters that the job would refuse.
    #[error(transparent)]
    HyperParameters(#[from] HyperParameterError),
}

/// Reads a template of this kind of job.
///
/// # Errors
///
/// [`RequestError::Template`], [`RequestError::Kind`].
pub fn read_template(text: &str, wanted: Kind) -> Result<Value, RequestError> {
    let template: Value =
        serde_json::from_str(text).map_err(|error| RequestError::Template(error.to_string()))?;
    let found = [Kind::Training, Kind::Tuning]
        .into_iter()
        .find(|kind| template.get(kind.name_member()).is_some());
    match found {
        Some(kind) if kind == wanted => Ok(template),
        Some(found) => Err(RequestError::Kind { found, wanted }),
        None => Err(RequestError::Template(format!(
            "it has neither {} nor {}",
            Kind::Training.name_member(),
            Kind::Tuning.name_member()
        ))),
    }
}

/// Sets a hyper-parameter.
///
/// # Errors
///
/// [`RequestError::Tuned`]; [`RequestError::Template`] where the request has no place for hyper-parameters.
pub fn set(request: &mut Value, job: &Job, name: &str, value: &str) -> Result<(), RequestError> {
    if ranges(request).any(|range| range.get("Name").and_then(Value::as_str) == Some(name)) {
        return Err(RequestError::Tuned(name.to_owned()));
    }
    let place = match job.kind {
        Kind::Training => "/HyperParameters",
        Kind::Tuning => "/TrainingJobDefinition/StaticHyperParameters",
    };
    let parameters = request.pointer_mut(place).and_then(Value::as_object_mut);
    let parameters =
        parameters.ok_or_else(|| RequestError::Template(format!("it has no object {place}")))?;
    parameters.insert(name.to_owned(), Value::from(value));
    Ok(())
}

/// Checks the hyper-parameters of a request by the job's own reader, and the values between which a tuning job chooses.
///
/// The device is left to the job, since its image may be built for others than this program is.
///
/// # Errors
///
/// [`RequestError::HyperParameters`].
pub fn check(request: &Value) -> Result<(), RequestError> {
    let fixed = [
        "/HyperParameters",
        "/TrainingJobDefinition/StaticHyperParameters",
    ]
    .into_iter()
    .filter_map(|place| request.pointer(place)?.as_object())
    .flatten()
    .map(|(name, value)| (name.clone(), value.clone()));
    let mut fixed: BTreeMap<String, Value> = fixed.collect();
    fixed.remove("device");
    HyperParameters::read(&fixed)?;
    for range in ranges(request) {
        let Some(name) = range.get("Name").and_then(Value::as_str) else {
            continue;
        };
        let choices = range.get("Values").and_then(Value::as_array);
        let bounds = [range.get("MinValue"), range.get("MaxValue")];
        let values = choices
            .into_iter()
            .flatten()
            .chain(bounds.into_iter().flatten());
        for value in values.filter(|_| name != "device") {
            HyperParameters::read(&BTreeMap::from([(name.to_owned(), value.clone())]))?;
        }
    }
    Ok(())
}

/// The ranges that a tuning job draws hyper-parameters from, of all kinds.
fn ranges(request: &Value) -> impl Iterator<Item = &Value> {
    let ranges = request.pointer("/HyperParameterTuningJobConfig/ParameterRanges");
    ranges
        .and_then(Value::as_object)
        .into_iter()
        .flat_map(Map::values)
        .filter_map(Value::as_array)
        .flatten()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_template_says_what_it_is_of() {
        read_template(TRAINING_TEMPLATE, Kind::Training).unwrap();
        read_template(TUNING_TEMPLATE, Kind::Tuning).unwrap();
        let error = read_template(TRAINING_TEMPLATE, Kind::Tuning).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the template is one of a training job, not of a tuning job"
        );
        for text in ["", "[]", "{}", "7"] {
            let error = read_template(text, Kind::Training).unwrap_err();
            assert!(matches!(error, RequestError::Template(_)), "{error}");
        }
    }

    #[test]
    fn a_hyper_parameter_is_set_where_the_job_reads_it() {
        let mut request = read_template(TUNING_TEMPLATE, Kind::Tuning).unwrap();
        let job = Job::named(Kind::Tuning, "t").unwrap();
        set(&mut request, &job, "epochs", "3").unwrap();
        let fixed = &request["TrainingJobDefinition"]["StaticHyperParameters"];
        assert_eq!(fixed["epochs"], "3");
        let drawn = ranges(&request).next().unwrap()["Name"].clone();
        let error = set(&mut request, &job, drawn.as_str().unwrap(), "1").unwrap_err();
        assert!(matches!(error, RequestError::Tuned(name) if name == drawn));
    }

    #[test]
    fn the_job_would_take_the_hyper_parameters() {
        check(&read_template(TRAINING_TEMPLATE, Kind::Training).unwrap()).unwrap();
        check(&read_template(TUNING_TEMPLATE, Kind::Tuning).unwrap()).unwrap();
        for (pointer, bad) in [
            (
                "/TrainingJobDefinition/StaticHyperParameters/epochs",
                "many",
            ),
            (
                "/HyperParameterTuningJobConfig/ParameterRanges/ContinuousParameterRanges/0/MaxValue",
                "x",
            ),
            (
                "/HyperParameterTuningJobConfig/ParameterRanges/CategoricalParameterRanges/0/Values/1",
                "x",
            ),
        ] {
            let mut request = read_template(TUNING_TEMPLATE, Kind::Tuning).unwrap();
            *request.pointer_mut(pointer).unwrap() = Value::from(bad);
            let error = check(&request).unwrap_err();
            assert!(matches!(error, RequestError::HyperParameters(_)), "{error}");
        }
    }
}
