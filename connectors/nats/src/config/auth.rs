//! The credentials of the sink.

use bridge_core::file_path::FilePath;
use bridge_core::issue::ConfigIssue;
use bridge_core::secret::Secret;
use schemars::JsonSchema;
use serde::Deserialize;

/// The length of an nkey's seed.
const SEED_LENGTH: usize = 58;

/// The credentials of the sink: exactly one of a token, a user with a password, an nkey, or a file of credentials.
#[derive(Clone, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Auth {
    /// A token.
    pub token: Option<Secret>,
    /// A user; `password` belongs to it.
    pub user: Option<String>,
    /// The user's password.
    pub password: Option<Secret>,
    /// The seed of a user's nkey, which begins with `SU`.
    pub nkey: Option<Secret>,
    /// A file of credentials, as `nsc` writes it: a JWT and the seed of its nkey.
    pub creds: Option<FilePath>,
}

impl Auth {
    /// Everything that cannot work.
    pub(super) fn objections(&self) -> Vec<ConfigIssue> {
        let mut found = Vec::new();
        let given: Vec<&str> = [
            ("token", self.token.is_some()),
            ("user", self.user.is_some()),
            ("nkey", self.nkey.is_some()),
            ("creds", self.creds.is_some()),
        ]
        .into_iter()
        .filter_map(|(name, is_given)| is_given.then_some(name))
        .collect();
        if given.len() != 1 && !(given.is_empty() && self.password.is_some()) {
            let message = match given.as_slice() {
                [] => "no credentials are given".to_owned(),
                several => format!(
                    "{} are given, and a connection has one identity",
                    several.join(", ")
                ),
            };
            found.push(ConfigIssue::error(
                "auth",
                message,
                "give token, or user and password, or nkey, or creds",
            ));
        }
        for (there, missing, is_alone) in [
            (
                "auth.user",
                "password",
                self.user.is_some() && self.password.is_none(),
            ),
            (
                "auth.password",
                "user",
                self.password.is_some() && self.user.is_none(),
            ),
        ] {
            if is_alone {
                found.push(ConfigIssue::error(
                    there,
                    format!("{missing} is missing beside it"),
                    "give both user and password",
                ));
            }
        }
        found.extend(self.creds.as_ref().and_then(|file| file.objection("auth.creds")));
        if let Some(seed) = &self.nkey
            && !is_seed_of_user(seed.reveal().trim())
        {
            found.push(ConfigIssue::error(
                "auth.nkey",
                "it is not the seed of a user's nkey",
                "give the 58 capitals and digits that begin with SU, best as ${file:/run/secrets/nkey}",
            ));
        }
        found
    }
}

/// Whether it looks like one; only the client library knows the checksum.
fn is_seed_of_user(seed: &str) -> bool {
    let is_base32 = |letter: char| letter.is_ascii_uppercase() || ('2'..='7').contains(&letter);
    seed.len() == SEED_LENGTH && seed.starts_with("SU") && seed.chars().all(is_base32)
}
