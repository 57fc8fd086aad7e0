//! Something new is tried: on some of the requests, or on copies of them.

mod mirror;
mod mirror_protocol;
mod split;
mod stop;

use crate::harness::{Client, Gateway, Origin, Setup};

/// A route `r` with these keys to an upstream of each origin's name.
fn with(origins: &[&Origin], route: &str) -> Setup {
    let mut text = String::new();
    for origin in origins {
        let (name, address) = (origin.name(), origin.address());
        text.push_str(&format!(
            "[upstream.{name}]\nendpoints = [{{ address = \"{address}\" }}]\n"
        ));
    }
    text.push_str(&format!("[[route]]\nid = \"r\"\npath = \"/**\"\n{route}"));
    Gateway::with(&text)
}

/// The origin that answers a request with these fields.
fn side(client: &Client, fields: &[(&str, &str)]) -> String {
    let mut request = client.get("/");
    for (name, value) in fields {
        request = request.header(name, value);
    }
    let answer = request.send().expect(200);
    answer.header("X-Origin").unwrap().to_owned()
}
