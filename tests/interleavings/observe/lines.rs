//! Lines of the access log, between the workers that write them and the thread that takes them.

use std::sync::Arc;

use super::line_buffers::LineBuffers;
use crate::threads::spawn;

/// Broken by hand: `LineBuffers::take` reads a buffer and clears it under a second lock.
pub fn none_is_lost() {
    let buffers = Arc::new(LineBuffers::new());
    let write = |lane: usize| {
        let buffers = Arc::clone(&buffers);
        move || {
            for line in [b'1', b'2'] {
                assert!(buffers.write(lane, |out, _| out.extend([b'a' + lane as u8, line])));
            }
        }
    };
    let workers = [spawn(write(0)), spawn(write(1))];
    let (mut seen, mut spare) = (Vec::new(), Vec::new());
    buffers.take(&mut spare, |lines| seen.extend_from_slice(lines));
    for worker in workers {
        worker.join().unwrap();
    }
    buffers.take(&mut spare, |lines| seen.extend_from_slice(lines));
    for lane in [b'a', b'b'] {
        let own = seen.chunks(2).filter(|line| line[0] == lane);
        let own: Vec<u8> = own.map(|line| line[1]).collect();
        assert_eq!(own, b"12", "{}", String::from_utf8_lossy(&seen));
    }
}
