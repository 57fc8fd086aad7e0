//! The sentences a story may be made of.

use std::collections::BTreeMap;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use gherkin::Step;
use regex::{Captures, Regex};

use super::load::{Load, Sent};
use super::origins::Actor;
use super::policies::POLICIES;
use crate::harness::{Gateway, holds_within};

/// What a story is about, so far.
#[derive(Default)]
pub(super) struct World {
    actors: BTreeMap<String, Actor>,
    gateway: Option<Gateway>,
    loads: BTreeMap<String, Load>,
    /// Named spans of time.
    spans: BTreeMap<String, (Instant, Instant)>,
    /// Requests that all origins together got in them.
    worked: BTreeMap<String, usize>,
}

pub(super) type Act = fn(&mut World, &Captures<'_>, &str);

static STEPS: LazyLock<Vec<(Regex, Act)>> = LazyLock::new(|| {
    let steps: [(&str, Act); 22] = [
        (
            r"origins? (?<names>[\w, ]+?) answers? in (?<span>[\d.]+ \w+)",
            World::origins,
        ),
        (
            r"origin (?<name>\w+) serves (?<slots>\d+) requests at once, each in (?<span>[\d.]+ \w+)",
            World::limited,
        ),
        ("a gateway with", World::gateway),
        (
            r"(?:(?<who>\w+) )?clients ask for (?<target>\S+) (?<rate>\d+) times a second(?: with (?<header>[\w-]+: .+)|(?<cookies>, each with its cookies))?",
            World::load,
        ),
        (r"(?<who>\w+) clients leave", World::leave),
        (
            r#""(?<name>[^"]+)" lasts (?<span>[\d.]+ \w+)"#,
            World::lasts,
        ),
        (r"(?<span>[\d.]+ \w+) pass(?:es)?", World::pass),
        (
            r"origins? (?<names>[\w, ]+?) takes? (?<span>[\d.]+ \w+)",
            World::takes,
        ),
        (
            r"origins? (?<names>[\w, ]+?) answers? (?<percent>\d+) % of (?:its|their) requests with (?<status>\d+)",
            World::fails,
        ),
        (
            r"origins? (?<names>[\w, ]+?) stalls?(?: (?<percent>\d+) % of (?:its|their) requests)?",
            World::stalls,
        ),
        (r"origins? (?<names>[\w, ]+?) dies?", World::dies),
        (
            r"origins? (?<names>[\w, ]+?) comes? back",
            World::comes_back,
        ),
        (
            r"origins? (?<names>[\w, ]+?) (?:is|are) well again",
            World::is_well,
        ),
        (r#"the operator runs "(?<words>[^"]+)""#, World::operator),
        ("the operator reloads with", World::reload),
        (
            r#"the (?<quantile>p50|p99) of "(?<name>[^"]+)"(?: by (?<who>\w+) clients)? is at most (?<factor>[\d.]+) times that of "(?<other>[^"]+)""#,
            World::relative,
        ),
        (
            r#"the (?<quantile>p50|p99|p99\.9) of "(?<name>[^"]+)" is at most (?<span>[\d.]+ \w+)"#,
            World::absolute,
        ),
        (
            r#"no request of "(?<name>[^"]+)"(?: by (?<who>\w+) clients)? failed"#,
            World::none_failed,
        ),
        (
            r#"at (?<bound>most|least) (?<percent>[\d.]+) % of the requests of "(?<name>[^"]+)"(?: by (?<who>\w+) clients)? (?:were answered (?<status>\d+)|(?<failed>failed))"#,
            World::share,
        ),
        (
            r#"origin (?<origin>\w+) got at (?<bound>most|least) (?<percent>[\d.]+) % of the requests of "(?<name>[^"]+)""#,
            World::share_of_origin,
        ),
        (
            r#"the metric (?<metric>\w+)\{(?<labels>[^}]*)\} becomes (?<value>[\d.]+) within (?<span>[\d.]+ \w+)"#,
            World::metric,
        ),
        (r#""(?<words>[^"]+)" says "(?<text>[^"]+)""#, World::says),
    ];
    compile(&steps)
});

pub(super) fn compile(steps: &[(&str, Act)]) -> Vec<(Regex, Act)> {
    let whole = |pattern: &str| Regex::new(&format!("^{pattern}$")).unwrap();
    let each = steps.iter();
    each.map(|(pattern, act)| (whole(pattern), *act)).collect()
}

impl World {
    /// Plays one step; `place` is where it stands.
    #[track_caller]
    pub(super) fn play(&mut self, step: &Step, place: &str) {
        let text = step.docstring.as_deref().unwrap_or_default();
        for (pattern, act) in STEPS.iter().chain(POLICIES.iter()) {
            if let Some(words) = pattern.captures(&step.value) {
                eprintln!("{place}: {}", step.value);
                return act(self, &words, text);
            }
        }
        panic!("{place}: no step reads {:?}", step.value);
    }

    // ---- origins -------------------------------------------------------------------------------

    fn origins(&mut self, words: &Captures<'_>, _: &str) {
        for name in names(words) {
            self.actors
                .insert(name.clone(), Actor::new(&name, span(words)));
        }
    }

    fn limited(&mut self, words: &Captures<'_>, _: &str) {
        let actor = Actor::new(&words["name"], span(words));
        actor.serves_at_once(words["slots"].parse().unwrap());
        self.actors.insert(words["name"].to_owned(), actor);
    }

    fn each(&self, words: &Captures<'_>, act: impl Fn(&Actor)) {
        for name in names(words) {
            act(self
                .actors
                .get(&name)
                .unwrap_or_else(|| panic!("no origin {name}")));
        }
    }

    fn takes(&mut self, words: &Captures<'_>, _: &str) {
        self.each(words, |actor| actor.takes(span(words)));
    }

    fn fails(&mut self, words: &Captures<'_>, _: &str) {
        let (percent, status) = (
            words["percent"].parse().unwrap(),
            words["status"].parse().unwrap(),
        );
        self.each(words, |actor| actor.fails(percent, status));
    }

    fn stalls(&mut self, words: &Captures<'_>, _: &str) {
        let percent = words.name("percent");
        let percent = percent.map_or(100, |percent| percent.as_str().parse().unwrap());
        self.each(words, |actor| actor.stalls(percent));
    }

    fn dies(&mut self, words: &Captures<'_>, _: &str) {
        self.each(words, |actor| actor.origin.kill());
    }

    fn comes_back(&mut self, words: &Captures<'_>, _: &str) {
        self.each(words, |actor| actor.origin.revive());
    }

    fn is_well(&mut self, words: &Captures<'_>, _: &str) {
        self.each(words, Actor::is_well);
    }

    // ---- the gateway and its operator -----------------------------------------------------------

    fn gateway(&mut self, _: &Captures<'_>, text: &str) {
        let setup = Gateway::with(text);
        let setup = self
            .actors
            .values()
            .fold(setup, |setup, actor| setup.to(&actor.origin));
        self.gateway = Some(setup.start());
    }

    pub(super) fn running(&self) -> &Gateway {
        self.gateway.as_ref().expect("a gateway runs")
    }

    fn operator(&mut self, words: &Captures<'_>, _: &str) {
        let words: Vec<&str> = words["words"].split(' ').collect();
        self.running().run_cli(&words[..1], &words[1..]).expect(0);
    }

    fn reload(&mut self, _: &Captures<'_>, text: &str) {
        self.running().rewrite(text);
        self.running().reload_ok();
    }

    fn says(&mut self, words: &Captures<'_>, _: &str) {
        let (command, text) = (&words["words"], &words["text"]);
        let verb: Vec<&str> = command.split(' ').collect();
        let mut said = String::new();
        let found = holds_within(Duration::from_secs(5), || {
            said = self
                .running()
                .run_cli(&verb[..1], &verb[1..])
                .expect(0)
                .stdout;
            said.contains(text)
        });
        assert!(found, "`{command}` does not say {text:?}:\n{said}");
    }

    fn metric(&mut self, words: &Captures<'_>, _: &str) {
        let labels: Vec<(&str, &str)> = words["labels"]
            .split(", ")
            .filter_map(|label| label.split_once('='))
            .collect();
        let wanted: f64 = words["value"].parse().unwrap();
        let metric = &words["metric"];
        let mut last = f64::NAN;
        let reached = holds_within(span(words), || {
            last = self.running().metric(metric, &labels);
            (last - wanted).abs() < 1e-9
        });
        assert!(reached, "{metric} {labels:?} is {last}, not {wanted}");
    }

    // ---- clients ---------------------------------------------------------------------------------

    fn load(&mut self, words: &Captures<'_>, _: &str) {
        let header = words
            .name("header")
            .map(|header| header.as_str().split_once(": ").unwrap());
        let headers: Vec<_> = header
            .into_iter()
            .map(|(n, v)| (n.to_owned(), v.to_owned()))
            .collect();
        let rate = words["rate"].parse().unwrap();
        let cookies = words.name("cookies").is_some();
        let client = self.running().client();
        let load = Load::begin(&client, &words["target"], rate, &headers, cookies);
        self.loads.insert(who(words), load);
    }

    fn leave(&mut self, words: &Captures<'_>, _: &str) {
        self.loads
            .get_mut(&who(words))
            .expect("they are here")
            .end();
    }

    fn lasts(&mut self, words: &Captures<'_>, _: &str) {
        let (from, before) = (Instant::now(), self.got());
        let to = from + span(words);
        std::thread::sleep(span(words));
        let name = &words["name"];
        self.spans.insert(name.to_owned(), (from, to));
        self.worked.insert(name.to_owned(), self.got() - before);
        // What was asked at the very end meets nothing of what comes next.
        std::thread::sleep(Duration::from_millis(100));
    }

    fn pass(&mut self, words: &Captures<'_>, _: &str) {
        std::thread::sleep(span(words));
    }

    /// Requests that all origins together got so far.
    fn got(&self) -> usize {
        self.actors.values().map(|actor| actor.origin.count()).sum()
    }

    /// Requests that all origins together got in a span.
    pub(super) fn worked(&self, name: &str) -> usize {
        self.worked[name]
    }

    /// Everything that was sent. From here on nobody asks any more.
    pub(super) fn all_sent(&mut self) -> Vec<Sent> {
        self.loads.values_mut().for_each(Load::end);
        self.loads.values().flat_map(Load::all).collect()
    }

    /// What was sent in a span, by all clients or by some. From here on nobody asks any more.
    pub(super) fn sent(&mut self, name: &str, who: Option<&str>) -> Vec<Sent> {
        let (from, to) = *self
            .spans
            .get(name)
            .unwrap_or_else(|| panic!("nothing was called {name:?}"));
        self.loads.values_mut().for_each(Load::end);
        let loads = self
            .loads
            .iter()
            .filter(|(of, _)| who.is_none_or(|who| who == *of));
        let sent: Vec<Sent> = loads.flat_map(|(_, load)| load.between(from, to)).collect();
        assert!(
            sent.len() > 10,
            "only {} requests were sent in {name:?}",
            sent.len()
        );
        sent
    }

    // ---- what they saw ---------------------------------------------------------------------------

    fn relative(&mut self, words: &Captures<'_>, _: &str) {
        let who = words.name("who").map(|who| who.as_str().to_owned());
        let (sent, other) = (
            self.sent(&words["name"], who.as_deref()),
            self.sent(&words["other"], who.as_deref()),
        );
        let (found, base) = (
            quantile(&sent, &words["quantile"]),
            quantile(&other, &words["quantile"]),
        );
        let most = base.mul_f64(words["factor"].parse().unwrap());
        eprintln!("  {found:?}, and {base:?}");
        assert!(found <= most, "it is {found:?}, the other {base:?}");
    }

    fn absolute(&mut self, words: &Captures<'_>, _: &str) {
        let found = quantile(&self.sent(&words["name"], None), &words["quantile"]);
        eprintln!("  {found:?}");
        assert!(found <= span(words), "it is {found:?}");
    }

    fn none_failed(&mut self, words: &Captures<'_>, _: &str) {
        let who = words.name("who").map(|who| who.as_str().to_owned());
        let sent = self.sent(&words["name"], who.as_deref());
        let failed: Vec<&Sent> = sent.iter().filter(|sent| sent.failed()).collect();
        assert!(
            failed.is_empty(),
            "{} of {} failed: {:?}",
            failed.len(),
            sent.len(),
            failed.first()
        );
    }

    fn share(&mut self, words: &Captures<'_>, _: &str) {
        let status: Option<u16> = words
            .name("status")
            .map(|status| status.as_str().parse().unwrap());
        let who = words.name("who").map(|who| who.as_str().to_owned());
        let sent = self.sent(&words["name"], who.as_deref());
        bounded(words, &sent, |sent| match status {
            Some(status) => sent.status == Some(status),
            None => sent.failed(),
        });
    }

    fn share_of_origin(&mut self, words: &Captures<'_>, _: &str) {
        let sent = self.sent(&words["name"], None);
        bounded(words, &sent, |sent| {
            sent.origin.as_deref() == Some(&words["origin"])
        });
    }
}

/// Holds the share of what is `counted` against the step's bound.
#[track_caller]
pub(super) fn bounded(words: &Captures<'_>, sent: &[Sent], counted: impl Fn(&Sent) -> bool) {
    let count = sent.iter().filter(|sent| counted(sent)).count();
    let found = count as f64 * 100.0 / sent.len() as f64;
    let bound: f64 = words["percent"].parse().unwrap();
    let holds = match &words["bound"] {
        "most" => found <= bound,
        _ => found >= bound,
    };
    let mut seen: BTreeMap<(Option<u16>, Option<&str>), usize> = BTreeMap::new();
    for sent in sent {
        *seen
            .entry((sent.status, sent.origin.as_deref()))
            .or_default() += 1;
    }
    eprintln!("  {found:.1} %");
    assert!(holds, "it were {found:.1} % of {}: {seen:?}", sent.len());
}

fn quantile(sent: &[Sent], name: &str) -> Duration {
    let mut took: Vec<Duration> = sent.iter().map(|sent| sent.took).collect();
    took.sort_unstable();
    let share: f64 = name[1..].parse().unwrap();
    took[((took.len() as f64 * share / 100.0) as usize).min(took.len() - 1)]
}

pub(super) fn who(words: &Captures<'_>) -> String {
    words
        .name("who")
        .map_or_else(String::new, |who| who.as_str().to_owned())
}

pub(super) fn names(words: &Captures<'_>) -> Vec<String> {
    let names = words["names"].replace(" and ", ", ");
    names.split(", ").map(str::to_owned).collect()
}

/// "20 ms", "3 s".
pub(super) fn span(words: &Captures<'_>) -> Duration {
    let (number, unit) = words["span"].split_once(' ').unwrap();
    let number: f64 = number.parse().unwrap();
    match unit {
        "ms" => Duration::from_secs_f64(number / 1000.0),
        "s" => Duration::from_secs_f64(number),
        unit => panic!("no unit of time: {unit:?}"),
    }
}
