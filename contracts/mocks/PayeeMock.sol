// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.26;

/// @dev An account that does whatever it is told and takes money only when it likes.
contract PayeeMock {
    bool public accepts;
    bytes private _onPayment;
    address private _target;

    function setAccepts(bool value) external {
        accepts = value;
    }

    function setOnPayment(address target, bytes calldata data) external {
        _target = target;
        _onPayment = data;
    }

    function execute(address target, bytes calldata data) external payable {
        (bool success, bytes memory result) = target.call{value: msg.value}(data);
        if (!success) {
            assembly {
                revert(add(result, 0x20), mload(result))
            }
        }
    }

    receive() external payable {
        require(accepts, "payment refused");
        if (_target != address(0)) {
            (bool success, ) = _target.call(_onPayment);
            require(success, "reentry failed");
        }
    }
}
