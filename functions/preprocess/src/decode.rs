//! From the bytes of an upload to prepared slices and truth masks: pure, so that every caller gets the same.

use std::collections::HashSet;

use glioseg_shared::cloud::keys::{SliceName, Upload, UploadKind};
use glioseg_shared::imaging::{Limits, Mask, Slice, SliceReader, decode_masks};
use glioseg_shared::study::{
    Document, Prepared, ServingLimits, Source, Spacing, StudyManifest, VolumePlace, plausible,
};

use crate::package::Package;
use crate::refusal::Refusal;

/// What is known of an upload besides its name and its bytes.
#[derive(Clone, Copy, Debug)]
pub struct Given<'a> {
    /// SHA-256 of the bytes, in lower-case hexadecimal digits.
    pub sha256: &'a str,
    /// What is known of the study. Goes before a `study.json` inside a zip.
    pub manifest: Option<&'a StudyManifest>,
    /// How large a pixel is, said of this very upload. Goes before what the study's manifest says.
    pub spacing_mm: Option<Spacing>,
}

/// What an upload holds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Contents {
    /// The slices; more than one are a volume, in its order.
    pub slices: Vec<Prepared>,
    /// The truths, by the slices that they belong to.
    pub truths: Vec<(SliceName, Mask)>,
    /// What was said of the whole study.
    pub manifest: Option<StudyManifest>,
}

/// Reads an upload: an image of one or several pages, a truth, a `study.json`, or a zip of all these.
///
/// All slices of one upload are one volume and have one size; those of a zip stand in the natural order of their names.
/// A zip is read as a whole or not at all: a volume with a hole is none.
///
/// # Errors
/// [`Refusal`] for what cannot be read, too large uploads among it before memory is spent on their pixels.
pub fn upload(
    upload: &Upload,
    bytes: &[u8],
    given: &Given<'_>,
    limits: &ServingLimits,
) -> Result<Contents, Refusal> {
    match &upload.kind {
        UploadKind::Slice { .. } | UploadKind::Truth { .. } => {
            let mut assembly = Assembly::new(upload, *given, limits.imaging());
            assembly.add(upload, bytes)?;
            assembly.finish()
        }
        UploadKind::Study => Ok(Contents {
            manifest: Some(StudyManifest::from_json(bytes)?),
            ..Contents::default()
        }),
        UploadKind::Zip => zip(upload, bytes, given, limits),
        UploadKind::Unknown => Err(Refusal::of_name(&upload.file)),
    }
}

fn zip(
    upload: &Upload,
    bytes: &[u8],
    given: &Given<'_>,
    limits: &ServingLimits,
) -> Result<Contents, Refusal> {
    let package = Package::open(upload, bytes, limits)?;
    let manifest = package.manifest()?;
    let given = Given {
        manifest: given.manifest.or(manifest.as_ref()),
        ..*given
    };
    let mut assembly = Assembly::new(upload, given, limits.imaging());
    package.images(|file, bytes| {
        // Pages would get around the bound on entries, so they count as such.
        let pages_left = limits.max_zip_entries.saturating_sub(assembly.images());
        assembly.limits.max_pages = limits.max_pages.min(pages_left);
        assembly.add(file, bytes)
    })?;
    let contents = assembly.finish()?;
    Ok(Contents {
        manifest,
        ..contents
    })
}

/// What an upload says of its whole study; `None` where it says nothing. Pixels are not looked at.
///
/// # Errors
/// [`Refusal`] for a `study.json` that cannot be read, or a zip that one cannot be read from.
pub(crate) fn manifest(
    upload: &Upload,
    bytes: &[u8],
    limits: &ServingLimits,
) -> Result<Option<StudyManifest>, Refusal> {
    match upload.kind {
        UploadKind::Study => Ok(Some(StudyManifest::from_json(bytes)?)),
        UploadKind::Zip => Package::open(upload, bytes, limits)?.manifest(),
        _ => Ok(None),
    }
}

/// The first file of slices in a zip, by the name of the slice; `None` where there is none, or no zip can be read.
pub(crate) fn first_slice(
    upload: &Upload,
    bytes: &[u8],
    limits: &ServingLimits,
) -> Option<SliceName> {
    let package = Package::open(upload, bytes, limits).ok()?;
    package.first_slice().cloned()
}

/// Contents under way.
struct Assembly<'a> {
    upload: &'a Upload,
    given: Given<'a>,
    /// What is left of the limits.
    limits: Limits,
    contents: Contents,
}

impl<'a> Assembly<'a> {
    fn new(upload: &'a Upload, given: Given<'a>, limits: Limits) -> Self {
        Self {
            upload,
            given,
            limits,
            contents: Contents::default(),
        }
    }

