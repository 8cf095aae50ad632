//! Server distributions: the recipe of each server, and the cache.
//!
//! Fetched once, with Maven, Go or apt, into `<workspace>/.cache/servers` (or `$ZKBRIDGE_CACHE`), for all tests and checkouts that
//! use the same cache. A directory in the cache is always whole: it is filled under another name and then renamed.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{Read, Seek};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tracing::info;

use crate::guarded::{self, Guarded};
use crate::patience::eventually;
use crate::{Error, Result, machine};

/// The newest ZooKeeper of each line that Maven can bring with all that it needs, oldest first.
///
/// 3.8.7 and 3.9.6 are listed in the repository, but not with their parent, so they cannot be resolved.
pub const ZOOKEEPER_LINES: [&str; 6] = ["3.4.14", "3.5.10", "3.6.4", "3.7.2", "3.8.6", ZOOKEEPER_NEWEST];

/// The default version of ZooKeeper.
pub const ZOOKEEPER_NEWEST: &str = "3.9.5";

/// The default version of Apache Kafka.
pub const KAFKA_NEWEST: &str = "4.1.0";

/// The last line of Apache Kafka whose brokers register in ZooKeeper.
const KAFKA_ON_ZOOKEEPER: &str = "3.9.1";

/// The version of Apache Dubbo.
const DUBBO: &str = "3.3.5";

/// The version of Apache Curator.
const CURATOR: &str = "5.9.0";

/// The NATS servers that are tried: the one of Debian 12, and the newest.
pub const NATS_LINES: [&str; 2] = ["2.9.10", NATS_NEWEST];

/// The default version of the NATS server.
pub const NATS_NEWEST: &str = "2.15.2";

/// The Go module of the NATS server; its last part is also the name of the program.
const NATS_MODULE: &str = "github.com/nats-io/nats-server/v2";

/// The plugin's version is fixed: an unknown one would be asked for, and could change under our feet.
const COPY_DEPENDENCIES: &str = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies";

