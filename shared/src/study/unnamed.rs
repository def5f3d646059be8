//! What an image is called that came in a request and belongs to no study.

use crate::cloud::keys::{SliceName, StudyId};

/// Its study: `request`.
#[must_use]
#[expect(clippy::expect_used, reason = "a constant")]
pub fn study() -> StudyId {
    StudyId::parse("request").expect("a plain segment")
}

/// Its slice: `image`.
#[must_use]
#[expect(clippy::expect_used, reason = "a constant")]
pub fn slice() -> SliceName {
    SliceName::parse("image").expect("a plain segment")
}
