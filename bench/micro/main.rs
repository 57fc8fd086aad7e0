//! What the pieces of a request cost by themselves, called as the request path calls them.
//!
//! `cargo bench --bench micro` runs all, `cargo bench --bench micro -- limits` one group; `--save-baseline NAME` and
//! `--baseline NAME` compare two builds. `-- memory` prints what things take in memory instead, `-- uneven` what a few
//! long connections do to workers that share nothing. One program for all, so that the framework is linked once. What
//! needs a million of something first is made when its turn comes, not when it is left out.

mod access_line;
mod address_ranges;
mod balancer;
mod limits;
mod memory;
mod request;
mod route_match;
mod signature;
mod together;
mod tokens;
mod uneven;

use std::time::Duration;

use criterion::Criterion;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::io::Result<()> {
    tollgate::auth::install_crypto();
    let arguments: Vec<String> = std::env::args().collect();
    if arguments.iter().any(|argument| argument == "uneven") {
        return uneven::table();
    }
    if let Some(at) = arguments.iter().position(|argument| argument == "memory") {
        return memory::table(arguments.get(at + 1).map(String::as_str));
    }
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .configure_from_args();
    route_match::bench(&mut criterion);
    limits::bench(&mut criterion);
    tokens::bench(&mut criterion);
    signature::bench(&mut criterion);
    balancer::bench(&mut criterion);
    access_line::bench(&mut criterion);
    address_ranges::bench(&mut criterion);
    criterion.final_summary();
    Ok(())
}
