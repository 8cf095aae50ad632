//! Reads a payload.

use super::{AclEntry, Lifetime, Operation, Transaction, TreeDigest, open_list};
use crate::jute::{DecodeError, DecodeFault, Decoder};

const ERROR: i32 = -1;
const CREATE_SESSION: i32 = -10;
const CLOSE_SESSION: i32 = -11;
const CREATE: i32 = 1;
const DELETE: i32 = 2;
const SET_DATA: i32 = 5;
const SET_ACL: i32 = 7;
const CHECK: i32 = 13;
const MULTI: i32 = 14;
const CREATE2: i32 = 15;
const RECONFIG: i32 = 16;
const CREATE_CONTAINER: i32 = 19;
const DELETE_CONTAINER: i32 = 20;
const CREATE_TTL: i32 = 21;

/// Bytes before the body: session, cxid, zxid, time and type.
const HEAD_BYTES: usize = 32;
/// Bytes of a digest: its version and its value.
const DIGEST_BYTES: usize = 12;
/// Bytes of an entry of an access control list at least: permissions and two lengths.
const ACL_ENTRY_BYTES: usize = 12;
/// Bytes of a part of a `multi` at least: its type and a length.
const PART_BYTES: usize = 8;
/// Bytes of a text at least: its length.
const TEXT_BYTES: usize = 4;

/// The code of a part of a failed `multi` that was not tried, because an earlier one had failed.
const NOT_TRIED: i32 = -2;

impl Transaction {
    /// Reads the payload of a record of a log, or of a packet between servers.
    ///
    /// # Errors
    ///
    /// If it is not a transaction as a server from 3.4 to 3.9 writes it. A type that is not known is an error, because
    /// nothing may be left out.
    pub fn decode(payload: &[u8]) -> Result<Transaction, DecodeError> {
        let mut decoder = Decoder::new(payload);
        let session = decoder.long("session")?;
        let cxid = decoder.int("cxid")?;
        let zxid = decoder.long("zxid")?;
        let time = decoder.long("time")?;
        let at_type = decoder.clone();
        let operation = match decoder.int("type")? {
            MULTI => multi(&mut decoder)?,
            CREATE_SESSION => Operation::CreateSession {
                timeout: decoder.int("session timeout")?,
            },
            CLOSE_SESSION => close_session(&mut decoder)?,
            ERROR => Operation::Error {
                code: decoder.int("error code")?,
            },
            SET_ACL => set_acl(&mut decoder)?,
            RECONFIG => reconfigure(&mut decoder)?,
            code => match part(code, &mut decoder)? {
                Some(operation) => operation,
                None => return Err(at_type.error("type", DecodeFault::UnknownType(code))),
            },
        };
        let digest = digest(&mut decoder)?;
        let payload_crc = checksum(payload, &operation, digest);
        Ok(Transaction {
            zxid,
            session,
            cxid,
            time,
            operation,
            digest,
            payload_crc,
        })
    }
}

/// The checksum of a payload, the same on all servers. Of a `multi` that failed a server takes the types away from the
/// parts while another thread writes it into the log, so that logs of one ensemble differ in the parts.
pub(crate) fn checksum(payload: &[u8], operation: &Operation, digest: Option<TreeDigest>) -> u32 {
    if !matches!(operation, Operation::FailedMulti { .. }) {
        return crc32fast::hash(payload);
    }
    let after_parts = payload.len() - digest.map_or(0, |_| DIGEST_BYTES);
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&payload[..HEAD_BYTES]);
    hasher.update(&payload[after_parts..]);
    hasher.finalize()
}

/// Reads the body of a type that can also be a part of a `multi`; `None` for any other.
fn part(code: i32, body: &mut Decoder<'_>) -> Result<Option<Operation>, DecodeError> {
    let operation = match code {
        CREATE | CREATE2 | CREATE_CONTAINER | CREATE_TTL => create(code, body)?,
        DELETE => Operation::Delete {
            path: body.text("path")?,
        },
        DELETE_CONTAINER => Operation::DeleteContainer {
            path: body.text("path")?,
        },
        SET_DATA => Operation::SetData {
            path: body.text("path")?,
            data: body.buffer("data")?.map(<[u8]>::to_vec),
            version: body.int("version")?,
        },
        CHECK => Operation::Check {
            path: body.text("path")?,
            version: body.int("version")?,
        },
        _ => return Ok(None),
    };
    Ok(Some(operation))
}

