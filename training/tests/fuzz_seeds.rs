//! Replays the seeds of the `split` fuzzer, so that what it once found stays found without a fuzzer at hand.

#![allow(clippy::unwrap_used)]

#[path = "../../fuzz/checks/split.rs"]
mod split;

#[test]
fn splits() {
    let fuzz = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz");
    let seeds = std::fs::read_dir(fuzz.join("seeds/split")).unwrap();
    let found = std::fs::read_dir(fuzz.join("found/split"));
    for entry in seeds.chain(found.into_iter().flatten()) {
        let path = entry.unwrap().path();
        // Shown only when the test fails: the last line names the input.
        println!("{}", path.display());
        split::read(&std::fs::read(&path).unwrap());
    }
}
