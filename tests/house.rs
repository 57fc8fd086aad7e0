//! The floors of `src/lib.rs`, kept: no import points up or sideways, and a few things stay where they belong.
//!
//! The text of every file is read without comments, literals and test code. That is not a parser, and need not be: it
//! sees `crate::` and `tollgate::` paths wherever they stand, groups included, and paths that climb out with `super`.

#![allow(
    clippy::unwrap_used,
    reason = "in a test a failed unwrap is the report"
)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Rooms by floor.
const FLOORS: [(&str, u8); 17] = [
    ("main", 6),
    ("fuzzing", 6),
    ("cli", 6),
    ("server", 5),
    ("gateway", 4),
    ("route", 3),
    ("auth", 3),
    ("limit", 3),
    ("upstream", 3),
    ("transform", 3),
    ("tls", 3),
    ("degrade", 3),
    ("rollout", 3),
    ("filter", 2),
    ("observe", 2),
    ("config", 1),
    ("primitives", 0),
];

/// The sideways imports there are: the program calls the command line, and a record names the reason of a refusal.
const NEIGHBOURS: [(&str, &str); 2] = [("main", "cli"), ("observe", "filter")];

#[test]
fn who_lacks_what_building_needs_is_told_what_it_is() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let makefile = std::fs::read_to_string(root.join("Makefile")).unwrap();
    let packages = makefile
        .lines()
        .find_map(|line| line.strip_prefix("BUILD_PACKAGES := "));
    let packages = packages.unwrap();
    let readme = std::fs::read_to_string(root.join("README.md")).unwrap();
    let readme: Vec<&str> = readme.split_whitespace().collect();
    assert!(
        readme
            .join(" ")
            .contains(&format!("apt-get install {packages}"))
    );
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("build");
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let built = Command::new(rustc)
        .args(["--edition", "2024", "-o"])
        .args([&script, &root.join("build.rs")])
        .status();
    assert!(built.unwrap().success());
    let lacking = Command::new(&script)
        .env_clear()
        .env("PATH", folder.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&lacking.stderr);
    assert!(!lacking.status.success(), "{said}");
    for word in ["cc", "cmake", packages, "make install-deps"] {
        assert!(said.contains(word), "{word} in {said}");
    }
    let whole = Command::new(&script)
        .current_dir(folder.path())
        .output()
        .unwrap();
    assert!(whole.status.success(), "{whole:?}");
}

#[test]
fn every_room_has_a_floor() {
    for file in files() {
        assert!(
            file.room == "lib" || floor(&file.room).is_some(),
            "src/{}: give {:?} a floor in tests/house.rs and src/lib.rs",
            file.path,
            file.room
        );
    }
}

