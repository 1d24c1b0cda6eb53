//! An S3 server in the test process: `s3s` over a temporary directory, a lock per key, and faults.
//!
//! `s3s-fs` checks for existence and then writes, so two racing creators could both win; the lock
//! makes create-if-absent what it is on real stores.

use std::{
    collections::HashMap,
    io,
    path::PathBuf,
    sync::{Arc, Mutex, mpsc},
    thread::JoinHandle,
};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, StreamBody};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use object_store::aws::AmazonS3;
use s3s::{
    Body,
    auth::SimpleAuth,
    service::{S3Service, S3ServiceBuilder},
};
use s3s_fs::FileSystem;
use tempfile::TempDir;
use tokio::{net::TcpListener, net::TcpStream, runtime, sync::oneshot};

use crate::{
    client::{self, ACCESS_KEY, BUCKET, SECRET_KEY},
    fault::{Fault, Kind},
};

/// A running server; stops when dropped. Blocking tests can use it: it has its own threads.
pub struct Server {
    endpoint: String,
    state: Arc<State>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
    directory: TempDir,
}

struct State {
    service: S3Service,
    locks: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
    faults: Mutex<Vec<Fault>>,
    dice: Mutex<u64>,
    requests: Mutex<Vec<(String, String)>>,
    hits: Mutex<u64>,
}

impl Server {
    /// Starts a server with an empty bucket [`BUCKET`] on a free port of 127.0.0.1.
    pub fn start() -> Server {
        let directory = TempDir::new().unwrap();
        std::fs::create_dir(directory.path().join(BUCKET)).unwrap();
        let state = Arc::new(State::new(&directory));
        let (stop, stopped) = oneshot::channel();
        let (send_port, port) = mpsc::channel();
        let thread = std::thread::spawn({
            let state = state.clone();
            move || {
                let runtime =
                    runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
                runtime.block_on(serve(state, send_port, stopped));
                runtime.shutdown_background();
            }
        });
        let endpoint = format!("http://127.0.0.1:{}", port.recv().unwrap());
        Server { endpoint, state, stop: Some(stop), thread: Some(thread), directory }
    }

    /// `http://127.0.0.1:<port>`.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// `s3://<bucket>/<path>`.
    pub fn url(&self, path: &str) -> String {
        format!("s3://{BUCKET}/{path}")
    }

    /// An impatient client of the bucket.
    pub fn client(&self) -> Arc<AmazonS3> {
        client::s3(&self.endpoint)
    }

    /// What a child process needs in its environment to use the server.
    pub fn env(&self) -> Vec<(String, String)> {
        client::env(&self.endpoint)
    }

    /// Where the bucket's objects lie as files, for tests that look or tamper.
    pub fn bucket_directory(&self) -> PathBuf {
        self.directory.path().join(BUCKET)
    }

    /// Adds a fault; of several that meet a request, the first one added happens.
    pub fn fault(&self, fault: Fault) {
        self.state.faults.lock().unwrap().push(fault);
    }

    /// From now on nothing goes wrong.
    pub fn clear_faults(&self) {
        self.state.faults.lock().unwrap().clear();
    }

    /// Requests so far.
    pub fn requests(&self) -> usize {
        self.state.requests.lock().unwrap().len()
    }

    /// Requests so far of `method` whose path (bucket and key) contains `part`.
    pub fn requests_of(&self, method: &str, part: &str) -> usize {
        let requests = self.state.requests.lock().unwrap();
        requests.iter().filter(|(m, path)| m == method && path.contains(part)).count()
    }

    /// Requests so far that met a fault.
    pub fn faults_met(&self) -> u64 {
        *self.state.hits.lock().unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.take().map(|stop| stop.send(()));
        self.thread.take().map(JoinHandle::join);
    }
}

