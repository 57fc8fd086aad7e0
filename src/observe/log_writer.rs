//! The one writer of all logs: access lines, our messages, and the framework's.
//!
//! A worker writes its access lines into a buffer of its own, once the answer is out; what others have to say goes into
//! a bounded queue. A thread takes both every few milliseconds and writes each batch with one system call. Nobody waits
//! for it: where there is no room, the line is dropped and counted.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use crossbeam_queue::ArrayQueue;
use log::kv::{self, VisitSource};
use serde_json::{Map, Value};

use super::access_log::{Record, Timestamp};
use super::line_buffers::LineBuffers;
use super::metrics::Metrics;
use super::secrets::Secrets;
use super::stats::Count;
use crate::config::{Level, Log, LogFormat, Sink};
use crate::primitives::clock;
use crate::primitives::secret::Secret;

/// Messages that may wait; beyond that they are dropped.
const QUEUE: usize = 16_384;
/// Between two looks at what waits.
const PAUSE: Duration = Duration::from_millis(20);

/// What the writer needs to know of the configuration.
#[derive(Clone)]
pub struct LogSettings {
    log: Log,
    mask: Vec<String>,
    /// Secrets of this configuration, and what is struck out: those of the one before as well, see
    /// [`LogSettings::beside`].
    known: Vec<Secret>,
    secrets: Option<Secrets>,
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
        Self {
            log,
            mask,
            known: secrets.to_vec(),
            secrets: Secrets::of(secrets),
        }
    }

    /// Settings with what `earlier` ones struck out: lines that wait, and requests still under way, may hold secrets of
    /// before.
    fn beside(mut self, earlier: &Self) -> Self {
        self.secrets = Secrets::of(&[&self.known[..], &earlier.known].concat());
        self
    }

    fn form(&self) -> u8 {
        match (&self.log.access, self.log.format) {
            (Sink::Off, _) => form::OFF,
            (_, LogFormat::Json) => form::JSON,
            (_, LogFormat::Combined) => form::COMBINED,
        }
    }
}

struct Message {
    at: Duration,
    level: log::Level,
    text: String,
    fields: Map<String, Value>,
}

/// How access lines are written, as workers ask for each request.
mod form {
    pub(super) const OFF: u8 = 0;
    pub(super) const JSON: u8 = 1;
    pub(super) const COMBINED: u8 = 2;
}

struct Shared {
    lines: LineBuffers,
    form: AtomicU8,
    queue: ArrayQueue<Box<Message>>,
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
        lines: LineBuffers::new(),
        form: AtomicU8::new(settings.form()),
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
    /// Whether access lines are written at all.
    pub fn writes_access(&self) -> bool {
        self.shared.form.load(Ordering::Relaxed) != form::OFF
    }

    /// Writes an access line into the buffer of worker number `lane`.
    pub fn access(&self, lane: usize, record: &Record<'_>) {
        let form = self.shared.form.load(Ordering::Relaxed);
        if form == form::OFF {
            return;
        }
        let refers = form == form::COMBINED && record.referer.is_some();
        let masks = refers || record.target.query().is_some();
        let settings = masks.then(|| self.shared.settings.load());
        let mask = settings.as_ref().map_or(&[][..], |settings| &settings.mask);
        let written = self.shared.lines.write(lane, |out, timestamp| {
            if form == form::JSON {
                timestamp.set(record.at);
                record.write_json(timestamp, mask, out);
            } else {
                record.write_combined(mask, out);
            }
        });
        if !written {
            self.shared.dropped_access.up();
        }
    }

