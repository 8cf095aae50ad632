//! Files that a template writes: the real binary between a real ZooKeeper and a program that reads its configuration again
//! at a signal.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use bridge_servers::{Child, eventually, real_servers};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::bridge::{BOUND, Bridge};
use crate::stage::{Place, source};
use crate::writer::Writer;

/// A program that copies its configuration at each SIGUSR1, as one that reads it, after it has written its number.
/// Not at SIGHUP, which a run of the tests under `nohup` ignores with all its children.
const PROGRAM: &str = "trap 'cp app.conf next && mv next loaded' USR1\n\
                       echo $$ > app.pid\n\
                       while :; do sleep 0.05; done";

/// Signals the program. While there is a file `gate` it waits, and then fails and signals nothing.
const RELOAD: &str = "if [ -e gate ]; then echo x > waiting; while [ -e gate ]; do sleep 0.05; done; exit 1; fi\n\
                      kill -USR1 $(cat app.pid)";

/// A line for each child with its value.
const LINES: &str = "{% for znode in node.children %}\n{{ znode.name }}={{ znode.value }}\n{% endfor %}\n";

fn sink(folder: &Path, tree: &str, lines: &str) -> String {
    format!(
        "[[sink]]\nname = \"conf\"\ntype = \"render\"\ntree = \"{tree}\"\npath = \"app.conf\"\ntemplate = '''\n{LINES}'''\n\
         reload = [\"/bin/sh\", \"-c\", '''{RELOAD}''']\ndirectory = \"{}\"\ndebounce = \"20ms\"\ntimeout = \"20s\"\n\
         retry = {{ first = \"50ms\", max = \"300ms\" }}\n{lines}\n",
        folder.display()
    )
}

/// A bridge with a sink for the tree of a scenario, and the program.
struct Scenario {
    root: String,
    bridge: Bridge,
    writer: Writer,
    program: Option<Child>,
}

impl Scenario {
    async fn open(name: &str, lines: &str) -> Scenario {
        let place = Place::shared().await;
        let root = format!("/{name}");
        let writer = Writer::connect(&place.direct).await;
        writer.create(&root, "").await;
        let bridge = Bridge::configured("");
        let roots = [root.clone()];
        bridge.configure(&(source("main", &place, &roots) + &sink(bridge.folder(), &root, lines)));
        let mut scenario = Scenario {
            root,
            bridge,
            writer,
            program: None,
        };
        scenario.start_program().await;
        scenario
    }

    async fn start_program(&mut self) {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", PROGRAM]).current_dir(self.bridge.folder());
        self.program = Some(Child::start(&command).unwrap());
        let is_up = || async { self.file("app.pid").exists() };
        eventually("the program", BOUND, is_up).await.unwrap();
    }

    async fn stop_program(&mut self) {
        self.program.take().unwrap().kill().await.unwrap();
        fs::remove_file(self.file("app.pid")).unwrap();
    }

    fn file(&self, name: &str) -> PathBuf {
        self.bridge.folder().join(name)
    }

    fn text(&self, name: &str) -> String {
        fs::read_to_string(self.file(name)).unwrap_or_default()
    }

    fn at(&self, name: &str) -> String {
        format!("{}/{name}", self.root)
    }

