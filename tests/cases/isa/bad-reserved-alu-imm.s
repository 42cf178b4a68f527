; test: verify                 source: RFC 9669
    r0 = 0
    *(u64 *)(r10 - 8) = 0
    .quad 0x000000010000000f
    exit
; error V0001 at 2: reserved value in field `imm` of opcode 0x0f
