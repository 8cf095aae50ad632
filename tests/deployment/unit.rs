//! The unit of systemd.

use std::process::Command;

use super::text;

const INSTALLED: &str = "/usr/local/bin/zkbridge";

#[test]
fn systemd_accepts_the_unit() {
    // The tool requires the programs to exist, and a test cannot install them.
    let unit = text("systemd/zkbridge.service").replace(INSTALLED, env!("CARGO_BIN_EXE_zkbridge"));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("zkbridge.service");
    std::fs::write(&file, &unit).unwrap();

    let verified = Command::new("systemd-analyze")
        .args(["verify", "--man=no"])
        .arg(&file)
        .output()
        .expect("systemd-analyze is there: run make setup");

    let said = String::from_utf8_lossy(&verified.stderr);
    // The tool also checks units of the machine; complaints about those are ignored.
    let ours: Vec<&str> = said.lines().filter(|line| line.contains("zkbridge")).collect();
    assert!(verified.status.success() && ours.is_empty(), "{said}");
}

#[test]
fn the_unit_reloads_tries_again_unless_a_person_has_to_act_and_lets_file_sinks_write_their_log_directory() {
    let unit = text("systemd/zkbridge.service");
    for line in [
        "ExecReload=/usr/local/bin/zkbridge reload --config /etc/zkbridge/zkbridge.toml",
        "StartLimitIntervalSec=0",
        "RestartPreventExitStatus=2 4",
        "Type=notify",
        "WatchdogSec=60s",
        "LimitCORE=0",
        "MemoryMax=1G",
        "LogsDirectory=zkbridge",
        "Restart=on-failure",
    ] {
        assert!(unit.lines().any(|own| own == line), "{line}");
    }
    // Only the code of the main process prevents a restart.
    assert!(!unit.lines().any(|line| line.starts_with("ExecStartPre")));
    // A clean end is no failure: it must not be named as an exception.
    assert!(!unit.contains("SuccessExitStatus"));
}

#[test]
fn systemd_refuses_a_unit_with_an_unknown_setting() {
    let unit = text("systemd/zkbridge.service").replace("PrivateTmp=yes", "PrivateTemp=yes");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("zkbridge.service");
    std::fs::write(&file, unit).unwrap();

    let verified = Command::new("systemd-analyze")
        .args(["verify", "--man=no"])
        .arg(&file)
        .output();

    let said = String::from_utf8_lossy(&verified.unwrap().stderr).into_owned();
    assert!(said.contains("PrivateTemp"), "{said}");
}
