//! The one writer of all logs: access lines, our messages, and the framework's.
//!
//! Producers push into a bounded queue and never wait; a full queue drops the line and counts it. A thread empties the
//! queue every few milliseconds, so the request path makes no system call for its log line, and writes each batch with
//! one.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use aho_corasick::AhoCorasick;
use arc_swap::ArcSwap;
use crossbeam_queue::ArrayQueue;
use log::kv::{self, VisitSource};
use serde_json::{Map, Value};

use super::access_log::Record;
use super::metrics::Metrics;
use super::stats::Count;
use crate::config::{Level, Log, LogFormat, Sink};
use crate::primitives::clock;
use crate::primitives::secret::Secret;

/// Lines that may wait; beyond that they are dropped.
const QUEUE: usize = 65_536;
/// Between two looks at the queue.
const PAUSE: Duration = Duration::from_millis(20);
/// Bytes gathered before they are written.
const BATCH: usize = 256 << 10;

/// What the writer needs to know of the configuration.
#[derive(Clone)]
pub struct LogSettings {
    log: Log,
    mask: Vec<String>,
    secrets: Option<AhoCorasick>,
}

impl LogSettings {
    /// Settings for a configuration whose secrets, once read, are `secrets`; they are struck out wherever they appear.
    /// `more_masks` are names to mask besides the configured ones.
    pub fn new(log: Log, more_masks: impl IntoIterator<Item = String>, secrets: &[Secret]) -> Self {
        let mask = log
            .mask
            .iter()
            .cloned()
            .chain(more_masks.into_iter().map(|name| name.to_ascii_lowercase()))
            .collect();
        let long_enough = secrets
            .iter()
            .map(Secret::expose)
            .filter(|secret| secret.len() >= 4);
        let secrets: Vec<&[u8]> = long_enough.collect();
        let secrets = if secrets.is_empty() {
            None
        } else {
            AhoCorasick::new(secrets).ok()
        };
        Self { log, mask, secrets }
    }
}

enum Entry {
    Access(Box<Record>),
    Message(Box<Message>),
}

struct Message {
    at: Duration,
    level: log::Level,
    text: String,
    fields: Map<String, Value>,
}

struct Shared {
    queue: ArrayQueue<Entry>,
    settings: ArcSwap<LogSettings>,
    reopen: AtomicBool,
    stop: AtomicBool,
    dropped_access: Arc<Count>,
    dropped_messages: Arc<Count>,
}

/// The way to the writer. Clones share it.
#[derive(Clone)]
pub struct LogHandle {
    shared: Arc<Shared>,
    thread: Arc<parking_lot::Mutex<Option<JoinHandle<()>>>>,
}

/// Starts the writer and makes it the process' logger.
pub fn install(settings: LogSettings, metrics: &Metrics) -> io::Result<LogHandle> {
    let shared = Arc::new(Shared {
        queue: ArrayQueue::new(QUEUE),
        settings: ArcSwap::from_pointee(settings),
        reopen: AtomicBool::new(false),
        stop: AtomicBool::new(false),
        dropped_access: Arc::clone(&metrics.dropped_access),
        dropped_messages: Arc::clone(&metrics.dropped_messages),
    });
    let mut writer = Writer::new(Arc::clone(&shared))?;
    let thread = std::thread::Builder::new()
        .name("log".into())
        .spawn(move || writer.run())?;
    let handle = LogHandle {
        shared,
        thread: Arc::new(parking_lot::Mutex::new(Some(thread))),
    };
    if log::set_boxed_logger(Box::new(handle.clone())).is_ok() {
        handle.set_max_level();
    }
    Ok(handle)
}

impl LogHandle {
    /// Queues an access line.
    pub fn access(&self, record: Box<Record>) {
        if self.shared.settings.load().log.access == Sink::Off {
            return;
        }
        if self.shared.queue.push(Entry::Access(record)).is_err() {
            self.shared.dropped_access.up();
        }
    }

    /// Takes over new settings. Files that cannot be opened are an error and leave the old settings in force.
    pub fn configure(&self, settings: LogSettings) -> io::Result<()> {
        for sink in [&settings.log.access, &settings.log.messages] {
            Output::open(sink)?;
        }
        self.shared.settings.store(Arc::new(settings));
        self.shared.reopen.store(true, Ordering::Release);
        self.set_max_level();
        Ok(())
    }

