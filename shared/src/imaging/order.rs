//! The order in which a person expects numbered files.

use std::cmp::Ordering;

/// Compares names with runs of digits taken as numbers: `scan_2` before `scan_10`.
///
/// Everything but ASCII digits is compared byte by byte. Names that differ only in leading zeros are told apart by
/// their bytes, so that the order is total and equal names only are [`Ordering::Equal`]. Numbers may have any length.
#[must_use]
pub fn natural_order(a: &str, b: &str) -> Ordering {
    let (mut left, mut right) = (a.as_bytes(), b.as_bytes());
    loop {
        let (Some(&first), Some(&second)) = (left.first(), right.first()) else {
            return left.len().cmp(&right.len()).then_with(|| a.cmp(b));
        };
        let order = if first.is_ascii_digit() && second.is_ascii_digit() {
            compare_numbers(take_number(&mut left), take_number(&mut right))
        } else {
            left = &left[1..];
            right = &right[1..];
            first.cmp(&second)
        };
        if order.is_ne() {
            return order;
        }
    }
}

/// Cuts the run of digits off the front.
fn take_number<'a>(text: &mut &'a [u8]) -> &'a [u8] {
    let end = text
        .iter()
        .position(|byte| !byte.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, rest) = text.split_at(end);
    *text = rest;
    number
}

fn compare_numbers(a: &[u8], b: &[u8]) -> Ordering {
    let significant = |digits: &[u8]| {
        digits
            .iter()
            .position(|&d| d != b'0')
            .unwrap_or(digits.len())
    };
    let (a, b) = (&a[significant(a)..], &b[significant(b)..]);
    a.len().cmp(&b.len()).then_with(|| a.cmp(b))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn numbers_count_as_numbers() {
        let mut names = [
            "p_10.tif",
            "p_2.tif",
            "p_1_mask.tif",
            "p_1.tif",
            "p_02.tif",
            "p",
            "o_3",
        ];
        names.sort_by(|a, b| natural_order(a, b));
        assert_eq!(
            names,
            [
                "o_3",
                "p",
                "p_1.tif",
                "p_1_mask.tif",
                "p_02.tif",
                "p_2.tif",
                "p_10.tif"
            ]
        );
    }

    #[test]
    fn numbers_longer_than_any_integer_are_compared() {
        let nines = "9".repeat(60);
        let power = format!("1{}", "0".repeat(60));
        assert_eq!(natural_order(&nines, &power), Ordering::Less);
    }

    proptest! {
        #[test]
        fn it_is_a_total_order(
            a in "[a_0-2é]{0,8}", b in "[a_0-2é]{0,8}", c in "[a_0-2é]{0,8}",
        ) {
            prop_assert_eq!(natural_order(&a, &b), natural_order(&b, &a).reverse());
            prop_assert_eq!(natural_order(&a, &b) == Ordering::Equal, a == b);
            if natural_order(&a, &b).is_le() && natural_order(&b, &c).is_le() {
                prop_assert!(natural_order(&a, &c).is_le());
            }
        }

        #[test]
        fn it_follows_the_numbers(prefix in "[a-z_]{0,5}", x: u32, y: u32, suffix in "[a-z.]{0,5}") {
            let name = |n: u32| format!("{prefix}{n}{suffix}");
            prop_assert_eq!(natural_order(&name(x), &name(y)), x.cmp(&y));
        }
    }
}
