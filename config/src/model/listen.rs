//! The address on which the bridge listens.

use std::borrow::Cow;
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::str::FromStr;

use bridge_core::text_value;

/// An address to listen on, or nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listen {
    /// Nothing is served.
    Off,
    /// Listens at this address.
    At(SocketAddr),
}

/// Not an address to listen on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "'{0}' is not an address to listen on: write an IP address and a port, as in 127.0.0.1:9641, or \"off\""
)]
pub struct BadListen(String);

impl Listen {
    /// Whether others than this machine can connect.
    pub fn is_open(self) -> bool {
        match self {
            Listen::Off => false,
            Listen::At(address) => !address.ip().is_loopback(),
        }
    }
}

impl Default for Listen {
    fn default() -> Listen {
        Listen::At(SocketAddr::from((Ipv4Addr::LOCALHOST, 9641)))
    }
}

impl FromStr for Listen {
    type Err = BadListen;

    fn from_str(text: &str) -> Result<Listen, BadListen> {
        if text == "off" {
            return Ok(Listen::Off);
        }
        let numeric = match text.strip_prefix("localhost:") {
            Some(port) => Cow::Owned(format!("127.0.0.1:{port}")),
            None => Cow::Borrowed(text),
        };
        numeric
            .parse()
            .map(Listen::At)
            .map_err(|_| BadListen(text.to_owned()))
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Listen::Off => f.write_str("off"),
            Listen::At(address) => address.fmt(f),
        }
    }
}

text_value!(Listen, {
    "type": "string",
    "description": "An IP address and a port, or off.",
    "examples": ["127.0.0.1:9641", "[::1]:9641", "off"],
});

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_addresses_and_off_are_closed_to_others() {
        for (text, open) in [
            ("off", false),
            ("127.0.0.1:9641", false),
            ("127.1.2.3:1", false),
            ("[::1]:9641", false),
            ("localhost:9641", false),
            ("0.0.0.0:9641", true),
            ("[::]:9641", true),
            ("10.0.0.7:9641", true),
        ] {
            assert_eq!(text.parse().map(Listen::is_open), Ok(open), "{text}");
        }
        for bad in [
            "",
            "9641",
            ":9641",
            "example.com:9641",
            "127.0.0.1",
            "127.0.0.1:70000",
        ] {
            assert!(bad.parse::<Listen>().is_err(), "{bad}");
        }
    }
}
