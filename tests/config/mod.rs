//! What a configuration file may say, and how the gateway answers one that it does not understand.

mod include;
mod refused;
mod secret;
mod units;

use crate::harness::{Folder, Gateway, Ran};

/// A small valid configuration; tests append to it.
const VALID: &str = r#"
[[listener]]
name = "public"
address = "127.0.0.1:8080"

[upstream.users]
endpoints = [{ address = "127.0.0.1:9001" }]

[[route]]
id = "users"
path = "/users/**"
upstream = "users"
"#;

/// `check` over the valid configuration and `more`.
fn check_with(more: &str) -> Ran {
    Folder::with(&format!("{VALID}{more}")).check()
}

#[test]
fn accepts_a_small_valid_file() {
    Folder::with(VALID).check().expect(0);
}

#[test]
fn reports_every_problem_at_once_with_its_place() {
    let text = r#"[server]
grace_period = "ten"
thread = 4

[[listener]]
name = "public"
address = "127.0.0.1:8080"

[upstream.users]
endpoints = [{ address = "127.0.0.1:9001", weight = 0 }]

[[route]]
id = "users"
path = "/users/**"
upstream = "user"
"#;
    let folder = Folder::with(text);
    let ran = folder.check().expect(1);
    let file = folder.config().display().to_string();
    for (line, word) in [
        (2, "grace_period"),
        (3, "thread"),
        (10, "weight"),
        (15, "upstream"),
    ] {
        let place = format!("tollgate.toml:{line}:");
        let found = ran
            .stderr
            .lines()
            .chain(ran.stdout.lines())
            .any(|l| l.contains(&place) && l.contains(word));
        assert!(found, "no line with {place} and {word} in {ran:#?}");
    }
    assert!(
        ran.all().contains(&format!("{file}:2:")),
        "the file's own path leads the line: {ran:#?}"
    );
}

#[test]
fn names_the_column_where_a_key_stands() {
    let ran = check_with("\n[route.request]\n    sett = { X-A = \"1\" }\n").expect(1);
    let line = VALID.lines().count() + 3;
    ran.says(&format!("tollgate.toml:{line}:5:"));
}

#[test]
fn suggests_the_key_that_was_meant() {
    for (more, wrong, meant) in [
        (
            "\n[server]\ngrace_perod = \"3s\"\n",
            "grace_perod",
            "grace_period",
        ),
        (
            "\n[server.client]\nkeepalive_timout = \"3s\"\n",
            "keepalive_timout",
            "keepalive_timeout",
        ),
        (
            "\n[[route]]\npath = \"/x\"\nupstrem = \"users\"\n",
            "upstrem",
            "upstream",
        ),
        (
            "\n[limit.l]\nkey = \"route\"\nalgorithm = \"token_bucket\"\nrate = \"1/s\"\nbrst = 3\n",
            "brst",
            "burst",
        ),
    ] {
        check_with(more)
            .expect(1)
            .says(wrong)
            .says("did you mean")
            .says(meant);
    }
}

#[test]
fn suggests_the_name_that_was_meant() {
    check_with("\n[[route]]\npath = \"/x\"\nupstream = \"usres\"\n")
        .expect(1)
        .says("usres")
        .says("users");
}

#[test]
fn an_unknown_table_is_a_problem_too() {
    check_with("\n[sever]\nthreads = 1\n")
        .expect(1)
        .says("sever")
        .says("server");
}

#[test]
fn a_syntax_error_has_a_place() {
    let folder = Folder::with("[server]\nthreads = = 1\n");
    folder.check().expect(1).says("tollgate.toml:2:");
}

#[test]
fn a_missing_file_is_named() {
    let folder = Folder::with(VALID);
    std::fs::remove_file(folder.config()).unwrap();
    folder.check().expect(1).says("tollgate.toml");
}

#[test]
fn check_answers_in_json_when_asked() {
    let folder = Folder::with(&format!(
        "{VALID}\n[server]\nthread = 4\ngrace_period = 3\n"
    ));
    let ran = folder.run(&["check"], &["--format", "json"]).expect(1);
    let answer = ran.json();
    let problems = answer
        .as_array()
        .or_else(|| answer["problems"].as_array())
        .expect("a list of problems");
    let line = VALID.lines().count() as u64 + 3;
    assert!(problems.len() >= 2, "{answer}");
    let first = problems
        .iter()
        .find(|p| p["line"] == line)
        .unwrap_or_else(|| panic!("line {line} in {answer}"));
    assert_eq!(first["column"], 1, "{answer}");
    assert!(
        first["file"].as_str().unwrap().ends_with("tollgate.toml"),
        "{answer}"
    );
    Folder::with(VALID)
        .run(&["check"], &["--format", "json"])
        .expect(0)
        .json();
}

#[test]
fn check_creates_no_files_and_binds_nothing() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let text = format!(
        "{VALID}\n[server]\nruntime_dir = \"{{dir}}/run\"\n[log]\nfile = \"{{dir}}/log\"\naccess = \"{{dir}}/access\"\n"
    );
    let text = text.replace("127.0.0.1:8080", &taken.local_addr().unwrap().to_string());
    let folder = Folder::with("").write("tollgate.toml", &text);
    folder.check().expect(0);
    assert_eq!(folder.files(), ["tollgate.toml"]);
}

#[test]
fn the_gateway_refuses_to_start_on_what_check_refuses() {
    let ran = Gateway::with("[[route]]\npath = \"/\"\nupstream = \"nobody\"\n").fails_to_start();
    ran.expect(1).says("tollgate.toml:3:").says("nobody");
}

#[test]
fn the_file_comes_from_the_environment_when_no_option_names_it() {
    let folder = Folder::with(VALID);
    let mut command = crate::harness::tollgate();
    Ran::of(command.arg("check").env("TOLLGATE_CONFIG", folder.config())).expect(0);
    let mut command = crate::harness::tollgate();
    Ran::of(
        command
            .arg("check")
            .env("TOLLGATE_CONFIG", folder.path().join("nothing.toml")),
    )
    .expect(1)
    .says("nothing.toml");
}

#[test]
fn variables_are_expanded_inside_strings_only() {
    let text = VALID.replace("127.0.0.1:9001", "${ORIGIN_HOST:-127.0.0.1}:${ORIGIN_PORT}");
    let folder = Folder::with(&text);
    folder.check().expect(1).says("ORIGIN_PORT");
    let mut command = folder.command(&["config", "show"], &[]);
    let shown = Ran::of(command.env("ORIGIN_PORT", "9011")).expect(0);
    shown.says("127.0.0.1:9011");
    let mut command = folder.command(&["config", "show"], &[]);
    let shown = Ran::of(
        command
            .env("ORIGIN_PORT", "9011")
            .env("ORIGIN_HOST", "127.0.0.7"),
    )
    .expect(0);
    shown.says("127.0.0.7:9011");
}

#[test]
fn an_expanded_value_cannot_bring_in_structure() {
    let text = VALID.replace("\"users\"\npath", "\"${ID}\"\npath");
    let folder = Folder::with(&text);
    let mut command = folder.command(&["config", "show"], &[]);
    let ran = Ran::of(command.env("ID", "x\"\nupstream = \"evil"));
    // Whether such an id is welcome or not, it stays one value.
    if ran.code == 0 {
        let shown: toml::Table = ran.stdout.parse().unwrap();
        assert_eq!(
            shown["route"][0]["upstream"].as_str(),
            Some("users"),
            "{shown}"
        );
    }
}
