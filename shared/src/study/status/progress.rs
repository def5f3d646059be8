//! How much of a study is still to be done.

use std::collections::BTreeSet;

use super::inventory::{Inventory, SliceObjects};
use crate::cloud::ObjectKey;
use crate::cloud::keys::{self, SliceName, Upload, UploadKind};

/// What a study has, and what was set aside of it.
pub(super) struct Progress<'a> {
    inventory: &'a Inventory,
    rejected_files: BTreeSet<&'a str>,
    rejected_slices: BTreeSet<SliceName>,
    uploads: &'a [Upload],
}

impl<'a> Progress<'a> {
    /// `inventory` knows of prepared slices, truths, masks, scores and rejections.
    pub(super) fn new(inventory: &'a Inventory, uploads: &'a [Upload]) -> Self {
        let rejected_files: BTreeSet<&str> = inventory.rejected().collect();
        let slice_of = |file: &str| {
            let key = ObjectKey::parse(format!("{}/{file}", inventory.study())).ok()?;
            match keys::classify(&key).ok()?.kind {
                UploadKind::Slice { name } => Some(name),
                _ => None,
            }
        };
        Self {
            inventory,
            rejected_slices: rejected_files
                .iter()
                .filter_map(|file| slice_of(file))
                .collect(),
            rejected_files,
            uploads,
        }
    }

    /// Number of slices that are to come, to be segmented, or to be scored although mask and truth are there, and of
    /// uploaded truths that nobody has read yet.
    ///
    /// Where the number of slices is not known, those that are uploaded and not yet read are to come.
    pub(super) fn waiting(&self, expected: Option<usize>) -> usize {
        let slices_to_read = self.unread(
            |kind| match kind {
                UploadKind::Slice { name } => Some(name),
                _ => None,
            },
            |objects| objects.prepared,
        );
        let truths_to_read = self.unread(
            |kind| match kind {
                UploadKind::Truth { name } => Some(name),
                _ => None,
            },
            |objects| objects.truth,
        );
        let (mut arrived, mut unfinished) = (0, 0);
        for (name, objects) in self.inventory.slices() {
            arrived += usize::from(objects.prepared && !self.rejected_slices.contains(name));
            // That an upload was set aside tells nothing of what another made: an older one, or one of another ending.
            let to_segment = objects.prepared && !objects.mask && !self.is_unsegmentable(name);
            let to_score = objects.mask
                && objects.truth
                && !objects.score
                && !self.is_incomparable(name, *objects);
            unfinished += usize::from(to_segment || to_score);
        }
        let rejected = self.rejected_slices.iter();
        arrived += rejected
            .filter(|name| !slices_to_read.contains(name))
            .count();
        let to_come = match expected {
            Some(expected) => expected.saturating_sub(arrived),
            None => slices_to_read.len(),
        };
        to_come + unfinished + truths_to_read.len()
    }

    /// Number of slices whose mask and truth cannot be compared.
    pub(super) fn incomparable(&self) -> usize {
        let slices = self.inventory.slices();
        slices
            .iter()
            .filter(|(name, objects)| self.is_incomparable(name, **objects))
            .count()
    }

    fn is_incomparable(&self, name: &SliceName, objects: SliceObjects) -> bool {
        objects.mask
            && objects.truth
            && !objects.score
            && self.is_rejected(&keys::incomparable(self.inventory.study(), name))
    }

    fn is_unsegmentable(&self, name: &SliceName) -> bool {
        self.is_rejected(&keys::unsegmentable(self.inventory.study(), name))
    }

    fn is_rejected(&self, key: &ObjectKey) -> bool {
        keys::parse_result(key).is_some_and(|key| self.rejected_files.contains(key.name.as_str()))
    }

    /// The slices of which there are uploads of one kind that nothing has come of, not even a rejection.
    fn unread(
        &self,
        slice_of: fn(&UploadKind) -> Option<&SliceName>,
        is_read: fn(&SliceObjects) -> bool,
    ) -> BTreeSet<&'a SliceName> {
        let slices = self.inventory.slices();
        let read = slices.iter().filter(|(_, objects)| is_read(objects));
        let read: BTreeSet<&SliceName> = read.map(|(name, _)| *name).collect();
        self.uploads
            .iter()
            .filter(|upload| !self.rejected_files.contains(upload.file.as_str()))
            .filter_map(|upload| slice_of(&upload.kind))
            .filter(|name| !is_among(name, &read))
            .collect()
    }
}

