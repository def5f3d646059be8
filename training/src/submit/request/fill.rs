//! Placeholders of a template, and what fills them.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::RequestError;
use crate::submit::jobs::Job;

/// What becomes of a placeholder that nothing fills.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unfilled {
    /// There is no job without it.
    Refused,
    /// The member of an object that holds it goes.
    DropsMember,
    /// The element of a list that holds it goes, however deep within.
    DropsElement,
    /// The member of this name that holds it goes, however deep within.
    Drops(&'static str),
}

/// A place in a template.
#[derive(Debug)]
pub struct Placeholder {
    /// What stands in the template between `${` and `}`.
    pub name: &'static str,
    /// The option of the command that fills it.
    pub option: &'static str,
    unfilled: Unfilled,
}

const fn place(name: &'static str, option: &'static str, unfilled: Unfilled) -> Placeholder {
    Placeholder {
        name,
        option,
        unfilled,
    }
}

/// The places that a template may have.
pub const PLACEHOLDERS: [Placeholder; 14] = [
    place("TrainingJobName", "--name", Unfilled::Refused),
    place("TuningJobName", "--name", Unfilled::Refused),
    place("RoleArn", "--role", Unfilled::Refused),
    place("ImageUri", "--image", Unfilled::Refused),
    place("TrainingUri", "--data", Unfilled::Refused),
    place("SplitUri", "--split", Unfilled::DropsElement),
    place("OutputUri", "--output", Unfilled::Refused),
    place("CheckpointUri", "--checkpoints", Unfilled::Refused),
    place("ModelsUri", "--models", Unfilled::DropsMember),
    place("InstanceType", "--instance-type", Unfilled::Refused),
    place("KmsKeyId", "--kms-key", Unfilled::DropsMember),
    place("VolumeKmsKeyId", "--volume-kms-key", Unfilled::DropsMember),
    place("SubnetId", "--subnet", Unfilled::Drops("VpcConfig")),
    place(
        "SecurityGroupId",
        "--security-group",
        Unfilled::Drops("VpcConfig"),
    ),
];

/// What fills the places, by their names.
pub type Values = BTreeMap<&'static str, Vec<String>>;

/// The request of a job: the template with its places filled by what is given, else by `defaults`.
///
/// # Errors
///
/// [`RequestError`] that names all options that are missing, or one that is given and has no place.
pub fn fill(
    template: &Value,
    job: &Job,
    given: &Values,
    defaults: &Values,
) -> Result<Value, RequestError> {
    let mut filling = Filling {
        given,
        defaults,
        used: Vec::new(),
        missing: Vec::new(),
    };
    let filled = filling.value(template)?;
    let Filling { used, missing, .. } = filling;
    if !missing.is_empty() {
        let places = PLACEHOLDERS.iter();
        let missing = places.filter(|place| missing.contains(&place.name));
        let missing = missing.map(|place| format!("{} (${{{}}})", place.option, place.name));
        return Err(RequestError::Missing(missing.collect()));
    }
    let unused = PLACEHOLDERS
        .iter()
        .find(|place| given.contains_key(place.name) && !used.contains(&place.name));
    if let Some(place) = unused {
        return Err(RequestError::Unused {
            option: place.option,
            place: place.name,
        });
    }
    match filled {
        Filled::Value(mut request) => {
            request[job.kind.name_member()] = Value::from(job.name.as_str());
            Ok(request)
        }
        Filled::List(_) | Filled::Dropped(_) => Err(RequestError::Template(
            "it is not an object with what a job needs".to_owned(),
        )),
    }
}

/// What a part of a template becomes.
enum Filled {
    Value(Value),
    /// Elements of the list that the part is an element of.
    List(Vec<Value>),
    /// Nothing: this is on its way up to where it ends.
    Dropped(Unfilled),
}

struct Filling<'a> {
    given: &'a Values,
    defaults: &'a Values,
    used: Vec<&'static str>,
    missing: Vec<&'static str>,
}

