//! Leaders and ensembles that cannot be followed: each has a message, and nothing more is sent or reported.

use std::time::Duration;

use bridge_core::amount::{Size, Span};
use bridge_core::source::SourceErrorKind;
use bridge_transactions::testing;
use bridge_transactions::transaction::Operation;
use bridge_zookeeper::observer::ObserverOptions;

use crate::leader::{
    EPOCH, Leader, Sent, Step, begin, diff, finish, inform, inform_bytes, leader_info, new_leader, ping, snap,
};
use crate::player::Player;
use crate::scripted::{NO_CLIENT_PORT, at, concat, create, new_tree, run};

#[tokio::test]
async fn a_tree_that_is_too_large_ends_the_source_and_one_without_a_place_is_refused() {
    let script = || vec![concat(vec![begin(0), vec![snap(EPOCH), Step::Send(new_tree())]])];
    let leader = Leader::start(script());
    let mut options = leader.options();
    options.max_tree = Size(100);
    let mut player = run(options, None);
    player.until_end().await;
    assert_eq!((player.seen.troubles.len(), player.seen.connections), (1, 1));
    let (kind, message) = &player.seen.troubles[0];
    assert_eq!(*kind, SourceErrorKind::Configuration);
    assert!(
        message.contains("larger than the limit of 100 bytes") && message.contains("max_tree"),
        "{message}"
    );
    player.end().await;

    let leader = Leader::start(script());
    let mut player = Player::run_in(leader.options(), NO_CLIENT_PORT, None, "/does/not/exist".into());
    player.until("a trouble", |seen| !seen.troubles.is_empty()).await;
    let message = &player.seen.troubles[0].1;
    assert!(
        message.contains("cannot be written") && message.contains("make room"),
        "{message}"
    );
    player.end().await;
}

#[tokio::test]
async fn a_transaction_of_an_unknown_type_ends_the_source_and_nothing_after_it_is_reported() {
    let mut unknown = testing::payload(&create(EPOCH + 2, "/b"));
    unknown[31] = 99;
    let script = concat(vec![
        begin(EPOCH),
        vec![diff(EPOCH)],
        finish(),
        vec![
            inform(&create(EPOCH + 1, "/a")),
            ping(EPOCH + 1),
            Step::Expect(Sent::Ping(EPOCH + 1)),
            inform_bytes(EPOCH + 2, &unknown),
            inform(&create(EPOCH + 3, "/c")),
            Step::ExpectClose,
        ],
    ]);
    let leader = Leader::start(vec![script]);
    let mut player = run(leader.options(), at(EPOCH));
    player.until_end().await;
    let (kind, message) = player.seen.troubles.last().unwrap();
    assert_eq!(*kind, SourceErrorKind::Unsupported);
    assert!(
        message.contains("0x300000002") && message.contains("type 99"),
        "{message}"
    );
    assert!(player.seen.zxid() <= (EPOCH + 1).cast_unsigned());
    player.end().await;
}

#[tokio::test]
async fn an_id_that_a_server_of_the_ensemble_has_ends_the_source_before_anything_is_acknowledged() {
    let id = (1 << 40) + 3;
    let config = format!("server.1=zk1:2888:3888\nserver.{id}=zk2:2888:3888:participant\n");
    let script = concat(vec![
        begin(EPOCH),
        vec![diff(EPOCH), new_leader(&config), Step::ExpectClose],
    ]);
    let leader = Leader::start(vec![script]);
    let mut options = leader.options();
    options.id = Some(id);
    let mut player = run(options, at(EPOCH));
    player.until_end().await;
    let (kind, message) = player.seen.troubles.last().unwrap();
    assert_eq!(*kind, SourceErrorKind::Configuration);
    assert!(
        message.contains(&id.to_string()) && message.contains("observer.id"),
        "{message}"
    );
    player.end().await;
    leader.has_played(1).await;
}

#[tokio::test]
async fn a_reconfiguration_that_takes_the_id_ends_the_source() {
    let id = (1 << 40) + 3;
    let reconfigure = Operation::Reconfigure {
        path: "/zookeeper/config".to_owned(),
        data: Some(format!("server.{id}=zk2:2888:3888:participant\n").into_bytes()),
        version: -1,
    };
    let script = concat(vec![
        begin(EPOCH),
        vec![diff(EPOCH)],
        finish(),
        vec![
            inform(&testing::transaction(EPOCH + 1, reconfigure, None)),
            Step::ExpectClose,
        ],
    ]);
    let leader = Leader::start(vec![script]);
    let mut options = leader.options();
    options.id = Some(id);
    let mut player = run(options, at(EPOCH));
    player.until_end().await;
    assert_eq!(
        player.seen.troubles.last().unwrap().0,
        SourceErrorKind::Configuration
    );
    player.end().await;
    leader.has_played(1).await;
}

