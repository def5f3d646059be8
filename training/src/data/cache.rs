//! Every slice and mask of a data set, decoded once and kept in one file.
//!
//! # File
//! All integers are little-endian.
//!
//! | bytes | what |
//! |---|---|
//! | 8 | `GLIOSEGC` |
//! | 4 | version of the format |
//! | 32 | SHA-256 of what was decoded: names, sizes and times of change of the files, and the limits |
//! | 8 | length of the index |
//! | 32 | SHA-256 of the index |
//! | index | JSON: patients with the names and sizes of their slices, and the SHA-256 of their pixels |
//! | rest | by patient and slice: image (one byte a value), then mask (one bit a pixel, lowest bit first) |
//!
//! A file that does not match the data, or whose checksums do not match itself, is built anew.

use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::UNIX_EPOCH;

use glioseg_shared::digest::hex;
use glioseg_shared::imaging::{
    CHANNELS, Intensity, Limits, Mask, Slice, decode_masks, decode_slices,
};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::dataset::{self, Dataset, Patient, SliceFiles};
use super::error::DataError;
use super::split::PatientSummary;
use crate::files::{with_suffix, write_atomically};

const MAGIC: [u8; 8] = *b"GLIOSEGC";
const VERSION: u32 = 1;
const HEADER_BYTES: u64 = 8 + 4 + 32 + 8 + 32;

/// Called with the number of image files done and the number of all, from several threads, in no order.
pub type Progress<'a> = &'a (dyn Fn(usize, usize) + Sync);

/// The decoded slices and masks of one patient, of the size that the files have.
#[derive(Clone, Debug, PartialEq)]
pub struct CachedPatient {
    /// Name of the patient.
    pub id: String,
    /// Names of the slices, in natural order; the pages of a volume `X` are `X#1`, `X#2`, ….
    pub names: Vec<String>,
    /// One slice for each name.
    pub slices: Vec<Slice>,
    /// One mask for each slice, of the same size.
    pub masks: Vec<Mask>,
}

impl CachedPatient {
    /// Decodes the files of a patient on all cores, past any cache.
    ///
    /// # Errors
    /// [`DataError`] naming the file, as [`Cache::load_or_build`].
    pub fn decode(patient: &Patient, limits: &Limits) -> Result<Self, DataError> {
        decode_patient(patient, limits, &|| ())
    }

    /// Decodes what can be decoded of a patient's files, past any cache, and returns the others with what is wrong.
    #[must_use]
    pub fn decode_skipping(
        patient: &Patient,
        limits: &Limits,
    ) -> (Self, Vec<(SliceFiles, DataError)>) {
        let decoded: Vec<_> = patient
            .slices
            .par_iter()
            .map(|files| decode_pair(files, limits))
            .collect();
        let mut cached = Self::empty(&patient.id, decoded.len());
        let mut left_out = Vec::new();
        for (files, pages) in patient.slices.iter().zip(decoded) {
            match pages {
                Ok(pages) => cached.push(files, pages),
                Err(error) => left_out.push((files.clone(), error)),
            }
        }
        (cached, left_out)
    }

    fn empty(id: &str, room: usize) -> Self {
        Self {
            id: id.to_owned(),
            names: Vec::with_capacity(room),
            slices: Vec::with_capacity(room),
            masks: Vec::with_capacity(room),
        }
    }

    /// Adds the pages of an image and its mask.
    fn push(&mut self, files: &SliceFiles, (slices, masks): (Vec<Slice>, Vec<Mask>)) {
        if slices.len() == 1 {
            self.names.push(files.name.clone());
        } else {
            let pages = 1..=slices.len();
            self.names
                .extend(pages.map(|page| format!("{}#{page}", files.name)));
        }
        self.slices.extend(slices);
        self.masks.extend(masks);
    }

    /// Number of slices, and of slices with tumour.
    #[must_use]
    pub fn summary(&self) -> PatientSummary {
        PatientSummary {
            id: self.id.clone(),
            slices: self.masks.len(),
            tumour_slices: self.masks.iter().filter(|mask| !mask.is_empty()).count(),
        }
    }
}

/// Where the contents of a [`Cache`] came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The cache file matched the data.
    Reopened,
    /// The files were decoded: why no cache file was used.
    Decoded {
        /// Such as `no cache yet` or `the cache is damaged`.
        reason: &'static str,
    },
}

/// All patients of a data set, decoded and in memory (about 4 bytes a pixel).
#[derive(Clone, Debug)]
pub struct Cache {
    patients: Vec<CachedPatient>,
    path: PathBuf,
    origin: Origin,
}

