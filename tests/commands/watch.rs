//! `zkbridge watch` on a real server.

use bridge_servers::{Child, real_servers};

use crate::bridge::BOUND;
use crate::stage::{Stage, zookeeper};

#[tokio::test(flavor = "multi_thread")]
async fn watch_names_a_root_and_a_chroot_that_do_not_exist_yet() {
    real_servers!("watch of what does not exist");
    let stage = Stage::set("watch-missing").await;
    let connect = zookeeper().await.connect_string();
    for (connect, root) in [
        (connect.clone(), "/watch-missing/none"),
        (format!("{connect}/no-chroot"), "/"),
    ] {
        let command = stage.bridge.command(&["watch", &connect, root]);
        let mut child = Child::start(&command).unwrap();
        let missing = format!("{root} does not exist yet");
        child.line(&missing, BOUND).await.unwrap();
        child.line("Ctrl-C ends", BOUND).await.unwrap();
        child.terminate().unwrap();
        child.exit_code(BOUND).await.unwrap();
    }
}
