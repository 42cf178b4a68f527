; test: verify                 source: RFC 9669
    r0 = 0
    .quad 0x0000000100000018
    .quad 0x0000000000000100
    exit
; error V0001 at 1: reserved value in field `next slot` of opcode 0x18
