//! Paths of files in a configuration, where people give the contents of the file by mistake.
//!
//! Invariant: a message about a path never shows text that was brought in by a reference, nor text that looks like the
//! contents of a file. It names the reference instead.

use std::borrow::Cow;
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::fcntl::OFlag;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::{self, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::issue::ConfigIssue;

/// No file system takes a longer path.
const PATH_BYTES_MAX: usize = 4096;

/// Keys, certificates and credentials are smaller; a bundle of all public authorities has a quarter of it.
const CONTENT_BYTES_MAX: u64 = 1 << 20;

/// How a reference to a file's contents begins.
const CONTENTS_OF: &str = "${file:";

/// The path of a file, with where its text comes from. Its `Display` and `Debug` are safe in any message; only
/// [`FilePath::as_path`] gives the path itself.
#[derive(Clone, PartialEq, Eq)]
pub struct FilePath {
    path: PathBuf,
    /// The references that brought the text in, as in `${KEY_FILE}`.
    brought_in: Option<Arc<str>>,
}

impl FilePath {
    /// The name under which a path asks a `Deserializer` to be read. One that knows where a text comes from may answer
    /// with the sequence of the text and its reference.
    pub const NAME: &'static str = "FilePath";

    /// A path that was brought in by this reference.
    pub fn brought_in(path: impl Into<PathBuf>, reference: &str) -> FilePath {
        FilePath {
            path: path.into(),
            brought_in: Some(reference.into()),
        }
    }

    /// The path, for the one place that opens the file.
    pub fn as_path(&self) -> &Path {
        &self.path
    }

    /// The content of the file, in one MiB at most. Blocks on the disk.
    ///
    /// # Errors
    /// If the file is larger, is not a regular one, or cannot be read.
    pub fn read(&self) -> io::Result<Vec<u8>> {
        let too_large = || io::Error::other("it is larger than 1 MiB");
        read_regular(&self.path, CONTENT_BYTES_MAX)?.ok_or_else(too_large)
    }

    /// The content of the file as text, as [`FilePath::read`] gets it.
    ///
    /// # Errors
    /// As [`FilePath::read`], and if it is not valid UTF-8.
    pub fn read_text(&self) -> io::Result<String> {
        String::from_utf8(self.read()?).map_err(|_| io::Error::other("it is not valid UTF-8"))
    }

    /// The content of a PEM file with a private key, as [`FilePath::read_text`] gets it.
    ///
    /// # Errors
    /// As [`FilePath::read_text`], and if the key is encrypted.
    pub fn read_private_key(&self) -> io::Result<String> {
        let pem = self.read_text()?;
        // PKCS #8, and the older form with headers.
        let marks = ["BEGIN ENCRYPTED PRIVATE KEY", "Proc-Type: 4,ENCRYPTED"];
        if marks.iter().any(|mark| pem.contains(mark)) {
            return Err(io::Error::other(
                "the key is encrypted with a passphrase, which the bridge cannot ask for; decrypt it with 'openssl pkey -in \
                 KEY -out PLAIN', and let only the bridge's user read that file",
            ));
        }
        Ok(pem)
    }

    /// The problems of the path that show without opening the file; `key` is the option that holds it.
    pub fn objection(&self, key: &str) -> Option<ConfigIssue> {
        let is_contents = looks_like_contents(&self.path.to_string_lossy());
        let of_file = self.brought_in.as_deref();
        let is_brought_in = of_file.is_some_and(|reference| reference.contains(CONTENTS_OF));
        (is_contents || is_brought_in).then(|| {
            ConfigIssue::error(
                key,
                "the contents of a file are given where its path is wanted",
                format!("give the path itself, as in {key} = \"/run/secrets/name.pem\""),
            )
        })
    }
}

/// The files of a table `tls`: the authority, the own certificate and its key.
pub type TlsFiles<'a> = [Option<&'a FilePath>; 3];

/// Issues of the file options of a table `tls`, without opening the files. `peer` and its verb say which side asks for
/// a certificate: "the servers ask".
pub fn tls_objections(files: TlsFiles<'_>, peer: &str) -> Vec<ConfigIssue> {
    const KEYS: [&str; 3] = ["tls.ca", "tls.cert", "tls.key"];
    let [_, cert, key] = files;
    let named = files.into_iter().zip(KEYS);
    let mut found: Vec<ConfigIssue> = named.filter_map(|(file, key)| file?.objection(key)).collect();
    let [_, cert_key, key_key] = KEYS;
    let alone = match (cert, key) {
        (Some(_), None) => Some((cert_key, key_key)),
        (None, Some(_)) => Some((key_key, cert_key)),
        _ => None,
    };
    found.extend(alone.map(|(there, missing)| {
        ConfigIssue::error(
            there,
            format!("{there} is given without {missing}"),
            format!("give both, or neither where {peer} for no certificate"),
        )
    }));
    found
}

/// The bytes of a regular file; `None` if there are more than `max`. A pipe or a device may never end, and opening a named
/// pipe waits for its writer: those are refused at once. Blocks on the disk.
///
/// # Errors
/// If there is no such file, it is not a regular one, or it cannot be read.
pub fn read_regular(path: &Path, max: u64) -> io::Result<Option<Vec<u8>>> {
    let opened = open_regular(path)?;
    let mut bytes = Vec::new();
    opened.take(max + 1).read_to_end(&mut bytes)?;
    Ok((bytes.len() as u64 <= max).then_some(bytes))
}

