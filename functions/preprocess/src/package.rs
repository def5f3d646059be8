//! A study packed as a zip: which entry is what.

use std::collections::HashSet;

use glioseg_shared::cloud::ObjectKey;
use glioseg_shared::cloud::keys::{self, SliceName, Upload, UploadKind};
use glioseg_shared::imaging::natural_order;
use glioseg_shared::study::{Document, ServingLimits, StudyManifest};

use crate::archive::{Archive, ArchiveLimits, Entry};
use crate::refusal::Refusal;

/// The folder in which macOS keeps what other systems cannot hold.
const MACOS_FOLDER: &str = "__MACOSX";

/// The images and the `study.json` of an archive, none of them inflated yet.
pub(crate) struct Package<'a> {
    archive: Archive<'a>,
    manifest: Option<usize>,
    /// Slices and truths with the number of their entry, in the natural order of their names.
    images: Vec<(usize, Upload)>,
}

impl<'a> Package<'a> {
    /// Reads the directory of a zip. Folders count for nothing, nor do the files that systems hide.
    ///
    /// # Errors
    /// [`Refusal`] where the archive cannot be read, or holds a file that belongs into no study, or two of one name.
    pub(crate) fn open(
        zip: &Upload,
        bytes: &'a [u8],
        limits: &ServingLimits,
    ) -> Result<Self, Refusal> {
        let archive = Archive::open(
            bytes,
            &ArchiveLimits {
                max_entries: limits.max_zip_entries,
                max_inflated_bytes: limits.max_decoded_bytes,
            },
        )?;
        let (mut manifest, mut images) = (None, Vec::new());
        let mut names = HashSet::new();
        for (number, entry) in archive.entries().iter().enumerate() {
            if is_hidden(entry.name()) {
                continue;
            }
            let file = classify(zip, entry).map_err(|refusal| refusal.of_entry(entry.name()))?;
            if !names.insert(file.file.clone()) {
                return Err(Refusal::new(
                    format!("two files of the archive are called {:?}", file.file),
                    "give every file a name of its own: the folders of an archive are not kept",
                ));
            }
            match file.kind {
                UploadKind::Study => manifest = Some(number),
                _ => images.push((number, file)),
            }
        }
        if manifest.is_none() && images.is_empty() {
            return Err(Refusal::new(
                "the archive holds no slice",
                "pack the slices of the study, with their truths and study.json where there are any",
            ));
        }
        images.sort_by(|(_, a), (_, b)| natural_order(&a.file, &b.file));
        Ok(Self {
            archive,
            manifest,
            images,
        })
    }

    /// What the archive says of the whole study.
    ///
    /// # Errors
    /// [`Refusal`] for a `study.json` that cannot be read.
    pub(crate) fn manifest(&self) -> Result<Option<StudyManifest>, Refusal> {
        let Some(number) = self.manifest else {
            return Ok(None);
        };
        let entry = &self.archive.entries()[number];
        let read = || -> Result<StudyManifest, Refusal> {
            Ok(StudyManifest::from_json(&self.archive.read(entry)?)?)
        };
        read()
            .map(Some)
            .map_err(|refusal| refusal.of_entry(entry.name()))
    }

    /// The first file of slices, by the name of its slices.
    pub(crate) fn first_slice(&self) -> Option<&SliceName> {
        self.images.iter().find_map(|(_, file)| match &file.kind {
            UploadKind::Slice { name } => Some(name),
            _ => None,
        })
    }

    /// Inflates the images one after another and gives each to `take`.
    ///
    /// # Errors
    /// The first [`Refusal`], with the entry at fault.
    pub(crate) fn images(
        &self,
        mut take: impl FnMut(&Upload, &[u8]) -> Result<(), Refusal>,
    ) -> Result<(), Refusal> {
        for (number, file) in &self.images {
            let entry = &self.archive.entries()[*number];
            self.archive
                .read(entry)
                .map_err(Refusal::from)
                .and_then(|bytes| take(file, &bytes))
                .map_err(|refusal| refusal.of_entry(entry.name()))?;
        }
        Ok(())
    }
}

/// Whether a file or a folder that it lies in is one that systems hide from their users.
fn is_hidden(name: &str) -> bool {
    name.split('/')
        .any(|segment| segment.starts_with('.') || segment == MACOS_FOLDER)
}

/// What an entry would be if it had been uploaded by itself.
fn classify(zip: &Upload, entry: &Entry) -> Result<Upload, Refusal> {
    let file = entry.name().rsplit('/').next().unwrap_or_default();
    let key = ObjectKey::parse(format!("{}/{file}", zip.study)).map_err(|error| {
        Refusal::new(
            error.to_string(),
            "pack the file under a shorter name, or upload the study under one",
        )
    })?;
    let upload = keys::classify(&key)?;
    match upload.kind {
        UploadKind::Slice { .. } | UploadKind::Truth { .. } | UploadKind::Study => Ok(upload),
        UploadKind::Zip => Err(Refusal::new(
            "it is an archive inside an archive",
            "pack the slices themselves, or upload each archive as a study of its own",
        )),
        UploadKind::Unknown => Err(Refusal::new(
            "it is neither an image nor study.json",
            "pack slices as .tif, .tiff or .png, their truth as <slice>_mask.tif, and nothing else",
        )),
    }
}
