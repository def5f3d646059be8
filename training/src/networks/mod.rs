//! Networks: what they are made of, and burn running them.

mod attention_unet;
mod combine;
mod efficient;
pub mod graph;
mod lean;
mod network;
mod residual;
mod unet;

pub use attention_unet::attention_unet;
pub use combine::{ensemble, mirrored, scaled};
pub use efficient::{efficient_lite0, efficient_lite0_encoder};
pub use graph::Graph;
pub use lean::Lean;
pub use network::{Network, Weights, WeightsError, fresh_weights};
pub use unet::unet;
