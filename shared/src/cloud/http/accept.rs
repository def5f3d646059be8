//! Which of the representations on offer a caller gets: `Accept` of RFC 9110, section 12.5.1.

use crate::cloud::Problem;

/// Most elements of an `Accept` header that are looked at; browsers send fewer than ten.
const MAX_RANGES: usize = 64;

/// A representation on offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offer<T> {
    /// Its media type, lower-case, without parameters.
    pub media_type: &'static str,
    /// Its value of the `view` parameter, which tells apart representations of one media type.
    pub view: Option<&'static str>,
    /// What the handler knows it by.
    pub value: T,
}

/// Chooses the offer that the caller likes best; among equals the one that comes first in `offers`.
///
/// No header, or an empty one, accepts everything. Parameters other than `view` and `q` are ignored, since clients send
/// `charset` and the like without meaning it. Elements that break the syntax are passed over.
///
/// # Errors
///
/// [`Problem::not_acceptable`], with what is on offer, where nothing is accepted.
///
/// ```
/// use glioseg_shared::cloud::http::{Offer, negotiate};
///
/// let offers = [
///     Offer { media_type: "application/json", view: None, value: "report" },
///     Offer { media_type: "image/png", view: Some("mask"), value: "mask" },
///     Offer { media_type: "image/png", view: Some("overlay"), value: "overlay" },
/// ];
/// assert_eq!(negotiate(None, &offers), Ok(&"report"));
/// assert_eq!(negotiate(Some("image/png, */*;q=0.1"), &offers), Ok(&"mask"));
/// assert_eq!(negotiate(Some("image/png;view=overlay"), &offers), Ok(&"overlay"));
/// ```
pub fn negotiate<'a, T>(accept: Option<&str>, offers: &'a [Offer<T>]) -> Result<&'a T, Problem> {
    let accept = accept
        .map(str::trim)
        .filter(|accept| !accept.is_empty())
        .unwrap_or("*/*");
    let ranges: Vec<Range> = accept
        .split(',')
        .take(MAX_RANGES)
        .filter_map(Range::parse)
        .collect();
    let mut best: Option<(u16, &T)> = None;
    for offer in offers {
        // The most specific range that matches decides, whatever others say.
        let quality = ranges
            .iter()
            .filter(|range| range.matches(offer))
            .max_by_key(|range| range.specificity())
            .map_or(0, |range| range.quality);
        if quality > best.map_or(0, |(quality, _)| quality) {
            best = Some((quality, &offer.value));
        }
    }
    best.map(|(_, value)| value).ok_or_else(|| {
        let names: Vec<String> = offers.iter().map(Offer::name).collect();
        Problem::not_acceptable(format!(
            "nothing that the accept header takes can be given; on offer are {}",
            names.join(", ")
        ))
    })
}

impl<T> Offer<T> {
    fn name(&self) -> String {
        match self.view {
            Some(view) => format!("{};view={view}", self.media_type),
            None => self.media_type.to_owned(),
        }
    }
}

/// One element of an `Accept` header.
struct Range {
    kind: String,
    subtype: String,
    view: Option<String>,
    /// In thousandths, the precision of the header.
    quality: u16,
}

impl Range {
    fn parse(element: &str) -> Option<Self> {
        let mut parts = element.split(';').map(str::trim);
        let (kind, subtype) = parts.next()?.split_once('/')?;
        let wildcard_first = kind == "*" && subtype != "*";
        if kind.is_empty() || subtype.is_empty() || wildcard_first {
            return None;
        }
        let mut range = Self {
            kind: kind.to_ascii_lowercase(),
            subtype: subtype.to_ascii_lowercase(),
            view: None,
            quality: 1000,
        };
        for parameter in parts.filter(|parameter| !parameter.is_empty()) {
            let (name, value) = parameter.split_once('=')?;
            let value = value.trim().trim_matches('"');
            match name.trim().to_ascii_lowercase().as_str() {
                "q" => range.quality = quality(value)?,
                "view" => range.view = Some(value.to_ascii_lowercase()),
                _ => {}
            }
        }
        Some(range)
    }

