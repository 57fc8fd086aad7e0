//! The limits in `tollgate status`.

use serde_json::Value;

use super::admin_client::text;

/// A table of limits and what they decided; nothing where there are none.
pub(super) fn render(limits: &Value, out: &mut String) {
    let limits = limits.as_array().map(Vec::as_slice).unwrap_or_default();
    if limits.is_empty() {
        return;
    }
    out.push_str(
        "\nLIMIT                ALGORITHM     KEY                    ALLOWED    DELAYED    REFUSED\n",
    );
    for limit in limits {
        let count = |key: &str| limit[key].as_u64().unwrap_or_default();
        let (allowed, returned) = (count("allowed"), count("returned"));
        out.push_str(&format!(
            "{:<20} {:<13} {:<20} {:>9} {:>10} {:>10}",
            text(&limit["name"]),
            text(&limit["algorithm"]),
            text(&limit["key"]),
            allowed.saturating_sub(returned),
            count("delayed"),
            count("refused"),
        ));
        if limit["dry_run"] == true {
            let (refuse, delay) = (count("would_refuse"), count("would_delay"));
            out.push_str(&format!(
                "  only counts: {refuse} would be refused, {delay} delayed"
            ));
        }
        out.push('\n');
    }
}

/// The routes that are closed for the time being, in one line; nothing where there are none.
pub(super) fn maintenance(routes: &Value, out: &mut String) {
    let routes = routes.as_array().map(Vec::as_slice).unwrap_or_default();
    let closed: Vec<String> = routes
        .iter()
        .filter(|route| route["maintenance"] == true)
        .map(|route| text(&route["id"]))
        .collect();
    if !closed.is_empty() {
        out.push_str(&format!("under maintenance: {}\n", closed.join(", ")));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn says_what_is_closed_and_what_only_counts() {
        let mut out = String::new();
        maintenance(
            &json!([{ "id": "a", "maintenance": true }, { "id": "b" }]),
            &mut out,
        );
        assert_eq!(out, "under maintenance: a\n");
        let limit = json!({ "name": "l", "algorithm": "quota", "key": "route", "allowed": 5, "returned": 2,
            "dry_run": true, "would_refuse": 7 });
        render(&json!([limit]), &mut out);
        let line = out.lines().last().unwrap_or_default();
        assert!(
            line.contains("         3 ") && line.ends_with("7 would be refused, 0 delayed"),
            "{line}"
        );
        let mut none = String::new();
        render(&Value::Null, &mut none);
        maintenance(&json!([{ "id": "b" }]), &mut none);
        assert_eq!(none, "");
    }
}
