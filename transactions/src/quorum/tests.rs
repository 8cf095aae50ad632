//! Packets as servers send them, and hostile ones.

use std::io::{Cursor, Read};

use super::*;

/// Bytes of hexadecimal digits; spaces are for the reader.
fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(byte).collect()
}

fn read(bytes: &[u8]) -> Result<LeaderPacket, PacketError> {
    let mut from = Cursor::new(bytes);
    let packet = LeaderPacket::read(&mut from)?;
    assert_eq!(
        from.position(),
        bytes.len() as u64,
        "the whole packet is read: {packet:?}"
    );
    Ok(packet)
}

#[test]
fn the_five_packets_of_an_observer_are_those_that_servers_understand() {
    let id = ObserverId::new(0x1_000f_4241).unwrap();
    let rows = [
        (
            LearnerPacket::ObserverInfo { id },
            "00000010 0000000000000000 00000014 00000001000f4241 00010000 0000000000000000 ffffffff",
        ),
        (
            LearnerPacket::AckEpoch {
                position: 0x2_0000_0007,
            },
            "00000012 0000000200000007 00000004 ffffffff ffffffff",
        ),
        (
            LearnerPacket::AckNewLeader { zxid: 0x3_0000_0000 },
            "00000003 0000000300000000 ffffffff ffffffff",
        ),
        (
            LearnerPacket::AckUpToDate { epoch: 3 },
            "00000003 0000000300000000 ffffffff ffffffff",
        ),
        (
            LearnerPacket::Ping { zxid: 0x3_0000_0002 },
            "00000005 0000000300000002 00000000 ffffffff",
        ),
    ];
    for (packet, bytes) in rows {
        assert_eq!(packet.encode(), hex(bytes), "{packet:?}");
    }
}

#[test]
fn an_id_of_a_configured_server_is_impossible() {
    for id in [i64::MIN, -1, 0, 1, 255, SERVER_ID_MAX] {
        assert_eq!(ObserverId::new(id), None, "{id}");
    }
    for bits in [0, 1, u64::MAX, 1 << 63, 0x1234_5678_9abc_def0] {
        let id = ObserverId::from_hash(bits);
        assert_eq!(ObserverId::new(id.get()), Some(id), "{bits}");
    }
}

#[test]
fn every_packet_that_a_leader_sends_is_read() {
    let payload = hex("0100000d8c070000 00000000 0000000100000001");
    let rows = [
        (
            "00000011 0000000300000000 00000004 00010000 ffffffff",
            LeaderPacket::LeaderInfo {
                epoch: 3,
                protocol: 0x1_0000,
            },
        ),
        (
            "0000000d 0000000200000007 ffffffff ffffffff",
            LeaderPacket::Diff { zxid: 0x2_0000_0007 },
        ),
        (
            "0000000e 0000000200000007 ffffffff ffffffff",
            LeaderPacket::Trunc { zxid: 0x2_0000_0007 },
        ),
        (
            "0000000f 0000000200000007 ffffffff ffffffff",
            LeaderPacket::Snap { zxid: 0x2_0000_0007 },
        ),
        (
            "00000002 0000000100000001 00000014 0100000d8c070000 00000000 0000000100000001 ffffffff",
            LeaderPacket::Proposal {
                zxid: 0x1_0000_0001,
                payload: payload.clone(),
            },
        ),
        (
            "00000004 0000000100000001 ffffffff ffffffff",
            LeaderPacket::Commit { zxid: 0x1_0000_0001 },
        ),
        (
            "00000009 0000000100000001 00000008 0000000000000002 ffffffff",
            LeaderPacket::CommitAndActivate { zxid: 0x1_0000_0001 },
        ),
        (
            "00000008 0000000100000001 00000014 0100000d8c070000 00000000 0000000100000001 ffffffff",
            LeaderPacket::Inform {
                zxid: 0x1_0000_0001,
                payload: payload.clone(),
            },
        ),
        (
            "00000013 0000000100000001 0000001c 0000000000000002 0100000d8c070000 00000000 0000000100000001 ffffffff",
            LeaderPacket::InformAndActivate {
                zxid: 0x1_0000_0001,
                payload,
            },
        ),
        (
            "0000000a 0000000300000000 00000003 613d62 ffffffff",
            LeaderPacket::NewLeader {
                zxid: 0x3_0000_0000,
                config: Some(b"a=b".to_vec()),
            },
        ),
        (
            "0000000a 0000000300000000 ffffffff ffffffff",
            LeaderPacket::NewLeader {
                zxid: 0x3_0000_0000,
                config: None,
            },
        ),
        (
            "0000000c ffffffffffffffff ffffffff ffffffff",
            LeaderPacket::UpToDate,
        ),
        (
            "00000005 0000000300000002 ffffffff ffffffff",
            LeaderPacket::Ping { zxid: 0x3_0000_0002 },
        ),
        ("00000007 0000000300000002 ffffffff ffffffff", LeaderPacket::Sync),
        (
            "00000006 0000000300000002 00000001 00 00000001 00000001 61 00000001 62",
            LeaderPacket::Revalidate,
        ),
    ];
    for (bytes, packet) in rows {
        assert_eq!(read(&hex(bytes)).unwrap(), packet, "{bytes}");
    }
}

