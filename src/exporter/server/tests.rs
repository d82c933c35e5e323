use super::*;
use crate::util::testing;

struct Fake;

impl Exhibit for Fake {
    fn metrics(&self) -> Result<Vec<Group>, Ill> {
        Ok(Vec::new())
    }

    fn alive(&self) -> Result<(), Ill> {
        Ok(())
    }

    fn ready(&self) -> Result<(), Ill> {
        Err(Ill(vec!["publisher a is down".into(), "and more".into()]))
    }
}

fn start(patience: Duration) -> (Server, SocketAddr, Arc<ExporterMetrics>) {
    let metrics = Arc::new(ExporterMetrics::default());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let host = Host {
        metrics: Arc::clone(&metrics),
        exhibit: Arc::new(Fake),
        patience,
    };
    let server = Server::start("exporter", listener, MAX_CONNECTIONS, Arc::new(host));
    (server.unwrap(), address, metrics)
}

fn get(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

#[test]
fn the_three_paths_and_no_other() {
    let (_server, address, metrics) = start(PATIENCE);
    let text = get(address, "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n");
    assert!(text.starts_with("HTTP/1.1 200 OK\r\n") && text.ends_with("\r\n\r\nok\n"));
    let text = get(address, "GET /readyz HTTP/1.1\r\n\r\n");
    assert!(text.starts_with("HTTP/1.1 503 "), "{text}");
    assert!(text.ends_with("\r\n\r\npublisher a is down\nand more\n"));
    let text = get(address, "HEAD /readyz HTTP/1.1\r\n\r\n");
    assert!(text.contains("Content-Length: 29\r\n") && text.ends_with("\r\n\r\n"));
    assert!(get(address, "GET / HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 404"));
    assert!(get(address, "PUT / HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 405"));
    assert!(get(address, "hello\r\n\r\n").starts_with("HTTP/1.1 400"));
    assert_eq!(metrics.requests_total.get(), 4);
    assert_eq!(metrics.requests_bad_total.get(), 3);
}

/// As many as there may be send a byte now and then; whoever comes later is served in time.
#[test]
fn those_who_dawdle_are_dropped() {
    let (_server, address, metrics) = start(Duration::from_millis(300));
    let mut slow: Vec<TcpStream> = (0..MAX_CONNECTIONS)
        .map(|_| TcpStream::connect(address).unwrap())
        .collect();
    let deadline = testing::deadline();
    let mut refused = 0;
    loop {
        assert!(Instant::now() < deadline, "{metrics:?}");
        for stream in &mut slow {
            // Fails once it is dropped.
            let _ = stream.write(b"G");
        }
        let text = get(address, "GET /healthz HTTP/1.1\r\n\r\n");
        if text.starts_with("HTTP/1.1 200") && metrics.connections_dropped_total.get() > 0 {
            break;
        }
        refused += 1;
    }
    assert!(refused > 0, "they did not keep anybody out");
    assert!(metrics.connections_refused_total.get() > 0);
}
