//! A configuration in several files.

use crate::harness::{Client, Folder, Gateway};

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
