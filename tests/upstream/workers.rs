//! Each worker has connections of its own to upstreams, and to those that get copies.

use super::endpoint;
use crate::harness::{Does, Gateway, StreamOrigin, eventually, millis, reserve, seconds};

#[test]
fn a_connection_of_http2_is_of_one_worker() {
    let origins = ["hedged", "plain", "shadow"]
        .map(|name| StreamOrigin::start(name, Does::Answers(millis(0))));
    let [hedged, plain, shadow] = origins
        .each_ref()
        .map(|origin| endpoint(origin.address(), ""));
    // A second try needs a second endpoint.
    let nobody = endpoint(reserve(), ", backup = true");
    let mirror = "mirror = { upstream = \"shadow\", in_flight = 1000 }";
    let gateway = Gateway::with(&format!(
        "[server]\nthreads = 2\n\
         [upstream.hedged]\nendpoints = [{hedged}{nobody}]\nhttp_version = \"2\"\nhedge = {{ after = \"5s\" }}\n\
         [upstream.plain]\nendpoints = [{plain}]\nhttp_version = \"2\"\n\
         [upstream.shadow]\nendpoints = [{shadow}]\nhttp_version = \"2\"\n\
         [[route]]\npath = \"/hedged\"\nupstream = \"hedged\"\n{mirror}\n\
         [[route]]\npath = \"/plain\"\nupstream = \"plain\"\n"
    ))
    .start();
    let shadowed = || origins[2].count();
    for number in 0..40 {
        // Each over a connection of its own, which the kernel gives to one of the two.
        let answer = gateway.client().get("/hedged").send().expect(200);
        assert_eq!(answer.text(), "hedged 0");
        eventually(seconds(5), "the copy came", || shadowed() == number + 1);
        gateway.client().get("/plain").send().expect(200);
    }
    let connections = origins.each_ref().map(|origin| origin.connections());
    assert_eq!(connections, [(2, 2); 3]);
}
