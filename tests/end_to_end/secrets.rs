//! No command and no log, at whatever level, shows a secret. Which commands there are is asked of the program itself, so
//! that a new one is not forgotten here.

use bridge_servers::{Child, eventually, real_servers};

use crate::bridge::{BOUND, Bridge};
use crate::secured::{PASSWORD, ROOT, USER, shared};

const TOKEN: &str = "t0ken-of-the-listener-0123456789abcdef";
const SIGNING: &str = "whsec_c2lnbmluZy1zZWNyZXQtMDEyMzQ1Njc4OWFiY2RlZg==";

/// Of other credentials, in a file.
const OWN: &str = "of-the-file-of-credentials";

const SECRETS: [&str; 8] = [
    OWN,
    TOKEN,
    PASSWORD,
    SIGNING,
    "c2lnbmluZy1zZWNyZXQ",
    "of-the-header",
    "of-nats-itself",
    "of-kafka-itself",
];

/// Beside a running bridge.
const RUNNING: &[&[&str]] = &[
    &["activity"],
    &["backfill", "main"],
    &["cat", ROOT, "--json"],
    &["changes"],
    &["check"],
    &["check", "--connect"],
    &["completions", "bash"],
    &["config", "show"],
    &["config", "show", "--json"],
    &["diff", ROOT, "1", "2"],
    &["dlq", "list"],
    &["dlq", "list", "--json"],
    &["dlq", "show", "--all"],
    &["dlq", "retry", "--all"],
    &["dlq", "drop", "--all", "--json"],
    &["doctor"],
    &["doctor", "--json"],
    &["gaps"],
    &["history", ROOT],
    &["init"],
    &["journal", "backup", "copy"],
    &["journal", "check"],
    &["journal", "export"],
    &["ls", ROOT],
    &["man"],
    &["reload"],
    &["reload", "--json"],
    &["replay", "--sink", "file", "--from", "1"],
    &[
        "restore",
        ROOT,
        "--at",
        "1",
        "--plan",
        "a.plan",
        "--credentials",
        "own",
    ],
    &["restore", ROOT, "--at", "now", "--plan", "a.plan"],
    // It is no plan.
    &["restore", "apply", "own"],
    // It needs a stopped bridge.
    &["restore-journal", "copy"],
    // The journal has its writer.
    &["run"],
    &["schema", "config"],
    &["services"],
    &["sink", "enable", "webhook"],
    &["sink", "forget", "gone"],
    &["sink", "list"],
    &["sink", "rename", "gone", "file"],
    &["sink", "test", "webhook"],
    &["snapshot", "--sink", "file"],
    &["status"],
    &["status", "--json"],
    &["tail"],
    &["template", "--preset", "slack"],
    &["tree", ROOT],
    &["ui"],
    &["verify"],
];

/// Without one.
const STOPPED: &[&[&str]] = &[
    &["journal", "compact"],
    &["journal", "compact", "--json"],
    &["status"],
    &["dlq", "retry", "--all"],
];

/// With a configuration that is wrong.
const REFUSED: &[&[&str]] = &[
    &["check", "--config", "wrong.toml"],
    &["config", "show", "--config", "wrong.toml"],
    &["run", "--config", "wrong.toml"],
];

/// Mistakes in a configuration: each next to a secret, or in the secret itself.
const MISTAKES: [(&str, &str); 7] = [
    ("password = ", "pasword = "),
    ("secrets = [", "secrets = [5, "),
    ("token = \"", "token = [\""),
    ("token = \"", "token = '"),
    ("token = ", "token == "),
    ("user = \"nats\"", "user = nats"),
    ("Authorization = ", "Authorization : "),
];

fn sources_and_sinks(connect: &str) -> String {
    format!(
        "token = \"{TOKEN}\"\n[[source]]\nconnect = \"{connect}\"\nroots = [\"{ROOT}\"]\n\
         [source.auth]\nsasl = \"digest-md5\"\nuser = \"{USER}\"\npassword = \"{PASSWORD}\"\n\
         [[sink]]\ntype = \"file\"\npath = \"out.jsonl\"\n\
         [[sink]]\ntype = \"webhook\"\nurl = \"http://127.0.0.1:1/\"\nallow_private_addresses = true\n\
         secrets = [\"{SIGNING}\"]\nheaders = {{ Authorization = \"Bearer of-the-header\" }}\n\
         [[sink]]\ntype = \"nats\"\nservers = \"nats://127.0.0.1:1\"\nstream = \"S\"\n\
         [sink.auth]\nuser = \"nats\"\npassword = \"of-nats-itself\"\n\
         [[sink]]\ntype = \"kafka\"\nbrokers = \"127.0.0.1:1\"\n\
         properties = {{ \"security.protocol\" = \"SASL_PLAINTEXT\", \"sasl.mechanism\" = \"PLAIN\", \
         \"sasl.username\" = \"kafka\", \"sasl.password\" = \"of-kafka-itself\" }}\n"
    )
}

