//! Addresses as people and programs type them. Identities and the fields of an event stay as they are registered.

use std::net::Ipv6Addr;

use bridge_core::record::Endpoint;

/// `scheme://host:port` of an address, or what is known of it; an IPv6 address in brackets where more belongs to it.
#[must_use]
pub fn shown_endpoint(endpoint: &Endpoint) -> String {
    match &endpoint.scheme {
        Some(scheme) => format!("{scheme}://{}", host_port(&endpoint.host, endpoint.port, true)),
        None => shown_address(endpoint),
    }
}

/// `host:port` of an address, without the scheme.
pub(crate) fn shown_address(endpoint: &Endpoint) -> String {
    host_port(&endpoint.host, endpoint.port, false)
}

/// The identity of an instance with these addresses: an IPv6 address with a port has brackets.
#[must_use]
pub fn shown_instance(instance: &str, endpoints: &[Endpoint]) -> String {
    let is_host = endpoints.iter().any(|endpoint| endpoint.host == instance);
    match instance.rsplit_once(':') {
        Some((host, port)) if !is_host && is_ipv6(host) => match port.parse() {
            Ok(port) => host_port(host, Some(port), true),
            Err(_) => instance.to_owned(),
        },
        _ => instance.to_owned(),
    }
}

pub(crate) fn host_port(host: &str, port: Option<u16>, is_url: bool) -> String {
    let must_mark = is_ipv6(host) && (port.is_some() || is_url);
    let host = match must_mark {
        true => format!("[{host}]"),
        false => host.to_owned(),
    };
    match port {
        Some(port) => format!("{host}:{port}"),
        None => host,
    }
}

/// Without brackets; a zone after `%` belongs to it.
fn is_ipv6(host: &str) -> bool {
    let address = host.split('%').next().unwrap_or_default();
    address.parse::<Ipv6Addr>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv6_address_has_brackets_before_a_port_and_in_a_url_and_nothing_else_has() {
        let shown = |scheme: Option<&str>, host: &str, port| {
            shown_endpoint(&Endpoint {
                scheme: scheme.map(str::to_owned),
                host: host.to_owned(),
                port,
                ..Endpoint::default()
            })
        };
        assert_eq!(
            shown(Some("rest"), "fd00::5", Some(8080)),
            "rest://[fd00::5]:8080"
        );
        assert_eq!(shown(Some("rest"), "fd00::5", None), "rest://[fd00::5]");
        assert_eq!(shown(None, "fe80::1%eth0", Some(1)), "[fe80::1%eth0]:1");
        assert_eq!(shown(None, "fd00::5", None), "fd00::5");
        assert_eq!(shown(None, "[fd00::5]", Some(1)), "[fd00::5]:1");
        assert_eq!(shown(Some("dubbo"), "10.0.0.7", Some(1)), "dubbo://10.0.0.7:1");
        let endpoint = Endpoint {
            host: "fd00::7:80".to_owned(),
            ..Endpoint::default()
        };
        for (instance, endpoints, expected) in [
            ("fd00::7:80", &[][..], "[fd00::7]:80"),
            ("fd00::7:80", &[endpoint], "fd00::7:80"),
            ("10.0.0.7:80", &[], "10.0.0.7:80"),
            ("rs1.example.com,16020", &[], "rs1.example.com,16020"),
            ("shard 3", &[], "shard 3"),
        ] {
            assert_eq!(shown_instance(instance, endpoints), expected);
        }
    }
}
