//! An operator's stories: what happens to the upstreams, what the clients do, and what they may see of it.
//!
//! A story is a `.feature` file here. Its steps are those of [`steps`]; a line that is none of them fails the test.

mod load;
mod origins;
mod policies;
mod steps;

use std::fs;
use std::path::Path;

use gherkin::{Feature, GherkinEnv};

use self::steps::World;
use crate::alone;

/// Plays the one scenario of a file.
#[track_caller]
fn play(file: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/storms/stories")
        .join(file);
    let text = fs::read_to_string(&path).unwrap();
    let feature = Feature::parse(text, GherkinEnv::default()).unwrap();
    for scenario in &feature.scenarios {
        let _alone = alone();
        let mut world = World::default();
        for step in &scenario.steps {
            world.play(step, &format!("{file}:{}", step.position.line));
        }
    }
}

macro_rules! stories {
    ($($name:ident),* $(,)?) => {
        $(
            #[test]
            fn $name() {
                play(concat!(stringify!($name), ".feature"));
            }
        )*

        #[test]
        fn every_story_is_played() {
            let played = [$(concat!(stringify!($name), ".feature")),*];
            let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/storms/stories");
            for entry in fs::read_dir(folder).unwrap() {
                let name = entry.unwrap().file_name().into_string().unwrap();
                assert!(!name.ends_with(".feature") || played.contains(&&*name), "{name} is not played");
            }
        }
    };
}

stories!(
    a_breaker_gives_an_upstream_a_rest,
    a_canary_that_fails_is_stopped,
    a_daily_quota_outlives_the_process,
    an_endpoint_dies_and_comes_back,
    an_endpoint_fails_half_of_its_requests,
    an_endpoint_returns_and_starts_slowly,
    an_operator_switches_a_route_down,
    an_upstream_dies_and_others_answer_for_it,
    clients_stay_with_their_endpoint,
    maintenance_begins_and_ends_under_load,
    one_of_five_endpoints_becomes_ten_times_slower,
    one_request_in_a_hundred_stalls,
    retries_do_not_multiply_an_outage,
    the_worst_of_five_endpoints_is_put_aside,
    twice_the_capacity,
);
