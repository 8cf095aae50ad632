//! A secret that is given in the wrong place, or next to a mistake, is not repeated by any message.

use std::path::Path;

use bridge_config::{Environment, Format, Loaded, Refused, read, settings};

/// A secret that must never be shown. Long enough that no message holds it by chance.
const SECRET: &str = "Hunter2Swordfish";

const PEM: &str = "-----BEGIN PRIVATE KEY-----\\nHunter2Swordfish\\n-----END PRIVATE KEY-----\\n";

const SOURCE: &str = "[[source]]\nconnect = \"a:2181\"\n";

fn read_as(format: Format, text: &str, variables: &[(&str, &str)]) -> Result<Loaded, Refused> {
    let environment = Environment::of(variables.iter().copied());
    read(Path::new("zkbridge"), text, format, &environment)
}

/// Everything that a command prints or a log shows of a result.
fn seen(result: &Result<Loaded, Refused>) -> String {
    let json = |problems: &[bridge_config::Problem]| {
        let all = problems
            .iter()
            .map(|problem| problem.to_json(Path::new("x")).to_string());
        all.collect::<String>()
    };
    match result {
        Ok(loaded) => format!("{loaded:#?} {}", json(&loaded.warnings)),
        Err(refused) => format!("{refused} {refused:#?} {}", json(&refused.problems)),
    }
}

/// Reads a text that has `SECRET` somewhere; it is refused, and no message shows it.
#[track_caller]
fn check_refused(format: Format, text: &str) {
    let result = read_as(format, text, &[]);
    let seen = seen(&result);
    assert!(text.contains(SECRET) && result.is_err(), "not refused:\n{text}");
    assert!(
        !seen.contains(SECRET) && !seen.contains("Hunter2"),
        "{text}\n{seen}"
    );
}

#[test]
fn a_secret_next_to_a_mistake_in_toml_is_not_shown() {
    for wrong in [
        // Quotes that are never closed, and none at all.
        "[source.auth]\nscheme = \"digest\"\nid = \"bridge:S\n",
        "[source.auth]\nscheme = \"digest\"\nid = 'bridge:S\n",
        "[source.auth]\nid = bridge:S\n",
        "[source.auth]\nid == \"S\"\n",
        "[source.auth]\nid \"S\"\n",
        "\"S\"\n",
        // Several lines.
        "[source.auth]\nid = \"\"\"\nfirst\nS=\n",
        "[source.auth]\nid = \"first\nS\nlast\"\n",
        // A text where a table or a list is wanted, and at keys that there are not.
        "auth = \"user:S\"\n",
        "tls = \"S\"\n",
        "auth = [\"S\"]\n",
        "pasword = \"S\"\n",
        "[source.auth]\npasword = \"S\"\n",
        "[source.auth]\nsasl = \"user:S\"\n",
        "\"user:S\" = 1\n",
        "[source.auth]\n\"u@S\" = 1\n",
        // Before the host.
        "[[source]]\nname = \"b\"\nconnect = \"u:S@host:x\"\n",
        "[[sink]]\ntype = \"nats\"\nstream = \"S1\"\nservers = \"http://u:S@host\"\n",
        "[[sink]]\ntype = \"webhook\"\nurl = \"ftp://u:S@host/S\"\n",
        "[[sink]]\ntype = \"nats\"\nstream = \"a\"\nservers = \"nats://h:4222/S\"\n",
        "[[sink]]\ntype = \"nats\"\nstream = \"a\"\nservers = \"http://h?token=S\"\n",
        "[[sink]]\ntype = \"kafka\"\nbrokers = \"h:9092?token=S\"\n",
        "[[source]]\nname = \"b\"\nconnect = \"h:2181?token=S\"\n",
        // Properties of another's library.
        "[[sink]]\ntype = \"kafka\"\nbrokers = \"b\"\nproperties = { \"sasl.pasword\" = \"S\" }\n",
        "[[sink]]\ntype = \"kafka\"\nbrokers = \"b\"\nproperties = { \"sasl.jaas.config\" = \"S\" }\n",
        "[[sink]]\ntype = \"kafka\"\nbrokers = \"b\"\nproperties = \"S\"\n",
        "[[sink]]\ntype = \"webhook\"\nurl = \"http://h\"\nheaders = \"Authorization: S\"\n",
        "[[sink]]\ntype = \"webhook\"\nurl = \"http://h\"\nheaders = { Authorization = [\"S\"] }\n",
        "[[sink]]\ntype = \"webhook\"\nurl = \"http://h\"\nsecrets = \"S\"\n",
        "[[sink]]\ntype = \"exec\"\ncommand = [\"x\"]\nenv = { TOKEN = [\"S\"] }\n",
        "[[sink]]\ntype = \"webhook\"\nurl = \"http://h\"\nsecrets = [\"S\"]\n",
        "[http]\ntoken = [\"S\"]\n",
        "[[http.tokens]]\nname = \"a\"\ntoken = [\"S\"]\n",
        "[[http.tokens]]\nname = \"a\"\ntoken = \"S\"\npasword = \"S\"\n",
        "[[http.tokens]]\nname = \"default\"\ntoken = \"S\"\n",
        "[sink]\npassword = \"S\"\n",
        // A reference that is none.
        "[source.auth]\nscheme = \"digest\"\nid = \"a${not a S}\"\n",
    ] {
        check_refused(Format::Toml, &format!("{SOURCE}{}", wrong.replace('S', SECRET)));
    }
}

