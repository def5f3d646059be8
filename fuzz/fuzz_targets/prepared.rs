//! Prepared slices that nobody vouches for.

#![no_main]

#[path = "../checks/prepared.rs"]
mod prepared;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| prepared::decode(bytes));
