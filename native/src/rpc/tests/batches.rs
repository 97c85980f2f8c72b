use super::*;

fn batch(methods: &[&str]) -> String {
    let calls: Vec<Value> = methods
        .iter()
        .enumerate()
        .map(|(id, method)| json!({"jsonrpc": "2.0", "id": id, "method": method, "params": [7]}))
        .collect();
    Value::from(calls).to_string()
}

fn ids(answer: &Value) -> Vec<u64> {
    answer.as_array().unwrap().iter().map(|item| item["id"].as_u64().unwrap()).collect()
}

#[test]
fn answers_keep_the_order_of_the_calls_whatever_runs_them() {
    let server = serve(RpcConfig::default());
    let methods = ["test_ping", "test_wait", "test_fail", "test_echo", "test_adapt", "nothing", "test_ping"];
    let answer = Client::connect(&server).post(&batch(&methods)).json();
    assert_eq!(ids(&answer), [0, 1, 2, 3, 4, 5, 6]);
    assert_eq!(answer[0]["result"], "pong");
    assert_eq!(answer[1]["result"], 7);
    assert_eq!(answer[2]["error"]["code"], 3);
    assert_eq!(answer[3]["result"], json!([7]));
    assert_eq!(answer[4]["result"], "partial on the pool");
    assert_eq!(answer[5]["error"]["code"], -32601);
    assert_eq!(answer[6]["result"], "pong");
}

#[test]
fn a_batch_of_one_is_answered_as_a_batch() {
    let server = serve(RpcConfig::default());
    for method in ["test_ping", "test_wait", "test_echo"] {
        let answer = Client::connect(&server).post(&batch(&[method])).json();
        assert_eq!(ids(&answer), [0], "{method}");
    }
}

#[test]
fn invalid_items_are_answered_in_their_places() {
    let server = serve(RpcConfig::default());
    let body = format!(r#"[{PING},5,{{"jsonrpc":"2.0","id":4}},{PING}]"#);
    let answer = Client::connect(&server).post(&body).json();
    let codes: Vec<Option<i64>> =
        answer.as_array().unwrap().iter().map(|item| item["error"]["code"].as_i64()).collect();
    assert_eq!(codes, [None, Some(-32600), Some(-32600), None]);
    assert_eq!(answer[2]["id"], 4);
}

#[test]
fn notifications_in_a_batch_are_run_and_not_answered() {
    let server = serve(RpcConfig::default());
    let mut client = Client::connect(&server);
    let silent = |method: &str| format!(r#"{{"jsonrpc":"2.0","method":"{method}","params":[1]}}"#);
    let body = format!("[{},{PING},{},{}]", silent("test_ping"), silent("test_wait"), silent("test_echo"));
    assert_eq!(ids(&client.post(&body).json()), [1]);
    let body = format!("[{},{},{}]", silent("test_ping"), silent("test_echo"), silent("nothing"));
    assert_eq!(client.post(&body).status, 204);
}

#[test]
fn a_batch_beyond_the_bound_is_refused_as_a_whole() {
    let server = serve(RpcConfig { max_batch: 3, ..RpcConfig::default() });
    let mut client = Client::connect(&server);
    assert_eq!(ids(&client.post(&batch(&["test_ping"; 3])).json()), [0, 1, 2]);
    let answer = client.post(&batch(&["test_ping"; 4])).json();
    assert_eq!(answer["error"], json!({"code": -32600, "message": "batch too large: want at most 3 calls"}));
}

#[test]
fn a_long_batch_of_short_calls_is_answered_completely() {
    let server = serve(RpcConfig { max_batch: 20_000, ..RpcConfig::default() });
    let answer = Client::connect(&server).post(&batch(&vec!["test_ping"; 20_000])).json();
    assert_eq!(ids(&answer), (0..20_000).collect::<Vec<_>>());
}

#[test]
fn a_response_beyond_the_bound_stops_growing() {
    let server = serve(RpcConfig { max_result: 5_000, ..RpcConfig::default() });
    let call = r#"{"jsonrpc":"2.0","id":1,"method":"test_text","params":[2000]}"#;
    let answer = Client::connect(&server).post(&format!("[{}]", [call; 10].join(","))).json();
    let list = answer.as_array().unwrap();
    assert_eq!(list.len(), 10);
    assert_eq!(list.iter().filter(|item| item["result"].is_string()).count(), 3);
    assert_eq!(list[9]["error"]["code"], -32_003);
}

#[test]
fn modules_list_every_namespace_once() {
    let server = serve(RpcConfig::default());
    let answer = Client::connect(&server).call("rpc_modules", json!([]));
    assert_eq!(answer["result"], json!({"eth": "1.0", "rpc": "1.0", "test": "1.0"}));
}

#[test]
fn subscriptions_are_refused_over_http() {
    let server = serve(RpcConfig::default());
    let answer = Client::connect(&server).call("eth_subscribe", json!(["newHeads"]));
    assert_eq!(answer["error"], json!({"code": -32601, "message": "notifications not supported"}));
}
