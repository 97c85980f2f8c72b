//! Key files in the web3 secret storage format, version 3 (geth's): scrypt or PBKDF2, AES-128-CTR, keccak MAC.
//!
//! A key file comes from anywhere, so its cost parameters are bounded before they are obeyed.

use aes::cipher::{KeyIvInit, StreamCipher};
use alloy_primitives::{hex, keccak256};
use hmac::Hmac;
use rand::RngCore;
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use zeroize::Zeroizing;

use super::{address_of, invalid, KeyError, SecretKey};

type Aes128Ctr = ctr::Ctr128BE<aes::Aes128>;

/// geth's standard cost: 256 MiB and about a second.
const SCRYPT_LOG_N: u8 = 18;
const SCRYPT_R: u32 = 8;
const SCRYPT_P: u32 = 1;
const DERIVED_BYTES: usize = 32;
/// scrypt needs 128·n·r bytes; more than this is refused.
const MAX_SCRYPT_BYTES: u64 = 1 << 30;
const MAX_SCRYPT_P: u32 = 16;
const MAX_PBKDF2_ROUNDS: u32 = 20_000_000;
const MAX_SALT_BYTES: usize = 1024;
/// Larger key files are refused unread.
const MAX_FILE_BYTES: usize = 1 << 20;

#[derive(Serialize, Deserialize)]
struct KeyFile {
    /// Only a hint: absent in files that hide it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    address: Option<String>,
    #[serde(alias = "Crypto")]
    crypto: Crypto,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    version: u32,
}

#[derive(Serialize, Deserialize)]
struct Crypto {
    cipher: String,
    cipherparams: CipherParams,
    ciphertext: String,
    kdf: String,
    kdfparams: serde_json::Value,
    mac: String,
}

#[derive(Serialize, Deserialize)]
struct CipherParams {
    iv: String,
}

#[derive(Serialize, Deserialize)]
struct ScryptParams {
    dklen: usize,
    n: u64,
    p: u32,
    r: u32,
    salt: String,
}

#[derive(Serialize, Deserialize)]
struct Pbkdf2Params {
    c: u32,
    dklen: usize,
    prf: String,
    salt: String,
}

fn bytes_of(field: &str, text: &str, length: Option<usize>) -> Result<Vec<u8>, KeyError> {
    let bytes = hex::decode(text).map_err(|_| invalid(format!("{field} is not hexadecimal")))?;
    match length {
        Some(length) if bytes.len() != length => {
            Err(invalid(format!("{field} has {} bytes, expected {length}", bytes.len())))
        }
        _ => Ok(bytes),
    }
}

fn scrypt_key(password: &[u8], log_n: u8, r: u32, p: u32, salt: &[u8]) -> Result<Zeroizing<Vec<u8>>, KeyError> {
    let params = scrypt::Params::new(log_n, r, p).map_err(|_| {
        invalid(format!("kdfparams: n 2^{log_n} is not below 2^(16·r), r {r}, or p {p} is too large (RFC 7914)"))
    })?;
    let mut key = Zeroizing::new(vec![0; DERIVED_BYTES]);
    scrypt::scrypt(password, salt, &params, &mut key)
        .map_err(|_| invalid("kdfparams: scrypt refused its output length"))?;
    Ok(key)
}

fn mac(derived: &[u8], ciphertext: &[u8]) -> [u8; 32] {
    let mut input = Zeroizing::new(derived[16..32].to_vec());
    input.extend_from_slice(ciphertext);
    keccak256(&*input).0
}

fn apply_cipher(derived: &[u8], iv: &[u8], data: &mut [u8]) -> Result<(), KeyError> {
    Aes128Ctr::new_from_slices(&derived[..16], iv)
        .map_err(|_| invalid("cipherparams.iv has the wrong length"))?
        .apply_keystream(data);
    Ok(())
}

