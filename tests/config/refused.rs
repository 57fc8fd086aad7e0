//! What parses and still makes no sense, and what belongs to a later release: refused, never silently accepted.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::{VALID, check_with};
use crate::harness::{Folder, Ran};

fn refuses_for_now(ran: Ran, key: &str) {
    ran.expect(1).says("not supported yet").says(key);
}

#[test]
fn listener_keys_that_say_no_are_accepted() {
    let line = "address = \"127.0.0.1:8080\"\nhttp2 = false\nproxy_protocol = false\n";
    Folder::with(&VALID.replacen("address = \"127.0.0.1:8080\"\n", line, 1))
        .check()
        .expect(0);
}

#[test]
fn a_proxy_header_that_nobody_would_be_believed_is_refused() {
    let line = "address = \"127.0.0.1:8080\"\nproxy_protocol = true\n";
    let text = VALID.replacen("address = \"127.0.0.1:8080\"\n", line, 1);
    Folder::with(&text)
        .check()
        .expect(1)
        .says("proxy_protocol: server.trusted_proxies names nobody");
    let trusted = format!("{text}\n[server]\ntrusted_proxies = [\"10.0.0.1\"]\n");
    Folder::with(&trusted).check().expect(0);
}

#[test]
fn a_unix_socket_s_path_and_mode_are_checked() {
    let with = |line: &str| {
        let text = VALID.replacen("address = \"127.0.0.1:8080\"\n", line, 1);
        Folder::with(&text).check()
    };
    with("address = \"unix:/run/a.sock\"\n").expect(0);
    with("address = \"unix:/run/a.sock\"\nmode = \"0666\"\n").expect(0);
    // Who connects there is said by the mode, so nobody need be trusted by address.
    with("address = \"unix:/run/a.sock\"\nproxy_protocol = true\n").expect(0);
    for (lines, why) in [
        ("address = \"unix:a.sock\"\n", "must begin with a slash"),
        (
            "address = \"unix:/a.sock\"\nmode = \"0999\"\n",
            "is no mode",
        ),
        (
            "address = \"unix:/a.sock\"\nmode = \"0440\"\n",
            "is no mode",
        ),
        (
            "address = \"127.0.0.1:8080\"\nmode = \"0660\"\n",
            "only a Unix socket has a mode",
        ),
        (
            "address = \"unix:/a.sock\"\ntls = { certificates = [{ cert = \"/a\", key = \"/a\" }] }\n",
            "TLS is not spoken on a Unix socket",
        ),
        (
            "address = \"unix:/a.sock\"\n[[listener]]\naddress = \"unix:/a.sock\"\n",
            "is already taken",
        ),
    ] {
        with(lines).expect(1).says(why);
    }
}

#[test]
fn upstream_keys_of_later_releases_are_refused() {
    let upstream = "\n[upstream.more]\nendpoints = [{ address = \"127.0.0.1:9003\" }]\n";
    let lines = "[upstream.more.discovery]\ntype = \"dns\"\n";
    let route = "[[route]]\npath = \"/more\"\nupstream = \"more\"\n";
    refuses_for_now(
        check_with(&format!("{upstream}{lines}{route}")),
        "discovery",
    );
}