    /// Adds one image file. What is none, a zip does not let through.
    fn add(&mut self, file: &Upload, bytes: &[u8]) -> Result<(), Refusal> {
        match &file.kind {
            UploadKind::Slice { name } => self.add_slices(&file.file, name, bytes),
            UploadKind::Truth { name } => self.add_truths(name, bytes),
            UploadKind::Study | UploadKind::Zip | UploadKind::Unknown => Ok(()),
        }
    }

    /// The number of slices and truths so far.
    fn images(&self) -> usize {
        self.contents.slices.len() + self.contents.truths.len()
    }

    fn add_slices(&mut self, file: &str, name: &SliceName, bytes: &[u8]) -> Result<(), Refusal> {
        let mut slices: Vec<Slice> = Vec::new();
        for slice in SliceReader::new(bytes, &self.limits)? {
            let slice = slice?;
            plausible::check_slice(&slice)?;
            let first = self.contents.slices.first().map(|first| &first.slice);
            if let Some(first) = first.or(slices.first()) {
                check_one_size(first, &slice)?;
            }
            slices.push(match self.given.manifest {
                Some(manifest) => manifest.arrange(slice)?,
                None => slice,
            });
        }
        let spacing_mm = self
            .given
            .spacing_mm
            .or(self.given.manifest.and_then(|manifest| manifest.spacing_mm));
        let pages = slices.len();
        for (index, slice) in slices.into_iter().enumerate() {
            self.spend(slice.width(), slice.height());
            self.contents.slices.push(Prepared {
                study: self.upload.study.clone(),
                name: page_name(name, index, pages)?,
                slice,
                spacing_mm,
                volume: None,
                source: Source {
                    file: file.to_owned(),
                    sha256: self.given.sha256.to_owned(),
                    page: index + 1,
                },
            });
        }
        Ok(())
    }

    fn add_truths(&mut self, name: &SliceName, bytes: &[u8]) -> Result<(), Refusal> {
        let masks = decode_masks(bytes, &self.limits)?;
        let pages = masks.len();
        for (index, mask) in masks.into_iter().enumerate() {
            plausible::check_size(mask.width(), mask.height())?;
            self.spend(mask.width(), mask.height());
            self.contents
                .truths
                .push((page_name(name, index, pages)?, mask));
        }
        Ok(())
    }

    /// Takes a page off what is left of the limits: they hold for all entries of a zip together.
    fn spend(&mut self, width: usize, height: usize) {
        let bytes = 3 * width as u64 * height as u64;
        self.limits.max_decoded_bytes = self.limits.max_decoded_bytes.saturating_sub(bytes);
    }

    fn finish(mut self) -> Result<Contents, Refusal> {
        let slices = self.contents.slices.iter().map(|slice| &slice.name);
        let truths = self.contents.truths.iter().map(|(name, _)| name);
        for (what, name) in [("slice", twice(slices)), ("truth", twice(truths))] {
            if let Some(name) = name {
                return Err(Refusal::new(
                    format!(
                        "two images of the archive are the {what} {:?}",
                        name.as_str()
                    ),
                    "give every slice a name of its own; names are told apart without folder and extension",
                ));
            }
        }
        let of = self.contents.slices.len();
        if of > 1 {
            for (index, slice) in self.contents.slices.iter_mut().enumerate() {
                slice.volume = Some(VolumePlace {
                    file: self.upload.file.clone(),
                    index,
                    of,
                });
            }
        }
        Ok(self.contents)
    }
}

/// A name that comes twice.
fn twice<'a>(names: impl Iterator<Item = &'a SliceName>) -> Option<&'a SliceName> {
    let mut seen = HashSet::new();
    names.into_iter().find(|name| !seen.insert(*name))
}

/// The name of a page, counted from 0: that of its file where it is the only one.
fn page_name(name: &SliceName, index: usize, pages: usize) -> Result<SliceName, Refusal> {
    if pages == 1 {
        return Ok(name.clone());
    }
    name.page(index + 1).map_err(|error| {
        Refusal::new(
            error.to_string(),
            "upload the file under a shorter name: its pages are named after it",
        )
    })
}

fn check_one_size(first: &Slice, slice: &Slice) -> Result<(), Refusal> {
    let size = |slice: &Slice| (slice.width(), slice.height());
    if size(first) == size(slice) {
        return Ok(());
    }
    let ((a, b), (c, d)) = (size(first), size(slice));
    Err(Refusal::new(
        format!(
            "one slice has {a}x{b} pixels and another {c}x{d}: the slices of one upload are one volume"
        ),
        "upload slices of different sizes one by one, or each volume as a study of its own",
    ))
}
