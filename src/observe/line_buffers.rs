//! Where workers write lines that another thread takes: a buffer for each, so that they never meet.

use super::access_log::Timestamp;
use crate::primitives::sync::Mutex;

/// Buffers; workers beyond this number share them.
const BUFFERS: usize = 32;
/// Most bytes of lines that wait in one.
const MOST: usize = 8 << 20;
/// Room kept from one batch to the next.
const KEPT: usize = 1 << 20;

/// A buffer for each worker.
pub(super) struct LineBuffers {
    buffers: Vec<Buffer>,
}

/// Aligned so that no two share a cache line.
#[repr(align(128))]
struct Buffer(Mutex<Lines>);

struct Lines {
    text: Vec<u8>,
    timestamp: Timestamp,
}

impl LineBuffers {
    pub(super) fn new() -> Self {
        let buffer = || {
            Buffer(Mutex::new(Lines {
                text: Vec::new(),
                timestamp: Timestamp::new(),
            }))
        };
        Self {
            buffers: std::iter::repeat_with(buffer).take(BUFFERS).collect(),
        }
    }

    /// Lets `line` write a line into the buffer of worker number `lane`; `false` when there is no room. The lock is
    /// taken by that worker, and for the exchange of two pointers by the thread that takes the lines.
    pub(super) fn write(
        &self,
        lane: usize,
        line: impl FnOnce(&mut Vec<u8>, &mut Timestamp),
    ) -> bool {
        let mut lines = self.buffers[lane % BUFFERS].0.lock();
        if lines.text.len() > MOST {
            return false;
        }
        let Lines { text, timestamp } = &mut *lines;
        line(text, timestamp);
        true
    }

    /// Shows and removes all lines written so far, those of one worker together. `spare` is exchanged for a buffer with
    /// lines in it, and for the next when these were shown; kept between calls it spares the workers growing a new one.
    pub(super) fn take(&self, spare: &mut Vec<u8>, mut show: impl FnMut(&[u8])) {
        for buffer in &self.buffers {
            if buffer.0.lock().text.is_empty() {
                continue;
            }
            std::mem::swap(&mut buffer.0.lock().text, spare);
            show(spare);
            spare.clear();
            spare.shrink_to(KEPT);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_line_is_lost_or_torn_and_each_thread_keeps_its_order() {
        let buffers = LineBuffers::new();
        let (mut seen, mut spare) = (Vec::new(), Vec::new());
        std::thread::scope(|scope| {
            let writers: Vec<_> = (0..4)
                .map(|thread| {
                    let buffers = &buffers;
                    scope.spawn(move || {
                        for number in 0..1000 {
                            let line = format!("{thread} {number}\n");
                            assert!(
                                buffers
                                    .write(thread, |out, _| out.extend_from_slice(line.as_bytes()))
                            );
                        }
                    })
                })
                .collect();
            while writers.iter().any(|writer| !writer.is_finished()) {
                buffers.take(&mut spare, |lines| seen.extend_from_slice(lines));
            }
        });
        buffers.take(&mut spare, |lines| seen.extend_from_slice(lines));
        let text = String::from_utf8(seen).expect("text");
        for thread in 0..4 {
            let prefix = format!("{thread} ");
            let numbers = text.lines().filter_map(|line| line.strip_prefix(&prefix));
            let numbers: Vec<usize> = numbers.map(|n| n.parse().expect("number")).collect();
            assert_eq!(numbers, (0..1000).collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_full_buffer_takes_no_more() {
        let buffers = LineBuffers::new();
        assert!(buffers.write(0, |out, _| out.resize(MOST + 1, b'x')));
        assert!(!buffers.write(0, |_, _| {}));
        buffers.take(&mut Vec::new(), |_| {});
        assert!(buffers.write(0, |_, _| {}));
    }
}
