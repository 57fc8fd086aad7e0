//! Who ends before what is taken back.

use std::fs::OpenOptions;
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::time::Instant;

use nix::sys::signal::kill;
use nix::sys::stat::Mode;
use nix::unistd::{Pid, mkfifo};
use tokio::sync::watch;

use super::*;
use crate::observe::Metrics;
use crate::server::worker::Accepting;

/// While the pid file cannot be written, nothing is taken back: the pipe in its place is full.
#[test]
fn a_successor_that_failed_has_ended_before_anything_is_taken_back() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().to_owned();
    let directory = Arc::new(RuntimeDir::prepare(&path).expect("a directory"));
    let pipe = path.join("tollgate.partial");
    mkfifo(&pipe, Mode::S_IRWXU).expect("a pipe");
    let mut pipe = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(nix::libc::O_NONBLOCK)
        .open(pipe)
        .expect("the pipe");
    let mut filled = 0;
    while let Ok(count) = pipe.write(&[0; 4096]) {
        filled += count;
    }
    let metrics = Metrics::new("0", "0").expect("metrics");
    let state = Arc::new(State::new(Arc::new(metrics), None));
    let upgrader = Upgrader::new(path.join("t.toml"), state, directory, Vec::new());
    let upgrader = upgrader.expect("an upgrader");
    let doors = Doors {
        closing: watch::Sender::new(None),
        public: watch::Sender::new(Accepting::Open),
        admin: watch::Sender::new(Accepting::Open),
    };
    let child = Command::new("sleep").arg("60").spawn().expect("a process");
    let pid = Pid::from_raw(child.id() as i32);
    let ended = std::thread::scope(|scope| {
        scope.spawn(|| {
            drop(HandingOver::begin(
                &upgrader,
                &doors,
                Successor(Some(child)),
            ));
        });
        let patience = Instant::now() + Duration::from_secs(10);
        while kill(pid, None).is_ok() && Instant::now() < patience {
            std::thread::sleep(Duration::from_millis(1));
        }
        let ended = kill(pid, None).is_err();
        let held = *doors.public.borrow() == Accepting::Held;
        pipe.read_exact(&mut vec![0; filled])
            .expect("what filled it");
        ended && held
    });
    assert!(ended);
    assert!(*doors.public.borrow() == Accepting::Open);
}
