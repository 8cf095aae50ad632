//! Queues of sequential znodes: the recipes of Curator, kazoo and ZooKeeper for elections and locks.
//!
//! The order is that of the clients of each recipe. Curator and kazoo compare the text after the last mark, where `-` is
//! before any digit: after the counter has overflown, the newest candidate is first.

use serde::{Deserialize, Serialize};

use super::{Candidate, Decoded, Payload, Znode, name_of, parent_of};
use crate::config::ServiceConfig;
use crate::payload::text;

/// The kind of lock that a candidate asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Mode {
    /// Alone.
    Write,
    /// With other readers.
    Read,
    /// One of several holders.
    Lease,
}

impl Mode {
    /// The word in events.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Mode::Write => "write",
            Mode::Read => "read",
            Mode::Lease => "lease",
        }
    }
}

/// Longer names are cut: they are shown to people.
const NAME_BYTES_MAX: usize = 256;

/// The election or lock that has the path as a child, and whether it is a lock.
pub(super) fn election_of<'a>(config: &ServiceConfig, path: &'a str) -> Option<(&'a str, bool)> {
    let parent = parent_of(path);
    let matches = |patterns: &[String]| patterns.iter().any(|pattern| is_match(pattern, parent));
    match (matches(&config.locks), matches(&config.elections)) {
        (true, _) => Some((parent, true)),
        (false, true) => Some((parent, false)),
        (false, false) => None,
    }
}

/// Compares name by name; `*` is any one.
fn is_match(pattern: &str, path: &str) -> bool {
    let mut names = path.split('/');
    let all = pattern
        .split('/')
        .all(|wanted| names.next().is_some_and(|name| wanted == "*" || wanted == name));
    all && names.next().is_none()
}

pub(super) fn decode(config: &ServiceConfig, znode: &Znode<'_>) -> Decoded {
    let Some((election, is_lock)) = election_of(config, znode.path) else {
        return Decoded::Nothing;
    };
    // Containers and znodes of other kinds lie beside the candidates.
    let Some(found) = parse(name_of(znode.path)).filter(|_| znode.owner.0 != 0) else {
        return Decoded::Nothing;
    };
    let name = match znode.payload {
        Payload::NotRead => return Decoded::Waiting,
        Payload::Bytes(bytes) => text(bytes).ok().and_then(shown),
        Payload::Unusable(_) => None,
    };
    Decoded::Candidate {
        election: election.to_owned(),
        service: election.to_owned(),
        candidate: Candidate {
            name,
            order: found.order,
            sequence: found.sequence,
            mode: found.mode,
            is_lock,
            only_counts: false,
        },
    }
}

/// A name for people: without control characters, and not empty.
fn shown(name: &str) -> Option<String> {
    let is_plain = !name.is_empty() && !name.chars().any(char::is_control);
    let end = name.floor_char_boundary(NAME_BYTES_MAX);
    is_plain.then(|| name[..end].to_owned())
}

#[derive(Debug, PartialEq)]
struct Parsed {
    order: String,
    sequence: Option<i64>,
    mode: Mode,
}

/// Marks before the number whose clients compare texts.
const TEXT_MARKS: [(&str, Mode); 6] = [
    ("latch-", Mode::Write),
    ("lock-", Mode::Write),
    ("__WRIT__", Mode::Write),
    ("__READ__", Mode::Read),
    ("__lock__", Mode::Write),
    ("__rlock__", Mode::Read),
];

