//! From a prepared slice to everything that is said of it: the one way for events, requests and folders.
//!
//! Pure: the same slice and model give the same bytes wherever they meet.

use glioseg_shared::cloud::keys::Channel;
use glioseg_shared::imaging::overlay::{PREDICTION, Picture, draw_outline};
use glioseg_shared::imaging::{
    self, encode_mask_png, encode_mask_tiff, encode_probability_png, encode_rgb_png,
};
use glioseg_shared::model::{ModelError, Segmentation, Segmenter, StepTimes};
use glioseg_shared::study::{Document, Prepared, SliceReport, report};

/// What is stored of a slice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outputs {
    /// The mask, of the slice's size, as the data set stores masks.
    pub mask_tiff: Vec<u8>,
    /// FLAIR in grey under the outline of the mask.
    pub overlay_png: Vec<u8>,
    /// The probabilities, of the slice's size, in 8-bit grey: 255 times the probability, rounded.
    pub probability_png: Vec<u8>,
    /// The [`SliceReport`].
    pub report_json: Vec<u8>,
}

/// Segments a slice and writes everything down.
///
/// # Errors
/// What [`Segmenter::segment`] can say; none of it is cured by trying again.
pub fn outputs(
    prepared: &Prepared,
    segmenter: &Segmenter,
    channel: &Channel,
) -> Result<Outputs, ModelError> {
    let segmented = Segmented::new(prepared, segmenter, channel)?;
    Ok(segmented.outputs())
}

/// A slice with what a model found in it.
#[derive(Debug)]
pub struct Segmented<'a> {
    prepared: &'a Prepared,
    channel: &'a Channel,
    found: Segmentation,
    times: StepTimes,
}

impl<'a> Segmented<'a> {
    /// Segments a slice.
    ///
    /// # Errors
    /// As [`outputs`].
    pub fn new(
        prepared: &'a Prepared,
        segmenter: &Segmenter,
        channel: &'a Channel,
    ) -> Result<Self, ModelError> {
        let (found, times) = segmenter.segment_timed(&prepared.slice)?;
        Ok(Self {
            prepared,
            channel,
            found,
            times,
        })
    }

    /// How long the steps took.
    #[must_use]
    pub fn times(&self) -> StepTimes {
        self.times
    }

    /// Everything that is stored.
    #[must_use]
    pub fn outputs(&self) -> Outputs {
        Outputs {
            mask_tiff: self.mask_tiff(),
            overlay_png: self.overlay_png(),
            probability_png: self.probability_png(),
            report_json: self.report().to_json(),
        }
    }

    /// The mask as the data set stores masks.
    #[must_use]
    pub fn mask_tiff(&self) -> Vec<u8> {
        encode_mask_tiff(&self.found.mask)
    }

    /// The mask in 8-bit grey: 0 and 255.
    #[must_use]
    pub fn mask_png(&self) -> Vec<u8> {
        encode_mask_png(&self.found.mask)
    }

    /// FLAIR in grey under the outline of the mask.
    #[must_use]
    #[expect(
        clippy::expect_used,
        reason = "a segmentation has the size of its slice"
    )]
    pub fn overlay_png(&self) -> Vec<u8> {
        let mut picture = Picture::grey(&self.prepared.slice, imaging::Channel::Flair);
        draw_outline(&mut picture, &self.found.mask, PREDICTION)
            .expect("a mask has the size of its slice");
        encode_rgb_png(picture.width(), picture.height(), picture.pixels())
    }

    /// The probabilities in 8-bit grey.
    #[must_use]
    pub fn probability_png(&self) -> Vec<u8> {
        encode_probability_png(&self.found.probability)
    }

    /// The report.
    #[must_use]
    #[expect(
        clippy::expect_used,
        reason = "a segmentation has the size of its slice"
    )]
    pub fn report(&self) -> SliceReport {
        report::of(self.prepared, &self.found, self.channel)
            .expect("a mask and its probabilities have the size of their slice")
    }
}