    /// Waits until the program has read this configuration.
    async fn has_loaded(&self, expected: &str) {
        let loaded = eventually(format!("{expected:?}"), BOUND, || async {
            self.text("loaded") == expected
        });
        if let Err(error) = loaded.await {
            let status = self.bridge.status().await;
            let (text, log) = (self.text("loaded"), self.bridge.log().join("\n"));
            panic!("{error}: loaded is {text:?}\n{status:#}\n{log}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_reads_each_state_of_its_tree_also_if_the_bridge_is_killed_before_the_reload() {
    real_servers!("a rendered file and its program");
    let mut scenario = Scenario::open("rendered", "").await;
    scenario.writer.create(&scenario.at("a"), "1").await;
    scenario.writer.create(&scenario.at("b"), "2").await;
    scenario.bridge.start_ready().await;
    scenario.has_loaded("a=1\nb=2\n").await;
    scenario.writer.set(&scenario.at("a"), "3").await;
    scenario.has_loaded("a=3\nb=2\n").await;

    // Killed between the new file and its reload: the next start reloads, although the file is equal.
    fs::write(scenario.file("gate"), "").unwrap();
    scenario.writer.set(&scenario.at("a"), "4").await;
    let waits = || async { scenario.file("waiting").exists() };
    eventually("the reload", BOUND, waits).await.unwrap();
    scenario.bridge.kill().await;
    assert_eq!(scenario.text("app.conf"), "a=4\nb=2\n");
    fs::remove_file(scenario.file("gate")).unwrap();
    assert_eq!(scenario.text("loaded"), "a=3\nb=2\n");
    scenario.bridge.start_ready().await;
    scenario.has_loaded("a=4\nb=2\n").await;

    // A znode that was deleted while the bridge was down, found in a gap.
    scenario.bridge.terminate().await;
    scenario.writer.delete(&scenario.at("b")).await;
    scenario.bridge.start_ready().await;
    scenario.has_loaded("a=4\n").await;
    let modified = || {
        fs::metadata(scenario.file("app.conf"))
            .unwrap()
            .modified()
            .unwrap()
    };
    let written = modified();
    scenario.writer.create(&scenario.at("a/below"), "not shown").await;
    scenario.bridge.at_rest().await;
    assert_eq!(modified(), written, "an equal text is not written");

    // Without its tree the file stays.
    scenario.writer.delete_all(&scenario.root).await;
    let warned = || async {
        scenario
            .bridge
            .has_logged(&["the file stays as it is", "does not exist"])
    };
    eventually("the warning", BOUND, warned).await.unwrap();
    scenario.bridge.at_rest().await;
    assert!(scenario.file("app.conf").exists());
    scenario.writer.create(&scenario.root, "").await;
    scenario.writer.create(&scenario.at("c"), "5").await;
    scenario.has_loaded("c=5\n").await;
    scenario.bridge.terminate().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_or_a_template_that_fails_is_shown_with_its_cause_and_heals_by_itself() {
    real_servers!("a rendered file whose reload fails");
    let mut scenario = Scenario::open("rendered-failing", "").await;
    scenario.writer.create(&scenario.at("a"), "1").await;
    scenario.bridge.start_ready().await;
    scenario.has_loaded("a=1\n").await;

    scenario.stop_program().await;
    scenario.writer.set(&scenario.at("a"), "2").await;
    let shows = |status: &serde_json::Value, kind: &str, words: &[&str]| {
        let error = &status["sinks"][0]["error"];
        let message = error["message"].as_str().unwrap_or_default();
        error["kind"] == kind && words.iter().all(|word| message.contains(word))
    };
    scenario
        .bridge
        .until("the failed reload", |status| {
            shows(status, "unavailable", &["reload failed", "app.pid"])
        })
        .await;
    assert_eq!(scenario.text("app.conf"), "a=2\n");
    scenario.start_program().await;
    scenario.has_loaded("a=2\n").await;

    scenario.writer.set(&scenario.at("a"), "3\nevil").await;
    scenario
        .bridge
        .until("the refused value", |status| {
            shows(status, "content", &["multiline", "app.conf"])
        })
        .await;
    assert_eq!(scenario.text("app.conf"), "a=2\n");
    scenario.writer.set(&scenario.at("a"), "4").await;
    scenario.has_loaded("a=4\n").await;
    scenario.bridge.at_rest().await;
    scenario.bridge.terminate().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_random_writes_and_kills_the_program_has_read_the_tree_as_a_client_reads_it() {
    real_servers!("a rendered file under kills");
    let seed = std::env::var("ZKBRIDGE_SEED").map_or(7, |seed| seed.parse().unwrap());
    println!("ZKBRIDGE_SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let mut scenario = Scenario::open("rendered-killed", "").await;
    scenario.bridge.start_ready().await;
    let mut existing = std::collections::BTreeSet::new();
    for round in 0..4 {
        for write in 0..40 {
            let name = format!("n{}", random.random_range(0..8));
            let (path, value) = (scenario.at(&name), format!("{round}-{write}"));
            match existing.contains(&name) {
                true if random.random_range(0..3) == 0 => {
                    scenario.writer.delete(&path).await;
                    existing.remove(&name);
                }
                true => scenario.writer.set(&path, value).await,
                false => {
                    scenario.writer.create(&path, value).await;
                    existing.insert(name);
                }
            }
            if write == random.random_range(0..60) {
                scenario.bridge.kill().await;
                scenario.bridge.start().await;
            }
        }
        scenario.bridge.kill().await;
        scenario.bridge.start().await;
    }
    scenario.writer.create(&scenario.at("z-last"), "end").await;
    let tree = scenario.writer.tree(std::slice::from_ref(&scenario.root)).await;
    let mut expected = String::new();
    for path in tree.keys().filter(|path| **path != scenario.root) {
        let name = path.rsplit('/').next().unwrap();
        let (data, _) = scenario.writer.client.get_data(path).await.unwrap();
        expected += &format!("{name}={}\n", String::from_utf8(data).unwrap());
    }
    scenario.has_loaded(&expected).await;
    scenario.bridge.terminate().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_can_be_seen_before_it_is_written_by_its_own_and_by_a_new_template_and_for_other_znodes() {
    real_servers!("the preview of a rendered file");
    let mut scenario = Scenario::open("rendered-preview", "").await;
    scenario.writer.create(&scenario.at("a"), "1").await;
    scenario.bridge.start_ready().await;
    scenario.has_loaded("a=1\n").await;
    let preview = |words: &[&str]| {
        let args = [&["template"], words].concat();
        let ran = scenario.bridge.command(&args).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        (ran.status.code().unwrap(), text(&ran.stdout), text(&ran.stderr))
    };
    let shows = |words: &[&str], expected: &str| {
        let (code, out, err) = preview(words);
        assert_eq!((code, out.as_str()), (0, expected), "{words:?}: {err}");
    };
    shows(&["--sink", "conf"], "a=1\n");
    let written = fs::metadata(scenario.file("app.conf"))
        .unwrap()
        .modified()
        .unwrap();

    // A template that is tried before it is the sink's, and a tree that is tried before it exists.
    let new = "{% for znode in nodes %}\n{{ znode.path }} {{ znode.size }}\n{% endfor %}\n";
    fs::write(scenario.file("new.j2"), new).unwrap();
    let of_journal = format!("{0} 0\n{0}/a 1\n", scenario.root);
    shows(&["new.j2", "--sink", "conf"], &of_journal);
    let znodes = format!(r#"{{"{0}/b/c": "xyz", "{0}/a!": {{"port": 1}}}}"#, scenario.root);
    fs::write(scenario.file("znodes.json"), znodes).unwrap();
    shows(
        &["--sink", "conf", "--tree", "znodes.json"],
        "a!={\"port\":1}\nb=\n",
    );
    let free = r#"{"/up": "", "/up/a": "7"}"#;
    fs::write(scenario.file("free.json"), free).unwrap();
    shows(&["new.j2", "--tree", "free.json"], "/up 0\n/up/a 1\n");

    let refuses = |words: &[&str], code: i32, part: &str| {
        let (ended, out, err) = preview(words);
        assert_eq!((ended, out.as_str()), (code, ""), "{words:?}: {err}");
        assert!(err.contains(part), "{words:?}: {err}");
    };
    refuses(&["--sink", "none"], 2, "no sink has the name 'none'");
    refuses(&["--sink", "conf", "--tree", "free.json"], 2, "/up is not below");
    fs::write(scenario.file("evil.json"), r#"{"/up": "", "/up/a": "7\n}"}"#).unwrap();
    fs::write(scenario.file("lines.j2"), LINES).unwrap();
    refuses(&["lines.j2", "--tree", "evil.json"], 1, "multiline");
    fs::write(scenario.file("bad.json"), "[1]").unwrap();
    refuses(
        &["lines.j2", "--tree", "bad.json"],
        2,
        "an object of paths and values",
    );

    // Without a bridge it is the state that the journal has.
    scenario.bridge.terminate().await;
    scenario.writer.set(&scenario.at("a"), "2").await;
    let (code, out, err) = {
        let ran = scenario.bridge.command(&["template", "--sink", "conf"]).output();
        let ran = ran.unwrap();
        (ran.status.code().unwrap(), ran.stdout, ran.stderr)
    };
    let err = String::from_utf8_lossy(&err);
    assert_eq!((code, out.as_slice()), (0, b"a=1\n".as_slice()), "{err}");
    let modified = fs::metadata(scenario.file("app.conf"))
        .unwrap()
        .modified()
        .unwrap();
    assert_eq!(modified, written, "a preview writes nothing");
}