fn create(code: i32, body: &mut Decoder<'_>) -> Result<Operation, DecodeError> {
    let path = body.text("path")?;
    let data = body.buffer("data")?.map(<[u8]>::to_vec);
    let acl = acl(body)?;
    let mut lifetime = Lifetime::Persistent;
    if matches!(code, CREATE | CREATE2) && body.boolean("ephemeral")? {
        lifetime = Lifetime::Ephemeral;
    }
    // Logs that 3.3 wrote end here, and 3.4 still reads them.
    let is_old_form = code == CREATE && body.rest().is_empty();
    let parent_cversion = match is_old_form {
        true => -1,
        false => body.int("parent's cversion")?,
    };
    match code {
        CREATE_CONTAINER => lifetime = Lifetime::Container,
        CREATE_TTL => {
            lifetime = Lifetime::Ttl {
                ms: body.long("TTL")?,
            }
        }
        _ => {}
    }
    Ok(Operation::Create {
        path,
        data,
        acl,
        lifetime,
        parent_cversion,
    })
}

fn set_acl(body: &mut Decoder<'_>) -> Result<Operation, DecodeError> {
    Ok(Operation::SetAcl {
        path: body.text("path")?,
        acl: acl(body)?,
        version: body.int("ACL version")?,
    })
}

fn reconfigure(body: &mut Decoder<'_>) -> Result<Operation, DecodeError> {
    Ok(Operation::Reconfigure {
        path: body.text("path")?,
        data: body.buffer("configuration")?.map(<[u8]>::to_vec),
        version: body.int("version")?,
    })
}

/// Reads an access control list; null is the open one.
///
/// # Errors
///
/// If it is not one.
pub(crate) fn acl(body: &mut Decoder<'_>) -> Result<Vec<AclEntry>, DecodeError> {
    if body.is_null() {
        body.count("ACL", ACL_ENTRY_BYTES)?;
        return Ok(open_list());
    }
    let count = body.count("ACL", ACL_ENTRY_BYTES)?;
    let entry = |body: &mut Decoder<'_>| {
        Ok(AclEntry {
            permissions: body.int("permissions")?,
            scheme: body.text("ACL scheme")?,
            id: body.text("ACL id")?,
        })
    };
    (0..count).map(|_| entry(body)).collect()
}

/// Reads the parts of a `multi`. The parts before the one that failed look as if they had succeeded, or have lost their
/// type to the error while their body is still the old one, so nothing of a failed `multi` is read but error codes.
fn multi(body: &mut Decoder<'_>) -> Result<Operation, DecodeError> {
    let count = body.count("parts of the multi", PART_BYTES)?;
    let begin = body.clone();
    let mut has_failed = false;
    let mut failed_code = NOT_TRIED;
    for _ in 0..count {
        let (code, bytes) = framed_part(body)?;
        if code == ERROR {
            has_failed = true;
            // The body of a part that lost its type is longer.
            let read = <[u8; 4]>::try_from(bytes).map(i32::from_be_bytes);
            let code = read.unwrap_or(NOT_TRIED);
            if matches!(failed_code, 0 | NOT_TRIED) {
                failed_code = code;
            }
        }
    }
    if has_failed {
        return Ok(Operation::FailedMulti {
            parts: count,
            code: failed_code,
        });
    }
    let mut parts = begin;
    let mut operations = Vec::new();
    for _ in 0..count {
        let at_part = parts.clone();
        let (code, bytes) = framed_part(&mut parts)?;
        operations.push(whole_part(code, bytes, &at_part)?);
    }
    Ok(Operation::Multi(operations))
}

/// The type and the body of the next part.
fn framed_part<'a>(body: &mut Decoder<'a>) -> Result<(i32, &'a [u8]), DecodeError> {
    let code = body.int("type of a part")?;
    let bytes = body.buffer("part of the multi")?;
    Ok((code, bytes.unwrap_or_default()))
}

