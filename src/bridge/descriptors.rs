//! File descriptors of this process: most are reserved for journals and destinations, and a shortage is logged.

use std::fs;
use std::io;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::time::interval;
use tokio_util::sync::CancellationToken;

/// As many as a bridge with hundreds of sinks can use. Some libraries loop over all numbers up to the limit.
const RAISED_MAX: u64 = 65_536;

/// Connections to the HTTP port: one for each of some monitors, with room for those that do not close.
const HTTP_MAX: u64 = 64;
/// Enough for a probe and a monitor, however low the limit is.
const HTTP_MIN: u64 = 4;
/// One in this many descriptors may be a connection to the HTTP port.
const HTTP_SHARE: u64 = 4;

/// The free descriptors that let every source reconnect and every sink open its next file.
const FREE_MIN: u64 = 16;

/// Time between two counts.
const COUNT_EVERY: Duration = Duration::from_secs(5);
/// A shortage that lasts is logged once in this many counts: once a minute.
const LOG_EVERY: u32 = 12;

/// Where the kernel lists the open descriptors of the process that asks.
const LISTING: &str = if cfg!(target_os = "linux") {
    "/proc/self/fd"
} else {
    "/dev/fd"
};

/// Raises the soft limit of open files to the hard one, as far as that is of use.
pub fn raise_limit() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE).and_then(|(soft, hard)| {
        let wanted = hard.min(RAISED_MAX);
        match soft < wanted {
            true => setrlimit(Resource::RLIMIT_NOFILE, wanted, hard),
            false => Ok(()),
        }
    });
    if let Err(error) = raised {
        tracing::debug!(
            error = error.to_string(),
            "the limit of open files stays as it is"
        );
    }
}

/// How many connections the HTTP port may hold.
pub(super) fn http_connections() -> usize {
    let share = (limit() / HTTP_SHARE).clamp(HTTP_MIN, HTTP_MAX);
    usize::try_from(share).unwrap_or(usize::MAX)
}

fn limit() -> u64 {
    getrlimit(Resource::RLIMIT_NOFILE).map_or(u64::MAX, |(soft, _)| soft)
}

/// How many descriptors can still be opened; `None` where the kernel does not say.
fn free() -> Option<u64> {
    match fs::read_dir(LISTING) {
        // One of them lists the others.
        Ok(entries) => Some(limit().saturating_sub(entries.count() as u64 - 1)),
        Err(error) if is_shortage(&error) => Some(0),
        Err(_) => None,
    }
}

fn is_shortage(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::EMFILE as i32)
}

/// Logs a shortage of descriptors until `stop` is cancelled: most libraries do not say why they cannot connect.
pub(super) async fn watch(stop: CancellationToken) {
    let mut beat = interval(COUNT_EVERY);
    let mut short_for = 0;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = beat.tick() => {}
        }
        let Some(free) = free().filter(|free| *free < FREE_MIN) else {
            short_for = 0;
            continue;
        };
        if short_for % LOG_EVERY == 0 {
            log(free);
        }
        short_for += 1;
    }
}

fn log(free: u64) {
    let help = "raise the limit of open files (LimitNOFILE, ulimit -n)";
    let limit = limit();
    if free == 0 {
        tracing::error!(
            limit,
            help,
            "no file descriptor is left (EMFILE): connections and files cannot be opened"
        );
    } else {
        tracing::warn!(free, limit, help, "file descriptors are nearly used up");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn open_descriptors_are_counted() {
        let before = free().unwrap();
        let held: Vec<fs::File> = (0..50).map(|_| fs::File::open("/dev/null").unwrap()).collect();
        // Other tests open and close files meanwhile.
        assert!(free().unwrap() + 25 < before, "50 more are open");
        drop(held);
    }

    #[test]
    fn the_http_port_gets_a_share_of_the_descriptors() {
        assert!((4..=64).contains(&http_connections()));
    }
}
