//! Where secrets come from, and that they stay where they belong.

use serde_json::json;

use crate::harness::{
    Folder, Gateway, Keys, Origin, Peer, Ran, Setup, eventually, seconds, unix_now,
};

const SECRET: &str = "canary-secret-of-at-least-32-bytes!!";

fn guarded(secret: &str) -> String {
    format!(
        "[auth.app]\ntype = \"jwt\"\nalgorithms = [\"HS256\"]\nsecret = \"{secret}\"\n\
         [[route]]\nid = \"guarded\"\npath = \"/**\"\nauth = [\"app\"]\nrespond = {{ status = 200, text = \"in\" }}\n"
    )
}

fn lets_in(setup: Setup) {
    let token = Peer::token("HS256", SECRET, &json!({ "exp": unix_now() + 60 }));
    let gateway = setup.start();
    gateway.client().get("/").bearer(token).send().expect(200);
    let wrong = Peer::token(
        "HS256",
        &format!("{SECRET}\n"),
        &json!({ "exp": unix_now() + 60 }),
    );
    gateway
        .client()
        .get("/")
        .bearer(wrong)
        .send()
        .refused(401, "token_invalid");
}

#[test]
fn a_secret_may_be_a_literal() {
    lets_in(Gateway::with(&guarded(SECRET)));
}

#[test]
fn a_secret_may_come_from_the_environment() {
    lets_in(Gateway::with(&guarded("env:JWT_SECRET")).env("JWT_SECRET", SECRET));
}

#[test]
fn a_secret_may_come_from_a_file_less_one_newline() {
    lets_in(Gateway::with(&guarded("file:{dir}/secret")).file("secret", &format!("{SECRET}\n")));
}

#[test]
fn a_secret_may_be_a_credential_of_the_service() {
    let credentials = Folder::with("").write("jwt", SECRET);
    let place = credentials.path().display().to_string();
    lets_in(Gateway::with(&guarded("cred:jwt")).env("CREDENTIALS_DIRECTORY", &place));
}

fn with_listener(text: &str) -> Folder {
    Folder::with(&format!(
        "[[listener]]\nname = \"p\"\naddress = \"127.0.0.1:8080\"\n{text}"
    ))
}

#[test]
fn a_secret_that_is_not_there_is_a_problem_with_a_place() {
    with_listener(&guarded("env:NO_SUCH_SECRET"))
        .check()
        .expect(1)
        .says("NO_SUCH_SECRET")
        .says("tollgate.toml:7:");
    with_listener(&guarded("file:{dir}/nothing"))
        .check()
        .expect(1)
        .says("nothing")
        .says("tollgate.toml:7:");
    with_listener(&guarded("cred:nothing"))
        .check()
        .expect(1)
        .says("nothing")
        .says("tollgate.toml:7:");
}

#[test]
fn a_short_hmac_secret_is_refused_at_31_bytes_and_taken_at_32() {
    let of = |n: usize| guarded(&"x".repeat(n));
    with_listener(&of(31)).check().expect(1).says("32");
    with_listener(&of(32)).check().expect(0);
}

#[test]
fn config_show_masks_secrets_and_shows_their_source() {
    let text = format!(
        "{}[auth.partner]\ntype = \"signature\"\nscheme = \"ca\"\n[auth.partner.apps]\n\
         \"app-1\" = {{ secret = \"canary-app-secret\", previous_secret = \"canary-old-secret\" }}\n\
         [admin]\naddress = \"127.0.0.1:9900\"\ntoken = \"canary-admin-token\"\n",
        guarded("env:JWT_SECRET")
    );
    let folder = with_listener(&text);
    let mut command = folder.command(&["config", "show"], &[]);
    let shown = Ran::of(command.env("JWT_SECRET", SECRET)).expect(0);
    shown.says("app-1").says("***").never_says("canary");
    let mut command = folder.command(&["config", "show"], &[]);
    Ran::of(command.env("JWT_SECRET", SECRET)).says("JWT_SECRET");
}

