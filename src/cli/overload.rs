//! What `tollgate status` says where more comes in than can be served.

use crate::api::{ClassCounts, OverloadStatus, PlacesStatus};

/// The gateway as a whole; nothing while nothing is refused and nothing was.
pub(super) fn status_line(overload: &OverloadStatus) -> Option<String> {
    let since_start = by_class(&overload.refused);
    let words = match &*overload.refused_now {
        // A gateway from before there was this says nothing at all.
        "" => return None,
        "nothing" => format!("no overload now; refused since the start: {}", since_start?),
        class => format!(
            "OVERLOADED: requests down from class {class} are refused, {} in flight, {:.0} ms late",
            overload.in_flight, overload.lag_ms
        ),
    };
    Some(format!("{words}\n"))
}

/// The places of an upstream that has a bound.
pub(super) fn places_line(places: &PlacesStatus) -> String {
    let kind = match (places.adaptive, places.unloaded_ms) {
        (true, Some(ms)) => format!("adaptive, {ms:.1} ms without load"),
        (true, None) => "adaptive".to_owned(),
        (false, _) => "fixed".to_owned(),
    };
    let kept = match places.kept_from.sheddable {
        0 => String::new(),
        kept => format!(", {kept} kept for what matters more"),
    };
    let mut line = format!(
        "  {} of {} places taken ({kind}){kept}, {} of {} waiting",
        places.in_flight, places.limit, places.queued, places.queue
    );
    if let Some(refused) = by_class(&places.refused) {
        let now = if places.refusing { ", REFUSING" } else { "" };
        line.push_str(&format!("{now}; refused since the start: {refused}"));
    }
    line.push('\n');
    line
}

/// Counts by class, the most important first; `None` when all are zero.
fn by_class(refused: &ClassCounts) -> Option<String> {
    let ClassCounts {
        critical,
        normal,
        sheddable,
    } = refused;
    (*refused != ClassCounts::default())
        .then(|| format!("{critical} critical, {normal} normal, {sheddable} sheddable"))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn says_what_is_refused_and_nothing_when_nothing_is() {
        let read = |json: &Value| serde_json::from_value(json.clone()).expect("an overload");
        let status_line = |json: &Value| status_line(&read(json));
        let quiet = json!({ "refused_now": "nothing", "in_flight": 3, "lag_ms": 0.0,
            "refused": { "critical": 0, "normal": 0, "sheddable": 0 } });
        assert_eq!(status_line(&quiet), None);
        assert_eq!(status_line(&json!({})), None);
        let mut loud = quiet;
        loud["refused_now"] = "normal".into();
        loud["refused"]["sheddable"] = 7.into();
        let line = status_line(&loud).expect("a line");
        assert!(
            line.contains("down from class normal are refused, 3 in flight"),
            "{line}"
        );
        loud["refused_now"] = "nothing".into();
        let line = status_line(&loud).expect("a line");
        assert!(line.contains("0 critical, 0 normal, 7 sheddable"), "{line}");
    }

    #[test]
    fn describes_the_places_of_an_upstream() {
        let places = json!({ "limit": 40, "adaptive": true, "unloaded_ms": 20.4, "in_flight": 40, "queued": 3, "queue": 100,
            "kept_from": { "normal": 1, "sheddable": 4 }, "refusing": true, "refused": { "critical": 0, "normal": 2, "sheddable": 9 } });
        let places = serde_json::from_value(places).expect("places");
        assert_eq!(
            places_line(&places),
            ("  40 of 40 places taken (adaptive, 20.4 ms without load), 4 kept for what matters more, 3 of 100 waiting, REFUSING; \
                 refused since the start: 0 critical, 2 normal, 9 sheddable\n")
        );
    }
}