impl Cache {
    /// Reopens the cache of a data set, or decodes all files on all cores and writes it.
    ///
    /// The cache file lies in `cache_dir` (made where missing), else in the data folder; data of another folder or of
    /// other patients have another file. Of two processes that ask for the same cache one builds it and the other waits.
    ///
    /// # Errors
    /// [`DataError`] naming the file: an image or mask that cannot be read or decoded, a mask of another size or number
    /// of pages than its image, or a cache file that cannot be written.
    pub fn load_or_build(
        dataset: &Dataset,
        cache_dir: Option<&Path>,
        limits: &Limits,
        progress: Progress<'_>,
    ) -> Result<Self, DataError> {
        let fingerprint = fingerprint(dataset, limits)?;
        let folder = cache_dir.unwrap_or(dataset.root());
        let path = folder.join(file_name(dataset));
        if let Ok(cache) = Self::load(&path, &fingerprint) {
            return Ok(cache);
        }
        let unwritable = |path: &Path| {
            let path = path.to_owned();
            move |source| DataError::Write { path, source }
        };
        fs::create_dir_all(folder).map_err(unwritable(folder))?;
        let lock_path = with_suffix(&path, ".lock");
        let lock = File::create(&lock_path)
            .and_then(|file| file.lock().map(|()| file))
            .map_err(unwritable(&lock_path))?;
        // Whoever held the lock before may just have written it.
        let reason = match Self::load(&path, &fingerprint) {
            Ok(cache) => return Ok(cache),
            Err(Unusable::Missing) => "no cache yet",
            Err(Unusable::Outdated) => "the data have changed since the cache was written",
            Err(Unusable::Damaged) => "the cache is damaged",
        };
        let patients = decode(dataset, limits, progress)?;
        write_atomically(&path, |file| write(file, &fingerprint, &patients))
            .map_err(unwritable(&path))?;
        drop(lock);
        Ok(Self {
            patients,
            path,
            origin: Origin::Decoded { reason },
        })
    }

    /// All patients, in natural order of their names.
    #[must_use]
    pub fn patients(&self) -> &[CachedPatient] {
        &self.patients
    }

    /// The patient of that name.
    #[must_use]
    pub fn patient(&self, id: &str) -> Option<&CachedPatient> {
        self.patients.iter().find(|patient| patient.id == id)
    }

    /// What [`Split::make`](super::Split::make) asks of every patient.
    #[must_use]
    pub fn summaries(&self) -> Vec<PatientSummary> {
        self.patients.iter().map(CachedPatient::summary).collect()
    }

    /// The cache file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the cache file was reopened or the data decoded.
    #[must_use]
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    fn load(path: &Path, fingerprint: &[u8; 32]) -> Result<Self, Unusable> {
        Ok(Self {
            patients: read(path, fingerprint)?,
            path: path.to_owned(),
            origin: Origin::Reopened,
        })
    }
}

/// Why a cache file is not used. Neither its contents nor the way it fails are trusted: it is simply built anew.
enum Unusable {
    Missing,
    Outdated,
    Damaged,
}

impl From<io::Error> for Unusable {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::NotFound => Self::Missing,
            _ => Self::Damaged,
        }
    }
}

#[derive(Serialize, Deserialize)]
struct PatientEntry {
    id: String,
    slices: Vec<SliceEntry>,
    sha256: [u8; 32],
}

#[derive(Serialize, Deserialize)]
struct SliceEntry {
    name: String,
    width: usize,
    height: usize,
    /// Bits of `low` and `high` of [`Intensity::Rescaled`], so that they come back exactly.
    rescaled: Option<([u32; CHANNELS], [u32; CHANNELS])>,
}

impl SliceEntry {
    fn of(name: &str, slice: &Slice) -> Self {
        Self {
            name: name.to_owned(),
            width: slice.width(),
            height: slice.height(),
            rescaled: match slice.intensity() {
                Intensity::EightBit => None,
                Intensity::Rescaled { low, high } => {
                    Some((low.map(f32::to_bits), high.map(f32::to_bits)))
                }
            },
        }
    }

    fn intensity(&self) -> Intensity {
        match self.rescaled {
            None => Intensity::EightBit,
            Some((low, high)) => Intensity::Rescaled {
                low: low.map(f32::from_bits),
                high: high.map(f32::from_bits),
            },
        }
    }

    fn image_bytes(&self) -> Option<usize> {
        self.width.checked_mul(self.height)?.checked_mul(CHANNELS)
    }

    fn mask_bytes(&self) -> Option<usize> {
        Some(self.width.checked_mul(self.height)?.div_ceil(8))
    }

    fn bytes(&self) -> Option<u64> {
        let bytes = self.image_bytes()?.checked_add(self.mask_bytes()?)?;
        u64::try_from(bytes).ok()
    }
}

