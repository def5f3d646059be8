//! Numbers as documents hold them.

/// Rounds to six decimals: more than any figure is worth, and the same digits wherever it was computed.
///
/// Numbers too large to have six decimals stay as they are.
pub(super) fn rounded(value: f64) -> f64 {
    const SCALE: f64 = 1e6;
    let scaled = (value * SCALE).round();
    if scaled.is_finite() {
        scaled / SCALE
    } else {
        value
    }
}

/// Whether a text is a SHA-256: 64 lower-case hexadecimal digits.
pub(super) fn is_sha256(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn six_decimals_are_kept() {
        assert_eq!(rounded(1.0 / 3.0), 0.333_333);
        assert_eq!(rounded(0.1 + 0.2), 0.3);
        assert_eq!(rounded(2.0 / 3.0), 0.666_667);
        assert_eq!(rounded(f64::MAX), f64::MAX);
    }
}
