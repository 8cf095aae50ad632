//! Reads the users of sessions from the audit log of a server (`audit.enable`, 3.6 and newer).
//!
//! A line has fields such as `session=0x1000037c1de0000` and `user=alice`, after whatever the logger writes before them.
//! Lines of what the server does itself name the user of its process, which is never taken for the user of a session.
//! The file is read from where it was left; one that became shorter, or another file in its place, is read from its
//! beginning. Of one that is long at the first look only the end is read.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use bridge_core::number::SessionId;

/// Bytes that one look reads, and that are read before the end at the first look.
const LOOK_BYTES: u64 = 4 << 20;

/// The longest line that is looked at.
const LINE_BYTES: usize = 16 << 10;

/// Characters of a user at most.
const USER_MAX: usize = 256;

/// Operations of the server itself, not requests of a client. Their user is the one that the server's process runs as, and
/// the session of the last one is the one that ended.
const SERVER_OPERATIONS: [&str; 3] = [
    "serverStart",
    "serverStop",
    "ephemeralZNodeDeletionOnSessionCloseOrExpire",
];

/// One audit log.
pub(super) struct AuditLog {
    path: PathBuf,
    /// The file that was read last, and how far.
    at: Option<(u64, u64)>,
    /// The beginning of a line whose end is not written yet.
    rest: Vec<u8>,
    failure: Option<io::ErrorKind>,
}

impl AuditLog {
    pub(super) fn new(path: &Path) -> AuditLog {
        AuditLog {
            path: path.to_owned(),
            at: None,
            rest: Vec::new(),
            failure: None,
        }
    }

    /// Reads what is new, and passes on each session with its user. Blocks.
    pub(super) fn read(&mut self, found: impl FnMut(SessionId, &str)) {
        match self.look(found) {
            Ok(()) => self.failure = None,
            Err(error) => {
                if self.failure != Some(error.kind()) {
                    tracing::warn!(file = %self.path.display(), %error, "no users of sessions from this audit log");
                }
                self.failure = Some(error.kind());
            }
        }
    }

    fn look(&mut self, mut found: impl FnMut(SessionId, &str)) -> io::Result<()> {
        let metadata = std::fs::metadata(&self.path)?;
        // Opening a pipe would wait for its writer.
        if !metadata.is_file() {
            return Err(io::Error::other("it is no regular file"));
        }
        let mut file = File::open(&self.path)?;
        let metadata = file.metadata()?;
        let from = match self.at {
            Some((inode, at)) if inode == metadata.ino() && at <= metadata.len() => at,
            Some(_) => {
                self.rest.clear();
                0
            }
            None => metadata.len().saturating_sub(LOOK_BYTES),
        };
        file.seek(SeekFrom::Start(from))?;
        let mut new = Vec::new();
        file.take(LOOK_BYTES).read_to_end(&mut new)?;
        self.at = Some((metadata.ino(), from + new.len() as u64));
        self.rest.append(&mut new);
        let end = self
            .rest
            .iter()
            .rposition(|byte| *byte == b'\n')
            .map_or(0, |at| at + 1);
        for line in self.rest[..end].split(|byte| *byte == b'\n') {
            if let Some((session, user)) = owner_of(line) {
                found(session, &user);
            }
        }
        self.rest.drain(..end);
        if self.rest.len() > LINE_BYTES {
            self.rest.clear();
        }
        Ok(())
    }
}

