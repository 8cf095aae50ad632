//! The two checksums of ZooKeeper's files: Adler-32 of a record, CRC-32 of a znode in the digest of the tree.

/// CRC-32 (IEEE 802.3) of bytes that come in pieces. Kept as a number, it stands for the bytes so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Crc(u32);

const TABLE: [u32; 256] = table();

const fn table() -> [u32; 256] {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut value = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            value = if value & 1 == 1 {
                0xedb8_8320 ^ (value >> 1)
            } else {
                value >> 1
            };
            bit += 1;
        }
        table[byte] = value;
        byte += 1;
    }
    table
}

impl Crc {
    /// Of no bytes.
    pub fn new() -> Crc {
        Crc(!0)
    }

    /// With more bytes behind.
    pub fn with(self, bytes: &[u8]) -> Crc {
        let step = |crc: u32, byte: &u8| TABLE[((crc ^ u32::from(*byte)) & 0xff) as usize] ^ (crc >> 8);
        Crc(bytes.iter().fold(self.0, step))
    }

    /// The checksum.
    pub fn sum(self) -> u32 {
        !self.0
    }
}

/// The largest prime below 2^16.
const ADLER_MODULUS: u32 = 65_521;
/// So many bytes can be added up before a sum of 32 bits must be reduced.
const ADLER_CHUNK: usize = 5_552;

/// Adler-32.
pub fn adler(bytes: &[u8]) -> u32 {
    let (mut low, mut high) = (1, 0);
    for chunk in bytes.chunks(ADLER_CHUNK) {
        for byte in chunk {
            low += u32::from(*byte);
            high += low;
        }
        low %= ADLER_MODULUS;
        high %= ADLER_MODULUS;
    }
    high << 16 | low
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksums_are_those_that_everybody_computes() {
        assert_eq!(Crc::new().with(b"1234").with(b"56789").sum(), 0xcbf4_3926);
        assert_eq!(adler(b"Wikipedia"), 0x11e6_0398);
    }
}
