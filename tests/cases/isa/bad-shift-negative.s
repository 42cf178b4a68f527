; test: verify                 source: RFC 9669
    r0 = 1
    r0 s>>= -1
    exit
; error V0108 at 1: shift by -1 in a 64-bit operation
