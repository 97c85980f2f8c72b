//! Random histories against a model that recomputes everything from scratch.
use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

const SENDERS: u8 = 4;
const BALANCE: u128 = 30_000_000 * GWEI;

#[derive(Clone, Debug)]
enum Step {
    /// Nonces are relative to the account's.
    Add {
        from: u8,
        ahead: u64,
        fee: u128,
        tip: u128,
        value: u128,
    },
    Mine(usize),
    /// A block with a transaction that the pool never saw.
    Foreign {
        from: u8,
        jump: u64,
        balance: u128,
    },
    /// An edit of the state: the nonce may fall.
    Edit {
        from: u8,
        nonce: u64,
        balance: u128,
    },
    Remove(usize),
    RemoveSender(u8),
    BaseFee(u128),
    /// The best transaction is rejected.
    Invalid,
    NotNow,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        10 => (0..SENDERS, 0u64..6, 1u128..40, 0u128..40, 0u128..BALANCE)
            .prop_map(|(from, ahead, fee, tip, value)| Step::Add { from, ahead, fee, tip: tip.min(fee), value: value / 8 }),
        3 => (1usize..4).prop_map(Step::Mine),
        1 => (0..SENDERS, 1u64..3, 0..BALANCE).prop_map(|(from, jump, balance)| Step::Foreign { from, jump, balance }),
        1 => (0..SENDERS, 0u64..8, 0..BALANCE).prop_map(|(from, nonce, balance)| Step::Edit { from, nonce, balance }),
        1 => any::<usize>().prop_map(Step::Remove),
        1 => (0..SENDERS).prop_map(Step::RemoveSender),
        2 => (0u128..40).prop_map(Step::BaseFee),
        1 => Just(Step::Invalid),
        1 => Just(Step::NotNow),
    ]
}

/// Pool content by sender and nonce; pending is the gapless run from the account's nonce.
#[derive(Default)]
struct Model {
    txs: BTreeMap<Address, BTreeMap<u64, Arc<SignedTx>>>,
}

impl Model {
    fn pending<'a>(&'a self, chain: &Chain, sender: &Address) -> Vec<&'a Arc<SignedTx>> {
        let nonce = chain.info(sender).nonce;
        let Some(txs) = self.txs.get(sender) else { return Vec::new() };
        (nonce..).map_while(|nonce| txs.get(&nonce)).collect()
    }

    fn accepts(&self, chain: &Chain, tx: &SignedTx) -> bool {
        let info = chain.info(&tx.sender);
        let (nonce, cost) = (nonce_of(tx), rules::cost(&tx.tx));
        let pending = self.pending(chain, &tx.sender);
        let old = self.txs.get(&tx.sender).and_then(|txs| txs.get(&nonce));
        let replaces = old.is_none_or(|old| {
            let ((old_fee, old_tip), (fee, tip)) = (rules::fees(&old.tx), rules::fees(&tx.tx));
            fee > old_fee && tip > old_tip && fee * 100 >= old_fee * 110 && tip * 100 >= old_tip * 110
        });
        let others = pending.iter().filter(|other| nonce_of(other) != nonce).map(|other| rules::cost(&other.tx));
        let spent = others.fold(U256::ZERO, |sum, cost| sum + cost);
        nonce >= info.nonce && replaces && cost <= info.balance && spent + cost <= info.balance
    }

    /// What an account's new nonce and balance leave.
    fn settle(&mut self, chain: &Chain, sender: &Address) {
        let info = chain.info(sender);
        if let Some(txs) = self.txs.get_mut(sender) {
            txs.retain(|nonce, tx| *nonce >= info.nonce && rules::cost(&tx.tx) <= info.balance);
        }
    }
}

fn nonce_of(tx: &SignedTx) -> u64 {
    alloy_consensus::Transaction::nonce(&tx.tx)
}

fn address(from: u8) -> Address {
    Address::repeat_byte(0x10 + from)
}

fn world(config: PoolConfig) -> World {
    let world = World::new(config);
    for from in 0..SENDERS {
        world.chain.set(address(from), 2, BALANCE);
    }
    world
}

fn effective(tx: &SignedTx, base_fee: u64) -> Option<u128> {
    let (fee, tip) = rules::fees(&tx.tx);
    fee.checked_sub(u128::from(base_fee)).map(|room| room.min(tip))
}

