use std::io::ErrorKind;

use super::*;
use crate::rpc::error::*;
use crate::rpc::server::ServeError;

fn error_code(answer: &Value) -> i64 {
    answer["error"]["code"].as_i64().unwrap_or_else(|| panic!("{answer}"))
}

#[test]
fn a_call_is_answered_on_a_connection_that_stays() {
    let server = serve(RpcConfig::default());
    let mut client = Client::connect(&server);
    for _ in 0..3 {
        let answer = client.post(PING);
        assert_eq!(answer.headers["content-type"], "application/json");
        assert_eq!(answer.body, br#"{"jsonrpc":"2.0","id":1,"result":"pong"}"#);
    }
}

#[test]
fn errors_come_with_status_200_and_their_data() {
    let server = serve(RpcConfig::default());
    let answer = Client::connect(&server).call("test_fail", json!([]));
    assert_eq!(answer["error"], json!({"code": 3, "message": "execution reverted", "data": "0xab"}));
}

#[test]
fn a_method_that_crashes_answers_an_internal_error_and_the_server_lives() {
    let server = serve(RpcConfig::default());
    let mut client = Client::connect(&server);
    assert_eq!(error_code(&client.call("test_crash", json!([]))), INTERNAL);
    assert_eq!(client.call("test_ping", json!([]))["result"], "pong");
}

#[test]
fn an_unknown_method_is_named() {
    let server = serve(RpcConfig::default());
    let answer = Client::connect(&server).call("eth_nothing", json!([]));
    let error = json!({"code": -32601, "message": "the method eth_nothing does not exist/is not available"});
    assert_eq!(answer["error"], error);
}

#[test]
fn malformed_bodies_get_their_codes() {
    let server = serve(RpcConfig::default());
    let mut client = Client::connect(&server);
    for (body, code) in [
        ("{", PARSE_ERROR),
        ("", PARSE_ERROR),
        ("[]", INVALID_REQUEST),
        ("17", INVALID_REQUEST),
        (r#"{"jsonrpc":"2.0","id":1}"#, INVALID_REQUEST),
        (r#"{"jsonrpc":"2.0","id":1,"method":"test_text","params":{"a":1}}"#, INVALID_PARAMS),
        (r#"{"jsonrpc":"2.0","id":1,"method":"test_text","params":[]}"#, INVALID_PARAMS),
        (r#"{"jsonrpc":"2.0","id":1,"method":"test_text","params":["x"]}"#, INVALID_PARAMS),
    ] {
        let answer = client.post(body);
        assert_eq!((answer.status, error_code(&answer.json())), (200, code), "{body}");
    }
}

#[test]
fn a_notification_gets_no_content() {
    let server = serve(RpcConfig::default());
    let mut client = Client::connect(&server);
    for method in ["test_ping", "test_fail", "test_wait", "test_echo", "eth_nothing"] {
        let answer = client.post(&format!(r#"{{"jsonrpc":"2.0","method":"{method}","params":[0]}}"#));
        assert_eq!((answer.status, answer.body.len()), (204, 0), "{method}");
    }
}

#[test]
fn pipelined_requests_are_answered_in_their_order() {
    let server = serve(RpcConfig::default());
    let mut client = Client::connect(&server);
    let requests: String =
        (0..50).map(|id| post(&format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"test_ping"}}"#))).collect();
    client.send(requests.as_bytes());
    for id in 0..50 {
        assert_eq!(client.receive().json()["id"], id);
    }
}

#[test]
fn an_oversized_body_is_refused_by_its_announced_length() {
    let server = serve(RpcConfig { max_body: 1_000, ..RpcConfig::default() });
    let mut client = Client::connect(&server);
    // The body itself never comes.
    client.send(b"POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 1001\r\n\r\n");
    let answer = client.receive();
    assert_eq!(answer.status, 413);
    assert_eq!(answer.json()["error"]["message"], "request too large: want at most 1000 bytes");
}

#[test]
fn a_chunked_body_without_end_is_cut_at_the_bound() {
    let server = serve(RpcConfig { max_body: 1_000, ..RpcConfig::default() });
    let mut client = Client::connect(&server);
    client.send(b"POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n");
    let chunk = format!("258\r\n{}\r\n", "x".repeat(600));
    client.send(chunk.as_bytes());
    client.send(chunk.as_bytes());
    assert_eq!(client.receive().status, 413);
}

#[test]
fn a_chunked_body_is_put_together() {
    let server = serve(RpcConfig::default());
    let mut client = Client::connect(&server);
    client.send(b"POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n");
    let (first, second) = PING.split_at(20);
    client.send(format!("{:x}\r\n{first}\r\n", first.len()).as_bytes());
    client.send(format!("{:x}\r\n{second}\r\n0\r\n\r\n", second.len()).as_bytes());
    assert_eq!(client.receive().json()["result"], "pong");
}

#[test]
fn a_half_sent_body_holds_up_nobody_else() {
    let server = serve(RpcConfig::default());
    let mut stuck: Vec<Client> = (0..20).map(|_| Client::connect(&server)).collect();
    for client in &mut stuck {
        client.send(&post(PING).as_bytes()[..post(PING).len() - 10]);
    }
    assert_eq!(Client::connect(&server).call("test_ping", json!([]))["result"], "pong");
    let rest = &PING[PING.len() - 10..];
    stuck[0].send(rest.as_bytes());
    assert_eq!(stuck[0].receive().json()["result"], "pong");
}

#[test]
fn a_client_that_hangs_up_in_the_middle_of_a_body_harms_nobody() {
    let server = serve(RpcConfig::default());
    for _ in 0..20 {
        let mut client = Client::connect(&server);
        client.send(&post(PING).as_bytes()[..100]);
    }
    assert_eq!(Client::connect(&server).call("test_ping", json!([]))["result"], "pong");
}

#[test]
fn a_request_that_does_not_arrive_in_time_loses_its_connection() {
    let server = serve(RpcConfig { transfer_timeout_secs: 1, ..RpcConfig::default() });
    let mut client = Client::connect(&server);
    client.send(b"POST / HTTP/1.1\r\nHost: te");
    assert!(client.is_closed());
}

#[test]
fn a_silent_connection_is_closed() {
    let server = serve(RpcConfig { idle_timeout_secs: 1, ..RpcConfig::default() });
    let mut client = Client::connect(&server);
    assert_eq!(client.post(PING).status, 200);
    assert!(client.is_closed());
}

#[test]
fn a_client_that_does_not_take_its_answers_loses_its_connection() {
    let server = serve(RpcConfig { transfer_timeout_secs: 1, ..RpcConfig::default() });
    let mut client = Client::connect(&server);
    let request = post(r#"{"jsonrpc":"2.0","id":1,"method":"test_text","params":[4000000]}"#);
    // Far more than the buffers of two sockets hold.
    client.send(request.repeat(16).as_bytes());
    let deadline = Instant::now() + PATIENCE;
    let error = loop {
        if let Err(error) = client.reader.get_mut().write_all(request.as_bytes()) {
            break error;
        }
        assert!(Instant::now() < deadline, "the connection is still open");
        std::thread::yield_now();
    };
    assert!(
        !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
        "only our own patience ended: {error}"
    );
    assert_eq!(Client::connect(&server).call("test_ping", json!([]))["result"], "pong");
}

#[test]
fn a_thousand_idle_connections_cost_other_clients_nothing() {
    let server = serve(RpcConfig::default());
    let idle: Vec<TcpStream> = (0..1_100).map(|_| TcpStream::connect(server.address()).unwrap()).collect();
    let mut client = Client::connect(&server);
    for _ in 0..50 {
        assert_eq!(client.call("test_ping", json!([]))["result"], "pong");
    }
    drop(idle);
}

#[test]
fn connections_beyond_the_bound_are_closed_at_once() {
    let server = serve(RpcConfig { max_connections: 2, ..RpcConfig::default() });
    let mut first = Client::connect(&server);
    assert_eq!(first.post(PING).status, 200);
    let mut second = Client::connect(&server);
    assert_eq!(second.post(PING).status, 200);
    assert!(Client::connect(&server).is_closed());
    drop(second);
    let deadline = Instant::now() + PATIENCE;
    loop {
        let mut third = Client::connect(&server);
        let _ = third.reader.get_mut().write_all(post(PING).as_bytes());
        let mut byte = [0u8; 1];
        if third.reader.read(&mut byte).is_ok_and(|read| read == 1) {
            break;
        }
        assert!(Instant::now() < deadline, "no room after a connection has ended");
    }
}

#[test]
fn long_calls_do_not_delay_short_ones() {
    let server = serve(RpcConfig::default());
    let gates: Vec<_> = (100..140).map(gate).collect();
    let mut waiting: Vec<Client> = (100..140)
        .map(|number| {
            let mut client = Client::connect(&server);
            let body = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"test_wait","params":[{number}]}}"#);
            client.send(post(&body).as_bytes());
            client
        })
        .collect();
    assert_eq!(Client::connect(&server).call("test_ping", json!([]))["result"], "pong");
    drop(gates);
    for (client, number) in waiting.iter_mut().zip(100..) {
        assert_eq!(client.receive().json()["result"], number);
    }
}

#[test]
fn an_adaptive_call_that_runs_long_is_run_again_on_the_pool() {
    let server = serve(RpcConfig::default());
    let answer = Client::connect(&server).call("test_adapt", json!([]));
    assert_eq!(answer["result"], "partial on the pool");
}

#[test]
fn large_parameters_leave_the_connections_thread() {
    let server = serve(RpcConfig::default());
    let padding = "y".repeat(100_000);
    let answer = Client::connect(&server).call("test_adapt", json!([padding]));
    assert_eq!(answer["result"], "partial on the pool");
}

#[test]
fn a_bridged_method_that_hangs_delays_nobody_and_times_out() {
    let server = serve(RpcConfig { bridge_timeout_ms: 300, ..RpcConfig::default() });
    let mut hanging = Client::connect(&server);
    hanging.send(post(r#"{"jsonrpc":"2.0","id":9,"method":"test_hang"}"#).as_bytes());
    assert_eq!(Client::connect(&server).call("test_ping", json!([]))["result"], "pong");
    assert_eq!(Client::connect(&server).call("test_echo", json!([1]))["result"], json!([1]));
    assert_eq!(error_code(&hanging.receive().json()), -32_002);
}

#[test]
fn a_page_of_any_origin_may_ask_by_default() {
    let server = serve(RpcConfig::default());
    let mut client = Client::connect(&server);
    client.send(
        b"OPTIONS / HTTP/1.1\r\nHost: test\r\nOrigin: https://a.example\r\n\
          Access-Control-Request-Method: POST\r\nAccess-Control-Request-Headers: content-type,x-key\r\n\r\n",
    );
    let answer = client.receive();
    assert_eq!(answer.status, 204);
    assert_eq!(answer.headers["access-control-allow-origin"], "*");
    assert_eq!(answer.headers["access-control-allow-headers"], "content-type,x-key");
    assert!(answer.headers["access-control-allow-methods"].contains("POST"));
}

#[test]
fn with_a_list_of_origins_others_are_turned_away() {
    let server = serve(RpcConfig { cors: vec!["https://a.example".to_owned()], ..RpcConfig::default() });
    let mut client = Client::connect(&server);
    let from = |origin: &str, kind: &str| {
        let length = PING.len();
        format!("POST / HTTP/1.1\r\nHost: t\r\nOrigin: {origin}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\r\n{PING}")
    };
    client.send(from("https://a.example", "application/json").as_bytes());
    let answer = client.receive();
    assert_eq!((answer.status, answer.headers["access-control-allow-origin"].as_str()), (200, "https://a.example"));
    client.send(from("https://b.example", "application/json").as_bytes());
    assert_eq!(client.receive().status, 403);
    let mut client = Client::connect(&server);
    // A browser sends this type without asking first.
    client.send(from("https://a.example", "text/plain").as_bytes());
    assert_eq!(client.receive().status, 415);
}

#[test]
fn get_says_what_listens_here_and_other_verbs_are_refused() {
    let server = serve(RpcConfig::default());
    let mut client = Client::connect(&server);
    client.send(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n");
    let answer = client.receive();
    assert_eq!(answer.status, 200);
    assert!(String::from_utf8(answer.body).unwrap().starts_with("zerog/v"));
    client.send(b"PUT / HTTP/1.1\r\nHost: test\r\nContent-Length: 0\r\n\r\n");
    let answer = client.receive();
    assert_eq!((answer.status, answer.headers["allow"].as_str()), (405, "POST, GET, HEAD, OPTIONS"));
}

#[test]
fn a_taken_port_is_told_apart_from_other_failures() {
    let server = serve(RpcConfig::default());
    let config = RpcConfig { port: server.address().port(), ..RpcConfig::default() };
    let dispatcher = |config| {
        let context = Arc::new(Context::new(engine(), config).unwrap());
        Arc::new(Dispatcher::with_tables(context, None, &[TEST_METHODS]))
    };
    let error = Server::serve(dispatcher(config)).err().unwrap();
    assert!(matches!(error, ServeError::PortTaken { .. }), "{error}");
    let config = RpcConfig { host: "192.0.2.1".to_owned(), port: 0, ..RpcConfig::default() };
    let error = Server::serve(dispatcher(config)).err().unwrap();
    assert!(matches!(error, ServeError::Listen { .. }), "{error}");
}

#[test]
fn a_closed_server_frees_its_port() {
    let mut server = serve(RpcConfig::default());
    let port = server.address().port();
    let mut client = Client::connect(&server);
    assert_eq!(client.post(PING).status, 200);
    server.close();
    assert!(client.is_closed());
    std::net::TcpListener::bind(("127.0.0.1", port)).unwrap();
}

#[test]
fn calls_from_inside_the_process_need_no_server() {
    let context = Arc::new(Context::new(engine(), RpcConfig::default()).unwrap());
    let dispatcher = Arc::new(Dispatcher::with_tables(context, None, &[TEST_METHODS]));
    assert_eq!(dispatcher.call_blocking("test_ping", "[]").unwrap(), "\"pong\"");
    assert_eq!(dispatcher.call_blocking("test_ping", "").unwrap(), "\"pong\"");
    assert_eq!(dispatcher.call_blocking("test_fail", "[]").unwrap_err().code, 3);
    assert_eq!(dispatcher.call_blocking("nothing", "[]").unwrap_err().code, METHOD_NOT_FOUND);
    assert_eq!(dispatcher.call_blocking("test_ping", "{").unwrap_err().code, INVALID_PARAMS);
}
