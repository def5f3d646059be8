//! What can be wrong with a data set.

use std::io;
use std::path::PathBuf;

use glioseg_shared::imaging::ImagingError;

/// Why a data set or its cache was refused; every message begins with the file it is about.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataError {
    /// A file or folder could not be read.
    #[error("{}: cannot be read: {source}", path.display())]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file could not be written; nothing is left under its name.
    #[error("{}: cannot be written: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The path is not a folder.
    #[error("{}: not a folder; name the folder that holds one folder for each patient", path.display())]
    NotAFolder {
        /// The path.
        path: PathBuf,
    },
    /// The data folder holds no folder of a patient.
    #[error(
        "{}: no patients; expected one folder for each patient with slices X.tif and masks X_mask.tif",
        path.display()
    )]
    NoPatients {
        /// The data folder.
        path: PathBuf,
    },
    /// A patient's folder holds no image.
    #[error(
        "{}: no slices in this patient's folder; add X.tif with X_mask.tif, or remove the folder",
        path.display()
    )]
    NoSlices {
        /// The patient's folder.
        path: PathBuf,
    },
    /// An image lies beside the folders of the patients.
    #[error(
        "{}: an image outside any patient's folder; move it into a folder named after its patient",
        path.display()
    )]
    LooseImage {
        /// The image.
        path: PathBuf,
    },
    /// A slice has no mask.
    #[error(
        "{}: no mask; add {expected} beside it (all 0 when the slice has no tumour), or remove the slice",
        path.display()
    )]
    MissingMask {
        /// The slice.
        path: PathBuf,
        /// The file name that was looked for.
        expected: String,
    },
    /// A mask has no slice.
    #[error("{}: a mask without its slice; add {expected} beside it, or remove the mask", path.display())]
    MaskWithoutSlice {
        /// The mask.
        path: PathBuf,
        /// The file name that was looked for.
        expected: String,
    },
    /// Two files are the same slice, or the same mask, in two formats.
    #[error(
        "{}: {} is the same slice in another format; keep one of them",
        path.display(),
        other.display()
    )]
    SameSliceTwice {
        /// One of the files.
        path: PathBuf,
        /// The other.
        other: PathBuf,
    },
    /// A name that is not UTF-8, which no split list could spell.
    #[error("{}: the name is not valid UTF-8; rename it", path.display())]
    NameNotUtf8 {
        /// The file or folder.
        path: PathBuf,
    },
    /// A file is larger than any slice may be; it was not read.
    #[error("{}: {bytes} bytes, at most {allowed} are read", path.display())]
    FileTooLarge {
        /// The file.
        path: PathBuf,
        /// Its size.
        bytes: u64,
        /// The largest size that is read.
        allowed: u64,
    },
    /// An image or mask could not be decoded.
    #[error("{}: {source}", path.display())]
    Image {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: ImagingError,
    },
    /// A mask has another size than its slice.
    #[error(
        "{}: the mask of page {page} is {}x{}, its slice is {}x{}",
        path.display(), mask.0, mask.1, slice.0, slice.1
    )]
    MaskSize {
        /// The mask file.
        path: PathBuf,
        /// Page, from 0.
        page: usize,
        /// Width and height of the mask.
        mask: (usize, usize),
        /// Width and height of the slice.
        slice: (usize, usize),
    },
    /// A mask file has another number of pages than its image file.
    #[error("{}: {masks} pages of masks for {slices} pages of slices", path.display())]
    PageCount {
        /// The mask file.
        path: PathBuf,
        /// Pages of the mask file.
        masks: usize,
        /// Pages of the image file.
        slices: usize,
    },
    /// A patient was asked for that the data set does not hold.
    #[error("{}: no patient {patient}", path.display())]
    UnknownPatient {
        /// The data folder.
        path: PathBuf,
        /// The patient.
        patient: String,
    },
}

impl DataError {
    /// Whether a slice or a patient is not there as a whole, of which nothing that is there is wrong.
    #[must_use]
    pub(super) fn is_absence(&self) -> bool {
        matches!(
            self,
            Self::NoSlices { .. } | Self::MissingMask { .. } | Self::MaskWithoutSlice { .. }
        )
    }
}
