//! The compressions of snapshots: none, gzip, and snappy in the framing of `snappy-java`.
//!
//! ```text
//! 82 "SNAPPY" 00 | int version=1 | int compatible=1        16 bytes
//! int length | a block of snappy                           repeated
//! ```

use std::io::{self, BufReader, Read};

use flate2::bufread::GzDecoder;

/// How a snapshot is compressed. The server chooses by `zookeeper.snapshot.compression.method`, from 3.6 on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// `snapshot.<hex>`
    Plain,
    /// `snapshot.<hex>.gz`
    Gzip,
    /// `snapshot.<hex>.snappy`
    Snappy,
}

/// The bytes of a compressed file.
#[derive(Debug)]
pub struct Decompressed<R: Read>(Form<R>);

#[derive(Debug)]
enum Form<R: Read> {
    Plain(BufReader<R>),
    Gzip(Box<GzDecoder<BufReader<R>>>),
    Snappy(SnappyBlocks<R>),
}

impl<R: Read> Decompressed<R> {
    /// Reads the file through a buffer of its own.
    pub fn new(file: R, compression: Compression) -> Decompressed<R> {
        Decompressed(match compression {
            Compression::Plain => Form::Plain(BufReader::new(file)),
            Compression::Gzip => Form::Gzip(Box::new(GzDecoder::new(BufReader::new(file)))),
            Compression::Snappy => Form::Snappy(SnappyBlocks {
                input: BufReader::new(file),
                has_begun: false,
                block: Vec::new(),
                at: 0,
            }),
        })
    }
}

impl<R: Read> Read for Decompressed<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match &mut self.0 {
            Form::Plain(input) => input.read(into),
            Form::Gzip(input) => input.read(into),
            Form::Snappy(input) => input.read(into),
        }
    }
}

/// The first bytes of the framing.
const SNAPPY_HEADER: [u8; 16] = *b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01";

/// The largest block, compressed or not. `snappy-java` writes blocks of 32 KiB.
const BLOCK_BYTES_MAX: usize = 4 << 20;

#[derive(Debug)]
struct SnappyBlocks<R: Read> {
    input: BufReader<R>,
    has_begun: bool,
    /// The decompressed block; the first `at` bytes of it were read.
    block: Vec<u8>,
    at: usize,
}

impl<R: Read> SnappyBlocks<R> {
    /// Decompresses the next block; `false` at the end.
    fn next_block(&mut self) -> io::Result<bool> {
        let invalid = |message: String| io::Error::new(io::ErrorKind::InvalidData, message);
        if !self.has_begun {
            let mut header = [0; 16];
            self.input.read_exact(&mut header)?;
            if header != SNAPPY_HEADER {
                return Err(invalid(format!(
                    "it begins with {header:02x?}, not as snappy-java writes"
                )));
            }
            self.has_begun = true;
        }
        let mut length = Vec::with_capacity(4);
        self.input.by_ref().take(4).read_to_end(&mut length)?;
        let Ok(length) = <[u8; 4]>::try_from(length.as_slice()) else {
            return match length.is_empty() {
                true => Ok(false),
                false => Err(io::ErrorKind::UnexpectedEof.into()),
            };
        };
        let length = u32::from_be_bytes(length) as usize;
        if length > BLOCK_BYTES_MAX {
            return Err(invalid(format!(
                "a block of {length} bytes is larger than {BLOCK_BYTES_MAX}"
            )));
        }
        let mut compressed = Vec::new();
        self.input
            .by_ref()
            .take(length as u64)
            .read_to_end(&mut compressed)?;
        if compressed.len() < length {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let whole = snap::raw::decompress_len(&compressed).map_err(|error| invalid(error.to_string()))?;
        if whole > BLOCK_BYTES_MAX {
            return Err(invalid(format!(
                "a block decompresses to {whole} bytes, more than {BLOCK_BYTES_MAX}"
            )));
        }
        self.block = snap::raw::Decoder::new()
            .decompress_vec(&compressed)
            .map_err(|error| invalid(error.to_string()))?;
        self.at = 0;
        Ok(true)
    }
}

impl<R: Read> Read for SnappyBlocks<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.at == self.block.len() {
            if !self.next_block()? {
                return Ok(0);
            }
        }
        let rest = &self.block[self.at..];
        let count = rest.len().min(into.len());
        into[..count].copy_from_slice(&rest[..count]);
        self.at += count;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blocks(blocks: &[&[u8]]) -> Vec<u8> {
        let mut bytes = SNAPPY_HEADER.to_vec();
        for block in blocks {
            bytes.extend(u32::try_from(block.len()).unwrap().to_be_bytes());
            bytes.extend(*block);
        }
        bytes
    }

    fn read(bytes: &[u8]) -> Result<Vec<u8>, String> {
        let mut all = Vec::new();
        let read = Decompressed::new(bytes, Compression::Snappy).read_to_end(&mut all);
        read.map(|_| all).map_err(|error| error.to_string())
    }

    #[test]
    fn blocks_of_snappy_are_read_one_after_the_other() {
        // "foobar\n", as snappy-java writes it.
        let block = b"\x07\x18foobar\n";
        assert_eq!(read(&blocks(&[block])), Ok(b"foobar\n".to_vec()));
        assert_eq!(
            read(&blocks(&[block, b"\0", block])),
            Ok(b"foobar\nfoobar\n".to_vec())
        );
        assert_eq!(read(&blocks(&[])), Ok(Vec::new()));
    }

    #[test]
    fn what_is_no_block_of_snappy_is_an_error_and_allocates_nothing() {
        let check = |bytes: &[u8], expected: &str| {
            let error = read(bytes).expect_err("the bytes are wrong");
            assert!(error.contains(expected), "{error}");
        };
        check(b"\x82SNAPPX\0\0\0\0\x01\0\0\0\x01", "not as snappy-java writes");
        check(b"\x82SNA", "failed to fill whole buffer");
        let block = b"\x07\x18foobar\n";
        let whole = blocks(&[block]);
        for end in 17..whole.len() {
            check(&whole[..end], "unexpected end of file");
        }
        check(
            &[&SNAPPY_HEADER[..], &[0x7f; 4]].concat(),
            "a block of 2139062143 bytes",
        );
        // A length of 2^32 - 1 in five bytes.
        check(
            &blocks(&[b"\xff\xff\xff\xff\x0f\0"]),
            "decompresses to 4294967295 bytes",
        );
        check(&blocks(&[b"\x07\x18foo"]), "snappy");
    }
}
