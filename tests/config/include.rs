//! A configuration in several files.

use std::fs;
use std::path::Path;

use crate::harness::{Client, Folder, Gateway, Ran};

const MAIN: &str = r#"
include = ["conf.d/*.toml"]
[[listener]]
name = "public"
address = "127.0.0.1:8080"
"#;

const USERS: &str = "[upstream.users]\nendpoints = [{ address = \"127.0.0.1:9001\" }]\n";

#[test]
fn merges_the_files_a_pattern_finds() {
    let folder = Folder::with(MAIN)
        .write("conf.d/10-users.toml", USERS)
        .write(
            "conf.d/20-routes.toml",
            "[[route]]\nid = \"users\"\npath = \"/users/**\"\nupstream = \"users\"\n",
        )
        .write("conf.d/ignored.txt", "no toml at all");
    folder.check().expect(0);
    folder.run(&["routes"], &[]).expect(0).says("/users/**");
}

#[test]
fn a_pattern_that_finds_nothing_is_no_problem() {
    let text =
        format!("{MAIN}[[route]]\npath = \"/\"\nrespond = {{ status = 200, text = \"hi\" }}\n");
    Folder::with(&text).check().expect(0);
}

#[test]
fn a_problem_is_placed_in_the_file_that_has_it() {
    let folder = Folder::with(MAIN).write("conf.d/users.toml", USERS).write(
        "conf.d/routes.toml",
        "\n[[route]]\npath = \"/x\"\nupstrem = \"users\"\n",
    );
    folder.check().expect(1).says("conf.d/routes.toml:4:1");
}

#[test]
fn a_name_defined_twice_is_an_error_that_names_both_places() {
    let folder = Folder::with(MAIN)
        .write("conf.d/a.toml", USERS)
        .write("conf.d/b.toml", &format!("\n\n{USERS}"))
        .write(
            "conf.d/c.toml",
            "[[route]]\npath = \"/x\"\nupstream = \"users\"\n",
        );
    folder
        .check()
        .expect(1)
        .says("conf.d/a.toml:1")
        .says("conf.d/b.toml:3")
        .says("users");
}

#[test]
fn two_routes_of_one_id_are_an_error() {
    let folder = Folder::with(MAIN).write("conf.d/a.toml", USERS).write(
        "conf.d/b.toml",
        "[[route]]\nid = \"same\"\npath = \"/x\"\nupstream = \"users\"\n\
         [[route]]\nid = \"same\"\npath = \"/y\"\nupstream = \"users\"\n",
    );
    folder
        .check()
        .expect(1)
        .says("same")
        .says("conf.d/b.toml:5")
        .says("conf.d/b.toml:1");
}

#[test]
fn routes_of_one_path_get_names_of_their_own() {
    let route =
        |more: &str| format!("[[route]]\npath = \"/x\"\n{more}respond = {{ status = 204 }}\n");
    let text = [
        route("methods = [\"GET\"]\n"),
        route("methods = [\"PUT\", \"POST\"]\n"),
        route("methods = [\"PUT\"]\nheaders = { x-a = \"1\" }\n"),
        route("methods = [\"PUT\"]\nheaders = { x-a = \"2\" }\n"),
        route(""),
        "[[route]]\npath = \"/y\"\nrespond = { status = 204 }\n".to_owned(),
    ];
    let listener = "[[listener]]\naddress = \"127.0.0.1:8080\"\n";
    let folder = Folder::with(&format!("{listener}{}", text.concat()));
    let listed = folder.run(&["routes"], &["--json"]).expect(0).json();
    let mut names: Vec<&str> = listed
        .as_array()
        .expect("a list")
        .iter()
        .map(|route| route["id"].as_str().expect("an id"))
        .collect();
    names.sort_unstable();
    assert_eq!(
        names,
        ["/x", "/y", "GET /x", "PUT /x", "PUT /x #2", "PUT,POST /x"]
    );
}