/// Encrypts a key as a key file.
pub fn encrypt(key: &[u8], password: &[u8]) -> Result<String, KeyError> {
    let address = address_of(key)?;
    let mut rng = rand::rng();
    let (mut salt, mut iv, mut id) = ([0u8; 32], [0u8; 16], [0u8; 16]);
    rng.fill_bytes(&mut salt);
    rng.fill_bytes(&mut iv);
    rng.fill_bytes(&mut id);
    let derived = scrypt_key(password, SCRYPT_LOG_N, SCRYPT_R, SCRYPT_P, &salt)?;
    let mut ciphertext = key.to_vec();
    apply_cipher(&derived, &iv, &mut ciphertext)?;
    let params =
        ScryptParams { dklen: DERIVED_BYTES, n: 1 << SCRYPT_LOG_N, p: SCRYPT_P, r: SCRYPT_R, salt: hex::encode(salt) };
    let file = KeyFile {
        address: Some(hex::encode(address)),
        crypto: Crypto {
            cipher: "aes-128-ctr".into(),
            cipherparams: CipherParams { iv: hex::encode(iv) },
            mac: hex::encode(mac(&derived, &ciphertext)),
            ciphertext: hex::encode(&ciphertext),
            kdf: "scrypt".into(),
            kdfparams: serde_json::to_value(params).map_err(|error| invalid(error.to_string()))?,
        },
        id: Some(uuid_v4(id)),
        version: 3,
    };
    serde_json::to_string(&file).map_err(|error| invalid(error.to_string()))
}

fn uuid_v4(mut bytes: [u8; 16]) -> String {
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let text = hex::encode(bytes);
    format!("{}-{}-{}-{}-{}", &text[..8], &text[8..12], &text[12..16], &text[16..20], &text[20..])
}

/// The key in a key file.
pub fn decrypt(file: &str, password: &[u8]) -> Result<SecretKey, KeyError> {
    if file.len() > MAX_FILE_BYTES {
        return Err(invalid(format!("{} bytes exceed the limit of {MAX_FILE_BYTES}", file.len())));
    }
    let file: KeyFile = serde_json::from_str(file).map_err(|error| invalid(format!("not a key file: {error}")))?;
    if file.version != 3 {
        return Err(invalid(format!("version {} is not 3", file.version)));
    }
    let crypto = &file.crypto;
    if crypto.cipher != "aes-128-ctr" {
        return Err(invalid(format!("cipher {:?} is not aes-128-ctr", shown(&crypto.cipher))));
    }
    let iv = bytes_of("cipherparams.iv", &crypto.cipherparams.iv, Some(16))?;
    let ciphertext = bytes_of("ciphertext", &crypto.ciphertext, Some(32))?;
    let expected = bytes_of("mac", &crypto.mac, Some(32))?;
    let derived = derive(crypto, password)?;
    let computed = mac(&derived, &ciphertext);
    // All bytes are compared whatever the first difference.
    if computed.iter().zip(&expected).fold(0, |all, (a, b)| all | (a ^ b)) != 0 {
        return Err(KeyError::WrongPassword);
    }
    let mut key: SecretKey = Zeroizing::new([0; 32]);
    key.copy_from_slice(&ciphertext);
    apply_cipher(&derived, &iv, &mut *key)?;
    let address = address_of(&*key)?;
    if let Some(claimed) = &file.address {
        let claimed = bytes_of("address", claimed, Some(20))?;
        if claimed != address.as_slice() {
            return Err(invalid(format!("address is 0x{}, the key is of {address}", hex::encode(claimed))));
        }
    }
    Ok(key)
}

fn shown(text: &str) -> String {
    text.chars().take(40).collect()
}

fn derive(crypto: &Crypto, password: &[u8]) -> Result<Zeroizing<Vec<u8>>, KeyError> {
    let params = crypto.kdfparams.clone();
    let fail = |error: serde_json::Error| invalid(format!("kdfparams: {error}"));
    match crypto.kdf.as_str() {
        "scrypt" => {
            let params: ScryptParams = serde_json::from_value(params).map_err(fail)?;
            let salt = checked_salt(&params.salt, params.dklen)?;
            if !params.n.is_power_of_two() || params.n < 2 {
                return Err(invalid(format!("kdfparams.n is {}, not a power of two above 1", params.n)));
            }
            let memory = params.n.saturating_mul(128).saturating_mul(u64::from(params.r));
            if memory > MAX_SCRYPT_BYTES || params.p > MAX_SCRYPT_P {
                return Err(invalid(format!(
                    "kdfparams: n {}, r {}, p {} ask for more than {MAX_SCRYPT_BYTES} bytes or {MAX_SCRYPT_P} passes",
                    params.n, params.r, params.p
                )));
            }
            scrypt_key(password, params.n.ilog2() as u8, params.r, params.p, &salt)
        }
        "pbkdf2" => {
            let params: Pbkdf2Params = serde_json::from_value(params).map_err(fail)?;
            let salt = checked_salt(&params.salt, params.dklen)?;
            if params.prf != "hmac-sha256" {
                return Err(invalid(format!("kdfparams.prf {:?} is not hmac-sha256", shown(&params.prf))));
            }
            if params.c == 0 || params.c > MAX_PBKDF2_ROUNDS {
                return Err(invalid(format!("kdfparams.c is {}, not in 1..={MAX_PBKDF2_ROUNDS}", params.c)));
            }
            let mut key = Zeroizing::new(vec![0; DERIVED_BYTES]);
            pbkdf2::pbkdf2::<Hmac<Sha256>>(password, &salt, params.c, &mut key);
            Ok(key)
        }
        other => Err(invalid(format!("kdf {:?} is neither scrypt nor pbkdf2", shown(other)))),
    }
}

