//! Credentials of the bridge at the servers: one table, or a list of them.

use std::borrow::Cow;
use std::fmt;

use bridge_core::issue::ConfigIssue;
use bridge_core::secret::Secret;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

/// The most credentials of one session: each is sent with every connection.
const CREDENTIALS_MAX: usize = 16;

/// All credentials of a session. The servers grant what any of them may do.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Auths(Vec<Auth>);

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

impl Auths {
    /// The whole credentials among them, in their order.
    pub fn credentials(&self) -> impl Iterator<Item = Credentials<'_>> {
        self.0.iter().filter_map(Auth::credentials)
    }

    /// The credentials of one user, `user:password`; `None` if a part is missing.
    pub fn of_text(text: &Secret, is_sasl: bool) -> Option<Auths> {
        let (user, password) = text.reveal().split_once(':')?;
        if user.is_empty() || password.is_empty() {
            return None;
        }
        let auth = match is_sasl {
            true => Auth {
                sasl: Some(SaslMechanism::DigestMd5),
                user: Some(user.to_owned()),
                password: Some(Secret::new(password)),
                ..Auth::default()
            },
            false => Auth {
                scheme: Some(AuthScheme::Digest),
                id: Some(text.clone()),
                ..Auth::default()
            },
        };
        Some(auth.into())
    }

    /// Whether one of them is for SASL.
    pub fn is_sasl(&self) -> bool {
        self.0.iter().any(|auth| auth.sasl.is_some())
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Everything that keeps them from being used.
    pub(super) fn objections(&self) -> Vec<ConfigIssue> {
        let key = |at: usize| match self.0.len() {
            1 => "auth".to_owned(),
            _ => format!("auth[{at}]"),
        };
        let keyed = self.0.iter().enumerate();
        let mut found: Vec<ConfigIssue> = keyed.filter_map(|(at, auth)| auth.objection(&key(at))).collect();
        if self.0.len() > CREDENTIALS_MAX {
            found.push(ConfigIssue::error(
                "auth",
                format!(
                    "{} credentials are given, and a session takes {CREDENTIALS_MAX} at most",
                    self.0.len()
                ),
                "leave those out that no access control list below the roots names",
            ));
        }
        let is_sasl = |(_, auth): &(usize, &Auth)| auth.sasl.is_some();
        if let Some((at, _)) = self.0.iter().enumerate().filter(is_sasl).nth(1) {
            found.push(ConfigIssue::error(
                key(at),
                "SASL is asked for twice, and a session has one SASL user",
                "leave one of the two out; of scheme \"digest\" there may be several",
            ));
        }
        found
    }
}

impl From<Auth> for Auths {
    fn from(auth: Auth) -> Auths {
        Auths(vec![auth])
    }
}

impl<'de> Deserialize<'de> for Auths {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Auths, D::Error> {
        deserializer.deserialize_any(AuthsVisitor)
    }
}

struct AuthsVisitor;

impl<'de> Visitor<'de> for AuthsVisitor {
    type Value = Auths;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a table of credentials, or a list of such tables")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Auths, A::Error> {
        Auth::deserialize(MapAccessDeserializer::new(map)).map(Auths::from)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Auths, A::Error> {
        let mut all = Vec::new();
        while let Some(auth) = list.next_element()? {
            all.push(auth);
        }
        Ok(Auths(all))
    }
}

impl JsonSchema for Auths {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Auths".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let auth = generator.subschema_for::<Auth>();
        json_schema!({"anyOf": [auth, {"type": "array", "items": auth}]})
    }
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

    /// The reason why the parts do not make whole credentials. `at` is the key of this table.
    fn objection(&self, at: &str) -> Option<ConfigIssue> {
        let key_of = |key: &str| key.replacen("auth", at, 1);
        if self.credentials().is_none() {
            let (key, message) = self.first_problem();
            let (key, message) = (key_of(key), key_of(message));
            let remedy = "give scheme = \"digest\" and id = \"user:${ZK_PASSWORD}\", or sasl = \"digest-md5\", user and password";
            return Some(ConfigIssue::error(key, message, remedy));
        }
        let id = self.id.as_ref().map(Secret::reveal);
        let half = id.is_some_and(|id| id.split_once(':').is_none_or(|(user, _)| user.is_empty()));
        half.then(|| {
            ConfigIssue::error(
                key_of("auth.id"),
                key_of("auth.id is not of the form user:password"),
                "write it as \"user:${ZK_PASSWORD}\"",
            )
        })
    }

    fn first_problem(&self) -> (&'static str, &'static str) {
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
