//! `zkbridge restore`: a subtree of a real ZooKeeper is put back, whatever ends the run and whoever writes beside it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bridge_servers::{Child, eventually, real_servers};
use serde_json::Value;
use zookeeper_client::{Acl, Acls, AuthId, Client, CreateMode, Permission};

use crate::bridge::BOUND;
use crate::stage::{Stage, zookeeper};

/// A digest list of the user `owner` with the password `secret`, as ZooKeeper computes it.
const OWNER: &str = "owner:Vj++wdU3sMAbt+g9TyKj1BT+usI=";

/// The same of the user `bridge` with the password `watcher`.
const WATCHER: &str = "bridge:8i+OQV2KBbi3hnMmibHUJ4RsZWQ=";

/// Paths below the root with their data.
type Tree = BTreeMap<String, String>;

async fn tree(client: &Client, root: &str) -> Tree {
    let mut tree = Tree::new();
    let mut ahead = vec![root.to_owned()];
    while let Some(path) = ahead.pop() {
        let (data, _) = client.get_data(&path).await.unwrap();
        let children = client.list_children(&path).await.unwrap();
        ahead.extend(children.iter().map(|name| format!("{path}/{name}")));
        tree.insert(path, String::from_utf8(data).unwrap());
    }
    tree
}

/// The number of the last record, as a moment.
async fn now(stage: &Stage) -> String {
    let node = stage.run(&["cat", &stage.root, "--json"]).await.json(0);
    node["moment"]["tail"].to_string()
}

async fn write(stage: &Stage, name: &str, data: &str) {
    let path = stage.path(name);
    stage.client.set_data(&path, data.as_bytes(), None).await.unwrap();
}

/// A tree, its content and its moment; then it is written, partly deleted, and has new znodes.
async fn a_change(stage: &mut Stage) -> (Tree, String) {
    stage.bridge.start_ready().await;
    for (name, data) in [
        ("limits", "250"),
        ("services", ""),
        ("services/a", "10.0.0.7"),
        ("services/b", "10.0.0.8"),
        ("services/b/deep", "x"),
        ("kept", "as it is"),
    ] {
        stage.create(name, data).await;
    }
    let (then, at) = (tree(&stage.client, &stage.root).await, now(stage).await);
    stage.write("limits", "900").await;
    for name in ["services/b/deep", "services/b", "services/a"] {
        stage.delete(name).await;
    }
    for name in ["new", "new/below"] {
        stage.create(name, "added").await;
    }
    (then, at)
}

