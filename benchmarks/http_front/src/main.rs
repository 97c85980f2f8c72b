//! `http-front hyper|axum|jsonrpsee PORT`: answers eth_blockNumber, single or in a batch, two worker threads.

use std::net::SocketAddr;

use hyper::body::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;

#[derive(Deserialize)]
struct Call<'a> {
    #[serde(borrow)]
    id: &'a RawValue,
    method: &'a str,
}

fn answer_one(call: &Call<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"jsonrpc\":\"2.0\",\"id\":");
    out.extend_from_slice(call.id.get().as_bytes());
    match call.method {
        "eth_blockNumber" => out.extend_from_slice(b",\"result\":\"0x1\"}"),
        _ => out.extend_from_slice(b",\"error\":{\"code\":-32601,\"message\":\"unknown\"}}"),
    }
}

/// The same parsing and writing for hyper and axum: what differs is the front alone.
fn answer(body: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(128);
    if body.first() == Some(&b'[') {
        let calls: Vec<Call<'_>> = serde_json::from_slice(body).unwrap_or_default();
        for (index, call) in calls.iter().enumerate() {
            out.push(if index == 0 { b'[' } else { b',' });
            answer_one(call, &mut out);
        }
        out.push(b']');
    } else if let Ok(call) = serde_json::from_slice::<Call<'_>>(body) {
        answer_one(&call, &mut out);
    }
    out
}

async fn with_hyper(listener: tokio::net::TcpListener) -> std::io::Result<()> {
    use http_body_util::{BodyExt, Full};
    use hyper::{header, service::service_fn, Request, Response};
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let service = service_fn(|request: Request<hyper::body::Incoming>| async move {
            let body = request.into_body().collect().await?.to_bytes();
            Response::builder()
                .header(header::CONTENT_TYPE, "application/json")
                .body(Full::new(Bytes::from(answer(&body))))
                .map_err(|error| -> Box<dyn std::error::Error + Send + Sync> { error.into() })
        });
        tokio::spawn(
            hyper::server::conn::http1::Builder::new()
                .pipeline_flush(true)
                .serve_connection(hyper_util::rt::TokioIo::new(stream), service),
        );
    }
}

async fn with_axum(listener: tokio::net::TcpListener) -> std::io::Result<()> {
    use axum::{body::Bytes, http::header, routing::post, serve::ListenerExt, Router};
    let app = Router::new()
        .route("/", post(|body: Bytes| async move { ([(header::CONTENT_TYPE, "application/json")], answer(&body)) }));
    let listener = listener.tap_io(|stream| {
        let _ = stream.set_nodelay(true);
    });
    axum::serve(listener, app).await
}

async fn with_jsonrpsee(address: SocketAddr) -> Result<(), Box<dyn std::error::Error>> {
    let config = jsonrpsee::server::ServerConfig::builder().max_connections(1_000).set_tcp_no_delay(true).build();
    let server = jsonrpsee::server::Server::builder().set_config(config).build(address).await?;
    let mut module = jsonrpsee::RpcModule::new(());
    module.register_method("eth_blockNumber", |_, _, _| "0x1")?;
    server.start(module).stopped().await;
    Ok(())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let front = arguments.next().ok_or("usage: http-front hyper|axum|jsonrpsee PORT")?;
    let port: u16 = arguments.next().ok_or("no port")?.parse()?;
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?.block_on(async {
        match front.as_str() {
            "hyper" => with_hyper(tokio::net::TcpListener::bind(address).await?).await?,
            "axum" => with_axum(tokio::net::TcpListener::bind(address).await?).await?,
            "jsonrpsee" => with_jsonrpsee(address).await?,
            other => return Err(format!("unknown front {other}").into()),
        }
        Ok(())
    })
}
