//! Masks values: a keyed digest takes the place of a value before anything stores or delivers it.
//!
//! The digest of a value is the HMAC-SHA256 of its path and of the SHA-256 of its whole data. The same value of a path
//! always has the same digest, so that a change shows; without the key no value can be guessed, and the same value at
//! two paths has two digests. The digest names its key: digests of two keys never look like two values.
//!
//! *Invariant.* A value that is masked is never masked again.

use std::fmt;

use globset::{Glob, GlobSet, GlobSetBuilder};
use hmac::{Hmac, Mac};
use rand::TryRngCore;
use rand::rand_core::OsError;
use rand::rngs::OsRng;
use sha2::{Digest, Sha256};

use super::data::{Data, digest_of_hex, hex};

/// The prefix of every digest.
const SCHEME: &str = "hmac-sha256";

/// Another text if masks replace more of a journal than before, so that each is gone over once more.
const RULES: &str = "values, checksums, reasons and free pages\0";

/// Hexadecimal digits of a key's name.
const KEY_NAME_DIGITS: usize = 8;

/// The key of a source's digests. It is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct MaskKey([u8; 32]);

impl MaskKey {
    /// A key of these bytes.
    pub fn new(bytes: [u8; 32]) -> MaskKey {
        MaskKey(bytes)
    }

    /// A new key of the system's random numbers.
    ///
    /// # Errors
    ///
    /// If the system has none.
    pub fn generate() -> Result<MaskKey, OsError> {
        let mut key = [0; 32];
        OsRng.try_fill_bytes(&mut key)?;
        Ok(MaskKey(key))
    }

    /// The key of a text that [`MaskKey::to_text`] has made; `None` if it is none.
    pub fn parse(text: &str) -> Option<MaskKey> {
        digest_of_hex(text.trim()).map(MaskKey)
    }

    /// The key as 64 hexadecimal digits, for the one place that keeps it.
    pub fn to_text(&self) -> String {
        hex(&self.0)
    }

    /// The name of the key in every digest, which does not reveal it.
    fn name(&self) -> String {
        let mut hasher = Sha256::new();
        hasher.update(b"zkbridge mask key\0");
        hasher.update(self.0);
        hex(&hasher.finalize().into())[..KEY_NAME_DIGITS].to_owned()
    }
}

impl fmt::Debug for MaskKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// The paths whose values are masked, and the key.
#[derive(Clone, Debug)]
pub struct Masking {
    globs: GlobSet,
    patterns: Vec<String>,
    key: MaskKey,
    key_name: String,
}

