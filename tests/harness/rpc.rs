//! A client and a server of gRPC of another make: `tests/fixtures/rpc.py`.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

/// A server of gRPC, ended with the test.
pub(crate) struct RpcServer {
    child: Child,
    pub(crate) port: u16,
}

/// The fixture, for arguments.
pub(crate) fn rpc() -> Command {
    let python =
        std::env::var("TOLLGATE_TEST_PYTHON").unwrap_or_else(|_| "/usr/bin/python3".to_owned());
    let mut command = Command::new(python);
    command.arg(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/fixtures/rpc.py"
    ));
    command
}

impl RpcServer {
    pub(crate) fn start() -> Self {
        let mut child = rpc()
            .arg("serve")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3 with grpc is installed (python3-grpcio)");
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap())
            .read_line(&mut line)
            .unwrap();
        let port = line.trim().parse().expect("python3-grpcio is installed");
        Self { child, port }
    }
}

impl Drop for RpcServer {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
