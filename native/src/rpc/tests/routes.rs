//! Routes of the bridge, further ports, and the server without a chain.

use std::io::ErrorKind;

use super::*;
use crate::rpc::bridge::tests::SENT;
use crate::rpc::error::METHOD_NOT_FOUND;
use crate::rpc::server::ServeError;
use crate::rpc::Listen;

fn config() -> RpcConfig {
    RpcConfig { routes: vec!["/data".to_owned(), "/data/info".to_owned()], ..RpcConfig::default() }
}

impl Client {
    fn ask(&mut self, verb: &str, target: &str, body: &str) -> Answer {
        let length = body.len();
        self.send(format!("{verb} {target} HTTP/1.1\r\nHost: t\r\nContent-Length: {length}\r\n\r\n{body}").as_bytes());
        self.receive()
    }

    /// True when nothing came within the time to read, and the connection is open.
    fn waits(&mut self) -> bool {
        let outcome = self.reader.read(&mut [0; 1]);
        outcome.is_err_and(|error| matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut))
    }
}

#[test]
fn a_route_answers_every_verb_and_keeps_the_connection() {
    let server = serve(config());
    let mut client = Client::connect(&server);
    for verb in ["GET", "POST", "PUT", "DELETE"] {
        let answer = client.ask(verb, "/data/echo?a=%20b", "body");
        assert_eq!((answer.status, answer.headers["x-route"].as_str()), (200, "/data"));
        assert_eq!(String::from_utf8(answer.body).unwrap(), format!("{verb} /data/echo?a=%20b body"));
    }
    assert_eq!(client.post(PING).json()["result"], "pong");
}

#[test]
fn the_longest_route_wins_and_other_paths_are_json_rpc() {
    let server = serve(config());
    let mut client = Client::connect(&server);
    assert_eq!(client.ask("GET", "/data/info/echo", "").headers["x-route"], "/data/info");
    assert_eq!(client.ask("POST", "/database/echo", PING).json()["result"], "pong");
    assert_eq!(client.ask("POST", "/any/where", PING).json()["result"], "pong");
}

#[test]
fn a_path_is_handed_out_as_it_came() {
    let server = serve(config());
    let answer = Client::connect(&server).ask("GET", "/data/../%2e%2e/..%2fetc/echo?x=../y", "");
    assert_eq!(String::from_utf8(answer.body).unwrap(), "GET /data/../%2e%2e/..%2fetc/echo?x=../y ");
}

#[test]
fn the_answer_to_head_has_the_length_and_no_body() {
    let server = serve(config());
    let mut client = Client::connect(&server);
    client.send(b"HEAD /data/echo HTTP/1.1\r\nHost: t\r\n\r\nHEAD /data/2 HTTP/1.1\r\nHost: t\r\n\r\n");
    for length in ["17", "2097152"] {
        let mut line = String::new();
        client.reader.read_line(&mut line).unwrap();
        assert!(line.starts_with("HTTP/1.1 200"), "{line}");
        let mut found = None;
        while line.trim_end() != "" {
            line.clear();
            client.reader.read_line(&mut line).unwrap();
            if let Some(value) = line.strip_prefix("content-length: ") {
                found = Some(value.trim_end().to_owned());
            }
        }
        assert_eq!(found.as_deref(), Some(length));
    }
    assert_eq!(client.post(PING).json()["result"], "pong");
}

#[test]
fn a_handler_that_gives_no_answer_is_status_500() {
    let server = serve(config());
    let answer = Client::connect(&server).ask("GET", "/data/silent", "");
    assert_eq!(answer.status, 500);
    assert_eq!(answer.json()["error"]["message"], "the handler ended without an answer");
}

#[test]
fn a_handler_that_hangs_is_status_504_and_delays_nobody() {
    let server = serve(RpcConfig { bridge_timeout_ms: 300, ..config() });
    let mut hanging = Client::connect(&server);
    hanging.send(b"GET /data/hang HTTP/1.1\r\nHost: t\r\n\r\n");
    assert_eq!(Client::connect(&server).ask("GET", "/data/echo", "").status, 200);
    assert_eq!(hanging.receive().status, 504);
}

