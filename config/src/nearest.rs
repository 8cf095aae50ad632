//! Finds the known word that a misspelt one is probably meant to be.

/// A word is near if at least this much of it agrees (Jaro and Winkler), or if one slip of the finger explains it.
const SIMILARITY_MIN: f64 = 0.86;

/// No known word is half as long. The time to compare grows with the product of the lengths.
const WORD_BYTES_MAX: usize = 100;

/// The nearest of the known words, if one is near.
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if word.len() > WORD_BYTES_MAX {
        return None;
    }
    let word = word.to_ascii_lowercase().replace('-', "_");
    let distance = |candidate: &str| {
        let candidate = candidate.to_ascii_lowercase().replace('-', "_");
        let edits = strsim::damerau_levenshtein(&word, &candidate);
        let similarity = strsim::jaro_winkler(&word, &candidate);
        let near = similarity >= SIMILARITY_MIN || edits <= 1 && candidate.len() > 2;
        near.then_some((edits, similarity))
    };
    let near = known
        .into_iter()
        .filter_map(|candidate| Some((distance(candidate)?, candidate)));
    let best = near.min_by(|((edits, similarity), _), ((other_edits, other), _)| {
        edits.cmp(other_edits).then(other.total_cmp(similarity))
    });
    best.map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_finds_the_word_that_was_meant_and_another_word_finds_none() {
        let known = [
            "connect",
            "roots",
            "session_timeout",
            "snapshot",
            "data",
            "max_data",
        ];
        let check = |word, expected| assert_eq!(nearest(word, known), expected, "{word}");
        check("conect", Some("connect"));
        check("root", Some("roots"));
        check("sesion_timeout", Some("session_timeout"));
        check("session-timeout", Some("session_timeout"));
        check("sessionTimeout", Some("session_timeout"));
        check("Data", Some("data"));
        check("password", None);
        check("x", None);
        check(&"conect".repeat(100_000), None);
    }
}
