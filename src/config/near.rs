//! Of the words that are known, one is nearest to what was written.

/// Finds the word that `written` is likely to be a slip for.
pub(super) fn nearest<'a>(written: &str, words: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let plain = |word: &str| word.to_lowercase().replace(['-', ' '], "_");
    let written = plain(written);
    let most = (written.chars().count() / 3).clamp(1, 3);
    let distance = |word: &str| strsim::osa_distance(&written, &plain(word));
    words.into_iter().map(|word| (distance(word), word)).filter(|(far, _)| *far <= most).min().map(|(_, word)| word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_seen_and_other_words_are_not() {
        let words = ["listen", "workers", "rotate_size", "on"];
        for (written, wanted) in [
            ("lisen", Some("listen")),
            ("Workers", Some("workers")),
            ("rotate-size", Some("rotate_size")),
            ("no", Some("on")),
            ("port", None),
            ("", None),
        ] {
            assert_eq!(nearest(written, words), wanted, "{written}");
        }
    }
}
