; test: verify                 source: RFC 9669
    r0 = 0
    *(u64 *)(r10 - 8) = 0
    .quad 0x00000010000000df
    exit
; error V0001 at 2: unknown opcode 0xdf