    fn matches<T>(&self, offer: &Offer<T>) -> bool {
        let (kind, subtype) = offer.media_type.split_once('/').unwrap_or_default();
        (self.kind == "*" || self.kind == kind)
            && (self.subtype == "*" || self.subtype == subtype)
            && (self.view.is_none() || self.view.as_deref() == offer.view)
    }

    fn specificity(&self) -> (bool, bool, bool) {
        (self.kind != "*", self.subtype != "*", self.view.is_some())
    }
}

/// A quality of 0 to 1 with at most three decimals, in thousandths.
fn quality(text: &str) -> Option<u16> {
    let (whole, decimals) = text.split_once('.').unwrap_or((text, ""));
    if decimals.len() > 3 || !decimals.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let thousandths = format!("{decimals:0<3}").parse::<u16>().ok()?;
    match whole {
        "0" => Some(thousandths),
        "1" if thousandths == 0 => Some(1000),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OFFERS: [Offer<&str>; 5] = [
        offer("application/json", None, "report"),
        offer("image/tiff", None, "tiff"),
        offer("image/png", Some("mask"), "mask"),
        offer("image/png", Some("overlay"), "overlay"),
        offer("image/png", Some("probability"), "probability"),
    ];

    const fn offer(
        media_type: &'static str,
        view: Option<&'static str>,
        value: &'static str,
    ) -> Offer<&'static str> {
        Offer {
            media_type,
            view,
            value,
        }
    }

    #[test]
    fn the_caller_gets_what_it_likes_best() {
        for (accept, expected) in [
            (None, Some("report")),
            (Some(""), Some("report")),
            (Some("*/*"), Some("report")),
            (Some("application/json"), Some("report")),
            (Some("Application/JSON; charset=utf-8"), Some("report")),
            (Some("application/*"), Some("report")),
            (Some("image/tiff"), Some("tiff")),
            (Some("image/*"), Some("tiff")),
            (Some("image/png"), Some("mask")),
            (Some("image/png;view=mask"), Some("mask")),
            (Some("image/png;view=overlay"), Some("overlay")),
            (Some("image/png; View=\"Overlay\""), Some("overlay")),
            (Some("image/*;view=probability"), Some("probability")),
            // Quality, then the order of the offers.
            (Some("image/tiff, application/json"), Some("report")),
            (Some("image/tiff, application/json;q=0.9"), Some("tiff")),
            (Some("image/png;q=0.5, image/tiff;q=0.501"), Some("tiff")),
            (Some("*/*;q=0.1, image/png"), Some("mask")),
            // A browser.
            (
                Some("text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8"),
                Some("report"),
            ),
            // The most specific range decides, even against a better one.
            (Some("image/png, image/png;view=mask;q=0"), Some("overlay")),
            (Some("application/json;q=0, */*"), Some("tiff")),
            (
                Some("*/*, application/json;q=0.2, image/*;q=0.1"),
                Some("report"),
            ),
            // Nothing to be had.
            (Some("text/html"), None),
            (Some("image/png;view=contours"), None),
            (Some("image/tiff;view=mask"), None),
            (Some("*/*;q=0"), None),
            (Some("application/json;q=0.000"), None),
            // What breaks the syntax is passed over.
            (Some("nonsense"), None),
            (Some("*/json"), None),
            (Some("image/png;q=2"), None),
            (Some("image/png;q=-1"), None),
            (Some("image/png;q=0.1234"), None),
            (Some("image/png;q=1.001"), None),
            (Some("image/png;q="), None),
            (Some("image/png;view, image/tiff"), Some("tiff")),
            (Some(", ,image/tiff;"), Some("tiff")),
        ] {
            let chosen = negotiate(accept, &OFFERS);
            assert_eq!(chosen.ok().copied(), expected, "{accept:?}");
        }
    }

    #[test]
    fn the_refusal_names_what_is_on_offer() {
        let problem = negotiate(Some("text/html"), &OFFERS).err();
        assert_eq!(problem.as_ref().map(Problem::status), Some(406));
        let detail = problem.map(|problem| problem.detail().to_owned());
        assert!(detail.is_some_and(|detail| detail.contains("image/tiff, image/png;view=mask")),);
    }
}