#[test]
fn a_file_that_is_one_text_is_not_shown() {
    for (format, text) in [
        (Format::Yaml, "S"),
        (Format::Yaml, "- S\n- S\n"),
        (Format::Yaml, "a: S\n---\nb: S\n"),
        (Format::Json, "\"S\""),
        (Format::Json, "[\"S\"]"),
        (Format::Toml, "S"),
    ] {
        check_refused(format, &text.replace('S', SECRET));
    }
}

#[test]
fn a_secret_next_to_a_mistake_in_yaml_is_not_shown() {
    for wrong in [
        "    auth: user:S\n",
        "    auth:\n      id: a: S\n",
        "    auth:\n      id: \"S\n",
        "    auth:\n      id: 'S\n",
        "    auth:\n      - S\n",
        "    auth:\n      S\n",
        "    auth:\n      id: |\n        first\n       S\n  x: [\n",
        "    auth:\n\tid: S\n",
        "    auth: {id: S\n",
        "    auth: &S *none\n",
        "    S: 1\n    S: 2\n",
        "    S!: 1\n",
    ] {
        let text = format!("source:\n  - connect: a\n{}", wrong.replace('S', SECRET));
        check_refused(Format::Yaml, &text);
    }
}

#[test]
fn a_secret_next_to_a_mistake_in_json_is_not_shown() {
    for wrong in [
        "\"auth\": \"user:S\"",
        "\"auth\": {\"id\": S}",
        "\"auth\": {\"id\": \"S}",
        "\"auth\": {\"id\": \"S\n\"}",
        "\"auth\": {\"id\" \"S\"}",
        "\"auth\": {\"id\": 'S'}",
        "\"auth\": [\"S\"]",
        "\"a S\": 1",
    ] {
        let text = format!(
            "{{\"source\": [{{\"connect\": \"a\",\n{}}}]}}",
            wrong.replace('S', SECRET)
        );
        check_refused(Format::Json, &text);
    }
}

