//! Reads what callgrind counted.

use std::collections::HashMap;

/// Cost of one request.
#[derive(Debug)]
pub(crate) struct Cost {
    pub(crate) instructions: f64,
    pub(crate) allocations: f64,
    /// Reads from sockets and writes to them.
    pub(crate) socket_calls: f64,
}

impl Cost {
    /// Each figure by its name in the record.
    pub(crate) fn figures(&self) -> [(&'static str, f64); 3] {
        [
            ("instructions", self.instructions),
            ("allocations", self.allocations),
            ("socket_calls", self.socket_calls),
        ]
    }

    /// Of `requests` requests, by a dump (https://valgrind.org/docs/manual/cl-format.html): what `tasks` cost, calls
    /// included, and how often memory was asked for, and sockets. Instructions of anything else that the process did
    /// meanwhile do not count.
    pub(crate) fn of(dump: &str, tasks: &[&str], requests: u64) -> Self {
        let mut names: HashMap<String, String> = HashMap::new();
        let mut name_of = |text: &str| {
            let (id, name) = text.split_once(' ').unwrap_or((text, ""));
            if !name.is_empty() {
                names.insert(id.to_owned(), name.to_owned());
            }
            names.get(id).cloned().unwrap_or_default()
        };
        let (mut caller, mut callee, mut calls) = (String::new(), String::new(), None);
        let mut instructions = vec![0; tasks.len()];
        let (mut allocations, mut socket_calls) = (0, 0);
        for line in dump.lines() {
            if let Some(text) = line.strip_prefix("fn=") {
                caller = name_of(text);
            } else if let Some(text) = line.strip_prefix("cfn=") {
                callee = name_of(text);
            } else if let Some(text) = line.strip_prefix("calls=") {
                calls = text
                    .split(' ')
                    .next()
                    .and_then(|count| count.parse::<u64>().ok());
            } else if let Some(count) = calls.take() {
                let inclusive: u64 = line
                    .split(' ')
                    .nth(1)
                    .and_then(|cost| cost.parse().ok())
                    .unwrap_or(0);
                let task = tasks.iter().position(|task| *task == callee);
                if let Some(task) = task.filter(|task| tasks[*task] != caller) {
                    instructions[task] += inclusive;
                }
                if ALLOCATIONS.contains(&callee.as_str()) {
                    allocations += count;
                }
                if SOCKET_CALLS.contains(&callee.as_str()) {
                    socket_calls += count;
                }
            }
        }
        for (task, cost) in tasks.iter().zip(&instructions) {
            assert!(*cost > 0, "the dump does not name {task}");
        }
        assert!(
            allocations > 0 && socket_calls > 0,
            "the dump names no calls"
        );
        let each = |count: u64| count as f64 / requests as f64;
        Self {
            instructions: each(instructions.iter().sum()),
            allocations: each(allocations),
            socket_calls: each(socket_calls),
        }
    }
}

/// The task of a connection of a client, that of a stream on it, and that of a connection of HTTP/2 to an endpoint.
pub(crate) const CONNECTION: &str = "tollgate::gateway::connection::serve::{{closure}}";
pub(crate) const STREAM: &str = "tollgate::gateway::http2::connection::stream::{{closure}}";
pub(crate) const UPSTREAM: &str =
    "tollgate::gateway::exchange::h2::connections::open::{{closure}}::{{closure}}";
const ALLOCATIONS: [&str; 3] = [
    "mi_malloc_aligned",
    "mi_zalloc_aligned",
    "mi_realloc_aligned",
];
/// Of the C library. Waits are left out: timers cause some, the more of them the slower the machine is.
const SOCKET_CALLS: [&str; 6] = ["recv", "recvmsg", "readv", "send", "sendmsg", "writev"];
