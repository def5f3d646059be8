//! What a model file says of itself.
//!
//! A [`Contract`] travels inside the ONNX file, as JSON in `metadata_props` under the one key
//! [`METADATA_KEY`]. It holds everything that serving needs besides the graph, and everything a
//! reader needs to judge the model. Unknown fields are refused: a field that this code would
//! ignore could change the meaning of the others.

use serde::{Deserialize, Serialize};

use super::error::{ContractError, ModelError};
use super::onnx;
use crate::imaging::grid::{Fit, Grid};
use crate::scoring::Summary;

/// Key of the contract in the ONNX `metadata_props`.
pub const METADATA_KEY: &str = "glioseg.contract";
/// The contract version that this code writes and reads.
pub const CONTRACT_VERSION: u32 = 1;
/// What every model of this project marks: hyperintense signal on FLAIR, as the data set's
/// annotators drew it.
pub const LABEL: &str = "FLAIR abnormality";
/// What every model says of its use.
pub const NOTICE: &str = "research use only; not a medical device";
/// Percentiles that map input of more than 8 bits to 0..=255, as the decoder applies them.
pub const NON_8_BIT_PERCENTILES: [f64; 2] = [0.0, 99.9];

/// Longest contract that is read; a real one has 2 to 4 KB.
const MAX_BYTES: usize = 256 * 1024;
const MAX_SIDE: u32 = 1024;
/// What every network on offer can take; one that halves its input more often is refused by its own sizes.
const SIDE_MULTIPLE: u32 = 16;
const MAX_VERSION_LENGTH: usize = 128;

/// What a model file says of itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Contract {
    /// Version of this format: [`CONTRACT_VERSION`].
    pub contract_version: u32,
    /// Name of exactly these weights, such as `fast-` and twelve digits of the graph's SHA-256:
    /// letters, digits, `.`, `_` and `-`, since it becomes part of object keys.
    pub model_version: String,
    /// Architecture, for people.
    pub network: String,
    /// What the mask marks: [`LABEL`].
    pub label: String,
    /// What the model needs to see at once.
    pub unit: Unit,
    /// The network's input.
    pub input: Input,
    /// From pixels to the network's input.
    pub preprocessing: Preprocessing,
    /// From the network's output to a mask.
    pub postprocessing: Postprocessing,
    /// Where the weights come from.
    pub provenance: Provenance,
    /// How well the model does, by split.
    pub scores: Vec<Score>,
    /// Licence of the weights, as an SPDX expression.
    pub licence: String,
    /// Limits of use, for people: [`NOTICE`].
    pub notice: String,
}

/// What a model needs to see at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Unit {
    /// One slice: preprocessing and post-processing look at nothing else.
    Slice,
    /// All slices of a study: intensities are normalised, and components found, over the volume.
    Volume,
}

/// An MRI sequence, by the name it has in a contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Sequence {
    /// T1-weighted before the contrast agent.
    #[serde(rename = "pre-contrast")]
    PreContrast,
    /// Fluid-attenuated inversion recovery.
    #[serde(rename = "FLAIR")]
    Flair,
    /// T1-weighted after the contrast agent.
    #[serde(rename = "post-contrast")]
    PostContrast,
}

/// The network's input: f32 `[1, 3, height, width]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// The sequences by channel: [`Input::CHANNELS`].
    pub channels: Vec<Sequence>,
    /// Columns: a multiple of 16, at most 1024.
    pub width: u32,
    /// Rows: a multiple of 16, at most 1024.
    pub height: u32,
    /// How an image of another size comes to this one.
    pub fit: Fit,
}

impl Input {
    /// The channels of every slice, in their order.
    pub const CHANNELS: [Sequence; 3] = [
        Sequence::PreContrast,
        Sequence::Flair,
        Sequence::PostContrast,
    ];

    /// The grid that the network works on.
    #[must_use]
    pub fn grid(&self) -> Grid {
        Grid {
            width: self.width as usize,
            height: self.height as usize,
        }
    }
}