    /// Opens the files again, as after a rotation.
    pub fn reopen(&self) {
        self.shared.reopen.store(true, Ordering::Release);
    }

    /// Writes what is queued and ends the writer; waits for it at most this long.
    pub fn finish(&self, limit: Duration) {
        self.shared.stop.store(true, Ordering::Release);
        let Some(thread) = self.thread.lock().take() else {
            return;
        };
        let deadline = Instant::now() + limit;
        while !thread.is_finished() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    fn set_max_level(&self) {
        log::set_max_level(match self.shared.settings.load().log.level {
            Level::Error => log::LevelFilter::Error,
            Level::Warn => log::LevelFilter::Warn,
            Level::Info => log::LevelFilter::Info,
            Level::Debug => log::LevelFilter::Debug,
            Level::Trace => log::LevelFilter::Trace,
        });
    }
}

impl log::Log for LogHandle {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        // What the framework says below "warn" concerns its authors, and at "debug" it prints whole heads, secrets in
        // them included: it stays out at every level.
        metadata.target().starts_with("tollgate") || metadata.level() <= log::Level::Warn
    }

    fn log(&self, record: &log::Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let mut fields = Fields(Map::new());
        let _ = record.key_values().visit(&mut fields);
        if !record.target().starts_with("tollgate") {
            fields.0.insert("target".into(), record.target().into());
        }
        let message = Message {
            at: clock::unix_now(),
            level: record.level(),
            text: record.args().to_string(),
            fields: fields.0,
        };
        if self
            .shared
            .queue
            .push(Entry::Message(Box::new(message)))
            .is_err()
        {
            self.shared.dropped_messages.up();
        }
    }

    fn flush(&self) {}
}

struct Fields(Map<String, Value>);

impl<'kvs> VisitSource<'kvs> for Fields {
    fn visit_pair(&mut self, key: kv::Key<'kvs>, value: kv::Value<'kvs>) -> Result<(), kv::Error> {
        let value = match (value.to_u64(), value.to_f64(), value.to_bool()) {
            (Some(number), ..) => Value::from(number),
            (_, Some(number), _) => Value::from(number),
            (.., Some(truth)) => Value::from(truth),
            _ => Value::from(value.to_string()),
        };
        self.0.insert(key.to_string(), value);
        Ok(())
    }
}

/// Where a kind of line goes.
enum Output {
    Stdout,
    Stderr,
    File(File, PathBuf),
    Off,
}

impl Output {
    fn open(sink: &Sink) -> io::Result<Self> {
        Ok(match sink {
            Sink::Stdout => Self::Stdout,
            Sink::Stderr => Self::Stderr,
            Sink::Off => Self::Off,
            Sink::File(path) => {
                let file = OpenOptions::new().create(true).append(true).open(path);
                let named = |error: io::Error| {
                    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
                };
                Self::File(file.map_err(named)?, path.clone())
            }
        })
    }

    fn same_as(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Stdout, Self::Stdout) | (Self::Stderr, Self::Stderr) => true,
            (Self::File(_, a), Self::File(_, b)) => a == b,
            _ => false,
        }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Stdout => io::stdout()
                .lock()
                .write_all(bytes)
                .and_then(|()| io::stdout().lock().flush()),
            Self::Stderr => io::stderr().lock().write_all(bytes),
            Self::File(file, _) => file.write_all(bytes),
            Self::Off => Ok(()),
        }
    }
}

struct Writer {
    shared: Arc<Shared>,
    access: Output,
    messages: Output,
    access_lines: Vec<u8>,
    message_lines: Vec<u8>,
    timestamp: (u64, String),
}

impl Writer {
    fn new(shared: Arc<Shared>) -> io::Result<Self> {
        let settings = shared.settings.load_full();
        let access = Output::open(&settings.log.access)?;
        let messages = Output::open(&settings.log.messages)?;
        Ok(Self {
            shared,
            access,
            messages,
            access_lines: Vec::new(),
            message_lines: Vec::new(),
            timestamp: (u64::MAX, String::new()),
        })
    }

