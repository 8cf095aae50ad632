//! The path of a registration with names in it: `/services/{service}/{instance}_{seq}`.

use std::collections::BTreeMap;

use regex::Regex;

/// A path template, compiled.
#[derive(Clone, Debug)]
pub(crate) struct Template {
    pattern: Regex,
    names: Vec<String>,
    /// Names of the path up to the one that has `{service}`, so that all instances of a service share them.
    home_depth: usize,
    /// The path before the first name with a brace.
    fixed: String,
    /// The slashes of every path that matches; `None` where a part without a name may have some.
    slashes: Option<usize>,
}

/// Longer than the paths that people write.
const BYTES_MAX: usize = 1_024;

/// Names of one template.
const NAMES_MAX: usize = 16;

/// The compiled form of one template.
const PROGRAM_BYTES_MAX: usize = 1 << 20;

/// Ten digits, or eleven characters after the counter has overflown.
const SEQUENCE: &str = "-?[0-9]{10}";

const GUID: &str = "[0-9a-fA-F]{8}-?[0-9a-fA-F]{4}-?[0-9a-fA-F]{4}-?[0-9a-fA-F]{4}-?[0-9a-fA-F]{12}";

impl Template {
    /// Compiles a template.
    pub(crate) fn parse(text: &str) -> Result<Template, String> {
        if text.len() > BYTES_MAX {
            return Err(format!(
                "it has {} bytes, and {BYTES_MAX} are allowed",
                text.len()
            ));
        }
        if !text.starts_with('/') {
            return Err("paths begin with '/'".to_owned());
        }
        let (mut pattern, mut names) = ("^".to_owned(), Vec::new());
        let (mut rest, mut depth, mut home_depth, mut fixed) = (text, 0, None, None);
        let mut has_any_depth = false;
        while let Some(letter) = rest.chars().next() {
            if letter == '{' {
                let (inside, after) = placeholder(rest)?;
                fixed.get_or_insert_with(|| text[..text.len() - rest.len()].to_owned());
                let (name, matched) = match inside.split_once(':') {
                    Some((name, matched)) => (name, matched),
                    None => (
                        inside,
                        match inside {
                            "seq" => SEQUENCE,
                            "guid" => GUID,
                            _ => "[^/]+?",
                        },
                    ),
                };
                match name {
                    "_" => {
                        has_any_depth |= inside != "_";
                        pattern.push_str(&format!("(?:{matched})"));
                    }
                    name => {
                        check_name(name, &names)?;
                        pattern.push_str(&format!("(?P<{name}>{matched})"));
                        names.push(name.to_owned());
                    }
                }
                if name == "service" {
                    home_depth = Some(depth);
                }
                rest = after;
                continue;
            }
            if letter == '/' {
                depth += 1;
            }
            pattern.push_str(&regex::escape(letter.encode_utf8(&mut [0; 4])));
            rest = &rest[letter.len_utf8()..];
        }
        pattern.push('$');
        if !names.iter().any(|name| name == "service") {
            return Err("it has no {service}".to_owned());
        }
        let pattern = regex::RegexBuilder::new(&pattern)
            .size_limit(PROGRAM_BYTES_MAX)
            .build()
            .map_err(|error| error.to_string())?;
        Ok(Template {
            pattern,
            names,
            home_depth: home_depth.unwrap_or(depth),
            fixed: fixed.unwrap_or_default(),
            slashes: (!has_any_depth).then_some(depth),
        })
    }

    /// Whether a path can match: its beginning and its depth are those of the template.
    pub(crate) fn covers(&self, path: &str) -> bool {
        let slashes = || path.bytes().filter(|byte| *byte == b'/').count();
        path.starts_with(&self.fixed) && self.slashes.is_none_or(|count| count == slashes())
    }

    /// The names of a path that matches.
    pub(crate) fn names(&self, path: &str) -> Option<BTreeMap<&str, String>> {
        let found = self.pattern.captures(path)?;
        // A regular expression of the user may match a slash, which would be another depth.
        let names = self.names.iter().map(|name| {
            let text = found.name(name)?.as_str();
            (!text.contains('/')).then(|| (&**name, text.to_owned()))
        });
        names.collect()
    }

