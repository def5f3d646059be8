//! The frame of reports for people: one HTML file, without scripts, that asks for nothing from anywhere.

use std::fmt::{self, Display, Write as _};

use base64::prelude::{BASE64_STANDARD, Engine as _};

use crate::model::contract::NOTICE;

/// What all pages look like.
const STYLE: &str = include_str!("page.css");

/// A page. What is text here need not be escaped; `main` is markup.
#[derive(Clone, Copy, Debug)]
pub struct Page<'a> {
    /// The title of its window.
    pub title: &'a str,
    /// The heading.
    pub heading: &'a str,
    /// The line below it.
    pub lead: &'a str,
    /// CSS besides what all pages have.
    pub style: &'a str,
    /// The content.
    pub main: &'a str,
}

/// Writes the whole file, with the notice at its top and at its end.
impl Display for Page<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (title, heading, lead) = (Text(self.title), Text(self.heading), Text(self.lead));
        let Self { style, main, .. } = self;
        // The policy holds the page to its promise: a browser would refuse anything from outside.
        write!(
            f,
            "<!DOCTYPE html>\n<html lang=\"en-GB\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; img-src data:; style-src 'unsafe-inline'\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <title>{title}</title>\n<style>\n{STYLE}{style}</style>\n</head>\n<body>\n\
             <header>\n<p class=\"notice\">{NOTICE}</p>\n<h1>{heading}</h1>\n\
             <p class=\"lead\">{lead}</p>\n</header>\n\
             <main>\n{main}</main>\n<footer>\n<p>{NOTICE}</p>\n</footer>\n</body>\n</html>\n"
        )
    }
}

/// Text that is no markup, between tags or inside a quoted attribute.
#[derive(Clone, Copy, Debug)]
pub struct Text<'a>(pub &'a str);

impl Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for character in self.0.chars() {
            match character {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                // No browser shows them, and some are no HTML at all.
                control if control.is_control() => f.write_str("\u{fffd}")?,
                other => f.write_char(other)?,
            }
        }
        Ok(())
    }
}

/// The bytes of a PNG as the address of an image, so that it is inside the page.
#[must_use]
pub fn png_address(png: &[u8]) -> String {
    format!("data:image/png;base64,{}", BASE64_STANDARD.encode(png))
}

/// An entry of a legend: what a colour (red, green, blue) means.
#[must_use]
pub fn swatch([red, green, blue]: [u8; 3], meaning: &str) -> String {
    format!(
        "<li><span class=\"swatch\" style=\"background:rgb({red},{green},{blue})\" aria-hidden=\"true\"></span>\
         {}</li>",
        Text(meaning)
    )
}

/// A legend of entries: those that [`swatch`] makes, and other list items.
#[must_use]
pub fn legend(entries: &[String]) -> String {
    format!(
        "<ul class=\"legend\" aria-label=\"Colours\">{}</ul>\n",
        entries.concat()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_never_markup() {
        let text = Text("<b> & \"'\u{1}").to_string();
        assert_eq!(text, "&lt;b&gt; &amp; &quot;&#39;\u{fffd}");
    }

    #[test]
    fn a_page_asks_for_nothing_and_says_what_it_is_for() {
        let page = Page {
            title: "<i>",
            heading: "<b>",
            lead: "&",
            style: "h1 { color: red; }",
            main: "<p>content</p>",
        };
        let html = page.to_string();
        for part in [
            "<title>&lt;i&gt;</title>",
            "<h1>&lt;b&gt;</h1>",
            "&amp;",
            "h1 { color: red; }</style>",
            "<main>\n<p>content</p></main>",
            "default-src 'none'",
        ] {
            assert!(html.contains(part), "{part}");
        }
        assert_eq!(html.matches(NOTICE).count(), 2);
        for asks in ["http:", "https:", "<script", "<link", "url("] {
            assert!(!html.contains(asks), "{asks}");
        }
    }
}
