//! Pixels in, pixels out: decoding, encoding, and what can be said of a mask.

mod colour_map;
pub mod components;
pub mod contour;
mod decode;
pub mod edge;
mod error;
pub mod grid;
mod limits;
mod mask;
mod order;
pub mod overlay;
mod page;
pub mod phantom;
mod png;
mod rescale;
mod slice;
mod tiff;

pub use decode::{SliceReader, decode_masks, decode_slices};
pub use error::{ImagingError, Limit};
pub use limits::Limits;
pub use mask::{BoundingBox, Mask, ProbabilityMap};
pub use order::natural_order;
pub use png::{encode_mask_png, encode_probability_png, encode_rgb_png};
pub use slice::{CHANNELS, Channel, Intensity, Slice};
pub use tiff::{encode_mask_tiff, encode_slice_tiff};
