//! `ZKBRIDGE_TESTS=offline`: skips tests that need real servers, and prints their names.

use std::io::Write;

/// Whether the environment asks to leave out everything that needs real servers.
pub fn offline() -> bool {
    std::env::var_os("ZKBRIDGE_TESTS").is_some_and(|value| value == "offline")
}

/// Prints the name of a skipped test to stderr, past the test runner's capture.
pub fn skipped(what: &str) {
    let line = format!("skipped (ZKBRIDGE_TESTS=offline): {what}\n");
    // A closed stderr must not fail a test that is not even run.
    let _ = std::io::stderr().write_all(line.as_bytes());
}

/// First line of a test on real servers: returns early, and says so, under `ZKBRIDGE_TESTS=offline`.
///
/// ```no_run
/// # use bridge_servers::real_servers;
/// fn follows_a_leader_change() {
///     real_servers!("follows a leader change");
/// }
/// fn fallible() -> Result<(), String> {
///     real_servers!("fallible", Ok(()));
///     Ok(())
/// }
/// ```
#[macro_export]
macro_rules! real_servers {
    ($test:expr) => {
        $crate::real_servers!($test, ())
    };
    ($test:expr, $instead:expr) => {
        if $crate::offline() {
            $crate::skipped($test);
            return $instead;
        }
    };
}
