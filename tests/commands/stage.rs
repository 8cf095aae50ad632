//! A ZooKeeper that all tests share, a bridge on a root of its own, and the command beside it.

use std::process::{Command, Stdio};
use std::time::Duration;

use bridge_servers::{ZooKeeper, eventually};
use serde_json::Value;
use tokio::sync::OnceCell;
use zookeeper_client::{Acls, Client, CreateMode, CreateOptions};

use crate::bridge::{BOUND, Bridge};

const PERSISTENT: CreateOptions<'static> = CreateMode::Persistent.with_acls(Acls::anyone_all());
const EPHEMERAL: CreateOptions<'static> = CreateMode::Ephemeral.with_acls(Acls::anyone_all());
const SESSION: Duration = Duration::from_secs(30);

static SHARED: OnceCell<ZooKeeper> = OnceCell::const_new();

/// The server that all tests share.
pub async fn zookeeper() -> &'static ZooKeeper {
    SHARED
        .get_or_init(|| async { ZooKeeper::start().await.unwrap() })
        .await
}

/// The output and exit code of a command.
#[derive(Debug)]
pub struct Printed {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Printed {
    /// Its output, if it ended so.
    #[track_caller]
    pub fn ended(self, code: i32) -> String {
        assert_eq!(self.code, code, "{}\n{}", self.out, self.err);
        self.out
    }

    /// The same as JSON.
    #[track_caller]
    pub fn json(self, code: i32) -> Value {
        serde_json::from_str(&self.ended(code)).unwrap()
    }
}

/// A bridge that watches one root and writes it into a file, and a client that writes below the root.
pub struct Stage {
    pub bridge: Bridge,
    pub client: Client,
    pub root: String,
}

impl Stage {
    /// The root exists, and the bridge is not started.
    pub async fn set(name: &str) -> Stage {
        Stage::set_with(name, "").await
    }

    /// The same with more lines of configuration after those of the sink.
    pub async fn set_with(name: &str, more: &str) -> Stage {
        let root = format!("/{name}");
        let connect = zookeeper().await.connect_string();
        let client = Client::connector()
            .with_session_timeout(SESSION)
            .connect(&connect)
            .await
            .unwrap();
        client.create(&root, b"root", &PERSISTENT).await.unwrap();
        let bridge = Bridge::configured(&format!(
            "[[source]]\nconnect = \"{connect}\"\nroots = [\"{root}\"]\n\
             [[sink]]\nname = \"audit\"\ntype = \"file\"\npath = \"audit.jsonl\"\n{more}"
        ));
        Stage { bridge, client, root }
    }

    pub fn path(&self, name: &str) -> String {
        format!("{}/{name}", self.root)
    }

    pub async fn create(&self, name: &str, data: &str) {
        let created = self
            .client
            .create(&self.path(name), data.as_bytes(), &PERSISTENT)
            .await;
        created.unwrap();
        self.settle(name, "create").await;
    }

    pub async fn create_ephemeral(&self, name: &str, data: &str) {
        let created = self
            .client
            .create(&self.path(name), data.as_bytes(), &EPHEMERAL)
            .await;
        created.unwrap();
        self.settle(name, "create").await;
    }

    pub async fn write(&self, name: &str, data: &str) {
        self.client
            .set_data(&self.path(name), data.as_bytes(), None)
            .await
            .unwrap();
        self.settle(name, data).await;
    }

    pub async fn delete(&self, name: &str) {
        self.client.delete(&self.path(name), None).await.unwrap();
        self.settle(name, "delete").await;
    }

    /// Waits until the file of the sink ends with the last change, so that each write is one record.
    async fn settle(&self, name: &str, word: &str) {
        let (file, path) = (self.bridge.folder().join("audit.jsonl"), self.path(name));
        let arrived = eventually("a record", BOUND, || async {
            let text = std::fs::read_to_string(&file).unwrap_or_default();
            let last = text.lines().rfind(|line| line.contains(&format!("\"{path}\"")))?;
            let record: Value = serde_json::from_str(last).ok()?;
            let is_done = record["op"] == word || record["after"]["data"]["value"] == word;
            is_done.then_some(())
        });
        arrived.await.unwrap();
        self.bridge.at_rest().await;
    }

    /// Runs a command to its end, in the folder of the configuration.
    pub async fn run(&self, args: &[&str]) -> Printed {
        run_in(&self.bridge, args).await
    }

    /// The same on a terminal of this width, without colours.
    pub async fn run_on_terminal(&self, columns: usize, args: &[&str]) -> Printed {
        let command = self.bridge.command(args);
        let words = std::iter::once(command.get_program()).chain(command.get_args());
        let words: Vec<String> = words
            .map(|word| format!("'{}'", word.to_str().unwrap()))
            .collect();
        let within = format!("stty rows 24 cols {columns}; exec {}", words.join(" "));
        let mut terminal = Command::new("script");
        terminal
            .args(["--quiet", "--return", "--command", &within, "/dev/null"])
            .current_dir(self.bridge.folder())
            .stdin(Stdio::null())
            .env("NO_COLOR", "1");
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => terminal.env(name, value),
                None => terminal.env_remove(name),
            };
        }
        let printed = ended(terminal, args).await;
        Printed {
            out: printed.out.replace("\r\n", "\n"),
            ..printed
        }
    }
}

pub async fn run_in(bridge: &Bridge, args: &[&str]) -> Printed {
    ended(bridge.command(args), args).await
}

async fn ended(command: Command, args: &[&str]) -> Printed {
    let mut command = tokio::process::Command::from(command);
    let output = tokio::time::timeout(BOUND, command.kill_on_drop(true).output());
    let output = output
        .await
        .unwrap_or_else(|_| panic!("{args:?} does not end"))
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Printed {
        code: output.status.code().expect("it ends by itself"),
        out: text(&output.stdout),
        err: text(&output.stderr),
    }
}
