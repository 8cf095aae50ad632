//! Every packet in every phase.

use bridge_transactions::quorum::LeaderPacket::{
    Commit, CommitAndActivate, Diff, Inform, InformAndActivate, LeaderInfo, NewLeader, Ping, Proposal,
    Revalidate, Snap, Sync, Trunc, UpToDate,
};

use super::*;

const EPOCH: i64 = 3 << 32;

fn id() -> ObserverId {
    ObserverId::from_hash(1)
}

/// A transaction of this zxid and type.
fn payload(zxid: i64, kind: i32) -> Vec<u8> {
    let mut bytes = vec![0; 12];
    bytes.extend(zxid.to_be_bytes());
    bytes.extend([0; 8]);
    bytes.extend(kind.to_be_bytes());
    bytes
}

fn proposal(zxid: i64) -> LeaderPacket {
    Proposal {
        zxid,
        payload: payload(zxid, 5),
    }
}

fn inform(zxid: i64) -> LeaderPacket {
    Inform {
        zxid,
        payload: payload(zxid, 5),
    }
}

fn new_leader() -> LeaderPacket {
    NewLeader {
        zxid: EPOCH,
        config: Some(b"server.1=zk1:2888:3888:participant\n".to_vec()),
    }
}

fn led() -> LeaderPacket {
    LeaderInfo {
        epoch: 3,
        protocol: 0x1_0000,
    }
}

/// A connection after these packets, and the transactions that it reported.
fn after(packets: Vec<LeaderPacket>) -> (Learner, Vec<i64>) {
    let mut learner = resumed(0);
    let mut zxids = Vec::new();
    for packet in packets {
        zxids.extend(zxid(&learner.take(packet).unwrap()));
    }
    (learner, zxids)
}

fn resumed(position: i64) -> Learner {
    let (mut learner, first) = Learner::new(id());
    assert_eq!(first, LearnerPacket::ObserverInfo { id: id() });
    let reaction = learner.take(led()).unwrap();
    assert_eq!(reaction, event(LearnerEvent::Led { epoch: 3 }));
    let answer = learner.resume(position).unwrap();
    assert_eq!(answer, LearnerPacket::AckEpoch { position });
    learner
}

fn zxid(reaction: &Reaction) -> Option<i64> {
    match &reaction.event {
        Some(LearnerEvent::Committed(transaction)) => Some(transaction.zxid),
        _ => None,
    }
}

fn fault(learner: &mut Learner, packet: LeaderPacket) -> String {
    learner.take(packet).unwrap_err().to_string()
}

#[test]
fn a_connection_goes_through_its_phases_and_answers_each_packet_that_must_be_answered() {
    for (answer, expected) in [
        (Diff { zxid: EPOCH + 4 }, Synchronised::Diff { zxid: EPOCH + 4 }),
        (Trunc { zxid: 7 }, Synchronised::Trunc { zxid: 7 }),
        (Snap { zxid: 9 }, Synchronised::Snap { zxid: 9 }),
    ] {
        let mut learner = resumed(EPOCH + 2);
        let reaction = learner.take(answer).unwrap();
        assert_eq!(reaction, event(LearnerEvent::Synchronised(expected)));
        assert_eq!(learner.take(proposal(EPOCH + 3)).unwrap(), Reaction::default());
        assert_eq!(
            zxid(&learner.take(Commit { zxid: EPOCH + 3 }).unwrap()),
            Some(EPOCH + 3)
        );

        let reaction = learner.take(new_leader()).unwrap();
        assert_eq!(reaction.answer, Some(LearnerPacket::AckNewLeader { zxid: EPOCH }));
        assert!(matches!(&reaction.event, Some(LearnerEvent::Members(members)) if members.len() == 1));
        assert!(!learner.is_following());

        assert_eq!(zxid(&learner.take(inform(EPOCH + 4)).unwrap()), Some(EPOCH + 4));
        let reaction = learner.take(UpToDate).unwrap();
        assert_eq!(reaction.answer, Some(LearnerPacket::AckUpToDate { epoch: 3 }));
        assert_eq!(reaction.event, Some(LearnerEvent::UpToDate));
        assert!(learner.is_following());
        assert_eq!(zxid(&learner.take(inform(EPOCH + 5)).unwrap()), Some(EPOCH + 5));
    }
}

#[test]
fn a_proposal_is_no_event_before_its_commit() {
    let (mut learner, zxids) = after(vec![
        Diff { zxid: 0 },
        proposal(EPOCH + 1),
        proposal(EPOCH + 2),
        new_leader(),
        UpToDate,
    ]);
    assert_eq!(zxids, [] as [i64; 0]);
    assert_eq!(
        zxid(&learner.take(Commit { zxid: EPOCH + 1 }).unwrap()),
        Some(EPOCH + 1)
    );
    let words = fault(&mut learner, Commit { zxid: EPOCH + 3 });
    assert!(
        words.contains("0x300000003, and the first proposal that waits is 0x300000002"),
        "{words}"
    );
    let (mut learner, _) = after(vec![Diff { zxid: 0 }]);
    let words = fault(&mut learner, CommitAndActivate { zxid: EPOCH + 3 });
    assert!(words.contains("the first proposal that waits is none"), "{words}");
}

#[test]
fn a_transaction_with_its_data_replaces_the_proposals_up_to_it() {
    let (mut learner, zxids) = after(vec![
        Diff { zxid: 0 },
        proposal(EPOCH + 1),
        proposal(EPOCH + 2),
        proposal(EPOCH + 3),
        inform(EPOCH + 2),
    ]);
    assert_eq!(zxids, [EPOCH + 2]);
    assert_eq!(
        zxid(&learner.take(Commit { zxid: EPOCH + 3 }).unwrap()),
        Some(EPOCH + 3)
    );
}