#[tokio::test]
async fn a_spool_that_is_full_ends_the_connection_and_the_leader_keeps_no_queue() {
    let mut large = create(EPOCH + 1, "/a");
    let Operation::Create { data, .. } = &mut large.operation else {
        unreachable!("it is a create")
    };
    *data = Some(vec![7; 100_000]);
    let Step::Send(packet) = inform(&large) else {
        unreachable!("a packet is sent")
    };
    let script = concat(vec![
        begin(EPOCH),
        vec![diff(EPOCH)],
        finish(),
        vec![Step::Flood(packet)],
    ]);
    let leader = Leader::start(vec![script]);
    let mut options = leader.options();
    options.spool = Size(1 << 20);
    let player = run(options, at(EPOCH));
    // Nobody takes the reports, so that the spool fills, until the observer closes the connection.
    let mut player = player;
    player.until("the connection", |seen| seen.ups == 1).await;
    leader.has_played(1).await;
    player.until("an overflow", |seen| seen.overflows == 1).await;
    player
        .until("its message", |seen| !seen.troubles.is_empty())
        .await;
    let message = &player.seen.troubles[0].1;
    assert!(
        message.contains("the spool holds") && message.contains("observer.spool"),
        "{message}"
    );
    player.end().await;
}

#[tokio::test]
async fn a_leader_that_is_silent_is_left() {
    let script = concat(vec![
        begin(EPOCH),
        vec![diff(EPOCH)],
        finish(),
        vec![Step::ExpectClose],
    ]);
    let leader = Leader::start(vec![script]);
    let mut options = leader.options();
    options.sync_timeout = Span::millis(200);
    let mut player = run(options, at(EPOCH));
    player
        .until("two connections", |seen| seen.connections == 2)
        .await;
    assert_eq!(player.seen.unanswered, 1);
    let message = &player.seen.troubles[0].1;
    assert!(message.contains("sent no whole packet for 0.2 s"), "{message}");
    player.end().await;
}

#[tokio::test]
async fn a_server_that_accepts_connections_and_says_nothing_hides_no_other() {
    let mute = Leader::start(vec![vec![Step::ExpectObserver, Step::ExpectClose]]);
    let follow = concat(vec![
        begin(EPOCH),
        vec![diff(EPOCH)],
        finish(),
        vec![Step::ExpectClose],
    ]);
    let good = Leader::start(vec![follow]);
    let mut options = mute.options();
    options.servers.extend(good.options().servers);
    options.init_timeout = Span::secs(1);
    let mut player = run(options, at(EPOCH));
    player.until("the other server", |seen| seen.ups == 1).await;
    let message = &player.seen.troubles[0].1;
    assert!(message.contains("sent no whole packet for 1 s"), "{message}");
    assert_eq!((player.seen.connections, player.seen.troubles.len()), (1, 1));
    player.end().await;
    mute.has_played(1).await;
    good.has_played(1).await;
}

#[tokio::test]
async fn a_server_that_sends_a_byte_from_time_to_time_is_left_as_a_silent_one() {
    let Step::Send(packet) = leader_info(EPOCH) else {
        unreachable!("a packet is sent")
    };
    let pause = Duration::from_millis(200);
    let drip = vec![Step::ExpectObserver, Step::Drip(packet, pause), Step::ExpectClose];
    let leader = Leader::start(vec![drip]);
    let mut options = leader.options();
    // Longer than each pause, and shorter than all of them.
    options.init_timeout = Span::secs(1);
    let mut player = run(options, at(EPOCH));
    player.until("a trouble", |seen| !seen.troubles.is_empty()).await;
    let message = &player.seen.troubles[0].1;
    assert!(message.contains("sent no whole packet for 1 s"), "{message}");
    assert_eq!(player.seen.connections, 0);
    player.end().await;
}

