//! Signed requests, signed by another client: each refusal beside the permission, and nothing of a wrong one upstream.

mod body;
mod buffer;
mod ca;
mod replay;
mod rfc9421;

use crate::harness::{Client, Gateway, Origin, Request, Response, Setup};

const SECRET: &str = "app-1001-secret";

/// A gateway that asks for signatures of `scheme`, with `keys` of the auth table, `apps` and `[[route]]` keys.
fn signed(scheme: &str, keys: &str, apps: &str, route: &str) -> Setup {
    Gateway::with(&signed_text(scheme, keys, apps, route))
}

fn signed_text(scheme: &str, keys: &str, apps: &str, route: &str) -> String {
    format!(
        "[auth.partner]\ntype = \"signature\"\nscheme = \"{scheme}\"\n{keys}\n[auth.partner.apps]\n{apps}\n\
         [upstream.api]\nendpoints = [{{ address = \"{{origin}}\" }}]\n\
         [[route]]\nid = \"signed\"\npath = \"/**\"\nauth = [\"partner\"]\nupstream = \"api\"\n{route}\n"
    )
}

fn ca(origin: &Origin) -> Gateway {
    signed(
        "ca",
        "",
        &format!("\"app-1001\" = {{ secret = \"{SECRET}\" }}"),
        "",
    )
    .to(origin)
    .start()
}

fn rfc9421(origin: &Origin) -> Gateway {
    signed(
        "rfc9421",
        "",
        &format!("\"app-1001\" = {{ secret = \"{SECRET}\" }}"),
        "",
    )
    .to(origin)
    .start()
}

/// A request with a signature that some client made.
fn with<'a>(request: Request<'a>, headers: &[(String, String)]) -> Request<'a> {
    request.headers(headers)
}

#[track_caller]
fn get(client: &Client, target: &str, headers: &[(String, String)]) -> Response {
    with(client.get(target), headers).send()
}

#[track_caller]
fn post(client: &Client, target: &str, headers: &[(String, String)], body: &str) -> Response {
    with(client.post(target), headers).body(body).send()
}

/// The same headers with one value changed.
fn changed(headers: &[(String, String)], name: &str, value: &str) -> Vec<(String, String)> {
    let mut headers = headers.to_vec();
    let found = headers
        .iter_mut()
        .find(|(n, _)| n.eq_ignore_ascii_case(name))
        .expect("the header is there");
    value.clone_into(&mut found.1);
    headers
}

fn without(headers: &[(String, String)], name: &str) -> Vec<(String, String)> {
    headers
        .iter()
        .filter(|(n, _)| !n.eq_ignore_ascii_case(name))
        .cloned()
        .collect()
}
