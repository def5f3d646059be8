//! TIFF files that nobody vouches for.

#![no_main]

#[path = "../checks/imaging.rs"]
mod imaging;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if !bytes.starts_with(b"\x89PNG") {
        imaging::decode(bytes);
    }
});
