//! Studies to upload: a phantom always, and slices of the data set where it is there.

use std::path::Path;

use glioseg_shared::cloud::{Condition, Metadata, ObjectKey, Storage};
use glioseg_shared::imaging::phantom::{self, Phantom};
use glioseg_shared::imaging::{encode_mask_tiff, encode_slice_tiff};

/// Slices that each study has here: enough for a batch, few enough for two cores.
const SLICES: usize = 4;

/// The files of one study.
#[derive(Clone, Debug)]
pub(crate) struct Study {
    /// What it is called: the part of its keys before the file's name.
    pub(crate) name: String,
    /// Names of its slices, without extension.
    pub(crate) slices: Vec<String>,
    /// File names and contents, slices and truth.
    pub(crate) files: Vec<(String, Vec<u8>)>,
}

impl Study {
    /// Puts every file, the truth of each slice before it for every other slice.
    pub(crate) async fn upload(&self, uploads: &impl Storage) {
        for (file, bytes) in &self.files {
            put(uploads, &format!("{}/{file}", self.name), bytes).await;
        }
    }

    /// Writes every file below a folder, as `<folder>/<study>/<file>`.
    pub(crate) fn write(&self, folder: &Path) {
        let folder = folder.join(&self.name);
        std::fs::create_dir_all(&folder).unwrap();
        for (file, bytes) in &self.files {
            std::fs::write(folder.join(file), bytes).unwrap();
        }
    }

    fn new(name: String, pairs: Vec<(String, Vec<u8>, Vec<u8>)>) -> Self {
        let slices = pairs.iter().map(|(slice, ..)| slice.clone()).collect();
        let files = pairs
            .into_iter()
            .enumerate()
            .flat_map(|(number, (slice, image, mask))| {
                let mut pair = [
                    (format!("{slice}.tif"), image),
                    (format!("{slice}_mask.tif"), mask),
                ];
                if number % 2 == 1 {
                    pair.reverse();
                }
                pair
            });
        Self {
            name,
            slices,
            files: files.collect(),
        }
    }
}

/// Puts an object.
pub(crate) async fn put(storage: &impl Storage, key: &str, bytes: &[u8]) {
    let key = ObjectKey::parse(key).unwrap();
    storage
        .put(&key, bytes.to_vec(), Condition::Always, &Metadata::new())
        .await
        .unwrap();
}

/// The number of a phantom's first slice with tumour.
pub(crate) fn first_with_tumour(phantom: &Phantom) -> usize {
    let found = phantom.masks.iter().position(|mask| !mask.is_empty());
    found.unwrap()
}

/// Slices through the lesion of a phantom, under a name that events have to encode.
pub(crate) fn phantom() -> Study {
    let phantom = phantom::study(1);
    let lesion = first_with_tumour(&phantom);
    let pairs = (lesion - 1..).take(SLICES).map(|number| {
        (
            format!("slice {number}"),
            encode_slice_tiff(&phantom.slices[number]),
            encode_mask_tiff(&phantom.masks[number]),
        )
    });
    Study::new("phantöm+1 100%".to_owned(), pairs.collect())
}

/// Slices from the middle of a patient of the data set; `None`, with a printed line, where it is not there.
pub(crate) fn patient() -> Option<Study> {
    let lgg = glioseg_test_support::lgg()?;
    let folder = &lgg.patients()[0];
    let name = folder.file_name().unwrap().to_str().unwrap().to_owned();
    let pairs = (10..).take(SLICES).map(|number| {
        let slice = format!("{name}_{number}");
        let read = |end: &str| std::fs::read(folder.join(format!("{slice}{end}.tif"))).unwrap();
        (slice.clone(), read(""), read("_mask"))
    });
    Some(Study::new(name.clone(), pairs.collect()))
}
