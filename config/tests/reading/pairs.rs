//! Options that are right alone, and wrong or probably a mistake together.

use bridge_config::SinkKind;
use bridge_core::issue::Severity;

use super::{check, problems, read_toml, with, with_sink};

#[test]
fn impossible_pairs_are_refused() {
    let error = Severity::Error;
    let two = "[[source]]\nconnect = \"b\"";
    check(
        &with(two),
        error,
        "source[1].name",
        &["'main' is that of source[0]"],
    );
    check(
        &with("[[sink]]\ntype = \"console\""),
        error,
        "sink[1].name",
        &["'console' is that of sink[0]"],
    );
    check(
        &with_sink("type = \"console\"\nsources = [\"mian\"]"),
        error,
        "sink[0].sources[0]",
        &["did you mean 'main'?"],
    );
    check(
        &with_sink("type = \"console\"\nsources = []"),
        error,
        "sink[0].sources",
        &["no source"],
    );
    check(
        &with_sink("type = \"console\"\nops = []"),
        error,
        "sink[0].ops",
        &["ops is empty"],
    );
    check(
        &with("[http]\nlisten = \"[::]:9641\""),
        error,
        "http.listen",
        &["http.token is missing"],
    );
    check(&with("[http]\ntoken = \"\""), error, "http.token", &["empty"]);
    let named =
        |name: &str, token: &str| format!("[[http.tokens]]\nname = \"{name}\"\ntoken = \"{token}\"\n");
    let long = "0123456789abcdef";
    check(&with(&named("a", "")), error, "http.tokens", &["empty"]);
    check(
        &with(&named("default", long)),
        error,
        "http.tokens",
        &["another token already"],
    );
    check(
        &with(&(named("a", long) + &named("b", long))),
        error,
        "http.tokens",
        &["is that of another one"],
    );
    check(
        &with(&(named("a", long) + &named("a", "fedcba9876543210"))),
        error,
        "http.tokens",
        &["another token already"],
    );
    check(
        "[[sink]]\ntype = \"console\"",
        error,
        "source",
        &["there is no [[source]]"],
    );
    check(
        &with_sink("type = \"console\"\nretry = { first = \"10s\", max = \"1s\" }"),
        error,
        "sink[0].retry.max",
        &["shorter than"],
    );
}

#[test]
fn legal_options_that_are_probably_mistakes_are_warned_about() {
    let warning = Severity::Warning;
    check("[[source]]\nconnect = \"a\"", warning, "sink", &["no [[sink]]"]);
    check(
        &with("session_timeout = \"1s\""),
        warning,
        "source[0].session_timeout",
        &["\"4s\" or more"],
    );
    check(
        &with("[http]\ntoken = \"short\""),
        warning,
        "http.token",
        &["can be guessed"],
    );
    check(
        &with("[[source]]\nname = \"Main\"\nconnect = \"b\""),
        warning,
        "source[1].name",
        &["no case"],
    );
    check(
        &with("[[source]]\nname = \"b\"\nconnect = \"a\""),
        warning,
        "source[1].connect",
        &["comes twice"],
    );
    check(
        &with(
            "[[source]]\nname = \"b\"\nconnect = \"b\"\nmask = [\"/secret\"]\ncapture = \"observer\"\n\
             [source.observer]\nbypasses_acls = true\nservers = [\"b:2888\"]",
        ),
        warning,
        "source[1].mask",
        &["by their numbers alone"],
    );
    let file = "type = \"file\"\npath = \"x\"";
    check(
        &with_sink(&format!("{file}\n[[sink]]\nname = \"b\"\n{file}")),
        warning,
        "sink[1].path",
        &["'file' and 'b' write to the same"],
    );
    check(
        &with_sink(&format!(
            "{file}\n[[sink]]\nname = \"b\"\ntype = \"file\"\npath = \"./x\""
        )),
        warning,
        "sink[1].path",
        &["'file' and 'b' write to the same"],
    );
    let kafka = |name: &str, brokers: &str| {
        format!(
            "name = \"{name}\"\ntype = \"kafka\"\nbrokers = \"{brokers}\"\ntopic = \"t-{{{{ cluster }}}}\""
        )
    };
    let both = format!(
        "{}\n[[sink]]\n{}",
        kafka("a", "k1:1,k2:2"),
        kafka("b", "k2:2, k1:1")
    );
    check(
        &with_sink(&both),
        warning,
        "sink[1].topic",
        &["'a' and 'b' write to the same topic"],
    );
    let nats =
        |name: &str| format!("name = \"{name}\"\ntype = \"nats\"\nservers = \"nats://n:1\"\nstream = \"S\"");
    check(
        &with_sink(&format!("{}\n[[sink]]\n{}", nats("a"), nats("b"))),
        warning,
        "sink[1].subject",
        &["'a' and 'b' write to the same subject"],
    );
    let bucket =
        |name: &str| format!("name = \"{name}\"\ntype = \"nats\"\nservers = \"nats://n:1\"\nbucket = \"B\"");
    check(
        &with_sink(&format!("{}\n[[sink]]\n{}", bucket("a"), bucket("b"))),
        warning,
        "sink[1].bucket",
        &["'a' and 'b' write to the same bucket"],
    );
    let different = with_sink(&format!("{}\n[[sink]]\n{}", nats("a"), bucket("b")));
    assert_eq!(problems(&different), []);
}

