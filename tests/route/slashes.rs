//! Routes that leave `%2F` and `//` as they are, and that nothing gets past another rule by that.

use serde_json::Value;

use crate::harness::{Gateway, Http2, Origin, Seen};

const ROUTES: &str = r#"
[[listener]]
name = "public"
address = "{listen}"
http2 = true
[auth.app]
type = "jwt"
algorithms = ["HS256"]
secret = "0123456789abcdef0123456789abcdef"
[upstream.api]
endpoints = [{ address = "{origin}" }]
[group.kept]
encoded_slash = "keep"
merge_slashes = false
upstream = "api"
[[route]]
id = "project"
path = "/projects/{id}/issues"
encoded_slash = "keep"
upstream = "api"
[[route]]
id = "files"
group = "kept"
path = "/files/**"
[[route]]
id = "merging"
group = "kept"
merge_slashes = true
path = "/merging/**"
[[route]]
id = "stripped"
group = "kept"
path = "/stripped/**"
strip_prefix = 1
[[route]]
id = "guarded"
path = "/files/guarded/**"
auth = ["app"]
upstream = "api"
[[route]]
id = "guarded-merging"
path = "/merging/guarded"
auth = ["app"]
upstream = "api"
[[route]]
id = "posted"
path = "/files/posted"
methods = ["POST"]
upstream = "api"
[[route]]
id = "one"
path = "/files/one/{name}"
upstream = "api"
[[route]]
id = "usual"
path = "/usual/**"
upstream = "api"
"#;

fn gateway(origin: &Origin) -> Gateway {
    Gateway::with(ROUTES).to(origin).start()
}

/// What goes to the origin, and by which route.
const KEPT: [(&str, &str, &str); 16] = [
    (
        "/projects/group%2Fname/issues",
        "project",
        "/projects/group%2Fname/issues",
    ),
    (
        "/projects/group%2fname/issues",
        "project",
        "/projects/group%2Fname/issues",
    ),
    (
        "/projects//group%2Fname/issues",
        "project",
        "/projects/group%2Fname/issues",
    ),
    ("/files/a%2Fb", "files", "/files/a%2Fb"),
    ("/files/%2F", "files", "/files/%2F"),
    ("/files/a//b", "files", "/files/a//b"),
    ("/files//", "files", "/files//"),
    ("/files//a%2F%2F/%7Eb", "files", "/files//a%2F%2F/~b"),
    (
        "/files/http://x.test//y",
        "files",
        "/files/http://x.test//y",
    ),
    ("/files/a/../b", "files", "/files/b"),
    ("/merging/a//b%2Fc", "merging", "/merging/a/b%2Fc"),
    ("/merging/a//../b", "merging", "/merging/b"),
    ("/stripped/a%2Fb//c", "stripped", "/a%2Fb//c"),
    ("/stripped//a", "stripped", "//a"),
    ("/usual//a/../b", "usual", "/usual/b"),
    ("/files/one/x", "one", "/files/one/x"),
];

/// What could be taken for something else than the gateway takes it for.
const REFUSED: [&str; 27] = [
    // Decoded or merged it would be another route.
    "/files/guarded%2Fx",
    "/files/guarded%2fx",
    "/files%2Fguarded/x",
    "/files/%2Fguarded/x",
    "/files//guarded/x",
    "/files//guarded",
    "/files/%67uarded%2Fx",
    "//files/guarded%2Fx",
    "/files/guarded//x%2Fy",
    "/merging/%2Fguarded",
    "/merging//%2Fguarded",
    "/files/one//x",
    "/files/one%2Fx",
    // As it stands it would be one, whose rules are stricter.
    "/files/one/x%2Fy",
    // Dot segments, for those who decode or do not merge.
    "/files/a%2F..%2Fguarded",
    "/files/..%2Fguarded",
    "/files/a%2F..",
    "/files/a%2F%2e%2e%2Fb",
    "/files/a%2F..;x%2Fb",
    "/files/./a%2Fb",
    "/files/a%2Fb/../c",
    "/files/a//../b",
    // Whatever a route says.
    "/files/a%5Cb",
    "/files/a%252Fb",
    "/files/a\\b",
    // Routes that say nothing.
    "/usual/a%2Fb",
    "/nowhere%2Fx",
];

