//! The irregular state change of the DAO fork (EIP-779).

use super::evm::{dao_accounts, Overlay};
use crate::primitives::*;

/// Moves the balances of the drained contracts to the refund contract.
pub(super) fn drain(overlay: &mut Overlay<'_>) -> Result<(), ReadError> {
    let (accounts, refund) = dao_accounts();
    for account in accounts {
        let Some(info) = overlay.account(*account)? else { continue };
        overlay.credit(refund, info.balance)?;
        overlay.set_balance(*account, U256::ZERO)?;
    }
    Ok(())
}