/// From pixels to the network's input.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Preprocessing {
    /// Percentiles that become 0 and 255 where the input has more than 8 bits:
    /// [`NON_8_BIT_PERCENTILES`].
    pub non_8_bit_percentiles: [f64; 2],
    /// From 0..=255 to the network's values.
    pub normalization: Normalization,
}

/// From 0..=255 to the network's values, each channel by itself.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Normalization {
    /// `x / 255`.
    Unit,
    /// Clip to two percentiles, subtract the mean, divide by the standard deviation (Buda et al.
    /// 2019, doi:10.1016/j.compbiomed.2019.05.002), over the pixels of the model's [`Unit`].
    PercentileZScore {
        /// Lower percentile, 0..100.
        low: f64,
        /// Upper percentile, above `low` and at most 100.
        high: f64,
    },
}

/// From the network's output to a mask, in the order of the fields.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Postprocessing {
    /// Lowest probability that counts as tumour, in (0, 1).
    pub threshold: f32,
    /// Whether holes become tumour: what of a slice the mask encloses. Files without this field fill none.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub fill_holes: bool,
    /// Components stay only with a pixel of at least this probability, in (0, 1), as in hysteresis thresholding (Canny
    /// 1986, doi:10.1109/TPAMI.1986.4767851); files without this field ask for none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed_probability: Option<f32>,
    /// Components of fewer pixels (voxels, for volumes) are removed; 0 or 1 removes none. They are those of the input
    /// image, or, where it is larger than a grid with [`Fit::ShrinkPad`], of the shrunk one.
    pub minimum_component_pixels: u64,
    /// Whether only the largest component stays.
    pub keep_largest: bool,
}

/// Where the weights come from; everything that reproduces them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Provenance {
    /// Name of the data set.
    pub data: String,
    /// SHA-256 of the data, in lower-case hexadecimal digits.
    pub data_digest: String,
    /// Name of the split.
    pub split: String,
    /// SHA-256 of the split list, in lower-case hexadecimal digits.
    pub split_digest: String,
    /// Seed of the training run.
    pub seed: u64,
    /// Commit of the training code.
    pub commit: String,
}

/// The scores on one part of the data.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Score {
    /// Which patients: `validation`, `test` or another name.
    pub split: String,
    /// The figures with their protocol, n and intervals.
    pub summary: Summary,
}

impl Contract {
    /// Reads and validates a contract.
    ///
    /// # Errors
    /// [`ContractError`], which names the missing, unknown or out-of-range field.
    pub fn from_json(json: &str) -> Result<Self, ContractError> {
        /// The one field whose meaning no version may change.
        #[derive(Deserialize)]
        struct Version {
            contract_version: Option<u64>,
        }

        if json.len() > MAX_BYTES {
            return Err(ContractError::TooLong {
                bytes: json.len(),
                limit: MAX_BYTES,
            });
        }
        // The version is read first: a contract of another version is to be refused for that, not
        // for the fields it has gained.
        let version: Version = serde_json::from_str(json).map_err(|e| malformed(&e))?;
        match version.contract_version {
            None => return Err(ContractError::NoVersion),
            Some(found) if found != u64::from(CONTRACT_VERSION) => {
                return Err(ContractError::UnknownVersion {
                    found,
                    known: CONTRACT_VERSION,
                });
            }
            Some(_) => {}
        }
        let contract: Self = serde_json::from_str(json).map_err(|e| malformed(&e))?;
        contract.validate()?;
        Ok(contract)
    }

    /// Reads and validates the contract inside an ONNX file; the graph is not looked at.
    ///
    /// # Errors
    /// [`ModelError::NotOnnx`] or [`ModelError::TooLarge`] for the file, [`ModelError::Contract`]
    /// for its contract.
    pub fn of_onnx(bytes: &[u8]) -> Result<Self, ModelError> {
        Ok(onnx::contract(&onnx::decode(bytes)?)?)
    }

    /// The contract as one line of JSON, as it stands in the ONNX file.
    ///
    /// # Errors
    /// [`ContractError`] when the contract is not valid: none that would be refused is written.
    pub fn to_json(&self) -> Result<String, ContractError> {
        self.validate()?;
        serde_json::to_string(self).map_err(|e| malformed(&e))
    }

