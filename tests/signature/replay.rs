//! A signed request is accepted at most once.

use std::sync::Barrier;

use super::{SECRET, ca, get, post, rfc9421, signed, signed_text};
use crate::harness::{Gateway, Origin, Signed, always, seconds};

#[test]
fn the_second_time_is_a_replay() {
    let origin = Origin::start();
    let gateway = ca(&origin);
    let headers = Signed::ca("app-1001", SECRET, "GET", "/x").headers();
    get(&gateway.client(), "/x", &headers).expect(200);
    for _ in 0..3 {
        get(&gateway.client(), "/x", &headers).refused(401, "sig_replayed");
    }
    assert_eq!(origin.count(), 1);
}

#[test]
fn the_second_time_is_a_replay_in_rfc9421_too() {
    let origin = Origin::start();
    let gateway = rfc9421(&origin);
    let headers = Signed::rfc9421("app-1001", SECRET, "GET", "gateway.test", "/x").headers();
    get(&gateway.client(), "/x", &headers).expect(200);
    get(&gateway.client(), "/x", &headers).refused(401, "sig_replayed");
}

#[test]
fn a_nonce_is_spent_for_one_application_only() {
    let origin = Origin::start();
    let apps = format!("\"a\" = {{ secret = \"{SECRET}\" }}\n\"b\" = {{ secret = \"{SECRET}\" }}");
    let gateway = signed("ca", "", &apps, "").to(&origin).start();
    let by = |app: &str| {
        get(
            &gateway.client(),
            "/x",
            &Signed::ca(app, SECRET, "GET", "/x")
                .but("nonce", "shared")
                .headers(),
        )
    };
    by("a").expect(200);
    by("b").expect(200);
    by("a").refused(401, "sig_replayed");
}

#[test]
fn a_replay_is_refused_after_a_reload() {
    let origin = Origin::start();
    let gateway = ca(&origin);
    let headers = Signed::ca("app-1001", SECRET, "GET", "/x").headers();
    get(&gateway.client(), "/x", &headers).expect(200);
    gateway.reload_ok();
    get(&gateway.client(), "/x", &headers).refused(401, "sig_replayed");
    let text = std::fs::read_to_string(gateway.config()).unwrap();
    gateway.rewrite(&format!(
        "{text}\n[[route]]\nid = \"more\"\npath = \"/more\"\nrespond = {{ status = 200 }}\n"
    ));
    gateway.reload_ok();
    get(&gateway.client(), "/x", &headers).refused(401, "sig_replayed");
}

fn duplicates_pass_once(gateway: &Gateway, headers: &[(String, String)]) {
    let barrier = Barrier::new(8);
    let client = gateway.client();
    let statuses: Vec<u16> = std::thread::scope(|scope| {
        let one = || {
            let mut connection = client.connect();
            barrier.wait();
            connection.get("/x").headers(headers).send().status
        };
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(one)).collect();
        threads.into_iter().map(|t| t.join().unwrap()).collect()
    });
    assert_eq!(
        statuses.iter().filter(|s| **s == 200).count(),
        1,
        "{statuses:?}"
    );
    assert_eq!(
        statuses.iter().filter(|s| **s == 401).count(),
        7,
        "{statuses:?}"
    );
}

#[test]
fn of_duplicates_at_the_same_time_exactly_one_passes() {
    let origin = Origin::start();
    let gateway = ca(&origin);
    for round in 1..=10 {
        duplicates_pass_once(
            &gateway,
            &Signed::ca("app-1001", SECRET, "GET", "/x").headers(),
        );
        assert_eq!(origin.count(), round);
    }
}

#[test]
fn a_full_nonce_store_refuses_and_forgets_nothing() {
    let origin = Origin::start();
    let apps = format!("\"app-1001\" = {{ secret = \"{SECRET}\" }}");
    let gateway = signed("ca", "nonce_capacity = 50", &apps, "")
        .to(&origin)
        .start();
    let first = Signed::ca("app-1001", SECRET, "GET", "/x").headers();
    get(&gateway.client(), "/x", &first).expect(200);
    let mut full = false;
    for _ in 0..200 {
        let response = get(
            &gateway.client(),
            "/x",
            &Signed::ca("app-1001", SECRET, "GET", "/x").headers(),
        );
        if response.status != 200 {
            let refused = response.refused(429, "rate_limited");
            assert!(refused.number("retry-after") >= 1);
            full = true;
        }
    }
    assert!(full, "fifty fit, two hundred do not");
    assert!(origin.count() <= 50, "{}", origin.count());
    let again = get(&gateway.client(), "/x", &first);
    assert!(again.status == 401 || again.status == 429, "{again:?}");
}