/// Reads a part, whose body has nothing after it. Errors name the position of the part.
fn whole_part(code: i32, bytes: &[u8], at_part: &Decoder<'_>) -> Result<Operation, DecodeError> {
    let mut body = Decoder::new(bytes);
    let read = part(code, &mut body).and_then(|read| match read {
        Some(operation) => body.end("part of the multi").map(|()| operation),
        None => Err(body.error("type of a part", DecodeFault::UnknownType(code))),
    });
    read.map_err(|error| at_part.error(error.field, error.fault))
}

/// Reads the list of a session's end. Up to 3.5 there is none; where it is turned off, a digest alone may follow.
fn close_session(body: &mut Decoder<'_>) -> Result<Operation, DecodeError> {
    if body.rest().is_empty() {
        return Ok(Operation::CloseSession { paths: None });
    }
    let mut list = body.clone();
    let read = paths(&mut list);
    let left = list.rest().len();
    // A digest has a version of 2 and then 8 bytes; as a list of 2 paths it would need paths without a character.
    let is_list = |paths: &[String]| {
        (left == 0 || left >= DIGEST_BYTES) && paths.iter().all(|path| path.starts_with('/'))
    };
    match read {
        Ok(paths) if is_list(&paths) => {
            *body = list;
            Ok(Operation::CloseSession { paths: Some(paths) })
        }
        _ if body.rest().len() == DIGEST_BYTES => Ok(Operation::CloseSession { paths: None }),
        _ => Err(body.error("deleted paths", DecodeFault::NeitherListNorDigest)),
    }
}

fn paths(body: &mut Decoder<'_>) -> Result<Vec<String>, DecodeError> {
    let count = body.count("deleted paths", TEXT_BYTES)?;
    (0..count).map(|_| body.text("deleted path")).collect()
}

