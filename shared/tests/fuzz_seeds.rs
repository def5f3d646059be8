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

/// Runs a target's check on each of its seeds, and on what it found where it found something.
fn replay(target: &str, check: fn(&[u8])) {
    let fuzz = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz");
    let seeds = std::fs::read_dir(fuzz.join("seeds").join(target)).unwrap();
    let found = std::fs::read_dir(fuzz.join("found").join(target));
    for entry in seeds.chain(found.into_iter().flatten()) {
        let path = entry.unwrap().path();
        // Shown only when the test fails: the last line names the input.
        println!("{}", path.display());
        check(&std::fs::read(&path).unwrap());
    }
}

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
