; test: verify                 source: RFC 9669
    .quad 0x0000000100007018
    .quad 0x0000000000000000
    exit
; error V0001 at 0: reserved value in field `src` of opcode 0x18
