//! Settings of the server: where it listens, what it bounds, whose keys it holds.

use std::fmt;

/// Bounds and settings of the server and its methods. Every field has a default.
#[derive(Clone, Debug, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RpcConfig {
    pub host: String,
    /// 0 picks a free port.
    pub port: u16,
    /// Bytes of a request body; of a WebSocket message, too, where that bound is smaller.
    pub max_body: usize,
    /// Calls of one batch.
    pub max_batch: usize,
    pub max_connections: usize,
    /// Allowed origins; `*` allows all, an empty list none.
    pub cors: Vec<String>,
    /// Gas of eth_call and eth_estimateGas.
    pub gas_cap: u64,
    /// Time of one native call, in milliseconds.
    pub call_timeout_ms: u64,
    /// Time of one bridged call, in milliseconds.
    pub bridge_timeout_ms: u64,
    /// Longest wait of a submission for its block while automine is on, in milliseconds.
    pub mine_wait_ms: u64,
    /// Blocks that one eth_getLogs may span.
    pub log_range: u64,
    /// Bytes of one response.
    pub max_result: usize,
    /// Filters alive at a time.
    pub max_filters: usize,
    /// Seconds after which a filter that nobody polls is forgotten.
    pub filter_ttl_secs: u64,
    /// Subscriptions of one WebSocket connection.
    pub max_subscriptions: usize,
    /// Seconds that a request may take to arrive and a response to make progress.
    pub transfer_timeout_secs: u32,
    /// Seconds after which a silent connection is closed.
    pub idle_timeout_secs: u32,
    /// Path prefixes that belong to the bridge; everything else is JSON-RPC.
    pub routes: Vec<String>,
    /// Further ports that answer like the first.
    pub listen: Vec<Listen>,
    /// Keys for eth_accounts, eth_sign* and eth_sendTransaction.
    pub accounts: Accounts,
}

/// One further port.
#[derive(Clone, Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listen {
    pub host: String,
    /// 0 picks a free port.
    pub port: u16,
    /// Left out when it cannot be had, instead of ending the start.
    #[serde(default)]
    pub optional: bool,
}

impl Default for RpcConfig {
    fn default() -> RpcConfig {
        RpcConfig {
            host: "127.0.0.1".to_owned(),
            port: 8545,
            max_body: 100 << 20,
            max_batch: 1_000,
            max_connections: 12_000,
            cors: vec!["*".to_owned()],
            gas_cap: 50_000_000,
            call_timeout_ms: 5_000,
            bridge_timeout_ms: 120_000,
            mine_wait_ms: 10_000,
            log_range: 100_000,
            max_result: 128 << 20,
            max_filters: 10_000,
            filter_ttl_secs: 300,
            max_subscriptions: 1_000,
            transfer_timeout_secs: 60,
            idle_timeout_secs: 600,
            routes: Vec::new(),
            listen: Vec::new(),
            accounts: Accounts::None,
        }
    }
}

/// Where the node's keys come from.
#[derive(Clone, Default, serde::Deserialize)]
#[serde(untagged)]
pub enum Accounts {
    Keys(Vec<Key>),
    Mnemonic {
        mnemonic: String,
        #[serde(default = "ethereum_path")]
        path: String,
        count: u32,
    },
    #[default]
    None,
}

/// A private key in hex.
#[derive(Clone, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Key {
    pub key: String,
}

fn ethereum_path() -> String {
    "m/44'/60'/0'/0/".to_owned()
}

/// Secrets stay out of logs.
impl fmt::Debug for Accounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Accounts::Keys(keys) => write!(f, "Keys({})", keys.len()),
            Accounts::Mnemonic { path, count, .. } => write!(f, "Mnemonic({path}, {count})"),
            Accounts::None => f.write_str("None"),
        }
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_left_out_take_their_defaults() {
        let config: RpcConfig = serde_json::from_str(r#"{"port": 0, "accounts": [{"key": "0x01"}]}"#).unwrap();
        assert_eq!((config.port, config.max_batch), (0, 1_000));
        assert!(matches!(config.accounts, Accounts::Keys(keys) if keys.len() == 1));
    }

    #[test]
    fn an_unknown_field_is_refused_by_name() {
        let error = serde_json::from_str::<RpcConfig>(r#"{"prot": 1}"#).unwrap_err();
        assert!(error.to_string().contains("unknown field `prot`"));
    }

    #[test]
    fn secrets_are_not_printed() {
        let text = r#"{"accounts": {"mnemonic": "test test junk", "count": 3}}"#;
        let config: RpcConfig = serde_json::from_str(text).unwrap();
        assert!(!format!("{config:?}").contains("junk"));
        let keys = Accounts::Keys(vec![Key { key: "0xsecret".to_owned() }]);
        assert!(!format!("{keys:?}").contains("secret"));
    }
}