/// Reads the digest after the body. Bytes after it are ignored, as servers do.
fn digest(rest: &mut Decoder<'_>) -> Result<Option<TreeDigest>, DecodeError> {
    match rest.rest().len() {
        0 => Ok(None),
        left if left < DIGEST_BYTES => Err(rest.error("digest", DecodeFault::Rest(left))),
        _ => Ok(Some(TreeDigest {
            version: rest.int("digest version")?,
            value: rest.long("digest")?.cast_unsigned(),
        })),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{self, Encoder};

    /// Bytes from hexadecimal digits; anything else between them is ignored.
    fn bytes(digits: &str) -> Vec<u8> {
        let digits: Vec<u8> = digits.bytes().filter(u8::is_ascii_hexdigit).collect();
        let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
        digits.chunks(2).map(byte).collect()
    }

    fn payload(code: i32, body: &[u8]) -> Vec<u8> {
        let mut payload = Encoder(bytes(
            "0100000d8c070000 00000001 0000000100000002 000001a1ffa8f944",
        ));
        payload.int(code);
        payload.0.extend(body);
        payload.0
    }

    fn operation(code: i32, body: &[u8]) -> Operation {
        Transaction::decode(&payload(code, body))
            .expect("the body is as documented")
            .operation
    }

    fn refusal(code: i32, body: &[u8]) -> String {
        let read = Transaction::decode(&payload(code, body));
        read.expect_err("the body is wrong").to_string()
    }

    #[test]
    fn a_create_is_read_as_zookeeper_3_8_sent_it() {
        let payload = bytes(
            "0100000d8c070000 00000001 0000000100000002 000001a1ffa8f944 00000001 | 00000003 2f7431 | 00000005 68656c6c6f \
             | 00000001 0000001f 00000005 776f726c64 00000006 616e796f6e65 | 00 | 00000001 | 00000002 00000001f15f61ef",
        );
        let read = Transaction::decode(&payload).unwrap();
        let expected = Transaction {
            zxid: 0x1_0000_0002,
            session: 0x0100_000d_8c07_0000,
            cxid: 1,
            time: 0x01a1_ffa8_f944,
            operation: Operation::Create {
                path: "/t1".to_owned(),
                data: Some(b"hello".to_vec()),
                acl: vec![testing::anyone()],
                lifetime: Lifetime::Persistent,
                parent_cversion: 1,
            },
            digest: Some(TreeDigest {
                version: 2,
                value: 0x1_f15f_61ef,
            }),
            payload_crc: crc32fast::hash(&payload),
        };
        assert_eq!(read, expected);
    }

    #[test]
    fn a_create_of_a_log_of_3_3_has_no_cversion_of_the_parent() {
        let whole = testing::body(&testing::a_create(1, "/a").operation);
        let Operation::Create { parent_cversion, .. } = operation(CREATE, &whole[..whole.len() - 4]) else {
            panic!("a create is one")
        };
        assert_eq!(parent_cversion, -1);
        assert!(refusal(CREATE, &whole[..whole.len() - 1]).contains("parent's cversion"));
        assert!(refusal(CREATE2, &whole[..whole.len() - 4]).contains("parent's cversion"));
    }

    #[test]
    fn a_null_access_control_list_is_the_open_one_and_an_empty_one_is_empty() {
        let with_list = |list: &[u8]| operation(SET_ACL, &[b"\0\0\0\x02/a", list, &[0, 0, 0, 3]].concat());
        let expected = |acl| Operation::SetAcl {
            path: "/a".to_owned(),
            acl,
            version: 3,
        };
        assert_eq!(with_list(&[0xff; 4]), expected(vec![testing::anyone()]));
        assert_eq!(with_list(&[0; 4]), expected(Vec::new()));
        assert!(refusal(SET_ACL, b"\0\0\0\x02/a\xff\xff\xff\xfe\0\0\0\x03").contains("-2 is negative"));
    }

    #[test]
    fn the_end_of_a_session_has_a_list_of_paths_or_not_and_a_digest_or_not() {
        let check = |body: &[u8], paths: Option<&[&str]>, has_digest: bool| {
            let read = Transaction::decode(&payload(CLOSE_SESSION, body)).unwrap();
            let owned = |paths: &[&str]| paths.iter().map(|path| (*path).to_owned()).collect();
            let expected = Operation::CloseSession {
                paths: paths.map(owned),
            };
            assert_eq!(
                (read.operation, read.digest.is_some()),
                (expected, has_digest),
                "{body:02x?}"
            );
        };
        let digest = bytes("00000002 00000001f15f61ef");
        let zero = bytes("00000002 0000000000000000");
        let (none, one, two) = (
            bytes("00000000"),
            bytes("00000001 00000004 2f616263"),
            bytes("00000002 00000002 2f61 00000002 2f62"),
        );
        check(&[], None, false);
        check(&digest, None, true);
        check(&zero, None, true);
        check(&none, Some(&[]), false);
        check(&one, Some(&["/abc"]), false);
        check(&two, Some(&["/a", "/b"]), false);
        check(&[&none[..], &digest].concat(), Some(&[]), true);
        check(&[&two[..], &digest].concat(), Some(&["/a", "/b"]), true);
        let expected = "deleted paths at byte 32: it is neither a list of paths nor a digest";
        assert_eq!(refusal(CLOSE_SESSION, &[0; 3]), expected);
        assert_eq!(refusal(CLOSE_SESSION, &two[..two.len() - 1]), expected);
        assert_eq!(
            refusal(CLOSE_SESSION, &[&two[..], &digest[..11]].concat()),
            expected
        );
    }

    #[test]
    fn a_multi_is_its_parts_and_one_that_failed_is_nothing_but_its_error() {
        let create = testing::body(&testing::a_create(1, "/a").operation);
        let multi = |parts: &[(i32, &[u8])]| {
            let mut body = Encoder::default();
            body.count(parts.len());
            for (code, bytes) in parts {
                body.int(*code);
                body.buffer(Some(bytes));
            }
            body.0
        };
        let error = |code: i32| code.to_be_bytes();
        let Operation::Multi(parts) =
            operation(MULTI, &multi(&[(CREATE, &create), (DELETE, b"\0\0\0\x02/a")]))
        else {
            panic!("no part failed")
        };
        assert_eq!(parts.len(), 2);
        assert_eq!(operation(MULTI, &multi(&[])), Operation::Multi(Vec::new()));
        let check = |parts: &[(i32, &[u8])], code| {
            let expected = Operation::FailedMulti {
                parts: parts.len(),
                code,
            };
            assert_eq!(operation(MULTI, &multi(parts)), expected);
        };
        // On disk the parts before the one that failed look as if they had succeeded.
        check(
            &[(CREATE, &create), (ERROR, &error(-101)), (ERROR, &error(-2))],
            -101,
        );
        check(
            &[(ERROR, &error(0)), (ERROR, &error(-110)), (ERROR, &error(-2))],
            -110,
        );
        // In the memory of a leader they have lost their type and kept their body.
        check(&[(ERROR, &create), (ERROR, &error(-101))], -101);
        check(&[(ERROR, &create)], NOT_TRIED);
    }

    #[test]
    fn a_multi_that_failed_has_the_same_checksum_in_the_logs_of_all_servers() {
        // As three servers of 3.9.5 logged one transaction, up to the type of the first part.
        let logged = |first: &str| {
            let digits = format!(
                "02000279160c00000000002d000000010000049e000001a22a4358fb0000000e00000003{first}0000003f000000122f636861\
                 6f732f6e352f6e302d6e65766572000000056e65766572000000010000001f00000005776f726c6400000006616e796f6e6500\
                 00000003ffffffff00000004ffffff9bffffffff00000004fffffffe000000020000010a394eccd8"
            );
            let byte = |at: usize| u8::from_str_radix(&digits[at..at + 2], 16).unwrap();
            let payload: Vec<u8> = (0..digits.len()).step_by(2).map(byte).collect();
            Transaction::decode(&payload).unwrap()
        };
        let (whole, taken) = (logged("0000000f"), logged("ffffffff"));
        let expected = Operation::FailedMulti { parts: 3, code: -101 };
        assert_eq!((&whole.operation, &taken.operation), (&expected, &expected));
        assert_eq!(whole, taken);
        assert_ne!(whole.payload_crc, 0);
    }

    #[test]
    fn a_type_that_is_not_known_is_an_error_and_so_are_bytes_that_belong_to_no_field() {
        assert_eq!(
            refusal(99, &[]),
            "type at byte 28: the transaction type 99 is not known"
        );
        let part = |code: i32, bytes: &[u8]| {
            let mut body = Encoder::default();
            body.count(1);
            body.int(code);
            body.buffer(Some(bytes));
            body.0
        };
        for code in [99, MULTI, CREATE_SESSION, CLOSE_SESSION, SET_ACL, RECONFIG] {
            let expected = format!("type of a part at byte 36: the transaction type {code} is not known");
            assert_eq!(refusal(MULTI, &part(code, &[1])), expected);
        }
        assert_eq!(
            refusal(MULTI, &part(DELETE, b"\0\0\0\x02/a!")),
            "part of the multi at byte 36: 1 bytes follow the last field"
        );
        assert_eq!(
            refusal(DELETE, b"\0\0\0\x02/a\0\0\0\x02"),
            "digest at byte 38: 4 bytes follow the last field"
        );
        // A digest, and something that a later version adds.
        let read =
            Transaction::decode(&payload(DELETE, b"\0\0\0\x02/a\0\0\0\x02\0\0\0\0\0\0\0\x09more")).unwrap();
        assert_eq!(read.digest.map(|digest| digest.value), Some(9));
    }

    #[test]
    fn counts_and_lengths_of_two_to_the_31_are_refused() {
        let largest = i32::MAX.to_be_bytes();
        for code in [CREATE, DELETE, SET_DATA, MULTI] {
            assert!(refusal(code, &largest).contains("2147483647"), "{code}");
        }
        assert!(refusal(SET_ACL, &[b"\0\0\0\x02/a", &largest[..]].concat()).contains("2147483647 elements"));
        assert!(refusal(CLOSE_SESSION, &largest).contains("neither a list of paths nor a digest"));
        assert!(refusal(MULTI, &[0xff, 0xff, 0xff, 0x80]).contains("-128 is negative"));
    }
}
