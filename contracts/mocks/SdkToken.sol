// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

/// @title A token with every kind of value that the Python SDK encodes and decodes
contract SdkToken {
    struct Point {
        uint256 x;
        address owner;
    }

    error Short(uint256 wanted, uint256 held);

    event Transfer(address indexed from, address indexed to, uint256 amount);
    event Noted(string indexed note, Point point);

    /// @dev Balances are not in the first slot, so that no guess finds them.
    uint256 private _first = 1;
    mapping(address => uint256) public balanceOf;
    mapping(address => mapping(address => uint256)) public allowance;
    Point[] private _points;

    /// @param supply What the creator holds at first.
    constructor(uint256 supply) payable {
        balanceOf[msg.sender] = supply;
    }

    /// @notice Moves tokens; reverts with `Short` when the sender holds less.
    function transfer(address to, uint256 amount) external returns (bool) {
        uint256 held = balanceOf[msg.sender];
        if (held < amount) revert Short(amount, held);
        balanceOf[msg.sender] = held - amount;
        balanceOf[to] += amount;
        emit Transfer(msg.sender, to, amount);
        return true;
    }

    /// @notice Lets `spender` take `amount`.
    function approve(address spender, uint256 amount) external returns (bool) {
        allowance[msg.sender][spender] = amount;
        return true;
    }

    /// @notice Keeps a point.
    function add(Point calldata point) external {
        _points.push(point);
        emit Noted("struct", point);
    }

    /// @notice Keeps a point given by its parts.
    function add(uint256 x, address owner) external {
        _points.push(Point(x, owner));
        emit Noted("parts", Point(x, owner));
    }

    /// @notice All points.
    function points() external view returns (Point[] memory) {
        return _points;
    }

    /// @notice Two values by name.
    function pair() external pure returns (uint256 count, string memory text) {
        return (2, "two");
    }

    /// @notice Reverts with `reason`.
    function fail(string calldata reason) external pure {
        revert(reason);
    }

    /// @notice Panics by overflow.
    function overflow(uint8 value) external pure returns (uint8) {
        return value + 255;
    }
}

/// @title Forwards every call to another contract's code
contract SdkProxy {
    /// @dev The slot of EIP-1967.
    bytes32 private constant _SLOT = 0x360894a13ba1a3210667c828492db98dca3e2076cc3735a920a3ca505d382bbc;

    /// @param target The contract whose code runs here.
    constructor(address target) {
        assembly ("memory-safe") {
            sstore(_SLOT, target)
        }
    }

    fallback() external payable {
        assembly {
            calldatacopy(0, 0, calldatasize())
            let done := delegatecall(gas(), sload(_SLOT), 0, calldatasize(), 0, 0)
            returndatacopy(0, 0, returndatasize())
            switch done
            case 0 { revert(0, returndatasize()) }
            default { return(0, returndatasize()) }
        }
    }

    receive() external payable {}
}