impl Filling<'_> {
    fn value(&mut self, template: &Value) -> Result<Filled, RequestError> {
        match template {
            Value::String(text) => self.text(text),
            Value::Array(elements) => self.list(elements),
            Value::Object(members) => self.object(members),
            other => Ok(Filled::Value(other.clone())),
        }
    }

    fn object(&mut self, members: &Map<String, Value>) -> Result<Filled, RequestError> {
        let mut filled = Map::new();
        for (name, value) in members {
            match self.value(value)? {
                Filled::Value(value) => {
                    filled.insert(name.clone(), value);
                }
                Filled::Dropped(Unfilled::DropsMember) => {}
                Filled::Dropped(Unfilled::Drops(section)) if section == name => {}
                Filled::Dropped(further) => return Ok(Filled::Dropped(further)),
                Filled::List(values) => {
                    return Err(RequestError::Template(format!(
                        "{name} takes one value, and {} are given",
                        values.len()
                    )));
                }
            }
        }
        Ok(Filled::Value(Value::Object(filled)))
    }

    fn list(&mut self, elements: &[Value]) -> Result<Filled, RequestError> {
        let mut filled = Vec::new();
        for element in elements {
            match self.value(element)? {
                Filled::Value(value) => filled.push(value),
                Filled::List(values) => filled.extend(values),
                Filled::Dropped(Unfilled::DropsElement) => {}
                Filled::Dropped(further) => return Ok(Filled::Dropped(further)),
            }
        }
        Ok(Filled::Value(Value::Array(filled)))
    }

    fn text(&mut self, text: &str) -> Result<Filled, RequestError> {
        let mut filled = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("${") {
            let (name, behind) = after
                .split_once('}')
                .ok_or_else(|| RequestError::Template(format!("{text:?}: no }} after ${{")))?;
            let place = PLACEHOLDERS
                .iter()
                .find(|place| place.name == name)
                .ok_or_else(|| {
                    let known = PLACEHOLDERS.map(|place| place.name).join(", ");
                    RequestError::Template(format!("nothing fills ${{{name}}}; there are {known}"))
                })?;
            filled.push_str(before);
            rest = behind;
            self.used.push(place.name);
            let values = self.given.get(place.name);
            let values = values.or_else(|| self.defaults.get(place.name));
            match values.map(Vec::as_slice) {
                Some([value]) => filled.push_str(value),
                Some(values @ [_, _, ..]) if filled.is_empty() && rest.is_empty() => {
                    let values = values.iter().map(|value| Value::from(value.as_str()));
                    return Ok(Filled::List(values.collect()));
                }
                Some([_, _, ..]) => {
                    return Err(RequestError::Template(format!(
                        "{text:?} takes one value, and {} is given several",
                        place.option
                    )));
                }
                Some([]) | None if place.unfilled == Unfilled::Refused => {
                    self.missing.push(place.name);
                }
                Some([]) | None => return Ok(Filled::Dropped(place.unfilled)),
            }
        }
        filled.push_str(rest);
        Ok(Filled::Value(Value::String(filled)))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::json;

    use super::*;
    use crate::submit::jobs::Kind;

    fn job() -> Job {
        Job::named(Kind::Training, "j").unwrap()
    }

    fn values(values: &[(&'static str, &str)]) -> Values {
        let mut given = Values::new();
        for (name, value) in values {
            given.entry(name).or_default().push((*value).to_owned());
        }
        given
    }

    fn filled(template: &Value, given: &[(&'static str, &str)]) -> Value {
        fill(template, &job(), &values(given), &Values::new()).unwrap()
    }

    #[test]
    fn what_makes_no_sense_without_a_value_goes_with_it() {
        let template = json!({
            "TrainingJobName": "${TrainingJobName}",
            "InputDataConfig": [
                {"ChannelName": "training", "Source": {"Uri": "${TrainingUri}"}},
                {"ChannelName": "split", "Source": {"Uri": "${SplitUri}"}},
            ],
            "OutputDataConfig": {"S3OutputPath": "${OutputUri}/models", "KmsKeyId": "${KmsKeyId}"},
            "VpcConfig": {"Subnets": ["${SubnetId}"], "SecurityGroupIds": ["${SecurityGroupId}"]},
            "Environment": {"MODELS_URI": "${ModelsUri}"},
        });
        let name = ("TrainingJobName", "j");
        let needed = [name, ("TrainingUri", "s3://d"), ("OutputUri", "s3://o")];
        let bare = filled(&template, &needed);
        assert_eq!(
            bare,
            json!({
                "TrainingJobName": "j",
                "InputDataConfig": [{"ChannelName": "training", "Source": {"Uri": "s3://d"}}],
                "OutputDataConfig": {"S3OutputPath": "s3://o/models"},
                "Environment": {},
            })
        );
        let more = [
            ("SplitUri", "s3://s"),
            ("KmsKeyId", "k"),
            ("SubnetId", "subnet-1"),
            ("SubnetId", "subnet-2"),
            ("SecurityGroupId", "sg-1"),
            ("ModelsUri", "s3://m"),
        ];
        let whole = filled(&template, &[needed.as_slice(), &more].concat());
        assert_eq!(whole["InputDataConfig"][1]["Source"]["Uri"], "s3://s");
        assert_eq!(whole["OutputDataConfig"]["KmsKeyId"], "k");
        assert_eq!(
            whole["VpcConfig"],
            json!({"Subnets": ["subnet-1", "subnet-2"], "SecurityGroupIds": ["sg-1"]})
        );
        assert_eq!(whole["Environment"]["MODELS_URI"], "s3://m");
    }

    #[test]
    fn all_that_is_missing_is_named_at_once() {
        let template = json!({
            "TrainingJobName": "", "RoleArn": "${RoleArn}", "Image": "${ImageUri}", "Again": "${RoleArn}",
        });
        let error = fill(&template, &job(), &Values::new(), &Values::new()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "missing: --role (${RoleArn}), --image (${ImageUri})"
        );
    }

    #[test]
    fn a_template_that_does_not_fit_is_refused() {
        let refused = |template: Value, given: &[(&'static str, &str)]| {
            let given = values(given);
            let error = fill(&template, &job(), &given, &Values::new()).unwrap_err();
            error.to_string()
        };
        let said = refused(json!({"A": "${Role}"}), &[]);
        assert!(said.contains("nothing fills ${Role}; there are"), "{said}");
        let said = refused(json!({"A": "${RoleArn"}), &[]);
        assert!(said.contains("no } after ${"), "{said}");
        assert_eq!(
            refused(json!({"A": 1}), &[("ModelsUri", "s3://m")]),
            "--models has no effect: the template has no ${ModelsUri}"
        );
        let two = [("KmsKeyId", "a"), ("KmsKeyId", "b")];
        let said = refused(json!({"A": "${KmsKeyId}"}), &two);
        assert!(
            said.contains("A takes one value, and 2 are given"),
            "{said}"
        );
        let said = refused(json!({"A": "x${KmsKeyId}"}), &two);
        assert!(said.contains("--kms-key is given several"), "{said}");
        let said = refused(json!({"A": "${SubnetId}"}), &[]);
        assert!(said.contains("not an object"), "{said}");
    }

    #[test]
    fn what_is_given_comes_before_the_default() {
        let template = json!({"TrainingJobName": "", "Type": "${InstanceType}"});
        let default = values(&[("InstanceType", "ml.g5.xlarge"), ("ModelsUri", "s3://m")]);
        let of = |given| fill(&template, &job(), &given, &default).unwrap();
        assert_eq!(of(Values::new())["Type"], "ml.g5.xlarge");
        let given = values(&[("InstanceType", "ml.m5.large")]);
        assert_eq!(of(given)["Type"], "ml.m5.large");
    }
}
