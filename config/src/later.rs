//! Options that are planned and do not exist yet. They are refused by name, not as a misspelling.

/// Keys, as [`crate::tree::KeyPath::names`] gives them.
const KEYS: [&str; 2] = ["source.server", "source.servers"];

/// Values of keys, and what to do without them.
const VALUES: [(&str, &str, &str); 5] = [
    (
        "source.type",
        "observer",
        "write type = \"zookeeper\" with capture = \"observer\"",
    ),
    (
        "source.type",
        "txnlog",
        "write type = \"zookeeper\" with capture = \"txnlog\"",
    ),
    ("source.auth.sasl", "gssapi", KERBEROS),
    ("source.auth.sasl", "kerberos", KERBEROS),
    (
        "source.snapshot",
        "never",
        "give one of these; a sink whose `ops` lack \"snapshot\" gets only what changes",
    ),
];

/// The client library needs a C library for it, which is not built in.
const KERBEROS: &str = "Kerberos is not built into zkbridge for ZooKeeper: let the bridge use DIGEST-MD5 or scheme = \"digest\", \
                        which servers take beside Kerberos";

/// Whether the key is planned.
pub(crate) fn is_later_key(names: &str) -> bool {
    KEYS.contains(&names)
}

/// Whether the value of the key is planned: what to do meanwhile.
pub(crate) fn remedy_of_later_value(names: &str, value: &str) -> Option<&'static str> {
    let planned = VALUES
        .iter()
        .find(|(key, planned, _)| *key == names && *planned == value);
    planned.map(|(_, _, remedy)| *remedy)
}
