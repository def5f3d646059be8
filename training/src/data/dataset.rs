//! Which files of a folder are the slices and masks of which patient.
//!
//! The layout is that of the LGG segmentation data set: one folder for each patient, in it `X.tif` beside
//! `X_mask.tif` for every slice `X` (`.tiff` and `.png` are taken too). A file of several pages is a volume, its pages
//! are slices. Hidden entries and files with other endings, such as `data.csv`, are ignored.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use glioseg_shared::digest::hex;
use glioseg_shared::imaging::natural_order;
use rayon::prelude::*;
use sha2::{Digest, Sha256};

use super::error::DataError;
use crate::files::{ReadError, read_bounded};

/// The largest image or mask file that is read: 1 GiB.
pub const MAX_FILE_BYTES: u64 = 1 << 30;

/// The file beside the patients that says that the functions collect their slices.
pub const MANIFEST_FILE: &str = "manifest.json";

/// The folder that the published archive of the LGG data set holds its patients in.
const ARCHIVE_FOLDER: &str = "kaggle_3m";

const ENDINGS: [&str; 3] = ["tif", "tiff", "png"];
const MASK_SUFFIX: &str = "_mask";

/// The image of a slice (or a volume of several pages) and its mask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SliceFiles {
    /// File name of the image without its ending.
    pub name: String,
    /// The image file.
    pub image: PathBuf,
    /// The mask file.
    pub mask: PathBuf,
}

/// A patient and the slices in natural order (`_2` before `_10`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Patient {
    /// Name of the patient's folder.
    pub id: String,
    /// At least one slice.
    pub slices: Vec<SliceFiles>,
}

/// The patients of a folder, in natural order of their names. Files are listed, not yet decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dataset {
    root: PathBuf,
    patients: Vec<Patient>,
}

impl Dataset {
    /// Lists the patients below `root`, or below `root/kaggle_3m` where that exists.
    ///
    /// # Errors
    /// [`DataError`] naming the file, when a folder cannot be read, holds no patients or a patient without slices, when
    /// a slice and its mask are not both there exactly once, or when a file is larger than [`MAX_FILE_BYTES`].
    pub fn open(root: &Path) -> Result<Self, DataError> {
        Self::list(root, &mut Err)
    }

    /// Lists the patients as [`Dataset::open`] does, but leaves out what is amiss with a single slice or patient:
    /// images and masks that have no partner, files that are too large, patients without a slice. Returns what was
    /// left out, and why.
    ///
    /// # Errors
    /// [`DataError`], when a folder cannot be read or nothing is left.
    pub fn open_skipping(root: &Path) -> Result<(Self, Vec<DataError>), DataError> {
        let mut left_out = Vec::new();
        let dataset = Self::list(root, &mut |fault| {
            left_out.push(fault);
            Ok(())
        })?;
        Ok((dataset, left_out))
    }

    /// Lists the patients as [`Dataset::open`] does, but leaves out what is not there yet or no more: images and masks
    /// that have no partner, patients without a file. Returns what was left out, and why.
    ///
    /// It is for the folder that the functions collect slices in. They write and delete the files of a slice one after
    /// the other, so that whoever reads the folder meanwhile finds half of it; that is no fault.
    ///
    /// # Errors
    /// As [`Dataset::open`] for everything else.
    pub fn open_collected(root: &Path) -> Result<(Self, Vec<DataError>), DataError> {
        let mut left_out = Vec::new();
        let dataset = Self::list(root, &mut |fault| {
            if fault.is_absence() {
                left_out.push(fault);
                Ok(())
            } else {
                Err(fault)
            }
        })?;
        Ok((dataset, left_out))
    }