/// Everything that was printed, each line with the command.
#[derive(Default)]
struct Outputs(Vec<String>);

impl Outputs {
    async fn run(&mut self, bridge: &Bridge, args: &[&str]) -> (i32, Vec<String>) {
        let args = [args, &["--log-level", "trace"]].concat();
        let mut child = Child::start(&bridge.command(&args)).unwrap();
        let code = child.exit_code(BOUND).await.unwrap();
        self.take(&args.join(" "), [child.stdout(), child.stderr()].concat());
        (code, child.stdout())
    }

    /// It runs until a signal.
    async fn watch(&mut self, bridge: &Bridge, connect: &str) {
        let args = ["watch", connect, ROOT, "--existing", "--log-level", "trace"];
        let mut child = Child::start(&bridge.command(&args)).unwrap();
        child.line("snapshot", BOUND).await.unwrap();
        child.terminate().unwrap();
        child.wait(BOUND).await.unwrap();
        self.take("watch", [child.stdout(), child.stderr()].concat());
    }

    fn take(&mut self, who: &str, lines: Vec<String>) {
        self.0.extend(lines.iter().map(|line| format!("{who}: {line}")));
    }
}

/// All commands of the program that have none below them.
async fn all_commands(bridge: &Bridge) -> Vec<String> {
    let mut found = Vec::new();
    let mut left = vec![String::new()];
    while let Some(command) = left.pop() {
        let words: Vec<&str> = command.split_whitespace().chain(["--help"]).collect();
        let (_, help) = Outputs::default().run(bridge, &words).await;
        let listed = help.iter().skip_while(|line| *line != "Commands:").skip(1);
        let names: Vec<&str> = listed
            .take_while(|line| !line.is_empty())
            .filter_map(|line| {
                line.strip_prefix("  ")?
                    .split_whitespace()
                    .next()
                    .filter(|_| !line.starts_with("   "))
            })
            .filter(|name| *name != "help")
            .collect();
        match names.is_empty() {
            true => found.push(command),
            false => left.extend(
                names
                    .iter()
                    .map(|name| format!("{command} {name}").trim().to_owned()),
            ),
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_ever_logged_or_printed() {
    real_servers!("secrets at trace level");
    let guarded = shared().await;
    let connect = guarded.zookeeper.connect_string();
    let parts = sources_and_sinks(&connect);
    let mut bridge = Bridge::configured(&parts);
    let mut outputs = Outputs::default();
    bridge.start_with(&["--log-level", "trace"]).await;
    let failed = eventually("every sink that reaches nobody to have tried", BOUND, || async {
        let log = bridge.log().join("\n");
        ["webhook", "nats", "kafka"].iter().all(|sink| {
            log.lines()
                .any(|line| line.contains("\"sink\"") && line.contains(sink) && line.contains("unavailable"))
        })
    });
    failed.await.unwrap();
    std::fs::write(bridge.folder().join("own"), format!("somebody:{OWN}\n")).unwrap();
    for args in RUNNING {
        outputs.run(&bridge, args).await;
    }
    outputs.watch(&bridge, &connect).await;
    let logs = guarded.zookeeper.data_dir(0);
    outputs.run(&bridge, &["log", logs.to_str().unwrap()]).await;
    bridge.terminate().await;
    outputs.take("run", bridge.log());
    for args in STOPPED {
        outputs.run(&bridge, args).await;
    }
    for (right, wrong) in MISTAKES {
        assert!(parts.contains(right), "{right}");
        let text = format!("data_dir = \"data\"\n[http]\n{}", parts.replacen(right, wrong, 1));
        std::fs::write(bridge.folder().join("wrong.toml"), text).unwrap();
        for args in REFUSED {
            let (code, _) = outputs.run(&bridge, args).await;
            assert_eq!(code, 2, "{wrong} is refused by {args:?}");
        }
    }

    let outputs = outputs.0;
    for secret in SECRETS {
        let shown: Vec<&String> = outputs.iter().filter(|line| line.contains(secret)).collect();
        assert!(shown.is_empty(), "{secret} is shown: {shown:#?}");
    }
    let commands = all_commands(&bridge).await;
    assert!(
        commands.len() > 20 && commands.contains(&"dlq show".to_owned()),
        "{commands:?}"
    );
    for command in commands {
        assert!(
            outputs.iter().any(|line| line.starts_with(&command)),
            "'{command}' says nothing here: a new command is to be run by this test, too"
        );
    }
}
