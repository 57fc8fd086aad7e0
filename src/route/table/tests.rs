use http::HeaderMap;

use super::*;
use crate::config::{self, Scheme, Source};

fn table(routes: &str) -> RouteTable {
    let text = format!("[[listener]]\naddress = \"127.0.0.1:8080\"\n{routes}");
    let source = Source {
        file: "t.toml".into(),
        text: text.into(),
    };
    let config =
        config::load(&[source], &|_| Ok(None)).unwrap_or_else(|problems| panic!("{problems}"));
    RouteTable::new(config.routes)
}

fn route(path: &str, more: &str) -> String {
    let id = format!("{path} {more}")
        .replace('"', "'")
        .replace('\n', " ");
    format!("[[route]]\nid = \"{id}\"\npath = \"{path}\"\nrespond = {{ status = 200 }}\n{more}\n")
}

fn find(table: &RouteTable, method: &str, host: &str, path: &str) -> Result<String, Miss> {
    let method = Method::from_bytes(method.as_bytes()).expect("method");
    let asked = Asked {
        method: &method,
        host,
        path,
        scheme: Scheme::Https,
        query: None,
        headers: &HeaderMap::new(),
    };
    table.find(&asked).map(|found| {
        let captures: Vec<&str> = found.captures(path).collect();
        format!(
            "{} [{}]",
            table.routes()[found.index].matching.path,
            captures.join(",")
        )
    })
}

#[test]
fn the_more_specific_path_wins_segment_by_segment() {
    let all = [
        "/a/b",
        "/a/{x}",
        "/a/**",
        "/{y}/b",
        "/**",
        "/a/{x}/c",
        "/a/b/{*rest}",
    ];
    let table = table(&all.map(|path| route(path, "")).concat());
    for (path, expected) in [
        ("/a/b", "/a/b []"),
        ("/a/z", "/a/{x} [z]"),
        ("/a", "/a/** []"),
        ("/a/", "/a/** []"),
        ("/a/z/q", "/a/** [z/q]"),
        ("/a/b/c", "/a/b/{*rest} [c]"),
        ("/a/z/c", "/a/{x}/c [z]"),
        ("/q/b", "/{y}/b [q]"),
        ("/q", "/** [q]"),
        ("/", "/** []"),
    ] {
        assert_eq!(
            find(&table, "GET", "", path).as_deref(),
            Ok(expected),
            "{path}"
        );
    }
}

#[test]
fn falls_back_to_a_less_specific_route_that_accepts() {
    let routes = [
        route("/a/b", "methods = [\"POST\"]"),
        route("/a/**", "methods = [\"GET\"]"),
    ]
    .concat();
    let table = table(&routes);
    assert_eq!(find(&table, "GET", "", "/a/b").as_deref(), Ok("/a/** [b]"));
    assert_eq!(find(&table, "HEAD", "", "/a/b").as_deref(), Ok("/a/** [b]"));
    assert_eq!(find(&table, "POST", "", "/a/b").as_deref(), Ok("/a/b []"));
    let miss = find(&table, "DELETE", "", "/a/b");
    assert_eq!(
        miss,
        Err(Miss::MethodNotAllowed("GET, HEAD, POST".to_owned()))
    );
    assert_eq!(find(&table, "GET", "", "/b"), Err(Miss::NotFound));
}

#[test]
fn more_predicates_win_then_priority() {
    let routes = [
        route("/a", ""),
        route("/a", "hosts = [\"x.example\"]"),
        route("/a", "hosts = [\"*.example\"]\npriority = 5"),
    ]
    .concat();
    let table = table(&routes);
    let by = |host| {
        let asked = Asked {
            method: &Method::GET,
            host,
            path: "/a",
            scheme: Scheme::Https,
            query: None,
            headers: &HeaderMap::new(),
        };
        table.find(&asked).map(|found| found.index).ok()
    };
    assert_eq!(by("other"), Some(0));
    assert_eq!(by("x.example"), Some(2));
    assert_eq!(by("y.example"), Some(2));
}

#[test]
fn finds_one_of_many_hosts() {
    let routes: String = (0..500)
        .map(|i| route("/a", &format!("hosts = [\"h{i}.example\"]")))
        .collect();
    let table = table(&routes);
    let asked = Asked {
        method: &Method::GET,
        host: "h321.example",
        path: "/a",
        scheme: Scheme::Https,
        query: None,
        headers: &HeaderMap::new(),
    };
    assert_eq!(table.find(&asked).map(|found| found.index).ok(), Some(321));
}

#[test]
fn names_the_nearest_routes_and_why_they_lost() {
    let table = table(
        &[
            route("/users/{id}", "methods = [\"POST\"]"),
            route("/orders", ""),
        ]
        .concat(),
    );
    let asked = Asked {
        method: &Method::GET,
        host: "",
        path: "/users/7",
        scheme: Scheme::Https,
        query: None,
        headers: &HeaderMap::new(),
    };
    let losses = table.nearest(&asked, 3);
    assert_eq!(losses.len(), 1);
    assert!(losses[0].why.contains("method"), "{}", losses[0].why);
    let asked = Asked {
        path: "/order",
        scheme: Scheme::Https,
        ..asked
    };
    assert!(table.nearest(&asked, 3)[0].why.contains("misspelling"));
}
