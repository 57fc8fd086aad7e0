//! The PROXY protocol, versions 1 and 2: what a load balancer says about a client before the client's own bytes.
//!
//! Written after the protocol's text (haproxy.org, `proxy-protocol.txt`). [`length`] tells from the bytes read so far
//! where the header ends, so that not a byte behind it is taken; [`client`] reads a whole one. What the text leaves to
//! the receiver is decided strictly: a header that could be read in two ways is none.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use thiserror::Error;

/// Longest header of version 1, its line end included.
const LONGEST_V1: usize = 107;
/// Longest header of version 2 that is taken. The protocol's text expects a few hundred bytes; certificates' names and
/// cloud providers' own fields come on top.
pub const LONGEST: usize = 4096;
/// What version 2 begins with.
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// Signature, version and command, family, length.
const FIXED: usize = 16;

/// What is wrong with a header.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum Malformed {
    /// Neither version begins like this.
    #[error("it does not begin with a PROXY header")]
    Missing,
    /// More than [`LONGEST`] bytes, or 107 of version 1.
    #[error("the PROXY header is too long")]
    TooLong,
    /// A line of version 1 that says nothing.
    #[error("the PROXY line is malformed")]
    Line,
    /// An unknown version, command, family or transport.
    #[error("the PROXY header has an unknown version, command or family")]
    Unknown,
    /// The addresses or the fields behind them do not fit into the header.
    #[error("the PROXY header is cut short")]
    Short,
    /// The checksum says that some of it was changed.
    #[error("the checksum of the PROXY header is wrong")]
    Checksum,
}

/// Length of the header that `bytes` begins with; `None` while more of it has to come.
pub fn length(bytes: &[u8]) -> Result<Option<usize>, Malformed> {
    match bytes.first() {
        None => Ok(None),
        Some(b'P') => length_v1(bytes),
        Some(_) => length_v2(bytes),
    }
}

fn length_v1(bytes: &[u8]) -> Result<Option<usize>, Malformed> {
    begins(bytes, b"PROXY ")?;
    let within = &bytes[..bytes.len().min(LONGEST_V1)];
    match memchr::memchr2(b'\r', b'\n', within) {
        None if within.len() == LONGEST_V1 => Err(Malformed::TooLong),
        None => Ok(None),
        Some(end) => match within[end..] {
            [b'\r', b'\n', ..] => Ok(Some(end + 2)),
            [b'\r'] if within.len() < LONGEST_V1 => Ok(None),
            [b'\r'] => Err(Malformed::TooLong),
            _ => Err(Malformed::Line),
        },
    }
}

fn length_v2(bytes: &[u8]) -> Result<Option<usize>, Malformed> {
    begins(bytes, SIGNATURE)?;
    let Some(fixed) = bytes.first_chunk::<FIXED>() else {
        return Ok(None);
    };
    let [.., high, low] = *fixed;
    let length = FIXED + usize::from(u16::from_be_bytes([high, low]));
    if length > LONGEST {
        return Err(Malformed::TooLong);
    }
    Ok((bytes.len() >= length).then_some(length))
}

/// Whether `bytes`, perhaps not all here, begin with `wanted`.
fn begins(bytes: &[u8], wanted: &[u8]) -> Result<(), Malformed> {
    let here = bytes.len().min(wanted.len());
    if bytes[..here] == wanted[..here] {
        Ok(())
    } else {
        Err(Malformed::Missing)
    }
}

/// The client that a whole header announces. `None`: the connection is the sender's own, or the client has no address
/// of a kind we know, and the connection's address stands.
pub fn client(header: &[u8]) -> Result<Option<IpAddr>, Malformed> {
    if header.first() == Some(&b'P') {
        client_v1(header)
    } else {
        client_v2(header)
    }
}