/// The walk is in nonce order per sender, always takes the best tip on offer, and leaves nothing ready out.
fn check_walk(world: &World, stalled: Option<Address>) {
    let base_fee = world.ctx.base_fee;
    let pending: BTreeMap<Address, Vec<Arc<SignedTx>>> = world
        .pool
        .content()
        .pending
        .into_iter()
        .map(|(sender, txs)| (sender, txs.into_iter().map(|pooled| pooled.tx).collect()))
        .collect();
    let mut taken: BTreeMap<Address, usize> = BTreeMap::new();
    let offer = |taken: &BTreeMap<Address, usize>| -> Option<u128> {
        let next = |(sender, txs): (&Address, &Vec<Arc<SignedTx>>)| {
            let tx = txs.get(taken.get(sender).copied().unwrap_or(0))?;
            effective(tx, base_fee).filter(|_| Some(*sender) != stalled)
        };
        pending.iter().filter_map(next).max()
    };
    assert_eq!(world.pool.has_ready(base_fee), offer(&taken).is_some());
    let mut best = world.pool.preview(base_fee, world.ctx.blob_base_fee);
    while let Some(tx) = best.next() {
        let position = taken.get(&tx.sender).copied().unwrap_or(0);
        assert_eq!(pending[&tx.sender][position].hash, tx.hash, "nonce order");
        assert_eq!(effective(&tx, base_fee), offer(&taken), "fee order");
        *taken.entry(tx.sender).or_default() += 1;
    }
    assert_eq!(offer(&taken), None, "a ready transaction was left out");
}

fn check_content(world: &World) {
    let content = world.pool.content();
    for (sender, txs) in &content.pending {
        let nonce = world.chain.info(sender).nonce;
        let nonces: Vec<u64> = txs.iter().map(|pooled| nonce_of(&pooled.tx)).collect();
        assert_eq!(nonces, (nonce..nonce + nonces.len() as u64).collect::<Vec<_>>(), "a gap in pending");
        assert_eq!(world.pool.next_nonce(sender), Some(nonce + nonces.len() as u64));
    }
    let count = |side: &[(Address, Vec<PooledTx>)]| side.iter().map(|(_, txs)| txs.len()).sum::<usize>();
    assert_eq!(world.pool.status(), (count(&content.pending), count(&content.queued)));
}

fn check_against(world: &World, model: &Model) {
    let content = world.pool.content();
    let flat = |side: Vec<(Address, Vec<PooledTx>)>| -> Vec<(Address, u64, B256)> {
        side.into_iter().flat_map(|(_, txs)| txs).map(|p| (p.tx.sender, nonce_of(&p.tx), p.tx.hash)).collect()
    };
    let (mut pending, mut queued) = (Vec::new(), Vec::new());
    for (sender, txs) in &model.txs {
        let run = model.pending(&world.chain, sender).len() as u64;
        let end = world.chain.info(sender).nonce + run;
        for (nonce, tx) in txs {
            if *nonce < end { &mut pending } else { &mut queued }.push((*sender, *nonce, tx.hash));
        }
    }
    assert_eq!(flat(content.pending), pending);
    assert_eq!(flat(content.queued), queued);
}

