; test: verify                 source: RFC 9669
    r0 = 0
    *(u64 *)(r10 - 8) = 0
    .quad 0x0000000000010006
    exit
; error V0001 at 2: reserved value in field `offset` of opcode 0x06