fn client_v1(header: &[u8]) -> Result<Option<IpAddr>, Malformed> {
    let line = header
        .strip_prefix(b"PROXY ")
        .and_then(|line| line.strip_suffix(b"\r\n"))
        .ok_or(Malformed::Line)?;
    if line == b"UNKNOWN" || line.starts_with(b"UNKNOWN ") {
        // Whatever follows is to be ignored.
        return Ok(None);
    }
    let line = std::str::from_utf8(line).map_err(|_| Malformed::Line)?;
    let words: Vec<&str> = line.split(' ').collect();
    let [family, source, destination, source_port, destination_port] = words[..] else {
        return Err(Malformed::Line);
    };
    let client = match family {
        "TCP4" => both::<Ipv4Addr>(source, destination).map(IpAddr::V4),
        "TCP6" => both::<Ipv6Addr>(source, destination).map(IpAddr::V6),
        _ => None,
    };
    let ports = is_port(source_port) && is_port(destination_port);
    client
        .filter(|_| ports)
        .map(|client| Some(client.to_canonical()))
        .ok_or(Malformed::Line)
}

/// The first of two addresses of one family.
fn both<A: std::str::FromStr>(source: &str, destination: &str) -> Option<A> {
    destination.parse::<A>().ok()?;
    source.parse().ok()
}

/// Digits without sign or leading zeros.
fn is_port(text: &str) -> bool {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit());
    plain && (text == "0" || !text.starts_with('0')) && text.parse::<u16>().is_ok()
}

fn client_v2(header: &[u8]) -> Result<Option<IpAddr>, Malformed> {
    let (fixed, rest) = header
        .split_first_chunk::<FIXED>()
        .ok_or(Malformed::Short)?;
    let [.., command, family, _, _] = *fixed;
    match command {
        // LOCAL: the sender's own connection, a health check for instance; all else is to be ignored.
        0x20 => return Ok(None),
        0x21 => {}
        _ => return Err(Malformed::Unknown),
    }
    let (family, transport) = (family >> 4, family & 0xf);
    if transport > 2 {
        return Err(Malformed::Unknown);
    }
    let addresses = match family {
        0 => return Ok(None),
        1 => 12,
        2 => 36,
        3 => 216,
        _ => return Err(Malformed::Unknown),
    };
    let (addresses, fields) = rest.split_at_checked(addresses).ok_or(Malformed::Short)?;
    check_fields(header, fields)?;
    let stream = transport == 1;
    let client = match family {
        1 => addresses.first_chunk::<4>().map(|ip| IpAddr::from(*ip)),
        2 => addresses.first_chunk::<16>().map(|ip| IpAddr::from(*ip)),
        _ => None,
    };
    Ok(client.filter(|_| stream).map(|ip| ip.to_canonical()))
}

/// Type of the field that holds a CRC32c of the whole header, computed with zeros in its own place.
const CRC32C: u8 = 3;