#[test]
fn a_streamed_answer_arrives_whole_with_and_without_its_length() {
    let server = serve(config());
    let mut client = Client::connect(&server);
    for pieces in [8usize, 7] {
        let answer = client.ask("GET", &format!("/data/{pieces}"), "");
        assert_eq!(answer.headers.contains_key("content-length"), pieces == 8);
        assert_eq!(answer.body.len(), pieces << 20);
        for (number, piece) in answer.body.chunks(1 << 20).enumerate() {
            assert!(piece.iter().all(|byte| *byte == number as u8), "piece {number}");
        }
    }
}

#[test]
fn an_answer_that_ends_early_breaks_the_connection() {
    let server = serve(config());
    let mut client = Client::connect(&server);
    client.send(b"GET /data/broken HTTP/1.1\r\nHost: t\r\n\r\n");
    assert!(client.is_closed());
}

/// Waits for the end of the endless answer to a query.
fn sent(query: &str) -> u64 {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(sent) = SENT.lock().get(query) {
            return *sent;
        }
        assert!(Instant::now() < deadline, "the handler still writes");
        std::thread::yield_now();
    }
}

#[test]
fn a_slow_reader_holds_back_its_handler_and_loses_its_connection() {
    let server = serve(RpcConfig { transfer_timeout_secs: 1, ..config() });
    let mut slow = Client::connect(&server);
    slow.send(b"GET /data/loud?slow HTTP/1.1\r\nHost: t\r\n\r\n");
    // It never reads: the buffers of two sockets and a queue of four are all that is sent.
    let sent = sent("slow");
    assert!(sent < 64, "{sent} megabytes were buffered");
}

#[test]
fn requests_that_wait_behind_a_stream_do_not_lift_its_bound() {
    let server = serve(RpcConfig { transfer_timeout_secs: 1, ..config() });
    let mut slow = Client::connect(&server);
    let stream = "GET /data/loud?pipelined HTTP/1.1\r\nHost: t\r\n\r\n";
    slow.send(format!("{stream}{}", post(PING).repeat(20)).as_bytes());
    let sent = sent("pipelined");
    assert!(sent < 64, "{sent} megabytes were buffered");
}

#[test]
fn a_stream_is_on_its_way_while_other_requests_wait_behind_it() {
    let server = serve(config());
    let mut client = Client::connect(&server);
    client.send(format!("GET /data/held HTTP/1.1\r\nHost: t\r\n\r\n{}", post(PING)).as_bytes());
    let mut line = String::new();
    while line.trim_end() != "start" {
        line.clear();
        client.reader.read_line(&mut line).unwrap();
    }
}

#[test]
fn a_client_that_hangs_up_in_the_middle_of_a_stream_ends_its_handler() {
    let server = serve(config());
    let mut client = Client::connect(&server);
    client.send(b"GET /data/loud?cut HTTP/1.1\r\nHost: t\r\n\r\n");
    client.reader.read_exact(&mut vec![0; 3 << 20]).unwrap();
    drop(client);
    sent("cut");
    assert_eq!(Client::connect(&server).ask("GET", "/data/echo", "").status, 200);
}

#[test]
fn bodies_that_break_off_give_back_their_memory() {
    let server = serve(config());
    let piece = vec![b'x'; 1 << 20];
    // Together far more than all bodies may hold at a time.
    for _ in 0..40 {
        let mut client = Client::connect(&server);
        client.send(b"PUT /data/echo HTTP/1.1\r\nHost: t\r\nContent-Length: 100000000\r\n\r\n");
        for _ in 0..16 {
            client.send(&piece);
        }
    }
    let deadline = Instant::now() + PATIENCE;
    let body = "y".repeat(50 << 20);
    loop {
        let answer = Client::connect(&server).ask("PUT", "/data/echo", &body);
        if answer.status == 200 {
            assert!(answer.body.ends_with(body.as_bytes()));
            return;
        }
        assert!(Instant::now() < deadline, "status {}", answer.status);
    }
}

