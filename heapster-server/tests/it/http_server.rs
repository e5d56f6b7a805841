//! The server over real sockets: what clients may not do, and how it ends.

use std::sync::Arc;
use std::time::Duration;

use heapster_server::http::{Route, Router, ServerOptions, serve, text};
use heapster_server::telemetry::Registry;
use heapster_store::SystemClock;
use http::StatusCode;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinHandle;
use tokio::time::timeout;

struct Server {
    address: std::net::SocketAddr,
    stop: oneshot::Sender<()>,
    running: JoinHandle<()>,
    /// Notified when a request of `/wait` has come in.
    entered: Arc<Notify>,
    /// Lets a request of `/wait` go on.
    proceed: Arc<Notify>,
}

/// Bytes of the answer of `/large`; far more than sockets buffer.
const LARGE: usize = 32 << 20;

async fn start(options: ServerOptions) -> Server {
    let (entered, proceed) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let mut router = Router::new(Arc::new(Registry::default()), Arc::new(SystemClock::new()));
    router.route(Route::exact("/hello", |_| async { text(StatusCode::OK, "hello") }));
    router.route(Route::exact("/panic", |_| async { panic!("on purpose") }));
    router
        .route(Route::exact("/echo", |request| async move { text(StatusCode::OK, request.body) }));
    router.route(Route::exact("/large", |_| async { text(StatusCode::OK, vec![b'x'; LARGE]) }));
    let (own_entered, own_proceed) = (Arc::clone(&entered), Arc::clone(&proceed));
    router.route(Route::exact("/wait", move |_| {
        let (entered, proceed) = (Arc::clone(&own_entered), Arc::clone(&own_proceed));
        async move {
            entered.notify_one();
            proceed.notified().await;
            text(StatusCode::OK, "waited")
        }
    }));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel();
    let running = tokio::spawn(async move {
        serve(listener, Arc::new(router), options, async {
            let _ = stopped.await;
        })
        .await;
    });
    Server { address, stop, running, entered, proceed }
}

impl Server {
    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Sends bytes on a connection of their own and reads until the server closes it.
    async fn exchange(&self, request: &[u8]) -> String {
        let mut stream = self.connect().await;
        // The server may refuse and close before it has read everything.
        let _ = stream.write_all(request).await;
        read_all(&mut stream).await
    }
}

async fn read_all(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    let mut buffer = [0; 4096];
    while let Ok(read @ 1..) = stream.read(&mut buffer).await {
        answer.extend_from_slice(&buffer[..read]);
    }
    String::from_utf8(answer).unwrap()
}

fn get(path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").into_bytes()
}

fn status(answer: &str) -> &str {
    answer.split(' ').nth(1).unwrap_or(answer)
}

#[tokio::test]
async fn a_connection_serves_many_requests() {
    let server = start(ServerOptions::default()).await;
    let mut stream = server.connect().await;
    let one = b"GET /hello HTTP/1.1\r\nHost: localhost\r\n\r\n";
    stream.write_all(&one.repeat(2)).await.unwrap();
    stream.write_all(&get("/hello")).await.unwrap();
    let answer = read_all(&mut stream).await;
    assert_eq!(answer.matches("HTTP/1.1 200 OK").count(), 3, "{answer}");
    assert!(answer.ends_with("\r\n\r\nhello"), "{answer}");
}

#[tokio::test]
async fn a_client_that_is_slow_with_its_header_is_cut_off() {
    let options =
        ServerOptions { header_timeout: Duration::from_millis(50), ..ServerOptions::default() };
    let server = start(options).await;
    for sent in [&b""[..], b"GET /hello HTT", b"GET /hello HTTP/1.1\r\nHost: localhost\r\n"] {
        let answer = server.exchange(sent).await;
        assert!(!answer.contains("200"), "{answer}");
    }
    assert_eq!(status(&server.exchange(&get("/hello")).await), "200");
}

