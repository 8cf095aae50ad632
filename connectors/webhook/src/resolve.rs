//! Resolves names to addresses, and applies the rules of `address` to the result.
//!
//! The check is part of the connection: the client connects only to addresses that pass here, and a name that is moved
//! later is checked again with the next connection. A check made once, before, could be evaded by moving the name
//! afterwards.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

/// The resolver of names.
pub(crate) trait Lookup: Send + Sync {
    /// All addresses of a name.
    fn lookup(&self, name: &str) -> BoxFuture<'static, io::Result<Vec<IpAddr>>>;
}

/// The resolver of the system, with its files and servers.
pub(crate) struct SystemLookup;

impl Lookup for SystemLookup {
    fn lookup(&self, name: &str) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> {
        let name = name.to_owned();
        async move {
            let found = tokio::net::lookup_host((name, 0)).await?;
            Ok(found.map(|address| address.ip()).collect())
        }
        .boxed()
    }
}

/// The kind of an address that must not be reached.
pub(crate) type Rule = fn(IpAddr) -> Option<&'static str>;

/// The rule if private addresses are allowed.
pub(crate) fn no_refusal(_: IpAddr) -> Option<&'static str> {
    None
}

/// The resolver of names, with the rule for the addresses that it may return.
#[derive(Clone)]
pub(crate) struct Guard {
    pub(crate) lookup: Arc<dyn Lookup>,
    pub(crate) rule: Rule,
}

/// Why a name leads nowhere.
#[derive(Debug)]
pub(crate) enum ResolveError {
    /// It has no address.
    Unknown {
        /// The name.
        name: String,
    },
    /// None of its addresses may be reached.
    Refused {
        /// The name.
        name: String,
        /// One of them.
        address: IpAddr,
        /// The kind of the address.
        what: &'static str,
    },
}

impl fmt::Display for ResolveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ResolveError::Unknown { name } => write!(f, "the name '{name}' has no address"),
            ResolveError::Refused { name, address, what } => write!(
                f,
                "'{name}' is at {address}, which is not on the public internet ({what}); set allow_private_addresses = \
                 true if the receiver is meant to be there"
            ),
        }
    }
}

impl std::error::Error for ResolveError {}

impl Guard {
    /// The addresses of a name, or of an address, that may be reached.
    pub(crate) async fn addresses(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        let found = match name.parse() {
            Ok(address) => vec![address],
            Err(_) => self.lookup.lookup(name).await?,
        };
        let Some(first) = found.first().copied() else {
            return Err(nowhere(ResolveError::Unknown {
                name: name.to_owned(),
            }));
        };
        let refused = (self.rule)(first);
        let mut let_through = found;
        let_through.retain(|address| (self.rule)(*address).is_none());
        match refused {
            Some(what) if let_through.is_empty() => Err(nowhere(ResolveError::Refused {
                name: name.to_owned(),
                address: first,
                what,
            })),
            _ => Ok(let_through),
        }
    }
}

fn nowhere(why: ResolveError) -> io::Error {
    io::Error::new(io::ErrorKind::AddrNotAvailable, why)
}

impl Resolve for Guard {
    fn resolve(&self, name: Name) -> Resolving {
        let guard = self.clone();
        Box::pin(async move {
            let found = guard.addresses(name.as_str()).await?;
            // Port 0 means that of the address.
            let addresses = found.into_iter().map(|address| SocketAddr::new(address, 0));
            Ok(Box::new(addresses) as Addrs)
        })
    }
}