fn operations(plan: &Value) -> Vec<String> {
    let operations = plan["operations"].as_array().unwrap();
    operations
        .iter()
        .map(|one| {
            format!(
                "{} {}",
                one["op"].as_str().unwrap(),
                one["path"].as_str().unwrap()
            )
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subtree_is_put_back_and_newer_znodes_go_with_prune_alone() {
    real_servers!("restore");
    let mut stage = Stage::set("putback").await;
    let (then, at) = a_change(&mut stage).await;
    let before = tree(&stage.client, "/putback").await;
    let plan = ["restore", "/putback", "--at", &at, "--plan"];
    let refused = stage.run(&[&plan[..], &["a.plan"]].concat()).await;
    assert_eq!(refused.code, 1);
    assert!(
        refused
            .err
            .contains("3 znodes to create without an access control list"),
        "{}",
        refused.err
    );
    assert!(!stage.bridge.folder().join("a.plan").exists());

    let planned = stage
        .run(&[&plan[..], &["a.plan", "--acl", "parent", "--json"]].concat())
        .await
        .json(0);
    assert_eq!(
        operations(&planned),
        [
            "create /putback/services/a",
            "create /putback/services/b",
            "create /putback/services/b/deep",
            "set /putback/limits"
        ]
    );
    assert_eq!((&planned["extra"], &planned["unchanged"]), (&2.into(), &3.into()));
    assert_eq!(
        tree(&stage.client, "/putback").await,
        before,
        "a plan writes nothing"
    );
    let applied = stage.run(&["restore", "apply", "a.plan"]).await.ended(0);
    assert!(
        applied.contains("4 carried out") && applied.contains("as the plan wants it"),
        "{applied}"
    );
    let mut with_new = then.clone();
    with_new.insert("/putback/new".to_owned(), "added".to_owned());
    with_new.insert("/putback/new/below".to_owned(), "added".to_owned());
    assert_eq!(tree(&stage.client, "/putback").await, with_new);
    let again = stage.run(&["restore", "apply", "a.plan", "--json"]).await.json(0);
    assert_eq!((&again["before"], &again["done"]), (&4.into(), &0.into()));

    let plan = [&plan[..], &["b.plan", "--prune"]].concat();
    let pruned = stage.run(&plan).await.ended(0);
    assert!(
        pruned.contains("- /putback/new/below\n- /putback/new\n"),
        "{pruned}"
    );
    stage.run(&["restore", "apply", "b.plan"]).await.ended(0);
    assert_eq!(tree(&stage.client, "/putback").await, then);
    // The bridge records it as anybody's writes.
    stage.bridge.at_rest().await;
    let restored = stage.run(&["cat", "/putback/limits"]).await.ended(0);
    assert_eq!(restored, "250");
    let nothing = stage
        .run(&["restore", "/putback", "--at", &at, "--prune", "--plan", "c.plan"])
        .await
        .ended(0);
    assert!(nothing.contains("nothing is to be done"), "{nothing}");
    assert!(!stage.bridge.folder().join("c.plan").exists());
}

/// Lines of progress in a plan.
fn progress(file: &Path) -> usize {
    let text = std::fs::read_to_string(file).unwrap();
    text.lines().filter(|line| line.starts_with("{\"done\"")).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_is_killed_after_every_operation_goes_on_until_the_tree_is_as_planned() {
    real_servers!("restore that is killed");
    let mut stage = Stage::set("killed").await;
    let (then, at) = a_change(&mut stage).await;
    let plan = [
        "restore", "/killed", "--at", &at, "--plan", "a.plan", "--acl", "parent", "--prune",
    ];
    stage.run(&plan).await.ended(0);
    let file = stage.bridge.folder().join("a.plan");
    for number in 1..=6 {
        // Slow enough that one operation is done in each run, or a little more.
        let args = ["restore", "apply", "a.plan", "--batch", "1", "--rate", "10"];
        let mut child = Child::start(&stage.bridge.command(&args)).unwrap();
        let done = eventually("one more operation", BOUND, || async {
            progress(&file) >= number
        });
        done.await.unwrap();
        child.kill().await.unwrap();
    }
    let applied = stage.run(&["restore", "apply", "a.plan", "--json"]).await.json(0);
    let count = |name: &str| applied[name].as_u64().unwrap();
    assert_eq!(count("before") + count("found") + count("done"), 6);
    assert_eq!(tree(&stage.client, "/killed").await, then);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_znode_that_another_client_writes_meanwhile_is_named_and_never_overwritten() {
    real_servers!("restore beside a writer");
    let mut stage = Stage::set("beside").await;
    let (then, at) = a_change(&mut stage).await;
    let plan = [
        "restore", "/beside", "--at", &at, "--plan", "a.plan", "--acl", "parent", "--prune",
    ];
    stage.run(&plan).await.ended(0);
    write(&stage, "limits", "of another").await;
    let before = tree(&stage.client, "/beside").await;
    let stopped = stage.run(&["restore", "apply", "a.plan"]).await;
    assert_eq!(stopped.code, 1);
    assert!(
        stopped.out.contains("conflict: set /beside/limits"),
        "{}",
        stopped.out
    );
    assert_eq!(
        tree(&stage.client, "/beside").await,
        before,
        "nothing of that request is done"
    );
    let skipped = stage
        .run(&["restore", "apply", "a.plan", "--on-conflict", "skip", "--json"])
        .await
        .json(1);
    assert_eq!(skipped["skipped"][0]["path"], "/beside/limits");
    assert_eq!(
        (&skipped["done"], &skipped["differences"]),
        (&5.into(), &Value::Array(vec![]))
    );
    let mut expected = then;
    expected.insert("/beside/limits".to_owned(), "of another".to_owned());
    assert_eq!(tree(&stage.client, "/beside").await, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_moment_inside_a_gap_is_refused_unless_gaps_are_accepted() {
    real_servers!("restore from a gap");
    let mut stage = Stage::set("hole").await;
    let (_, at) = a_change(&mut stage).await;
    stage.bridge.terminate().await;
    write(&stage, "kept", "while nobody watched").await;
    stage.bridge.start_ready().await;
    let gaps = stage.run(&["gaps", "--json"]).await.json(0);
    let inside = gaps["items"].as_array().unwrap().last().unwrap()["begin"]["seq"].to_string();
    let plan = |at: &str, more: &[&str]| {
        let words = [
            "restore", "/hole", "--at", at, "--plan", "a.plan", "--acl", "parent",
        ];
        [&words[..], more]
            .concat()
            .into_iter()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let run = async |words: Vec<String>| {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        stage.run(&words).await
    };
    let refused = run(plan(&inside, &[])).await;
    assert_eq!(refused.code, 1, "{}", refused.out);
    assert!(
        refused.err.contains("--accept") && refused.err.contains("inside a gap"),
        "{}",
        refused.err
    );
    let accepted = run(plan(&inside, &["--accept", "gap", "--json"])).await.json(0);
    assert_eq!(operations(&accepted), ["set /hole/kept"]);
    // The control: a moment before the gap is certain.
    std::fs::remove_file(stage.bridge.folder().join("a.plan")).unwrap();
    let certain = run(plan(&at, &["--json"])).await.json(0);
    assert!(operations(&certain).contains(&"set /hole/kept".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn znodes_that_were_written_and_deleted_while_no_bridge_ran_are_put_back_without_accepting_a_gap() {
    real_servers!("restore from before a gap");
    let mut stage = Stage::set("absent").await;
    stage.bridge.start_ready().await;
    for (name, data) in [("a", "1"), ("a/below", "2"), ("b", "3")] {
        stage.create(name, data).await;
    }
    let then = tree(&stage.client, "/absent").await;
    stage.bridge.terminate().await;
    let b = stage.client.check_stat(&stage.path("b")).await.unwrap().unwrap();
    for data in ["4", "5"] {
        write(&stage, "b", data).await;
    }
    let inside = stage.client.check_stat(&stage.path("b")).await.unwrap().unwrap();
    for name in ["a/below", "a"] {
        stage.client.delete(&stage.path(name), None).await.unwrap();
    }
    stage.bridge.start_ready().await;
    stage.bridge.at_rest().await;
    let plan = async |at: i64| {
        let at = format!("{at:#x}");
        let words = [
            "restore", "/absent", "--at", &at, "--plan", "a.plan", "--acl", "parent", "--json",
        ];
        stage.run(&words).await
    };
    // The control: inside of the gap nothing is certain.
    let refused = plan(inside.mzxid).await;
    assert_eq!(refused.code, 1, "{}", refused.out);
    assert!(refused.err.contains("inside a gap"), "{}", refused.err);
    let planned = plan(b.czxid).await.json(0);
    assert_eq!(
        operations(&planned),
        ["create /absent/a", "create /absent/a/below", "set /absent/b"]
    );
    stage.run(&["restore", "apply", "a.plan"]).await.ended(0);
    assert_eq!(tree(&stage.client, "/absent").await, then);
}

#[tokio::test(flavor = "multi_thread")]
async fn places_and_files_that_a_restore_never_touches_are_refused() {
    real_servers!("places of restore");
    let mut stage = Stage::set("places").await;
    let (_, at) = a_change(&mut stage).await;
    for (words, expected) in [
        (&["/"][..], "/ is never restored as a whole"),
        (&["/zookeeper/quota"], "/zookeeper/quota is never restored"),
        (&["/other"], "is not below a root"),
        (&["/places", "--to", "/elsewhere"], "is not below a root"),
        (
            &["/places/services", "--to", "/places/services/a"],
            "cover each other",
        ),
    ] {
        let command = [&["restore"], words, &["--at", &at, "--plan", "a.plan"]].concat();
        let refused = stage.run(&command).await;
        assert_eq!(refused.code, 2, "{words:?}: {}", refused.err);
        assert!(refused.err.contains(expected), "{words:?}: {}", refused.err);
    }
    let never = stage
        .run(&["restore", "/places/never", "--at", &at, "--plan", "a.plan"])
        .await;
    assert!(
        never.code == 1 && never.err.contains("no journal has a record of /places/never"),
        "{}",
        never.err
    );
    let many = [
        "restore",
        "/places",
        "--at",
        &at,
        "--acl",
        "parent",
        "--max-changes",
        "3",
        "--plan",
        "a.plan",
    ];
    let refused = stage.run(&many).await;
    assert!(
        refused.code == 1 && refused.err.contains("4 operations are more than the 3"),
        "{}",
        refused.err
    );
    std::fs::write(stage.bridge.folder().join("a.plan"), "mine").unwrap();
    let taken = stage
        .run(&["restore", "/places", "--at", &at, "--plan", "a.plan"])
        .await;
    assert!(
        taken.code == 2 && taken.err.contains("it exists already"),
        "{}",
        taken.err
    );
    let foreign = stage.run(&["restore", "apply", "a.plan"]).await;
    assert!(
        foreign.code == 2 && foreign.err.contains("not that of a plan"),
        "{}",
        foreign.err
    );
}

/// A stage whose source records whole lists, and whose bridge has credentials of its own.
async fn owned(name: &str) -> Stage {
    let stage = Stage::set(name).await;
    let connect = zookeeper().await.connect_string();
    stage.bridge.configure(&format!(
        "[[source]]\nconnect = \"{connect}\"\nroots = [\"/{name}\"]\nacls = \"all\"\nacl_digests = \"full\"\n\
         [source.auth]\nscheme = \"digest\"\nid = \"bridge:watcher\"\n\
         [[sink]]\nname = \"audit\"\ntype = \"file\"\npath = \"audit.jsonl\"\n"
    ));
    stage
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_come_from_the_journal_and_permissions_from_a_file_of_credentials() {
    real_servers!("lists of restore");
    let mut stage = owned("lists").await;
    let client = &stage.client;
    client.auth("digest", b"owner:secret").await.unwrap();
    // Servers show digests to those who may change lists.
    let of_bridge = Permission::READ | Permission::ADMIN;
    let of_owner = [
        Acl::new(Permission::ALL, AuthId::new("digest", OWNER)),
        Acl::new(of_bridge, AuthId::new("digest", WATCHER)),
    ];
    let owned = CreateMode::Persistent.with_acls(Acls::new(&of_owner));
    for name in ["guarded", "guarded/a"] {
        client.create(&stage.path(name), b"1", &owned).await.unwrap();
    }
    stage.bridge.start_ready().await;
    stage.bridge.at_rest().await;
    let at = now(&stage).await;
    stage.client.delete("/lists/guarded/a", None).await.unwrap();
    stage.bridge.at_rest().await;

    let folder: PathBuf = stage.bridge.folder().to_owned();
    stage
        .run(&["restore", "/lists/guarded", "--at", &at, "--plan", "a.plan"])
        .await
        .ended(0);
    let denied = stage.run(&["restore", "apply", "a.plan"]).await;
    assert_eq!(denied.code, 1);
    assert!(
        denied.out.contains("do not have the permission"),
        "{}",
        denied.out
    );
    std::fs::write(folder.join("owner"), "owner:secret\n").unwrap();
    stage
        .run(&["restore", "apply", "a.plan", "--credentials", "owner"])
        .await
        .ended(0);
    let (acl, _) = stage.client.get_acl("/lists/guarded/a").await.unwrap();
    assert_eq!(acl, of_owner);
    std::fs::write(folder.join("owner"), "no-user").unwrap();
    let bad = stage
        .run(&["restore", "apply", "a.plan", "--credentials", "owner"])
        .await;
    assert!(
        bad.code == 3 && bad.err.contains("user:password") && !bad.err.contains("no-user"),
        "{}",
        bad.err
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subtree_is_put_at_another_place_beside_the_present_one() {
    real_servers!("restore to another place");
    let mut stage = Stage::set("copies").await;
    let (_, at) = a_change(&mut stage).await;
    let plan = [
        "restore",
        "/copies/services",
        "--to",
        "/copies/then",
        "--at",
        &at,
        "--plan",
        "a.plan",
        "--acl",
        "parent",
    ];
    stage.run(&plan).await.ended(0);
    stage.run(&["restore", "apply", "a.plan"]).await.ended(0);
    let copied = tree(&stage.client, "/copies/then").await;
    let expected = [("", ""), ("/a", "10.0.0.7"), ("/b", "10.0.0.8"), ("/b/deep", "x")];
    let expected = expected.map(|(name, data)| (format!("/copies/then{name}"), data.to_owned()));
    assert_eq!(copied, Tree::from(expected));
    assert_eq!(tree(&stage.client, "/copies/services").await.len(), 1);
}