#[tokio::test]
async fn a_leader_that_stops_in_its_tracks_is_tried_after_the_others() {
    let follow = || {
        concat(vec![
            begin(EPOCH),
            vec![diff(EPOCH)],
            finish(),
            vec![Step::ExpectClose],
        ])
    };
    let (old, new) = (Leader::start(vec![follow()]), Leader::start(vec![follow()]));
    let mut options = old.options();
    options.servers.extend(new.options().servers);
    options.sync_timeout = Span::millis(500);
    let mut player = run(options, at(EPOCH));
    player.until("two leaders", |seen| seen.ups == 2).await;
    assert_eq!(player.seen.unanswered, 1);
    old.has_played(1).await;
    player.end().await;
    new.has_played(1).await;
}

#[tokio::test]
async fn a_pipeline_that_states_no_position_in_time_is_named_as_the_reason() {
    let leader = Leader::start(vec![vec![
        Step::ExpectObserver,
        leader_info(EPOCH),
        Step::ExpectClose,
    ]]);
    let mut options = leader.options();
    options.init_timeout = Span::secs(1);
    let mut player = run(options, at(EPOCH));
    // Nobody takes the reports, so that nobody answers the connection.
    leader.has_played(1).await;
    player.until("a trouble", |seen| !seen.troubles.is_empty()).await;
    let (kind, message) = &player.seen.troubles[0];
    assert_eq!(*kind, SourceErrorKind::Unavailable);
    assert!(
        message.contains("gave no position for the leader 127.0.0.1") && message.contains("within 1 s"),
        "{message}"
    );
    player.end().await;
}

#[tokio::test]
async fn bytes_that_no_leader_sends_end_the_connection_with_a_message() {
    for (answer, words) in [
        (
            Step::Send(b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec()),
            "is this the quorum port",
        ),
        (Step::Send(vec![0; 400]), "a packet of type 0"),
        (diff(1), "DIFF 0x1 while LEADERINFO was expected"),
        (
            Step::Send([[0, 0, 0, 8].as_slice(), &[0; 8], &[0x7f; 4]].concat()),
            "announces 2139062143 bytes",
        ),
    ] {
        let leader = Leader::start(vec![vec![
            Step::ExpectObserver,
            answer.clone(),
            Step::ExpectClose,
        ]]);
        let mut player = run(leader.options(), at(EPOCH));
        player.until("a trouble", |seen| !seen.troubles.is_empty()).await;
        let (kind, message) = &player.seen.troubles[0];
        assert_eq!(*kind, SourceErrorKind::Unavailable);
        assert!(message.contains(words), "{answer:?}: {message}");
        assert_eq!(player.seen.connections, 0);
        player.end().await;
    }
}

#[tokio::test]
async fn servers_that_do_not_lead_are_named_and_tried_again() {
    let mut options = ObserverOptions::new(Vec::new());
    options.servers = vec!["127.0.0.1:1".parse().unwrap(), "[::1]:1".parse().unwrap()];
    let mut player = run(options, None);
    player
        .until("two attempts", |seen| seen.troubles.len() == 2)
        .await;
    let (kind, message) = &player.seen.troubles[0];
    assert_eq!(*kind, SourceErrorKind::Unavailable);
    assert!(
        message.contains("127.0.0.1:1 refuses") && message.contains("[::1]:1"),
        "{message}"
    );
    player.end().await;
}

#[tokio::test]
async fn a_source_that_stops_leaves_its_leader_at_once_in_every_phase() {
    let waits = vec![
        vec![Step::ExpectObserver, Step::ExpectClose],
        concat(vec![begin(EPOCH), vec![Step::ExpectClose]]),
        concat(vec![
            begin(EPOCH),
            vec![snap(EPOCH), Step::Send(vec![0; 3]), Step::ExpectClose],
        ]),
        concat(vec![
            begin(EPOCH),
            vec![diff(EPOCH)],
            finish(),
            vec![Step::ExpectClose],
        ]),
    ];
    for (number, script) in waits.into_iter().enumerate() {
        let leader = Leader::start(vec![script]);
        let mut player = run(leader.options(), at(EPOCH));
        match number {
            0 => {}
            1 => player.until("a connection", |seen| seen.connections == 1).await,
            2 => player.until("an answer", |seen| seen.answers.len() == 1).await,
            _ => player.until("the end of the history", |seen| seen.ups == 1).await,
        }
        player.end().await;
    }
}
