//! moto: an S3 server that nobody here wrote, where a Python with it is at hand.
#![allow(clippy::disallowed_methods, reason = "which Python to use is told by the environment")]

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use object_store::aws::AmazonS3;

use crate::client::{self, BUCKET};

/// Names the Python that has `moto[server]`.
pub const PYTHON: &str = "ATOMFLOW_TEST_PYTHON";

/// A running moto; stops when dropped.
pub struct Server {
    child: Child,
    endpoint: String,
}

impl Server {
    /// Starts moto with an empty bucket, or says on stderr why the test goes on without it.
    pub fn start() -> Option<Server> {
        let Ok(python) = std::env::var(PYTHON) else {
            eprintln!("skipped: moto ({PYTHON} does not name a Python that has moto[server])");
            return None;
        };
        let import = Command::new(&python).args(["-c", "import moto.server"]).stderr(Stdio::null()).status();
        if !import.is_ok_and(|status| status.success()) {
            eprintln!("skipped: moto ({PYTHON}={python} cannot import moto.server)");
            return None;
        }
        Some(Self::start_with(&python))
    }

    fn start_with(python: &str) -> Server {
        let port = free_port();
        let program = format!("from moto.server import main; main(['-H', '127.0.0.1', '-p', '{port}'])");
        let mut command = Command::new(python);
        command.args(["-c", &program]).stdout(Stdio::null()).stderr(Stdio::null());
        let server = Server { child: command.spawn().unwrap(), endpoint: format!("http://127.0.0.1:{port}") };
        create_bucket(port);
        server
    }

    /// `http://127.0.0.1:<port>`.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// An impatient client of the bucket.
    pub fn client(&self) -> Arc<AmazonS3> {
        client::s3(&self.endpoint)
    }

    /// What a child process needs in its environment to use the server.
    pub fn env(&self) -> Vec<(String, String)> {
        client::env(&self.endpoint)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Waits until the server listens. moto checks no signatures, so plain HTTP will do.
fn create_bucket(port: u16) {
    for _ in 0..300 {
        let Ok(mut socket) = TcpStream::connect(("127.0.0.1", port)) else {
            std::thread::sleep(Duration::from_millis(100));
            continue;
        };
        let request = format!(
            "PUT /{BUCKET} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        );
        socket.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "moto does not create a bucket: {answer}");
        return;
    }
    panic!("moto does not listen on port {port}");
}
