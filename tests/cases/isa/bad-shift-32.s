; test: verify                 source: RFC 9669
    r0 = 1
    w0 >>= 32
    exit
; error V0108 at 1: shift by 32 in a 32-bit operation
