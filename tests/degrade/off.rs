//! A route that is switched off refuses before anything is spent.

use crate::harness::{Gateway, Http2, Origin, Signed, asking};

/// Sets the level of the route `r`.
#[track_caller]
fn set(gateway: &Gateway, level: &str) {
    gateway.run_cli(&["degrade"], &["r", level]).expect(0);
}

#[test]
fn who_is_refused_because_it_is_off_has_spent_nothing() {
    let origin = Origin::start();
    let secret = "app-1001-secret";
    let gateway = Gateway::with(&format!(
        "[[listener]]\nname = \"public\"\naddress = \"{{listen}}\"\nhttp2 = true\n\
         [auth.partner]\ntype = \"signature\"\nscheme = \"ca\"\napps = {{ \"app-1001\" = {{ secret = \"{secret}\" }} }}\n\
         [limit.few]\nkey = \"client_ip\"\nalgorithm = \"token_bucket\"\nrate = \"1/m\"\nburst = 1\n\
         [limit.daily]\nkey = \"consumer\"\nalgorithm = \"quota\"\nquota = 1\n\
         [upstream.api]\nendpoints = [{{ address = \"{{origin}}\" }}]\n\
         [[route]]\nid = \"r\"\npath = \"/**\"\nupstream = \"api\"\nauth = [\"partner\"]\nlimits = [\"few\", \"daily\"]\n\
         deny_ips = [\"127.0.0.3\"]\ncors = {{ origins = [\"https://a.test\"] }}\n"
    ))
    .to(&origin)
    .start();
    let headers = Signed::ca("app-1001", secret, "GET", "/x").headers();
    set(&gateway, "off");
    let ask = || gateway.client().get("/x").headers(&headers).send();
    for _ in 0..3 {
        ask().refused(503, "route_off");
    }
    let mut asked = asking("GET", "/x");
    for (name, value) in &headers {
        asked = asked.header(name, value);
    }
    let client = Http2::connect(gateway.listen());
    client.send(asked, None).refused(503, "route_off");
    // Who may not come in at all learns nothing of it, and a browser learns why it is refused.
    let denied = gateway.client().from(3);
    denied.get("/x").send().refused(403, "ip_denied");
    let browser = gateway.client();
    let browser = browser.get("/x").header("Origin", "https://a.test").send();
    let allowed = browser.header("Access-Control-Allow-Origin");
    assert_eq!(allowed, Some("https://a.test"));
    browser.refused(503, "route_off");
    // Without a signature it is off as well: nobody was asked for one.
    gateway.client().get("/x").send().refused(503, "route_off");
    let explained = gateway.run_cli(&["explain"], &["GET", "/x"]).expect(0);
    explained.says("decision  route_off (503)");
    set(&gateway, "normal");
    ask().expect(200);
    ask().refused(429, "rate_limited");
    assert_eq!(origin.count(), 1);
}

#[test]
fn a_fallback_that_has_nothing_to_say_takes_nothing_from_quotas() {
    let origin = Origin::start();
    let gateway = Gateway::with(
        "[limit.few]\nkey = \"client_ip\"\nalgorithm = \"token_bucket\"\nrate = \"1/m\"\nburst = 1\n\
         [upstream.api]\nendpoints = [{ address = \"{origin}\" }]\n\
         [[route]]\nid = \"r\"\npath = \"/**\"\nupstream = \"api\"\nlimits = [\"few\"]\nfallback = { last_good = {} }\n",
    )
    .to(&origin)
    .start();
    set(&gateway, "fallback");
    for _ in 0..3 {
        gateway.client().get("/").send().refused(503, "route_off");
    }
    set(&gateway, "normal");
    gateway.client().get("/").send().expect(200);
}