/// Applies one step to the pool, the chain and the model. Returns the sender whose head is set aside by it.
fn apply(world: &mut World, model: &mut Model, step: Step, exact: bool) -> Option<Address> {
    match step {
        Step::Add { from, ahead, fee, tip, value } => {
            let nonce = (world.chain.info(&address(from)).nonce + ahead).saturating_sub(1);
            let pooled = unsigned(Transfer { value, ..Transfer::new(from, nonce).fees(fee, tip) });
            let known = world.pool.get(&pooled.tx.hash).is_some();
            let accepted = model.accepts(&world.chain, &pooled.tx) && !known;
            let result = world.pool.add_recovered(vec![pooled.clone()], &world.ctx, &world.chain).pop().unwrap();
            if exact {
                assert_eq!(result.is_ok(), accepted, "{result:?}");
            }
            if result.is_ok() {
                model.txs.entry(pooled.tx.sender).or_default().insert(nonce, pooled.tx);
            }
        }
        Step::Mine(count) => {
            let mut best = world.pool.best(world.ctx.base_fee, 1);
            let mut txs = Vec::new();
            while let Some(tx) = best.next().filter(|_| txs.len() < count) {
                txs.push(tx);
            }
            let block = world.chain.mine(&txs);
            world.pool.on_block(&block, &world.ctx);
            for sender in block.delta.accounts.keys() {
                model.settle(&world.chain, sender);
            }
        }
        Step::Foreign { from, jump, balance } => {
            let sender = address(from);
            world.chain.set(sender, world.chain.info(&sender).nonce + jump, balance);
            let info = Some(world.chain.info(&sender));
            let mut delta = StateDelta::default();
            delta.accounts.insert(sender, AccountDelta { info, ..AccountDelta::default() });
            world.pool.on_block(&block(Vec::new(), delta), &world.ctx);
            model.settle(&world.chain, &sender);
        }
        Step::Edit { from, nonce, balance } => {
            world.chain.set(address(from), nonce, balance);
            world.pool.on_reset(Vec::new(), &world.ctx, &world.chain);
            model.settle(&world.chain, &address(from));
        }
        Step::Remove(choice) => {
            let all: Vec<Arc<SignedTx>> = world.pool.ledger.lock().all().into_iter().map(|pooled| pooled.tx).collect();
            if !all.is_empty() {
                let tx = &all[choice % all.len()];
                assert!(world.pool.remove(&tx.hash));
                drop_from(model, tx);
            }
        }
        Step::RemoveSender(from) => {
            let removed = world.pool.remove_sender(&address(from));
            let expected = model.txs.remove(&address(from)).map_or(0, |txs| txs.len());
            assert!(!exact || removed == expected);
        }
        Step::BaseFee(fee) => world.ctx.base_fee = (fee * GWEI) as u64,
        Step::Invalid => {
            let mut best = world.pool.best(world.ctx.base_fee, 1);
            if let Some(tx) = best.next() {
                best.reject(&tx, SkipReason::Invalid("test".into()));
                drop_from(model, &tx);
            }
        }
        Step::NotNow => {
            let mut best = world.pool.best(world.ctx.base_fee, 1);
            let tx = best.next()?;
            best.reject(&tx, SkipReason::NotNow("test".into()));
            return Some(tx.sender);
        }
    }
    None
}

fn drop_from(model: &mut Model, tx: &SignedTx) {
    if let Some(txs) = model.txs.get_mut(&tx.sender) {
        txs.remove(&nonce_of(tx));
    }
}

fn run(config: PoolConfig, steps: Vec<Step>, exact: bool) {
    let mut world = world(config);
    let mut model = Model::default();
    for step in steps {
        let stalled = apply(&mut world, &mut model, step, exact);
        world.pool.ledger.lock().audit();
        check_content(&world);
        check_walk(&world, stalled);
        if exact {
            check_against(&world, &model);
        }
        if stalled.is_some() {
            world.pool.on_reset(Vec::new(), &world.ctx, &world.chain);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_roomy_pool_equals_the_model(steps in prop::collection::vec(step(), 1..80)) {
        run(config(), steps, true);
    }

    #[test]
    fn a_tight_pool_keeps_its_limits_and_its_order(steps in prop::collection::vec(step(), 1..80)) {
        let tight = PoolConfig { max_pending: 5, max_queued: 3, max_per_account: 4, max_bytes: 9_000, ..config() };
        run(tight, steps, false);
    }

    #[test]
    fn a_reload_of_the_journal_brings_back_the_same_pool(steps in prop::collection::vec(step(), 1..60)) {
        let folder = tempfile::tempdir().unwrap();
        let config = PoolConfig { journal: Some(folder.path().join("pool")), ..config() };
        let mut world = world(config.clone());
        let mut model = Model::default();
        // What a builder found invalid is written with the next addition only: it would be found so again.
        for step in steps.into_iter().filter(|step| !matches!(step, Step::Invalid)) {
            if apply(&mut world, &mut model, step, true).is_some() {
                world.pool.on_reset(Vec::new(), &world.ctx, &world.chain);
            }
        }
        // No flush: as after kill -9.
        let reopened = World { pool: Pool::new(config).unwrap(), ..world };
        reopened.pool.load_journal(&reopened.ctx, &reopened.chain);
        reopened.pool.ledger.lock().audit();
        check_content(&reopened);
        check_walk(&reopened, None);
        for tx in model.txs.values().flat_map(|txs| txs.values()) {
            let missing = world.pool.get(&tx.hash).is_some() && reopened.pool.get(&tx.hash).is_none();
            prop_assert!(!missing, "a waiting transaction was lost");
        }
        prop_assert_eq!(world.pool.status(), reopened.pool.status());
    }
}