#[test]
fn ways_to_choose_an_endpoint_are_checked() {
    let with = |lines: &str| {
        check_with(&format!(
            "\n[upstream.more]\nendpoints = [{{ address = \"127.0.0.1:9003\" }}]\n{lines}"
        ))
    };
    let secret = "secret = \"0123456789abcdef0123456789abcdef\"";
    for good in [
        "balance = \"least_connections\"\n".to_owned(),
        "balance = \"peak_ewma\"\n".to_owned(),
        "balance = \"random\"\n".to_owned(),
        "balance = \"score\"\nscore = { load_header = \"X-Load\", least = \"5%\" }\n".to_owned(),
        "balance = \"consistent_hash\"\n".to_owned(),
        "balance = \"consistent_hash\"\nhash_on = \"claim:sub\"\nhash_excess = \"50%\"\n"
            .to_owned(),
        "outlier = {}\n".to_owned(),
        "passive = { slow_start = \"10s\" }\n".to_owned(),
        format!("sticky = {{ {secret} }}\n"),
    ] {
        let ran = with(&good);
        assert_eq!(ran.code, 0, "{good} {ran:#?}");
    }
    for (lines, key, why) in [
        (
            "balance = \"fastest\"\n",
            "balance",
            "is none of weighted_round_robin",
        ),
        (
            "hash_on = \"path\"\n",
            "hash_on",
            "means nothing without balance = \"consistent_hash\"",
        ),
        (
            "score = {}\n",
            "score",
            "means nothing without balance = \"score\"",
        ),
        (
            "balance = \"consistent_hash\"\nhash_on = \"colour\"\n",
            "hash_on",
            "is none of client_ip",
        ),
        (
            "balance = \"consistent_hash\"\nhash_on = \"header:a b\"\n",
            "hash_on",
            "is no header name",
        ),
        (
            "balance = \"score\"\nscore = { least = \"0%\" }\n",
            "least",
            "must be more than nothing",
        ),
        (
            "balance = \"consistent_hash\"\npassive = { slow_start = \"1s\" }\n",
            "slow_start",
            "means nothing with balance",
        ),
        (
            "sticky = { secret = \"short\" }\n",
            "secret",
            "is shorter than 32 bytes",
        ),
        ("sticky = {}\n", "sticky", "secret"),
        (
            "sticky = { secret = \"env:S\", cookie = \"a b\" }\n",
            "cookie",
            "is no name of a cookie",
        ),
        (
            "outlier = { max_ejection = \"1s\" }\n",
            "max_ejection",
            "must not be shorter",
        ),
        (
            "outlier = { deviations = -1.0 }\n",
            "deviations",
            "between 0 and 10",
        ),
        (
            "outlier = { min_requests = 0 }\n",
            "min_requests",
            "at least 1",
        ),
    ] {
        with(lines).expect(1).says(key).says(why);
    }
}

#[test]
fn breakers_that_could_never_open_or_always_would_are_refused() {
    let upstream = "\n[upstream.more]\nendpoints = [{ address = \"127.0.0.1:9003\" }]\n[upstream.more.breaker]\n";
    let route = "[[route]]\npath = \"/more\"\nupstream = \"more\"\n";
    for (lines, key, why) in [
        (
            "window = 0",
            "window",
            "must lie between 1 and 100000 calls",
        ),
        ("window = -1", "window", "must lie between 0 and"),
        (
            "window = \"10ms\"",
            "window",
            "must lie between \"1s\" and \"1h\"",
        ),
        ("window = \"10\"", "window", "has no unit"),
        ("window = true", "window", "expected text, found a boolean"),
        (
            "window = 10\nminimum_calls = 20",
            "minimum_calls",
            "20 are never reached",
        ),
        ("minimum_calls = 0", "minimum_calls", "must be at least 1"),
        (
            "failure_rate = \"0%\"",
            "failure_rate",
            "must be more than 0%",
        ),
        ("slow_rate = \"101%\"", "slow_rate", "more than 100%"),
        ("slow_call = \"0s\"", "slow_call", "must be more than zero"),
        ("open_for = \"2h\"", "open_for", "at most \"1h\""),
        (
            "half_open_calls = 0",
            "half_open_calls",
            "must lie between 1 and 1000",
        ),
        ("failures = [\"50x\"]", "failures", "is none of"),
        ("rate = \"5%\"", "rate", "unknown key"),
    ] {
        let check = check_with(&format!("{upstream}{lines}\n{route}"));
        check
            .expect(1)
            .says(&format!("upstream.more.breaker.{key}"))
            .says(why);
    }
    for lines in ["window = 10", "window = \"1m\"", ""] {
        check_with(&format!("{upstream}{lines}\n{route}")).expect(0);
    }
    let respond = "\n[[route]]\npath = \"/more\"\nrespond = { status = 204 }\nbreaker = {}\n";
    check_with(respond).expect(1).says("nothing to break");
}

