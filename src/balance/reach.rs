//! The addresses that no upstream may have, whatever name leads to them.
//!
//! In: an address of a configuration or of a resolver, and the networks that the operator allows nevertheless. Out: the reason why the
//! gateway does not connect to it. Link-local and metadata addresses answer with a machine's cloud credentials. An IPv6 address that
//! carries an IPv4 address (mapped, translated, tunnelled) reaches that one, so both are judged. A network's own prefix for
//! translation looks like any other address: nobody can see it here.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Why an address is not called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Forbidden {
    /// It is valid on its own link only: 169.254.0.0/16, `fe80::/10`.
    LinkLocal,
    /// A cloud's metadata service answers there.
    Metadata,
    /// It names a group of hosts.
    Multicast,
}

/// Metadata services outside of the link-local networks: Alibaba, Oracle, Azure.
const METADATA_V4: [Ipv4Addr; 3] =
    [Ipv4Addr::new(100, 100, 100, 200), Ipv4Addr::new(192, 0, 0, 192), Ipv4Addr::new(168, 63, 129, 16)];
/// Those of AWS and of Google.
const METADATA_V6: [Ipv6Addr; 2] =
    [Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254), Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254)];

impl Forbidden {
    /// The reason in words.
    pub fn name(self) -> &'static str {
        match self {
            Self::LinkLocal => "link-local",
            Self::Metadata => "metadata service",
            Self::Multicast => "multicast",
        }
    }

    /// The reason not to call this address, itself and not an address inside it.
    fn of(address: IpAddr) -> Option<Self> {
        let (link_local, metadata) = match address {
            IpAddr::V4(v4) => (v4.is_link_local(), METADATA_V4.contains(&v4)),
            IpAddr::V6(v6) => (v6.is_unicast_link_local(), METADATA_V6.contains(&v6)),
        };
        match () {
            () if link_local => Some(Self::LinkLocal),
            () if metadata => Some(Self::Metadata),
            () if address.is_multicast() => Some(Self::Multicast),
            () => None,
        }
    }
}

/// A network: its first address as 128 bits (IPv4 as a mapped address), and the bits of its prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Network {
    first: u128,
    prefix: u32,
}

impl Network {
    fn parse(text: &str) -> Option<Self> {
        let (address, prefix) = text.split_once('/').map_or((text, None), |(address, prefix)| (address, Some(prefix)));
        let address: IpAddr = address.trim().parse().ok()?;
        let bits = if address.is_ipv4() { 32 } else { 128 };
        let prefix = prefix.map_or(Some(bits), |prefix| prefix.trim().parse::<u32>().ok().filter(|n| *n <= bits))?;
        let prefix = prefix + 128 - bits;
        let first = wide(address);
        (first & !mask(prefix) == 0).then_some(Self { first, prefix })
    }

    fn has(self, address: IpAddr) -> bool {
        wide(address) & mask(self.prefix) == self.first
    }
}

fn mask(prefix: u32) -> u128 {
    u128::MAX.checked_shl(128 - prefix).unwrap_or(0)
}

fn wide(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().to_bits(),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

/// The addresses that upstreams may have: all but the forbidden ones, and of those the networks that the operator allows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reach {
    allowed: Vec<Network>,
}

impl Reach {
    /// With these networks allowed, separated by commas, as in `169.254.7.0/24,fe80::1`. `Err`: the part that is no network.
    pub fn parse(text: &str) -> Result<Self, String> {
        let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
        let allowed =
            parts.map(|part| Network::parse(part).ok_or_else(|| part.to_owned())).collect::<Result<_, _>>()?;
        Ok(Self { allowed })
    }

    /// Why this address is not called; `None` for one that may be.
    pub fn forbids(&self, address: IpAddr) -> Option<Forbidden> {
        if self.allowed.iter().any(|network| network.has(address)) {
            return None;
        }
        let inside = match address {
            IpAddr::V4(_) => [None; 2],
            IpAddr::V6(v6) => carried(v6),
        };
        let judged = inside.into_iter().flatten().map(IpAddr::V4);
        let judged = judged.filter(|one| !self.allowed.iter().any(|network| network.has(*one)));
        Forbidden::of(address).or_else(|| judged.into_iter().find_map(Forbidden::of))
    }
}

