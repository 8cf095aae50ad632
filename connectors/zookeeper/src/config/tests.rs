//! The options of a source: what is taken, what is refused, and with which words.

use bridge_core::issue::Severity;
use serde_json::json;

use super::*;

fn read(options: serde_json::Value) -> ZookeeperConfig {
    serde_json::from_value(options).unwrap()
}

/// The keys and messages of the objections to these options, besides a connect string.
fn objections(mut options: serde_json::Value) -> Vec<(Severity, String, String)> {
    options["connect"] = json!("127.0.0.1:2181");
    let found = read(options).objections();
    found
        .into_iter()
        .map(|one| (one.severity, one.key, one.message))
        .collect()
}

#[test]
fn only_connect_must_be_given() {
    let options = read(json!({"connect": "a"}));
    assert!(options == ZookeeperConfig::new("a:2181".parse().unwrap()));
    assert_eq!(options.objections(), []);
    assert!(serde_json::from_value::<ZookeeperConfig>(json!({})).is_err());
}

#[test]
fn a_connect_string_is_taken_apart() {
    let server = |host: &str, port| Server {
        host: host.to_owned(),
        port,
    };
    let check = |text: &str, servers: &[Server], chroot: Option<&str>| {
        let connect: Connect = text.parse().unwrap();
        assert_eq!(connect.servers(), servers, "{text}");
        assert_eq!(connect.chroot().map(ZnodePath::as_str), chroot, "{text}");
    };
    check("a", &[server("a", 2181)], None);
    check("a:1, b:2/x/y", &[server("a", 1), server("b", 2)], Some("/x/y"));
    check(
        "[::1]:2182,10.0.0.1/",
        &[server("::1", 2182), server("10.0.0.1", 2181)],
        None,
    );
    assert_eq!(
        "a, [::1]/x".parse::<Connect>().unwrap().as_str(),
        "a:2181,[::1]:2181/x"
    );
}

#[test]
fn a_text_that_is_no_connect_string_is_refused_with_its_reason() {
    let check = |text: &str, reason: &str| {
        let error = text.parse::<Connect>().unwrap_err().to_string();
        assert!(
            error.contains(reason) && error.contains("a:2181,b:2181"),
            "{text}: {error}"
        );
    };
    check("", "a server has no name");
    check("a:2181,", "a server has no name");
    check("a:0", "'0' of server 'a' is not a port");
    check("a:port", "'port' of server 'a' is not a port");
    check("a:70000", "'70000' of server 'a'");
    check("::1", "in brackets");
    check("[::1", "lacks its ']'");
    check("zk://a:2181", "leave 'zk://' out");
    check("a/x,b/x", "after the last server");
    check("a/x//y", "empty name");
    check("a b:2181", "holds ' '");
}

#[test]
fn roots_must_not_overlap_nor_be_zookeepers_own() {
    let check = |roots: &[&str], key: &str, word: &str| {
        let found = objections(json!({"roots": roots}));
        let [(Severity::Error, at, message)] = &found[..] else {
            panic!("{roots:?}: {found:?}");
        };
        assert!(at == key && message.contains(word), "{roots:?}: {at} {message}");
    };
    check(&[], "roots", "no root");
    check(&["/a", "/a"], "roots[1]", "given twice");
    check(&["/a/b", "/c", "/a"], "roots[2]", "'/a' covers '/a/b'");
    check(&["/", "/a"], "roots[1]", "'/' covers '/a'");
    check(&["/zookeeper/quota"], "roots[0]", "own znodes");
    check(
        &["/a", "/zkbridge/b"],
        "roots[1]",
        "'/zkbridge' is left out for the canary",
    );
    assert_eq!(objections(json!({"roots": ["/a", "/ab"]})), []);
}

#[test]
fn the_area_left_out_for_the_canary_holds_no_root_and_is_no_larger_than_needed() {
    let check = |canary: &str, root: &str, own: &str, expected: Option<&str>| {
        let mut options = ZookeeperConfig::new("a:2181".parse().unwrap());
        options.canary_path = ZnodePath::parse(canary).unwrap();
        assert_eq!(options.own_area().as_str(), own, "{canary}");
        let found = objections(json!({"roots": [root], "canary_path": canary}));
        let found = found.first().map(|(_, at, _)| at.as_str());
        assert_eq!(found, expected, "{canary} {root}");
    };
    check("/zkbridge/canary", "/", "/zkbridge", None);
    check("/zkbridge/of/a/team", "/zkbridges", "/zkbridge", None);
    check("/team/canary", "/team", "/team/canary", None);
    check("/team/canary", "/team/canary/x", "/team/canary", Some("roots[0]"));
    check("/", "/a", "/", Some("roots[0]"));
    check(
        "/zookeeper/canary",
        "/a",
        "/zookeeper/canary",
        Some("canary_path"),
    );
}

#[test]
fn a_glob_takes_a_path_with_all_below_it() {
    let check = |glob: &str, path: &str, expected: bool| {
        assert_eq!(
            glob.parse::<PathGlob>().unwrap().takes(path),
            expected,
            "{glob} {path}"
        );
    };
    check("/a/*", "/a/b", true);
    check("/a/*", "/a/b/c", true);
    check("/a/*", "/a", false);
    check("/a/**", "/a", false);
    check("/a/**", "/a/b/c", true);
    check("/**/lock-*", "/x/y/lock-1/z", true);
    for bad in ["a", "/a/[", ""] {
        assert!(bad.parse::<PathGlob>().is_err(), "{bad}");
    }
}

