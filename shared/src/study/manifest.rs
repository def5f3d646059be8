//! What a user says of a whole study: `study.json`.

use serde::{Deserialize, Serialize};

use super::document::Document;
use super::spacing::Spacing;
use crate::imaging::{CHANNELS, Channel, Slice};
use crate::model::contract::{Input, Sequence};

/// Most slices that a study can be said to have.
const MAX_SLICES: usize = 10_000;

/// The document `<study>/study.json`; every field may be missing.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StudyManifest {
    /// How many slices the study has, 1 to 10,000: it is closed, and complete once that many are done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slices: Option<usize>,
    /// How large a pixel is. Without it there are no mm, mm² and mm³.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spacing_mm: Option<Spacing>,
    /// The sequences of a file's channels, in the file's order; without it pre-contrast, FLAIR, post-contrast.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channels: Option<ChannelOrder>,
}

/// The sequences of a file's channels, in the file's order: the three in any order, or FLAIR alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<Sequence>", into = "Vec<Sequence>")]
pub struct ChannelOrder(Order);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    /// The file is grey.
    Flair,
    /// The file has all three.
    Three([Sequence; CHANNELS]),
}

/// A list that is neither the three sequences in some order nor FLAIR alone.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "channels are \"pre-contrast\", \"FLAIR\" and \"post-contrast\", each once in the order of the file, or \"FLAIR\" \
     alone"
)]
pub struct InvalidChannelOrder;

/// A file of three channels whose study was said to have FLAIR alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the channels of the file differ, but study.json says that there is FLAIR alone")]
pub struct ColourInsteadOfGrey;

impl Document for StudyManifest {
    const NAME: &'static str = "study.json";
    const MAX_BYTES: u64 = 64 << 10;

    fn check(&self) -> Result<(), String> {
        match self.slices {
            Some(slices) if !(1..=MAX_SLICES).contains(&slices) => {
                Err(format!("slices is {slices}, not 1 to {MAX_SLICES}"))
            }
            _ => Ok(()),
        }
    }
}

impl StudyManifest {
    /// Brings the channels of a decoded slice into the order that every [`Slice`] has.
    ///
    /// # Errors
    /// [`ColourInsteadOfGrey`] when there should be FLAIR alone and the channels differ.
    pub fn arrange(&self, slice: Slice) -> Result<Slice, ColourInsteadOfGrey> {
        match &self.channels {
            None => Ok(slice),
            Some(order) => order.arrange(slice),
        }
    }
}

impl ChannelOrder {
    fn arrange(&self, slice: Slice) -> Result<Slice, ColourInsteadOfGrey> {
        match &self.0 {
            Order::Flair => {
                let grey = slice.pixels().chunks_exact(CHANNELS);
                let mut grey = grey.map(|pixel| pixel.iter().all(|value| *value == pixel[0]));
                if grey.all(|same| same) {
                    Ok(slice)
                } else {
                    Err(ColourInsteadOfGrey)
                }
            }
            Order::Three(order) => Ok(slice.arranged(order.map(channel))),
        }
    }
}

/// The channel of a slice that a sequence is.
fn channel(sequence: Sequence) -> Channel {
    match sequence {
        Sequence::PreContrast => Channel::PreContrast,
        Sequence::Flair => Channel::Flair,
        Sequence::PostContrast => Channel::PostContrast,
    }
}

impl TryFrom<Vec<Sequence>> for ChannelOrder {
    type Error = InvalidChannelOrder;

    fn try_from(sequences: Vec<Sequence>) -> Result<Self, Self::Error> {
        if sequences == [Sequence::Flair] {
            return Ok(Self(Order::Flair));
        }
        let order = <[Sequence; CHANNELS]>::try_from(sequences).map_err(|_| InvalidChannelOrder)?;
        if Input::CHANNELS.iter().all(|wanted| order.contains(wanted)) {
            Ok(Self(Order::Three(order)))
        } else {
            Err(InvalidChannelOrder)
        }
    }
}

impl From<ChannelOrder> for Vec<Sequence> {
    fn from(order: ChannelOrder) -> Self {
        match order.0 {
            Order::Flair => vec![Sequence::Flair],
            Order::Three(order) => order.to_vec(),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::imaging::Intensity;

    fn read(json: &str) -> StudyManifest {
        StudyManifest::from_json(json.as_bytes()).unwrap()
    }

    #[test]
    fn everything_may_be_said_and_nothing_has_to() {
        assert_eq!(read("{}"), StudyManifest::default());
        assert_eq!(StudyManifest::default().to_json(), b"{}\n");
        let json = r#"{"slices":24,"spacing_mm":[0.5,0.5,3.0],"channels":["FLAIR","post-contrast","pre-contrast"]}"#;
        let manifest = read(json);
        assert_eq!(manifest.slices, Some(24));
        assert_eq!(manifest.to_json(), format!("{json}\n").as_bytes());
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (json, named) in [
            ("", "no JSON object"),
            ("[24]", "no JSON object"),
            ("{", "EOF"),
            (r#"{"slice": 3}"#, "slice"),
            (r#"{"slices": 0}"#, "slices is 0"),
            (r#"{"slices": 10001}"#, "slices is 10001"),
            (r#"{"slices": -1}"#, "-1"),
            (r#"{"spacing_mm": [1]}"#, "spacing"),
            (r#"{"spacing_mm": [1, 1, 1000]}"#, "1000"),
            (r#"{"channels": []}"#, "channels"),
            (r#"{"channels": ["T2"]}"#, "T2"),
            (
                r#"{"channels": ["FLAIR", "FLAIR", "post-contrast"]}"#,
                "channels",
            ),
        ] {
            let error = StudyManifest::from_json(json.as_bytes())
                .unwrap_err()
                .to_string();
            assert!(error.contains(named), "{json}: {error}");
        }
        let long = format!("{}{{}}", " ".repeat(64 << 10));
        assert!(StudyManifest::from_json(long.as_bytes()).is_err());
    }

    #[test]
    fn channels_come_into_their_order_with_their_ranges() {
        let slice = Slice::new(
            2,
            1,
            vec![10, 20, 30, 11, 21, 31],
            Intensity::Rescaled {
                low: [1.0, 2.0, 3.0],
                high: [10.0, 20.0, 30.0],
            },
        )
        .unwrap();
        let manifest = read(r#"{"channels": ["FLAIR", "post-contrast", "pre-contrast"]}"#);
        let arranged = manifest.arrange(slice.clone()).unwrap();
        assert_eq!(arranged.pixels(), [30, 10, 20, 31, 11, 21]);
        assert_eq!(
            arranged.intensity(),
            Intensity::Rescaled {
                low: [3.0, 1.0, 2.0],
                high: [30.0, 10.0, 20.0],
            }
        );
        assert_eq!(read("{}").arrange(slice.clone()).unwrap(), slice);
        let flair = read(r#"{"channels": ["FLAIR"]}"#);
        assert_eq!(flair.arrange(slice), Err(ColourInsteadOfGrey));
        let grey = Slice::new(1, 2, vec![7, 7, 7, 0, 0, 0], Intensity::EightBit).unwrap();
        assert_eq!(flair.arrange(grey.clone()).unwrap(), grey);
    }
}