fn checked_salt(salt: &str, dklen: usize) -> Result<Vec<u8>, KeyError> {
    if dklen != DERIVED_BYTES {
        return Err(invalid(format!("kdfparams.dklen is {dklen}, expected {DERIVED_BYTES}")));
    }
    let salt = bytes_of("kdfparams.salt", salt, None)?;
    if salt.len() > MAX_SALT_BYTES {
        return Err(invalid(format!("kdfparams.salt has {} bytes, at most {MAX_SALT_BYTES}", salt.len())));
    }
    Ok(salt)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The test vector of the Web3 Secret Storage Definition.
    const PBKDF2: &str = r#"{"crypto":{"cipher":"aes-128-ctr","cipherparams":{"iv":"6087dab2f9fdbbfaddc31a909735c1e6"},
        "ciphertext":"5318b4d5bcd28de64ee5559e671353e16f075ecae9f99c7a79a38af5f869aa46","kdf":"pbkdf2","kdfparams":{"c":262144,
        "dklen":32,"prf":"hmac-sha256","salt":"ae3cd4e7013836a3df6bd7241b12db061dbe2c6785853cce422d148a624ce0bd"},
        "mac":"517ead924a9d0dc3124507e3393d175ce3ff7c1e96529c6c555ce9e51205e9b2"},"id":"3198bc9c-6672-5ab3-d995-4942343ae5b6","version":3}"#;
    /// Written by the Python package `eth-keyfile`.
    const SCRYPT: &str = r#"{"address":"008AeEda4D805471dF9b2A5B0f38A0C3bCBA786b","crypto":{"cipher":"aes-128-ctr",
        "cipherparams":{"iv":"e92591db9b89fccc0c045b2ecd59af40"},
        "ciphertext":"fcbdeedc3be969183dc4aa37507a0aa5c8e633a0b4861a5d03e405f18e6f3621","kdf":"scrypt","kdfparams":{"dklen":32,
        "n":4096,"r":8,"p":1,"salt":"ded012f36678b83455be3ca322708e9a"},
        "mac":"14000cb16a9063c38045eaa384adde3de42a240c17fa12bf3b2d72b9a27cbed9"},"id":"362f60ed-cb9b-44df-a34b-b5d80a3276ab","version":3}"#;
    const KEY: &str = "7a28b5ba57c53603b0b07b56bba752f7784bf506fa95edc395f5cf6c7514fe9d";

    #[test]
    fn the_published_pbkdf2_file_opens() {
        assert_eq!(hex::encode(*decrypt(PBKDF2, b"testpassword").unwrap()), KEY);
    }

    #[test]
    fn a_scrypt_file_of_another_program_opens() {
        assert_eq!(hex::encode(*decrypt(SCRYPT, b"testpassword").unwrap()), KEY);
    }

    #[test]
    fn a_wrong_password_is_told_as_such() {
        assert!(matches!(decrypt(PBKDF2, b"wrong"), Err(KeyError::WrongPassword)));
    }

    #[test]
    fn an_encrypted_key_comes_back() {
        let file = encrypt(&[5; 32], b"pass").unwrap();
        assert_eq!(*decrypt(&file, b"pass").unwrap(), [5; 32]);
        assert!(matches!(decrypt(&file, b"pas"), Err(KeyError::WrongPassword)));
    }

    #[test]
    fn a_memory_bomb_is_refused_before_it_goes_off() {
        let bomb = SCRYPT.replace("4096", "1073741824");
        assert!(decrypt(&bomb, b"x").unwrap_err().to_string().contains("kdfparams"));
    }

    #[test]
    fn a_short_ciphertext_is_refused_by_name() {
        let short = PBKDF2.replace("5318b4d5", "");
        assert_eq!(decrypt(&short, b"x").unwrap_err().to_string(), "ciphertext has 28 bytes, expected 32");
    }

    #[test]
    fn an_address_that_is_not_of_the_key_is_refused() {
        let file = PBKDF2.replacen('{', r#"{"address":"00000000000000000000000000000000000000aa","#, 1);
        assert!(decrypt(&file, b"testpassword").unwrap_err().to_string().starts_with("address is"));
    }
}
