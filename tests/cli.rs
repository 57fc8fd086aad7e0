//! The command line, one verb after the other.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::harness::{
    Client, Folder, Gateway, Origin, Peer, Ran, eventually, seconds, tollgate, unix_now,
};

const SECRET: &str = "0123456789abcdef0123456789abcdef";

const CONFIG: &str = r#"
[[listener]]
name = "public"
address = "127.0.0.1:8080"
[admin]
token = "canary-token"
[upstream.users]
endpoints = [{ address = "127.0.0.1:9001" }]
[[route]]
id = "tail"
path = "/users/**"
upstream = "users"
[[route]]
id = "literal"
path = "/users/me"
upstream = "users"
[[route]]
id = "name"
path = "/users/{id}"
upstream = "users"
"#;

fn run(args: &[&str]) -> Ran {
    Ran::of(tollgate().args(args))
}

#[test]
fn version_is_one_line_that_scripts_can_read() {
    let version = env!("CARGO_PKG_VERSION");
    let ran = run(&["--version"]).expect(0);
    assert_eq!(
        (ran.stdout.as_str(), ran.stderr.as_str()),
        (format!("tollgate {version}\n").as_str(), "")
    );
    let long = run(&["-V"]).expect(0).stdout;
    assert!(long.starts_with(&format!("tollgate {version}")), "{long}");
    for word in ["commit", "0.9.1"] {
        assert!(long.to_lowercase().contains(word), "{word} in {long}");
    }
    assert!(
        long.contains("key exchange: X25519MLKEM768, X25519"),
        "{long}"
    );
    assert!(
        long.contains("with aws-lc-rs, to clients and to upstreams"),
        "{long}"
    );
    assert!(long.to_lowercase().contains("rustls"), "{long}");
}

#[test]
fn wrong_usage_is_exit_code_2() {
    for args in [
        &["frobnicate"][..],
        &["check", "--nonsense"],
        &["explain"],
        &["token"],
        &["sign"],
        &["check", "-c"],
        &["completions", "tcsh9"],
    ] {
        let ran = run(args);
        assert!(
            ran.code == 2 && ran.stdout.is_empty() && !ran.stderr.is_empty(),
            "{args:?}: {ran:#?}"
        );
    }
}

#[test]
fn help_names_every_verb() {
    let help = run(&["--help"]).expect(0).stdout;
    for verb in [
        "run",
        "check",
        "reload",
        "status",
        "routes",
        "config",
        "explain",
        "sign",
        "token",
        "demo",
        "completions",
        "man",
        "schema",
    ] {
        assert!(help.contains(verb), "{verb} in {help}");
    }
}

#[test]
fn nothing_is_coloured_away_from_a_terminal() {
    let mut command = tollgate();
    command
        .env_remove("NO_COLOR")
        .args(["check", "-c", "/nowhere.toml"]);
    for ran in [
        Ran::of(&mut command),
        run(&["--help"]),
        run(&["frobnicate"]),
    ] {
        ran.never_says("\u{1b}[");
    }
}

#[test]
fn routes_are_listed_in_match_order() {
    let listed = Folder::with(CONFIG).run(&["routes"], &[]).expect(0).stdout;
    let at = |id: &str| {
        listed
            .find(id)
            .unwrap_or_else(|| panic!("{id} in {listed}"))
    };
    assert!(
        at("literal") < at("name") && at("name") < at("tail"),
        "{listed}"
    );
}

#[test]
fn config_show_is_a_configuration() {
    let folder = Folder::with(CONFIG);
    let shown = folder
        .run(&["config", "show"], &[])
        .expect(0)
        .never_says("canary");
    let parsed: toml::Table = shown
        .stdout
        .parse()
        .unwrap_or_else(|error| panic!("{error}: {}", shown.stdout));
    assert_eq!(
        parsed["server"]["client"]["header_timeout"].as_str(),
        Some("10s"),
        "defaults are shown"
    );
    assert_eq!(parsed["route"].as_array().unwrap().len(), 3);
    // What it shows is accepted again.
    Folder::with(&shown.stdout).check().expect(0);
}