/// Each option that names a file, with a configuration around it.
const PATHS: [&str; 14] = [
    "data_dir = FILE\n[[source]]\nconnect = \"a\"\n",
    "[[source]]\nconnect = \"a\"\n[source.tls]\nca = FILE\n",
    "[[source]]\nconnect = \"a\"\n[source.tls]\nca = \"x\"\nkey = \"x\"\ncert = FILE\n",
    "[[source]]\nconnect = \"a\"\n[source.tls]\nca = \"x\"\ncert = \"x\"\nkey = FILE\n",
    "[[source]]\nconnect = \"a\"\n[[sink]]\ntype = \"file\"\npath = FILE\n",
    "[[source]]\nconnect = \"a\"\n[[sink]]\ntype = \"nats\"\nservers = \"a\"\nstream = \"b\"\nauth = { creds = FILE }\n",
    "[[source]]\nconnect = \"a\"\n[[sink]]\ntype = \"nats\"\nservers = \"a\"\nstream = \"b\"\ntls = { ca = FILE }\n",
    "[[source]]\nconnect = \"a\"\n[[sink]]\ntype = \"nats\"\nservers = \"a\"\nstream = \"b\"\ntls = { key = FILE, cert = \"x\" }\n",
    "[[source]]\nconnect = \"a\"\n[[sink]]\ntype = \"webhook\"\nurl = \"https://h/\"\ntls = { ca = FILE }\n",
    "[[source]]\nconnect = \"a\"\n[[sink]]\ntype = \"webhook\"\nurl = \"https://h/\"\ntls = { cert = FILE, key = \"x\" }\n",
    "[[source]]\nconnect = \"a\"\n[[sink]]\ntype = \"webhook\"\nurl = \"https://h/\"\ntls = { key = FILE, cert = \"x\" }\n",
    "[[source]]\nconnect = \"a\"\n[[sink]]\ntype = \"kafka\"\nbrokers = \"b\"\nproperties = { \"ssl.key.location\" = FILE }\n",
    "[[source]]\nconnect = \"a\"\n[[sink]]\ntype = \"exec\"\ncommand = [FILE]\n",
    "[[source]]\nconnect = \"a\"\n[[sink]]\ntype = \"exec\"\ncommand = [\"x\"]\ndirectory = FILE\n",
];

#[test]
fn the_contents_of_a_file_where_its_path_is_wanted_are_refused_and_not_shown() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("key.pem");
    let pem = PEM.replace("\\n", "\n");
    std::fs::write(&file, &pem).unwrap();
    let of_file = format!("\"${{file:{}}}\"", file.display());
    for text in PATHS {
        for value in [of_file.as_str(), "\"${KEY}\"", &format!("\"{PEM}\"")] {
            let text = text.replace("FILE", value);
            let result = read_as(Format::Toml, &text, &[("KEY", &pem)]);
            let seen = seen(&result);
            assert!(!seen.contains("Hunter2"), "{text}\n{seen}");
            let refused = result.expect_err(&text);
            assert!(seen.contains("give the path"), "{refused}");
        }
    }
}

#[test]
fn a_path_of_a_file_may_come_from_a_variable() {
    for text in PATHS {
        let text = text.replace("FILE", "\"${KEY_FILE}\"");
        let result = read_as(Format::Toml, &text, &[("KEY_FILE", "/etc/key.pem")]);
        assert!(result.is_ok(), "{text}\n{}", seen(&result));
    }
}

#[test]
fn the_keys_in_effect_show_no_contents_of_a_file_and_no_user_with_a_password() {
    let text = format!(
        "{SOURCE}[[sink]]\ntype = \"kafka\"\nbrokers = \"u:{SECRET}@host\"\n[sink.properties]\n\
         \"ssl.certificate.pem\" = \"{PEM}\"\n\"ssl.key.pem\" = \"{PEM}\"\n"
    );
    let environment = Environment::of([("X", "x"); 0]);
    match settings(Path::new("zkbridge"), &text, Format::Toml, &environment) {
        Ok(settings) => {
            let shown = serde_json::to_string(&settings).unwrap();
            assert!(!shown.contains("Hunter2"), "{shown}");
        }
        Err(refused) => assert!(!refused.to_string().contains("Hunter2"), "{refused}"),
    }
}
