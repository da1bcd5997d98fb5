//! The page shows a running sensor to people who would rather look than read.
//!
//! It is one document: nothing is loaded from elsewhere. Its parts are files of their own, so that
//! the policy for a browser has the hashes of exactly the style and the script that are in it. The
//! script asks `status` and `ledger` beside the page, once a second.

use std::sync::LazyLock;

use hyper::header;
use sha2::{Digest, Sha256};

use crate::http::Answer;

/// The style of the document. `concat!` takes literals alone, so this is no constant.
macro_rules! style {
    () => {
        include_str!("style.css")
    };
}

/// The script of the document.
macro_rules! script {
    () => {
        concat!(
            include_str!("words.js"),
            include_str!("reasons.js"),
            include_str!("flow.js"),
            include_str!("table.js"),
            include_str!("page.js")
        )
    };
}

/// The document.
const DOCUMENT: &str = concat!(
    include_str!("head.html"),
    "<style>",
    style!(),
    "</style>\n",
    include_str!("body.html"),
    "<script type=\"module\">",
    script!(),
    "</script>\n</body>\n</html>\n"
);

/// What a browser may do with the page: run its script, use its style, and ask this sensor.
static POLICY: LazyLock<String> = LazyLock::new(|| {
    format!(
        "default-src 'none'; script-src '{}'; style-src '{}'; connect-src 'self'; img-src data:; base-uri 'none'; \
         form-action 'none'; frame-ancestors 'none'",
        source(script!()),
        source(style!())
    )
});

/// Answers with the page.
pub(crate) fn page() -> Answer {
    Answer::of("text/html; charset=utf-8", DOCUMENT).with(header::CONTENT_SECURITY_POLICY, &POLICY)
}

/// Returns the word of a policy for a text in the document: its hash.
fn source(text: &str) -> String {
    format!("sha256-{}", base64(&Sha256::digest(text)))
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for three in bytes.chunks(3) {
        let number = (0..3).fold(0, |number, at| number << 8 | usize::from(*three.get(at).unwrap_or(&0)));
        for digit in 0..4 {
            let is_there = digit <= three.len();
            text.push(if is_there { char::from(DIGITS[number >> (18 - 6 * digit) & 63]) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests;
