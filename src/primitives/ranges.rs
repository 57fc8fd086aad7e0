//! Sets of addresses: `allow_ips`, `deny_ips`, `trusted_proxies`, an application's `ips`.

use std::net::IpAddr;

use ipnet::IpNet;

/// A list of networks. A list of a few entries is the rule, so membership is a scan.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AddressRanges(Vec<IpNet>);

impl AddressRanges {
    /// A set of these networks.
    pub fn new(networks: Vec<IpNet>) -> Self {
        Self(networks)
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

    /// Whether `address` lies in one of the networks. An IPv4 address mapped into IPv6 counts as IPv4.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|net| net.contains(&address))
    }

    /// Whether the set is empty.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The networks as written.
    pub fn iter(&self) -> impl Iterator<Item = &IpNet> {
        self.0.iter()
    }
}
