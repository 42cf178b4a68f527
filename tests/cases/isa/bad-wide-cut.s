; test: verify                 source: RFC 9669
    r0 = 0
    exit
    .quad 0x0000000100000018
; error V0003 at 2: the last instruction of the function is neither an exit nor a jump