    /// Checks every range.
    ///
    /// # Errors
    /// [`ContractError::OutOfRange`] for the first field that breaks its range,
    /// [`ContractError::UnknownVersion`] for a version other than [`CONTRACT_VERSION`].
    pub fn validate(&self) -> Result<(), ContractError> {
        if self.contract_version != CONTRACT_VERSION {
            return Err(ContractError::UnknownVersion {
                found: u64::from(self.contract_version),
                known: CONTRACT_VERSION,
            });
        }
        let version = &self.model_version;
        require(
            is_key_part(version),
            "model_version",
            version,
            "1 to 128 letters, digits, `.`, `_` or `-`, starting with a letter or digit",
        )?;
        require(self.label == LABEL, "label", &self.label, LABEL)?;
        self.input.validate()?;
        self.preprocessing.validate()?;
        let threshold = self.postprocessing.threshold;
        require(
            threshold > 0.0 && threshold < 1.0,
            "postprocessing.threshold",
            &threshold,
            "a number above 0 and below 1",
        )?;
        if let Some(seed) = self.postprocessing.seed_probability {
            require(
                seed > 0.0 && seed < 1.0,
                "postprocessing.seed_probability",
                &seed,
                "a number above 0 and below 1",
            )?;
        }
        for (field, digest) in [
            ("provenance.data_digest", &self.provenance.data_digest),
            ("provenance.split_digest", &self.provenance.split_digest),
        ] {
            require(
                is_sha256(digest),
                field,
                digest,
                "64 lower-case hexadecimal digits",
            )?;
        }
        for (field, text) in [
            ("network", &self.network),
            ("licence", &self.licence),
            ("notice", &self.notice),
            ("provenance.data", &self.provenance.data),
            ("provenance.split", &self.provenance.split),
            ("provenance.commit", &self.provenance.commit),
        ] {
            require(!text.trim().is_empty(), field, &"empty", "text")?;
        }
        for score in &self.scores {
            require(
                !score.split.trim().is_empty(),
                "scores.split",
                &"empty",
                "text",
            )?;
        }
        Ok(())
    }
}

impl Input {
    fn validate(&self) -> Result<(), ContractError> {
        if self.channels != Self::CHANNELS {
            return Err(ContractError::OutOfRange {
                field: "input.channels",
                value: format!("{:?}", self.channels),
                expected: format!("{:?}", Self::CHANNELS),
            });
        }
        for (field, side) in [("input.width", self.width), ("input.height", self.height)] {
            require(
                (SIDE_MULTIPLE..=MAX_SIDE).contains(&side) && side.is_multiple_of(SIDE_MULTIPLE),
                field,
                &side,
                "a multiple of 16 from 16 to 1024",
            )?;
        }
        Ok(())
    }
}

impl Preprocessing {
    fn validate(&self) -> Result<(), ContractError> {
        if self.non_8_bit_percentiles != NON_8_BIT_PERCENTILES {
            return Err(ContractError::OutOfRange {
                field: "preprocessing.non_8_bit_percentiles",
                value: format!("{:?}", self.non_8_bit_percentiles),
                expected: format!("{NON_8_BIT_PERCENTILES:?}"),
            });
        }
        match self.normalization {
            Normalization::Unit => Ok(()),
            Normalization::PercentileZScore { low, high } => {
                if 0.0 <= low && low < high && high <= 100.0 {
                    return Ok(());
                }
                Err(ContractError::OutOfRange {
                    field: "preprocessing.normalization.percentile_z_score",
                    value: format!("{low}..{high}"),
                    expected: "0 <= low < high <= 100".to_owned(),
                })
            }
        }
    }
}

fn require(
    holds: bool,
    field: &'static str,
    value: &dyn std::fmt::Display,
    expected: &str,
) -> Result<(), ContractError> {
    if holds {
        return Ok(());
    }
    Err(ContractError::OutOfRange {
        field,
        value: format!("`{value}`"),
        expected: expected.to_owned(),
    })
}

fn malformed(error: &serde_json::Error) -> ContractError {
    ContractError::Malformed {
        reason: error.to_string(),
    }
}

