//! Model files and contracts that nobody vouches for.

#![no_main]

#[path = "../checks/contract.rs"]
mod contract;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| contract::read(bytes));