fn parse(name: &str) -> Option<Parsed> {
    if let Some(rest) = after_last(name, "lease-") {
        return parsed(rest, Mode::Lease);
    }
    let marks = TEXT_MARKS.iter();
    let marked = marks.filter_map(|(mark, mode)| Some((name.rfind(mark)? + mark.len(), *mode)));
    if let Some((start, mode)) = marked.max_by_key(|(start, _)| *start) {
        return parsed(&name[start..], mode);
    }
    // kazoo's semaphore: every holder is there, and nobody waits.
    if name.len() == 32 && name.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Some(Parsed {
            order: name.to_owned(),
            sequence: None,
            mode: Mode::Lease,
        });
    }
    let digits = after_last(name, "n_").or_else(|| after_last(name, "-"))?;
    // `-` itself belongs to a number that has overflown.
    let overflown = name.strip_suffix(digits).is_some_and(|rest| rest.ends_with("--"));
    let text = if overflown {
        format!("-{digits}")
    } else {
        digits.to_owned()
    };
    let number = sequence(&text)?;
    Some(Parsed {
        // These clients compare numbers: a text of equal length whose order is theirs.
        order: format!("{:010}", number - i64::from(i32::MIN)),
        sequence: Some(number),
        mode: Mode::Write,
    })
}

fn after_last<'a>(name: &'a str, mark: &str) -> Option<&'a str> {
    name.rfind(mark).map(|at| &name[at + mark.len()..])
}

fn parsed(digits: &str, mode: Mode) -> Option<Parsed> {
    Some(Parsed {
        order: digits.to_owned(),
        sequence: Some(sequence(digits)?),
        mode,
    })
}

/// Ten digits, or a number that has overflown.
fn sequence(digits: &str) -> Option<i64> {
    let count = digits.strip_prefix('-').map_or(digits.len(), str::len);
    let number: i64 = digits
        .parse()
        .ok()
        .filter(|_| count == 10 && !digits.starts_with('+'))?;
    i32::try_from(number).ok().map(i64::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_recipe_names_its_candidates_and_nothing_else_is_one() {
        let guid = "_c_1c7f7b1e-93a1-4d2d-8a55-5a0d3b7d0001-";
        for (name, mode, sequence) in [
            (format!("{guid}latch-0000000007"), Mode::Write, Some(7)),
            (
                format!("{guid}lock--2147483648"),
                Mode::Write,
                Some(-2_147_483_648),
            ),
            (format!("{guid}__READ__0000000006"), Mode::Read, Some(6)),
            (format!("{guid}__WRIT__0000000005"), Mode::Write, Some(5)),
            (format!("{guid}lease-0000000003"), Mode::Lease, Some(3)),
            (
                "0123456789abcdef0123456789abcdef__lock__0000000001".into(),
                Mode::Write,
                Some(1),
            ),
            (
                "0123456789abcdef0123456789abcdef__rlock__0000000002".into(),
                Mode::Read,
                Some(2),
            ),
            ("0123456789abcdef0123456789abcdef".into(), Mode::Lease, None),
            ("x-72057594037927937-0000000004".into(), Mode::Write, Some(4)),
            ("n_0000000009".into(), Mode::Write, Some(9)),
            ("n_-2147483648".into(), Mode::Write, Some(-2_147_483_648)),
            ("x-1--2147483648".into(), Mode::Write, Some(-2_147_483_648)),
        ] {
            let found = parse(&name).unwrap_or_else(|| panic!("{name}"));
            assert_eq!((found.mode, found.sequence), (mode, sequence), "{name}");
        }
        for other in [
            "locks",
            "leases",
            "lock-17",
            "latch-00000000007",
            "member",
            "lock-99999999999",
            "x-",
        ] {
            assert_eq!(parse(other), None, "{other}");
        }
    }

    #[test]
    fn texts_and_numbers_are_ordered_as_their_clients_do() {
        let order = |name: &str| parse(name).unwrap().order;
        assert!(order("a-lock--2147483648") < order("a-lock-2147483647"));
        assert!(order("n_-2147483648") < order("n_0000000000"));
        assert!(order("n_-2147483647") > order("n_-2147483648"));
        assert!(order("n_0000000009") < order("n_0000000010"));
    }

    #[test]
    fn a_star_in_a_pattern_is_one_name() {
        assert!(is_match("/a/*/c", "/a/b/c"));
        assert!(!is_match("/a/*", "/a/b/c"));
        assert!(!is_match("/a/b/c", "/a/b"));
    }
}
