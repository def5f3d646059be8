//! Replays the seeds of the `split` fuzzer, so that what it once found stays found without a fuzzer at hand.

#![allow(clippy::unwrap_used)]

#[path = "../../fuzz/checks/split.rs"]
mod split;

#[test]
fn splits() {
    glioseg_test_support::fuzz::replay("split", split::read);
}
