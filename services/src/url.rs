//! URLs as registries write them: form encoding, parameters, and users that are never shown.

use std::collections::BTreeMap;

/// The parts of a URL. The user and the password are dropped when it is read.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub(crate) struct Url {
    pub(crate) scheme: String,
    pub(crate) host: String,
    pub(crate) port: Option<u16>,
    /// Without the leading slash.
    pub(crate) path: String,
    pub(crate) parameters: BTreeMap<String, String>,
}

/// More parameters than a registry writes.
const PARAMETERS_MAX: usize = 256;

impl Url {
    /// Reads `scheme://user:password@host:port/path?name=value&…`. `None` if it is no such text.
    pub(crate) fn parse(text: &str) -> Option<Url> {
        let (scheme, rest) = text.split_once("://")?;
        let is_scheme = !scheme.is_empty()
            && scheme
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"+-._".contains(&byte));
        if !is_scheme {
            return None;
        }
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (address, path) = rest.split_once('/').unwrap_or((rest, ""));
        let address = address.rsplit_once('@').map_or(address, |(_, address)| address);
        // PostgreSQL's URLs may name several servers; the first is enough for an address.
        let address = address.split(',').next().unwrap_or(address);
        let (host, port) = crate::payload::host_port(address)?;
        Some(Url {
            scheme: scheme.to_owned(),
            host,
            port,
            path: path.to_owned(),
            parameters: parameters(query)?,
        })
    }

    /// A parameter that is not empty.
    pub(crate) fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters
            .get(name)
            .map(String::as_str)
            .filter(|value| !value.is_empty())
    }
}

/// `name=value&…`, each decoded.
pub(crate) fn parameters(query: &str) -> Option<BTreeMap<String, String>> {
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    let mut found = BTreeMap::new();
    for pair in pairs {
        if found.len() == PARAMETERS_MAX {
            return None;
        }
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        found.insert(form_decode(name)?, form_decode(value)?);
    }
    Some(found)
}

/// Decodes form encoding: `%` and two hex digits, and `+` for a space. `None` if it is no encoding of a text.
pub(crate) fn form_decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes().iter();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let (high, low) = (hex(*rest.next()?)?, hex(*rest.next()?)?);
                high << 4 | low
            }
            byte => *byte,
        });
    }
    String::from_utf8(bytes).ok()
}

fn hex(byte: u8) -> Option<u8> {
    char::from(byte)
        .to_digit(16)
        .and_then(|digit| u8::try_from(digit).ok())
}

/// A word that names a secret among the parameters of a URL.
const SECRET_WORDS: [&str; 6] = ["password", "passwd", "secret", "token", "accesskey", "credential"];

/// Whether the value of a parameter must not be shown.
pub(crate) fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase().replace(['-', '_', '.'], "");
    SECRET_WORDS.iter().any(|word| name.contains(word)) || name == "pwd" || name == "username"
}

/// In the place of a secret.
pub(crate) const MASK: &str = "***";

/// A path or text in which nothing of a URL's user, password or secret parameter is left. The text itself where it has
/// none of them.
pub(crate) fn masked(text: &str) -> String {
    let lower = text.to_ascii_lowercase();
    let (scheme, slash, at, mark) = match lower.contains("%3a%2f%2f") {
        true => ("%3a%2f%2f", "%2f", "%40", ("%3f", "%26", "%3d")),
        false => ("://", "/", "@", ("?", "&", "=")),
    };
    let Some(start) = lower.find(scheme).map(|start| start + scheme.len()) else {
        return text.to_owned();
    };
    let question = lower[start..].find(mark.0).map_or(text.len(), |end| start + end);
    let end = lower[start..question]
        .find(slash)
        .map_or(question, |end| start + end);
    let user_end = lower[start..end].rfind(at).map(|at| start + at);
    let mut shown = text[..start].to_owned();
    if user_end.is_some() {
        shown.push_str(MASK);
    }
    shown.push_str(&text[user_end.unwrap_or(start)..question]);
    let Some(query) = text
        .get(question + mark.0.len()..)
        .filter(|_| question < text.len())
    else {
        return shown;
    };
    shown.push_str(&text[question..question + mark.0.len()]);
    let mut rest = query;
    loop {
        let lower = rest.to_ascii_lowercase();
        let end = lower.find(mark.1).unwrap_or(rest.len());
        let pair = &rest[..end];
        match lower[..end].find(mark.2) {
            Some(equals) if is_secret(&pair[..equals]) => {
                shown.push_str(&pair[..equals + mark.2.len()]);
                shown.push_str(MASK);
            }
            _ => shown.push_str(pair),
        }
        if end == rest.len() {
            return shown;
        }
        shown.push_str(&rest[end..end + mark.1.len()]);
        rest = &rest[end + mark.1.len()..];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_read_without_its_user() {
        let url =
            Url::parse("dubbo://admin:geheim@10.0.0.7:20880/com.acme.Pay?side=provider&x=a%20b+c").unwrap();
        assert_eq!(
            (&*url.scheme, &*url.host, url.port),
            ("dubbo", "10.0.0.7", Some(20880))
        );
        assert_eq!((&*url.path, url.parameter("x")), ("com.acme.Pay", Some("a b c")));
        assert!(!format!("{url:?}").contains("geheim"));
        for wrong in ["", "://h", "a b://h", "dubbo://", "dubbo://h:70000/"] {
            assert_eq!(Url::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn form_encoding_that_is_cut_or_no_text_is_refused() {
        assert_eq!(form_decode("%C3%BC+").as_deref(), Some("ü "));
        for wrong in ["%", "%4", "%zz", "%ff"] {
            assert_eq!(form_decode(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn users_passwords_and_secret_parameters_are_masked_in_both_encodings() {
        let check = |text, expected| assert_eq!(masked(text), expected);
        check("/a/b", "/a/b");
        check("/p/dubbo://u:p@h:1/x?a=1", "/p/dubbo://***@h:1/x?a=1");
        check(
            "/p/dubbo://h:1/x?password=p&b=2",
            "/p/dubbo://h:1/x?password=***&b=2",
        );
        check(
            "/p/x%3A%2F%2Fu%3Ap%40h%3A1%2Fs%3Fa%3D1%26access-key%3Dk",
            "/p/x%3A%2F%2F***%40h%3A1%2Fs%3Fa%3D1%26access-key%3D***",
        );
        check("/p/x%3A%2F%2Fh%2Fa%40b", "/p/x%3A%2F%2Fh%2Fa%40b");
        check(
            "/p/x%3A%2F%2Fh%2Fs%3Fsecret%3Ds%26b%3D2",
            "/p/x%3A%2F%2Fh%2Fs%3Fsecret%3D***%26b%3D2",
        );
    }
}