fn is_key_part(text: &str) -> bool {
    text.len() <= MAX_VERSION_LENGTH
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}

fn is_sha256(text: &str) -> bool {
    text.len() == 64
        && text
            .bytes()
            .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use serde_json::{Value, json};

    fn contract() -> Contract {
        Contract {
            contract_version: CONTRACT_VERSION,
            model_version: "fast-0123456789ab".to_owned(),
            network: "residual U-Net".to_owned(),
            label: LABEL.to_owned(),
            unit: Unit::Slice,
            input: Input {
                channels: Input::CHANNELS.to_vec(),
                width: 256,
                height: 192,
                fit: Fit::ShrinkPad,
            },
            preprocessing: Preprocessing {
                non_8_bit_percentiles: NON_8_BIT_PERCENTILES,
                normalization: Normalization::PercentileZScore {
                    low: 10.0,
                    high: 99.0,
                },
            },
            postprocessing: Postprocessing {
                threshold: 0.5,
                fill_holes: false,
                seed_probability: None,
                minimum_component_pixels: 20,
                keep_largest: false,
            },
            provenance: Provenance {
                data: "LGG".to_owned(),
                data_digest: "a".repeat(64),
                split: "split.json".to_owned(),
                split_digest: "0".repeat(64),
                seed: u64::MAX,
                commit: "0".repeat(40),
            },
            scores: vec![Score {
                split: "validation".to_owned(),
                summary: Summary::of(&[]),
            }],
            licence: "CC-BY-NC-SA-4.0".to_owned(),
            notice: NOTICE.to_owned(),
        }
    }

    fn json() -> Value {
        serde_json::from_str(&contract().to_json().unwrap()).unwrap()
    }

    fn error_of(json: &Value) -> String {
        Contract::from_json(&json.to_string())
            .unwrap_err()
            .to_string()
    }

    #[test]
    fn a_contract_reads_as_it_was_written() {
        for normalization in [
            Normalization::Unit,
            Normalization::PercentileZScore {
                low: 0.0,
                high: 100.0,
            },
        ] {
            let mut written = contract();
            written.preprocessing.normalization = normalization;
            let read = Contract::from_json(&written.to_json().unwrap()).unwrap();
            assert_eq!(read, written);
        }
    }

    #[test]
    fn the_names_in_the_file_are_fixed() {
        let json = json();
        assert_eq!(json["unit"], "slice");
        assert_eq!(
            json["input"],
            json!({
                "channels": ["pre-contrast", "FLAIR", "post-contrast"],
                "width": 256, "height": 192, "fit": "shrink_pad",
            })
        );
        assert_eq!(
            json["preprocessing"],
            json!({
                "non_8_bit_percentiles": [0.0, 99.9],
                "normalization": {"percentile_z_score": {"low": 10.0, "high": 99.0}},
            })
        );
        assert_eq!(
            json["postprocessing"],
            json!({"threshold": 0.5, "minimum_component_pixels": 20, "keep_largest": false})
        );
    }

    #[test]
    fn what_older_files_lack_is_off_and_new_fields_are_read_back() {
        let old = Contract::from_json(&json().to_string()).unwrap();
        assert!(!old.postprocessing.fill_holes && old.postprocessing.seed_probability.is_none());
        let mut new = old.clone();
        new.postprocessing.fill_holes = true;
        new.postprocessing.seed_probability = Some(0.95);
        let json = new.to_json().unwrap();
        assert!(
            json.contains(r#""fill_holes":true,"seed_probability":0.95"#),
            "{json}"
        );
        assert_eq!(Contract::from_json(&json).unwrap(), new);
    }

    #[test]
    fn the_version_is_looked_at_before_anything_else() {
        let mut json = json();
        json["contract_version"] = json!(2);
        json["a field of version 2"] = json!(true);
        assert_eq!(
            Contract::from_json(&json.to_string()),
            Err(ContractError::UnknownVersion { found: 2, known: 1 })
        );
        json.as_object_mut().unwrap().remove("contract_version");
        assert_eq!(
            Contract::from_json(&json.to_string()),
            Err(ContractError::NoVersion)
        );
    }

    #[test]
    fn every_missing_field_is_named() {
        fn check(whole: &Value, path: &str) {
            let fields: Vec<String> = whole
                .pointer(path)
                .and_then(Value::as_object)
                .map(|object| object.keys().cloned().collect())
                .unwrap_or_default();
            for field in fields {
                let mut without = whole.clone();
                without
                    .pointer_mut(path)
                    .and_then(Value::as_object_mut)
                    .unwrap()
                    .remove(&field);
                let error = error_of(&without);
                assert!(error.contains(&format!("`{field}`")), "{field}: {error}");
            }
        }
        let json = json();
        for path in [
            "",
            "/input",
            "/preprocessing",
            "/preprocessing/normalization/percentile_z_score",
            "/postprocessing",
            "/provenance",
            "/scores/0",
        ] {
            check(&json, path);
        }
    }

    #[test]
    fn unknown_fields_are_named() {
        for path in [
            "",
            "/input",
            "/preprocessing",
            "/preprocessing/normalization/percentile_z_score",
            "/postprocessing",
            "/provenance",
            "/scores/0",
        ] {
            let mut json = json();
            json.pointer_mut(path).unwrap()["surplus"] = json!(1);
            assert!(error_of(&json).contains("`surplus`"), "{path}");
        }
    }

    #[test]
    fn values_outside_their_range_are_refused_by_name() {
        for (path, value, named) in [
            ("/model_version", json!("../fast"), "model_version"),
            ("/model_version", json!(""), "model_version"),
            ("/model_version", json!("x".repeat(129)), "model_version"),
            ("/label", json!("whole brain"), "label"),
            ("/unit", json!("patient"), "patient"),
            ("/input/channels/1", json!("T2"), "T2"),
            ("/input/channels/1", json!("pre-contrast"), "input.channels"),
            ("/input/width", json!(0), "input.width"),
            ("/input/width", json!(250), "input.width"),
            ("/input/height", json!(1040), "input.height"),
            ("/input/height", json!(-16), "-16"),
            ("/input/fit", json!("stretch"), "stretch"),
            (
                "/preprocessing/non_8_bit_percentiles",
                json!([1.0, 99.0]),
                "non_8_bit_percentiles",
            ),
            (
                "/preprocessing/normalization/percentile_z_score/high",
                json!(10.0),
                "percentile_z_score",
            ),
            (
                "/preprocessing/normalization/percentile_z_score/low",
                json!(-1.0),
                "percentile_z_score",
            ),
            ("/postprocessing/threshold", json!(0.0), "threshold"),
            ("/postprocessing/threshold", json!(1.0), "threshold"),
            ("/postprocessing/minimum_component_pixels", json!(-1), "-1"),
            (
                "/provenance/data_digest",
                json!("A".repeat(64)),
                "data_digest",
            ),
            ("/provenance/split_digest", json!("0"), "split_digest"),
            ("/provenance/commit", json!(" "), "provenance.commit"),
            ("/licence", json!(""), "licence"),
            ("/scores/0/split", json!(""), "scores.split"),
        ] {
            let mut json = json();
            *json.pointer_mut(path).unwrap() = value.clone();
            let error = error_of(&json);
            assert!(error.contains(named), "{path} = {value}: {error}");
        }
    }

    #[test]
    fn a_contract_out_of_range_is_not_written() {
        let mut contract = contract();
        contract.postprocessing.threshold = f32::NAN;
        assert!(matches!(
            contract.to_json(),
            Err(ContractError::OutOfRange {
                field: "postprocessing.threshold",
                ..
            })
        ));
    }

    #[test]
    fn text_that_is_no_contract_is_refused() {
        for text in [
            "",
            "null",
            "[]",
            "{",
            "\"contract_version\"",
            "{\"contract_version\":\"1\"}",
        ] {
            assert!(Contract::from_json(text).is_err(), "{text}");
        }
        let long = " ".repeat(MAX_BYTES + 1);
        assert!(matches!(
            Contract::from_json(&long),
            Err(ContractError::TooLong { .. })
        ));
    }
}