#[test]
fn no_import_points_up_or_sideways() {
    let mut wrong = Vec::new();
    for file in files().iter().filter(|file| file.room != "lib") {
        let imported = imports(&file.code, &file.module);
        let foreign = imported.iter().filter(|room| !may(&file.room, room));
        wrong
            .extend(foreign.map(|room| format!("src/{}: {} imports {room}", file.path, file.room)));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_framework_s_session_stays_in_the_gateway() {
    let wrong = naming("Session", |file| file.room != "gateway");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn no_static_holds_mutable_state() {
    let mut wrong = Vec::new();
    for file in files() {
        for item in statics(&file.code) {
            if is_mutable(item) {
                wrong.push(format!("src/{}: static {item}", file.path));
            }
        }
        for macro_name in ["thread_local!", "lazy_static!"] {
            if file.code.contains(macro_name) {
                wrong.push(format!("src/{}: {macro_name}", file.path));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn nothing_unwraps_outside_tests() {
    let wrong: Vec<String> = files()
        .iter()
        .filter(|file| file.code.contains(".unwrap()"))
        .map(|file| {
            format!(
                "src/{}: unwrap() states nothing; use expect or an error",
                file.path
            )
        })
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

mod the_reader {
    use super::*;

    fn rooms(code: &str) -> Vec<String> {
        imports(&bare(code), &["limit", "key"].map(str::to_owned))
            .into_iter()
            .collect()
    }

    #[test]
    fn sees_paths_groups_and_climbs() {
        assert_eq!(rooms("use crate::auth::Facts;"), ["auth"]);
        assert_eq!(
            rooms("use crate::{auth::{A, B}, config, filter as f};"),
            ["auth", "config", "filter"]
        );
        assert_eq!(
            rooms("use crate::{\n    config::{self, Limit},\n    observe::*,\n};"),
            ["config", "observe"]
        );
        assert_eq!(rooms("fn f() { crate::server::run() }"), ["server"]);
        assert_eq!(rooms("use tollgate::cli;"), ["cli"]);
        assert_eq!(rooms("use super::super::gateway::Ctx;"), ["gateway"]);
        assert_eq!(
            rooms("use super::super::{auth, route::Table};"),
            ["auth", "route"]
        );
    }

    #[test]
    fn takes_neighbours_for_what_they_are() {
        assert_eq!(rooms("use super::sketch::Sketch;"), [""; 0]);
        assert_eq!(
            rooms("use other_crate::auth::X; use mycrate::auth::Y;"),
            [""; 0]
        );
        assert_eq!(rooms("pub(crate) fn f() {}"), [""; 0]);
    }

    #[test]
    fn leaves_comments_literals_and_tests_out() {
        for code in [
            "// use crate::server::X;",
            "/* outer /* crate::server */ crate::server */",
            "const A: &str = \"crate::server \\\" crate::cli\";",
            "const A: &str = r#\"crate::server \" crate::cli\"#;",
            "const A: [char; 2] = ['\"', '{'];\n#[cfg(test)]\nmod tests { use crate::server::X; }",
            "#[cfg(test)]\nmod tests { const A: &str = \"}\"; use crate::server::X; }",
            "#[cfg(test)]\n#[allow(dead_code)]\nuse crate::server::X;",
        ] {
            assert_eq!(rooms(code), [""; 0], "{code}");
        }
        let mixed =
            "#[cfg(test)]\nfn f() { crate::server::x() }\nfn g<'a>(x: &'a str) { crate::cli::y() }";
        assert_eq!(rooms(mixed), ["cli"]);
    }

    #[test]
    fn tells_which_imports_are_allowed() {
        for (room, imported, allowed) in [
            ("cli", "server", true),
            ("server", "cli", false),
            ("gateway", "auth", true),
            ("auth", "gateway", false),
            ("auth", "limit", false),
            ("auth", "auth", true),
            ("observe", "filter", true),
            ("filter", "observe", false),
            ("config", "primitives", true),
            ("primitives", "config", false),
        ] {
            assert_eq!(may(room, imported), allowed, "{room} imports {imported}");
        }
    }

    #[test]
    fn tells_mutable_statics_from_others() {
        let mutable = |code: &str| statics(&bare(code)).into_iter().any(is_mutable);
        assert!(mutable("static A: Mutex<u8> = Mutex::new(0);"));
        assert!(mutable("pub static A: AtomicU64 = AtomicU64::new(0);"));
        assert!(mutable(
            "fn f() { static A: OnceLock<u8> = OnceLock::new(); }"
        ));
        assert!(mutable("static mut A: u8 = 0;"));
        assert!(!mutable("static A: &'static str = \"Mutex\";"));
        assert!(!mutable("fn f(x: &'static Mutex<u8>) {}"));
    }
}

/// A file of `src/` without comments, literals and test code.
struct File {
    path: String,
    room: String,
    /// Where it stands: `["limit", "key"]`.
    module: Vec<String>,
    code: String,
}

fn files() -> Vec<File> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut paths = Vec::new();
    collect(&root, &mut paths);
    let mut files: Vec<File> = paths.iter().map(|path| File::read(&root, path)).collect();
    assert!(files.len() > 50, "src/ was not found");
    let tests: Vec<Vec<String>> = paths
        .iter()
        .zip(&files)
        .flat_map(|(path, file)| {
            let text = std::fs::read_to_string(path).unwrap();
            let names = test_modules(&text);
            let below = |name: String| [file.module.clone(), vec![name]].concat();
            names.into_iter().map(below).collect::<Vec<_>>()
        })
        .collect();
    files.retain(|file| !tests.iter().any(|test| file.module.starts_with(test)));
    files
}

impl File {
    fn read(root: &Path, path: &Path) -> Self {
        let relative = path.strip_prefix(root).unwrap();
        let mut module: Vec<String> = relative
            .with_extension("")
            .iter()
            .map(|part| part.to_string_lossy().into_owned())
            .collect();
        let room = module[0].clone();
        if module.last().is_some_and(|last| last == "mod") {
            module.pop();
        }
        Self {
            path: relative.display().to_string(),
            room,
            module,
            code: bare(&std::fs::read_to_string(path).unwrap()),
        }
    }
}

fn collect(directory: &Path, paths: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, paths);
        } else if path.extension().is_some_and(|end| end == "rs") {
            paths.push(path);
        }
    }
    paths.sort();
}

fn floor(room: &str) -> Option<u8> {
    let found = FLOORS.iter().find(|(name, _)| *name == room);
    found.map(|(_, floor)| *floor)
}

/// Whether `room` may import `imported`. What is no room is an item of the crate root and concerns nobody.
fn may(room: &str, imported: &str) -> bool {
    let (Some(from), Some(to)) = (floor(room), floor(imported)) else {
        return true;
    };
    room == imported || to < from || NEIGHBOURS.contains(&(room, imported))
}

/// Rooms that `code`, the content of `module`, names.
fn imports(code: &str, module: &[String]) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for root in ["crate", "tollgate"] {
        for after in words(code, root) {
            if let Some(path) = after.trim_start().strip_prefix("::") {
                firsts(path, &mut found);
            }
        }
    }
    // `super` once for each level leads to the crate's root.
    let climb = "super::".repeat(module.len());
    let mut rest = code;
    while let Some(at) = rest.find(&climb) {
        let (before, after) = (&rest[..at], &rest[at + climb.len()..]);
        if !before.ends_with("super::") && !after.starts_with("super::") {
            firsts(after, &mut found);
        }
        rest = after;
    }
    found.retain(|name| floor(name).is_some());
    found
}

/// The first names of a path that begins here: one, or those of a group.
fn firsts(path: &str, found: &mut BTreeSet<String>) {
    let path = path.trim_start();
    let Some(group) = path.strip_prefix('{') else {
        found.insert(identifier(path).to_owned());
        return;
    };
    let mut depth = 0;
    let mut start = 0;
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            ',' | '}' if depth == 0 => {
                found.insert(identifier(group[start..at].trim_start()).to_owned());
                start = at + 1;
                if c == '}' {
                    return;
                }
            }
            _ => {}
        }
    }
}

/// Files that name `word`, among those that `judged` picks.
fn naming(word: &str, judged: impl Fn(&File) -> bool) -> Vec<String> {
    let all = files();
    let named = all
        .iter()
        .filter(|file| judged(file) && words(&file.code, word).next().is_some());
    named
        .map(|file| format!("src/{}: {word}", file.path))
        .collect()
}

/// What follows each `word` that stands alone.
fn words<'c>(code: &'c str, word: &'c str) -> impl Iterator<Item = &'c str> {
    let part = |c: char| c.is_alphanumeric() || c == '_';
    code.match_indices(word).filter_map(move |(at, _)| {
        let after = &code[at + word.len()..];
        let alone = !code[..at].ends_with(part) && !after.starts_with(part);
        alone.then_some(after)
    })
}

fn identifier(text: &str) -> &str {
    let end = text.find(|c: char| !(c.is_alphanumeric() || c == '_'));
    &text[..end.unwrap_or(text.len())]
}

/// Names and types of the `static` items.
fn statics(code: &str) -> Vec<&str> {
    let items = words(code, "static").filter(|after| {
        let lifetime = code[..code.len() - after.len() - "static".len()].ends_with('\'');
        !lifetime
    });
    items
        .map(|after| after[..after.find('=').unwrap_or(after.len())].trim())
        .collect()
}

fn is_mutable(item: &str) -> bool {
    let cells = [
        "Mutex", "RwLock", "Atomic", "Cell", "OnceLock", "ArcSwap", "LazyLock", "Once<", "DashMap",
    ];
    item.starts_with("mut ") || cells.iter().any(|cell| item.contains(cell))
}

/// Names of files that are modules of tests: `#[cfg(test)] mod NAME;`.
fn test_modules(text: &str) -> Vec<String> {
    let code = without_comments_and_literals(text);
    let marked = code.match_indices(TEST).filter_map(|(at, _)| {
        let item = skip_attributes(&code[at + TEST.len()..]);
        let after = words(item, "mod").next()?.trim_start();
        let name = identifier(after);
        let declared = item[..item.len() - after.len()].trim();
        let plain = matches!(
            declared,
            "mod" | "pub mod" | "pub(crate) mod" | "pub(super) mod"
        );
        (plain && after[name.len()..].trim_start().starts_with(';')).then(|| name.to_owned())
    });
    marked.collect()
}

const TEST: &str = "#[cfg(test)]";

/// `text` without comments, literals and items under `#[cfg(test)]`.
fn bare(text: &str) -> String {
    let code = without_comments_and_literals(text);
    let mut kept = String::with_capacity(code.len());
    let mut rest = code.as_str();
    while let Some(at) = rest.find(TEST) {
        kept.push_str(&rest[..at]);
        rest = after_item(skip_attributes(&rest[at + TEST.len()..]));
    }
    kept + rest
}

fn skip_attributes(mut text: &str) -> &str {
    loop {
        text = text.trim_start();
        if !text.starts_with("#[") {
            return text;
        }
        text = &text[text.find(']').map_or(text.len(), |end| end + 1)..];
    }
}

/// What follows the item that `text` begins with: past its `;` or its closing brace.
fn after_item(text: &str) -> &str {
    let mut depth = 0;
    for (at, c) in text.char_indices() {
        match c {
            '{' | '(' | '[' => depth += 1,
            '}' | ')' | ']' => {
                depth -= 1;
                let import = text.trim_start().starts_with("use ");
                if depth == 0 && c == '}' && !import {
                    return &text[at + 1..];
                }
            }
            ';' if depth == 0 => return &text[at + 1..],
            // The last of several: a field, a variant or an argument.
            ',' if depth == 0 => return &text[at + 1..],
            _ => {}
        }
    }
    ""
}

fn without_comments_and_literals(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let skipped = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            block_comment(rest)
        } else if c == '"' {
            1 + string(&rest[1..])
        } else if c == 'r' && !kept.ends_with(|c: char| c.is_alphanumeric() || c == '_') {
            raw_string(rest)
        } else if c == '\'' {
            character(rest)
        } else {
            0
        };
        if skipped > 0 {
            kept.push(' ');
            rest = &rest[skipped..];
        } else {
            kept.push(c);
            rest = &rest[c.len_utf8()..];
        }
    }
    kept
}