    /// Takes over new settings. Files that cannot be opened are an error and leave the old settings in force.
    pub fn configure(&self, settings: LogSettings) -> io::Result<()> {
        for sink in [&settings.log.access, &settings.log.messages] {
            Output::open(sink)?;
        }
        self.shared.form.store(settings.form(), Ordering::Relaxed);
        let earlier = self.shared.settings.load_full();
        self.shared
            .settings
            .store(Arc::new(settings.beside(&earlier)));
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
            // What is said at "trace" is the framework's, which evaluates its arguments before anyone asks whether they
            // are wanted, and panics over some of them (pingora-core, v1/client.rs).
            Level::Debug | Level::Trace => log::LevelFilter::Debug,
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
        if self.shared.queue.push(Box::new(message)).is_err() {
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
struct Output {
    sink: OpenSink,
    /// A write failed on the way: the last line may be cut off.
    torn: bool,
}

enum OpenSink {
    Stdout,
    Stderr,
    File(File),
    Off,
}

impl Output {
    fn open(sink: &Sink) -> io::Result<Self> {
        let sink = match sink {
            Sink::Stdout => OpenSink::Stdout,
            Sink::Stderr => OpenSink::Stderr,
            Sink::Off => OpenSink::Off,
            Sink::File(path) => {
                let file = OpenOptions::new().create(true).append(true).open(path);
                let named = |error: io::Error| {
                    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
                };
                OpenSink::File(file.map_err(named)?)
            }
        };
        Ok(Self { sink, torn: false })
    }

    /// Writes whole lines; the first after a failure does not continue what was cut off.
    fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        let written = if self.torn {
            self.put(b"\n").and_then(|()| self.put(lines))
        } else {
            self.put(lines)
        };
        self.torn = written.is_err();
        written
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.sink {
            OpenSink::Stdout => io::stdout()
                .lock()
                .write_all(bytes)
                .and_then(|()| io::stdout().lock().flush()),
            OpenSink::Stderr => io::stderr().lock().write_all(bytes),
            OpenSink::File(file) => file.write_all(bytes),
            OpenSink::Off => Ok(()),
        }
    }
}

struct Writer {
    shared: Arc<Shared>,
    access: Output,
    messages: Output,
    lines: Vec<u8>,
    spare: Vec<u8>,
    timestamp: Timestamp,
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
            lines: Vec::new(),
            spare: Vec::new(),
            timestamp: Timestamp::new(),
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
        let shared = Arc::clone(&self.shared);
        shared.lines.take(&mut self.spare, |lines| {
            if write(&mut self.access, lines, &settings).is_err() {
                shared.dropped_access.add(count(lines));
            }
        });
        while let Some(message) = shared.queue.pop() {
            self.format(*message, &settings);
        }
        if !self.lines.is_empty() {
            if write(&mut self.messages, &self.lines, &settings).is_err() {
                shared.dropped_messages.add(count(&self.lines));
            }
            self.lines.clear();
        }
    }

    fn format(&mut self, message: Message, settings: &LogSettings) {
        self.timestamp.set(message.at);
        let mut timestamp = Vec::new();
        self.timestamp.write(&mut timestamp);
        let fields = message.fields.into_iter().map(|(key, value)| {
            let masked = settings
                .mask
                .iter()
                .any(|name| name.eq_ignore_ascii_case(&key));
            (key, if masked { "***".into() } else { value })
        });
        let mut line: Map<String, Value> = fields.collect();
        // What every line has comes last: no field of a message takes its place.
        line.insert(
            "timestamp".into(),
            String::from_utf8(timestamp).unwrap_or_default().into(),
        );
        line.insert(
            "level".into(),
            message.level.as_str().to_ascii_lowercase().into(),
        );
        line.insert("msg".into(), message.text.into());
        self.lines
            .extend_from_slice(Value::Object(line).to_string().as_bytes());
        self.lines.push(b'\n');
    }
}

/// Writes lines with every secret in them struck out.
fn write(output: &mut Output, lines: &[u8], settings: &LogSettings) -> io::Result<()> {
    match &settings.secrets {
        Some(secrets) => output.write(&secrets.strike_out(lines)),
        None => output.write(lines),
    }
}

fn count(lines: &[u8]) -> u64 {
    lines.iter().filter(|byte| **byte == b'\n').count() as u64
}
