//! Checks that no other user can write to `data_dir`, and that it outlives a container.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::unistd::Uid;

/// The remedy for a folder that others can change.
pub const HELP: &str = "give data_dir to the user of the bridge, with the mode 0700";

/// The remedy for a folder that goes with its container.
pub const VOLUME_HELP: &str = "mount a volume with a name, or a folder of the host, at data_dir";

/// The mode's bits for writing by the group and by others.
const OTHERS_WRITE: u32 = 0o022;
/// Of them, that of the group.
const GROUP_WRITES: u32 = 0o020;
/// The group of root, in which OpenShift runs containers: no other user is in it.
const ROOT_GROUP: u32 = 0;

/// The mounts of this process.
const MOUNTS: &str = "/proc/self/mountinfo";

/// The digits of a name that Docker makes for a volume without one.
const ANONYMOUS_DIGITS: usize = 64;

/// Why files in a folder may be changed, replaced or read by another user; `None` if they may not, or if there is no such
/// folder yet.
pub fn objection(folder: &Path) -> io::Result<Option<String>> {
    let metadata = match fs::metadata(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other?,
    };
    let own = Uid::effective().as_raw();
    Ok(reason(metadata.uid(), metadata.gid(), metadata.mode(), own))
}

/// Why a folder does not outlive its container or the machine's next start; `None` if it does, or if that cannot be found
/// out.
pub fn volatility(folder: &Path) -> Option<String> {
    let mounts = fs::read_to_string(MOUNTS).ok()?;
    let absolute = std::path::absolute(folder).ok()?;
    // It may not be there yet.
    let existing = absolute.ancestors().find_map(|path| path.canonicalize().ok())?;
    volatility_of(&existing, &mounts)
}

/// The place of an `emptyDir` below the directory of the kubelet.
const EMPTY_DIR: &str = "/volumes/kubernetes.io~empty-dir/";

fn volatility_of(folder: &Path, mounts: &str) -> Option<String> {
    let mounts = mounts.lines().filter_map(Mount::of_line);
    // Of two at one place the later one covers the other.
    let mount = mounts
        .filter(|mount| folder.starts_with(&mount.place))
        .max_by_key(|mount| mount.place.components().count())?;
    match mount.kind {
        "overlay" if mount.place == Path::new("/") => {
            Some("it is in the writable layer of the container, and goes with it".to_owned())
        }
        "tmpfs" | "ramfs" => Some(format!("it is in memory ({})", mount.kind)),
        _ if mount.root.contains(EMPTY_DIR) => {
            Some("it is an emptyDir of Kubernetes, and goes with its pod".to_owned())
        }
        _ if mount.is_anonymous_volume() => {
            Some("it is a volume without a name, which no later container gets".to_owned())
        }
        _ => None,
    }
}

/// A line of [`MOUNTS`].
struct Mount<'a> {
    /// The folder in the file system that is mounted.
    root: &'a str,
    place: PathBuf,
    kind: &'a str,
}

impl<'a> Mount<'a> {
    /// `36 35 98:0 /root /place options - kind source options`, with further fields before the `-`.
    fn of_line(line: &'a str) -> Option<Mount<'a>> {
        let (before, after) = line.split_once(" - ")?;
        let mut fields = before.split(' ').skip(3);
        Some(Mount {
            root: fields.next()?,
            place: PathBuf::from(fields.next()?.replace("\\040", " ")),
            kind: after.split(' ').next()?,
        })
    }

    fn is_anonymous_volume(&self) -> bool {
        let name = self
            .root
            .strip_suffix("/_data")
            .and_then(|root| root.rsplit('/').next());
        name.is_some_and(|name| {
            name.len() == ANONYMOUS_DIGITS && name.bytes().all(|byte| byte.is_ascii_hexdigit())
        })
    }
}

fn reason(owner: u32, group: u32, mode: u32, own: u32) -> Option<String> {
    if owner != own {
        return Some(format!(
            "it belongs to the user {owner}, and this process runs as {own}"
        ));
    }
    let mode = mode & 0o7777;
    let writers = match group {
        ROOT_GROUP => OTHERS_WRITE & !GROUP_WRITES,
        _ => OTHERS_WRITE,
    };
    (mode & writers != 0).then(|| format!("its mode {mode:04o} lets others write to it"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_of_another_user_or_that_others_may_write_to_is_objected_to() {
        let check = |owner, group, mode, words: Option<&str>| {
            let found = reason(owner, group, mode, 1000);
            assert_eq!(found.is_some(), words.is_some(), "{found:?}");
            assert!(words.is_none_or(|words| found.unwrap().contains(words)));
        };
        check(1000, 1000, 0o040_700, None);
        check(1000, 1000, 0o040_755, None);
        check(1000, 1000, 0o040_775, Some("0775"));
        check(1000, 0, 0o040_770, None);
        check(1000, 0, 0o040_772, Some("0772"));
        check(1000, 1000, 0o041_777, Some("1777"));
        check(0, 0, 0o040_700, Some("user 0"));
        assert_eq!(objection(Path::new("/nowhere/at/all")).unwrap(), None);
    }
    #[test]
    fn a_folder_that_goes_with_its_container_is_named_and_a_volume_is_not() {
        let named = "36 25 8:1 /var/lib/docker/volumes/journal/_data /named rw - ext4 /dev/vda rw";
        let anonymous = format!(
            "37 25 8:1 /var/lib/docker/volumes/{}/_data /any\\040name rw shared:1 - ext4 /dev/vda rw",
            "0123456789abcdef".repeat(4)
        );
        let pod = "38 25 8:1 /var/lib/kubelet/pods/5f0c/volumes/kubernetes.io~empty-dir/data /pod rw - ext4 /dev/vda rw\n\
                   39 25 8:2 / /claim rw - ext4 /dev/vdb rw";
        let container = format!(
            "25 1 0:50 / / rw master:1 - overlay overlay rw,lowerdir=/a\n26 25 0:51 / /memory rw - tmpfs tmpfs rw\n\
             {named}\n{anonymous}\nno line of this kind\n"
        );
        let machine = "25 1 8:1 / / rw - ext4 /dev/vda rw";
        let check = |folder: &str, mounts: &str, words: Option<&str>| {
            let found = volatility_of(Path::new(folder), mounts);
            assert_eq!(found.is_some(), words.is_some(), "{folder}: {found:?}");
            assert!(
                words.is_none_or(|words| found.unwrap().contains(words)),
                "{folder}"
            );
        };
        check("/var/lib/zkbridge", &container, Some("writable layer"));
        check("/memory/data", &container, Some("tmpfs"));
        check("/any name/data", &container, Some("without a name"));
        check("/named/data", &container, None);
        check("/named", &container, None);
        check("/namedelse", &container, Some("writable layer"));
        check("/pod/journals", pod, Some("goes with its pod"));
        check("/claim/journals", pod, None);
        check("/var/lib/zkbridge", machine, None);
        check("/var/lib/zkbridge", "", None);
    }
}
