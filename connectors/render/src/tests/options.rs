//! Options that cannot work are found without touching a file.

use crate::RenderConfig;

fn keys(options: &str) -> Vec<String> {
    let start = "tree = '/app'\npath = '/etc/app.conf'\n";
    let config: RenderConfig = toml::from_str(&format!("{start}{options}")).unwrap();
    config.objections().into_iter().map(|found| found.key).collect()
}

#[test]
fn options_that_cannot_work_are_reported_by_their_key() {
    let check = |options: &str, expected: &[&str]| assert_eq!(keys(options), expected, "{options}");
    let fine = "template = '{{ path }}'\n";
    let with = |more: &str, expected: &[&str]| check(&format!("{fine}{more}"), expected);
    with("", &[]);
    with("reload = ['systemctl', 'reload', 'nginx']", &[]);
    with(
        "verify = ['haproxy', '-c', '-f', '{file}']\nenv = { A = 'b' }",
        &[],
    );
    with("verify = ['haproxy', '-c', '-f']", &["verify"]);
    with("reload = []", &["reload"]);
    with("reload = ['systemctl reload nginx']", &["reload"]);
    with("reload = ['true', '{file}']", &["reload"]);
    with(
        "verify = ['a', '{file}']\nreload = ['b']\ndirectory = 'x'",
        &["directory"],
    );
    with("reload = ['true']\ntimeout = '1ms'", &["timeout"]);
    with("env = { A = 'b' }", &["env"]);
    with("debounce = '1h'", &["debounce"]);
    with("max_znodes = 0", &["max_znodes"]);
    with("max_file = '1 GiB'", &["max_file"]);
    with("mode = '0040'", &["mode"]);
    check("template = '{{ record }}'", &["template"]);
    check("template = '{{ path'", &["template"]);
    check("template = '{{ path | nothing }}'", &["template"]);
}

#[test]
fn a_path_that_names_a_folder_is_reported() {
    for path in ["/", "/etc/", ""] {
        let config = RenderConfig::new(super::path("/app"), path, "x");
        let found: Vec<String> = config.objections().into_iter().map(|found| found.key).collect();
        assert_eq!(found, ["path"], "{path}");
    }
}

#[test]
fn a_mode_is_octal_in_quotation_marks() {
    let read = |mode: &str| {
        let text = format!("tree = '/a'\npath = '/b'\ntemplate = ''\nmode = {mode}");
        let read: Result<RenderConfig, _> = toml::from_str(&text);
        read.map(|config| config.mode.to_string()).ok()
    };
    assert_eq!(read("'0640'").as_deref(), Some("0640"));
    assert_eq!(read("'600'").as_deref(), Some("0600"));
    for wrong in ["640", "'0888'", "'4755'", "'u+rw'", "''", "'06400'"] {
        assert_eq!(read(wrong), None, "{wrong}");
    }
}
