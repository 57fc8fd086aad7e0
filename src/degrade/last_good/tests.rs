use std::time::Duration;

use super::carried::CarriedEntry;
use super::*;
use crate::filter::NamedBy;

const SECOND: u64 = 1_000_000_000;

fn store(change: impl FnOnce(&mut Settings)) -> LastGood {
    let mut settings = Settings {
        max_age: Duration::from_secs(60),
        max_body: 1000,
        size: 4000,
        per_consumer: false,
        vary: Vec::new(),
    };
    change(&mut settings);
    LastGood {
        stamp: String::new(),
        settings,
        kept: RwLock::default(),
    }
}

fn map(fields: &[(&'static str, &'static str)]) -> HeaderMap {
    pairs(fields).into_iter().collect()
}

fn pairs(fields: &[(&'static str, &'static str)]) -> Vec<(HeaderName, HeaderValue)> {
    let each = fields.iter();
    each.map(|(name, value)| {
        (
            HeaderName::from_static(name),
            HeaderValue::from_static(value),
        )
    })
    .collect()
}

fn asked<'a>(target: &'a str, headers: &'a HeaderMap) -> Asked<'a> {
    Asked {
        host: "a.example",
        target: target.as_bytes(),
        headers,
        caller: None,
        certified: false,
    }
}

/// Whether an answer with these fields was kept.
fn keep(
    store: &LastGood,
    asked: &Asked<'_>,
    fields: &[(&'static str, &'static str)],
    body: &str,
    now: u64,
) -> bool {
    match store.begin(asked, &pairs(fields), now) {
        None => false,
        Some(mut keeping) => {
            keeping.add(body.as_bytes());
            store.keep(keeping, now);
            true
        }
    }
}

fn found(store: &LastGood, asked: &Asked<'_>, now: u64) -> Option<String> {
    let good = store.find(asked, now)?;
    Some(String::from_utf8_lossy(&good.body).into_owned())
}

#[test]
fn comes_back_for_the_same_request_until_it_is_too_old() {
    let store = store(|_| {});
    let none = HeaderMap::new();
    assert!(keep(
        &store,
        &asked("/a?x=1", &none),
        &[("content-type", "text/plain"), ("connection", "close")],
        "one",
        SECOND
    ));
    assert_eq!(
        found(&store, &asked("/a?x=1", &none), 61 * SECOND).as_deref(),
        Some("one")
    );
    assert_eq!(found(&store, &asked("/a?x=1", &none), 62 * SECOND), None);
    assert_eq!(found(&store, &asked("/a?x=2", &none), SECOND), None);
    let other = Asked {
        host: "b.example",
        ..asked("/a?x=1", &none)
    };
    assert_eq!(found(&store, &other, SECOND), None);
    let good = store.find(&asked("/a?x=1", &none), SECOND).expect("kept");
    assert_eq!(good.headers, pairs(&[("content-type", "text/plain")]));
}

#[test]
fn what_is_not_for_everybody_is_not_kept() {
    let store = store(|_| {});
    let none = HeaderMap::new();
    for fields in [
        [("set-cookie", "a=b")],
        [("cache-control", "max-age=5, Private")],
        [("cache-control", "private=\"x\"")],
        [("cache-control", "no-store")],
        [("cache-control", "no-cache")],
        [("cache-control", "must-revalidate, public")],
        [("vary", "accept, *")],
        [("content-length", "1001")],
        [("content-length", "x")],
    ] {
        assert!(
            !keep(&store, &asked("/", &none), &fields, "", SECOND),
            "{fields:?}"
        );
    }
    for fields in [[("authorization", "Bearer x")], [("cookie", "session=1")]] {
        let headers = map(&fields);
        assert!(
            !keep(&store, &asked("/", &headers), &[], "", SECOND),
            "{fields:?}"
        );
        assert!(keep(
            &store,
            &asked(&format!("/{}", fields[0].0), &headers),
            &[("cache-control", "public")],
            "x",
            SECOND
        ));
    }
    let certified = Asked {
        certified: true,
        ..asked("/", &none)
    };
    assert!(!keep(&store, &certified, &[], "", SECOND));
    assert!(keep(
        &store,
        &asked("/", &none),
        &[("cache-control", "max-age=5")],
        "x",
        SECOND
    ));
}

