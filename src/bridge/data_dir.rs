//! Checks that no other user can write to `data_dir`.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::unistd::Uid;

/// The remedy for a folder that others can change.
pub const HELP: &str = "give data_dir to the user of the bridge, with the mode 0700";

/// The mode's bits for writing by the group and by others.
const OTHERS_WRITE: u32 = 0o022;

/// Why files in a folder may be changed, replaced or read by another user; `None` if they may not, or if there is no such
/// folder yet.
pub fn objection(folder: &Path) -> io::Result<Option<String>> {
    let metadata = match fs::metadata(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other?,
    };
    Ok(reason(metadata.uid(), metadata.mode(), Uid::effective().as_raw()))
}

fn reason(owner: u32, mode: u32, own: u32) -> Option<String> {
    if owner != own {
        return Some(format!(
            "it belongs to the user {owner}, and this process runs as {own}"
        ));
    }
    let mode = mode & 0o7777;
    (mode & OTHERS_WRITE != 0).then(|| format!("its mode {mode:04o} lets others write to it"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_of_another_user_or_that_others_may_write_to_is_objected_to() {
        let check = |owner, mode, words: Option<&str>| {
            let found = reason(owner, mode, 1000);
            assert_eq!(found.is_some(), words.is_some(), "{found:?}");
            assert!(words.is_none_or(|words| found.unwrap().contains(words)));
        };
        check(1000, 0o040_700, None);
        check(1000, 0o040_755, None);
        check(1000, 0o040_775, Some("0775"));
        check(1000, 0o041_777, Some("1777"));
        check(0, 0o040_700, Some("user 0"));
        assert_eq!(objection(Path::new("/nowhere/at/all")).unwrap(), None);
    }
}
