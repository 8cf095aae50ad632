//! The two checksums of ZooKeeper's files: Adler-32 of a record, CRC-32 of a znode in the digest of the tree.

pub use adler2::adler32_slice as adler;
use crc32fast::Hasher;

/// CRC-32 (IEEE 802.3) of bytes that come in pieces. It is a number, so that one can be kept for each znode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Crc(u32);

impl Crc {
    /// The checksum of no bytes.
    pub fn new() -> Crc {
        Crc(Hasher::new().finalize())
    }

    /// The checksum after these further bytes.
    pub fn with(self, bytes: &[u8]) -> Crc {
        let mut hasher = Hasher::new_with_initial(self.0);
        hasher.update(bytes);
        Crc(hasher.finalize())
    }

    /// The checksum as a number.
    pub fn sum(self) -> u32 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksums_equal_the_published_check_values() {
        assert_eq!(Crc::new().with(b"1234").with(b"56789").sum(), 0xcbf4_3926);
        assert_eq!(adler(b"Wikipedia"), 0x11e6_0398);
    }
}
