//! Globs of paths, within bounds: a pattern becomes a regular expression, which takes memory and stack for each level.

use globset::{Glob, GlobBuilder};

/// Longer than the paths that people write.
const GLOB_BYTES_MAX: usize = 1_024;

/// `{a,{b,c}}` has two.
const BRACES_MAX: usize = 8;

/// A glob in which `*` is within one name and `**` goes across names. A slash at its end has no meaning, as in the paths
/// that commands take.
///
/// # Errors
/// The reason why the text is no such glob, or why no path can match it.
pub fn path_glob(text: &str) -> Result<Glob, String> {
    let text = match text.trim_end_matches('/') {
        "" if text.starts_with('/') => "/",
        text => text,
    };
    if !text.starts_with(['/', '*', '?', '{', '[']) {
        return Err("paths begin with '/', so it would match nothing".to_owned());
    }
    if text.len() > GLOB_BYTES_MAX {
        return Err(format!(
            "it has {} bytes, and {GLOB_BYTES_MAX} are allowed",
            text.len()
        ));
    }
    if text.contains("//") || text.split('/').any(|name| matches!(name, "." | "..")) {
        return Err("no path has an empty name, '.' or '..', so it would match nothing".to_owned());
    }
    let mut open = 0_usize;
    for byte in text.bytes() {
        match byte {
            b'{' => open += 1,
            b'}' => open = open.saturating_sub(1),
            _ => {}
        }
        if open > BRACES_MAX {
            return Err(format!("braces are nested more than {BRACES_MAX} deep"));
        }
    }
    GlobBuilder::new(text)
        .literal_separator(true)
        .backslash_escape(true)
        .build()
        .map_err(|error| error.kind().to_string())
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn a_slash_at_the_end_is_forgiven_and_names_that_no_path_has_are_refused() {
        for (glob, path) in [
            ("/a/b/", "/a/b"),
            ("/a/b//", "/a/b"),
            ("/**/secret/", "/x/secret"),
            ("/a/[b]/", "/a/b"),
            ("/a/**/", "/a/b/c"),
            ("/", "/"),
            ("//", "/"),
        ] {
            let matcher = path_glob(glob).unwrap().compile_matcher();
            assert!(matcher.is_match(path), "{glob}");
        }
        for glob in ["//a/b", "/a//b", "/a/./b", "/a/..", "/./", "/a/{b,c}//d"] {
            let refused = path_glob(glob).unwrap_err();
            assert!(refused.contains("match nothing"), "{glob}: {refused}");
        }
    }

    #[test]
    fn a_glob_that_is_too_long_or_too_deep_is_refused_and_every_other_one_compiles_at_once() {
        let nested = |deep: usize| format!("/{}a{}", "{".repeat(deep), "}".repeat(deep));
        for (glob, reason) in [
            (nested(500), "nested"),
            (nested(BRACES_MAX + 1), "nested"),
            (format!("/{}", "a".repeat(100_000)), "bytes"),
            ("a".to_owned(), "begin with"),
        ] {
            let refused = path_glob(&glob).unwrap_err();
            assert!(refused.contains(reason), "{refused}");
        }
        let began = Instant::now();
        for glob in [
            nested(BRACES_MAX),
            format!("/{}", "?".repeat(GLOB_BYTES_MAX - 1)),
            format!("/{}", "**/".repeat(GLOB_BYTES_MAX / 3 - 1)),
            format!("/{}", "{a,b}".repeat(GLOB_BYTES_MAX / 5 - 1)),
            format!("/{}", "[!x]".repeat(GLOB_BYTES_MAX / 4 - 1)),
        ] {
            path_glob(&glob).unwrap().compile_matcher();
        }
        assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    }
}
