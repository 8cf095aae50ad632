//! The digest of the tree that servers from 3.6 on write with each transaction, and in snapshots.
//!
//! It is the sum, modulo 2^64, over the znodes outside of `/zookeeper/`, of CRC-32 of path, value and persisted Stat. So a
//! change of the tree costs the znodes that it touches. An equal digest shows that two trees are equal but for their
//! access control lists, of which only the version is covered.
//!
//! A server encodes the paths in the default charset of its JVM, which is UTF-8 from Java 18 on and that of the locale
//! before: under `LC_ALL=C` it is US-ASCII. So each server of an ensemble can have another digest of the same tree, and a
//! transaction has the one of the leader. A [`DigestSum`] has the digests in all charsets of [`PathCharset`]; they are
//! the same while all paths are ASCII.

use std::borrow::Cow;

use crc32fast::Hasher;

/// The numbers of a znode that a server keeps, in the form in which it keeps them.
///
/// A client sees `cversion` as 2 × `cversion` − its number of children, and no owner of a container or of a znode with a
/// TTL.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PersistedStat {
    /// The zxid of the create.
    pub czxid: i64,
    /// The zxid of the last write.
    pub mzxid: i64,
    /// The time of the create in milliseconds since 1970.
    pub ctime: i64,
    /// The time of the last write.
    pub mtime: i64,
    /// The number of writes since the create.
    pub version: i32,
    /// The number of children that were created.
    pub cversion: i32,
    /// The number of changes of the access control list.
    pub aversion: i32,
    /// The session of an ephemeral, or the mark of a container or a TTL.
    pub ephemeral_owner: i64,
    /// The zxid of the last create or delete of a child.
    pub pzxid: i64,
}

/// A charset in which servers encode the paths for a digest. Others, such as windows-1252, are not known: digests of
/// paths outside of ASCII then never agree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PathCharset {
    /// The default of Java from 18 on, and of UTF-8 locales before.
    Utf8,
    /// US-ASCII, the default of the locale `C`: any other character is a `?`.
    Ascii,
    /// ISO-8859-1: characters beyond it are a `?`.
    Latin1,
}

impl PathCharset {
    /// All of them.
    pub const ALL: [PathCharset; 3] = [PathCharset::Utf8, PathCharset::Ascii, PathCharset::Latin1];

    /// The bytes of a path, as Java's `String.getBytes` returns them.
    fn encode(self, path: &str) -> Cow<'_, [u8]> {
        let last = match self {
            PathCharset::Utf8 => return Cow::Borrowed(path.as_bytes()),
            PathCharset::Ascii => 0x7f,
            PathCharset::Latin1 => 0xff,
        };
        let byte = |character| u8::try_from(u32::from(character)).ok();
        let bytes = path
            .chars()
            .map(|character| byte(character).filter(|byte| *byte <= last));
        Cow::Owned(bytes.map(|byte| byte.unwrap_or(b'?')).collect())
    }
}

/// The CRC-32 of a path and a value, from which a Stat completes the sum of a znode, in each charset. A replay keeps
/// these 12 bytes and not the value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ContentCrc([u32; 3]);

impl ContentCrc {
    /// Of a path and a value; the root is `/` or empty.
    pub fn new(path: &str, data: Option<&[u8]>) -> ContentCrc {
        let path = if path == "/" { "" } else { path };
        let data = data.unwrap_or_default();
        let of = |charset: PathCharset| {
            let mut hasher = Hasher::new();
            hasher.update(&charset.encode(path));
            hasher.update(data);
            hasher.finalize()
        };
        match path.is_ascii() {
            true => ContentCrc([of(PathCharset::Utf8); 3]),
            false => ContentCrc(PathCharset::ALL.map(of)),
        }
    }

    /// The sums, in the order of [`PathCharset::ALL`].
    pub(crate) fn sums(self) -> [u32; 3] {
        self.0
    }

    /// Of sums in this order.
    pub(crate) fn of_sums(sums: [u32; 3]) -> ContentCrc {
        ContentCrc(sums)
    }

    /// The 12 bytes, to keep them in a file.
    pub fn to_bytes(self) -> [u8; 12] {
        let mut bytes = [0; 12];
        for (to, sum) in bytes.chunks_exact_mut(4).zip(self.0) {
            to.copy_from_slice(&sum.to_be_bytes());
        }
        bytes
    }

    /// The sums of 12 bytes.
    pub fn from_bytes(bytes: [u8; 12]) -> ContentCrc {
        let [a, b, c, d, e, f, g, h, i, j, k, l] = bytes;
        ContentCrc([[a, b, c, d], [e, f, g, h], [i, j, k, l]].map(u32::from_be_bytes))
    }

    /// The share of a znode outside of `/zookeeper/` in the digest, in each charset.
    fn with(self, stat: &PersistedStat) -> [u32; 3] {
        let [utf8, ascii, latin1] = self.0;
        match utf8 == ascii && utf8 == latin1 {
            true => [completed(utf8, stat); 3],
            false => self.0.map(|sum| completed(sum, stat)),
        }
    }
}

/// Completes the sum of path and value with a Stat.
fn completed(content: u32, stat: &PersistedStat) -> u32 {
    let mut hasher = Hasher::new_with_initial(content);
    for number in [stat.czxid, stat.mzxid, stat.pzxid, stat.ctime, stat.mtime] {
        hasher.update(&number.to_be_bytes());
    }
    for number in [stat.version, stat.cversion, stat.aversion] {
        hasher.update(&number.to_be_bytes());
    }
    hasher.update(&stat.ephemeral_owner.to_be_bytes());
    hasher.finalize()
}

