//! Which object leads to which function, by which route each is asked, and what its environment names.
//!
//! The template, `infra/template.yaml`, deploys the same wiring; a test reads it and fails where the two differ.

use std::fmt;

/// A bucket of the stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Bucket {
    /// What users put.
    Uploads,
    /// What the functions make of it.
    Results,
    /// What is served.
    Models,
}

impl Bucket {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Uploads, Self::Results, Self::Models];

    /// Its name in the local stack.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Uploads => "uploads",
            Self::Results => "results",
            Self::Models => "models",
        }
    }

    /// Its logical name in the template.
    #[must_use]
    pub fn logical_name(self) -> &'static str {
        match self {
            Self::Uploads => "UploadsBucket",
            Self::Results => "ResultsBucket",
            Self::Models => "ModelsBucket",
        }
    }

    /// The environment variable that names it to a function.
    #[must_use]
    pub fn variable(self) -> &'static str {
        match self {
            Self::Uploads => "UPLOADS_BUCKET",
            Self::Results => "RESULTS_BUCKET",
            Self::Models => "MODELS_BUCKET",
        }
    }
}

/// A function of the stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Function {
    /// From uploads to prepared slices.
    Preprocess,
    /// From prepared slices to masks.
    Segment,
    /// From masks and truth to scores.
    Score,
}

impl Function {
    /// All of them, in the order in which a slice meets them.
    pub const ALL: [Self; 3] = [Self::Preprocess, Self::Segment, Self::Score];

    /// Its name, and its queue's.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Preprocess => "preprocess",
            Self::Segment => "segment",
            Self::Score => "score",
        }
    }

    /// What the logical names of the template's resources for it begin with.
    #[must_use]
    pub fn logical_prefix(self) -> &'static str {
        match self {
            Self::Preprocess => "Preprocess",
            Self::Segment => "Segment",
            Self::Score => "Score",
        }
    }

    /// The buckets that its environment names.
    #[must_use]
    pub fn buckets(self) -> &'static [Bucket] {
        match self {
            Self::Preprocess | Self::Score => &[Bucket::Uploads, Bucket::Results],
            Self::Segment => &[Bucket::Uploads, Bucket::Results, Bucket::Models],
        }
    }
}

impl fmt::Display for Function {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Objects that lead to a function, through its queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trigger {
    /// Where they are written.
    pub bucket: Bucket,
    /// What their keys start with.
    pub prefix: &'static str,
    /// What their keys end with.
    pub suffix: &'static str,
    /// Who deals with them.
    pub function: Function,
}

/// Every object that leads to a function.
pub const TRIGGERS: &[Trigger] = &[
    trigger(Bucket::Uploads, "", "", Function::Preprocess),
    trigger(Bucket::Results, "prepared/", "", Function::Segment),
    trigger(Bucket::Results, "masks/", "", Function::Score),
    trigger(Bucket::Results, "truth/", "", Function::Score),
    trigger(Bucket::Results, "rejected/", "", Function::Score),
    trigger(Bucket::Results, "studies/", "/study.json", Function::Score),
];

const fn trigger(
    bucket: Bucket,
    prefix: &'static str,
    suffix: &'static str,
    function: Function,
) -> Trigger {
    Trigger {
        bucket,
        prefix,
        suffix,
        function,
    }
}

/// The function that a written object leads to, if any.
#[must_use]
pub fn function_of(bucket: &str, key: &str) -> Option<Function> {
    TRIGGERS
        .iter()
        .find(|trigger| {
            trigger.bucket.name() == bucket
                && key.starts_with(trigger.prefix)
                && key.ends_with(trigger.suffix)
        })
        .map(|trigger| trigger.function)
}

/// A route of the HTTP API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// The method.
    pub method: &'static str,
    /// The path; a last segment `{name+}` stands for all that remains.
    pub path: &'static str,
    /// Who answers.
    pub function: Function,
}

/// Every route of the HTTP API.
pub const ROUTES: &[Route] = &[
    route("POST", "/uploads", Function::Preprocess),
    route("POST", "/segment", Function::Segment),
    route("GET", "/model", Function::Segment),
    route("POST", "/score", Function::Score),
    route("GET", "/studies/{study+}", Function::Score),
    route("DELETE", "/studies/{study+}", Function::Score),
    route("DELETE", "/patients/{patient+}", Function::Score),
    route("GET", "/health/preprocess", Function::Preprocess),
    route("GET", "/health/segment", Function::Segment),
    route("GET", "/health/score", Function::Score),
];

const fn route(method: &'static str, path: &'static str, function: Function) -> Route {
    Route {
        method,
        path,
        function,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_leads_to_one_function_at_most() {
        for (bucket, key, function) in [
            ("uploads", "a/1.tif", Some(Function::Preprocess)),
            ("uploads", "prepared/a/1.tif", Some(Function::Preprocess)),
            ("results", "prepared/a/1.png", Some(Function::Segment)),
            ("results", "masks/a/1.tif", Some(Function::Score)),
            ("results", "studies/a/study.json", Some(Function::Score)),
            ("results", "studies/a/completed.json", None),
            ("results", "scores/a/1.json", None),
            ("results", "labelled/a/1_mask.tif", None),
            ("results", "a/masks/1.tif", None),
            ("models", "models/fast/current.json", None),
        ] {
            assert_eq!(function_of(bucket, key), function, "{bucket}/{key}");
        }
    }
}