#[test]
fn nobody_gets_what_was_kept_for_another_consumer() {
    let store = store(|settings| settings.per_consumer = true);
    let headers = map(&[("authorization", "Bearer x")]);
    let who = |auth, named_by, name| {
        Some(Caller {
            auth,
            named_by,
            name,
        })
    };
    let of = |caller| Asked {
        caller,
        ..asked("/me", &headers)
    };
    let anna = who("app", NamedBy::Subject, "anna");
    assert!(keep(&store, &of(anna), &[], "anna's", SECOND));
    assert_eq!(found(&store, &of(anna), SECOND).as_deref(), Some("anna's"));
    for other in [
        None,
        who("app", NamedBy::Subject, "bert"),
        who("partner", NamedBy::Subject, "anna"),
        who("app", NamedBy::ClientId, "anna"),
        who("app", NamedBy::App, "anna"),
    ] {
        assert_eq!(found(&store, &of(other), SECOND), None, "{other:?}");
    }
}

#[test]
fn answers_that_vary_are_told_apart() {
    let store = store(|settings| settings.vary = vec![HeaderName::from_static("x-key")]);
    let (german, french, none) = (
        map(&[("accept-language", "de")]),
        map(&[("accept-language", "fr")]),
        HeaderMap::new(),
    );
    let vary = [("vary", "Accept-Language")];
    assert!(keep(&store, &asked("/", &german), &vary, "ja", SECOND));
    assert_eq!(
        found(&store, &asked("/", &german), SECOND).as_deref(),
        Some("ja")
    );
    assert_eq!(found(&store, &asked("/", &french), SECOND), None);
    assert_eq!(found(&store, &asked("/", &none), SECOND), None);
    assert!(keep(&store, &asked("/", &french), &vary, "oui", SECOND));
    assert_eq!(
        found(&store, &asked("/", &german), SECOND).as_deref(),
        Some("ja")
    );
    let (one, two) = (map(&[("x-key", "1")]), map(&[("x-key", "2")]));
    assert!(keep(&store, &asked("/k", &one), &[], "one", SECOND));
    assert_eq!(found(&store, &asked("/k", &two), SECOND), None);
    assert_eq!(found(&store, &asked("/k", &none), SECOND), None);
    // Compressed for one that asked for it.
    let gzip = map(&[("accept-encoding", "gzip")]);
    assert!(keep(
        &store,
        &asked("/z", &gzip),
        &[("content-encoding", "gzip")],
        "zz",
        SECOND
    ));
    assert_eq!(found(&store, &asked("/z", &none), SECOND), None);
}

#[test]
fn what_did_not_come_whole_is_not_kept() {
    let store = store(|_| {});
    let none = HeaderMap::new();
    keep(
        &store,
        &asked("/", &none),
        &[("content-length", "5")],
        "four",
        SECOND,
    );
    assert_eq!(found(&store, &asked("/", &none), SECOND), None);
    keep(&store, &asked("/", &none), &[], &"x".repeat(1001), SECOND);
    assert_eq!(found(&store, &asked("/", &none), SECOND), None);
    let mut keeping = store.begin(&asked("/", &none), &[], SECOND).expect("kept");
    keeping.look(b"abc");
    keeping.sent(1);
    keeping.look(b"bcd");
    keeping.sent(3);
    keeping.look(b"ef");
    store.keep(keeping, SECOND);
    assert_eq!(
        found(&store, &asked("/", &none), SECOND).as_deref(),
        Some("abcdef")
    );
}

#[test]
fn memory_is_bounded_and_the_oldest_go() {
    let store = store(|_| {});
    let none = HeaderMap::new();
    for number in 0..100_u64 {
        let target = format!("/{}", number % 50);
        keep(
            &store,
            &asked(&target, &none),
            &[("vary", "accept")],
            &"x".repeat(700),
            number * SECOND,
        );
        let (entries, bytes) = store.held();
        assert!(bytes <= 4000 && entries <= 16, "{entries} {bytes}");
    }
    assert!(found(&store, &asked("/49", &none), 99 * SECOND).is_some());
    assert!(found(&store, &asked("/0", &none), 99 * SECOND).is_none());
}

#[test]
fn a_young_answer_is_left_alone() {
    let store = store(|_| {});
    let none = HeaderMap::new();
    assert!(keep(&store, &asked("/", &none), &[], "one", SECOND));
    assert!(!keep(
        &store,
        &asked("/", &none),
        &[],
        "two",
        SECOND + SECOND / 2
    ));
    assert!(keep(&store, &asked("/", &none), &[], "two", 2 * SECOND));
    assert_eq!(
        found(&store, &asked("/", &none), 2 * SECOND).as_deref(),
        Some("two")
    );
}

