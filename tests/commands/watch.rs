//! `zkbridge watch` on a real server.

use bridge_servers::{Child, real_servers};

use crate::bridge::BOUND;
use crate::stage::{Stage, zookeeper};

#[tokio::test(flavor = "multi_thread")]
async fn watch_names_a_root_and_a_chroot_that_do_not_exist_yet() {
    real_servers!("watch of what does not exist");
    let stage = Stage::set("watch-missing").await;
    let connect = zookeeper().await.connect_string();
    for (connect, root, missing) in [
        (connect.clone(), "/watch-missing/none", "/watch-missing/none"),
        (format!("{connect}/no-chroot"), "/", "the chroot /no-chroot"),
        (format!("{connect}/no/chroot"), "/below", "the chroot /no/chroot"),
    ] {
        let command = stage.bridge.command(&["watch", &connect, root]);
        let mut child = Child::start(&command).unwrap();
        let missing = format!("{missing} does not exist yet");
        child.line(&missing, BOUND).await.unwrap();
        child.line("Ctrl-C ends", BOUND).await.unwrap();
        child.terminate().unwrap();
        child.exit_code(BOUND).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn check_doctor_and_verify_name_a_chroot_that_does_not_exist() {
    real_servers!("check, doctor and verify of a chroot that does not exist");
    let mut stage = Stage::set("no-chroot-here").await;
    let connect = zookeeper().await.connect_string();
    stage.bridge.configure(&format!(
        "[[source]]\nconnect = \"{connect}/no-chroot\"\nroots = [\"/a\"]\n\
         [[sink]]\ntype = \"file\"\npath = \"out.jsonl\"\npaths = [\"/a/**\"]\n"
    ));
    stage.bridge.start_ready().await;
    for (args, words) in [
        (
            &["check", "--connect"][..],
            "the chroot /no-chroot does not exist yet",
        ),
        (
            &["doctor"],
            "does not exist, because the chroot /no-chroot does not exist",
        ),
        (&["verify"], "the chroot /no-chroot does not exist in ZooKeeper"),
    ] {
        let printed = stage.run(args).await;
        let text = format!("{} {}", printed.out, printed.err);
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(text.contains(words), "{args:?}: {text}");
        assert!(!text.contains("/ does not exist"), "{args:?}: {text}");
    }
    stage.bridge.terminate().await;
}