impl PatientEntry {
    fn bytes(&self) -> Option<u64> {
        self.slices
            .iter()
            .try_fold(0u64, |sum, slice| sum.checked_add(slice.bytes()?))
    }
}

/// SHA-256 of all that decides what decoding gives, without reading the files.
fn fingerprint(dataset: &Dataset, limits: &Limits) -> Result<[u8; 32], DataError> {
    let mut hasher = Sha256::new();
    hasher.update(format!("{limits:?}\n"));
    for path in dataset.paths() {
        let unreadable = |source| DataError::Read {
            path: path.to_owned(),
            source,
        };
        let metadata = fs::metadata(path).map_err(unreadable)?;
        let modified = metadata.modified().map_err(unreadable)?;
        // Times before 1970 are told apart as well.
        let time = match modified.duration_since(UNIX_EPOCH) {
            Ok(after) => format!("+{}", after.as_nanos()),
            Err(before) => format!("-{}", before.duration().as_nanos()),
        };
        let name = dataset.relative(path);
        hasher.update(format!("{}:{name} {} {time}\n", name.len(), metadata.len()));
    }
    Ok(hasher.finalize().into())
}

/// A name of its own for each data folder and choice of patients.
fn file_name(dataset: &Dataset) -> String {
    let root = fs::canonicalize(dataset.root()).unwrap_or_else(|_| dataset.root().to_owned());
    let mut hasher = Sha256::new();
    hasher.update(root.as_os_str().as_encoded_bytes());
    for patient in dataset.patients() {
        hasher.update([0]);
        hasher.update(&patient.id);
    }
    format!("glioseg-{}.cache", hex(&hasher.finalize()[..8]))
}

fn decode(
    dataset: &Dataset,
    limits: &Limits,
    progress: Progress<'_>,
) -> Result<Vec<CachedPatient>, DataError> {
    let total = dataset.files();
    let done = AtomicUsize::new(0);
    let one_more = || progress(done.fetch_add(1, Ordering::Relaxed) + 1, total);
    dataset
        .patients()
        .par_iter()
        .map(|patient| decode_patient(patient, limits, &one_more))
        .collect()
}

/// Decodes the files of a patient; `done` is called after each, from several threads.
fn decode_patient(
    patient: &Patient,
    limits: &Limits,
    done: &(dyn Fn() + Sync),
) -> Result<CachedPatient, DataError> {
    let decoded = patient
        .slices
        .par_iter()
        .map(|files| {
            let pages = decode_pair(files, limits)?;
            done();
            Ok(pages)
        })
        .collect::<Result<Vec<_>, DataError>>()?;
    let mut cached = CachedPatient::empty(&patient.id, decoded.len());
    for (files, pages) in patient.slices.iter().zip(decoded) {
        cached.push(files, pages);
    }
    Ok(cached)
}

fn decode_pair(files: &SliceFiles, limits: &Limits) -> Result<(Vec<Slice>, Vec<Mask>), DataError> {
    let refused = |path: &Path| {
        let path = path.to_owned();
        move |source| DataError::Image { path, source }
    };
    let slices =
        decode_slices(&dataset::read(&files.image)?, limits).map_err(refused(&files.image))?;
    let masks = decode_masks(&dataset::read(&files.mask)?, limits).map_err(refused(&files.mask))?;
    if slices.len() != masks.len() {
        return Err(DataError::PageCount {
            path: files.mask.clone(),
            masks: masks.len(),
            slices: slices.len(),
        });
    }
    for (page, (slice, mask)) in slices.iter().zip(&masks).enumerate() {
        let slice = (slice.width(), slice.height());
        let mask = (mask.width(), mask.height());
        if slice != mask {
            return Err(DataError::MaskSize {
                path: files.mask.clone(),
                page,
                mask,
                slice,
            });
        }
    }
    Ok((slices, masks))
}

fn write(
    file: &mut BufWriter<File>,
    fingerprint: &[u8; 32],
    patients: &[CachedPatient],
) -> io::Result<()> {
    let entries: Vec<PatientEntry> = patients
        .par_iter()
        .map(|patient| {
            let mut hasher = Sha256::new();
            for (slice, mask) in patient.slices.iter().zip(&patient.masks) {
                hasher.update(slice.pixels());
                hasher.update(pack(mask));
            }
            PatientEntry {
                id: patient.id.clone(),
                slices: patient
                    .names
                    .iter()
                    .zip(&patient.slices)
                    .map(|(name, slice)| SliceEntry::of(name, slice))
                    .collect(),
                sha256: hasher.finalize().into(),
            }
        })
        .collect();
    let index = serde_json::to_vec(&entries)?;
    file.write_all(&MAGIC)?;
    file.write_all(&VERSION.to_le_bytes())?;
    file.write_all(fingerprint)?;
    file.write_all(&(index.len() as u64).to_le_bytes())?;
    file.write_all(&Sha256::digest(&index))?;
    file.write_all(&index)?;
    for patient in patients {
        for (slice, mask) in patient.slices.iter().zip(&patient.masks) {
            file.write_all(slice.pixels())?;
            file.write_all(&pack(mask))?;
        }
    }
    Ok(())
}

