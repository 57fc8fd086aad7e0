//! `conf/` is documentation that runs: every file passes `tollgate check`, and `conf/tollgate.toml` knows every key.

#![allow(
    clippy::unwrap_used,
    reason = "in a test a failed unwrap is the report"
)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use toml::{Table, Value};

/// Keys that are refused until their feature exists: named in a comment, so that nobody looks for them in vain.
const NOT_SUPPORTED_YET: [&str; 2] = ["limit.NAME.scope", "upstream.NAME.discovery"];

/// Keys that point to files of a host, or that exclude a key which stands there live: a commented line shows them.
const SHOWN_IN_COMMENTS: [&str; 18] = [
    "auth.NAME.apps.NAME.public_key",
    "auth.NAME.jwks",
    "auth.NAME.public_key",
    "listener[].mode",
    "listener[].tls",
    "listener[].tls.certificates",
    "listener[].tls.certificates[].cert",
    "listener[].tls.certificates[].key",
    "listener[].tls.client_ca",
    "listener[].tls.min_version",
    "server.maintenance.html",
    "server.maintenance.json",
    "route[].fallback.text",
    "upstream.NAME.sticky.domain",
    "upstream.NAME.sticky.secure",
    "upstream.NAME.tls.ca",
    "upstream.NAME.tls.cert",
    "upstream.NAME.tls.key",
];

#[test]
fn every_file_passes_check() {
    let mut files = examples();
    assert!(files.len() >= 9, "{files:?}");
    files.push(conf("tollgate.toml"));
    let directory = tempfile::tempdir().unwrap();
    for file in files {
        // The certificates of an example are on no host yet.
        let text = read(&file);
        let example = file
            .parent()
            .is_some_and(|folder| folder.ends_with("examples"));
        let file = if text.contains("/etc/tollgate/tls/") && example {
            let filled = directory.path().join("tls.toml");
            let folder = format!("{}/", directory.path().display());
            std::fs::write(&filled, text.replace("/etc/tollgate/tls/", &folder)).unwrap();
            for name in ["api", "shop"] {
                let host = format!("{name}.example.com");
                let made = rcgen::generate_simple_self_signed([host]).unwrap();
                let path = |end: &str| directory.path().join(format!("{name}.{end}"));
                std::fs::write(directory.path().join("clients.pem"), made.cert.pem()).unwrap();
                std::fs::write(path("pem"), made.cert.pem()).unwrap();
                std::fs::write(path("key"), made.signing_key.serialize_pem()).unwrap();
            }
            filled
        } else {
            file
        };
        let output = tollgate(&["check", "-c", file.to_str().unwrap()]);
        let report = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{}: {report}", file.display());
    }
}

/// The kit fills the files of its scenarios in, and asks each program that is there; what the gateway does not support yet
/// is let pass.
#[test]
fn every_file_of_the_benchmark_passes_check() {
    let binary = Path::new(env!("CARGO_BIN_EXE_tollgate"));
    let output = Command::new("/usr/bin/python3")
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("bench/run"))
        .args(["--check", "--programs"])
        .arg(binary.parent().unwrap())
        .output()
        .unwrap();
    let report = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{report}");
}

#[test]
fn every_example_says_first_what_it_shows() {
    for file in examples() {
        let text = read(&file);
        let first = text.lines().next().unwrap_or_default();
        assert!(
            first.starts_with("# ") && first.ends_with('.'),
            "{}: {first:?}",
            file.display()
        );
    }
}

#[test]
fn check_would_notice_a_misspelt_name() {
    let text = read(&conf("examples/jwt.toml")).replace("[upstream.orders]", "[upstream.order]");
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("broken.toml");
    std::fs::write(&file, text).unwrap();
    let output = tollgate(&["check", "-c", file.to_str().unwrap()]);
    let report = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(1));
    assert!(report.contains("did you mean \"order\"?"), "{report}");
}

#[test]
fn the_full_file_shows_every_key() {
    let text = read(&conf("tollgate.toml"));
    let live = live_keys(&text);
    let commented = commented_keys(&text);
    for key in tollgate::config::keys() {
        let key = key.as_str();
        if NOT_SUPPORTED_YET.contains(&key) || SHOWN_IN_COMMENTS.contains(&key) {
            assert!(
                commented.contains(key),
                "{key} stands in no commented line of conf/tollgate.toml"
            );
            assert!(
                !live.contains(key),
                "{key} is live now: take it off the list in this test"
            );
            continue;
        }
        // A group holds keys of a route, which the file explains once.
        let of_route = key.replacen("group.NAME", "route[]", 1);
        // What a tier, or a route, replaces of a limit is explained with the limit.
        let of_tier = [".tiers.NAME.", ".limit_overrides.NAME."]
            .iter()
            .filter_map(|table| Some(format!("limit.NAME.{}", key.split_once(table)?.1)))
            .any(|of_limit| live.contains(&of_limit.replace("tiers.NAME.", "")));
        assert!(
            live.contains(key) || live.contains(&of_route) || of_tier,
            "{key} is missing in conf/tollgate.toml"
        );
    }
}

