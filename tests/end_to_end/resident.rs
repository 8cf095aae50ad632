//! How much memory a process holds, as the kernel counts it.

use std::fmt;

/// Resident memory, in bytes. Pages of files that are mapped (the program itself among them) count.
#[derive(Clone, Copy, Debug)]
pub struct Resident {
    pub now: u64,
    /// Since the process began, or [`Resident::forget_peak`].
    pub peak: u64,
}

impl Resident {
    pub fn of(process: u32) -> Resident {
        Resident::of_running(process).expect("the process runs, and the kernel reports its resident memory")
    }

    /// `None` if the process has ended, also if its parent does not know it yet.
    pub fn of_running(process: u32) -> Option<Resident> {
        let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
            Some(kib << 10)
        };
        Some(Resident {
            now: field("VmRSS:")?,
            peak: field("VmHWM:")?,
        })
    }

    /// Lets the peak begin anew.
    pub fn forget_peak(process: u32) {
        std::fs::write(format!("/proc/{process}/clear_refs"), "5").expect("a child's peak can be reset");
    }
}

impl fmt::Display for Resident {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} MB, at most {} MB",
            self.now / 1_000_000,
            self.peak / 1_000_000
        )
    }
}
