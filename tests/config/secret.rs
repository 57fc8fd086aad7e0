//! Where secrets come from, and that they stay where they belong.

use serde_json::json;

use crate::harness::{Folder, Gateway, Peer, Ran, Setup, unix_now};

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
