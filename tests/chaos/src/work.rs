//! Random work: sessions that write below one root, each with its own seed. Operations that do not fit the tree fail; the
//! servers' logs show which ones succeeded.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use zookeeper_client::{Acl, Acls, AuthId, Client, CreateMode, CreateOptions, Error, Permission};

/// Short, so that sessions expire within a round.
const SESSION: Duration = Duration::from_secs(4);
/// An operation that hangs on a paused server is given up; the logs show whether it happened.
const OPERATION_BOUND: Duration = Duration::from_secs(5);
/// Names at each level: few, so that the same paths are met again and again.
const NAMES: usize = 6;
/// Longest pause between two writes, outside bursts.
const PAUSE_MS_MAX: u64 = 25;
/// Longest burst, without pauses.
const BURST_MAX: u32 = 150;
/// A large value; the server takes 1 MB, path and all.
const LARGE_BYTES: usize = 900_000;
/// Large values that one worker writes in a round: each is kept in every log and the topic, and read again and again.
const LARGE_MAX: u32 = 4;
/// The TTL of znodes that have one.
const TTL: Duration = Duration::from_millis(700);

const OPEN: CreateOptions<'static> = CreateMode::Persistent.with_acls(Acls::anyone_all());
const EPHEMERAL: CreateOptions<'static> = CreateMode::Ephemeral.with_acls(Acls::anyone_all());
const SEQUENTIAL: CreateOptions<'static> = CreateMode::PersistentSequential.with_acls(Acls::anyone_all());
const EPHEMERAL_SEQUENTIAL: CreateOptions<'static> =
    CreateMode::EphemeralSequential.with_acls(Acls::anyone_all());
const CONTAINER: CreateOptions<'static> = CreateMode::Container.with_acls(Acls::anyone_all());
const WITH_TTL: CreateOptions<'static> = CreateMode::Persistent.with_acls(Acls::anyone_all()).with_ttl(TTL);

/// Unusual but valid names.
const ODD_NAMES: [&str; 12] = [
    "with space",
    " leading and trailing ",
    "...",
    ".hidden",
    "ünïcödé-雪",
    "\"quoted\" and 'quoted'",
    "back\\slash",
    "percent%2Fslash",
    "*?[glob]{a,b}",
    "{{ template }}",
    "10.0.0.7:8080",
    "control:",
];

/// The children of it are many.
pub const WIDE: &str = "wide";
/// Below it are the containers and the znodes with a time to live: a round can end without them.
pub const EXPIRING: &str = "passing";

/// Only below it, znodes are closed to the bridge: for unreadable znodes little is promised, so little can be checked.
pub const CLOSABLE: &str = "veiled";

/// The user who may read the znodes that are closed to the bridge.
pub const OWNER: (&str, &[u8]) = ("digest", b"owner:secret");

/// The shared state of all workers of a round.
#[derive(Debug, Default)]
pub struct Shared {
    /// Set at the end of the round.
    stop: AtomicBool,
    /// Writes that were tried.
    tried: AtomicU64,
    /// Paths that were closed to the bridge at some time of the round. Their changes have no events.
    closed: Mutex<BTreeSet<String>>,
}

