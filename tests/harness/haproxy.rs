//! HAProxy in front of the gateway, as it stands there in practice.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use super::ports;
use super::wait::{eventually, seconds};

/// A running HAProxy that passes connections on.
pub(crate) struct HaProxy {
    child: Child,
    address: SocketAddr,
    dir: TempDir,
}

impl HaProxy {
    /// Passes TCP connections on to `to`; `options` are those of its `server` line.
    pub(crate) fn before(to: SocketAddr, options: &str) -> Self {
        let dir = tempfile::Builder::new().prefix("tgh").tempdir().unwrap();
        let address = ports::reserve();
        let config = format!(
            "global\n  maxconn 256\n\
             defaults\n  mode tcp\n  timeout connect 5s\n  timeout client 30s\n  timeout server 30s\n\
             listen front\n  bind {address}\n  server gateway {to} {options}\n"
        );
        let file = dir.path().join("haproxy.cfg");
        fs::write(&file, config).unwrap();
        let said = fs::File::create(dir.path().join("log")).unwrap();
        let child = Command::new("/usr/sbin/haproxy")
            .args(["-db", "-f"])
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(said.try_clone().unwrap())
            .stderr(said)
            .spawn()
            .expect("haproxy is installed");
        let haproxy = Self {
            child,
            address,
            dir,
        };
        eventually(seconds(10), "haproxy listens", || {
            TcpStream::connect(address).is_ok()
        });
        haproxy
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for HaProxy {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let said = fs::read_to_string(self.dir.path().join("log")).unwrap_or_default();
            eprintln!("--- haproxy\n{said}");
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
