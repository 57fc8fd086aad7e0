//! Smooth weighted round robin.

use std::collections::BTreeMap;

use super::{before, endpoint, to};
use crate::harness::{Client, Gateway, Nginx, Origin};

fn weighted(origins: &[(&Origin, u32)]) -> Gateway {
    let endpoints: String = origins
        .iter()
        .map(|(o, weight)| endpoint(o.address(), &format!(", weight = {weight}")))
        .collect();
    before(&endpoints, "").start()
}

fn sequence(client: &Client, length: usize) -> String {
    let mut connection = client.connect();
    (0..length)
        .map(|_| {
            connection
                .get("/")
                .send()
                .expect(200)
                .header("x-origin")
                .unwrap()
                .to_owned()
        })
        .collect()
}

#[test]
fn five_one_one_goes_a_a_b_a_c_a_a() {
    let origins = ["a", "b", "c"].map(Origin::named);
    let gateway = weighted(&[(&origins[0], 5), (&origins[1], 1), (&origins[2], 1)]);
    assert_eq!(sequence(&gateway.client(), 21), "aabacaa".repeat(3));
}

#[test]
fn equal_weights_take_turns() {
    let origins = ["a", "b", "c"].map(Origin::named);
    let gateway = weighted(&[(&origins[0], 1), (&origins[1], 1), (&origins[2], 1)]);
    assert_eq!(sequence(&gateway.client(), 9), "abcabcabc");
}

#[test]
fn shares_are_exact_over_many_connections() {
    let origins = ["a", "b", "c"].map(Origin::named);
    let gateway = weighted(&[(&origins[0], 5), (&origins[1], 1), (&origins[2], 1)]);
    let client = gateway.client();
    let threads = 14;
    let each = 100;
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                // Many short connections, so that every worker thread takes part.
                for _ in 0..10 {
                    sequence(&client, each / 10);
                }
            });
        }
    });
    let total = threads * each;
    for (origin, share) in origins.iter().zip([5, 1, 1]) {
        let expected = total * share / 7;
        let off = origin.count().abs_diff(expected);
        assert!(
            off * 100 <= total,
            "{}: {} of {total}, expected {expected}",
            origin.name(),
            origin.count()
        );
    }
}

#[test]
fn nginx_endpoints_share_as_weighted() {
    let (a, b) = (Nginx::named("a"), Nginx::named("b"));
    let endpoints = endpoint(a.address(), ", weight = 3") + &endpoint(b.address(), "");
    let gateway = before(&endpoints, "").start();
    let mut connection = gateway.client().connect();
    let mut shares = BTreeMap::new();
    for n in 0..40 {
        let response = connection.get(&format!("/page/{n}?q=1")).send().expect(200);
        assert!(
            response.text().ends_with(&format!("/page/{n}?q=1")),
            "{response:?}"
        );
        *shares
            .entry(response.header("x-origin").unwrap().to_owned())
            .or_insert(0) += 1;
    }
    assert_eq!(
        shares,
        BTreeMap::from([("a".to_owned(), 30), ("b".to_owned(), 10)])
    );
}

#[test]
fn a_changed_weight_takes_effect_with_a_reload() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let gateway = weighted(&[(&a, 1), (&b, 1)]);
    assert_eq!(sequence(&gateway.client(), 4), "abab");
    let text = std::fs::read_to_string(gateway.config()).unwrap();
    gateway.rewrite(&text.replacen("weight = 1", "weight = 3", 1));
    gateway.reload_ok();
    let after = sequence(&gateway.client(), 40);
    assert_eq!(after.matches('a').count(), 30, "{after}");
}

#[test]
fn an_endpoint_added_by_reload_gets_its_share_and_a_removed_one_nothing() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let gateway = before(&to(&a), "").start();
    assert_eq!(sequence(&gateway.client(), 2), "aa");
    let text = std::fs::read_to_string(gateway.config()).unwrap();
    gateway.rewrite(&text.replace(&to(&a), &to(&b)));
    gateway.reload_ok();
    assert_eq!(sequence(&gateway.client(), 3), "bbb");
    gateway.rewrite(&text.replace(&to(&a), &(to(&a) + &to(&b))));
    gateway.reload_ok();
    let both = sequence(&gateway.client(), 10);
    assert_eq!(both.matches('a').count(), 5, "{both}");
}