#[test]
fn check_says_so_when_all_is_well() {
    Folder::with(CONFIG).check().expect(0).says("tollgate.toml");
}

#[test]
fn schema_is_a_json_schema_of_the_configuration() {
    let schema = run(&["schema"]).expect(0).json();
    assert!(
        schema["$schema"]
            .as_str()
            .is_some_and(|s| s.contains("json-schema.org")),
        "{schema}"
    );
    for table in [
        "server", "listener", "admin", "log", "upstream", "auth", "limit", "group", "route",
        "include",
    ] {
        assert!(schema["properties"][table].is_object(), "{table}");
    }
}

#[test]
fn completions_and_manual_are_printed() {
    for shell in ["bash", "zsh", "fish"] {
        run(&["completions", shell])
            .expect(0)
            .says("tollgate")
            .says("explain");
    }
    let manual = run(&["man"]).expect(0).stdout;
    assert!(
        manual.contains(".TH") && manual.contains("tollgate"),
        "{manual}"
    );
}

// ---- token and sign ------------------------------------------------------------------------------

#[test]
fn token_prints_the_token_alone_and_others_accept_it() {
    let before = unix_now();
    let ran = run(&[
        "token",
        "--secret",
        SECRET,
        "--claim",
        "sub=user-7",
        "--claim",
        "role=admin",
        "--expires",
        "1h",
    ])
    .expect(0);
    let token = ran.stdout.trim_end();
    assert_eq!(token.split('.').count(), 3, "{ran:#?}");
    let claims = Peer::verified("HS256", SECRET, token);
    assert_eq!(
        (&claims["sub"], &claims["role"]),
        (&json!("user-7"), &json!("admin"))
    );
    let exp = claims["exp"].as_i64().unwrap();
    assert!(
        (before + 3595..=unix_now() + 3605).contains(&exp),
        "{claims}"
    );
    let gateway = guarded();
    gateway
        .client()
        .get("/token")
        .bearer(token)
        .send()
        .expect(200);
    let other = run(&["token", "--secret", "another-secret-another-secret-1234"])
        .expect(0)
        .stdout;
    gateway
        .client()
        .get("/token")
        .bearer(other.trim_end())
        .send()
        .refused(401, "token_invalid");
}

#[test]
fn token_signs_with_a_key_file() {
    for (kind, alg) in [
        ("rsa", "RS256"),
        ("rsa", "PS256"),
        ("ec", "ES256"),
        ("ed25519", "EdDSA"),
    ] {
        let keys = crate::harness::Keys::new(kind);
        let folder = Folder::with("").write("key.pem", &keys.private);
        let key = folder.path().join("key.pem").display().to_string();
        let ran = run(&[
            "token",
            "--key",
            &key,
            "--alg",
            alg,
            "--claim",
            "sub=u",
            "--expires",
            "5m",
        ])
        .expect(0);
        assert_eq!(
            Peer::verified(alg, &keys.public, ran.stdout.trim_end())["sub"],
            "u"
        );
    }
}

fn guarded() -> Gateway {
    Gateway::with(&format!(
        "[auth.app]\ntype = \"jwt\"\nalgorithms = [\"HS256\"]\nsecret = \"{SECRET}\"\n\
         [auth.ca]\ntype = \"signature\"\nscheme = \"ca\"\n[auth.ca.apps]\n\"app-1\" = {{ secret = \"s3cret\" }}\n\
         [auth.rfc]\ntype = \"signature\"\nscheme = \"rfc9421\"\n[auth.rfc.apps]\n\"app-1\" = {{ secret = \"s3cret\" }}\n\
         [[route]]\nid = \"token\"\npath = \"/token\"\nauth = [\"app\"]\nrespond = {{ status = 200 }}\n\
         [[route]]\nid = \"ca\"\npath = \"/ca/**\"\nauth = [\"ca\"]\nrespond = {{ status = 200 }}\n\
         [[route]]\nid = \"rfc\"\npath = \"/rfc9421/**\"\nauth = [\"rfc\"]\nrespond = {{ status = 200 }}\n"
    ))
    .start()
}