#[test]
fn a_packet_has_no_identities_or_null_and_never_fewer() {
    let packet = |count: i32| {
        let mut bytes = vec![0, 0, 0, 12];
        bytes.extend([0xff; 8]);
        bytes.extend((-1_i32).to_be_bytes());
        bytes.extend(count.to_be_bytes());
        bytes
    };
    for count in [-1, 0] {
        let read = LeaderPacket::read(&mut packet(count).as_slice()).unwrap();
        assert_eq!(read, LeaderPacket::UpToDate);
    }
    for count in [-2, i32::MIN] {
        let error = LeaderPacket::read(&mut packet(count).as_slice()).unwrap_err();
        let expected = format!("announces {count} identities");
        assert!(error.to_string().contains(&expected), "{error}");
    }
}

#[test]
fn bytes_that_are_no_packet_are_refused_with_the_value() {
    let rows = [
        (
            "48545450 2f312e31 20343030 20426164",
            "a packet of type 1213486160",
        ),
        (
            "00000001 0000000000000000 ffffffff ffffffff",
            "a packet of type 1,",
        ),
        (
            "0000000b 0000000000000000 ffffffff ffffffff",
            "a packet of type 11,",
        ),
        (
            "00000008 0000000000000000 7fffffff 00",
            "announces 2147483647 bytes",
        ),
        ("00000008 0000000000000000 fffffffe 00", "announces -2 bytes"),
        (
            "00000008 0000000000000005 ffffffff ffffffff",
            "0x5 without a transaction",
        ),
        (
            "00000013 0000000000000005 00000008 0000000000000002 ffffffff",
            "0x5 without a transaction",
        ),
        (
            "00000011 0000000300000000 00000003 000100 ffffffff",
            "without a version",
        ),
        (
            "00000004 0000000000000005 ffffffff 7fffffff",
            "announces 2147483647 identities",
        ),
        ("00000004 0000000000000005 ffff", "the connection was closed"),
        (
            "00000008 0000000000000000 00000010 00",
            "the connection was closed",
        ),
    ];
    for (bytes, expected) in rows {
        let message = read(&hex(bytes)).unwrap_err().to_string();
        assert!(message.contains(expected), "{bytes}: {message}");
    }
}

#[test]
fn authentication_packets_are_read_and_written() {
    let sent = auth_packet(b"token");
    assert_eq!(sent, hex("5f2435013501edcc 00000000 00000005 746f6b656e"));
    let rows = [
        (
            "5f2435013501edcc 00000000 00000001 61",
            AuthPacket::InProgress(b"a".to_vec()),
        ),
        (
            "5f2435013501edcc 00000001 00000001 61",
            AuthPacket::Success(b"a".to_vec()),
        ),
        (
            "5f2435013501edcc 00000001 ffffffff",
            AuthPacket::Success(Vec::new()),
        ),
        ("5f2435013501edcc ffffffff ffffffff", AuthPacket::Refused),
    ];
    for (bytes, packet) in rows {
        assert_eq!(read_auth_packet(&mut Cursor::new(hex(bytes))).unwrap(), packet);
    }
    for bytes in [
        "0000000c ffffffff ffffffff",
        "5f2435013501edcc 00000007 ffffffff",
        "5f2435013501edcc 00000000 00020000",
    ] {
        assert!(read_auth_packet(&mut Cursor::new(hex(bytes))).is_err(), "{bytes}");
    }
}

/// A tree of two znodes with a session and an access control list, as a leader sends it.
fn body() -> Vec<u8> {
    let sessions = "00000001 0100000d8c070000 00002710";
    let acls = "00000001 0000000000000001 00000001 0000001f 00000005 776f726c64 00000006 616e796f6e65";
    let stat = "00".repeat(60);
    let root = format!("00000000 ffffffff ffffffffffffffff {stat}");
    let child = format!("00000002 2f61 00000003 2f2f2f 0000000000000001 {stat}");
    hex(&format!("{sessions}{acls}{root}{child}00000001 2f"))
}

fn sent() -> Vec<u8> {
    let mut sent = body();
    sent.extend((SNAPSHOT_END.len() as i32).to_be_bytes());
    sent.extend(SNAPSHOT_END);
    sent
}

#[test]
fn a_tree_is_copied_up_to_its_end_and_nothing_after_it_is_read() {
    let mut stream = sent();
    stream.extend(b"next");
    let (mut from, mut to) = (Cursor::new(&stream), Vec::new());
    let length = copy_snapshot(&mut from, &mut to, 1 << 20).unwrap();
    assert_eq!(to, body());
    assert_eq!(length, to.len() as u64);
    let mut rest = String::new();
    from.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "next");
}

#[test]
fn a_tree_that_is_cut_too_long_or_without_its_end_is_refused() {
    let whole = sent();
    for length in 0..whole.len() {
        let mut to = Vec::new();
        let copied = copy_snapshot(&mut Cursor::new(&whole[..length]), &mut to, 1 << 20);
        assert!(copied.is_err(), "cut at {length}");
    }
    let limit = body().len() as u64 - 1;
    let refused = copy_snapshot(&mut Cursor::new(&whole), &mut Vec::new(), limit).unwrap_err();
    assert!(
        matches!(refused, PacketError::TooLarge { max } if max == limit),
        "{refused}"
    );
    let mut other = whole;
    *other.last_mut().unwrap() = b'!';
    let refused = copy_snapshot(&mut Cursor::new(&other), &mut Vec::new(), 1 << 20).unwrap_err();
    assert!(
        refused.to_string().contains("without the mark of its end"),
        "{refused}"
    );
}

#[test]
fn a_copy_that_cannot_be_written_is_not_taken_for_a_lost_connection() {
    let mut full = [0; 8];
    let refused = copy_snapshot(&mut Cursor::new(sent()), &mut &mut full[..], 1 << 20).unwrap_err();
    assert!(matches!(refused, PacketError::Copy(_)), "{refused}");
}
