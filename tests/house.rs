//! The floors of `src/lib.rs`, kept: no import points up or sideways, a few things stay where they belong, and a few
//! figures only fall (`tests/house.record`).
//!
//! Every file is read with `syn`, code of tests left out. Paths are seen wherever they stand: in `use`, inline, and in the
//! arguments of macros. `HOUSE=circles cargo test --test house` prints the imports that make the circles of each room.

#![allow(
    clippy::unwrap_used,
    reason = "in a test a failed unwrap is the report"
)]

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

#[path = "house/circles.rs"]
mod circles;
#[path = "house/ratchets.rs"]
mod ratchets;
#[path = "house/reader.rs"]
mod reader;
#[path = "house/tree.rs"]
mod tree;

use reader::Static;
use tree::{File, Tree};

/// Rooms by floor.
const FLOORS: [(&str, u8); 18] = [
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
    ("api", 2),
    ("filter", 2),
    ("observe", 2),
    ("config", 1),
    ("primitives", 0),
];

/// The sideways imports there are: the program calls the command line, a record names the reason of a refusal, and a
/// route's windows are read as the API shows them.
const NEIGHBOURS: [(&str, &str); 3] = [("main", "cli"), ("observe", "filter"), ("observe", "api")];

static SOURCE: LazyLock<Tree> = LazyLock::new(|| {
    let tree = Tree::read(&root().join("src"));
    assert!(tree.files.len() > 50, "src/ was not found");
    tree
});

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

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
    kept(rooms_without_a_floor);
}

#[test]
fn no_import_points_up_or_sideways() {
    kept(imports_up_or_sideways);
}

#[test]
fn the_framework_s_session_stays_in_the_gateway() {
    kept(sessions_outside_the_gateway);
}

#[test]
fn no_static_holds_mutable_state() {
    kept(mutable_statics);
}

#[test]
fn nothing_unwraps_outside_tests() {
    kept(unwraps);
}

#[test]
fn figures_only_fall() {
    let path = root().join("tests/house.record");
    let record = ratchets::read(&std::fs::read_to_string(&path).unwrap_or_default());
    let figures = ratchets::figures(&SOURCE);
    match std::env::var("HOUSE") {
        Ok(wanted) if wanted == "record" => {
            let lowered = ratchets::lowered(&figures, &record);
            std::fs::write(&path, ratchets::written(&lowered)).unwrap();
        }
        // Not `print!`: that would be shown with `--nocapture` only.
        Ok(which) => writeln!(std::io::stdout(), "{}", ratchets::listed(&SOURCE, &which)).unwrap(),
        Err(_) => {
            let wrong = ratchets::judged(&figures, &record);
            assert!(wrong.is_empty(), "{}", wrong.join("\n"));
        }
    }
}