#[test]
fn second_tries_that_could_not_be_made_are_refused() {
    let with = |endpoints: &str, lines: &str| {
        let upstream = format!("\n[upstream.more]\nendpoints = [{endpoints}]\n{lines}\n");
        check_with(&format!(
            "{upstream}[[route]]\npath = \"/more\"\nupstream = \"more\"\n"
        ))
    };
    let two = "{ address = \"127.0.0.1:9003\" }, { address = \"127.0.0.1:9004\" }";
    for (lines, why) in [
        (
            "hedge = { after = \"p30\" }",
            "must lie between \"p50\" and \"p99\"",
        ),
        ("hedge = { after = \"0s\" }", "must be more than zero"),
        ("hedge = { after = \"soon\" }", "is no duration"),
        ("hedge = { max = 4 }", "must lie between 1 and 3"),
        ("hedge = { methods = [] }", "would send nothing twice"),
        ("retry = { jitter = \"half\" }", "is none of"),
        ("retry = { max_backoff = \"0s\" }", "must be more than zero"),
    ] {
        with(two, lines).expect(1).says("upstream.more.").says(why);
    }
    let one = "{ address = \"127.0.0.1:9003\" }";
    with(one, "hedge = {}").expect(1).says("no other endpoint");
    with("{ address = \"a.internal:80\" }", "hedge = {}").expect(0);
    with(two, "hedge = { after = \"80ms\" }").expect(0);
    with(two, "hedge = {}\nhttp_version = \"2\"").expect(0);
    with(two, "hedge = {}\ntls = { sni = \"a.example\" }").expect(0);
    let socket = "{ address = \"unix:/run/a.sock\" }, { address = \"unix:/run/b.sock\" }";
    with(socket, "hedge = {}").expect(1).says("Unix sockets");
    let route = |lines: &str| {
        check_with(&format!(
            "\n[upstream.more]\nendpoints = [{two}]\n[[route]]\npath = \"/more\"\n{lines}\n"
        ))
    };
    for (lines, why) in [
        (
            "upstream = \"more\"\nhedge = true",
            "no [upstream.more.hedge]",
        ),
        (
            "uri = \"lb://more\"\nhedge = true",
            "no [upstream.more.hedge]",
        ),
        (
            "respond = { status = 204 }\nhedge = false",
            "answers itself",
        ),
    ] {
        route(lines).expect(1).says(why);
    }
    route("upstream = \"more\"\nhedge = false").expect(0);
}

#[test]
fn upstream_keys_at_their_only_value_are_accepted() {
    let more = "\n[upstream.more]\nbalance = \"weighted_round_robin\"\nhttp_version = \"1.1\"\n\
                endpoints = [{ address = \"127.0.0.1:9003\" }]\n[[route]]\npath = \"/more\"\nupstream = \"more\"\n";
    check_with(more).expect(0);
}

#[test]
fn fallbacks_that_make_no_sense_are_refused() {
    for (lines, why) in [
        ("", "fallback: answers nothing"),
        (
            "headers = { X-A = \"1\" }\nlast_good = {}",
            "which needs `status`, `text` or `json`",
        ),
        ("text = \"a\"\njson = {}", "more than one of `text`, `json`"),
        ("status = 99", "is no status of a final answer"),
        (
            "upstream = \"user\"",
            "there is no [upstream.user]; did you mean \"users\"?",
        ),
        (
            "text = \"a\"\non = [\"brekaer\"]",
            "is none of breaker, no_endpoint",
        ),
        ("text = \"a\"\non = [\"404\"]", "nor a status from \"500\""),
        ("text = \"a\"\non = []", "would never call for the fallback"),
        (
            "upstream = \"users\"\non = [\"deadline\"]",
            "no time is left to ask another upstream",
        ),
        ("last_good = { max_body = \"8MiB\" }", "is more than `size`"),
        ("last_good = { max_age = \"25h\" }", "at most 24h"),
        (
            "last_good = { per = \"consumer\" }",
            "the route has no `auth`",
        ),
    ] {
        let text = format!(
            "\n[[route]]\npath = \"/more\"\nupstream = \"users\"\n[route.fallback]\n{lines}\n"
        );
        check_with(&text).expect(1).says(why);
    }
    let shared = "\n[auth.app]\ntype = \"jwt\"\nalgorithms = [\"HS256\"]\nsecret = \"0123456789abcdef0123456789abcdef\"\n\
        [[route]]\npath = \"/more\"\nauth = [\"app\"]\nupstream = \"users\"\nfallback = { last_good = {} }\n";
    check_with(shared)
        .expect(1)
        .says("one caller's answer must not reach another");
}