    fn list(root: &Path, fault: OnFault<'_>) -> Result<Self, DataError> {
        let archive = root.join(ARCHIVE_FOLDER);
        let root = if archive.is_dir() {
            archive
        } else {
            root.to_owned()
        };
        let metadata = fs::metadata(&root).map_err(|source| DataError::Read {
            path: root.clone(),
            source,
        })?;
        if !metadata.is_dir() {
            return Err(DataError::NotAFolder { path: root });
        }
        let mut patients = Vec::new();
        let mut loose = Vec::new();
        for entry in list(&root)? {
            if entry.is_folder {
                let slices = slices(&entry.path, fault)?;
                if !slices.is_empty() {
                    patients.push(Patient {
                        slices,
                        id: entry.name,
                    });
                }
            } else if image_stem(&entry.name).is_some() {
                loose.push(entry.path);
            }
        }
        for path in loose {
            fault(DataError::LooseImage { path })?;
        }
        if patients.is_empty() {
            return Err(DataError::NoPatients { path: root });
        }
        Ok(Self { root, patients })
    }

    /// The folder that holds the patients' folders.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// All patients, in natural order of their names.
    #[must_use]
    pub fn patients(&self) -> &[Patient] {
        &self.patients
    }

    /// The patient of that name.
    #[must_use]
    pub fn patient(&self, id: &str) -> Option<&Patient> {
        self.patients.iter().find(|patient| patient.id == id)
    }

    /// Number of image files of all patients.
    #[must_use]
    pub fn files(&self) -> usize {
        self.patients
            .iter()
            .map(|patient| patient.slices.len())
            .sum()
    }

    /// The data set of these patients alone, in the order of this one.
    ///
    /// # Errors
    /// [`DataError::UnknownPatient`] for the first patient that is not here.
    pub fn select(&self, ids: &[String]) -> Result<Self, DataError> {
        if let Some(unknown) = ids.iter().find(|id| self.patient(id).is_none()) {
            return Err(DataError::UnknownPatient {
                path: self.root.clone(),
                patient: unknown.clone(),
            });
        }
        Ok(Self {
            root: self.root.clone(),
            patients: self
                .patients
                .iter()
                .filter(|patient| ids.contains(&patient.id))
                .cloned()
                .collect(),
        })
    }

    /// The data set without these slices, and without the patients that have no other.
    #[must_use]
    pub fn without(&self, slices: &[SliceFiles]) -> Self {
        let mut left = self.clone();
        for patient in &mut left.patients {
            patient.slices.retain(|slice| !slices.contains(slice));
        }
        left.patients.retain(|patient| !patient.slices.is_empty());
        left
    }

    /// SHA-256 of the contents and names of all files, as 64 hexadecimal digits.
    ///
    /// The hash of one line `<sha256 of the file>  <patient>/<file name>` for each image and mask, sorted by name
    /// as bytes: what `sha256sum` prints for the files, hashed again.
    ///
    /// # Errors
    /// [`DataError`] naming the file that could not be read.
    pub fn digest(&self) -> Result<String, DataError> {
        let mut lines = self
            .paths()
            .collect::<Vec<_>>()
            .into_par_iter()
            .map(|path| {
                let digest = Sha256::digest(read(path)?);
                Ok((self.relative(path), hex(&digest)))
            })
            .collect::<Result<Vec<_>, DataError>>()?;
        lines.sort_unstable();
        let mut hasher = Sha256::new();
        for (name, digest) in lines {
            hasher.update(format!("{digest}  {name}\n"));
        }
        Ok(hex(&hasher.finalize()))
    }

    /// Every image and mask file.
    pub(super) fn paths(&self) -> impl Iterator<Item = &Path> {
        self.patients
            .iter()
            .flat_map(|patient| &patient.slices)
            .flat_map(|slice| [slice.image.as_path(), slice.mask.as_path()])
    }

    /// `<patient>/<file name>`, with that separator on every system.
    pub(super) fn relative(&self, path: &Path) -> String {
        let parts: Vec<_> = path
            .strip_prefix(&self.root)
            .unwrap_or(path)
            .iter()
            .map(|part| part.to_string_lossy())
            .collect();
        parts.join("/")
    }
}

/// The bytes of an image or mask file, at most [`MAX_FILE_BYTES`].
pub(super) fn read(path: &Path) -> Result<Vec<u8>, DataError> {
    let path = path.to_owned();
    read_bounded(&path, MAX_FILE_BYTES).map_err(|error| match error {
        ReadError::Io(source) => DataError::Read { path, source },
        ReadError::TooLarge(bytes) => DataError::FileTooLarge {
            path,
            bytes,
            allowed: MAX_FILE_BYTES,
        },
    })
}