impl State {
    fn new(directory: &TempDir) -> State {
        let mut builder = S3ServiceBuilder::new(FileSystem::new(directory.path()).unwrap());
        builder.set_auth(SimpleAuth::from_single(ACCESS_KEY, SECRET_KEY));
        State {
            service: builder.build(),
            locks: Mutex::default(),
            faults: Mutex::default(),
            dice: Mutex::new(1),
            requests: Mutex::default(),
            hits: Mutex::default(),
        }
    }

    fn lock_of(&self, path: &str) -> Arc<tokio::sync::Mutex<()>> {
        self.locks.lock().unwrap().entry(path.to_owned()).or_default().clone()
    }

    /// The fault this request meets, if any.
    fn draw(&self, method: &str, path: &str) -> Option<Kind> {
        self.requests.lock().unwrap().push((method.to_owned(), path.to_owned()));
        let mut faults = self.faults.lock().unwrap();
        let met =
            faults.iter_mut().find_map(|fault| fault.meets(method, path, self.roll()).then_some(fault.kind));
        *self.hits.lock().unwrap() += u64::from(met.is_some());
        met
    }

    /// SplitMix64: the same faults in the same order of requests.
    fn roll(&self) -> f64 {
        let mut state = self.dice.lock().unwrap();
        *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = *state;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((x ^ (x >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }
}

async fn serve(state: Arc<State>, port: mpsc::Sender<u16>, mut stopped: oneshot::Receiver<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    port.send(listener.local_addr().unwrap().port()).unwrap();
    loop {
        tokio::select! {
            _ = &mut stopped => return,
            accepted = listener.accept() => {
                if let Ok((socket, _)) = accepted {
                    tokio::spawn(converse(state.clone(), socket));
                }
            }
        }
    }
}

async fn converse(state: Arc<State>, socket: TcpStream) {
    let _ = socket.set_nodelay(true);
    let service = service_fn(move |request| answer(state.clone(), request));
    let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(socket), service).await;
}

/// An error makes hyper drop the connection.
async fn answer(state: Arc<State>, request: Request<Incoming>) -> io::Result<Response<Body>> {
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    match state.draw(method.as_str(), &path) {
        None => carry_out(&state, request).await,
        Some(Kind::DropBefore) => Err(io::Error::other("dropped before")),
        Some(Kind::Refuse(status, code)) => Ok(refusal(status, code)),
        Some(Kind::Delay(delay)) => {
            tokio::time::sleep(delay).await;
            carry_out(&state, request).await
        }
        Some(Kind::DropAfter) => {
            carry_out(&state, request).await?;
            Err(io::Error::other("dropped after"))
        }
        Some(Kind::CutBody) => cut(carry_out(&state, request).await?).await,
    }
}

async fn carry_out(state: &State, request: Request<Incoming>) -> io::Result<Response<Body>> {
    // The task goes on even if the client hangs up: a request that arrived is carried out, as on
    // a real store. Otherwise an impatient client could leave half a write behind.
    let (service, lock) = (state.service.clone(), state.lock_of(request.uri().path()));
    let writes = !matches!(*request.method(), Method::GET | Method::HEAD);
    let task = tokio::spawn(async move {
        let _guard = if writes { Some(lock.lock().await) } else { None };
        hyper::service::Service::call(&service, request).await.map_err(|e| io::Error::other(format!("{e:?}")))
    });
    task.await.map_err(io::Error::other)?
}

fn refusal(status: u16, code: &str) -> Response<Body> {
    let body =
        format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>a test says so</Message></Error>");
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    response
}

/// The headers promise the whole body; half of it comes.
async fn cut(response: Response<Body>) -> io::Result<Response<Body>> {
    let (head, body) = response.into_parts();
    let whole = body.collect().await.map_err(io::Error::other)?.to_bytes();
    let half = Ok(http_body::Frame::data(whole.slice(..whole.len() / 2)));
    let frames: [io::Result<http_body::Frame<Bytes>>; 2] = [half, Err(io::Error::other("cut"))];
    let body = StreamBody::new(futures::stream::iter(frames));
    Ok(Response::from_parts(head, Body::http_body_unsync(body)))
}