#[test]
fn sign_prints_headers_that_the_gateway_accepts() {
    let gateway = guarded();
    for scheme in ["ca", "rfc9421"] {
        let target = format!("/{scheme}/orders?b=x%20y&a=1");
        let url = format!("http://gateway.test{target}");
        let body = r#"{"hello":"world's"}"#;
        let signed = |secret: &str, rest: &[&str]| -> Vec<(String, String)> {
            let mut args = vec![
                "sign",
                "--scheme",
                scheme,
                "--key",
                "app-1",
                "--secret",
                secret,
                "--headers",
            ];
            args.extend(rest);
            let lines = run(&args).expect(0).stdout;
            lines
                .lines()
                .map(|l| l.split_once(": ").unwrap_or_else(|| panic!("{l}")))
                .map(|(n, v)| (n.to_owned(), v.to_owned()))
                .collect()
        };
        let client = gateway.client();
        client
            .get(&target)
            .headers(&signed("s3cret", &["GET", &url]))
            .send()
            .expect(200);
        let of_body = signed("s3cret", &["POST", &url, "-d", body]);
        client
            .post(&target)
            .headers(&of_body)
            .body(body)
            .send()
            .expect(200);
        client
            .get(&target)
            .headers(&signed("wrong", &["GET", &url]))
            .send()
            .refused(401, "sig_invalid");
        let form = [
            "-H",
            "Content-Type: application/x-www-form-urlencoded",
            "-d",
            "c=2",
            "POST",
            &url,
        ];
        client
            .post(&target)
            .headers(&signed("s3cret", &form))
            .body("c=2")
            .send()
            .expect(200);
        client
            .post(&target)
            .headers(&signed("s3cret", &form))
            .body("c=3")
            .send()
            .expect(401);
    }
}

#[test]
fn sign_prints_a_line_that_a_shell_understands() {
    let gateway = guarded();
    for scheme in ["ca", "rfc9421"] {
        let url = format!("http://{}/{scheme}/x?a=1", gateway.listen());
        let body = "{\"it's\":\"$HOME `x` \\\"quoted\\\"\"}";
        let line = run(&[
            "sign", "--scheme", scheme, "--key", "app-1", "--secret", "s3cret", "POST", &url, "-d",
            body,
        ])
        .expect(0)
        .stdout;
        assert!(line.trim_start().starts_with("curl "), "{line}");
        // A shell takes the line apart; curl itself is not needed for that.
        let script = format!("curl() {{ printf '%s\\0' \"$@\"; }}\n{line}");
        let words = Ran::of(Command::new("/bin/sh").arg("-c").arg(script))
            .expect(0)
            .stdout;
        let words: Vec<&str> = words.split('\0').collect();
        assert!(
            words.contains(&url.as_str()) && words.contains(&body),
            "{words:?}"
        );
        let mut headers = Vec::new();
        for pair in words
            .windows(2)
            .filter(|pair| pair[0] == "-H" || pair[0] == "--header")
        {
            let (name, value) = pair[1].split_once(": ").unwrap();
            headers.push((name.to_owned(), value.to_owned()));
        }
        let client = gateway.client().host(&gateway.listen().to_string());
        client
            .post(&format!("/{scheme}/x?a=1"))
            .headers(&headers)
            .body(body)
            .send()
            .expect(200);
    }
}

// ---- verbs that talk to a running gateway ------------------------------------------------------------

fn hello() -> Gateway {
    Gateway::with("[[route]]\nid = \"hello\"\npath = \"/hello\"\nrespond = { status = 200, text = \"one\" }\n").start()
}

#[test]
fn reload_answers_with_its_exit_code() {
    let gateway = hello();
    let good = std::fs::read_to_string(gateway.config()).unwrap();
    gateway.write("tollgate.toml", &good.replace("\"one\"", "\"two\""));
    gateway.run_cli(&["reload"], &[]).expect(0);
    assert_eq!(gateway.client().get("/hello").send().text(), "two");
    gateway.write("tollgate.toml", &good.replace("respond", "respnd"));
    gateway
        .run_cli(&["reload"], &[])
        .expect(1)
        .says("tollgate.toml:4:1")
        .says("respond");
    assert_eq!(gateway.client().get("/hello").send().text(), "two");
    gateway.wait_for_metric("gateway_config_reloads_total", &[("result", "ok")], 1.0);
}

