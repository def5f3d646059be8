//! Models: versions, channels, and where their files lie.

use std::fmt;

use super::layout;
use crate::cloud::ObjectKey;

/// Longest name of a version or a channel, in bytes.
const MAX_NAME_BYTES: usize = 128;

/// A name that cannot stand as one segment of a key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{name:?} is no name of a {what}: 1 to 128 of a-z, A-Z, 0-9, `.`, `_` and `-`, a letter or digit first"
)]
pub struct InvalidName {
    name: String,
    what: &'static str,
}

/// The name of a model's version: one segment of a key.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ModelVersion(String);

/// The name of a channel, the line of models that one kind of use is served from, such as `fast`: one segment of a key.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Channel(String);

impl ModelVersion {
    /// Checks a version's name: 1 to 128 of `a-z`, `A-Z`, `0-9`, `.`, `_`, `-`, the first a letter or digit.
    ///
    /// # Errors
    ///
    /// [`InvalidName`] for anything else.
    pub fn parse(name: &str) -> Result<Self, InvalidName> {
        check_name(name, "version").map(Self)
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Channel {
    /// Checks a channel's name, by the rules of [`ModelVersion::parse`].
    ///
    /// # Errors
    ///
    /// [`InvalidName`] for anything else.
    pub fn parse(name: &str) -> Result<Self, InvalidName> {
        check_name(name, "channel").map(Self)
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ModelVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::str::FromStr for Channel {
    type Err = InvalidName;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::parse(name)
    }
}

/// The model file of a version: `models/<version>/model.onnx`.
#[must_use]
pub fn model_onnx(version: &ModelVersion) -> ObjectKey {
    layout(format!("models/{version}/model.onnx"))
}

/// What the publisher said of a version: `models/<version>/model.json`.
#[must_use]
pub fn model_card(version: &ModelVersion) -> ObjectKey {
    layout(format!("models/{version}/model.json"))
}

/// The pointer to the version that a channel serves: `models/<channel>/current.json`.
#[must_use]
pub fn channel_pointer(channel: &Channel) -> ObjectKey {
    layout(format!("models/{channel}/current.json"))
}

fn check_name(name: &str, what: &'static str) -> Result<String, InvalidName> {
    let sound = name.len() <= MAX_NAME_BYTES
        && name
            .bytes()
            .next()
            .is_some_and(|b| b.is_ascii_alphanumeric())
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
    if sound {
        Ok(name.to_owned())
    } else {
        Err(InvalidName {
            name: name.to_owned(),
            what,
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn keys_are_where_the_layout_says() {
        let version = ModelVersion::parse("1.2.0-lean_3").unwrap();
        assert_eq!(
            model_onnx(&version).as_str(),
            "models/1.2.0-lean_3/model.onnx"
        );
        assert_eq!(
            model_card(&version).as_str(),
            "models/1.2.0-lean_3/model.json"
        );
        assert_eq!(
            channel_pointer(&Channel::parse("fast").unwrap()).as_str(),
            "models/fast/current.json"
        );
    }

    #[test]
    fn names_are_one_plain_segment() {
        for name in [
            "",
            ".",
            "..",
            ".a",
            "-a",
            "a/b",
            "a b",
            "a+b",
            "a%2Fb",
            "ü",
            "a\\b",
            &"v".repeat(129),
        ] {
            assert!(ModelVersion::parse(name).is_err(), "{name:?}");
            let error = Channel::parse(name).unwrap_err().to_string();
            assert!(
                error.contains(&format!("{name:?} is no name of a channel")),
                "{error}"
            );
        }
        assert!(Channel::parse(&"v".repeat(128)).is_ok());
    }
}
