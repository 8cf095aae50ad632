//! The writer of image archives, and the reader that the test of the packages trusts.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Output};

use bridge_servers::real_servers;

/// Runs one of the scripts of the packages.
fn script(name: &str, words: &[&str]) -> Output {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging").join(name);
    let mut command = Command::new("python3");
    command.arg(file).args(words);
    command.output().expect("python3 is there: run make setup")
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A folder with two layers, and the configuration of an image.
fn stage(folder: &Path) {
    let place = |name: &str| folder.join(name);
    fs::create_dir_all(place("base/etc")).unwrap();
    fs::create_dir_all(place("top/bin")).unwrap();
    fs::write(place("base/etc/name"), "below").unwrap();
    symlink("etc/name", place("base/link")).unwrap();
    fs::write(place("top/bin/program"), "above").unwrap();
    fs::set_permissions(place("top/bin/program"), fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(
        place("config.json"),
        r#"{"User": "65532:0", "Labels": {"title": "zkbridge"}}"#,
    )
    .unwrap();
}

fn write(folder: &Path, archive: &str) {
    let place = |name: &str| folder.join(name).to_str().unwrap().to_owned();
    let (output, config, base, top) = (place(archive), place("config.json"), place("base"), place("top"));
    let words = [
        "--output",
        &output,
        "--architecture",
        "amd64",
        "--created",
        "1795348800",
        "--config",
        &config,
        &base,
        &top,
    ];
    let written = script("oci.py", &words);
    assert!(written.status.success(), "{}", said(&written));
}

#[test]
fn an_image_archive_has_the_same_bytes_each_time_and_unpacks_to_its_layers() {
    real_servers!("image archives are written with Python");
    let folder = tempfile::tempdir().unwrap();
    let place = |name: &str| folder.path().join(name);
    stage(folder.path());
    write(folder.path(), "first.tar");
    // Other times of the files, and another order of their creation.
    fs::remove_file(place("base/etc/name")).unwrap();
    fs::write(place("base/etc/name"), "below").unwrap();
    write(folder.path(), "second.tar");
    let first = fs::read(place("first.tar")).unwrap();
    assert_eq!(first, fs::read(place("second.tar")).unwrap());

    // Owners need root; here the layers are those of this user.
    let (archive, root) = (place("first.tar"), place("root"));
    let unpacked = script("unpack.py", &[archive.to_str().unwrap(), root.to_str().unwrap()]);
    if nix::unistd::Uid::effective().is_root() {
        assert!(unpacked.status.success(), "{}", said(&unpacked));
        let config: serde_json::Value = serde_json::from_slice(&unpacked.stdout).unwrap();
        assert_eq!(config["User"], "65532:0");
        assert_eq!(fs::read_to_string(root.join("link")).unwrap(), "below");
        assert_eq!(fs::read_to_string(root.join("bin/program")).unwrap(), "above");
        let mode = fs::metadata(root.join("bin/program"))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o755);
    }
}

#[test]
fn an_archive_with_a_changed_blob_is_refused() {
    real_servers!("image archives are read with Python");
    let folder = tempfile::tempdir().unwrap();
    stage(folder.path());
    write(folder.path(), "image.tar");
    let archive = folder.path().join("image.tar");
    let mut bytes = fs::read(&archive).unwrap();
    // In the configuration of the image, which is text.
    let label = b"\"title\":\"zkbridge\"";
    let at = bytes
        .windows(label.len())
        .position(|window| window == label)
        .unwrap();
    bytes[at + 9] = b'Z';
    fs::write(&archive, bytes).unwrap();
    let root = folder.path().join("root");
    let refused = script("unpack.py", &[archive.to_str().unwrap(), root.to_str().unwrap()]);
    assert!(!refused.status.success());
    assert!(
        said(&refused).contains("has another digest"),
        "{}",
        said(&refused)
    );
}
