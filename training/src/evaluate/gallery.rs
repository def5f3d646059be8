//! The slices worth looking at: chosen while studies pass by, since their pixels are not kept.

use std::cmp::Ordering;
use std::sync::Arc;

use glioseg_shared::imaging::{CHANNELS, Mask, ProbabilityMap, Slice};
use glioseg_shared::model::Segmentation;
use glioseg_shared::scoring::SliceScore;

/// Number of slices among the best, the worst, and the worst with tumour.
pub const MAX_RANKED: usize = 3;
/// Number of false positives that are kept with their pixels.
pub const MAX_FALSE_POSITIVES: usize = 6;
/// Most columns and rows of a kept slice; larger ones are thinned.
pub const MAX_PICTURE_SIDE: usize = 512;

/// A slice with its truth and what the model said of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Exhibit {
    /// Name of the patient.
    pub patient: String,
    /// Name and scores, of the slice in its full size.
    pub score: SliceScore,
    /// The image, at most [`MAX_PICTURE_SIDE`] a side, like all that follows.
    pub slice: Slice,
    /// The true mask.
    pub truth: Mask,
    /// The predicted mask.
    pub prediction: Mask,
    /// The probabilities behind it.
    pub probability: ProbabilityMap,
}

impl Exhibit {
    /// Copies a slice, thinned to [`MAX_PICTURE_SIDE`]; `None` when the parts differ in size.
    pub(super) fn new(
        patient: &str,
        score: &SliceScore,
        slice: &Slice,
        truth: &Mask,
        segmentation: &Segmentation,
    ) -> Option<Self> {
        let size = (slice.width(), slice.height());
        let Segmentation {
            mask: prediction,
            probability,
            ..
        } = segmentation;
        let others = [
            (truth.width(), truth.height()),
            (prediction.width(), prediction.height()),
            (probability.width(), probability.height()),
        ];
        if others.iter().any(|&other| other != size) {
            return None;
        }
        let step = size.0.max(size.1).div_ceil(MAX_PICTURE_SIDE);
        let (width, height) = (size.0.div_ceil(step), size.1.div_ceil(step));
        let kept = || {
            let rows = (0..size.1).step_by(step);
            rows.flat_map(move |y| {
                let columns = (0..size.0).step_by(step);
                columns.map(move |x| y * size.0 + x)
            })
        };
        let pixels = kept()
            .flat_map(|i| &slice.pixels()[i * CHANNELS..][..CHANNELS])
            .copied();
        let thin = |mask: &Mask| {
            let pixels = kept().map(|i| mask.pixels()[i]).collect();
            Mask::new(width, height, pixels).ok()
        };
        let values = kept().map(|i| probability.values()[i]).collect();
        Some(Self {
            patient: patient.to_owned(),
            score: score.clone(),
            slice: Slice::new(width, height, pixels.collect(), slice.intensity()).ok()?,
            truth: thin(truth)?,
            prediction: thin(prediction)?,
            probability: ProbabilityMap::new(width, height, values).ok()?,
        })
    }
}

/// The best and worst slices of an evaluation; of equal slices the earlier one comes first.
#[derive(Clone, Debug)]
pub struct Gallery {
    best: Ranking,
    worst: Ranking,
    worst_with_tumour: Ranking,
    false_positives: Ranking,
}

impl Default for Gallery {
    fn default() -> Self {
        Self {
            best: Ranking::new(MAX_RANKED),
            worst: Ranking::new(MAX_RANKED),
            worst_with_tumour: Ranking::new(MAX_RANKED),
            false_positives: Ranking::new(MAX_FALSE_POSITIVES),
        }
    }
}

impl Gallery {
    /// The slices with tumour of the highest Dice, of equal ones the larger tumour first.
    ///
    /// Slices without tumour are left out, since all that are right have the same Dice of 1, and so
    /// are those on which no pixel of it was found.
    pub fn best(&self) -> impl ExactSizeIterator<Item = &Exhibit> {
        self.best.exhibits()
    }

    /// The slices of the lowest Dice, of equal ones the one with more wrong pixels first; none
    /// without a wrong pixel.
    pub fn worst(&self) -> impl ExactSizeIterator<Item = &Exhibit> {
        self.worst.exhibits()
    }

    /// As [`Gallery::worst`], among the slices with tumour.
    pub fn worst_with_tumour(&self) -> impl ExactSizeIterator<Item = &Exhibit> {
        self.worst_with_tumour.exhibits()
    }

    /// The slices without tumour on which some was predicted, the largest prediction first.
    pub fn false_positives(&self) -> impl ExactSizeIterator<Item = &Exhibit> {
        self.false_positives.exhibits()
    }

