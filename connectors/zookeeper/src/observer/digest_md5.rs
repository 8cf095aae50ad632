//! The client's side of SASL DIGEST-MD5 (RFC 2831), as quorum ports use it.
//!
//! The client library has it for its own sessions only, and its SASL library has no such mechanism.

use std::collections::HashMap;

use bridge_core::secret::Secret;

/// The service and host that servers register, which is not the name of a host.
const DIGEST_URI: &str = "zookeeper-quorum/zk-quorum-sasl-md5";

/// The count of requests with one nonce.
const FIRST: &str = "00000001";

/// Why a challenge cannot be answered, or an answer is not trusted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum DigestError {
    /// The server sent no challenge of this mechanism.
    #[error("the server's challenge has no {0}: it expects another mechanism than DIGEST-MD5")]
    Without(&'static str),
    /// The server requires a layer that quorum ports do not use.
    #[error("the server offers the quality of protection '{0}', and only 'auth' is possible")]
    Protection(String),
    /// The server did not prove that it knows the password.
    #[error("the server did not prove that it knows the password")]
    Unproved,
}

/// The answer to a challenge, and the proof that the server must give.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct DigestAnswer {
    /// For the server.
    pub(super) token: Vec<u8>,
    proof: String,
}

/// Answers the challenge of a server. `cnonce` must never repeat.
pub(super) fn answer(
    challenge: &[u8],
    user: &str,
    password: &Secret,
    cnonce: &str,
) -> Result<DigestAnswer, DigestError> {
    let text = String::from_utf8_lossy(challenge);
    let fields = fields(&text);
    let nonce = fields.get("nonce").ok_or(DigestError::Without("nonce"))?;
    let realm = fields.get("realm").map_or("", String::as_str);
    if let Some(offered) = fields.get("qop")
        && !offered.split(',').any(|one| one.trim() == "auth")
    {
        return Err(DigestError::Protection(offered.chars().take(64).collect()));
    }
    let proofs = Proofs {
        identity: identity(user, realm, password, nonce, cnonce),
        nonce,
        cnonce,
    };
    let response = proofs.of(&format!("AUTHENTICATE:{DIGEST_URI}"));
    let token = format!(
        "charset=utf-8,username=\"{}\",realm=\"{}\",nonce=\"{}\",nc={FIRST},cnonce=\"{cnonce}\",\
         digest-uri=\"{DIGEST_URI}\",maxbuf=65536,response={response},qop=auth",
        quoted(user),
        quoted(realm),
        quoted(nonce)
    );
    Ok(DigestAnswer {
        token: token.into_bytes(),
        proof: proofs.of(&format!(":{DIGEST_URI}")),
    })
}

impl DigestAnswer {
    /// Checks that the server knows the password, too.
    pub(super) fn check(&self, token: &[u8]) -> Result<(), DigestError> {
        let text = String::from_utf8_lossy(token);
        match fields(&text).get("rspauth") {
            Some(proof) if *proof == self.proof => Ok(()),
            _ => Err(DigestError::Unproved),
        }
    }
}

struct Proofs<'a> {
    identity: String,
    nonce: &'a str,
    cnonce: &'a str,
}

impl Proofs<'_> {
    fn of(&self, action: &str) -> String {
        let action = hex(md5::compute(action));
        let Proofs {
            identity,
            nonce,
            cnonce,
        } = self;
        hex(md5::compute(format!(
            "{identity}:{nonce}:{FIRST}:{cnonce}:auth:{action}"
        )))
    }
}

/// The hash of the credentials and both nonces.
fn identity(user: &str, realm: &str, password: &Secret, nonce: &str, cnonce: &str) -> String {
    let credentials = md5::compute(format!("{user}:{realm}:{}", password.reveal()));
    let mut bytes = credentials.0.to_vec();
    bytes.extend(format!(":{nonce}:{cnonce}").into_bytes());
    hex(md5::compute(bytes))
}

fn hex(digest: md5::Digest) -> String {
    format!("{digest:x}")
}

fn quoted(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"")
}

/// The fields of a challenge: `name=value` or `name="value"`, separated by commas.
fn fields(text: &str) -> HashMap<&str, String> {
    let mut found = HashMap::new();
    let mut rest = text;
    while let Some((name, after)) = rest.split_once('=') {
        let (value, after) = match after.strip_prefix('"') {
            Some(quoted) => unquote(quoted),
            None => {
                let end = after.find(',').unwrap_or(after.len());
                (after[..end].to_owned(), &after[end..])
            }
        };
        found.insert(name.trim(), value);
        rest = after.trim_start_matches([',', ' ']);
    }
    found
}

/// The text up to the closing quotation mark, and what follows that.
fn unquote(text: &str) -> (String, &str) {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return (value, &text[at + 1..]),
            '\\' => value.extend(characters.next().map(|(_, escaped)| escaped)),
            other => value.push(other),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(text: &str) -> Secret {
        Secret::new(text.to_owned())
    }

    const CHALLENGE: &[u8] =
        b"realm=\"zk-quorum-sasl-md5\",nonce=\"OA6MG9tEQGm2hh\",charset=utf-8,algorithm=md5-sess";

    #[test]
    fn a_challenge_is_answered_by_the_rules_of_the_mechanism() {
        let answer = answer(CHALLENGE, "learner", &secret("pass"), "OA6MHXh6VqTrRk").unwrap();
        let text = String::from_utf8(answer.token.clone()).unwrap();
        // Computed with another program.
        assert!(
            text.contains("username=\"learner\",realm=\"zk-quorum-sasl-md5\""),
            "{text}"
        );
        assert!(
            text.contains("response=c05c64916d7f5972234bf97340ac77e4,qop=auth"),
            "{text}"
        );
        assert_eq!(answer.check(b"rspauth=81e3f18836deebc6e9aebc96f95425bb"), Ok(()));
    }

    #[test]
    fn a_server_that_does_not_know_the_password_is_not_trusted() {
        let answer = answer(CHALLENGE, "learner", &secret("pass"), "OA6MHXh6VqTrRk").unwrap();
        for token in [&b""[..], b"rspauth=", b"rspauth=00000000000000000000000000000000"] {
            assert_eq!(answer.check(token), Err(DigestError::Unproved));
        }
    }

    #[test]
    fn a_challenge_of_another_mechanism_is_refused() {
        let answer = |challenge: &[u8]| answer(challenge, "u", &secret("p"), "c");
        assert_eq!(answer(b""), Err(DigestError::Without("nonce")));
        assert_eq!(answer(&[0xff; 40]), Err(DigestError::Without("nonce")));
        assert_eq!(
            answer(b"nonce=\"n\",qop=\"auth-conf\""),
            Err(DigestError::Protection("auth-conf".to_owned()))
        );
        assert!(answer(b"qop=\"auth-int,auth\", nonce=\"a\\\"b\"").is_ok());
    }

    #[test]
    fn quotation_marks_are_escaped_in_both_directions() {
        let answer = answer(b"nonce=\"a\\\"b\",realm=\"r\"", "u\"s\\er", &secret("p"), "c").unwrap();
        let text = String::from_utf8(answer.token).unwrap();
        assert!(text.contains("username=\"u\\\"s\\\\er\""), "{text}");
        assert!(text.contains("nonce=\"a\\\"b\""), "{text}");
    }
}
