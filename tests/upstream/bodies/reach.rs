//! Every crossing of ways, framings and protocols: who is to have a body has all of it, once.

use super::{RETRIED, World, body, elsewhere, hedged};
use crate::harness::{Speaks, ways, ways_of};

/// Bodies that all but fill what a route takes: one in a few pieces, and one as long as it may be to be sent again.
fn each_size(claim: impl Fn(&World, &[u8]) -> Vec<String>) {
    for length in [600, 60_000] {
        let wrong = claim(&World::new(length), &body(length));
        assert!(wrong.is_empty(), "{length} bytes:\n{}", wrong.join("\n"));
    }
}

#[test]
fn reach_an_endpoint_and_its_copy_on_every_way() {
    each_size(|world, body| {
        let each = ways().into_iter().map(|way| {
            let path = format!("/{way}/plain");
            world.send_each(&path, body, &["bad", "shadow"], "")
        });
        each.collect::<Vec<_>>().concat()
    });
}

#[test]
fn reach_the_endpoint_that_is_asked_beside_the_first() {
    each_size(|world, body| {
        let each = hedged().map(|way| {
            let path = format!("/{way}/hedge");
            world.send_each(&path, body, &["good", "shadow"], "bad")
        });
        each.collect::<Vec<_>>().concat()
    });
}

#[test]
fn reach_the_endpoint_of_a_further_try() {
    each_size(|world, body| {
        let mut wrong = Vec::new();
        for (way, event) in ways()
            .into_iter()
            .flat_map(|way| RETRIED.map(|event| (way, event)))
        {
            let path = format!("/{way}/{event}");
            wrong.extend(world.send_each(&path, body, &["bad", "good", "shadow"], ""));
        }
        wrong
    });
}

#[test]
fn reach_another_upstream_whatever_the_ways_to_both() {
    each_size(|world, body| {
        let mut wrong = Vec::new();
        for (way, other) in elsewhere() {
            let path = format!("/{way}/elsewhere/{other}");
            wrong.extend(world.send_each(&path, body, &["bad", "good", "shadow"], ""));
            let path = format!("/{way}/dead/{other}");
            wrong.extend(world.send_each(&path, body, &["good", "shadow"], ""));
        }
        wrong
    });
}

#[test]
fn reach_an_endpoint_whose_kept_connection_was_gone() {
    each_size(|world, body| {
        let mut wrong = Vec::new();
        for way in ways_of(Speaks::Http1) {
            let path = format!("/{way}/stale");
            // Each closes the connection that the one before left, and is served over a new one.
            world.send("1", true, &format!("/{way}/plain/first"), body);
            wrong.extend(world.send_each(&path, body, &["bad", "bad", "shadow"], ""));
        }
        wrong
    });
}

#[test]
fn reach_them_too_where_they_are_read_first() {
    // Longer than what is kept of one that is not, and than what is copied.
    let (world, body) = (World::signed(100_000), body(100_000));
    let mut wrong = Vec::new();
    for way in hedged() {
        wrong.extend(world.send_each(&format!("/{way}/hedge"), &body, &["good"], "bad"));
    }
    for way in ways() {
        wrong.extend(world.send_each(&format!("/{way}/reset"), &body, &["bad", "good"], ""));
    }
    for (way, other) in elsewhere().into_iter().step_by(3) {
        let path = format!("/{way}/elsewhere/{other}");
        wrong.extend(world.send_each(&path, &body, &["bad", "good"], ""));
        let path = format!("/{way}/dead/{other}");
        wrong.extend(world.send_each(&path, &body, &["good"], ""));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
