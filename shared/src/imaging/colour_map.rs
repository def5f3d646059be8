//! A colour map whose steps look equally large: inferno, from black over red to pale yellow.

/// Every fifth of the 256 colours of inferno (N. J. Smith, S. van der Walt, matplotlib 3.11, CC0).
const INFERNO: [[u8; 3]; 52] = [
    [0, 0, 4],
    [2, 2, 12],
    [5, 4, 23],
    [10, 7, 34],
    [16, 9, 45],
    [22, 11, 57],
    [30, 12, 69],
    [38, 12, 81],
    [47, 10, 91],
    [56, 9, 98],
    [64, 10, 103],
    [73, 11, 106],
    [81, 14, 108],
    [89, 16, 110],
    [97, 19, 110],
    [105, 22, 110],
    [113, 25, 110],
    [120, 28, 109],
    [128, 31, 108],
    [136, 34, 106],
    [144, 37, 104],
    [152, 39, 102],
    [160, 42, 99],
    [168, 46, 95],
    [176, 49, 91],
    [183, 53, 87],
    [191, 57, 82],
    [198, 61, 77],
    [204, 66, 72],
    [211, 71, 67],
    [217, 77, 61],
    [223, 83, 55],
    [228, 90, 49],
    [233, 97, 43],
    [237, 105, 37],
    [241, 113, 31],
    [244, 121, 24],
    [247, 130, 18],
    [249, 139, 11],
    [250, 148, 7],
    [251, 157, 7],
    [252, 166, 12],
    [252, 176, 20],
    [251, 186, 31],
    [250, 196, 42],
    [248, 205, 55],
    [246, 215, 70],
    [244, 225, 86],
    [242, 234, 105],
    [242, 242, 125],
    [245, 249, 146],
    [252, 255, 164],
];

/// The colour of a value in 0..=1, linear between the table's; values beyond are clamped, NaN is 0.
///
/// Red, green and blue, 0..=255, each within 1.5 of matplotlib's.
#[must_use]
pub(super) fn inferno(value: f32) -> [f32; 3] {
    let position = unit_interval(value) * (INFERNO.len() - 1) as f32;
    let below = (position as usize).min(INFERNO.len() - 2);
    let share = position - below as f32;
    std::array::from_fn(|channel| {
        let [low, high] = [below, below + 1].map(|i| f32::from(INFERNO[i][channel]));
        low + (high - low) * share
    })
}

/// Clamps a value to 0..=1; NaN becomes 0.
#[must_use]
pub(super) fn unit_interval(value: f32) -> f32 {
    if value.is_nan() {
        0.0
    } else {
        value.clamp(0.0, 1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::inferno;

    #[test]
    fn agrees_with_matplotlib() {
        // matplotlib.colormaps["inferno"].colors[i], times 255, between entries of the table
        let expected = [
            (3, [1.2, 0.9, 7.9]),
            (64, [87.1, 15.9, 109.5]),
            (127, [186.1, 54.3, 85.1]),
            (128, [187.6, 55.1, 84.2]),
            (201, [251.6, 158.9, 7.1]),
            (252, [247.6, 251.2, 153.5]),
        ];
        for (index, colour) in expected {
            let found = inferno(index as f32 / 255.0);
            for (found, expected) in found.iter().zip(colour) {
                let difference: f32 = found - expected;
                assert!(difference.abs() < 1.5, "{index}: {found} for {expected}");
            }
        }
    }

    #[test]
    fn clamps() {
        assert_eq!(inferno(f32::NAN), inferno(0.0));
        assert_eq!(inferno(-1.0), inferno(0.0));
        assert_eq!(inferno(f32::INFINITY), inferno(1.0));
    }
}