#[test]
fn without_a_running_gateway_the_verbs_say_so() {
    let folder = Folder::with("").write(
        "tollgate.toml",
        &format!("{CONFIG}[server]\nruntime_dir = \"{{dir}}/run\"\n"),
    );
    for verb in ["reload", "status"] {
        let ran = folder.run(&[verb], &[]).expect(1);
        assert!(!ran.stderr.is_empty(), "{ran:#?}");
    }
}

#[test]
fn status_shows_what_runs() {
    let origin = Origin::start();
    let gateway = Gateway::with(
        "[upstream.api]\nendpoints = [{ address = \"{origin}\" }]\n[[route]]\nid = \"proxied\"\npath = \"/**\"\nupstream = \"api\"\n",
    )
    .to(&origin)
    .start();
    gateway.client().get("/x").send().expect(200);
    let text = gateway.run_cli(&["status"], &[]).expect(0).stdout;
    let hash = gateway.info()["config_hash"].as_str().unwrap().to_owned();
    for word in [
        env!("CARGO_PKG_VERSION"),
        &hash,
        "proxied",
        "api",
        &origin.address().to_string(),
    ] {
        assert!(text.contains(word), "{word} in {text}");
    }
    let status: Value = gateway.run_cli(&["status"], &["--json"]).expect(0).json();
    let all = status.to_string();
    for word in [&hash, "proxied", &origin.address().to_string() as &str] {
        assert!(all.contains(word), "{word} in {all}");
    }
}

#[test]
fn check_runs_beside_the_gateway() {
    hello().run_cli(&["check"], &[]).expect(0);
}

#[test]
fn demo_serves_and_prints_lines_that_work() {
    let folder = Folder::with("");
    let output = std::fs::File::create(folder.path().join("output")).unwrap();
    let mut command = tollgate();
    command
        .arg("demo")
        .stdout(output.try_clone().unwrap())
        .stderr(output);
    let demo = Running(command.spawn().unwrap());
    let printed = || std::fs::read_to_string(folder.path().join("output")).unwrap();
    eventually(seconds(20), "the demo has said all", || {
        printed().contains("Ctrl-C")
    });
    let text = printed();
    let after = |mark: &str| {
        text.split(mark)
            .nth(1)
            .unwrap_or_else(|| panic!("{mark} in {text}"))
    };
    let address = after("listening on http://")
        .split(|c: char| c == ',' || c.is_whitespace())
        .next()
        .unwrap();
    let client = Client::to(address.parse().unwrap());
    client.get("/hello/world").send().expect(200);
    let token = after("Authorization: Bearer ").split('\'').next().unwrap();
    client.get("/users/7").bearer(token).send().expect(200);
    client.get("/users/7").send().refused(401, "token_missing");
    let signed = text
        .lines()
        .find(|l| l.contains("curl") && l.contains("x-ca-signature:"))
        .expect("a signed line");
    assert!(signed.contains("/partner/"), "{signed}");
    let file = Path::new(after("configuration: ").lines().next().unwrap());
    let directory = file.parent().unwrap();
    let mode = std::fs::metadata(directory).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    let name = directory.file_name().unwrap().to_str().unwrap();
    let random = name.strip_prefix("tollgate-demo-").unwrap();
    assert!(
        random.len() == 32 && random.bytes().all(|b| b.is_ascii_hexdigit()),
        "{name}"
    );
    let directory = directory.to_owned();
    drop(demo);
    assert!(!directory.exists(), "nothing is left of it");
}

/// Ends with the test.
struct Running(std::process::Child);

impl Drop for Running {
    fn drop(&mut self) {
        let pid = nix::unistd::Pid::from_raw(self.0.id() as i32);
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT);
        let _ = self.0.wait();
    }
}