/// Whether a slice, or the first page of several, is there.
fn is_among(name: &SliceName, names: &BTreeSet<&SliceName>) -> bool {
    names.contains(name) || name.page(1).is_ok_and(|page| names.contains(&page))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use crate::cloud::keys::StudyId;

    use super::*;

    fn waiting(results: &[&str], uploads: &[&str], expected: Option<usize>) -> usize {
        let key = |key: &&str| ObjectKey::parse(*key).unwrap();
        let mut inventory = Inventory::new(StudyId::parse("s").unwrap());
        for key in results.iter().map(key) {
            inventory.add(&key);
        }
        let uploads: Vec<Upload> = uploads
            .iter()
            .map(|upload| keys::classify(&key(upload)).unwrap())
            .collect();
        Progress::new(&inventory, &uploads).waiting(expected)
    }

    #[test]
    fn a_closed_study_waits_for_every_slice_it_should_have() {
        let mut results = vec![];
        for (key, left) in [
            ("prepared/s/x.png", 2),
            ("masks/s/x.tif", 1),
            ("rejected/s/y.tif.json", 0),
            ("truth/s/x.tif", 1),
            ("scores/s/x.json", 0),
        ] {
            results.push(key);
            assert_eq!(waiting(&results, &[], Some(2)), left, "{key}");
        }
    }

    #[test]
    fn a_slice_that_was_set_aside_at_any_step_is_not_waited_for() {
        let read = ["prepared/s/x.png", "rejected/s/x.png.json"];
        assert_eq!(waiting(&read, &[], Some(1)), 0);
        let of_other_size = ["prepared/s/x.png", "masks/s/x.tif", "truth/s/x.tif"];
        assert_eq!(waiting(&of_other_size, &[], Some(1)), 1);
        let [a, b, c] = of_other_size;
        assert_eq!(
            waiting(&[a, b, c, "rejected/s/x_mask.json"], &[], Some(1)),
            0
        );
    }

    #[test]
    fn a_slice_set_aside_and_uploaded_under_another_ending_is_waited_for() {
        let uploads = ["s/x.tif", "s/x.png"];
        let mut results = vec!["rejected/s/x.tif.json"];
        for expected in [Some(1), None] {
            assert_eq!(waiting(&results, &uploads[..1], expected), 0);
            assert_eq!(waiting(&results, &uploads, expected), 1, "to be read");
        }
        results.push("prepared/s/x.png");
        for expected in [Some(1), None] {
            assert_eq!(waiting(&results, &uploads, expected), 1, "to be segmented");
        }
        results.push("masks/s/x.tif");
        for expected in [Some(1), None] {
            assert_eq!(waiting(&results, &uploads, expected), 0);
        }
    }

    #[test]
    fn a_slice_is_waited_for_whose_newer_upload_was_set_aside() {
        let results = ["prepared/s/x.png", "rejected/s/x.tif.json"];
        assert_eq!(waiting(&results, &["s/x.tif"], Some(1)), 1);
    }

    #[test]
    fn uploads_that_nobody_has_read_are_waited_for() {
        let uploads = ["s/x.tif", "s/x_mask.tif", "s/study.json", "s/notes.txt"];
        assert_eq!(waiting(&[], &uploads, None), 2);
        assert_eq!(waiting(&[], &uploads, Some(1)), 2);
        let prepared = ["prepared/s/x.png", "masks/s/x.tif"];
        assert_eq!(waiting(&prepared, &uploads, Some(1)), 1);
        assert_eq!(
            waiting(
                &[prepared[0], prepared[1], "rejected/s/x_mask.tif.json"],
                &uploads,
                Some(1)
            ),
            0
        );
        let pages = [
            "prepared/s/x_page_1.png",
            "masks/s/x_page_1.tif",
            "truth/s/x_page_1.tif",
            "scores/s/x_page_1.json",
        ];
        assert_eq!(waiting(&pages, &uploads, None), 0);
    }
}
