//! The connect string: servers, and the chroot below which all paths are.

use std::fmt;
use std::str::FromStr;

use bridge_core::path::ZnodePath;
use bridge_core::read_from_text;

/// The port that a server has if none is given.
const PORT: u16 = 2181;

/// A connect string that was taken apart once, so that all its parts are known to be right.
#[derive(Clone, PartialEq, Eq)]
pub struct Connect {
    text: String,
    servers: Vec<Server>,
    chroot: Option<ZnodePath>,
}

/// One server of a connect string.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// A name or an address, IPv6 without brackets.
    pub host: String,
    /// Its client port.
    pub port: u16,
}

/// A text that is no connect string.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "'{text}' is not a connect string: {reason}; give servers, separated by commas, and a chroot if there is one, \
     as in \"a:2181,b:2181,c:2181/chroot\""
)]
pub struct BadConnect {
    text: String,
    reason: String,
}

impl Connect {
    /// As it was written, without spaces around the commas.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The servers, at least one.
    pub fn servers(&self) -> &[Server] {
        &self.servers
    }

    /// The znode below which all paths are; `None` for the top.
    pub fn chroot(&self) -> Option<&ZnodePath> {
        self.chroot.as_ref()
    }
}

impl FromStr for Connect {
    type Err = BadConnect;

    fn from_str(text: &str) -> Result<Connect, BadConnect> {
        parse(text).map_err(|reason| BadConnect {
            text: text.to_owned(),
            reason,
        })
    }
}

fn parse(text: &str) -> Result<Connect, String> {
    if let Some((scheme, _)) = text.split_once("://") {
        return Err(format!(
            "it has no scheme, so leave '{scheme}://' out (for TLS write [source.tls])"
        ));
    }
    let (servers, chroot) = match text.find('/') {
        Some(at) => (&text[..at], Some(&text[at..])),
        None => (text, None),
    };
    if let Some(chroot) = chroot
        && chroot.contains(',')
    {
        return Err("write the chroot once, after the last server".to_owned());
    }
    let chroot = match chroot {
        None | Some("/") => None,
        Some(path) => Some(ZnodePath::parse(path.trim_end()).map_err(|bad| bad.to_string())?),
    };
    let servers = servers
        .split(',')
        .map(|one| server(one.trim()))
        .collect::<Result<Vec<_>, _>>()?;
    Ok(Connect {
        text: written(&servers, chroot.as_ref()),
        servers,
        chroot,
    })
}

fn server(text: &str) -> Result<Server, String> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest
                .split_once(']')
                .ok_or_else(|| format!("'{text}' lacks its ']'"))?;
            (host, port.strip_prefix(':'))
        }
        None if text.matches(':').count() > 1 => {
            return Err(format!(
                "write the IPv6 address '{text}' in brackets, as in [::1]:2181"
            ));
        }
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    if host.is_empty() {
        return Err("a server has no name".to_owned());
    }
    if let Some(odd) = host
        .chars()
        .find(|c| !c.is_alphanumeric() && !"-._:%".contains(*c))
    {
        return Err(format!("the server name '{host}' holds {odd:?}"));
    }
    Ok(Server {
        host: host.to_owned(),
        port: port.map_or(Ok(PORT), |port| port_number(host, port))?,
    })
}

fn port_number(host: &str, port: &str) -> Result<u16, String> {
    let number = port.parse().ok().filter(|number| *number > 0);
    number.ok_or_else(|| format!("'{port}' of server '{host}' is not a port from 1 to 65535"))
}

fn written(servers: &[Server], chroot: Option<&ZnodePath>) -> String {
    let servers: Vec<String> = servers.iter().map(Server::to_string).collect();
    let chroot = chroot.map(ZnodePath::as_str).unwrap_or_default();
    format!("{}{chroot}", servers.join(","))
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            return write!(f, "[{}]:{}", self.host, self.port);
        }
        write!(f, "{}:{}", self.host, self.port)
    }
}

impl fmt::Display for Connect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Connect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} server(s)", self.servers.len())
    }
}

read_from_text!(Connect, {
    "type": "string",
    "description": "Servers, separated by commas, and a chroot if there is one.",
    "minLength": 1,
    "examples": ["127.0.0.1:2181", "a:2181,b:2181,c:2181/chroot"],
});