#[test]
fn what_a_route_leaves_as_it_is_goes_out_so() {
    let origin = Origin::start();
    let gateway = gateway(&origin);
    let client = Http2::connect(gateway.listen());
    for (sent, route, forwarded) in KEPT {
        assert_eq!(gateway.client().get(sent).send().seen().target, forwarded);
        let upgraded = gateway.client().get(sent).header("TE", "trailers").send();
        assert_eq!(upgraded.seen().target, forwarded);
        let over_http2 = client.get(sent).expect(200);
        let seen = Seen::from_echo(&serde_json::from_slice(&over_http2.body).unwrap());
        assert_eq!(seen.target, forwarded);
        let said = explain(&gateway, sent);
        assert_eq!(
            (&said["route"], &said["path"], &said["decision"]),
            (&route.into(), &forwarded.into(), &"forward".into()),
            "{sent}: {said}"
        );
    }
    // The query goes along.
    let seen = gateway.client().get("/files/a%2Fb?c=%2F//").send().seen();
    assert_eq!(seen.target, "/files/a%2Fb?c=%2F//");
}

#[test]
fn what_could_be_taken_for_another_route_is_refused() {
    let origin = Origin::start();
    let gateway = gateway(&origin);
    let client = Http2::connect(gateway.listen());
    for sent in REFUSED {
        let answer = gateway.client().get(sent).send();
        assert_eq!(
            (answer.status, answer.code().as_deref()),
            (400, Some("path_ambiguous")),
            "{sent}: {answer:?}"
        );
        client.get(sent).refused(400, "path_ambiguous");
        let said = explain(&gateway, sent);
        assert_eq!(said["decision"], "path_ambiguous", "{sent}: {said}");
    }
    for sent in ["/files//posted", "/files/%2Fposted", "/files%2Fposted"] {
        let answer = gateway.client().post(sent).send();
        answer.refused(400, "path_ambiguous");
    }
    assert_eq!(origin.count(), 0);
}

#[test]
fn every_spelling_of_a_guarded_path_meets_its_guard_or_none() {
    let origin = Origin::start();
    let gateway = gateway(&origin);
    let slashes = [
        "/",
        "//",
        "%2F",
        "%2f",
        "/%2F",
        "%2F/",
        "/./",
        "/%2e/",
        "/x/../",
        "%2Fx%2F..%2F",
        "//x/../",
    ];
    let mut connection = gateway.client().connect();
    for first in slashes {
        for second in slashes {
            let target = format!("/files{first}guarded{second}x");
            let answer = connection.get(&target).send();
            assert!(
                matches!(answer.status, 400 | 401 | 404),
                "{target}: {answer:?}"
            );
            let target = format!("/merging{first}guarded{}", second.trim_end_matches('x'));
            let answer = connection.get(&target).send();
            // Only what no reading takes for the guarded one may pass.
            if answer.status == 200 {
                let seen = answer.seen().target.to_ascii_lowercase();
                let read = seen
                    .replace("%2f", "/")
                    .replace("//", "/")
                    .replace("//", "/");
                assert_ne!(read, "/merging/guarded", "{target}");
            }
        }
    }
}

#[test]
fn a_path_that_no_route_takes_is_not_found() {
    let origin = Origin::start();
    let gateway = gateway(&origin);
    gateway
        .client()
        .get("/nowhere//x")
        .send()
        .refused(404, "route_not_found");
}

fn explain(gateway: &Gateway, target: &str) -> Value {
    let ran = gateway.run_cli(&["explain"], &["--json", "GET", target]);
    serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {}", ran.stdout))
}
