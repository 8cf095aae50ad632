//! `zkbridge log` on the files of real servers, while they run and after they have stopped.

#![allow(clippy::unwrap_used, reason = "a helper of a test fails as the test does")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use bridge_servers::{Child, ZooKeeper, eventually, real_servers};
use serde_json::{Value, json};
use zookeeper_client::{Acl, Acls, AuthId, Client, CreateMode, Permission};

const BOUND: Duration = Duration::from_secs(60);

fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_zkbridge"));
    command.arg("log").args(args).env_remove("NO_COLOR");
    command
}

/// The output of a command that ends with this code.
#[track_caller]
fn run(args: &[&str], code: i32) -> (String, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = command(args).output().unwrap();
    let (stdout, stderr) = (
        String::from_utf8(stdout).unwrap(),
        String::from_utf8(stderr).unwrap(),
    );
    assert_eq!(status.code(), Some(code), "{args:?}: {stdout}{stderr}");
    (stdout, stderr)
}

#[track_caller]
fn lines(args: &[&str]) -> Vec<String> {
    run(args, 0).0.lines().map(str::to_owned).collect()
}

#[track_caller]
fn json(args: &[&str]) -> Vec<Value> {
    let lines = lines(&[args, &["--json"]].concat());
    lines
        .iter()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// The files of a server whose names begin so.
fn files(zookeeper: &ZooKeeper, begin: &str) -> Vec<PathBuf> {
    let folder = zookeeper.data_dir(0).join("version-2");
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with(begin))
        .collect();
    files.sort();
    files
}

/// Some changes of one session, which has ended after them; its id as ZooKeeper writes it.
async fn work(zookeeper: &ZooKeeper) -> String {
    let client = Client::connect(&zookeeper.connect_string()).await.unwrap();
    let open = Acls::anyone_all();
    let persistent = CreateMode::Persistent.with_acls(open);
    client.create("/a", b"{\"port\":1}", &persistent).await.unwrap();
    client
        .create("/a/owned", b"he\x1b[2Jre", &CreateMode::Ephemeral.with_acls(open))
        .await
        .unwrap();
    client
        .create("/c", b"", &CreateMode::Container.with_acls(open))
        .await
        .unwrap();
    client.set_data("/a", b"\x00\x01\xff", None).await.unwrap();
    let list = [Acl::new(
        Permission::READ,
        AuthId::new("digest", "alice:c2VjcmV0"),
    )];
    client.set_acl("/c", &list, None).await.unwrap();
    client.create("/a", b"", &persistent).await.unwrap_err();
    let mut multi = client.new_multi_writer();
    multi.add_create("/m", b"1", &persistent).unwrap();
    multi.add_set_data("/m", b"2", Some(0)).unwrap();
    multi.add_check_version("/m", 1).unwrap();
    multi.commit().await.unwrap();
    let mut failing = client.new_multi_writer();
    failing.add_create("/n", b"1", &persistent).unwrap();
    failing.add_delete("/missing", None).unwrap();
    failing.commit().await.unwrap_err();
    let session = client.session_id().to_string();
    drop(client);
    let folder = zookeeper.data_dir(0);
    let closed = eventually("the end of the session in the log", BOUND, || async {
        lines(&[text(&folder), "--type", "closeSession"]).len() == 1
    });
    closed.await.unwrap();
    session
}

