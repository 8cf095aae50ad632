//! Reports to the service manager that started the process: ready, draining, and a sign of life for its watchdog.
//!
//! The protocol of systemd (`sd_notify`): one datagram per message to the socket that `NOTIFY_SOCKET` names. It is
//! written here because it is smaller than a dependency. Invariants: a message never blocks and never stops the bridge;
//! without `NOTIFY_SOCKET` nothing is sent.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

/// The shortest time between two signs of life, whatever the unit says.
const SIGN_EVERY_MIN: Duration = Duration::from_millis(100);

/// The service manager; none where the process was started by other means.
#[derive(Debug, Default)]
pub struct ServiceManager {
    socket: Option<UnixDatagram>,
    /// The time within which the watchdog expects a sign of life.
    watchdog: Option<Duration>,
}

/// The variables of the protocol.
#[derive(Debug, Default)]
struct NotifyVariables {
    socket: Option<OsString>,
    watchdog_microseconds: Option<String>,
    watchdog_pid: Option<String>,
}

impl ServiceManager {
    /// The one that the environment names. A socket that cannot be used is logged and left alone.
    pub fn of_environment() -> ServiceManager {
        let variables = NotifyVariables {
            socket: std::env::var_os("NOTIFY_SOCKET"),
            watchdog_microseconds: std::env::var("WATCHDOG_USEC").ok(),
            watchdog_pid: std::env::var("WATCHDOG_PID").ok(),
        };
        ServiceManager::of(&variables)
    }

    fn of(variables: &NotifyVariables) -> ServiceManager {
        let Some(name) = variables.socket.as_deref().filter(|name| !name.is_empty()) else {
            return ServiceManager::default();
        };
        match connect(name) {
            Ok(socket) => ServiceManager {
                socket: Some(socket),
                watchdog: watchdog(variables, std::process::id()),
            },
            Err(error) => {
                tracing::warn!(
                    socket = %name.display(),
                    %error,
                    "the socket of the service manager cannot be used, so that it takes the start for unfinished"
                );
                ServiceManager::default()
            }
        }
    }

    /// The bridge serves: every journal that can be used is open.
    pub fn ready(&self, status: &str) {
        self.send(&format!("READY=1\nSTATUS={status}"));
    }

    /// The bridge drains its sinks and ends.
    pub fn stopping(&self) {
        self.send("STOPPING=1\nSTATUS=draining");
    }

    /// Sends signs of life until `stop` is cancelled. They show that the tasks of the process run; the state of sources
    /// and sinks is for `/status`. Cancel safe.
    pub async fn live(&self, stop: CancellationToken) {
        let Some(within) = self.watchdog else {
            return stop.cancelled().await;
        };
        let mut ticks = tokio::time::interval((within / 2).max(SIGN_EVERY_MIN));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                _ = ticks.tick() => self.send("WATCHDOG=1"),
            }
        }
    }

    fn send(&self, message: &str) {
        let Some(socket) = &self.socket else { return };
        if let Err(error) = socket.send(message.as_bytes()) {
            tracing::debug!(%error, message, "the service manager takes no message");
        }
    }
}

fn connect(name: &OsStr) -> io::Result<UnixDatagram> {
    let address = match name.as_bytes() {
        // A name without a file.
        [b'@', rest @ ..] => SocketAddr::from_abstract_name(rest)?,
        _ => SocketAddr::from_pathname(name)?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.connect_addr(&address)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// The watchdog's time, if it is meant for this process.
fn watchdog(variables: &NotifyVariables, own_pid: u32) -> Option<Duration> {
    let microseconds: u64 = variables.watchdog_microseconds.as_deref()?.parse().ok()?;
    let is_own = match &variables.watchdog_pid {
        Some(pid) => pid.parse() == Ok(own_pid),
        None => true,
    };
    (is_own && microseconds > 0).then(|| Duration::from_micros(microseconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(socket: impl Into<OsString>) -> NotifyVariables {
        NotifyVariables {
            socket: Some(socket.into()),
            ..NotifyVariables::default()
        }
    }

    fn received(socket: &UnixDatagram) -> String {
        let mut bytes = [0; 256];
        socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let length = socket.recv(&mut bytes).unwrap();
        String::from_utf8(bytes[..length].to_vec()).unwrap()
    }

    #[test]
    fn messages_reach_a_socket_with_a_file_and_one_without() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("notify");
        let with_file = UnixDatagram::bind(&file).unwrap();
        let name = format!("zkbridge-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let without = UnixDatagram::bind_addr(&address).unwrap();
        for (variables, socket) in [
            (named(file.as_os_str()), &with_file),
            (named(format!("@{name}")), &without),
        ] {
            let manager = ServiceManager::of(&variables);
            manager.ready("serving");
            assert_eq!(received(socket), "READY=1\nSTATUS=serving");
            manager.stopping();
            assert_eq!(received(socket), "STOPPING=1\nSTATUS=draining");
        }
    }

    #[test]
    fn a_process_without_a_service_manager_or_with_one_that_is_gone_goes_on() {
        ServiceManager::of(&NotifyVariables::default()).ready("serving");
        ServiceManager::of(&named("")).ready("serving");
        ServiceManager::of(&named("/nowhere/at/all")).ready("serving");
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("notify");
        let socket = UnixDatagram::bind(&file).unwrap();
        let manager = ServiceManager::of(&named(file.as_os_str()));
        drop(socket);
        manager.stopping();
    }

    #[tokio::test]
    async fn a_watchdog_gets_signs_of_life_twice_in_its_time_and_none_after_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("notify");
        let socket = UnixDatagram::bind(&file).unwrap();
        let manager = ServiceManager::of(&NotifyVariables {
            watchdog_microseconds: Some("400000".into()),
            ..named(file.as_os_str())
        });
        let stop = CancellationToken::new();
        let signs = async {
            let read = tokio::task::spawn_blocking(move || {
                for _ in 0..3 {
                    assert_eq!(received(&socket), "WATCHDOG=1");
                }
            });
            read.await.unwrap();
            stop.cancel();
        };
        tokio::join!(manager.live(stop.clone()), signs);
    }

    #[test]
    fn a_watchdog_of_another_process_or_without_a_time_is_none() {
        let check = |time: Option<&str>, pid: Option<&str>, expected| {
            let variables = NotifyVariables {
                watchdog_microseconds: time.map(str::to_owned),
                watchdog_pid: pid.map(str::to_owned),
                ..NotifyVariables::default()
            };
            assert_eq!(watchdog(&variables, 7), expected, "{variables:?}");
        };
        let second = Some(Duration::from_secs(1));
        check(Some("1000000"), None, second);
        check(Some("1000000"), Some("7"), second);
        check(Some("1000000"), Some("8"), None);
        check(Some("1000000"), Some("x"), None);
        check(Some("0"), None, None);
        check(Some("soon"), None, None);
        check(None, None, None);
    }
}
