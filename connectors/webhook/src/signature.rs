//! Signatures according to Standard Webhooks 1.0: they prove to a receiver that the request is from this sink and
//! unchanged.
//!
//! | secret | signature | what the receiver holds |
//! | --- | --- | --- |
//! | `whsec_` and base64 of 24 to 64 bytes | `v1`, HMAC-SHA256 | the same secret |
//! | `whsk_` and base64 of an ed25519 key | `v1a`, ed25519 | the public key, `whpk_` and base64 |
//!
//! Signed is `ID.TIMESTAMP.BODY`. This module must never show a secret, nor a part of one.

use std::fmt;

use aws_lc_rs::hmac;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

const SYMMETRIC: &str = "whsec_";
const ASYMMETRIC: &str = "whsk_";
const PUBLIC: &str = "whpk_";

/// The bounds of the standard: 192 bits can not be guessed, and 512 are all that HMAC-SHA256 makes use of.
const SYMMETRIC_BYTES: std::ops::RangeInclusive<usize> = 24..=64;

/// The seed of an ed25519 key.
const SEED_BYTES: usize = 32;

/// Seed and public key, as most libraries keep a private key.
const SEED_AND_PUBLIC_BYTES: usize = 64;

/// A key that signs.
pub(crate) enum SigningKey {
    /// `v1`
    Symmetric(Box<hmac::Key>),
    /// `v1a`
    Asymmetric(Box<Ed25519KeyPair>),
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SigningKey::Symmetric(_) => "SigningKey(v1)",
            SigningKey::Asymmetric(_) => "SigningKey(v1a)",
        })
    }
}

/// Why a text is no secret. Never with a part of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NoSecret {
    pub(crate) message: String,
    pub(crate) remedy: &'static str,
}

const MAKE_ONE: &str =
    "make one with: echo \"whsec_$(openssl rand -base64 32)\", and give it to the receiver too";
const COPY_IT: &str = "copy the whole secret, with its prefix and the '=' at its end";

impl SigningKey {
    /// Reads a secret as Standard Webhooks writes it.
    pub(crate) fn parse(text: &str) -> Result<SigningKey, NoSecret> {
        if let Some(encoded) = text.strip_prefix(SYMMETRIC) {
            return symmetric(&decode(encoded)?);
        }
        if let Some(encoded) = text.strip_prefix(ASYMMETRIC) {
            return asymmetric(&decode(encoded)?);
        }
        if text.starts_with(PUBLIC) {
            return refused(
                "it is a public key (whpk_), which checks signatures and makes none",
                "give the private key that belongs to it (whsk_)",
            );
        }
        refused(
            "it begins with neither whsec_ nor whsk_, as secrets of Standard Webhooks do",
            MAKE_ONE,
        )
    }

    /// The signature, with its version, as it is in the header.
    pub(crate) fn sign(&self, id: &str, timestamp: u64, body: &[u8]) -> String {
        let head = format!("{id}.{timestamp}.");
        match self {
            SigningKey::Symmetric(key) => {
                let mut context = hmac::Context::with_key(key);
                context.update(head.as_bytes());
                context.update(body);
                format!("v1,{}", STANDARD.encode(context.sign()))
            }
            SigningKey::Asymmetric(pair) => {
                let content = [head.as_bytes(), body].concat();
                format!("v1a,{}", STANDARD.encode(pair.sign(&content)))
            }
        }
    }

    /// The public key with which a receiver checks `v1a` signatures; `None` for a secret that both sides share.
    pub(crate) fn public(&self) -> Option<String> {
        match self {
            SigningKey::Symmetric(_) => None,
            SigningKey::Asymmetric(pair) => Some(format!("{PUBLIC}{}", STANDARD.encode(pair.public_key()))),
        }
    }
}

/// The header `webhook-signature`: one signature by each key, so that receivers may change theirs one after another.
pub(crate) fn header(keys: &[SigningKey], id: &str, timestamp: u64, body: &[u8]) -> String {
    let signatures: Vec<String> = keys.iter().map(|key| key.sign(id, timestamp, body)).collect();
    signatures.join(" ")
}

fn decode(encoded: &str) -> Result<Vec<u8>, NoSecret> {
    STANDARD.decode(encoded).or_else(|_| {
        refused(
            "the text after its prefix is not base64 (letters, digits, '+', '/', '=' at the end)",
            COPY_IT,
        )
    })
}

fn symmetric(bytes: &[u8]) -> Result<SigningKey, NoSecret> {
    if !SYMMETRIC_BYTES.contains(&bytes.len()) {
        let message = format!(
            "it has {} bytes, and Standard Webhooks asks for 24 to 64",
            bytes.len()
        );
        return refused(message, MAKE_ONE);
    }
    Ok(SigningKey::Symmetric(Box::new(hmac::Key::new(
        hmac::HMAC_SHA256,
        bytes,
    ))))
}

