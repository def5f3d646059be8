//! Replays the seeds of the fuzzers, so that what they once found stays found without a fuzzer at hand.

#![allow(clippy::unwrap_used)]

#[path = "../../fuzz/checks/contract.rs"]
mod contract;
#[path = "../../fuzz/checks/event.rs"]
mod event;
#[path = "../../fuzz/checks/imaging.rs"]
mod imaging;
#[path = "../../fuzz/checks/prepared.rs"]
mod prepared;

use glioseg_test_support::fuzz::replay;

#[test]
fn pictures() {
    replay("tiff", imaging::decode);
    replay("png", imaging::decode);
}

#[test]
fn contracts() {
    replay("contract", contract::read);
}

#[test]
fn prepared_slices() {
    replay("prepared", prepared::decode);
}

#[test]
fn events() {
    replay("event", event::read);
}