/// The IPv4 addresses that an IPv6 address leads to.
fn carried(address: Ipv6Addr) -> [Option<Ipv4Addr>; 2] {
    let s = address.segments();
    let v4 = |high: u16, low: u16| Some(Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low)));
    let last = v4(s[6], s[7]);
    match s {
        // Mapped, compatible (RFC 4291; `::` and `::1` carry none that is forbidden), translated (RFC 2765), NAT64 (RFC 6052),
        // ISATAP (RFC 5214).
        [0, 0, 0, 0, 0, 0xffff | 0, ..]
        | [0, 0, 0, 0, 0xffff, 0, ..]
        | [0x64, 0xff9b, 0, 0, 0, 0, ..]
        | [.., 0 | 0x200, 0x5efe, _, _] => [last, None],
        // Local NAT64 (RFC 8215): a prefix of 96 bits, or one of 48 with eight zero bits inside the address.
        [0x64, 0xff9b, 1, ..] => [last, v4(s[3], (s[4] & 0xff) << 8 | s[5] >> 8)],
        // 6to4 (RFC 3056).
        [0x2002, ..] => [v4(s[1], s[2]), None],
        // Teredo (RFC 4380): the server's address, and the client's with all bits turned.
        [0x2001, 0, ..] => [v4(s[2], s[3]), v4(!s[6], !s[7])],
        _ => [None; 2],
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const FORBIDDEN: [&str; 24] = [
        "169.254.169.254",
        "169.254.0.1",
        "100.100.100.200",
        "192.0.0.192",
        "168.63.129.16",
        "224.0.0.1",
        "fe80::1",
        "febf::1",
        "ff02::1",
        "fd00:ec2::254",
        "fd20:ce::254",
        "::ffff:169.254.169.254",
        "::169.254.169.254",
        "::ffff:0:169.254.169.254",
        "64:ff9b::a9fe:a9fe",
        "64:ff9b::6464:64c8",
        "64:ff9b:1::a9fe:a9fe",
        "64:ff9b:1:a9fe:a9:fe00::",
        "2002:a9fe:a9fe::1",
        "2001:0:a9fe:a9fe::",
        "2001:0:808:808:0:0:5601:5601",
        "2001:db8::5efe:169.254.169.254",
        "2001:db8::200:5efe:a9fe:a9fe",
        "fe80::ffff",
    ];

    fn at(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn forbidden_address_is_found_in_each_spelling() {
        for text in FORBIDDEN {
            assert!(Reach::default().forbids(at(text)).is_some(), "{text}");
        }
        for text in [
            "127.0.0.1",
            "10.0.0.1",
            "169.253.0.1",
            "0.0.0.0",
            "::",
            "::1",
            "::ffff:10.0.0.1",
            "64:ff9b::808:808",
            "2002:808:808::1",
            "2001:db8::1",
            "fd00::1",
            "2600:1901::1",
        ] {
            assert_eq!(Reach::default().forbids(at(text)), None, "{text}");
        }
    }

    #[test]
    fn allowed_network_lifts_the_rule_for_itself_only() {
        let reach = Reach::parse("169.254.7.0/24, fe80::7").unwrap();
        for text in ["169.254.7.9", "::ffff:169.254.7.9", "64:ff9b::a9fe:709", "fe80::7"] {
            assert_eq!(reach.forbids(at(text)), None, "{text}");
        }
        for text in ["169.254.8.9", "::ffff:169.254.8.9", "fe80::8", "169.254.169.254"] {
            assert!(reach.forbids(at(text)).is_some(), "{text}");
        }
        let all = Reach::parse("0.0.0.0/0,::/0").unwrap();
        assert!(FORBIDDEN.iter().all(|text| all.forbids(at(text)).is_none()));
    }

    #[test]
    fn network_that_is_none_is_named() {
        assert_eq!(Reach::parse(""), Ok(Reach::default()));
        for text in ["169.254.7.1/24", "169.254.0.0/33", "host", "fe80::/129", "1.2.3"] {
            assert_eq!(Reach::parse(&format!("10.0.0.1,{text}")), Err(text.to_owned()));
        }
    }
}
