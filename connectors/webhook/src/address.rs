//! Which addresses a webhook may reach. Pure.
//!
//! A URL can be chosen, and the name in it moved, by somebody who must not reach what this machine reaches: services on
//! it, its neighbours, the metadata service of a cloud. So only addresses of the public internet are let through, in
//! every notation: IPv6 has several notations of an IPv4 address.
//!
//! This module must never let an unknown address through: IPv6 outside of the global range is refused as a whole.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A block of IPv4 addresses and what it is.
type Block = (Ipv4Addr, u32, &'static str);

const fn block(a: u8, b: u8, c: u8, d: u8, length: u32, what: &'static str) -> Block {
    (Ipv4Addr::new(a, b, c, d), length, what)
}

const METADATA: &str = "the metadata service of a cloud";
const PRIVATE: &str = "a private network";

/// Blocks outside of the public internet (IANA's registry of special purposes), and metadata services that have
/// addresses in public blocks. The first match names the address, so narrow blocks come first.
const REFUSED: [Block; 21] = [
    block(169, 254, 169, 254, 32, METADATA),
    block(168, 63, 129, 16, 32, METADATA),
    block(100, 100, 100, 200, 32, METADATA),
    block(192, 0, 0, 192, 32, METADATA),
    block(0, 0, 0, 0, 32, "the unspecified address"),
    block(0, 0, 0, 0, 8, "this network"),
    block(10, 0, 0, 0, 8, PRIVATE),
    block(100, 64, 0, 0, 10, "a carrier's private network"),
    block(127, 0, 0, 0, 8, "this machine"),
    block(169, 254, 0, 0, 16, "the local link"),
    block(172, 16, 0, 0, 12, PRIVATE),
    block(192, 0, 0, 0, 24, "reserved for protocols"),
    block(192, 0, 2, 0, 24, "reserved for documentation"),
    block(192, 88, 99, 0, 24, "a relay of 6to4"),
    block(192, 168, 0, 0, 16, PRIVATE),
    block(198, 18, 0, 0, 15, "reserved for benchmarks"),
    block(198, 51, 100, 0, 24, "reserved for documentation"),
    block(203, 0, 113, 0, 24, "reserved for documentation"),
    block(224, 0, 0, 0, 4, "multicast"),
    block(255, 255, 255, 255, 32, "broadcast"),
    block(240, 0, 0, 0, 4, "reserved"),
];

/// The kind of an address that a webhook must not reach; `None` if it may.
pub(crate) fn refusal(address: IpAddr) -> Option<&'static str> {
    match address {
        IpAddr::V4(address) => refusal_v4(address),
        IpAddr::V6(address) => refusal_v6(address),
    }
}

fn refusal_v4(address: Ipv4Addr) -> Option<&'static str> {
    let holds = |(start, length, _): &&Block| {
        let mask = u32::MAX.checked_shl(32 - length).unwrap_or(0);
        address.to_bits() & mask == start.to_bits()
    };
    REFUSED.iter().find(holds).map(|(_, _, what)| *what)
}

fn refusal_v6(address: Ipv6Addr) -> Option<&'static str> {
    let named = match address.segments() {
        [0, 0, 0, 0, 0, 0, 0, 0] => Some("the unspecified address"),
        [0, 0, 0, 0, 0, 0, 0, 1] => Some("this machine"),
        [0xfd00, 0x0ec2, 0, 0, 0, 0, 0, 0x0254] => Some(METADATA),
        [0xfd20, 0x0ce, 0, 0, 0, 0, 0, 0x0254] => Some(METADATA),
        [first, ..] if first & 0xfe00 == 0xfc00 => Some(PRIVATE),
        [first, ..] if first & 0xffc0 == 0xfe80 => Some("the local link"),
        [first, ..] if first & 0xffc0 == 0xfec0 => Some("a private network of old"),
        [first, ..] if first & 0xff00 == 0xff00 => Some("multicast"),
        [0x2001, 0, ..] => Some("a tunnel (Teredo)"),
        [0x2001, second, ..] if second < 0x0200 => Some("reserved for protocols"),
        [0x2001, 0x0db8, ..] => Some("reserved for documentation"),
        [0x3fff, second, ..] if second < 0x1000 => Some("reserved for documentation"),
        _ => None,
    };
    if named.is_some() {
        return named;
    }
    match embedded(address) {
        Some(inner) => refusal_v4(inner),
        None if is_global_unicast(address) => None,
        None => Some("no address of the public internet"),
    }
}

/// 2000::/3, all that has been given out.
fn is_global_unicast(address: Ipv6Addr) -> bool {
    address.segments()[0] & 0xe000 == 0x2000
}

