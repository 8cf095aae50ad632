//! Access control lists, read when they were changed.

use bridge_servers::real_servers;
use serde_json::{Value, json};
use zookeeper_client::{Acl, AuthId, Permission};

use crate::stage::{Place, Scene};
use crate::verdict::each_once;

/// More znodes than one request of a walk reads.
const MANY: usize = 600;

/// Everybody may read, a user all, and one address some.
fn lists(user: &str) -> Vec<Acl> {
    vec![
        Acl::new(Permission::READ, AuthId::anyone()),
        Acl::new(
            Permission::ALL,
            AuthId::new("digest", &format!("{user}:aGFzaA==")),
        ),
        Acl::new(
            Permission::WRITE | Permission::CREATE,
            AuthId::new("ip", "127.0.0.1"),
        ),
        Acl::new(Permission::DELETE | Permission::ADMIN, AuthId::anyone()),
    ]
}

fn entry(user: &str) -> Value {
    json!([
        {"scheme": "world", "id": "anyone", "perms": "r"},
        {"scheme": "digest", "id": format!("{user}:x"), "perms": "cdrwa"},
        {"scheme": "ip", "id": "127.0.0.1", "perms": "cw"},
        {"scheme": "world", "id": "anyone", "perms": "da"},
    ])
}

impl Scene {
    async fn set_lists(&self, path: &str, user: &str) {
        let set = self.writer.client.set_acl(path, &lists(user), None);
        set.await.unwrap();
    }

    /// The lists in the records of a path, in order.
    fn lists(&self, path: &str) -> Vec<Value> {
        let records = each_once(&self.topic.deliveries);
        let of_path = records.iter().filter(|record| record["path"] == path);
        of_path.filter_map(|record| record.get("acl").cloned()).collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_access_control_list_is_reported_with_its_entries_and_without_digests() {
    real_servers!("access control lists");
    let mut place = Place::shared().await;
    place.source = "acls = \"list\"".to_owned();
    let mut scene = Scene::at("lists", place).await;
    scene.writer.create(scene.root(), "root").await;
    let many: Vec<String> = (0..MANY).map(|at| scene.path(&format!("n{at}"))).collect();
    for path in &many {
        scene.writer.create(path, "1").await;
    }
    scene.bridge.start_ready().await;
    scene.settle().await;

    // A list that is found with a write, and writes directly after it.
    scene.set_lists(&many[0], "first").await;
    for value in ["2", "3", "4"] {
        scene.writer.set(&many[0], value).await;
    }
    scene.judge().await;
    assert_eq!(scene.lists(&many[0]), [entry("first")]);

    // Many that are found by the walk after a restart.
    scene.bridge.kill().await;
    for path in &many {
        scene.set_lists(path, "second").await;
    }
    scene.bridge.start_ready().await;
    scene.judge().await;
    for (at, path) in many.iter().enumerate() {
        let expected = if at == 0 {
            vec![entry("first"), entry("second")]
        } else {
            vec![entry("second")]
        };
        assert_eq!(scene.lists(path), expected, "{path}");
    }
    let labels = [("source", "main")];
    let unread = scene
        .bridge
        .metric("zkbridge_source_unread_acls_total", &labels)
        .await;
    assert_eq!(unread, 0.0);
}