fn asymmetric(bytes: &[u8]) -> Result<SigningKey, NoSecret> {
    let pair = match bytes.len() {
        SEED_BYTES => Ed25519KeyPair::from_seed_unchecked(bytes).ok(),
        SEED_AND_PUBLIC_BYTES => {
            let (seed, public) = bytes.split_at(SEED_BYTES);
            Ed25519KeyPair::from_seed_and_public_key(seed, public).ok()
        }
        other => {
            return refused(
                format!("it has {other} bytes; an ed25519 key has 32, or 64 with its public key"),
                COPY_IT,
            );
        }
    };
    match pair {
        Some(pair) => Ok(SigningKey::Asymmetric(Box::new(pair))),
        None => refused("its second half is not the public key of its first half", COPY_IT),
    }
}

fn refused<T>(message: impl Into<String>, remedy: &'static str) -> Result<T, NoSecret> {
    Err(NoSecret {
        message: message.into(),
        remedy,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The examples of the specification and of its libraries.
    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const PRIVATE: &str =
        "whsk_6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbfVKIDij2HKpMKkioLlX0dRqSKJp4AJ6p9lMicMFs6Kvg==";

    #[test]
    fn a_request_is_signed_as_in_the_example_of_the_standard() {
        let key = SigningKey::parse(SECRET).unwrap();
        let signature = key.sign(
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            1_614_265_330,
            br#"{"test": 2432232314}"#,
        );
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
        assert_eq!(key.public(), None);
    }

    #[test]
    fn an_asymmetric_signature_is_checked_with_the_public_key() {
        use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
        let key = SigningKey::parse(PRIVATE).unwrap();
        let signature = key.sign("id", 7, b"body");
        let bytes = STANDARD.decode(signature.strip_prefix("v1a,").unwrap()).unwrap();
        let public = key.public().unwrap();
        assert_eq!(public, "whpk_1SiA4o9hyqTCpIqC5V9HUakiiaeACeqfZTInDBbOir4=");
        let public = STANDARD.decode(public.strip_prefix("whpk_").unwrap()).unwrap();
        let checker = UnparsedPublicKey::new(&ED25519, public);
        checker.verify(b"id.7.body", &bytes).unwrap();
        assert!(checker.verify(b"id.8.body", &bytes).is_err());
    }

    #[test]
    fn a_key_is_read_with_and_without_its_public_half() {
        let whole = STANDARD.decode(PRIVATE.strip_prefix("whsk_").unwrap()).unwrap();
        let seed = format!("whsk_{}", STANDARD.encode(&whole[..32]));
        let signed = |text: &str| SigningKey::parse(text).unwrap().sign("id", 1, b"");
        assert_eq!(signed(&seed), signed(PRIVATE));
    }

    #[test]
    fn each_key_adds_its_signature() {
        let keys = [
            SigningKey::parse(SECRET).unwrap(),
            SigningKey::parse(PRIVATE).unwrap(),
        ];
        let header = header(&keys, "id", 1, b"x");
        let versions: Vec<&str> = header
            .split(' ')
            .map(|one| one.split_once(',').unwrap().0)
            .collect();
        assert_eq!(versions, ["v1", "v1a"]);
    }

    #[test]
    fn a_text_that_is_no_secret_is_refused_without_showing_it() {
        let check = |text: &str, part: &str| {
            let NoSecret { message, .. } = SigningKey::parse(text).unwrap_err();
            assert!(message.contains(part), "{text}: {message}");
            let body = text.rsplit('_').next().unwrap();
            assert!(body.is_empty() || !message.contains(body), "{text}: {message}");
        };
        let mut wrong_half = STANDARD.decode(PRIVATE.strip_prefix("whsk_").unwrap()).unwrap();
        wrong_half[40] ^= 1;
        check("", "neither whsec_ nor whsk_");
        check("hunter2hunter2hunter2", "neither whsec_ nor whsk_");
        check("whsec_", "0 bytes");
        check("whsec_AAAA", "3 bytes");
        check(&format!("whsec_{}", STANDARD.encode([7; 65])), "65 bytes");
        check("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaS", "not base64");
        check("whsec_ä", "not base64");
        check("whsk_AAAA", "3 bytes");
        check(&format!("whsk_{}", STANDARD.encode(wrong_half)), "second half");
        check("whpk_1SiA4o9hyqTCpIqC5V9HUakiiaeACeqfZTInDBbOir4=", "public key");
    }

    #[test]
    fn a_key_is_never_shown() {
        assert_eq!(
            format!("{:?}", SigningKey::parse(SECRET).unwrap()),
            "SigningKey(v1)"
        );
        assert_eq!(
            format!("{:?}", SigningKey::parse(PRIVATE).unwrap()),
            "SigningKey(v1a)"
        );
    }
}
