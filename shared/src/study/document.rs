//! JSON documents as they are stored and answered.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// A JSON document with a bound on its size. Equal documents have equal bytes.
pub trait Document: Serialize + DeserializeOwned {
    /// What it is called in errors.
    const NAME: &'static str;

    /// Most bytes that are read of one.
    const MAX_BYTES: u64;

    /// Checks what types alone do not say.
    ///
    /// # Errors
    /// What is wrong, as text that names the field.
    fn check(&self) -> Result<(), String> {
        Ok(())
    }

    /// The document as one line of JSON.
    ///
    /// # Panics
    /// When a map of it has keys that are no text; none of the documents here has one.
    #[must_use]
    #[expect(
        clippy::expect_used,
        reason = "no document has a map whose keys are no text"
    )]
    fn to_json(&self) -> Vec<u8> {
        let mut json = serde_json::to_vec(self).expect("the keys of every map are text");
        json.push(b'\n');
        json
    }

    /// Reads and checks a document.
    ///
    /// # Errors
    /// [`DocumentError`] for one that is too long, malformed, of another schema, or has unknown fields.
    fn from_json(json: &[u8]) -> Result<Self, DocumentError> {
        if json.len() as u64 > Self::MAX_BYTES {
            return Err(DocumentError::TooLong {
                name: Self::NAME,
                bytes: json.len() as u64,
                allowed: Self::MAX_BYTES,
            });
        }
        // Derived readers take a list of the members' values for an object.
        if json.trim_ascii_start().first() != Some(&b'{') {
            return Err(DocumentError::Malformed {
                name: Self::NAME,
                reason: "it is no JSON object".to_owned(),
            });
        }
        let document: Self =
            serde_json::from_slice(json).map_err(|error| DocumentError::Malformed {
                name: Self::NAME,
                reason: error.to_string(),
            })?;
        match document.check() {
            Ok(()) => Ok(document),
            Err(reason) => Err(DocumentError::Malformed {
                name: Self::NAME,
                reason,
            }),
        }
    }
}

/// Why a document was refused. None of these can be cured by trying again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DocumentError {
    /// It has more bytes than are read of its kind.
    #[error("{name} of {bytes} bytes: at most {allowed} are read")]
    TooLong {
        /// What was read.
        name: &'static str,
        /// Its length.
        bytes: u64,
        /// The bound.
        allowed: u64,
    },
    /// It is no JSON, or not of the expected form.
    #[error("no {name}: {reason}")]
    Malformed {
        /// What was read.
        name: &'static str,
        /// What is wrong, and where.
        reason: String,
    },
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[derive(Debug, PartialEq, Serialize, serde::Deserialize)]
    struct Even {
        number: u8,
    }

    impl Document for Even {
        const NAME: &'static str = "even number";
        const MAX_BYTES: u64 = 16;

        fn check(&self) -> Result<(), String> {
            if self.number.is_multiple_of(2) {
                Ok(())
            } else {
                Err(format!("{} is odd", self.number))
            }
        }
    }

    #[test]
    fn size_form_and_meaning_are_checked_in_turn() {
        let even = Even { number: 4 };
        assert_eq!(Even::from_json(&even.to_json()).unwrap(), even);
        let refused = |json: &str| Even::from_json(json.as_bytes()).unwrap_err().to_string();
        assert_eq!(
            refused("12345678901234567"),
            "even number of 17 bytes: at most 16 are read"
        );
        for json in ["", "4", "[4]"] {
            assert_eq!(refused(json), "no even number: it is no JSON object");
        }
        assert!(refused("{\"number\":256}").starts_with("no even number: "));
        assert_eq!(refused("{\"number\":3}"), "no even number: 3 is odd");
    }
}