#[test]
fn a_ping_is_answered_only_after_newleader() {
    let (mut learner, _) = after(vec![Snap { zxid: 0 }]);
    assert_eq!(learner.take(Ping { zxid: 5 }).unwrap(), Reaction::default());
    let (mut learner, _) = after(vec![Snap { zxid: 0 }, new_leader()]);
    let reaction = learner.take(Ping { zxid: 5 }).unwrap();
    assert_eq!(reaction.answer, Some(LearnerPacket::Ping { zxid: 5 }));
}

#[test]
fn a_packet_out_of_place_is_refused_in_every_phase() {
    let before_answer = || vec![];
    let synchronising = || vec![Diff { zxid: 0 }];
    let acknowledged = || vec![Diff { zxid: 0 }, new_leader()];
    let following = || vec![Diff { zxid: 0 }, new_leader(), UpToDate];
    for (packets, packet) in [
        (before_answer(), proposal(1)),
        (before_answer(), new_leader()),
        (before_answer(), led()),
        (before_answer(), Ping { zxid: 1 }),
        (synchronising(), UpToDate),
        (synchronising(), Snap { zxid: 1 }),
        (synchronising(), led()),
        (acknowledged(), new_leader()),
        (acknowledged(), Diff { zxid: 1 }),
        (following(), UpToDate),
        (following(), new_leader()),
        (following(), Trunc { zxid: 1 }),
    ] {
        let (mut learner, _) = after(packets);
        let words = fault(&mut learner, packet.clone());
        assert!(words.contains("was expected"), "{packet:?}: {words}");
    }
    let (mut learner, _) = Learner::new(id());
    assert!(fault(&mut learner, Diff { zxid: 1 }).contains("DIFF 0x1 while LEADERINFO was expected"));
}

#[test]
fn a_leader_of_a_lower_epoch_or_an_older_protocol_is_refused() {
    let (mut learner, _) = Learner::new(id());
    learner.take(led()).unwrap();
    let deposed = learner.resume(5 << 32).unwrap_err();
    assert_eq!(deposed, LearnerFault::Deposed { leader: 3, known: 5 });
    let (mut learner, _) = Learner::new(id());
    let old = LeaderInfo {
        epoch: 3,
        protocol: 1,
    };
    assert!(fault(&mut learner, old).contains("version 0x1"));
    let (mut learner, _) = after(vec![Diff { zxid: 0 }]);
    let other = NewLeader {
        zxid: 4 << 32,
        config: None,
    };
    assert!(fault(&mut learner, other).contains("began with epoch 3 and sends NEWLEADER of epoch 4"));
}

#[test]
fn an_id_that_a_server_has_ends_the_connection_before_anything_is_acknowledged() {
    let config = format!("server.{}=zk1:2888:3888\n", id().get());
    let (mut learner, _) = after(vec![Diff { zxid: 0 }]);
    let taken = learner.take(NewLeader {
        zxid: EPOCH,
        config: Some(config.clone().into_bytes()),
    });
    assert_eq!(taken, Err(LearnerFault::IdTaken(id())));
    let (learner, _) = after(vec![Diff { zxid: 0 }]);
    assert_eq!(
        learner.configured(config.as_bytes()),
        Err(LearnerFault::IdTaken(id()))
    );
}

#[test]
fn a_new_configuration_is_known_by_its_type_however_it_comes() {
    let reconfig = payload(EPOCH + 1, RECONFIG);
    for packets in [
        vec![
            Proposal {
                zxid: EPOCH + 1,
                payload: reconfig.clone(),
            },
            CommitAndActivate { zxid: EPOCH + 1 },
        ],
        vec![InformAndActivate {
            zxid: EPOCH + 1,
            payload: reconfig.clone(),
        }],
    ] {
        let (mut learner, _) = after(vec![Diff { zxid: 0 }]);
        let mut last = Reaction::default();
        for packet in packets {
            last = learner.take(packet).unwrap();
        }
        let Some(LearnerEvent::Committed(transaction)) = last.event else {
            panic!("it is committed")
        };
        assert!(transaction.is_reconfiguration());
    }
}

#[test]
fn a_packet_whose_transaction_has_another_zxid_or_is_cut_is_refused() {
    for bytes in [
        payload(EPOCH + 2, 5),
        vec![0; 31],
        payload(EPOCH + 1, 5)[..31].to_vec(),
    ] {
        let (mut learner, _) = after(vec![Diff { zxid: 0 }]);
        let words = fault(
            &mut learner,
            Inform {
                zxid: EPOCH + 1,
                payload: bytes,
            },
        );
        assert!(words.contains("a packet of zxid 0x300000001"), "{words}");
    }
}

#[test]
fn answers_to_requests_that_are_never_made_are_ignored() {
    let (mut learner, _) = after(vec![Diff { zxid: 0 }, new_leader(), UpToDate]);
    assert_eq!(learner.take(Sync).unwrap(), Reaction::default());
    assert_eq!(learner.take(Revalidate).unwrap(), Reaction::default());
}

#[test]
fn a_configuration_of_any_length_is_refused_with_its_length() {
    let (learner, _) = Learner::new(ObserverId::from_hash(7));
    let server = b"server.1=zk1:2888:3888\n".to_vec();
    assert_eq!(learner.configured(&server).map(|found| found.len()), Ok(1));
    let mut large = server;
    large.resize(CONFIG_BYTES_MAX, b'#');
    assert!(learner.configured(&large).is_ok());
    large.push(b'#');
    let length = CONFIG_BYTES_MAX + 1;
    assert_eq!(
        learner.configured(&large),
        Err(LearnerFault::ConfigTooLarge(length))
    );
}
