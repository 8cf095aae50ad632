//! A ZooKeeper client that makes the writes of a scenario, and reads the tree at the end.

use std::time::Duration;

use bridge_judge::tree::{self, Tree};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use zookeeper_client::{Acls, Client, CreateMode, CreateOptions, Error};

use crate::bridge::BOUND;

/// Long enough that no scenario loses a session by accident.
const SESSION: Duration = Duration::from_secs(30);

pub const PERSISTENT: CreateOptions<'static> = CreateMode::Persistent.with_acls(Acls::anyone_all());
pub const EPHEMERAL: CreateOptions<'static> = CreateMode::Ephemeral.with_acls(Acls::anyone_all());

/// A client with a session of its own.
pub struct Writer {
    pub client: Client,
}

impl Writer {
    /// Connects, for as long as it takes.
    pub async fn connect(connect: &str) -> Writer {
        let connecting = bridge_servers::eventually("a session", BOUND, || async {
            let connector = Client::connector().with_session_timeout(SESSION);
            connector.connect(connect).await.ok()
        });
        Writer {
            client: connecting.await.unwrap(),
        }
    }

    pub async fn create(&self, path: &str, data: impl AsRef<[u8]>) {
        let created = self.client.create(path, data.as_ref(), &PERSISTENT).await;
        created.unwrap_or_else(|error| panic!("create {path}: {error}"));
    }

    pub async fn create_ephemeral(&self, path: &str, data: impl AsRef<[u8]>) {
        let created = self.client.create(path, data.as_ref(), &EPHEMERAL).await;
        created.unwrap_or_else(|error| panic!("create {path}: {error}"));
    }

    pub async fn set(&self, path: &str, data: impl AsRef<[u8]>) {
        let set = self.client.set_data(path, data.as_ref(), None).await;
        set.unwrap_or_else(|error| panic!("set {path}: {error}"));
    }

    pub async fn delete(&self, path: &str) {
        let deleted = self.client.delete(path, None).await;
        deleted.unwrap_or_else(|error| panic!("delete {path}: {error}"));
    }

    /// Deletes a path and all below it, children first.
    pub async fn delete_all(&self, path: &str) {
        let tree = self.tree(&[path.to_owned()]).await;
        for path in tree.keys().rev() {
            self.delete(path).await;
        }
    }

    /// Everything at and below the roots.
    pub async fn tree(&self, roots: &[String]) -> Tree {
        let read = tree::read(&self.client, roots).await;
        read.unwrap_or_else(|error| panic!("read {roots:?}: {error}"))
    }
}

/// Names of which a storm makes paths, two levels deep: few, so that it meets the same ones again and again.
const NAMES: u32 = 6;

/// Random writes below a root, the same for the same seed on the same tree.
pub struct Storm<'a> {
    writer: &'a Writer,
    root: &'a str,
    random: StdRng,
    count: u64,
}

impl<'a> Storm<'a> {
    pub fn new(writer: &'a Writer, root: &'a str, seed: u64) -> Storm<'a> {
        // Shown if the test fails: the seed replays the writes.
        println!("storm below {root} with seed {seed}");
        Storm {
            writer,
            root,
            random: StdRng::seed_from_u64(seed),
            count: 0,
        }
    }

    /// So many writes, one after another. Those that do not fit the tree fail, and are no writes.
    pub async fn blow(&mut self, writes: usize) {
        for _ in 0..writes {
            self.write().await;
        }
    }

    fn path(&mut self) -> String {
        let (first, second) = (
            self.random.random_range(0..NAMES),
            self.random.random_range(0..NAMES),
        );
        match self.random.random_bool(0.4) {
            true => format!("{}/n{first}", self.root),
            false => format!("{}/n{first}/m{second}", self.root),
        }
    }

    async fn write(&mut self) {
        self.count += 1;
        let (path, other) = (self.path(), self.path());
        let data = format!("{} {path}", self.count);
        let client = &self.writer.client;
        let outcome = match self.random.random_range(0..100) {
            0..30 => client.create(&path, data.as_bytes(), &PERSISTENT).await.map(drop),
            30..40 => client.create(&path, data.as_bytes(), &EPHEMERAL).await.map(drop),
            40..70 => client.set_data(&path, data.as_bytes(), None).await.map(drop),
            70..90 => client.delete(&path, None).await,
            90..95 => self.recreate(&path, data.as_bytes()).await,
            _ => self.set_twice_and_create(&path, &other, data.as_bytes()).await,
        };
        match outcome {
            Ok(()) => {}
            Err(
                Error::NoNode
                | Error::NodeExists
                | Error::NotEmpty
                | Error::NoChildrenForEphemerals
                | Error::ConnectionLoss,
            ) => {}
            Err(error) => panic!("write {path}: {error}"),
        }
    }

    async fn recreate(&self, path: &str, data: &[u8]) -> Result<(), Error> {
        let mut multi = self.writer.client.new_multi_writer();
        multi.add_delete(path, None)?;
        multi.add_create(path, data, &PERSISTENT)?;
        multi.commit().await.map(drop).map_err(Error::from)
    }

    async fn set_twice_and_create(&self, path: &str, other: &str, data: &[u8]) -> Result<(), Error> {
        let mut multi = self.writer.client.new_multi_writer();
        multi.add_set_data(path, b"first", None)?;
        multi.add_create(other, data, &PERSISTENT)?;
        multi.add_set_data(path, data, None)?;
        multi.commit().await.map(drop).map_err(Error::from)
    }
}
