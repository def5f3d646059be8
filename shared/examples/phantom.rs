//! Writes phantom studies as the data set's own files, so that other programs can read them:
//!
//!     cargo run --release --example phantom -- FOLDER [SEED…]
//!
//! FOLDER gets one folder a seed, `phantom_<seed>`, with `phantom_<seed>_<n>.tif` and `…_<n>_mask.tif`, n from 1.

use std::error::Error;
use std::fs;
use std::path::PathBuf;

use glioseg_shared::imaging::{encode_mask_tiff, encode_slice_tiff, phantom};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let folder = PathBuf::from(arguments.next().ok_or("usage: phantom FOLDER [SEED…]")?);
    let mut seeds: Vec<u64> = arguments
        .map(|seed| seed.parse())
        .collect::<Result<_, _>>()?;
    if seeds.is_empty() {
        seeds.push(0);
    }
    for seed in seeds {
        let name = format!("phantom_{seed}");
        let folder = folder.join(&name);
        fs::create_dir_all(&folder)?;
        let study = phantom::study(seed);
        for (number, (slice, mask)) in (1..).zip(study.slices.iter().zip(&study.masks)) {
            let file = |end: &str| folder.join(format!("{name}_{number}{end}.tif"));
            fs::write(file(""), encode_slice_tiff(slice))?;
            fs::write(file("_mask"), encode_mask_tiff(mask))?;
        }
    }
    Ok(())
}
