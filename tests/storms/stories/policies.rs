//! The sentences about what single policies promise.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use nix::sys::signal::Signal;
use regex::{Captures, Regex};

use super::load::Sent;
use super::steps::{Act, World, bounded, compile, names, span};
use crate::harness::holds_within;

/// Requests that were on their way at an end of a span, and count within it on one side alone.
const EDGES: f64 = 20.0;

pub(super) static POLICIES: LazyLock<Vec<(Regex, Act)>> = LazyLock::new(|| {
    let steps: [(&str, Act); 11] = [
        (
            r#"the origins got at most (?<factor>[\d.]+) times the requests of "(?<name>[^"]+)"(?: and "(?<other>[^"]+)")?"#,
            World::work,
        ),
        (
            r#"the origins got none of the requests of "(?<name>[^"]+)""#,
            World::no_work,
        ),
        (
            r#"every refusal of "(?<name>[^"]+)" says "(?<code>\w+)"(?<when> and when to come back)?"#,
            World::refusals,
        ),
        (
            r#"no request of "(?<name>[^"]+)" that origins? (?<names>[\w, ]+?) answered failed"#,
            World::side_is_well,
        ),
        (
            r#"at (?<bound>most|least) (?<percent>[\d.]+) % of the requests of "(?<name>[^"]+)"(?: by (?<who>\w+) clients)? got the fallback "(?<fallback>\w+)""#,
            World::fallbacks,
        ),
        (
            r#"exactly (?<count>\d+) requests were answered (?<status>\d+)"#,
            World::exactly,
        ),
        (
            r#"each client that origins? (?<names>[\w, ]+?) served in "(?<name>[^"]+)" stays there in "(?<other>[^"]+)""#,
            World::stays,
        ),
        (
            r#"each client has one origin in "(?<name>[^"]+)""#,
            World::one_origin,
        ),
        (
            r#"the metric (?<metric>\w+)\{(?<labels>[^}]*)\} is at least (?<value>[\d.]+) within (?<span>[\d.]+ \w+)"#,
            World::metric_at_least,
        ),
        (r#"the log says "(?<text>[^"]+)""#, World::log_says),
        (
            "the gateway is stopped and started again",
            World::started_again,
        ),
    ];
    compile(&steps)
});

impl World {
    // ---- origins -------------------------------------------------------------------------------

    fn work(&mut self, words: &Captures<'_>, _: &str) {
        let spans = [words.name("name"), words.name("other")];
        let (mut asked, mut got) = (0, 0);
        for name in spans.into_iter().flatten() {
            asked += self.sent(name.as_str(), None).len();
            got += self.worked(name.as_str());
        }
        let most = asked as f64 * words["factor"].parse::<f64>().unwrap();
        eprintln!("  {got} for {asked}");
        assert!(
            got as f64 <= most + EDGES,
            "the origins got {got}, the clients asked {asked} times"
        );
    }

    fn no_work(&mut self, words: &Captures<'_>, _: &str) {
        assert_eq!(self.worked(&words["name"]), 0);
    }

    // ---- the gateway and its operator ------------------------------------------------------------

    fn started_again(&mut self, _: &Captures<'_>, _: &str) {
        self.running().restart(Signal::SIGTERM);
    }

    fn log_says(&mut self, words: &Captures<'_>, _: &str) {
        let text = &words["text"];
        self.running().wait_for_log(|line| {
            let msg = line["msg"].as_str();
            msg.is_some_and(|msg| msg.contains(text))
        });
    }

    fn metric_at_least(&mut self, words: &Captures<'_>, _: &str) {
        let labels = words["labels"].split(", ");
        let labels: Vec<_> = labels.filter_map(|label| label.split_once('=')).collect();
        let (metric, wanted): (_, f64) = (&words["metric"], words["value"].parse().unwrap());
        let mut last = f64::NAN;
        let reached = holds_within(span(words), || {
            last = self.running().metric(metric, &labels);
            last >= wanted
        });
        eprintln!("  {last}");
        assert!(reached, "{metric} {labels:?} is {last}, below {wanted}");
    }

    // ---- what clients saw --------------------------------------------------------------------------

    fn refusals(&mut self, words: &Captures<'_>, _: &str) {
        let sent = self.sent(&words["name"], None);
        let refused: Vec<&Sent> = sent.iter().filter(|sent| sent.failed()).collect();
        assert!(!refused.is_empty(), "none of {} was refused", sent.len());
        let told = |sent: &&&Sent| {
            sent.code.as_deref() == Some(&words["code"])
                && (words.name("when").is_none() || sent.come_back)
        };
        let other = refused.iter().find(|sent| !told(sent));
        assert!(other.is_none(), "of {} one is {other:?}", refused.len());
    }

    fn side_is_well(&mut self, words: &Captures<'_>, _: &str) {
        let (sent, names) = (self.sent(&words["name"], None), names(words));
        let of_side = |sent: &&Sent| sent.origin.as_ref().is_some_and(|by| names.contains(by));
        let of_side: Vec<&Sent> = sent.iter().filter(of_side).collect();
        assert!(!of_side.is_empty(), "{names:?} answered none");
        let failed = of_side.iter().find(|sent| sent.failed());
        assert!(failed.is_none(), "{failed:?}");
    }

    fn fallbacks(&mut self, words: &Captures<'_>, _: &str) {
        let who = words.name("who").map(|who| who.as_str().to_owned());
        let sent = self.sent(&words["name"], who.as_deref());
        bounded(words, &sent, |sent| {
            sent.fallback.as_deref() == Some(&words["fallback"])
        });
    }

    fn exactly(&mut self, words: &Captures<'_>, _: &str) {
        let (sent, status) = (self.all_sent(), words["status"].parse().ok());
        let count = sent.iter().filter(|sent| sent.status == status).count();
        let wanted: usize = words["count"].parse().unwrap();
        assert_eq!(count, wanted, "of {}", sent.len());
    }

    /// The origins that served each client in a span.
    fn served_by(&mut self, name: &str) -> BTreeMap<usize, Vec<String>> {
        let mut served: BTreeMap<usize, Vec<String>> = BTreeMap::new();
        for sent in self.sent(name, None) {
            let by = served.entry(sent.client).or_default();
            by.extend(sent.origin.filter(|origin| !by.contains(origin)));
        }
        served
    }

    fn one_origin(&mut self, words: &Captures<'_>, _: &str) {
        let served = self.served_by(&words["name"]);
        eprintln!("  {} clients", served.len());
        assert!(served.values().all(|by| by.len() == 1), "{served:?}");
    }

    fn stays(&mut self, words: &Captures<'_>, _: &str) {
        let (before, after) = (
            self.served_by(&words["name"]),
            self.served_by(&words["other"]),
        );
        let names = names(words);
        let theirs = before.iter().filter(|(_, by)| names.contains(&by[0]));
        let mut count = 0;
        for (client, by) in theirs {
            // Who did not ask meanwhile has not left.
            assert_eq!(after.get(client).unwrap_or(by), by, "client {client}");
            count += 1;
        }
        eprintln!("  {count} clients");
        assert!(count > 0, "{names:?} served nobody");
    }
}
