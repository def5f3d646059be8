//! Gradients of convolutions of every channel by itself, on the CPU.

use glioseg_shared::depthwise::{BLOCK, Room, Steps, correlate};

use super::sums::sum_of_pairs;

/// Gradients of [`Steps::convolve`] by the plane and by the kernel.
pub(super) fn convolve_backward(
    steps: &Steps,
    [plane, kernel, gradient]: [&[f32]; 3],
    room: &mut GradientRoom,
    by_plane: &mut [f32],
    by_kernel: &mut [f32],
) {
    let dealt = steps.deal(plane, &mut room.plane);
    // The gradient of what is no result is zero: between the rows, after them, and before them as far as a tap looks.
    let before = steps.reach() * (steps.pitch() + 1);
    let length = steps.dealt().next_multiple_of(BLOCK);
    room.spread.clear();
    room.spread.resize(before + length, 0.0);
    let rows = room.spread[before..].chunks_mut(steps.pitch());
    for (to, from) in rows.zip(gradient.chunks_exact(steps.columns())) {
        to[..steps.columns()].copy_from_slice(from);
    }
    let results = &room.spread[before..][..steps.span()];
    for (tap, by_weight) in by_kernel.iter_mut().enumerate() {
        let (phase, offset) = steps.place(tap);
        let values = &dealt[phase * steps.dealt() + offset..][..results.len()];
        *by_weight = sum_of_pairs(values, results, |value, g| value * g) as f32;
    }
    room.collected.clear();
    for phase in 0..steps.phases() {
        room.taps.clear();
        let taps = kernel.iter().enumerate();
        room.taps.extend(taps.filter_map(|(tap, &w)| {
            let (looked_at, offset) = steps.place(tap);
            (looked_at == phase).then_some((before - offset, w))
        }));
        room.by_dealt.resize(length, 0.0);
        correlate(&room.spread, &room.taps, 0.0, &mut room.by_dealt);
        room.collected
            .extend_from_slice(&room.by_dealt[..steps.dealt()]);
    }
    steps.collect(&room.collected, by_plane);
}

/// Memory that is used again for every plane.
#[derive(Debug, Default)]
pub(super) struct GradientRoom {
    plane: Room,
    spread: Vec<f32>,
    by_dealt: Vec<f32>,
    collected: Vec<f32>,
    taps: Vec<(usize, f32)>,
}
