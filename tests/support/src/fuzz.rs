//! The inputs of the fuzzers, for tests without a fuzzer.

use std::fs;

/// Runs a target's check on each of its seeds, and on what it found where it found something.
///
/// # Panics
/// When the check does, and when there are no seeds.
pub fn replay(target: &str, check: fn(&[u8])) {
    let fuzz = super::workspace().join("fuzz");
    let seeds = fs::read_dir(fuzz.join("seeds").join(target));
    let seeds = seeds.unwrap_or_else(|error| panic!("no seeds of {target}: {error}"));
    let found = fs::read_dir(fuzz.join("found").join(target));
    for entry in seeds.chain(found.into_iter().flatten()).flatten() {
        let path = entry.path();
        // Shown only when the test fails: the last line names the input.
        println!("{}", path.display());
        let bytes = fs::read(&path);
        check(&bytes.unwrap_or_else(|error| panic!("{}: {error}", path.display())));
    }
}
