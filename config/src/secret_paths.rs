//! Paths where well-known programs keep secrets in ZooKeeper, for `mask`.

use bridge_zookeeper::config::PathGlob;

/// A place where a program keeps secrets.
#[derive(Clone, Copy, Debug)]
pub struct SecretPath {
    /// The paths, below any chroot.
    pub glob: &'static str,
    /// The secrets that these znodes hold.
    pub holds: &'static str,
}

const fn at(glob: &'static str, holds: &'static str) -> SecretPath {
    SecretPath { glob, holds }
}

/// The places, as `zkbridge init`, `zkbridge doctor` and docs/security.md name them.
pub const SECRET_PATHS: [SecretPath; 12] = [
    at("/**/config/users/*", "Kafka: SCRAM credentials"),
    at("/**/delegation_token/tokens/*", "Kafka: delegation tokens"),
    at(
        "/**/config/brokers/*",
        "Kafka: passwords of listeners and key stores",
    ),
    at("/**/security.json", "Solr: digests of passwords"),
    at("/**/tokenauth/keys/*", "HBase: keys of authentication tokens"),
    at(
        "/**/RMDTSecretManagerRoot/**",
        "YARN: master keys of delegation tokens",
    ),
    at("/**/ZKDTSMRoot/**", "Hadoop: master keys of delegation tokens"),
    at(
        "/**/hadoop-auth-signature-secret",
        "Hadoop: the secret that signs cookies",
    ),
    at("/**/hivedelegation*/**", "Hive: delegation tokens"),
    at("/**/storm/credentials/*", "Storm: credentials of topologies"),
    at("/**/clickhouse/access/**", "ClickHouse: digests of passwords"),
    at(
        "/**/*{password,Password,passwd,secret,Secret,credential,Credential}*",
        "any program: a name that says so",
    ),
];

/// The first place that a path is in; `None` if none is known.
pub fn secret_path(path: &str) -> Option<&'static SecretPath> {
    static COMPILED: std::sync::LazyLock<Vec<PathGlob>> = std::sync::LazyLock::new(|| {
        let globs = SECRET_PATHS.iter().map(|place| place.glob.parse());
        globs
            .collect::<Result<_, _>>()
            .expect("the globs of the list are valid")
    });
    let at = COMPILED.iter().position(|glob| glob.takes(path))?;
    Some(&SECRET_PATHS[at])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_well_known_secrets_are_found_below_any_chroot_and_others_are_not() {
        let check = |path: &str, holds: Option<&str>| {
            let found = secret_path(path).map(|place| place.holds);
            assert!(
                found.is_some() == holds.is_some()
                    && holds.is_none_or(|holds| found.unwrap_or_default().starts_with(holds)),
                "{path}: {found:?}"
            );
        };
        check("/config/users/alice", Some("Kafka: SCRAM"));
        check("/kafka/config/users/alice", Some("Kafka: SCRAM"));
        check("/kafka/config/topics/orders", None);
        check("/kafka/brokers/ids/1", None);
        check("/solr/security.json", Some("Solr"));
        check("/hbase/tokenauth/keys/3", Some("HBase"));
        check(
            "/rmstore/ZKRMStateRoot/RMDTSecretManagerRoot/RMDTMasterKeysRoot/DelegationKey_1",
            Some("YARN"),
        );
        check("/clickhouse/access/uuid/1", Some("ClickHouse"));
        check("/config/app/spring.datasource.password", Some("any program"));
        check("/services/payments/instance-1", None);
        check("/", None);
    }

    #[test]
    fn the_configuration_that_init_prints_offers_every_place() {
        for place in &SECRET_PATHS {
            assert!(
                crate::COMMENTED.contains(&format!("\"{}\"", place.glob)),
                "{} is not in config/examples/zkbridge.toml",
                place.glob
            );
        }
    }
}
