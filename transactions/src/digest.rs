//! The digest of the tree that servers from 3.6 on write with each transaction, and in snapshots.
//!
//! It is the sum, modulo 2^64, over the znodes outside of `/zookeeper/`, of CRC-32 of path, value and persisted Stat. So a
//! change of the tree costs the znodes that it touches. An equal digest shows that two trees are equal but for their
//! access control lists, of which only the version is covered.

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

/// The CRC-32 of a path and a value, from which a Stat completes the sum of a znode. A replay keeps these 4 bytes and not
/// the value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ContentCrc(pub u32);

impl ContentCrc {
    /// Of a path and a value; the root is `/` or empty.
    pub fn new(path: &str, data: Option<&[u8]>) -> ContentCrc {
        let path = if path == "/" { "" } else { path };
        let mut hasher = Hasher::new();
        hasher.update(path.as_bytes());
        hasher.update(data.unwrap_or_default());
        ContentCrc(hasher.finalize())
    }

    /// The share of a znode outside of `/zookeeper/` in the digest.
    pub fn with(self, stat: &PersistedStat) -> u32 {
        let mut bytes = Vec::with_capacity(60);
        for number in [stat.czxid, stat.mzxid, stat.pzxid, stat.ctime, stat.mtime] {
            bytes.extend(number.to_be_bytes());
        }
        for number in [stat.version, stat.cversion, stat.aversion] {
            bytes.extend(number.to_be_bytes());
        }
        bytes.extend(stat.ephemeral_owner.to_be_bytes());
        let mut hasher = Hasher::new_with_initial(self.0);
        hasher.update(&bytes);
        hasher.finalize()
    }
}

/// Whether the digest covers a znode. Below `/zookeeper` each server has values of its own.
pub fn is_covered(path: &str) -> bool {
    !path.starts_with("/zookeeper/")
}

/// The sum over some znodes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DigestSum(pub u64);

impl DigestSum {
    /// Adds a znode that is there from now on.
    pub fn add(&mut self, path: &str, content: ContentCrc, stat: &PersistedStat) {
        if is_covered(path) {
            self.0 = self.0.wrapping_add(u64::from(content.with(stat)));
        }
    }

    /// Removes a znode that was added with these numbers.
    pub fn remove(&mut self, path: &str, content: ContentCrc, stat: &PersistedStat) {
        if is_covered(path) {
            self.0 = self.0.wrapping_sub(u64::from(content.with(stat)));
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
        assert_eq!(sum.0, 0x51c6_d660);
    }

    #[test]
    fn every_number_of_a_stat_and_every_byte_of_path_and_value_is_covered() {
        let sum =
            |path: &str, data: &[u8], stat: &PersistedStat| ContentCrc::new(path, Some(data)).with(stat);
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
        let mut changing = DigestSum(7);
        changing.add("/a", ContentCrc::new("/a", None), &stat);
        changing.remove("/a", ContentCrc::new("/a", Some(b"")), &stat);
        changing.add(
            "/zookeeper/quota",
            ContentCrc::new("/zookeeper/quota", None),
            &stat,
        );
        assert_eq!(changing, DigestSum(7));
    }
}
