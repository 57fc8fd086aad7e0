//! Durations, sizes, rates and shares carry their unit.

use super::check_with;
use crate::harness::Folder;

#[test]
fn accepts_every_unit_the_notation_has() {
    check_with(
        r#"
[server]
grace_period = "5m"
drain_delay = "250ms"
[server.client]
header_timeout = "10s"
max_header_bytes = "16KiB"
max_body = "1MiB"
[limit.a]
key = "client_ip"
algorithm = "estimator"
rate = "100/s"
[limit.b]
key = "client_ip"
algorithm = "token_bucket"
rate = "6000/m"
[upstream.more]
endpoints = [{ address = "127.0.0.1:9003" }]
[upstream.more.retry]
budget = "5%"
[[route]]
path = "/more"
upstream = "more"
"#,
    )
    .expect(0);
}

#[test]
fn a_bare_number_is_refused_where_a_unit_is_due() {
    for (key, wrong) in [
        ("[server]\ngrace_period = 30", "grace_period"),
        ("[server.client]\nmax_body = 1048576", "max_body"),
        ("[server.client]\nheader_timeout = \"10\"", "header_timeout"),
        (
            "[limit.a]\nkey = \"client_ip\"\nalgorithm = \"estimator\"\nrate = 100",
            "rate",
        ),
        (
            "[limit.a]\nkey = \"client_ip\"\nalgorithm = \"estimator\"\nrate = \"100\"",
            "rate",
        ),
    ] {
        check_with(&format!("\n{key}\n")).expect(1).says(wrong);
    }
}

#[test]
fn nonsense_in_place_of_a_value_is_refused() {
    for (key, wrong) in [
        ("[server]\ngrace_period = \"-3s\"", "grace_period"),
        ("[server]\ngrace_period = \"3 parsecs\"", "grace_period"),
        ("[server.client]\nmax_body = \"1QB\"", "max_body"),
        (
            "[limit.a]\nkey = \"client_ip\"\nalgorithm = \"estimator\"\nrate = \"0/s\"",
            "rate",
        ),
        (
            "[limit.a]\nkey = \"client_ip\"\nalgorithm = \"estimator\"\nrate = \"5/week\"",
            "rate",
        ),
        (
            "[limit.a]\nkey = \"colour\"\nalgorithm = \"estimator\"\nrate = \"5/s\"",
            "key",
        ),
        (
            "[limit.a]\nkey = \"client_ip\"\nalgorithm = \"guess\"\nrate = \"5/s\"",
            "algorithm",
        ),
        (
            "[server]\ntrusted_proxies = [\"10.0.0.0/33\"]",
            "trusted_proxies",
        ),
        ("[server]\nerror_format = \"xml\"", "error_format"),
        ("[log]\nlevel = \"loud\"", "level"),
    ] {
        check_with(&format!("\n{key}\n")).expect(1).says(wrong);
    }
}

#[test]
fn an_address_needs_a_port() {
    Folder::with("[[listener]]\nname = \"p\"\naddress = \"127.0.0.1\"\n[[route]]\npath = \"/\"\nrespond = { status = 200 }\n")
        .check()
        .expect(1)
        .says("address");
}