#[test]
fn an_endless_body_is_cut_at_the_bound() {
    let server = serve(RpcConfig { max_body: 100_000, ..config() });
    let mut client = Client::connect(&server);
    client.send(b"PUT /data/echo HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n");
    let chunk = format!("4000\r\n{}\r\n", "x".repeat(0x4000));
    let deadline = Instant::now() + PATIENCE;
    while client.reader.get_mut().write_all(chunk.as_bytes()).is_ok() {
        assert!(Instant::now() < deadline, "the server still reads");
    }
    assert_eq!(Client::connect(&server).ask("PUT", "/data/echo", "x").status, 200);
}

#[test]
fn a_body_that_trickles_in_loses_its_connection() {
    let server = serve(RpcConfig { transfer_timeout_secs: 1, ..config() });
    for target in ["/", "/data/echo"] {
        let mut client = Client::connect(&server);
        client.send(format!("POST {target} HTTP/1.1\r\nHost: t\r\nContent-Length: 100000\r\n\r\n").as_bytes());
        // Nothing ever comes back: the wait for it paces the bytes.
        client.reader.get_mut().set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        let deadline = Instant::now() + PATIENCE;
        while client.reader.get_mut().write_all(b"x").is_ok() && client.waits() {
            assert!(Instant::now() < deadline, "{target}: the connection is still open");
        }
    }
}

#[test]
fn a_head_beyond_the_bound_is_refused() {
    let server = serve(config());
    let mut client = Client::connect(&server);
    let many: String = (0..200).map(|number| format!("x-{number}: y\r\n")).collect();
    client.send(format!("GET /data/echo HTTP/1.1\r\nHost: t\r\n{many}\r\n").as_bytes());
    assert_eq!(client.receive().status, 431);
    let mut client = Client::connect(&server);
    client.send(b"GET /data/echo HTTP/1.1\r\nHost: t\r\nx-endless: ");
    let deadline = Instant::now() + PATIENCE;
    while client.reader.get_mut().write_all(&[b'y'; 0x4000]).is_ok() {
        assert!(Instant::now() < deadline, "the server still reads");
    }
    assert_eq!(Client::connect(&server).ask("GET", "/data/echo", "").status, 200);
}

#[test]
fn idle_connections_on_a_further_port_cost_other_clients_nothing() {
    let further = vec![Listen { host: "127.0.0.1".to_owned(), port: 0, optional: false }];
    let server = serve(RpcConfig { listen: further, ..config() });
    let address = server.listening()[0].unwrap();
    let idle: Vec<TcpStream> = (0..1_100).map(|_| TcpStream::connect(address).unwrap()).collect();
    for address in [address, server.address()] {
        let mut client = Client::to(address);
        for _ in 0..20 {
            assert_eq!(client.post(PING).json()["result"], "pong");
            assert_eq!(client.ask("GET", "/data/echo", "").status, 200);
        }
    }
    drop(idle);
}

#[test]
fn an_oversized_body_for_a_route_is_refused_before_it_is_read() {
    let server = serve(RpcConfig { max_body: 1_000, ..config() });
    let mut client = Client::connect(&server);
    client.send(b"PUT /data/echo HTTP/1.1\r\nHost: t\r\nContent-Length: 1001\r\n\r\n");
    assert_eq!(client.receive().status, 413);
}

#[test]
fn a_route_may_take_less_than_the_server() {
    let server = serve(config());
    let routes = vec!["/data".to_owned(), "/data/info".to_owned()];
    server.set_routes(routes, [("/data".to_owned(), 10)].into()).unwrap();
    let mut client = Client::connect(&server);
    assert_eq!(client.ask("PUT", "/data/echo", "0123456789").status, 200);
    assert_eq!(client.ask("PUT", "/data/info/echo", "0123456789a").status, 200);
    client.send(b"PUT /data/echo HTTP/1.1\r\nHost: t\r\nContent-Length: 11\r\n\r\n");
    assert_eq!(client.receive().status, 413);
    // Without an announced length it is refused as soon as it is longer.
    let mut client = Client::connect(&server);
    client.send(b"PUT /data/echo HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\nb\r\n0123456789a\r\n");
    assert_eq!(client.receive().status, 413);
}

