//! Files with owners, modes and links, and folders that refuse.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::Path;

use bridge_core::record::Op;
use bridge_core::sink::{Sink, SinkErrorKind};

use super::{Place, deliver};
use crate::{FileMode, error};

fn mode(file: impl AsRef<Path>) -> u32 {
    fs::metadata(file).unwrap().mode() & 0o7777
}

#[tokio::test]
async fn a_new_file_gets_the_mode_of_the_options_and_an_existing_one_keeps_its_own() {
    let mut place = Place::with(&[("a", "1")]);
    place.config.mode = FileMode(0o604);
    let mut sink = place.sink();
    sink.open().await.unwrap();
    assert_eq!(mode(place.file()), 0o604);
    fs::set_permissions(place.file(), Permissions::from_mode(0o4711)).unwrap();
    let record = place.change(Op::Update, "/app/a", "2");
    deliver(&mut sink, &record).await.unwrap();
    assert_eq!((place.text().as_str(), mode(place.file())), ("a=2\n", 0o4711));
}

#[tokio::test]
async fn the_owner_is_kept_or_the_file_is() {
    let mut place = Place::with(&[("a", "1")]);
    let mut sink = place.sink();
    sink.open().await.unwrap();
    let own = fs::metadata(place.file()).unwrap().uid();
    // Only root may give files away; for others the rule is tried with the file that they cannot give back.
    if chown(place.file(), Some(own + 4_000), Some(4_001)).is_err() {
        return assert_ne!(own, 0, "root may give files away");
    }
    let record = place.change(Op::Update, "/app/a", "2");
    deliver(&mut sink, &record).await.unwrap();
    let found = fs::metadata(place.file()).unwrap();
    assert_eq!((found.uid(), found.gid()), (own + 4_000, 4_001));
    assert_eq!(place.text(), "a=2\n");
}

#[tokio::test]
async fn a_lock_that_leads_elsewhere_is_refused_and_nothing_is_written_through_it() {
    let mut place = Place::with(&[("a", "1")]);
    place.config.reload = place.script("true");
    fs::write(place.at("other"), "kept").unwrap();
    let lock = place.at(".app.conf.zkbridge");
    let links = [place.at("other"), "/dev/zero".to_owned(), place.at("missing")];
    for target in links {
        symlink(&target, &lock).unwrap();
        let refused = place.sink().open().await.unwrap_err();
        assert_eq!(refused.kind, SinkErrorKind::Configuration, "{target}: {refused}");
        assert!(refused.message.contains("remove it"), "{refused}");
        fs::remove_file(&lock).unwrap();
    }
    // Opening a pipe would wait for its other end.
    let made = std::process::Command::new("mkfifo").arg(&lock).status();
    assert!(made.unwrap().success());
    let refused = place.sink().open().await.unwrap_err();
    assert_eq!(refused.kind, SinkErrorKind::Configuration, "{refused}");
    assert_eq!(fs::read_to_string(place.at("other")).unwrap(), "kept");
    assert!(!place.file().exists() && !Path::new(&place.at("missing")).exists());
    fs::remove_file(&lock).unwrap();
    place.sink().open().await.unwrap();
    assert_eq!(place.text(), "a=1\n");
}

#[tokio::test]
async fn a_link_stays_a_link_and_its_target_is_written() {
    let mut place = Place::with(&[("a", "1")]);
    fs::create_dir(place.at("real")).unwrap();
    fs::write(place.at("real/target"), "").unwrap();
    symlink(place.at("real/target"), place.file()).unwrap();
    place.sink().open().await.unwrap();
    assert!(fs::symlink_metadata(place.file()).unwrap().is_symlink());
    assert_eq!(fs::read_to_string(place.at("real/target")).unwrap(), "a=1\n");
    fs::remove_file(place.at("real/target")).unwrap();
    let refused = place.sink().open().await.unwrap_err();
    assert_eq!(refused.kind, SinkErrorKind::Missing, "{refused}");
    place.config.path = place.at("real").into();
    let refused = place.sink().open().await.unwrap_err();
    assert_eq!(refused.kind, SinkErrorKind::Configuration, "{refused}");
}

#[tokio::test]
async fn a_folder_that_is_missing_is_named_and_not_made() {
    let mut place = Place::with(&[("a", "1")]);
    place.config.path = place.at("no/app.conf").into();
    let mut sink = place.sink();
    let refused = sink.open().await.unwrap_err();
    assert_eq!(refused.kind, SinkErrorKind::Missing);
    assert!(refused.message.contains(&place.at("no")), "{refused}");
    fs::create_dir(place.at("no")).unwrap();
    sink.open().await.unwrap();
    assert_eq!(fs::read_to_string(place.at("no/app.conf")).unwrap(), "a=1\n");
}

#[tokio::test]
async fn what_a_crash_left_beside_the_file_is_replaced_and_a_trap_there_is_not_followed() {
    let place = Place::with(&[("a", "1")]);
    let staged = place.at(".app.conf.zkbridge-new");
    fs::write(&staged, "half a te").unwrap();
    place.sink().open().await.unwrap();
    assert_eq!((place.text().as_str(), place.names().len()), ("a=1\n", 1));
    fs::remove_file(place.file()).unwrap();
    fs::write(place.at("victim"), "somebody's").unwrap();
    symlink(place.at("victim"), &staged).unwrap();
    place.sink().open().await.unwrap();
    assert_eq!(fs::read_to_string(place.at("victim")).unwrap(), "somebody's");
    assert_eq!(place.text(), "a=1\n");
}

#[test]
fn each_refusal_of_the_file_system_has_its_kind() {
    let check = |code: i32, expected: SinkErrorKind| {
        let refusal = std::io::Error::from_raw_os_error(code);
        let found = error::at(Path::new("/x"), "write", refusal).kind;
        assert_eq!(found, expected, "{code}");
    };
    let (enoent, eio, eacces, enotdir, enospc, erofs) = (2, 5, 13, 20, 28, 30);
    check(enoent, SinkErrorKind::Missing);
    check(eio, SinkErrorKind::Unavailable);
    check(eacces, SinkErrorKind::Authorization);
    check(erofs, SinkErrorKind::Authorization);
    check(enotdir, SinkErrorKind::Configuration);
    check(enospc, SinkErrorKind::Full);
}