#[test]
fn levels_of_a_route_s_own_are_checked() {
    let with = |degrade: &str| {
        check_with(&format!(
            "\n[[route]]\npath = \"/more\"\nupstream = \"users\"\ndegrade = {degrade}\n"
        ))
    };
    with("{ on_overload = \"lean\" }").expect(0);
    with("{ on_overload = \"normal\" }")
        .expect(1)
        .says("none of lean, fallback, off");
    with("{ on_breaker = \"fallback\" }")
        .expect(1)
        .says("the route has no [route.fallback]");
    with("{ on_breaker = \"lean\", hold = \"2h\" }")
        .expect(1)
        .says("at most 1h");
}

#[test]
fn key_sets_by_url_are_refused_for_now() {
    let auth = "\n[auth.app]\ntype = \"jwt\"\nalgorithms = [\"RS256\"]\njwks = \"https://login.example.com/keys\"\n";
    refuses_for_now(check_with(auth), "jwks");
}

#[test]
fn a_weight_of_zero_is_refused_and_one_is_not() {
    let of = |n: i32| format!("endpoints = [{{ address = \"127.0.0.1:9001\", weight = {n} }}]");
    let plain = "endpoints = [{ address = \"127.0.0.1:9001\" }]";
    Folder::with(&VALID.replace(plain, &of(0)))
        .check()
        .expect(1)
        .says("weight");
    Folder::with(&VALID.replace(plain, &of(-1)))
        .check()
        .expect(1)
        .says("weight");
    Folder::with(&VALID.replace(plain, &of(1)))
        .check()
        .expect(0);
}

#[test]
fn the_same_listener_address_twice_is_refused() {
    check_with("\n[[listener]]\nname = \"other\"\naddress = \"127.0.0.1:8080\"\n")
        .expect(1)
        .says("127.0.0.1:8080");
    check_with("\n[[listener]]\nname = \"other\"\naddress = \"127.0.0.1:8081\"\n").expect(0);
}

#[test]
fn an_upstream_without_endpoints_is_refused() {
    check_with("\n[upstream.empty]\nendpoints = []\n")
        .expect(1)
        .says("endpoints");
    check_with("\n[upstream.empty]\nhost = \"x\"\n")
        .expect(1)
        .says("endpoints");
}

#[test]
fn a_route_that_does_nothing_is_refused() {
    check_with("\n[[route]]\nid = \"idle\"\npath = \"/idle\"\n")
        .expect(1)
        .says("tollgate.toml:14:");
}

#[test]
fn a_route_that_does_two_things_is_refused() {
    check_with("\n[[route]]\npath = \"/two\"\nupstream = \"users\"\nrespond = { status = 200 }\n")
        .expect(1);
}

#[test]
fn unknown_references_are_refused() {
    for (lines, name) in [
        ("auth = [\"nobody\"]\n", "nobody"),
        ("limits = [\"nothing\"]\n", "nothing"),
        ("group = \"nowhere\"\n", "nowhere"),
    ] {
        check_with(&format!(
            "\n[[route]]\npath = \"/x\"\nupstream = \"users\"\n{lines}"
        ))
        .expect(1)
        .says(name);
    }
    check_with("\n[[route]]\npath = \"/x\"\nuri = \"lb://nobody\"\n")
        .expect(1)
        .says("nobody");
    check_with("\n[[route]]\npath = \"/x\"\nuri = \"http://users\"\n")
        .expect(1)
        .says("lb://");
}

/// A route to `users` with an id that no other has.
fn route(path: &str, more: &str) -> String {
    static IDS: AtomicUsize = AtomicUsize::new(0);
    let id = IDS.fetch_add(1, Ordering::Relaxed);
    format!("\n[[route]]\nid = \"r{id}\"\npath = \"{path}\"\nupstream = \"users\"\n{more}\n")
}

#[test]
fn two_routes_that_cannot_be_told_apart_are_refused() {
    for (one, other) in [
        (route("/a/{x}", ""), route("/a/{y}", "")),
        (route("/a/**", ""), route("/a/{*rest}", "")),
        (
            route("/a", "methods = [\"GET\", \"POST\"]"),
            route("/a", "methods = [\"POST\"]"),
        ),
        (
            route("/a", "headers = { x-v = \"1\" }"),
            route("/a", "methods = [\"GET\"]"),
        ),
        (
            route("/a", "headers = { x-v = \"1\" }"),
            route("/a", "headers = { x-w = \"1\" }"),
        ),
    ] {
        let ran = check_with(&format!("{one}{other}"));
        assert_eq!(ran.code, 1, "{one}{other} {ran:#?}");
    }
}

