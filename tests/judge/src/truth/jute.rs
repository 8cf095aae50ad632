//! ZooKeeper's encoding, as far as its transaction log needs it: big-endian numbers, and lengths before texts.

/// Reads from the front of a slice; `None` past its end.
#[derive(Clone)]
pub struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    pub fn new(bytes: &'a [u8]) -> Cursor<'a> {
        Cursor { rest: bytes }
    }

    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(count)?;
        self.rest = rest;
        Some(taken)
    }

    pub fn byte(&mut self) -> Option<u8> {
        self.take(1).map(|bytes| bytes[0])
    }

    pub fn int(&mut self) -> Option<i32> {
        let bytes = self.take(4)?.try_into().ok()?;
        Some(i32::from_be_bytes(bytes))
    }

    pub fn long(&mut self) -> Option<i64> {
        let bytes = self.take(8)?.try_into().ok()?;
        Some(i64::from_be_bytes(bytes))
    }

    /// Bytes after their length. A length of -1 is null and reads as empty.
    pub fn buffer(&mut self) -> Option<Vec<u8>> {
        let count = usize::try_from(self.int()?).unwrap_or(0);
        self.take(count).map(<[u8]>::to_vec)
    }

    pub fn text(&mut self) -> Option<String> {
        String::from_utf8(self.buffer()?).ok()
    }
}