    /// Takes a slice into every ranking that it has a place in; `exhibit` is called at most once.
    pub(super) fn offer(&mut self, score: &SliceScore, exhibit: impl FnOnce() -> Option<Exhibit>) {
        let counts = &score.counts;
        let (dice, tumour) = (counts.dice(), counts.true_area());
        let wrong = counts.false_positive + counts.false_negative;
        let low = Rank(-dice, wrong);
        let mut admitted = Vec::new();
        if counts.true_positive > 0 {
            admitted.extend(self.best.place(Rank(dice, tumour)));
        }
        if wrong > 0 {
            admitted.extend(self.worst.place(low));
        }
        if wrong > 0 && tumour > 0 {
            admitted.extend(self.worst_with_tumour.place(low));
        }
        if tumour == 0 && wrong > 0 {
            admitted.extend(self.false_positives.place(Rank(0.0, wrong)));
        }
        if admitted.is_empty() {
            return;
        }
        let Some(exhibit) = exhibit().map(Arc::new) else {
            return;
        };
        for place in admitted {
            place.fill(Arc::clone(&exhibit));
        }
    }
}

/// What a ranking is by, the highest first; the second number parts equals.
#[derive(Clone, Copy, Debug)]
struct Rank(f64, u64);

impl Rank {
    fn order(&self, other: &Self) -> Ordering {
        self.0.total_cmp(&other.0).then(self.1.cmp(&other.1))
    }
}

#[derive(Clone, Debug)]
struct Ranking {
    capacity: usize,
    /// Highest rank first.
    entries: Vec<(Rank, Arc<Exhibit>)>,
}

/// A place that a ranking has for a slice.
struct Place<'a> {
    ranking: &'a mut Ranking,
    rank: Rank,
    index: usize,
}

impl Ranking {
    fn new(capacity: usize) -> Self {
        Self {
            capacity,
            entries: Vec::with_capacity(capacity + 1),
        }
    }

    fn exhibits(&self) -> impl ExactSizeIterator<Item = &Exhibit> {
        self.entries.iter().map(|(_, exhibit)| exhibit.as_ref())
    }

    fn place(&mut self, rank: Rank) -> Option<Place<'_>> {
        let index = self
            .entries
            .partition_point(|(other, _)| rank.order(other).is_le());
        (index < self.capacity).then_some(Place {
            ranking: self,
            rank,
            index,
        })
    }
}

impl Place<'_> {
    fn fill(self, exhibit: Arc<Exhibit>) {
        self.ranking
            .entries
            .insert(self.index, (self.rank, exhibit));
        self.ranking.entries.truncate(self.ranking.capacity);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use glioseg_shared::imaging::Intensity;
    use glioseg_shared::scoring::Counts;

    use super::*;

    fn score(slice: &str, both: u64, only_predicted: u64, only_true: u64) -> SliceScore {
        SliceScore {
            slice: slice.to_owned(),
            counts: Counts {
                true_positive: both,
                false_positive: only_predicted,
                false_negative: only_true,
                true_negative: 100,
            },
            surface: None,
        }
    }

    fn exhibit(score: &SliceScore, width: usize, height: usize) -> Option<Exhibit> {
        let pixels = (0..width * height).flat_map(|i| [0, (i % 251) as u8, 0]);
        let slice = Slice::new(width, height, pixels.collect(), Intensity::EightBit).unwrap();
        let set = |i| i % 3 == 0;
        let mask = Mask::new(width, height, (0..width * height).map(set).collect()).unwrap();
        let values = (0..width * height).map(|i| i as f32).collect();
        let segmentation = Segmentation {
            mask: mask.clone(),
            probability: ProbabilityMap::new(width, height, values).unwrap(),
            model_version: String::new(),
        };
        Exhibit::new("p", score, &slice, &mask, &segmentation)
    }

    fn names<'a>(exhibits: impl Iterator<Item = &'a Exhibit>) -> Vec<&'a str> {
        exhibits.map(|e| e.score.slice.as_str()).collect()
    }

    #[test]
    fn slices_are_ranked_by_dice_and_then_by_size() {
        let mut gallery = Gallery::default();
        let mut built = 0;
        for score in [
            score("good", 9, 1, 1),
            score("empty and right", 0, 0, 0),
            score("missed", 0, 0, 50),
            score("perfect", 5, 0, 0),
            score("false", 0, 60, 0),
            score("fair", 5, 5, 5),
            score("larger and perfect", 7, 0, 0),
            score("false and small", 0, 2, 0),
            score("as fair", 5, 5, 5),
        ] {
            gallery.offer(&score, || {
                built += 1;
                exhibit(&score, 2, 2)
            });
        }
        assert_eq!(
            names(gallery.best()),
            ["larger and perfect", "perfect", "good"]
        );
        assert_eq!(
            names(gallery.worst()),
            ["false", "missed", "false and small"]
        );
        assert_eq!(
            names(gallery.worst_with_tumour()),
            ["missed", "fair", "as fair"]
        );
        assert_eq!(
            names(gallery.false_positives()),
            ["false", "false and small"]
        );
        assert_eq!(built, 8, "one for each slice but the empty and right one");
    }

    #[test]
    fn a_large_slice_is_thinned_as_one() {
        let exhibit = exhibit(&score("large", 1, 0, 0), 1025, 3).unwrap();
        let (width, height) = (exhibit.slice.width(), exhibit.slice.height());
        assert_eq!((width, height), (342, 1), "every third column and row");
        assert_eq!(exhibit.probability.values()[..3], [0.0, 3.0, 6.0]);
        assert_eq!(exhibit.slice.pixels()[..7], [0, 0, 0, 0, 3, 0, 0]);
        assert!(exhibit.truth.pixels().iter().all(|&set| set));
    }
}