/// A regular file to read from, as [`read_regular`] opens it.
///
/// # Errors
/// If there is no such file, it is not a regular one, or it cannot be opened.
pub fn open_regular(path: &Path) -> io::Result<File> {
    let opened = OpenOptions::new()
        .read(true)
        .custom_flags(OFlag::O_NONBLOCK.bits())
        .open(path)?;
    match opened.metadata()?.is_file() {
        true => Ok(opened),
        false => Err(io::Error::other("it is not a regular file")),
    }
}

/// Whether a text looks like the contents of a file rather than the path of one.
pub fn looks_like_contents(text: &str) -> bool {
    text.contains(['\n', '\r']) || text.contains("-----BEGIN") || text.len() > PATH_BYTES_MAX
}

impl fmt::Display for FilePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.brought_in {
            Some(reference) => write!(f, "the file that {reference} names"),
            None if looks_like_contents(&self.path.to_string_lossy()) => {
                f.write_str("a file whose path is not shown")
            }
            None => write!(f, "{}", self.path.display()),
        }
    }
}

impl fmt::Debug for FilePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.to_string())
    }
}

impl AsRef<Path> for FilePath {
    fn as_ref(&self) -> &Path {
        &self.path
    }
}

impl<T: Into<PathBuf>> From<T> for FilePath {
    fn from(path: T) -> FilePath {
        FilePath {
            path: path.into(),
            brought_in: None,
        }
    }
}

impl Serialize for FilePath {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for FilePath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<FilePath, D::Error> {
        deserializer.deserialize_newtype_struct(FilePath::NAME, PathVisitor)
    }
}

struct PathVisitor;

impl<'de> Visitor<'de> for PathVisitor {
    type Value = FilePath;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("path string")
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<FilePath, D::Error> {
        PathBuf::deserialize(deserializer).map(FilePath::from)
    }

    fn visit_str<E: de::Error>(self, path: &str) -> Result<FilePath, E> {
        Ok(path.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut texts: A) -> Result<FilePath, A::Error> {
        let path = texts.next_element::<String>()?;
        let reference = texts.next_element::<String>()?;
        match (path, reference) {
            (Some(path), Some(reference)) => Ok(FilePath::brought_in(path, &reference)),
            _ => Err(de::Error::custom("a text and its reference are wanted")),
        }
    }
}

impl JsonSchema for FilePath {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        FilePath::NAME.into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        PathBuf::json_schema(generator)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "-----BEGIN PRIVATE KEY-----\nMIIEvQ\n-----END PRIVATE KEY-----";

    #[test]
    fn a_path_that_was_brought_in_is_never_shown_in_a_message() {
        let check = |path: FilePath, expected: &str| {
            let shown = format!("{path} {path:?} {}", serde_json::to_string(&path).unwrap());
            assert!(!shown.contains("MIIE") && !shown.contains("hunter2"), "{shown}");
            assert_eq!(path.to_string(), expected);
        };
        check("/etc/key.pem".into(), "/etc/key.pem");
        check(KEY.into(), "a file whose path is not shown");
        check(FilePath::brought_in(KEY, "${KEY}"), "the file that ${KEY} names");
        check(
            FilePath::brought_in("hunter2", "${KEY}"),
            "the file that ${KEY} names",
        );
    }

    #[test]
    fn only_regular_files_of_a_limited_size_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let (pipe, large) = (folder.path().join("pipe"), folder.path().join("large"));
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        std::fs::write(&large, vec![b'x'; (CONTENT_BYTES_MAX + 1) as usize]).unwrap();
        for (path, reason) in [
            (pipe.as_path(), "regular"),
            (folder.path(), "regular"),
            (Path::new("/dev/zero"), "regular"),
            (large.as_path(), "larger"),
        ] {
            let error = FilePath::from(path).read().unwrap_err().to_string();
            assert!(error.contains(reason), "{}: {error}", path.display());
        }
        std::fs::write(&large, "x").unwrap();
        assert_eq!(FilePath::from(large).read_text().unwrap(), "x");
    }

    #[test]
    fn an_encrypted_key_is_refused_with_how_to_decrypt_it() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("key.pem");
        let check = |pem: &str, is_refused: bool| {
            std::fs::write(&file, pem).unwrap();
            let read = FilePath::from(file.as_path()).read_private_key();
            let refused = read.err().map(|error| error.to_string()).unwrap_or_default();
            assert_eq!(refused.contains("openssl pkey"), is_refused, "{pem}: {refused}");
        };
        check(KEY, false);
        check("-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIIE\n", true);
        check(
            "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,1F\n",
            true,
        );
    }

    #[test]
    fn the_contents_of_a_file_are_refused_where_its_path_is_wanted() {
        let check = |path: FilePath, is_refused: bool| {
            assert_eq!(path.objection("tls.key").is_some(), is_refused, "{path}");
        };
        check("/etc/key.pem".into(), false);
        check("relative/ü.pem".into(), false);
        check(FilePath::brought_in("/etc/key.pem", "${KEY_FILE}"), false);
        check(KEY.into(), true);
        check("x".repeat(5000).into(), true);
        check(FilePath::brought_in("hunter2", "${file:/run/secrets/key}"), true);
        check(FilePath::brought_in(KEY, "${KEY}"), true);
    }
}
