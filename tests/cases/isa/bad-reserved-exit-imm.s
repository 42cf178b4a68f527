; test: verify                 source: RFC 9669
    r0 = 0
    *(u64 *)(r10 - 8) = 0
    .quad 0x0000000100000095
    exit
; error V0004 at 3: no path leads to slot 3