#[test]
fn a_glob_that_takes_a_whole_root_is_refused() {
    let found = objections(json!({"roots": ["/a/b"], "exclude": ["/x", "/a"]}));
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].1, "exclude[1]");
}

#[test]
fn times_outside_of_what_servers_grant_are_warned_about() {
    let check = |options, expected: Option<Severity>| {
        let found = objections(options);
        assert_eq!(
            found.first().map(|(severity, ..)| *severity),
            expected,
            "{found:?}"
        );
    };
    check(json!({"session_timeout": "1ms"}), Some(Severity::Error));
    check(json!({"session_timeout": "1s"}), Some(Severity::Warning));
    check(json!({"session_timeout": "4s"}), None);
    check(json!({"session_timeout": "5m"}), Some(Severity::Warning));
    check(json!({"reconcile_every": "1s"}), Some(Severity::Warning));
    check(json!({"reconcile_every": "off"}), None);
    check(json!({"heartbeat": "0s"}), Some(Severity::Error));
    check(json!({"max_data": "0 B"}), Some(Severity::Error));
}

#[test]
fn credentials_are_whole_or_refused_without_being_shown() {
    let check = |auth: serde_json::Value, key: &str| {
        let found = objections(json!({"auth": auth}));
        assert_eq!(found.len(), 1, "{auth}: {found:?}");
        assert_eq!(found[0].1, key, "{auth}");
        assert!(!format!("{found:?}").contains("hunter2"), "{found:?}");
    };
    check(json!({}), "auth");
    check(json!({"scheme": "digest"}), "auth.scheme");
    check(json!({"id": "u:hunter2"}), "auth.id");
    check(json!({"scheme": "digest", "id": "hunter2"}), "auth.id");
    check(json!({"scheme": "digest", "id": "u:p", "user": "u"}), "auth");
    check(json!({"sasl": "digest-md5", "user": "u"}), "auth");
    assert_eq!(objections(json!({"auth": {"scheme": "digest", "id": "u:p"}})), []);
    let digest = json!({"scheme": "digest", "id": "u:p"});
    let sasl = json!({"sasl": "digest-md5", "user": "u", "password": "p"});
    assert_eq!(objections(json!({"auth": []})), []);
    assert_eq!(objections(json!({"auth": [digest, digest, sasl]})), []);
    check(
        json!([digest, {"scheme": "digest", "id": "hunter2"}]),
        "auth[1].id",
    );
    check(json!([sasl, digest, sasl]), "auth[2]");
    check(json!(vec![digest; 17]), "auth");
    assert_eq!(
        objections(json!({"auth": {"sasl": "digest-md5", "user": "u", "password": "p"}})),
        []
    );
}

#[test]
fn tls_needs_an_authority_and_a_whole_identity() {
    let keys = |tls: serde_json::Value| -> Vec<String> {
        let found = objections(json!({"tls": tls}));
        found.into_iter().map(|(_, key, _)| key).collect()
    };
    assert_eq!(keys(json!({"ca": "ca.pem"})), [""; 0]);
    assert_eq!(keys(json!({"ca": "ca.pem", "cert": "c.pem"})), ["tls.cert"]);
    assert_eq!(keys(json!({"key": "k.pem"})), ["tls.key", "tls.ca"]);
    let unnamed = objections(json!({"tls": {"ca": "ca.pem", "verify_hostname": false}}));
    let [(Severity::Warning, key, message)] = &unnamed[..] else {
        panic!("{unnamed:?}");
    };
    assert!(
        key == "tls.verify_hostname" && message.contains("pose as the ensemble"),
        "{message}"
    );
}

#[test]
fn a_session_timeout_that_would_overflow_is_refused() {
    let found = objections(json!({"session_timeout": "5124095576030431h"}));
    assert!(
        matches!(&found[..], [(Severity::Error, key, message)]
            if key == "session_timeout" && message.contains("longer than any server grants")),
        "{found:?}"
    );
}

#[test]
fn other_credentials_take_the_place_of_those_of_the_source_and_are_sent_in_the_same_way() {
    let mut config = ZookeeperConfig::new("a:2181".parse().unwrap());
    let other = |config: &ZookeeperConfig, text: &str| config.with_credentials(&Secret::new(text));
    let digest = other(&config, "user:pass:word").unwrap();
    let id = Secret::new("user:pass:word");
    let of_digest: Vec<Credentials<'_>> = digest.auth.credentials().collect();
    assert!(of_digest == [Credentials::Digest { id: &id }]);

    config.auth = Auth {
        sasl: Some(SaslMechanism::DigestMd5),
        user: Some("bridge".to_owned()),
        password: Some(Secret::new("of the bridge")),
        ..Auth::default()
    }
    .into();
    let sasl = other(&config, "user:pass:word").unwrap();
    let password = Secret::new("pass:word");
    let of_sasl: Vec<Credentials<'_>> = sasl.auth.credentials().collect();
    let expected = Credentials::DigestMd5 {
        user: "user",
        password: &password,
    };
    assert!(of_sasl == [expected]);
    for wrong in ["", "user", "user:", ":password"] {
        let error = other(&config, wrong).err().map(|error| error.message);
        assert!(
            error.is_some_and(|error| error.contains("user:password")),
            "{wrong}"
        );
    }
}
