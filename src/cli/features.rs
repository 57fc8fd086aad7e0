//! What this program can do, as `-V` says it: a word for each, and the keys of the configuration that it stands for.

/// Words, and the keys they stand for.
const FEATURES: [(&str, &[&str]); 28] = [
    ("jwt", &["auth.NAME.jwks"]),
    ("signatures (ca, rfc9421)", &["auth.NAME.scheme"]),
    ("limits", &["limit.NAME.rate", "limit.NAME.tiers"]),
    ("quotas", &["limit.NAME.quota"]),
    ("TLS", &["listener[].tls", "upstream.NAME.tls"]),
    ("client certificates", &["listener[].tls.client_ca"]),
    (
        "HTTP/2",
        &["listener[].http2", "upstream.NAME.http_version"],
    ),
    ("PROXY protocol", &["listener[].proxy_protocol"]),
    (
        "balancing",
        &["upstream.NAME.balance", "upstream.NAME.endpoints[]"],
    ),
    ("sticky sessions", &["upstream.NAME.sticky"]),
    (
        "health checks",
        &["upstream.NAME.health", "upstream.NAME.passive"],
    ),
    (
        "outlier detection",
        &["upstream.NAME.outlier", "upstream.NAME.score"],
    ),
    (
        "circuit breakers",
        &["upstream.NAME.breaker", "route[].breaker"],
    ),
    ("timeouts", &["upstream.NAME.timeout", "server.client"]),
    ("retries", &["upstream.NAME.retry"]),
    ("hedging", &["upstream.NAME.hedge"]),
    ("concurrency limits", &["upstream.NAME.concurrency"]),
    ("overload control", &["server.overload", "route[].class"]),
    ("fallbacks", &["route[].fallback"]),
    ("last good answers", &["route[].fallback.last_good"]),
    ("degradation", &["route[].degrade"]),
    ("traffic splits", &["route[].split", "route[].rollout"]),
    ("mirroring", &["route[].mirror"]),
    ("CORS", &["route[].cors"]),
    ("header rules", &["route[].request", "route[].response"]),
    ("fixed answers", &["route[].respond"]),
    (
        "maintenance",
        &["server.maintenance", "route[].maintenance"],
    ),
    ("IP rules", &["route[].allow_ips", "listener[].deny_ips"]),
];

/// The words in one line.
pub(super) fn line() -> String {
    let words: Vec<&str> = FEATURES.iter().map(|(word, _)| *word).collect();
    words.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    #[test]
    fn the_list_says_what_there_is_and_all_of_it() {
        let keys = config::keys();
        let named: Vec<&str> = FEATURES
            .iter()
            .flat_map(|(_, keys)| *keys)
            .copied()
            .collect();
        for key in &named {
            let key = key.trim_end_matches("[]");
            assert!(keys.iter().any(|known| known == key), "there is no {key}");
        }
        // Every table of a listener, an upstream, a route or the server is something that one may look for.
        let tables = keys.iter().filter(|key| {
            let inside = format!("{key}.");
            let list = format!("{key}[].");
            let mut others = keys.iter();
            let of = ["listener[].", "upstream.NAME.", "route[].", "server."];
            let of = of.iter().find_map(|of| key.strip_prefix(of));
            of.is_some_and(|rest| !rest.contains('.'))
                && others.any(|other| other.starts_with(&inside) || other.starts_with(&list))
        });
        for table in tables {
            // Limits are named by themselves.
            let named = named.iter().any(|key| key.trim_end_matches("[]") == table);
            assert!(
                named || table == "route[].limit_overrides",
                "-V says nothing of {table}"
            );
        }
    }
}