impl Masking {
    /// Masks the values of the paths that a glob matches, and of all below them.
    ///
    /// # Errors
    ///
    /// If the globs together are too large to compile.
    pub fn new<'a>(
        globs: impl IntoIterator<Item = &'a Glob>,
        key: MaskKey,
    ) -> Result<Masking, globset::Error> {
        let mut set = GlobSetBuilder::new();
        let mut patterns = Vec::new();
        for glob in globs {
            patterns.push(glob.glob().to_owned());
            set.add(glob.clone());
        }
        Ok(Masking {
            globs: set.build()?,
            patterns,
            key_name: key.name(),
            key,
        })
    }

    /// Whether the values of a path are masked.
    pub fn takes(&self, path: &str) -> bool {
        let ends = path.match_indices('/').map(|(at, _)| at).filter(|at| *at > 0);
        ends.chain([path.len()])
            .any(|end| self.globs.is_match(&path[..end]))
    }

    /// A value with its digest in place of the data.
    ///
    /// # Panics
    ///
    /// Never: HMAC takes keys of any length.
    pub fn masked(&self, path: &str, data: &Data) -> Data {
        if data.is_masked() {
            return data.clone();
        }
        // Records of older versions have a part of the value and no digest of the whole.
        let is_part = data.truncated && data.digest.is_none();
        let hashed = data.digest.unwrap_or_else(|| Sha256::digest(&data.bytes).into());
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.key.0).expect("HMAC takes keys of any length");
        mac.update(path.as_bytes());
        // A part and a whole value never have one digest.
        mac.update(if is_part { b"\x01" } else { b"\0" });
        mac.update(&hashed);
        let digest: [u8; 32] = mac.finalize().into_bytes().into();
        let text = format!("{SCHEME}:{}:{}", self.key_name, hex(&digest));
        Data {
            truncated: is_part,
            ..Data::masked(text, data.size)
        }
    }

    /// A number for the paths and the key: another one if either is different.
    pub fn fingerprint(&self) -> u64 {
        let mut hasher = Sha256::new();
        hasher.update(RULES);
        hasher.update(&self.key_name);
        for pattern in &self.patterns {
            hasher.update(b"\0");
            hasher.update(pattern);
        }
        let digest: [u8; 32] = hasher.finalize().into();
        let [a, b, c, d, e, f, g, h, ..] = digest;
        // Zero is the number of no masks.
        u64::from_be_bytes([a, b, c, d, e, f, g, h]) | 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::path_glob::path_glob;
    use crate::record::DataForm;

    fn masking(globs: &[&str], key: u8) -> Masking {
        let globs: Vec<Glob> = globs.iter().map(|glob| path_glob(glob).unwrap()).collect();
        Masking::new(&globs, MaskKey::new([key; 32])).unwrap()
    }

    fn text(data: &Data) -> String {
        String::from_utf8(data.bytes.to_vec()).unwrap()
    }

    fn data(bytes: &[u8], max: usize) -> Data {
        Data::limited(bytes, DataForm::Auto, max)
    }

    #[test]
    fn a_digest_shows_whether_a_value_changed_and_nothing_more() {
        let masking = masking(&["/secret"], 7);
        let digest = |path: &str, bytes: &[u8]| text(&masking.masked(path, &data(bytes, 99)));
        assert_eq!(digest("/secret/a", b"hunter2"), digest("/secret/a", b"hunter2"));
        assert_ne!(digest("/secret/a", b"hunter2"), digest("/secret/a", b"hunter3"));
        assert_ne!(
            digest("/secret/a", b"hunter2"),
            digest("/secret/b", b"hunter2"),
            "two paths do not show that their values are equal"
        );
        let mut parts = digest("/secret/a", b"hunter2");
        assert!(!parts.contains("hunter2"));
        let hexadecimal = parts.split_off(parts.rfind(':').unwrap() + 1);
        assert!(
            parts.starts_with("hmac-sha256:") && hexadecimal.len() == 64,
            "{parts}"
        );
    }

    #[test]
    fn digests_of_two_keys_differ_in_the_name_of_the_key_too() {
        let of = |key| text(&masking(&["/a"], key).masked("/a", &data(b"x", 9)));
        let (one, other) = (of(1), of(2));
        assert_ne!(one.split(':').nth(1), other.split(':').nth(1));
        assert_ne!(one.split(':').nth(2), other.split(':').nth(2));
        assert!(!format!("{:?}", masking(&["/a"], 1)).contains("1, 1"));
    }

    #[test]
    fn the_digest_is_that_of_the_whole_value_however_much_was_kept_of_it() {
        let masking = masking(&["/a"], 1);
        let whole = masking.masked("/a", &data(b"a long value", 99));
        let cut = masking.masked("/a", &data(b"a long value", 4));
        assert_eq!(whole, cut);
        assert_eq!((whole.size, whole.truncated, whole.digest), (12, false, None));
        assert_eq!(masking.masked("/a", &whole), whole, "never masked twice");
    }

    #[test]
    fn the_digest_of_a_part_without_that_of_the_whole_is_no_digest_of_a_value() {
        let masking = masking(&["/a"], 1);
        let part = Data {
            digest: None,
            ..data(b"a long value", 4)
        };
        let masked = masking.masked("/a", &part);
        assert_eq!((masked.size, masked.truncated, masked.digest), (12, true, None));
        let short = masking.masked("/a", &data(&part.bytes, 99));
        assert_ne!(text(&masked), text(&short), "the value that equals the part");
        let json = serde_json::to_value(&masked).unwrap();
        assert_eq!(serde_json::from_value::<Data>(json).unwrap(), masked);
    }

    #[test]
    fn a_glob_takes_a_path_with_all_below_it() {
        let masking = masking(&["/kafka/config/users/*", "/**/credentials"], 1);
        for (path, expected) in [
            ("/kafka/config/users/alice", true),
            ("/kafka/config/users/alice/clients", true),
            ("/kafka/config/users", false),
            ("/a/b/credentials", true),
            ("/a/b/credentials/x", true),
            ("/", false),
        ] {
            assert_eq!(masking.takes(path), expected, "{path}");
        }
    }

    #[test]
    fn the_fingerprint_is_that_of_the_globs_and_of_the_key() {
        let one = masking(&["/a", "/b"], 1).fingerprint();
        assert_eq!(one, masking(&["/a", "/b"], 1).fingerprint());
        assert_ne!(one, masking(&["/a"], 1).fingerprint());
        assert_ne!(one, masking(&["/a", "/b"], 2).fingerprint());
        assert_ne!(one, masking(&["/a/b"], 1).fingerprint());
    }

    #[test]
    fn a_masked_value_is_written_as_text_with_its_mark_and_read_as_it_was() {
        let masked = masking(&["/a"], 1).masked("/a", &data(&[0xff, 0], 9));
        let json = serde_json::to_value(&masked).unwrap();
        assert_eq!(
            (&json["encoding"], &json["masked"]),
            (&"utf8".into(), &true.into())
        );
        assert_eq!(json["size"], 2, "bytes in ZooKeeper");
        assert_eq!(serde_json::from_value::<Data>(json).unwrap(), masked);
        let cut = masked.cut(20);
        assert!(cut.is_masked() && cut.truncated && cut.size == 2 && cut.bytes.len() == 20);
    }
}
