//! A Unix socket in front of an origin.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

/// A Unix socket that leads to `address`, byte for byte.
pub(crate) fn leads_to(path: &Path, address: SocketAddr) {
    let listener = UnixListener::bind(path).unwrap();
    std::thread::spawn(move || {
        for near in listener.incoming() {
            let (Ok(near), Ok(far)) = (near, TcpStream::connect(address)) else {
                return;
            };
            let (near2, far2) = (near.try_clone().unwrap(), far.try_clone().unwrap());
            std::thread::spawn(move || pump(near, far));
            std::thread::spawn(move || pump(far2, near2));
        }
    });
}

trait Closes {
    fn close(&self);
}

impl Closes for TcpStream {
    fn close(&self) {
        let _ = self.shutdown(Shutdown::Both);
    }
}

impl Closes for UnixStream {
    fn close(&self) {
        let _ = self.shutdown(Shutdown::Both);
    }
}

fn pump(mut from: impl Read + Closes, mut to: impl Write + Closes) {
    let mut piece = [0; 16 * 1024];
    while let Ok(read @ 1..) = from.read(&mut piece) {
        if to.write_all(&piece[..read]).is_err() {
            break;
        }
    }
    from.close();
    to.close();
}
