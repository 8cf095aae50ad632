//! The last bytes of an output, in bounded memory.
//!
//! Invariant: no variable of the command is shown, as programs print them when they fail: `curl -v`, `set -x`.

use std::collections::VecDeque;
use std::fmt;

use bridge_core::secret::HiddenTexts;
use tokio::io::{AsyncRead, AsyncReadExt};

/// The bytes of each output that are kept: a message of some lines.
pub(crate) const KEPT_BYTES_MAX: usize = 1_024;

/// The bytes that a run may write to each output. A command that writes more is out of control.
pub(crate) const OUTPUT_BYTES_MAX: u64 = 16 << 20;

/// The bytes that are read at once.
const CHUNK_BYTES: usize = 16 << 10;

/// The end of an output.
#[derive(Clone, Default)]
pub struct OutputTail {
    /// [`KEPT_BYTES_MAX`], and before them as many as a hidden text has, so that none is cut before it is masked.
    bytes: VecDeque<u8>,
    /// The bytes of the whole output.
    total: u64,
    hidden: HiddenTexts,
}

/// An output is longer than [`OUTPUT_BYTES_MAX`].
#[derive(Debug)]
pub(crate) struct OutputTooLong;

impl OutputTail {
    /// A tail that shows none of these texts.
    pub(crate) fn hiding(hidden: HiddenTexts) -> OutputTail {
        OutputTail {
            hidden,
            ..OutputTail::default()
        }
    }

    /// Reads to the end, and keeps the last bytes. Cancel safe: nothing that was read is lost.
    ///
    /// # Errors
    ///
    /// At the first chunk after the limit.
    pub(crate) async fn read(&mut self, output: Option<impl AsyncRead + Unpin>) -> Result<(), OutputTooLong> {
        let Some(mut output) = output else {
            return Ok(());
        };
        let mut chunk = vec![0; CHUNK_BYTES];
        // An error means that nothing more can come, as the end does.
        while let Ok(count @ 1..) = output.read(&mut chunk).await {
            self.push(&chunk[..count]);
            if self.total > OUTPUT_BYTES_MAX {
                return Err(OutputTooLong);
            }
        }
        Ok(())
    }

    fn push(&mut self, bytes: &[u8]) {
        self.total += bytes.len() as u64;
        let kept = KEPT_BYTES_MAX + self.hidden.longest();
        let last = &bytes[bytes.len().saturating_sub(kept)..];
        let excess = (self.bytes.len() + last.len()).saturating_sub(kept);
        self.bytes.drain(..excess);
        self.bytes.extend(last);
    }

    /// Whether it has nothing but white space.
    pub fn is_empty(&self) -> bool {
        self.bytes.iter().all(u8::is_ascii_whitespace)
    }

    /// The last line with text, as a quoted text without control characters; `None` if there is none.
    pub fn last_line(&self) -> Option<String> {
        let text = self.text();
        let line = text.lines().next_back()?.trim();
        (!line.is_empty()).then(|| format!("{line:?}"))
    }

    /// As a quoted text without control characters.
    pub fn shown(&self) -> String {
        let dots = match self.total > KEPT_BYTES_MAX as u64 {
            true => "…",
            false => "",
        };
        format!("{:?}", format!("{dots}{}", self.text()))
    }

    fn text(&self) -> String {
        let bytes: Vec<u8> = self.bytes.iter().copied().collect();
        let shown = self
            .hidden
            .mask(&bytes, bytes.len().saturating_sub(KEPT_BYTES_MAX));
        String::from_utf8_lossy(&shown).trim().to_owned()
    }
}

impl fmt::Debug for OutputTail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown())
    }
}