#[test]
fn a_path_pattern_that_matches_nothing_below_the_roots_is_a_warning_with_the_nearest_root() {
    let sink = |roots: &str, paths: &str| {
        format!(
            "[[source]]\nconnect = \"a:2181\"\nroots = [{roots}]\n[[sink]]\ntype = \"console\"\npaths = [{paths}]\n"
        )
    };
    let text = sink("\"/services\", \"/config\"", "\"/services/a\", \"/servces/**\"");
    let words = ["matches nothing below the roots", "did you mean '/services/**'?"];
    check(&text, Severity::Warning, "sink[0].paths[1]", &words);
    let text = sink("\"/config\"", "\"/orders/**\"");
    check(&text, Severity::Warning, "sink[0].paths[0]", &["add a root"]);
    let fine = sink(
        "\"/services/a\", \"/config\"",
        "\"/services/**\", \"/config/x\", \"**/y\", \"/\"",
    );
    assert_eq!(problems(&fine), []);
}

#[test]
fn a_mask_or_an_exclude_that_matches_nothing_below_the_roots_is_a_warning() {
    let source = |options: &str| {
        let source = "[[source]]\nconnect = \"a:2181\"\nroots = [\"/services\"]";
        format!("{source}\n{options}\n[[sink]]\ntype = \"console\"\n")
    };
    let words = [
        "matches nothing below the roots",
        "did you mean '/services/*/key'?",
    ];
    let mask = source("mask = [\"/services/x/\", \"/servces/*/key\"]");
    check(&mask, Severity::Warning, "source[0].mask[1]", &words);
    let exclude = source("exclude = [\"/orders/**\"]");
    check(
        &exclude,
        Severity::Warning,
        "source[0].exclude[0]",
        &["add a root"],
    );
    let fine = source("mask = [\"/**/key/\", \"/services\"]\nexclude = [\"/services/a/\", \"/*/tmp\"]");
    assert_eq!(problems(&fine), []);
}

#[test]
fn a_sink_for_service_events_that_never_gets_one_is_named() {
    let section = "[[source.service]]\nformat = \"curator\"\nbase = \"/services\"\n";
    let text = |service: &str, sink: &str| {
        format!(
            "[[source]]\nconnect = \"a:2181\"\n{service}[[sink]]\ntype = \"file\"\npath = \"x.jsonl\"\n{sink}\n"
        )
    };
    let events = "format = \"service\"";
    assert_eq!(problems(&text(section, events)), []);
    let words = ["none of its sources has a [[source.service]]", "zkbridge doctor"];
    check(&text("", events), Severity::Warning, "sink[0].format", &words);

    let of_types = |types: &str| text(section, &format!("{events}\nevents = [{types}]"));
    assert_eq!(problems(&of_types("\"instance.*\", \"leader.lost\"")), []);
    let words = [
        "'instance.dwn' is the type of no service event",
        "did you mean 'instance.down'?",
    ];
    let slip = of_types("\"instance.up\", \"instance.dwn\"");
    check(&slip, Severity::Error, "sink[0].events[1]", &words);
    let words = ["'gone*'", "the types are instance.up, instance.down"];
    check(
        &of_types("\"gone*\""),
        Severity::Error,
        "sink[0].events[0]",
        &words,
    );

    let changes = text(section, "zones = [\"a\"]");
    let words = ["'zones' chooses among service events, and the sink delivers changes"];
    check(&changes, Severity::Warning, "sink[0].zones", &words);
}

