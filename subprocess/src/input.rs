//! The standard input of a run.
//!
//! A file in memory, and not a pipe: it is whole before the command starts, and nobody has to write while it runs. A
//! command may read all of it, a part or nothing, and reads no cut line where this process is killed meanwhile.

use std::fs::File;
use std::io::{self, Seek, Write};
use std::process::Stdio;

use nix::errno::Errno;
use nix::sys::memfd::{MFdFlags, memfd_create};

/// Nobody needs to execute the input. Linux knows the flag since 6.3, and can be set to refuse files without it.
const MFD_NOEXEC_SEAL: MFdFlags = MFdFlags::from_bits_retain(0x8);

/// These bytes, from their beginning.
///
/// # Errors
///
/// No file or memory is free.
pub(crate) fn whole(bytes: &[u8]) -> io::Result<Stdio> {
    if bytes.is_empty() {
        return Ok(Stdio::null());
    }
    let flags = MFdFlags::MFD_CLOEXEC;
    let made = match memfd_create("input", flags | MFD_NOEXEC_SEAL) {
        Err(Errno::EINVAL) => memfd_create("input", flags),
        made => made,
    };
    let mut file = File::from(made?);
    file.write_all(bytes)?;
    file.rewind()?;
    Ok(Stdio::from(file))
}