    fn run(&mut self) {
        loop {
            // Read before emptying: what was queued before the word to stop is still written.
            let stop = self.shared.stop.load(Ordering::Acquire);
            if self.shared.reopen.swap(false, Ordering::AcqRel) {
                self.reopen();
            }
            self.empty();
            if stop {
                return;
            }
            std::thread::sleep(PAUSE);
        }
    }

    /// Opens the outputs again; one that cannot be opened stays as it is.
    fn reopen(&mut self) {
        let settings = self.shared.settings.load_full();
        match Output::open(&settings.log.access) {
            Ok(output) => self.access = output,
            Err(error) => log::error!("access log cannot be reopened: {error}"),
        }
        match Output::open(&settings.log.messages) {
            Ok(output) => self.messages = output,
            Err(error) => log::error!("message log cannot be reopened: {error}"),
        }
    }

    fn empty(&mut self) {
        let settings = self.shared.settings.load_full();
        while let Some(entry) = self.shared.queue.pop() {
            self.format(&entry, &settings);
            if self.access_lines.len() + self.message_lines.len() > BATCH {
                self.write(&settings);
            }
        }
        self.write(&settings);
    }

    fn format(&mut self, entry: &Entry, settings: &LogSettings) {
        // Lines for one output keep their order.
        let together = self.access.same_as(&self.messages);
        match entry {
            Entry::Access(record) => {
                let timestamp = timestamp(record.at, &mut self.timestamp);
                let out = if together {
                    &mut self.message_lines
                } else {
                    &mut self.access_lines
                };
                let written = match settings.log.format {
                    LogFormat::Json => record.write_json(&timestamp, &settings.mask, out),
                    LogFormat::Combined => record.write_combined(&settings.mask, out),
                };
                if written.is_err() {
                    self.shared.dropped_access.up();
                }
            }
            Entry::Message(message) => {
                let timestamp = timestamp(message.at, &mut self.timestamp);
                let mut line = Map::new();
                line.insert("timestamp".into(), timestamp.into());
                line.insert(
                    "level".into(),
                    message.level.as_str().to_ascii_lowercase().into(),
                );
                line.insert("msg".into(), message.text.clone().into());
                line.extend(message.fields.iter().map(|(key, value)| {
                    let masked = settings
                        .mask
                        .iter()
                        .any(|name| name.eq_ignore_ascii_case(key));
                    (
                        key.clone(),
                        if masked { "***".into() } else { value.clone() },
                    )
                }));
                self.message_lines
                    .extend_from_slice(Value::Object(line).to_string().as_bytes());
                self.message_lines.push(b'\n');
            }
        }
    }

    fn write(&mut self, settings: &LogSettings) {
        for (lines, output, dropped) in [
            (
                &mut self.message_lines,
                &mut self.messages,
                &self.shared.dropped_messages,
            ),
            (
                &mut self.access_lines,
                &mut self.access,
                &self.shared.dropped_access,
            ),
        ] {
            if lines.is_empty() {
                continue;
            }
            let written = match &settings.secrets {
                Some(secrets) if secrets.is_match(&lines[..]) => {
                    let stars = vec!["***"; secrets.patterns_len()];
                    output.write(&secrets.replace_all_bytes(lines, &stars))
                }
                _ => output.write(lines),
            };
            if written.is_err() {
                dropped.add(lines.iter().filter(|byte| **byte == b'\n').count() as u64);
            }
            lines.clear();
        }
    }
}

/// RFC 3339 with milliseconds, UTC. The part up to the second is formatted once a second.
fn timestamp(at: Duration, cache: &mut (u64, String)) -> String {
    if cache.0 != at.as_secs() {
        let moment = jiff::Timestamp::from_second(at.as_secs() as i64).unwrap_or_default();
        *cache = (
            at.as_secs(),
            moment.strftime("%Y-%m-%dT%H:%M:%S").to_string(),
        );
    }
    format!("{}.{:03}Z", cache.1, at.subsec_millis())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_time_with_milliseconds() {
        let mut cache = (u64::MAX, String::new());
        assert_eq!(
            timestamp(Duration::from_millis(1_700_000_000_007), &mut cache),
            "2023-11-14T22:13:20.007Z"
        );
        assert_eq!(
            timestamp(Duration::from_millis(1_700_000_000_999), &mut cache),
            "2023-11-14T22:13:20.999Z"
        );
    }
}
