//! Credentials of the bridge at the servers.

use bridge_core::issue::ConfigIssue;
use bridge_core::secret::Secret;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Either `scheme` and `id`, or `sasl`, `user` and `password`.
#[derive(Clone, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Auth {
    /// The scheme of `addauth`.
    pub scheme: Option<AuthScheme>,
    /// For scheme `digest`: `user:password`.
    pub id: Option<Secret>,
    /// The SASL mechanism.
    pub sasl: Option<SaslMechanism>,
    /// For SASL.
    pub user: Option<String>,
    /// For SASL.
    pub password: Option<Secret>,
}

/// The schemes of `addauth`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AuthScheme {
    /// User and password, which access control lists name by their digest.
    Digest,
}

/// The SASL mechanisms.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum SaslMechanism {
    /// DIGEST-MD5.
    DigestMd5,
}

/// [`Auth`] with its parts complete.
#[derive(Clone, PartialEq, Eq)]
pub enum Credentials<'a> {
    /// `addauth` with scheme `digest`.
    Digest {
        /// `user:password`.
        id: &'a Secret,
    },
    /// SASL DIGEST-MD5.
    DigestMd5 {
        /// The user.
        user: &'a str,
        /// The password.
        password: &'a Secret,
    },
}

impl Auth {
    /// The credentials; `None` where the parts do not make whole ones.
    pub fn credentials(&self) -> Option<Credentials<'_>> {
        match (self.scheme, &self.id, self.sasl, &self.user, &self.password) {
            (Some(AuthScheme::Digest), Some(id), None, None, None) => Some(Credentials::Digest { id }),
            (None, None, Some(SaslMechanism::DigestMd5), Some(user), Some(password)) => {
                Some(Credentials::DigestMd5 { user, password })
            }
            _ => None,
        }
    }

    /// The reason why the parts do not make whole credentials.
    pub(super) fn objections(&self) -> Option<ConfigIssue> {
        if self.credentials().is_none() {
            let (key, message) = self.what_is_wrong();
            let remedy = "give scheme = \"digest\" and id = \"user:${ZK_PASSWORD}\", or sasl = \"digest-md5\", user and password";
            return Some(ConfigIssue::error(key, message, remedy));
        }
        let id = self.id.as_ref().map(Secret::reveal);
        let half = id.is_some_and(|id| id.split_once(':').is_none_or(|(user, _)| user.is_empty()));
        half.then(|| {
            ConfigIssue::error(
                "auth.id",
                "auth.id is not of the form user:password",
                "write it as \"user:${ZK_PASSWORD}\"",
            )
        })
    }

    fn what_is_wrong(&self) -> (&'static str, &'static str) {
        let digest = self.scheme.is_some() || self.id.is_some();
        let sasl = self.sasl.is_some() || self.user.is_some() || self.password.is_some();
        match (digest, sasl) {
            (true, true) => ("auth", "auth mixes scheme, id with sasl, user, password"),
            (false, false) => ("auth", "auth is empty"),
            (true, false) if self.id.is_none() => ("auth.scheme", "auth.scheme is given without auth.id"),
            (true, false) => ("auth.id", "auth.id is given without auth.scheme"),
            (false, true) => (
                "auth",
                "of sasl, user and password in auth not all three are given",
            ),
        }
    }
}
