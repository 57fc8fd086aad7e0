//! A body that is longer than it may be, or that never ends, is refused alike on every way.

use std::time::Instant;

use super::{World, body};
use crate::harness::{asking, on_each, seconds, ways};

#[test]
fn one_that_outgrows_what_its_route_takes_is_refused_at_once_on_every_way() {
    let (world, long) = (World::new(600), body(601));
    for (way, event) in ways()
        .into_iter()
        .flat_map(|way| ["plain", "hedge"].map(|event| (way, event)))
    {
        for protocol in ["1", "2"] {
            let path = format!("/{way}/{event}/long-{protocol}");
            let begun = Instant::now();
            assert_eq!(world.send(protocol, true, &path, &long), 413, "{path}");
            assert!(
                begun.elapsed() < seconds(3),
                "{path}: {:?}",
                begun.elapsed()
            );
            assert_eq!(world.reached(&path), [], "{path}");
        }
    }
}

/// What a client hears that sends the half of its body, and no more for the time that it gives the exchange.
fn half(world: &World, protocol: &str, path: &str) -> (u16, Option<String>) {
    let (body, left) = (body(600), "400");
    if protocol == "1" {
        let mut connection = world.gateway.client().connect();
        let head = format!(
            "PUT {path} HTTP/1.1\r\nHost: gateway.test\r\nContent-Length: 600\r\nX-Request-Deadline: {left}\r\n\r\n"
        );
        connection
            .write([head.as_bytes(), &body[..300]].concat())
            .unwrap();
        let answer = connection.response("PUT").unwrap();
        return (answer.status, answer.code());
    }
    let request = asking("PUT", path).header("x-request-deadline", left);
    let client = &world.http2_client;
    let mut asked = client.begin(request.body(()).unwrap(), true);
    asked
        .body
        .send_data(body[..300].to_vec().into(), false)
        .unwrap();
    let answer = asked.wait().unwrap();
    let problem: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
    (answer.status, problem["code"].as_str().map(str::to_owned))
}

#[test]
fn the_deadline_ends_one_that_stalls_on_every_way() {
    let world = World::new(600);
    on_each(ways(), |way| {
        for protocol in ["1", "2"] {
            let path = format!("/{way}/plain/half-{protocol}");
            let told = (504, Some("deadline_exceeded".to_owned()));
            assert_eq!(half(&world, protocol, &path), told, "{path}");
            assert_eq!(world.reached(&path), [], "{path}");
        }
    });
}