#[test]
fn a_page_may_use_a_route_from_another_origin() {
    let server = serve(config());
    let mut client = Client::connect(&server);
    client.send(b"OPTIONS /data/x HTTP/1.1\r\nHost: t\r\nOrigin: https://a.example\r\n\r\n");
    assert!(client.receive().headers["access-control-allow-methods"].contains("PUT"));
    client.send(b"GET /data/echo HTTP/1.1\r\nHost: t\r\nOrigin: https://a.example\r\n\r\n");
    assert_eq!(client.receive().headers["access-control-allow-origin"], "*");
}

#[test]
fn a_bridged_method_knows_its_caller() {
    let server = serve(config());
    let call = r#"{"jsonrpc":"2.0","id":1,"method":"test_caller"}"#;
    let mut client = Client::connect(&server);
    assert_eq!(client.post(call).json()["result"], json!([null, true, false]));
    let length = call.len();
    client.send(format!("POST / HTTP/1.1\r\nUser-Agent: axios/1\r\nContent-Length: {length}\r\n\r\n{call}").as_bytes());
    assert_eq!(client.receive().json()["result"], json!(["axios/1", true, false]));
}

#[test]
fn further_ports_answer_alike() {
    let further = vec![Listen { host: "127.0.0.1".to_owned(), port: 0, optional: false }];
    let mut server = serve(RpcConfig { listen: further, ..config() });
    let address = server.listening()[0].unwrap();
    let mut client = Client::to(address);
    assert_eq!(client.post(PING).json()["result"], "pong");
    assert_eq!(client.ask("GET", "/data/echo", "").status, 200);
    server.close();
    std::net::TcpListener::bind(address).unwrap();
}

#[test]
fn a_taken_further_port_is_left_out_only_when_it_is_optional() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let further = |optional| vec![Listen { host: "127.0.0.1".to_owned(), port, optional }];
    let server = serve(RpcConfig { listen: further(true), ..config() });
    assert_eq!(server.listening(), [None]);
    let config = RpcConfig { port: 0, listen: further(false), ..config() };
    let error = Server::start_alone(config, Arc::new(FakeBridge::default()), Vec::new()).err().unwrap();
    assert!(matches!(error, ServeError::PortTaken { port: named, .. } if named == port), "{error}");
}

#[test]
fn without_a_chain_only_the_bridge_answers() {
    let methods = FAKE_METHODS.map(str::to_owned).to_vec();
    let config = RpcConfig { port: 0, ..config() };
    let server = Server::start_alone(config, Arc::new(FakeBridge::default()), methods).unwrap();
    let mut client = Client::connect(&server);
    assert_eq!(client.call("test_echo", json!([1]))["result"], json!([1]));
    assert_eq!(client.call("rpc_modules", json!([]))["result"], json!({"rpc": "1.0", "test": "1.0"}));
    for method in ["eth_chainId", "eth_sendRawTransaction", "eth_subscribe", "net_version"] {
        assert_eq!(client.call(method, json!([]))["error"]["code"], METHOD_NOT_FOUND, "{method}");
    }
    let batch = r#"[{"jsonrpc":"2.0","id":1,"method":"eth_sendRawTransaction","params":["0x"]},{"jsonrpc":"2.0","id":2,"method":"test_echo"}]"#;
    assert_eq!(client.post(batch).json()[1]["result"], json!([]));
    assert_eq!(client.ask("GET", "/data/echo", "").status, 200);
}

#[test]
fn a_route_that_covers_everything_is_refused() {
    let config = RpcConfig { port: 0, routes: vec!["/".to_owned()], ..RpcConfig::default() };
    let error = Server::start_alone(config, Arc::new(FakeBridge::default()), Vec::new()).err().unwrap();
    assert!(matches!(error, ServeError::Route(_)), "{error}");
}