#[tokio::test]
async fn what_is_too_large_is_refused() {
    let options = ServerOptions { body_bytes_max: 1000, ..ServerOptions::default() };
    let server = start(options).await;
    let long_uri = get(&format!("/hello?{}", "x".repeat(9_000)));
    assert_eq!(status(&server.exchange(&long_uri).await), "414");
    let many_headers = format!("GET /hello HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(101));
    assert_eq!(status(&server.exchange(many_headers.as_bytes()).await), "431");
    let long_header = format!(
        "GET /hello HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\na: {}\r\n\r\n",
        "b".repeat(40_000)
    );
    assert_eq!(status(&server.exchange(long_header.as_bytes()).await), "431");
    let announced = b"POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1001\r\n\r\n";
    assert_eq!(status(&server.exchange(announced).await), "413");
    let chunk = format!("3e9\r\n{}\r\n0\r\n\r\n", "x".repeat(1001));
    let chunked = format!(
        "POST /echo HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n{chunk}"
    );
    assert_eq!(status(&server.exchange(chunked.as_bytes()).await), "413");
    let small =
        b"POST /echo HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 2\r\n\r\nhi";
    assert!(server.exchange(small).await.ends_with("\r\n\r\nhi"));
}

#[tokio::test]
async fn a_request_that_takes_too_long_is_given_up() {
    let options =
        ServerOptions { request_timeout: Duration::from_millis(50), ..ServerOptions::default() };
    let server = start(options).await;
    assert_eq!(status(&server.exchange(&get("/wait")).await), "503");
    let half_a_body = b"POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nhi";
    assert_eq!(status(&server.exchange(half_a_body).await), "408");
}

#[tokio::test]
async fn a_panic_does_not_end_the_server() {
    let server = start(ServerOptions::default()).await;
    assert_eq!(status(&server.exchange(&get("/panic")).await), "500");
    assert_eq!(status(&server.exchange(&get("/hello")).await), "200");
}

#[tokio::test]
async fn connections_beyond_the_limit_wait_for_their_turn() {
    let server = start(ServerOptions { connections_max: 1, ..ServerOptions::default() }).await;
    let mut first = server.connect().await;
    first.write_all(&get("/wait")).await.unwrap();
    server.entered.notified().await;
    let mut second = server.connect().await;
    second.write_all(&get("/hello")).await.unwrap();
    // The first connection holds the only slot; without the limit the answer is there at once.
    let answered = timeout(Duration::from_millis(100), second.readable()).await;
    assert!(answered.is_err(), "the second connection waits");
    server.proceed.notify_one();
    assert_eq!(status(&read_all(&mut first).await), "200");
    assert_eq!(status(&read_all(&mut second).await), "200");
}

#[tokio::test]
async fn a_connection_without_a_request_makes_room_for_a_new_one() {
    let hour = Duration::from_secs(3600);
    let server = start(ServerOptions {
        connections_max: 3,
        header_timeout: hour,
        ..ServerOptions::default()
    })
    .await;
    let mut busy = server.connect().await;
    busy.write_all(&get("/wait")).await.unwrap();
    server.entered.notified().await;
    let mut idle = [server.connect().await, server.connect().await];
    for stream in &mut idle {
        // Half a header is no request.
        stream.write_all(b"GET /hello HTTP/1.1\r\nx").await.unwrap();
    }
    for _ in 0..10 {
        let mut stream = server.connect().await;
        stream.write_all(&get("/hello")).await.unwrap();
        assert_eq!(status(&read_all(&mut stream).await), "200");
    }
    let [mut first, _] = idle;
    let mut byte = [0];
    assert!(matches!(first.read(&mut byte).await, Ok(0) | Err(_)), "it is closed");
    server.proceed.notify_one();
    assert_eq!(status(&read_all(&mut busy).await), "200");
}

#[tokio::test]
async fn a_shutdown_lets_running_requests_finish() {
    let server = start(ServerOptions::default()).await;
    let mut idle = server.connect().await;
    let mut busy = server.connect().await;
    busy.write_all(b"GET /wait HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    server.entered.notified().await;
    server.stop.send(()).unwrap();
    assert_eq!(read_all(&mut idle).await, "");
    server.proceed.notify_one();
    assert!(read_all(&mut busy).await.ends_with("waited"));
    server.running.await.unwrap();
    assert!(TcpStream::connect(server.address).await.is_err());
}

#[tokio::test]
async fn a_shutdown_does_not_wait_for_ever() {
    let options =
        ServerOptions { shutdown_timeout: Duration::from_millis(50), ..ServerOptions::default() };
    let server = start(options).await;
    let mut stuck = server.connect().await;
    stuck.write_all(&get("/wait")).await.unwrap();
    server.entered.notified().await;
    server.stop.send(()).unwrap();
    server.running.await.unwrap();
    assert_eq!(read_all(&mut stuck).await, "");
}

#[tokio::test]
async fn answers_that_nobody_reads_cannot_fill_the_memory() {
    let options = ServerOptions { answer_bytes_max: LARGE + LARGE / 2, ..ServerOptions::default() };
    let server = start(options).await;
    let mut slow = server.connect().await;
    slow.write_all(&get("/large")).await.unwrap();
    // Its answer has begun, so it has its room.
    slow.readable().await.unwrap();
    let refused = server.exchange(&get("/large")).await;
    assert_eq!(status(&refused), "503");
    assert!(refused.contains("retry-after: 5\r\n"), "{refused}");
    assert_eq!(status(&server.exchange(&get("/hello")).await), "200");
    assert!(read_all(&mut slow).await.len() > LARGE);
    let answer = server.exchange(&get("/large")).await;
    assert!(answer.len() > LARGE, "{}", &answer[..answer.len().min(200)]);
}

#[tokio::test]
async fn on_loopback_no_other_name_is_answered() {
    let server = start(ServerOptions::default()).await;
    let ask = async |server: &Server, host: &str| {
        let request = format!("GET /hello HTTP/1.1\r\n{host}Connection: close\r\n\r\n");
        status(&server.exchange(request.as_bytes()).await).to_owned()
    };
    for host in ["localhost", "LOCALHOST:8082", "127.0.0.1:8082", "10.0.0.1", "[::1]:8082"] {
        assert_eq!(ask(&server, &format!("Host: {host}\r\n")).await, "200", "{host}");
    }
    for host in ["evil.example", "localhost.evil.example:8082", "127.0.0.1.nip.io", "[x]", ""] {
        assert_eq!(ask(&server, &format!("Host: {host}\r\n")).await, "421", "{host}");
    }
    assert_eq!(ask(&server, "").await, "200", "browsers always say what they ask for");
    let options = ServerOptions { refuse_foreign_names: false, ..ServerOptions::default() };
    let server = start(options).await;
    assert_eq!(ask(&server, "Host: proxied.example\r\n").await, "200");
}
