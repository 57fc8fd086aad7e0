//! Sets of addresses: `allow_ips`, `deny_ips`, `trusted_proxies`, an application's `ips`.

use std::net::IpAddr;

use ipnet::IpNet;

/// A set of networks.
///
/// It is kept as intervals that do not overlap, in order, so that membership is a binary search: a block list
/// of ten thousand networks costs a few dozen nanoseconds, one of three about as much as three comparisons.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AddressRanges {
    v4: Intervals<u32>,
    v6: Intervals<u128>,
}

impl AddressRanges {
    /// A set of these networks. One of IPv4 mapped into IPv6 is one of IPv4.
    pub fn new(networks: Vec<IpNet>) -> Self {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for network in networks {
            match network {
                IpNet::V4(net) => v4.push((net.network().to_bits(), net.broadcast().to_bits())),
                IpNet::V6(net) => {
                    let (first, last) = (net.network(), net.broadcast());
                    match (first.to_ipv4_mapped(), last.to_ipv4_mapped()) {
                        (Some(first), Some(last)) => v4.push((first.to_bits(), last.to_bits())),
                        _ => v6.push((first.to_bits(), last.to_bits())),
                    }
                }
            }
        }
        Self {
            v4: Intervals::of(v4),
            v6: Intervals::of(v6),
        }
    }

    /// Reads `10.0.0.0/8`, `::1/128`, or a plain address.
    pub fn parse_one(text: &str) -> Result<IpNet, String> {
        let bad =
            || format!("{text:?} is no address range; write for example \"10.0.0.0/8\" or \"::1\"");
        if text.contains('/') {
            text.parse::<IpNet>()
                .map(|net| net.trunc())
                .map_err(|_| bad())
        } else {
            text.parse::<IpAddr>().map(IpNet::from).map_err(|_| bad())
        }
    }

    /// Reads a list: one network a line; what follows a `#` is a comment. The error names the line.
    pub fn parse_list(text: &str) -> Result<Vec<IpNet>, String> {
        let mut networks = Vec::new();
        for (number, line) in (1..).zip(text.lines()) {
            let range = line.split('#').next().unwrap_or_default().trim();
            if !range.is_empty() {
                let network =
                    Self::parse_one(range).map_err(|why| format!("line {number}: {why}"))?;
                networks.push(network);
            }
        }
        Ok(networks)
    }

    /// Whether `address` lies in one of the networks. An IPv4 address mapped into IPv6 counts as IPv4.
    pub fn contains(&self, address: IpAddr) -> bool {
        match address.to_canonical() {
            IpAddr::V4(address) => self.v4.contains(address.to_bits()),
            IpAddr::V6(address) => self.v6.contains(address.to_bits()),
        }
    }

    /// Whether the set is empty.
    pub fn is_empty(&self) -> bool {
        self.v4.firsts.is_empty() && self.v6.firsts.is_empty()
    }
}

/// Intervals in order: first and last of each. The firsts lie together, since the search looks at them alone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Intervals<N> {
    firsts: Box<[N]>,
    lasts: Box<[N]>,
}

impl<N: Copy + Ord> Intervals<N> {
    /// Intervals that overlap become one.
    fn of(mut all: Vec<(N, N)>) -> Self {
        all.sort_unstable();
        let mut merged: Vec<(N, N)> = Vec::with_capacity(all.len());
        for (first, last) in all {
            match merged.last_mut() {
                Some(before) if first <= before.1 => before.1 = before.1.max(last),
                _ => merged.push((first, last)),
            }
        }
        let (firsts, lasts): (Vec<N>, Vec<N>) = merged.into_iter().unzip();
        Self {
            firsts: firsts.into(),
            lasts: lasts.into(),
        }
    }

    fn contains(&self, number: N) -> bool {
        let after = self.firsts.partition_point(|first| *first <= number);
        after > 0 && number <= self.lasts[after - 1]
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use proptest::prelude::*;

    use super::*;

    fn net(text: &str) -> IpNet {
        AddressRanges::parse_one(text).unwrap()
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn the_ends_of_a_network_belong_to_it() {
        let all = AddressRanges::new(vec![net("0.0.0.0/0"), net("::/0")]);
        for address in ["0.0.0.0", "255.255.255.255", "::", "ffff::ffff"] {
            assert!(all.contains(ip(address)), "{address}");
        }
        let some = AddressRanges::new(vec![net("10.1.0.0/16"), net("2001:db8::/32")]);
        for (address, inside) in [
            ("10.0.255.255", false),
            ("10.1.0.0", true),
            ("10.1.255.255", true),
            ("::ffff:10.1.2.3", true),
            ("10.2.0.0", false),
            ("2001:db8:ffff::1", true),
            ("2001:db9::", false),
        ] {
            assert_eq!(some.contains(ip(address)), inside, "{address}");
        }
        let mapped = AddressRanges::new(vec![net("::ffff:192.0.2.0/120")]);
        assert!(mapped.contains(ip("192.0.2.9")) && !mapped.contains(ip("192.0.3.0")));
        assert!(AddressRanges::default().is_empty() && !some.is_empty());
    }

    #[test]
    fn a_list_has_a_network_a_line_and_comments() {
        let text = "# bad neighbours\n\n203.0.113.0/24 # a whole net\r\n  2001:db8::1\n";
        let networks = AddressRanges::parse_list(text).unwrap();
        assert_eq!(networks, [net("203.0.113.0/24"), net("2001:db8::1")]);
        let wrong = AddressRanges::parse_list("10.0.0.0/8\n\n10.0.0.0/33\n").unwrap_err();
        assert!(
            wrong.starts_with("line 3: \"10.0.0.0/33\" is no"),
            "{wrong}"
        );
    }

    proptest! {
        /// Short prefixes of few bits, so that networks contain, meet and equal one another.
        #[test]
        fn a_set_holds_what_its_networks_hold(
            v4 in prop::collection::vec((any::<u8>(), 20u8..=32), 0..40),
            v6 in prop::collection::vec((any::<u8>(), 110u8..=128), 0..40),
            asked in prop::collection::vec(any::<u16>(), 1..60),
        ) {
            let v4 = v4.into_iter().map(|(n, bits)| {
                let address = Ipv4Addr::from_bits(0x0A00_0000 | u32::from(n) << 5);
                IpNet::new(address.into(), bits).unwrap().trunc()
            });
            let v6 = v6.into_iter().map(|(n, bits)| {
                let address = Ipv6Addr::from_bits(0x2001 << 112 | u128::from(n) << 5);
                IpNet::new(address.into(), bits).unwrap().trunc()
            });
            let networks: Vec<IpNet> = v4.chain(v6).collect();
            let set = AddressRanges::new(networks.clone());
            let ends = |net: &IpNet| [net.network(), net.broadcast()];
            for end in networks.iter().flat_map(ends) {
                prop_assert!(set.contains(end), "{} is an end", end);
            }
            for number in asked {
                let addresses: [IpAddr; 2] = [
                    Ipv4Addr::from_bits(0x0A00_0000 | u32::from(number)).into(),
                    Ipv6Addr::from_bits(0x2001 << 112 | u128::from(number)).into(),
                ];
                for address in addresses {
                    let held = networks.iter().any(|net| net.contains(&address));
                    prop_assert_eq!(set.contains(address), held, "{}", address);
                }
            }
        }
    }
}
