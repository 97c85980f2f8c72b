//! The writes of blocks of transfers, and the keys that reads ask for. Deterministic.

/// Puts of one commit, sorted by table and key.
pub struct Batch {
    pub puts: Vec<(usize, Vec<u8>, Vec<u8>)>,
}

/// A stream of blocks.
pub struct Generator {
    number: u64,
    accounts: u64,
}

impl Generator {
    pub fn new() -> Generator {
        Generator { number: 0, accounts: 0 }
    }

    /// The next block: `transfers` from few senders to fresh recipients.
    pub fn block(&mut self, transfers: usize) -> Batch {
        self.number += 1;
        let mut puts = Vec::with_capacity(transfers * 7 + 8);
        for index in 0..transfers as u64 {
            self.accounts += 1;
            let recipient = account_key(self.accounts);
            puts.push((1, [&recipient[..], &self.number.to_be_bytes()].concat(), Vec::new()));
            puts.push((0, recipient, vec![7; 14]));
            puts.push((2, chain_key(self.number, 2, index), vec![2; 170]));
            puts.push((2, chain_key(self.number, 3, index), vec![3; 16]));
            puts.push((3, hash(self.accounts ^ 0x5555_0000_0000).to_vec(), vec![1; 12]));
            // A recipient changes about one and a half branches of the trie.
            puts.push((4, hash(self.accounts)[..6].to_vec(), vec![4; 250]));
            if index % 2 == 0 {
                puts.push((4, hash(self.accounts)[..2].to_vec(), vec![4; 550]));
            }
        }
        for sender in 1..=transfers.min(200) as u64 {
            puts.push((0, account_key(sender), vec![8; 14]));
            puts.push((1, [&account_key(sender)[..], &self.number.to_be_bytes()].concat(), vec![8; 14]));
        }
        puts.push((2, chain_key(self.number, 0, 0), vec![1; 600]));
        puts.sort();
        puts.dedup_by(|later, earlier| (later.0, &later.1) == (earlier.0, &earlier.1));
        Batch { puts }
    }
}

fn chain_key(number: u64, row: u8, index: u64) -> Vec<u8> {
    [&number.to_be_bytes()[..], &[row], &(index as u32).to_be_bytes()].concat()
}

fn account_key(n: u64) -> Vec<u8> {
    hash(n)[..20].to_vec()
}

/// Keys of random ones of the first `of` accounts.
pub fn account_keys(count: usize, of: usize) -> Vec<Vec<u8>> {
    (0..count as u64).map(|n| account_key(1 + n * 7_919 % of as u64)).collect()
}

/// 32 well-mixed bytes (splitmix64).
fn hash(seed: u64) -> [u8; 32] {
    let mut state = seed;
    let mut out = [0; 32];
    for chunk in out.chunks_exact_mut(8) {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        chunk.copy_from_slice(&(mixed ^ (mixed >> 31)).to_be_bytes());
    }
    out
}
