//! A bridge on real servers, and the changes that it captures.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use bridge_servers::{Child, Port, ZooKeeper, eventually, is_at_rest, page_of, status_of};
use serde_json::Value;
use tempfile::TempDir;
use zookeeper_client::{Acls, Client, CreateMode, CreateOptions, Error, Stat};

use crate::judge::truth;

pub const BOUND: Duration = Duration::from_secs(90);

pub const OPEN: CreateOptions<'static> = CreateMode::Persistent.with_acls(Acls::anyone_all());
pub const EPHEMERAL: CreateOptions<'static> = CreateMode::Ephemeral.with_acls(Acls::anyone_all());

/// A bridge that reads transactions and writes a file.
pub struct Bridge {
    folder: TempDir,
    port: Port,
    child: Option<Child>,
}

impl Bridge {
    /// Captures `/app`; `mode` is the rest of the source, and more sections of it.
    pub fn of(zookeeper: &ZooKeeper, mode: &str) -> Bridge {
        let folder = tempfile::tempdir().unwrap();
        let port = Port::reserve().unwrap();
        let configuration = format!(
            "data_dir = \"data\"\n[http]\nlisten = \"{}\"\n[[source]]\nname = \"main\"\nconnect = \"{}\"\n\
             roots = [\"/app\"]\n{mode}[[sink]]\ntype = \"file\"\npath = \"changes.jsonl\"\n",
            port.addr(),
            zookeeper.connect_string()
        );
        std::fs::write(folder.path().join("zkbridge.toml"), configuration).unwrap();
        Bridge {
            folder,
            port,
            child: None,
        }
    }

    /// The folder of the configuration.
    pub fn folder(&self) -> &std::path::Path {
        self.folder.path()
    }

    /// Changes the configuration of the next start.
    pub fn configure(&self, change: impl FnOnce(String) -> String) {
        let file = self.folder.path().join("zkbridge.toml");
        let text = std::fs::read_to_string(&file).unwrap();
        std::fs::write(&file, change(text)).unwrap();
    }

    pub fn start(&mut self) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_zkbridge"));
        command.current_dir(self.folder.path()).arg("run");
        self.child = Some(Child::start(&command).unwrap());
    }

    /// Waits until everything up to this transaction is delivered.
    pub async fn delivers(&self, zxid: u64) {
        let address = self.port.addr();
        let delivered = eventually(format!("the delivery of 0x{zxid:x}"), BOUND, || async {
            let status = status_of(address).await?;
            let reported = status["sources"][0]["reported"].as_str().and_then(number);
            (is_at_rest(&status) && reported >= Some(zxid)).then_some(())
        })
        .await;
        if delivered.is_err() {
            let log = self.child.as_ref().map(Child::stderr).unwrap_or_default();
            panic!(
                "{:?}\n{:#?}\n{}",
                delivered,
                status_of(address).await,
                log.join("\n")
            );
        }
    }

    /// Waits until the source is live and everything so far is delivered.
    pub async fn is_ready(&self) {
        let address = self.port.addr();
        let ready = eventually("a bridge at rest", BOUND, || async {
            status_of(address).await.is_some_and(|status| is_at_rest(&status))
        });
        ready.await.unwrap();
    }

    /// Waits until a record of this path is delivered and nothing waits.
    pub async fn has_record_of(&self, path: &str) {
        let delivered = eventually(format!("a record of {path}"), BOUND, || async {
            self.records().iter().any(|record| record["path"] == path)
        });
        delivered.await.unwrap();
        self.is_ready().await;
    }

    /// The status of the running bridge.
    pub async fn status(&self) -> Option<Value> {
        status_of(self.port.addr()).await
    }

    /// The metrics of the running bridge.
    pub async fn metrics(&self) -> String {
        page_of(self.port.addr(), "/metrics", "").await.unwrap().1
    }

    /// The output of another command on the same configuration.
    pub async fn run(&self, arguments: &[&str]) -> String {
        let mut command = Command::new(env!("CARGO_BIN_EXE_zkbridge"));
        command.current_dir(self.folder.path()).args(arguments);
        let output = tokio::task::spawn_blocking(move || command.output());
        let output = output.await.unwrap().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    pub async fn kill(&mut self) {
        self.child.take().unwrap().kill().await.unwrap();
    }

    pub async fn stop(&mut self) {
        let mut child = self.child.take().unwrap();
        child.terminate().unwrap();
        assert_eq!(child.exit_code(BOUND).await.unwrap(), 0);
    }

    /// The lines of the log of the running bridge.
    pub fn log(&self) -> Vec<String> {
        self.child.as_ref().map(Child::stderr).unwrap_or_default()
    }

    /// The records of the file, each once, in the order of the journal. A record that was delivered again is the same.
    pub fn records(&self) -> Vec<Value> {
        assert!(self.file().exists(), "nothing was delivered");
        self.records_so_far()
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("changes.jsonl")
    }

    /// The same, none before the sink has made its file.
    pub fn records_so_far(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.file()).unwrap_or_default();
        let mut records = BTreeMap::new();
        // The last line may be being written.
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        for line in whole.lines() {
            let record: Value = serde_json::from_str(line).unwrap();
            // The records of a snapshot for one sink have the number of the record that it follows.
            let run = &record["run"];
            let place = (
                record["seq"].as_u64().unwrap(),
                run["id"].as_str().map(str::to_owned),
                run["index"].as_u64(),
            );
            let first = records.entry(place).or_insert_with(|| record.clone());
            assert_eq!(*first, record, "delivered again, and not equal");
        }
        records.into_values().collect()
    }
}