#[test]
fn a_request_refused_for_its_body_cannot_be_mended_and_sent_again() {
    let origin = Origin::start();
    let gateway = ca(&origin);
    let headers = Signed::ca("app-1001", SECRET, "POST", "/x")
        .body("right")
        .headers();
    post(&gateway.client(), "/x", &headers, "wrong").refused(401, "body_digest");
    let second = post(&gateway.client(), "/x", &headers, "right");
    // Whether a wrong body spends the nonce is ours to choose; twice through it may not go.
    let third = post(&gateway.client(), "/x", &headers, "right").refused(401, "sig_replayed");
    assert!(
        second.status == 200 || second.status == 401,
        "{second:?} {third:?}"
    );
    assert!(origin.count() <= 1);
}

#[test]
fn a_stamp_from_before_an_unclean_start_is_refused() {
    let origin = Origin::start();
    let gateway = ca(&origin);
    let old = crate::harness::unix_millis() - 20_000;
    let headers = Signed::ca("app-1001", SECRET, "GET", "/x")
        .but("timestamp", old)
        .headers();
    get(&gateway.client(), "/x", &headers).refused(401, "sig_expired");
    assert_eq!(origin.count(), 0);
}

/// Neither does a reload that is refused, nor one that is taken back, change how long a nonce is kept and how many are.
#[test]
fn a_reload_that_does_not_stay_leaves_the_nonces_as_they_were() {
    let origin = Origin::start();
    let apps = format!("\"app-1001\" = {{ secret = \"{SECRET}\" }}");
    let gateway = signed("ca", "", &apps, "").to(&origin).start();
    let narrow = signed_text("ca", "skew = \"1s\"\nnonce_capacity = 1", &apps, "");
    let missing =
        "[auth.other]\ntype = \"jwt\"\nalgorithms = [\"HS256\"]\nsecret = \"file:/not/there\"\n";
    gateway.rewrite(&format!("{narrow}{missing}"));
    assert_eq!(gateway.reload()["result"], "error");
    gateway.rewrite(&narrow);
    gateway
        .run_cli(&["reload"], &["--confirm", "1s"])
        .expect(1)
        .says("nobody confirmed it in time");
    let client = gateway.client();
    for _ in 0..3 {
        let other = Signed::ca("app-1001", SECRET, "GET", "/x").headers();
        get(&client, "/x", &other).expect(200);
    }
    let headers = Signed::ca("app-1001", SECRET, "GET", "/x").headers();
    get(&client, "/x", &headers).expect(200);
    always(seconds(6), "it is known", || {
        get(&client, "/x", &headers).status == 401
    });
    get(&client, "/x", &headers).refused(401, "sig_replayed");
}

/// What came while bounds were wider, by a reload or on trial, leaves the room that is meant for what comes after.
#[test]
fn wider_bounds_that_are_taken_back_leave_room() {
    let origin = Origin::start();
    let apps = format!("\"app-1001\" = {{ secret = \"{SECRET}\" }}");
    let gateway = signed("ca", "skew = \"1s\"\nnonce_capacity = 20", &apps, "")
        .to(&origin)
        .start();
    let narrow = std::fs::read_to_string(gateway.config()).unwrap();
    let wide = narrow.replace(
        "\"1s\"\nnonce_capacity = 20",
        "\"300s\"\nnonce_capacity = 9999",
    );
    assert_ne!(narrow, wide);
    let client = gateway.client();
    let sign = || Signed::ca("app-1001", SECRET, "GET", "/x").headers();
    gateway.rewrite(&wide);
    gateway.reload_ok();
    let first = sign();
    get(&client, "/x", &first).expect(200);
    for _ in 0..60 {
        get(&client, "/x", &sign()).expect(200);
    }
    gateway.rewrite(&narrow);
    gateway.reload_ok();
    for _ in 0..10 {
        get(&client, "/x", &sign()).expect(200);
    }
    assert_eq!(get(&client, "/x", &first).status, 401);
}

/// The same application and secret under another name of their table: what was signed before passes no second time.
#[test]
fn a_replay_is_refused_when_its_table_has_another_name() {
    let origin = Origin::start();
    let gateway = ca(&origin);
    let sign = || Signed::ca("app-1001", SECRET, "GET", "/x").headers();
    let headers = sign();
    get(&gateway.client(), "/x", &headers).expect(200);
    let text = std::fs::read_to_string(gateway.config()).unwrap();
    let text = text.replace("[auth.partner", "[auth.renamed");
    gateway.rewrite(&text.replace("[\"partner\"]", "[\"renamed\"]"));
    gateway.reload_ok();
    get(&gateway.client(), "/x", &headers).refused(401, "sig_expired");
    get(&gateway.client(), "/x", &sign()).expect(200);
}