/// Whether the digest covers a znode. Below `/zookeeper` each server has values of its own.
pub fn is_covered(path: &str) -> bool {
    !path.starts_with("/zookeeper/")
}

/// The sum over some znodes, in each charset.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DigestSum([u64; 3]);

impl DigestSum {
    /// The digest of a server that encodes paths in this charset.
    pub fn value(&self, charset: PathCharset) -> u64 {
        let [utf8, ascii, latin1] = self.0;
        match charset {
            PathCharset::Utf8 => utf8,
            PathCharset::Ascii => ascii,
            PathCharset::Latin1 => latin1,
        }
    }

    /// The first charset in which the digest is the one that a server wrote; `None` if the server has another tree.
    pub fn charset_of(&self, digest: u64) -> Option<PathCharset> {
        PathCharset::ALL
            .into_iter()
            .find(|charset| self.value(*charset) == digest)
    }

    /// Adds a znode that is there from now on.
    pub fn add(&mut self, path: &str, content: ContentCrc, stat: &PersistedStat) {
        if is_covered(path) {
            for (sum, share) in self.0.iter_mut().zip(content.with(stat)) {
                *sum = sum.wrapping_add(u64::from(share));
            }
        }
    }

    /// Removes a znode that was added with these numbers.
    pub fn remove(&mut self, path: &str, content: ContentCrc, stat: &PersistedStat) {
        if is_covered(path) {
            for (sum, share) in self.0.iter_mut().zip(content.with(stat)) {
                *sum = sum.wrapping_sub(u64::from(share));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_of_an_empty_tree_is_the_one_that_zookeeper_3_9_wrote() {
        let mut sum = DigestSum::default();
        for path in ["/", "/zookeeper", "/zookeeper/quota", "/zookeeper/config"] {
            sum.add(path, ContentCrc::new(path, None), &PersistedStat::default());
        }
        assert_eq!(sum, DigestSum([0x51c6_d660; 3]));
        assert_eq!(sum.charset_of(0x51c6_d660), Some(PathCharset::Utf8));
    }

    #[test]
    fn a_path_outside_of_ascii_has_a_digest_for_each_charset_of_a_jvm() {
        let check = |path: &str, charset: PathCharset, bytes: &[u8]| {
            assert_eq!(&*charset.encode(path), bytes, "{path} {charset:?}");
        };
        check("/ë雪🐘", PathCharset::Utf8, "/ë雪🐘".as_bytes());
        check("/ë雪🐘", PathCharset::Latin1, b"/\xeb??");
        check("/ë雪🐘", PathCharset::Ascii, b"/???");

        let stat = PersistedStat::default();
        let sum = |path: &str| {
            let mut sum = DigestSum::default();
            sum.add(path, ContentCrc::new(path, Some(b"value")), &stat);
            sum
        };
        let (accented, question) = (sum("/ë"), sum("/?"));
        for charset in PathCharset::ALL {
            assert_eq!(accented.charset_of(accented.value(charset)), Some(charset));
            assert_eq!(question.value(charset), question.value(PathCharset::Utf8));
        }
        assert_eq!(
            accented.value(PathCharset::Ascii),
            question.value(PathCharset::Ascii)
        );
        assert_eq!(accented.charset_of(accented.value(PathCharset::Utf8) ^ 1), None);
        let content = ContentCrc::new("/ë", Some(b"value"));
        assert_eq!(ContentCrc::from_bytes(content.to_bytes()), content);
        let mut removed = accented;
        removed.remove("/ë", content, &stat);
        assert_eq!(removed, DigestSum::default());
    }

    #[test]
    fn every_number_of_a_stat_and_every_byte_of_path_and_value_is_covered() {
        let sum =
            |path: &str, data: &[u8], stat: &PersistedStat| ContentCrc::new(path, Some(data)).with(stat)[0];
        let stat = PersistedStat::default();
        let plain = sum("/a", b"b", &stat);
        let changes: [fn(&mut PersistedStat); 9] = [
            |stat| stat.czxid ^= 1,
            |stat| stat.mzxid ^= 1,
            |stat| stat.ctime ^= 1,
            |stat| stat.mtime ^= 1,
            |stat| stat.version ^= 1,
            |stat| stat.cversion ^= 1,
            |stat| stat.aversion ^= 1,
            |stat| stat.ephemeral_owner ^= 1,
            |stat| stat.pzxid ^= 1,
        ];
        let mut sums: Vec<u32> = changes
            .iter()
            .map(|change| {
                let mut changed = stat;
                change(&mut changed);
                sum("/a", b"b", &changed)
            })
            .collect();
        sums.extend([plain, sum("/b", b"b", &stat), sum("/a", b"c", &stat)]);
        let count = sums.len();
        sums.sort_unstable();
        sums.dedup();
        assert_eq!(sums.len(), count);
        let mut changing = DigestSum([7; 3]);
        changing.add("/a", ContentCrc::new("/a", None), &stat);
        changing.remove("/a", ContentCrc::new("/a", Some(b"")), &stat);
        changing.add(
            "/zookeeper/quota",
            ContentCrc::new("/zookeeper/quota", None),
            &stat,
        );
        assert_eq!(changing, DigestSum([7; 3]));
    }
}
