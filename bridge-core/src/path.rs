//! Paths of znodes, as a client with the source's connect string sees them.

use std::borrow::{Borrow, Cow};
use std::cell::RefCell;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use crate::text_value;

/// The absolute path of a znode: `/`, or `/` before each of its names.
///
/// Cheap to clone. Holds ZooKeeper's rules (`PathUtils.validatePath`): no empty name, no `.` and `..` as a name,
/// no NUL.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ZnodePath(Arc<str>);

/// The hasher of tables of paths that are looked up several times for each change: fast for short paths, and seeded by
/// each process, so that nobody can choose paths that collide.
pub type Hasher = foldhash::fast::RandomState;

thread_local! {
    /// The buffer in which paths are built before they are copied: a walk makes some for each znode.
    static JOINED: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Bytes of a path that a message shows: a path may have a megabyte.
const BRIEF_BYTES_MAX: usize = 200;

/// The beginning and the end of a path that is long.
fn brief(path: &str) -> Cow<'_, str> {
    if path.len() <= BRIEF_BYTES_MAX {
        return Cow::Borrowed(path);
    }
    let half = BRIEF_BYTES_MAX / 2;
    let begin = &path[..path.floor_char_boundary(half)];
    let end = &path[path.ceil_char_boundary(path.len() - half)..];
    Cow::Owned(format!("{begin}…{end}"))
}

/// A text that is no path of a znode.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{path}' is not a znode path: {reason}")]
pub struct BadPath {
    path: String,
    reason: &'static str,
}

impl ZnodePath {
    /// The path for a message: the beginning and the end of one that is long.
    pub fn brief(&self) -> Cow<'_, str> {
        brief(&self.0)
    }

    /// Checks and takes a path.
    ///
    /// # Errors
    ///
    /// If it is not a valid absolute path.
    pub fn parse(path: &str) -> Result<ZnodePath, BadPath> {
        match reason_against(path) {
            None => Ok(ZnodePath(path.into())),
            Some(reason) => Err(BadPath {
                path: brief(path).into_owned(),
                reason,
            }),
        }
    }

    /// `/`, the root of all.
    pub fn slash() -> ZnodePath {
        ZnodePath("/".into())
    }

    /// The child of this name. The name comes from a server's child list and is taken as it is.
    pub fn child(&self, name: &str) -> ZnodePath {
        JOINED.with_borrow_mut(|joined| {
            joined.clear();
            if !self.is_slash() {
                joined.push_str(&self.0);
            }
            joined.push('/');
            joined.push_str(name);
            ZnodePath(joined.as_str().into())
        })
    }

    /// The parent; `None` for `/`.
    pub fn parent(&self) -> Option<ZnodePath> {
        self.parent_str().map(|parent| ZnodePath(parent.into()))
    }

    /// All paths above this one, nearest first; none for `/`.
    pub fn ancestors(&self) -> impl Iterator<Item = ZnodePath> {
        std::iter::successors(self.parent(), ZnodePath::parent)
    }

    /// The parent as text; `None` for `/`.
    pub fn parent_str(&self) -> Option<&str> {
        if self.is_slash() {
            return None;
        }
        match self.0.rfind('/') {
            Some(0) | None => Some("/"),
            Some(at) => Some(&self.0[..at]),
        }
    }

    /// The last name; empty for `/`.
    pub fn name(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or_default()
    }

    /// The names from the top down; none for `/`.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.split('/').filter(|name| !name.is_empty())
    }

    /// The child of this path that is `below` or covers it; `None` for what is not below it.
    pub fn child_towards(&self, below: &str) -> Option<ZnodePath> {
        let rest = below.strip_prefix(&*self.0)?;
        let rest = if self.is_slash() {
            rest
        } else {
            rest.strip_prefix('/')?
        };
        let name = rest.split('/').next().filter(|name| !name.is_empty())?;
        Some(self.child(name))
    }

    /// Whether this is `/`.
    pub fn is_slash(&self) -> bool {
        &*self.0 == "/"
    }

    /// Whether this is `other` or above it.
    pub fn covers(&self, other: &str) -> bool {
        covers(&self.0, other)
    }

    /// The path as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Whether `above` is `path` itself or one of its ancestors.
