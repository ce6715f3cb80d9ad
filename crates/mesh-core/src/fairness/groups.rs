//! Coarser than entities: whose network a node is in.

use std::net::IpAddr;

use super::asmap::Asmap;

/// A network that one company or country can switch off or listen to as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum NetworkGroup {
    /// An autonomous system, if the operator supplied a map that knows the address.
    Asn(u32),
    /// Else the first two bytes of an IPv4 address,
    V4([u8; 2]),
    /// or the first four of an IPv6 address.
    V6([u8; 4]),
}

impl NetworkGroup {
    /// The group of an address.
    pub fn of(address: IpAddr, asmap: Option<&Asmap>) -> Self {
        let address = address.to_canonical();
        if let Some(asn) = asmap.and_then(|map| map.lookup(address)) {
            return Self::Asn(asn);
        }
        match address {
            IpAddr::V4(v4) => {
                let [a, b, ..] = v4.octets();
                Self::V4([a, b])
            }
            IpAddr::V6(v6) => {
                let [a, b, c, d, ..] = v6.octets();
                Self::V6([a, b, c, d])
            }
        }
    }
}

impl std::fmt::Display for NetworkGroup {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Asn(asn) => write!(f, "AS{asn}"),
            Self::V4([a, b]) => write!(f, "{a}.{b}.0.0/16"),
            Self::V6([a, b, c, d]) => write!(f, "{a:02x}{b:02x}:{c:02x}{d:02x}::/32"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::asmap::tests::sample;
    use super::*;

    fn shown(address: &str, asmap: Option<&Asmap>) -> String {
        NetworkGroup::of(address.parse().unwrap(), asmap).to_string()
    }

    #[test]
    fn group_is_the_announcing_network_where_a_map_knows_it_and_a_prefix_elsewhere() {
        let map = Asmap::new(sample()).unwrap();
        assert_eq!(shown("9.1.2.3", Some(&map)), "AS64500");
        assert_eq!(shown("::ffff:9.1.2.3", Some(&map)), "AS64500");
        assert_eq!(shown("9.1.2.3", None), "9.1.0.0/16");
        assert_eq!(shown("2001:db8:1::9", None), "2001:0db8::/32");
    }
}