#[test]
fn the_full_file_says_of_each_reserved_key_that_it_is_reserved() {
    let text = read(&conf("tollgate.toml"));
    for key in NOT_SUPPORTED_YET {
        let name = key.rsplit('.').next().unwrap();
        let at = text.find(&format!("# {name} = ")).unwrap();
        let before = text[..at].rsplit("\n\n").next().unwrap();
        assert!(
            before.contains("not supported yet"),
            "{key}: nothing before it says \"not supported yet\""
        );
    }
}

#[test]
fn the_lists_of_this_test_hold_real_keys() {
    let keys = tollgate::config::keys();
    for key in NOT_SUPPORTED_YET.iter().chain(&SHOWN_IN_COMMENTS) {
        assert!(keys.iter().any(|known| known == key), "{key}");
    }
}

#[test]
fn the_schema_lists_every_key() {
    let output = tollgate(&["schema"]);
    assert!(output.status.success());
    let schema: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let mut listed = BTreeSet::new();
    properties(&schema, &mut listed);
    for key in tollgate::config::keys() {
        let name = key.rsplit('.').next().unwrap();
        assert!(listed.contains(name), "{key}");
    }
}

fn conf(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("conf")
        .join(name)
}

fn examples() -> Vec<PathBuf> {
    let entries = std::fs::read_dir(conf("examples")).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    paths
        .filter(|path| path.extension().is_some_and(|end| end == "toml"))
        .collect()
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// What a fresh machine has: no variable of ours in the environment.
fn tollgate(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tollgate"))
        .args(arguments)
        .env_remove("TOLLGATE_CONFIG")
        .env_remove("TOLLGATE_JWT_SECRET")
        .output()
        .unwrap()
}

/// The dotted keys of `text`, with `NAME` for names of the operator's choice and `[]` for lists.
fn live_keys(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    walk(&text.parse().unwrap(), "", &mut found);
    found
}

/// Keys in lines as `# key = value`, each under the header above it, which may be commented too.
fn commented_keys(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut header = "";
    for line in text.lines() {
        let line_text = line.strip_prefix("# ").unwrap_or(line);
        if line_text.starts_with('[') && line_text.ends_with(']') && !line_text.contains(' ') {
            header = line_text;
        }
        if line.starts_with("# ")
            && let Ok(tree) = format!("{header}\n{line_text}").parse()
        {
            walk(&tree, "", &mut found);
        }
    }
    found
}

fn walk(table: &Table, prefix: &str, found: &mut BTreeSet<String>) {
    // Tables whose keys are names that the operator gives.
    let named = matches!(
        prefix,
        "upstream"
            | "auth"
            | "limit"
            | "group"
            | "auth.NAME.apps"
            | "limit.NAME.tiers"
            | "route[].limit_overrides"
            | "route[].limit_overrides.NAME.tiers"
    );
    for (key, value) in table {
        let name = if named { "NAME" } else { key.as_str() };
        let path = match prefix {
            "" => name.to_owned(),
            _ => format!("{prefix}.{name}"),
        };
        match value {
            Value::Table(inner) => walk(inner, &path, found),
            Value::Array(items) => {
                for inner in items.iter().filter_map(Value::as_table) {
                    walk(inner, &format!("{path}[]"), found);
                }
            }
            _ => {}
        }
        found.insert(path);
    }
}

/// Names of all properties anywhere in a JSON Schema.
fn properties(schema: &serde_json::Value, listed: &mut BTreeSet<String>) {
    match schema {
        serde_json::Value::Object(fields) => {
            if let Some(serde_json::Value::Object(names)) = fields.get("properties") {
                listed.extend(names.keys().cloned());
            }
            fields.values().for_each(|inner| properties(inner, listed));
        }
        serde_json::Value::Array(items) => items.iter().for_each(|inner| properties(inner, listed)),
        _ => {}
    }
}

/// Rows of `docs/failures.md` are as true as what holds them: a test that is named has to be there.
#[test]
fn what_the_page_of_failures_names_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = read(&root.join("docs/failures.md"));
    let rows = page.lines().filter(|line| line.starts_with("| "));
    let rows: Vec<&str> = rows.filter(|row| !row.contains("| Held by |")).collect();
    assert!(rows.len() > 30, "{} rows", rows.len());
    for row in rows {
        let cells: Vec<&str> = row.trim_end_matches([' ', '|']).split(" | ").collect();
        let (mut folder, mut source, mut names) = ("tests", String::new(), 0);
        for (index, text) in cells.last().unwrap().split('`').enumerate() {
            if index % 2 == 0 {
                folder = if text.contains("read:") {
                    "src"
                } else {
                    folder
                };
            } else if text.ends_with(".rs") {
                source = read(&root.join(folder).join(text));
                names += 1;
            } else {
                let claim = format!("fn {text}(");
                assert!(source.contains(&claim), "no {text} where {row:?} has it");
            }
        }
        assert!(names > 0, "nothing holds {row:?}");
    }
}