/// Length of the comment that `text` begins with; they nest.
fn block_comment(text: &str) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < text.len() {
        let here = &text.as_bytes()[at..];
        if here.starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if here.starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    text.len()
}

/// Length of the rest of a string, its closing quote included.
fn string(text: &str) -> usize {
    let mut escaped = false;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// Length of the raw string that `text` begins with; 0 when it begins with something else.
fn raw_string(text: &str) -> usize {
    let hashes = text[1..].bytes().take_while(|byte| *byte == b'#').count();
    let Some(content) = text[1 + hashes..].strip_prefix('"') else {
        return 0;
    };
    let end = format!("\"{}", "#".repeat(hashes));
    let length = content
        .find(&end)
        .map_or(content.len(), |at| at + end.len());
    2 + hashes + length
}

/// Length of the character literal that `text` begins with; 0 when it is a lifetime.
fn character(text: &str) -> usize {
    let mut characters = text.char_indices().skip(1);
    let Some((_, first)) = characters.next() else {
        return 0;
    };
    if first == '\\' {
        // What is escaped may itself be a quote.
        let from = characters.nth(1).map_or(text.len(), |(at, _)| at);
        return text[from..].find('\'').map_or(0, |at| from + at + 1);
    }
    match characters.next() {
        Some((at, '\'')) => at + 1,
        _ => 0,
    }
}
