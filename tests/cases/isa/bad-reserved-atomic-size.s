; test: verify                 source: RFC 9669
    r0 = 0
    *(u64 *)(r10 - 8) = 0
    .quad 0x00000000fff80ad3
    exit
; error V0001 at 2: reserved value in field `imm` of opcode 0xd3