#[test]
fn a_problem_near_a_secret_does_not_print_it() {
    let text = guarded("canary-short").replace("type = \"jwt\"\n", "type = \"jwt\"\nissuer = 3\n");
    with_listener(&text)
        .check()
        .expect(1)
        .says("secret")
        .never_says("canary-short");
}

/// Every way in which a configuration is shown without being served.
fn shown(folder: &Folder, env: &[(&str, &str)]) -> String {
    let of = |verb: &[&str], args: &[&str]| {
        let mut command = folder.command(verb, args);
        Ran::of(command.envs(env.iter().copied())).all()
    };
    let explained = of(&["explain"], &["GET", "/kept", "--json"]);
    [
        of(&["config", "show"], &[]),
        of(&["check"], &[]),
        of(&["check"], &["--format", "json"]),
        of(&["routes"], &["--json"]),
        explained,
    ]
    .concat()
}

const KEPT: &str = r#"
[upstream.api]
endpoints = [{ address = "127.0.0.1:9" }]
health = { path = "/up?key=${CANARY}" }
[[route]]
id = "kept"
path = "/kept"
headers = { x-origin-key = "${CANARY}" }
query = { k = "~${CANARY}|x" }
cookies = { c = "${CANARY}" }
rewrite = "/bot/${CANARY}"
upstream = "api"
[route.request]
set = { X-Key = "${CANARY}", X-Literal = "canary-literal" }
add = { Authorization = "env:CANARY" }
[route.response]
set = { X-Answer = "Bearer ${CANARY}" }
[route.fallback]
text = "see ${CANARY}"
headers = { X-Fallback-Key = "${CANARY}" }
[[route]]
id = "moved"
path = "/moved"
respond = { redirect = "https://a.example/?key=${CANARY}" }
"#;

#[test]
fn what_the_environment_brings_is_never_shown() {
    let folder = with_listener(KEPT);
    let env = [("CANARY", "canary-value")];
    folder
        .run(&["check"], &[])
        .expect(1)
        .says("the environment has no CANARY");
    let mut command = folder.command(&["check"], &[]);
    Ran::of(command.envs(env)).expect(0);
    let mut command = folder.command(&["config", "show"], &[]);
    Ran::of(command.envs(env))
        .expect(0)
        .says("env:CANARY")
        .says("x-origin-key = \"${CANARY}\"");
    let all = shown(&folder, &env);
    assert!(all.contains("kept"), "{all}");
    assert!(!all.contains("canary-"), "{all}");
}

#[test]
fn no_problem_quotes_what_the_environment_brings() {
    for (text, line) in [
        (KEPT.replace("X-Key = ", "X-Key = \"a\", \"X Key\" = "), 17),
        (
            KEPT.replace("health = { path = \"/up?", "health = { path = \"up?"),
            7,
        ),
        (KEPT.replace("\"~${CANARY}|x\"", "\"~(${CANARY}\""), 12),
        (
            KEPT.replace("\"https://a.example/?key", "\"https://{a}/?key"),
            27,
        ),
        (
            KEPT.replace("upstream = \"api\"", "upstream = \"${CANARY}\""),
            15,
        ),
        (
            KEPT.replace(
                "[{ address = \"127.0.0.1:9\" }]",
                "[{ address = \"${CANARY}\" }]",
            ),
            6,
        ),
        (
            KEPT.replace(
                "path = \"/kept\"",
                "path = \"/kept\"\ntimeout = \"${CANARY}\"",
            ),
            11,
        ),
    ] {
        let folder = with_listener(&text);
        let mut command = folder.command(&["check"], &[]);
        let ran = Ran::of(command.env("CANARY", "canary-value")).expect(1);
        let ran = ran
            .says(&format!("tollgate.toml:{line}:"))
            .never_says("canary");
        assert!(!ran.all().contains("anary-"), "{ran:?}");
    }
    let folder = with_listener(KEPT);
    for (value, key) in [
        ("canary\nvalue", "set.X-Key"),
        ("canary\u{7f}", "response.set"),
    ] {
        let mut command = folder.command(&["check"], &[]);
        Ran::of(command.env("CANARY", value))
            .expect(1)
            .says(key)
            .says("no header value")
            .never_says("canary");
    }
}

