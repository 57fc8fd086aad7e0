//! What `tollgate status` says where more comes in than can be served.

use serde_json::Value;

/// The gateway as a whole; nothing while nothing is refused and nothing was.
pub(super) fn status_line(overload: &Value) -> Option<String> {
    let now = overload["refused_now"].as_str()?;
    let since_start = by_class(&overload["refused"]);
    let words = match now {
        "nothing" => format!("no overload now; refused since the start: {}", since_start?),
        class => format!(
            "OVERLOADED: requests down from class {class} are refused, {} in flight, {:.0} ms late",
            overload["in_flight"],
            overload["lag_ms"].as_f64().unwrap_or_default()
        ),
    };
    Some(format!("{words}\n"))
}

/// The places of an upstream that has a bound.
pub(super) fn places_line(places: &Value) -> Option<String> {
    let limit = places["limit"].as_u64()?;
    let kind = if places["adaptive"] == true {
        match places["unloaded_ms"].as_f64() {
            Some(ms) => format!("adaptive, {ms:.1} ms without load"),
            None => "adaptive".to_owned(),
        }
    } else {
        "fixed".to_owned()
    };
    let kept = match places["kept_from"]["sheddable"].as_u64() {
        Some(kept @ 1..) => format!(", {kept} kept for what matters more"),
        _ => String::new(),
    };
    let mut line = format!(
        "  {} of {limit} places taken ({kind}){kept}, {} of {} waiting",
        places["in_flight"], places["queued"], places["queue"]
    );
    if let Some(refused) = by_class(&places["refused"]) {
        let now = if places["refusing"] == true {
            ", REFUSING"
        } else {
            ""
        };
        line.push_str(&format!("{now}; refused since the start: {refused}"));
    }
    line.push('\n');
    Some(line)
}

/// Counts by class, the most important first; `None` when all are zero.
fn by_class(refused: &Value) -> Option<String> {
    let counts = ["critical", "normal", "sheddable"].map(|class| (class, refused[class].as_u64()));
    let any = counts
        .iter()
        .any(|(_, count)| count.is_some_and(|count| count > 0));
    let words = counts.map(|(class, count)| format!("{} {class}", count.unwrap_or_default()));
    any.then(|| words.join(", "))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn says_what_is_refused_and_nothing_when_nothing_is() {
        let quiet = json!({ "refused_now": "nothing", "in_flight": 3, "lag_ms": 0.0,
            "refused": { "critical": 0, "normal": 0, "sheddable": 0 } });
        assert_eq!(status_line(&quiet), None);
        assert_eq!(status_line(&Value::Null), None);
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
        assert_eq!(
            places_line(&places).as_deref(),
            Some(
                "  40 of 40 places taken (adaptive, 20.4 ms without load), 4 kept for what matters more, 3 of 100 waiting, REFUSING; \
                 refused since the start: 0 critical, 2 normal, 9 sheddable\n"
            )
        );
        assert_eq!(places_line(&Value::Null), None);
    }
}
