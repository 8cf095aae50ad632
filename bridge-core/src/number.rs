//! A newtype for each kind of number, so that the compiler finds a mix-up.
//!
//! A [`Zxid`] orders the transactions of ZooKeeper, a [`Seq`] orders the records of a journal. They cannot be compared.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize, Serializer};

use crate::read_from_text;

/// A ZooKeeper transaction id: the leader's epoch in the upper 32 bits, a counter in the lower.
///
/// Written as `0x` and 16 lower-case hex digits, so that the order of the texts is the order of the transactions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Zxid(pub u64);

impl Zxid {
    /// Before every transaction.
    pub const ZERO: Zxid = Zxid(0);

    /// The zxid of a watch event or Stat; `None` for the -1 that servers before 3.9 send with events
    /// (ZOOKEEPER-4655).
    pub fn from_wire(raw: i64) -> Option<Zxid> {
        u64::try_from(raw).ok().map(Zxid)
    }
}

/// The owner of an ephemeral znode; all zeros for none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct SessionId(pub u64);

impl SessionId {
    /// No session: the znode is not ephemeral.
    pub const NONE: SessionId = SessionId(0);
}

/// A record's position in the journal of its source, from 1, without holes there.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize, JsonSchema,
)]
#[serde(transparent)]
pub struct Seq(pub u64);

impl Seq {
    /// Before the first record.
    pub const ZERO: Seq = Seq(0);

    /// The position after this one.
    pub fn next(self) -> Seq {
        Seq(self.0 + 1)
    }
}

/// The number of a watch epoch: one arming of the watches, from one connection to the next. Never goes back.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize, JsonSchema,
)]
#[serde(transparent)]
pub struct Epoch(pub u64);

impl Epoch {
    /// The epoch after this one.
    pub fn next(self) -> Epoch {
        Epoch(self.0 + 1)
    }
}

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A text that is not `0x` and 16 lower-case hex digits.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not a hex number of the form 0x0000000300001a2f: give 0x and 16 lower-case hex digits")]
pub struct BadHex(String);

fn parse_hex(text: &str) -> Result<u64, BadHex> {
    let digits = text.strip_prefix("0x").filter(|digits| digits.len() == 16);
    digits
        .filter(|digits| {
            digits
                .bytes()
                .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        })
        .and_then(|digits| u64::from_str_radix(digits, 16).ok())
        .ok_or_else(|| BadHex(text.to_owned()))
}

/// `0x` and 16 lower-case hex digits. Each record has a dozen of these, and the standard formatter takes a tenth of the
/// time of its delivery for them.
struct Hex([u8; 18]);

impl Hex {
    fn of(mut number: u64) -> Hex {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut text = *b"0x0000000000000000";
        for place in text[2..].iter_mut().rev() {
            *place = DIGITS[(number & 0xf) as usize];
            number >>= 4;
        }
        Hex(text)
    }

    fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("digits are ASCII")
    }
}

/// Appends the 16 digits of a number, without `0x`.
pub(crate) fn push_hex(to: &mut String, number: u64) {
    to.push_str(&Hex::of(number).as_str()[2..]);
}

macro_rules! hex_text {
    ($name:ident, $meaning:literal) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(Hex::of(self.0).as_str())
            }
        }

        impl FromStr for $name {
            type Err = BadHex;

            fn from_str(text: &str) -> Result<Self, BadHex> {
                parse_hex(text).map($name)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(Hex::of(self.0).as_str())
            }
        }

        read_from_text!($name, {
            "type": "string",
            "description": $meaning,
            "pattern": "^0x[0-9a-f]{16}$",
        });
    };
}

hex_text!(
    Zxid,
    "A ZooKeeper transaction id; the order of the texts is the order of the transactions."
);
hex_text!(SessionId, "A ZooKeeper session; all zeros for none.");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zxid_is_written_so_that_text_order_is_zxid_order() {
        let small = Zxid(0x1_ffff_ffff);
        let large = Zxid(0xa_0000_0000);
        assert_eq!(small.to_string(), "0x00000001ffffffff");
        assert!(small.to_string() < large.to_string());
        assert_eq!("0x00000001ffffffff".parse(), Ok(small));
        for number in [0, 1, 0x0123_4567_89ab_cdef, u64::MAX] {
            assert_eq!(Zxid(number).to_string(), format!("{number:#018x}"));
        }
    }

    #[test]
    fn anything_but_16_lower_case_hex_digits_is_refused() {
        for bad in [
            "",
            "0x1",
            "00000001ffffffff",
            "0x00000001FFFFFFFF",
            "0x+0000001ffffffff",
        ] {
            assert!(bad.parse::<Zxid>().is_err(), "{bad}");
        }
    }

    #[test]
    fn the_minus_one_of_old_servers_is_no_zxid() {
        assert_eq!(Zxid::from_wire(-1), None);
        assert_eq!(Zxid::from_wire(7), Some(Zxid(7)));
    }
}