#[test]
fn header_rules_take_values_from_where_secrets_are() {
    let credentials = Folder::with("").write("third", "from-cred\r\n");
    let place = credentials.path().display().to_string();
    let origin = Origin::start();
    let rules = r#"
[upstream.api]
endpoints = [{ address = "{origin}" }]
[[route]]
id = "r"
path = "/**"
upstream = "api"
request = { set = { X-First = "env:FIRST", X-Second = "file:{dir}/second" }, add = { X-Third = "cred:third" } }
response = { set = { X-Fourth = "env:FIRST", X-Plain = "plain" } }
[log]
access = "{dir}/access.log"
"#;
    let gateway = Gateway::with(rules)
        .to(&origin)
        .file("second", "from-file\n")
        .env("FIRST", "from-env\n")
        .env("CREDENTIALS_DIRECTORY", &place)
        .start();
    let answer = gateway.client().get("/x?from-file").send().expect(200);
    assert_eq!(answer.header("x-fourth"), Some("from-env"));
    assert_eq!(answer.header("x-plain"), Some("plain"));
    let seen = answer.seen();
    for (name, value) in [
        ("x-first", "from-env"),
        ("x-second", "from-file"),
        ("x-third", "from-cred"),
    ] {
        assert_eq!(seen.values(name), [value]);
    }
    let shown = gateway.admin_get("/api/v1/config").expect(200).text();
    assert!(
        shown.contains("env:FIRST") && !shown.contains("from-"),
        "{shown}"
    );
    assert!(!shown.contains("plain"), "{shown}");
    // Values are read again by a reload; one that cannot be used leaves the old ones in force, and is not quoted.
    gateway.write("second", "from-a-new-file");
    gateway.reload_ok();
    let seen = gateway.client().get("/x").send().seen();
    assert_eq!(seen.values("x-second"), ["from-a-new-file"]);
    for broken in [
        "from-a\nbroken-one\n",
        "from-a-blank \n",
        "from-a-line\n\n",
        "\n",
    ] {
        gateway.write("second", broken);
        let last = gateway.reload();
        assert_eq!(last["result"], "error", "{broken:?}: {last}");
        let error = last["error"].as_str().unwrap();
        assert!(error.contains("request.set.X-Second"), "{error}");
        assert!(error.contains("tollgate.toml:8:"), "{error}");
        assert!(
            !error.contains("from-") && !error.contains("broken-one"),
            "{error}"
        );
    }
    let seen = gateway.client().get("/x").send().seen();
    assert_eq!(seen.values("x-second"), ["from-a-new-file"]);
    let written = || std::fs::read_to_string(gateway.dir().join("access.log")).unwrap_or_default();
    eventually(seconds(5), "lines", || written().lines().count() >= 3);
    assert!(written().contains("/x?***"), "{}", written());
}

#[test]
fn a_secret_that_ends_in_what_nobody_means_is_a_problem() {
    for end in [" ", "\t", "\n", "\r\n", "\n\n", " \n"] {
        let once = matches!(end, "\n" | "\r\n");
        let value = format!("{SECRET}{end}");
        let code = i32::from(!once);
        with_listener(&guarded("file:{dir}/secret"))
            .write("secret", &value)
            .check()
            .expect(code)
            .never_says("canary");
        let folder = with_listener(&guarded("env:JWT_SECRET"));
        let mut command = folder.command(&["check"], &[]);
        let ran = Ran::of(command.env("JWT_SECRET", &value)).expect(code);
        if !once {
            ran.says("tollgate.toml:7:")
                .says("auth.app.secret")
                .says("ends in a");
        }
        // In the file itself nothing is cut.
        let written = value
            .replace('\n', "\\n")
            .replace('\t', "\\t")
            .replace('\r', "\\r");
        with_listener(&guarded(&written))
            .check()
            .expect(1)
            .says("ends in a");
    }
    // What is no shared secret may end as it likes.
    lets_in(Gateway::with(&guarded("env:JWT_SECRET")).env("JWT_SECRET", &format!("{SECRET}\n")));
}

