"""Signers admitted by quotes: verification at the block's time, policy, binding; tier TEE end to end with MOCK quotes."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.contracts.conftest import World, raw

from zerog.chain.keys import keccak256
from zerog.chain.native_contracts import VERIFY_DCAP
from zerog.client import Account, Devnet
from zerog.contracts import INFERENCE_REGISTRY, MOCK_MEASUREMENT, TEE_ATTESTATION, artifact, genesis_alloc
from zerog.contracts.genesis import TEE_VALIDITY
from zerog.errors import RpcError
from zerog.inference.attestation import mock, quotes

SAMPLES = Path(__file__).parents[1] / "data" / "attestation"
NOON = 1_750_420_800
"""2025-06-20, a day of the samples."""
DAY = 86_400
FEE = 10**15


@pytest.fixture
def tee(world):
    return world.client.contract(TEE_ATTESTATION, artifact("TeeAttestation").abi, account=world.admin)


def _sample(name: str) -> tuple[bytes, bytes]:
    return (SAMPLES / f"{name}.bin").read_bytes(), (SAMPLES / f"{name}_collateral.json").read_bytes()


def _mint(world: World, **changes) -> mock.MockQuote:
    return mock.mint(raw(world.signer), now=world.now, **changes)


def _register(world: World, made: mock.MockQuote, signer: Account | None = None):
    chosen = world.signer if signer is None else signer
    return world.registry.registerProvider(
        chosen, [world.engine], made.quote, made.collateral, account=world.provider
    )


def _claim(world: World, made: mock.MockQuote, **changes):
    return world.receipt(tier=3, evidenceHash=quotes.quote_hash(made.quote), **changes)


# The precompile on a chain.


def _verify_at(client, name: str, now: int, bent: int | None = None):
    quote, collateral = _sample(name)
    if bent is not None:
        quote = quote[:bent] + bytes([quote[bent] ^ 1]) + quote[bent + 1 :]
    contract = client.contract(VERIFY_DCAP, artifact("IDcapVerifier").abi)
    data = contract.verifyDcap.encode(quote, collateral)
    call = {"to": VERIFY_DCAP, "data": "0x" + bytes(data).hex()}
    answer = client.request("eth_call", call, "latest", {}, {"time": hex(now)})
    return bytes.fromhex(answer[2:])


def test_a_real_quote_is_judged_at_the_blocks_time(zerog_devnet):
    client = zerog_devnet.client
    answer = _verify_at(client, "tdx_quote", NOON)
    quote = quotes.parse(_sample("tdx_quote")[0])
    assert int.from_bytes(answer[:32]) == quotes.TcbStatus.UP_TO_DATE
    assert answer[32:64] == quote.measurement
    assert answer[128:192] == quote.report_data
    assert int.from_bytes(_verify_at(client, "sgx_quote", NOON)[:32]) == 3
    mocked = int.from_bytes(_verify_at(client, "mock_quote", NOON)[:32])
    assert mocked == quotes.MOCK_STATUS | quotes.TcbStatus.UP_TO_DATE


@pytest.mark.parametrize(
    ("name", "now", "bent", "reason"),
    [
        ("tdx_quote", NOON + 60 * DAY, None, "TCBInfo expired"),
        ("mock_quote", NOON + 60 * DAY, None, "CrlExpired"),
        ("tdx_quote", NOON, 48 + 520, "ISV enclave report signature is invalid"),
        ("tdx_quote_outdated", 1_771_500_000, None, "No matching TCB level found"),
    ],
    ids=["expired", "mock expired", "changed report data", "outdated platform"],
)
def test_an_invalid_quote_reverts_with_its_reason(zerog_devnet, name, now, bent, reason):
    with pytest.raises(RpcError) as caught:
        _verify_at(zerog_devnet.client, name, now, bent)
    data = bytes.fromhex(caught.value.data[2:])
    assert data[:4] == keccak256(b"DcapInvalid(string)")[:4]
    size = int.from_bytes(data[36:68])
    assert reason in data[68 : 68 + size].decode()


def test_a_real_quote_is_verified_in_a_block_of_its_day():
    with Devnet(timestamp=NOON - 60) as net:
        contract = net.client.contract(
            TEE_ATTESTATION, artifact("TeeAttestation").abi, account=net.accounts[0]
        )
        net.set_next_timestamp(NOON)
        net.mine()
        status, is_mock, measurement, _, expires = contract.inspect(*_sample("tdx_quote"))
        assert (status, is_mock, expires) == (0, False, 1_752_919_235)
        assert bytes(measurement) == quotes.parse(_sample("tdx_quote")[0]).measurement


def test_malformed_calldata_reverts_without_data(zerog_devnet):
    for data in ("0x", "0xea8d2847", "0xea8d2847" + "ff" * 64, "0x12345678" + "00" * 64):
        with pytest.raises(RpcError) as caught:
            zerog_devnet.client.request("eth_call", {"to": VERIFY_DCAP, "data": data}, "latest")
        assert caught.value.data in (None, "0x")


# Admission.


def test_a_mock_quote_admits_its_signer_and_says_mock(world, tee):
    made = _mint(world)
    events = tee.decode(_register(world, made))
    admitted = next(event for event in events if event.name == "Admitted")
    assert (admitted.mock, admitted.signer, admitted.status) == (True, world.signer.address, 0)
    attestation = world.registry.attestationOf(world.signer)
    assert attestation.mock
    assert bytes(attestation.quoteHash) == quotes.quote_hash(made.quote)


def test_an_admission_ends_with_the_collateral(world):
    made = _mint(world, validity=DAY)
    minted = world.now
    _register(world, made)
    assert world.registry.attestationOf(world.signer).until == minted + DAY


def test_an_admission_ends_with_the_policy(world, tee):
    tee.setPolicy(3600, False)
    _register(world, _mint(world))
    assert world.registry.attestationOf(world.signer).until == world.now + 3600


def test_a_quote_replayed_for_another_signer_is_refused(world, tee, reverts):
    with reverts("BoundToAnother"):
        _register(world, _mint(world), signer=world.stranger)


def test_expired_collateral_is_refused(world, reverts):
    made = mock.mint(raw(world.signer), now=world.now - 31 * DAY)
    with reverts("DcapInvalid"):
        _register(world, made)


def test_a_revoked_platform_is_refused(world, reverts):
    with reverts("DcapInvalid"):
        _register(world, _mint(world, revoked=True))


def test_an_image_outside_the_allow_list_is_refused_until_it_is_allowed(world, tee, reverts):
    made = _mint(world, image="another image")
    with reverts("MeasurementRefused"):
        _register(world, made)
    tee.allowMeasurement(made.measurement, True, "reviewed")
    _register(world, made)
    tee.allowMeasurement(made.measurement, False, "withdrawn")
    with reverts("MeasurementRefused"):
        _register(world, made)


def test_an_outdated_platform_is_refused(world, reverts):
    with reverts("StatusRefused(status=4)"):
        _register(world, _mint(world, status="OutOfDate"))


def test_a_platform_that_needs_hardening_is_a_matter_of_policy(world, tee, reverts):
    made = _mint(world, status="SWHardeningNeeded")
    with reverts("StatusRefused(status=1)"):
        _register(world, made)
    tee.setPolicy(DAY, True)
    _register(world, made)


def test_a_binding_to_the_registry_counts_once(world, tee, reverts):
    registry, nonce = raw(INFERENCE_REGISTRY), tee.nonceOf(world.provider)
    bound = quotes.binding_to_registry(raw(world.signer), registry, world.net.chain_id, nonce)
    made = _mint(world, report_data=bound)
    _register(world, made)
    assert tee.nonceOf(world.provider) == nonce + 1
    with reverts("BoundToAnother"):
        _register(world, made)


def test_a_binding_as_brokers_of_0g_write_it_counts(world, reverts):
    _register(world, _mint(world, report_data=quotes.binding_of_broker(raw(world.signer))))
    checksummed = world.signer.address.encode().ljust(64, b"\0")
    _register(world, _mint(world, report_data=checksummed))
    for wrong in (quotes.binding_of_broker(raw(world.stranger)), b"0X" + checksummed[2:], bytes(64)):
        with reverts("BoundToAnother"):
            _register(world, _mint(world, report_data=wrong))


def test_only_the_registry_admits(world, tee, reverts):
    made = _mint(world)
    with reverts("NotRegistry"):
        tee.admit(world.provider, world.signer, made.quote, made.collateral)


def test_only_the_administrator_sets_policy_within_its_limit(world, tee, reverts):
    with reverts("AccessControlUnauthorizedAccount"):
        tee.setPolicy(DAY, False, account=world.stranger)
    with reverts("AccessControlUnauthorizedAccount"):
        tee.allowMeasurement(bytes(32), True, "", account=world.stranger)
    for wrong in (0, TEE_VALIDITY + 1):
        with reverts(f"ValidityInvalid(given={wrong}, limit={TEE_VALIDITY})"):
            tee.setPolicy(wrong, False)


def test_a_chain_without_the_precompile_says_so(world, tee, reverts):
    harness = world.deploy("TeeAttestationMock", world.admin, world.stranger)
    with reverts("DcapUnavailable"):
        harness.inspect(b"", b"")


# Mock quotes outside the devnet.


def test_a_mock_quote_is_refused_where_the_genesis_does_not_allow_it(world, tee, reverts):
    slot, offset = artifact("TeeAttestation").place("policy")
    assert offset == 0
    world.net.set_storage(TEE_ATTESTATION, slot, TEE_VALIDITY)  # as on every profile but the devnet
    with reverts("MockRefused"):
        _register(world, _mint(world))


def test_only_the_devnets_genesis_allows_mock_quotes():
    def policy(**options):
        alloc = genesis_alloc(1, administrator="0x" + "11" * 20, keccak256=keccak256, **options)
        return alloc[TEE_ATTESTATION]["storage"][f"0x{artifact('TeeAttestation').slot('policy'):064x}"]

    allow_mock = 1 << 72
    assert int(policy(), 16) == TEE_VALIDITY
    assert int(policy(mock_quotes=True), 16) == TEE_VALIDITY | allow_mock


def test_the_galileo_profile_refuses_mock_quotes():
    with Devnet(options={"profile": "galileo"}) as net:
        tee = net.client.contract(TEE_ATTESTATION, artifact("TeeAttestation").abi)
        assert not tee.policy().allowMock
        assert not tee.isAllowed(bytes.fromhex(MOCK_MEASUREMENT[2:]))


# Tier TEE end to end.


def test_the_gate_delivers_at_tier_tee_until_the_admission_expires(world, reverts):
    made = _mint(world, validity=DAY)
    _register(world, made)
    requested = world.request(tier=3, fee=FEE)
    answer = world.answer(requested, tier=3, evidenceHash=quotes.quote_hash(made.quote))
    world.fulfill(answer)
    assert world.state(requested) == 3

    later = _claim(world, made, requestId=keccak256(b"later"), deadline=world.now + 9 * DAY)
    assert world.verify(later, tier=3)[1] == 3
    world.net.increase_time(2 * DAY)
    world.net.mine()
    assert world.verify(later)[1] == 0
    with reverts("PoITierTooLow"):
        world.verify(later, tier=3)
    renewed = _mint(world)
    world.registry.renewAttestation(renewed.quote, renewed.collateral, account=world.provider)
    assert world.verify(_claim(world, renewed), tier=3)[1] == 3


def test_a_new_signer_has_no_attestation(world):
    made = _mint(world)
    _register(world, made)
    rotated = Account.random()
    world.registry.registerProvider(rotated, [world.engine], b"", b"", account=world.provider)
    claim = _claim(world, made)
    assert world.registry.verifyReceipt(claim.to_tuple(), world.sign(claim, rotated), 0)[1] == 0


def test_the_minted_image_is_the_one_that_devnets_allow(world):
    assert "0x" + _mint(world).measurement.hex() == MOCK_MEASUREMENT
