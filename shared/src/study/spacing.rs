//! How large a pixel is.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::figures::rounded;

/// What a distance may be, in mm.
const RANGE: RangeInclusive<f64> = 0.01..=100.0;

/// Distances between the centres of neighbouring pixels, in mm: each 0.01 to 100.
///
/// In JSON `[columns, rows]` or `[columns, rows, slices]`, as text the same without brackets: `0.5,0.5,3`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Vec<f64>", into = "Vec<f64>")]
pub struct Spacing {
    column: f64,
    row: f64,
    slice: Option<f64>,
}

/// Numbers that are no spacing.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error(
    "{given} is no spacing: two or three distances in mm, each 0.01 to 100, between columns, rows and, where known, \
     slices"
)]
pub struct InvalidSpacing {
    given: String,
}

impl Spacing {
    /// Checks distances in mm between columns, between rows, and, where known, between slices.
    ///
    /// # Errors
    /// [`InvalidSpacing`] for one that is outside of 0.01..=100.
    pub fn new(column: f64, row: f64, slice: Option<f64>) -> Result<Self, InvalidSpacing> {
        let spacing = Self { column, row, slice };
        if spacing.distances().all(|mm| RANGE.contains(&mm)) {
            Ok(spacing)
        } else {
            Err(InvalidSpacing {
                given: spacing.to_string(),
            })
        }
    }

    /// Distance between rows, and between columns, in mm: the order of [`crate::scoring::surface_distances`].
    #[must_use]
    pub fn rows_columns(&self) -> [f64; 2] {
        [self.row, self.column]
    }

    /// Distance between slices in mm, where it is known.
    #[must_use]
    pub fn slices(&self) -> Option<f64> {
        self.slice
    }

    /// The area of a number of pixels in mm², rounded to six decimals.
    #[must_use]
    pub fn area_mm2(&self, pixels: u64) -> f64 {
        rounded(pixels as f64 * self.column * self.row)
    }

    /// The volume of a number of voxels in mm³, rounded to six decimals; `None` where the distance between slices is
    /// not known.
    #[must_use]
    pub fn volume_mm3(&self, voxels: u64) -> Option<f64> {
        let slice = self.slice?;
        Some(rounded(voxels as f64 * self.column * self.row * slice))
    }

    fn distances(&self) -> impl Iterator<Item = f64> {
        [self.column, self.row].into_iter().chain(self.slice)
    }
}

impl fmt::Display for Spacing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{},{}", self.column, self.row)?;
        self.slice.map_or(Ok(()), |slice| write!(f, ",{slice}"))
    }
}

impl FromStr for Spacing {
    type Err = InvalidSpacing;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = || InvalidSpacing {
            given: format!("{text:?}"),
        };
        let distances: Result<Vec<f64>, _> = text
            .split(',')
            .take(4)
            .map(|distance| distance.trim().parse())
            .collect();
        Self::try_from(distances.map_err(|_| invalid())?).map_err(|_| invalid())
    }
}

impl TryFrom<Vec<f64>> for Spacing {
    type Error = InvalidSpacing;

    fn try_from(distances: Vec<f64>) -> Result<Self, Self::Error> {
        match distances[..] {
            [column, row] => Self::new(column, row, None),
            [column, row, slice] => Self::new(column, row, Some(slice)),
            _ => Err(InvalidSpacing {
                given: format!("{distances:?}"),
            }),
        }
    }
}

impl From<Spacing> for Vec<f64> {
    fn from(spacing: Spacing) -> Self {
        spacing.distances().collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn two_or_three_distances_are_a_spacing() {
        let flat: Spacing = " 0.5, 0.25".parse().unwrap();
        assert_eq!(flat.rows_columns(), [0.25, 0.5]);
        assert_eq!((flat.slices(), flat.volume_mm3(8)), (None, None));
        assert_eq!(flat.area_mm2(10), 1.25);
        let deep: Spacing = "0.5,0.25,3".parse().unwrap();
        assert_eq!(deep.volume_mm3(10), Some(3.75));
        assert_eq!(serde_json::to_string(&deep).unwrap(), "[0.5,0.25,3.0]");
        for spacing in [flat, deep] {
            assert_eq!(spacing.to_string().parse::<Spacing>().unwrap(), spacing);
            let json = serde_json::to_string(&spacing).unwrap();
            assert_eq!(serde_json::from_str::<Spacing>(&json).unwrap(), spacing);
        }
    }

    #[test]
    fn what_is_no_distance_is_refused() {
        for text in [
            "", "1", "1,", "1,1,1,1", "0,1", "1,-1", "1,NaN", "1,inf", "1,101", "0.009,1", "a,b",
        ] {
            let error = text.parse::<Spacing>().unwrap_err().to_string();
            assert!(error.starts_with(&format!("{text:?}")), "{error}");
        }
        assert!(serde_json::from_str::<Spacing>("[1, null]").is_err());
        assert!(serde_json::from_str::<Spacing>("[1]").is_err());
    }
}
