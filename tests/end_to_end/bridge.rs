//! The real binary with a written configuration, in a folder of its own: started, watched, killed and started again.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use bridge_servers::{Child, eventually, is_at_rest, page_of};
use serde_json::Value;
use tempfile::TempDir;

/// How long a start, a connection or a comparison may take on a machine busy with other tests.
pub const BOUND: Duration = Duration::from_secs(60);

/// Nothing arrived for so long: the events of the last writes are not on their way any more.
const QUIET: Duration = Duration::from_millis(200);

/// The exit code after SIGTERM and a drain.
const TERMINATED: i32 = 0;

/// A configured bridge, running or not.
pub struct Bridge {
    folder: TempDir,
    child: Option<Child>,
    address: Option<SocketAddr>,
    variables: Vec<(String, String)>,
}

impl Bridge {
    /// Writes the configuration of sources and sinks; the rest is added.
    pub fn configured(parts: &str) -> Bridge {
        let folder = tempfile::Builder::new().prefix("zkbridge-end-to-end-").tempdir();
        let this = Bridge {
            folder: folder.expect("a folder for the bridge"),
            child: None,
            address: None,
            variables: Vec::new(),
        };
        this.configure(parts);
        this
    }

    /// Writes another configuration, for the next start.
    pub fn configure(&self, parts: &str) {
        let text = format!("data_dir = \"data\"\n[http]\nlisten = \"127.0.0.1:0\"\n{parts}");
        std::fs::write(self.configuration(), text).expect("the configuration can be written");
    }

    fn configuration(&self) -> PathBuf {
        self.folder.path().join("zkbridge.toml")
    }

    /// Where configuration, journals and files of sinks are.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The command, without environment variables that could affect it.
    pub fn command(&self, args: &[&str]) -> Command {
        // Measurements name the release build.
        let built = std::env::var_os("ZKBRIDGE_BINARY");
        let mut command = Command::new(built.unwrap_or_else(|| env!("CARGO_BIN_EXE_zkbridge").into()));
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("ZKBRIDGE_") {
                command.env_remove(name);
            }
        }
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command.current_dir(self.folder.path()).args(args);
        command
    }

    /// Starts it, and waits until it serves HTTP.
    pub async fn start(&mut self) {
        self.start_with(&[]).await;
    }

    /// The same with more words on its command line.
    pub async fn start_with(&mut self, words: &[&str]) {
        let args = [&["run", "--log-format", "json"], words].concat();
        let command = self.command(&args);
        self.launch(&command).await;
    }

    /// Starts it with at most so many open files, and waits until it serves HTTP.
    pub async fn start_limited(&mut self, descriptors: u32) {
        let own = self.command(&["run", "--log-format", "json"]);
        let mut command = Command::new("sh");
        command
            .arg("-c")
            .arg(format!("ulimit -n {descriptors} && exec \"$0\" \"$@\""));
        command.arg(own.get_program()).args(own.get_args());
        command.current_dir(self.folder.path());
        self.launch(&command).await;
    }

    async fn launch(&mut self, command: &Command) {
        let mut child = Child::start(command).expect("it starts");
        let address = child.until("its address", BOUND, |lines| {
            let mut logged = lines
                .iter()
                .filter_map(|line| serde_json::from_str::<Value>(&line.text).ok());
            logged.find_map(|line| line["address"].as_str()?.parse().ok())
        });
        self.address = Some(address.await.unwrap());
        self.child = Some(child);
    }

    /// A variable of the environment of its commands from now on.
    pub fn set_variable(&mut self, name: &str, value: &str) {
        self.variables.push((name.to_owned(), value.to_owned()));
    }

    /// Where it serves HTTP.
    pub fn address(&self) -> SocketAddr {
        self.address.expect("the bridge was started")
    }

    /// Starts it, and waits until every source is live.
    pub async fn start_ready(&mut self) {
        self.start().await;
        self.ready().await;
    }

    /// Waits until every source is live.
    pub async fn ready(&self) {
        let ready = eventually("/readyz", BOUND, || async { self.get("/readyz").await.0 == 200 });
        if let Err(error) = ready.await {
            panic!(
                "{error}: {}\n{}",
                self.get("/readyz").await.1,
                self.log().join("\n")
            );
        }
    }

    /// The process.
    pub fn child(&mut self) -> &mut Child {
        self.child.as_mut().expect("the bridge was started")
    }

    /// Its log since its start.
    pub fn log(&self) -> Vec<String> {
        self.child.as_ref().map(Child::stderr).unwrap_or_default()
    }

    /// SIGKILL.
    pub async fn kill(&mut self) {
        self.child().kill().await.expect("it can be killed");
    }

    /// SIGTERM, and the end that belongs to it.
    pub async fn terminate(&mut self) {
        self.child().terminate().expect("it can be signalled");
        let code = self.child().exit_code(BOUND).await.unwrap();
        assert_eq!(code, TERMINATED, "{}", self.log().join("\n"));
    }

    /// Status code and body of one of its pages; 0 without an answer.
    pub async fn get(&self, page: &str) -> (u16, String) {
        match self.address {
            Some(address) => page_of(address, page, "").await.unwrap_or_default(),
            None => (0, String::new()),
        }
    }

    /// `/status`; null without an answer.
    pub async fn status(&self) -> Value {
        serde_json::from_str(&self.get("/status").await.1).unwrap_or_default()
    }

    /// The sample of a metric with these labels, all of them or some; 0 if there is none.
    pub async fn metric(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let text = self.get("/metrics").await.1;
        let labels: Vec<String> = labels
            .iter()
            .map(|(label, value)| format!("{label}=\"{value}\""))
            .collect();
        let is_wanted =
            |line: &&str| line.starts_with(name) && labels.iter().all(|label| line.contains(label.as_str()));
        let found = text.lines().find(is_wanted);
        let value = found.and_then(|line| line.rsplit(' ').next()?.parse().ok());
        value.unwrap_or_default()
    }

    /// Whether one line of the log has all of these words.
    pub fn has_logged(&self, words: &[&str]) -> bool {
        let log = self.log();
        log.iter()
            .any(|line| words.iter().all(|word| line.contains(word)))
    }

    /// Waits until `/status` meets the condition. `what` completes "waited … in vain for …".
    pub async fn until(&self, what: &str, mut look: impl FnMut(&Value) -> bool) {
        let look = RefCell::new(&mut look);
        let found = eventually(what, BOUND, || async {
            let status = self.status().await;
            look.borrow_mut()(&status)
        });
        if let Err(error) = found.await {
            panic!("{error}: {:#}\n{}", self.status().await, self.log().join("\n"));
        }
    }

    /// Waits until all known changes of the live sources are captured and delivered, and no other arrives for a while:
    /// the events of a change may still be on their way when its writer has its answer.
    pub async fn at_rest(&self) {
        let mut last = Value::Null;
        let mut since = Instant::now();
        self.until("rest", |status| {
            let tails: Value = status["sources"]
                .as_array()
                .into_iter()
                .flatten()
                .map(|source| source["journal"]["tail"].clone())
                .collect();
            if !is_at_rest(status) || tails != last {
                (last, since) = (tails, Instant::now());
            }
            is_at_rest(status) && since.elapsed() >= QUIET
        })
        .await;
    }
}