#[test]
fn the_gateway_serves_what_was_included() {
    let gateway = Gateway::with("include = [\"parts/*.toml\"]\n")
        .file(
            "parts/one.toml",
            "[[route]]\npath = \"/one\"\nrespond = { status = 200, text = \"one\" }\n",
        )
        .start();
    assert_eq!(
        gateway.client().get("/one").send().expect(200).text(),
        "one"
    );

    gateway.write(
        "parts/two.toml",
        "[[route]]\npath = \"/two\"\nrespond = { status = 200, text = \"two\" }\n",
    );
    gateway.reload_ok();
    let client: Client = gateway.client();
    assert_eq!(client.get("/two").send().expect(200).text(), "two");
    assert_eq!(client.get("/one").send().expect(200).text(), "one");
}

#[test]
fn a_missing_file_hides_no_other_problem() {
    let text = "include = [\"gone.toml\"]\n[server]\ngrace_period = \"ten\"\n\
                [[route]]\npath = \"/x\"\nupstream = \"elsewhere\"\n";
    let ran = Folder::with(text).check().expect(1);
    let ran = ran.says("gone.toml").says("tollgate.toml:3:");
    // What the missing file may define is not missed.
    assert!(!ran.stdout.contains("elsewhere"), "{ran:?}");
    assert!(!ran.stdout.contains("[[listener]]"), "{ran:?}");
    assert!(ran.stderr.contains("2 problems"), "{ran:?}");
}

const REST: &str = "[[route]]\npath = \"/\"\nrespond = { status = 200, text = \"hi\" }\n";

#[test]
fn hidden_names_are_left_out_of_patterns_but_not_of_paths() {
    let folder = Folder::with(&format!("{MAIN}{REST}"))
        .write("conf.d/.users.toml", "no toml at all")
        .write("conf.d/.#users.toml", "no toml at all");
    folder.check().expect(0);
    let all = MAIN.replace("conf.d/*.toml", "**/*.toml");
    let folder = Folder::with(&format!("{all}{REST}")).write(".git/users.toml", "no toml at all");
    folder.check().expect(0);
    for named in ["conf.d/.users.toml", "conf.d/.u*.toml", ".conf.d/*.toml"] {
        let main = MAIN.replace("conf.d/*.toml", named);
        let folder = Folder::with(&format!("{main}{REST}"))
            .write("conf.d/.users.toml", "unknown = 1\n")
            .write(".conf.d/users.toml", "unknown = 1\n");
        folder.check().expect(1).says("users.toml:1:1: unknown");
    }
}

