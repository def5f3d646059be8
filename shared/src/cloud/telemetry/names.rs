//! Keys in logs: they name patients, so digits stand for them.

use std::fmt;
use std::sync::OnceLock;

use crate::digest::sha256_hex;

const KEYS_VARIABLE: &str = "GLIOSEG_LOG_KEYS";

/// A key as logs show it: the first 12 digits of its SHA-256, or itself where `GLIOSEG_LOG_KEYS=plain`.
///
/// Keys name patients. The same key has the same digits everywhere, so its path through the functions can be followed.
#[derive(Clone, Copy, Debug)]
pub struct KeyLog<'a>(pub &'a str);

impl fmt::Display for KeyLog<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if keys_are_plain() {
            f.write_str(self.0)
        } else {
            f.write_str(&digits(self.0))
        }
    }
}

/// Text, such as an error's, with the key, its folders and its file name replaced as [`KeyLog`] would.
#[must_use]
pub fn scrub(text: &str, key: &str) -> String {
    if keys_are_plain() {
        text.to_owned()
    } else {
        without_names(text, key)
    }
}

fn keys_are_plain() -> bool {
    static PLAIN: OnceLock<bool> = OnceLock::new();
    *PLAIN.get_or_init(|| std::env::var(KEYS_VARIABLE).is_ok_and(|value| value == "plain"))
}

fn digits(name: &str) -> String {
    let mut digits = sha256_hex(name.as_bytes());
    digits.truncate(12);
    digits
}

/// Errors name derived objects too, such as `masks/<study>/<slice>.tif`, so the parts of the key go as well as the
/// whole; and some write a name as Rust's `{:?}` does.
fn without_names(text: &str, key: &str) -> String {
    let mut names = vec![key];
    for segment in key.split('/') {
        let stem = segment.rsplit_once('.').map_or(segment, |(stem, _)| stem);
        names.extend([segment, stem, without_role(stem)]);
    }
    let mut written: Vec<(String, &str)> = names
        .into_iter()
        .filter(|name| !name.is_empty())
        .flat_map(|name| {
            [
                (name.to_owned(), name),
                (name.escape_debug().to_string(), name),
            ]
        })
        .collect();
    // The longest first, or a part would hide the whole.
    written.sort_by(|(a, _), (b, _)| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
    written.dedup();
    written
        .iter()
        .fold(text.to_owned(), |text, (written, name)| {
            replace_whole(&text, written, &digits(name))
        })
}

/// A slice's or file's name without what marks a truth or the page of a file: both appear without it elsewhere.
fn without_role(stem: &str) -> &str {
    if let Some((name, page)) = stem.rsplit_once("_page_")
        && page.bytes().all(|b| b.is_ascii_digit())
    {
        return name;
    }
    match stem.len().checked_sub("_mask".len()) {
        Some(at) if stem.is_char_boundary(at) && stem[at..].eq_ignore_ascii_case("_mask") => {
            &stem[..at]
        }
        _ => stem,
    }
}

/// Replaces a name where it stands by itself: not the 1 of `10` for a slice called `1`.
fn replace_whole(text: &str, name: &str, by: &str) -> String {
    let mut replaced = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(name) {
        let (before, after) = (&rest[..at], &rest[at + name.len()..]);
        let joined = |neighbour: Option<char>, end: Option<char>| {
            neighbour.is_some_and(char::is_alphanumeric) && end.is_some_and(char::is_alphanumeric)
        };
        let neighbour_before = before.chars().next_back().or(replaced.chars().next_back());
        replaced.push_str(before);
        if joined(neighbour_before, name.chars().next())
            || joined(after.chars().next(), name.chars().next_back())
        {
            replaced.push_str(name);
        } else {
            replaced.push_str(by);
        }
        rest = after;
    }
    replaced.push_str(rest);
    replaced
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_shown_as_digits() {
        // printf abc | sha256sum
        assert_eq!(digits("abc"), "ba7816bf8f01");
    }

    #[test]
    fn no_part_of_a_key_stays_in_an_error() {
        let key = "study of Jane/TCGA_12/scan_7.tif";
        let text = "no object study of Jane/TCGA_12/scan_7.tif; masks/study of Jane/TCGA_12/scan_7.png, scan_7";
        let clean = without_names(text, key);
        for name in ["Jane", "TCGA", "scan"] {
            assert!(!clean.contains(name), "{clean}");
        }
        assert!(
            clean.starts_with(&format!("no object {}; masks/", digits(key))),
            "{clean}"
        );
        for (text, key) in [
            ("truth/s/Jane.tif", "s/Jane_MASK.tif"),
            ("the upload s/Jane.tif", "prepared/s/Jane_page_12.png"),
            ("page Jane_page_3", "s/Jane.tif"),
            ("no key: \"Jane\\tDoe\"", "s/Jane\tDoe.tif"),
            ("Jane; s/Jane.tif", "Jane"),
        ] {
            let clean = without_names(text, key);
            assert!(!clean.contains("Jane"), "{clean}");
        }
        // Short names take nothing else away.
        assert_eq!(
            without_names("status 10 of 1/1_mask: a1", "1/1.tif"),
            format!("status 10 of {0}/{0}_mask: a1", digits("1"))
        );
        assert_eq!(without_names("text", ""), "text");
    }
}