pub fn number(zxid: &str) -> Option<u64> {
    u64::from_str_radix(zxid.trim_start_matches("0x"), 16).ok()
}

/// The last committed transaction.
pub fn last_zxid(zookeeper: &ZooKeeper) -> u64 {
    truth(zookeeper).last
}

/// The version of the servers.
fn numbers(zookeeper: &ZooKeeper) -> (u32, u32, u32) {
    let parts: Vec<u32> = zookeeper
        .version()
        .split('.')
        .map(|part| part.parse().unwrap())
        .collect();
    (parts[0], parts[1], parts[2])
}

async fn client(zookeeper: &ZooKeeper) -> Client {
    let connect = zookeeper.connect_string();
    let (major, minor, patch) = numbers(zookeeper);
    eventually("a session", BOUND, || async {
        let connector = Client::connector().with_server_version(major, minor, patch);
        connector.connect(&connect).await.ok()
    })
    .await
    .unwrap()
}

/// Creates a znode.
pub async fn create(zookeeper: &ZooKeeper, path: &str) {
    client(zookeeper).await.create(path, b"", &OPEN).await.unwrap();
}

/// Creates znodes of the same size in one transaction.
pub async fn multi_of_creates(zookeeper: &ZooKeeper, above: &str, creates: usize, bytes: usize) {
    // One that waits as long as a busy server takes for many MB.
    let connector = Client::connector().with_session_timeout(BOUND);
    let session = connector.connect(&zookeeper.connect_string()).await.unwrap();
    let values: Vec<Vec<u8>> = (0..creates)
        .map(|number| vec![b'a' + u8::try_from(number % 26).unwrap(); bytes])
        .collect();
    let mut multi = session.new_multi_writer();
    for (number, value) in values.iter().enumerate() {
        multi
            .add_create(&format!("{above}{number}"), value, &OPEN)
            .unwrap();
    }
    multi.commit().await.unwrap();
}

