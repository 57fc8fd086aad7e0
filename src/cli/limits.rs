//! The limits in `tollgate status`.

use crate::api::{LimitStatus, RouteStatus};

/// A table of limits and what they decided; nothing where there are none.
pub(super) fn render(limits: &[LimitStatus], out: &mut String) {
    if limits.is_empty() {
        return;
    }
    out.push_str(
        "\nLIMIT                ALGORITHM     KEY                    ALLOWED    DELAYED    REFUSED\n",
    );
    for limit in limits {
        out.push_str(&format!(
            "{:<20} {:<13} {:<20} {:>9} {:>10} {:>10}",
            limit.name,
            limit.algorithm,
            limit.key,
            limit.allowed.saturating_sub(limit.returned),
            limit.delayed,
            limit.refused,
        ));
        if limit.dry_run {
            out.push_str(&format!(
                "  only counts: {} would be refused, {} delayed",
                limit.would_refuse, limit.would_delay
            ));
        }
        out.push('\n');
    }
}

/// The routes that are closed for the time being, in one line; nothing where there are none.
pub(super) fn maintenance(routes: &[RouteStatus], out: &mut String) {
    let closed: Vec<&str> = routes
        .iter()
        .filter(|status| status.route.maintenance)
        .map(|status| status.route.id.as_str())
        .collect();
    if !closed.is_empty() {
        out.push_str(&format!("under maintenance: {}\n", closed.join(", ")));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn routes(json: serde_json::Value) -> Vec<RouteStatus> {
        serde_json::from_value(json).expect("routes")
    }

    #[test]
    fn says_what_is_closed_and_what_only_counts() {
        let mut out = String::new();
        let closed = json!([{ "id": "a", "maintenance": true }, { "id": "b" }]);
        maintenance(&routes(closed), &mut out);
        assert_eq!(out, "under maintenance: a\n");
        let limit = json!({ "name": "l", "algorithm": "quota", "key": "route", "allowed": 5, "returned": 2,
            "dry_run": true, "would_refuse": 7 });
        let limit = serde_json::from_value(limit).expect("a limit");
        render(&[limit], &mut out);
        let line = out.lines().last().unwrap_or_default();
        assert!(
            line.contains("         3 ") && line.ends_with("7 would be refused, 0 delayed"),
            "{line}"
        );
        let mut none = String::new();
        render(&[], &mut none);
        maintenance(&routes(json!([{ "id": "b" }])), &mut none);
        assert_eq!(none, "");
    }
}