/// Holds a rule against the source.
fn kept(rule: fn(&Tree) -> Vec<String>) {
    let wrong = rule(&SOURCE);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn rooms_without_a_floor(tree: &Tree) -> Vec<String> {
    let rooms = tree.files.iter().filter(|file| file.room != "lib");
    rooms
        .filter(|file| floor(&file.room).is_none())
        .map(|file| {
            format!(
                "src/{}: give {:?} a floor in tests/house.rs and src/lib.rs",
                file.path, file.room
            )
        })
        .collect()
}

fn imports_up_or_sideways(tree: &Tree) -> Vec<String> {
    let mut wrong = Vec::new();
    for file in tree.files.iter().filter(|file| file.room != "lib") {
        for (path, line) in file.paths_from_the_root() {
            let imported = path.first().filter(|room| !may(&file.room, room));
            wrong.extend(
                imported
                    .map(|room| format!("src/{}:{line}: {} imports {room}", file.path, file.room)),
            );
        }
    }
    wrong
}

fn sessions_outside_the_gateway(tree: &Tree) -> Vec<String> {
    let named = |file: &File| file.facts.names.get("Session").copied();
    let files = tree.files.iter().filter(|file| file.room != "gateway");
    files
        .filter_map(|file| Some(format!("src/{}:{}: Session", file.path, named(file)?)))
        .collect()
}

fn mutable_statics(tree: &Tree) -> Vec<String> {
    let mut wrong = Vec::new();
    for file in &tree.files {
        let statics = file.facts.statics.iter();
        wrong.extend(
            statics
                .filter(|item| is_mutable(&item.what))
                .map(|item| format!("src/{}:{}: static {}", file.path, item.line, item.what.name)),
        );
        for name in ["thread_local", "lazy_static"] {
            let called = file.facts.macros.get(name);
            wrong.extend(called.map(|line| format!("src/{}:{line}: {name}!", file.path)));
        }
    }
    wrong
}

fn unwraps(tree: &Tree) -> Vec<String> {
    let mut wrong = Vec::new();
    for file in &tree.files {
        let lines = file.facts.unwraps.iter();
        wrong.extend(lines.map(|line| {
            format!(
                "src/{}:{line}: unwrap() states nothing; use expect or an error",
                file.path
            )
        }));
    }
    wrong
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

fn is_mutable(item: &Static) -> bool {
    let cells = [
        "Mutex", "RwLock", "Atomic", "Cell", "OnceLock", "ArcSwap", "LazyLock", "DashMap",
    ];
    let holds = |name: &String| name == "Once" || cells.iter().any(|cell| name.contains(cell));
    item.mutable || item.type_names.iter().any(holds)
}

/// Each rule finds what breaks it, in a small tree made up for it.
mod proofs {
    use super::*;
    use crate::circles::Imports;

    fn tree_of(path: &str, text: &str) -> Tree {
        Tree::of([(path, text)])
    }

    /// Rooms that `text`, a file of the room `limit`, imports although it must not.
    fn foreign(text: &str) -> Vec<String> {
        let wrong = imports_up_or_sideways(&tree_of("limit/key.rs", text));
        let rooms = wrong.iter().filter_map(|line| line.rsplit(' ').next());
        rooms.map(str::to_owned).collect()
    }

    #[test]
    fn a_room_without_a_floor_is_told() {
        assert_eq!(rooms_without_a_floor(&tree_of("attic/mod.rs", "")).len(), 1);
        assert!(rooms_without_a_floor(&tree_of("auth/mod.rs", "")).is_empty());
    }

    #[test]
    fn paths_groups_and_climbs_are_imports() {
        assert_eq!(foreign("use crate::auth::Facts;"), ["auth"]);
        assert_eq!(
            foreign("use crate::{auth::{A, B}, config, route as r};"),
            ["auth", "auth", "route"]
        );
        assert_eq!(
            foreign("use crate::{\n    server::{self, Limit},\n    gateway::*,\n};"),
            ["server", "server", "gateway"]
        );
        assert_eq!(foreign("fn f() { crate::server::run() }"), ["server"]);
        assert_eq!(foreign("fn f() { use crate::server; }"), ["server"]);
        assert_eq!(foreign("fn f(a: Vec<crate::cli::Args>) {}"), ["cli"]);
        assert_eq!(foreign("use tollgate::cli;"), ["cli"]);
        assert_eq!(foreign("use super::super::gateway::Ctx;"), ["gateway"]);
        assert_eq!(
            foreign("use super::super::{auth, route::Table};"),
            ["auth", "route"]
        );
        assert_eq!(
            foreign("mod inner { use super::super::super::auth::X; }"),
            ["auth"]
        );
    }

    #[test]
    fn arguments_of_macros_and_attributes_are_read() {
        assert_eq!(foreign("fn f() { log!(\"{}\", crate::cli::X) }"), ["cli"]);
        assert_eq!(
            foreign("macro_rules! m { () => { $crate::server::x(vec![crate::cli::y()]) } }"),
            ["server", "cli"]
        );
        assert_eq!(foreign("#[arg(by = crate::cli::X)]\nstruct A;"), ["cli"]);
    }

    #[test]
    fn neighbours_are_taken_for_what_they_are() {
        for text in [
            "use super::sketch::Sketch;",
            "use other_crate::auth::X; use mycrate::auth::Y;",
            "pub(crate) fn f() {}",
            "use crate::{filter, observe::X, config, primitives, limit};",
        ] {
            assert_eq!(foreign(text), [""; 0], "{text}");
        }
    }

    #[test]
    fn comments_literals_and_tests_are_left_out() {
        for text in [
            "// use crate::server::X;",
            "/* outer /* crate::server */ crate::server */",
            "/// [`crate::server::X`]\nstruct A;",
            "const A: &str = \"crate::server \\\" crate::cli\";",
            "const A: &str = r#\"crate::server \" crate::cli\"#;",
            "const A: [char; 2] = ['\"', '{'];\n#[cfg(test)]\nmod tests { use crate::server::X; }",
            "#[cfg(test)]\nmod tests { const A: &str = \"}\"; use crate::server::X; }",
            "#[cfg(test)]\n#[allow(dead_code)]\nuse crate::server::X;",
            "#[cfg(all(test, unix))]\nuse crate::server::X;",
            "struct A { #[cfg(test)] a: crate::server::X }",
            "fn f() { #[cfg(test)] crate::server::x(); }",
            "fn f() { #[cfg(test)] let a = crate::server::x(); }",
        ] {
            assert_eq!(foreign(text), [""; 0], "{text}");
        }
        for text in [
            "#[cfg(test)]\nfn f() { crate::server::x() }\nfn g<'a>(x: &'a str) { crate::cli::y() }",
            "#[cfg(any(test, feature = \"fuzzing\"))]\nuse crate::cli::X;",
            "#[cfg(not(test))]\nuse crate::cli::X;",
        ] {
            assert_eq!(foreign(text), ["cli"], "{text}");
        }
    }

    #[test]
    fn a_file_of_tests_is_left_out_with_what_lies_below_it() {
        let tree = Tree::of([
            ("limit/mod.rs", "#[cfg(test)]\nmod tests;"),
            ("limit/tests.rs", "use crate::server::X;"),
            ("limit/tests/more.rs", "use crate::server::X;"),
        ]);
        assert_eq!(tree.files.len(), 1);
    }

    #[test]
    fn floors_tell_which_imports_are_allowed() {
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
    fn a_session_is_found_wherever_it_is_named() {
        for text in [
            "use pingora::proxy::Session;",
            "fn f(session: &mut Session) {}",
            "fn f() { select! { a = Session::new() => {} } }",
        ] {
            let found = |path| sessions_outside_the_gateway(&tree_of(path, text)).len();
            assert_eq!(found("server/mod.rs"), 1, "{text}");
            assert_eq!(found("gateway/mod.rs"), 0, "{text}");
        }
        let near = "struct Sessions; /// Session\nconst A: &str = \"Session\";";
        assert!(sessions_outside_the_gateway(&tree_of("server/mod.rs", near)).is_empty());
    }

    #[test]
    fn a_static_with_mutable_state_is_found() {
        let found = |text: &str| mutable_statics(&tree_of("auth/mod.rs", text)).len();
        for text in [
            "static A: Mutex<u8> = Mutex::new(0);",
            "pub static A: AtomicU64 = AtomicU64::new(0);",
            "fn f() { static A: OnceLock<u8> = OnceLock::new(); }",
            "static A: std::sync::Once = Once::new();",
            "static mut A: u8 = 0;",
            "thread_local! { static A: u8 = 0; }",
            "lazy_static::lazy_static! { static ref A: u8 = 0; }",
            "wrapped! { static A: Vec<Mutex<u8>> = Vec::new(); }",
        ] {
            assert_eq!(found(text), 1, "{text}");
        }
        for text in [
            "static A: &'static str = \"Mutex\";",
            "fn f(x: &'static Mutex<u8>) {}",
            "fn f() { g!(&'static Mutex<u8>) }",
            "static A: [u8; 2] = [0; 2];",
            "#[cfg(test)] static A: Mutex<u8> = Mutex::new(0);",
        ] {
            assert_eq!(found(text), 0, "{text}");
        }
    }

    #[test]
    fn an_unwrap_is_found() {
        let found = |text: &str| unwraps(&tree_of("auth/mod.rs", text)).len();
        assert_eq!(found("fn f(a: Option<u8>) { a.unwrap(); }"), 1);
        assert_eq!(found("fn f(a: Option<u8>) { g!(a.unwrap()); }"), 1);
        assert_eq!(found("fn f() { a.map(Option::unwrap); }"), 1);
        assert_eq!(found("fn f() { a.unwrap_or(1); \".unwrap()\"; }"), 0);
        assert_eq!(found("#[cfg(test)] fn f() { a.unwrap(); }"), 0);
    }

    fn circles(files: &[(&str, &str)]) -> Vec<Vec<String>> {
        let tree = Tree::of(files.iter().copied());
        let circles = Imports::within(&tree, "gateway").circles();
        let path = |file: usize| tree.files[file].path.replace("gateway/", "");
        circles
            .into_iter()
            .map(|circle| circle.into_iter().map(path).collect())
            .collect()
    }

    #[test]
    fn files_that_import_each_other_are_a_circle() {
        let inline = "fn f() { super::a::h() }";
        for back in [
            "use super::a::A;",
            "use crate::gateway::a::A;",
            "fn f() { use super::a::A; }",
            "fn f() -> super::a::A {}",
            "fn f() { assert!(crate::gateway::a::h()) }",
            "use super::a; fn f() { a::h() }",
            "use super::a::{self as other}; fn f() { other::h() }",
            "use super::A;",
            "use crate::gateway::*;\nuse super::a::*;",
            inline,
        ] {
            let files = [
                ("gateway/mod.rs", "mod a; mod b; mod c;\npub use a::A;"),
                (
                    "gateway/a.rs",
                    "use super::b::g; pub struct A; pub fn h() {}",
                ),
                ("gateway/b.rs", &format!("pub fn g() {{}} {back}")),
                ("gateway/c.rs", "use super::{a::A, b};"),
            ];
            assert_eq!(circles(&files), [["a.rs", "b.rs"]], "{back}");
        }
    }

    #[test]
    fn what_is_handed_on_counts_where_it_is_defined() {
        // The door of the room names both; neither of them uses what the door itself defines.
        let files = [
            (
                "gateway/mod.rs",
                "mod a; mod b;\npub use a::A;\npub use b::B;\npub fn door() { a::f() }",
            ),
            ("gateway/a.rs", "use super::B; pub struct A; pub fn f() {}"),
            ("gateway/b/mod.rs", "mod deep; pub use deep::B;"),
            ("gateway/b/deep.rs", "pub struct B;"),
        ];
        assert!(circles(&files).is_empty());
        let tied = |door: &str, a: &str| {
            let files = [
                ("gateway/mod.rs", door),
                ("gateway/a.rs", a),
                files[2],
                files[3],
            ];
            circles(&files)
        };
        let uses = "use super::door; pub struct A; pub fn f() {}";
        assert_eq!(tied(files[0].1, uses), [["mod.rs", "a.rs"]]);
        // A door that only hands on needs nothing.
        let door = "mod a; pub use a::A; pub fn door() {}";
        assert!(tied(door, uses).is_empty());
        let door = "mod a; pub use a::A; pub fn door(a: A) {}";
        assert_eq!(tied(door, uses), [["mod.rs", "a.rs"]]);
    }

    #[test]
    fn a_module_that_is_only_declared_or_named_makes_no_circle() {
        let files = [
            ("gateway/mod.rs", "mod a; pub struct Door;"),
            ("gateway/a.rs", "use super::Door; pub fn f() {}"),
        ];
        assert!(circles(&files).is_empty());
        let files = [
            ("gateway/mod.rs", "mod a; mod b;"),
            ("gateway/a.rs", "use super::b; pub struct A;"),
            ("gateway/b.rs", "use super::a::A;"),
        ];
        assert!(circles(&files).is_empty());
    }

    #[test]
    fn a_test_ties_no_circle() {
        let files = [
            ("gateway/mod.rs", "mod a; mod b;"),
            ("gateway/a.rs", "use super::b::B; pub struct A;"),
            (
                "gateway/b.rs",
                "pub struct B;\n#[cfg(test)]\nmod tests { use super::super::a::A; }",
            ),
        ];
        assert!(circles(&files).is_empty());
    }

    #[test]
    fn a_circle_is_described_by_the_imports_that_make_it() {
        let tree = Tree::of([
            ("gateway/a.rs", "use super::b::B;\npub struct A;"),
            ("gateway/b.rs", "pub struct B;\nfn f() { super::a::A; }"),
        ]);
        assert_eq!(
            ratchets::listed(&tree, "circles"),
            "gateway:\na circle of 2 files\n  gateway/a.rs\n    -> gateway/b.rs\n       1: super::b::B\n  gateway/b.rs\n    -> gateway/a.rs\n       2: super::a::A\n"
        );
    }
}