#[test]
fn routes_that_priority_or_a_predicate_tells_apart_are_accepted() {
    for (one, other) in [
        (
            route("/a", "methods = [\"GET\"]"),
            route("/a", "methods = [\"POST\"]"),
        ),
        (
            route("/a", "hosts = [\"one.test\"]"),
            route("/a", "hosts = [\"two.test\"]"),
        ),
        (
            route("/a", "headers = { x-v = \"1\" }"),
            route("/a", "headers = { x-v = \"2\" }"),
        ),
        (route("/a/{x}", "priority = 1"), route("/a/{y}", "")),
        (route("/a", "headers = { x-v = \"1\" }"), route("/a", "")),
        (route("/a/b", ""), route("/a/{y}", "")),
    ] {
        let ran = check_with(&format!("{one}{other}"));
        assert_eq!(ran.code, 0, "{one}{other} {ran:#?}");
    }
}

#[test]
fn malformed_path_templates_are_refused() {
    for path in [
        "users",
        "/a/**/b",
        "/a/{x}/{x}",
        "/a/{x",
        "/a/{}",
        "/a/../b",
        "/a//b",
        "/a?b",
        "/a/{*r}/b",
    ] {
        let ran = check_with(&format!(
            "\n[[route]]\npath = \"{path}\"\nupstream = \"users\"\n"
        ));
        assert_eq!(ran.code, 1, "{path}: {ran:#?}");
    }
}

#[test]
fn a_rewrite_may_name_only_what_the_path_captures() {
    let route = |rewrite: &str| {
        format!(
            "\n[[route]]\npath = \"/p/{{id}}\"\nupstream = \"users\"\nrewrite = \"{rewrite}\"\n"
        )
    };
    check_with(&route("/v2/{id}")).expect(0);
    check_with(&route("/v2/{name}")).expect(1).says("name");
}

#[test]
fn a_pattern_that_is_no_regex_is_refused() {
    check_with("\n[[route]]\npath = \"/x\"\nupstream = \"users\"\nheaders = { x-v = \"~(\" }\n")
        .expect(1)
        .says("x-v");
}

#[test]
fn token_checks_that_contradict_themselves_are_refused() {
    let auth = |lines: &str| format!("\n[auth.app]\ntype = \"jwt\"\n{lines}\n");
    let secret = "secret = \"0123456789abcdef0123456789abcdef\"";
    check_with(&auth(&format!(
        "algorithms = [\"HS256\", \"HS512\"]\n{secret}"
    )))
    .expect(0);
    check_with(&auth(&format!(
        "algorithms = [\"HS256\", \"RS256\"]\n{secret}"
    )))
    .expect(1)
    .says("algorithms");
    check_with(&auth(&format!("algorithms = [\"none\"]\n{secret}")))
        .expect(1)
        .says("algorithms");
    check_with(&auth(&format!("algorithms = []\n{secret}")))
        .expect(1)
        .says("algorithms");
    check_with(&auth(&format!("algorithms = [\"RS256\"]\n{secret}"))).expect(1);
    check_with(&auth("algorithms = [\"HS256\"]"))
        .expect(1)
        .says("secret");
}

#[test]
fn a_signature_application_has_exactly_one_kind_of_key() {
    let auth = |app: &str| {
        format!(
            "\n[auth.p]\ntype = \"signature\"\nscheme = \"rfc9421\"\n[auth.p.apps]\n\"a\" = {{ {app} }}\n"
        )
    };
    check_with(&auth("secret = \"s\"")).expect(0);
    check_with(&auth("ips = [\"10.0.0.0/8\"]")).expect(1);
    check_with(&auth("secret = \"s\", public_key = \"file:/x.pem\"")).expect(1);
    check_with("\n[auth.p]\ntype = \"signature\"\nscheme = \"kong\"\n")
        .expect(1)
        .says("scheme");
}