/// Walks the fields behind the addresses; none of them means anything to us, save the checksum.
fn check_fields(header: &[u8], fields: &[u8]) -> Result<(), Malformed> {
    let mut rest = fields;
    while let [kind, after @ ..] = rest {
        let (length, after) = after.split_first_chunk::<2>().ok_or(Malformed::Short)?;
        let length = usize::from(u16::from_be_bytes(*length));
        let (value, after) = after.split_at_checked(length).ok_or(Malformed::Short)?;
        if *kind == CRC32C {
            let given: &[u8; 4] = value.try_into().map_err(|_| Malformed::Checksum)?;
            let at = header.len() - after.len() - value.len();
            let sum = crc32c::crc32c(&header[..at]);
            let sum = crc32c::crc32c_append(sum, &[0; 4]);
            let sum = crc32c::crc32c_append(sum, after);
            if sum != u32::from_be_bytes(*given) {
                return Err(Malformed::Checksum);
            }
        }
        rest = after;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("address")
    }

    /// A header of version 2: command, family, and what follows the fixed part.
    fn v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let length = u16::try_from(rest.len()).expect("short");
        let mut header = SIGNATURE.to_vec();
        header.extend([command, family]);
        header.extend(length.to_be_bytes());
        header.extend(rest);
        header
    }

    fn addresses_v4() -> Vec<u8> {
        vec![203, 0, 113, 7, 10, 0, 0, 1, 0x1f, 0x90, 0, 80]
    }

    /// The header with a right checksum behind it.
    fn summed(mut rest: Vec<u8>) -> Vec<u8> {
        rest.extend([CRC32C, 0, 4, 0, 0, 0, 0]);
        let mut header = v2(0x21, 0x11, &rest);
        let sum = crc32c::crc32c(&header);
        let end = header.len();
        header[end - 4..].copy_from_slice(&sum.to_be_bytes());
        header
    }

    #[test]
    fn reads_lines() {
        for (line, client_ip) in [
            ("TCP4 203.0.113.7 10.0.0.1 8080 80", Some(ip("203.0.113.7"))),
            ("TCP6 2001:db8::7 ::1 65535 0", Some(ip("2001:db8::7"))),
            ("TCP6 ::ffff:203.0.113.7 ::1 1 1", Some(ip("203.0.113.7"))),
            ("UNKNOWN", None),
            ("UNKNOWN ffff::1 what ever\0", None),
        ] {
            let header = format!("PROXY {line}\r\n");
            assert_eq!(length(header.as_bytes()), Ok(Some(header.len())), "{line}");
            assert_eq!(client(header.as_bytes()), Ok(client_ip), "{line}");
        }
    }

    #[test]
    fn refuses_lines_that_can_be_read_in_two_ways() {
        for line in [
            "",
            "TCP4",
            "TCP4 203.0.113.7 10.0.0.1 8080",
            "TCP4 203.0.113.7 10.0.0.1 8080 80 ",
            "TCP4  203.0.113.7 10.0.0.1 8080 80",
            "TCP4\t203.0.113.7 10.0.0.1 8080 80",
            "TCP4 203.0.113.07 10.0.0.1 8080 80",
            "TCP4 203.0.113 10.0.0.1 8080 80",
            "TCP4 203.0.113.7 10.0.0.1 08080 80",
            "TCP4 203.0.113.7 10.0.0.1 +8080 80",
            "TCP4 203.0.113.7 10.0.0.1 65536 80",
            "TCP4 ::1 10.0.0.1 1 1",
            "TCP4 203.0.113.7 ::1 1 1",
            "TCP6 203.0.113.7 10.0.0.1 1 1",
            "TCP6 [::1] ::1 1 1",
            "TCP6 fe80::1%eth0 ::1 1 1",
            "UDP4 203.0.113.7 10.0.0.1 1 1",
            "UNKNOWNX",
        ] {
            let header = format!("PROXY {line}\r\n");
            assert_eq!(client(header.as_bytes()), Err(Malformed::Line), "{line:?}");
        }
    }

    #[test]
    fn a_line_ends_within_107_bytes() {
        let longest = format!("PROXY UNKNOWN {}\r\n", "x".repeat(107 - 16));
        assert_eq!(longest.len(), 107);
        assert_eq!(length(longest.as_bytes()), Ok(Some(107)));
        let longer = format!("PROXY UNKNOWN {}\r\n", "x".repeat(108 - 16));
        assert_eq!(length(longer.as_bytes()), Err(Malformed::TooLong));
        assert_eq!(length(&longer.as_bytes()[..107]), Err(Malformed::TooLong));
        assert_eq!(length(&longer.as_bytes()[..106]), Ok(None));
        assert_eq!(length(b"PROXY UNKNOWN\n"), Err(Malformed::Line));
        assert_eq!(length(b"PROXY UNKNOWN\rX"), Err(Malformed::Line));
    }

    #[test]
    fn reads_binary_headers() {
        let v6: Vec<u8> = [&[0x20, 1, 0xd, 0xb8][..], &[0; 11], &[7], &[0; 20]].concat();
        let tlv = [&addresses_v4()[..], &[0x04, 0, 2, 9, 9]].concat();
        for (command, family, rest, client_ip) in [
            (0x21, 0x11, addresses_v4(), Some(ip("203.0.113.7"))),
            (0x21, 0x11, tlv, Some(ip("203.0.113.7"))),
            (0x21, 0x21, v6, Some(ip("2001:db8::7"))),
            (0x21, 0x31, vec![b'/'; 216], None),
            (0x21, 0x00, vec![1, 2, 3], None),
            (0x21, 0x12, addresses_v4(), None),
            (0x20, 0x00, vec![], None),
            (0x20, 0x11, vec![1, 2, 3], None),
        ] {
            let header = v2(command, family, &rest);
            assert_eq!(length(&header), Ok(Some(header.len())));
            assert_eq!(client(&header), Ok(client_ip), "{command:x} {family:x}");
        }
    }

    #[test]
    fn refuses_broken_binary_headers() {
        let field = |field: &[u8]| [&addresses_v4()[..], field].concat();
        for (header, why) in [
            (v2(0x11, 0x11, &addresses_v4()), Malformed::Unknown),
            (v2(0x22, 0x11, &addresses_v4()), Malformed::Unknown),
            (v2(0x21, 0x41, &[0; 300]), Malformed::Unknown),
            (v2(0x21, 0x13, &addresses_v4()), Malformed::Unknown),
            (v2(0x21, 0x11, &[1; 11]), Malformed::Short),
            (v2(0x21, 0x21, &[1; 35]), Malformed::Short),
            (v2(0x21, 0x31, &[1; 215]), Malformed::Short),
            (v2(0x21, 0x11, &field(&[4, 0])), Malformed::Short),
            (v2(0x21, 0x11, &field(&[4, 0, 2, 1])), Malformed::Short),
            (
                v2(0x21, 0x11, &field(&[CRC32C, 0, 4, 1, 2, 3, 4])),
                Malformed::Checksum,
            ),
            (
                v2(0x21, 0x11, &field(&[CRC32C, 0, 1, 1])),
                Malformed::Checksum,
            ),
        ] {
            assert_eq!(client(&header), Err(why));
        }
        assert_eq!(length(&v2(0x21, 0x11, &[0; 4081])), Err(Malformed::TooLong));
        assert_eq!(length(&v2(0x21, 0x11, &[0; 4080])), Ok(Some(LONGEST)));
        assert_eq!(length(b"GET / HTTP/1.1\r\n"), Err(Malformed::Missing));
        assert_eq!(length(b"POST / HTTP/1.1"), Err(Malformed::Missing));
        assert_eq!(length(b"\x16\x03\x01"), Err(Malformed::Missing));
    }

    #[test]
    fn a_checksum_covers_every_byte() {
        let header = summed([&addresses_v4()[..], &[4, 0, 1, 7]].concat());
        assert_eq!(client(&header), Ok(Some(ip("203.0.113.7"))));
        // All but the type of the field that holds it, which makes it another field.
        let kind = header.len() - 7;
        for at in (FIXED..header.len()).filter(|at| *at != kind) {
            let mut changed = header.clone();
            changed[at] ^= 0x40;
            assert!(client(&changed).is_err(), "byte {at}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_cause_a_panic_or_an_endless_wait(bytes in any::<Vec<u8>>(), kind in 0..3) {
            let start: &[u8] = [&b""[..], b"PROXY ", SIGNATURE][kind as usize];
            let bytes = [start, &bytes[..]].concat();
            if let Ok(Some(end)) = length(&bytes) {
                prop_assert!(end <= bytes.len() && end <= LONGEST);
                let _ = client(&bytes[..end]);
            }
            let _ = client(&bytes);
            let full = [&bytes[..], &[b'x'; LONGEST]].concat();
            prop_assert_ne!(length(&full), Ok(None));
        }

        #[test]
        fn every_split_of_a_header_finds_the_same_end(
            source: Ipv4Addr,
            ports: (u16, u16),
            fields in proptest::collection::vec(any::<u8>(), 0..40),
            behind: Vec<u8>,
        ) {
            let line = format!("PROXY TCP4 {source} 10.0.0.1 {} {}\r\n", ports.0, ports.1);
            let value = [&[4, 0, fields.len() as u8], &fields[..]].concat();
            let mut rest = addresses_v4();
            rest[..4].copy_from_slice(&source.octets());
            rest.extend(value);
            for header in [line.into_bytes(), v2(0x21, 0x11, &rest), summed(rest)] {
                let all = [&header[..], &behind[..]].concat();
                for cut in 0..header.len() {
                    prop_assert_eq!(length(&all[..cut]), Ok(None));
                }
                for cut in header.len()..=all.len() {
                    prop_assert_eq!(length(&all[..cut]), Ok(Some(header.len())));
                }
                prop_assert_eq!(client(&header), Ok(Some(IpAddr::V4(source))));
            }
        }
    }
}