/// Unpacks the package `$1` into the working directory. A system that was never updated has no lists of packages: then
/// they are fetched, for this once and for us alone.
const UNPACK_PACKAGE: &str = r#"
apt_alone() {
    apt-get -q -o Dir::State::Lists="$PWD/lists" -o Dir::Cache="$PWD/packages" "$@"
}
apt-get -q download "$1" || {
    mkdir -p lists/partial packages/archives/partial
    apt_alone update
    apt_alone download "$1"
    rm -r lists packages
}
dpkg-deb --extract ./*.deb .
rm ./*.deb
"#;

/// How long a fetch may take: Kafka's 54 MB over a slow line.
const FETCH_BOUND: Duration = Duration::from_secs(900);

/// How much of a tool's output an error shows.
const TOOL_LINES: usize = 15;

/// A server that can be brought: its name and how.
#[derive(Debug, Clone)]
pub struct Distribution {
    name: String,
    title: String,
    recipe: Recipe,
}

/// How a server is made.
#[derive(Debug, Clone)]
enum Recipe {
    /// Maven brings the jars of this pom.
    Maven { pom: String },
    /// Go builds this program, `module@version`.
    Go { program: String },
    /// The files of a package of Debian, unpacked and not installed.
    Debian { package: String },
}

impl Recipe {
    /// The file in the cache that holds the recipe: a changed recipe is fetched again.
    fn file(&self) -> (&'static str, &str) {
        match self {
            Recipe::Maven { pom } => ("pom.xml", pom),
            Recipe::Go { program } => ("go-install.txt", program),
            Recipe::Debian { package } => ("debian-package.txt", package),
        }
    }
}

/// The jars of a fetched distribution.
#[derive(Debug, Clone)]
pub(crate) struct Jars {
    directory: PathBuf,
}

impl Distribution {
    /// Apache ZooKeeper, of any released version.
    pub fn zookeeper(version: &str) -> Self {
        Self::new(
            format!("zookeeper-{version}"),
            format!("Apache ZooKeeper {version}"),
            &Self::zookeeper_jars(version),
        )
    }

    /// The same, 3.6 or newer, with what its AdminServer needs, which its pom leaves to others.
    pub fn zookeeper_with_admin(version: &str) -> Self {
        let of_admin = [
            dependency("org.eclipse.jetty:jetty-servlet:9.4.57.v20241219", &[]),
            dependency("com.fasterxml.jackson.core:jackson-databind:2.15.2", &[]),
        ];
        Self::new(
            format!("zookeeper-admin-{version}"),
            format!("Apache ZooKeeper {version} with its AdminServer"),
            &[&Self::zookeeper_jars(version)[..], &of_admin].concat(),
        )
    }

    fn zookeeper_jars(version: &str) -> [String; 5] {
        // Some releases leave out jars that the server needs, and each logs through something else. slf4j-simple
        // logs to stderr in all of them, without a file of configuration.
        [
            dependency("org.slf4j:slf4j-simple:2.0.17", &[]),
            dependency(
                &format!("org.apache.zookeeper:zookeeper:{version}"),
                &[
                    "ch.qos.logback:*",
                    "org.slf4j:slf4j-log4j12",
                    "org.slf4j:slf4j-reload4j",
                ],
            ),
            dependency("io.dropwizard.metrics:metrics-core:4.1.12.1", &[]),
            dependency("org.xerial.snappy:snappy-java:1.1.10.5", &[]),
            dependency("commons-cli:commons-cli:1.5.0", &[]),
        ]
    }

    /// Apache Curator with its discovery and recipes.
    pub fn curator() -> Self {
        let dependencies = [
            dependency("org.slf4j:slf4j-simple:2.0.17", &[]),
            dependency(&format!("org.apache.curator:curator-x-discovery:{CURATOR}"), &[]),
            dependency(
                &format!("org.apache.zookeeper:zookeeper:{ZOOKEEPER_NEWEST}"),
                &["ch.qos.logback:*"],
            ),
        ];
        Self::new(
            format!("curator-{CURATOR}"),
            format!("Apache Curator {CURATOR}"),
            &dependencies,
        )
    }

    /// Apache Dubbo with what its registry in ZooKeeper needs, which its pom leaves to others.
    pub fn dubbo() -> Self {
        let dependencies = [
            dependency("org.slf4j:slf4j-simple:2.0.17", &[]),
            dependency(&format!("org.apache.dubbo:dubbo:{DUBBO}"), &[]),
            dependency(&format!("org.apache.curator:curator-x-discovery:{CURATOR}"), &[]),
            // Dubbo's own Netty is newer.
            dependency(
                &format!("org.apache.zookeeper:zookeeper:{ZOOKEEPER_NEWEST}"),
                &["ch.qos.logback:*", "io.netty:*"],
            ),
        ];
        Self::new(
            format!("dubbo-{DUBBO}"),
            format!("Apache Dubbo {DUBBO}"),
            &dependencies,
        )
    }

    /// Apache Kafka whose brokers register in ZooKeeper.
    pub fn kafka_on_zookeeper() -> Self {
        let dependencies = [
            dependency("org.slf4j:slf4j-simple:2.0.17", &[]),
            dependency(&format!("org.apache.kafka:kafka_2.13:{KAFKA_ON_ZOOKEEPER}"), &[]),
        ];
        Self::new(
            format!("kafka-on-zookeeper-{KAFKA_ON_ZOOKEEPER}"),
            format!("Apache Kafka {KAFKA_ON_ZOOKEEPER}"),
            &dependencies,
        )
    }

    /// Apache Kafka with its tools.
    pub fn kafka(version: &str) -> Self {
        let dependencies = [
            dependency("org.slf4j:slf4j-simple:2.0.17", &[]),
            dependency(&format!("org.apache.kafka:kafka_2.13:{version}"), &[]),
            dependency(&format!("org.apache.kafka:kafka-tools:{version}"), &[]),
        ];
        Self::new(
            format!("kafka-{version}"),
            format!("Apache Kafka {version}"),
            &dependencies,
        )
    }

    fn new(name: String, title: String, dependencies: &[String]) -> Self {
        let pom = format!(
            "<project>\n<modelVersion>4.0.0</modelVersion>\n\
             <groupId>zkbridge</groupId><artifactId>{name}</artifactId><version>1</version>\n\
             <packaging>pom</packaging>\n<dependencies>\n{}</dependencies>\n</project>\n",
            dependencies.concat()
        );
        let recipe = Recipe::Maven { pom };
        Self { name, title, recipe }
    }

    /// The NATS server, of any released version.
    pub fn nats(version: &str) -> Self {
        let this = Self::go("nats", version, NATS_MODULE);
        Self {
            title: format!("NATS server {version}"),
            ..this
        }
    }

    /// A program that Go builds of this module.
    pub(crate) fn go(name: &str, version: &str, module: &str) -> Self {
        Self {
            name: format!("{name}-{version}"),
            title: format!("{name} {version}"),
            recipe: Recipe::Go {
                program: format!("{module}@v{version}"),
            },
        }
    }

    /// The contents of a package of this machine's Debian release.
    pub(crate) fn debian(package: &str) -> Self {
        Self {
            name: format!("debian-{package}"),
            title: format!("Debian's package {package}"),
            recipe: Recipe::Debian {
                package: package.to_owned(),
            },
        }
    }

    /// The name for people, with the version.
    pub fn title(&self) -> &str {
        &self.title
    }

    /// Whether the cache has it, so that starting it needs no network.
    pub fn is_cached(&self) -> bool {
        let (file, recipe) = self.recipe.file();
        std::fs::read_to_string(self.directory().join(file)).is_ok_and(|made| made == recipe)
    }

    /// Brings the distribution into the cache, unless it is there.
    ///
    /// # Errors
    ///
    /// [`Error::MissingTool`] without Maven or Go, [`Error::Fetch`] if it fails.
    pub async fn fetch(&self) -> Result<()> {
        if self.is_cached() {
            return Ok(());
        }
        self.fetch_alone().await
    }

    pub(crate) async fn jars(&self) -> Result<Jars> {
        self.fetch().await?;
        Ok(Jars {
            directory: self.directory(),
        })
    }

    /// The program of that name in a distribution that is one.
    pub(crate) async fn program(&self, name: &str) -> Result<PathBuf> {
        self.fetch().await?;
        Ok(self.directory().join(name))
    }

    fn directory(&self) -> PathBuf {
        cache().join(&self.name)
    }

    /// One fetch at a time on the machine: Maven's own repository does not support two.
    async fn fetch_alone(&self) -> Result<()> {
        let _lock = machine::lock("fetch").await?;
        if self.is_cached() {
            return Ok(());
        }
        info!(distribution = self.title, "fetching the server, once");
        let cache = cache();
        std::fs::create_dir_all(&cache).map_err(Error::io("create", &cache))?;
        let staging = tempfile::Builder::new().prefix(".fetching-").tempdir_in(&cache);
        let staging = staging.map_err(Error::io("create a directory in", &cache))?;
        let (file, recipe) = self.recipe.file();
        let file = staging.path().join(file);
        std::fs::write(&file, recipe).map_err(Error::io("write", &file))?;
        match &self.recipe {
            Recipe::Maven { .. } => self.run_maven(staging.path(), &file).await?,
            Recipe::Go { program } => self.run_go(staging.path(), program).await?,
            Recipe::Debian { package } => self.run_apt(staging.path(), package).await?,
        }
        self.publish(staging)
    }

    async fn run_go(&self, staging: &Path, program: &str) -> Result<()> {
        let mut go = guarded::command(find_tool("go")?.as_os_str(), Some(staging));
        go.args(["install", "-trimpath", "-ldflags=-s -w", program]);
        go.env("GOBIN", staging).env("CGO_ENABLED", "0");
        self.run("go", go).await
    }

    async fn run_apt(&self, staging: &Path, package: &str) -> Result<()> {
        find_tool("apt-get")?;
        find_tool("dpkg-deb")?;
        let mut shell = guarded::command(OsStr::new("sh"), Some(staging));
        shell
            .args(["-ec", UNPACK_PACKAGE, "sh", package])
            .current_dir(staging);
        self.run("apt-get", shell).await
    }

    async fn run_maven(&self, staging: &Path, pom: &Path) -> Result<()> {
        let mut output_directory = OsString::from("-DoutputDirectory=");
        output_directory.push(staging);
        let mut maven = guarded::command(find_tool("mvn")?.as_os_str(), Some(staging));
        maven.args([
            "-B",
            "-q",
            "-U", // A fetch that failed for a moment is tried again, not remembered.
            "-Dstyle.color=never",
            COPY_DEPENDENCIES,
            "-DincludeScope=runtime",
        ]);
        maven.arg(output_directory).arg("-f").arg(pom);
        self.run("mvn", maven).await
    }

    /// Runs a tool that fills the staging directory, to its end.
    async fn run(&self, name: &'static str, mut tool: Command) -> Result<()> {
        let mut output = tempfile::tempfile().map_err(Error::attempt("create a temporary file"))?;
        let (stdout, stderr) = (output.try_clone(), output.try_clone());
        let share = || Error::attempt("share a temporary file");
        tool.stdout(stdout.map_err(share())?)
            .stderr(stderr.map_err(share())?);

        let mut tool = Guarded::spawn(&mut tool).map_err(Error::attempt(format!("start {name}")))?;
        let what = format!("{name} to fetch {}", self.title);
        let status = eventually(what, FETCH_BOUND, || std::future::ready(tool.ended())).await?;
        if status.success() {
            return Ok(());
        }
        let output = first_lines(&read_all(&mut output), TOOL_LINES);
        Err(Error::Fetch {
            title: self.title.clone(),
            tool: name,
            status,
            output,
        })
    }

    /// Gives the filled directory its name. An existing one is from an older recipe.
    fn publish(&self, staging: tempfile::TempDir) -> Result<()> {
        let directory = self.directory();
        if directory.exists() {
            std::fs::remove_dir_all(&directory).map_err(Error::io("remove", &directory))?;
        }
        let staged = staging.keep();
        std::fs::rename(&staged, &directory).map_err(Error::io("rename to", &directory))
    }
}

impl Jars {
    /// All jars, in an order that never changes.
    pub(crate) fn classpath(&self) -> Result<OsString> {
        let read = || -> std::io::Result<Vec<PathBuf>> {
            let entries = std::fs::read_dir(&self.directory)?;
            entries.map(|entry| entry.map(|entry| entry.path())).collect()
        };
        let mut jars = read().map_err(Error::io("list", &self.directory))?;
        jars.retain(|path| path.extension().is_some_and(|extension| extension == "jar"));
        jars.sort();
        let joined = std::env::join_paths(jars).map_err(std::io::Error::other);
        joined.map_err(Error::io("make a class path of", &self.directory))
    }
}

/// One `<dependency>` of a pom, from `group:artifact:version` and exclusions `group:artifact`.
fn dependency(coordinates: &str, exclusions: &[&str]) -> String {
    let mut parts = coordinates.split(':');
    let [group, artifact, version] = std::array::from_fn(|_| parts.next().unwrap_or_default());
    let exclusions: String = exclusions.iter().map(|excluded| exclusion(excluded)).collect();
    format!(
        "<dependency><groupId>{group}</groupId><artifactId>{artifact}</artifactId><version>{version}</version>\
         <exclusions>{exclusions}</exclusions></dependency>\n"
    )
}

fn exclusion(coordinates: &str) -> String {
    let (group, artifact) = coordinates.split_once(':').unwrap_or((coordinates, "*"));
    format!("<exclusion><groupId>{group}</groupId><artifactId>{artifact}</artifactId></exclusion>")
}

/// Where distributions are kept.
pub fn cache() -> PathBuf {
    if let Some(chosen) = std::env::var_os("ZKBRIDGE_CACHE") {
        return PathBuf::from(chosen);
    }
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    if let Ok(workspace) = workspace.canonicalize() {
        return workspace.join(".cache/servers");
    }
    // An installed command, whose source is elsewhere or gone.
    let home = std::env::var_os("HOME").map_or_else(std::env::temp_dir, PathBuf::from);
    home.join(".cache/zkbridge/servers")
}

/// The path of a program that must be installed.
pub(crate) fn find_tool(tool: &'static str) -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut places = std::env::split_paths(&path).map(|directory| directory.join(tool));
    places
        .find(|place| place.is_file())
        .ok_or(Error::MissingTool { tool })
}

/// The first lines that say something: Maven explains first and then repeats itself.
fn first_lines(output: &str, count: usize) -> String {
    // Maven prints colour resets even without colours.
    let plain = output.replace("\u{1b}[0m", "");
    let lines = plain
        .lines()
        .filter(|line| !line.trim_start_matches("[ERROR]").trim().is_empty());
    lines.take(count).collect::<Vec<_>>().join("\n")
}

/// All that was written to a file, as far as it can be read.
fn read_all(file: &mut File) -> String {
    let mut bytes = Vec::new();
    let read = file.rewind().and_then(|()| file.read_to_end(&mut bytes));
    read.map_or_else(
        |error| error.to_string(),
        |_| String::from_utf8_lossy(&bytes).into_owned(),
    )
}
