//! Where the studies of an evaluation come from.

use std::fmt;
use std::ops::Range;

use glioseg_shared::imaging::Limits;
use glioseg_shared::imaging::phantom;

use crate::data::{CachedPatient, DataError, Dataset, Split};

/// The phantoms that a model is evaluated on where no data are given.
pub const PHANTOM_SEEDS: Range<u64> = 0..20;

/// Which patients of a split.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Part {
    /// Those that models are trained on.
    Train,
    /// Those that choose among models.
    Validation,
    /// Those that are seen once, at the end.
    Test,
}

impl Part {
    /// The patients of this part.
    #[must_use]
    pub fn of(self, split: &Split) -> &[String] {
        match self {
            Self::Train => &split.train,
            Self::Validation => &split.validation,
            Self::Test => &split.test,
        }
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Train => "train",
            Self::Validation => "validation",
            Self::Test => "test",
        })
    }
}

/// The patients of a data set, in its order, each decoded when it is asked for.
pub fn decoded(
    dataset: &Dataset,
    limits: &Limits,
) -> impl Iterator<Item = Result<CachedPatient, DataError>> {
    let patients = dataset.patients().iter();
    patients.map(|patient| CachedPatient::decode(patient, limits))
}

/// The default phantom of each seed, drawn when it is asked for; it never fails.
pub fn phantoms(
    seeds: impl IntoIterator<Item = u64>,
) -> impl Iterator<Item = Result<CachedPatient, DataError>> {
    seeds.into_iter().map(|seed| {
        let phantom = phantom::study(seed);
        let id = format!("phantom-{seed}");
        Ok(CachedPatient {
            names: (1..=phantom.slices.len())
                .map(|number| format!("{id}_{number}"))
                .collect(),
            id,
            slices: phantom.slices,
            masks: phantom.masks,
        })
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use clap::ValueEnum;

    use super::*;

    #[test]
    fn parts_are_named_as_the_split_names_them() {
        let list = |name: &str| vec![name.to_owned()];
        let split = Split {
            data_set: String::new(),
            note: String::new(),
            train: list("train"),
            validation: list("validation"),
            test: list("test"),
            folds: Vec::new(),
        };
        for name in ["train", "validation", "test"] {
            let part = Part::from_str(name, false).unwrap();
            assert_eq!(part.of(&split), [name]);
            assert_eq!(part.to_string(), name);
            assert_eq!(serde_json::to_value(part).unwrap(), name);
        }
    }
}
