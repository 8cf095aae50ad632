//! What is planned and does not exist yet. It is refused by name, never taken in silence and never called a misspelling.

/// Keys, as [`crate::tree::KeyPath::names`] gives them.
const KEYS: [&str; 3] = ["source.server", "source.servers", "source.txnlog"];

/// Values of keys.
const VALUES: [(&str, &str); 3] = [
    ("source.type", "observer"),
    ("source.type", "txnlog"),
    ("source.snapshot", "never"),
];

/// Whether the key is planned.
pub(crate) fn is_later_key(names: &str) -> bool {
    KEYS.contains(&names)
}

/// Whether the value of the key is planned.
pub(crate) fn is_later_value(names: &str, value: &str) -> bool {
    VALUES.contains(&(names, value))
}
