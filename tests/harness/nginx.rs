//! nginx as an origin: an HTTP implementation that nobody here wrote.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use super::ports;
use super::wait::{eventually, seconds};

/// A running nginx.
pub(crate) struct Nginx {
    child: Child,
    address: SocketAddr,
    dir: TempDir,
}

impl Nginx {
    /// nginx with `server` as the inside of its one server block. `{address}` and `{dir}` are filled in, and so is
    /// `{ssl}`, empty or the word itself; `files` are put into its folder first.
    pub(crate) fn with(server: &str, files: &[(&str, &str)]) -> Self {
        let dir = tempfile::Builder::new().prefix("tgn").tempdir().unwrap();
        let address = ports::reserve();
        let place = dir.path().display().to_string();
        for (name, text) in files {
            fs::write(dir.path().join(name), text).unwrap();
        }
        let server = server
            .replace("{address}", &address.to_string())
            .replace("{dir}", &place);
        let user = if nix::unistd::getuid().is_root() {
            "user root;"
        } else {
            ""
        };
        let config = format!(
            "daemon off; {user} worker_processes 1; pid {place}/pid; error_log {place}/error.log notice;\n\
             events {{ worker_connections 512; }}\n\
             http {{\n\
               access_log off; default_type text/plain; keepalive_requests 1000000;\n\
               client_body_temp_path {place}/body; proxy_temp_path {place}/proxy; fastcgi_temp_path {place}/fastcgi;\n\
               uwsgi_temp_path {place}/uwsgi; scgi_temp_path {place}/scgi;\n\
               server {{ {server} }}\n\
             }}\n"
        );
        fs::write(dir.path().join("nginx.conf"), config).unwrap();
        let child = Command::new("/usr/sbin/nginx")
            .args([
                "-e",
                &format!("{place}/error.log"),
                "-p",
                &place,
                "-c",
                &format!("{place}/nginx.conf"),
            ])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("nginx is installed (package nginx-light)");
        let nginx = Self {
            child,
            address,
            dir,
        };
        eventually(seconds(10), "nginx listens", || {
            TcpStream::connect(address).is_ok()
        });
        nginx
    }

    /// Answers every request with `name target`.
    pub(crate) fn named(name: &str) -> Self {
        let server = "listen {address}; location / { add_header X-Origin NAME; return 200 \"NAME $request_uri\"; }";
        Self::with(&server.replace("NAME", name), &[])
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn dir(&self) -> &std::path::Path {
        self.dir.path()
    }

    pub(crate) fn error_log(&self) -> String {
        fs::read_to_string(self.dir.path().join("error.log")).unwrap_or_default()
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- nginx\n{}", self.error_log());
        }
        let _ = nix::sys::signal::kill(
            nix::unistd::Pid::from_raw(self.child.id() as i32),
            nix::sys::signal::Signal::SIGTERM,
        );
        let _ = self.child.wait();
    }
}