#[test]
fn a_path_pattern_of_which_a_source_leaves_everything_out_is_a_warning_with_the_option() {
    let config = |roots: &str, exclude: &str, paths: &str| {
        format!(
            "[[source]]\nconnect = \"a:2181\"\nroots = [{roots}]\nexclude = [{exclude}]\n\
             [[sink]]\ntype = \"console\"\npaths = [{paths}]\n"
        )
    };
    for (exclude, paths) in [
        ("\"/b/mix\"", "\"/b/mix/**\""),
        ("\"/b/mix\"", "\"/b/mix\""),
        ("\"/b/mix/**\"", "\"/b/mix/**\""),
        ("\"/b/mix/*\"", "\"/b/mix/**\""),
        ("\"/b/*\"", "\"/b/mix/*/state\""),
        ("\"/b/**/tmp\"", "\"/b/*/tmp/*\""),
        ("\"/b/x\", \"/b/y\"", "\"/b/{x,y}/**\""),
    ] {
        let words = ["matches nothing that is captured: source 'main' leaves it out by exclude '/b/"];
        let text = config("\"/b\"", exclude, paths);
        check(&text, Severity::Warning, "sink[0].paths[0]", &words);
    }
    let of_zookeeper = config("\"/\"", "", "\"/zookeeper/**\"");
    let words = ["the rule that /zookeeper is ZooKeeper's own"];
    check(&of_zookeeper, Severity::Warning, "sink[0].paths[0]", &words);
    for (roots, exclude, paths) in [
        ("\"/b\"", "\"/b/mix/x\"", "\"/b/mix/**\""),
        ("\"/b\"", "\"/b/mix/*/tmp\"", "\"/b/mix/**\""),
        ("\"/b\"", "\"/b/mix/**\"", "\"/b/mix\""),
        ("\"/b\"", "\"/b/mix/????\"", "\"/b/mix/*\""),
        ("\"/b\"", "\"/b/x\"", "\"/b/{x,y}/**\""),
        ("\"/b/mix\"", "\"/b/mix/*\"", "\"/b/**\""),
    ] {
        assert_eq!(problems(&config(roots, exclude, paths)), [], "{exclude} {paths}");
    }
    // Another source of the sink captures what the first one leaves out.
    let other = "[[source]]\nname = \"other\"\nconnect = \"b:2181\"\nroots = [\"/b\"]\n";
    let both = format!("{other}{}", config("\"/b\"", "\"/b/mix\"", "\"/b/mix/**\""));
    assert_eq!(problems(&both), []);
}

#[test]
fn a_sink_that_takes_nothing_but_json_needs_sources_that_write_it() {
    let strict = "[[sink]]\ntype = \"file\"\npath = \"x.jsonl\"\nnot_json = \"reject\"\n";
    let of_source = |data: &str| format!("{strict}[[source]]\nconnect = \"a:2181\"\ndata = \"{data}\"\n");
    for data in ["json", "none"] {
        assert_eq!(problems(&of_source(data)), [], "{data}");
    }
    for data in ["auto", "base64"] {
        let words = ["the source 'main' does not write JSON", "data = \"json\""];
        check(&of_source(data), Severity::Error, "sink[0].not_json", &words);
    }
}

#[test]
fn the_command_of_a_sink_is_a_list_and_its_mistakes_are_reported_where_they_are() {
    let exec = |options: &str| with_sink(&format!("type = \"exec\"\n{options}"));
    let loaded = read_toml(&exec("command = [\"notify\", \"$HOME\"]\nenv = { A = \"b\" }")).unwrap();
    assert_eq!(loaded.warnings, []);
    let SinkKind::Exec(options) = &loaded.config.sinks[0].kind else {
        panic!("{:?}", loaded.config.sinks);
    };
    assert_eq!(options.command, ["notify", "$HOME"]);
    let error = Severity::Error;
    check(&exec("command = \"notify\""), error, "sink[0].command", &["list"]);
    check(
        &exec("command = [\"./notify\"]"),
        error,
        "sink[0].command",
        &["absolute"],
    );
    check(
        &exec("command = [\"a\"]\ndirectory = \"b\""),
        error,
        "sink[0].directory",
        &["'b'"],
    );
    check(
        &exec("command = [\"a\"]\nformat = \"raw\""),
        error,
        "sink[0].format",
        &["flat"],
    );
    check(
        &exec("command = [\"a\"]\nshell = true"),
        error,
        "sink[0].shell",
        &[],
    );
}
