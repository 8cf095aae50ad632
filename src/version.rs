//! The version of the program: with the commit and the optional features that it was built from.

use std::sync::LazyLock;

/// The version of the package.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The commit, as `build.rs` found it.
pub const COMMIT: &str = env!("ZKBRIDGE_BUILT_FROM");

/// The optional features, and whether this program has them.
const FEATURES: [(&str, bool); 2] = [
    ("gssapi", cfg!(feature = "gssapi")),
    ("vendored", cfg!(feature = "vendored")),
];

static LONG: LazyLock<String> = LazyLock::new(|| {
    let features: Vec<&str> = FEATURES
        .iter()
        .filter_map(|(name, is_there)| is_there.then_some(*name))
        .collect();
    let features = match features.is_empty() {
        true => "none".to_owned(),
        false => features.join(" "),
    };
    format!("{VERSION} (commit {COMMIT}, optional features: {features})")
});

/// The text of `zkbridge --version`.
pub fn long() -> &'static str {
    &LONG
}