#[test]
fn settings_of_overload_that_make_no_sense_are_refused() {
    let upstream = |lines: &str| {
        check_with(&format!(
            "\n[upstream.more]\nendpoints = [{{ address = \"127.0.0.1:9003\" }}]\n[upstream.more.concurrency]\n{lines}"
        ))
    };
    upstream("max = 10\n").expect(0);
    upstream("adaptive = true\n").expect(0);
    upstream("adaptive = true\nmin = 2000\nqueue = 0\n").expect(0);
    for (lines, why) in [
        ("queue = 5\n", "needs `max`, or `adaptive = true`"),
        ("max = 0\n", "concurrency.max: must lie between 1 and"),
        (
            "max = 5\nmin = 2\n",
            "concurrency.min: means nothing without",
        ),
        (
            "adaptive = true\nmin = 9\nmax = 5\n",
            "must not exceed `max`, 5",
        ),
        (
            "max = 5\nqueue_timeout = \"0s\"\n",
            "must be more than zero",
        ),
        ("max = 5\nqueue_timeout = 200\n", "queue_timeout"),
        ("max = 5\nqueue = 200000\n", "at most 100000"),
        ("max = 5\nqeue = 2\n", "did you mean \"queue\"?"),
    ] {
        upstream(lines).expect(1).says(why);
    }
    let server = |lines: &str| check_with(&format!("\n[server.overload]\n{lines}"));
    server("max_in_flight = 10\nmax_lag = \"20ms\"\nmax_memory = \"1GiB\"\n").expect(0);
    for (lines, why) in [
        ("max_lag = \"1ms\"\n", "must be at least 5ms"),
        ("max_memory = \"1MiB\"\n", "must be at least 32MiB"),
        ("max_in_flight = \"10\"\n", "expected an integer"),
    ] {
        server(lines).expect(1).says(why);
    }
    let route = "\n[[route]]\npath = \"/more\"\nupstream = \"users\"\n";
    check_with(&format!("{route}class = \"critical\"\n")).expect(0);
    check_with(&format!("{route}class = \"shedable\"\n"))
        .expect(1)
        .says("did you mean \"sheddable\"?");
}

#[test]
fn a_signed_body_that_never_fits_into_the_buffer_is_refused() {
    let with = |server: &str, route: &str| {
        let signed = "\n[auth.partner]\ntype = \"signature\"\nscheme = \"ca\"\n\
            [auth.partner.apps.\"app-1\"]\nsecret = \"0123456789abcdef0123456789abcdef\"\n\
            [[route]]\nid = \"signed\"\npath = \"/signed\"\nauth = [\"partner\"]\nupstream = \"users\"\n";
        Folder::with(&format!("{server}{VALID}{signed}{route}")).check()
    };
    with("", "").expect(0);
    with("", "max_body = \"64MiB\"\n").expect(0);
    with("", "max_body = \"65MiB\"\n")
        .expect(1)
        .says("max_body: a signed body of 68157440 bytes never fits into server.auth_buffer");
    with("[server]\nauth_buffer = \"512KiB\"\n", "")
        .expect(1)
        .says("never fits into server.auth_buffer, which has 524288");
    // Bodies that nobody signs are not kept.
    check_with("max_body = \"1GiB\"\n").expect(0);
}

#[test]
fn what_is_wrong_with_a_group_is_shown_at_the_group_and_once() {
    let group = "\n[group.g]\nhosts = [\"a b\"]\nlimits = [\"nothing\"]\njson_depth = 0\nrequest = { set = { host = \"x\" } }\n";
    let routes = ["/one", "/two"]
        .map(|path| format!("[[route]]\npath = \"{path}\"\ngroup = \"g\"\nupstream = \"users\"\n"));
    let all = check_with(&(group.to_owned() + &routes.concat()))
        .expect(1)
        .all();
    let line = VALID.lines().count() + 3;
    for (below, key) in ["hosts[0]", "limits[0]", "json_depth", "request.set.host"]
        .iter()
        .enumerate()
    {
        let place = format!(":{}:", line + below);
        let of_key = format!(": group.g.{key}: ");
        let told: Vec<&str> = all.lines().filter(|said| said.contains(&of_key)).collect();
        assert!(
            matches!(told[..], [one] if one.contains(&place)),
            "{key} at line {}: {all}",
            line + below
        );
    }
    assert!(!all.contains("route["), "and not at its routes: {all}");
}

#[test]
fn what_only_a_route_lacks_is_shown_at_the_route() {
    let text = "\n[group.g]\nrequire = { role = [\"a\"] }\n[[route]]\npath = \"/x\"\ngroup = \"g\"\nupstream = \"users\"\n";
    check_with(text).expect(1).says(": route[1].require: ");
}