fn read(path: &Path, fingerprint: &[u8; 32]) -> Result<Vec<CachedPatient>, Unusable> {
    let mut file = BufReader::new(File::open(path)?);
    let file_bytes = file.get_ref().metadata()?.len();
    let magic: [u8; 8] = take(&mut file)?;
    let version = u32::from_le_bytes(take(&mut file)?);
    if magic != MAGIC || version != VERSION {
        return Err(Unusable::Damaged);
    }
    if take::<32>(&mut file)? != *fingerprint {
        return Err(Unusable::Outdated);
    }
    let index_bytes = u64::from_le_bytes(take(&mut file)?);
    let index_sha256: [u8; 32] = take(&mut file)?;
    let room = file_bytes
        .checked_sub(HEADER_BYTES)
        .ok_or(Unusable::Damaged)?;
    let length = usize::try_from(index_bytes).map_err(|_| Unusable::Damaged)?;
    if index_bytes > room {
        return Err(Unusable::Damaged);
    }
    let mut index = vec![0; length];
    file.read_exact(&mut index)?;
    if Sha256::digest(&index)[..] != index_sha256 {
        return Err(Unusable::Damaged);
    }
    let entries: Vec<PatientEntry> =
        serde_json::from_slice(&index).map_err(|_| Unusable::Damaged)?;

    let mut offset = HEADER_BYTES + index_bytes;
    let mut placed = Vec::with_capacity(entries.len());
    for entry in entries {
        let bytes = entry.bytes().ok_or(Unusable::Damaged)?;
        let next = offset.checked_add(bytes).ok_or(Unusable::Damaged)?;
        placed.push((offset, entry));
        offset = next;
    }
    // Only now is every size known to fit the file, and memory may be asked for.
    if offset != file_bytes {
        return Err(Unusable::Damaged);
    }
    placed
        .into_par_iter()
        .map(|(offset, entry)| {
            let mut file = File::open(path)?;
            file.seek(SeekFrom::Start(offset))?;
            read_patient(&mut BufReader::with_capacity(1 << 20, file), entry)
        })
        .collect()
}

fn read_patient(file: &mut impl Read, entry: PatientEntry) -> Result<CachedPatient, Unusable> {
    let count = entry.slices.len();
    let mut patient = CachedPatient {
        id: entry.id,
        names: Vec::with_capacity(count),
        slices: Vec::with_capacity(count),
        masks: Vec::with_capacity(count),
    };
    let mut hasher = Sha256::new();
    for slice in entry.slices {
        let damaged = || Unusable::Damaged;
        let mut pixels = vec![0; slice.image_bytes().ok_or_else(damaged)?];
        file.read_exact(&mut pixels)?;
        hasher.update(&pixels);
        let mut bits = vec![0; slice.mask_bytes().ok_or_else(damaged)?];
        file.read_exact(&mut bits)?;
        hasher.update(&bits);
        let (width, height) = (slice.width, slice.height);
        patient.slices.push(
            Slice::new(width, height, pixels, slice.intensity()).map_err(|_| Unusable::Damaged)?,
        );
        patient
            .masks
            .push(unpack(width, height, &bits).ok_or_else(damaged)?);
        patient.names.push(slice.name);
    }
    if hasher.finalize()[..] == entry.sha256 {
        Ok(patient)
    } else {
        Err(Unusable::Damaged)
    }
}

fn take<const N: usize>(file: &mut impl Read) -> Result<[u8; N], Unusable> {
    let mut bytes = [0; N];
    file.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// One bit a pixel, the first pixel in the lowest bit.
fn pack(mask: &Mask) -> Vec<u8> {
    mask.pixels()
        .chunks(8)
        .map(|pixels| {
            pixels
                .iter()
                .enumerate()
                .fold(0, |byte, (bit, &set)| byte | (u8::from(set) << bit))
        })
        .collect()
}

fn unpack(width: usize, height: usize, bits: &[u8]) -> Option<Mask> {
    let mut pixels = Vec::with_capacity(bits.len() * 8);
    for &byte in bits {
        pixels.extend((0..8).map(|bit| byte >> bit & 1 == 1));
    }
    pixels.truncate(width.checked_mul(height)?);
    Mask::new(width, height, pixels).ok()
}
