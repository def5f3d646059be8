//! Elementary functions without branches or tables, which the compiler can compute for several values side by side.

/// ln x for normal x > 0, to a unit in the last place.
///
/// x is 2^e m with m in sqrt(1/2)..sqrt(2), and ln m a polynomial in (m - 1) / (m + 1): FreeBSD's `logf`.
#[inline]
pub(crate) fn ln(x: f32) -> f32 {
    const HALF_ROOT: u32 = 0x3f35_04f3; // sqrt(1/2)
    let bits = x.to_bits().wrapping_add(0x3f80_0000 - HALF_ROOT);
    let e = ((bits >> 23) as i32 - 127) as f32;
    let f = f32::from_bits((bits & 0x007f_ffff) + HALF_ROOT) - 1.0;
    let s = f / (2.0 + f);
    let z = s * s;
    let w = z * z;
    let even = w * (0.400_009_72 + w * 0.242_790_79);
    let odd = z * (0.666_666_6 + w * 0.284_987_87);
    let half_square = 0.5 * f * f;
    // ln 2 in two parts, the first of so few digits that its product with e is exact.
    (s * (half_square + even + odd) + e * 9.058_001e-6 - half_square + f) + e * 0.693_138_1
}

/// e^x, to 2 units in the last place; x below -87 or above 88 counts as that.
///
/// x is n ln 2 + r with |r| at most ln 2 / 2, and e^r a polynomial: Cephes' `expf`.
#[inline]
pub(crate) fn exp(x: f32) -> f32 {
    // Added, it rounds to a whole number, which then stands in the last bits.
    const ROUND: f32 = 12_582_912.0; // 1.5 * 2^23
    let x = x.clamp(-87.0, 88.0);
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = x - n * 0.693_359_4 + n * 2.121_944_4e-4;
    let p = 1.987_569_1e-4;
    let p = p * r + 1.398_199_9e-3;
    let p = p * r + 8.333_452e-3;
    let p = p * r + 4.166_579_6e-2;
    let p = p * r + 0.166_666_66;
    let p = p * r + 0.5;
    let power = f32::from_bits((shifted.to_bits() << 23).wrapping_add(0x3f80_0000));
    (p * r * r + r + 1.0) * power
}

/// Cosine and sine of an angle between -π/4 and π/4, to 4e-7 (Taylor series).
#[inline]
pub(crate) fn cosine_and_sine(angle: f32) -> (f32, f32) {
    let z = angle * angle;
    let cosine = 1.0 + z * (-0.5 + z * (1.0 / 24.0 + z * (-1.0 / 720.0 + z * (1.0 / 40_320.0))));
    let sine = angle * (1.0 + z * (-1.0 / 6.0 + z * (1.0 / 120.0 + z * (-1.0 / 5_040.0))));
    (cosine, sine)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Distance as a part of the true value.
    fn relative(ours: f32, truth: f64) -> f64 {
        (f64::from(ours) - truth).abs() / truth.abs()
    }

    #[test]
    fn logarithms_are_right() {
        assert_eq!(ln(1.0), 0.0);
        for i in 1..200_000 {
            let x = 1e-6 * 1.000_1_f64.powi(i) as f32;
            let truth = f64::from(x).ln();
            assert!(relative(ln(x), truth) < 1.2e-7, "ln {x}");
        }
    }

    #[test]
    fn exponentials_are_right() {
        assert_eq!(exp(0.0), 1.0);
        for i in -8_700..=8_800 {
            let x = i as f32 / 100.0;
            assert!(relative(exp(x), f64::from(x).exp()) < 2.4e-7, "e^{x}");
        }
        assert_eq!(exp(-1e9), exp(-87.0));
        assert_eq!(exp(1e9), exp(88.0));
    }

    #[test]
    fn cosines_and_sines_are_right() {
        for i in -1_000..=1_000 {
            let angle = std::f32::consts::FRAC_PI_4 * i as f32 / 1_000.0;
            let (cosine, sine) = cosine_and_sine(angle);
            let truth = f64::from(angle);
            assert!(
                (f64::from(cosine) - truth.cos()).abs() < 4e-7,
                "cos {angle}"
            );
            assert!((f64::from(sine) - truth.sin()).abs() < 4e-7, "sin {angle}");
        }
    }
}
