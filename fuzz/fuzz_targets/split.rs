//! Split files that nobody vouches for.

#![no_main]

#[path = "../checks/split.rs"]
mod split;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| split::read(bytes));