#[test]
fn goes_on_in_another_process_with_its_age() {
    let (here, none) = (store(|_| {}), HeaderMap::new());
    let german = map(&[("accept-language", "de")]);
    let vary = [("vary", "accept-language"), ("content-type", "text/plain")];
    assert!(keep(&here, &asked("/de", &german), &vary, "eins", SECOND));
    assert!(keep(&here, &asked("/", &none), &[], "one", 11 * SECOND));
    let carried = here.export(&mut 10_000, 21 * SECOND);
    // The other process began a moment ago, and five seconds passed on the way.
    let there = store(|_| {});
    there.import(&carried, 5 * SECOND, SECOND);
    assert_eq!(there.held(), here.held());
    assert_eq!(
        found(&there, &asked("/", &none), SECOND).as_deref(),
        Some("one")
    );
    let good = there.find(&asked("/de", &german), SECOND).expect("kept");
    assert_eq!(good.age(3 * SECOND), 27 * SECOND);
    assert_eq!(good.headers, pairs(&vary));
    assert_eq!(found(&there, &asked("/de", &none), SECOND), None);
    // It grows old as it would have there.
    assert_eq!(
        found(&there, &asked("/de", &german), 36 * SECOND).as_deref(),
        Some("eins")
    );
    assert_eq!(found(&there, &asked("/de", &german), 37 * SECOND), None);
    let late = store(|_| {});
    late.import(&carried, 51 * SECOND, SECOND);
    assert_eq!(found(&late, &asked("/", &none), SECOND), None);
}

#[test]
fn carries_the_latest_that_fit_and_nothing_that_makes_no_sense() {
    let (here, none) = (store(|_| {}), HeaderMap::new());
    for (number, target) in ["/1", "/2", "/3"].into_iter().enumerate() {
        let body = "x".repeat(500);
        assert!(keep(
            &here,
            &asked(target, &none),
            &[],
            &body,
            number as u64 * SECOND
        ));
    }
    let mut room = 2 * (ENTRY + 500);
    let carried = here.export(&mut room, 3 * SECOND);
    assert_eq!(room, 0);
    let there = store(|settings| settings.size = 1 << 20);
    there.import(&carried, 0, SECOND);
    let kept =
        ["/1", "/2", "/3"].map(|target| found(&there, &asked(target, &none), SECOND).is_some());
    assert_eq!(kept, [false, true, true]);
    let mut strange = carried.clone();
    for (_, entry) in &mut strange {
        if let CarriedEntry::Answer(answer) = entry {
            answer.headers.push(("no name".into(), Bytes::new()));
        }
    }
    strange.push((1, CarriedEntry::Varies(vec!["\n".into()])));
    let sound = store(|_| {});
    sound.import(&strange, 0, SECOND);
    assert_eq!(sound.held().0, 0);
    let small = store(|settings| settings.size = ENTRY + 500);
    small.import(&carried, 0, SECOND);
    assert_eq!(small.held(), (1, ENTRY + 500));
    assert!(found(&small, &asked("/3", &none), SECOND).is_some());
}

#[test]
fn answers_made_otherwise_are_not_taken_over() {
    let settings = store(|_| {}).settings;
    let name = RouteName::new("reviews");
    let of = |identity: &str| {
        let answers = KeptAnswers::default();
        let route = answers.route(&name, &settings, identity);
        answers.register(&name, &route);
        (answers, route)
    };
    let none = HeaderMap::new();
    let (old, kept) = of("one");
    assert!(keep(&kept, &asked("/", &none), &[], "one", SECOND));
    let carried = old.export(1 << 20, SECOND);
    for (identity, expected) in [("one", 1), ("two", 0)] {
        let (new, kept) = of(identity);
        new.import(&carried, Duration::ZERO, SECOND);
        assert_eq!(kept.held().0, expected, "{identity}");
    }
}

#[test]
fn what_another_configuration_keeps_takes_nothing_away() {
    let settings = store(|_| {}).settings;
    let name = RouteName::new("reviews");
    let answers = KeptAnswers::default();
    let kept = answers.route(&name, &settings, "one");
    answers.register(&name, &kept);
    let none = HeaderMap::new();
    assert!(keep(&kept, &asked("/", &none), &[], "good", SECOND));
    let shorter = Settings {
        max_age: Duration::from_secs(7),
        ..settings.clone()
    };
    for (settings, identity) in [(&shorter, "one"), (&settings, "two")] {
        let other = answers.route(&name, settings, identity);
        assert_eq!(other.held().0, 0);
    }
    answers.prune();
    assert_eq!(answers.route(&name, &settings, "one").held().0, 1);
    assert_eq!(answers.routes.lock().known().len(), 1);
}
