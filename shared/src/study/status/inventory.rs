//! Which objects of a study there are.

use std::collections::{BTreeMap, BTreeSet};

use super::StudyCounts;
use super::progress::Progress;
use crate::cloud::ObjectKey;
use crate::cloud::keys::{self, ResultKind, SliceName, StudyId, Upload};
use crate::imaging::natural_order;

/// Which objects of a study there are in the results bucket, gathered from listings of their keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inventory {
    study: StudyId,
    slices: BTreeMap<SliceName, SliceObjects>,
    rejected: BTreeSet<String>,
    completed: bool,
}

/// What there is of one slice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SliceObjects {
    /// The slice, checked and ready to be segmented.
    pub prepared: bool,
    /// Its true mask.
    pub truth: bool,
    /// Its predicted mask.
    pub mask: bool,
    /// The slice with the outline of its mask.
    pub overlay: bool,
    /// The slice under its heat map.
    pub probability: bool,
    /// What was found in it.
    pub report: bool,
    /// What its mask is worth.
    pub score: bool,
}

impl Inventory {
    /// Nothing is there yet.
    #[must_use]
    pub fn new(study: StudyId) -> Self {
        Self {
            study,
            slices: BTreeMap::new(),
            rejected: BTreeSet::new(),
            completed: false,
        }
    }

    /// Takes note of an object of the results bucket; those of other studies, and of none, are passed over.
    pub fn add(&mut self, key: &ObjectKey) {
        let Some(result) = keys::parse_result(key).filter(|result| result.study == self.study)
        else {
            return;
        };
        match result.kind {
            ResultKind::Rejected => {
                self.rejected.insert(result.name.into());
            }
            ResultKind::Completed => self.completed = true,
            ResultKind::Manifest => {}
            kind => {
                let objects = self.slices.entry(result.name).or_default();
                match kind {
                    ResultKind::Prepared => objects.prepared = true,
                    ResultKind::Truth => objects.truth = true,
                    ResultKind::Mask => objects.mask = true,
                    ResultKind::Overlay => objects.overlay = true,
                    ResultKind::Probability => objects.probability = true,
                    ResultKind::Report => objects.report = true,
                    ResultKind::Score => objects.score = true,
                    ResultKind::Rejected | ResultKind::Manifest | ResultKind::Completed => {}
                }
            }
        }
    }

    /// The study.
    #[must_use]
    pub fn study(&self) -> &StudyId {
        &self.study
    }

    /// Whether nothing at all is known of the study.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.slices.is_empty() && self.rejected.is_empty() && !self.completed
    }

    /// Whether it was once announced as complete.
    #[must_use]
    pub fn is_completed(&self) -> bool {
        self.completed
    }

    /// The slices in their natural order, with what there is of each.
    #[must_use]
    pub fn slices(&self) -> Vec<(&SliceName, &SliceObjects)> {
        let mut slices: Vec<_> = self.slices.iter().collect();
        slices.sort_by(|(a, _), (b, _)| natural_order(a.as_str(), b.as_str()));
        slices
    }

    /// The slices that have a mask, in their natural order.
    #[must_use]
    pub fn masks(&self) -> Vec<&SliceName> {
        self.slices()
            .into_iter()
            .filter(|(_, objects)| objects.mask)
            .map(|(name, _)| name)
            .collect()
    }

    /// File names of the uploads that were set aside, in the order of their bytes.
    pub fn rejected(&self) -> impl Iterator<Item = &str> {
        self.rejected.iter().map(String::as_str)
    }

    /// Number of truths whose slice is not there.
    #[must_use]
    pub fn truths_without_slice(&self) -> usize {
        self.count(|objects| objects.truth && !objects.prepared)
    }

    /// The slices by how far they have come, given how many there will be and which uploads there are.
    ///
    /// Where the number of slices is not known, those that are uploaded and not yet read are to come; uploaded truths
    /// that nobody has read yet are waited for, too.
    #[must_use]
    pub fn counts(&self, expected: Option<usize>, uploads: &[Upload]) -> StudyCounts {
        StudyCounts {
            expected,
            received: self.count(|objects| objects.prepared),
            segmented: self.count(|objects| objects.mask),
            with_truth: self.count(|objects| objects.truth),
            scored: self.count(|objects| objects.score),
            rejected: self.rejected.len(),
            waiting: Progress::new(self, uploads).waiting(expected),
        }
    }

    /// Number of slices whose mask and truth cannot be compared.
    #[must_use]
    pub fn incomparable(&self) -> usize {
        Progress::new(self, &[]).incomparable()
    }

    fn count(&self, wanted: impl Fn(&SliceObjects) -> bool) -> usize {
        self.slices
            .values()
            .filter(|objects| wanted(objects))
            .count()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn inventory(keys: &[&str]) -> Inventory {
        let mut inventory = Inventory::new(StudyId::parse("a/s").unwrap());
        for key in keys {
            inventory.add(&ObjectKey::parse(*key).unwrap());
        }
        inventory
    }

    #[test]
    fn a_slice_waits_while_something_can_be_done() {
        let mut inventory = inventory(&["prepared/a/s/x.png"]);
        assert_eq!(inventory.counts(None, &[]).waiting, 1);
        assert_eq!(inventory.counts(Some(3), &[]).waiting, 3);
        for (key, waiting) in [
            ("masks/a/s/x.tif", 0),
            ("truth/a/s/x.tif", 1),
            ("scores/a/s/x.json", 0),
        ] {
            inventory.add(&ObjectKey::parse(key).unwrap());
            assert_eq!(inventory.counts(Some(1), &[]).waiting, waiting, "{key}");
        }
        let counts = inventory.counts(Some(2), &[]);
        assert_eq!((counts.received, counts.segmented), (1, 1));
        assert_eq!((counts.with_truth, counts.scored), (1, 1));
        assert_eq!(counts.waiting, 1);
    }

    #[test]
    fn a_rejected_slice_is_not_waited_for() {
        let mut inventory = inventory(&[
            "rejected/a/s/x.tif.json",
            "rejected/a/s/x_mask.tif.json",
            "rejected/a/s/notes.txt.json",
        ]);
        let counts = inventory.counts(Some(2), &[]);
        assert_eq!((counts.rejected, counts.waiting), (3, 1));
        inventory.add(&ObjectKey::parse("prepared/a/s/x.png").unwrap());
        inventory.add(&ObjectKey::parse("masks/a/s/x.tif").unwrap());
        assert_eq!(inventory.counts(Some(2), &[]).waiting, 1);
    }

    #[test]
    fn other_studies_are_passed_over() {
        let inventory = inventory(&[
            "prepared/a/s/deep/x.png",
            "prepared/a/x.png",
            "studies/a/s/study.json",
            "anything",
        ]);
        assert!(inventory.is_empty());
    }

    #[test]
    fn slices_come_in_the_order_that_a_person_expects() {
        let inventory = inventory(&[
            "masks/a/s/p_10.tif",
            "masks/a/s/p_9.tif",
            "truth/a/s/p_1.tif",
        ]);
        let names: Vec<&str> = inventory.masks().iter().map(|name| name.as_str()).collect();
        assert_eq!(names, ["p_9", "p_10"]);
        assert_eq!(inventory.truths_without_slice(), 1);
        assert_eq!(inventory.slices().len(), 3);
    }
}
