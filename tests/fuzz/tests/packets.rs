//! A leader whose stream is damaged, cut or none at all: every byte is read once, and nothing panics or fills the memory.

#![allow(clippy::unwrap_used, reason = "what helps a test fails as the test does")]

use std::io::{Cursor, sink};

use bridge_fuzz::damaged;
use bridge_transactions::quorum::{LeaderPacket, SNAPSHOT_END, copy_snapshot, read_auth_packet};

/// The largest tree that is copied.
const TREE_MAX: u64 = 1 << 16;

const WORDS: &[&str] = &[
    "BenWasHere",
    "HTTP/1.1 400 Bad Request\r\n",
    "\0\0\0\u{1}",
    "\u{7f}",
    "/",
];

fn packet(kind: i32, zxid: i64, data: Option<&[u8]>) -> Vec<u8> {
    let mut bytes = [kind.to_be_bytes().as_slice(), &zxid.to_be_bytes()].concat();
    let length = data.map_or(-1, |data| i32::try_from(data.len()).unwrap());
    bytes.extend(length.to_be_bytes());
    bytes.extend(data.unwrap_or_default());
    bytes.extend((-1_i32).to_be_bytes());
    bytes
}

/// A connection from its beginning, without the tree.
fn packets() -> Vec<u8> {
    [
        packet(17, 3 << 32, Some(&[0, 1, 0, 0])),
        packet(13, 7, None),
        packet(2, 8, Some(&[7; 40])),
        packet(4, 8, None),
        packet(10, 3 << 32, Some(b"server.1=zk1:2888:3888:participant")),
        packet(12, -1, None),
        packet(8, 9, Some(&[7; 40])),
        packet(5, 9, Some(&[])),
        packet(19, 10, Some(&[7; 60])),
    ]
    .concat()
}

fn tree() -> Vec<u8> {
    let text = |text: &[u8]| [&i32::try_from(text.len()).unwrap().to_be_bytes(), text].concat();
    let acls = [
        [0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 31].as_slice(),
        &text(b"world"),
        &text(b"anyone"),
    ]
    .concat();
    let node = |path: &[u8], data: &[u8]| [text(path), text(data), vec![0; 68]].concat();
    let session = [0, 0, 0, 1, 1, 0, 0, 0, 0, 0, 0, 7, 0, 0, 117, 48];
    [
        session.as_slice(),
        &acls,
        &node(b"", b""),
        &node(b"/a", b"data"),
        &text(b"/"),
        &text(SNAPSHOT_END),
    ]
    .concat()
}

#[test]
fn a_damaged_stream_of_packets_ends_with_an_error_and_is_read_once() {
    damaged!(
        "a_damaged_stream_of_packets_ends_with_an_error_and_is_read_once",
        5_000,
        [packets()],
        WORDS,
        |_, bytes: &[u8]| {
            let mut from = Cursor::new(bytes);
            let mut last = 0;
            while LeaderPacket::read(&mut from).is_ok() {
                assert!(from.position() > last, "a packet of no bytes");
                last = from.position();
            }
            assert!(from.position() <= bytes.len() as u64);
            // The same bytes in place of an authentication.
            let _refused = read_auth_packet(&mut Cursor::new(bytes));
        }
    );
}

#[test]
fn a_damaged_tree_is_copied_as_it_came_or_refused() {
    let valid = tree();
    let end = SNAPSHOT_END.len() as u64 + 4;
    assert_eq!(
        copy_snapshot(&mut Cursor::new(&valid), &mut sink(), TREE_MAX).unwrap(),
        valid.len() as u64 - end
    );
    damaged!(
        "a_damaged_tree_is_copied_as_it_came_or_refused",
        5_000,
        [valid],
        WORDS,
        |_, bytes: &[u8]| {
            let (mut from, mut to) = (Cursor::new(bytes), Vec::new());
            match copy_snapshot(&mut from, &mut to, TREE_MAX) {
                Ok(length) => {
                    assert_eq!(length, to.len() as u64);
                    assert_eq!(from.position(), length + end);
                    assert!(bytes.starts_with(&to), "the copy differs from the stream");
                }
                Err(refused) => assert!(!refused.to_string().is_empty()),
            }
        }
    );
}