    /// The path that all instances of the service share.
    pub(crate) fn home<'a>(&self, path: &'a str) -> &'a str {
        let ends = path.match_indices('/').map(|(at, _)| at).chain([path.len()]);
        let end = ends
            .skip(1)
            .nth(self.home_depth.saturating_sub(1))
            .unwrap_or(path.len());
        &path[..end]
    }

    /// Fills the names into a text with placeholders.
    pub(crate) fn fill(text: &str, names: &BTreeMap<&str, String>) -> String {
        let mut filled = text.to_owned();
        for (name, value) in names {
            let placeholder = format!("{{{name}}}");
            if filled.contains(&placeholder) {
                filled = filled.replace(&placeholder, value);
            }
        }
        filled
    }

    /// Whether a text uses only names of this template.
    pub(crate) fn check_names(&self, text: &str) -> Result<(), String> {
        let mut rest = text;
        let mut used = 0;
        while let Some(at) = rest.find('{') {
            let (name, after) = placeholder(&rest[at..])?;
            if !self.names.iter().any(|known| known == name) {
                return Err(format!("the path has no {{{name}}}"));
            }
            (rest, used) = (after, used + 1);
        }
        match used {
            0 => Err("it has no name of the path, so that all instances would be one".to_owned()),
            _ => Ok(()),
        }
    }
}

/// The content of the braces at the beginning, and the rest. Braces inside belong to a regular expression.
fn placeholder(text: &str) -> Result<(&str, &str), String> {
    let mut open = 0_usize;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'{' => open += 1,
            b'}' if open == 1 => return Ok((&text[1..at], &text[at + 1..])),
            b'}' => open -= 1,
            _ => {}
        }
    }
    Err("a brace is not closed".to_owned())
}

fn check_name(name: &str, names: &[String]) -> Result<(), String> {
    let is_name = name.starts_with(|letter: char| letter.is_ascii_alphabetic())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if !is_name {
        return Err(format!("'{name}' is no name: it has letters, digits and '_'"));
    }
    if names.iter().any(|known| known == name) {
        return Err(format!("{{{name}}} is there twice"));
    }
    match names.len() < NAMES_MAX {
        true => Ok(()),
        false => Err(format!("it has more than {NAMES_MAX} names")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_finds_the_names_of_a_path_and_no_other_depth() {
        let template = Template::parse("/m/{service}/v-{_}/{instance}_{seq}").unwrap();
        let names = template.names("/m/shop/v-1/i_a_0000000017").unwrap();
        assert_eq!((&*names["service"], &*names["instance"]), ("shop", "i_a"));
        assert_eq!(Template::fill("{instance}@{service}", &names), "i_a@shop");
        assert_eq!(template.home("/m/shop/v-1/i_a_0000000017"), "/m/shop");
        for other in [
            "/m/shop/v-1",
            "/m/a/b/v-1/i_0000000017",
            "/m/shop/v-1/i_17",
            "/x/m/shop/v-1/i_0000000017",
        ] {
            assert!(template.names(other).is_none(), "{other}");
        }
        assert!(template.covers("/m/shop/v-1/i_17") && !template.covers("/m/shop/v-1"));
        assert!(!template.covers("/m/shop/v-1/i/17"));
        let names = Template::parse("/s/{service:[a-z]{2,3}}/{guid}").unwrap();
        assert!(
            names
                .names("/s/ab/6f2c0e0a-9f0d-4d5e-8d43-0a4a1f3a7c11")
                .is_some()
        );
        assert!(
            names
                .names("/s/abcd/6f2c0e0a-9f0d-4d5e-8d43-0a4a1f3a7c11")
                .is_none()
        );
        let any = Template::parse("/s/{service:.+}/{i}").unwrap();
        assert!(any.names("/s/a/b/c").is_none());
        let any = Template::parse("/s/{_:.+}/{service}").unwrap();
        assert!(any.covers("/s/a/b/c") && any.names("/s/a/b/c").is_some());
    }

    #[test]
    fn a_template_that_cannot_work_is_refused() {
        for (text, reason) in [
            ("services/{service}", "begin with"),
            ("/a/{service", "not closed"),
            ("/a/{instance}", "no {service}"),
            ("/a/{service}/{service}", "twice"),
            ("/a/{service}/{1x}", "no name"),
            ("/a/{service:(}", "regex"),
        ] {
            let refused = Template::parse(text).unwrap_err();
            assert!(refused.contains(reason), "{text}: {refused}");
        }
        let long = format!("/{{service}}{}", "x".repeat(BYTES_MAX));
        assert!(Template::parse(&long).unwrap_err().contains("bytes"));
    }
}