impl Shared {
    /// No more writes.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// The paths that were closed to the bridge.
    pub fn closed(&self) -> BTreeSet<String> {
        self.closed.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn close(&self, path: &str) {
        let mut closed = self.closed.lock().unwrap_or_else(PoisonError::into_inner);
        closed.insert(path.to_owned());
    }

    /// Writes that were tried.
    pub fn tried(&self) -> u64 {
        self.tried.load(Ordering::Relaxed)
    }

    fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

/// One session that works.
pub struct Worker {
    connect: String,
    root: String,
    /// Children of the wide znode.
    width: usize,
    random: StdRng,
    count: u64,
    large: u32,
    shared: Arc<Shared>,
}

/// Connects as the user who may read closed znodes.
pub async fn connect(connect: &str) -> Result<Client, Error> {
    let client = Client::connector()
        .with_session_timeout(SESSION)
        .connect(connect)
        .await?;
    client.auth(OWNER.0, OWNER.1).await?;
    Ok(client)
}

impl Worker {
    /// A worker with a seed.
    pub fn new(connect: &str, root: &str, width: usize, seed: u64, shared: &Arc<Shared>) -> Worker {
        Worker {
            connect: connect.to_owned(),
            root: root.to_owned(),
            width,
            random: StdRng::seed_from_u64(seed),
            count: 0,
            large: 0,
            shared: Arc::clone(shared),
        }
    }

    /// Works until the round ends.
    pub async fn work(mut self) {
        while !self.shared.is_stopped() {
            let connecting = tokio::time::timeout(OPERATION_BOUND, connect(&self.connect));
            match connecting.await {
                Ok(Ok(client)) => self.work_with(&client).await,
                // No majority at the moment: the round continues.
                _ => tokio::time::sleep(Duration::from_millis(PAUSE_MS_MAX)).await,
            }
        }
    }

    /// Works until the session is gone, the round ends, or it is time for another session.
    async fn work_with(&mut self, client: &Client) {
        let mut burst = 0;
        while !self.shared.is_stopped() {
            let written = tokio::time::timeout(OPERATION_BOUND, self.write(client)).await;
            match written {
                Ok(Err(Error::SessionExpired | Error::ClientClosed | Error::Timeout | Error::NoHosts)) => {
                    return;
                }
                Err(_) => return,
                Ok(_) => {}
            }
            if self.random.random_ratio(1, 2_000) {
                return;
            }
            if burst > 0 {
                burst -= 1;
                continue;
            }
            if self.random.random_ratio(1, 150) {
                burst = self.random.random_range(1..BURST_MAX);
            }
            let pause = self.random.random_range(0..PAUSE_MS_MAX);
            tokio::time::sleep(Duration::from_millis(pause)).await;
        }
    }

    fn name(&mut self) -> String {
        if self.random.random_ratio(1, 8) {
            return (*ODD_NAMES.choose(&mut self.random).unwrap_or(&"odd")).to_owned();
        }
        format!("n{}", self.random.random_range(0..NAMES))
    }

    fn path(&mut self) -> String {
        let depth = *[1, 1, 2, 2, 3].choose(&mut self.random).unwrap_or(&1);
        let mut path = match self.random.random_ratio(1, 12) {
            true => format!("{}/{CLOSABLE}", self.root),
            false => self.root.clone(),
        };
        for _ in 0..depth {
            path = format!("{path}/{}", self.name());
        }
        path
    }

    fn closable_path(&mut self) -> String {
        let below = format!("{}/{CLOSABLE}", self.root);
        match self.random.random_bool(0.7) {
            true => format!("{below}/{}", self.name()),
            false => format!("{below}/{}/{}", self.name(), self.name()),
        }
    }

    fn wide_path(&mut self) -> String {
        let child = self.random.random_range(0..self.width.max(1));
        format!("{}/{WIDE}/c{child:05}", self.root)
    }

    async fn write(&mut self, client: &Client) -> Result<(), Error> {
        self.shared.tried.fetch_add(1, Ordering::Relaxed);
        self.count += 1;
        let (path, other) = (self.path(), self.path());
        let text = format!("{} {path}", self.count);
        let data = text.as_bytes();
        match self.random.random_range(0..1_000) {
            0..220 => client.create(&path, data, &OPEN).await.map(drop),
            220..300 => client.create(&path, data, &EPHEMERAL).await.map(drop),
            300..320 => client
                .create(&format!("{path}-"), data, &SEQUENTIAL)
                .await
                .map(drop),
            320..340 => client
                .create(&format!("{path}-"), data, &EPHEMERAL_SEQUENTIAL)
                .await
                .map(drop),
            340..600 => client.set_data(&path, data, None).await.map(drop),
            600..740 => client.delete(&path, None).await,
            740..780 => self.recreate(client, &path, data).await,
            780..830 => self.set_twice_and_create(client, &path, &other, data).await,
            830..850 => self.fail_in_the_middle(client, &path, &other).await,
            850..890 => self.write_expiring(client, data).await,
            890..940 => self.write_wide(client, data).await,
            940..955 => self.recreate_often(client, &path).await,
            955..970 => {
                let veiled = self.closable_path();
                self.close_or_open(client, &veiled).await
            }
            970..985 => self.delete_all(client, &path).await,
            985..990 => self.replace(client, &path).await,
            990..995 => self.write_large(client, &path).await,
            995..999 => self.write_binary(client, &path).await,
            _ => self.replace_root(client).await,
        }
    }

    async fn recreate(&self, client: &Client, path: &str, data: &[u8]) -> Result<(), Error> {
        let mut multi = client.new_multi_writer();
        multi.add_delete(path, None)?;
        multi.add_create(path, data, &OPEN)?;
        multi.commit().await.map(drop).map_err(Error::from)
    }

    async fn set_twice_and_create(
        &self,
        client: &Client,
        path: &str,
        other: &str,
        data: &[u8],
    ) -> Result<(), Error> {
        let mut multi = client.new_multi_writer();
        multi.add_set_data(path, b"first", None)?;
        multi.add_create(other, data, &OPEN)?;
        multi.add_set_data(path, data, None)?;
        multi.commit().await.map(drop).map_err(Error::from)
    }

    /// The parts of a log record before the failed part never happened.
    async fn fail_in_the_middle(&self, client: &Client, path: &str, other: &str) -> Result<(), Error> {
        let mut multi = client.new_multi_writer();
        multi.add_create(&format!("{path}-never"), b"never", &OPEN)?;
        multi.add_set_data(other, b"never", None)?;
        multi.add_check_version(&self.root, i32::MAX)?;
        multi.commit().await.map(drop).map_err(Error::from)
    }

    /// Containers, children of containers, and znodes with a time to live.
    async fn write_expiring(&mut self, client: &Client, data: &[u8]) -> Result<(), Error> {
        let number = self.random.random_range(0..NAMES);
        let above = format!("{}/{EXPIRING}", self.root);
        let container = format!("{above}/box{number}");
        match self.random.random_range(0..4) {
            0 => client.create(&container, data, &CONTAINER).await.map(drop),
            1 => client
                .create(&format!("{container}/a"), data, &OPEN)
                .await
                .map(drop),
            2 => client.delete(&format!("{container}/a"), None).await,
            _ => client
                .create(&format!("{above}/mortal{number}"), data, &WITH_TTL)
                .await
                .map(drop),
        }
    }

    async fn write_wide(&mut self, client: &Client, data: &[u8]) -> Result<(), Error> {
        let path = self.wide_path();
        match self.random.random_range(0..3) {
            0 => client.create(&path, data, &OPEN).await.map(drop),
            1 => client.set_data(&path, data, None).await.map(drop),
            _ => client.delete(&path, None).await,
        }
    }

    async fn recreate_often(&mut self, client: &Client, path: &str) -> Result<(), Error> {
        for time in 0..self.random.random_range(2..20) {
            client
                .create(path, time.to_string().as_bytes(), &OPEN)
                .await
                .map(drop)
                .or_else(ignore_misfit)?;
            client.delete(path, None).await.or_else(ignore_misfit)?;
        }
        Ok(())
    }

    async fn close_or_open(&mut self, client: &Client, path: &str) -> Result<(), Error> {
        let lists: Vec<Acl> = if self.random.random_bool(0.5) {
            self.shared.close(path);
            Acls::creator_all().iter().cloned().collect()
        } else {
            vec![Acl::new(Permission::ALL, AuthId::new("world", "anyone"))]
        };
        client.set_acl(path, &lists, None).await.map(drop)
    }

    async fn delete_all(&self, client: &Client, path: &str) -> Result<(), Error> {
        let tree = bridge_judge::tree::read(client, &[path.to_owned()]).await?;
        for path in tree.keys().rev() {
            client.delete(path, None).await.or_else(ignore_misfit)?;
        }
        Ok(())
    }

    /// The whole subtree, in one transaction.
    async fn replace(&self, client: &Client, path: &str) -> Result<(), Error> {
        let tree = bridge_judge::tree::read(client, &[path.to_owned()]).await?;
        if tree.is_empty() || tree.len() > 100 {
            return Ok(());
        }
        let mut multi = client.new_multi_writer();
        for path in tree.keys().rev() {
            multi.add_delete(path, None)?;
        }
        for path in tree.keys() {
            multi.add_create(path, b"replaced", &OPEN)?;
        }
        multi.commit().await.map(drop).map_err(Error::from)
    }

    async fn write_large(&mut self, client: &Client, path: &str) -> Result<(), Error> {
        self.large += 1;
        if self.large > LARGE_MAX {
            return Ok(());
        }
        let byte = self.random.random_range(b'a'..=b'z');
        let data = vec![byte; LARGE_BYTES];
        client.set_data(path, &data, None).await.map(drop)
    }

    async fn write_binary(&mut self, client: &Client, path: &str) -> Result<(), Error> {
        let data: Vec<u8> = (0..self.random.random_range(0..300))
            .map(|_| self.random.random())
            .collect();
        client.set_data(path, &data, None).await.map(drop)
    }

    /// Deletes everything except wide znodes, and the root if it has become empty; then creates it again.
    async fn replace_root(&self, client: &Client) -> Result<(), Error> {
        let mut tree = bridge_judge::tree::read(client, std::slice::from_ref(&self.root)).await?;
        let wide = format!("{}/{WIDE}", self.root);
        if self.width > 0 {
            tree.retain(|path, _| !path.starts_with(&wide));
        }
        for path in tree.keys().rev() {
            client.delete(path, None).await.or_else(ignore_misfit)?;
        }
        client
            .create(&self.root, b"again", &OPEN)
            .await
            .map(drop)
            .or_else(ignore_misfit)?;
        let passing = format!("{}/{EXPIRING}", self.root);
        client
            .create(&passing, b"again", &OPEN)
            .await
            .map(drop)
            .or_else(ignore_misfit)
    }
}

/// Errors of operations that do not fit the tree are ignored.
fn ignore_misfit(error: Error) -> Result<(), Error> {
    match error {
        Error::NoNode
        | Error::NodeExists
        | Error::NotEmpty
        | Error::NoChildrenForEphemerals
        | Error::NoAuth => Ok(()),
        error => Err(error),
    }
}