#[test]
fn every_kind_of_secret_has_its_end_checked() {
    let app = "[auth.p]\ntype = \"signature\"\nscheme = \"ca\"\n[auth.p.apps]\n";
    for (text, key) in [
        ("[admin]\naddress = \"127.0.0.1:9900\"\ntoken = \"env:S\"\n".to_owned(), "admin.token"),
        (format!("{app}\"a\" = {{ secret = \"env:S\" }}\n"), "apps"),
        (format!("{app}\"a\" = {{ secret = \"x\", previous_secret = \"env:S\" }}\n"), "apps"),
        (
            "[upstream.u]\nendpoints = [{ address = \"127.0.0.1:9\" }]\nsticky = { secret = \"env:S\" }\n"
                .to_owned(),
            "upstream.u.sticky.secret",
        ),
    ] {
        let folder = with_listener(&format!("{text}[[route]]\npath = \"/\"\nrespond = {{ status = 204 }}\n"));
        let with = |value: &str| {
            let mut command = folder.command(&["check"], &[]);
            Ran::of(command.env("S", value))
        };
        with(SECRET).expect(0);
        with(&format!("{SECRET}\t")).expect(1).says(key).says("ends in a tab");
    }
}

#[test]
fn a_doubled_dollar_is_a_literal_one() {
    let route = "[[route]]\nid = \"r\"\npath = \"/**\"\nrespond = { text = \"$${HOME} $${ $$${X:-y} ${X:-y}\" }\n";
    let gateway = Gateway::with(route).start();
    let answer = gateway.client().get("/").send().expect(200);
    assert_eq!(answer.text(), "${HOME} ${ $${X:-y} y");
    // What is shown of the configuration says the same when it is read.
    let shown = gateway.admin_get("/api/v1/config").expect(200).text();
    let again = Folder::with(&shown);
    let again = again.run(&["config", "show"], &[]).expect(0);
    assert_eq!(again.stdout, shown);
}

#[test]
fn a_variable_that_is_no_text_is_a_problem_and_not_taken_for_unset() {
    use std::os::unix::ffi::OsStrExt;
    let folder = with_listener("[[route]]\npath = \"/${A:-x}\"\nrespond = { status = 204 }\n");
    let mut command = folder.command(&["check"], &[]);
    let value = std::ffi::OsStr::from_bytes(b"a\xff");
    Ran::of(command.env("A", value))
        .expect(1)
        .says("the value of A");
}

#[test]
fn a_header_that_is_set_in_two_spellings_is_a_problem() {
    let rule = |rules: &str| {
        let text = format!("[[route]]\npath = \"/\"\nrespond = {{ status = 204 }}\n{rules}\n");
        with_listener(&text).check()
    };
    let twice = "{ X-Env = \"a\", x-env = \"b\" }";
    rule(&format!("response = {{ set = {twice} }}"))
        .expect(1)
        .says("tollgate.toml:7:")
        .says("stands twice");
    rule(&format!("request = {{ set = {twice} }}"))
        .expect(1)
        .says("stands twice");
    rule(&format!("request = {{ add = {twice} }}")).expect(0);
}

#[test]
fn a_second_public_key_is_a_problem() {
    let (one, two) = (Keys::new("ec"), Keys::new("ec"));
    let text = guarded("x").replace("secret = \"x\"", "public_key = \"file:{dir}/key.pem\"");
    let text = text.replace("HS256", "ES256");
    let with = |pem: &str| with_listener(&text).write("key.pem", pem).check();
    with(&format!("{}\n\n", one.public)).expect(0);
    for both in [
        format!("{}{}", one.public, two.public),
        format!("{}{}", one.public.trim_end(), two.public),
    ] {
        with(&both).expect(1).says("auth.app.public_key: line ");
    }
}
