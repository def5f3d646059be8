//! Replays the seeds of the `archive` fuzzer, so that what it once found stays found without a fuzzer at hand.

#![allow(clippy::unwrap_used)]

#[path = "../../../fuzz/checks/archive.rs"]
mod archive;

#[test]
fn archives() {
    glioseg_test_support::fuzz::replay("archive", archive::read);
}

#[test]
fn those_seeds_are_refused_that_say_so() {
    let seeds = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz/seeds/archive");
    for entry in std::fs::read_dir(seeds).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        let contents = archive::contents(&std::fs::read(&path).unwrap());
        assert_eq!(contents.is_none(), name.starts_with("refused_"), "{name}");
    }
}
