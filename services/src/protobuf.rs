//! The fields of a protobuf message, without its schema: enough for the few messages that leaders and bookies write.

/// A field of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Field<'a> {
    /// An integer.
    Number(u64),
    /// A text, bytes or a message.
    Bytes(&'a [u8]),
    /// A number of a fixed size, which none of the messages has.
    Fixed,
}

/// More fields than any of the messages has.
const FIELDS_MAX: usize = 1_024;

/// The fields in their order, each with its number. `None` if the bytes are no message.
pub(crate) fn fields(mut bytes: &[u8]) -> Option<Vec<(u64, Field<'_>)>> {
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let tag = varint(&mut bytes)?;
        let field = match tag & 7 {
            0 => Field::Number(varint(&mut bytes)?),
            1 => fixed(&mut bytes, 8)?,
            2 => {
                let length = usize::try_from(varint(&mut bytes)?).ok()?;
                Field::Bytes(take(&mut bytes, length)?)
            }
            5 => fixed(&mut bytes, 4)?,
            _ => return None,
        };
        if found.len() == FIELDS_MAX || tag >> 3 == 0 {
            return None;
        }
        found.push((tag >> 3, field));
    }
    Some(found)
}

/// The last number of a field.
pub(crate) fn number(fields: &[(u64, Field<'_>)], wanted: u64) -> Option<u64> {
    fields.iter().rev().find_map(|(at, field)| match field {
        Field::Number(number) if *at == wanted => Some(*number),
        _ => None,
    })
}

/// The last bytes of a field.
pub(crate) fn bytes<'a>(fields: &[(u64, Field<'a>)], wanted: u64) -> Option<&'a [u8]> {
    fields.iter().rev().find_map(|(at, field)| match field {
        Field::Bytes(bytes) if *at == wanted => Some(*bytes),
        _ => None,
    })
}

/// The last text of a field.
pub(crate) fn text(fields: &[(u64, Field<'_>)], wanted: u64) -> Option<String> {
    std::str::from_utf8(bytes(fields, wanted)?)
        .ok()
        .map(str::to_owned)
}

/// The port of a field.
pub(crate) fn port(fields: &[(u64, Field<'_>)], wanted: u64) -> Option<u16> {
    number(fields, wanted)
        .and_then(|number| u16::try_from(number).ok())
        .filter(|port| *port > 0)
}

fn fixed<'a>(bytes: &mut &'a [u8], length: usize) -> Option<Field<'a>> {
    take(bytes, length).map(|_| Field::Fixed)
}

fn take<'a>(bytes: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (taken, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(taken)
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let byte = *take(bytes, 1)?.first()?;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_read_and_a_cut_one_is_none() {
        let message = [0x0a, 3, b'n', b'n', b'1', 0x20, 0xd4, 0x3e];
        let all = fields(&message).unwrap();
        assert_eq!(text(&all, 1).as_deref(), Some("nn1"));
        assert_eq!(port(&all, 4), Some(8020));
        for end in [1, 3, 7] {
            assert_eq!(fields(&message[..end]), None, "{end}");
        }
        assert_eq!(fields(&[0xff; 12]), None);
        assert_eq!(fields(&[0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f]), None);
    }
}