/// The session of a line and its user.
fn owner_of(line: &[u8]) -> Option<(SessionId, String)> {
    if line.len() > LINE_BYTES {
        return None;
    }
    let line = std::str::from_utf8(line).ok()?;
    let session = line
        .split([' ', '\t', '\r'])
        .find_map(|word| word.strip_prefix("session=0x"))?;
    let session = u64::from_str_radix(session, 16).ok()?;
    // Tabs end the fields: names such as those of certificates have spaces.
    let field = |name: &str| {
        line.split(['\t', '\r'])
            .find_map(|field| field.strip_prefix(name))
    };
    let user = field("user=")?;
    // Only a request comes from an address.
    let is_request = field("ip=").is_some() && !SERVER_OPERATIONS.contains(&field("operation=")?);
    let is_shown = |char: char| !char.is_control();
    (is_request && !user.is_empty() && user.len() <= USER_MAX && user.chars().all(is_shown))
        .then(|| (SessionId(session), user.to_owned()))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn read(log: &mut AuditLog) -> Vec<(u64, String)> {
        let mut all = Vec::new();
        log.read(|session, user| all.push((session.0, user.to_owned())));
        all
    }

    fn line(session: &str, user: &str) -> String {
        format!(
            "2026-11-30 01:00:00,000 INFO audit.Slf4jAuditLogger: session={session}\tuser={user}\tip=127.0.0.1\t\
             operation=setData\tznode=/a\tresult=success\n"
        )
    }

    #[test]
    fn the_users_of_sessions_are_read_once_and_a_line_only_when_it_is_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.log");
        let mut log = AuditLog::new(&path);
        assert_eq!(read(&mut log), []);
        let mut file = File::create(&path).unwrap();
        let whole = line("0x1000037c1de0000", "alice");
        let (begin, end) = whole.split_at(90);
        write!(file, "{}{begin}", line("0x5", "bob")).unwrap();
        assert_eq!(read(&mut log), [(5, "bob".to_owned())]);
        write!(file, "{end}").unwrap();
        assert_eq!(read(&mut log), [(0x0100_0037_c1de_0000, "alice".to_owned())]);
        assert_eq!(read(&mut log), []);
        // Rotated: another file has its name.
        std::fs::rename(&path, folder.path().join("audit.log.1")).unwrap();
        std::fs::write(&path, line("0x6", "carol")).unwrap();
        assert_eq!(read(&mut log), [(6, "carol".to_owned())]);
        // Cut in its place.
        std::fs::write(&path, "").unwrap();
        assert_eq!(read(&mut log), []);
        std::fs::write(&path, line("0x7", "dave")).unwrap();
        assert_eq!(read(&mut log), [(7, "dave".to_owned())]);
    }

    #[test]
    fn only_the_end_of_a_long_log_is_read_at_first() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.log");
        let old = line("0x1", "old").repeat(usize::try_from(LOOK_BYTES).unwrap() / 100);
        std::fs::write(&path, old + &line("0x2", "new")).unwrap();
        let mut log = AuditLog::new(&path);
        let found = read(&mut log);
        assert_eq!(found.last(), Some(&(2, "new".to_owned())));
        assert!(
            found.len() < usize::try_from(LOOK_BYTES).unwrap() / 100,
            "{}",
            found.len()
        );
    }

    #[test]
    fn a_user_with_spaces_is_read_whole() {
        let line = line("0x5", "CN=John Smith,O=Acme");
        let found = owner_of(line.trim_end().as_bytes());
        assert_eq!(found, Some((SessionId(5), "CN=John Smith,O=Acme".to_owned())));
    }

    #[test]
    fn the_user_of_the_server_is_never_the_one_of_a_session_that_ended() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.log");
        let ended = "session=0x5\tuser=root\toperation=ephemeralZNodeDeletionOnSessionCloseOrExpire\tznode=/a\t\
                     result=success\n";
        let with_address = ended.replace("\toperation=", "\tip=127.0.0.1\toperation=");
        let later = ended.replace("ephemeralZNodeDeletionOnSessionCloseOrExpire", "ofALaterVersion");
        let lines = [&line("0x5", "127.0.0.1,alice"), ended, &with_address, &later];
        std::fs::write(&path, lines.concat()).unwrap();
        let found = read(&mut AuditLog::new(&path));
        assert_eq!(found, [(5, "127.0.0.1,alice".to_owned())]);
    }

    #[test]
    fn lines_that_are_no_audit_are_passed_over() {
        for text in [
            "",
            "session=0x5 user=alice",
            "session=0x5\tuser=alice\tip=::1",
            "session=0x5\tuser=alice\toperation=create",
            "session=5\tuser=alice\tip=::1\toperation=create",
            "session=0x5\tip=::1\toperation=create",
            "session=0x5\tuser=\tip=::1\toperation=create",
            "session=0x5\tuser=a\u{7}b\tip=::1\toperation=create",
            &format!(
                "session=0x5\tuser={}\tip=::1\toperation=create",
                "a".repeat(USER_MAX + 1)
            ),
            &format!(
                "session=0x5\tuser=a\tip=::1\toperation=create\t{}",
                "a".repeat(LINE_BYTES)
            ),
        ] {
            assert_eq!(owner_of(text.as_bytes()), None, "{text}");
        }
        assert_eq!(
            owner_of(b"session=0x5\xff\tuser=a\tip=::1\toperation=create"),
            None
        );
    }

    #[test]
    fn a_pipe_in_place_of_the_file_is_not_opened() {
        let folder = tempfile::tempdir().unwrap();
        let mut log = AuditLog::new(folder.path());
        assert_eq!(read(&mut log), []);
        assert_eq!(log.failure, Some(io::ErrorKind::Other));
    }
}
