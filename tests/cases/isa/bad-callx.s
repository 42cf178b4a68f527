; test: verify                 source: RFC 9669
    r0 = 0
    *(u64 *)(r10 - 8) = 0
    .quad 0x000000000000008d
    exit
; error V0001 at 2: indirect calls (callx) are not supported
