//! Byte-crunching kernels (later issues fill this room).