#[tokio::test(flavor = "multi_thread")]
async fn every_transaction_of_a_running_server_is_printed_and_selected() {
    real_servers!("zkbridge log");
    let zookeeper = ZooKeeper::builder().start().await.unwrap();
    work(&zookeeper).await;
    let folder = zookeeper.data_dir(0);
    let folder = text(&folder);

    let all = json(&[folder]);
    let types: Vec<&str> = all.iter().map(|row| row["type"].as_str().unwrap()).collect();
    let expected = [
        "createSession",
        "create",
        "create",
        "createContainer",
        "setData",
        "setACL",
        "error",
        "create",
        "setData",
        "check",
        "multi",
        "closeSession",
    ];
    assert_eq!(types, expected);
    let zxids: Vec<&str> = all.iter().map(|row| row["zxid"].as_str().unwrap()).collect();
    assert!(zxids.is_sorted() && zxids[0] == "0x0000000000000001", "{zxids:?}");
    let session = all[0]["session"].as_str().unwrap();
    assert!(all.iter().all(|row| row["session"] == session), "{session}");

    let create = &all[1];
    assert_eq!(create["path"], "/a");
    assert_eq!(create["lifetime"], json!({"kind": "persistent", "ttl": null}));
    assert_eq!(
        create["acl"],
        json!([{"scheme": "world", "id": "anyone", "perms": "cdrwa"}])
    );
    assert_eq!(
        (&create["index"], &create["count"], &create["multi"]),
        (&json!(0), &json!(1), &json!(false))
    );
    assert_eq!(all[2]["lifetime"]["kind"], "ephemeral");
    assert_eq!(all[3]["lifetime"]["kind"], "container");
    assert_eq!((&all[4]["version"], &all[4]["path"]), (&json!(1), &json!("/a")));
    assert_eq!(
        all[5]["acl"],
        json!([{"scheme": "digest", "id": "alice:x", "perms": "r"}])
    );
    assert_eq!(all[6]["error"], json!({"code": -110, "name": "NodeExists"}));
    assert_eq!(
        (&all[8]["index"], &all[8]["count"], &all[8]["multi"]),
        (&json!(1), &json!(3), &json!(true))
    );
    assert_eq!(all[9]["version"], 1);
    assert_eq!(all[10]["error"]["name"], "NoNode");
    assert_eq!(all[10]["count"], 2);
    assert_eq!(
        (&all[11]["ended_by"], &all[11]["paths"]),
        (&json!("client"), &json!(["/a/owned"]))
    );

    // Text has the same rows, and no control character.
    let (printed, said) = run(&[folder], 0);
    assert_eq!((printed.lines().count(), said.as_str()), (all.len(), ""));
    assert!(!printed.contains('\u{1b}'), "{printed:?}");
    for words in [
        "create          /a  {\"port\":1}  session 0x",
        "  he\\u{1b}[2Jre  ephemeral, session 0x",
        "createContainer /c  (empty)  container, session 0x",
        "setData         /a  00 01 ff |...| (3 B)  version 1, session",
        "setACL          /c  digest:alice:x:r  ACL version 1, session",
        "error            NodeExists (-110), session",
        "create          /m  1  1/3 of a multi, session",
        "check           /m  version 1, 3/3 of a multi, session",
        "multi            2 parts, failed: NoNode (-101), session",
        "closed by the client, deletes /a/owned, session 0x",
    ] {
        assert!(printed.contains(words), "'{words}' is not in:\n{printed}");
    }
    assert!(!printed.contains("c2VjcmV0"), "{printed}");

    // Selections.
    let count = |args: &[&str]| lines(&[&[folder], args].concat()).len();
    assert_eq!(count(&["--path", "/a"]), 4);
    assert_eq!(count(&["--path", "/a/*"]), 2);
    assert_eq!(count(&["--path", "/m/"]), 3);
    assert_eq!(count(&["--type", "multi"]), 4);
    assert_eq!(count(&["--type", "setData", "--type", "error"]), 3);
    assert_eq!(count(&["--session", session]), all.len());
    assert_eq!(count(&["--session", "0x123"]), 0);
    assert_eq!(count(&["--from", zxids[5]]), all.len() - 5);
    assert_eq!(count(&["--to", zxids[4]]), 5);
    assert_eq!(count(&["--from", "1h", "--to", "now"]), all.len());
    assert_eq!(count(&["--to", "1h"]), 0);
    assert_eq!(count(&["-n", "3"]), 3);
    assert_eq!(count(&["--path", "/a", "-n", "1"]), 1);
    assert!(lines(&[folder, "--hex", "--type", "setData"])[0].contains("00 01 ff"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_server_is_checked_and_its_snapshot_is_printed() {
    real_servers!("zkbridge log of snapshots");
    let zookeeper = ZooKeeper::builder()
        .system_property("zookeeper.snapshot.compression.method", "gz")
        .start()
        .await
        .unwrap();
    work(&zookeeper).await;
    zookeeper.restart(0).await.unwrap();
    work_again(&zookeeper).await;
    zookeeper.stop(0).await.unwrap();
    let folder = zookeeper.data_dir(0);
    let folder = text(&folder);

    let newest = files(&zookeeper, "snapshot.").pop().unwrap();
    let znodes = json(&[text(&newest)]);
    let paths: Vec<&str> = znodes.iter().filter_map(|row| row["path"].as_str()).collect();
    assert_eq!(
        paths
            .iter()
            .filter(|path| !path.starts_with("/zookeeper"))
            .count(),
        4,
        "{paths:?}"
    );
    let find = |path: &str| znodes.iter().find(|row| row["path"] == path).unwrap();
    assert_eq!(find("/c")["lifetime"]["kind"], "container");
    assert_eq!(find("/c")["acl"][0]["id"], "alice:x");
    assert_eq!(
        (&find("/m")["stat"]["version"], &find("/m")["type"]),
        (&json!(1), &json!("znode"))
    );
    let (printed, said) = run(&[text(&newest), "--path", "/m"], 0);
    assert!(printed.contains(" /m  2  version 1\n"), "{printed}");
    assert!(said.contains("7 znodes, digest 0x"), "{said}");

    let (report, _) = run(&["--check", folder], 0);
    assert!(
        report.contains("agree") && !report.contains("warning"),
        "{report}"
    );
    let (report, _) = run(&["--check", folder, "--json"], 0);
    let report: Value = serde_json::from_str(&report).unwrap();
    assert_eq!(
        (&report["logs"], &report["errors"]),
        (&json!(2), &json!([])),
        "{report}"
    );
    // Two of the failed transactions have no digest; the snapshots have one each.
    let (digests, transactions) = (
        report["digests"].as_u64().unwrap(),
        report["transactions"].as_u64().unwrap(),
    );
    assert!(digests >= transactions - 2, "{report}");

    // Without the first log the replay begins at a snapshot.
    let logs = files(&zookeeper, "log.");
    std::fs::remove_file(&logs[0]).unwrap();
    let (report, _) = run(&["--check", folder, "--json"], 0);
    let report: Value = serde_json::from_str(&report).unwrap();
    assert!(
        report["digests"].as_u64().unwrap() > 2 && report["warnings"] == json!([]),
        "{report}"
    );

    // A byte of a value that changed on disk, with a checksum that fits it: the digest shows it.
    let mut bytes = std::fs::read(&logs[1]).unwrap();
    let at = bytes.windows(5).position(|window| window == b"later").unwrap();
    bytes[at] = b'L';
    std::fs::write(&logs[1], &bytes).unwrap();
    let (printed, said) = run(&[folder], 1);
    assert!(
        said.contains("is damaged and left out: the checksum of"),
        "{said}"
    );
    assert!(!printed.contains("ater"), "{printed}");
    let (report, _) = run(&["--check", folder], 1);
    assert!(
        report.contains("error") && report.contains("is damaged"),
        "{report}"
    );
    fit_checksum(&mut bytes, at);
    std::fs::write(&logs[1], &bytes).unwrap();
    let (printed, _) = run(&[folder], 0);
    assert!(printed.contains("Later"), "{printed}");
    let (report, _) = run(&["--check", folder], 1);
    assert!(report.contains("the digest of the tree after"), "{report}");
}

async fn work_again(zookeeper: &ZooKeeper) {
    let client = Client::connect(&zookeeper.connect_string()).await.unwrap();
    client.set_data("/m", b"later", None).await.unwrap();
    client.set_data("/a", b"last", None).await.unwrap();
}

/// Writes the checksum of the record around a byte again.
fn fit_checksum(bytes: &mut [u8], at: usize) {
    let mut begin = 16;
    loop {
        let length = u32::from_be_bytes(bytes[begin + 8..begin + 12].try_into().unwrap()) as usize;
        let payload = begin + 12..begin + 12 + length;
        if payload.contains(&at) {
            let sum = adler(&bytes[payload]);
            bytes[begin + 4..begin + 8].copy_from_slice(&sum.to_be_bytes());
            return;
        }
        begin = payload.end + 1;
    }
}

fn adler(bytes: &[u8]) -> u32 {
    let (mut a, mut b) = (1_u32, 0_u32);
    for byte in bytes {
        a = (a + u32::from(*byte)) % 65_521;
        b = (b + a) % 65_521;
    }
    (b << 16) | a
}

#[tokio::test(flavor = "multi_thread")]
async fn new_transactions_are_printed_as_they_come_over_a_restart_of_the_server() {
    real_servers!("zkbridge log --follow");
    let zookeeper = ZooKeeper::builder().start().await.unwrap();
    work(&zookeeper).await;
    let folder = zookeeper.data_dir(0);
    let mut child = Child::start(&command(&[text(&folder), "-f", "--type", "setData"])).unwrap();
    child
        .line("/m  2  version 1, 2/3 of a multi", BOUND)
        .await
        .unwrap();
    let client = Client::connect(&zookeeper.connect_string()).await.unwrap();
    client.set_data("/m", b"live", None).await.unwrap();
    child.line("/m  live  version 2", BOUND).await.unwrap();
    drop(client);
    zookeeper.restart(0).await.unwrap();
    work_again(&zookeeper).await;
    child.line("/m  later  version 3", BOUND).await.unwrap();
    child.line("/a  last  version 2", BOUND).await.unwrap();
    child.terminate().unwrap();
    assert_eq!(child.exit_code(BOUND).await.unwrap(), 143);
}

#[test]
fn files_that_are_none_of_zookeeper_and_options_that_make_no_sense_are_refused_with_what_to_do() {
    let home = tempfile::tempdir().unwrap();
    let file = |name: &str, bytes: &[u8]| {
        let path = home.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    };
    let check = |args: &[&str], code: i32, expected: &[&str]| {
        let (_, said) = run(args, code);
        for words in expected {
            assert!(said.contains(words), "{args:?}: '{words}' is not in: {said}");
        }
    };
    let foreign = file("notes.txt", b"hello");
    check(
        &[text(&foreign)],
        3,
        &["neither a transaction log nor a snapshot", "help: name a file"],
    );
    let named = file("log.1", b"hello");
    check(
        &[text(&named)],
        1,
        &["log.1: is not a transaction log: it begins with [68, 65, 6c, 6c]"],
    );
    let cut = file("snapshot.1", b"ZKSN\0\0\0\x02\0\0\0\0\0\0\0\0\0\0");
    check(
        &[text(&cut)],
        1,
        &["ends at byte 16 within the number of sessions"],
    );
    let gzip = file("snapshot.2.gz", b"ZKSN\0\0\0\x02 and more");
    check(
        &[text(&gzip)],
        1,
        &["snapshot.2.gz: cannot be read at byte 0: invalid gzip header"],
    );
    let missing = home.path().join("missing");
    check(
        &[text(&missing)],
        3,
        &["No such file", "help: name a file or folder"],
    );
    let empty = home.path().join("empty");
    std::fs::create_dir(&empty).unwrap();
    check(
        &[text(&empty)],
        3,
        &[
            "no transaction log is in this folder",
            "help: name the server's dataLogDir",
        ],
    );
    check(&[text(&named), "-f"], 2, &["help: name one folder and no file"]);
    check(&[text(&named), "--from", "17"], 2, &["write a zxid as 0x17"]);
    check(
        &[text(&named), "--session", "xyz"],
        2,
        &["has at most 16 hex digits"],
    );
    check(
        &[text(&named), "--from", "0x5", "--to", "0x4"],
        2,
        &["nothing is between them"],
    );
    check(
        &[text(&named), "--type", "sets"],
        2,
        &["invalid value 'sets'", "setData"],
    );
    check(
        &[text(&named), "--check", "--path", "/a"],
        2,
        &["cannot be used with"],
    );
    check(&[], 2, &["FILE|FOLDER"]);
}
