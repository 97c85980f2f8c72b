use hyper_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use hyper_tungstenite::tungstenite::{client, Error, Message, WebSocket};

use super::*;
use crate::primitives::{SealedBlock, B256};

fn open(server: &Server) -> WebSocket<TcpStream> {
    let stream = TcpStream::connect(server.address()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    client(format!("ws://{}/", server.address()), stream).unwrap().0
}

fn ask(socket: &mut WebSocket<TcpStream>, id: u64, method: &str, params: Value) {
    let body = json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}).to_string();
    socket.send(Message::from(body)).unwrap();
}

/// The next text, whatever pings come before it.
fn hear(socket: &mut WebSocket<TcpStream>) -> Value {
    loop {
        if let Message::Text(text) = socket.read().unwrap() {
            return serde_json::from_str(&text).unwrap();
        }
    }
}

fn block(number: u64) -> SealedBlock {
    let header = alloy_consensus::Header { number, ..Default::default() };
    SealedBlock { header, hash: B256::repeat_byte(7), transactions: vec![], ommers: vec![], withdrawals: None }
}

#[test]
fn calls_and_batches_are_answered_over_one_connection() {
    let server = serve(RpcConfig::default());
    let mut socket = open(&server);
    ask(&mut socket, 1, "test_ping", json!([]));
    assert_eq!(hear(&mut socket)["result"], "pong");
    socket.send(Message::from(format!("[{PING},{PING}]"))).unwrap();
    assert_eq!(hear(&mut socket).as_array().unwrap().len(), 2);
    socket.send(Message::from("{")).unwrap();
    assert_eq!(hear(&mut socket)["error"]["code"], -32700);
}

#[test]
fn a_long_call_does_not_hold_up_the_next_one() {
    let server = serve(RpcConfig::default());
    let mut socket = open(&server);
    let held = gate(200);
    ask(&mut socket, 1, "test_wait", json!([200]));
    ask(&mut socket, 2, "test_ping", json!([]));
    assert_eq!(hear(&mut socket)["id"], 2);
    drop(held);
    assert_eq!(hear(&mut socket)["id"], 1);
}

#[test]
fn a_ping_is_answered_with_its_payload() {
    let server = serve(RpcConfig::default());
    let mut socket = open(&server);
    socket.send(Message::Ping("are you there".into())).unwrap();
    assert_eq!(socket.read().unwrap(), Message::Pong("are you there".into()));
}

#[test]
fn an_oversized_message_closes_the_connection_with_its_reason() {
    let server = serve(RpcConfig { max_body: 1_000, ..RpcConfig::default() });
    let mut socket = open(&server);
    socket.send(Message::from("x".repeat(1_001))).unwrap();
    match socket.read().unwrap() {
        Message::Close(Some(frame)) => assert_eq!(frame.code, CloseCode::Size),
        other => panic!("{other:?}"),
    }
    assert_eq!(Client::connect(&server).post(PING).status, 200);
}

#[test]
fn a_broken_handshake_is_a_bad_request() {
    let server = serve(RpcConfig::default());
    let mut client = Client::connect(&server);
    client.send(b"GET / HTTP/1.1\r\nHost: t\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
    assert_eq!(client.receive().status, 400);
}

#[test]
fn subscribers_hear_of_every_block_until_they_unsubscribe() {
    let server = serve(RpcConfig::default());
    let mut socket = open(&server);
    ask(&mut socket, 1, "eth_subscribe", json!(["newHeads"]));
    let id = hear(&mut socket)["result"].clone();
    let hub = &server.dispatcher().context().unwrap().hub;
    for number in 1..=3 {
        hub.block(&block(number), &[]);
    }
    for number in 1..=3 {
        let note = hear(&mut socket);
        assert_eq!(note["method"], "eth_subscription");
        assert_eq!(note["params"]["subscription"], id);
        assert_eq!(note["params"]["result"]["number"], format!("{number:#x}"));
    }
    ask(&mut socket, 2, "eth_unsubscribe", json!([id]));
    assert_eq!(hear(&mut socket)["result"], true);
    hub.block(&block(4), &[]);
    ask(&mut socket, 3, "eth_unsubscribe", json!([id]));
    assert_eq!(hear(&mut socket)["error"]["message"], "subscription not found");
}

#[test]
fn subscriptions_end_with_their_connection() {
    let server = serve(RpcConfig::default());
    let mut socket = open(&server);
    ask(&mut socket, 1, "eth_subscribe", json!(["newHeads"]));
    hear(&mut socket);
    let hub = &server.dispatcher().context().unwrap().hub;
    assert_eq!(hub.count(), 1);
    drop(socket);
    let deadline = Instant::now() + PATIENCE;
    while hub.count() > 0 {
        assert!(Instant::now() < deadline, "the subscription outlived its connection");
        std::thread::yield_now();
    }
}

#[test]
fn subscriptions_of_a_connection_are_bounded() {
    let server = serve(RpcConfig { max_subscriptions: 2, ..RpcConfig::default() });
    let mut socket = open(&server);
    for id in 1..=2 {
        ask(&mut socket, id, "eth_subscribe", json!(["newHeads"]));
        assert!(hear(&mut socket)["result"].is_string());
    }
    ask(&mut socket, 3, "eth_subscribe", json!(["newHeads"]));
    assert_eq!(hear(&mut socket)["error"]["code"], -32005);
}

#[test]
fn an_unknown_subscription_is_named() {
    let server = serve(RpcConfig::default());
    let mut socket = open(&server);
    ask(&mut socket, 1, "eth_subscribe", json!(["newPayloads"]));
    assert_eq!(hear(&mut socket)["error"]["message"], "no \"newPayloads\" subscription in eth namespace");
    ask(&mut socket, 2, "eth_subscribe", json!(["logs", {"address": "0x12"}]));
    assert_eq!(hear(&mut socket)["error"]["code"], -32602);
}

#[test]
fn a_bridged_method_sends_notifications_to_its_caller() {
    let server = serve(RpcConfig::default());
    let mut socket = open(&server);
    ask(&mut socket, 1, "test_push", json!([]));
    let (first, second) = (hear(&mut socket), hear(&mut socket));
    let (note, answer) = if first["note"] == 1 { (first, second) } else { (second, first) };
    assert_eq!((note, &answer["result"]), (json!({"note": 1}), &json!(true)));
    ask(&mut socket, 2, "test_caller", json!([]));
    assert_eq!(hear(&mut socket)["result"], json!([null, true, true]));
}

#[test]
fn a_subscriber_that_does_not_read_is_cut_off_and_others_hear_everything() {
    let server = serve(RpcConfig::default());
    let mut deaf = open(&server);
    ask(&mut deaf, 1, "eth_subscribe", json!(["newHeads"]));
    hear(&mut deaf);
    let mut attentive = open(&server);
    ask(&mut attentive, 1, "eth_subscribe", json!(["newHeads"]));
    hear(&mut attentive);
    let hub = &server.dispatcher().context().unwrap().hub;
    let deadline = Instant::now() + PATIENCE;
    let mut number = 0;
    while hub.count() == 2 {
        assert!(Instant::now() < deadline, "the deaf subscriber is still there after {number} blocks");
        number += 1;
        hub.block(&block(number), &[]);
        assert_eq!(hear(&mut attentive)["params"]["result"]["number"], format!("{number:#x}"));
    }
    loop {
        match deaf.read() {
            Ok(_) => {}
            Err(Error::Io(_) | Error::Protocol(_) | Error::ConnectionClosed) => break,
            Err(other) => panic!("{other}"),
        }
    }
}
