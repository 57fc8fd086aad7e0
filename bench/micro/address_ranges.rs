//! Whether an address lies in one of many networks.

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};

use criterion::Criterion;
use ipnet::IpNet;
use tollgate::primitives::ranges::AddressRanges;

pub(crate) fn bench(criterion: &mut Criterion) {
    let asked: Vec<IpAddr> = (0..10_000u32).map(|n| scattered(n, 0x85EB_CA6B)).collect();
    let mut group = criterion.benchmark_group("address_ranges");
    for count in [1u32, 100, 10_000] {
        let networks = (0..count).filter_map(|n| IpNet::new(scattered(n, 0x9E37_79B9), 24).ok());
        let set = AddressRanges::new(networks.map(|network| network.trunc()).collect());
        let mut asked = asked.iter().cycle();
        group.bench_function(format!("{count} networks"), |bencher| {
            bencher.iter(|| {
                asked
                    .next()
                    .map(|address| set.contains(black_box(*address)))
            });
        });
    }
    group.finish();
}

/// Far from that of the next number.
fn scattered(n: u32, factor: u32) -> IpAddr {
    Ipv4Addr::from_bits(n.wrapping_mul(factor)).into()
}