/// The IPv4 address that traffic to this one reaches in the end.
fn embedded(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let of = |high: u16, low: u16| Some(Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low)));
    match address.segments() {
        // Compatible, mapped and translated.
        [0, 0, 0, 0, 0, 0, high, low]
        | [0, 0, 0, 0, 0, 0xffff, high, low]
        | [0, 0, 0, 0, 0xffff, 0, high, low] => of(high, low),
        // NAT64.
        [0x0064, 0xff9b, 0, 0, 0, 0, high, low] => of(high, low),
        // 6to4.
        [0x2002, high, low, ..] => of(high, low),
        // ISATAP.
        [_, _, _, _, 0 | 0x0200, 0x5efe, high, low] => of(high, low),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(address: &str, expected: Option<&str>) {
        let found = refusal(address.parse().expect("a test gives addresses"));
        match (found, expected) {
            (Some(found), Some(part)) => assert!(found.contains(part), "{address}: {found}"),
            (found, expected) => assert_eq!(found, expected, "{address}"),
        }
    }

    #[test]
    fn addresses_of_the_public_internet_are_let_through() {
        for address in [
            "1.1.1.1",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "126.255.255.255",
            "128.0.0.1",
            "169.253.255.255",
            "172.15.255.255",
            "172.32.0.0",
            "192.167.255.255",
            "192.169.0.0",
            "198.17.255.255",
            "198.20.0.0",
            "223.255.255.255",
            "2606:4700:4700::1111",
            "2a00:1450:4001:81b::200e",
            "2001:4860:4860::8888",
            // Forms of 1.1.1.1.
            "::ffff:1.1.1.1",
            "64:ff9b::101:101",
            "2002:101:101::1",
        ] {
            check(address, None);
        }
    }

    #[test]
    fn addresses_outside_of_the_public_internet_are_refused_by_name() {
        for (address, what) in [
            ("0.0.0.0", "unspecified"),
            ("0.1.2.3", "this network"),
            ("10.0.0.1", "private"),
            ("10.255.255.255", "private"),
            ("100.64.0.0", "carrier"),
            ("100.127.255.255", "carrier"),
            ("127.0.0.1", "this machine"),
            ("127.255.255.254", "this machine"),
            ("169.254.0.1", "local link"),
            ("169.254.169.254", "metadata"),
            ("100.100.100.200", "metadata"),
            ("168.63.129.16", "metadata"),
            ("192.0.0.192", "metadata"),
            ("172.16.0.0", "private"),
            ("172.31.255.255", "private"),
            ("192.0.0.1", "protocols"),
            ("192.0.2.1", "documentation"),
            ("192.88.99.1", "6to4"),
            ("192.168.0.0", "private"),
            ("192.168.255.255", "private"),
            ("198.18.0.1", "benchmarks"),
            ("198.19.255.255", "benchmarks"),
            ("198.51.100.7", "documentation"),
            ("203.0.113.7", "documentation"),
            ("224.0.0.1", "multicast"),
            ("239.255.255.255", "multicast"),
            ("240.0.0.1", "reserved"),
            ("255.255.255.255", "broadcast"),
            ("::", "unspecified"),
            ("::1", "this machine"),
            ("fc00::1", "private"),
            ("fdff:ffff::1", "private"),
            ("fd00:ec2::254", "metadata"),
            ("fd20:ce::254", "metadata"),
            ("fe80::1", "local link"),
            ("febf::1", "local link"),
            ("fec0::1", "private network of old"),
            ("ff02::1", "multicast"),
            ("2001::1", "Teredo"),
            ("2001:2::1", "protocols"),
            ("2001:20::1", "protocols"),
            ("2001:db8::1", "documentation"),
            ("3fff::1", "documentation"),
            ("100::1", "no address of the public"),
            ("64:ff9b:1::a00:1", "no address of the public"),
            ("4000::1", "no address of the public"),
            ("5f00::1", "no address of the public"),
        ] {
            check(address, Some(what));
        }
    }

    #[test]
    fn an_ipv4_address_is_known_in_every_form_that_ipv6_has_for_it() {
        for (address, what) in [
            ("127.0.0.1", "this machine"),
            ("10.1.2.3", "private"),
            ("169.254.169.254", "metadata"),
            ("100.64.0.1", "carrier"),
            ("224.0.0.1", "multicast"),
        ] {
            let inner: Ipv4Addr = address.parse().unwrap();
            let [a, b, c, d] = inner.octets();
            let hex = format!("{a:02x}{b:02x}:{c:02x}{d:02x}");
            for form in [
                format!("::{hex}"),
                format!("::ffff:{address}"),
                format!("::ffff:{hex}"),
                format!("::ffff:0:{hex}"),
                format!("64:ff9b::{hex}"),
                format!("2002:{hex}::1"),
                format!("2606:4700::5efe:{hex}"),
                format!("2606:4700::200:5efe:{hex}"),
            ] {
                check(&form, Some(what));
            }
        }
    }
}