#[test]
fn what_a_pattern_finds_and_cannot_take_is_a_problem() {
    use std::os::unix::fs::symlink;
    let main = format!("{MAIN}{REST}");
    let checked = |make: &dyn Fn(&Path)| {
        let folder = Folder::with(&main).write("conf.d/a.toml", "");
        make(&folder.path().join("conf.d"));
        folder.check()
    };
    checked(&|_| ()).expect(0);
    let dangling = checked(&|dir| symlink("nowhere", dir.join("b.toml")).unwrap());
    dangling
        .expect(1)
        .says("tollgate.toml:2:")
        .says("conf.d/b.toml")
        .says("leads nowhere");
    let directory = checked(&|dir| fs::create_dir(dir.join("b.toml")).unwrap());
    directory
        .expect(1)
        .says("conf.d/b.toml")
        .says("is a directory");
    let pipe = checked(&|dir| {
        nix::unistd::mkfifo(&dir.join("b.toml"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    });
    pipe.expect(1).says("conf.d/b.toml").says("no regular file");
    let looping = checked(&|dir| symlink("b.toml", dir.join("b.toml")).unwrap());
    looping
        .expect(1)
        .says("conf.d/b.toml")
        .says("cannot be opened");
    let linked = checked(&|dir| symlink("a.toml", dir.join("b.toml")).unwrap());
    linked.expect(0);
    // The way to the files is looked at as well.
    for (target, why) in [
        ("nowhere", "leads nowhere"),
        ("conf.d", "cannot be opened"),
        ("a.toml", "is no directory"),
    ] {
        let folder = Folder::with(&main).write("a.toml", "");
        symlink(target, folder.path().join("conf.d")).unwrap();
        folder.check().expect(1).says("conf.d").says(why);
    }
    // A file may have a name that reads like a pattern.
    let odd = MAIN.replace("conf.d/*.toml", "conf.d/a[1].toml");
    let named = |text: &str| Folder::with(&format!("{odd}{REST}")).write("conf.d/a[1].toml", text);
    named("").check().expect(0);
    named("nonsense = 1\n")
        .check()
        .expect(1)
        .says("conf.d/a[1].toml");
    // `**` goes by links to directories too, but not in circles, and passes over none that leads nowhere.
    let any = MAIN.replace("conf.d/*.toml", "conf.d/**/*.toml");
    let linked = |text: &str| {
        let folder = Folder::with(&format!("{any}{REST}"))
            .write("conf.d/a.toml", "")
            .write("sites/x.toml", text);
        symlink("../sites", folder.path().join("conf.d/linked")).unwrap();
        symlink(".", folder.path().join("conf.d/again")).unwrap();
        folder
    };
    linked("").check().expect(0);
    linked("nonsense = 1\n")
        .check()
        .expect(1)
        .says("linked/x.toml");
    let folder = linked("");
    symlink("nowhere", folder.path().join("conf.d/lost")).unwrap();
    folder
        .check()
        .expect(1)
        .says("conf.d/lost")
        .says("leads nowhere");
    let deep = MAIN.replace("conf.d/*.toml", "conf.d/*/main.toml");
    let folder = Folder::with(&format!("{deep}{REST}"))
        .write("conf.d/one/main.toml", "")
        .write("conf.d/two/other.toml", "")
        .write("conf.d/readme", "");
    folder.check().expect(0);
    symlink("nowhere", folder.path().join("conf.d/three")).unwrap();
    folder
        .check()
        .expect(1)
        .says("conf.d/three")
        .says("leads nowhere");
}

#[test]
fn a_directory_or_a_file_that_may_not_be_read_is_a_problem() {
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::process::CommandExt;
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let closed = |path: &str, mode: u32| {
        let folder = Folder::with(&format!("{MAIN}{REST}")).write("conf.d/a.toml", "");
        let allow = |path: &Path, mode| {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        };
        allow(folder.path(), 0o755);
        allow(&folder.path().join(path), mode);
        let mut command = folder.command(&["check"], &[]);
        Ran::of(command.uid(65_534).gid(65_534))
    };
    closed("conf.d", 0o755).expect(0);
    closed("conf.d", 0o711)
        .expect(1)
        .says("conf.d: cannot be read");
    closed("conf.d", 0o744)
        .expect(1)
        .says("conf.d/a.toml: cannot be opened");
    closed("conf.d/a.toml", 0o600)
        .expect(1)
        .says("conf.d/a.toml: cannot be read");
}

#[test]
fn what_is_in_the_way_to_the_main_file_is_no_pattern() {
    let folder = Folder::with("").write("a[1]*/conf.d/a.toml", "unknown = 1\n");
    let folder = folder.write("a[1]*/tollgate.toml", &format!("{MAIN}{REST}"));
    let mut command = crate::harness::tollgate();
    let main = folder.path().join("a[1]*/tollgate.toml");
    Ran::of(command.args(["check", "-c"]).arg(main))
        .expect(1)
        .says("a.toml:1:1: unknown");
    // The file that is meant where one is named from its own directory.
    let mut command = crate::harness::tollgate();
    command.current_dir(folder.path().join("a[1]*"));
    Ran::of(command.args(["check", "-c", "tollgate.toml"]))
        .expect(1)
        .says("conf.d/a.toml:1:1: unknown");
}

#[test]
fn a_pattern_may_hold_variables() {
    let main = MAIN.replace("conf.d", "${PARTS:-conf.d}");
    let folder = Folder::with(&format!("{main}{REST}")).write("parts/a.toml", "unknown = 1\n");
    folder.check().expect(0);
    let mut command = folder.command(&["check"], &[]);
    Ran::of(command.env("PARTS", "parts"))
        .expect(1)
        .says("parts/a.toml:1:1: unknown");
    let main = MAIN.replace("conf.d", "${PARTS}");
    let folder = Folder::with(&format!("{main}{REST}"));
    folder
        .check()
        .expect(1)
        .says("the environment has no PARTS")
        .says("tollgate.toml:2:");
}