struct Entry {
    name: String,
    path: PathBuf,
    is_folder: bool,
    bytes: u64,
}

/// The folders, and the files whose ending says image, that a folder holds, in natural order.
fn list(folder: &Path) -> Result<Vec<Entry>, DataError> {
    let unreadable = |path: &Path| {
        let path = path.to_owned();
        move |source| DataError::Read { path, source }
    };
    let mut entries = Vec::new();
    for entry in fs::read_dir(folder).map_err(unreadable(folder))? {
        let path = entry.map_err(unreadable(folder))?.path();
        let Some(file_name) = path.file_name() else {
            continue;
        };
        if file_name.as_encoded_bytes().starts_with(b".") {
            continue;
        }
        // Links are followed: a data set is often linked together from elsewhere.
        let metadata = fs::metadata(&path).map_err(unreadable(&path))?;
        match file_name.to_str() {
            Some(name) => entries.push(Entry {
                name: name.to_owned(),
                is_folder: metadata.is_dir(),
                bytes: metadata.len(),
                path,
            }),
            None => return Err(DataError::NameNotUtf8 { path }),
        }
    }
    entries.sort_by(|a, b| natural_order(&a.name, &b.name).then_with(|| a.name.cmp(&b.name)));
    Ok(entries)
}

/// Hears of each fault of a single slice or patient: an error ends the listing, otherwise the fault is left out.
type OnFault<'a> = &'a mut dyn FnMut(DataError) -> Result<(), DataError>;

/// The slices of a patient's folder, each with its mask.
fn slices(folder: &Path, fault: OnFault<'_>) -> Result<Vec<SliceFiles>, DataError> {
    let mut images = Vec::new();
    let mut masks = BTreeMap::new();
    for entry in list(folder)?.into_iter().filter(|entry| !entry.is_folder) {
        let Some(stem) = image_stem(&entry.name) else {
            continue;
        };
        if entry.bytes > MAX_FILE_BYTES {
            fault(DataError::FileTooLarge {
                path: entry.path,
                bytes: entry.bytes,
                allowed: MAX_FILE_BYTES,
            })?;
            continue;
        }
        if let Some(slice) = stem.strip_suffix(MASK_SUFFIX) {
            if let Some(other) = masks.insert(slice.to_owned(), entry.path.clone()) {
                fault(DataError::SameSliceTwice {
                    path: entry.path,
                    other,
                })?;
            }
        } else {
            images.push((stem.to_owned(), entry.path));
        }
    }
    if images.is_empty() && masks.is_empty() {
        fault(DataError::NoSlices {
            path: folder.to_owned(),
        })?;
    }
    let mut slices: Vec<SliceFiles> = Vec::with_capacity(images.len());
    for (name, image) in images {
        if let Some(other) = slices.iter().find(|slice| slice.name == name) {
            fault(DataError::SameSliceTwice {
                path: image,
                other: other.image.clone(),
            })?;
            continue;
        }
        let Some(mask) = masks.remove(&name) else {
            fault(DataError::MissingMask {
                expected: beside(&image, &format!("{name}{MASK_SUFFIX}")),
                path: image,
            })?;
            continue;
        };
        slices.push(SliceFiles { name, image, mask });
    }
    for (name, path) in masks {
        fault(DataError::MaskWithoutSlice {
            expected: beside(&path, &name),
            path,
        })?;
    }
    slices.sort_by(|a, b| natural_order(&a.name, &b.name).then_with(|| a.name.cmp(&b.name)));
    Ok(slices)
}

/// The file name without its ending, where the ending is that of an image.
fn image_stem(name: &str) -> Option<&str> {
    let (stem, ending) = name.rsplit_once('.')?;
    ENDINGS
        .iter()
        .any(|known| ending.eq_ignore_ascii_case(known))
        .then_some(stem)
}

/// The file name `stem` with the ending of `path`.
fn beside(path: &Path, stem: &str) -> String {
    match path.extension() {
        Some(ending) => format!("{stem}.{}", ending.to_string_lossy()),
        None => stem.to_owned(),
    }
}
