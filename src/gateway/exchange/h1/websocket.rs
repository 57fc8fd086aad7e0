//! WebSocket messages as they pass: where frames begin and end (RFC 6455 §5.2). Nothing is read of what they say.

/// One direction of a WebSocket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Frames {
    at: At,
    /// A close frame passed: nothing may follow.
    closed: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum At {
    /// The first byte of a frame.
    #[default]
    Start,
    /// The byte with the mask bit and the length.
    Length,
    /// Further bytes of the length: how many, and their value so far; then a mask of so many bytes.
    Longer { left: u8, value: u64, mask: u64 },
    /// So many bytes of mask and payload.
    Payload(u64),
}

/// Going away (RFC 6455 §7.4.1), from us to a client.
pub(super) const CLOSE_TO_CLIENT: [u8; 4] = [0x88, 2, 0x03, 0xe9];
/// Going away, from us to an endpoint: what a client sends is masked. That the mask is known harms nobody, since the
/// payload is ours.
pub(super) const CLOSE_TO_ENDPOINT: [u8; 8] = [0x88, 0x82, 0, 0, 0, 0, 0x03, 0xe9];

const CLOSE: u8 = 8;

impl Frames {
    /// Follows bytes that passed.
    pub(super) fn passed(&mut self, mut bytes: &[u8]) {
        while let [first, rest @ ..] = bytes {
            if let At::Payload(left) = self.at {
                let taken = bytes.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                self.at = payload(left - taken as u64);
                bytes = &bytes[taken..];
                continue;
            }
            self.at = match self.at {
                At::Start => {
                    self.closed |= first & 0x0f == CLOSE;
                    At::Length
                }
                At::Length => {
                    let mask = if first & 0x80 == 0 { 0 } else { 4 };
                    match first & 0x7f {
                        126 => longer(2, mask),
                        127 => longer(8, mask),
                        length => payload(u64::from(length) + mask),
                    }
                }
                At::Longer { left, value, mask } => {
                    let value = value << 8 | u64::from(*first);
                    match left {
                        1 => payload(value.saturating_add(mask)),
                        _ => At::Longer {
                            left: left - 1,
                            value,
                            mask,
                        },
                    }
                }
                at @ At::Payload(_) => at,
            };
            bytes = rest;
        }
    }

    /// Whether a close frame may follow: between two frames, and none passed yet.
    pub(super) fn may_close(&self) -> bool {
        self.at == At::Start && !self.closed
    }
}

fn longer(left: u8, mask: u64) -> At {
    At::Longer {
        left,
        value: 0,
        mask,
    }
}

fn payload(left: u64) -> At {
    match left {
        0 => At::Start,
        left => At::Payload(left),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(bytes: &[u8], step: usize) -> Frames {
        let mut frames = Frames::default();
        bytes.chunks(step).for_each(|piece| frames.passed(piece));
        frames
    }

    #[test]
    fn a_close_frame_may_follow_between_two_frames() {
        let long = [&[0x82, 126, 1, 0][..], &[7; 256]].concat();
        let longest = [&[0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0][..], &[7; 65_536]].concat();
        let masked = [&[0x81, 0x85][..], &[1; 4], b"hello"].concat();
        for frame in [&long[..], &longest, &masked, &[0x89, 0], &[0x01, 1, b'a']] {
            for step in [1, 3, frame.len()] {
                assert!(after(frame, step).may_close(), "{:?}", &frame[..2]);
                let cut = &frame[..frame.len() - 1];
                assert!(!after(cut, step).may_close(), "{:?}", &frame[..2]);
                let two = [frame, frame].concat();
                assert!(after(&two, step).may_close());
            }
        }
    }

    #[test]
    fn nothing_follows_a_close_frame() {
        assert!(!after(&CLOSE_TO_CLIENT, 1).may_close());
        assert!(!after(&CLOSE_TO_ENDPOINT, 8).may_close());
    }
}