pub fn covers(above: &str, path: &str) -> bool {
    if above == "/" {
        return path.starts_with('/');
    }
    path.strip_prefix(above)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn reason_against(path: &str) -> Option<&'static str> {
    if path == "/" {
        return None;
    }
    if !path.starts_with('/') {
        return Some("it must begin with '/'");
    }
    if path.ends_with('/') {
        return Some("it must not end with '/'");
    }
    if path.contains('\0') {
        return Some("it must not hold a NUL character");
    }
    path[1..].split('/').find_map(|name| match name {
        "" => Some("it has an empty name ('//')"),
        "." | ".." => Some("'.' and '..' are not names of znodes"),
        _ => None,
    })
}

impl Deref for ZnodePath {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for ZnodePath {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ZnodePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ZnodePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::str::FromStr for ZnodePath {
    type Err = BadPath;

    fn from_str(path: &str) -> Result<Self, BadPath> {
        ZnodePath::parse(path)
    }
}

text_value!(ZnodePath, {
    "type": "string",
    "description": "The absolute path of a znode, below the chroot of the source's connect string.",
    "pattern": "^/",
});

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_shows_the_beginning_and_the_end_of_a_long_path() {
        let brief = |text: &str| ZnodePath::parse(text).unwrap().brief().into_owned();
        assert_eq!(brief("/a/b"), "/a/b");
        for letter in ["x", "ü", "鴨"] {
            let long = format!("/begin/{}/end", letter.repeat(100_000));
            let shown = brief(&long);
            assert!(shown.len() <= BRIEF_BYTES_MAX + 4, "{shown}");
            assert!(shown.starts_with("/begin/") && shown.ends_with("/end") && shown.contains('…'));
            let bad = ZnodePath::parse(&(long + "/")).unwrap_err().to_string();
            assert!(bad.len() < 2 * BRIEF_BYTES_MAX, "{bad}");
        }
    }

    #[test]
    fn a_path_knows_its_parent_and_its_names() {
        for (path, parent, name) in [("/a", "/", "a"), ("/a/b", "/a", "b"), ("/a b/ü.x", "/a b", "ü.x")] {
            let path = ZnodePath::parse(path).unwrap();
            assert_eq!((path.parent_str(), path.name()), (Some(parent), name));
            assert_eq!(path.parent().unwrap().child(name), path);
        }
        assert_eq!(ZnodePath::slash().parent(), None);
        assert_eq!(ZnodePath::slash().names().count(), 0);
    }

    #[test]
    fn a_text_that_no_server_takes_is_refused_with_its_reason() {
        for bad in ["", "a", "/a/", "//", "/a//b", "/a/../b", "/./a", "/a\0"] {
            let error = ZnodePath::parse(bad).unwrap_err();
            assert!(error.to_string().contains("is not a znode path"), "{error}");
        }
    }

    #[test]
    fn the_child_towards_a_path_is_the_first_step_down_to_it() {
        let check = |above: &str, below: &str, expected: Option<&str>| {
            let above = ZnodePath::parse(above).unwrap();
            let child = above.child_towards(below);
            assert_eq!(child.as_deref(), expected, "{above} {below}");
        };
        check("/", "/a/b", Some("/a"));
        check("/a", "/a/b/c", Some("/a/b"));
        check("/a", "/a/b", Some("/a/b"));
        check("/a", "/a", None);
        check("/", "/", None);
        check("/a", "/ab/c", None);
        check("/a/b", "/a", None);
    }

    #[test]
    fn a_path_covers_itself_and_what_is_below_it_but_no_name_that_only_begins_alike() {
        assert!(covers("/", "/a"));
        assert!(covers("/a", "/a"));
        assert!(covers("/a", "/a/b"));
        assert!(!covers("/a", "/ab"));
        assert!(!covers("/a/b", "/a"));
    }
}
