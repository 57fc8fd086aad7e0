//! What routes share through their group.

use crate::harness::{Gateway, Origin, fragment};

#[test]
fn a_group_lends_prefix_auth_and_limits_and_a_route_keeps_its_own() {
    let origin = Origin::start();
    let gateway = Gateway::with(
        r#"
        [limit.few]
        key = "client_ip"
        algorithm = "token_bucket"
        rate = "1/m"
        burst = 2
        [group.api]
        prefix = "/api"
        auth = ["app"]
        limits = ["few"]
        [[route]]
        id = "closed"
        group = "api"
        path = "/closed/**"
        upstream = "api"
        [[route]]
        id = "limited"
        group = "api"
        path = "/limited"
        auth = []
        upstream = "api"
        [[route]]
        id = "open"
        group = "api"
        path = "/open"
        auth = []
        limits = []
        upstream = "api"
        "#,
    )
    .append(&fragment::upstream("api"))
    .append(&fragment::callers("app"))
    .to(&origin)
    .start();
    let client = gateway.client();
    client
        .get("/closed/x")
        .send()
        .refused(404, "route_not_found");
    client
        .get("/api/closed/x")
        .send()
        .refused(401, "token_missing");
    for _ in 0..5 {
        assert_eq!(client.get("/api/open").send().seen().target, "/api/open");
    }
    let other = client.from(3);
    other.get("/api/limited").send().expect(200);
    other.get("/api/limited").send().expect(200);
    other
        .get("/api/limited")
        .send()
        .refused(429, "rate_limited");
}