/// Changes of every kind, a few of them at once. The number makes paths of its own.
pub async fn changes(zookeeper: &ZooKeeper, number: usize) {
    let session = client(zookeeper).await;
    let at = |name: &str| format!("/app/{name}{number}");
    match session.create("/app", b"", &OPEN).await {
        Ok(_) | Err(Error::NodeExists) => {}
        Err(error) => panic!("{error}"),
    }
    session.create(&at("a"), b"0", &OPEN).await.unwrap();
    let sets: Vec<_> = (0..50)
        .map(|i| {
            let (session, path) = (session.clone(), at("a"));
            async move { session.set_data(&path, i.to_string().as_bytes(), None).await }
        })
        .collect();
    for set in futures::future::join_all(sets).await {
        set.unwrap();
    }
    session
        .set_acl(&at("a"), Acls::anyone_all().to_vec().as_slice(), None)
        .await
        .unwrap();
    session
        .create(&format!("/outside{number}"), b"", &OPEN)
        .await
        .unwrap();
    let mut multi = session.new_multi_writer();
    // Of a create within a multi the client asks for a Stat, which 3.4 does not know.
    match numbers(zookeeper) >= (3, 5, 0) {
        true => multi.add_create(&at("m"), b"m", &OPEN).unwrap(),
        false => drop(session.create(&at("m"), b"m", &OPEN).await.unwrap()),
    }
    multi
        .add_set_data(&format!("/outside{number}"), b"x", None)
        .unwrap();
    multi.add_set_data(&at("a"), b"last", None).unwrap();
    multi.commit().await.unwrap();
    session.delete(&at("m"), None).await.unwrap();
    let mortal = client(zookeeper).await;
    mortal.create(&at("e"), b"", &EPHEMERAL).await.unwrap();
    mortal.create(&at("f"), b"", &EPHEMERAL).await.unwrap();
    drop(mortal);
    eventually("the end of a session", BOUND, || async {
        session.check_stat(&at("e")).await.unwrap().is_none()
    })
    .await
    .unwrap();
}

/// So many writes of a znode, a few hundred at once.
pub async fn writes(zookeeper: &ZooKeeper, path: &str, count: usize) {
    const AT_ONCE: usize = 200;
    let session = client(zookeeper).await;
    match session.create(path, b"", &OPEN).await {
        Ok(_) | Err(Error::NodeExists) => {}
        Err(error) => panic!("{error}"),
    }
    for first in (0..count).step_by(AT_ONCE) {
        let sets = (first..count.min(first + AT_ONCE)).map(|number| {
            let session = session.clone();
            async move {
                let data = number.to_string();
                session.set_data(path, data.as_bytes(), None).await
            }
        });
        for set in futures::future::join_all(sets).await {
            set.unwrap();
        }
    }
}

/// A session with ephemeral znodes.
pub struct MortalSession<'a> {
    zookeeper: &'a ZooKeeper,
    session: Client,
    path: String,
}

/// A session that creates these.
pub async fn mortal<'a>(zookeeper: &'a ZooKeeper, paths: &[String]) -> MortalSession<'a> {
    let session = client(zookeeper).await;
    for path in paths {
        session.create(path, b"", &EPHEMERAL).await.unwrap();
    }
    let path = paths[0].clone();
    MortalSession {
        zookeeper,
        session,
        path,
    }
}

impl MortalSession<'_> {
    /// Ends it, and waits until its znodes are gone.
    pub async fn end(self) {
        drop(self.session);
        let other = client(self.zookeeper).await;
        eventually("the end of a session", BOUND, || async {
            other.check_stat(&self.path).await.unwrap().is_none()
        })
        .await
        .unwrap();
    }
}

/// Writes a znode, which is created if there is none. Returns its Stat.
pub async fn write_value(zookeeper: &ZooKeeper, path: &str, data: &[u8]) -> Stat {
    let session = client(zookeeper).await;
    for path in ["/app", path] {
        match session.create(path, b"", &OPEN).await {
            Ok(_) | Err(Error::NodeExists) => {}
            Err(error) => panic!("{error}"),
        }
    }
    session.set_data(path, data, None).await.unwrap()
}
